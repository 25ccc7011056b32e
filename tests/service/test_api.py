"""Each answer is what the commands say, with the record and the model that it is of; nothing is written."""

from __future__ import annotations

import json
import math
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from served import FIRST, HOUR, SYMBOLS
from starlette.testclient import TestClient

from gatecast.cli.app import execute
from gatecast.errors import StoreError
from gatecast.live import update
from gatecast.live.book import book_now
from gatecast.service.api import MOST_BARS, encoded
from gatecast.service.app import make_app
from gatecast.service.view import View, missing_of
from gatecast.store import Store
from gatecast.store.pieces import forecasts_in_force
from gatecast.trading.strategies import strategy_titles

PLAIN = (
    "today", "symbols", "book", "risk", "findings", "models", "refits", "verdicts", "drift", "runs", "decisions",
    "changes", "orders",
)  # fmt: skip
FIRST_SYMBOL = quote(SYMBOLS[0], safe="")


def get(client: TestClient, path: str, status: int = 200) -> Any:
    answer = client.get(path)
    assert answer.status_code == status, answer.text
    return answer.json()


@pytest.mark.parametrize("name", PLAIN)
def test_every_answer_says_of_which_record_and_model_it_is(client: TestClient, made: Path, name: str) -> None:
    state = Store.open(made).state
    head = {"store": state.id, "record": state.number, "hash": state.hash, "model": state.serving}
    assert get(client, f"/api/{name}")["head"] == head
    for part in ("forecast", "bars", "chart", "explain"):
        assert get(client, f"/api/symbols/{FIRST_SYMBOL}/{part}")["head"] == head


