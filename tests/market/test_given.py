"""What actions give, in one currency: the same verdict and the same last return whatever currencies prices are in."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gatecast.cli.app import execute
from gatecast.errors import BarsError
from gatecast.experiment import Experiment
from gatecast.live import add_action, list_actions, update
from gatecast.market import read_with_findings
from gatecast.market.actions import read_actions, told_twice
from gatecast.market.given import Currencies, refuse_above_price, with_ends

DAYS = [
    date(2024, 1, 2) + timedelta(days=7 * (place // 5) + place % 5) for place in range(20)
]  # weekdays, a Tuesday on
DAY, BEFORE = DAYS[15], DAYS[14]
"""The date of the action, and the session before."""
GBP, SHARE, DOLLARS = 1.25, 3600.0, 250.0
"""Dollars a pound; price of P in pence, of D in dollars: P is worth $45."""
KNOWN = Currencies({"P": "GBX"})


def closes(own: float = SHARE, other: float = DOLLARS, pair: str = "GBPUSD", rate: float = GBP) -> pl.DataFrame:
    """Raw bars of P, D and a pair, that do not move."""
    rows = [("P", "equity", own), ("D", "etf", other), (pair, "fx", rate)]
    return pl.DataFrame(
        [(name, kind, datetime(day.year, day.month, day.day, 21, tzinfo=UTC), price) for name, kind, price in rows
         for day in DAYS[:15]],
        schema={"symbol": pl.String, "asset_class": pl.String, "time": pl.Datetime("us", "UTC"), "close": pl.Float64},
        orient="row",
    )  # fmt: skip


def told(kind: str, units: float, symbol: str = "P", into: str = "D", **more: Any) -> pl.DataFrame:
    ratio = {"value": [0.0], "ratio": [units]} if kind == "merger" else {"value": [units]}
    row = {"symbol": [symbol], "kind": [kind], "date": [DAY], "into": [into], **ratio}
    return read_actions(pl.DataFrame({**row, **{name: [one] for name, one in more.items()}}))


def last_return(actions: pl.DataFrame, bars: pl.DataFrame, currencies: Currencies) -> float:
    return with_ends(actions, bars, currencies).filter(pl.col("kind") == "delisting")["value"].item()  # type: ignore[no-any-return]


def is_refused(actions: pl.DataFrame, bars: pl.DataFrame, currencies: Currencies) -> bool:
    try:
        refuse_above_price(actions, bars, currencies)
    except BarsError:
        return True
    return False


prices = st.floats(0.01, 1e5)


@settings(max_examples=60, deadline=None)
@given(
    own=prices, other=prices, rate=st.floats(0.01, 100), units=st.floats(1e-5, 1e5),
    kind=st.sampled_from(["spin_off", "merger"]),
)  # fmt: skip
def test_units_above_the_price_are_refused_whatever_the_currencies(
    own: float, other: float, rate: float, units: float, kind: str
) -> None:
    """P in pence beside D in dollars: by hand, all in dollars."""
    worth = own / 100 * rate
    limit = worth * (2 if kind == "merger" else 1)
    assume(abs(units * other / limit - 1) > 1e-9)
    bars = closes(own, other, rate=rate)
    assert is_refused(told(kind, units), bars, KNOWN) == (units * other > limit)
    assert is_refused(told(kind, 1 / units, "D", "P"), bars, KNOWN) == (
        worth / units > other * (2 if kind == "merger" else 1)
    )


@settings(max_examples=60, deadline=None)
@given(own=prices, other=prices, rate=st.floats(0.01, 100), share=st.floats(0.01, 1.99))
def test_the_last_return_is_of_one_currency(own: float, other: float, rate: float, share: float) -> None:
    units = share * own / 100 * rate / other
    assume(1e-6 <= units <= 1e6)
    bars = closes(own, other, rate=rate)
    assert last_return(told("merger", units), bars, KNOWN) == pytest.approx(share - 1, abs=1e-9)
    turned = closes(own, other, "USDGBP", 1 / rate)
    assert last_return(told("merger", units), turned, KNOWN) == pytest.approx(share - 1, abs=1e-9)


def test_cash_of_a_merger_is_in_the_currency_of_the_price() -> None:
    merger = told("merger", 0.09).with_columns(value=pl.lit(900.0))  # 900 pence and 0.09 of $250, for 3,600 pence
    assert last_return(merger, closes(), KNOWN) == pytest.approx((9.0 * GBP + 22.5) / 45 - 1)
    refuse_above_price(merger, closes(), KNOWN)
    with pytest.raises(BarsError, match=r"gives 0\.09 of 'D' at 250 USD \(20000 GBX\), more than twice the close"):
        refuse_above_price(merger.with_columns(value=pl.lit(7200.0)), closes(), KNOWN)


def test_a_name_that_moves_to_another_exchange_keeps_its_value() -> None:
    assert last_return(told("symbol_change", 0.18), closes(), KNOWN) == pytest.approx(0)
    with pytest.raises(BarsError, match="a share keeps its price"):
        with_ends(told("symbol_change", 14.4), closes(), KNOWN)  # 3,600 pence as if they were dollars


def test_pence_and_pounds_need_no_pair_and_two_currencies_their_own() -> None:
    bars = closes(360.0, 4.0).filter(pl.col("asset_class") != "fx")
    pounds = Currencies({"P": "GBX", "D": "GBP"})
    assert last_return(told("merger", 0.9), bars, pounds) == pytest.approx(0)
    crossed = Currencies({"P": "GBp", "D": "EUR"})  # by EURGBP alone, where the book is in dollars
    assert last_return(told("merger", 1.0), closes(360.0, 4.0, "EURGBP", 0.8), crossed) == pytest.approx(-1 / 9)


@pytest.mark.parametrize("pair", ["EURUSD", "GBPJPY"])
def test_what_no_pair_converts_is_not_judged(pair: str) -> None:
    bars = closes(pair=pair)
    refuse_above_price(told("spin_off", 1000.0), bars, KNOWN)
    assert last_return(told("merger", 1000.0), bars, KNOWN) == 0


def test_the_rate_is_that_before_the_date() -> None:
    later = closes().filter(pl.col("symbol") == "GBPUSD").tail(1)
    bars = pl.concat([closes(), later.with_columns(time=pl.col("time") + timedelta(days=4), close=pl.lit(99.0))])
    assert last_return(told("merger", 0.18), bars, KNOWN) == pytest.approx(0)


# ── every way in ──────────────────────────────────────────────────────────────────────────────────

MARKET = [("P", SHARE), ("D", DOLLARS), ("GBPUSD", GBP)]
SYMBOLS = "symbol,asset_class,currency\nP,equity,GBX\nD,etf,USD\nGBPUSD,fx,USD\n"
TABLE = "symbol,kind,date,value,into,ratio\n"
TOO_MUCH, LAWFUL = f"P,spin_off,{DAY},10,D,\n", f"D,spin_off,{DAY},0.5,P,\n"
MERGER = f"P,merger,{DAY},0,D,0.171\n"
"""$42.75 for $45: a last return of -5 %."""


def write(folder: Path, days: list[date], without: str = "", only: str = "") -> Path:
    """Bars of the market on some days, that go up and down by a per cent; `without`: from the action on."""
    path = folder / f"{days[0]} {days[-1]} {without}{only}.csv"
    lines = ["symbol,date,open,high,low,close,volume"]
    for name, price in MARKET:
        for day in days:
            if (name == without and day >= DAY) or (only and name != only):
                continue
            close = price if day == BEFORE else price * (1 + 0.01 * np.sin(day.toordinal()))
            lines.append(f"{name},{day},{close},{close * 1.001},{close * 0.999},{close},1e6")
    path.write_text("\n".join(lines) + "\n")
    return path


def evening(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 23, 30, tzinfo=UTC)


@pytest.fixture
def symbols(tmp_path: Path) -> Path:
    path = tmp_path / "symbols.csv"
    path.write_text(SYMBOLS)
    return path


def table(folder: Path, rows: str) -> Path:
    path = folder / "actions.csv"
    path.write_text(TABLE + rows)
    return path


@pytest.mark.parametrize(("rows", "status"), [(TOO_MUCH, 2), (LAWFUL, 0), (MERGER, 0)])
def test_check(tmp_path: Path, symbols: Path, rows: str, status: int, capsys: pytest.CaptureFixture[str]) -> None:
    bars = write(tmp_path, DAYS, "P" if rows == MERGER else "")
    words = ["check", bars, "--symbols-file", symbols, "--actions", table(tmp_path, rows)]
    assert execute([str(one) for one in words]) == status
    assert ("20000 GBX" in capsys.readouterr().err) == (status == 2)


def test_a_run_reads_the_currencies_of_its_settings(tmp_path: Path) -> None:
    """As the book does: its own beside those of the symbols file."""
    classes = tmp_path / "classes.csv"
    classes.write_text("symbol,asset_class\nP,equity\nD,etf\nGBPUSD,fx\n")
    bars = {"source": str(write(tmp_path, DAYS)), "symbols_file": str(classes), "actions": str(table(tmp_path, LAWFUL))}
    money = {"currencies": {"P": "GBX"}}
    assert Experiment(bars=bars, book={"money": money}).read().actions.height == 1
    with pytest.raises(BarsError, match="more than the close before"):
        Experiment(bars=bars).read()


@pytest.fixture
def store(tmp_path: Path, symbols: Path) -> Path:
    folder = tmp_path / "store"
    update(folder, write(tmp_path, DAYS[:15]), symbols_file=symbols, now=evening(BEFORE))
    return folder


def added(store: Path, row: str) -> Any:
    symbol, kind, _, value, into, ratio = row.strip().split(",")
    given = {"cash": 0.0, "ratio": float(ratio)} if ratio else {"ratio": float(value)}
    return add_action(store, symbol=symbol, day=DAY, kind=kind, into=into, now=evening(DAY), **given)  # type: ignore[arg-type]


def test_a_store_that_is_told(store: Path) -> None:
    with pytest.raises(BarsError, match=r"\(20000 GBX\), more than the close before, 3600"):
        added(store, TOO_MUCH)
    with pytest.raises(BarsError, match="more than the close before, 250"):
        added(store, f"D,spin_off,{DAY},6,P,\n")
    assert added(store, LAWFUL).changed
    ends = added(store, MERGER).actions.filter(pl.col("kind") == "delisting")
    assert ends["value"].to_list() == pytest.approx([-0.05])


@pytest.mark.parametrize("only", ["", "P"])
def test_a_store_that_reads_a_table(store: Path, tmp_path: Path, only: str) -> None:
    """Where the bars that come are of P alone, the store's own price what it gives."""
    bars = write(tmp_path, DAYS[13:16], "P", only)
    for rows in (TOO_MUCH, f"P,merger,{DAY},0,D,5\n", f"D,spin_off,{DAY},6,P,\n"):
        with pytest.raises(BarsError, match="gives"):
            update(store, bars, actions=table(tmp_path, rows), now=evening(DAY))
    update(store, bars, actions=table(tmp_path, MERGER), now=evening(DAY))
    ends = list_actions(store, now=evening(DAY)).actions.filter(pl.col("kind") == "delisting")
    assert ends["value"].to_list() == pytest.approx([-0.05])


