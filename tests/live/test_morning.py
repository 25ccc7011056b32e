"""The morning of a store: what its book may lose, the live record and findings, each number made again by hand."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from html import escape
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from rich.console import Console

from gatecast.cli.app import execute
from gatecast.live import add_action, today, update
from gatecast.live.blotter import Blotter
from gatecast.live.book import book_now
from gatecast.live.exposure import Risk
from gatecast.live.morning import Morning
from gatecast.live.scored import LEAST_LIVE, LiveRecord, _of_book, _of_forecasts
from gatecast.live.shown import decided
from gatecast.live.today import Today
from gatecast.store import Store
from gatecast.store.pieces import forecasts_in_force
from gatecast.trading.strategies import strategy_titles
from tests.live.conftest import HOUR, Command

SYMBOLS = ("B1_0", "B1_1")
FED = 9
"""Closes that came since the refit: four of their forecasts have an answer."""


@pytest.fixture(scope="module")
def fed(
    trained: Path, bars: pl.DataFrame, closes: list[datetime], month: int, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The store some closes later."""
    store = tmp_path_factory.mktemp("fed") / "store"
    shutil.copytree(trained, store)
    for number in range(month - 3, month - 3 + FED):
        update(store, bars.filter(pl.col("time") == closes[number]), now=closes[number] + HOUR)
    return store


@pytest.fixture(scope="module")
def now(closes: list[datetime], month: int) -> datetime:
    return closes[month - 4 + FED] + HOUR


@pytest.fixture(scope="module")
def seen(fed: Path, now: datetime) -> Today:
    return today(fed, now=now)


def wide(bars: pl.DataFrame, column: str, last: datetime) -> pd.DataFrame:
    frame = bars.filter(pl.col("time") <= last).select("symbol", "time", column).to_pandas()
    return frame.pivot(index="time", columns="symbol", values=column)[list(SYMBOLS)]


def test_what_the_book_may_lose_is_what_its_weights_and_covariance_say(
    fed: Path, seen: Today, bars: pl.DataFrame, closes: list[datetime], month: int
) -> None:
    assert seen.morning is not None
    assert seen.book is not None
    risk = seen.morning.risk
    weights = np.array([seen.book.rows[name]["held"] for name in SYMBOLS])
    assert risk.gross == pytest.approx(np.abs(weights).sum())
    assert risk.net == pytest.approx(weights.sum())
    store = Store.open(fed)
    line = store.carried_of(str(store.state.issued[-1].carried)).line
    assert line.names == SYMBOLS
    assert line.covariance is not None
    variance = weights @ line.covariance @ weights
    assert [risk.shares[name] for name in SYMBOLS] == pytest.approx(weights * (line.covariance @ weights) / variance)
    assert sum(row["risk_share"] for row in seen.rows) == pytest.approx(1)
    a_year = (len({one.date() for one in closes[:500]}) / ((closes[499] - closes[0]).days / 365.25)) ** 0.5
    assert risk.volatility == pytest.approx(line.sizing.level * variance**0.5 * a_year, rel=0.02)

    returns = wide(bars, "close", closes[month - 4 + FED]).pct_change().iloc[1:]
    deviation = (returns**2).ewm(alpha=0.06, min_periods=22).mean() ** 0.5
    outcomes = (returns / deviation.shift(1)).dropna().to_numpy() * line.deviation @ weights
    beyond = 0.025 * len(outcomes)
    lowest = np.sort(outcomes)[: int(np.ceil(beyond))]
    part = np.r_[np.ones(len(lowest) - 1), beyond - (len(lowest) - 1)]
    assert risk.vectors == len(outcomes) >= 250
    assert risk.value_at_risk == pytest.approx(lowest[-1])
    assert risk.shortfall == pytest.approx((lowest * part).sum() / beyond)


@pytest.mark.parametrize(("closes", "said"), [(1, "need 21 closes of the book; it has 1"), (21, "No findings.")])
def test_too_few_closes_are_not_called_no_findings(closes: int, said: str) -> None:
    risk = Risk("2024-01-05", 0.0, 0.0, None, 0.1, False, {}, None, None, 0, {}, 1e6, "USD")
    sentences = Morning(risk, LiveRecord(1, 1.0, 1.0, 0.0), closes=closes).sentences
    assert said in sentences[-1]
    assert ("No findings." in sentences) == (closes == 21)
    assert "variance, 1 session: " in sentences[0]