def test_today_is_what_the_command_says(
    client: TestClient, made: Path, now: datetime, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["today", str(made), "--now", now.isoformat(), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    answer = get(client, "/api/today")
    for row in answer["decisions"]:
        assert set(row.pop("missing")) == {name for name, value in row.items() if value is None}
    assert {name: answer[name] for name in told} == told


def test_symbols_have_their_class_and_decision(client: TestClient) -> None:
    rows = get(client, "/api/symbols")["symbols"]
    decided = {row["symbol"]: row for row in get(client, "/api/today")["decisions"]}
    assert [row["symbol"] for row in rows] == sorted(SYMBOLS)
    for row in rows:
        assert row["asset_class"] == "index"
        assert row["held"] == decided[row["symbol"]]["held"]
        assert not row["waits"]


def test_the_path_is_what_was_issued(client: TestClient, made: Path) -> None:
    opened = Store.open(made)
    issued = forecasts_in_force(opened.artefacts, opened.state, opened.experiment.horizon)
    last = issued["time"].max()
    own = issued.filter(pl.col("symbol") == SYMBOLS[0], pl.col("time") == last, pl.col("model") == "ensemble")
    answer = get(client, f"/api/symbols/{FIRST_SYMBOL}/forecast")
    for head, name in (("return", "expected_return_log"), ("return_low_80", "low_80_log")):
        values = own.filter(pl.col("head") == head).sort("step")["value"].to_list()
        assert [step[name] for step in answer["path"]] == values
        assert len(values) == 5
    assert answer["decision"]["expected_return_log"] == answer["path"][-1]["expected_return_log"]


def test_bars_are_those_that_came(client: TestClient, bars: pl.DataFrame, closes: list[datetime]) -> None:
    own = bars.filter(pl.col("symbol") == SYMBOLS[0], pl.col("time") <= closes[FIRST])
    path = f"/api/symbols/{FIRST_SYMBOL}/bars"
    answer = get(client, f"{path}?limit={MOST_BARS}")
    assert [row["close"] for row in answer["bars"]] == own["close"].to_list()
    assert not answer["more"]
    few = get(client, f"{path}?limit=3&to={closes[10]:%Y-%m-%dT%H:%M}")
    assert [row["time"][:10] for row in few["bars"]] == [f"{one:%Y-%m-%d}" for one in closes[8:11]]
    assert few["more"]
    since = get(client, f"{path}?from={closes[FIRST - 1]:%Y-%m-%d}")
    assert [row["time"][:10] for row in since["bars"]] == [f"{one:%Y-%m-%d}" for one in closes[FIRST - 1 : FIRST + 1]]


def test_a_volume_that_is_not_known_is_null_with_a_reason(made: Path, now: datetime) -> None:
    view = View(Store.open(made), now)
    view.once("bars", lambda: Store.open(made).bars.for_chain(now).with_columns(volume=pl.lit(None, pl.Float64)))
    row = view.answer(view.bars(SYMBOLS[0], None, None, 1))["bars"][0]
    assert row["volume"] is None
    assert row["missing"] == {"volume": "the source gives no volume of it"}


def test_what_came_after_a_decision_is_the_return_of_the_horizon(made: Path, bars: pl.DataFrame, now: datetime) -> None:
    view = View(Store.open(made), now)
    early = view.decided.with_columns(time=pl.lit(bars["time"].unique().sort()[100]))
    view.once("decided", lambda: None)  # made already: what follows reads the table below
    view._made["decided"] = early.unique(["symbol", "time"])
    close = bars.filter(pl.col("symbol") == SYMBOLS[0]).sort("time")["close"].to_numpy()
    row = view.decisions(SYMBOLS[0], None, None, 1)["decisions"][0]
    assert row["came_return_log"] == pytest.approx(np.log(close[105] / close[100]), abs=1e-12)


def test_what_has_not_come_yet_is_null_with_a_reason(client: TestClient) -> None:
    rows = get(client, "/api/decisions?limit=2")["decisions"]
    titles = strategy_titles("ridge", "ridge")
    assert all(row["strategy_title"] == titles[row["strategy"]] != row["strategy"] for row in rows)
    assert [row["came_return_log"] for row in rows] == [None, None]
    assert {row["missing"]["came_return_log"] for row in rows} == {"not all bars of the horizon have come"}


def test_the_book_is_that_of_the_store(client: TestClient, made: Path) -> None:
    book = book_now(Store.open(made))
    assert book is not None
    answer = get(client, "/api/book")["book"]
    assert answer["equity"] == book.figures["equity"]
    assert {row["symbol"]: row["held"] for row in answer["holdings"]} == {
        name: row["held"] for name, row in book.rows.items()
    }
    assert all(row["why"] for row in answer["holdings"])


def test_the_risk_is_of_what_is_held(client: TestClient, made: Path) -> None:
    book = book_now(Store.open(made))
    assert book is not None
    today = get(client, "/api/risk")["today"]
    weights = {row["symbol"]: row["weight"] for row in today["symbols"]}
    assert weights == pytest.approx({name: row["held"] for name, row in book.rows.items() if row["held"]})
    assert sum(row["share"] for row in today["symbols"]) == pytest.approx(1)
    assert today["gross"] == pytest.approx(sum(abs(one) for one in weights.values()))
    table = np.array([[today["correlations"][a][b] for b in weights] for a in weights])
    assert np.allclose(table, table.T)
    assert np.allclose(np.diag(table), 1)
    assert abs(table[0, 1]) < 1


def test_shares_and_correlations_follow_from_the_covariance_that_the_book_carries(
    client: TestClient, made: Path
) -> None:
    """The book's own state has the covariance of the next session, carried from close to close."""
    opened = Store.open(made)
    line = opened.carried_of(str(opened.state.issued[-1].carried)).line
    assert line.covariance is not None
    today = get(client, "/api/risk")["today"]
    weights = {row["symbol"]: row["weight"] for row in today["symbols"]}
    own = np.array([weights.get(name, 0.0) for name in line.names])
    shares = own * (line.covariance @ own) / (own @ line.covariance @ own)
    assert {row["symbol"]: row["share"] for row in today["symbols"]} == pytest.approx(
        dict(zip(line.names, shares, strict=True)), rel=1e-3
    )
    deviation = np.sqrt(np.diag(line.covariance))
    expected = line.covariance[0, 1] / deviation[0] / deviation[1]
    assert today["correlations"][line.names[0]][line.names[1]] == pytest.approx(expected, abs=1e-3)


def test_models_say_which_is_in_force(client: TestClient, made: Path) -> None:
    state = Store.open(made).state
    rows = get(client, "/api/models")["models"]
    assert [row["model"] for row in rows] == [one.record for one in reversed(state.models)]
    assert [row["model"] for row in rows if row["in_force"]] == [state.serving]
    refits = get(client, "/api/refits")["refits"]
    assert max(row["refit"] for row in refits)[:10] == rows[0]["cutoffs"]["index"][:10]


def test_runs_are_the_records_of_the_journal(client: TestClient, made: Path) -> None:
    opened = Store.open(made)
    rows = get(client, "/api/runs?limit=3")
    assert [row["record"] for row in rows["runs"]] == [opened.state.number - place for place in range(3)]
    assert rows["more"]
    kinds = [one.kind for one in opened.journal.records()]
    assert [row["kind"] for row in get(client, "/api/runs")["runs"]] == kinds[::-1]


def test_ready_says_how_old_the_bars_are(client: TestClient, closes: list[datetime]) -> None:
    answer = get(client, "/health/ready")
    assert answer["ready"]
    assert answer["sessions_behind"] == 0
    assert answer["newest_bar"][:10] == f"{closes[FIRST]:%Y-%m-%d}"
    assert get(client, "/health/live") == {"status": "alive"}


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/api/symbols/AB/bars", 404, "Did you mean 'A/B'?"),
        ("/api/symbols/nothing/forecast", 404, "no symbol 'nothing'"),
        (f"/api/symbols/{FIRST_SYMBOL}/bars?limit=0", 422, "limit: input should be greater"),
        (f"/api/symbols/{FIRST_SYMBOL}/bars?limit=5001", 422, "limit: input should be less"),
        (f"/api/symbols/{FIRST_SYMBOL}/bars?from=yesterday", 422, "is no moment"),
        (f"/api/symbols/{FIRST_SYMBOL}/bars?to=0001-01-01T00:00%2B14:00", 422, "is no moment"),
        ("/api/decisions?symbol=nothing", 404, "no symbol"),
        ("/api/runs?limit=many", 422, "limit: input should be a valid integer"),
        ("/api/nothing", 404, "no such path"),
        ("/api/", 404, "no such path"),
    ],
)
def test_what_cannot_be_answered_is_said_in_a_sentence(client: TestClient, path: str, status: int, said: str) -> None:
    assert said in get(client, path, status)["error"]


