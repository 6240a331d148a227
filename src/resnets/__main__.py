"""`python -m resnets` is the command line."""

from resnets.cli import main

main()
