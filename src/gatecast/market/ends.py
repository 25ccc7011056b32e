"""Ends of symbols: bars and actions -> when each end is known, and the return that is booked for it.

A symbol ends on known terms (a row of the table of actions) or, where nobody says, after 60 sessions of its
class without a bar; where the whole class is silent and has no calendar, after 60 sessions in which the other classes
trade. Every end is booked at the time at which it is known; later bars never change an earlier end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import NamedTuple, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gatecast.errors import BarsError
from gatecast.market.actions import SCHEMA, cleared_by, length_of, sessions_between
from gatecast.market.bars import UTC_TIME, Finding, session_date, session_of
from gatecast.market.calendar import LONGEST_HALT, fill_times, usual_spacing
from gatecast.market.classes import ASSET_CLASSES, asset_class

ENDS: dict[str, type[pl.DataType] | pl.DataType] = {
    "symbol": pl.String,
    "time": UTC_TIME,
    "kind": pl.String,
    "value": pl.Float64,
}
ENDS_AND_RETURNS: dict[str, type[pl.DataType] | pl.DataType] = {**ENDS, "back": pl.Date, "known_at": UTC_TIME}
VENDOR_SYMBOLS, VENDOR_SHARE = 3, 0.2  # so many symbols, and of the class, that stop together stop with their vendor


def find_ends(bars: pl.DataFrame, actions: pl.DataFrame | None = None) -> pl.DataFrame:
    """The ends of symbols: a frame symbol, time (of booking), kind, value (simple return on the last close).

    Parameters
    ----------
    bars: the Bars. actions: see `market.actions`; rows of other kinds, or of symbols that the bars lack, are left out.

    Kinds
    -----
    known: by a row of `actions`, booked once it is known and not before its date.
    default: without a bar for 60 sessions in which at least half of the class's symbols traded, or, while none of the
        class has one, for 60 sessions in which at least half of the symbols of other classes traded (or by a row of
        `actions` without a value): the class's `end_return`. Of the other classes those symbols count that had a bar in
        the 60 sessions before.
    vendor: three or more symbols, and at least a fifth of the class, have had no bar for 60 sessions since the same
        session: the source ended, the symbols did not. Their value is 0.

    An end is booked at the first close by whose fill it is known. A symbol that shows a bar later has returned,
    whatever its end was; a bar within five weekdays of known terms clears last trades, and a silence that begins within
    60 sessions of known terms is their end, which is booked once, unless the symbol returned before it. In bars of
    weeks or months a session is a weekday.

    Raises `BarsError` for a table without the columns of `market.actions.SCHEMA`, and for a return outside -1 to 1.

    >>> from gatecast.market import synthetic
    >>> bars = synthetic.a1(300, seed=1, symbols=3)
    >>> first = bars["symbol"][0]
    >>> stopped = bars.filter((pl.col("symbol") != first) | (pl.int_range(pl.len()).over("symbol") < 100))
    >>> find_ends(stopped).select("symbol", "kind", "value").rows() == [(first, "default", 0.0)]
    True
    """
    return find_ends_and_returns(bars, actions).select(list(ENDS))


def find_ends_and_returns(bars: pl.DataFrame, actions: pl.DataFrame | None = None) -> pl.DataFrame:
    """The ends of `find_ends`; `back`: the session of the symbol's return, null where it has not come; and `known_at`:
    the moment at which the end is known, where that is after the close of its date, else `time`.

    A bar that clears last trades after known terms is no return.
    """
    told = _delistings(bars, actions)
    silences = _silences(bars)
    if len(silences) == 0 and not told:
        return pl.DataFrame(schema=ENDS_AND_RETURNS)
    days, found = _days(bars), list[_End]()
    for name in bars["asset_class"].unique().sort().to_list():
        found += _class_walked(name, bars, days, silences, told)[0]
    return pl.DataFrame(found, schema=ENDS_AND_RETURNS, orient="row").sort("symbol", "time", maintain_order=True)


def has_ended(bars: pl.DataFrame, ends: pl.DataFrame) -> NDArray[np.bool_]:
    """(bars,) whether the symbol's end is known at each bar's close: an end at or before it, and no return since.

    `ends`: see `find_ends_and_returns`. Only a bar on the date of known terms, or one that clears last trades after
    it, has such a symbol.

    >>> from gatecast.market import synthetic
    >>> bars = synthetic.a1(30, seed=1)
    >>> from gatecast.market.actions import read_actions, with_known_at
    >>> told = {"symbol": [bars["symbol"][0]], "date": [bars["time"][-2].date()], "value": [-0.3]}
    >>> table = with_known_at(read_actions(pl.DataFrame(told), kind="delisting"), bars)
    >>> has_ended(bars, find_ends_and_returns(bars, table)).sum().item()
    2
    """
    if ends.is_empty():
        return np.zeros(len(bars), np.bool_)
    rows = bars.select("symbol", pl.col("time").cast(UTC_TIME)).with_row_index("row").sort("time", maintain_order=True)
    last = ends.select("symbol", "time", "back", ended=pl.lit(True)).sort("time", maintain_order=True)
    found = rows.join_asof(last, on="time", by="symbol", strategy="backward", check_sortedness=False).sort("row")
    gone = pl.col("ended").fill_null(False)
    still = (session_date(pl.col("time")) < pl.col("back")).fill_null(True)
    return found.select(gone & still).to_series().to_numpy()


def symbols_ended(bars: pl.DataFrame, ends: pl.DataFrame) -> dict[str, Ended]:
    """Symbol -> how it ended, of those that have ended and not returned by the last of `bars`.

    `ends`: see `find_ends_and_returns`.
    """
    last = bars.group_by("symbol").agg(last=pl.col("time").max(), asset_class=pl.col("asset_class").last())
    newest = ends.group_by("symbol", maintain_order=True).last()
    rows = newest.filter(pl.col("back").is_null()).join(last, on="symbol", how="left").sort("symbol")
    columns = ("symbol", "asset_class", "last", "time", "kind", "value")
    return {row[0]: Ended(*row) for row in rows.select(columns).iter_rows()}


class Silent(NamedTuple):
    """A symbol that stopped and whose end is not known: its class, its last bar, and the sessions since.

    `sessions`: of its class, of the other classes where all of its class is silent (`class_silent`). `counted`: those
    of them after 60 of which an end is booked, see `find_ends`.
    """

    asset_class: str
    last: datetime
    sessions: int
    counted: int
    class_silent: bool

    @property
    def sentence(self) -> str:
        """Since when it is silent, and what an end waits for."""
        value = asset_class(self.asset_class).end_return
        loss = f"{value:+.0%}" if value else "a return of 0"
        whose, who = ("the other classes", "them trade") if self.class_silent else ("its class", "the class trades")
        return (
            f"No bar since {session_of(self.last)}, {self.sessions} sessions of {whose}: no end is booked yet. It is, "
            f"with {loss}, after {LONGEST_HALT} sessions in which at least half of {who}: {self.counted} so far."
        )


def silent_symbols(
    bars: pl.DataFrame, ended: Mapping[str, Ended], actions: pl.DataFrame | None = None
) -> dict[str, Silent]:
    """The symbols that stopped and whose end is not known.

    They have stopped where the last bar is further back than a gap of the class may be. `actions`: see `find_ends`.
    """
    newest, found = cast(datetime, bars["time"].max()), dict[str, tuple[str, datetime]]()
    last = bars.group_by("symbol", "asset_class").agg(pl.col("time").max()).sort("symbol")
    for symbol, name, time in last.iter_rows():
        silence = newest - time
        if symbol in ended or silence <= asset_class(name).gap_limit:
            continue
        if silence > 5 * (usual_spacing(bars.filter(symbol=symbol)) or timedelta()):
            found[symbol] = name, time
    if not found:
        return {}
    silences, days, told = _silences(bars), _days(bars), _delistings(bars, actions)
    rows = [(symbol, time, None) for symbol, (_, time) in found.items()]
    silences = pl.concat([silences, pl.DataFrame(rows, schema=silences.schema, orient="row")]).unique()
    counted: dict[str, int] = {}
    for name in {name for name, _ in found.values()}:
        counted |= _class_walked(name, bars, days, silences, told, always=True)[1]
    return {symbol: _silent(bars, name, time, counted.get(symbol, 0)) for symbol, (name, time) in found.items()}


def _silent(bars: pl.DataFrame, name: str, time: datetime, counted: int) -> Silent:
    """A symbol of a class whose last bar is of a time."""
    own, others = bars.filter(asset_class=name), bars.filter(pl.col("asset_class") != name)
    every_day = asset_class(name).periods_per_year == 365
    coarse = (usual_spacing(own) or timedelta()) > timedelta(days=4)
    class_silent = session_of(own["time"].max()) <= session_of(time)  # type: ignore[arg-type]
    since = [day for day in _days(others if class_silent else own)["day"] if day > session_of(time)]
    if class_silent and not every_day:
        since = [day for day in since if day.weekday() < 5]
    stands = [_sessions(*pair, coarse, every_day) for pair in pairwise([session_of(time), *since])]
    return Silent(name, time, sum(stands), counted, class_silent)


def say_ends(bars: pl.DataFrame, ended: Mapping[str, Ended], actions: pl.DataFrame | None = None) -> list[Finding]:
    """Findings on symbols that stop before the others, one a symbol, none of known terms.

    `ended`: see `symbols_ended`; `actions`: see `find_ends`.

    >>> from gatecast.market import synthetic
    >>> bars = synthetic.a1(300, seed=1, symbols=2)
    >>> first = bars["symbol"][0]
    >>> stopped = bars.filter((pl.col("symbol") != first) | (pl.int_range(pl.len()) < 100))
    >>> [one.rule for one in say_ends(stopped, symbols_ended(stopped, find_ends_and_returns(stopped)))]
    ['ended']
    """
    found = [
        Finding("warning", one.symbol, one.last, "ended", one.value, f"{one.sentence} {one.table_wanted}")
        for one in ended.values() if one.kind != "known"
    ]  # fmt: skip
    for symbol, one in silent_symbols(bars, ended, actions).items():
        advice = f"{one.sentence} {table_wanted(symbol, session_of(one.last))}"
        found.append(Finding("warning", symbol, one.last, "silent", one.sessions, advice))
    return found


@dataclass(frozen=True)
class Ended:
    """The end of a symbol: its class, the close of its last bar, when the end was booked, its kind and return.

    `kind` is known, default or vendor, see `find_ends`; `value` the simple return on the last close.
    """

    symbol: str
    asset_class: str
    last: datetime
    time: datetime
    kind: str
    value: float

    @property
    def state(self) -> str:
        """How it ended, in a few words."""
        return {
            "known": "delisted",
            "default": f"ended, no bar for {LONGEST_HALT} sessions",
            "vendor": "ended with its source",
        }[self.kind]

    @property
    def table_wanted(self) -> str:
        """How to give its last return."""
        return table_wanted(self.symbol, session_of(self.last))

    @property
    def sentence(self) -> str:
        """How it ended and what is booked."""
        day = session_of(self.last)
        if self.kind == "known":
            return f"Delisted, its last bar is of {day}: a last return of {self.value:+.1%}, by a table of actions."
        if self.kind == "vendor":
            return f"It ends on {day} with others of its class: taken as the end of the source, sold at its last close."
        booked = f"a long holding is booked with {self.value:+.0%}" if self.value else "its last price is kept"
        return (
            f"It ends on {day}, before the others, and nothing says why: {booked}, the default of the class"
            f" {self.asset_class}, on {session_of(self.time)}."
        )


def table_wanted(symbol: str, day: date) -> str:
    """How to give the last return of a symbol whose last session is known.

    >>> table_wanted("A", date(2018, 3, 1)).partition("such as ")[2][:28]
    'A,delisting,2018-03-01,-0.3 '
    """
    return (
        f"Give its last return in a table of actions: symbol,kind,date,value with a row such as {symbol},delisting,"
        f"{day},-0.3 (--actions, or actions in the settings)."
    )


_End = tuple[str, datetime, str, float, date | None, datetime]
"""Symbol, time of booking, kind, return, session of the symbol's return, moment at which it is known."""


