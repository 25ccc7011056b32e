"""The whole chain: settings, repeatability, and the test at the cut."""

from __future__ import annotations

import io
import re
from bisect import bisect_left
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
import tomli_w
from polars.testing import assert_frame_equal

from gatecast.audits.quick import audit_of
from gatecast.chain import make_chain
from gatecast.compute.estimate import Work
from gatecast.errors import HistoryTooShortError, SettingsError
from gatecast.experiment import Control, Experiment, merge
from gatecast.forecasting.lstm import LSTM
from gatecast.forecasting.models.forest import Forest
from gatecast.forecasting.models.logistic import Logistic
from gatecast.forecasting.schedule import Schedule
from gatecast.machine import ONE_CORE, Machine
from gatecast.market import synthetic
from gatecast.market.bars import session_date
from gatecast.market.calendar import periods_of, sessions_of
from gatecast.market.reading import BarsSettings
from gatecast.runs import Run, finish, run
from gatecast.trading import selection

TINY: dict[str, Any] = {
    "features": ("ret_log_1", "x"),
    "model": {
        "lstm": LSTM(units=16, layers=1, seeds=1, epochs=2),
        "forest": Forest(trees=5),
        "logistic": Logistic(strengths=(1e-2,)),
    },
    "schedule": Schedule(refit="3M"),
    "too_good": ("planted",),
    "book": {"core": {"kind": "none"}},
}
WALK = TINY | {"features": ("ret_log_1", "volume_ratio_20")}


def tiny(bars: pl.DataFrame, *, machine: Machine = ONE_CORE, **changes: Any) -> Run:
    return run(Experiment(bars=bars, **TINY | changes), machine=machine)


def chained(bars: pl.DataFrame, **changes: Any) -> Run:
    """What `tiny` gives, without its scores: bars to decisions."""
    experiment = Experiment(bars=bars, **TINY | changes)
    reading = experiment.read()
    return finish(experiment, make_chain(experiment, reading.bars, actions=reading.actions))


# ── settings ──────────────────────────────────────────────────────────────────────────────────────


