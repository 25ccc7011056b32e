"""Tables beside a book: what is lent, rates of currencies, contracts and rolls, currencies of shares, no volume."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from gatecast.cli.app import execute
from gatecast.errors import BarsError, BarsFileError, SettingsError
from gatecast.experiment import Experiment
from gatecast.market.bars import make_bars
from gatecast.market.facts import facts_of
from gatecast.market.universe import read_universe
from gatecast.settings import parse_toml, to_toml
from gatecast.trading.book import (
    Book,
    Line,
    Sessions,
    core_path,
    first_session,
    lines_of,
    past_deviations,
    run_line,
    sessions_by,
)  # fmt: skip
from gatecast.trading.core import Core
from gatecast.trading.costs import MoneySettings
from gatecast.trading.grid import Grid, funding_of
from gatecast.trading.instruments import Instruments
from gatecast.trading.sizing import BookSettings
from gatecast.trading.terms import MOST_ROWS, Contract, InterestRate, Loan, RollDate, Row, read_rows

BEGIN, DAYS = 100, 140


def market(classes: dict[str, str], **volumes: float) -> pl.DataFrame:
    """Random bars of 140 sessions of each symbol, from 100 on; volumes 1e7 unless said, NaN for none."""
    days = pl.date_range(date(2024, 1, 1), date(2024, 12, 31), "1d", eager=True)
    days, rng, frames = days.filter(days.dt.weekday() < 6)[:DAYS], np.random.default_rng(2), []
    for symbol, name in classes.items():
        close = (1.1 if name == "fx" else 100) * np.exp(np.cumsum(0.01 * rng.standard_normal(DAYS)))
        frames.append(
            pl.DataFrame(
                {
                    "symbol": symbol, "asset_class": name, "open": close, "high": close * 1.01, "low": close / 1.01,
                    "time": [datetime(d.year, d.month, d.day, 21, tzinfo=UTC) for d in days], "close": close,
                    "volume": volumes.get(symbol, 1e7),
                }
            )
        )  # fmt: skip
    return make_bars(pl.concat(frames).with_columns(pl.col("volume").fill_nan(None)))


def held(sessions: Sessions, book: Book, short: str = "") -> Line:
    """The line of a book from session 100 on, with a tilt that sells one symbol short where it is named."""
    core = core_path(sessions, book.core)
    tilt = np.zeros(core.shape)
    if short:
        tilt[:, sessions.place[short]] = -0.6
    deviations = past_deviations(sessions.returns)
    return run_line(sessions, core, deviations, book, begin=BEGIN, tilt=tilt, evidence=np.ones(core.shape))


def loans(*rows: tuple[str, date, bool, bool]) -> MoneySettings:
    """Settings of money with a table of loans: symbol, date, available, recall."""
    made = [Loan(symbol=name, date=day, available=there, recall=back, rate=0.02) for name, day, there, back in rows]
    return MoneySettings(borrow=made)


SHORT_ALONE = BookSettings(tilt_share=1.0, net_cap=1.0)


def test_a_short_that_nobody_lends_is_no_target_and_the_gate_says_so() -> None:
    facts = facts_of(market({"A": "equity", "B": "equity"}))
    day = facts.bars["time"].dt.date().unique().sort()
    money = loans(("A", day[0], True, False), ("A", day[120], False, False), ("A", day[130], False, True))
    book = Book(core=Core(kind="none"), size=SHORT_ALONE, money=money)
    sessions = sessions_by(facts, book)
    line, a = held(sessions, book, "A"), sessions.place["A"]
    weights = line.held[:, a]
    assert (weights[: 120 - BEGIN] < -0.1).all()
    assert (np.diff(weights[120 - BEGIN : 130 - BEGIN]) < 0.05).all()  # what is lent stays; it drifts with its price
    assert (weights[120 - BEGIN : 130 - BEGIN] < -0.1).all()
    assert (weights[130 - BEGIN :] == 0).all()
    assert all(gates[a] == "borrow" for gates in line.gates[131 - BEGIN :])
    paid = 1.02 * 0.02 / 360 * -weights[5] * line.frame["equity"][5]
    assert line.frame["borrow"][6] == pytest.approx(paid, rel=0.15)
    none = Book(core=Core(kind="none"), size=SHORT_ALONE, money=loans(("A", day[0], False, False)))
    never = held(sessions_by(facts, none), none, "A")
    assert (never.held == 0).all()
    assert {gates[a] for gates in never.gates} == {"borrow"}


def test_what_is_shown_as_held_is_what_the_account_holds() -> None:
    facts = facts_of(market({"A": "crypto", "B": "equity"}))
    book = Book(core=Core(kind="none"), size=SHORT_ALONE)
    line = held(sessions_by(facts, book), book, "A")  # no coin is assumed to be lent
    assert (line.held == 0).all()
    assert line.frame["equity"].n_unique() == line.frame["interest"].cum_sum().n_unique()


def test_nothing_is_filled_where_nobody_traded() -> None:
    bars = market({"A": "equity", "B": "equity"})
    quiet = (pl.col("symbol") == "A") & (pl.col("time") == bars.filter(symbol="A")["time"][BEGIN + 1])
    bars = bars.with_columns(volume=pl.when(quiet).then(0.0).otherwise("volume"))
    book = Book(core=Core(kind="weights", weights={"A": 0.5, "B": 0.5}))
    sessions = sessions_by(facts_of(bars), book)
    line = held(sessions, book)
    value = 1e6 * line.held[0, sessions.place["B"]]
    assert line.frame["traded"][1] == pytest.approx(value, rel=0.1)  # of B alone; A is bought a session later
    assert line.frame["traded"][2] > 0.5 * value


def test_a_share_without_volume_pays_as_a_small_one() -> None:
    book = Book(core=Core(kind="weights", weights={"A": 1.0}))
    costs = []
    for volume in (1e7, np.nan):
        sessions = sessions_by(facts_of(market({"A": "equity"}, A=volume)), book)
        costs.append(held(sessions, book).frame["impact"][1])
    assert costs[1] > 2 * costs[0]


def test_shares_are_counted_in_their_currency_and_left_out_without_a_rate() -> None:
    facts = facts_of(market({"SIE": "equity", "VOD": "equity", "KO": "equity", "EURUSD": "fx"}))
    book = Book(core=Core(kind="weights", weights={"SIE": 1.0}))
    currencies = {"SIE": "EUR", "VOD": "GBX"}
    book = book.priced_in(currencies)
    sessions = sessions_by(facts, book)
    assert sessions.names == ("EURUSD", "KO", "SIE")
    assert sessions.left_out["VOD"].startswith("'VOD': no rate from GBP to USD: a pair GBPUSD or USDGBP is needed.")
    pair, share = sessions.place["EURUSD"], sessions.place["SIE"]
    np.testing.assert_array_equal(sessions.rate[:, share], sessions.grid.close[:, pair])
    line = held(sessions, book)
    price = sessions.grid.close * sessions.rate
    units = line.held[10, share] * line.frame["equity"][10] / price[BEGIN + 10, share]
    assert units == pytest.approx(round(units), abs=1e-6)
    assert abs(line.frame["currency"].sum()) > 100
    home = Book(core=book.core, money=MoneySettings(currency="EUR", currencies=currencies))
    pounds = MoneySettings(currency="GBP", currencies={"VOD": "GBX"})
    pence = sessions_by(facts_of(market({"VOD": "equity"})), Book(money=pounds))
    assert (pence.rate == 0.01).all()
    assert sessions_by(facts, home).rate[-1].tolist() == pytest.approx([1 / sessions.grid.close[-1, pair], 1.0, 1.0])


def test_what_is_priced_in_a_coin_needs_its_rate_unless_it_is_the_books() -> None:
    """USDT has a price in dollars, USDC has none."""
    markets = {"BTC/USDT": "crypto", "USDT-USD": "crypto", "ETHUSDC": "crypto", "KO": "equity"}
    facts, currencies = facts_of(market(markets)), {"BTC/USDT": "USDT", "ETHUSDC": "USDC"}
    sessions = sessions_by(facts, Book().priced_in(currencies))
    assert sessions.names == ("BTC/USDT", "KO", "USDT-USD")
    assert "no rate from USDC to USD: a pair USDCUSD or USDUSDC is needed" in sessions.left_out["ETHUSDC"]
    coin, usdt = sessions.place["BTC/USDT"], sessions.place["USDT-USD"]
    np.testing.assert_array_equal(sessions.rate[:, coin], sessions.grid.close[:, usdt])
    in_coins = MoneySettings(currency="USDT", currencies={**currencies, "KO": "USD", "USDT-USD": "USD"})
    sessions = sessions_by(facts, Book(money=in_coins))
    assert (sessions.rate[:, coin] == 1).all()
    np.testing.assert_allclose(sessions.rate[:, sessions.place["KO"]], 1 / sessions.grid.close[:, usdt])


def test_the_core_leaves_out_a_coin_while_a_listed_symbol_needs_its_rate() -> None:
    """And not before: what begins later changes no weight of earlier sessions."""
    bars = market({"BTC/USDT": "crypto", "USDT-USD": "crypto", "ETH-USD": "crypto", "KO": "equity"})
    since = bars["time"].unique().sort()[BEGIN]
    bars = make_bars(bars.filter((pl.col("symbol") != "BTC/USDT") | (pl.col("time") >= since)).drop("segment"))
    book = Book().priced_in({"BTC/USDT": "USDT"})
    sessions = sessions_by(facts_of(bars), book)
    usdt, coin = sessions.place["USDT-USD"], sessions.place["BTC/USDT"]
    assert not sessions.converts[:, [place for place in range(4) if place != usdt]].any()
    np.testing.assert_array_equal(sessions.converts[:, usdt], np.arange(DAYS) >= BEGIN)
    core = core_path(sessions, book.core)
    assert core[BEGIN - 1, usdt] > 0
    assert core[-1, usdt] == 0 < core[-1, sessions.place["ETH-USD"]]
    alone = sessions_by(facts_of(make_bars(bars.filter(pl.col("symbol") != "BTC/USDT").drop("segment"))), book)
    np.testing.assert_array_equal(np.delete(core, coin, axis=1)[:BEGIN], core_path(alone, book.core)[:BEGIN])
    named = sessions_by(facts_of(bars), book.replace(core=Core(also=("USDT-USD",))))
    assert core_path(named, Core(also=("USDT-USD",)))[-1, usdt] > 0


def test_a_share_whose_rate_begins_later_is_not_held_before() -> None:
    bars = market({"SIE": "equity", "KO": "equity", "EURUSD": "fx"})
    since = bars["time"].unique().sort()[BEGIN + 20]
    bars = make_bars(bars.filter((pl.col("symbol") != "EURUSD") | (pl.col("time") >= since)).drop("segment"))
    book = Book(core=Core(kind="weights", weights={"SIE": 0.5, "KO": 0.5}), money={"currencies": {"SIE": "EUR"}})
    sessions = sessions_by(facts_of(bars), book)
    shares = held(sessions, book).held[:, sessions.place["SIE"]]
    assert (shares[:20] == 0).all()
    assert (shares[-5:] > 0.1).all()  # from the next month on


CONTRACT = {"symbol": "ES=F", "multiplier": 50.0, "currency": "USD", "margin": 500.0}


def test_a_future_with_a_contract_and_rolls_is_in_the_book() -> None:
    bars = market({"ES=F": "future", "KO": "equity"})
    day = sorted({moment.date() for moment in bars["time"]})[120]
    jump = (pl.col("symbol") == "ES=F") & (pl.col("time").dt.date() >= day)
    prices = [pl.col(name) + pl.when(jump).then(10.0).otherwise(0.0) for name in ("open", "high", "low", "close")]
    spliced = facts_of(bars.with_columns(prices))
    money = {"contracts": [CONTRACT], "rolls": [{"symbol": "ES=F", "date": day, "gap": 10.0}]}
    book = Book(core=Core(kind="weights", weights={"ES=F": 1.0}), money=money)
    without = sessions_by(spliced, Book(core=book.core, money={"contracts": [CONTRACT]}))
    assert "no roll is dated" in without.left_out["ES=F"]
    assert "table of contracts" in sessions_by(spliced, Book(core=book.core)).left_out["ES=F"]
    sessions, smooth = sessions_by(spliced, book), sessions_by(facts_of(bars), book)
    place = sessions.place["ES=F"]
    assert sessions.returns[120, place] == pytest.approx(smooth.grid.returns[120, place] * 1.0, rel=0.2)
    assert sessions.returns[120, place] < 0.05
    line = held(sessions, book)
    rolled = line.frame.row(120 - BEGIN, named=True)
    price = sessions.grid.close * sessions.rate
    units = line.held[119 - BEGIN, place] * line.frame["equity"][119 - BEGIN] / price[119, place] / 50
    assert units == pytest.approx(round(units), abs=1e-6)
    assert round(units) > 5
    gain = round(units) * 50 * (sessions.grid.close[120, place] - sessions.grid.close[119, place] - 10)
    assert rolled["gain"] == pytest.approx(gain, rel=1e-6)
    assert rolled["traded"] >= 2 * round(units) * 50 * sessions.grid.close[119, place]  # two sides
    assert np.abs(line.net[120 - BEGIN]) < 0.05


@pytest.mark.parametrize(
    ("kind", "money"),
    [
        ("future", MoneySettings()),
        ("equity", MoneySettings(currencies={"A": "SEK"})),
        ("future", MoneySettings(contracts=[Contract(symbol="A", multiplier=5, last_trade=date(2024, 2, 1))])),
    ],
)
def test_a_market_of_which_no_symbol_can_be_counted_has_no_book(kind: str, money: MoneySettings) -> None:
    book = Book(money=money)
    sessions = sessions_by(facts_of(market({"A": kind})), book)
    assert (sessions.names, set(sessions.left_out)) == ((), {"A"})
    core = core_path(sessions, book.core)
    assert core.shape == sessions.grid.close.shape == (0, 0)
    assert first_session([core], core) == -1
    assert lines_of({}, sessions, book) == {}


def test_a_pair_earns_the_difference_of_the_rates_that_are_known() -> None:
    facts = facts_of(market({"EURUSD": "fx"}))
    first = facts.bars["time"].dt.date().min()
    rates = [{"currency": name, "date": first, "rate": rate} for name, rate in (("EUR", 0.02), ("USD", 0.05))]
    for money, sign in (({"rates": rates}, -0.03), ({}, -0.01)):
        book = Book(core=Core(kind="weights", weights={"EURUSD": 1.0}), money=money)
        line = held(sessions_by(facts, book), book)
        value = line.held[4].sum() * line.frame["equity"][4]
        assert line.frame["carry"][5] / value * 360 == pytest.approx(sign * 1, rel=0.05)


# ── files ────────────────────────────────────────────────────────────────────────────────────────

BORROW = """\
Symbol,date,available,rate,recall
A,2024-01-02,yes,0.02,no
A,2024-01-03,yes,0.02,no
A,2024-01-04,no,,
"""


def test_a_file_is_read_once_and_its_rows_travel_with_the_settings(tmp_path: Path) -> None:
    (tmp_path / "borrow.csv").write_text(BORROW)
    book = Book(money=MoneySettings(borrow=str(tmp_path / "borrow.csv")))
    facts = facts_of(market({"A": "equity"}))
    with pytest.raises(SettingsError, match="the file was not read"):
        sessions_by(facts, book)
    read = book.with_file_read()
    assert read.money.borrow == (
        Loan(symbol="A", date=date(2024, 1, 2), available=True, rate=0.02, recall=False),
        Loan(symbol="A", date=date(2024, 1, 4), available=False),
    )
    experiment = Experiment(book=read)
    again = Experiment(**parse_toml(to_toml(experiment), "settings"))
    assert again.book == read
    assert "borrow.csv" not in to_toml(experiment)
    assert read.with_file_read() == read


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("symbol,available\nA,yes\n", 1, "no column date"),
        ("symbol,date,rate\nA,2024-01-02,dear\n", 2, "rate = 'dear'"),
        ("symbol,date,rate\nA,2024-01-02,0.1\nA,soon,0.1\n", 3, "date = 'soon'"),
        ("symbol,date,rate\nA,2024-01-02,0.1\n,2024-01-03,0.1\n", 3, "the cell is empty"),
        ("symbol,date,rate\nA,0001-01-01,0.1\n", 2, "from 1700 to 2200"),
    ],
)
def test_a_row_that_is_none_is_refused_with_its_line(text: str, line: int, said: str, tmp_path: Path) -> None:
    (path := tmp_path / "borrow.csv").write_text(text)
    with pytest.raises(BarsFileError) as refused:
        read_rows(path, Loan)
    assert refused.value.line == line
    assert said in str(refused.value)


def test_too_many_rows_are_refused(tmp_path: Path) -> None:
    rows = "".join(f"A{number},2024-01-02,yes,,\n" for number in range(MOST_ROWS + 1))
    (path := tmp_path / "borrow.csv").write_text(BORROW.partition("\n")[0] + "\n" + rows)
    with pytest.raises(BarsFileError, match="at most 3,000 are taken"):
        read_rows(path, Loan)


def test_the_command_refuses_a_table_before_it_fits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    market({"A": "equity"}).select("symbol", "time", "open", "high", "low", "close").write_csv(tmp_path / "bars.csv")
    (tmp_path / "rolls.csv").write_text("symbol,date,gap\nES=F,2024-03-01,wide\n")
    settings = f'[book.money]\nrolls = "{tmp_path / "rolls.csv"}"\n[bars]\nsource = "{tmp_path / "bars.csv"}"\n'
    (tmp_path / "own.toml").write_text(settings)
    assert execute(["run", str(tmp_path / "own.toml"), "--out", str(tmp_path / "run")]) != 0
    said = capsys.readouterr().err
    assert "rolls.csv, line 2" in said.replace("\n", " ")
    assert "gap = 'wide'" in said.replace("\n", " ")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("kind", "rows", "said"),
    [
        (InterestRate, ["USD,2024-01-02,0.01", "USD,2024-01-02,0.02"], "line 3: two rows of USD and 2024-01-02 differ"),
        (InterestRate, ["Euro,2024-01-02,0.01"], "line 2: InterestRate: currency = 'Euro'"),
        (Contract, ["A,1e-300"], "line 2: Contract: multiplier = '1e-300'"),
        (Contract, ["A,5", "A,50"], "line 3: two rows of A differ"),
        (RollDate, ["A,2024-01-02,1", "A,2024-01-02,2"], "line 3: two rows of A and 2024-01-02 differ"),
    ],
)
def test_rows_that_contradict_each_other_or_are_out_of_range_are_refused(
    kind: type[Row], rows: list[str], said: str, tmp_path: Path
) -> None:
    columns = [name for name, field in kind.model_fields.items() if field.is_required()]
    path = tmp_path / "table.csv"
    path.write_text("\n".join([",".join(columns), *rows, ""]))
    with pytest.raises(BarsFileError, match=re.escape(said)):
        read_rows(path, kind)


def test_the_same_row_twice_is_one_row_and_two_in_settings_may_not_differ(tmp_path: Path) -> None:
    (path := tmp_path / "rolls.csv").write_text("symbol,date,gap\nA,2024-01-02,1\nA,2024-01-02,1\n")
    assert len(read_rows(path, RollDate)) == 1
    day = date(2024, 1, 2)
    with pytest.raises(SettingsError, match="two rows of A and 2024-01-02 differ"):
        MoneySettings(rolls=[RollDate(symbol="A", date=day, gap=gap) for gap in (1, 2)])


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (pl.Series([2**31 - 5], dtype=pl.Int32).cast(pl.Date), "not a time that is recognised"),
        (pl.Series([2**62], dtype=pl.Int64).cast(pl.Datetime("ms")), "not a time that is recognised"),
        (pl.Series([1], dtype=pl.Int64).cast(pl.Duration("us")), "the column holds Duration"),
    ],
)
def test_a_column_of_no_dates_is_refused(column: pl.Series, said: str, tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    pl.DataFrame({"currency": ["USD"], "date": column, "rate": [0.1]}).write_parquet(path)
    with pytest.raises(BarsFileError, match=said):
        read_rows(path, InterestRate)
    pl.DataFrame({"symbol": ["A"], "from": column, "to": column}).write_parquet(path)
    with pytest.raises(BarsFileError, match=said):
        read_universe(path)


def test_a_roll_without_a_close_before_is_refused() -> None:
    bars = market({"A": "future"})
    rolls = [RollDate(symbol="A", date=bars["time"].dt.date()[50], gap=-500)]
    money = MoneySettings(contracts=[Contract(symbol="A", multiplier=5)], rolls=rolls)
    with pytest.raises(BarsError, match="the gap -500, the contract before closed at"):
        sessions_by(facts_of(bars), Book(money=money))


def test_a_perpetual_contract_pays_the_funding_of_each_day_since_the_session_before() -> None:
    """Rates of 8 hours: .01 % from the Friday on, -.02 % from the Sunday on; nothing is known before."""
    days = [date(2024, 3, 1) + timedelta(days=day) for day in (-1, 0, 3, 4)]
    contracts = {"symbol": ["P"], "multiplier": [1.0], "tick": [0.1], "currency": ["USD"], "margin": [0.1],
                 "last_trade": [None], "funding_hours": [8.0]}  # fmt: skip
    own = Instruments.of({"P": "crypto"}, MoneySettings(), contracts=pl.DataFrame(contracts))
    close = np.full((4, 1), 100.0)
    grid = Grid(tuple(days), ("P",), close, close, close > 0, close, close)
    rows = {"symbol": ["P", "P"], "date": [date(2024, 3, 1), date(2024, 3, 3)], "rate": [1e-4, -2e-4]}
    paid = funding_of(pl.DataFrame(rows), own, grid)[:, 0]
    assert np.isnan(paid[0])
    np.testing.assert_allclose(paid[1:], [3 * 1e-4, 3 * (1e-4 - 2e-4 - 2e-4), 3 * -2e-4])
