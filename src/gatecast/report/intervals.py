"""Coverage and width of the intervals: rows of `scores.coverage_of` -> sentences and a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gatecast.report.figures import Data
from gatecast.report.words import percent

Row = Mapping[str, Any]

MIN_DAYS_OF_YEAR = 60  # of a year, before its coverage means anything
FAR = 0.05  # from the level, in a year or regime: named


def intervals(rows: Iterable[Row]) -> Data | None:
    """`says`: a sentence a level of the last step; `rows`: the table without years; `levels`: those drawn."""
    every = [row for row in rows if row["days"] >= MIN_DAYS_OF_YEAR or row["scope"] != "year"]
    if not every:
        return None
    last = max(row["step"] for row in every)
    levels = sorted({row["level"] for row in every})
    return {
        "says": [sentence([row for row in every if row["step"] == last and row["level"] == level]) for level in levels],
        "rows": [row for row in every if row["scope"] != "year"],
        "horizon": last,
        "levels": " and ".join(f"{100 * level:g}" for level in dict.fromkeys((levels[0], levels[-1]))) + " %",
    }


def sentence(rows: Iterable[Row]) -> str:
    """The coverage of the intervals of one level: overall, in the worst year, in each regime.

    >>> def row(scope, part, coverage):
    ...     return {"scope": scope, "part": part, "level": 0.8, "coverage": coverage, "forecasts": 4300, "days": 250}
    >>> sentence([row("overall", "all", 0.796), row("year", "2008", 0.761), row("year", "2009", 0.81),
    ...           row("regime", "calm", 0.79), row("regime", "turbulent", 0.81)])
    'The 80 % intervals contain 79.6 % of 4,300 outcomes; worst year 2008 with 76.1 %; calm 79.0 %, turbulent 81.0 %.'
    >>> sentence([row("overall", "all", 0.77), row("year", "2008", 0.70)])
    'The 80 % intervals contain 77.0 % of 4,300 outcomes; worst year 2008 with 70.0 %. More than 5 points off: 2008.'
    """
    every = list(rows)
    level = every[0]["level"]
    whole = next(row for row in every if row["scope"] == "overall")
    years = [row for row in every if row["scope"] == "year"]
    text = (
        f"The {percent(level, 0)} intervals contain {percent(whole['coverage'], 1)} of {whole['forecasts']:,} outcomes"
    )
    if years:
        worst = max(years, key=lambda row: abs(row["coverage"] - level))
        text += f"; worst year {worst['part']} with {percent(worst['coverage'], 1)}"
    regimes = [f"{row['part']} {percent(row['coverage'], 1)}" for row in every if row["scope"] == "regime"]
    text += f"; {', '.join(regimes)}." if regimes else "."
    off = [row["part"] for row in every if row["scope"] != "overall" and abs(row["coverage"] - level) > FAR]
    return f"{text} More than 5 points off: {', '.join(off)}." if off else text
