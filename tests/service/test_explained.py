"""The service says why: as the command does, of any close that was decided, and with a reason where it cannot."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

import polars as pl
import pytest
from served import FIRST, HOUR, SYMBOLS
from starlette.testclient import TestClient

from gatecast.cli.app import execute
from gatecast.errors import StoreError
from gatecast.experiment import Experiment
from gatecast.live import retrain, update
from gatecast.market import synthetic
from gatecast.report import candles
from gatecast.service.app import make_app
from gatecast.service.turns import MOST_WAITING
from gatecast.service.view import View
from gatecast.store import Store

PATH = f"/api/symbols/{quote(SYMBOLS[0], safe='')}/explain"


def test_the_newest_decision_is_explained_as_the_command_does(
    client: TestClient, made: Path, now: datetime, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["explain", str(made), "--symbol", SYMBOLS[0], "--now", now.isoformat(), "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    answer = client.get(PATH).json()
    assert answer["explanation"] == told["explanations"][0]
    assert answer["titles"] == told["titles"]
    state = Store.open(made).state
    assert answer["head"]["record"] == state.number


def test_the_book_today_and_the_page_name_the_gate_that_the_explanation_names(
    client: TestClient, made: Path, now: datetime
) -> None:
    rows = {row["symbol"]: row for row in View(Store.open(made), now).today()["decisions"]}
    holdings = client.get("/api/book").json()["book"]["holdings"]
    assert {row["symbol"] for row in holdings} == {*SYMBOLS}
    assert any(row["gate"] for row in holdings)
    for row in holdings:
        symbol = quote(row["symbol"], safe="")
        steps = client.get(f"/api/symbols/{symbol}/explain").json()["explanation"]["decision"]
        assert row["gate"] == steps["gate"].split(", ")[-1]
        assert rows[row["symbol"]]["cut_by"] == row["gate"]
        words = rows[row["symbol"]]["limited_by"]
        page = client.get(f"/symbols/{symbol}").text
        assert words.replace("%", "\N{NO-BREAK SPACE}%") in page
        assert not re.search(r"[a-z]+_(cap|stop|ticket|sizes)", page)


def test_an_earlier_close_by_its_day(client: TestClient, closes: list[datetime]) -> None:
    before = client.get(PATH, params={"time": f"{closes[FIRST - 1]:%Y-%m-%d}"}).json()["explanation"]
    assert before["time"][:16] == f"{closes[FIRST - 1]:%Y-%m-%d %H:%M}"
    assert before["came"] is None
    exact = client.get(PATH, params={"time": closes[FIRST - 1].isoformat()}).json()["explanation"]
    assert exact == before


@pytest.fixture(scope="module", params=["1h", "1d"])
def coin(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[datetime]]:
    """A store of a coin with bars of an hour, and of a day that closes at midnight, decided at three closes."""
    step = timedelta(hours=1) if request.param == "1h" else timedelta(days=1)
    made = synthetic.b1(403, seed=1, r2=0.08, symbols=1)
    closes = [datetime(2024, 1, 15, 20, tzinfo=UTC) if request.param == "1h" else datetime(2024, 1, 1, tzinfo=UTC)]
    closes = [closes[0] + step * place for place in range(len(made))]
    at = pl.Series("time", closes, made["time"].dtype)
    bars = made.with_columns(symbol=pl.lit("BTC"), asset_class=pl.lit("crypto"), time=at, known_at=at)
    folder = tmp_path_factory.mktemp("coin") / "store"
    experiment = Experiment(
        features=("x", "ret_log_1"), lookback=10, models=("ridge", "logistic"),
        signals={"model": "ridge", "confirmed_by": "ridge"},
        schedule={"train": "200D", "minimum": "10D", "refit": "1M"}, too_good=("planted",),
    )  # fmt: skip
    for place in (400, 401, 402):
        now = closes[place] + timedelta(minutes=5)
        update(folder, bars.filter(pl.col("time") <= now), now=now, experiment=experiment, stamp="close")
        if place == 400:
            retrain(folder, now=now)
    return folder, closes[400:]


def test_a_bar_of_a_chart_is_named_by_its_exact_close(
    coin: tuple[Path, list[datetime]], capsys: pytest.CaptureFixture[str]
) -> None:
    """A label of the chart, its exact close, the decision and the explanation there are of one bar."""
    folder, closes = coin
    now = closes[-1] + timedelta(minutes=5)
    asked = TestClient(make_app(folder, now=now), base_url="http://127.0.0.1")
    chart = asked.get("/api/symbols/BTC/chart").json()["chart"]
    assert len(chart["closes"]) == len(chart["time"])
    assert chart["closes"][-3:] == [one.isoformat() for one in closes]
    for label, close in zip(chart["time"][-3:], chart["closes"][-3:], strict=True):
        told = asked.get("/api/decisions", params={"symbol": "BTC", "from": close, "to": close}).json()["decisions"]
        assert [datetime.fromisoformat(one["time"]).isoformat() for one in told] == [close]
        one = asked.get("/api/symbols/BTC/explain", params={"time": close}).json()["explanation"]
        assert datetime.fromisoformat(one["time"]).isoformat() == close
        if len(label) == 10:  # a day: its date names it everywhere
            same = asked.get("/api/symbols/BTC/explain", params={"time": label}).json()["explanation"]
            assert same == one
            assert (
                execute(["explain", str(folder), "--symbol", "BTC", "--time", label, "--now", f"{now}", "--json"]) == 0
            )
            assert json.loads(capsys.readouterr().out.splitlines()[-1])["explanations"][0] == one
            both = {"symbol": "BTC", "from": label, "to": label}
            assert asked.get("/api/decisions", params=both).json()["decisions"] == told
            bars = asked.get("/api/symbols/BTC/bars", params=both).json()["bars"]
            assert [bar["time"] for bar in bars] == [told[0]["time"]]


def test_before_the_first_bar_there_is_a_sentence(
    made: Path, closes: list[datetime], capsys: pytest.CaptureFixture[str]
) -> None:
    before = closes[0].replace(year=1990)
    asked = TestClient(make_app(made, now=before), base_url="http://127.0.0.1", raise_server_exceptions=False)
    for path in ("/api/changes", PATH):
        answer = asked.get(path)
        assert answer.status_code == 503
        assert "1990" in answer.json()["error"]
    assert execute(["explain", str(made), "--symbol", SYMBOLS[0], "--now", before.isoformat()]) == 2
    assert "did not foresee" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        (f"{PATH}?time=soon", 422, "no moment"),
        ("/api/symbols/none/explain", 404, "no symbol 'none'"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_refused(client: TestClient, path: str, status: int, said: str) -> None:
    answer = client.get(path)
    assert answer.status_code == status
    assert said in answer.json()["error"]


def test_a_close_at_which_nothing_was_decided_is_a_reason_and_no_error(
    client: TestClient, bars: pl.DataFrame, closes: list[datetime]
) -> None:
    """A click on any bar of the chart is answered, also on one before the store's first decision."""
    chart = client.get(PATH.replace("explain", "chart")).json()["chart"]
    for close in (chart["closes"][0], "1999-01-04"):
        answer = client.get(PATH, params={"time": close})
        assert (answer.status_code, answer.json()["explanation"]) == (200, None)
        assert f"nothing was decided at {close[:10]}" in answer.json()["reason"]
    text = client.get(f"/symbols/{quote(SYMBOLS[0], safe='')}").text
    first = f"{closes[FIRST - 1]:%Y-%m-%d}"
    assert f"Click a bar from {first} on, the store’s first decision" in text
    assert f"before {first} the models said it in their test, and the store issued nothing" in text


