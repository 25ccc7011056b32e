"""kill -9 at random moments in processes of the real command, and the same command again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from attack.cell import command, try_out
from attack.readers import content_of, now_of
from soak.cases import Case

COUNTS = {"update": 200, "retrain": 50}
"""How often each command is killed when the soak is whole."""
SECONDS = 300.0
"""How long a command may take on a busy machine."""


@dataclass(frozen=True)
class Twin:
    """An undisturbed command: what its store holds after it, seconds before it has the lock, and seconds after."""

    content: dict[str, Any]
    start: float
    work: float


def words(name: str, folder: Path) -> list[str]:
    """The command line of a store in a folder that `prepare` made."""
    more = ["--bars", str(folder / "next.csv")] if name == "update" else ["--if-due", "--jobs", "1"]
    return [name, str(folder / "store"), *more, "--now", now_of(f"live_{name}"), "--json"]


def prepare(examples: Path, folder: Path, name: str) -> None:
    """A store with models in a folder, and the bars that come next."""
    folder.mkdir(parents=True)
    shutil.copytree(examples / f"live_{name}", folder / "store")
    shutil.copyfile(examples / "live_next.csv", folder / "next.csv")


def started(name: str, folder: Path) -> subprocess.Popen[bytes]:
    """The real command in a process of its own."""
    with (folder / "said.txt").open("wb") as said:
        return subprocess.Popen(
            [sys.executable, "-m", "gatecast", *words(name, folder)],
            stdout=said, stderr=said, env={**os.environ, "GATECAST_DATA": str(folder / "data")},
        )  # fmt: skip


def wait_for_lock(process: subprocess.Popen[bytes], folder: Path) -> None:
    """Waits until a process has written its name into the store's lock, or has ended."""
    lock = folder / "store" / "lock"
    while process.poll() is None and not (lock.is_file() and lock.stat().st_size):
        time.sleep(0.002)


def twin_of(examples: Path, folder: Path, name: str) -> Twin:
    """Runs a command undisturbed."""
    prepare(examples, folder, name)
    began = time.monotonic()
    process = started(name, folder)
    wait_for_lock(process, folder)
    locked = time.monotonic()
    if process.wait(SECONDS):
        raise SystemExit(f"{name}, undisturbed, does not pass: {(folder / 'said.txt').read_text()[-2000:]}")
    return Twin(content_of(folder / "store"), locked - began, time.monotonic() - locked)


def found_after(name: str, folder: str) -> Any:
    """What the store's check finds after a kill, what the same command gives then, and what the check finds then."""
    from gatecast.store import Store

    os.environ["GATECAST_DATA"] = str(Path(folder) / "data")  # the ledger of trials goes on as well
    store = Path(folder) / "store"
    faults = [one.sentence for one in Store.faults(store) if not one.is_harmless]
    if not faults:
        command(*words(name, Path(folder)))
    after = [one.sentence for one in Store.faults(store)]
    return {"faults": faults, "after": after, "content": content_of(store), "kept": (store / "kept").exists()}


def killed(examples: Path, folder: Path, name: str, twin: Twin, draw: Random) -> Case:
    """One command that is killed after a random time, mostly while it has the lock."""
    prepare(examples, folder, name)
    process = started(name, folder)
    if draw.random() < 0.1:
        delay, since = draw.uniform(0, twin.start), "its start"
    else:
        wait_for_lock(process, folder)
        delay, since = draw.uniform(0, twin.work), "the lock"
    time.sleep(delay)
    process.kill()
    ended = "killed" if process.wait(SECONDS) < 0 else "had ended"
    done = f"{name}, {ended} {delay:.3f} s after {since}"
    outcome = try_out(found_after, name, str(folder), folder=folder / "after", seconds=SECONDS)
    if outcome.kind != "accepted":
        return Case("kills", done, f"the same command again does not go through: {outcome.kind} {outcome.text[-800:]}")
    wrong = _wrong(outcome.value, twin)
    if not wrong:
        shutil.rmtree(folder, ignore_errors=True)
    return Case("kills", done, wrong)


def _wrong(found: dict[str, Any], twin: Twin) -> str:
    if found["faults"]:
        return f"the store is in pieces: {found['faults'][:3]}"
    if torn := [one for one in found["after"] if "no record names" not in one]:
        return f"after the same command again: {torn[:3]}"
    if found["kept"]:
        return "networks are left over"
    other = [name for name, value in twin.content.items() if found["content"][name] != value]
    return f"another store than that of the undisturbed twin: {other}" if other else ""


def kills(examples: Path, work: Path, seed: int, share: float, jobs: int = 2) -> Iterator[Case]:
    """All kills, or a share of them."""
    for name, count in COUNTS.items():
        twin = twin_of(examples, work / f"twin-{name}", name)
        draws = [Random(f"{seed} kills {name} {number}") for number in range(max(2, round(share * count)))]
        with ThreadPoolExecutor(jobs) as pool:
            yield from pool.map(
                lambda given, name=name, twin=twin: killed(  # type: ignore[misc]
                    examples, work / f"{name}-{given[0]}", name, twin, given[1]
                ),
                enumerate(draws),
            )
