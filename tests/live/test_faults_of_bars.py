"""Faults of bars, planted in the real command on a store that has a model: what is refused, taken, said, not forecast.

The store's sessions are New York's of 2022 to 2024; it ends on Monday 2024-07-01, before a half day and a holiday.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pytest

from gatecast.live import health, retrain, update
from gatecast.live.gates import MISSING
from gatecast.market import synthetic
from gatecast.market.sessions import calendar_of
from gatecast.market.sessions import versions as versions_here
from gatecast.store import Store
from tests.live.conftest import Answer, Command, settings

PRICES = ("open", "high", "low", "close")
LAST = date(2024, 7, 1)
NEXT = "2024-07-02"
FIRST = "B1_0"


def evening(day: str, clock: str = "23:00") -> str:
    return f"{day}T{clock}:00+00:00"


@pytest.fixture(scope="module")
def history() -> pl.DataFrame:
    """date, symbol, prices, volume, x and k of two symbols, 20 sessions more than the store has; k stands still."""
    bars = synthetic.b1(560, seed=3, r2=0.08, symbols=2)
    sessions = calendar_of("XNYS").session
    end = int(np.searchsorted(sessions, np.datetime64(LAST))) + 20
    days = pl.DataFrame({"time": bars["time"].unique().sort(), "date": sessions[end - 560 : end]})
    named = bars.join(days, on="time", maintain_order="left").with_columns(k=1.0)
    return named.select("date", "symbol", *PRICES, "volume", "x", "k")


@pytest.fixture(scope="module")
def made(history: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults")
    history.filter(pl.col("date") <= LAST).write_csv(folder / "first.csv")
    now = datetime.fromisoformat(evening(str(LAST)))
    experiment = settings(bars={"asset_class": "index"}, features=("x", "k", "ret_log_1"))
    update(folder / "store", folder / "first.csv", now=now, experiment=experiment)
    retrain(folder / "store", now=now)
    return folder / "store"


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture
def feed(gatecast: Command, store: Path, tmp_path: Path) -> Command:
    """`gatecast update --json` with bars (a frame, text or bytes, a frame as `.parquet` where it holds moments)."""

    def command(bars: Any, now: str, *words: object, place: Path = store) -> Answer:
        path = tmp_path / "next.csv"
        if isinstance(bars, pl.DataFrame) and any(isinstance(kind, pl.Datetime) for kind in bars.dtypes):
            path = tmp_path / "next.parquet"
            bars.write_parquet(path)
        elif isinstance(bars, pl.DataFrame):
            bars.write_csv(path)
        else:
            path.write_bytes(bars if isinstance(bars, bytes) else bars.encode())
        return gatecast("update", place, "--bars", path, "--now", now, "--json", *words)

    return command


def span(history: pl.DataFrame, first: str, last: str) -> pl.DataFrame:
    return history.filter(pl.col("date").is_between(date.fromisoformat(first), date.fromisoformat(last)))


@pytest.fixture
def rows(history: pl.DataFrame) -> pl.DataFrame:
    """Eight sessions of both symbols that the store has, and the next one."""
    return span(history, "2024-06-20", NEXT)


def of(day: str, symbol: str | None = FIRST) -> pl.Expr:
    here = pl.col("date") == date.fromisoformat(day)
    return here & (pl.col("symbol") == symbol) if symbol else here


def put(rows: pl.DataFrame, where: pl.Expr, **values: Any) -> pl.DataFrame:
    return rows.with_columns(
        pl.when(where).then(value).otherwise(pl.col(name)).alias(name) for name, value in values.items()
    )


def counted(rows: pl.DataFrame, a_second: int = 1) -> pl.DataFrame:
    """Closes as counts since 1970: seconds, or so many in one."""
    close = (pl.col("date").cast(pl.Datetime("us")) + pl.duration(hours=20)).dt.epoch("s") * a_second
    return rows.select(close.alias("close_time"), pl.exclude("date"))


def read_as(rows: pl.DataFrame, unit: Any, a_second: int = 1) -> pl.DataFrame:
    """Closes that were counted in one unit and read in another."""
    return counted(rows, a_second).with_columns(pl.col("close_time").cast(pl.Datetime(unit, "UTC")))


def clocks(rows: pl.DataFrame, clock: str) -> pl.DataFrame:
    return rows.select((pl.col("date").cast(pl.String) + clock).alias("close_time"), pl.exclude("date"))


def hours_of_next(rows: pl.DataFrame, first: int) -> pl.DataFrame:
    """Bars of an hour of the next day, up to its close."""
    day = rows.filter(of(NEXT, None))
    return pl.concat([clocks(day, f" {hour}:00:00+00:00") for hour in range(first, 21)])


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ── refused, and nothing changes ──────────────────────────────────────────────────────────────────

Plant = Callable[[pl.DataFrame], pl.DataFrame | str | bytes]
REFUSED: dict[str, tuple[Plant, str]] = {
    "13 a clock time without a zone": (lambda rows: clocks(rows, " 16:00:00"), r"line 2.*has no zone.*--timezone"),
    "15 one row in milliseconds": (
        lambda rows: pl.concat([counted(rows[:-1]), counted(rows[-1:], 1000)]), r"line 19.*looks like milliseconds",
    ),
    "15 seconds read as milliseconds": (
        lambda rows: read_as(rows, "ms"), r"line 1, .*'1970-01-20.*Times 1,000 it would be 2024-06-20 20:00",
    ),
    "15 seconds read as microseconds": (lambda rows: read_as(rows, "us"), r"Times 1,000,000 it would be 2024-06-20"),
    "15 seconds read as nanoseconds": (lambda rows: read_as(rows, "ns"), r"Times 1,000,000,000 it would be 2024-06"),
    "15 microseconds read as milliseconds": (
        lambda rows: read_as(rows, "ms", 1_000_000), r"not a time.*Over 1,000 it would be 2024-06-20",
    ),
    "15 one row of 1970": (
        lambda rows: put(rows, of(NEXT), date=date(1970, 1, 20)), r"line 10.*January 1970, and none in the year",
    ),
    "15 before 1900": (
        lambda rows: rows.with_columns(pl.col("date").dt.offset_by("-125y")), r"not a time of .* 1900 to 2200",
    ),
    "15 after 2262": (
        lambda rows: rows.with_columns(pl.col("date").dt.offset_by("240y")), r"not a time of .* 2200, but of 2264",
    ),
    "15 days of Excel": (
        lambda rows: rows.with_columns(pl.col("date").cast(pl.Int32) + 25569), r"as days of Excel it would be 2024-06",
    ),
    "16 day or month": (
        lambda rows: rows[:1].with_columns(date=pl.lit("03/07/2024")), r"line 2.*cannot be told apart.*--date-format",
    ),
    "22 all prices times 1e12": (
        lambda rows: rows.with_columns(pl.col(PRICES) * 1e12), r"line 2, column 'open'.*beyond 1e-10 to 1e10",
    ),
    "25 hours, where the store has days": (
        lambda rows: hours_of_next(rows, 14), r"'B1_0' are 1:00:00 long, the store's 1 day",
    ),
    "25 three hours": (lambda rows: hours_of_next(rows, 18), r"'B1_0' are 1:00:00 long, the store's 1 day"),
    "28 another class": (
        lambda rows: rows.with_columns(asset_class=pl.lit("equity")), r"class index in the store and equity in the new",
    ),
    "30 a zero byte": (lambda rows: b"\0\0\0", r"line 1: a zero byte"),
    "32 a column that features need": (lambda rows: rows.drop("x"), r"have the columns x, the new ones do not"),
    "32 no high": (lambda rows: rows.drop("high"), r"no column for high; found: 'date', 'symbol', 'open', 'low'"),
}  # fmt: skip


@pytest.mark.parametrize("fault", REFUSED)
def test_bars_that_cannot_be_are_refused_with_their_place_and_nothing_changes(
    fault: str, feed: Command, store: Path, rows: pl.DataFrame
) -> None:
    plant, said = REFUSED[fault]
    before = files(store)
    answer = feed(plant(rows), evening(NEXT))
    assert answer.status == 2
    assert "Traceback" not in answer.err
    assert pl.Series([answer.said]).str.contains(said).item(), answer.err
    after = files(store)
    assert {name for name in {*before, *after} if after.get(name) != before.get(name)} <= {"lock"}


def test_bars_of_a_week_over_the_history_are_other_bars(feed: Command, history: pl.DataFrame) -> None:
    """25: each week is as wide as its days, corrections are not."""
    weeks = (
        span(history, "2024-01-02", "2024-06-28").sort("symbol", "date")
        .group_by_dynamic("date", every="1w", group_by="symbol")
        .agg(
            last=pl.col("date").last(), open=pl.col("open").first(), high=pl.col("high").max(), low=pl.col("low").min(),
            close=pl.col("close").last(), volume=pl.col("volume").sum(), x=pl.col("x").last(), k=pl.col("k").last(),
        ).drop("date").rename({"last": "date"})
    )  # fmt: skip
    answer = feed(weeks, evening(NEXT), "--stamp", "close")
    assert answer.status == 2
    assert "are 7 days, 0:00:00 long" in answer.said


@pytest.mark.parametrize("every", [3, 25])
def test_corrections_may_have_any_spacing(feed: Command, history: pl.DataFrame, every: int) -> None:
    """25: the spacing of a file of corrections says nothing of how long its bars are."""
    own = history.filter(pl.col("symbol") == FIRST, pl.col("date") < LAST).tail(200)[::every]
    answer = feed(own.with_columns(pl.col("high") * 1.001), evening(NEXT))
    assert answer.status == 0
    assert answer.json["bars"]["corrected"] == len(own)


def test_an_hour_that_the_clock_shows_twice_or_never_is_asked_for(feed: Command, tmp_path: Path) -> None:
    """13: at both ends of summer time; with offsets each hour is an hour after the one before."""

    def hours(first: datetime, count: int) -> pl.DataFrame:
        close = 100 + np.sin(np.arange(count))
        return pl.DataFrame({
            "time": [first + timedelta(hours=number) for number in range(count)], "symbol": "A", "open": close,
            "high": close, "low": close, "close": close, "volume": 1.0,
        }).with_columns(pl.col("time").dt.convert_time_zone("America/New_York"))  # fmt: skip

    autumn, spring = hours(datetime(2023, 11, 4, tzinfo=UTC), 48), hours(datetime(2024, 3, 9, 12, tzinfo=UTC), 24)
    words = (evening("2024-03-12"), "--asset-class", "crypto", "--stamp", "close")
    local = "%Y-%m-%d %H:%M:%S"
    twice = feed(autumn.with_columns(pl.col("time").dt.strftime(local)), *words, "--timezone", "America/New_York",
                 place=tmp_path / "new")  # fmt: skip
    text = spring.with_columns(pl.col("time").dt.strftime(local).str.replace("2024-03-10 03:00", "2024-03-10 02:00"))
    never = feed(text, *words, "--timezone", "America/New_York", place=tmp_path / "new")
    for answer, clock in ((twice, "2023-11-05 01:00:00"), (never, "2024-03-10 02:00:00")):
        assert answer.status == 2
        assert f"value '{clock}': the clock in America/New_York shows this time twice or never." in answer.said
    assert not (tmp_path / "new").exists()
    told = feed(autumn.with_columns(pl.col("time").dt.strftime(f"{local}%:z")), *words, place=tmp_path / "new")
    assert told.status == 0
    times = Store.open(tmp_path / "new").bars.for_chain(datetime(2024, 3, 12, tzinfo=UTC))["time"]
    assert times.diff().drop_nulls().unique().to_list() == [timedelta(hours=1)]


def test_one_bar_stamped_with_its_open_is_as_long_as_those_before(feed: Command, tmp_path: Path) -> None:
    """10: and one that has not closed yet is left out, whatever the host's clock said when it was opened."""
    close = 100 + np.sin(np.arange(50))
    first = datetime(2024, 3, 8, tzinfo=UTC)
    bars = pl.DataFrame({
        "open_time": [f"{first + timedelta(hours=number):%Y-%m-%d %H:%M}+00:00" for number in range(50)], "symbol": "A",
        "open": close, "high": close + 1, "low": close - 1, "close": close, "volume": 1.0,
    })  # fmt: skip
    place, words = tmp_path / "new", ("--asset-class", "crypto")
    assert feed(bars[:48], "2024-03-10T00:00:00+00:00", *words, place=place).status == 0
    one = feed(bars[48:49], "2024-03-10T01:00:05+00:00", *words, place=place)
    assert one.json["bars"]["new"] == 1
    live = feed(bars[48:], "2024-03-10T01:59:55+00:00", *words, place=place)
    assert "2024-03-10 02:00 UTC (line 3): unfinished" in live.said
    assert Store.open(place).bars.for_chain(datetime(2024, 3, 11, tzinfo=UTC))["time"].max() == first + timedelta(
        hours=49
    )


