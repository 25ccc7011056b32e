"""The study of nulls: the chain on markets without skill, and the number of false claims and positions.

The markets are those of `market.nulls`, on which false claims were once found. They are judged together: of all nulls
with 30 runs each at most 30 runs may claim, at most 30 may ever hold a position, and of no null more than 6. The limits
were made for 14 nulls; with more of them they are stricter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from textwrap import fill
from typing import TYPE_CHECKING, Any

from gatecast.chain import Progress, make_chain
from gatecast.compute.parallel import fan_out
from gatecast.compute.progress import shown
from gatecast.errors import SettingsError, did_you_mean
from gatecast.evaluation.ledger import unrecorded
from gatecast.evaluation.verdict import SKILL
from gatecast.experiment import Experiment
from gatecast.files import jsonable
from gatecast.forecasting import panel
from gatecast.forecasting.models.forest import Forest
from gatecast.forecasting.models.linear import Ridge
from gatecast.forecasting.schedule import Schedule
from gatecast.market import nulls as markets
from gatecast.samples.features import DEFAULT_FEATURES
from gatecast.trading.signals import SignalSettings
from gatecast.verdicts import judge_chain

if TYPE_CHECKING:
    import polars as pl

RUNS = 30  # of each null
MOST, MOST_OF_ONE = 30, 6  # runs that may claim, or ever hold, of all nulls together and of one
ABOUT_RETURNS = ("return", "direction", "strategy")
ALL_HEADS = (*ABOUT_RETURNS, "volatility", "regime")
MONEY = ("return", "strategy")
SHORT = ("ret_log_1", "rv_5")  # features that settle between two halts
FEW = ("ret_log_1", "rsi_14")  # features that see a price which lags, with nothing beside them to dilute it
MODELS = tuple(name for name in panel.MODELS if name not in (panel.NETWORK, panel.CORRECTION))


@dataclass(frozen=True)
class Null:
    """A market, the verdicts that it must not have, and why the others do not count."""

    make: Callable[[int], pl.DataFrame]
    counts: tuple[str, ...]
    reason: str = ""
    features: tuple[str, ...] = DEFAULT_FEATURES
    horizon: int = 5
    refit: str = "6M"
    minimum: str = "1Y"


AUTOCORRELATED = "its prices are no martingale: direction, ranges and their regime can be forecast, not traded"
NULLS: dict[str, Null] = {
    "dead symbol": Null(markets.dead, ALL_HEADS),
    "halts": Null(markets.halts, ABOUT_RETURNS, "a jump at a reopening stays in later variances", SHORT),
    "pegged price": Null(markets.pegged, ABOUT_RETURNS, "the size of a move is a count of ticks"),
    "coarse ticks": Null(markets.coarse, MONEY, AUTOCORRELATED, FEW),
    "cash fund": Null(markets.cash, ALL_HEADS),
    "smoothed": Null(markets.smoothed, MONEY, AUTOCORRELATED, FEW),
    "bounced": Null(markets.bounced, MONEY, AUTOCORRELATED, FEW),
    "stale": Null(markets.stale, MONEY, AUTOCORRELATED, FEW),
    "roll gaps": Null(markets.rolls, ABOUT_RETURNS, "a jump comes every 63 bars"),
    "asynchronous": Null(markets.asynchronous, ALL_HEADS),
    "missing days": Null(markets.missing_days, ABOUT_RETURNS, "Sundays are quieter than other days"),
    "strong trend": Null(markets.trend, ALL_HEADS),
    "h = 20": Null(markets.walk, ALL_HEADS, horizon=20),
    "GARCH-t": Null(markets.garch, ABOUT_RETURNS, "its variance can be forecast"),
    "hourly U-shape": Null(markets.hourly, ALL_HEADS, features=(*DEFAULT_FEATURES, "hour"), refit="2M", minimum="4M"),
}
"""The nulls by name."""


@dataclass(frozen=True)
class NullLine:
    """One null: its runs, those with a claim, those that ever held a position, and claims by verdict."""

    null: str
    runs: int
    claiming: int
    holding: int
    claims: dict[str, int]
    counts: tuple[str, ...]
    not_counted: str

    @property
    def passed(self) -> bool:
        """Whether no more runs claim, or hold, than one null may have."""
        return max(self.claiming, self.holding) <= MOST_OF_ONE


@dataclass(frozen=True)
class Nulls:
    """What the chain made of the nulls, line by line."""

    lines: tuple[NullLine, ...]

    @property
    def claiming(self) -> int:
        """Runs with a claim, of all nulls."""
        return sum(line.claiming for line in self.lines)

    @property
    def holding(self) -> int:
        """Runs that ever held a position, of all nulls."""
        return sum(line.holding for line in self.lines)

    @property
    def passed(self) -> bool:
        """Whether the limits hold; they are the same for fewer runs, which are the easier for it."""
        return max(self.claiming, self.holding) <= MOST and all(line.passed for line in self.lines)

    @property
    def sentence(self) -> str:
        """The totals beside their limits."""
        runs = sum(line.runs for line in self.lines)
        worst = [line.null for line in self.lines if not line.passed]
        nulls = f"{len(self.lines)} null{'s' if len(self.lines) > 1 else ''}"
        text = (
            f"{self.claiming} of {runs} runs of {nulls} claim skill (limit {MOST}), "
            f"{self.holding} ever hold (limit {MOST})."
        )
        return f"{text} More than {MOST_OF_ONE} of one null: {', '.join(worst)}." if worst else text

    def summary(self) -> str:
        """Plain text of at most 100 columns: a line a null, the totals, and which verdicts do not count and why."""
        row = "  {:<16}{:>5}{:>10}{:>10}  {}".format
        said = [row("null", "runs", "claiming", "holding", "claims by verdict")]
        for line in self.lines:
            claims = ", ".join(f"{head} {count}" for head, count in line.claims.items() if count)
            said.append(row(line.null, line.runs, line.claiming, line.holding, claims).rstrip())
        said += ["", "Not counted:"]
        for line in self.lines:
            left_out = [head for head in ALL_HEADS if head not in line.counts]
            if left_out:
                text = f"{line.null}: {', '.join(left_out)} ({line.not_counted})"
                said.append(fill(text, 100, initial_indent="  ", subsequent_indent="    "))
        return "\n".join([*said, "", self.sentence])

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        plain: dict[str, Any] = jsonable(
            {
                "passed": self.passed, "sentence": self.sentence, "claiming": self.claiming, "holding": self.holding,
                "limits": {"all": MOST, "one": MOST_OF_ONE},
                "lines": [asdict(line) | {"passed": line.passed} for line in self.lines],
            }
        )  # fmt: skip
        return plain


def nulls(
    *,
    runs: int = RUNS,
    seed: int = 0,
    only: Sequence[str] | None = None,
    jobs: int = 1,
    progress: Progress | bool | None = None,
) -> Nulls:
    """Run the whole chain, all models but the networks, on markets without skill.

    Parameters
    ----------
    runs: of each null; the limits were made for 30. seed: of the first run; the others count on from it.
    only: some of `NULLS` by name. jobs: cores, one run each; changes no result.
    progress: called with a null's name, its runs done and its runs.

    Raises
    ------
    SettingsError for an unknown null, a seed below 0 or fewer than one run.

    >>> nulls(runs=1, only=("h = 20",)).lines[0].runs
    1
    """
    for name in only or ():
        if name not in NULLS:
            raise SettingsError(f"there is no null {name!r}. {did_you_mean(name, NULLS)}")
    if seed < 0 or runs < 1:
        raise SettingsError(f"seed = {seed}, runs = {runs}: expected a seed of 0 or more, and at least one run.")
    names = [name for name in NULLS if only is None or name in only]
    plan = [(name, one) for name in names for one in range(seed, seed + runs)]
    done = 0

    def report(more: int) -> None:
        nonlocal done
        done += more
        if told:
            name = plan[done - 1][0]
            told(f"nulls: {name}", sum(other == name for other, _ in plan[:done]), runs)

    with shown(progress) as told:
        found = iter(fan_out(_single_threaded, plan, jobs=jobs, processes=True, progress=report))
    return Nulls(tuple(line_of(name, [next(found) for _ in range(runs)]) for name in names))


def line_of(name: str, found: Sequence[dict[str, bool]]) -> NullLine:
    """A null's line, of what `run_of` found in each run.

    >>> line_of("GARCH-t", [{"return": True, "volatility": True, "held": False}, {"return": False, "held": True}])
    ... # doctest: +NORMALIZE_WHITESPACE
    NullLine(null='GARCH-t', runs=2, claiming=1, holding=1, claims={'return': 1, 'direction': 0, 'strategy': 0},
             counts=('return', 'direction', 'strategy'), not_counted='its variance can be forecast')
    """
    null = NULLS[name]
    claims = {head: sum(run.get(head, False) for run in found) for head in null.counts}
    claiming = sum(any(run.get(head, False) for head in null.counts) for run in found)
    return NullLine(name, len(found), claiming, sum(run["held"] for run in found), claims, null.counts, null.reason)


def experiment_of(null: Null) -> Experiment:
    """The experiment that runs on a null: no networks, a forest of 50 trees, its own refits, else the defaults."""
    return Experiment(
        features=null.features, horizon=null.horizon, models=MODELS, model={panel.SECOND: Forest(trees=50)},
        schedule=Schedule(refit=null.refit, minimum=null.minimum),
        signals=SignalSettings(model=Ridge.kind, confirmed_by=panel.SECOND),
    )  # fmt: skip


def run_of(null: Null, seed: int) -> dict[str, bool]:
    """One run: head -> whether its verdict claims skill; and `held`, whether strategies ever added to the core.

    Without a core: whether they ever held a position.
    """
    experiment = experiment_of(null)
    with unrecorded():
        chain = make_chain(experiment, null.make(seed))
        verdicts = judge_chain(experiment, chain)
    found = {head: verdict.verdict == SKILL for head, verdict in verdicts.items()}
    return found | {"held": verdicts["strategy"].n > 0}


def _single_threaded(item: tuple[str, int]) -> dict[str, bool]:
    """One run on one thread: the last digits depend on their number."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        return run_of(NULLS[item[0]], item[1])
