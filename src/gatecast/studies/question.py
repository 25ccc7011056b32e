"""What a file is judged by: its market, the settings, the trial that a model of it is, and what is believed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from gatecast import provenance
from gatecast.evaluation.following import MOST_GAIN
from gatecast.evaluation.record import Record
from gatecast.evaluation.trial import Trial
from gatecast.evaluation.verdict import Verdict
from gatecast.forecasting.schedule import Schedule
from gatecast.market.bars import session_date
from gatecast.market.facts import Facts
from gatecast.metrics.returns import sharpe
from gatecast.trading.costs import Costs
from gatecast.trading.plausible import HITS, r2_limit, sharpe_limit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.samples.windows import Samples

    FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Question:
    """The market and settings of a judgement, see `judging.judge_forecasts`."""

    facts: Facts
    cutoff: date | None
    copies: int
    seed: int
    costs: Costs
    schedule: Schedule
    volatility_proxy: str
    allowed: tuple[str, ...]
    cash: float | None = None

    def trial_of(self, rows: pl.DataFrame, samples: Sequence[Samples], profit: pl.DataFrame | None) -> Trial:
        """What the ledger keeps of rows of a file; `profit`: session and net of each day, None where nothing traded."""
        bars = self.facts.bars
        days = session_date(bars["time"].dt.replace_time_zone(None).to_numpy()).astype("datetime64[D]")
        ratio = float("nan") if profit is None else float(sharpe(profit["net"].to_numpy(), periods_per_year=1))
        rows = rows.drop("model", strict=False)
        return Trial(
            tuple(bars["symbol"].unique().sort().to_list()), str(days.min()), str(days.max()),
            provenance.hash_of({"judged": rows.sort(rows.columns).cast(pl.String).rows()}),
            None if np.isnan(ratio) else ratio, profit, data=provenance.data_of(bars, samples, ()),
        )  # fmt: skip

    def most_believed(self, verdict: Verdict, records: Mapping[str, Record], net: FloatArray) -> float:
        """The largest effect that is believed, in the unit of the verdict."""
        bars_a_day = self.facts.bars_per_year / self.facts.sessions_per_year
        match verdict.head:
            case "return":
                return r2_limit(records["return"].horizon, bars_a_day)
            case "direction":  # of a Brier score of 1/4
                return 4 * HITS**2
            case "strategy":
                return sharpe_limit(bars_a_day) * float(net.std()) * float(np.sqrt(self.facts.bars_per_year))
        return MOST_GAIN