# ── taken, and said ───────────────────────────────────────────────────────────────────────────────


class Taken(NamedTuple):
    plant: Plant
    gate: str = "open"
    flag: str = ""
    said: str = ""


def every_cell(rows: pl.DataFrame, change: Callable[[pl.Expr], pl.Expr]) -> pl.DataFrame:
    return rows.with_columns(change(pl.col(name).cast(pl.String)).alias(name) for name in (*PRICES, "volume", "x", "k"))


TAKEN: dict[str, Taken] = {
    "10 a live row among dates": Taken(
        lambda rows: rows.with_columns(pl.col("date").cast(pl.String).str.replace(NEXT, f"{NEXT} 13:37:21")),
        "open", "left out", "unfinished. The last row's clock is off",
    ),
    "15 nanoseconds": Taken(lambda rows: counted(rows, 10**9)),
    "22 one price times 1e12": Taken(
        lambda rows: put(rows, of(NEXT), close=pl.col("close") * 1e12), "no bar", "left out", "beyond 1e-10 to 1e10",
    ),
    "22 one bar times 1e-12": Taken(
        lambda rows: put(rows, of(NEXT), **{name: pl.col(name) * 1e-12 for name in PRICES}),
        "no bar", "left out", "beyond 1e-10 to 1e10",
    ),
    "23 far beyond the usual": Taken(
        lambda rows: put(rows, of(NEXT), **{name: pl.col(name) * 1.25 for name in ("high", "close")}),
        "open", "odd", "extreme 0.25",
    ),
    "27 a column that stood still moves": Taken(
        lambda rows: put(rows, of(NEXT), k=2.0), "open", "odd",
        "the column 'k' is 2, and was 1 on all bars before",
    ),
    "27 a column far from all it was": Taken(
        lambda rows: put(rows, of(NEXT), x=1e9), "open", "odd", "'x' is 1e+09, more than 50 robust standard deviations",
    ),
    "27 a column without a value": Taken(
        lambda rows: put(rows, of(NEXT), x=None), "no forecast", "no window",
        "the feature 'x' has no value at 2024-07-02 20:00 UTC",
    ),
    "30 UTF-16": Taken(lambda rows: rows.write_csv().encode("utf-16")),
    "30 decimal commas": Taken(
        lambda rows: every_cell(rows, lambda cell: cell.str.replace(".", ",", literal=True)).write_csv(separator=";"),
    ),
    "30 quoted line breaks": Taken(lambda rows: rows.with_columns(note=pl.lit('two\nlines, "quoted"'))),
}  # fmt: skip


