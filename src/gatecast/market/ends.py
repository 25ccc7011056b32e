"""When a symbol has ended, as far as is known at each time, and what its holder is taken to have had.

A symbol ends on known terms (a row of the table of actions) or, where nobody says, after 60 sessions of its
class without a bar. Every end is booked at the time at which it is known; later bars never change an earlier end.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta

import numpy as np
import polars as pl

from gatecast.errors import BarsError
from gatecast.market.actions import SCHEMA, cleared_by, length_of, sessions_between
from gatecast.market.bars import UTC_TIME, session_date
from gatecast.market.calendar import LONGEST_HALT, usual_spacing
from gatecast.market.classes import ASSET_CLASSES, asset_class

ENDS: dict[str, type[pl.DataType] | pl.DataType] = {
    "symbol": pl.String,
    "time": UTC_TIME,
    "kind": pl.String,
    "value": pl.Float64,
}
VENDOR_SYMBOLS, VENDOR_SHARE = 3, 0.2  # so many symbols, and of the class, that stop together stop with their vendor


def find_ends(bars: pl.DataFrame, actions: pl.DataFrame | None = None) -> pl.DataFrame:
    """The ends of symbols: a frame symbol, time (of booking), kind, value (simple return on the last close).

    Parameters
    ----------
    bars: the Bars. actions: see `market.actions`; rows of other kinds, or of symbols that the bars lack, are left out.

    Kinds
    -----
    known: by a row of `actions`, booked once it is known and not before its date.
    default: without a bar for 60 sessions in which at least half of the class's symbols traded (or by a row of
        `actions` without a value): the class's `end_return`.
    vendor: three or more symbols, and at least a fifth of the class, have had no bar for 60 sessions since the same
        session: the source ended, the symbols did not. Their value is 0.

    An end is booked at the first close at or after it is known. A symbol that shows a bar later has returned; one that
    does so within five weekdays of known terms clears its last trades, and a silence that begins within 60 sessions of
    known terms is their end, which is booked once. In bars
    of weeks or months a session is a weekday.

    Raises `BarsError` for a table without the columns of `market.actions.SCHEMA`, and for a return outside -1 to 1.

    >>> from gatecast.market import synthetic
    >>> bars = synthetic.a1(300, seed=1, symbols=3)
    >>> first = bars["symbol"][0]
    >>> stopped = bars.filter((pl.col("symbol") != first) | (pl.int_range(pl.len()).over("symbol") < 100))
    >>> find_ends(stopped).select("symbol", "kind", "value").rows() == [(first, "default", 0.0)]
    True
    """
    told = _delistings(bars, actions)
    silences = _silences(bars)
    if len(silences) == 0 and not told:
        return pl.DataFrame(schema=ENDS)
    days = bars.group_by(session_date(pl.col("time")).alias("day")).agg(pl.col("time").min()).sort("day")
    found: list[tuple[str, datetime, str, float]] = []
    for name in bars["asset_class"].unique().sort().to_list():
        own = bars.filter(pl.col("asset_class") == name)
        symbols = set(own["symbol"].unique())
        terms = sorted((row for row in told if row.symbol in symbols), key=lambda row: (row.time, row.symbol))
        gaps = silences.filter(pl.col("symbol").is_in(list(symbols)))
        if len(gaps) or terms:
            found += _ends_of_class(name, own, days, gaps, terms)
    return pl.DataFrame(found, schema=ENDS, orient="row").sort("symbol", "time", maintain_order=True)


@dataclass(frozen=True)
class _Terms:
    """A delisting: its date, when it is booked, its return (None: unknown), and the session of the symbol's return.

    Bars of the first five weekdays after the date clear its last trades: they are no return.
    """

    symbol: str
    day: date
    time: datetime
    value: float | None
    back: date | None


@dataclass
class _Silence:
    """A symbol without bars: `before` is the session of its last, `back` that of its next, None for none.

    `traded`, `passed`: the class's counts of sessions at `before`, -1 until they are known. `tested`: whether its end
    was compared with those of other symbols.
    """

    symbol: str
    before: date
    back: date | None
    traded: int = -1
    passed: int = -1
    tested: bool = False

    def covers(self, session: date) -> bool:
        """Whether the symbol has no bar in the session because of this silence."""
        return self.before < session and (self.back is None or self.back > session)


def _delistings(bars: pl.DataFrame, actions: pl.DataFrame | None) -> list[_Terms]:
    """The delistings of symbols that have a bar before."""
    if actions is None or len(actions) == 0:
        return []
    missing = [name for name in SCHEMA if name not in actions.columns]
    if missing:
        raise BarsError(f"actions need the columns {', '.join(SCHEMA)}; missing: {', '.join(missing)}.")
    rows = actions.select(pl.col(name).cast(kind) for name, kind in SCHEMA.items())
    rows = rows.filter((pl.col("kind") == "delisting") & pl.col("symbol").is_in(bars["symbol"].unique().implode()))
    wrong = rows.filter(~pl.col("value").is_between(-1, 1) | pl.col("value").is_nan())
    if len(wrong):
        row = wrong.row(0, named=True)
        raise BarsError(
            f"a last return is a fraction, such as -0.3, from -1 to 1, got {row['value']:g} for {row['symbol']!r} on"
            f" {row['date']}."
        )
    moments = bars["time"].unique().sort()
    found = []
    for row in rows.sort("symbol", "known_at", "date").iter_rows(named=True):
        own = bars.filter(pl.col("symbol") == row["symbol"])
        close = pl.select(asset_class(own["asset_class"][0]).close_of(pl.lit(row["date"]))).item()
        known = close if row["known_at"] is None else max(close, row["known_at"])
        place = int(moments.search_sorted(known, side="left"))
        time = moments[place] if place < len(moments) else known
        if own["time"][0] <= time and _session(own["time"][0]) <= cleared_by(row["date"], length_of(own)):
            cleared = cleared_by(row["date"], length_of(own))
            later = own.filter(pl.col("time") > time, session_date(pl.col("time")) > cleared)["time"]
            back = _session(later[0]) if len(later) else None
            found.append(_Terms(row["symbol"], row["date"], time, row["value"], back))
    return found


def _session(time: datetime) -> date:
    return (time - timedelta(microseconds=1)).date()


def _silences(bars: pl.DataFrame) -> pl.DataFrame:
    """symbol, time (of the last bar before), back (time of the next bar, null for none): where an end may be."""
    rows = bars.select("symbol", "time", back=pl.col("time").shift(-1).over("symbol"))
    length = pl.col("back").fill_null(bars["time"].max()) - pl.col("time")
    return rows.filter(length > timedelta(days=LONGEST_HALT - 1))


def _ends_of_class(
    name: str, own: pl.DataFrame, days: pl.DataFrame, gaps: pl.DataFrame, terms: list[_Terms]
) -> list[tuple[str, datetime, str, float]]:
    """The ends of one class, session by session, each in what was known then.

    `days`: day, time, the first close of every session of all classes. `gaps`: see `_silences`. `terms`: by time.
    """
    known_class = ASSET_CLASSES[name]
    every_day = known_class.periods_per_year == 365
    coarse = (usual_spacing(own) or timedelta()) > timedelta(days=4)
    first = own.group_by("symbol", session_date(pl.col("time")).alias("day")).agg(pl.col("time").min())
    begun = np.sort(first.group_by("symbol").agg(pl.col("day").min())["day"].to_numpy())
    closes: dict[date, list[tuple[datetime, int]]] = {}  # session -> how many symbols show their first bar, and when
    for session, time, count in first.group_by("day", "time").len().sort("day", "time").iter_rows():
        closes.setdefault(session, []).append((time, count))
    if not every_day:
        days = days.filter((pl.col("day").dt.weekday() <= 5) | pl.col("day").is_in(list(closes)))
    dates = gaps.select("symbol", session_date(pl.col("time")), session_date(pl.col("back"))).sort("time", "symbol")
    waiting = [_Silence(*row) for row in dates.iter_rows()]
    found: list[tuple[str, datetime, str, float]] = []
    gone: dict[str, date | None] = {}  # symbols that have ended -> the session on which they return
    traded = passed = booked = 0  # sessions so far, those in which half of the class traded and all; terms so far
    before = before_own = None

    def end(symbol: str, time: datetime, kind: str, value: float, back: date | None) -> None:
        found.append((symbol, time, kind, value))
        gone[symbol] = back

    def end_on_terms(row: _Terms) -> None:
        kind, value = ("default", known_class.end_return) if row.value is None else ("known", row.value)
        end(row.symbol, row.time, kind, value, row.back)

    for session, opening in days.iter_rows():
        gone = {symbol: back for symbol, back in gone.items() if back is None or back > session}
        while booked < len(terms) and _session(terms[booked].time) <= session:
            end_on_terms(terms[booked])
            booked += 1
        active = [
            one for one in waiting
            if one.covers(session) and one.symbol not in gone and not any(
                row.symbol == one.symbol and row.day <= one.before
                and sessions_between(row.day, one.before, every_day) <= LONGEST_HALT
                for row in terms[:booked]
            )
        ]  # fmt: skip
        for one in active:
            if one.passed < 0:
                one.traded, one.passed = traded, passed
        alive = int(np.searchsorted(begun, np.datetime64(session), side="right")) - len(gone)
        passed += _sessions(before, session, coarse, every_day)
        total, half = 0, None
        for time, count in closes.get(session, ()):
            total += count
            if half is None and 2 * total >= alive:
                half = time
                traded += _sessions(before_own, session, coarse, every_day)
        before, before_own = session, session if session in closes else before_own
        for one in active:
            if passed - one.passed >= LONGEST_HALT and not one.tested:
                one.tested = True
                together = sum(other.before == one.before for other in active)
                if together >= max(VENDOR_SYMBOLS, VENDOR_SHARE * alive):
                    end(one.symbol, opening, "vendor", 0.0, one.back)
        for one in active:
            if half is not None and one.symbol not in gone and traded - one.traded >= LONGEST_HALT:
                end(one.symbol, half, "default", known_class.end_return, one.back)
        waiting = [one for one in waiting if one.back is None or one.back > session]
    for row in terms[booked:]:  # after the last session
        end_on_terms(row)
    return found


def _sessions(before: date | None, session: date, coarse: bool, every_day: bool) -> int:
    """Sessions that a row stands for: 1; of weeks and months, the weekdays (or days) since the row before."""
    if not coarse or before is None:
        return 1
    return (session - before).days if every_day else max(int(np.busday_count(before, session)), 1)