@dataclass(frozen=True)
class _Terms:
    """A delisting: its date, when it is booked, its return (None: unknown), the session of the symbol's return, and
    `known_at`, see `find_ends_and_returns`.

    Bars of the first five weekdays after the date clear its last trades: they are no return.
    """

    symbol: str
    day: date
    time: datetime
    value: float | None
    back: date | None
    known_at: datetime


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
    closes = bars.select("asset_class", "time", fill=fill_times(bars))
    closes = closes.group_by("asset_class", "time").agg(pl.col("fill").max())
    moments = bars["time"].unique().sort()
    fills = {
        name: moments.to_frame()
        .join(own, on="time", how="left", maintain_order="left")
        .select(pl.max_horizontal("time", "fill").cum_max())
        .to_series()
        for (name,), own in closes.group_by("asset_class")
    }
    found = []
    for row in rows.sort("symbol", "known_at", "date").iter_rows(named=True):
        own = bars.filter(pl.col("symbol") == row["symbol"])
        usual = pl.select(asset_class(own["asset_class"][0]).close_of(pl.lit(row["date"]))).item()
        of_date = cast(datetime | None, own.filter(session_date(pl.col("time")) == row["date"])["time"].max())
        close = of_date or usual
        known = close if row["known_at"] is None else max(close, row["known_at"])
        place = int(fills[own["asset_class"][0]].search_sorted(known, side="left"))
        time = moments[place] if place < len(moments) else known
        if own["time"][0] <= time and session_of(own["time"][0]) <= cleared_by(row["date"], length_of(own)):
            cleared = cleared_by(row["date"], length_of(own))
            later = own.filter(pl.col("time") > time, session_date(pl.col("time")) > cleared)["time"]
            back = session_of(later[0]) if len(later) else None
            found.append(_Terms(row["symbol"], row["date"], time, row["value"], back, known if known > close else time))
    return found