@pytest.mark.parametrize("fault", TAKEN)
def test_bars_that_are_taken_are_said(fault: str, feed: Command, rows: pl.DataFrame, store: Path) -> None:
    plant, gate, flag, said = TAKEN[fault]
    answer = feed(plant(rows), evening(NEXT))
    assert answer.status == 0
    row = answer.row()
    assert (row["gate"], answer.row("B1_1")["gate"]) == (gate, "open")
    assert flag in ("", *row["flags"])
    assert said in answer.said
    if gate != "open":
        assert (row["weight"] or 0, row["expected_return_log"], row["signal"]) == (0, None, None)
    checks = {one.name: one for one in health(store, now=datetime.fromisoformat(evening(NEXT))).checks}
    assert checks["forecasts"].level == ("warning" if gate in MISSING else "ok")
    assert ("'B1_0'" in checks["forecasts"].sentence) == (gate in MISSING)


def test_a_session_that_the_calendar_has_and_nobody_brought_is_said_a_holiday_and_a_half_day_are_not(
    feed: Command, history: pl.DataFrame, gatecast: Command, store: Path
) -> None:
    """11, 12: 2024-07-03 closes early, 2024-07-04 is a holiday."""
    before = span(history, "2024-06-24", NEXT)
    assert "missing" not in str(feed(before, evening(NEXT)).json["data_problems"])
    half = feed(clocks(span(history, "2024-07-03", "2024-07-03"), " 13:00:00-04:00"), evening("2024-07-03", "18:00"))
    assert half.json["data_problems"] == []
    assert half.row()["newest_bar"].startswith("2024-07-03 17:00")
    assert gatecast("health", store, "--now", evening("2024-07-04")).status == 0
    friday = span(history, "2024-07-05", "2024-07-05")
    assert feed(friday, evening("2024-07-05")).json["data_problems"] == []
    jump = feed(span(history, "2024-07-09", "2024-07-09"), evening("2024-07-09"))
    assert "no symbol has a bar of 2024-07-08, when XNYS traded" in jump.said
    assert "missing" in jump.row()["flags"]


