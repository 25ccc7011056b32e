"""The app: its commands, and every error of the domain as one message and an exit status."""

from __future__ import annotations

import contextlib
import gc
import os
import platform
import signal
import sys
import warnings
from collections.abc import Sequence
from inspect import cleandoc
from typing import Annotated, Any

import typer

from gatecast.cli.actions import actions
from gatecast.cli.check import check
from gatecast.cli.explain import explain
from gatecast.cli.judge import compare, judge
from gatecast.cli.kept import fetch, health, live, parity, replay, retrain, rollback, today, update
from gatecast.cli.live import forecast
from gatecast.cli.options import OnceCommand, with_options
from gatecast.cli.orders import approve, fills, halt, orders, reconcile, withdraw
from gatecast.cli.run import init, report, run
from gatecast.cli.serve import serve
from gatecast.cli.show import complain, print_json
from gatecast.cli.store import card, store
from gatecast.cli.studies import audit, cadence, capacity, placebo, truth, tune, unseal
from gatecast.cli.unforeseen import Notices, Output, OutputError, status_of
from gatecast.cli.whatif import sensitivity, whatif
from gatecast.compute.threads import one_thread_each
from gatecast.errors import GatecastError, InterruptedRunError

app = typer.Typer(
    name="gatecast",
    help="Walk-forward market forecasts with LSTM networks, simple rivals and verdicts.",
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def _start(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --version: one JSON object.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as version_of

        about = {"gatecast": version_of("gatecast"), "python": platform.python_version(), "machine": platform.machine()}
        print_json(about) if as_json else typer.echo(f"gatecast {about['gatecast']}")
        raise typer.Exit
    if as_json:
        raise typer.BadParameter("--json belongs after the command, or beside --version.")
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


for command in (
    run, init, check, audit, unseal, truth, placebo, tune, cadence, capacity, judge, compare, whatif, sensitivity,
    forecast, explain, report, update, retrain, rollback, today, card, replay, parity, health, live, fetch, orders,
    approve, withdraw, fills, reconcile, halt, serve,
):  # fmt: skip
    said = cleandoc(command.__doc__ or "").split("\n\n")  # a terminal breaks the lines of a paragraph by itself
    app.command(cls=OnceCommand, help="\n\n".join(" ".join(paragraph.split()) for paragraph in said))(command)
app.add_typer(store)
app.add_typer(actions)


def main() -> None:
    """Entry point: does the command of this process, and ends the process with its exit status."""
    sys.stdout, sys.stderr = Output.of(sys.stdout), Notices.of(sys.stderr)
    os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker")  # what interrupted processes leave is swept
    warnings.showwarning = notice
    one_thread_each()
    if sys.argv[1:2] and sys.argv[1] in SHORT:
        start_light()
    received = interrupt_on_signals()
    status = execute(sys.argv[1:])
    gc.freeze()  # what ends with the process is not looked for in it
    try:
        sys.stdout.flush()
    except OutputError as error:
        status = status_of(error)
    if status == 130 or received:  # networks in the making are not waited for
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(128 + received[0] if status == 130 and received else status)
    sys.exit(status)


def interrupt_on_signals() -> list[int]:
    """From now on SIGTERM and SIGHUP interrupt the command as SIGINT, Ctrl-C, does, so that it cleans up.

    Returns a list that holds the number of the signal once one came. A second one ends the process at once. Signals
    that are ignored, as under nohup, stay so; processes that this one forks end as if nothing had been said here.
    """
    received: list[int] = []
    own = os.getpid()

    def interrupt(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        if os.getpid() != own:
            os.kill(os.getpid(), number)
            return
        received.append(number)
        raise KeyboardInterrupt

    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # Windows has no SIGHUP
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, interrupt)
    return received


def notice(message: Warning | str, *_: Any, **__: Any) -> None:
    """A warning of Python's as one line on standard error, without the place in the code."""
    print(f"notice: {message}", file=sys.stderr)


def execute(words: Sequence[str]) -> int:
    """The words of a command line in, its exit status out; every error is one message on standard error.

    Status 2: an error of the domain, or words that the command does not take. 70: an error that nobody foresaw.
    """
    try:
        return _execute(words)
    except SystemExit:
        raise
    except KeyboardInterrupt:  # while an error was being said
        return 130
    except BaseException as error:  # a panic of a compiled package is no Exception
        return status_of(error)


def _execute(words: Sequence[str]) -> int:
    try:
        status = app(list(words), standalone_mode=False)
        if status == 130:  # typer's own answer to Ctrl-C
            complain("interrupted.")
    except (GatecastError, typer.TyperException) as error:
        status = 130 if isinstance(error, InterruptedRunError) else 2
        text = (
            error.format_message()
            if isinstance(error, typer.TyperException)
            else with_options(str(error), options_of(words))
        )
        complain(text)
        if "--json" in words:
            print_json({"error": text, "kind": type(error).__name__})
    except (KeyboardInterrupt, typer.Abort):
        status = 130
        complain("interrupted.")
    return status if isinstance(status, int) else 0


def options_of(words: Sequence[str]) -> set[str]:
    """The names of the options that the command of a command line has."""
    commands = getattr(typer.main.get_command(app), "commands", {})
    command = commands.get(next(iter(words), ""))
    return {str(param.name) for param in command.params} if command else set()


SHORT = (
    "forecast", "explain", "update", "today", "health", "orders", "approve", "withdraw", "fills", "reconcile", "halt",
)  # fmt: skip
"""Commands that are done in seconds."""
TRIM_THRESHOLD, MMAP_THRESHOLD, LARGEST_THRESHOLD = -1, -3, 2**25
"""Options of the C library's `mallopt`, and the most that the second takes."""
KEPT_BYTES = 2**30
"""Of memory that a short process frees and does not give back."""


def start_light() -> None:
    """A second less: a short process needs no garbage collector, nor pandas, which TA-Lib loads to wrap itself.

    Memory that is freed is kept for what comes next: the system takes as long to give a page as it takes to fill it.
    """
    import ctypes
    from importlib import import_module

    gc.disable()
    os.environ.setdefault("_RJEM_MALLOC_CONF", "dirty_decay_ms:10000,muzzy_decay_ms:-1")  # of Polars
    with contextlib.suppress(OSError, AttributeError):  # a system with another one
        library = ctypes.CDLL(None)
        library.mallopt(TRIM_THRESHOLD, KEPT_BYTES)
        library.mallopt(MMAP_THRESHOLD, LARGEST_THRESHOLD)
    import_module("polars")  # it asks whether pandas is there, once, and reads frames of pandas later
    if "pandas" not in sys.modules:
        sys.modules["pandas"] = None  # type: ignore[assignment]
        try:
            import_module("talib")
        finally:
            del sys.modules["pandas"]