def _silences(bars: pl.DataFrame) -> pl.DataFrame:
    """symbol, time (of the last bar before), back (time of the next bar, null for none): where an end may be."""
    rows = bars.select("symbol", "time", back=pl.col("time").shift(-1).over("symbol"))
    length = pl.col("back").fill_null(bars["time"].max()) - pl.col("time")
    return rows.filter(length > timedelta(days=LONGEST_HALT - 1))


def _days(bars: pl.DataFrame) -> pl.DataFrame:
    """day, time: the first close of every session."""
    return bars.group_by(session_date(pl.col("time")).alias("day")).agg(pl.col("time").min()).sort("day")


def _class_walked(
    name: str, bars: pl.DataFrame, days: pl.DataFrame, silences: pl.DataFrame, told: list[_Terms], *,
    always: bool = False,
) -> tuple[list[_End], dict[str, int]]:  # fmt: skip
    """See `_ends_of_class`, of a class of the bars. `always`: other classes count also where no end can come of it."""
    own = bars.filter(pl.col("asset_class") == name)
    symbols = set(own["symbol"].unique())
    terms = sorted((row for row in told if row.symbol in symbols), key=lambda row: (row.time, row.symbol))
    gaps = silences.filter(pl.col("symbol").is_in(list(symbols)))
    if not len(gaps) and not terms:
        return [], {}
    others = bars.filter(pl.col("asset_class") != name) if always or _falls_silent(own, days) else own.clear()
    return _ends_of_class(name, own, days, gaps, terms, others)


