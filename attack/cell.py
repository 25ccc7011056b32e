"""One case in a process of its own, under an audit hook, with limits of time and resident memory."""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

SECONDS, MEMORY = 20.0, 2 * 2**30
STANDS_STILL = 1.0
"""Seconds between two looks at a process after which the machine stood still, and not the process."""
LONGEST = 2_000  # characters of a refusal: longer ones repeat the input
PRELOADED = [
    "attack.cell", "gatecast.cli.run", "gatecast.store", "gatecast.live", "gatecast.report.page", "gatecast.runs",
    "gatecast.forecasting.lstm.kernel", "arch.univariate", "sklearn.tree", "sklearn.linear_model", "pandas",
    "plotly.graph_objects", "gatecast.service.app", "starlette.testclient",
]  # fmt: skip
"""What a run imports, imported once for all cases."""
FORBIDDEN = frozenset(
    {"pickle.find_class", "os.system", "subprocess.Popen", "socket.connect", "os.exec", "os.spawn", "os.posix_spawn"}
)
LEFT_ALONE = ("/compute/machine_code.py", "/numba/", "/joblib/", "/distributed/", "/matplotlib/")
"""Modules that read what they wrote themselves (the kernel's machine code; README says whom one trusts with it),
or that ask the system for its fonts."""
CANARY = "canary"
"""No file with this in its name may be opened: it lies outside of everything that was named to the program."""


@dataclass(frozen=True)
class Outcome:
    """What came of a case: `kind` accepted, refused or one of the failures; `text` what was said; `value` the rest."""

    kind: str
    text: str = ""
    value: Any = None
    seconds: float = 0.0
    memory: int = 0

    @property
    def failed(self) -> bool:
        """Whether this may not happen, whatever comes."""
        return self.kind not in ("accepted", "refused")


def try_out(work: Callable[..., Any], *given: Any, folder: Path, seconds: float = SECONDS) -> Outcome:
    """Calls `work(*given)` in a process of its own and says what came of it.

    `work` is a function of a module; what it returns must be JSON. `folder`: an empty one, for what the process says
    and for its data folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    said = folder / "outcome.json"
    context = get_context("forkserver")  # what forks has no threads: those of Polars would not survive
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=_inside, args=(work, given, folder))
    began, most = time.monotonic(), 0
    process.start()
    status = Path(f"/proc/{process.pid}/statm")
    ended, looked, stood_still = None, began, 0.0
    while process.is_alive():
        process.join(0.02)
        since, looked = time.monotonic() - looked, time.monotonic()
        stood_still += since if since > STANDS_STILL else 0.0
        with contextlib.suppress(OSError, IndexError):
            most = max(most, int(status.read_text().split()[1]) * resource.getpagesize())
        if most > MEMORY:
            ended = "memory"
        elif time.monotonic() - began - stood_still > seconds:
            ended = "hang"
        if ended:
            process.kill()
            process.join()
    took = time.monotonic() - began
    if ended:
        return Outcome(ended, f"{most / 2**30:.1f} GB, {took:.0f} s", None, took, most)
    try:
        found = json.loads(said.read_text())
    except (OSError, ValueError):
        return Outcome("killed", f"exit status {process.exitcode}", None, took, most)
    return Outcome(found["kind"], found["text"], found["value"], took, most)


def _inside(work: Callable[..., Any], given: tuple[Any, ...], folder: Path) -> None:
    os.environ["GATECAST_DATA"] = str(folder / "data")
    os.chdir(folder)
    with (folder / "printed.txt").open("w") as printed:
        os.dup2(printed.fileno(), 1)
        os.dup2(printed.fileno(), 2)
    events: list[str] = []
    armed = [True]

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if not armed[0]:
            return
        outside = event == "open" and CANARY in str(arguments[0])
        if outside or (event in FORBIDDEN and not _left_alone()):
            events.append(f"{event} {str(arguments)[:200]}")

    sys.addaudithook(watch)
    value, text = None, ""
    try:
        value, kind = work(*given), "accepted"
    except BaseException as error:  # a panic of a compiled package is no Exception
        kind, text = _kind_of(error), f"{type(error).__name__}: {error}"
        if kind == "traceback":
            text = "".join(traceback.format_exception(error))[-3000:]
    armed[0] = False
    if kind == "refused" and len(text) > LONGEST:
        kind, text = "long", f"{len(text)} characters: {text[:200]}"
    if events:
        kind, text = "forbidden", "; ".join(events[:3])
    (folder / "outcome.json").write_text(json.dumps({"kind": kind, "text": text, "value": value}))
    os._exit(0)


def _left_alone() -> bool:
    frame: Any = sys._getframe(2)
    while frame is not None:
        if any(part in frame.f_code.co_filename for part in LEFT_ALONE):
            return True
        frame = frame.f_back
    return False


def _kind_of(error: BaseException) -> str:
    from gatecast.errors import GatecastError

    return "refused" if isinstance(error, GatecastError) else "traceback"


class CommandRefusedError(Exception):
    """What the command said when it ended with a status that is neither 0 nor 1."""


def command(*words: str) -> dict[str, Any]:
    """What `gatecast WORDS` prints as JSON, with its exit status; a refusal is an error of gatecast's."""
    from gatecast.cli.app import execute
    from gatecast.errors import GatecastError

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = execute([*words])
    text = err.getvalue()
    if status == 70:
        _, said, place = text.partition("Its traceback is in ")
        raise RuntimeError(Path(place.split(". Please")[0]).read_text()[-3000:] if said else text)
    if "Traceback" in text:
        raise RuntimeError(text)
    if status == 2:
        raise GatecastError(text)
    return {"status": status, "said": out.getvalue(), "noted": text}


def quietly_end(number: int = signal.SIGKILL) -> None:
    """Ends this process at once, as kill -9 does."""
    os.kill(os.getpid(), number)
