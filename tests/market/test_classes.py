"""Asset classes: where a symbol's class comes from, and names that look like another one."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from gatecast.market import read_with_findings, synthetic
from gatecast.market.classes import class_by_name, looks_like_another
from gatecast.market.reading import BarsSettings

WALK = synthetic.a1(60, seed=2).drop("known_at", "segment", "asset_class")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *((name, "crypto") for name in ("BTC-USD", "BTCUSDT", "ETH/EUR", "ETHBTC", "btcusd", "XBTUSD", "1INCHUSDT")),
        *((name, "crypto") for name in ("BTC", "X:BTCUSD", "SOL_USDC", "HYPE-USD", "BTC-PERP")),
        *(
            (name, "fx")
            for name in ("EURUSD", "EUR/USD", "USDJPY=X", "JPY=X", "EUR_CHF", "C:EURUSD", "eurusd", "USDCNH")
        ),
        *((name, "future") for name in ("ES=F", "CL=F", "GC=F")),
        *((name, "index") for name in ("^GSPC", "^VIX")),
        *((name, "metal") for name in ("XAUUSD", "XAG/EUR", "XAU-USD")),
        *((name, None) for name in ("KO", "AAPL", "BRK-B", "BRK.B", "BF/B", "SP500", "VOD.L", "7203.T", "OP", "LINK")),
        *((name, None) for name in ("USD", "AUDC", "EURN", "000001.SS", "M&M", "GOOGL", "TTE.PA", "")),
    ],
)
def test_what_a_name_looks_like(name: str, expected: str | None) -> None:
    assert class_by_name(name) == expected


def test_a_future_of_a_metal_may_be_either() -> None:
    assert [looks_like_another("GC=F", name) for name in ("metal", "commodity", "future", "equity")] == [None] * 3 + [
        "future"
    ]


def test_the_rule_that_each_class_came_from_is_told(tmp_path: Path) -> None:
    (tmp_path / "symbols.csv").write_text("symbol,asset_class\nA,etf\n")
    own = {"A": None, "B": "index", "C": None}
    frame = pl.concat(
        WALK.with_columns(symbol=pl.lit(name), asset_class=pl.lit(kind, pl.String)) for name, kind in own.items()
    )
    options = {"stamp": "close", "symbols_file": tmp_path / "symbols.csv"}
    expected = [("A", "etf", "symbols file", "XNYS", None), ("B", "index", "column", "XNYS", None)]
    built_in = ("C", "equity", "built-in default", "XNYS", None)
    assert read_with_findings(frame, **options).classes.rows() == [*expected, built_in]
    given = read_with_findings(frame, asset_class="etf", **options).classes.rows()
    assert given == [*expected, ("C", "etf", "given default", "XNYS", None)]


def test_a_name_of_another_class_is_warned_of_and_the_class_stays() -> None:
    frame = WALK.with_columns(symbol=pl.lit("BTC-USD"))
    reading = read_with_findings(frame, stamp="close")
    (found,) = reading.findings
    assert (found.severity, found.rule, found.symbol, found.value) == ("warning", "class_guess", "BTC-USD", "crypto")
    assert "equity (built-in default)" in found.advice
    assert set(reading.bars["asset_class"]) == {"equity"}
    assert read_with_findings(frame, stamp="close", asset_class="crypto").findings == ()


def test_settings_say_whether_the_default_was_given() -> None:
    for settings, rule in (({}, "built-in default"), ({"asset_class": "equity"}, "given default")):
        reading = read_with_findings(BarsSettings(source="frame", frame=WALK, stamp="close", **settings))
        assert reading.classes["rule"].to_list() == [rule]
