"""What is decided at a close is the same whatever bars come later: the chain on bars up to a moment and on all of them.

Later bars change their nature in every way that a constant of the whole span could notice: opens that are no prices,
volume that stops or begins, sessions of another length, a symbol that ends, halts or is listed, a column that moves.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from gatecast.audits.tables import up_to
from gatecast.chain import Chain, make_chain
from gatecast.errors import BarsError, SettingsError
from gatecast.experiment import Experiment
from gatecast.forecasting.drift.alarms import LOSSES
from gatecast.forecasting.models.linear import Ridge
from gatecast.forecasting.models.naive import Naive
from gatecast.forecasting.schedule import Schedule
from gatecast.forecasting.walkforward import at_rows, walk_forward
from gatecast.market import synthetic
from gatecast.market.actions import read_actions, with_known_at
from gatecast.market.bars import PRICES, make_bars
from gatecast.market.given import with_ends
from gatecast.runs import run
from gatecast.samples.windows import Samples, make_samples
from gatecast.store import past_of, save_run

CUT = 900
CHEAP: dict[str, Any] = {
    "models": ("forest", "ridge", "logistic"),
    "model": {
        "forest": {"trees": 3},
    },
    "signals": {"model": "ridge", "confirmed_by": "forest"},
    "ensemble": {"members": ("forest", "ridge", "logistic"), "volatility_members": ("har_symbol", "har_class", "ewma")},
    "schedule": Schedule(refit="6M"),
    "selection": {"evidence": 1.0},
}
later = pl.col("time") > pl.col("cut")


def opens_repeat(bars: pl.DataFrame) -> pl.DataFrame:
    opens = pl.when(later).then(pl.col("close").shift().over("symbol")).otherwise("open")
    bars = bars.with_columns(open=opens.fill_null(pl.col("open")))
    return bars.with_columns(high=pl.max_horizontal(*PRICES), low=pl.min_horizontal(*PRICES))


def opens_become_real(bars: pl.DataFrame) -> pl.DataFrame:
    opens = pl.when(~later).then(pl.col("close").shift().over("symbol")).otherwise("open")
    bars = bars.with_columns(open=opens.fill_null(pl.col("open")))
    return bars.with_columns(high=pl.max_horizontal(*PRICES), low=pl.min_horizontal(*PRICES))


def volume_stops(bars: pl.DataFrame) -> pl.DataFrame:
    return bars.with_columns(volume=pl.when(later).then(None).otherwise("volume"))


def volume_begins_to_move(bars: pl.DataFrame) -> pl.DataFrame:
    return bars.with_columns(volume=pl.when(later).then("volume").otherwise(1000.0))


def column_begins_to_move(bars: pl.DataFrame) -> pl.DataFrame:
    return bars.with_columns(x=pl.when(later).then("x").otherwise(0.0))


def one_ends(bars: pl.DataFrame) -> pl.DataFrame:
    return bars.filter(~later | (pl.col("symbol") != "B1_0"))


def one_halts(bars: pl.DataFrame) -> pl.DataFrame:
    move = pl.when(later & (pl.col("symbol") == "B1_0")).then(timedelta(days=35)).otherwise(timedelta())
    return bars.with_columns(pl.col("time", "known_at") + move)


def rows_come_late(bars: pl.DataFrame) -> pl.DataFrame:
    wait = pl.when(later & (pl.int_range(pl.len()) % 7 == 0)).then(timedelta(days=9)).otherwise(timedelta())
    return bars.with_columns(known_at=pl.col("known_at") + wait)


def another_is_listed(bars: pl.DataFrame) -> pl.DataFrame:
    other = synthetic.b1(1300, seed=77, r2=0.08, symbols=2).filter(pl.col("symbol") == "B1_1")
    other = other.join(bars.select("time", "cut").unique(), on="time", how="left").filter(later)
    return pl.concat([bars, other.with_columns(symbol=pl.lit("A_FIRST")).select(bars.columns)])


def nothing_moves(bars: pl.DataFrame) -> pl.DataFrame:
    last = pl.col("close").filter(~later).last().over("symbol")
    return bars.with_columns(pl.when(later).then(last).otherwise(name).alias(name) for name in PRICES)


@pytest.mark.parametrize(
    "change",
    [
        opens_repeat, opens_become_real, volume_stops, volume_begins_to_move, column_begins_to_move, one_ends,
        one_halts, rows_come_late, another_is_listed, nothing_moves,
    ],
)  # fmt: skip
def test_no_decision_before_a_moment_depends_on_bars_after_it(change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    bars = synthetic.b1(1300, seed=1, r2=0.08, symbols=2)
    cut = bars["time"].unique().sort()[CUT]
    changed = change(bars.with_columns(cut=pl.lit(cut))).drop("cut", "segment")
    changed = make_bars(changed)
    experiment = Experiment(bars=changed, features=("x", "ret_log_1", "volume_ratio_20"), **CHEAP)
    whole = make_chain(experiment, changed)
    part = make_chain(experiment, changed.filter(pl.col("known_at") <= cut))
    said = (one.decisions.frame for one in (whole, part))
    for mine, theirs in ((whole.weights, part.weights), tuple(said)):
        before = mine.filter(pl.col("time") <= cut)
        assert before.height > 500
        assert before.equals(theirs.filter(pl.col("time") <= cut))
    assert np.count_nonzero(part.weights["weight"]) > 100


def ends_of_a_class(bars: pl.DataFrame, cut: datetime) -> tuple[pl.DataFrame, pl.DataFrame | None]:
    """B1_1, the only one of its class, has no bar after the 750th session: its end is known before the cut."""
    stops = bars["time"].unique().sort()[750]
    other = pl.when(pl.col("symbol") == "B1_1").then(pl.lit("fx")).otherwise("asset_class").alias("asset_class")
    return bars.with_columns(other).filter((pl.col("symbol") != "B1_1") | (pl.col("time") <= stops)), None


def ends_on_terms(bars: pl.DataFrame, cut: datetime) -> tuple[pl.DataFrame, pl.DataFrame | None]:
    """B1_1 is delisted on the cut's own session, and goes on for three that clear its last trades."""
    moments = bars["time"].unique().sort()
    told = pl.DataFrame({"symbol": ["B1_1"], "date": [cut.date().isoformat()], "value": [-0.4]})
    left = bars.filter((pl.col("symbol") != "B1_1") | (pl.col("time") <= moments[CUT + 3]))
    return left, with_known_at(read_actions(told, "delisting"), bars)