def test_an_experiment_survives_its_dictionary_and_its_toml(tmp_path: Path) -> None:
    one = Experiment(
        name="both", horizon=3, lookback=20, model={"lstm": {"units": 32}}, schedule={"refit": "1W"},
        costs={"slippage_bps": 2.0},
        selection={"evidence": 0.5}, control=Control(bars=800), bars=BarsSettings(source="a.csv", symbols=("A", "007")),
    )  # fmt: skip
    assert Experiment(**one.to_dict()) == one

    def without_null(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {key: without_null(inner) for key, inner in value.items() if inner is not None}

    (tmp_path / "one.toml").write_bytes(tomli_w.dumps(without_null(one.to_dict())).encode())
    assert Experiment.from_toml(tmp_path / "one.toml") == one
    assert Experiment.from_toml(tmp_path / "one.toml", model={"lstm": {"layers": 1}}, seed=7) == one.replace(
        seed=7, model={"lstm": LSTM(units=32, layers=1)}
    )


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"lookbak": 30}, "Did you mean 'lookback'?"),
        ({"model": {"lstm": {"unit": 32}}}, "Did you mean 'units'?"),
        ({"bars": {"sorce": "x.csv"}}, "Did you mean 'source'?"),
        ({"selection": {"memory": 100}}, "unknown setting 'memory'"),
        ({"models": ["lstm", "forst", "logistic"]}, "Did you mean 'forest'?"),
        ({"ensemble": {"members": ["tft"]}}, "ensemble.members needs the model 'tft': add it to models"),
        ({"ensemble": {"members": ["garch", "lstm"]}}, "'garch', which forecasts no return and no direction here"),
        ({"ensemble": {"members": ["ridge"]}}, "a member of the ensemble that forecasts the probability of a rise"),
        (
            {"models": ["ridge"], "signals": {"model": "ridge", "confirmed_by": "ridge"}},
            "add one of lstm, forest, logistic",
        ),
        ({"models": ["lstm", "forest", "logistic", "lstm"]}, "name each once"),
        ({"control": {"market": "b9"}}, "unknown market 'b9'"),
        ({"lookback": 9}, "greater than or equal to 10"),
        ({"lookback": 101}, "less than or equal to 100"),
        ({"horizon": 0}, "greater than or equal to 1"),
        ({"horizon": 23}, "less than or equal to 22"),
        ({"model": {"lstm": {"units": 15}}}, "greater than or equal to 16"),
        ({"model": {"lstm": {"units": 257}}}, "less than or equal to 256"),
        ({"model": {"lstm": {"layers": 4}}}, "less than or equal to 3"),
        ({"model": {"lstm": {"lookback": 20}}}, "lookback = 30 and model.lstm.lookback = 20: set it once, at the top"),
        ({"seed": 1, "model": {"forest": {"seed": 2}}}, "set it once, at the top"),
        ({"model": {"lstm": {"heads": ["volatility"]}}}, "signals.model names 'lstm', which forecasts no return here"),
        ({"signals": {"model": "logistic"}}, "signals.model names 'logistic', which forecasts no return here"),
        ({"ensemble": {"members": []}}, "at least 1 item"),
        ({"models": ["ridge", "forest"]}, 'add it to models, or set model = "ridge" under [signals]'),
        ({"ensemble": {"volatility_members": ["gjr"]}}, "needs the model 'gjr': add it to models"),
        ({"ensemble": {"volatility_members": ["threshold"]}}, "'threshold', which forecasts no volatility here"),
        ({"models": ["lstm", "forest", "logistic", "garhc"]}, "Did you mean 'garch'?"),
        ({"horizon": 5, "model": {"tft": {"horizon": 3}}}, "set it once, at the top"),
        ({"selection": {"evidence": 1.5}}, "less than or equal to 1"),
        ({"schedule": {"refit": "monthly"}}, "expected a length such as"),
        ({"features": []}, "at least one feature"),
        ({"features": ["rsi_14", "rsi_14"]}, "each named once"),
        ({"costs": {"slippage_bps": -1}}, "greater than or equal to 0"),
        ({"model": {"lstm": 3}}, "expected a table of settings"),
    ],
)
def test_bad_settings_are_refused_with_a_sentence_that_helps(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(text)):
        Experiment(**settings)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"horizon = 50\n", "horizon = 50"),
        (b"[model.lstm]\nunts = 32\n", "Did you mean 'units'?"),
        (b"horizon = \n", "this is no TOML"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"model = 3\n", "expected a table of settings"),
    ],
)
def test_a_bad_settings_file_is_refused_with_its_reason(tmp_path: Path, content: bytes, text: str) -> None:
    file = tmp_path / "settings.toml"
    file.write_bytes(content)
    with pytest.raises(SettingsError, match=re.escape(text)):
        Experiment.from_toml(file)


def test_a_missing_settings_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no\.toml"):
        Experiment.from_toml(tmp_path / "no.toml", model={"lstm": {"units": 32}})


def test_the_cheap_settings_of_the_documentation_fit_linear_models_alone(tmp_path: Path) -> None:
    text = (Path(__file__).parents[1] / "docs" / "scale.md").read_text(encoding="utf-8")
    (recipe,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "cheap.toml").write_text(recipe, encoding="utf-8")
    chain = make_chain(Experiment.from_toml(tmp_path / "cheap.toml"), synthetic.a1(1000, seed=1))
    assert {"ridge", "logistic", "ensemble"} <= {*chain.classes["index"].forecasts.values}
    assert not {"lstm", "forest", "garch"} & {*chain.classes["index"].forecasts.values}
    assert np.isfinite(chain.classes["index"].forecasts.values["ensemble"]["volatility"]).any()


def test_a_change_that_is_none_changes_nothing() -> None:
    assert merge({"lstm": {"units": 32}, "seed": 1}, {"lstm": {"units": None}, "seed": None}) == {
        "lstm": {"units": 32},
        "seed": 1,
    }


# ── how much history ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("refit", ["1M", "3M"])
def test_a_short_history_is_refused_with_what_it_would_take(refit: str) -> None:
    bars = synthetic.b1(700, seed=1, r2=0.05)
    schedule = Schedule(refit=refit)
    with pytest.raises(HistoryTooShortError, match=r"'B1' has 200 bars; (\d+) are needed, around (\S+) at") as caught:
        tiny(bars[:200], schedule=schedule)
    need, when = re.search(r"(\d+) are needed, around (\S+) at", str(caught.value)).groups()  # type: ignore[union-attr]
    # the first number of bars that is not refused, by trial
    count = bisect_left(range(701), True, lo=250, key=lambda n: _is_enough(bars[:n], schedule))
    assert count <= 700
    assert abs(int(need) - count) <= 10  # sessions a year are an average
    assert abs((date.fromisoformat(when) - bars["time"][count - 1].date()).days) <= 10


