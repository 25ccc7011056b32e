"""What is forecast live is what a later run says of that bar, to the bit."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from gatecast.audits.tables import up_to
from gatecast.chain import Past, make_chain
from gatecast.errors import BarsError, SettingsError
from gatecast.experiment import Experiment
from gatecast.forecasting.lstm import LSTM
from gatecast.forecasting.models.forest import Forest
from gatecast.forecasting.schedule import Schedule
from gatecast.live import forecast, forecast_newest
from gatecast.live.newest import told_of
from gatecast.market.actions import read_actions
from gatecast.market.awaited import with_awaited
from gatecast.market.bars import make_bars
from gatecast.market.calendar import fill_times
from gatecast.market.reading import BarsSettings
from gatecast.report.page import report_data
from gatecast.runs import Run, run
from gatecast.store import load_run, past_of, save_run
from tests.test_past import SHORT, late_rows, made, plain

SETTINGS = {
    "book": {"core": {"kind": "none"}},
    "features": ("ret_log_1", "x"),
    "model": {
        "lstm": LSTM(units=16, layers=1, seeds=1, epochs=2),
        "forest": Forest(trees=5),
    },
    "schedule": Schedule(refit="3M"),
}


def now_of(bars: pl.DataFrame) -> datetime:
    """An hour after the newest bar."""
    newest: datetime = bars["time"].to_list()[-1]
    return newest + timedelta(hours=1)


def same_numbers(row: dict[str, Any]) -> dict[str, Any]:
    """The row without what is said of the data."""
    return {name: value for name, value in row.items() if name not in ("warnings", "data_problems", "close")}


@pytest.fixture(scope="module")
def done(market: pl.DataFrame) -> Run:
    """A run on all but the last bars, the later ones still before the next refit; it is in no folder."""
    moments = market["time"].unique().sort()
    start = moments[-1].replace(day=1)
    early = market.filter(pl.col("time") <= moments[moments.search_sorted(start) + 2])
    return run(Experiment(bars=early, **SETTINGS))


@pytest.fixture(scope="module")
def saved(
    done: Run, market: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, pl.DataFrame, pl.DataFrame]:
    """The run in a folder, its bars, and these with the bars that come after them."""
    folder = tmp_path_factory.mktemp("live") / "run"
    save_run(done, folder)
    return folder, done.bars, market


def test_a_run_or_its_folder_and_bars_in_any_form_give_the_same_forecasts(
    done: Run, saved: tuple[Path, pl.DataFrame, pl.DataFrame], tmp_path: Path
) -> None:
    folder, _, market = saved
    expected = forecast_newest(folder, market)
    plain = market.drop("known_at", "segment")
    plain.write_parquet(tmp_path / "newest.parquet")
    for source in (done, load_run(folder), str(folder)):
        assert forecast_newest(source, market) == expected
    for bars in (plain, plain.to_pandas(), tmp_path / "newest.parquet", str(tmp_path / "newest.parquet")):
        assert forecast_newest(folder, bars, stamp="close", asset_class="index") == expected
    with pytest.raises(SettingsError, match="stamp: these bars are read already"):
        forecast_newest(folder, market, stamp="close")
    with pytest.raises(BarsError, match="Did you mean 'timezone'"):
        forecast_newest(folder, plain, timezon="UTC")


def test_live_is_what_a_later_run_says(saved: tuple[Path, pl.DataFrame, pl.DataFrame]) -> None:
    folder, early, market = saved
    rows = {row["symbol"]: row for row in forecast_newest(folder, market)}
    later = run(Experiment(bars=market, **SETTINGS))
    assert len(later.scores["folds"]) == len(load_run(folder).scores["folds"])
    newest = later.signals.join(later.weights, on=["symbol", "time"]).group_by("symbol", maintain_order=True).last()
    for expected in newest.iter_rows(named=True):
        got = rows[expected["symbol"]]
        assert got["time"] > early["time"].max()
        for name in ("time", "z", "signal", "consensus", "strategy", "evidence", "reason", "weight"):
            assert got[name] == expected[name], name
        chance = later.forecasts.filter(
            (pl.col("symbol") == expected["symbol"]) & (pl.col("time") == expected["time"]),
            (pl.col("model") == "ensemble") & (pl.col("head") == "direction"),
        )["value"].item()
        assert got["probability_up"] == chance


def test_a_row_that_came_late_is_read_as_a_later_run_reads_it(market: pl.DataFrame, tmp_path: Path) -> None:
    """Live does not know that a row is to come, and forecasts without it; once it is there, as if it had known.

    What was issued meanwhile stays, but of the symbol whose row was missing: of the other one too, as its forecasts
    read what its class did. The scores in the reasons go over that record, and over nothing else: of a past without
    these closes they are those of the later run.
    """
    days = market["time"].unique().sort()
    place = int(days.search_sorted(days[-1].replace(month=2, day=1))) + 8
    missing = (pl.col("symbol") == market["symbol"][0]) & (pl.col("time") == days[place])
    late = market.with_columns(known_at=pl.when(missing).then(days[place + 3]).otherwise("known_at"))
    late = late.filter(pl.col("time") <= days[place + 45])
    early = late.filter(pl.col("known_at") <= days[place + 2])
    assert early.height == early.filter(~missing).height
    settings = SETTINGS | {"schedule": Schedule(refit="1Y")}
    save_run(run(Experiment(bars=early, **settings)), tmp_path / "run")
    found = forecast(tmp_path / "run", late, now=now_of(late))
    assert [one.kind for one in found.problems] == ["late"]
    assert found.sound
    later = run(Experiment(bars=late, **settings))
    newest = later.signals.join(later.weights, on=["symbol", "time"]).group_by("symbol", maintain_order=True).last()
    saved = load_run(tmp_path / "run")
    past = past_of(saved)
    cut = before(past, days[place + 1])
    whole, without = (make_chain(saved.experiment, late, past=one, refit="never", watch=False) for one in (past, cut))
    names = ("symbol", "time", "z", "signal", "consensus", "strategy", "evidence", "weight", "book")
    for rows, told in ((found.rows, names), (told_of(saved, cut, without).rows, (*names, "reason"))):
        for row, expected in zip(rows, newest.iter_rows(named=True), strict=True):
            assert {name: row[name] for name in told} == {name: expected[name] for name in told}
    ours, theirs = whole.classes["index"], later.classes["index"]
    assert not np.array_equal(ours.selection.score, theirs.selection.score)
    np.testing.assert_array_equal(without.classes["index"].selection.score, theirs.selection.score)
    issued = [np.nan_to_num(one.forecasts.values["ensemble"]["volatility"]) for one in (ours, theirs)]
    at = ours.samples.decided[np.flatnonzero(issued[0] != issued[1])]
    assert [*zip(ours.samples.symbol[at], ours.samples.time[at], strict=True)] == [
        (1, np.datetime64(days[place + ahead].replace(tzinfo=None), "us")) for ahead in (1, 2)
    ]  # fmt: skip


def before(past: Past, moment: datetime) -> Past:
    """The same past with what was forecast before a close alone."""
    ((name, one),) = past.forecasts.items()
    kept = one.time < np.datetime64(moment.replace(tzinfo=None), "us")
    values = {model: {head: array[kept] for head, array in heads.items()} for model, heads in one.values.items()}
    members = {
        model: tuple({head: array[kept] for head, array in heads.items()} for heads in each)
        for model, each in one.members.items()
    }  # fmt: skip
    symbols = tuple(np.array(one.symbol)[kept].tolist())
    cut = replace(
        one, symbol=symbols, time=one.time[kept], values=values, members=members,
        moves=one.moves[kept] if len(one.moves) else one.moves,
    )  # fmt: skip
    return replace(past, forecasts={name: cut}, weights=past.weights.filter(pl.col("time") < moment))


def test_the_deviation_is_that_of_close_to_close(saved: tuple[Path, pl.DataFrame, pl.DataFrame]) -> None:
    folder, _, market = saved
    one = run(Experiment(bars=market, **SETTINGS)).classes["index"]
    variance = one.forecasts.values["ensemble"]["volatility"] * one.samples.facts.ratio[one.samples.ends]
    for number, row in enumerate(forecast_newest(folder, market)):
        assert len(row["path"]) == 5
        np.testing.assert_allclose(np.array(row["sigma_path"]) ** 2, row["volatility"] * np.arange(1, 6) / 5)
        last = one.forecasts.rows[one.samples.symbol[one.samples.decided[one.forecasts.rows]] == number][-1]
        np.testing.assert_allclose(row["standard_deviation"], np.sqrt(variance[last]), rtol=1e-9)
        np.testing.assert_allclose(row["expected_return_simple"], np.expm1(row["path"][-1] + variance[last] / 2))


def test_a_strange_symbol_is_refused_or_left_out(saved: tuple[Path, pl.DataFrame, pl.DataFrame]) -> None:
    folder, _, market = saved
    strange = market.with_columns(symbol=pl.lit("ELSE") + pl.col("symbol"))
    with pytest.raises(BarsError, match="none of the run's symbols"):
        forecast_newest(folder, strange)
    found = forecast(folder, pl.concat([market, strange]), now=now_of(market))
    assert {row["symbol"] for row in found.rows} == set(market["symbol"])
    assert any("ELSE" in warning for warning in found.rows[0]["warnings"])
    assert found.to_dict()["new_symbols"] == sorted(strange["symbol"].unique())
    assert found.sound


def test_a_correction_changes_no_forecast_that_was_made(saved: tuple[Path, pl.DataFrame, pl.DataFrame]) -> None:
    folder, early, market = saved
    wrong = pl.col("time") == early["time"].unique().sort()[-30]
    corrected = market.with_columns(pl.when(wrong).then(pl.col("close") * 1.001).otherwise("close").alias("close"))
    corrected = make_bars(corrected.with_columns(pl.max_horizontal("high", "close").alias("high")))
    found = forecast(folder, corrected, now=now_of(market))
    for got, expected in zip(found.rows, forecast_newest(folder, market, now=now_of(market)), strict=True):
        assert same_numbers(got) == same_numbers(expected)
    assert any("revised_input" in warning for warning in found.warnings)
    assert not found.sound


@pytest.mark.parametrize("factor", [0.5, 1 / 3, 1.01])
def test_a_re_based_history_is_forecast_as_it_was(
    saved: tuple[Path, pl.DataFrame, pl.DataFrame], factor: float
) -> None:
    folder, _, market = saved
    found = forecast(folder, market.with_columns(pl.col("open", "high", "low", "close") * factor), now=now_of(market))
    assert [problem.kind for problem in found.problems] == ["rescaled"] * 2
    assert found.sound
    for got, expected in zip(found.rows, forecast_newest(folder, market, now=now_of(market)), strict=True):
        for name in ("z", "probability_up", "expected_return_log", "volatility", "weight", "book"):
            assert got[name] == pytest.approx(expected[name], rel=1e-6, abs=1e-12), name


def test_a_file_without_news_says_so(saved: tuple[Path, pl.DataFrame, pl.DataFrame]) -> None:
    folder, early, _ = saved
    rows = forecast_newest(folder, early)
    assert any("no bar that is newer" in warning for warning in rows[0]["warnings"])


def test_silent_missing_and_old_symbols_are_told(saved: tuple[Path, pl.DataFrame, pl.DataFrame]) -> None:
    folder, _, market = saved
    first, second = sorted(market["symbol"].unique())
    days = market["time"].unique().sort()
    short = market.filter((pl.col("symbol") == first) | (pl.col("time") <= days[-2]))
    found = forecast(folder, short, now=now_of(market))
    states = {row["symbol"]: (row["today"], row["sessions_behind"]) for row in found.rows}
    assert states == {first: ("bar", 0), second: ("no bar", 1)}
    assert found.sound  # one session behind may be a late file
    shorter = market.filter((pl.col("symbol") == first) | (pl.col("time") <= days[-3]))
    found = forecast(folder, shorter, now=now_of(market))
    assert [(one.kind, one.symbols) for one in found.problems] == [("stale", (second,))]
    assert not found.sound
    found = forecast(folder, market.filter(pl.col("symbol") == first), now=now_of(market))
    assert ("missing", (second,)) in [(one.kind, one.symbols) for one in found.problems]
    assert {row["symbol"]: row["current"] for row in found.rows} == {first: True, second: False}
    old = forecast(folder, market, now=now_of(market) + timedelta(days=11))
    assert [one.kind for one in old.problems] == ["stale"]
    assert any("more than 10 days old" in warning for warning in old.warnings)


VOLUME = {**SETTINGS, "features": ("ret_log_1", "volume_ratio_20")}


def test_the_runs_own_features_decide_on_a_longer_file(
    market: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Volume was constant in the run, so that no model could learn of it: a bar with another volume changes nothing."""
    days = market["time"].unique().sort()
    flat = market.with_columns(volume=pl.lit(1e6))
    early = flat.filter(pl.col("time") <= days[-4])
    folder = tmp_path_factory.mktemp("features") / "run"
    done = run(Experiment(bars=early, **VOLUME))
    save_run(done, folder)
    last = pl.col("time") > days[-4]
    changed = flat.with_columns(volume=pl.when(last).then(2e6 + pl.int_range(pl.len())).otherwise("volume"))
    same, other = (forecast_newest(folder, bars, now=now_of(market)) for bars in (flat, changed))
    assert [same_numbers(row) for row in same] == [same_numbers(row) for row in other]
    assert same[0]["time"] == days[-1]