def ends_on_terms_and_goes_on(bars: pl.DataFrame, cut: datetime) -> tuple[pl.DataFrame, pl.DataFrame | None]:
    """B1_1 is delisted on the cut's own session, and trades on as if nothing had been."""
    return bars, ends_on_terms(bars, cut)[1]


def ends_by_a_merger(bars: pl.DataFrame, cut: datetime) -> tuple[pl.DataFrame, pl.DataFrame | None]:
    """B1_1 is bought after the cut's session, B1_0 splits off a part and pays a dividend before."""
    moments = bars["time"].unique().sort()
    told = pl.DataFrame({
        "symbol": ["B1_0", "B1_0", "B1_1"], "kind": ["dividend", "spin-off", "merger"], "value": [0.5, 0.25, 20.0],
        "date": [moments[CUT - 40].date(), moments[CUT - 20].date(), moments[CUT + 1].date()],
        "into": [None, "B1_9", None], "known_at": [moments[CUT - 50], moments[CUT - 30], cut],
    })  # fmt: skip
    left = bars.filter((pl.col("symbol") != "B1_1") | (pl.col("time") <= moments[CUT + 3]))
    return left, with_ends(with_known_at(read_actions(told), bars), bars)


@pytest.mark.parametrize("change", [ends_of_a_class, ends_by_a_merger, ends_on_terms_and_goes_on])
def test_no_decision_before_a_moment_depends_on_how_a_symbol_ended_after_it(
    change: Callable[[pl.DataFrame, datetime], tuple[pl.DataFrame, pl.DataFrame | None]],
) -> None:
    bars = synthetic.b1(1300, seed=1, r2=0.08, symbols=2)
    moments = bars["time"].unique().sort()
    changed, told = change(bars.drop("segment"), moments[CUT])
    changed = make_bars(changed)
    experiment = Experiment(bars=changed, features=("x", "ret_log_1"), **CHEAP)
    whole = make_chain(experiment, changed, actions=told)
    for cut in moments[CUT - 1 : CUT + 9 : 2 if told is None else 1]:
        known = None if told is None else told.filter(pl.col("known_at") <= cut)
        part = make_chain(experiment, changed.filter(pl.col("known_at") <= cut), actions=known)
        before = whole.weights.filter(pl.col("time") <= cut)
        assert before.height > 500
        assert before.equals(part.weights.filter(pl.col("time") <= cut))
        equity = (one.result.equity.filter(pl.col("time") <= cut) for one in (whole, part))
        assert next(equity).equals(next(equity))
    if told is not None:
        after = pl.col("time").is_between(moments[CUT], moments[CUT + 3])
        gone = whole.weights.filter(pl.col("symbol") == "B1_1", after)
        assert gone.height == 4
        assert (gone["weight"] == 0).all()
    assert whole.result.ends["default" if told is None else "known"] == 1