def test_live_forecasts_are_scored_as_they_were_issued(
    fed: Path, seen: Today, bars: pl.DataFrame, closes: list[datetime], month: int
) -> None:
    assert seen.morning is not None
    store = Store.open(fed)
    issued = forecasts_in_force(store.artefacts, store.state, 5)
    forecasts = issued.filter(head="volatility").to_pandas()
    last = closes[month - 4 + FED]
    high, low, close, opened = (np.log(wide(bars, name, last)) for name in ("high", "low", "close", "open"))
    proxy = 0.5 * (high - low) ** 2 - (2 * np.log(2) - 1) * (close - opened) ** 2
    realised = proxy.rolling(5).sum().shift(-5)
    losses = {}
    for model in ("ensemble", "rival"):
        own = forecasts[forecasts["model"] == model].pivot(index="time", columns="symbol", values="value")
        own = own[[one > closes[month - 4] for one in own.index]]
        ratio = (realised.loc[own.index] / own[list(SYMBOLS)]).dropna()
        losses[model] = (ratio - np.log(ratio) - 1).mean(axis=1)
    record = seen.morning.record
    assert record.sessions == len(losses["rival"]) == FED - 5
    assert record.loss == pytest.approx(losses["ensemble"].mean())
    assert record.rival_loss == pytest.approx(losses["rival"].mean())
    assert record.gain == pytest.approx(1 - losses["ensemble"].mean() / losses["rival"].mean())
    assert record.within is None
    assert "takes 21 sessions" in record.sentences[0]


def test_the_volatility_of_the_book_stands_beside_the_one_forecast(fed: Path, seen: Today) -> None:
    assert seen.morning is not None
    bodies = [one.body["book"] for one in Store.open(fed).journal.records() if one.body.get("book")]
    equity = {one["session"]: one["equity"] for one in bodies}
    assert seen.morning.record.book_sessions == seen.morning.record.book_passed == FED
    newest = bodies[-1]
    earned = equity[newest["session"]] / bodies[-2]["equity"] - 1
    assert newest["earned"] == pytest.approx(earned, abs=2e-4)  # which has no interest in it
    ratios = [one["earned"] ** 2 / (one["expected"] * one["level"] ** 2) for one in bodies if one["earned"] is not None]
    assert seen.morning.record.ratio == pytest.approx(np.mean(ratios) ** 0.5)


def test_the_band_of_what_was_expected_is_that_of_the_record_and_of_so_few_sessions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frame = pl.DataFrame({"symbol": ["A"], "time": [datetime(2020, 1, 2)]})
    both = SimpleNamespace(n=40, loss=0.9, loss_against=1.0, gain=0.1)
    monkeypatch.setattr("gatecast.live.scored.issued_table", lambda *_: frame)
    monkeypatch.setattr("gatecast.live.scored.paired", lambda *_: both)
    monkeypatch.setattr("gatecast.live.scored.Record.from_table", lambda *_, **__: {"volatility": None})
    store: Any = SimpleNamespace(experiment=SimpleNamespace(horizon=5, volatility_proxy="parkinson"))
    verdict = {"effect": 0.02, "low": 0.01, "high": 0.03, "n": 360}
    found = _of_forecasts(store, frame, verdict)
    error = np.hypot(0.01, 0.01 * (360 / 40) ** 0.5)  # of the mean of the record, and of 40 sessions like its own
    assert (found["low"], found["high"]) == (pytest.approx(0.02 - error), pytest.approx(0.02 + error))
    assert not found["within"]
    both.gain = 0.05
    assert _of_forecasts(store, frame, verdict)["within"]
    both.n = LEAST_LIVE - 1
    assert "within" not in _of_forecasts(store, frame, verdict)
    assert "within" not in _of_forecasts(store, frame, {})
    both.n = 0
    assert _of_forecasts(store, frame, verdict) == {}


