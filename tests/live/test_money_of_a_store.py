"""Money of a store's book: what is told in the evening is paid in the next session, and nothing impossible enters."""

from __future__ import annotations

import shutil
from datetime import date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from gatecast.errors import BarsError
from gatecast.live import add_action, list_actions, parity, remove_action, retrain, today, update
from gatecast.live.book import book_now
from gatecast.market.actions import read_actions, with_known_at
from gatecast.market.facts import facts_of
from gatecast.report import card
from gatecast.store import Store
from gatecast.trading.book import sessions_by
from gatecast.trading.events import Dividend
from tests.live.conftest import HOUR, files, settings

A, LATE = "B1_0", "B1_1"
EVENING = HOUR / 2


@pytest.fixture(scope="module")
def mixed(bars: pl.DataFrame) -> pl.DataFrame:
    """One symbol whose class closes an hour after the other's: its bar comes with the next session's."""
    late = pl.col("symbol") == LATE
    time = pl.when(late).then(pl.col("time") + HOUR).otherwise("time")
    kind = pl.when(late).then(pl.lit("fx")).otherwise("asset_class")
    return bars.with_columns(time=time, known_at=time, asset_class=kind).sort("symbol", "time")


@pytest.fixture(scope="module")
def made(
    mixed: pl.DataFrame, closes: list[datetime], month: int, tmp_path_factory: pytest.TempPathFactory
) -> Path:  # fmt: skip
    """A store of both that has held its symbols for some sessions."""
    folder = tmp_path_factory.mktemp("mixed") / "store"
    now = closes[month - 12] + EVENING
    update(folder, mixed.filter(pl.col("time") <= now), now=now, experiment=settings())
    assert retrain(folder, now=now).model is not None
    for number in range(month - 11, month - 7):
        fed(folder, mixed, closes, number)
    return folder


@pytest.fixture
def kept(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "store")
    return tmp_path / "store"


def fed(store: Path, bars: pl.DataFrame, closes: list[datetime], number: int, **more: object) -> None:
    now = closes[number] + EVENING
    update(store, bars.filter(pl.col("time").is_between(closes[number - 2], now)), now=now, **more)


def equity(store: Path) -> float:
    held = book_now(Store.open(store))
    assert held is not None
    return float(held.figures["equity"])


def table(day: date, value: float, kind: str = "dividend") -> pl.DataFrame:
    return pl.DataFrame({"symbol": [A], "kind": [kind], "date": [day], "value": [value]})


@pytest.mark.parametrize("how", ["at once", "add", "table"])
def test_what_is_told_after_a_session_was_decided_is_paid_in_the_next(
    kept: Path, mixed: pl.DataFrame, closes: list[datetime], month: int, tmp_path: Path, how: str
) -> None:
    first, ex_date = month - 7, closes[month - 9].date()
    plain = shutil.copytree(kept, tmp_path / "plain")
    cash = 0.01 * float(mixed.filter(pl.col("symbol") == A)["close"][month - 9])
    fed(plain, mixed, closes, first)
    fed(kept, mixed, closes, first, **({"actions": table(ex_date, cash)} if how == "table" else {}))
    decided = equity(kept)
    assert decided == equity(plain)
    if how != "table":
        told = closes[first] + (EVENING if how == "at once" else EVENING + timedelta(minutes=20))
        add_action(kept, symbol=A, day=ex_date, kind="dividend", cash=cash, now=told)
    for store in (plain, kept):
        fed(store, mixed, closes, first + 1)
    opened = Store.open(kept)
    tables = pl.concat([opened.holdings_of(str(one.book)) for one in opened.state.issued if one.book])
    before = tables.filter(pl.col("symbol") == A, pl.col("session") < ex_date).sort("session")
    after = tables.filter(pl.col("symbol") == A, pl.col("session") == ex_date)
    units = after["units"][-1] if before.is_empty() else before["units"][-1] + before["trade"][-1]
    paid = units * cash * (1 - opened.experiment.book.money.withholding)
    assert paid != 0
    assert equity(kept) - equity(plain) == pytest.approx(paid, rel=0.02)
    for store in (plain, kept):
        fed(store, mixed, closes, first + 2)
    assert equity(kept) - equity(plain) == pytest.approx(paid, rel=0.1)  # once
    assert parity(kept, now=closes[first + 2] + HOUR).difference is None


