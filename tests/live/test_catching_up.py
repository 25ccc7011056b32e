"""Stores of several classes that are updated when it suits: what is held is worth the same at each session."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatecast.experiment import Experiment
from gatecast.live import Updated, retrain, update
from gatecast.live.gates import opens_passed
from gatecast.live.scored import issued_table
from gatecast.market import synthetic
from gatecast.market.facts import facts_of
from gatecast.samples.known import delays, window_ends
from gatecast.store import Store
from gatecast.trading.book import Book, core_path, past_deviations, run_line, sessions_by
from gatecast.trading.core import Core
from tests.live.conftest import Command
from tests.live.conftest import settings as cheap

DAYS = 230
BEGINS = 205
"""Days that a store begins with."""
MINUTES = timedelta(minutes=10)
FRIDAY = 4


def bars_of(classes: Sequence[str]) -> pl.DataFrame:
    """A symbol each: shares close at 21:00 on weekdays, pairs at 22:00 on weekdays, coins at 24:00 on all days."""
    made = synthetic.g1(DAYS, seed=3, symbols=len(classes))
    first = made["time"].min()
    assert isinstance(first, datetime)
    begins = first.replace(hour=0, minute=0)
    hours, names = {"equity": 21, "fx": 22, "crypto": 24}, {"equity": "AAA", "fx": "GBPUSD", "crypto": "BTC-USD"}
    found = []
    for (_, own), kind in zip(made.group_by("symbol", maintain_order=True), classes, strict=True):
        days = [begins + timedelta(days=number, hours=hours[kind]) for number in range(DAYS)]
        own = own.with_columns(
            pl.Series("time", days, own.schema["time"]), symbol=pl.lit(names[kind]), asset_class=pl.lit(kind)
        ).with_columns(known_at="time")
        weekday = (pl.col("time") - timedelta(hours=12)).dt.weekday() <= 5
        found.append(own if kind == "crypto" else own.filter(weekday))
    return pl.concat(found).sort("symbol", "time")


def as_stored(bars: pl.DataFrame, spans: Sequence[int], place: Path) -> tuple[pl.DataFrame, list[datetime]]:
    """The bars as a store has them that is updated once in so many days, after a session of all; and when it was."""
    midnight = bars["time"].min().replace(hour=0)  # type: ignore[union-attr]
    moments, day = list[datetime](), BEGINS
    while day <= DAYS:
        moments.append(midnight + timedelta(days=day) + MINUTES)
        day += spans[len(moments) % len(spans)]
        while (midnight + timedelta(days=day - 1)).weekday() > FRIDAY:
            day += 1
    before, store = midnight - timedelta(days=1), Store.create(place, Experiment(), now=moments[0])
    for moment in moments:
        came = bars.filter(pl.col("time") > before, pl.col("time") <= moment)
        if len(came):
            store.add_bars(came, moment, stated=False)
        before = moment
    return store.bars.as_of(moments[-1]), moments


@pytest.mark.filterwarnings("ignore")
@given(
    st.sampled_from([("crypto",), ("equity", "fx"), ("equity", "crypto"), ("equity", "fx", "crypto")]),
    st.lists(st.integers(2, 9), min_size=3, max_size=4),
)
@settings(max_examples=2, deadline=None)
def test_what_is_held_is_worth_the_same_however_often_a_store_is_updated(
    tmp_path_factory: pytest.TempPathFactory, classes: tuple[str, ...], spans: list[int]
) -> None:
    bars = bars_of(classes)
    stored, moments = as_stored(bars, spans, tmp_path_factory.mktemp("store") / "s")
    timely = stored.with_columns(known_at="time")
    own = sessions_by(facts_of(timely), Book())
    core, deviations = core_path(own, Core()), past_deviations(own.returns)
    frames = list[pl.DataFrame]()
    for each in (stored, timely):
        sessions = sessions_by(facts_of(each), Book())
        count = sessions.decided
        line = run_line(sessions.until(count), core[:count], deviations[:count], Book(), begin=100, rebalanced=False)
        frames.append(line.frame)
    assert frames[0].equals(frames[1][: len(frames[0])])
    held = frames[0]["equity"].to_numpy()
    assert np.ptp(held) > 0
    # and at the newest close of each update nothing is missing in a window
    newest = pl.concat([stored.filter(pl.col("time") <= one).group_by("symbol").agg(pl.col("time").max(), now=pl.lit(
        one)) for one in moments])  # fmt: skip
    in_time = newest.filter(pl.col("now") - pl.col("time") < timedelta(hours=12)).unique(["symbol", "time"])
    for _, symbol in stored.group_by("symbol", maintain_order=True):
        ends = window_ends(symbol, delays(symbol), 10)
        asked = symbol.with_row_index("row").join(in_time, on=["symbol", "time"], how="semi")["row"].to_numpy()
        assert (ends[asked] == asked).all()


@pytest.fixture(scope="module")
def coin_and_share() -> pl.DataFrame:
    """A share that closes at 21:00 on weekdays, a coin that closes at 24:00 on all days."""
    made = synthetic.b1(760, seed=1, r2=0.08, symbols=2)
    share, coin = (made.filter(pl.col("symbol") == name) for name in ("B1_0", "B1_1"))
    midnight = share["time"][0].replace(hour=0)
    days = [midnight + timedelta(days=number + 1) for number in range(len(coin))]
    coin = coin.with_columns(pl.Series("time", days, coin.schema["time"]), asset_class=pl.lit("crypto"))
    share = share.filter(pl.col("time") < days[-1]).with_columns(asset_class=pl.lit("equity"))
    return pl.concat([share, coin.with_columns(known_at="time")])


class Lived:
    """A store of the coin and the share that has a model since a Friday, and what updates bring it."""

    def __init__(self, folder: Path, bars: pl.DataFrame) -> None:
        closes = bars.filter(asset_class="equity")["time"].sort()
        self.folder, self.bars = folder, bars
        begin = next(close for close in closes[500:] if close.weekday() == FRIDAY)
        self.friday = begin.replace(hour=0) + timedelta(days=1) + MINUTES
        self.brought(bars, bars["time"].min() - MINUTES, self.friday, experiment=cheap())  # type: ignore[operator]
        assert retrain(folder, now=self.friday).model is not None

    def brought(self, bars: pl.DataFrame, after: datetime, until: datetime, **more: Experiment) -> Updated:
        rows = bars.filter(pl.col("time") > after, pl.col("time") <= until)
        return update(self.folder, rows, now=until, **more)


def test_a_coin_that_is_caught_up_is_forecast_and_its_rows_are_not_dated_back(
    coin_and_share: pl.DataFrame, gatecast: Command, tmp_path: Path
) -> None:
    store = Lived(tmp_path / "store", coin_and_share)
    thursday = store.friday + timedelta(days=6)
    done = store.brought(coin_and_share, store.friday, thursday)
    assert done.counts["late"] == 3 + 5  # shares of Monday to Wednesday; coins of Saturday to Wednesday
    rows = {row["symbol"]: row for row in done.decisions}
    assert all(row["current"] and row["weight"] is not None for row in rows.values())
    assert not [text for text in done.warnings if "ordered 1 h" in text]
    hours_later = thursday + timedelta(days=1, hours=3)
    done = store.brought(coin_and_share, thursday, hours_later)
    assert [text for text in done.warnings if text.startswith("'B1_1': ordered 1 h or more after the close")]
    assert not [text for text in store.brought(coin_and_share, thursday, hours_later).warnings if "ordered 1 h" in text]
    assert gatecast("store", "check", store.folder).status == 0
    for compared in ("parity", "replay"):
        found = gatecast(compared, store.folder, "--now", hours_later.isoformat())
        assert found.status == 0, found.out + found.err
    counted = issued_table(Store.open(store.folder), coin_and_share.filter(pl.col("time") <= hours_later))
    midnights = [thursday - MINUTES, hours_later.replace(hour=0, minute=0)]
    assert sorted(set(counted.filter(symbol="B1_1")["time"]))[-2:] == midnights  # none that its answer came before


def as_it_is(bars: pl.DataFrame, since: datetime) -> pl.DataFrame:
    return bars


def with_a_new_symbol(bars: pl.DataFrame, since: datetime) -> pl.DataFrame:
    return pl.concat([bars, bars.filter(symbol="B1_0").with_columns(symbol=pl.lit("NEW"))])


def with_one_row_that_says_when_it_became_known(bars: pl.DataFrame, since: datetime) -> pl.DataFrame:
    one = (pl.col("symbol") == "B1_0") & (pl.col("time") < since)
    return bars.with_columns(known_at=pl.when(one).then(pl.col("time") + timedelta(minutes=5)).otherwise("time"))


def test_nothing_is_ordered_in_sessions_that_are_caught_up_with_whatever_the_file_says(
    coin_and_share: pl.DataFrame, tmp_path: Path
) -> None:
    found = []
    for made in (as_it_is, with_a_new_symbol, with_one_row_that_says_when_it_became_known):
        store = Lived(tmp_path / made.__name__, coin_and_share)
        thursday = store.friday + timedelta(days=6)
        bars = made(coin_and_share, store.friday)
        news = (pl.col("time") > store.friday - timedelta(days=3)) | (pl.col("symbol") == "NEW")
        done = update(store.folder, bars.filter(news, pl.col("time") <= thursday), now=thursday)
        new = 3 * (made is with_a_new_symbol)
        assert done.counts["late"] == 3 + 5 + new
        bodies = [one.body for one in Store.open(store.folder).journal.records() if one.body.get("book")]
        found.append([(one["session"], one["earned"], one["expected"]) for one in bodies[-1]["book"]["caught_up"]])
    assert len(found[0]) == 5
    assert found[0] == found[1] == found[2]


def test_a_coin_that_comes_in_a_second_file_is_not_called_dated_back(
    coin_and_share: pl.DataFrame, gatecast: Command, tmp_path: Path
) -> None:
    other = coin_and_share.filter(symbol="B1_1").with_columns(symbol=pl.lit("ETH-USD"))
    bars = pl.concat([coin_and_share, other])
    store = Lived(tmp_path / "store", bars)
    monday, coin = store.friday + timedelta(days=3), pl.col("symbol") == "ETH-USD"
    first, second = bars.filter(~coin), bars.filter(coin)
    store.brought(first, store.friday, monday)
    store.brought(second, store.friday + timedelta(days=2), monday + 3 * MINUTES)
    checked = gatecast("store", "check", store.folder)
    assert checked.status == 0
    assert "claims to have been known" not in checked.out + checked.err


def test_parity_follows_a_session_that_is_decided_again_without_a_new_forecast(
    coin_and_share: pl.DataFrame, gatecast: Command, tmp_path: Path
) -> None:
    """The share's file comes first; the coin's newest bar follows one that came too late: nothing is forecast of it."""
    bars, coin = coin_and_share.with_columns(volume=pl.lit(1e9)), pl.col("symbol") == "B1_1"
    store = Lived(tmp_path / "store", bars)
    tuesday = store.friday + timedelta(days=3)
    thursday = tuesday + timedelta(days=2, hours=8)
    store.brought(bars, store.friday, tuesday)
    first = bars.filter(~coin | (pl.col("time") < thursday - timedelta(days=1)))
    held = {row["symbol"]: row["held"] for row in store.brought(first, tuesday, thursday).decisions}
    done = store.brought(bars, tuesday, thursday + 4 * MINUTES)
    again = {row["symbol"]: row["held"] for row in done.decisions}
    assert again["B1_0"] != held["B1_0"]
    assert next(row["gate"] for row in done.decisions if row["symbol"] == "B1_1") == "no forecast"
    assert [text for text in done.warnings if text.startswith("'B1_1': ordered 1 h or more after the close")]
    for now in (thursday + 4 * MINUTES, tuesday + timedelta(days=3)):
        store.brought(bars, thursday, now)
        found = gatecast("parity", store.folder, "--now", now.isoformat())
        assert found.status == 0, found.out + found.err


def test_parity_names_a_bar_of_a_later_close_of_the_session_that_was_corrected(
    coin_and_share: pl.DataFrame, gatecast: Command, tmp_path: Path
) -> None:
    """The coin closes three hours after the share, whose holding is the first that differs."""
    bars = coin_and_share.with_columns(volume=pl.lit(1e9))
    store, now = Lived(tmp_path / "store", bars), None
    for day in range(3, 6):
        now, before = store.friday + timedelta(days=day), now or store.friday
        store.brought(bars, before, now)
    assert now is not None
    coin = (pl.col("symbol") == "B1_1") & (pl.col("time") == now - MINUTES)
    other = bars.with_columns(close=pl.when(coin).then(pl.col("close") * 0.97).otherwise("close"))
    other = other.with_columns(low=pl.min_horizontal("low", "close"))
    store.brought(other, now - timedelta(days=1), now + MINUTES)
    found = gatecast("parity", store.folder, "--now", (now + 2 * MINUTES).isoformat())
    assert found.status == 1
    assert "'B1_1'" in found.out + found.err
    assert "the bar is the first to differ" in found.out + found.err


def test_no_open_has_passed_for_a_pair_that_is_filled_at_its_next_close() -> None:
    """Beside coins, which close two hours later in the session."""
    bars = bars_of(("fx", "crypto"))
    now = bars["time"].max() + 2 * timedelta(hours=1)  # type: ignore[operator]
    both = {"GBPUSD", "BTC-USD"}
    assert opens_passed(bars, both, now)[0].startswith("'BTC-USD': ordered 1 h or more after the close")
    alone = opens_passed(bars.filter(asset_class="fx"), both, now)
    assert alone[0].startswith("'GBPUSD': ordered 1 h or more after the close")
    assert not opens_passed(bars, both, now - timedelta(minutes=70))
