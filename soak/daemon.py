"""The real daemon on a folder for a minute: files in pieces, repeated and out of order; then it is asked to end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from random import Random

from gatecast.errors import GatecastError
from gatecast.provenance import hash_of_bars
from gatecast.store import Store
from soak.cases import Case
from soak.feeds import blocks_of, hash_after, readings, shuffled, written

SECONDS = 60.0
"""How long it runs when the soak is whole."""


def daemon(work: Path, seed: int, share: float) -> Iterator[Case]:
    """`gatecast live` for a minute: the bars of a straight feed, nothing torn, a heartbeat, and exit status 0."""
    first, second = readings(seed)
    now = second["known_at"].max()
    straight = hash_after(work / "sorted", [*blocks_of(first, 10), second], now)  # type: ignore[arg-type]
    source, place = work / "source", work / "store"
    source.mkdir()
    draw, seconds = Random(f"{seed} daemon"), max(8.0, share * SECONDS)
    parts = [*shuffled(first, second, draw), second]  # the last reading has all that the vendor knows
    with (work / "said.txt").open("wb") as said:
        process = subprocess.Popen(
            [
                sys.executable, "-m", "gatecast", "live", str(place), "--source", str(source), "--every", "0.2",
                "--asset-class", "index", "--stamp", "close",
            ],
            stdout=said, stderr=said, env={**os.environ, "GATECAST_DATA": str(work / "data")},
        )  # fmt: skip
        for number, part in enumerate(parts):
            whole = written(part, work / "part.csv").read_bytes()
            file = source / f"bars-{number:03}.csv"
            with file.open("wb") as open_file:  # a copy that is under way
                open_file.write(whole[: len(whole) // 2])
                open_file.flush()
                time.sleep(0.02)
                open_file.write(whole[len(whole) // 2 :])
            time.sleep(seconds / len(parts))
        _wait_until(lambda: process.poll() is not None or _bars(place, now) == straight, 60)
        process.send_signal(signal.SIGTERM)
        status = process.wait(60)
    yield Case("daemon", f"{len(parts)} files in {seconds:.0f} s", _wrong(status, place, now, straight, work))


def _bars(place: Path, now: datetime) -> str:
    """The hash of the bars of a store; "" where there is none yet, or a writer is at work."""
    try:
        return hash_of_bars(Store.open(place).bars.as_of(now))
    except GatecastError:
        return ""


def _wrong(status: int, place: Path, now: datetime, straight: str, work: Path) -> str:
    if status:
        return f"exit status {status}: {(work / 'said.txt').read_text()[-800:]}"
    if faults := [one.sentence for one in Store.faults(place)]:
        return f"the store is in pieces: {faults[:3]}"
    if not (Store.open(place).heartbeat() or {}).get("now"):
        return "no heartbeat"
    return "" if _bars(place, now) == straight else "other bars than those of a straight feed"


def _wait_until(holds: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(0.5)