def test_nothing_is_forecast_after_a_gap_that_is_longer_than_the_limit(feed: Command, history: pl.DataFrame) -> None:
    """11, 24: no return of 0 stands for the days between, and why there is no forecast is said."""
    day = span(history, "2024-07-16", "2024-07-16")
    answer = feed(pl.concat([span(history, "2024-06-24", str(LAST)), day]), evening("2024-07-16"))
    assert answer.row()["gate"] == "no forecast"
    assert "no symbol has a bar of 2024-07-02 and 8 more, when XNYS traded" in answer.said
    assert "1 bar(s) since 2024-07-16 20:00 UTC, where its history begins or a gap ends, are too few" in answer.said


@pytest.mark.parametrize("volume", [True, False])
def test_a_price_that_stands_still_for_a_window_is_not_forecast(
    feed: Command, history: pl.DataFrame, volume: bool, store: Path, gatecast: Command
) -> None:
    """21: with trades it has no variance; without any it halts."""
    price = history.filter(of(str(LAST)))["close"][0]
    still = (pl.col("symbol") == FIRST) & (pl.col("date") > LAST)
    bars = put(history, still, **dict.fromkeys(PRICES, price), **({} if volume else {"volume": 0.0}))
    answer = feed(span(bars, "2024-06-24", "2024-07-17"), evening("2024-07-17"))
    row = answer.row()
    assert row["gate"] == ("no variance" if volume else "no bar")
    assert (row["weight"] or 0, row["expected_return_log"], row["volatility"]) == (0, None, None)
    if volume:
        assert "'B1_0': the price did not move within the 10 bars of its window (no variance)" in answer.said
        told = gatecast("today", store, "--now", evening("2024-07-17"), "--json").json["decisions"]
        assert (told[0]["gate"], told[0]["expected_return_log"]) == ("no variance", None)


