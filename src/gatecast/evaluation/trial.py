"""A trial: a pair of data and configuration. Which trials are one, and which of them were on the same market.

The same settings again on the same data, with newer bars, on a window that slid on or under another name are no new
trial; other values in a column of the user's are. Which trials count together is decided by the returns of their
symbols, see `Market`, and by their names where returns are not known.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gatecast.market.bars import session_date

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.samples.windows import Samples

    FloatArray = NDArray[np.float64]
    BoolArray = NDArray[np.bool_]

SLACK = timedelta(days=7)  # by which the first session of a sliding window may move on more than the last one
SAME_MARKET = 0.99  # correlation of daily returns above which two symbols are one market, whatever their names
OTHER_MARKET = 0.5  # and below which two symbols of one name are two
COMMON_SESSIONS = 250  # that it takes to tell
MOST_SYMBOLS = 256  # of a run whose returns are kept: those with the longest history
SAME_COLUMNS = 0.5  # share of the weeks of two data sets in which the user's columns must agree: the rest is corrected
DIGITS = 4  # hexadecimal, of a week's fingerprint
NO_WEEK = "-" * DIGITS
MARKET_DIGITS = 32  # hexadecimal, of the name of a market's file


@dataclass(frozen=True)
class Trial:
    """One configuration on one data set: symbols, first and last session (ISO), hash of the settings, daily Sharpe.

    `profit` has `session` (Date) and `net` (Float32), the net profit of each day as a fraction; None where it is not
    known: a trial of an older version, or one that never saw what it is judged on. `nested`: a candidate of a search
    inside a training slice, which saw no row that is judged: it counts where tries are counted, and was not chosen by
    its luck on what is tested. `data`: what entered; None in a trial of an older version. `profit_sha256`: of the file
    of the profit, as the trial's line has it; empty in a trial of an older version.
    """

    symbols: tuple[str, ...]
    first: str
    last: str
    settings_hash: str
    sharpe: float | None
    profit: pl.DataFrame | None = field(default=None, compare=False, repr=False)
    nested: bool = False
    data: Data | None = None
    profit_sha256: str = field(default="", compare=False, repr=False)

    @property
    def start(self) -> tuple[tuple[str, ...], str, str, str]:
        """What stays as bars are added: symbols, first session, settings and the first weeks of the user's columns."""
        return self.symbols, self.first, self.settings_hash, self.data.begins if self.data else ""

    def shares(self, other: Trial) -> bool:
        """Whether both have a market and a day in common."""
        return self.first <= other.last and other.first <= self.last and same_market(self, other)

    def goes_on(self, earlier: Trial) -> bool:
        """Whether this is the earlier trial with newer bars: its first day moved on no further than its last.

        >>> from dataclasses import replace
        >>> one = Trial(("SP500",), "2001-01-02", "2018-12-31", "a1", 0.02)
        >>> replace(one, last="2019-01-31").goes_on(one), replace(one, first="2005-01-03").goes_on(one)
        (True, False)
        """
        same = self.settings_hash == earlier.settings_hash and same_data(self, earlier)
        if self.first == earlier.first or not same:
            return same
        moved, grown = (
            date.fromisoformat(late) - date.fromisoformat(early)
            for late, early in ((self.first, earlier.first), (self.last, earlier.last))
        )
        return timedelta(0) < moved <= grown + SLACK and grown > timedelta(0)


@dataclass(frozen=True)
class Data:
    """What entered a trial: its exact hash, and what tells newer bars of the same data from other data.

    `exact`: SHA-256 of the bars, versions and the user's own columns included. `weeks`: fingerprint of the user's own
    columns and features, `DIGITS` hexadecimal digits a calendar week from `monday` (ISO) on, of all symbols together
    and without their names; empty where there are none. `market`: the daily returns, on file under `market_key`; None
    where they are not known. `market_sha256`: of that file when the trial's line was written; empty in an older one.
    """

    exact: str
    monday: str = ""
    weeks: str = ""
    market_key: str = ""
    market: Market | None = field(default=None, compare=False, repr=False)
    market_sha256: str = field(default="", compare=False, repr=False)

    @property
    def begins(self) -> str:
        """The first half year of `weeks` but for the first week, which may be cut."""
        return self.weeks[DIGITS : 27 * DIGITS]

    @cached_property
    def codes(self) -> NDArray[np.int64]:
        """(weeks,) the fingerprints as numbers; -1 where there is none, and in the first and the last, maybe cut."""
        parts = [self.weeks[at : at + DIGITS] for at in range(0, len(self.weeks), DIGITS)]
        codes = np.array([-1 if part == NO_WEEK else int(part, 16) for part in parts], np.int64)
        codes[[0, -1] if len(codes) else []] = -1
        return codes

    def columns_agree(self, other: Data) -> bool:
        """Whether the user's columns are the same but for corrections, over the weeks that both cover."""
        if self.exact == other.exact or not (self.weeks or other.weeks):
            return True
        if not (self.weeks and other.weeks):
            return False
        first, second = (week_of(date.fromisoformat(one.monday)) for one in (self, other))
        begin = max(first, second)
        common = max(min(first + len(self.codes), second + len(other.codes)) - begin, 0)
        own, others = self.codes[begin - first :][:common], other.codes[begin - second :][:common]
        both = int(np.count_nonzero((own >= 0) & (others >= 0)))
        return both > 0 and int(np.count_nonzero((own == others) & (own >= 0))) >= SAME_COLUMNS * both


