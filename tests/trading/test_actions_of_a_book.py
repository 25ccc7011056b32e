"""Actions of companies through a whole run: what they pay and change in the account, and nothing before them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from gatecast.chain import make_chain
from gatecast.cli.app import execute
from gatecast.evaluation.findings import of_sizing
from gatecast.experiment import Experiment
from gatecast.market.actions import read_actions, with_known_at
from gatecast.market.bars import make_bars
from gatecast.market.facts import facts_of
from gatecast.market.given import with_ends
from gatecast.market.steps import on_one_level
from gatecast.runs import Run, run
from gatecast.store import chain_of, load_run, save_run
from gatecast.studies.capacity import capacity
from gatecast.trading.book import (
    Book,
    Line,
    Sessions,
    core_path,
    lines_of,
    past_deviations,
    run_line,
    sessions_by,
)  # fmt: skip

NAMES = ("SPLIT", "PAYS", "HALT", "OLD", "TARGET", "BUYER", "GONE")
BOUGHT = date(2022, 6, 7)
"""The first close with forecasts: at it the book buys a seventh of its money of each, and holds it."""
HISTORY = 371
"""Sessions before."""
NO = None
CLOSES = {  # session: SPLIT, PAYS, HALT, OLD, NEW, TARGET, BUYER, GONE
    date(2022, 6, 7): (100.00, 50.00, 30.00, 20.00, NO, 40.00, 80.00, 10.00),
    date(2022, 6, 8): (104.00, 50.50, 30.50, 21.00, NO, 41.00, 82.00, 9.50),
    date(2022, 6, 9): (103.00, 50.25, NO, 21.50, NO, 41.50, 81.00, 9.00),
    date(2022, 6, 10): (26.50, 49.75, NO, NO, 22.00, 41.25, 81.50, 8.00),
    date(2022, 6, 13): (27.00, 50.00, 24.00, NO, 22.50, NO, 83.00, NO),
    date(2022, 6, 14): (26.00, 50.50, 25.00, NO, 23.00, NO, 84.00, NO),
    date(2022, 6, 15): (26.25, 50.25, 25.50, NO, 22.75, NO, 83.50, NO),
    date(2022, 6, 16): (26.50, 50.75, 25.25, NO, 23.25, NO, 84.50, NO),
    date(2022, 6, 17): (27.50, 50.00, 26.00, NO, 23.50, NO, 85.00, NO),
}
ACTIONS = """\
symbol,kind,ex_date,value,pay_date,into,ratio
SPLIT,split,2022-06-10,4,,,
PAYS,dividend,2022-06-10,0.80,2022-06-14,,
OLD,symbol change,2022-06-10,1,,NEW,
GONE,delisting,2022-06-10,-0.75,,,
TARGET,merger,2022-06-13,5.25,,BUYER,0.5
"""
PROFIT = {
    # SPLIT 1428, PAYS 2857, HALT 4761, OLD 7142, TARGET 3571, BUYER 1785, GONE 14285, bought at the opens of June 8,
    # which are the closes before
    date(2022, 6, 8): (5712.00, 1428.50, 2380.50, 7142.00, 3571.00, 3570.00, -7142.50),
    date(2022, 6, 9): (-1428.00, -714.25, 0.00, 3571.00, 1785.50, -1785.00, -7142.50),
    # 5712 shares of 26.50; 0.80 less 15 % a share; 7142 of NEW; a last close of 8.00, then three quarters of it lost
    date(2022, 6, 10): (4284.00, -1428.50 + 1942.76, 0.00, 3571.00, -892.75, 892.50, -14285.00 - 85710.00),
    # after the halt; of TARGET 5.25 and half a share of BUYER, then at 83.00
    date(2022, 6, 13): (2856.00, 714.25, -30946.50, 3571.00, 19640.50, 2677.50, 0.00),
    date(2022, 6, 14): (-5712.00, 1428.50, 4761.00, 3571.00, 1785.50, 1785.00, 0.00),
    date(2022, 6, 15): (1428.00, -714.25, 2380.50, -1785.50, -892.75, -892.50, 0.00),
    date(2022, 6, 16): (1428.00, 1428.50, -1190.25, 3571.00, 1785.50, 1785.00, 0.00),
    date(2022, 6, 17): (5712.00, -2142.75, 3570.75, 1785.50, 892.75, 892.50, 0.00),
}
FREE = {
    "commission_bps": 0, "commission_minimum": 0, "half_spread_bps": 0, "impact": 0, "benchmark_rate": 0,
    "debit_spread": 0, "credit_spread": 0,
}  # fmt: skip


def write_bars(path: Path) -> Path:
    """Raw bars: paths that lead to the closes of `BOUGHT`, then `CLOSES`, each opened at the close before."""
    since = pl.date_range(date(2020, 1, 1), BOUGHT - timedelta(days=1), "1d", eager=True)
    days, rng, frames = since.filter(since.dt.weekday() < 6)[-HISTORY:], np.random.default_rng(7), []
    for name, closes in zip((*NAMES[:4], "NEW", *NAMES[4:]), zip(*CLOSES.values(), strict=True), strict=True):
        told = {day: close for day, close in zip(CLOSES, closes, strict=True) if close is not None}
        if name != "NEW":
            moves = 0.01 * rng.standard_normal(len(days))
            path_before = told[BOUGHT] * np.exp(np.cumsum(moves) - moves.sum() - 0.004)
            told = {**dict(zip(days.to_list(), path_before.tolist(), strict=True)), **told}
        close = np.array([*told.values()])
        opens = np.concatenate([close[:1] * 0.999, close[:-1]])
        jitter = np.where(np.arange(len(close)) < HISTORY, np.exp(0.003 * rng.standard_normal(len(close))), 1.0)
        ratio = np.where(np.array([*told]) == np.datetime64("2022-06-10"), 4.0 if name == "SPLIT" else 1.0, 1.0)
        opens = opens * jitter / ratio
        frames.append(
            pl.DataFrame(
                {
                    "symbol": name, "date": list(told), "open": opens, "high": np.maximum(opens, close) * 1.004,
                    "low": np.minimum(opens, close) / 1.004, "close": close, "volume": 1e7,
                }
            )
        )  # fmt: skip
    pl.concat(frames).write_csv(path)
    return path


@dataclass(frozen=True)
class Planted:
    """An experiment on the planted history, its run, and the lines of the run's book."""

    experiment: Experiment
    run: Run
    lines: dict[str, Line]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    folder = tmp_path_factory.mktemp("actions")
    (folder / "actions.csv").write_text(ACTIONS)
    weights = dict.fromkeys(NAMES, 1 / 7)
    experiment = Experiment(
        bars={"source": str(write_bars(folder / "bars.csv")), "actions": str(folder / "actions.csv")},
        features=("ret_log_1",), models=("ridge", "logistic"), signals={"model": "ridge", "confirmed_by": "ridge"},
        strategies={"names": ["trend"]}, schedule={"refit": 320, "train": 200, "minimum": 200},
        book={"core": {"kind": "weights", "weights": weights}, "size": {"target_volatility": 2.0}, "money": FREE},
    )  # fmt: skip
    done, reading = run(experiment), experiment.read()
    sessions = sessions_by(facts_of(reading.bars, reading.actions), experiment.book, level="newest")
    return Planted(experiment, done, lines_of(done.classes, sessions, experiment.book))


