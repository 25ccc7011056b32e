"""An action that is told at any time is booked in the same session by a run and by a store, however often it is fed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from types import SimpleNamespace

import polars as pl
import pytest

from gatecast.live.book import course_of
from gatecast.market.actions import read_actions, with_known_at
from gatecast.market.bars import make_bars
from gatecast.market.facts import facts_of
from gatecast.trading.book import Book, Carried, Course

FIRST, LAST, EX_DATE = date(2024, 3, 4), date(2024, 3, 13), date(2024, 3, 6)
"""A Monday, the Wednesday of the week after, and a Wednesday between; the weekend is that of March 9."""
MARKETS = {  # symbol: class, close (UTC), and whether it trades at weekends
    "TOKYO": ("index", time(6), False),
    "NEW_YORK": ("equity", time(21), False),
    "COIN": ("crypto", time(0), True),
}
HOUR = timedelta(hours=1)
DAYS = [FIRST + timedelta(days=number) for number in range(1, (LAST - FIRST).days + 1)]


def bars_of(*symbols: str) -> pl.DataFrame:
    """Daily bars at a price of 100."""
    rows = list[tuple[str, str, datetime]]()
    for symbol in symbols:
        kind, close, every_day = MARKETS[symbol]
        for number in range((LAST - FIRST).days + 1):
            day = FIRST + timedelta(days=number)
            if every_day or day.weekday() < 5:
                end = day + timedelta(days=1) if close == time(0) else day
                rows.append((symbol, kind, datetime.combine(end, close, UTC)))
    prices = {name: pl.lit(100.0) for name in ("open", "high", "low", "close")}
    table = pl.DataFrame(rows, schema=["symbol", "asset_class", "time"], orient="row")
    return make_bars(table.with_columns(**prices, volume=pl.lit(1e6)))


def decided(bars: pl.DataFrame, actions: pl.DataFrame, carried: tuple[Carried, ...]) -> Course:
    """What the book decides of bars and actions that are there."""
    chain = SimpleNamespace(bars=bars, classes={}, facts=facts_of(bars, actions), book=Book())
    return course_of(carried, chain)  # type: ignore[arg-type]


def begun(bars: pl.DataFrame, held: str) -> Carried:
    """The book after its first session, as if it held 100 units of a symbol."""
    first = bars.filter(pl.col("time") <= datetime.combine(FIRST + timedelta(days=1), time(0), UTC))
    last = decided(first, no_money(bars), ()).carried[-1]
    units = [100.0 * (name == held) for name in last.line.names]
    account = replace(last.line.account, units=units_of(units), price=units_of([100.0] * len(units)))
    account = replace(account, rate=units_of([1.0] * len(units)))
    return replace(last, line=replace(last.line, account=account))


def units_of(values: list[float]) -> object:
    return pl.Series(values).to_numpy()


def no_money(bars: pl.DataFrame) -> pl.DataFrame:
    return with_known_at(read_actions(pl.DataFrame({"symbol": [], "kind": [], "date": [], "value": []})), bars)


def paid_in(course: Course, sessions: dict[date, float]) -> None:
    """Adds what each session paid; one that was decided again counts as it is now."""
    for step in course.steps:
        sessions[step.booked.day] = float(step.booked.dividend.sum())


FED = {
    "at each close": lambda closes: closes,
    "in the evening": lambda _: [datetime.combine(day, time(21, 30), UTC) for day in DAYS],
    "after midnight": lambda _: [datetime.combine(day, time(0, 30), UTC) + 24 * HOUR for day in DAYS],
    "twice a week": lambda _: [datetime.combine(day, time(22), UTC) for day in DAYS if day.weekday() in (1, 3)],
}


def session(close: datetime) -> date:
    return (close - timedelta(microseconds=1)).date()


def moments() -> list[datetime]:
    """From the day of the dividend to the Tuesday after: each close, a second before and after it, and between."""
    found = list[datetime]()
    for number in range(7):
        day = datetime.combine(EX_DATE + timedelta(days=number), time(0), UTC)
        for close in (6, 21, 24):
            found += [day + close * HOUR + timedelta(seconds=more) for more in (-1, 0, 1)]
        found += [day + 12 * HOUR, day + 22 * HOUR]
    return found


KINDS = ("dividend", "special_dividend", "return_of_capital", "rights")


@pytest.mark.parametrize("symbols", [("NEW_YORK",), ("NEW_YORK", "TOKYO"), tuple(MARKETS)])
def test_a_run_and_a_store_pay_in_the_same_session(symbols: tuple[str, ...]) -> None:
    """Each moment has an action of its own: who held 100 units before its date is paid."""
    bars = bars_of(*symbols)
    start, when = begun(bars, "NEW_YORK"), bars["time"].to_list()
    first = {day: min(one for one in when if session(one) == day) for day in sorted({session(one) for one in when})}
    rows, by_hand = list[dict[str, object]](), dict[date, float]()
    for number, known in enumerate(moments()):
        day, value = EX_DATE - timedelta(days=number // len(KINDS)), 0.01 + 0.001 * number
        rows.append({"symbol": "NEW_YORK", "kind": KINDS[number % len(KINDS)], "date": day, "value": value})
        rows[-1]["known_at"] = known
        pays = next(one for one, close in first.items() if one >= day and close >= known)
        by_hand[pays] = by_hand.get(pays, 0.0) + 100 * value
    told = with_known_at(read_actions(pl.DataFrame(rows)), bars)
    run = dict[date, float]()
    paid_in(decided(bars, told, (start,)), run)
    assert {day: paid for day, paid in run.items() if paid} == pytest.approx(by_hand)
    for how, feed in FED.items():
        carried, store = (start,), dict[date, float]()
        for now in [*feed(sorted({*when})), datetime.combine(LAST, time(0, 30), UTC) + 24 * HOUR]:
            there = bars.filter(pl.col("time") <= now)
            course = decided(there, told.filter(pl.col("known_at") <= now), carried)
            paid_in(course, store)
            carried = course.carried
        assert store == pytest.approx(run), how