def _falls_silent(own: pl.DataFrame, days: pl.DataFrame) -> bool:
    """Whether a class is ever without any bar for so long that 60 sessions of others may lie between."""
    sessions = pl.concat([own.select(session_date(pl.col("time")).alias("day")).unique(), days.select("day").tail(1)])
    longest = cast(timedelta | None, sessions["day"].sort().diff().max())
    return longest is not None and longest > timedelta(days=LONGEST_HALT - 1)


def _trading_elsewhere(others: pl.DataFrame, days: pl.DataFrame) -> dict[date, datetime]:
    """Session -> when at least half of the symbols of other classes had shown their first bar of it.

    Half of those that had a bar in the 60 sessions before, so that symbols that stopped with the class do not hold up
    its end for ever. In: the other classes' bars, and the sessions `days` (day), sorted.
    """
    sessions = days["day"].to_list()
    place = {day: number for number, day in enumerate(sessions)}
    first = others.group_by("symbol", session_date(pl.col("time")).alias("day")).agg(pl.col("time").min())
    first = first.filter(pl.col("day").is_in(sessions)).sort("symbol", "day")
    number = np.array([place[day] for day in first["day"].to_list()], np.int64)
    same = first.select(pl.col("symbol") == pl.col("symbol").shift(-1)).to_series().fill_null(False).to_numpy()
    until = np.minimum(np.where(same, np.r_[number[1:], 0], len(sessions)), number + LONGEST_HALT)
    changes = np.zeros(len(sessions) + LONGEST_HALT + 2, np.int64)
    np.add.at(changes, number + 1, 1)
    np.add.at(changes, until + 1, -1)
    recent = changes.cumsum()[: len(sessions)]
    found = {}
    times = first.group_by("day").agg(pl.col("time").sort())
    for day, shown in times.iter_rows():
        wanted = int(recent[place[day]] + 1) // 2
        if 0 < wanted <= len(shown):
            found[day] = shown[wanted - 1]
    return found