# ── the chain goes on from its past ───────────────────────────────────────────────────────────────

SHORT: dict[str, Any] = CHEAP | {
    "features": ("x", "ret_log_1", "volume_ratio_20"),
    "models": ("ridge", "logistic"),
    "model": {},
    "signals": {"model": "ridge", "confirmed_by": "ridge"},
    "ensemble": {"members": ("ridge", "logistic"), "volatility_members": ("har_symbol", "ewma")},
    "schedule": Schedule(train="1Y", refit="3M", minimum="6M"),
    "too_good": ("return", "direction", "strategy"),
}
SESSIONS = 720


def plain(rng: np.random.Generator) -> pl.DataFrame:
    return synthetic.b1(SESSIONS, seed=int(rng.integers(99)), r2=0.08, symbols=2)


def row_is(rng: np.random.Generator, bars: pl.DataFrame, share: float) -> pl.Series:
    return pl.Series(rng.random(len(bars)) < share)


def gaps(rng: np.random.Generator) -> pl.DataFrame:
    bars = plain(rng)
    place = pl.int_range(pl.len()).over("symbol")
    hole = (pl.col("symbol") == "B1_0") & place.is_between(int(rng.integers(300, 600)), 700).and_(place % 97 < 9)
    return bars.filter(~row_is(rng, bars, 0.03)).filter(~hole)


def halts(rng: np.random.Generator) -> pl.DataFrame:
    bars = plain(rng)
    since = bars["time"].unique().sort()[int(rng.integers(350, 650))]
    stopped = (pl.col("symbol") == "B1_0") & (pl.col("time") > since)
    return bars.with_columns(pl.when(stopped).then(pl.col(n) + timedelta(days=35)).otherwise(n) for n in MOMENTS)


MOMENTS = ("time", "known_at")


def late_rows(rng: np.random.Generator) -> pl.DataFrame:
    bars = plain(rng)
    days = pl.Series(np.where(rng.random(len(bars)) < 0.02, rng.integers(1, 12, len(bars)), 0))
    return bars.with_columns(known_at=pl.col("known_at") + pl.duration(days=days))


def always_late(rng: np.random.Generator) -> pl.DataFrame:
    bars = plain(rng)
    late = pl.when(pl.col("symbol") == "B1_1").then(timedelta(hours=30)).otherwise(timedelta())
    return bars.with_columns(known_at=pl.col("known_at") + late)


def opens_change(rng: np.random.Generator) -> pl.DataFrame:
    bars = plain(rng).with_columns(cut=pl.lit(None))
    since = bars["time"].unique().sort()[int(rng.integers(200, 600))]
    change = opens_repeat if rng.random() < 0.5 else opens_become_real
    return change(bars.with_columns(cut=pl.lit(since))).drop("cut")


def constant_in_the_past(rng: np.random.Generator) -> pl.DataFrame:
    since = plain(rng)["time"].unique().sort()[int(rng.integers(400, 650))]
    return plain(rng).with_columns(
        x=pl.when(pl.col("time") > since).then("x").otherwise(0.0),
        volume=pl.when(pl.col("time") > since).then("volume").otherwise(1000.0),
    )


