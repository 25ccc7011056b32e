"""`python -m soak [--quick] [--seed N] [--only PART] [--share S] [--keep FOLDER]`."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from attack.__main__ import crash
from attack.readers import make_live
from soak.cases import Case
from soak.clock import clock
from soak.daemon import daemon
from soak.feeds import feeds
from soak.kills import kills
from soak.replay import replayed

PARTS = ("kills", "faults", "feeds", "clock", "daemon", "replay")
WAYS = {"update": ("ENOSPC", "EIO", "EACCES"), "retrain": ("ENOSPC", "EIO", "EACCES")}
"""Command -> faults of the disk, each at its n-th operation on files."""
QUICK = 0.01


def faults(examples: Path, work: Path, seed: int, share: float, jobs: int = 2) -> Iterator[Case]:
    """Every operation on files of `update` and `retrain` fails in turn, or some of them for less."""
    for one in crash(examples, work, seed, min(1.0, 4 * share), WAYS, jobs):  # a fourth of them is a full attack's
        yield Case("faults", f"{one.writing}, {one.how} at operation {one.at}: {one.ended}", one.wrong)


def main() -> int:
    words = argparse.ArgumentParser("python -m soak", description=__doc__)
    words.add_argument("--seed", type=int, default=0)
    words.add_argument("--quick", action="store_true", help="a few cases of each part, in about a minute")
    words.add_argument("--share", type=float, default=1.0, help="of all cases")
    words.add_argument("--only", choices=PARTS)
    words.add_argument("--keep", type=Path, help="folder that keeps what failed")
    words.add_argument("--jobs", type=int, default=2)
    given = words.parse_args()
    share = QUICK if given.quick else given.share
    wrong = 0
    with tempfile.TemporaryDirectory() as temporary:
        root = given.keep or Path(temporary)
        root.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f"seed{given.seed}-", dir=root))
        examples = work / "examples"
        examples.mkdir()
        if given.only in (None, "kills", "faults"):
            make_live(examples)
        parts = {
            "kills": lambda place: kills(examples, place, given.seed, share, given.jobs),
            "faults": lambda place: faults(examples, place, given.seed, share, given.jobs),
            "feeds": lambda place: feeds(place, given.seed, share),
            "clock": lambda place: clock(place, given.seed, share, given.jobs),
            "daemon": lambda place: daemon(place, given.seed, share),
            "replay": lambda place: replayed(given.seed, share),
        }
        for name in PARTS if given.only is None else (given.only,):
            began = time.monotonic()
            (work / name).mkdir()
            cases = list(parts[name](work / name))
            failed = [one for one in cases if one.wrong]
            wrong += len(failed)
            print(
                f"{name:<8}{len(cases):>5} cases{len(failed):>5} failed{time.monotonic() - began:>8.0f} s", flush=True
            )
            for one in cases if len(cases) < 5 else failed:
                print(f"  {one.done}{': ' if one.wrong else ''}{one.wrong}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