def test_what_was_not_judged_is_judged_once_the_pair_has_bars(tmp_path: Path, symbols: Path) -> None:
    store, whole = tmp_path / "store", pl.read_csv(write(tmp_path, DAYS), try_parse_dates=True)
    unpaired = whole.filter(pl.col("symbol") != "GBPUSD", pl.col("date") < DAY)
    update(store, unpaired, symbols_file=symbols, now=evening(BEFORE))
    assert added(store, TOO_MUCH).changed
    with pytest.raises(BarsError, match=r"\(20\d{3}\.\d GBX\).*takes back what the store was told"):
        update(store, whole.filter(pl.col("date").is_between(DAYS[5], DAY)), now=evening(DAY))


# ── dividends told twice ──────────────────────────────────────────────────────────────────────────


def paid(*rows: tuple[str, str, float], symbol: str = "D") -> pl.DataFrame:
    kinds, days, values = zip(*rows, strict=True)
    columns = {"symbol": [symbol] * len(rows), "kind": kinds, "date": days, "value": values}
    return read_actions(pl.DataFrame(columns, strict=False))


TWICE = paid(("dividend", "2017-12-20", 1.2), ("dividend", "2017-12-21", 1.2), ("special_dividend", "2017-12-21", 1.2))


@pytest.mark.parametrize(
    "planted",
    [
        TWICE,
        paid(("dividend", "2017-12-22", 0.35), ("dividend", "2017-12-27", 0.3501)),  # a weekend and rounding between
        paid(("dividend", "2017-12-18", 1.0), ("dividend", "2017-12-19", 2.0), ("dividend", "2017-12-20", 1.0)),
    ],
)
def test_a_dividend_told_on_two_dates_is_a_warning(planted: pl.DataFrame) -> None:
    (one,) = told_twice(planted)
    assert (one.severity, one.rule, one.symbol) == ("warning", "dividend_twice", "D")
    assert one.value == planted["value"][-1 if planted is not TWICE else 0]