def test_openapi_names_every_path(client: TestClient) -> None:
    paths = get(client, "/openapi.json")["paths"]
    wanted = {f"/api/{name}" for name in PLAIN} | {"/health/live", "/health/ready"}
    wanted |= {f"/api/symbols/{{symbol}}/{part}" for part in ("forecast", "bars", "chart", "explain")}
    assert set(paths) == wanted
    assert all(set(methods) == {"get"} for methods in paths.values())


@given(st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3), max_leaves=9,
))  # fmt: skip
def test_no_answer_has_a_number_that_json_has_not(value: Any) -> None:
    from gatecast.files import jsonable

    def read(name: str) -> float:
        raise AssertionError(name)

    json.loads(encoded(jsonable({"a": value})), parse_constant=read)


@given(st.dictionaries(st.sampled_from(("held", "z", "change", "other", "gate")), st.none() | st.just(1.0)))
def test_every_value_that_is_missing_has_a_reason(row: dict[str, Any]) -> None:
    found = missing_of(row)
    assert set(found) == {name for name, value in row.items() if value is None}
    assert all(found.values())


def test_nothing_is_written(client: TestClient, made: Path) -> None:
    def files() -> dict[str, tuple[int, bytes]]:
        return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in made.rglob("*") if path.is_file()}

    before = files()
    for path in (*(f"/api/{name}" for name in PLAIN), "/", "/orders", "/risk", "/models", "/health", "/health/ready"):
        assert client.get(path).status_code == 200
    assert files() == before


