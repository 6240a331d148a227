"""What is faster, and whether this machine was quiet enough to tell.

`statistics` (paired ratios, verdicts), `rounds` (who is measured when), `load` (what others took of
the machine), `workers` (cases in processes of their own), `peers` (the same network elsewhere) and
`comparison` (all of that for a list of models).
"""
