"""When a symbol has ended: known terms, sixty sessions of silence, vendors that stop; nothing of it from later bars."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from gatecast.errors import BarsError
from gatecast.live.newest import stale
from gatecast.market.actions import SCHEMA as ACTIONS
from gatecast.market.actions import no_actions
from gatecast.market.bars import make_bars, session_date
from gatecast.market.ends import find_ends, find_ends_and_returns, has_ended, say_ends
from gatecast.market.facts import Facts

START = datetime(2020, 1, 6, 21, tzinfo=UTC)


def days(count: int, *, start: datetime = START, every: int = 1) -> list[datetime]:
    """Closes of weekdays."""
    found = np.busday_offset(np.datetime64(start.date()), np.arange(0, count * every, every)).astype(object)
    return [datetime(day.year, day.month, day.day, 21, tzinfo=UTC) for day in found]


def symbol_bars(symbol: str, times: list[datetime], asset_class: str = "equity") -> pl.DataFrame:
    price = 100 * np.exp(0.01 * np.random.default_rng(len(times)).standard_normal(len(times)).cumsum())
    return pl.DataFrame(
        {
            "symbol": symbol, "asset_class": asset_class, "time": pl.Series(times, dtype=pl.Datetime("us", "UTC")),
            "open": price, "high": price, "low": price, "close": price,
        }
    )  # fmt: skip


def market(times: dict[str, list[datetime]], **classes: str) -> pl.DataFrame:
    return make_bars(pl.concat([symbol_bars(name, own, classes.get(name, "equity")) for name, own in times.items()]))


def rows(bars: pl.DataFrame, actions: pl.DataFrame | None = None) -> list[tuple[object, ...]]:
    return find_ends(bars, actions).rows()


def delisting(*told: tuple[str, date, float | None, datetime | None]) -> pl.DataFrame:
    values = [(symbol, "delisting", day, value, known) for symbol, day, value, known in told]
    return pl.DataFrame(values, schema=ACTIONS, orient="row")


def test_sixty_sessions_without_a_bar_while_half_of_the_class_trades_are_an_end() -> None:
    all_days = days(300)
    bars = market({"A": all_days, "B": all_days[:100]})
    assert rows(bars) == [("B", all_days[159], "default", -0.3)]  # bars 100 to 159 are sixty
    coins = market({"A": all_days, "B": all_days[:100]}, A="crypto", B="crypto")
    assert rows(coins) == [("B", all_days[159], "default", -0.9)]
    assert rows(market({"A": all_days, "B": all_days[:241]})) == []  # fifty-nine to the end of the file
    assert rows(market({"A": all_days, "B": all_days[:240]})) == [("B", all_days[-1], "default", -0.3)]
    assert rows(market({"A": all_days[:100]})) == []


def test_no_session_counts_while_most_of_the_class_is_silent() -> None:
    """Four of five stand still for eighty sessions: a closed market, nobody has ended."""
    all_days = days(300)
    halted = [day for n, day in enumerate(all_days) if not 100 <= n < 180]
    # they stop one session after the other, so that no vendor stops
    paused = {name: [*all_days[: 96 + n], *halted[100:]] for n, name in enumerate("BCDE")}
    assert rows(market({"A": all_days, **paused})) == []
    # B is away for twenty sessions more, while half trade: with the four before the market closed not sixty
    longer = {**paused, "B": [*all_days[:96], *all_days[200:]]}
    assert rows(market({"A": all_days, **longer})) == []
    # forty sessions more, and the count is reached
    longest = {**paused, "B": [*all_days[:96], *all_days[260:]]}
    counted = 96 + np.flatnonzero(np.cumsum([True] * 2 + [False] * 82 + [True] * 80) >= 60)[0]
    assert rows(market({"A": all_days, **longest})) == [("B", all_days[counted], "default", -0.3)]


def test_symbols_that_stop_together_stop_with_their_vendor() -> None:
    all_days = days(300)
    goes_on = {f"A{n}": all_days for n in range(7)}
    three = dict.fromkeys("BCD", all_days[:100])
    assert rows(market({**goes_on, **three})) == [(name, all_days[159], "vendor", 0.0) for name in "BCD"]
    two = dict.fromkeys("BC", all_days[:100])  # too few
    assert {kind for _, _, kind, _ in rows(market({**goes_on, **two}))} == {"default"}
    many = {f"A{n:02}": all_days for n in range(13)}  # three of sixteen are less than a fifth
    assert {kind for _, _, kind, _ in rows(market({**many, **three}))} == {"default"}
    most = dict.fromkeys("BCDEFGHIJK", all_days[:100])  # ten of twelve: half of the class never trades again
    assert {kind for _, _, kind, _ in rows(market({"A": all_days, "A2": all_days, **most}))} == {"vendor"}
    whole = dict.fromkeys("BCD", all_days[:100])  # all of a class, while another goes on
    found = rows(market({**whole, "X": all_days}, X="crypto"))
    assert found == [(name, all_days[159], "vendor", 0.0) for name in "BCD"]


def test_known_terms_are_booked_once_they_are_known() -> None:
    all_days = days(300)
    bars = market({"A": all_days, "B": all_days[:100]})
    last = all_days[99]
    told = delisting(("B", last.date(), -0.8, None))
    assert rows(bars, told) == [("B", last, "known", -0.8)]
    late = delisting(("B", last.date(), -0.8, all_days[120] - timedelta(hours=3)))
    assert rows(bars, late) == [("B", all_days[120], "known", -0.8)]
    later = delisting(("B", last.date(), -0.8, all_days[200]))  # the default is booked meanwhile
    assert rows(bars, later) == [("B", all_days[159], "default", -0.3), ("B", all_days[200], "known", -0.8)]
    evening = delisting(("B", last.date(), -0.8, last + timedelta(hours=2)))  # known by the fill: also where bars stop
    for known in (bars, bars.filter(pl.col("time") <= last)):
        assert rows(known, evening) == [("B", last, "known", -0.8)]
    unknown = delisting(("B", last.date(), None, None))  # it ended, nobody says with what
    assert rows(bars, unknown) == [("B", last, "default", -0.3)]
    other = told.with_columns(kind=pl.lit("split"))
    assert rows(bars, other) == rows(bars, no_actions()) == rows(bars)
    alone = market({"B": all_days[:100]})
    after = delisting(("B", all_days[101].date(), -1.0, None))
    assert rows(alone, after) == [("B", all_days[101] - timedelta(hours=1), "known", -1.0)]  # four in New York, summer
    with pytest.raises(BarsError, match=r"from -1 to 1, got -1.2"):
        find_ends(bars, told.with_columns(value=pl.lit(-1.2)))
    with pytest.raises(BarsError, match=r"from -1 to 1, got 30"):
        find_ends(bars, told.with_columns(value=pl.lit(30.0)))
    with pytest.raises(BarsError, match="missing: known_at"):
        find_ends(bars, told.drop("known_at"))


def test_a_silence_after_known_terms_is_their_end_unless_the_symbol_returned_before_it() -> None:
    all_days = days(300)
    bars = market({"A": all_days, "B": all_days[:100]})
    of_date, returned = (delisting(("B", all_days[99 - before].date(), -0.8, None)) for before in (3, 30))
    assert rows(bars, of_date) == [("B", all_days[96], "known", -0.8)]
    assert rows(bars, returned) == [("B", all_days[69], "known", -0.8), ("B", all_days[159], "default", -0.3)]
    later = delisting(("B", all_days[69].date(), -0.8, all_days[110]))  # known once the silence has begun: its end
    assert rows(bars, later) == [("B", all_days[110], "known", -0.8)]
    long_ago = delisting(("B", all_days[20].date(), -0.8, None))
    assert [kind for _, _, kind, _ in rows(bars, long_ago)] == ["known", "default"]


def test_weeks_and_hours_count_by_sessions() -> None:
    weekly = days(150, every=5)
    assert rows(market({"A": weekly, "B": weekly[:100]})) == [("B", weekly[111], "default", -0.3)]  # twelve weeks
    sessions = days(200)
    hourly = [day - timedelta(hours=6 - n) for day in sessions for n in range(7)]
    found = rows(market({"A": hourly, "B": [time for time in hourly if time <= sessions[99]]}))
    assert found == [("B", sessions[159] - timedelta(hours=6), "default", -0.3)]


def test_holidays_of_another_class_do_not_count() -> None:
    """Coins trade every day: an equity's sixty sessions are those of equities."""
    all_days = days(300)
    every = [START - timedelta(hours=21) + timedelta(days=n + 1) for n in range(420)]
    bars = market({"A": all_days, "B": all_days[:100], "X": every, "Y": every[:100]}, X="crypto", Y="crypto")
    assert rows(bars) == [("B", all_days[159], "default", -0.3), ("Y", every[159], "default", -0.9)]