def test_new_bars_without_a_column_of_the_runs_features_are_refused(
    market: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory
) -> None:
    days = market["time"].unique().sort()
    folder = tmp_path_factory.mktemp("columns") / "run"
    save_run(run(Experiment(bars=market.filter(pl.col("time") <= days[-4]), **SETTINGS)), folder)
    fresh = pl.col("time") > days[-4]
    with pytest.raises(BarsError, match="the run's feature 'x' needs the column 'x'"):
        forecast_newest(folder, market.with_columns(x=pl.when(fresh).then(None).otherwise("x")))


def test_newer_bars_without_a_price_and_of_the_future_are_left_out_and_named(
    saved: tuple[Path, pl.DataFrame, pl.DataFrame],
) -> None:
    folder, _, market = saved
    first, second = sorted(market["symbol"].unique())
    days = market["time"].unique().sort()
    at_end = (pl.col("symbol") == first) & (pl.col("time") == days[-1])
    holed = market.with_columns(close=pl.when(at_end).then(None).otherwise("close"))
    found = forecast(folder, holed, now=now_of(market))
    assert [(one.kind, one.symbols) for one in found.problems] == [("left out", (first,))]
    assert "1 bar(s) are left out, the first of" in found.problems[0].sentence
    assert "lack a price" in found.problems[0].sentence
    assert {row["symbol"]: row["today"] for row in found.rows} == {first: "no bar", second: "bar"}
    assert not found.sound
    far = market.filter(at_end).with_columns(pl.col("time", "known_at").dt.offset_by("25y"))
    found = forecast(folder, make_bars(pl.concat([market, far])), now=now_of(market))
    assert [(one.kind, one.symbols) for one in found.problems] == [("left out", (first,))]
    assert "close after the present moment" in found.problems[0].sentence
    assert {row["time"] for row in found.rows} == {days[-1]}
    with pytest.raises(BarsError, match="no bar is left to forecast from"):
        forecast(folder, market.with_columns(pl.col("time", "known_at").dt.offset_by("90y")), now=now_of(market))