def test_a_symbol_that_ended_or_is_missing_shows_no_forecast_of_before(
    feed: Command, history: pl.DataFrame, rows: pl.DataFrame, gatecast: Command, store: Path
) -> None:
    """20, 89: what was last forecast, and when, is told apart from today."""
    absent = feed(rows.filter(~of(NEXT)), evening(NEXT)).row()
    assert (absent["gate"], absent["expected_return_log"], absent["probability_up"]) == ("no bar", None, None)
    assert absent["time"].startswith("2024-07-01")
    last = put(rows.with_columns(delisting=pl.lit(None, pl.Float64)), of(NEXT), delisting=-0.3)
    assert feed(last, evening(NEXT)).row()["gate"] == "ended"
    past = feed(span(history, "2024-07-03", "2024-07-03").filter(pl.col("symbol") != FIRST), evening("2024-07-03"))
    assert (past.row()["gate"], past.row()["expected_return_log"]) == ("ended", None)
    assert "'B1_0': delisted; last bar of 2024-07-02. Nothing is forecast or held of it." in past.said
    told = gatecast("today", store, "--now", evening("2024-07-03"), "--json").json["decisions"][0]
    assert (told["gate"], told["expected_return_log"], told["asset_class"]) == ("ended", None, "index")


def test_a_symbol_that_the_model_has_never_seen_is_named(
    feed: Command, history: pl.DataFrame, rows: pl.DataFrame
) -> None:
    """28: few bars are no window; with its history the model of its class forecasts it."""
    new = history.filter(pl.col("symbol") == FIRST, pl.col("date") <= date.fromisoformat(NEXT))
    new = new.with_columns(symbol=pl.lit("NEW"))
    few = feed(pl.concat([rows, new.tail(9)]), evening(NEXT))
    assert (few.row("NEW")["gate"], few.row()["gate"]) == ("no forecast", "open")
    assert {"new symbol", "no window"} <= set(few.row("NEW")["flags"])
    assert "'NEW' is new to the store: no model has learned from it yet" in few.said
    found = re.search(r"'NEW': 9 bar\(s\) since .* to settle: (\d+) are needed, (\d+) more", few.said)
    assert found
    needed, more = map(int, found.groups())
    assert needed == 9 + more
    enough = feed(pl.concat([rows, new.tail(needed).head(needed - 9)]), evening(NEXT))
    assert (enough.row("NEW")["gate"], needed > 20) == ("open", True)
    every = feed(new[:-9], evening(NEXT))
    assert every.row("NEW")["gate"] == "open"
    assert "new to the store" not in every.said
    other = rows[:9].with_columns(symbol=pl.lit("EURUSD"), asset_class=pl.lit("fx"))
    assert "fx: no model knows this class yet" in feed(other, evening(NEXT)).said