def test_later_bars_never_change_an_end() -> None:
    rng = np.random.default_rng(3)
    all_days = days(500)
    times = {}
    for n in range(12):
        keep = np.ones(500, bool)
        for _ in range(2):
            start = int(rng.integers(20, 450))
            keep[start : start + int(rng.integers(5, 140))] = False
        times[f"S{n:02}"] = [day for day, kept in zip(all_days, keep, strict=True) if kept]
    times |= {f"V{n}": all_days[:200] for n in range(4)}
    bars = market(times)
    told = delisting(("S03", all_days[300].date(), -0.5, all_days[310]))
    whole = find_ends(bars, told)
    assert {"default", "vendor", "known"} <= set(whole["kind"])
    for cut in all_days[60::7]:
        known = find_ends(bars.filter(pl.col("time") <= cut), told.filter(pl.col("known_at") <= cut))
        assert known.equals(whole.filter(pl.col("time") <= cut)), cut
    assert (session_date(whole["time"].dt.replace_time_zone(None).to_numpy()) >= np.datetime64("2020-01-06")).all()


def test_a_class_that_falls_silent_ends_by_the_calendar_of_the_others() -> None:
    """Its own calendar has stopped: sixty sessions count in which half of the other classes' symbols trade."""
    all_days = days(300)
    bars = market({"K": all_days, "X": all_days[:100]}, X="crypto")
    assert rows(bars) == [("X", all_days[159], "default", -0.9)]
    two = market({"K": all_days, "X": all_days[:100], "Y": all_days[:130]}, X="crypto", Y="fx")
    assert rows(two) == [("X", all_days[159], "default", -0.9), ("Y", all_days[189], "default", 0.0)]
    pair = market({"K": all_days, "X": all_days[:100], "Y": all_days[:110]}, X="crypto", Y="crypto")
    assert rows(pair) == [(name, all_days[169], "default", -0.9) for name in "XY"]  # the class is silent since Y is
    halted = market({"K": all_days, "X": [*all_days[:100], *all_days[159:]]}, X="crypto")
    assert rows(halted) == []  # fifty-nine
    assert rows(market({"K": all_days[:159], "X": all_days[:100]}, X="crypto")) == []
    weekends = [START + timedelta(days=n, hours=3) for n in range(420)]  # coins count no weekends of a silent equity
    assert rows(market({"K": all_days[:100], "X": weekends}, X="crypto"))[0][0] == "K"
    assert session_date(np.array([find_ends(market({"K": all_days[:100], "X": weekends}, X="crypto"))["time"][0]
        .replace(tzinfo=None)], "datetime64[us]"))[0] == np.datetime64(all_days[159].date())  # fmt: skip


