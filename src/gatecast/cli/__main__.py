"""`python -m gatecast.cli`: the command."""

from gatecast.cli import main

main()
