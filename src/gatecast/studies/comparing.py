"""Two runs side by side: paired daily differences of loss and of money, settings and data, trials spent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gatecast.arguments import checked
from gatecast.errors import SettingsError
from gatecast.evaluation.ledger import daily_profit
from gatecast.evaluation.paired import LEVEL, Paired, paired
from gatecast.evaluation.record import Record
from gatecast.evaluation.verdict import BEYOND, NAMES, in_percent
from gatecast.files import jsonable
from gatecast.forecasting.panel import ENSEMBLE, RIVALS
from gatecast.metrics import significance
from gatecast.runs import Run

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

FIRST, SECOND = "first", "second"
MONEY = "money"
BETTER, WORSE, NO_DIFFERENCE, THE_SAME = (
    "the second is better",
    "the first is better",
    "no difference shown",
    "the same",
)
AVERSION = 2.0
"""Aversion to risk of the certainty equivalent, mean(r - aversion r²/2)."""
LEAST_DAYS = 60
"""Days with a profit in both runs, before their money is compared."""
LONGEST_VALUE = 60
"""Characters of a setting's value in a line of text."""


@dataclass(frozen=True)
class Difference:
    """What the second run has over the first in one head, or in money.

    `effect` with its 90 % interval: share of the first run's loss that the second saves; of money, the difference of
    certainty equivalents a year. `pvalue`: two-sided; `pvalue_holm`: corrected for all that is compared. `detectable`:
    the smallest difference that so many days (`n`) show in four of five cases. `outcome`: which is better, if any.
    """

    of: str
    effect: float
    low: float
    high: float
    pvalue: float
    n: int
    detectable: float
    pvalue_holm: float = float("nan")
    outcome: str = NO_DIFFERENCE
    reason: str = ""

    @property
    def sentence(self) -> str:
        """The difference in words."""
        name = "Money" if self.of == MONEY else NAMES[self.of]
        if self.reason:
            return f"{name}: {self.reason}"
        if self.outcome == THE_SAME:
            return f"{name}: the same in both on all {self.n:,} days."
        what = "certainty equivalent a year" if self.of == MONEY else "of the first run's loss"
        gain = in_percent(self.effect, self.low, self.high)
        return (
            f"{name}: {self.outcome}; the second against the first {gain} {what}, "
            f"p {self.pvalue_holm:.3f} after Holm; {self.n:,} days show a difference of {self.detectable:.2%}."
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        found: dict[str, Any] = jsonable({**asdict(self), "sentence": self.sentence})
        return found


@dataclass(frozen=True)
class Comparison:
    """Two runs: what differs in what they forecast and earned, in their settings and in their data.

    `settings`: name -> the first run's value and the second's, of those that differ. `data`: symbols, first and last
    bar, number of bars and hash of each, and the rows that both have with the same close. `trials`: of each run, as its
    own record says.
    """

    names: tuple[str, str]
    differences: tuple[Difference, ...]
    settings: Mapping[str, tuple[Any, Any]]
    data: Mapping[str, Any]
    trials: tuple[int | None, int | None]

    @property
    def differs(self) -> bool:
        """Whether anything is significantly better or worse."""
        return any(one.outcome in (BETTER, WORSE) for one in self.differences)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        found: dict[str, Any] = jsonable(
            {
                FIRST: self.names[0], SECOND: self.names[1], "differs": self.differs,
                "differences": [one.to_dict() for one in self.differences],
                "settings": {name: {FIRST: one, SECOND: other} for name, (one, other) in self.settings.items()},
                "data": dict(self.data), "trials": dict(zip((FIRST, SECOND), self.trials, strict=True)),
            }
        )  # fmt: skip
        return found

    def summary(self) -> str:
        """Plain text: outcomes, then settings and data that differ."""
        known = ["not known" if one is None else f"{one:,}" for one in self.trials]
        lines = [
            f"first: {self.names[0]}; second: {self.names[1]}; trials on their markets: {known[0]} and {known[1]}",
            *(one.sentence for one in self.differences),
        ]
        lines += [f"{name}: {_short(one)} -> {_short(other)}" for name, (one, other) in self.settings.items()]
        if not self.settings:
            lines.append("The settings are the same.")
        first, second = self.data[FIRST], self.data[SECOND]
        if first["hash"] == second["hash"]:
            lines.append("The bars are the same.")
        else:
            lines.append(
                f"Bars: {first['bars']:,} of {first['symbols']} symbols to {first['last']}, and {second['bars']:,} of "
                f"{second['symbols']} to {second['last']}; compared on the {self.data['common']:,} that both have."
            )
        return "\n".join(lines)


def _short(value: Any) -> str:
    text = "-" if value is None else str(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."


@checked
def compare(first: Run, second: Run, names: tuple[str, str] | None = None) -> Comparison:
    """Two runs, such as `gatecast.load_run` reads, -> what the second has over the first.

    Each head's ensemble is compared day by day on the closes at which both forecast and the bars are the same; money by
    the daily net returns of both books. Tests are two-sided with fixed-b critical values, corrected by Holm over all
    that is compared. A head is left out, with the reason, where horizons or the measure of variance differ.

    `names`: what they are called; None: their experiments' names. Raises `SettingsError` where no row is in both.

    >>> from gatecast.evaluation.ledger import unrecorded
    >>> from gatecast.experiment import Experiment
    >>> from gatecast.market import synthetic
    >>> from gatecast.runs import run
    >>> few = {"models": ("ridge", "logistic"), "signals": {"model": "ridge", "confirmed_by": "ridge"}, "control": None}
    >>> with unrecorded():
    ...     one = run(Experiment(bars=synthetic.a1(800, seed=1), schedule={"refit": "1Y"}, **few))
    >>> compare(one, one).differs
    False
    """
    bars = _common(first.bars, second.bars)
    if bars.is_empty():
        raise SettingsError("the two runs have no bar in common: compare runs on the same symbols and span.")
    found = _corrected([*_heads(first, second, bars), _money(first, second)])
    data = {FIRST: _data(first), SECOND: _data(second), "common": len(bars)}
    named = names or (first.experiment.name, second.experiment.name)
    return Comparison(named, tuple(found), _settings(first, second), data, (_trials(first), _trials(second)))


def _trials(run: Run) -> int | None:
    count = (run.scores.get("trials") or {}).get("count")
    return count if isinstance(count, int) else None


def _data(run: Run) -> dict[str, Any]:
    times = run.bars["time"]
    return {
        "symbols": run.bars["symbol"].n_unique(), "bars": len(run.bars), "first": str(times.min())[:10],
        "last": str(times.max())[:10], "hash": run.provenance.get("data_hash"),
    }  # fmt: skip


def _common(first: pl.DataFrame, second: pl.DataFrame) -> pl.DataFrame:
    """The first run's bars that the second has too, of the same class and at the same close."""
    keys = ["symbol", "time", "asset_class", "close"]
    return first.join(second.select(keys), on=keys, how="semi").sort("symbol", "time")


def _settings(first: Run, second: Run) -> dict[str, tuple[Any, Any]]:
    """Setting -> both values, of those that differ; the names of runs are none."""
    one, other = (_flat(run.experiment.to_dict()) for run in (first, second))
    names = [name for name in {**one, **other} if name != "name" and one.get(name) != other.get(name)]
    return {name: (one.get(name), other.get(name)) for name in names}


def _flat(settings: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    flat = dict[str, Any]()
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{before}{name}.")
        else:
            flat[f"{before}{name}"] = value
    return flat


def _heads(first: Run, second: Run, bars: pl.DataFrame) -> list[Difference]:
    """The differences of the ensembles' losses, head by head."""
    horizons = [run.experiment.horizon for run in (first, second)]
    if horizons[0] != horizons[1]:
        reason = f"the horizons differ, {horizons[0]} and {horizons[1]} bars: there is nothing to pair."
        return [_none(head, reason) for head in RIVALS]
    keys = bars.select("symbol", "time")
    parts = [
        run.scan_forecasts()
        .filter(pl.col("model") == ENSEMBLE, pl.col("head").is_in(list(RIVALS)))
        .filter(pl.col("step") == horizons[0])
        .select("symbol", "time", "head", "step", "value", model=pl.lit(name))
        .collect()
        .join(keys, on=["symbol", "time"], how="semi")
        .drop_nulls("value")
        for name, run in ((FIRST, first), (SECOND, second))
    ]
    proxies = {run.experiment.volatility_proxy for run in (first, second)}
    table = pl.concat(parts).with_columns(pl.col("step").cast(pl.Int64))
    if table.is_empty():
        raise SettingsError("the two runs forecast nothing at the same closes: compare runs on the same span.")
    records = Record.from_table(table, bars, horizon=horizons[0], volatility_proxy=first.experiment.volatility_proxy)
    found = []
    for head in RIVALS:
        if head not in records:
            found.append(_none(head, "neither run forecasts it."))
        elif head in ("volatility", "regime") and len(proxies) > 1:
            found.append(_none(head, f"variance is measured by {' and by '.join(sorted(proxies))}: nothing to pair."))
        else:
            found.append(_head(head, paired(records[head], SECOND, FIRST)))
    return found


def _none(of: str, reason: str) -> Difference:
    nan = float("nan")
    return Difference(of, nan, nan, nan, nan, 0, nan, reason=reason)


def _head(head: str, both: Paired) -> Difference:
    if both.n == 0:
        return _none(head, "no day on which both forecast it.")
    if both.same:
        return Difference(head, 0.0, 0.0, 0.0, float("nan"), both.n, 0.0, outcome=THE_SAME)
    test = both.mean
    return _difference(head, test, both.loss_against, both.n)


def _difference(of: str, test: significance.FixedB, scale: float, n: int) -> Difference:
    """A tested mean difference, in units of `scale`."""
    two_sided = min(1.0, 2 * min(test.pvalue, 1 - test.pvalue)) if np.isfinite(test.pvalue) else float("nan")
    reach = significance.fixed_b_critical(significance.BOUND, test.share) + BEYOND
    return Difference(
        of, test.effect / scale, test.low / scale, test.high / scale, two_sided, n, reach * test.standard_error / scale
    )


def _money(first: Run, second: Run) -> Difference:
    """The difference of certainty equivalents of the two books' net returns, on the days of both."""
    one, other = (daily_profit(run.equity) for run in (first, second))
    both = one.join(other, on="session", suffix="_second", how="inner").sort("session")
    net, net_second = both["net"].to_numpy(), both["net_second"].to_numpy()
    if len(both) and (net == net_second).all():
        return Difference(MONEY, 0.0, 0.0, 0.0, float("nan"), len(both), 0.0, outcome=THE_SAME)
    if np.count_nonzero((net != 0) & (net_second != 0)) < LEAST_DAYS:
        held = [int(np.count_nonzero(one)) for one in (net, net_second)]
        return _none(
            MONEY, f"a position was held on {held[0]} and {held[1]} of {len(both):,} days: too few to compare."
        )
    worth = [returns - AVERSION * returns**2 / 2 for returns in (net, net_second)]
    test = significance.fixed_b_mean(worth[1] - worth[0])
    days = both["session"]
    per_year = len(days) / max((days[-1] - days[0]).days / 365.25, 1e-9)
    return _difference(MONEY, test, 1 / per_year, len(both))


def _corrected(found: list[Difference]) -> list[Difference]:
    """The differences with p-values after Holm, and their outcomes."""
    tested = [place for place, one in enumerate(found) if np.isfinite(one.pvalue)]
    holm = significance.holm(np.array([found[place].pvalue for place in tested])) if tested else np.zeros(0)
    for place, pvalue in zip(tested, holm, strict=True):
        one = found[place]
        claim = pvalue < LEVEL
        outcome = NO_DIFFERENCE if not claim else BETTER if one.effect > 0 else WORSE
        found[place] = replace(one, pvalue_holm=float(pvalue), outcome=outcome)
    return found
