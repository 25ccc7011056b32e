"""Actions of companies through a store, update by update: its book earns what the hand-made table says."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import pytest

from gatecast.experiment import Experiment
from gatecast.live import add_action, parity, replay_store, retrain, today, update
from gatecast.live.book import book_now
from gatecast.store import Store
from tests.trading.test_actions_of_a_book import ACTIONS, BOUGHT, CLOSES, FREE, NAMES, PROFIT, write_bars

SPLIT, SOLD, LATE = date(2022, 6, 10), date(2022, 6, 13), date(2022, 6, 15)
"""Before whose bars the split is told; on which NEW is sold; after whose close the dividend is told."""
DIVIDEND = 1942.76
ROWS = ACTIONS.splitlines()


class Kept(NamedTuple):
    """A store that was fed session by session, all its bars, and session -> equity and what was found."""

    store: Path
    bars: pl.DataFrame
    found: dict[date, tuple[float, list[str]]]
    late: dict[date, list[str]]


def evening(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 22, tzinfo=UTC)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    folder = tmp_path_factory.mktemp("planted")
    whole = pl.read_csv(write_bars(folder / "bars.csv"), try_parse_dates=True)
    experiment = Experiment(
        features=("ret_log_1",), models=("ridge", "logistic"), signals={"model": "ridge", "confirmed_by": "ridge"},
        strategies={"names": ["trend"]}, schedule={"refit": 320, "train": 200, "minimum": 200},
        book={
            "core": {"kind": "weights", "weights": dict.fromkeys(NAMES, 1 / 7)}, "money": FREE,
            "size": {"target_volatility": 2.0, "minimum_ticket": 140_000},  # so that all is held as it was bought
        },
    )  # fmt: skip
    store, found, late = folder / "store", dict[date, tuple[float, list[str]]](), dict[date, list[str]]()
    for day in CLOSES:
        bars, told = folder / f"{day}.csv", folder / f"actions {day}.csv"
        whole.filter(pl.col("date") <= day if day == BOUGHT else pl.col("date") == day).write_csv(bars)
        known = [row for row in ROWS[1:] if row.split(",")[2] <= str(day) and ",split," not in row]
        known = [row for row in known if ",dividend," not in row or day >= LATE]
        told.write_text("\n".join([ROWS[0], *known, ""]))
        if day == SPLIT:
            noon = evening(day) - timedelta(hours=10)
            add_action(store, symbol="SPLIT", day=day, kind="split", ratio=4.0, now=noon)
        given = {"actions": told} if known else {}
        update(store, bars, now=evening(day), experiment=experiment if day == BOUGHT else None, **given)
        if day == BOUGHT:
            retrain(store, now=evening(day))
        now = book_now(Store.open(store))
        assert now is not None
        assert now.session == str(day)
        found[day] = (now.figures["equity"], now.figures["findings"])
        late[day] = now.booked_late
    return Kept(store, whole, found, late)


def test_the_profit_of_every_session_of_a_store_is_right_to_the_cent(kept: Kept) -> None:
    """As the table says but for two: the dividend becomes known late, and NEW, no name of the core, is sold at once."""
    equity = [one for one, _ in kept.found.values()]
    opens = kept.bars.filter(pl.col("symbol") == "NEW", pl.col("date") == SOLD)["open"].item()
    others = {SPLIT: -DIVIDEND, date(2022, 6, 16): DIVIDEND, SOLD: 7142 * (opens - 22.00)}
    for day, profit in zip(PROFIT, np.diff(equity), strict=True):
        by_hand = sum(PROFIT[day]) + others.get(day, 0.0) - (PROFIT[day][NAMES.index("OLD")] if day >= SOLD else 0.0)
        assert round(profit, 2) == round(by_hand, 2), day
    assert any("on the 2857 units held before its date" in one for one in kept.found[date(2022, 6, 16)][1])


def test_an_action_that_was_told_late_is_a_finding_of_today_and_of_its_update_alone(kept: Kept) -> None:
    told = today(kept.store, now=evening(list(CLOSES)[-1]) + timedelta(hours=1))
    assert told.morning is not None
    (one,) = [each for each in told.morning.findings if each["kind"] == "late"]
    assert "an action of PAYS on 2022-06-10 became known by 2022-06-16: it is booked on the 2857" in one["sentence"]
    assert one["weight"] == pytest.approx(1 / told.morning.closes)
    assert one["advice"] in " ".join(told.morning.sentences)
    assert {day: len(said) for day, said in kept.late.items() if said} == {date(2022, 6, 16): 1}


def test_what_the_store_issued_is_what_a_chain_over_all_its_bars_says(kept: Kept) -> None:
    now = evening(list(CLOSES)[-1]) + timedelta(hours=1)
    for done in (parity(kept.store, now=now), replay_store(kept.store, now=now)):
        assert done.closes >= len(CLOSES) - 1
        assert done.equal, done.message