def test_weekly_and_monthly_payers_specials_and_other_amounts_are_clean() -> None:
    clean = [
        *(paid(*(("dividend", str(first + timedelta(days=step * place)), 0.1) for place in range(40)))
          for first, step in ((date(2023, 1, 5), 7), (date(2023, 1, 5), 28))),
        paid(("dividend", "2017-12-20", 1.2), ("special_dividend", "2017-12-21", 1.2)),
        paid(("dividend", "2017-12-20", 1.2), ("dividend", "2017-12-21", 1.3)),
        pl.concat([paid(("dividend", "2017-12-20", 1.2)), paid(("dividend", "2017-12-21", 1.2), symbol="P")]),
    ]  # fmt: skip
    assert [told_twice(one) for one in clean] == [[]] * len(clean)


def test_check_update_and_the_list_of_a_store_say_it(store: Path, tmp_path: Path, symbols: Path) -> None:
    rows = f"D,dividend,{BEFORE},1.2,,\nD,dividend,{DAY},1.2,,\n"
    reading = read_with_findings(write(tmp_path, DAYS), symbols_file=symbols, actions=table(tmp_path, rows))
    assert [one.value for one in reading.findings if one.rule == "dividend_twice"] == [1.2]
    assert list_actions(store, now=evening(DAY)).warnings == []
    bars = write(tmp_path, DAYS[13:16])
    done = update(store, bars, actions=table(tmp_path, rows), now=evening(DAY))
    assert sum("both are booked" in one.sentence for one in done.problems) == 1
    (said,) = list_actions(store, now=evening(DAY)).warnings
    assert f"Dividends of 1.2 on {BEFORE} and of 1.2 on {DAY}" in said
    later = update(store, write(tmp_path, DAYS[13:16]), now=evening(DAY) + timedelta(days=30))
    assert not any("both are booked" in one.sentence for one in later.problems)  # it was said for ten days