def test_silence_of_the_others_counts_for_no_end() -> None:
    """Half of the others must trade; symbols without a bar for sixty sessions are no longer among them."""
    all_days = days(400)
    classes = {"X": "crypto", "Y": "fx", "Z": "metal"}
    together = market({"K": all_days, **dict.fromkeys("XYZ", all_days[:100])}, **classes)
    # one of four goes on: for sixty sessions less than half of the others trade, then it alone is asked
    found = {symbol: (time, kind) for symbol, time, kind, _ in rows(together)}
    assert found == dict.fromkeys("XYZ", (all_days[219], "default"))
    later = market({"K": all_days, "X": all_days[:100], "Y": all_days[:200], "Z": all_days[:200]}, **classes)
    assert rows(later) == [("X", all_days[159], "default", -0.9)] + [
        (name, all_days[259], "default", 0.0) for name in "YZ"
    ]


def test_a_silent_classs_ends_are_never_changed_by_later_bars() -> None:
    rng = np.random.default_rng(5)
    all_days = days(420)
    times, classes = {}, {}
    for n, name in enumerate(["equity", "crypto", "fx", "metal", "crypto"]):
        keep = np.ones(420, bool)
        for start in rng.integers(20, 380, 2).tolist():
            keep[start : start + int(rng.integers(40, 130))] = False
        times[f"S{n}"] = [day for day, kept in zip(all_days, keep, strict=True) if kept]
        classes[f"S{n}"] = name
    times["K"] = all_days
    bars = market(times, **classes)
    whole = find_ends(bars)
    assert len(whole) > 3
    for cut in all_days[60::5]:
        known = find_ends(bars.filter(pl.col("time") <= cut))
        assert known.equals(whole.filter(pl.col("time") <= cut)), cut