def test_a_new_decision_is_seen_and_an_answer_is_of_one_record(
    store: Path, bars: pl.DataFrame, closes: list[datetime]
) -> None:
    app = make_app(store, now=closes[FIRST + 1] + HOUR)
    client = TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)
    before, view = get(client, "/api/today"), app.state.watched.view
    assert not app.state.watched.look()
    update(store, bars.filter(pl.col("time") <= closes[FIRST + 1]), now=closes[FIRST + 1] + HOUR)
    assert app.state.watched.look()
    after = get(client, "/api/today")
    assert after["head"]["record"] > before["head"]["record"]
    assert {row["time"][:10] for row in after["decisions"]} == {f"{closes[FIRST + 1]:%Y-%m-%d}"}
    assert view.answer(view.today()) == before  # a view that somebody still reads has not changed
    assert view.runs(1)["runs"][0]["record"] == before["head"]["record"]


def test_a_damaged_store_is_said_and_one_that_is_whole_again_is_served(store: Path, now: datetime) -> None:
    app = make_app(store, now=now)
    client = TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)
    file = next((store / "journal").glob("*.jsonl"))
    whole = file.read_bytes()
    file.write_bytes(whole.replace(b'"kind":"bars"', b'"kind":"bard"'))
    for path in ("/api/today", "/health/ready", f"/api/symbols/{FIRST_SYMBOL}/bars"):
        app.state.watched.look()
        assert "the record was changed" in get(client, path, 503)["error"]
    page = client.get("/")
    assert page.status_code == 503
    assert "The store cannot be read now" in page.text
    assert "Traceback" not in page.text
    health = client.get("/health")
    assert health.status_code == 200
    assert "Something has failed" in health.text
    file.write_bytes(whole)
    app.state.watched.look()
    assert get(client, "/health/ready")["ready"]


def test_a_folder_that_is_no_store_is_said(tmp_path: Path) -> None:
    client = TestClient(make_app(tmp_path), base_url="http://127.0.0.1", raise_server_exceptions=False)
    for path in ("/api/today", "/health/ready"):
        assert "no gatecast store" in get(client, path, 503)["error"]
    for path in ("/", "/health", "/risk"):
        assert client.get(path).status_code == 503


def test_a_store_of_an_older_version_is_not_rewritten(store: Path, now: datetime) -> None:
    about = json.loads((store / "store.json").read_text())
    (store / "store.json").write_text(json.dumps({**about, "version": 0}))
    with pytest.raises(StoreError, match="is not written to here"):
        Store.open(store, upgrades=False)
    client = TestClient(make_app(store, now=now), base_url="http://127.0.0.1", raise_server_exceptions=False)
    assert "is not written to here" in get(client, "/api/today", 503)["error"]


def test_a_store_without_a_model_is_served(bars: pl.DataFrame, closes: list[datetime], tmp_path: Path) -> None:
    now = closes[50] + HOUR
    update(tmp_path / "store", bars.filter(pl.col("time") <= now), now=now)
    client = TestClient(make_app(tmp_path / "store", now=now), base_url="http://127.0.0.1")
    assert get(client, "/api/today")["decisions"] == []
    assert "none yet" in get(client, "/api/book")["reason"]
    assert get(client, "/api/risk")["today"] is None
    assert get(client, f"/api/symbols/{FIRST_SYMBOL}/forecast")["reason"].startswith("no update has decided of")
    assert get(client, "/api/verdicts")["reason"].startswith("there is no model yet")
    for path in ("/", "/orders", "/risk", "/models", "/health", f"/symbols/{FIRST_SYMBOL}"):
        page = client.get(path)
        assert page.status_code == 200
        assert ">None<" not in page.text
    assert "There is no model yet" in client.get("/").text


def test_a_number_of_the_api_is_the_number_of_the_store(client: TestClient, made: Path, now: datetime) -> None:
    """To the last digit: JSON keeps all of a float."""
    own = Store.open(made).bars.for_chain(now).filter(pl.col("symbol") == SYMBOLS[1])["close"].to_list()
    rows = get(client, f"/api/symbols/{quote(SYMBOLS[1], safe='')}/bars?limit=5000")["bars"]
    assert [row["close"] for row in rows] == own
    assert all(math.isfinite(row["close"]) for row in rows)