def _is_enough(bars: pl.DataFrame, schedule: Schedule) -> bool:
    from gatecast.samples.windows import make_samples

    samples = make_samples(bars, ("ret_log_1", "x"))["index"]
    return len(schedule.folds(samples.times, samples.known_at)) > 0


def test_a_class_that_is_too_short_is_left_out_and_named() -> None:
    short = synthetic.b1(150, seed=2, r2=0.05).with_columns(symbol=pl.lit("S"), asset_class=pl.lit("crypto"))
    long = synthetic.b1(500, seed=1, r2=0.05)
    result = tiny(pl.concat([long, short]))
    assert list(result.classes) == ["index"]
    assert result.forecasts["symbol"].unique().to_list() == ["B1"]
    assert any(text.startswith("crypto: too short a history") for text in result.scores["warnings"])
    assert result.scores["models"]


# ── the same again ────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def planted() -> pl.DataFrame:
    return synthetic.b1(1000, seed=5, r2=0.05, symbols=2)


@pytest.fixture(scope="module")
def whole(planted: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Run:
    with pytest.MonkeyPatch.context() as patch:  # the ledger of a module's run is its own, too
        patch.setenv("GATECAST_DATA", str(tmp_path_factory.mktemp("ledger")))
        return tiny(planted)


def test_twice_is_the_same_and_so_is_another_number_of_jobs(planted: pl.DataFrame, whole: Run) -> None:
    for again in (tiny(planted), tiny(planted, machine=Machine(jobs=2))):
        assert_frame_equal(again.forecasts, whole.forecasts, check_exact=True)
        assert_frame_equal(again.signals, whole.signals, check_exact=True)
        assert_frame_equal(again.weights, whole.weights, check_exact=True)
        assert_frame_equal(again.equity, whole.equity, check_exact=True)
        assert again.provenance["data_hash"] == whole.provenance["data_hash"]
        assert again.provenance["settings_hash"] == whole.provenance["settings_hash"]


def test_another_asset_class_changes_no_forecast(planted: pl.DataFrame, whole: Run) -> None:
    other = synthetic.b1(600, seed=9, r2=0.05).with_columns(symbol=pl.lit("A0"), asset_class=pl.lit("crypto"))
    both = tiny(pl.concat([other, planted]))
    own = both.forecasts.filter(pl.col("symbol") != "A0")
    assert set(both.classes) == {"crypto", "index"}
    assert_frame_equal(own, whole.forecasts, check_exact=True)
    shared = ("evidence", "reason")  # what the classes of a run share is the level that evidence must reach
    mine, theirs = (one.signals.filter(pl.col("symbol") != "A0").drop(shared) for one in (both, whole))
    assert_frame_equal(mine, theirs, check_exact=True)


def test_the_frames_have_the_columns_that_were_promised(whole: Run) -> None:
    assert whole.forecasts.columns == ["symbol", "time", "model", "head", "step", "value", "known_at"]
    assert whole.signals.columns == [
        "symbol", "time", "z", "signal", "consensus", "strategy", "evidence", "reason",
    ]  # fmt: skip
    assert whole.weights.columns == ["symbol", "time", "weight", "book"]
    assert whole.equity.columns == ["time", "gross", "net", "equity", "benchmark"]
    assert {"verdict", "effect", "low", "high", "test", "pvalue", "n", "trials"} <= set(whole.verdicts["return"])
    assert set(whole.forecasts["model"].unique()) >= {"lstm", "forest", "logistic", "ridge", "ensemble", "har", "zero"}
    assert whole.forecasts["value"].is_finite().all()


# ── the cut ───────────────────────────────────────────────────────────────────────────────────────


CUTS = ("first refit", "day after", "before a refit", "at a refit", "mid-month", "end of a month", "last bar but one")


def _cut(result: Run, where: str) -> np.datetime64:
    (one,) = result.classes.values()
    moments, folds = np.unique(one.samples.times), one.forecasts.folds
    first, later = (int(np.searchsorted(moments, folds[i].cutoff)) for i in (0, -2))
    bars = (first, first + 1, later - 1, later, later + 11, later + 20, len(moments) - 2)
    return moments[dict(zip(CUTS, bars, strict=True))[where]]


def _garbage_after(bars: pl.DataFrame, moment: np.datetime64) -> pl.DataFrame:
    """Bars that could be bars, but whose prices, volumes and x after the moment mean nothing."""
    later = pl.col("time").dt.replace_time_zone(None) > pl.lit(moment).cast(pl.Datetime("us"))
    rng = np.random.default_rng(1)
    jump = pl.Series(np.exp(0.3 * rng.standard_normal(len(bars))))
    noise = pl.Series(3 * rng.standard_normal(len(bars)))
    return bars.with_columns(
        *(pl.when(later).then(pl.col(name) * jump).otherwise(name) for name in ("open", "high", "low", "close")),
        volume=pl.when(later).then(pl.col("volume") * jump).otherwise("volume"),
        x=pl.when(later).then(noise).otherwise("x"),
    )


def _up_to(frame: pl.DataFrame, moment: np.datetime64) -> pl.DataFrame:
    return frame.filter(pl.col("time").dt.replace_time_zone(None) <= pl.lit(moment).cast(pl.Datetime("us")))


def _assert_equal_until(moment: np.datetime64, other: Run, whole: Run, symbols: int) -> None:
    """All forecasts, signals, weights and profits up to and at the moment, bit for bit."""
    last = _up_to(whole.bars, moment)["time"].max()
    answered = pl.when(pl.col("known_at") <= last).then("known_at")  # whether an answer will come is not known yet
    for name in ("forecasts", "signals", "weights", "equity"):
        mine, theirs = _up_to(getattr(other, name), moment), _up_to(getattr(whole, name), moment)
        if name == "equity":  # one row a session, at its latest close: only sessions that are over have theirs
            over = session_date(pl.col("time")) < last.date() if symbols == 1 else pl.lit(True)
            mine, theirs = mine.filter(over), theirs.filter(over)
        if name == "forecasts":
            mine, theirs = mine.with_columns(answered), theirs.with_columns(answered)
        if name != "equity":  # the row at the cut itself is compared, not only the overlap
            assert theirs.filter(pl.col("time") == last)["symbol"].n_unique() == symbols
        assert_frame_equal(mine, theirs, check_exact=True)
    (mine_of,), (theirs_of,) = other.classes.values(), whole.classes.values()
    before, also = mine_of.samples.time <= moment, theirs_of.samples.time <= moment
    for stage, array in (
        ("selection", "score"), ("selection", "evidence"), ("selection", "chosen"),
        ("proposals", "weights"), ("proposals", "expected"),
    ):  # fmt: skip
        a, b = (getattr(getattr(one, stage), array) for one in (mine_of, theirs_of))
        np.testing.assert_array_equal(a[before], b[also], err_msg=array, strict=True)


@pytest.mark.parametrize("where", CUTS)
@pytest.mark.parametrize("later", ["missing", "garbage"])
def test_at_the_cut_nothing_depends_on_what_comes_later(
    planted: pl.DataFrame, whole: Run, where: str, later: str
) -> None:
    moment = _cut(whole, where)
    other = chained(_up_to(planted, moment) if later == "missing" else _garbage_after(planted, moment))
    _assert_equal_until(moment, other, whole, symbols=2)


EARLY = {
    "selection": {"minimum_days": 20},
    "ensemble": {"minimum_days": 10},
}


def test_at_the_cut_in_mid_session_of_symbols_that_close_at_different_hours(planted: pl.DataFrame) -> None:
    late = pl.col("symbol") == "B1_1"
    holiday = late & (pl.int_range(pl.len()) % 31 == 0)
    bars = planted.filter(~holiday).with_columns(
        pl.when(late).then(pl.col(name) - pl.duration(hours=7)).otherwise(name) for name in ("time", "known_at")
    )
    whole = chained(bars, **EARLY)
    (one,) = whole.classes.values()
    assert one.selection.evidence[one.forecasts.rows].std() > 0.01
    moments = np.unique(one.samples.times[one.forecasts.rows])
    for moment in moments[[-2, -3, -40, -41, -180, -181]]:
        for cut in (_up_to(bars, moment), _garbage_after(bars, moment)):
            _assert_equal_until(moment, chained(cut, **EARLY), whole, symbols=1)


def test_at_the_cut_of_hourly_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "EVIDENCE", 0.5)  # so few sessions never have more than 1
    hour = (pl.datetime(2024, 1, 1, time_zone="UTC") + pl.duration(hours=pl.int_range(1, pl.len() + 1))).cast(
        pl.Datetime("us", "UTC")
    )
    bars = synthetic.b1(1500, seed=6, r2=0.1).with_columns(asset_class=pl.lit("crypto"))
    bars = bars.with_columns(time=hour, known_at=hour).filter(pl.int_range(pl.len()) % 101 != 0)
    schedule = Schedule(train=600, refit=168, minimum=500)
    whole = tiny(bars, schedule=schedule, **EARLY)
    days = (whole.equity["time"][-1] - whole.equity["time"][0]).total_seconds() / 86_400
    assert whole.scores["backtest"]["bars_per_year"] == 24 * 365
    assert whole.scores["backtest"]["periods_per_year"] == pytest.approx(365.25 * len(whole.equity) / days)
    assert len(whole.equity) <= days + 2  # a row a session
    assert 0.01 < whole.signals["evidence"].mean() < 0.99
    (one,) = whole.classes.values()
    moments = np.unique(one.samples.times[one.forecasts.rows])
    for moment in moments[[-5, -333]]:
        for cut in (_up_to(bars, moment), _garbage_after(bars, moment)):
            _assert_equal_until(moment, chained(cut, schedule=schedule, **EARLY), whole, symbols=1)


