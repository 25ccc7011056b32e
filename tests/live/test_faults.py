"""What can arrive at a store, planted in the real command: what is refused changes nothing, what is taken is said."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from attack.readers import now_of
from gatecast.store import Store
from tests.live.conftest import Command, files

NOW = now_of("live_update")
TODAY = "2001-12-31"
PRICES = ("open", "high", "low", "close")


@pytest.fixture
def store(live: Path, tmp_path: Path) -> Path:
    shutil.copytree(live / "live_update", tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture
def rows(live: Path) -> pl.DataFrame:
    """The bars that come next: B1_0, then B1_1; the last of each is of today."""
    return pl.read_csv(live / "live_next.csv")


def of_today(symbol: str = "B1_0") -> pl.Expr:
    return (pl.col("date") == TODAY) & (pl.col("symbol") == symbol)


def put(rows: pl.DataFrame, **values: Any) -> pl.DataFrame:
    """Other values in today's row of B1_0."""
    return rows.with_columns(
        pl.when(of_today()).then(value).otherwise(pl.col(name)).alias(name) for name, value in values.items()
    )


def again(text: str, change: Callable[[list[str]], list[str]]) -> str:
    """The last line once more, changed."""
    return text + ",".join(change(text.splitlines()[-1].split(","))) + "\n"


def hour(clock: str) -> Callable[[list[str]], list[str]]:
    """A line's cells -> the same with a clock beside the date."""
    return lambda cells: [f"{TODAY} {clock}:00:00", *cells[1:]]


Plant = Callable[[pl.DataFrame], pl.DataFrame | str]

