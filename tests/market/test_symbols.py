"""A symbol is by one rule wherever it is read: 1 to 100 printable characters."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from gatecast.errors import BarsError, SettingsError, symbol_fault
from gatecast.live.positions import read_fills, read_open_orders, read_positions, read_restricted
from gatecast.market import read_bars
from gatecast.market.actions import misnamed, read_actions, with_terms
from gatecast.market.reading import BarsSettings
from gatecast.market.symbols import read_symbols
from gatecast.market.universe import read_universe

Read = Callable[[Path, str], object]
LINES = "2024-01-02", "1", "1", "1", "1", "1"


def file(folder: Path, head: str, *cells: str, above: str = "") -> Path:
    place = folder / "table.csv"
    with place.open("w", newline="") as out:
        out.write(above)
        csv.writer(out).writerows([head.split(","), cells])
    return place


HOMES: dict[str, Read] = {
    "bars": lambda d, s: read_bars(file(d, "symbol,date,open,high,low,close,volume", s, *LINES), asset_class="equity"),
    "one symbol of bars": lambda d, s: BarsSettings(symbols=s),
    "actions": lambda d, s: read_actions(file(d, "symbol,kind,date,value", s, "split", "2024-01-02", "2")),
    "into": lambda d, s: read_actions(
        file(d, "symbol,kind,date,value,into", "A", "symbol_change", "2024-01-02", "1", s)
    ),
    "splits": lambda d, s: read_actions(file(d, "symbol,date,ratio", s, "2024-01-02", "2"), "split"),
    "delistings": lambda d, s: read_actions(file(d, "symbol,date,value", s, "2024-01-02", "-1"), "delisting"),
    "universe": lambda d, s: read_universe(file(d, "symbol,from,to", s, "2024-01-02", "")),
    "symbols file": lambda d, s: read_symbols(file(d, "symbol,asset_class", s, "equity")),
    "positions": lambda d, s: read_positions(file(d, "symbol,units", s, "1", above="# as_of: 2024-01-02\n")),
    "fills": lambda d, s: read_fills(
        file(d, "fill_id,order_id,symbol,side,units,price,time", "1", "a", s, "buy", "1", "1", "2024-01-02T15:00")
    ),
    "open orders": lambda d, s: read_open_orders(file(d, "order_id,symbol,side,remaining", "a", s, "buy", "1")),
    "a restricted list": lambda d, s: read_restricted(file(d, "symbol", s)),
}  # fmt: skip


@pytest.mark.parametrize("symbol", ["A\nB", "A\x1b[31mB", "x" * 101, "A\u202eB", "A\u200bB"])
@pytest.mark.parametrize("home", HOMES)
def test_an_odd_symbol_is_refused_wherever_it_is_read(tmp_path: Path, home: str, symbol: str) -> None:
    with pytest.raises((BarsError, SettingsError), match="a symbol is 1 to 100 printable characters"):
        HOMES[home](tmp_path, symbol)


@pytest.mark.parametrize("symbol", ["BRK.B", "x" * 100, "^GSPC", "Ü 株", "=1+1", "NA", "nan"])
@pytest.mark.parametrize("home", HOMES)
def test_any_other_symbol_is_read(tmp_path: Path, home: str, symbol: str) -> None:
    assert symbol_fault(symbol) == ""
    HOMES[home](tmp_path, symbol)


def test_odd_rows_of_a_table_of_actions_are_told_by_both_columns() -> None:
    rows: dict[str, Any] = {"symbol": ["A", "A\n", "A"], "into": ["x" * 101, "B", None]}
    table = with_terms(
        pl.DataFrame({**rows, "kind": "spin_off", "value": 1.0}).with_columns(
            date=pl.date(2024, 1, 2), known_at=pl.lit(None, pl.Datetime("us", "UTC"))
        )
    )
    assert misnamed(table)["symbol"].to_list() == ["A", "A\n"]