def test_the_profit_of_every_session_is_right_to_the_cent(planted: Planted) -> None:
    curve = planted.run.scores["book"]["curve"]
    assert curve["day"] == [str(day) for day in CLOSES]
    profit = np.diff(curve["bought_and_held"])
    for day, found in zip(PROFIT, profit, strict=True):
        assert round(found, 2) == round(sum(PROFIT[day]), 2), day


def test_the_capacity_of_the_saved_run_at_its_own_costs_is_that_of_its_page(planted: Planted, tmp_path: Path) -> None:
    saved = load_run(save_run(planted.run, tmp_path / "run").path or "")
    found = capacity(saved.experiment, chain_of(saved), costs=(1.0,), capitals=(1e6,), since=BOUGHT).costs[0]
    shown = next(row for row in saved.scores["book"]["lines"] if row["line"] == "ensemble")
    assert shown["dividends"] > 0
    same = ("result", "return"), ("volatility", "volatility"), ("sharpe", "sharpe"), ("turnover", "turnover")
    assert [getattr(found, own) for own, _ in same] == [shown[theirs] for _, theirs in same]


def test_the_money_of_every_line_adds_up_at_every_bar(planted: Planted) -> None:
    assert {"ensemble", "rival", "bought_and_held"} <= planted.lines.keys()
    for line in planted.lines.values():
        frame = line.frame
        earned = frame.select("gain", "currency", "dividend", "carry", "interest").sum_horizontal()
        paid = frame.select("withheld", "commission", "spread", "impact", "borrow", "funding").sum_horizontal()
        equity = frame["equity"].to_numpy()
        np.testing.assert_allclose((frame["before"] + earned - paid) / equity, 1.0, atol=1e-9, rtol=0)
        np.testing.assert_array_equal(frame["before"][1:], equity[:-1])
        assert frame["day"].to_list() == list(CLOSES)