def test_another_market_under_a_symbol_of_the_run_is_refused(saved: tuple[Path, pl.DataFrame, pl.DataFrame]) -> None:
    folder, early, market = saved
    names = sorted(market["symbol"].unique())
    swapped = make_bars(market.with_columns(pl.col("symbol").replace(dict(zip(names, names[::-1], strict=True)))))
    with pytest.raises(BarsError, match="are another market's than the run's"):
        forecast_newest(folder, swapped)
    later = swapped.filter(pl.col("time") > early["time"].max())
    with pytest.raises(BarsError, match=r"and no bar is common|do not go on from the run's"):
        forecast_newest(folder, later)
    assert forecast_newest(folder, market.filter(pl.col("time") > early["time"].max()))


CHEAP: dict[str, Any] = {
    "book": {"core": {"kind": "none"}},
    "features": ("ret_log_1", "x"),
    "models": ("forest", "ridge", "logistic"),
    "model": {
        "forest": {"trees": 3},
    },
    "signals": {"model": "ridge", "confirmed_by": "forest"},
    "ensemble": {"members": ("forest", "ridge", "logistic"), "volatility_members": ("har_symbol", "har_class", "ewma")},
    "schedule": Schedule(refit="1Y"),
    "selection": {"evidence": 1.0},
    "too_good": ("x", "return", "direction", "strategy"),
}


