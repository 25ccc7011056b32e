"""Is a longer memory worth having? Each model on a sliding window beside the same one on everything known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gatecast.evaluation.paired import paired
from gatecast.forecasting.panel import LONGER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatecast.evaluation.record import Record


def longer_windows(records: Mapping[str, Record]) -> list[dict[str, Any]]:
    """One row a head and model that ran on both windows, on the days that both forecast.

    In: head -> record. Out: `head, model`; `sliding`, `everything`: mean standardised loss of each, the mean over
    symbols of each day; `since`: year of the oldest row known; `n`: days; `statistic`, `pvalue`: Diebold-Mariano with
    the correction of Harvey, Leybourne and Newbold, two-sided, above 0 where the sliding window is worse; `longer`:
    "better", "worse", or "no difference" where luck may be all of it.
    """
    rows = []
    for head, record in records.items():
        since = min(one.times.min() for one in record.samples.values()).astype("datetime64[Y]").astype(int) + 1970
        for model, longer in LONGER.items():
            both = paired(record, longer, model)
            if both.n == 0:
                continue
            rows.append(
                {"head": head, "model": model, "since": int(since), "n": both.n, "sliding": both.loss_against,
                 "everything": both.loss, "statistic": both.statistic, "pvalue": both.pvalue,
                 "longer": both.outcome("better", "worse", "no difference")}
            )  # fmt: skip
    return rows