def test_a_symbol_has_ended_from_its_end_to_its_return() -> None:
    all_days = days(300)
    bars = market({"A": all_days, "B": [*all_days[:104], *all_days[200:]], "C": all_days[:150]})
    told = delisting(("B", all_days[99].date(), -0.8, None))
    gone = has_ended(bars, find_ends_and_returns(bars, told))
    of_b = gone[(bars["symbol"] == "B").to_numpy()]
    np.testing.assert_array_equal(of_b[:104], np.arange(104) >= 99)  # four bars clear last trades
    assert not of_b[104:].any()  # it has come back
    assert not gone[(bars["symbol"] != "B").to_numpy()].any()  # C ends without a bar
    ended = Facts(bars, told).symbols_ended
    assert {symbol: (one.kind, one.last, one.time) for symbol, one in ended.items()} == {
        "C": ("default", all_days[149], all_days[209])
    }
    (said,) = say_ends(bars, ended)
    assert (said.rule, said.symbol, said.time, said.value) == ("ended", "C", all_days[149], -0.3)
    assert f"ends on {all_days[149].date()}" in said.advice
    assert "-30%" in said.advice
    assert "table of actions" in said.advice
    shorter = bars.filter(pl.col("time") <= all_days[190])
    (waits,) = say_ends(shorter, Facts(shorter).symbols_ended)[1:]
    assert (waits.rule, waits.symbol) == ("silent", "C")
    assert f"No bar since {all_days[149].date()}, 41 sessions of its class" in waits.advice
    assert "at least half of the class trades: 0 so far." in waits.advice  # A alone is one of three


def test_a_silent_symbol_says_what_its_end_waits_for_and_counts_as_stale_does() -> None:
    """Two of three stopped, so that no session counts; a holiday is no session of the class."""
    all_days = days(300)[:200]
    traded = [*all_days[:150], *all_days[151:]]
    bars = market({"A": traded, "B": all_days[:100], "C": all_days[:100]})
    last = f"No bar since {all_days[99].date()}"
    for one in say_ends(bars, Facts(bars).symbols_ended):
        assert (one.rule, one.value) == ("silent", 99)
        assert f"{last}, 99 sessions of its class: no end is booked yet." in one.advice
        assert "after 60 sessions in which at least half of the class trades: 0 so far." in one.advice
    behind = [one.sentence for one in stale(bars, all_days[-1]) if one.symbols in (("B",), ("C",))]
    assert len(behind) == 2
    assert all("99 sessions behind its class" in one for one in behind)
    coins = market({"A": all_days, "Z": all_days[:160]}, Z="crypto")
    (waits,) = say_ends(coins, Facts(coins).symbols_ended)
    assert "40 sessions of the other classes" in waits.advice
    assert "after 60 sessions in which at least half of them trade: 40 so far." in waits.advice


def test_a_silent_symbol_counts_the_sessions_after_which_its_end_is_booked() -> None:
    """Where one of three was gone by its terms for a while, the one that traded was half of the class."""
    all_days = days(300)[:260]
    returns = [*all_days[:125], *all_days[180:]]
    bars = market({"A": all_days, "B": all_days[:150], "C": returns})
    told = delisting(("C", all_days[124].date(), -0.5, None))
    (end,) = (row for row in rows(bars, told) if row[0] == "B")
    booked = all_days.index(end[1])
    for place in (booked - 20, booked - 1):
        shown = bars.filter(pl.col("time") <= all_days[place])
        (waits,) = (one for one in say_ends(shown, Facts(shown, told).symbols_ended, told) if one.symbol == "B")
        assert f"{60 - (booked - place)} so far." in waits.advice
