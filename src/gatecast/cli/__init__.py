"""The command: parse, call one function, render. Everything heavy is imported inside the command that needs it.

Results go to standard output, everything else to standard error. Exit status: 0; 1 when `check` or `store check` found
errors, `audit` a leak, `truth` a gate that was missed or `forecast --strict` bars that are stale, missing or revised; 2
for a wrong setting, file or option; 3 when `run` found a leak or an outcome too good to be true, or `forecast` goes on
from such a run; 130 when interrupted, 143 by SIGTERM.
"""

from gatecast.cli.app import main

__all__ = ["main"]