def test_a_chart_says_how_many_of_the_bars_it_draws(
    store: Path, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = f"/symbols/{quote(SYMBOLS[0], safe='')}"
    client = TestClient(make_app(store, now=now), base_url="http://127.0.0.1")
    assert "Drawn are the newest" not in client.get(drawn).text
    monkeypatch.setattr(candles.candles_data, "__defaults__", (100,))
    client = TestClient(make_app(store, now=now), base_url="http://127.0.0.1")
    chart = client.get(PATH.replace("explain", "chart")).json()["chart"]
    assert (len(chart["closes"]), chart["bars_in_store"]) == (100, FIRST + 1)
    assert f"Drawn are the newest 100 of its {FIRST + 1} bars in the store." in client.get(drawn).text


def test_a_model_that_is_gone_is_a_reason(store: Path, now: datetime) -> None:
    opened = Store.open(store)
    parts = opened.state.models[0].parts
    removed = sorted(part for role, part in parts.items() if role.startswith("models/"))
    opened.artefacts.discard(removed)
    with pytest.raises(StoreError, match=r"is missing\. Restore it from a copy"):
        View(opened, now).explain(SYMBOLS[0])
    opened.append("pruned", {"removed": removed, "count": len(removed), "bytes": 1, "keep": 1}, now)
    answer = View(opened, now).explain(SYMBOLS[0])
    assert answer["explanation"] is None
    assert "are gone" in answer["reason"]
    assert str(store) not in answer["reason"]


def test_a_store_that_was_moved_away_has_no_explanation(store: Path, now: datetime) -> None:
    client = TestClient(make_app(store, now=now), base_url="http://127.0.0.1", raise_server_exceptions=False)
    assert client.get("/health/ready").status_code == 200
    store.rename(store.with_name("elsewhere"))
    for path in (f"{PATH}?time={now:%Y-%m-%d}", "/api/changes"):
        answer = client.get(path)
        assert (answer.status_code, str(store.parent) in answer.text) == (503, False)


def test_changes_are_those_of_the_newest_refit(
    store: Path, bars: pl.DataFrame, closes: list[datetime], client: TestClient
) -> None:
    assert client.get("/api/changes").json()["changes"] == []  # there is one refit
    for place in (FIRST + 1, FIRST + 2):
        now = closes[place] + HOUR
        update(store, bars.filter(pl.col("time") <= now), now=now)
        if place == FIRST + 1:
            retrain(store, now=now, if_due=False)
    asked = TestClient(make_app(store, now=now), base_url="http://127.0.0.1")
    rows = asked.get("/api/changes").json()["changes"]
    state = Store.open(store).state
    assert len(state.models) == 2
    assert {(row["model_before"], row["model_now"]) for row in rows} == {tuple(one.record for one in state.models)}


def test_the_pages_have_a_place_for_it(client: TestClient) -> None:
    text = client.get(f"/symbols/{quote(SYMBOLS[0], safe='')}").text
    for part in ("explained-steps", "explained-models", "explained-said"):
        assert f'id="{part}"' in text
    assert 'id="changes-table"' in client.get("/models").text
    script = re.search(r"/static/page\.js\?v=\w+", text)
    assert script is not None
    assert "`${one.caution ?" in client.get(script[0]).text  # what must be read first stands first


def test_explanations_that_are_asked_for_at_once_keep_nothing_else_waiting(
    made: Path, now: datetime, closes: list[datetime], monkeypatch: pytest.MonkeyPatch
) -> None:
    free = threading.Event()
    whole = View.explain

    def slowly(self: View, *args: Any) -> Any:
        free.wait(60)
        return whole(self, *args)

    monkeypatch.setattr(View, "explain", slowly)

    params = {"time": closes[FIRST].isoformat()}
    with TestClient(make_app(made, now=now), base_url="http://127.0.0.1") as client, ThreadPoolExecutor(20) as threads:
        asked = [threads.submit(client.get, PATH, params=params) for _ in range(20)]
        try:
            refused = [one.result() for one in islice(as_completed(asked, timeout=60), 20 - MOST_WAITING - 1)]
            others = [client.get(path).status_code for path in ("/health/live", "/api/book", "/", "/risk")]
        finally:
            free.set()
        statuses = sorted(one.result().status_code for one in asked)
    assert others == [200] * 4
    assert {(one.status_code, one.headers["retry-after"]) for one in refused} == {(503, "1")}
    assert statuses == [200] * (MOST_WAITING + 1) + [503] * (20 - MOST_WAITING - 1)


def test_a_session_that_was_decided_with_a_later_one_names_its_close(
    store: Path, bars: pl.DataFrame, closes: list[datetime]
) -> None:
    now = closes[FIRST + 2] + HOUR
    update(store, bars.filter(pl.col("time") <= now), now=now)  # two sessions at once
    client = TestClient(make_app(store, now=now), base_url="http://127.0.0.1", raise_server_exceptions=False)
    answer = client.get(f"{PATH}?time={closes[FIRST + 1]:%Y-%m-%d}")
    assert answer.status_code == 200
    assert f"together with the close {closes[FIRST + 2]:%Y-%m-%d %H:%M} UTC" in answer.json()["reason"]


def test_a_file_that_a_moved_store_lacks_is_told_without_its_place(store: Path, now: datetime, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(store.rename(tmp_path / "elsewhere"))
    app = make_app(tmp_path / "link", now=now)
    asked = TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)
    assert asked.get("/api/symbols").status_code == 200
    opened = Store.open(tmp_path / "elsewhere")
    parts = opened.state.models[0].parts
    opened.artefacts.discard([part for role, part in parts.items() if role.startswith("models/")])
    answer = asked.get(PATH)
    assert answer.status_code == 503
    assert "is missing. Restore it from a copy" in answer.json()["error"]
    assert str(tmp_path) not in answer.text


def test_the_command_starts_without_what_it_does_not_need(made: Path, now: datetime) -> None:
    heavy = ("torch", "sklearn", "arch", "pandas", "plotly", "statsmodels", "joblib", "optuna", "numba", "fastapi")
    words = ["gatecast", "explain", str(made), "--now", now.isoformat(), "--json"]
    code = (
        f"import sys\nfrom gatecast import cli\nsys.argv = {words!r}\ntry:\n    cli.main()\n"
        f"except SystemExit as ended:\n    print(ended.code, [name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"
