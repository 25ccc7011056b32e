"""Two models on the same days: is the difference of their losses more than luck? One test for every such question."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from gatecast.evaluation.record import Days, day_means, gain_over
from gatecast.metrics import significance

if TYPE_CHECKING:
    from gatecast.evaluation.record import Record
    from gatecast.metrics.significance import DieboldMariano, FixedB

LEVEL = 0.05
"""P-values below it are claims."""
ROUNDING = 1e-12
"""Losses of a day that differ by no more than this share are the same."""


@dataclass(frozen=True)
class Paired:
    """A model beside another, `against`, by day: `days.model` are its losses and `days.rival` those of the other.

    `overlap`: days that an answer spans. All tests are of the mean daily gain, `days.rival` less `days.model`: above 0
    the model is better.
    """

    model: str
    against: str
    days: Days
    overlap: int

    @property
    def n(self) -> int:
        """Days on which both were forecast and answered."""
        return len(self.days.day)

    @property
    def loss(self) -> float:
        """The model's mean daily loss; NaN without a day."""
        return float(self.days.model.mean()) if self.n else float("nan")

    @property
    def loss_against(self) -> float:
        """The other's mean daily loss; NaN without a day."""
        return float(self.days.rival.mean()) if self.n else float("nan")

    @property
    def gain(self) -> float:
        """What the model saves of the other's loss, a share; NaN where there was nothing to lose."""
        return gain_over(self.loss_against, self.loss)

    @cached_property
    def mean(self) -> FixedB:
        """The mean daily gain, its interval and one-sided p-value (above 0) by fixed-b."""
        return significance.fixed_b_mean(self.days.gain, self.overlap)

    @property
    def low(self) -> float:
        """Lower end of the 90 % interval (fixed-b) of the gain, a share of the other's loss."""
        return self.mean.low / self.loss_against

    @property
    def high(self) -> float:
        """Upper end of the 90 % interval (fixed-b) of the gain, a share of the other's loss."""
        return self.mean.high / self.loss_against

    @cached_property
    def test(self) -> DieboldMariano:
        """Diebold and Mariano's test with the correction of Harvey, Leybourne and Newbold, two-sided."""
        return significance.diebold_mariano(self.days.rival, self.days.model, self.overlap, loss="identity")

    @property
    def statistic(self) -> float:
        """Of `test`; NaN where the losses are the same or the test is undefined."""
        return float("nan") if self.same else self.test.statistic

    @property
    def pvalue(self) -> float:
        """Of `test`, two-sided; NaN where the losses are the same, or there are too few days for their overlap."""
        return self.test.pvalue if self.test.enough and not self.same else float("nan")

    @property
    def same(self) -> bool:
        """Whether the losses are the same on every day, but for rounding."""
        return bool(np.allclose(self.days.rival, self.days.model, rtol=ROUNDING, atol=0.0))

    def outcome(self, better: str, worse: str, unclear: str, level: float = LEVEL) -> str:
        """One of three words: whether the model is better or worse at a two-sided level, or luck may be all of it."""
        if not self.pvalue < level:
            return unclear
        return better if self.statistic > 0 else worse


def paired(record: Record, model: str, against: str) -> Paired:
    """A record's model beside another of its models, on the days that both have.

    In: a record with both among its forecasts. Out: daily losses of both, in units of volatility, their mean gain with
    its interval and tests. A model that is not in the record has no day.

    References
    ----------
    Diebold and Mariano (1995), Journal of Business & Economic Statistics 13; Harvey, Leybourne and Newbold (1997),
    International Journal of Forecasting 13; Kiefer and Vogelsang (2005), Econometric Theory 21.

    >>> import polars as pl
    >>> from gatecast.evaluation.record import Record
    >>> from gatecast.market import synthetic
    >>> bars = synthetic.a1(800, seed=1)
    >>> ahead = pl.col("close").log().shift(-1) > pl.col("close").log()
    >>> table = bars.select("symbol", "time", head=pl.lit("direction"), step=1, knows=0.5 + 0.1 * ahead, half=0.5)
    >>> table = table.unpivot(["knows", "half"], index=["symbol", "time", "head", "step"], variable_name="model")
    >>> found = paired(Record.from_table(table.drop_nulls(), bars)["direction"], "knows", "half")
    >>> found.outcome("better", "worse", "unclear"), found.low < found.gain < found.high
    ('better', True)
    """
    return Paired(model, against, day_means(record, model, against), record.overlap)
