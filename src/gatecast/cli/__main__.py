"""`python -m gatecast.cli`: the command."""

from gatecast.cli.app import main

main()
