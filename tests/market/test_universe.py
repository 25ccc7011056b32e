"""A dated universe: symbols are learned, forecast and held inside their dates alone, and without one that is said."""

from __future__ import annotations

import json
from datetime import date, time, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from gatecast.cli.app import execute
from gatecast.errors import BarsError, BarsFileError
from gatecast.experiment import Experiment
from gatecast.live.gates import closed
from gatecast.market import synthetic
from gatecast.market.facts import facts_of
from gatecast.market.merging import merge_bars
from gatecast.market.universe import INSIDE, UNIVERSE, exits, is_inside, read_universe, stays_inside, with_universe
from gatecast.report.page import report_data
from gatecast.runs import Run, run
from gatecast.scores import survivorship
from gatecast.store import Store
from gatecast.trading.book import Book, core_path, deviations_of, past_deviations, run_line, sessions_by
from gatecast.trading.core import Core
from gatecast.trading.portfolio import make_book

BARS = synthetic.b1(520, seed=4, r2=0.05, symbols=4)
NAMES = BARS["symbol"].unique().sort().to_list()
DAYS = BARS["time"].dt.date().unique().sort().to_list()
JOINS, LEAVES = DAYS[430], DAYS[480]


@pytest.mark.parametrize(
    ("text", "line", "column", "said"),
    [
        ("symbol,from\nA,2024-01-01\n", 1, None, "It needs the columns symbol, from and to"),
        ("symbol,from,to\nA,2024-01-01,\n,2024-01-01,\n", 3, "symbol", "the symbol is missing"),
        ("Ticker,From,To\nA,2024-01-01,soon\n", 2, "To", "no date"),
        ("symbol,from,to\nA,0001-01-01,\n", 2, "from", "no date from 1700"),
        ("symbol,from,to\nA,2024-01-02,2024-01-01\n", 2, "to", "before it begins"),
        ("symbol,from,to\n\n", 2, None, "no rows"),
    ],
)
def test_a_file_that_is_no_universe_is_refused_with_its_place(
    text: str, line: int, column: str | None, said: str, tmp_path: Path
) -> None:
    (path := tmp_path / "universe.csv").write_text(text)
    with pytest.raises(BarsFileError) as refused:
        read_universe(path)
    assert (refused.value.line, refused.value.column) == (line, column)
    assert said in str(refused.value)