def test_a_book_that_is_twice_as_wild_as_forecast_is_seen() -> None:
    random = np.random.default_rng(1)
    told = [{"earned": earned, "expected": 1e-4, "level": 1.0} for earned in 0.01 * random.standard_normal(200)]
    calm = _of_book(told)
    wild = _of_book([{**one, "earned": 2 * one["earned"]} for one in told])
    assert calm["ratio_within"]
    assert not wild["ratio_within"]
    assert wild["ratio"] == pytest.approx(2 * calm["ratio"])
    assert "does not hold 1" in LiveRecord(**wild).sentences[1]
    begun = _of_book([{"earned": None}, *told])
    assert begun["book_passed"] == calm["book_passed"] == 200
    for found, said in ((calm, "of the book, the newest 200 sessions: "), (begun, "of the book, 200 sessions: ")):
        assert said in LiveRecord(**found).sentences[1]
    assert _of_book([{"session": "2020-01-02"}, {"earned": None, "expected": 1.0, "level": 1.0}]) == {}


def test_what_is_held_and_has_no_bars_or_has_ended_is_a_finding(
    store: Path, bars: pl.DataFrame, closes: list[datetime], month: int, feed: Callable[..., Any]
) -> None:
    feed(month - 3)
    assert all(one["kind"] not in ("silent", "delisted") for one in today(store).to_dict()["findings"])
    alone = bars.filter(pl.col("symbol") == SYMBOLS[0])
    feed(month - 2, month + 4, alone)
    held = book_now(Store.open(store))
    assert held is not None
    assert held.rows[SYMBOLS[1]]["held"] != 0
    now = closes[month + 4] + HOUR
    (silent,) = [one for one in today(store, now=now).to_dict()["findings"] if one["kind"] == "silent"]
    assert silent["subject"] == SYMBOLS[1]
    command = f"`gatecast actions add {store} --symbol {SYMBOLS[1]} --date {closes[month - 3].date()} --kind delisting"
    assert command in silent["advice"]
    assert silent["weight"] == pytest.approx(abs(held.rows[SYMBOLS[1]]["held"]))
    add_action(store, symbol=SYMBOLS[1], day=closes[month - 3].date(), kind="delisting", last_return=-0.3, now=now)
    found = today(store, now=now + timedelta(minutes=1)).to_dict()["findings"]
    assert [one["subject"] for one in found if one["kind"] == "delisted"] == [SYMBOLS[1]]
    assert not [one for one in found if one["kind"] == "silent"]


def test_update_says_what_was_booked_late(
    store: Path, gatecast: Command, bars: pl.DataFrame, closes: list[datetime], month: int, tmp_path: Path
) -> None:
    def comes(number: int) -> tuple[str, list[str]]:
        path = tmp_path / f"{number}.parquet"
        bars.filter(pl.col("time") == closes[number]).write_parquet(path)
        answer = gatecast("update", store, "--bars", path, "--now", (closes[number] + HOUR).isoformat())
        assert answer.status == 0, answer.err
        found = today(store, now=closes[number] + HOUR).to_dict()["findings"]
        return " ".join(answer.out.split()), [one["kind"] for one in found]

    for number in (month - 3, month - 2):
        said, kinds = comes(number)
        assert "finding:" not in said
        assert "late" not in kinds
    held = book_now(Store.open(store))
    assert held is not None
    name, day = next(symbol for symbol, row in held.rows.items() if row["units"]), closes[month - 2].date()
    add_action(store, symbol=name, day=day, kind="dividend", cash=0.5, now=closes[month - 2] + 2 * HOUR)
    said, kinds = comes(month - 1)
    assert f"finding: an action of {name} on {day} became known by {closes[month - 1].date()}: it is booked" in said
    assert kinds.count("late") == 1


HALT = {"kind": "halted", "record": 7, "by": "kim", "reason": "holiday", "now": "2024-01-05T22:00:00+00:00"}