def test_a_file_without_symbols_is_no_bar_of_those_that_are_known(feed: Command, rows: pl.DataFrame) -> None:
    """32."""
    answer = feed(rows.filter(pl.col("symbol") == FIRST).drop("symbol"), evening(NEXT))
    assert "'next' is new to the store" in answer.said
    assert "the bars have none of 'B1_0', 'B1_1'" in answer.said
    assert {answer.row(name)["gate"] for name in (FIRST, "B1_1")} == {"no bar"}


@pytest.mark.parametrize("name", ["NA", "NAN", "TRUE", "1E5", "007"])
def test_a_symbol_stays_text_beside_those_that_are_there(feed: Command, rows: pl.DataFrame, name: str) -> None:
    """31."""
    answer = feed(pl.concat([rows, rows[:8].with_columns(symbol=pl.lit(name))]), evening(NEXT))
    assert answer.status == 0
    assert {row["symbol"] for row in answer.json["decisions"]} == {FIRST, "B1_1", name}


def test_a_holiday_of_one_exchange_is_no_missing_bar_of_its_symbols(
    feed: Command, history: pl.DataFrame, tmp_path: Path
) -> None:
    """26: London trades on 2024-07-04; New York's symbol is neither late nor awaited."""
    (tmp_path / "symbols.csv").write_text("symbol,asset_class,calendar\nB1_0,index,XNYS\nB1_1,index,XLON\n")
    london = span(history, "2024-07-03", "2024-07-03").filter(pl.col("symbol") != FIRST)
    bars = pl.concat([span(history, "2024-06-24", "2024-07-05"), london.with_columns(date=date(2024, 7, 4))])
    words = ("--symbols-file", tmp_path / "symbols.csv")
    assert feed(bars.filter(pl.col("date") <= date(2024, 7, 3)), evening("2024-07-03"), *words).status == 0
    fourth = feed(bars.filter(pl.col("date") <= date(2024, 7, 4)), evening("2024-07-04"), *words)
    assert [row["today"] for row in fourth.json["decisions"]] == ["bar", "bar"]
    fifth = feed(bars, evening("2024-07-05"), *words)
    assert fifth.row()["time"] == fifth.row("B1_1")["time"] == "2024-07-05 20:00:00+00:00"
    assert fifth.json["data_problems"] == []


def test_a_name_of_another_class_is_said_once_and_the_class_is_shown(
    feed: Command, history: pl.DataFrame, tmp_path: Path, gatecast: Command
) -> None:
    """24, 90: and a history that is too short says how many bars are needed, and when there are enough."""
    named = history.filter(pl.col("date") < date(2022, 9, 1)).with_columns(pl.col("symbol").replace(FIRST, "BTC-USD"))
    place, now = tmp_path / "new", evening("2022-09-01")
    first = feed(named, now, place=place)
    assert (
        "'BTC-USD': class guess. The name looks like crypto, but the class is equity (built-in default)" in first.said
    )
    assert "class guess" not in feed(named[-5:], now, place=place).said
    checked = gatecast("check", tmp_path / "next.csv", "--json").json["classes"]
    assert {row["asset_class"] for row in checked} == {"equity"}
    short = gatecast("retrain", place, "--now", now, "--jobs", 1)
    assert short.status == 2
    assert pl.Series([short.said]).str.contains(r"has 82 bars; \d+ are needed, around 202\d-\d\d-\d\d").item()