def classes_and_calendars(rng: np.random.Generator) -> pl.DataFrame:
    """Indices; a coin that trades on all days; and a class and an index that begin later and sort first."""
    bars = plain(rng)
    coin = synthetic.b1(1000, seed=3, r2=0.08).sort("time")
    times = pl.Series([bars["time"].min() + timedelta(days=n, hours=3) for n in range(1000)])
    coin = coin.with_columns(pl.Series(name, times) for name in MOMENTS)
    coin = coin.with_columns(symbol=pl.lit("COIN"), asset_class=pl.lit("crypto"))
    other = plain(np.random.default_rng(5)).with_columns(
        symbol=pl.lit("A_") + pl.col("symbol"),
        asset_class=pl.when(pl.col("symbol") == "B1_1").then(pl.lit("commodity")).otherwise("asset_class"),
    )
    moments = other["time"].unique().sort()
    begins = pl.when(pl.col("asset_class") == "commodity").then(moments[150]).otherwise(moments[400])
    return pl.concat([bars, coin.select(bars.columns), other.filter(pl.col("time") > begins)])


MARKETS = (
    plain, gaps, halts, late_rows, always_late, opens_change, constant_in_the_past, classes_and_calendars,
)  # fmt: skip


def made(bars: pl.DataFrame) -> pl.DataFrame:
    return make_bars(bars.drop("segment", strict=False))


def moments_of(bars: pl.DataFrame) -> np.ndarray[Any, np.dtype[np.datetime64]]:
    """The closes of all symbols, ascending."""
    return np.sort(bars["time"].unique().dt.replace_time_zone(None).to_numpy().astype("datetime64[us]"))