def test_the_cut_is_felt_when_what_came_before_changes(planted: pl.DataFrame, whole: Run) -> None:
    """The test above could not fail if forecasts did not depend on bars at all."""
    moment = _cut(whole, "mid-month")
    earlier = moment - np.timedelta64(3, "D")
    other = chained(_garbage_after(planted, earlier))
    a, b = _up_to(other.forecasts, moment), _up_to(whole.forecasts, moment)
    assert (a["value"] != b["value"]).any()


# ── planted truths ────────────────────────────────────────────────────────────────────────────────


def test_a_planted_skill_is_found_and_traded() -> None:
    result = tiny(synthetic.b1(1500, seed=3, r2=0.05, symbols=2), too_good="planted")
    assert result.verdicts["return"]["verdict"] == "evidence of skill"
    assert result.verdicts["volatility"]["verdict"] != "evidence of skill"  # its variance is constant
    late = result.weights.tail(600)
    assert (late["weight"] != 0).mean() > 0.3
    assert result.signals["evidence"].max() == 1.0
    assert result.equity["equity"][-1] > 1.1


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_walk_gives_no_claim_and_an_essentially_flat_book(seed: int) -> None:
    result = run(Experiment(bars=synthetic.a1(1200, seed=seed), **WALK))
    assert [v["verdict"] for v in result.verdicts.values()].count("evidence of skill") == 0
    assert result.weights["weight"].abs().mean() < 0.1
    assert set(result.signals["signal"].unique()) == {-1, 0, 1}  # shown all the same