def test_stays_are_read_from_text_and_parquet(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("Symbol,from,to,why\nB,,2024-02-01,\nA,2024-01-01,2024-01-05,x\nA,2024-03-01,,\n")
    table = read_universe(tmp_path / "own.csv")
    assert table.rows() == [
        ("A", date(2024, 1, 1), date(2024, 1, 5)), ("A", date(2024, 3, 1), None), ("B", None, date(2024, 2, 1)),
    ]  # fmt: skip
    table.write_parquet(tmp_path / "own.parquet")
    assert read_universe(tmp_path / "own.parquet").equals(table)


def test_bars_say_who_is_inside_and_when_a_symbol_leaves() -> None:
    stays = pl.DataFrame({"symbol": NAMES[:2], "from": [None, JOINS], "to": [LEAVES, None]})
    bars = with_universe(BARS, stays)
    inside = is_inside(bars)
    day, symbol = bars["time"].dt.date().to_numpy(), bars["symbol"].to_numpy()
    expected = ((symbol == NAMES[0]) & (day <= LEAVES)) | ((symbol == NAMES[1]) & (day >= JOINS))
    np.testing.assert_array_equal(inside, expected)
    assert exits(bars)["symbol"].to_list() == [NAMES[0]]
    assert exits(bars)["time"][0].date() == DAYS[481]
    assert is_inside(BARS).all()
    assert exits(BARS).is_empty()
    with pytest.raises(BarsError, match="no bar of these symbols inside its dates"):
        with_universe(BARS, stays.with_columns(symbol=pl.lit("GHOST")))


@pytest.mark.parametrize(("until", "last"), [("2021-07-05", "2021-07-02"), ("2021-07-04", "2021-07-02")])
def test_a_stay_that_ends_on_a_holiday_of_the_exchange_ends_with_the_session_before(until: str, last: str) -> None:
    days = pl.date_range(date(2021, 6, 1), date(2021, 7, 30), "1d", eager=True)
    days = days.filter((days.dt.weekday() < 6) & (days != date(2021, 7, 5)))  # Independence Day, observed
    rows = BARS.filter(symbol=NAMES[0])[: len(days)].with_columns(asset_class=pl.lit("equity"))
    bars = rows.with_columns(time=days.dt.combine(time(20)).dt.replace_time_zone("UTC").cast(BARS.schema["time"]))
    stay = pl.DataFrame({"symbol": [NAMES[0]], "from": [None], "to": [date.fromisoformat(until)]}, schema=UNIVERSE)
    bars = with_universe(bars, stay)
    left = bars.filter(pl.Series(is_inside(bars) & ~stays_inside(bars)))["time"].dt.date().to_list()
    assert left == [date.fromisoformat(last)]


def settings(**bars: object) -> Experiment:
    return Experiment(
        bars={"source": "frame", "frame": BARS, **bars}, features=("x",), models=("ridge", "logistic"),
        signals={"model": "ridge", "confirmed_by": "ridge"}, strategies={"names": ["held_long"]},
        schedule={"refit": 320, "train": 200, "minimum": 200}, selection={"evidence": 1.0},
        book={"core": {"kind": "none"}},
    )  # fmt: skip


@pytest.fixture(scope="module")
def dated(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run in which the second symbol joins late, the third leaves, and the fourth never belonged."""
    path = tmp_path_factory.mktemp("universe") / "universe.csv"
    rows = [f"{NAMES[0]},,", f"{NAMES[1]},{JOINS},", f"{NAMES[2]},{DAYS[0]},{LEAVES}"]
    path.write_text("\n".join(["symbol,from,to", *rows]) + "\n")
    return run(settings(universe=str(path)))


def spans(frame: pl.DataFrame) -> dict[str, tuple[date, date]]:
    """Symbol -> its first and last date."""
    day = pl.col("time").dt.date()
    found = frame.group_by("symbol").agg(first=day.min(), last=day.max()).sort("symbol")
    return {name: (first, last) for name, first, last in found.iter_rows()}


def test_a_symbol_is_forecast_and_held_inside_its_dates_alone(dated: Run) -> None:
    forecast = spans(dated.forecasts)
    assert forecast.keys() == {*NAMES[:3]}
    assert forecast[NAMES[1]][0] == JOINS
    assert forecast[NAMES[2]][1] == LEAVES
    assert spans(dated.weights.filter(pl.col("weight") != 0)).keys() <= {*NAMES[:3]}
    samples, proposed = dated.classes["index"].samples, dated.classes["index"].proposals.weights
    rows = dated.bars.sort("symbol", "time").with_columns(held=(proposed != 0).any(axis=1))
    held = spans(rows.filter("held"))
    assert held.keys() == {*NAMES[:3]}
    assert held[NAMES[1]][0] == JOINS
    assert held[NAMES[2]][1] == LEAVES
    learned = samples.time[samples.decided][samples.symbol[samples.decided] == samples.symbols.index(NAMES[1])]
    assert learned.min().astype("datetime64[D]") == np.datetime64(JOINS)


def test_the_page_says_that_a_symbol_is_outside_and_not_that_its_window_has_gaps(dated: Run) -> None:
    notes = {row["symbol"]: " ".join(row["notes"]) for row in report_data(dated)["newest"]}
    assert "it is outside of its universe" in notes[NAMES[2]]
    assert "outside" not in notes[NAMES[0]]


def test_the_money_is_divided_among_those_that_belong(dated: Run) -> None:
    rows = dated.bars.filter(pl.col("time").dt.date() >= DAYS[380])
    inside = rows.select("symbol", "time", weight=pl.Series(is_inside(rows)).cast(pl.Float64))
    shares = (
        make_book(inside, facts_of(dated.bars)).filter(pl.col("weight") > 0).with_columns(day=pl.col("time").dt.date())
    )
    for first, last, members in ((DAYS[380], DAYS[429], 2), (JOINS, LEAVES, 3), (DAYS[481], DAYS[519], 2)):
        np.testing.assert_allclose(shares.filter(pl.col("day").is_between(first, last))["weight"], 1 / members)


def test_the_book_sells_what_leaves(dated: Run) -> None:
    book = Book(core=Core(kind="weights", weights=dict.fromkeys(NAMES, 0.25)))
    sessions = sessions_by(facts_of(dated.bars), book)
    deviations = deviations_of(dated.classes, sessions, "ensemble")
    line = run_line(sessions, core_path(sessions, book.core), deviations, book, begin=390)
    first = len(sessions.days) - len(line.held)
    for name, place in sessions.place.items():
        held = np.flatnonzero(line.held[:, place]) + first
        if name == NAMES[2]:
            assert 450 < held.max() <= DAYS.index(LEAVES)
        elif name == NAMES[1]:
            assert held.min() >= DAYS.index(JOINS)
        elif name == NAMES[3]:
            assert not len(held)


def test_a_symbol_without_bars_after_its_stay_is_sold_at_its_last_close_and_moves_nothing_outside() -> None:
    """A default end of an equity would cost a part of what is held."""
    bars = BARS.with_columns(asset_class=pl.lit("equity"), volume=pl.lit(1e7))
    day, stay = pl.col("time").dt.date(), DAYS[430]
    stays = pl.DataFrame({"symbol": NAMES, "from": None, "to": [None, None, stay, None]}, schema_overrides=UNIVERSE)
    gone = bars.filter((pl.col("symbol") != NAMES[2]) | (day <= stay))
    jumps = pl.when((pl.col("symbol") == NAMES[2]) & (day > DAYS[431])).then(3.0).otherwise(1.0)
    jumped = bars.with_columns(pl.col("open", "high", "low", "close") * jumps)
    book = Book(core=Core(kind="weights", weights=dict.fromkeys(NAMES, 0.25)))
    lines = []
    for one in (gone, bars, jumped):
        sessions = sessions_by(facts_of(with_universe(one, stays)), book)
        place = sessions.place[NAMES[2]]
        assert np.isnan(sessions.returns[431:, place]).all()
        assert np.isfinite(sessions.returns[429, place])
        deviations = past_deviations(sessions.returns)
        lines.append(run_line(sessions, core_path(sessions, book.core), deviations, book, begin=390))
        assert lines[-1].held[430 - 390 - 1, place] > 0.05
        assert (lines[-1].held[430 - 390 + 2 :, place] == 0).all()
    np.testing.assert_array_equal(lines[1].held[:, place], lines[2].held[:, place])
    frame = lines[0].frame
    lost = frame["gain"].to_numpy() / frame["before"].to_numpy()
    assert lost[41:].min() > -0.05


def test_without_a_universe_the_report_says_first_that_survivorship_is_not_known(dated: Run) -> None:
    assert dated.scores["survivorship"] == {"known": True, "symbols": 3, "sentence": ""}
    assert report_data(dated)["survivorship"] is None
    found = survivorship(BARS)
    assert (found["known"], found["symbols"]) == (False, 4)
    assert "no dated universe was given" in found["sentence"]
    assert survivorship(BARS, ("planted",))["sentence"] == ""


def test_a_store_keeps_the_universe_that_it_was_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = BARS.select("symbol", "open", "high", "low", "close", "volume", date=pl.col("time").dt.date())
    plain.filter(pl.col("date") <= DAYS[39]).write_csv(tmp_path / "first.csv")
    plain.filter(pl.col("date").is_between(DAYS[30], DAYS[44])).write_csv(tmp_path / "next.csv")
    rows = [f"{NAMES[0]},,", f"{NAMES[1]},{DAYS[42]},", f"{NAMES[2]},,{DAYS[35]}", f"{NAMES[3]},,"]
    (tmp_path / "universe.csv").write_text("\n".join(["symbol,from,to", *rows]) + "\n")
    told = ["--universe", str(tmp_path / "universe.csv"), "--asset-class", "index"]
    for file, day, more in (("first.csv", DAYS[39], told), ("next.csv", DAYS[44], [])):
        now = f"{day + timedelta(days=1)}T00:00:00+00:00"
        command = ["update", str(tmp_path / "s"), "--bars", str(tmp_path / file), *more, "--now", now, "--json"]
        assert execute(command) == 0, capsys.readouterr().err
        (tmp_path / "universe.csv").unlink(missing_ok=True)
        assert json.loads(capsys.readouterr().out.splitlines()[-1])["bars"]["new"] > 0
    bars = Store.open(tmp_path / "s").bars.as_of(synthetic_end(DAYS[44]))
    last = bars.filter(pl.col("time").dt.date() == DAYS[44])
    assert dict(last.select("symbol", INSIDE).iter_rows()) == dict(zip(NAMES, [1.0, 1.0, 0.0, 1.0], strict=True))


def test_a_symbol_outside_has_a_gate_of_its_own_and_no_odd_column() -> None:
    assert closed({"today": "bar", "current": False}, "", False, ["outside"]) == "outside"
    inside = BARS.with_columns(pl.lit(1.0).alias(INSIDE))
    last = pl.col("time").dt.date() == DAYS[-1]
    newer = inside.with_columns(pl.when(last).then(0.0).otherwise(INSIDE).alias(INSIDE))
    merged = merge_bars(inside.filter(~last), newer)
    assert not [one for one in merged.problems if INSIDE in one.sentence]


def synthetic_end(day: date) -> object:
    """The end of a day, UTC."""
    return pl.select(pl.lit(day).cast(pl.Datetime("us", "UTC")) + timedelta(days=2)).item()