def test_breaks_that_nobody_explained_and_a_halt_are_said(
    fed: Path, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reconciled(account: str, *breaks: tuple[str, str | None]) -> dict[str, Any]:
        rows = [{"symbol": symbol, "expected": 5.0, "found": 4.0, "reason": reason} for symbol, reason in breaks]
        return {"kind": "reconciled", "account": account, "breaks": rows}

    events = (
        reconciled("one", ("A", None), ("B", None)), reconciled("two", ("C", None)),
        reconciled("one", ("A", None), ("B", "a gift")), HALT,
    )  # fmt: skip
    monkeypatch.setattr(Blotter, "events", events)
    told = today(fed, now=now)
    found = told.morning
    assert found is not None
    assert [(one["account"], one["symbol"], one["expected"], one["found"]) for one in found.breaks] == [
        ("one", "A", 5.0, 4.0), ("two", "C", 5.0, 4.0),
    ]  # fmt: skip
    assert "break: one: A should be 5 units and is 4." in " ".join(found.sentences)
    (halt,) = told.halts
    assert halt["sentence"] == "no orders are exported: halted by kim since 2024-01-05 22:00 UTC (holiday), record 7."


def test_the_command_says_it_on_100_columns_and_json_has_all(
    fed: Path, now: datetime, seen: Today, gatecast: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = gatecast("today", fed, "--now", now.isoformat(), "--json")
    whole = answer.json
    assert {"risk", "record", "findings", "breaks", "decisions", "book"} <= whole.keys()
    assert whole["risk"]["shortfall"] == pytest.approx(seen.morning.risk.shortfall)  # type: ignore[union-attr]
    assert json.dumps(whole["record"], sort_keys=True) == json.dumps(
        seen.morning.record.to_dict(),
        sort_keys=True,  # type: ignore[union-attr]
    )
    shown = io.StringIO()
    monkeypatch.setattr("gatecast.cli.kept.make_console", lambda: Console(file=shown, width=100, highlight=False))
    gatecast("today", fed, "--now", now.isoformat())
    lines = shown.getvalue().splitlines()
    assert lines[0].startswith("The book after the close of")
    assert "Expected shortfall" in shown.getvalue()
    table = next(line for line in lines if line.lstrip().startswith("symbol"))
    assert "of risk" in table
    rows = [line for line in lines if line.lstrip().startswith("B1_") and line.lstrip()[4] != ":"]
    assert len(rows) == 2
    assert max(map(len, [table, *rows])) <= 100
    assert "Live forecasts of variance" in shown.getvalue()


def test_update_and_today_print_a_decision_in_the_words_of_the_pages() -> None:
    row = {
        "symbol": "A", "time": "2020-01-02 21:00", "strategy": "held_long", "trade": -2253.0, "held": 0.18,
        "target": 0.2, "expected_return_log": 0.0011, "standard_deviation": 0.02, "signal": -1, "gate": "evidence",
        "limited_by": "trade: band",
    }  # fmt: skip
    (cells,) = decided([{**row, "tilt": 0.01}], strategy_titles())
    assert (cells["trade"], cells["strategy"]) == ("sell 2,253", "held long, sized by volatility")
    assert (cells["expected"], cells["s.d."], cells["held"], cells["tilt"]) == ("+0.11%", "2.00%", "+18.0%", "+1.0%")
    assert not {"tilt", "of risk"} & set(decided([row], strategy_titles())[0])


def test_a_notebook_shows_of_today_what_the_command_shows(fed: Path) -> None:
    found = today(fed)
    page = found._repr_html_()
    assert found.morning
    for said in (*found.reasons, *found.morning.risk.sentences, *found.morning.sentences):
        assert escape(said) in page
    (table,) = re.findall("<thead>.*?</thead>", page)
    assert re.findall("<th>(.*?)</th>", table) == [escape(name) for name in decided(found.rows, found.titles)[0]]
    assert page.count("<table>") == 1


def test_sessions_of_the_book_that_say_nothing_of_its_volatility_are_told_apart() -> None:
    """On a weekend on which coins alone trade a book of shares holds nothing that is traded."""
    first = {"session": "2024-01-04", "earned": None, "expected": None, "level": None}
    traded = {"session": "2024-01-05", "earned": 0.01, "expected": 1e-4, "level": 1.0}
    found = _of_book([first, traded, *({**traded, "expected": 0.0} for _ in range(2))])
    assert (found["book_sessions"], found["book_passed"]) == (1, 3)
    said = LiveRecord(**found).sentences[1]
    assert "of the book, 1 session of 3 (in 2 sessions nothing that it held was traded): 1.00." in said


def test_the_words_of_a_morning_can_be_read_one_way(fed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    risk = Risk("2024-01-05", 0.9, 0.5, 0.095, 0.1, True, {}, -0.012, -0.016, 900, {}, 1e6, "USD")
    assert "What is held has a forecast volatility of 9.5%; 10.0% is aimed at" in risk.sentences[-1]
    assert execute(["today", str(fed)]) == 0
    said = capsys.readouterr().out
    assert "loss (QLIKE, smaller is better)" in said
    assert not re.search(r"\d %|: (no|the) [^.]*\. [a-z]", said)