def test_signals_do_not_bunch_on_the_first_bar_after_a_refit() -> None:
    bars = synthetic.b1(1000, seed=8, r2=0.05, symbols=4)
    result = tiny(bars, schedule=Schedule(refit="1M"))
    one = result.classes["index"]
    signal = one.signals.signal != 0
    first = np.concatenate([fold.test[one.samples.times[fold.test] == fold.cutoff] for fold in one.forecasts.folds])
    rest = np.setdiff1d(one.forecasts.rows, first)
    count = len(first)
    share, usual = signal[first].mean(), signal[rest].mean()
    # symbols are independent here: within two and a half standard errors of the other bars' share
    assert abs(share - usual) < 2.5 * np.sqrt(usual * (1 - usual) / count), (share, usual, count)
    table = result.scores["signals"]["by_day_of_month_bar"]
    assert table["1"] == pytest.approx(share)


def test_a_users_evidence_is_obeyed_and_named() -> None:
    result = run(Experiment(bars=synthetic.a1(500, seed=4), **WALK | {"selection": {"evidence": 1.0}}))
    assert result.signals["evidence"].unique().to_list() == [1.0]
    assert any("was set by the user" in text for text in result.scores["warnings"])
    assert (result.weights["weight"] != 0).any()


# ── how many bars a year has ──────────────────────────────────────────────────────────────────────