@pytest.mark.parametrize("day", [date(2022, 6, 10), date(2022, 6, 13)])
def test_no_forecast_before_an_action_knows_of_it(planted: Planted, day: date) -> None:
    before = planted.experiment.bars.replace(end=str(day - timedelta(days=1)))
    if day == date(2022, 6, 10):
        before = before.replace(actions=None)  # as the file was then
    reading = planted.experiment.replace(bars=before).read()
    chain = make_chain(planted.experiment, reading.bars, actions=reading.actions)
    cut = chain.forecasts["equity"].to_frame().sort("symbol", "time", "model", "head", "step")
    keys = cut.columns[:5]
    whole = planted.run.forecasts.join(cut.select(keys), on=keys, how="semi").sort(keys)
    assert cut["time"].max() == reading.bars["time"].max()
    assert whole.select(keys).equals(cut.select(keys))
    np.testing.assert_allclose(whole["value"], cut["value"], rtol=1e-10, atol=1e-13)  # a split scales what was before


# ── what comes late, or is not there ─────────────────────────────────────────────────────────────

DAYS = [date(2024, 1, 1) + timedelta(days=day) for day in range(200)]
SESSIONS = [day for day in DAYS if day.weekday() < 5][:140]


def book_of(actions: dict[str, list[object]], bars: pl.DataFrame, **money: object) -> tuple[Sessions, Line]:
    """The book of half A and half B from session 100 on, nothing paid for trading."""
    told = with_known_at(read_actions(pl.DataFrame(actions)), bars)
    told = with_ends(told, bars)
    book = Book(
        core={"kind": "weights", "weights": {"A": 0.5, "B": 0.5}}, money={**FREE, **money}, size={"gross_cap": 0.98}
    )  # fmt: skip
    sessions = sessions_by(facts_of(bars, told), book)
    deviations = past_deviations(sessions.returns)
    return sessions, run_line(sessions, core_path(sessions, book.core), deviations, book, begin=100)


def walks(**since: int) -> pl.DataFrame:
    """Random bars of A and B, and of others from a session on."""
    frames = []
    for number, (symbol, first) in enumerate({"A": 0, "B": 0, **since}.items()):
        days, rng = SESSIONS[first:], np.random.default_rng(number)
        close = 50 * np.exp(np.cumsum(0.01 * rng.standard_normal(len(days))))
        at = [datetime(day.year, day.month, day.day, 21, tzinfo=UTC) for day in days]
        frames.append(
            pl.DataFrame(
                {
                    "symbol": symbol, "asset_class": "equity", "time": at, "open": close, "high": close * 1.01,
                    "low": close / 1.01, "close": close, "volume": 1e7,
                }
            )
        )  # fmt: skip
    return make_bars(pl.concat(frames))


@pytest.mark.parametrize("first", [120, 123])
def test_what_is_given_is_sold_once_it_has_a_bar(first: int) -> None:
    spun = {"symbol": ["A"], "kind": ["spin_off"], "date": [SESSIONS[120]], "value": [0.5], "into": ["CHILD"]}
    sessions, line = book_of(spun, walks(CHILD=first))
    child, frame = sessions.place["CHILD"], line.frame
    units = round(line.held[19, 0] * frame["equity"][19] / (sessions.grid.close[119, 0] * sessions.rate[119, 0]))
    moves = sessions.grid.close[first, :2] / sessions.grid.close[first - 1, :2] - 1
    others = frame["gain"][first - 100] - (line.held[first - 101, :2] * moves).sum() * 1e6
    close = sessions.grid.close[first, child]
    assert others == pytest.approx(units / 2 * close, rel=0.25)
    assert (line.held[first - 98 :, child] == 0).all()
    earned = frame.select("gain", "dividend", "interest").sum_horizontal() - frame["withheld"]
    np.testing.assert_allclose(frame["before"] + earned, frame["equity"], rtol=1e-12)