def test_a_bar_that_is_repeated_for_a_window_has_no_variance(feed: Command, history: pl.DataFrame) -> None:
    """A vendor that gives the same open, high, low, close and volume under each new date."""
    later = history.filter(pl.col("date") > LAST)
    bar = later.filter(of(NEXT)).row(0, named=True)
    repeated = put(later, pl.col("symbol") == FIRST, **{name: bar[name] for name in (*PRICES, "volume")})
    days = later["date"].unique().sort()[[8, 9]].to_list()
    for day, still in zip(days, (False, True), strict=True):
        row = feed(repeated.filter(pl.col("date") <= day), evening(str(day))).row()
        assert ("no variance" in row["flags"], row["gate"] == "no variance") == (still, still)


def test_a_session_without_a_trade_is_no_bar_though_its_row_comes_alone(
    feed: Command, history: pl.DataFrame, store: Path
) -> None:
    """A range and a volume of 0 at the last close, one row a day: as inside a file, where the row before stands."""
    close = history.filter(of(str(LAST)))["close"].item()
    for day in (NEXT, "2024-07-03"):
        rows = put(span(history, day, day), of(day), **dict.fromkeys(PRICES, close), volume=0.0)
        answer = feed(rows, evening(day))
        assert (answer.row()["gate"], answer.row()["today"]) == ("no bar", "no bar")
        assert not answer.row()["weight"]
        assert "no trade. Sessions without a trade are no bars" in answer.said
        assert answer.row("B1_1")["today"] == "bar"
    alone = feed(rows.filter(pl.col("symbol") == FIRST), evening("2024-07-03", "23:30"))
    assert (alone.status, alone.row()["gate"]) == (0, "no bar")
    stored = Store.open(store).bars.as_of(datetime.fromisoformat(evening("2024-07-03")))
    assert stored.filter(pl.col("symbol") == FIRST)["time"].max().date() == LAST  # type: ignore[union-attr]


def test_a_row_is_awaited_for_three_sessions_and_then_a_window_steps_over_it(
    feed: Command, history: pl.DataFrame, store: Path, gatecast: Command
) -> None:
    """The same file again, the next days and a refit say the same as the first."""
    later = history.filter(~of(NEXT))
    days = history["date"].unique().sort()
    days = days.filter(days > date.fromisoformat(NEXT))[:4].to_list()
    assert feed(span(later, NEXT, NEXT), evening(NEXT)).row()["gate"] == "no bar"
    for place, day in enumerate(map(str, days)):
        for clock in ("23:00", "23:10"):
            answer = feed(span(later, day, day), evening(day, clock))
            awaited = place < 2
            assert ("awaited" in answer.row()["flags"], answer.row()["gate"] == "no forecast") == (awaited, awaited)
            assert bool(answer.json["wrote"]) == (clock == "23:00")
        if place == 1:
            shutil.copytree(store, store.with_name("twin"))
            refit = gatecast("retrain", store.with_name("twin"), "--now", evening(day, "23:20"), "--jobs", 1, "--json")
            row = refit.row()
            assert (row["gate"], row["expected_return_log"]) == ("no forecast", None)
            assert refit.row("B1_1")["expected_return_log"] is not None


# ── clocks and corrections ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("late", [True, False])
def test_what_came_after_its_fill_and_is_dated_before_it_is_named(
    feed: Command, history: pl.DataFrame, store: Path, gatecast: Command, late: bool
) -> None:
    """A correction of the bar that was decided on last, or a row that was not there, with the next bar."""
    both = span(history, NEXT, "2024-07-03")
    first = both.filter(of(NEXT, None))
    feed(first.filter(pl.col("symbol") != FIRST) if late else first, evening(NEXT))
    corrected = both if late else put(both, of(NEXT), high=pl.col("high") * 1.01)
    honest, back = evening("2024-07-03"), pl.format("{}T20:01:00+00:00", "date")
    stated = pl.when(of(NEXT)).then(pl.lit(honest)).otherwise(back)
    for known_at, named in ((stated, False), (back, True)):
        place = shutil.copytree(store, store.with_name(f"twin{named}"))
        assert feed(corrected.with_columns(known_at=known_at), honest, place=place).status == 0
        checked = gatecast("store", "check", place)
        said = " ".join((checked.out + checked.err).split())
        claim = "was not there then" if late else "the high of B1_0 at 2024-07-02 20:00 is a correction dated back"
        assert (checked.status, claim in said) == (0, named)


