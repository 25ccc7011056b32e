"""Is a longer memory worth having? Each model on a sliding window beside the same one on everything known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from gatecast.evaluation.compare import day_means, sessions_spanned
from gatecast.evaluation.rivals import RIVALS
from gatecast.forecasting.panel import LONGER
from gatecast.metrics import significance

if TYPE_CHECKING:
    from gatecast.forecasting.walkforward import Forecasts

LEVEL = 0.05


def longer_windows(forecasts: Mapping[str, Forecasts]) -> list[dict[str, Any]]:
    """One row a head and model that ran on both windows, on the days that both forecast.

    In: asset class -> forecasts. Out: `head, model`; `sliding`, `everything`: mean standardised loss of each (see
    `rivals.losses`), the mean over symbols of each day; `since`: year of the oldest row known; `n`: days;
    `statistic`, `pvalue`: Diebold-Mariano with the correction of Harvey, Leybourne and Newbold, two-sided, above 0
    where the sliding window is worse; `longer`: "better", "worse", or "no difference" where luck may be all of it.
    """
    first = next(iter(forecasts.values())).values
    since = min(one.samples.times.min() for one in forecasts.values()).astype("datetime64[Y]").astype(int) + 1970
    overlap, rows = sessions_spanned(forecasts), []
    for head in RIVALS:
        for model, longer in LONGER.items():
            if head not in first.get(model, {}) or head not in first.get(longer, {}):
                continue
            days = day_means(forecasts, head, longer, model)
            if len(days.day) == 0:
                continue
            test = significance.diebold_mariano(days.rival, days.model, overlap, loss="identity")
            sure = test.enough and np.isfinite(test.pvalue) and test.pvalue < LEVEL
            worth = "no difference" if not sure else "better" if test.statistic > 0 else "worse"
            rows.append(
                {"head": head, "model": model, "since": int(since), "n": len(days.day),
                 "sliding": float(days.rival.mean()), "everything": float(days.model.mean()),
                 "statistic": test.statistic, "pvalue": test.pvalue, "longer": worth}
            )  # fmt: skip
    return rows
