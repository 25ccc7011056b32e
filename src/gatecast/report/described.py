"""What each figure shows, in a sentence, for readers who hear the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gatecast.evaluation.search_worth import setting_named
from gatecast.report.figures import Data
from gatecast.report.words import decimals, is_number, named, percent


def described(figures: Data) -> dict[str, str]:
    """Name of a figure -> what it shows, of those that have data; in: the `figures` of the report.

    >>> rolling = {"day": ["2020-01-02", "2020-01-03"], "own": [0.5, -0.25], "beside": None}
    >>> print(described({"rolling_book": rolling})["rolling_book"])
    2020-01-02 to 2020-01-03, between −0.25 and 0.50, −0.25 at the end.
    """
    return {name: tell(figures[name]) for name, tell in TOLD.items() if figures.get(name)}


def _last(values: Sequence[Any] | None) -> Any:
    """The last of the numbers, None without any."""
    return next((value for value in reversed(values or []) if is_number(value)), None)


def _numbers(values: Sequence[Any]) -> list[float]:
    return [value for value in values if is_number(value)] or [0.0]


def _wealth(data: Data) -> str:
    days = data["time"]
    deepest = min(_numbers(data["drawdown"]))
    return (
        f"{days[0]} to {days[-1]}, net of costs from 1 to {decimals(_last(data['net']))}, the benchmark to "
        f"{decimals(_last(data['benchmark']))}; the deepest drawdown {percent(deepest)}, costs "
        f"{percent(_last(data['costs']))}."
    )


def _book(data: Data) -> str:
    ends = ", ".join(f"{one['title']} {decimals(_last(one['equity']))}" for one in reversed(data["series"]))
    return f"{data['day'][0]} to {data['day'][-1]}, from 1 to: {ends}."


def _control(data: Data) -> str:
    return (
        f"net of costs from 1 to {decimals(_last(data['net']))}, the benchmark to {decimals(_last(data['benchmark']))}."
    )


def _binned(said: Callable[[Any], str]) -> Callable[[Data], str]:
    def tell(data: Data) -> str:
        return " ".join(
            f"{one['title']}: lowest forecasts {said(one['forecast'][0])}, outcome {said(one['actual'][0])}; highest "
            f"{said(one['forecast'][-1])}, outcome {said(one['actual'][-1])}."
            for one in data["series"] if one["forecast"]
        )  # fmt: skip

    return tell


def _volatility(data: Data) -> str:
    ends = ", ".join(f"{one['title']} {percent(_last(one['volatility']))}" for one in data["series"])
    return f"{data['time'][0]} to {data['time'][-1]}; at the end: realised {percent(_last(data['realised']))}, {ends}."


def _coverage(data: Data) -> str:
    return " ".join(
        f"{percent(one['level'], 0)} intervals: from {percent(min(_numbers(one['coverage'])))} to "
        f"{percent(max(_numbers(one['coverage'])))} of the outcomes of a year."
        for one in data["series"]
    )


def _strategies(data: Data) -> str:
    shares = {data["titles"].get(one["strategy"], named(one["strategy"])): one["share"][-1] for one in data["series"]}
    most = sorted(shares.items(), key=lambda item: -item[1])[:3]
    return f"in {data['year'][-1]}: {', '.join(f'{title} {percent(share, 0)}' for title, share in most)}."


def _bunching(data: Data) -> str:
    shares = _numbers(data["share"])
    return f"from {percent(min(shares))} to {percent(max(shares))} of the bars, {percent(shares[0])} at the first."


def _shares(what: str, share: str, word: Callable[[str], str]) -> Callable[[Data], str]:
    def tell(data: Data) -> str:
        return " ".join(
            f"{named(one['asset_class'])}: {', '.join(f'{word(name)} {percent(value)}' for name, value in most)}."
            for one in data["series"]
            if (most := sorted(zip(one[what], one[share], strict=True), key=lambda item: -(item[1] or 0.0))[:3])
        )

    return tell


def _rolling(data: Data) -> str:
    own = _numbers(data["own"] or [])
    low, high, end = map(decimals, (min(own), max(own), own[-1]))
    return f"{data['day'][0]} to {data['day'][-1]}, between {low} and {high}, {end} at the end."


def _years(data: Data) -> str:
    known = [(value, year) for value, year in zip(data["own"], data["year"], strict=True) if is_number(value)]
    if not known:
        return ""
    best, worst = max(known), min(known)
    return f"the best year {best[1]} with {percent(best[0])}, the worst {worst[1]} with {percent(worst[0])}."


TOLD: dict[str, Callable[[Data], str]] = {
    "control": _control,
    "returns": _binned(decimals),
    "reliability": _binned(percent),
    "volatility": _volatility,
    "coverage": _coverage,
    "book": _book,
    "wealth": _wealth,
    "rolling_book": _rolling,
    "rolling_strategies": _rolling,
    "years_book": _years,
    "years_strategies": _years,
    "strategies": _strategies,
    "bunching": _bunching,
    "selection": _shares("feature", "mean", named),
    "tuning": _shares("setting", "share", setting_named),
}
"""Figure -> what is said of it."""