@pytest.fixture(scope="module")
def stopping(market: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pl.DataFrame, list[Any]]:
    """A run that holds what it is allowed to on all but the last hundred sessions, the bars, and the sessions."""
    days = market["time"].unique().sort().to_list()
    folder = tmp_path_factory.mktemp("stopping") / "run"
    save_run(run(Experiment(bars=market.filter(pl.col("time") <= days[-101]), **CHEAP)), folder)
    return folder, market, days


def delisting(symbol: str, day: datetime, known: datetime | None = None) -> pl.DataFrame:
    columns = {"symbol": [symbol], "date": [day.date().isoformat()], "value": [-0.3]}
    return read_actions(pl.DataFrame(columns | {"known_at": [known and known.isoformat()]}), "delisting")


def test_a_symbol_whose_end_was_told_is_shown_as_delisted_and_holds_nothing(
    stopping: tuple[Path, pl.DataFrame, list[Any]],
) -> None:
    folder, market, days = stopping
    first, second = sorted(market["symbol"].unique())
    for stop in (-1, -20):  # on the last bar of the file, and before
        stopped = market.filter((pl.col("symbol") == first) | (pl.col("time") <= days[stop]))
        now = now_of(market)
        found = forecast(folder, stopped, actions=delisting(second, days[stop]), now=now)
        one, other = found.rows
        assert (other["today"], other["end"], other["current"]) == ("ended", "delisted", False)
        assert (other["weight"], other["book"]) == (None, None)
        assert other["notes"][0].startswith(f"Delisted, its last bar is of {days[stop].date()}")
        assert one["current"]
        assert one["weight"] != 0
        assert one["book"] == one["weight"]  # divided among the one that is left
        assert found.sound
        assert [(problem.kind, problem.symbols) for problem in found.problems if problem.kind != "odd"] == [
            ("ended", (second,))
        ]
        alone = forecast(
            folder, market.filter(pl.col("symbol") == first), actions=delisting(second, days[-101]), now=now
        )
        assert alone.sound  # it has no bar in the new file: not missing
        assert [row["today"] for row in alone.rows] == ["bar", "ended"]
        early = forecast(folder, stopped, actions=delisting(second, days[stop], now + timedelta(days=3)), now=now)
        assert early.rows[1]["end"] is None  # not known yet


