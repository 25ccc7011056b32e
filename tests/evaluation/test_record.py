"""Records: the same numbers from walk-forward forecasts and from a table of them, and what a table may not have."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from made_up import made_up, with_values

from gatecast.errors import SettingsError
from gatecast.evaluation.judge import judge
from gatecast.evaluation.record import Record, day_means, records_of
from gatecast.evaluation.rivals import losses, with_rival
from gatecast.forecasting.panel import RIVAL, RIVALS
from gatecast.forecasting.walkforward import Forecasts
from gatecast.market import synthetic
from gatecast.samples.windows import Samples, make_samples

NOTHING = np.zeros(50)


@pytest.fixture(scope="module")
def bars() -> pl.DataFrame:
    return synthetic.b1(1000, seed=1, r2=0.05, symbols=2)


@pytest.fixture(scope="module")
def forecasts(bars: pl.DataFrame) -> Forecasts:
    samples = make_samples(bars, ("ret_log_1", "x"))["index"]
    skilled = made_up(samples, seed=1, skill={"lstm": 0.3})
    return with_rival(skilled.with_model("ensemble", skilled.values["lstm"]))


@pytest.fixture(scope="module")
def table(forecasts: Forecasts) -> pl.DataFrame:
    """The model's forecasts as anybody would hand them in."""
    ours = forecasts.to_frame().filter(pl.col("model") == "lstm")
    return ours.with_columns(model=pl.lit("theirs")).drop("known_at")


# ── from walk-forward forecasts ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("head", RIVALS)
def test_the_rows_are_those_forecast_out_of_sample(forecasts: Forecasts, head: str) -> None:
    record, samples, rows = Record.of({"index": forecasts}, head), forecasts.samples, forecasts.rows
    assert len(record) == len(rows)
    assert record.losses("lstm").tobytes() == losses(forecasts, head, "lstm")[rows].tobytes()
    np.testing.assert_array_equal(record.day, samples.sessions[rows].astype("datetime64[D]"))
    np.testing.assert_array_equal(record.known_at, samples.targets[head].known_at[samples.decided[rows]])
    assert set(record.baselines) == set(RIVALS[head]) & set(forecasts.values)


def test_classes_follow_each_other_and_can_be_taken_apart(forecasts: Forecasts, samples: Samples) -> None:
    other = with_rival(made_up(samples, seed=3))
    both = Record.of({"index": forecasts, "crypto": other}, "direction")
    alone = Record.of({"crypto": other}, "direction")
    part = both.of_classes(("crypto",))
    assert len(both) == len(forecasts.rows) + len(other.rows)
    assert part.classes == ("crypto",)
    assert part.losses("lstm").tobytes() == alone.losses("lstm").tobytes()
    assert np.unique(part.number).tolist() == [0]
    assert [part.symbols[place] for place in part.symbol] == [alone.symbols[place] for place in alone.symbol]
    assert both.everywhere("lstm")
    assert not both.everywhere("ensemble")  # crypto has none
    assert np.isnan(both.losses("ensemble")[len(forecasts.rows) :]).all()


def test_a_model_without_forecasts_has_no_loss(forecasts: Forecasts) -> None:
    record = Record.of({"index": forecasts}, "volatility")
    assert "logistic" not in record.forecasts
    assert np.isnan(record.losses("logistic")).all()
    assert len(day_means(record, "logistic", RIVAL).day) == 0


def test_forecasts_that_are_added_take_the_place_of_those_before(forecasts: Forecasts) -> None:
    record = Record.of({"index": forecasts}, "direction")
    half = record.with_forecasts("lstm", np.full(len(record), 0.5))
    assert np.nanmax(np.abs(half.losses("lstm") - 0.25)) == 0
    assert half.losses("forest").tobytes() == record.losses("forest").tobytes()
    assert list(half.forecasts) == list(record.forecasts)
    with pytest.raises(ValueError, match="one a row of the record"):
        record.with_forecasts("lstm", np.zeros(3))


def test_the_rival_in_force_is_added_where_it_is_not_there(forecasts: Forecasts) -> None:
    bare = replace(
        forecasts, rivals={}, values={name: heads for name, heads in forecasts.values.items() if name != RIVAL}
    )
    for head, record in records_of({"index": bare}).items():
        assert record.losses(RIVAL).tobytes() == losses(forecasts, head, RIVAL)[forecasts.rows].tobytes()
        assert record.rivals == forecasts.rivals[head]


def test_no_class_and_no_such_head_are_refused(forecasts: Forecasts) -> None:
    with pytest.raises(SettingsError, match="no asset class"):
        records_of({})
    with pytest.raises(SettingsError, match="Did you mean 'regime'"):
        Record.of({"index": forecasts}, "regimes")


# ── from a table ──────────────────────────────────────────────────────────────────────────────────


def test_a_table_has_the_losses_of_the_forecasts_that_it_was_made_of(
    forecasts: Forecasts, table: pl.DataFrame, bars: pl.DataFrame
) -> None:
    found = Record.from_table(table.sample(fraction=1.0, shuffle=True, seed=1), bars)
    assert list(found) == ["return", "direction", "volatility", "regime"]
    for head, record in found.items():
        ours = Record.of({"index": forecasts}, head)
        assert (record.horizon, record.overlap) == (ours.horizon, ours.overlap)
        np.testing.assert_array_equal(record.time, ours.time)
        np.testing.assert_array_equal(record.known_at, ours.known_at)
        assert record.losses("theirs").tobytes() == ours.losses("lstm").tobytes()