def test_a_new_name_without_a_bar_yet_keeps_the_old_price() -> None:
    bars = walks(NEW=123).filter((pl.col("symbol") != "A") | (pl.col("time").dt.date() < SESSIONS[120]))
    change = {"symbol": ["A"], "kind": ["symbol_change"], "date": [SESSIONS[120]], "value": [1.0], "into": ["NEW"]}
    sessions, line = book_of(change, make_bars(bars.drop("segment")))
    new = sessions.place["NEW"]
    assert line.frame["gain"][20:23].abs().max() < 3e4
    assert (line.held[20:22, new] > 0.1).all()
    assert (line.held[26:, new] == 0).all()


@pytest.mark.parametrize("kind", ["spin_off", "merger"])
def test_what_is_given_and_has_no_bars_counts_as_nothing(kind: str) -> None:
    given = {"symbol": ["A"], "kind": [kind], "date": [SESSIONS[120]], "value": [0.5], "into": ["GHOST"]}
    bars = walks()
    if kind == "merger":
        given |= {"ratio": [1.0], "value": [2.0]}
        bars = make_bars(bars.filter((pl.col("symbol") != "A") | (pl.col("time").dt.date() < SESSIONS[120])))
    sessions, line = book_of(given, bars)
    assert ("GHOST" in sessions.left_out) == (kind == "spin_off")
    assert line.frame["gain"][20] == pytest.approx(
        (line.held[19, :2] * np.nan_to_num(sessions.returns[120, :2])).sum() * line.frame["equity"][19], rel=0.05
    )


def test_a_dividend_that_is_known_late_is_booked_when_it_is_known() -> None:
    paid = {"symbol": ["A"], "kind": ["dividend"], "date": [SESSIONS[120]], "value": [1.0]}
    late = paid | {"known_at": [datetime.combine(SESSIONS[125], time(12), UTC)]}
    for told, session in ((paid, 120), (late, 125)):
        _, line = book_of(told, walks(), withholding=0.0)
        assert np.flatnonzero(line.frame["dividend"]).tolist() == [session - 100]
        late = line.frame["dividend"] if session == 125 else 0 * line.frame["dividend"]
        np.testing.assert_array_equal(line.frame["late"], late)
        moved = (line.frame["equity"] - late - line.frame["interest"]) / line.frame["before"] - 1
        np.testing.assert_allclose(line.earned[1:], moved[1:], atol=1e-12)  # money of before is no surprise


@pytest.mark.parametrize(("days", "kind"), [(0, ""), (4, "late"), (399, "late"), (401, "not_booked")])
def test_what_is_known_late_is_a_finding_of_its_session(days: int, kind: str) -> None:
    """Booked up to 400 days after its date, and said either way; on its date nothing is said."""
    known, held = SESSIONS[125], SESSIONS[125] - timedelta(days=days)
    paid = {"symbol": ["A"], "kind": ["dividend"], "date": [held], "value": [1.0]}
    _, line = book_of(paid | {"known_at": [datetime.combine(known, time(12), UTC)]}, walks())
    said = [one for one in of_sizing(line.findings, len(line.frame)) if one.kind in ("late", "not_booked")]
    if days == 399:  # nothing was held then
        assert said == []
        return
    assert [(one.kind, one.weight) for one in said] == ([(kind, 1 / len(line.frame))] if kind else [])
    assert bool(line.frame["dividend"].sum()) == (kind != "not_booked")
    assert all(f"an action of A on {held} became known by {known}" in one.sentence for one in said)


