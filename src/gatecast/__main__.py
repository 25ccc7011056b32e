"""`python -m gatecast`: the command."""

from gatecast.cli import main

main()