def test_anybody_is_judged_as_gatecast_is(forecasts: Forecasts, table: pl.DataFrame, bars: pl.DataFrame) -> None:
    own = records_of({"index": forecasts})
    theirs = {head: one.beside(own[head]) for head, one in Record.from_table(table, bars).items()}
    words = {"round_trip": 0.001, "periods_per_year": 252.0}
    judged = judge(theirs, NOTHING, NOTHING, model="theirs", **words)
    expected = judge(own, NOTHING, NOTHING, model="lstm", **words)
    for head in RIVALS:
        assert judged[head].pvalue < 0.05
        same = ("verdict", "effect", "low", "high", "pvalue", "rival", "most_in_force", "sentence", "break_even")
        assert {name: getattr(judged[head], name) for name in same} == {
            name: getattr(expected[head], name) for name in same
        }


def test_without_a_rival_nobody_is_judged(table: pl.DataFrame, bars: pl.DataFrame) -> None:
    with pytest.raises(SettingsError, match=r"no rival in force to judge 'theirs' against.*beside"):
        judge(
            Record.from_table(table, bars), NOTHING, NOTHING,
            round_trip=0.001, periods_per_year=252.0, model="theirs",
        )  # fmt: skip


def test_a_later_bar_changes_no_answer_that_was_known(table: pl.DataFrame, bars: pl.DataFrame) -> None:
    cut = bars["time"].unique().sort()[800]
    past = Record.from_table(table.filter(pl.col("time") <= cut), bars.filter(pl.col("time") <= cut))
    moment = np.datetime64(cut.replace(tzinfo=None))
    for head, record in Record.from_table(table, bars).items():
        known = record.known_at <= moment
        before = past[head].known_at <= moment
        assert known.sum() == before.sum() > 100
        assert record.losses("theirs")[known].tobytes() == past[head].losses("theirs")[before].tobytes()


def test_forecasts_before_there_is_a_unit_are_left_out(bars: pl.DataFrame) -> None:
    flat = bars.select("symbol", "time", model=pl.lit("flat"), head=pl.lit("return"), step=3, value=0.0)
    record = Record.from_table(flat, bars)["return"]
    assert record.horizon == 3
    assert 2 * (1000 - 30) < len(record) < 2 * 1000
    early = flat.filter(pl.col("time") < bars["time"].unique().sort()[10])
    with pytest.raises(SettingsError, match="before its symbol has 23 bars"):
        Record.from_table(early, bars)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda table: table.drop("value"), "no column value"),
        (lambda table: table.clear(), "has no row"),
        (lambda table: table.with_columns(head=pl.lit("returns")), "Did you mean 'return'"),
        (lambda table: table.with_columns(symbol=pl.lit("B1_7")), "forecasts B1_7, of which there are no bars"),
        (lambda table: pl.concat([table, table.head(1)]), "more than one value of symbol B1_0"),
        (lambda table: table.with_columns(pl.col("time").dt.offset_by("1m")), "no bar's close"),
        (lambda table: table.with_columns(value=pl.lit(float("nan"))), "values that cannot be"),
        (lambda table: table.with_columns(value=pl.lit(None, pl.Float64)), "values that cannot be"),
        (lambda table: table.filter(head="direction").with_columns(value=1.2), "probabilities from 0 to 1"),
        (lambda table: table.filter(head="volatility").with_columns(value=0.0), "variances above 0"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_table_is_said(change, said: str, table: pl.DataFrame, bars: pl.DataFrame) -> None:
    with pytest.raises(SettingsError, match=said):
        Record.from_table(change(table), bars)


def test_a_horizon_that_the_table_has_not_is_refused(table: pl.DataFrame, bars: pl.DataFrame) -> None:
    with pytest.raises(SettingsError, match="no forecast 7 bars ahead; its steps are 1, 2, 3, 4, 5"):
        Record.from_table(table, bars, horizon=7)


def test_records_of_other_bars_or_with_the_same_model_do_not_stand_beside_each_other(
    forecasts: Forecasts, table: pl.DataFrame, bars: pl.DataFrame
) -> None:
    theirs, own = Record.from_table(table, bars), records_of({"index": forecasts})
    with pytest.raises(SettingsError, match="expected a record of the head 'return'"):
        theirs["return"].beside(own["direction"])
    with pytest.raises(SettingsError, match="both records have theirs"):
        theirs["return"].beside(theirs["return"])
    later = bars.with_columns(pl.col("time", "known_at").dt.offset_by("1h"))
    moved = Record.from_table(table.with_columns(pl.col("time").dt.offset_by("1h")), later)
    with pytest.raises(SettingsError, match="other bars or horizons"):
        moved["return"].beside(own["return"])


def test_seeds_are_kept_by_model(forecasts: Forecasts) -> None:
    seeds = tuple(
        {"direction": np.full(len(forecasts.samples), share), "return": np.full((len(forecasts.samples), 1), share)}
        for share in (0.4, 0.6)
    )
    with_seeds = replace(with_values(forecasts, "lstm"), members={"lstm": seeds})
    for head in ("direction", "return"):
        alone = Record.of({"index": with_seeds}, head).members["lstm"]
        assert [float(values[0]) for values in alone] == [0.4, 0.6]
        assert all(values.shape == forecasts.rows.shape for values in alone)
    assert not Record.of({"index": with_seeds}, "volatility").members
