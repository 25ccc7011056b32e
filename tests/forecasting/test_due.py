"""A refit that is due by the calendar is the refit that a run over all bars makes, wherever and whenever one looks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatecast.forecasting.schedule import Schedule
from gatecast.market.bars import session_date
from gatecast.market.classes import ASSET_CLASSES
from gatecast.market.sessions import calendar_of

HOUR, DAY = np.timedelta64(1, "h"), np.timedelta64(1, "D")
MARKETS = {"XNYS": "equity", "XLON": "equity", "XASX": "equity", "24/7": "crypto", "24/5": "fx", "CMES": "future"}
BEGIN, END = np.datetime64("2019-06-03", "us"), np.datetime64("2024-06-05", "us")  # with the leap day of 2020 and 2024


def sessions(name: str) -> np.ndarray:
    closes = calendar_of(name, datetime(2024, 6, 5, tzinfo=UTC)).close
    return closes[(closes > BEGIN) & (closes <= END)]


def closes_of_bars(name: str, own: bool) -> np.ndarray:
    """The closes of daily bars: the exchange's own, or the usual ones of the class, early closes or not."""
    if own:
        return sessions(name)
    days = pl.DataFrame({"day": pl.Series(session_date(sessions(name)))})
    closes = days.select(ASSET_CLASSES[MARKETS[name]].close_of(pl.col("day")).dt.replace_time_zone(None))
    return closes.to_series().to_numpy().astype("datetime64[us]")


def refits_live(
    schedule: Schedule, calendar: np.ndarray, bars: np.ndarray, wakes: np.ndarray, *, with_bars: bool = False
) -> tuple[list[np.datetime64], list[str]]:
    """What a machine does that looks at these moments: the refits it made, and the months that it missed."""
    done: list[np.datetime64] = [bars[0]]
    missed: list[str] = []
    for now in wakes:
        have = bars[bars <= now]
        due = schedule.due_at(now, done, np.union1d(calendar, have) if with_bars else calendar)
        assert (due <= now).all()
        at = have[session_date(have) >= session_date(due[-1:])] if len(due) else have[:0]
        if len(at):
            done.append(at[0])
            missed += due[:-1].astype("datetime64[M]").astype(str).tolist()
    return done, missed


def months(moments: np.ndarray | Sequence[np.datetime64]) -> list[str]:
    return np.array(moments, "datetime64[us]").astype("datetime64[M]").astype(str).tolist()


@settings(max_examples=12, deadline=None)
@given(
    market=st.sampled_from(sorted(MARKETS)),
    own=st.booleans(),
    refit=st.sampled_from(["1M", "3M", "1W"]),
    seed=st.integers(0, 10_000),
)
def test_batch_and_live_name_the_same_refits_over_five_years(market: str, own: bool, refit: str, seed: int) -> None:
    """Bars lack at random and at the first session of every fourth month; the machine sleeps for up to three days."""
    draw = np.random.default_rng(seed)
    schedule, calendar, bars = Schedule(refit=refit), sessions(market), closes_of_bars(market, own)
    first = Schedule().due(bars)
    lacking = np.r_[draw.choice(np.arange(1, len(bars) - 5), 20, replace=False), first[3::4]]
    bars = np.delete(bars, lacking)
    wakes = np.arange(BEGIN, END + 2 * DAY, DAY)
    wakes += draw.integers(0, 24 * 60, len(wakes)).astype("timedelta64[m]")
    for start in draw.choice(len(wakes) - 5, 40, replace=False):
        wakes[start : start + 2] = wakes[start + 2]
    done, missed = refits_live(schedule, calendar, bars, np.unique(wakes))
    assert np.array(done).tolist() == bars[schedule.due(bars)].tolist()
    assert missed == []
    if refit == "1M":
        assert months(done) == months(np.arange("2019-06", "2024-07", dtype="datetime64[M]"))


@pytest.mark.parametrize("market", ["XNYS", "24/7"])
def test_of_three_months_asleep_each_is_listed_and_the_latest_is_made(market: str) -> None:
    calendar, bars = sessions(market), closes_of_bars(market, own=True)
    wakes = np.arange(BEGIN, END + DAY, DAY) + 23 * HOUR
    asleep = (wakes > np.datetime64("2021-12-20")) & (wakes < np.datetime64("2022-04-12"))
    done, missed = refits_live(Schedule(), calendar, bars, wakes[~asleep])
    assert missed == ["2022-01", "2022-02", "2022-03"]
    batch = bars[Schedule().due(bars)]
    assert sorted([*months(done), *missed]) == months(batch)
    assert done == [one for one in batch if months([one])[0] not in missed]


def test_a_refit_is_due_without_a_bar_and_waits_for_one() -> None:
    calendar = sessions("XNYS")
    done, now = [np.datetime64("2024-01-02T21:00", "us")], np.datetime64("2024-02-05T22:00", "us")
    assert Schedule().due_at(np.datetime64("2024-02-01T20:59", "us"), done, calendar).tolist() == []
    assert months(Schedule().due_at(np.datetime64("2024-02-01T21:00", "us"), done, calendar)) == ["2024-02"]
    assert months(Schedule().due_at(now, done, calendar)) == ["2024-02"]  # no bar came in three sessions
    late = [*done, np.datetime64("2024-02-05T21:00", "us")]
    assert Schedule().due_at(now, late, calendar).tolist() == []
    assert Schedule().due_at(np.datetime64("2019-06-01", "us"), [], calendar).tolist() == []


def test_bars_within_a_session_make_a_refit_due_before_the_session_closes() -> None:
    days = session_date(sessions("XNYS"))[:120]
    bars = (days[:, None].astype("datetime64[us]") + np.arange(13, 21) * HOUR).ravel()  # some are before the open
    done, missed = refits_live(Schedule(), sessions("XNYS"), bars, bars, with_bars=True)
    assert np.array(done).tolist() == bars[Schedule().due(bars)].tolist()
    assert missed == []


def test_before_the_first_refit_only_periods_with_enough_history_are_due() -> None:
    calendar = sessions("XNYS")
    now = np.datetime64("2020-09-03", "us")
    assert months(Schedule(minimum="1Y").due_at(now, [], calendar)) == ["2020-07", "2020-08", "2020-09"]
    assert months(Schedule(minimum=300).due_at(now, [], calendar)) == ["2020-09"]


def test_a_period_of_bars_is_counted_on_the_bars() -> None:
    bars = sessions("XNYS")
    schedule = Schedule(refit=20)
    done, _ = refits_live(schedule, bars, bars, bars)
    assert np.array(done).tolist() == bars[schedule.due(bars)].tolist()
