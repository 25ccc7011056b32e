"""The same writing, killed at its n-th operation on files, or with a fault of the disk there; then what is left.

An operation is opening a file to write, a rename, a removal, a new folder, a change of mode or length, bringing a file
to the disk. After each: what was there before is whole, old or new; the same writing goes through; nothing is left
over.
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from attack.cell import Outcome, command, quietly_end, try_out
from attack.readers import SETTINGS, _trials

OPERATIONS = frozenset(
    {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.chmod", "os.link", "os.symlink", "os.utime"}
)
FAULTS = {"EIO": errno.EIO, "ENOSPC": errno.ENOSPC, "EROFS": errno.EROFS, "EDQUOT": errno.EDQUOT}
KILL, SHORT = "kill -9", "file cut short"
NEVER = 10**9


@dataclass(frozen=True)
class Crash:
    """A writing that was disturbed at its n-th operation, and what is wrong after it; empty where nothing is."""

    writing: str
    how: str
    at: int
    wrong: str
    ended: str


# ── the writings: functions of a folder, in a process of their own ────────────────────────────────


def save(folder: Path) -> Any:
    """Saves a run over another one that has a previous one already."""
    from gatecast.store import load_run, save_run

    save_run(load_run(folder / "other"), folder / "run")


def record(folder: Path) -> Any:
    """Adds a trial to a ledger with four."""
    from dataclasses import replace

    from gatecast.evaluation.ledger import problems, record_trial
    from gatecast.market import synthetic

    trial = _trials(synthetic.b1(760, seed=3, r2=0.05, symbols=2))[-1]
    with problems() as said:
        found = record_trial(replace(trial, settings_hash="one more"))
    return {"trials": len(found), "said": said}


def run(folder: Path) -> Any:
    """A whole run by the command, of which an earlier one was interrupted."""
    found = command(
        "run", str(folder / "settings.toml"), "--bars", str(folder / "bars.csv"), "--out", str(folder / "run")
    )
    return {"status": found["status"]}


WRITINGS = {"save": save, "record": record, "run": run}


# ── what is left ──────────────────────────────────────────────────────────────────────────────────


def left(folder: Path) -> Any:
    """What a folder holds after a writing: digests of the runs there, trials, and names that should be gone."""
    from gatecast.errors import StoreError
    from gatecast.evaluation.ledger import ledger_path, problems, read_trials
    from gatecast.store import load_run, run_parts

    runs = {}
    for place in ("run", "run.previous"):
        if (folder / place).is_dir():
            try:
                parts = run_parts(load_run(folder / place))
                parts = {name: part for name, part in parts.items() if name.endswith((".parquet", ".safetensors"))}
                runs[place] = hash_of(parts)
            except StoreError as error:
                runs[place] = f"unreadable: {error}"
    with problems() as said:
        trials = len(read_trials(ledger_path()))
    names = [file.relative_to(folder).as_posix() for file in folder.rglob("*")]
    over = [name for name in names if name.endswith(".part") or "unfinished" in name or name.startswith("temporary/")]
    return {"runs": runs, "trials": trials, "said": said, "over": over}


def hash_of(parts: dict[str, bytes]) -> str:
    import hashlib

    digest = hashlib.sha256()
    for name in sorted(parts):
        digest.update(name.encode() + b"\0" + parts[name])
    return digest.hexdigest()


# ── disturbing ────────────────────────────────────────────────────────────────────────────────────


def disturbed(writing: str, folder: str, how: str, at: int) -> Any:
    """Does a writing and disturbs its operation number `at`; the number of operations out, if it comes to its end."""
    root = Path(folder)
    os.environ |= {"GATECAST_DATA": str(root / "data"), "TMPDIR": str(root / "temporary")}
    import tempfile

    tempfile.tempdir = None
    if how == SHORT:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        if at < NEVER:
            resource.setrlimit(resource.RLIMIT_FSIZE, (at, resource.RLIM_INFINITY))
    else:
        _disturb_operations(root, how, at)
    try:
        found = WRITINGS[writing](root)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        _COUNT[1] = NEVER
    return {"operations": _COUNT[0], "found": found}


_COUNT = [0, NEVER]  # operations so far, and which of them is disturbed


def _disturb_operations(root: Path, how: str, at: int) -> None:
    _COUNT[1] = at
    inside = str(root)

    def operation() -> None:
        _COUNT[0] += 1
        if _COUNT[0] == _COUNT[1]:
            if how == KILL:
                quietly_end()
            raise OSError(FAULTS[how], os.strerror(FAULTS[how]))

    def watch(event: str, given: tuple[Any, ...]) -> None:
        if event == "open":
            writes = isinstance(given[2], int) and given[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if writes and str(given[0]).startswith(inside):
                operation()
        elif event in OPERATIONS and any(str(one).startswith(inside) for one in given[:2]):
            operation()

    plain = os.fsync

    def fsync(handle: int) -> None:
        operation()
        plain(handle)

    os.fsync = fsync
    sys.addaudithook(watch)


# ── the cases ─────────────────────────────────────────────────────────────────────────────────────


def prepare(examples: Path, folder: Path, writing: str) -> None:
    """The state before a writing."""
    folder.mkdir(parents=True)
    (folder / "temporary").mkdir()
    shutil.copytree(examples / "data", folder / "data")
    for name in ("run", "run.previous", "other"):
        shutil.copytree(examples / "run", folder / name)
    if writing == "run":
        shutil.copyfile(examples / "newest.csv", folder / "bars.csv")
        (folder / "settings.toml").write_text(
            SETTINGS.replace('"forest", "logistic", "ridge", "garch", "markov", "residual_lstm"', '"logistic", "ridge"')
            + '[signals]\nmodel = "lstm"\nconfirmed_by = "ridge"\n'
        )


def disturb(examples: Path, folder: Path, writing: str, how: str, at: int, after: dict[str, Any]) -> Crash:
    """One disturbed writing; `after`: what is left of an undisturbed one."""
    prepare(examples, folder / "state", writing)
    state = str(folder / "state")
    ended = try_out(disturbed, writing, state, how, at, folder=folder / "first", seconds=60)
    wrong = _wrong_end(ended, how)
    if not wrong:
        wrong = _wrong_state(_left(folder, "second"), writing)
    if not wrong:
        again = try_out(disturbed, writing, state, KILL, NEVER, folder=folder / "third", seconds=60)
        found = _left(folder, "fourth")
        if again.kind != "accepted" or again.value["found"] not in (None, after["found"]):
            wrong = f"the same again does not go through: {again.kind} {again.text[-800:]} {again.value}"
        elif found["over"]:
            wrong = f"left over after the next start: {found['over'][:3]}"
        elif found["runs"].get("run") != after["left"]["runs"].get("run"):
            wrong = f"the same again gives something else: {found['runs']}"
    if not wrong:
        shutil.rmtree(folder, ignore_errors=True)
    return Crash(writing, how, at, wrong, ended.kind)


def _left(folder: Path, step: str) -> dict[str, Any]:
    found = try_out(_left_of, str(folder / "state"), folder=folder / step, seconds=60)
    return found.value if found.kind == "accepted" else {"wrong": f"{found.kind} {found.text[-800:]}"}


def _left_of(folder: str) -> Any:
    os.environ["GATECAST_DATA"] = str(Path(folder) / "data")
    return left(Path(folder))


def _wrong_end(ended: Outcome, how: str) -> str:
    if how == KILL:
        return "" if ended.kind in ("killed", "accepted") else f"{ended.kind}: {ended.text[-800:]}"
    return "" if ended.kind in ("accepted", "refused") else f"{ended.kind}: {ended.text[-800:]}"


def _wrong_state(found: dict[str, Any], writing: str) -> str:
    if "wrong" in found:
        return f"what is left cannot be read: {found['wrong']}"
    if not found["runs"]:
        return "no run is left"
    if any(digest.startswith("unreadable") for digest in found["runs"].values()):
        return f"a run is in pieces: {found['runs']}"
    if found["trials"] < 4 and not found["said"]:
        return f"{found['trials']} of 4 trials are left, and nobody says so"
    return ""


def crashes(examples: Path, work: Path, seed: int, share: float) -> Iterator[tuple[Any, ...]]:
    """What `disturb` is to be called with: every operation for `share` = 1, some of them for less."""
    draw = Random(f"{seed} crashes")
    for writing in WRITINGS:
        folder = work / f"undisturbed-{writing}"
        prepare(examples, folder / "state", writing)
        whole = try_out(disturbed, writing, str(folder / "state"), "EIO", NEVER, folder=folder / "first", seconds=120)
        if whole.kind != "accepted":
            raise SystemExit(f"{writing}, undisturbed, does not pass: {whole.kind} {whole.text}")
        after = {"found": whole.value["found"], "left": _left(folder, "second")}
        operations = range(1, whole.value["operations"] + 1)
        for how in (KILL, *FAULTS, SHORT):
            ats = [draw.choice((0, 100, 4096, 100_000)) for _ in operations][:8] if how == SHORT else list(operations)
            own = share if writing != "run" or how == KILL else share / 4
            count = max(1, round(own * len(ats)))
            for at in sorted(draw.sample(ats, min(count, len(ats)))):
                name = f"{writing}-{how.replace(' ', '')}-{at}-{draw.randrange(10**6)}"
                yield examples, work / name, writing, how, at, after