def test_a_run_that_has_recorded_an_end_decides_no_weight_there(market: pl.DataFrame, tmp_path: Path) -> None:
    first, second = sorted(market["symbol"].unique())
    last = market["time"].max()
    assert isinstance(last, datetime)
    delisting(second, last).drop("known_at").write_csv(tmp_path / "actions.csv")
    done = run(Experiment(bars=BarsSettings(frame=market, actions=str(tmp_path / "actions.csv")), **CHEAP))
    at = done.weights.filter(pl.col("time") == last)
    (weight, book), (gone, gone_book) = at.sort("symbol").select("weight", "book").rows()
    assert (gone, gone_book) == (0.0, 0.0)
    assert weight == book != 0
    before = done.weights.filter(pl.col("time") < last, pl.col("symbol") == second)
    assert (before["weight"].tail(50) != 0).any()
    save_run(done, tmp_path / "run")
    rows = forecast_newest(tmp_path / "run", market, now=now_of(market))
    assert [(row["symbol"], row["end"], row["book"]) for row in rows] == [
        (first, None, book), (second, "delisted", None),
    ]  # fmt: skip
    page = report_data(done)
    assert page["money"]["gross_newest"] == pytest.approx(abs(book))
    assert list(page["figures"]["candles"]) == [first, second]
    charts = page["figures"]["candles"]
    assert charts[first]["fan"] is not None
    assert charts[second]["fan"] is None
    assert charts[second]["since"] == f"ended on {last.date()}"


def test_a_symbol_is_stale_until_its_end_is_known(stopping: tuple[Path, pl.DataFrame, list[Any]]) -> None:
    folder, market, days = stopping
    first, second = sorted(market["symbol"].unique())
    for behind, kind in ((1, None), (2, "stale"), (7, "stale"), (30, "stale"), (59, "stale"), (60, "ended")):
        stopped = market.filter((pl.col("symbol") == first) | (pl.col("time") <= days[-1 - behind]))
        found = forecast(folder, stopped, now=now_of(market))
        told = [problem.kind for problem in found.problems if second in problem.symbols and problem.kind != "odd"]
        assert told == ([kind] if kind else []), behind
        assert found.sound == (kind != "stale")
        assert found.rows[1]["book"] is None
        assert found.rows[1]["end"] == ("ended, no bar for 60 sessions" if kind == "ended" else None)


