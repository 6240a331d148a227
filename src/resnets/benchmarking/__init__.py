"""What is faster, and whether this machine was quiet enough to tell.

Rooms: ``statistics`` (spread, paired ratios, verdicts), ``rounds`` (who is measured when),
``load`` (what others took of the machine), ``workers`` (cases in processes of their own), ``cases``
and ``peers`` (what is measured), ``comparison`` (all of that for a list of models).
"""