def test_splits_of_a_file_and_of_a_store_give_the_same_account() -> None:
    raw, day, prices = walks(), SESSIONS[120], ("open", "high", "low", "close")
    own = pl.col("symbol") == "A"
    halved = own & (pl.col("time").dt.date() >= day)
    raw = raw.with_columns(pl.when(halved).then(pl.col(name) / 2).otherwise(name) for name in prices)
    split = {"symbol": ["A"], "kind": ["split"], "date": [day], "value": [2.0]}
    told = with_known_at(read_actions(pl.DataFrame(split)), raw)
    first = on_one_level(raw, told)
    newest = first.with_columns(
        *(pl.when(own).then(pl.col(name) / 2).otherwise(name) for name in prices),
        pl.when(own).then(pl.col("volume") * 2).otherwise("volume"),
    )
    book, found = Book(core={"kind": "weights", "weights": {"A": 0.5, "B": 0.5}}), []
    for bars, level in ((first, "first"), (newest, "newest")):
        sessions = sessions_by(facts_of(bars, told), book, level=level)
        np.testing.assert_array_equal(sessions.grid.close[:, 0], raw.filter(symbol="A")["close"])
        line = run_line(sessions, core_path(sessions, book.core), past_deviations(sessions.returns), book, begin=100)
        found.append(line)
        np.testing.assert_allclose(line.net[18:24], line.net[18:24].clip(-0.05, 0.05))
    np.testing.assert_array_equal(found[0].held, found[1].held)
    np.testing.assert_array_equal(found[0].frame["equity"], found[1].frame["equity"])


def test_dividends_beside_adjusted_prices_are_refused_by_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    days = [str(day) for day in SESSIONS[:30]]
    closes = {"close": [100.0 + n % 3 for n in range(30)], "adj_close": [99.0 + n % 3 for n in range(30)]}
    frame = pl.DataFrame({"symbol": "A", "date": days, **closes, "open": closes["close"], "high": 110.0, "low": 90.0})
    frame.write_csv(tmp_path / "adjusted.csv")
    frame.drop("adj_close").write_csv(tmp_path / "raw.csv")
    (tmp_path / "paid.csv").write_text(f"symbol,kind,ex_date,value\nA,dividend,{days[9]},0.5\n")
    told = ["--actions", str(tmp_path / "paid.csv")]
    assert execute(["check", str(tmp_path / "raw.csv"), *told]) == 0
    for command in (["adjusted.csv"], ["raw.csv", "--adjusted", "true"]):
        assert execute(["check", str(tmp_path / command[0]), *command[1:], *told]) == 2
        assert "it would be earned twice" in capsys.readouterr().err.replace("\n", " ")


def test_returns_are_total_and_a_spin_off_is_no_crash() -> None:
    """What is told after the close of the ex-date is in no return."""
    days = pl.date_range(date(2024, 1, 1), date(2024, 2, 9), "1d", eager=True)
    days = days.filter(days.dt.weekday() < 6).to_list()
    ex_date, closes = days[20], {"A": [100.0] * 20 + [50.0] * 10, "B": [48.0] * 30, "C": [50.0] * 20 + [45.0] * 10}
    bars = make_bars(
        pl.concat(
            pl.DataFrame(
                {
                    "symbol": name, "asset_class": "equity", "open": close, "high": close, "low": close, "close": close,
                    "time": [datetime(day.year, day.month, day.day, 21, tzinfo=UTC) for day in days], "volume": 1e7,
                }
            )
            for name, close in closes.items()
        )
    )  # fmt: skip
    table = {
        "symbol": ["A", "C"], "kind": ["spin_off", "special_dividend"], "date": [ex_date] * 2, "value": [1.0, 4.0],
        "into": ["B", None],
    }  # fmt: skip
    for late in (False, True):
        rows = pl.DataFrame(table).with_columns(known_at=pl.lit("2024-02-08T12:00:00Z" if late else None, pl.String))
        sessions = sessions_by(facts_of(bars, with_known_at(read_actions(rows), bars)), Book())
        expected = [-0.5, 0.0, -0.1] if late else [-0.02, 0.0, -0.02]
        np.testing.assert_allclose(sessions.returns[20], expected, atol=1e-12)
        np.testing.assert_allclose(sessions.total[20], [-0.02, 0.0, -0.02], atol=1e-12)  # who looks back knows it
        for returns in (sessions.returns, sessions.total):
            np.testing.assert_allclose(np.delete(returns[1:], 19, axis=0), 0.0, atol=1e-12)