@pytest.mark.parametrize(("hours", "pays"), [(-20, 0), (0, 0), (0.25, 1)])
def test_a_table_that_says_when_it_became_known_is_paid_in_the_session_that_a_run_pays_it_in(
    kept: Path, mixed: pl.DataFrame, closes: list[datetime], month: int, tmp_path: Path, hours: float, pays: int
) -> None:
    """The first close of the session at `first`, an hour before its last one, decides; given half an hour after it."""
    first, ex_date, plain = month - 7, closes[month - 9].date(), shutil.copytree(kept, tmp_path / "plain")
    told = table(ex_date, 1.0).with_columns(known_at=pl.lit(closes[first] + hours * HOUR))
    given = {first: {"actions": told}}
    paid = dict[int, float]()
    for number in (first, first + 1):
        for store in (plain, kept):
            fed(store, mixed, closes, number, **(given.get(number, {}) if store == kept else {}))
        paid[number - first] = equity(kept) - equity(plain)
    assert next(day for day, one in paid.items() if abs(one) > 1) == pays
    opened = Store.open(kept)
    (stored,) = opened.actions["known_at"]
    assert stored == max(closes[first] + hours * HOUR, closes[first - 1] + timedelta(microseconds=1))
    sessions = sessions_by(facts_of(mixed, with_known_at(read_actions(told), mixed)), opened.experiment.book)
    days = [day for day, events in sessions.events.items() if any(isinstance(one, Dividend) for one in events)]
    assert days == [closes[first + pays].date()]


@pytest.mark.parametrize("ahead", [0, 3])
def test_a_dividend_above_the_price_does_not_enter_by_a_table(
    kept: Path, mixed: pl.DataFrame, closes: list[datetime], month: int, ahead: int
) -> None:
    close = float(mixed.filter(pl.col("symbol") == A)["close"][month - 8])
    before, day = files(kept), closes[month - 7 + ahead].date()
    for value in (1.5 * close, 1e300):
        with pytest.raises(BarsError, match="more than the close before"):
            fed(kept, mixed, closes, month - 7, actions=table(day, value))
    after = files(kept)
    assert {name: after[name] for name in after if "journal" in name} == {
        name: before[name] for name in before if "journal" in name
    }


def test_money_without_bound_stops_the_update_and_is_taken_back(
    kept: Path, mixed: pl.DataFrame, closes: list[datetime], month: int
) -> None:
    opened, now, day = Store.open(kept), closes[month - 8] + HOUR, closes[month - 7].date()
    row = table(day, 1e300).with_columns(known_at=pl.lit(now), pay_day=None, into=None, ratio=None)
    schema = opened.actions.schema
    with opened.locked():
        opened.set_actions(row.rename({"pay_day": "pay_date"}).select(list(schema)).cast(schema), now)  # type: ignore[arg-type]
    number = Store.open(kept).state.number
    with pytest.raises(BarsError, match=r"no finite number.*actions remove"):
        fed(kept, mixed, closes, month - 7)
    assert Store.open(kept).state.number == number
    assert remove_action(kept, symbol=A, day=day, kind="dividend", now=closes[month - 7] + EVENING).changed
    fed(kept, mixed, closes, month - 7)
    assert 0 < equity(kept) < 1e7


def test_a_coming_dividend_of_a_table_is_listed_and_taken_back(
    kept: Path, mixed: pl.DataFrame, closes: list[datetime], month: int, tmp_path: Path
) -> None:
    plain = shutil.copytree(kept, tmp_path / "plain")
    day, now = closes[month - 6].date(), closes[month - 7] + EVENING
    fed(plain, mixed, closes, month - 7)
    fed(kept, mixed, closes, month - 7, actions=table(day, 0.1))
    listed = list_actions(kept, now=now).actions
    assert listed.select("symbol", "kind", "date", "value").rows() == [(A, "dividend", day, 0.1)]
    assert remove_action(kept, symbol=A, day=day, kind="dividend", now=now).changed
    assert not remove_action(kept, symbol=A, day=day, kind="dividend", now=now).changed
    assert list_actions(kept, now=now).actions.is_empty()
    for store in (plain, kept):
        fed(store, mixed, closes, month - 6)
    assert equity(kept) == equity(plain)


def test_update_today_and_card_say_the_same(
    kept: Path, mixed: pl.DataFrame, closes: list[datetime], month: int
) -> None:
    fed(kept, mixed, closes, month - 7)
    told = today(kept, now=closes[month - 7] + EVENING)
    assert told.book is not None
    assert told.morning is not None
    assert told.book.figures["held_volatility"] == pytest.approx(told.morning.risk.volatility, rel=1e-9)
    assert f"forecast volatility {told.morning.risk.volatility:.1%} a year" in told.book.sentence
    failures = next(one for one in card(kept).to_dict()["sections"] if one["title"] == "Known failures")
    said = [one for one in failures["said"] if one.startswith("Finding: ")]
    found = [one.removeprefix("finding: ") for one in told.morning.sentences if one.startswith("finding: ")]
    assert [one.removeprefix("Finding: ") for one in said] == found