def week_of(day: date) -> int:
    """The number of a day's week, Monday to Sunday.

    >>> week_of(date(2024, 1, 7)), week_of(date(2024, 1, 8))
    (105555, 105556)
    """
    return (day.toordinal() - 1) // 7


@dataclass(frozen=True, eq=False)
class Market:
    """Daily close-to-close log returns of symbols: a frame symbol, session (Date), log_return (Float32), sorted.

    `names`: its symbols. Two symbols are one market where their returns correlate above .99 on 250 common sessions or
    more (or below -.99: a currency pair the other way round), whatever their names; of one name, above .5.
    """

    returns: pl.DataFrame

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The symbols, in order."""
        return tuple(self.returns["symbol"].unique(maintain_order=True).to_list())

    @cached_property
    def key(self) -> str:
        """Name of its file: of the first 250 returns of each symbol, so that newer bars replace the older."""
        first = self.returns.group_by("symbol", maintain_order=True).head(COMMON_SESSIONS)
        digest = hashlib.sha256("\x00".join(first["symbol"].to_list()).encode())
        digest.update(first["session"].to_physical().to_numpy().tobytes())
        digest.update(first["log_return"].round(4).to_numpy().astype("<f4").tobytes())
        return digest.hexdigest()[:MARKET_DIGITS]

    def links(self, other: Market) -> FloatArray:
        """(own symbols, other's symbols) absolute correlation of returns; NaN below 250 common sessions."""
        return _links(self, other)

    def apart(self, other: Market) -> set[str]:
        """The names under which the two have different instruments."""
        place = {name: number for number, name in enumerate(other.names)}
        linked = self.links(other)
        return {
            name for number, name in enumerate(self.names)
            if name in place and linked[number, place[name]] <= OTHER_MARKET
        }  # fmt: skip

    def _table(self, days: NDArray[np.datetime64]) -> FloatArray:
        """(symbols, days) returns, NaN where there is none."""
        table = np.full((len(self.names), len(days)), np.nan)
        number = {name: i for i, name in enumerate(self.names)}
        rows = self.returns["symbol"].replace_strict(number, return_dtype=pl.Int64).to_numpy()
        session = self.returns["session"].to_numpy()
        at = np.minimum(np.searchsorted(days, session), max(len(days) - 1, 0))
        inside = days[at] == session if len(days) else np.zeros(len(session), bool)
        table[rows[inside], at[inside]] = self.returns["log_return"].to_numpy()[inside]
        return table


@lru_cache(maxsize=128)
def _links(first: Market, second: Market) -> FloatArray:
    days = np.intersect1d(first.returns["session"].to_numpy(), second.returns["session"].to_numpy())
    own, others = first._table(days), second._table(days)
    x, y = np.isfinite(own).astype(float), np.isfinite(others).astype(float)  # days that are known
    a, b = np.nan_to_num(own), np.nan_to_num(others)
    count = np.maximum(x @ y.T, 1.0)
    mean_a, mean_b = a @ y.T / count, x @ b.T / count
    variance_a, variance_b = a**2 @ y.T / count - mean_a**2, x @ (b**2).T / count - mean_b**2
    known = (count >= COMMON_SESSIONS) & (variance_a > 1e-20) & (variance_b > 1e-20)
    scale = np.sqrt(np.where(known, variance_a * variance_b, 1.0))
    return np.where(known, np.abs(a @ b.T / count - mean_a * mean_b) / scale, np.nan)


def market_of(bars: pl.DataFrame) -> Market:
    """Bars -> their daily returns, of the symbols with the longest history where there are more than 256.

    >>> from gatecast.market import synthetic
    >>> market = market_of(synthetic.a1(300, seed=1))
    >>> renamed = market_of(synthetic.a1(400, seed=1).with_columns(symbol=pl.lit("Y")))
    >>> market.links(renamed).round(3).tolist()
    [[1.0]]
    """
    daily = bars.select("symbol", "close", session=session_date(pl.col("time"))).group_by("symbol", "session").last()
    daily = daily.sort("symbol", "session").with_columns(
        log_return=(pl.col("close") / pl.col("close").shift().over("symbol")).log().cast(pl.Float32)
    )
    longest = daily.group_by("symbol").len().sort(["len", "symbol"], descending=[True, False]).head(MOST_SYMBOLS)
    kept = daily.filter(pl.col("symbol").is_in(longest["symbol"].implode()), pl.col("log_return").is_finite())
    return Market(kept.select("symbol", "session", "log_return"))


def market_of_answers(samples: Iterable[Samples]) -> Market:
    """The daily returns of samples' symbols, as `market_of` has them of bars: out of the returns over the next bar."""
    parts = []
    for one in samples:
        same = np.flatnonzero(one.symbol[1:] == one.symbol[:-1])
        step = one.targets["return"].value[same, 0]
        session = session_date(one.time[same + 1]).astype("datetime64[D]")
        names = np.array(one.symbols)[one.symbol[same + 1]]
        parts.append(pl.DataFrame({"symbol": names.tolist(), "session": session, "log_return": step}))
    whole = pl.concat(parts).filter(pl.col("log_return").is_finite())
    daily = whole.group_by("symbol", "session").agg(pl.col("log_return").sum().cast(pl.Float32))
    longest = daily.group_by("symbol").len().sort(["len", "symbol"], descending=[True, False]).head(MOST_SYMBOLS)
    return Market(daily.filter(pl.col("symbol").is_in(longest["symbol"].implode())).sort("symbol", "session"))


def same_market(one: Trial, other: Trial) -> bool:
    """Whether two trials have a symbol in common: by returns, and by name where returns do not say otherwise."""
    names = set(one.symbols) & set(other.symbols)
    first, second = _market(one), _market(other)
    if first is None or second is None:
        return bool(names)
    return bool((first.links(second) > SAME_MARKET).any()) or bool(names - first.apart(second))


def same_data(one: Trial, other: Trial) -> bool:
    """Whether two trials saw the same symbols, by returns or by name, and the same columns, but for newer bars."""
    if one.data and other.data and not one.data.columns_agree(other.data):
        return False
    first, second = _market(one), _market(other)
    if first is None or second is None:
        return one.symbols == other.symbols
    if one.symbols == other.symbols:
        return not first.apart(second)
    same = first.links(second) > SAME_MARKET
    return len(one.symbols) == len(other.symbols) == len(same) and bool(same.any(0).all() and same.any(1).all())


def _market(trial: Trial) -> Market | None:
    return trial.data.market if trial.data else None


def overlaps(
    symbols: Iterable[str], first: str, last: str, other_symbols: Iterable[str], other_first: str, other_last: str
) -> bool:
    """Whether two sets of instruments have a symbol, and their spans (ISO dates, both ends included) a day in common.

    >>> overlaps(["SP500"], "2001-01-02", "2010-12-31", ["SP500", "NASDAQ"], "2010-12-31", "2012-12-31")
    True
    """
    return not set(symbols).isdisjoint(other_symbols) and first <= other_last and other_first <= last


def configurations(trials: Sequence[Trial]) -> list[Trial]:
    """Each pair of configuration and data once, at its newest, however often its data grew or slid on."""
    found: dict[str, list[Trial]] = {}
    places: dict[Any, list[int]] = {}  # settings, week and fingerprint -> where trials with it are in `found`
    for trial in sorted(trials, key=lambda one: one.last):
        same = found.setdefault(trial.settings_hash, [])
        keys = [(trial.settings_hash, *week) for week in _weeks(trial)]
        likely = {at for key in keys for at in places.get(key, ())} | set(places.get((trial.settings_hash, -1, -1), ()))
        among = sorted(likely) if _weeks(trial)[0] != (-1, -1) else range(len(same))
        before = next((at for at in among if trial.goes_on(same[at])), len(same))
        same[before:] = [trial, *same[before + 1 :]]
        for key in keys:
            if before not in (known := places.setdefault(key, [])):
                known.append(before)
    return [trial for same in found.values() for trial in same]


def _weeks(trial: Trial) -> list[tuple[int, int]]:
    """Number and fingerprint of each week of the user's columns; (-1, -1) alone where there is none."""
    if trial.data is None or not (trial.data.codes >= 0).any():
        return [(-1, -1)]
    first = week_of(date.fromisoformat(trial.data.monday))
    return [(first + at, code) for at, code in enumerate(trial.data.codes.tolist()) if code >= 0]