def test_bars_a_year_come_from_the_class_and_the_bars_of_a_session() -> None:
    daily = synthetic.a1(600, seed=1)
    assert periods_of(daily) == sessions_of(daily) == 252
    coins = daily.with_columns(asset_class=pl.lit("crypto"))
    assert periods_of(coins) == 365
    hours = [daily.with_columns(pl.col("time") - pl.duration(hours=h)) for h in range(7)]
    hourly = pl.concat(hours).sort("symbol", "time")
    assert periods_of(hourly) == 7 * 252
    assert sessions_of(hourly) == 252
    for days, expected in ((5, 52), (21, 12)):
        assert abs(periods_of(daily.gather_every(days)) - expected) <= 1


def test_later_bars_do_not_move_the_number_of_bars_a_year() -> None:
    daily = synthetic.a1(600, seed=1)
    hourly = pl.concat([daily.with_columns(pl.col("time") - pl.duration(hours=h)) for h in range(7)])
    hourly = hourly.sort("symbol", "time").filter(pl.int_range(pl.len()) % 97 != 0)  # some are missing
    assert {periods_of(hourly[:n]) for n in range(100, len(hourly), 333)} == {7 * 252}


# ── many classes ──────────────────────────────────────────────────────────────────────────────────


def test_the_work_is_planned_before_a_fit_and_every_stage_ends() -> None:
    bars = pl.concat(
        [
            synthetic.b1(800, seed=3, r2=0.05),
            synthetic.b1(800, seed=4, r2=0.05, symbols=2).with_columns(
                pl.col("symbol") + "X", asset_class=pl.lit("equity")
            ),
        ]
    )
    planned: dict[str, Work] = {}
    stages: dict[str, tuple[int, int]] = {}

    def plan(work: dict[str, Work]) -> None:
        assert not stages
        planned.update(work)

    done = run(Experiment(bars=bars, **TINY), plan=plan, progress=lambda stage, n, of: stages.update({stage: (n, of)}))
    assert {name: one.symbols for name, one in planned.items()} == {"equity": 2, "index": 1}
    for name, one in planned.items():
        folds = [fold for fold in done.scores["folds"] if fold["asset_class"] == name]
        assert one.refits == len(folds)
        assert one.rows == sum(fold["train"] + fold["validation"] for fold in folds)
        assert {f"{name}: lstm", f"{name}: residual_lstm", f"{name}: ridge_long", f"{name}: ensemble"} <= stages.keys()
    assert all(n == of for n, of in stages.values()), stages


def test_forecasts_are_kept_as_their_file_with_a_row_group_a_symbol(market: pl.DataFrame) -> None:
    done = tiny(market)
    (one,) = done.classes.values()
    assert_frame_equal(done.forecasts, one.forecasts.to_frame())
    assert_frame_equal(
        done.forecasts.select("symbol", "time", "model", "head", "step"),
        done.forecasts.select("symbol", "time", "model", "head", "step").sort(pl.all(), maintain_order=True),
    )
    file = pq.ParquetFile(io.BytesIO(done.forecasts_parquet))
    groups = [set(file.read_row_group(i, ["symbol"])["symbol"].to_pylist()) for i in range(file.num_row_groups)]
    assert groups == [{symbol} for symbol in one.samples.symbols]
    symbol = one.samples.symbols[1]
    assert_frame_equal(
        done.scan_forecasts().filter(symbol=symbol).collect(), done.forecasts.filter(pl.col("symbol") == symbol)
    )
    for name in ("summaries", "table"):
        assert name not in vars(one.samples)  # what can be made again was let go of


def test_the_planted_market_is_judged_and_no_more(market: pl.DataFrame) -> None:
    done = tiny(market, features=("ret_log_1",), control=Control(bars=700))
    assert done.control is not None
    assert done.control.scores.keys() == {"verdicts"}
    alone = run(done.control.experiment)
    assert done.control.verdicts == alone.verdicts
    assert_frame_equal(done.control.equity, alone.equity)


