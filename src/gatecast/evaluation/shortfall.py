"""The test of the book's tails: what was said of each session the close before, and what came -> how well they did.

Each method says a value at risk and an expected shortfall; they are judged by the joint loss FZ0 on the same sessions.
The one declared test is that gatecast's method loses less than each rival: its numbers are those against the rival that
it beats least surely (Berger 1982, Technometrics 24: it claims as seldom as one test alone). Against the rival that had
lost least so far it would claim too often: a choice among equals, made again each session, loses more than any of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatecast.evaluation.risk import LEAST_SESSIONS, SHORTFALL, Answer
from gatecast.metrics import significance
from gatecast.metrics.risk import (
    acerbi_szekely,
    basel_zone,
    binomial_coverage,
    christoffersen_independence,
    fz0_losses,
    kupiec,
    shortfall_exceedance,
)

FloatArray = NDArray[np.float64]
LEVEL = 0.025
"""Share of sessions beyond the value at risk: 97.5 %."""
SURE = 0.05
"""p-value below which a coverage or runs are said to be no luck."""
OWN = "filtered"
"""The method that is judged."""
TITLES = {
    "historical_all": "historical simulation, all past sessions",
    "historical_250": "historical simulation, 250 sessions", "historical_500": "historical simulation, 500 sessions",
    "normal": "Gaussian with EWMA", OWN: "filtered simulation, gatecast's forecasts",
    "filtered_rival": "filtered simulation, best simple forecast so far",
}  # fmt: skip
"""Method -> what a reader calls it."""
RIVALS = ("historical_all", "historical_250", "historical_500", "normal")
"""Plain methods, the simplest first.

The first looks at as many sessions as `OWN`: where volatility never changes, a longer past is all that is better, and
no skill.
"""


def judge_shortfall(
    earned: FloatArray, tails: Mapping[str, FloatArray], days: NDArray[np.datetime64]
) -> tuple[Answer, dict[str, Any]]:
    """The declared test, and a table of numbers beside it.

    Parameters
    ----------
    earned: (sessions,) return of the book. tails: method -> (sessions, 2) its value at risk and expected shortfall of
        each, see `trading.risk.tail_paths`; those of `OWN` and of all `RIVALS` among them. days: (sessions,) dates.

    A session counts where all methods say a loss of it.
    """
    good = np.isfinite(earned)
    for path in tails.values():
        good &= np.isfinite(path).all(axis=1) & (path[:, 1] < 0)
    n = int(good.sum())
    if n < LEAST_SESSIONS:
        reason = f"all methods say the tails of {n} sessions, {LEAST_SESSIONS} are needed"
        return Answer(SHORTFALL, n=n, reason=reason), {}
    own, said = earned[good], {name: path[good] for name, path in tails.items()}
    losses = {name: fz0_losses(own, path[:, 0], path[:, 1], LEVEL) for name, path in said.items()}
    tests = {name: significance.fixed_b_mean(losses[name] - losses[OWN]) for name in RIVALS}
    against = max(tests, key=lambda name: np.nan_to_num(tests[name].pvalue, nan=np.inf))
    answer = Answer.of(SHORTFALL, tests[against])
    value_at_risk, shortfall = said[OWN].T
    independence = christoffersen_independence(own <= value_at_risk)
    z2 = acerbi_szekely(own, value_at_risk, shortfall, LEVEL)
    years = days[good].astype("datetime64[Y]").astype(np.int64) + 1970
    table = {
        "level": LEVEL, "sessions": n, **_coverage(own, said[OWN]),
        "kupiec": kupiec(own <= value_at_risk, LEVEL).pvalue, "independence": independence.pvalue,
        "clustering": independence.effect,
        "z2": {"z": z2.statistic, "pvalue": z2.pvalue, "critical": z2.critical},
        "methods": [_method(name, own, said[name], losses) for name in said],
        "against": TITLES[against],
        "years": [
            {"year": int(year), "sessions": int((at := years == year).sum()), **_coverage(own[at], said[OWN][at])}
            for year in np.unique(years)
        ],
    }  # fmt: skip
    return answer, {**table, "sentence": _in_words(table, runs_told=independence.enough)}


def _coverage(earned: FloatArray, tail: FloatArray) -> dict[str, Any]:
    """How many sessions lay beyond, the exact binomial's p-value, Basel's zone, and mean loss over shortfall there."""
    beyond = earned <= tail[:, 0]
    found = binomial_coverage(beyond, LEVEL)
    return {
        "beyond": found.beyond, "expected": LEVEL * len(earned), "pvalue": found.pvalue,
        "zone": basel_zone(found.beyond, len(earned), LEVEL), "exceedance": shortfall_exceedance(earned, *tail.T),
    }  # fmt: skip


def _method(name: str, earned: FloatArray, tail: FloatArray, losses: Mapping[str, FloatArray]) -> dict[str, Any]:
    """One method's mean loss and coverage, and by how much that of `OWN` is smaller, with its 90 % interval."""
    test = significance.fixed_b_mean(losses[name] - losses[OWN])
    gain = {"gain": 0.0, "low": 0.0, "high": 0.0} if name == OWN else {
        "gain": test.effect, "low": test.low, "high": test.high
    }  # fmt: skip
    return {
        "method": name, "title": TITLES.get(name, name), "loss": float(losses[name].mean()),
        **_coverage(earned, tail), **gain,
    }  # fmt: skip