def test_live_on_rows_that_are_not_known_yet_is_what_the_chain_over_all_bars_says() -> None:
    """The newest bars hold other numbers where a row is not known by the fill, as a vendor's provisional ones."""
    bars = made(late_rows(np.random.default_rng(3)))
    fills = bars.select("time", fill=fill_times(bars)).unique().sort("time")
    whole = make_chain(Experiment(bars=bars, **SHORT), bars).decisions.frame
    late = bars.filter(pl.col("known_at") > fill_times(bars), pl.col("time") > fills["time"][len(fills) * 2 // 3])
    first = int(fills["time"].search_sorted(late["time"].sort()[0])) + 1

    def seen(number: int) -> pl.DataFrame:
        """What is there at the fill of a close, with other numbers in rows that are not known by then."""
        moment, fill = fills.row(number)
        return up_to(bars, np.datetime64(fill.replace(tzinfo=None))).filter(pl.col("time") <= moment)

    assert (seen(first)["known_at"] > fills["fill"][first]).any()  # the run ends with a row that it cannot read
    done, asked = run(Experiment(bars=seen(first), **SHORT)), 0
    for number in range(first + 5, first + 15):
        moment, fill = fills.row(number)
        rows = {row["symbol"]: row for row in forecast(done, seen(number), now=fill).rows}
        for expected in whole.filter(pl.col("time") == moment).iter_rows(named=True):
            row, asked = rows[expected["symbol"]], asked + 1
            for name in ("time", "z", "signal", "strategy", "evidence", "weight", "book", "probability_up"):
                assert row[name] == expected[name], (moment, name)
    assert asked > 9


def test_live_without_a_row_that_comes_late_is_what_a_later_run_says() -> None:
    """The feed does not have the row at all; the other symbol of the class had a bar there."""
    bars = made(plain(np.random.default_rng(3)))
    fills = bars.select("time", fill=fill_times(bars)).unique().sort("time")
    place, symbol = 500, str(bars["symbol"][0])
    row = (pl.col("symbol") == symbol) & (pl.col("time") == fills["time"][place])
    bars = bars.with_columns(known_at=pl.when(row).then(fills["fill"][place + 2]).otherwise("known_at"))
    whole = make_chain(Experiment(bars=bars, **SHORT), bars).decisions.frame

    def seen(number: int) -> pl.DataFrame:
        moment, fill = fills.row(number)
        return made(bars.filter(pl.col("time") <= moment, pl.col("known_at") <= fill))

    done = run(Experiment(bars=seen(place - 1), **SHORT))
    for number in range(place, place + 4):
        moment, fill = fills.row(number)
        found = forecast(done, seen(number), now=fill)
        rows, awaited = {one["symbol"]: one for one in found.rows}, number == place + 1
        assert ("awaited" in [one.kind for one in found.problems]) == awaited
        assert found.sound != awaited
        expected = {one["symbol"]: one for one in whole.filter(pl.col("time") == moment).iter_rows(named=True)}
        assert set(expected) == set(rows) - ({symbol} if awaited else set())
        for name, one in rows.items():
            if name == symbol and number <= place + 1:
                assert one["weight"] is None
                assert one["time"] == fills["time"][place - 1]
            else:
                for what in ("time", "z", "signal", "strategy", "evidence", "weight", "book", "probability_up"):
                    assert one[what] == expected[name][what], (moment, what)


def test_nothing_is_awaited_of_a_symbol_that_misses_sessions() -> None:
    bars = made(plain(np.random.default_rng(3)))
    times, symbol = bars["time"].unique().sort(), str(bars["symbol"][0])
    gone = times[list(range(200, 500, 40))].append(times[520:521])
    holes = bars.filter((pl.col("symbol") != symbol) | ~pl.col("time").is_in(gone.implode()))
    newer, known = holes.filter(pl.col("time") <= times[522]), pl.col("time") <= times[510]
    assert len(with_awaited(holes.filter(known), newer)[1]) == 0
    assert with_awaited(bars.filter(known), newer)[1].rows() == [(symbol, times[place]) for place in [520]]
    assert len(with_awaited(bars.filter(known), newer, [symbol])[1]) == 0
    assert len(with_awaited(bars.filter(known), holes.filter(pl.col("time") <= times[523]))[1]) == 0
