"""Progress of a run with the time left, on standard error: one bar on a terminal, lines elsewhere."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from gatecast.cli.show import counted, make_console
from gatecast.compute.progress import printable

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from gatecast.compute.estimate import Seconds, Work
    from gatecast.compute.progress import Progress


class RunProgress:
    """One bar for the whole run on a terminal, one line a finished stage elsewhere; on standard error.

    A stage is "class: model". What is left is estimated from the rows of each class, known before anything is fitted,
    and from what the stages took so far: see `Estimate`. `costs`: model or stage -> what it usually takes, see
    `usual_costs`. `announced`: models whose end is said, beside the search and the ensemble.
    """

    def __init__(self, costs: Mapping[str, Seconds], announced: Collection[str], quiet: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        from gatecast.compute.estimate import Estimate
        from gatecast.forecasting.guard import GUARD
        from gatecast.forecasting.panel import ENSEMBLE

        console = Console(stderr=True)
        self.quiet, self.live = quiet, console.is_terminal and not quiet
        self.estimate = Estimate(costs)
        self.announced = {"tuning", GUARD, ENSEMBLE, *announced}
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
        )
        self.bar = Progress(*columns, console=console, disable=not self.live, transient=True)
        self.task = self.bar.add_task("reading bars", total=None, left="")

    def __enter__(self) -> RunProgress:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def plan(self, work: dict[str, Work]) -> None:
        """Tells what there is to do, and how long that usually takes."""
        self.estimate.plan(work)
        bars, symbols, refits = (
            sum(getattr(one, name) for one in work.values()) for name in ("bars", "symbols", "refits")
        )
        text = f"{', '.join(work)}: {bars:,} bars of {counted(symbols, 'symbol')}, {counted(refits, 'refit')}"
        self.say(f"{printable(text)}; {about(self.estimate.left)}, a guess until fits are timed")

    def __call__(self, stage: str, done: int, total: int) -> None:
        """So much of a stage is done."""
        group, _, model = stage.rpartition(": ")
        self.estimate.done(group, model, done, total)
        left, passed = self.estimate.left, self.estimate.passed
        self.bar.update(
            self.task, description=printable(stage), completed=passed, total=passed + left, left=f"{about(left)} left"
        )
        if done == total and model in self.announced:
            self.say(f"{ended(stage, total)}; {about(left)} left")

    def say(self, line: str) -> None:
        if not self.live and not self.quiet:
            make_console(stderr=True).print(line, markup=False, soft_wrap=True)


def progress_of(quiet: bool) -> Progress | bool:
    """What hears of the progress of a refit: bars on a terminal, a line for each stage that ends elsewhere."""
    from rich.console import Console

    return not quiet if quiet or Console(stderr=True).is_terminal else say_ended


def say_ended(stage: str, done: int, total: int) -> None:
    """A line on standard error once a stage has ended."""
    if done == total:
        make_console(stderr=True).print(ended(stage, total), markup=False, soft_wrap=True)


def ended(stage: str, total: int) -> str:
    """That a stage has ended, and of how many parts.

    >>> ended("equity: ridge", 1), ended("equity: tuning | best .4", 20)
    ('equity: ridge: 1 fit done', 'equity: tuning: 20 candidates tried')
    """
    from gatecast.forecasting.guard import GUARD
    from gatecast.forecasting.panel import ENSEMBLE

    stage = stage.partition(" | ")[0]
    what = {
        ENSEMBLE: "combined",
        "tuning": f"{total} candidates tried",
        GUARD: f"{counted(total, 'refit')} refused, the fits before them stay in force",
    }.get(stage.rpartition(": ")[2], f"{counted(total, 'fit')} done")
    return f"{printable(stage)}: {what}"


def about(seconds: float) -> str:
    """A time that claims no more precision than it has.

    >>> [about(seconds) for seconds in (20, 100, 5000, 40000)]
    ['under a minute', 'about 2 min', 'about 1 h 25 min', 'about 11 h']
    """
    minutes = seconds / 60
    if minutes < 1:
        return "under a minute"
    if minutes < 60:
        return f"about {math.ceil(minutes)} min"
    hours, rest = divmod(5 * math.ceil(minutes / 5), 60)
    return f"about {hours} h" + (f" {rest} min" if rest and hours < 10 else "")