def _in_words(table: dict[str, Any], *, runs_told: bool) -> str:
    """`runs_told`: whether enough sessions lay beyond to tell whether they come in runs."""
    z2, methods, most = table["z2"], {row["method"]: row for row in table["methods"]}, table["beyond"]
    luck = (
        "luck may be all of the difference" if table["pvalue"] >= SURE
        else f"{'more' if most > table['expected'] else 'fewer'} than luck would make"
    )  # fmt: skip
    runs, mean = "", ""
    if most:
        p = f"(p {table['independence']:.2g})"
        runs = (
            " They are too few to tell whether they come in runs." if not runs_told
            else f" Nothing shows that they come in runs {p}." if not table["independence"] < SURE
            else f" They come in runs {p}." if table["clustering"] > 0
            else f" They follow each other less often than luck would make {p}."
        )  # fmt: skip
        mean = f" There the mean loss was {table['exceedance']:.2f} times the expected shortfall;"
    larger = "larger than said" if z2["z"] < z2["critical"] else "not shown to be larger than said"
    said = (
        f"The returns of {most:,} of {table['sessions']:,} sessions lay beyond the value at risk at "
        f"{100 * (1 - LEVEL):g} %, {table['expected']:.0f} were expected: {luck} (exact binomial p "
        f"{table['pvalue']:.2g}; {table['zone']} by the traffic light of the Basel committee).{runs}{mean} "
        f"{'number' if most else 'Number'} and size together, losses are {larger}: Z2 of Acerbi and Szekely, 0 where "
        f"both are right, is {z2['z']:+.2f}, and would be below {z2['critical']:.2f} by luck in 5 of 100 cases (p "
        f"{z2['pvalue']:.2g})."
    )
    plain = min((methods[name] for name in RIVALS if name in methods), key=lambda row: row["loss"], default=None)
    if plain:
        said += (
            f" Of the plain methods {plain['title']} loses least; over it the gain in FZ0 is {plain['gain']:+.3f} (90 "
            f"% interval {plain['low']:+.3f} to {plain['high']:+.3f})."
        )
    if simple := methods.get("filtered_rival"):
        alike = ": the two cannot be told apart" if simple["low"] <= 0 <= simple["high"] else ""
        said += (
            f" Over the same method with the best simple forecast the gain is {simple['gain']:+.3f} (90 % "
            f"interval {simple['low']:+.3f} to {simple['high']:+.3f}){alike}."
        )
    return said