def _ends_of_class(
    name: str, own: pl.DataFrame, days: pl.DataFrame, gaps: pl.DataFrame, terms: list[_Terms], others: pl.DataFrame
) -> tuple[list[_End], dict[str, int]]:
    """The ends of one class, session by session, each in what was known then; and of each symbol that is without bars
    and has not ended the sessions that count for its end so far.

    `days`: day, time, the first close of every session of all classes. `gaps`: see `_silences`. `terms`: by time.
    `others`: the bars of the other classes, none where the class never falls silent.
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
    elsewhere = _trading_elsewhere(others, days)
    found: list[_End] = []
    gone: dict[str, date | None] = {}  # symbols that have ended -> the session on which they return
    traded = passed = booked = 0  # sessions so far, those in which half of the class traded and all; terms so far
    quiet = 0  # sessions in which the others traded since the class's last bar
    before = before_own = None

    def end(
        symbol: str, time: datetime, kind: str, value: float, back: date | None, known_at: datetime | None = None
    ) -> None:
        found.append((symbol, time, kind, value, back, known_at or time))
        gone[symbol] = back

    def end_on_terms(row: _Terms) -> None:
        kind, value = ("default", known_class.end_return) if row.value is None else ("known", row.value)
        end(row.symbol, row.time, kind, value, row.back, row.known_at)

    for session, opening in days.iter_rows():
        gone = {symbol: back for symbol, back in gone.items() if back is None or back > session}
        while booked < len(terms) and session_of(terms[booked].time) <= session:
            end_on_terms(terms[booked])
            booked += 1
        active = [
            one for one in waiting
            if one.covers(session) and one.symbol not in gone and not any(
                row.symbol == one.symbol and row.day <= one.before and (row.back is None or row.back > one.before)
                and sessions_between(row.day, one.before, every_day) <= LONGEST_HALT
                for row in terms[:booked]
            )
        ]  # fmt: skip
        for one in active:
            if one.passed < 0:
                one.traded, one.passed = traded, passed
        alive = int(np.searchsorted(begun, np.datetime64(session), side="right")) - len(gone)
        stands_for = _sessions(before, session, coarse, every_day)
        passed += stands_for
        quiet = 0 if session in closes else quiet + stands_for * (session in elsewhere)
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
            elif quiet >= LONGEST_HALT and one.symbol not in gone and session in elsewhere:
                end(one.symbol, elsewhere[session], "default", known_class.end_return, one.back)
        waiting = [one for one in waiting if one.back is None or one.back > session]
    for row in terms[booked:]:  # after the last session
        end_on_terms(row)
    counted = {
        one.symbol: quiet if before_own is None or before_own <= one.before else traded - one.traded
        for one in waiting if one.symbol not in gone and one.passed >= 0
    }  # fmt: skip
    return found, counted


def _sessions(before: date | None, session: date, coarse: bool, every_day: bool) -> int:
    """Sessions that a row stands for: 1; of weeks and months, the weekdays (or days) since the row before."""
    if not coarse or before is None:
        return 1
    return (session - before).days if every_day else max(int(np.busday_count(before, session)), 1)