REFUSED: dict[str, tuple[Plant, str]] = {
    "7 one time, two values": (
        lambda rows: again(rows.write_csv(), lambda cells: [*cells[:3], str(float(cells[3]) * 1.01), *cells[4:]]),
        r"next\.csv, line 18, column 'high', value 2.*line 17",
    ),
    "15 milliseconds": (
        lambda rows: rows.write_csv().replace(TODAY, "1009832400000"),
        r"line 9, column 'time', value '1009832400000'",
    ),
    "16 day or month": (
        lambda rows: rows.with_columns(date=pl.lit("03/04/2001")).head(1).write_csv(),
        r"value '03/04/2001'.*date-format",
    ),
    "17 half the history is split": (
        lambda rows: rows.with_columns(
            pl.when(pl.col("date") >= "2001-12-24").then(pl.col(name) / 2).otherwise(pl.col(name)).alias(name)
            for name in PRICES
        ),
        r"'B1_0' in \d+ rows of the past are another market's",
    ),
    "25 hours among days": (
        lambda rows: again(again(again(rows.write_csv(), hour("10")), hour("11")), hour("12")),
        r"line 18, column 'time', value '2001-12-31 10:00:00'",
    ),
    "30 an empty file": (lambda rows: "", r"line 1: the file is empty"),
    "30 a header alone": (lambda rows: rows.head(0), r"no row has a price"),
    "32 a column under another name": (lambda rows: rows.rename({"close": "finish"}), r"close"),
    "32 a column twice": (
        lambda rows: "\n".join(f"{line},{'close' if not number else 1}" for number, line in
                               enumerate(rows.write_csv().splitlines())), r"close",
    ),
    "83 a date that is none": (lambda rows: rows.write_csv().replace(TODAY, "9999-99-99"), r"value '9999-99-99'"),
    "88 a history that was re-based, of which one bar is common": (
        lambda rows: rows.filter(pl.col("date") >= "2001-12-28").with_columns(pl.col(*PRICES) / 2), r"split",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", REFUSED)
def test_bars_that_cannot_be_trusted_are_refused_and_nothing_changes(
    fault: str, gatecast: Command, store: Path, rows: pl.DataFrame, tmp_path: Path
) -> None:
    plant, said = REFUSED[fault]
    bars = plant(rows)
    (tmp_path / "next.csv").write_text(bars if isinstance(bars, str) else bars.write_csv())
    before = files(store)
    answer = gatecast("update", store, "--bars", tmp_path / "next.csv", "--now", NOW)
    assert answer.status == 2
    assert "Traceback" not in answer.err
    assert pl.Series([answer.err.replace("\n", " ")]).str.contains(said).item(), answer.err
    after = files(store)
    assert {name for name in {*before, *after} if after.get(name) != before.get(name)} <= {"lock"}


TAKEN: dict[str, tuple[Plant, str, str, str]] = {
    # fault: plant, gate of B1_0, one of its flags, what is said
    "1 no number": (lambda rows: put(rows, close=float("nan")), "no bar", "left out", "(line 9): missing price"),
    "1 infinite": (lambda rows: put(rows, close=float("inf")), "no bar", "left out", "A price is infinite"),
    "2 zero": (lambda rows: put(rows, close=0.0), "no bar", "left out", "not positive"),
    "3 high below low": (lambda rows: put(rows, high=pl.col("low") * 0.9), "no bar", "left out", "high below low"),
    "4 flat and no volume": (
        lambda rows: put(rows, volume=0.0, open=pl.col("close"), high=pl.col("close"), low=pl.col("close")),
        "no trade", "", "",
    ),
    "5 volume below 0": (lambda rows: put(rows, volume=-5.0), "no bar", "left out", "bad volume"),
    "6 a row twice": (lambda rows: pl.concat([rows, rows.tail(1)]), "open", "", ""),
    "8 backwards": (lambda rows: rows.reverse(), "open", "", ""),
    "10 and 29 a bar of the future": (
        lambda rows: again(rows.write_csv(), lambda cells: ["2002-01-02", "B1_0", *cells[2:]]),
        "open", "left out", "have not closed yet",
    ),
    "22 out of bounds": (
        lambda rows: put(rows, **{name: pl.col(name) * 1e12 for name in PRICES}), "no bar", "left out", "out of bounds",
    ),
    "17 and 88 a split between the store and the bar that comes": (
        lambda rows: put(rows, **{name: pl.col(name) / 2 for name in PRICES}), "doubtful bar", "doubtful bar",
        "a split, 2 for 1?",
    ),
    "19 pence in place of pounds": (
        lambda rows: put(rows, **{name: pl.col(name) * 100 for name in PRICES}), "doubtful bar", "doubtful bar",
        "pence and pounds",
    ),
    "23 far beyond the usual": (
        lambda rows: put(rows, high=pl.col("high") * 1.25, close=pl.col("close") * 1.25), "open", "odd", "extreme",
    ),
    "30 marks and line ends of Windows": (
        lambda rows: "\ufeff" + rows.write_csv().replace("\n", "\r\n"), "open", "", "",
    ),
    "20 and 89 a symbol that is missing": (
        lambda rows: rows.filter(pl.col("symbol") == "B1_1"), "no bar", "missing", "none of 'B1_0'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", TAKEN)
def test_bars_that_are_taken_are_told_apart_and_said(
    fault: str, gatecast: Command, store: Path, rows: pl.DataFrame, tmp_path: Path
) -> None:
    plant, gate, flag, said = TAKEN[fault]
    bars = plant(rows)
    (tmp_path / "next.csv").write_text(bars if isinstance(bars, str) else bars.write_csv())
    answer = gatecast("update", store, "--bars", tmp_path / "next.csv", "--now", NOW, "--json")
    assert answer.status == 0
    found = answer.json
    rows_of = {row["symbol"]: row for row in found["decisions"]}
    assert rows_of["B1_0"]["gate"] == gate
    assert rows_of["B1_1"]["gate"] == "open"
    assert flag in ("", *rows_of["B1_0"]["flags"])
    assert said in " ".join(found["warnings"])
    if gate != "open":
        assert not rows_of["B1_0"].get("weight")
    assert Store.open(store).check() == []


@pytest.mark.parametrize("name", ["NA", "1E5", "007", "../../etc/x", "CON", "\x1b[31mB", "é" * 40])
def test_a_symbol_stays_text_and_names_no_file(
    name: str, gatecast: Command, rows: pl.DataFrame, tmp_path: Path
) -> None:
    """31, 37, 57."""
    rows.with_columns(symbol=pl.col("symbol").replace("B1_1", name)).write_csv(tmp_path / "next.csv")
    answer = gatecast(
        "update", tmp_path / "new", "--bars", tmp_path / "next.csv", "--now", NOW, "--asset-class", "index"
    )
    assert "\x1b[31mB" not in answer.out + answer.err
    if answer.status == 0:
        assert name in Store.open(tmp_path / "new").state.symbols
        assert {path.name for path in tmp_path.iterdir()} <= {"new", "next.csv"}
    else:
        assert (answer.status, (tmp_path / "new").exists()) == (2, False)


def test_a_store_that_is_held_by_another_process_is_told_and_then_free(
    gatecast: Command, store: Path, live: Path, tmp_path: Path
) -> None:
    """52, 67."""
    hold = (
        "import sys, time; from gatecast.store import Store\n"
        "with Store.open(sys.argv[1]).locked():\n    print('held', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", hold, store], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        for words in (("update", store, "--bars", live / "live_next.csv"), ("retrain", store), ("rollback", store)):
            answer = gatecast(*words, "--now", NOW)
            assert answer.status == 2
            assert f"another process writes to {store} (process {process.pid}" in answer.err.replace("\n", "")
        process.kill()
    answer = gatecast("update", store, "--bars", live / "live_next.csv", "--now", NOW, "--json")
    assert answer.status == 0
    assert "its lock was taken over" in " ".join(answer.json["warnings"]) + answer.err


def test_a_model_that_is_damaged_is_said_and_nothing_is_forecast_with_it(
    gatecast: Command, store: Path, live: Path
) -> None:
    """42, 62: the bars are not lost, and come again once the model is restored."""
    model = Store.open(store).state.models[0].parts["models/index/ridge.safetensors"]
    place = store / "parts" / model[:2] / model
    content = place.read_bytes()
    place.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    before = files(store)
    answer = gatecast("update", store, "--bars", live / "live_next.csv", "--now", NOW)
    assert answer.status == 2
    assert model in answer.err.replace("\n", "")
    after = files(store)
    assert {name for name in {*before, *after} if after.get(name) != before.get(name)} <= {"lock"}
    assert gatecast("store", "check", store).status == 1
    place.write_bytes(content)
    assert gatecast("update", store, "--bars", live / "live_next.csv", "--now", NOW).status == 0


def test_a_model_that_is_damaged_gives_way_to_the_one_before(gatecast: Command, live: Path, tmp_path: Path) -> None:
    """62."""
    shutil.copytree(live / "live_rollback", tmp_path / "store")
    before, model = Store.open(tmp_path / "store").state.models
    part = model.parts["models/index/ridge.safetensors"]
    (tmp_path / "store" / "parts" / part[:2] / part).write_bytes(b"nothing")
    rows = pl.read_csv(live / "live_all.csv")
    rows.filter(pl.col("date").is_between(pl.lit("2001-12-28"), pl.lit("2002-01-03"))).write_csv(tmp_path / "next.csv")
    words = ("update", tmp_path / "store", "--bars", tmp_path / "next.csv", "--now", "2002-01-03T23:00:00+00:00")
    answer = gatecast(*words, "--json")
    assert answer.status == 0
    assert f"model {model.record} cannot be used, model {before.record} before it" in " ".join(answer.json["warnings"])
    assert {row["model"] for row in answer.json["decisions"]} == {before.record}


def test_a_store_of_a_newer_schema_is_refused(gatecast: Command, store: Path, live: Path) -> None:
    """69."""
    about = json.loads((store / "store.json").read_text())
    (store / "store.json").write_text(json.dumps({**about, "version": 99}))
    before = files(store)
    for words in (("update", store, "--bars", live / "live_next.csv"), ("retrain", store)):
        answer = gatecast(*words, "--now", NOW)
        assert answer.status == 2
        assert "99" in answer.err
    assert files(store) == before


def test_a_clock_that_goes_back_forgets_nothing(gatecast: Command, store: Path, live: Path) -> None:
    """29: what came after `now` is left out; records stay in order."""
    assert gatecast("update", store, "--bars", live / "live_next.csv", "--now", NOW).status == 0
    back = gatecast("update", store, "--bars", live / "live_next.csv", "--now", "2001-12-27T23:00:00+00:00", "--json")
    assert back.status in (0, 2)
    again = gatecast("update", store, "--bars", live / "live_next.csv", "--now", NOW, "--json")
    assert again.status == 0
    assert {row["gate"] for row in again.json["decisions"]} == {"open"}
    assert Store.open(store).check() == []


def test_a_refit_is_made_once_where_it_is_asked_for_twice(gatecast: Command, live: Path, tmp_path: Path) -> None:
    """52, 70."""
    shutil.copytree(live / "live_retrain", tmp_path / "store")
    words = ("retrain", tmp_path / "store", "--if-due", "--now", now_of("live_retrain"), "--jobs", 1, "--json")
    assert gatecast(*words).json["model"] is not None
    assert gatecast(*words).json["message"] == "no refit is due."
    assert len(Store.open(tmp_path / "store").state.models) == 2