def test_what_came_while_the_clock_was_ahead_counts_once_it_is_right_again(
    feed: Command, history: pl.DataFrame, rows: pl.DataFrame, store: Path, gatecast: Command
) -> None:
    """29: a bar and a correction came with a clock a year ahead; they are neither hidden nor late for that year."""
    changed = put(rows, of("2024-06-27"), high=pl.col("high") * 1.01)
    ahead = feed(changed, "2025-07-02T23:00:00+00:00")
    assert (ahead.json["bars"]["corrected"], ahead.row()["gate"]) == (1, "stale")
    shutil.copytree(store, store.with_name("twin"))
    refit = gatecast("retrain", store.with_name("twin"), "--if-due", "--now", evening(NEXT), "--jobs", 1, "--json")
    assert "3 rows of the store came when the clock was ahead" in refit.said
    right = feed(changed, evening(NEXT))
    assert "came when the clock was ahead (up to 2025-07-02T23:00 UTC): they count as known by 2024-07-02" in right.said
    assert (right.json["bars"], right.row()["gate"]) == ({"repeated": 18}, "open")
    before = files(store)
    assert "ahead" not in feed(changed, evening(NEXT)).said
    assert {name for name, content in files(store).items() if before.get(name) != content} <= {"heartbeat", "lock"}
    later = feed(put(span(history, "2024-06-20", "2024-07-03"), of("2024-06-27"), high=pl.col("high") * 1.01),
                 evening("2024-07-03"))  # fmt: skip
    assert (later.json["bars"]["corrected"], later.row()["gate"]) == (0, "open")
    assert Store.open(store).check() == []
    assert gatecast("parity", store, "--last", 1, "--now", evening("2024-07-03")).status == 0


def test_a_clock_that_is_behind_a_decision_is_refused_with_the_way_out(
    feed: Command, history: pl.DataFrame, rows: pl.DataFrame, store: Path
) -> None:
    """29."""
    assert feed(span(history, "2024-06-20", "2024-07-05"), evening("2024-07-05")).status == 0
    before = files(store)
    answer = feed(rows, evening(NEXT))
    assert answer.status == 2
    assert "is before the store's newest decision, 2024-07-05 20:00 UTC: give a later --now, or mend" in answer.said
    assert {name for name, content in files(store).items() if before.get(name) != content} <= {"lock"}


def test_a_bar_that_was_corrected_and_corrected_back_shows_as_the_bar(
    feed: Command, history: pl.DataFrame, store: Path, gatecast: Command
) -> None:
    """7: parity names the bar that was another when the forecast was made, not the feature that read it."""
    wrong = put(span(history, "2024-06-20", NEXT), of("2024-06-27"), high=pl.col("high") * 1.01)
    assert feed(wrong, evening(NEXT)).json["bars"]["corrected"] == 1
    same = gatecast("parity", store, "--last", 1, "--now", evening(NEXT))
    assert same.status == 0
    feed(span(history, "2024-06-20", "2024-07-03"), evening("2024-07-03"))
    other = gatecast("parity", store, "--last", 2, "--now", evening("2024-07-03"), "--json")
    assert other.status == 1
    found = other.json["difference"]
    assert (found["stage"], found["symbol"], found["column"]) == ("bar", FIRST, "high")
    assert found["time"].startswith("2024-06-27")


def test_the_time_zones_that_a_model_was_made_with_are_kept_with_it(made: Path) -> None:
    """14: an update with others says so, see `gates.other_zones`."""
    opened = Store.open(made)
    provenance = opened.artefacts.json(opened.state.models[0].parts["provenance.json"])
    assert provenance["calendars"] == versions_here()
