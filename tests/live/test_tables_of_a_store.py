"""Tables beside the bars of a store: told once, kept by their content, used until others are told."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from gatecast.cli.app import execute
from gatecast.errors import StoreError
from gatecast.live import update
from gatecast.store import Store
from gatecast.store.history import parquet
from tests.live.conftest import HOUR


@pytest.fixture(scope="module")
def few(bars: pl.DataFrame, closes: list[datetime]) -> pl.DataFrame:
    """Forty closes of two symbols as a plain table without classes, prices of B1_0 not adjusted for a split."""
    part = bars.filter(pl.col("time") < closes[40])
    halved = (pl.col("symbol") == "B1_0") & (pl.col("time") >= closes[35])
    prices = [
        pl.when(halved).then(pl.col(name) / 2).otherwise(name).alias(name) for name in ("open", "high", "low", "close")
    ]
    return part.with_columns(prices).select(
        "symbol", pl.col("time").dt.date().alias("date"), "open", "high", "low", "close", "volume"
    )


def told(folder: Path, command: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert execute(["update", str(folder / "s"), *command, "--json"]) == 0
    return dict(json.loads(capsys.readouterr().out))


def test_what_was_told_at_the_first_update_holds_at_later_ones_without_a_path_of_the_machine(
    few: pl.DataFrame, closes: list[datetime], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few.filter(pl.col("date") < closes[36].date()).write_csv(tmp_path / "first.csv")
    few.filter(pl.col("date") >= closes[30].date()).write_csv(tmp_path / "next.csv")
    (tmp_path / "splits.csv").write_text(f"symbol,date,ratio\nB1_0,{closes[35].date()},2\n")
    (tmp_path / "symbols.csv").write_text("symbol,asset_class,calendar\nB1_0,equity,XETR\nB1_1,index,\n")
    (tmp_path / "ends.csv").write_text(f"symbol,kind,date,value\nB1_1,delisting,{closes[39].date()},-0.5\n")
    tables = ["--splits", str(tmp_path / "splits.csv"), "--symbols-file", str(tmp_path / "symbols.csv")]
    tables += ["--actions", str(tmp_path / "ends.csv")]
    now = [str(close.isoformat()) for close in (closes[35] + HOUR, closes[39] + HOUR)]
    told(tmp_path, ["--bars", str(tmp_path / "first.csv"), *tables, "--now", now[0]], capsys)
    for name in ("splits", "symbols", "ends"):
        (tmp_path / f"{name}.csv").unlink()
    later = told(tmp_path, ["--bars", str(tmp_path / "next.csv"), "--now", now[1]], capsys)
    assert later["bars"]["new"] == 8
    opened = Store.open(tmp_path / "s")
    assert opened.state.symbols == {"B1_0": "equity", "B1_1": "index"}
    assert opened.state.calendars == {"B1_0": "XETR"}
    assert opened.actions["kind"].to_list() == ["delisting"]
    returns = opened.bars.as_of(closes[39] + HOUR).filter(pl.col("symbol") == "B1_0")["close"].log().diff()
    assert returns.abs().max() < 0.3
    assert opened.check() == []
    words = b"".join(path.read_bytes() for path in (tmp_path / "s").rglob("*") if path.is_file())
    assert str(tmp_path).encode() not in words


def test_another_table_takes_the_place_of_the_one_before_and_the_same_one_changes_nothing(
    few: pl.DataFrame, closes: list[datetime], tmp_path: Path
) -> None:
    now = closes[34] + HOUR
    part = few.filter(pl.col("date") < closes[34].date())
    first = pl.DataFrame({"symbol": ["B1_0"], "date": [closes[35].date()], "ratio": [3.0]})
    given: dict[str, Any] = {"now": now, "asset_class": "index"}
    update(tmp_path / "s", part, splits=first, **given)
    assert update(tmp_path / "s", part, splits=first, **given).wrote == ()
    assert update(tmp_path / "s", part, now=now).wrote == ()
    kept = dict(Store.open(tmp_path / "s").state.tables)
    update(tmp_path / "s", part, splits=first.with_columns(ratio=pl.lit(2.0)), now=now)
    opened = Store.open(tmp_path / "s")
    assert list(opened.state.tables) == ["splits"]
    assert opened.state.tables != kept
    done = update(tmp_path / "s", few, now=closes[39] + HOUR)
    assert dict(done.counts)["new"] == 12
    opened = Store.open(tmp_path / "s")
    odd = opened.put(parquet(pl.DataFrame({"symbol": ["B1_0"]})), ".parquet")
    with pytest.raises(StoreError, match="is not written"):
        opened.append("tables", {"parts": {"splits": odd}}, closes[39] + HOUR)
    odd = opened.put(parquet(pl.DataFrame({"symbol": ["B1_0"]})), ".parquet")
    opened.journal.append("tables", {"parts": {"splits": odd}}, closes[39] + HOUR)  # as an earlier version might have
    opened = Store.open(tmp_path / "s")
    assert any("cannot be used" in fault.what for fault in opened.check())
    with pytest.raises(StoreError, match="cannot be used"):
        update(tmp_path / "s", few, now=closes[39] + HOUR)