def a_cut(rng: np.random.Generator, bars: pl.DataFrame) -> np.datetime64:
    """A moment after the fill of one close and before the next close: a decision reads what is known by its fill."""
    moments = moments_of(bars)
    number = int(rng.integers(len(moments) * 2 // 3, len(moments) - 20))
    cut: np.datetime64 = moments[number] - np.timedelta64(1, "us")
    return cut


def assert_same(mine: Chain, theirs: Chain) -> None:
    """To the bit, all that two chains forecast, chose, decided and earned."""
    assert list(mine.classes) == list(theirs.classes)
    for name, one in theirs.forecasts.items():
        own = mine.forecasts[name]
        assert own.values.keys() == one.values.keys()
        for model, heads in one.values.items():
            assert own.values[model].keys() == heads.keys()
            for head, values in dict(heads).items():
                np.testing.assert_array_equal(own.values[model][head], values, f"{name} {model} {head}")
        for model, blocks in own.scale.items():
            for block, of in zip(blocks, one.scale[model], strict=True):
                np.testing.assert_array_equal(block, of)
        assert [fold.cutoff for fold in own.folds] == [fold.cutoff for fold in one.folds]
        np.testing.assert_array_equal(own.rows, one.rows)
        assert (own.in_force, own.rivals) == (one.in_force, one.rivals)
        assert mine.classes[name].alarms == theirs.classes[name].alarms
    assert mine.decisions.frame.equals(theirs.decisions.frame)
    assert mine.result.equity.equals(theirs.result.equity)


@pytest.mark.parametrize("market", MARKETS)
def test_the_chain_goes_on_from_its_past_as_if_it_had_all_bars(
    market: Callable[[np.random.Generator], pl.DataFrame],
) -> None:
    rng = np.random.default_rng(MARKETS.index(market))
    bars = made(market(rng))
    experiment = Experiment(bars=bars, **SHORT)
    whole = make_chain(experiment, bars)
    cut = a_cut(rng, bars)
    part = make_chain(experiment, up_to(bars, cut))
    before = pl.col("time") <= pl.lit(cut).dt.replace_time_zone("UTC")
    said, then = (one.decisions.frame.filter(before) for one in (whole, part))
    assert said.height > 200
    assert said.equals(then)
    assert_same(make_chain(experiment, bars, past=part), whole)


ACTING = {
    "false_alarms": 30.0, "filter_minimum": 150, "filter_every": 2, "reference": 100, "least_sessions": 10,
    "on_inputs": "refit", "on_losses": "smaller",
}  # fmt: skip


def louder(bars: pl.DataFrame) -> pl.DataFrame:
    """Each symbol's returns are four times as large from its row 560 on."""
    step = pl.col("close").log().diff().over("symbol").fill_null(0.0)
    more = pl.when(pl.int_range(pl.len()).over("symbol") >= 560).then(3 * step).otherwise(0.0)
    bars = bars.with_columns(_ratio=more.cum_sum().over("symbol").exp())
    before = pl.col("_ratio").shift(1).over("symbol").fill_null(1.0)
    bars = bars.with_columns(pl.col("open") * before, *(pl.col(name) * pl.col("_ratio") for name in PRICES[1:]))
    limits = {"high": pl.max_horizontal(*PRICES), "low": pl.min_horizontal(*PRICES)}
    return bars.with_columns(**limits).drop("_ratio")


@pytest.mark.parametrize("market", [plain, late_rows, classes_and_calendars])
def test_the_chain_goes_on_from_its_past_where_alarms_add_refits_and_make_positions_smaller(
    market: Callable[[np.random.Generator], pl.DataFrame],
) -> None:
    rng = np.random.default_rng(MARKETS.index(market) + 20)
    bars = made(louder(market(rng)))
    experiment = Experiment(bars=bars, **SHORT | {"drift": ACTING})
    whole, usual = make_chain(experiment, bars), make_chain(Experiment(bars=bars, **SHORT), bars)
    assert set(refits_of(usual)) < set(refits_of(whole))
    reasons = whole.decisions.frame.filter(pl.col("reason").str.contains("an alarm of the losses leaves 0.5"))
    assert not reasons.is_empty()
    for one in whole.classes.values():
        choice, raised = one.selection, any(alarm.kind in LOSSES for alarm in one.alarms)
        assert (choice.left.min() == 0.5) == raised
        np.testing.assert_array_equal(choice.weight, choice.proposed * choice.evidence * choice.left)
    first = set(refits_of(whole)) - set(refits_of(usual))
    for cut in (a_cut(rng, bars), min(first) - np.timedelta64(1, "us"), max(first) + np.timedelta64(1, "us")):
        part = make_chain(experiment, up_to(bars, cut))
        assert_same(make_chain(experiment, bars, past=part), whole)


def counted(chain_of: Callable[..., Chain], *args: Any, **more: Any) -> tuple[Chain, dict[str, int]]:
    """A chain, and how many fits of each model it took."""
    fits: dict[str, int] = {}

    def progress(stage: str, done: int, of: int) -> None:
        fits[stage.split(": ")[1]] = done

    return chain_of(*args, progress=progress, **more), fits


def refits_of(chain: Chain, name: str = "index") -> list[np.datetime64]:
    return [fold.cutoff for fold in chain.forecasts[name].folds]


def test_cuts_around_a_refit_and_one_after_the_other_fit_only_what_is_new() -> None:
    bars = made(plain(np.random.default_rng(1)))
    experiment = Experiment(bars=bars, **SHORT)
    whole, every = counted(make_chain, experiment, bars)
    moments, refits = moments_of(bars), refits_of(whole)
    assert every["ridge"] == len(refits) >= 6
    at = int(np.searchsorted(moments, refits[-2]))
    past: Chain | None = None
    for number in (at - 1, at, at + 1, at + 2):  # a bar before the refit, at it, and after it
        part = make_chain(experiment, up_to(bars, moments[number]))
        new = len(refits) - len(refits_of(part))
        assert new == (2 if number < at else 1)
        on, fits = counted(make_chain, experiment, bars, past=part)
        assert_same(on, whole)
        assert fits["ensemble"] == new
        assert set(fits.values()) == {new}
        past, fits = counted(make_chain, experiment, up_to(bars, moments[number]), past=past)
        assert_same(past, part)  # one cut after the other
        assert fits.get("ridge", 0) == (1 if number == at else 0 if number > at else len(refits) - 2)


def test_without_refits_the_last_fits_forecast_on_until_one_is_made_up_for() -> None:
    bars = made(plain(np.random.default_rng(2)))
    experiment = Experiment(bars=bars, **SHORT)
    whole = make_chain(experiment, bars)
    moments, refits = moments_of(bars), refits_of(whole)
    before, at = (int(np.searchsorted(moments, one)) for one in refits[-3:-1])
    past = make_chain(experiment, up_to(bars, moments[before + 5]))
    same = make_chain(experiment, up_to(bars, moments[at - 1]), past=past, refit="never")
    assert_same(same, make_chain(experiment, up_to(bars, moments[at - 1])))
    unwatched = make_chain(experiment, up_to(bars, moments[at - 1]), past=past, refit="never", watch=False)
    assert unwatched.decisions.frame.equals(same.decisions.frame)
    inputs = [one.classes["index"].inputs for one in (past, unwatched, same)]
    assert inputs[0] == inputs[1] != inputs[2]  # those of the past go on, and no others are looked for
    on, fits = counted(make_chain, experiment, up_to(bars, moments[at + 9]), past=same, refit="never")
    assert set(fits) == {"ensemble"}
    assert refits_of(on) == refits[:-2]
    assert on.forecasts["index"].rows[-1] == len(on.forecasts["index"].samples) - 1
    late, fits = counted(make_chain, experiment, bars, past=on)
    assert refits_of(late) == [*refits[:-2], moments[at + 10], refits[-1]]
    assert fits["ridge"] == 2
    assert_same(make_chain(experiment, bars, past=same), whole)


def test_a_saved_run_is_the_past_of_the_chain_over_more_bars(tmp_path: Path) -> None:
    other = pl.when(pl.col("symbol") == "B1_1").then(pl.lit("fx")).otherwise("asset_class")
    bars = made(plain(np.random.default_rng(7)).with_columns(asset_class=other))
    cut = a_cut(np.random.default_rng(3), bars)
    models = {
        "models": ("lstm", "ridge", "logistic"),
        "model": {"lstm": {"units": 16, "layers": 1, "seeds": 2, "epochs": 1}},
        "signals": {"model": "lstm", "confirmed_by": "ridge"},
    }
    whole = make_chain(Experiment(bars=bars, **SHORT | models), bars)
    early = Experiment(bars=up_to(bars, cut), **SHORT | models)
    save_run(run(early), tmp_path / "run")
    on = make_chain(Experiment(bars=bars, **SHORT | models), bars, past=past_of(tmp_path / "run"))
    assert_same(on, whole)
    another = made(plain(np.random.default_rng(8)).with_columns(asset_class=other))
    with pytest.raises(BarsError, match="rows of the past are another market's"):
        make_chain(Experiment(bars=another, **SHORT | models), another, past=past_of(tmp_path / "run"))
    for name, one in whole.forecasts.items():
        for seed, heads in enumerate(one.members["lstm"]):
            for head, values in dict(heads).items():
                np.testing.assert_array_equal(on.forecasts[name].members["lstm"][seed][head], values)


def test_what_was_issued_stays_when_a_bar_is_corrected() -> None:
    bars = made(plain(np.random.default_rng(4)))
    experiment = Experiment(bars=bars, **SHORT)
    moments = moments_of(bars)
    part = make_chain(experiment, up_to(bars, moments[-60]))
    wrong = pl.col("time") == pl.lit(moments[-80]).dt.replace_time_zone("UTC")
    corrected = bars.with_columns(pl.when(wrong).then(pl.col(name) * 1.03).otherwise(name) for name in PRICES)
    on, alone = make_chain(experiment, corrected, past=part), make_chain(experiment, corrected)
    issued = part.forecasts["index"].issued()
    theirs, mine = issued.rows_in(on.forecasts["index"].samples)
    assert len(theirs) == len(issued.time)
    for model, heads in issued.values.items():
        for head, values in heads.items():
            np.testing.assert_array_equal(on.forecasts["index"].values[model][head][mine], values[theirs])
    before = pl.col("time") <= pl.lit(moments[-60]).dt.replace_time_zone("UTC")
    assert on.weights.filter(before).equals(part.weights)
    assert not alone.decisions.frame.filter(before).equals(part.decisions.frame)


def test_some_rows_of_what_goes_on_are_those_of_the_whole() -> None:
    bars = synthetic.b1(500, seed=1)
    rules, schedule = [Naive(rule="constant"), Ridge()], Schedule(train="6M", refit="3M", minimum="6M")
    part, whole = (make_samples(one, ("x",))["index"] for one in (bars[:450], bars))
    on = walk_forward(rules, whole, schedule, past=walk_forward(rules, part, schedule))
    alone = walk_forward(rules, whole, schedule)
    rows = np.r_[0, np.arange(len(part) - 20, len(whole))]  # forecast by nobody, issued, and new
    for model, heads in on.values.items():
        some = {head: at_rows(heads, head, rows) for head in heads}
        copied = deepcopy(heads)
        for head, expected in alone.values[model].items():
            for found in (some[head], heads[head][rows], at_rows(heads, head, rows), copied[head][rows]):
                np.testing.assert_array_equal(found, expected[rows])
        assert type(copied) is dict
        assert "no head" not in heads


def test_bars_that_the_past_was_not_made_on_are_refused() -> None:
    bars = synthetic.b1(500, seed=1)
    rules, schedule = [Naive(rule="constant"), Ridge()], Schedule(train="6M", refit="3M", minimum="6M")

    def samples_of(bars: pl.DataFrame) -> Samples:
        return make_samples(bars, ("x",))["index"]

    past = walk_forward(rules, samples_of(bars[:400]), schedule)
    with pytest.raises(BarsError, match="these bars end before"):
        walk_forward(rules, samples_of(bars[:390]), schedule, past=past)
    with pytest.raises(BarsError, match="give the bars that the past was made on"):
        walk_forward(rules, samples_of(bars.filter(~pl.int_range(pl.len()).is_between(150, 153))), schedule, past=past)
    other = synthetic.b1(500, seed=2)
    for past_of_it in (past, past.issued()):
        with pytest.raises(BarsError, match="rows of the past are another market's"):
            walk_forward(rules, samples_of(other), schedule, past=past_of_it)
    few = walk_forward(rules, samples_of(bars[:300]), schedule).issued()  # fewer rows than a correlation can tell by
    short = replace(few, symbol=few.symbol[-20:], time=few.time[-20:], moves=few.moves[-20:])
    with pytest.raises(BarsError, match=r"in \d\d rows of the past are another market's"):
        walk_forward(rules, samples_of(other), schedule, past=short)
    two = pl.concat([bars, other.with_columns(symbol=pl.lit("B1_9"))])
    elsewhere = pl.col("time") - pl.when(pl.col("symbol") == "B1_9").then(timedelta(hours=1)).otherwise(timedelta())
    moved = samples_of(make_bars(two.with_columns(time=elsewhere, known_at=elsewhere)))
    both = walk_forward(rules, samples_of(two), schedule)
    with pytest.raises(BarsError, match="the past has forecasts of 'B1_9', and none of them at a close of these bars"):
        walk_forward(rules, moved, schedule, past=both)
    with pytest.raises(BarsError, match="no row of a symbol in common"):
        walk_forward(rules, samples_of(bars.with_columns(symbol=pl.lit("Z"))), schedule, past=past)
    doubled = bars.with_columns(pl.col(*PRICES) * 2)  # the same market at another level
    assert walk_forward(rules, samples_of(doubled), schedule, past=past).rows[-1] == len(samples_of(doubled)) - 1


@pytest.mark.parametrize(
    "change", [{"horizon": 3}, {"seed": 1}, {"schedule": {"refit": "3M"}}, {"model": {"ridge": {"penalties": (1.0,)}}}]
)
def test_a_past_of_other_settings_is_refused(change: dict[str, Any]) -> None:
    few: dict[str, Any] = {
        "models": ("ridge", "logistic"), "signals": {"model": "ridge", "confirmed_by": "ridge"},
        "features": ("ret_log_1",), "schedule": {"refit": "1Y"},
    }  # fmt: skip
    bars = synthetic.a1(800, seed=1)
    past = make_chain(Experiment(bars=bars.head(700), **few), bars.head(700))
    with pytest.raises(SettingsError, match=r"the past was made with (model\.ridge|\w+) ="):
        make_chain(Experiment(bars=bars, **few | change), bars, past=past)
