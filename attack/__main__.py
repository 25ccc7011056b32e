"""`python -m attack [--seed N] [--quick] [--only NAME] [--case N] [--keep FOLDER]`: the table of all cases."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random

from attack.cell import Outcome, try_out
from attack.crashes import Crash, crashes, disturb
from attack.readers import CASES, READERS, Reader, make_examples, spoil


@dataclass(frozen=True)
class Case:
    """One bad example and what came of it."""

    reader: Reader
    number: int
    done: str
    outcome: Outcome


def cases_of(group: str, count: int, only: str | None) -> Iterator[tuple[Reader, int]]:
    """Reader and number of each case of a group."""
    readers = [one for one in READERS if one.group == group]
    total = sum(one.share for one in readers)
    for reader in readers:
        if only in (None, group, reader.name):
            for number in range(max(1, round(count * reader.share / total))):
                yield reader, number


def attack(
    examples: Path,
    work: Path,
    seed: int,
    counts: dict[str, int],
    only: str | None = None,
    case: int | None = None,
    jobs: int = 2,
) -> list[Case]:
    """All cases, each on a bad copy of an example in `examples`; the folders of failures stay in `work`."""
    tasks = [task for group, count in counts.items() for task in cases_of(group, count, only)]
    tasks = [task for task in tasks if case is None or task[1] == case]
    good = {
        reader.name: try_out(
            reader.read, str(examples / reader.good), *(str(examples / name) for name in reader.others),
            folder=work / "good" / reader.name.replace(" ", "_"), seconds=120,
        )
        for reader in {task[0].name: task[0] for task in tasks}.values()
    }  # fmt: skip
    for name, outcome in good.items():
        if outcome.failed or (outcome.kind == "refused" and name != "unseal"):
            raise SystemExit(f"the good example of {name!r} does not pass: {outcome.kind} {outcome.text}")

    def one(task: tuple[Reader, int]) -> Case:
        reader, number = task
        draw = Random(f"{seed} {reader.name} {number}")
        folder = work / f"{reader.name.replace(' ', '_')}-{number}"
        bad, done = spoil(reader, examples, folder / "bad", draw)
        others = [str(examples / name) for name in reader.others]
        outcome = try_out(reader.read, str(bad), *others, folder=folder / "ran")
        if outcome.kind == "accepted" and (wrong := reader.judge(good[reader.name].value, outcome.value, done)):
            outcome = Outcome("wrong", wrong, outcome.value, outcome.seconds, outcome.memory)
        if not outcome.failed:
            remove(folder)
        if sys.stderr.isatty():
            print(f"\r{reader.name} {number}   ", end="", file=sys.stderr)
        return Case(reader, number, done, outcome)

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(one, tasks))


def remove(folder: Path) -> None:
    import shutil

    for inner in folder.rglob("*"):
        if not inner.is_symlink() and inner.is_dir():
            inner.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)


def table_of(cases: list[Case]) -> str:
    """A line a reader: cases, what came of them, the longest and the largest."""
    lines = [
        f"{'reader':<16}{'cases':>7}{'refused':>9}{'accepted':>10}{'failed':>8}{'s at most':>11}{'MB at most':>12}"
    ]
    for reader in READERS:
        own = [case for case in cases if case.reader is reader]
        if own:
            kinds = Counter(case.outcome.kind for case in own)
            failed = sum(case.outcome.failed for case in own)
            lines.append(
                f"{reader.name:<16}{len(own):>7}{kinds['refused']:>9}{kinds['accepted']:>10}{failed:>8}"
                f"{max(case.outcome.seconds for case in own):>11.1f}"
                f"{max(case.outcome.memory for case in own) / 1e6:>12.0f}"
            )
    return "\n".join(lines)


def crash(
    examples: Path,
    work: Path,
    seed: int,
    share: float,
    ways: Mapping[str, Sequence[str]] | None = None,
    jobs: int = 2,
) -> list[Crash]:
    """All disturbed writings, or those disturbed in some `ways`: writing -> how."""
    found: list[Crash] = []
    with ThreadPoolExecutor(jobs) as pool:
        for one in pool.map(lambda given: disturb(*given), crashes(examples, work, seed, share, ways)):
            found.append(one)
            if one.wrong or len(found) % 100 == 0:
                print(f"{len(found)} disturbed, the last: {one.writing}, {one.how} at {one.at}", file=sys.stderr)
    return found


def table_of_crashes(found: list[Crash]) -> str:
    """A line a writing and way of disturbing it."""
    lines = [f"{'writing':<10}{'disturbed by':<16}{'cases':>7}{'failed':>8}"]
    for writing, how in dict.fromkeys((one.writing, one.how) for one in found):
        own = [one for one in found if (one.writing, one.how) == (writing, how)]
        lines.append(f"{writing:<10}{how:<16}{len(own):>7}{sum(bool(one.wrong) for one in own):>8}")
    return "\n".join(lines)


def main() -> int:
    words = argparse.ArgumentParser("python -m attack", description=__doc__)
    words.add_argument("--seed", type=int, default=0)
    words.add_argument("--quick", action="store_true", help="a few cases of each")
    words.add_argument("--only", help="a group, a reader, or crashes")
    words.add_argument("--case", type=int, help="one case, to see it again")
    words.add_argument("--share", type=float, default=1.0, help="share of all points at which a writing is disturbed")
    words.add_argument("--keep", type=Path, help="folder that keeps examples and the cases that failed")
    words.add_argument("--jobs", type=int, default=2)
    given = words.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = given.keep or Path(temporary)
        examples = root / "examples"
        if not (examples / "run").is_dir():
            make_examples(examples)
        counts = {group: max(5, count // 20) if given.quick else count for group, count in CASES.items()}
        work = Path(tempfile.mkdtemp(prefix=f"seed{given.seed}-", dir=root))
        cases = attack(examples, work, given.seed, counts, given.only, given.case, given.jobs)
        if cases:
            print(table_of(cases))
        failures = [case for case in cases if case.outcome.failed]
        for case in failures:
            print(f"\n{case.reader.name} {case.number} ({case.done}): {case.outcome.kind}\n{case.outcome.text[-1500:]}")
        ended = (
            []
            if given.only not in (None, "crashes")
            else crash(examples, work, given.seed, 0.02 if given.quick else given.share)
        )
        failed = [one for one in ended if one.wrong]
        if ended:
            print(f"\n{table_of_crashes(ended)}")
        for one in failed:
            print(f"\n{one.writing}, {one.how} at {one.at}, {one.ended}: {one.wrong}")
        print(f"\n{len(cases) + len(ended)} cases, {len(failures) + len(failed)} failures")
        return 1 if failures or failed else 0


if __name__ == "__main__":
    sys.exit(main())
