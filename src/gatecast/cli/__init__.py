"""The command: parse, call one function, render. Everything heavy is imported inside the command that needs it.

Results go to standard output, everything else to standard error. Exit status: 0; 1 when `check` or `store check` found
errors, `audit` a leak, `truth` a gate that was missed or `forecast --strict` bars that are stale, missing or revised; 2
for a wrong setting, file or option; 3 when `run` found a leak or an outcome too good to be true, or `forecast` goes on
from such a run; 130 when interrupted, 143 by SIGTERM.
"""

import signal

__all__ = ["main"]


def main() -> None:
    """Entry point, see `app.main`. Until its packages are imported, Ctrl-C ends the process without a word."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from gatecast.cli.app import main as command

    command()