def test_what_the_planted_market_allows_stands_beside_what_was_measured(market: pl.DataFrame) -> None:
    done = tiny(market, features=("ret_log_1",), control=Control(bars=700, r2=0.05))
    assert done.control is not None
    (one,) = done.control.classes.values()
    forecasts, samples = one.forecasts, one.samples
    rows = [  # those that every model forecast
        row for row in forecasts.rows
        if all(np.isfinite(heads["return"][row]).all() for heads in forecasts.values.values() if "return" in heads)
    ]  # fmt: skip
    answer = samples.targets["return"].value[samples.decided][rows, -1]
    forecast = forecasts.values["ensemble"]["return"][rows, -1]
    answer, forecast = (values[np.isfinite(answer)] for values in (answer, forecast))
    found = done.scores["control"]
    r2, hits = found["measured"]
    horizon = done.experiment.horizon
    assert r2["best"] == pytest.approx(synthetic.b1_r2(0.05, 0.95, horizon), abs=1e-12)
    assert r2["measured"] == pytest.approx(1 - np.sum((answer - forecast) ** 2) / np.sum(answer**2), abs=1e-9)
    assert hits["best"] == pytest.approx(0.5 + np.arcsin(np.sqrt(r2["best"])) / np.pi, abs=1e-12)
    assert hits["measured"] == pytest.approx(np.mean(np.sign(answer) == np.sign(forecast)), abs=0.01)
    assert not {"r2", "hit_rate"} & set(found["truth"])  # no optimum is said without what was measured


def test_the_benchmark_is_a_row_of_its_own_beside_what_is_sized(market: pl.DataFrame) -> None:
    done = tiny(market)
    rows = {row["strategy"]: row for row in done.scores["strategies"]}
    assert rows["held_long"]["title"] == "held long, sized by volatility"
    assert rows["benchmark"]["title"] == "benchmark: bought once, equally weighted, and held"
    assert rows["benchmark"]["total_net"] == pytest.approx(done.equity["benchmark"][-1] - 1, rel=1e-9)
    assert rows["held_long"]["total_net"] != pytest.approx(rows["benchmark"]["total_net"], rel=0.01)


def test_an_implied_volatility_reaches_the_one_regression_that_reads_it_and_only_from_the_past() -> None:
    bars = synthetic.b1(700, seed=3, r2=0.05).with_columns(vix=10 + pl.col("x").abs())
    cheap: dict[str, Any] = {"models": ("ridge", "logistic"), "signals": {"model": "ridge", "confirmed_by": "bayes"}}
    plain, reads = (make_chain(Experiment(**cheap, **more), bars) for more in ({}, {"volatility": {"implied": "vix"}}))
    short = make_chain(Experiment(**cheap, volatility={"implied": "vix"}), bars.head(600))
    (before, after), (cut,) = (one.forecasts["index"].values for one in (plain, reads)), short.forecasts.values()
    other = {
        name for name in before
        if "volatility" in before[name]
        and not np.array_equal(before[name]["volatility"], after[name]["volatility"], equal_nan=True)
    }  # fmt: skip
    assert "har_concentration" in other
    assert not other & {"har", "har_class", "har_symbol", "har_smooth", "garch"}
    for name, heads in cut.values.items():
        if "volatility" in heads:
            early = after[name]["volatility"][: len(heads["volatility"])]
            np.testing.assert_array_equal(heads["volatility"], early)
    changed = Experiment(**cheap, volatility={"implied": "x"})
    with pytest.raises(SettingsError, match=r"made with volatility\.implied"):
        make_chain(changed, bars, past=reads, refit="never")


def test_an_implied_volatility_that_knows_the_future_is_a_leak_unless_it_is_allowed() -> None:
    bars = synthetic.g1(1300, seed=3)
    ahead = pl.col("close").log().diff().pow(2).rolling_mean(5).shift(-5).fill_null(strategy="forward").sqrt()
    bars = bars.with_columns(vix=ahead)
    cheap: dict[str, Any] = {
        "models": ("ridge", "logistic"), "signals": {"model": "ridge", "confirmed_by": "bayes"},
        "features": ("ret_log_1",), "volatility": {"implied": "vix"}, "schedule": Schedule(refit="1Y"),
    }  # fmt: skip
    chain = make_chain(Experiment(**cheap), bars)
    assert {leak.column for leak in audit_of(Experiment(**cheap), chain).findings} == {"vix"}
    assert audit_of(Experiment(**cheap, too_good=("vix",)), chain).clean
