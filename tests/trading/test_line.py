"""A line of the book goes on from what it carries, through the disk, to the bit; and so does the book of a chain."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load, save

from gatecast.audits.tables import up_to
from gatecast.chain import Chain, make_chain
from gatecast.experiment import Experiment
from gatecast.market import synthetic
from gatecast.market.actions import read_actions, with_known_at
from gatecast.market.bars import make_bars
from gatecast.market.facts import facts_of
from gatecast.store.carried import bytes_of_carried, carried_of, changes_of
from gatecast.trading.book import (
    Book,
    Carried,
    Sessions,
    closes_of,
    core_path,
    holdings_of,
    learned_of,
    past_deviations,
    run_line,
    sessions_by,
    terms_of,
)
from gatecast.trading.core import Core, CoreState
from gatecast.trading.line import Learned, LineState, Past, Step
from gatecast.trading.sizing import BookSettings

BEGIN = 100


@pytest.fixture(scope="module")
def sessions() -> Sessions:
    """Sessions of three symbols, one of which joins late; one halts."""
    bars = synthetic.g1(260, seed=3, symbols=3)
    days, (first, second, _) = bars["time"].unique().sort(), bars["symbol"].unique().sort()
    joins = (pl.col("symbol") == first) & (pl.col("time") < days[160])
    halts = (pl.col("symbol") == second) & pl.col("time").is_between(days[180], days[190])
    bars = bars.filter(~joins, ~halts)
    return sessions_by(facts_of(bars, with_known_at(read_actions(paid_late(bars)), bars)), Book())


def paid_late(bars: pl.DataFrame) -> pl.DataFrame:
    """A dividend of each of two symbols and a spin-off, that become known ten sessions after their dates and more."""
    days, names = bars["time"].unique().sort(), bars["symbol"].unique().sort()
    return pl.DataFrame(
        {
            "symbol": [names[1], names[2], names[2]], "kind": ["dividend", "dividend", "spin_off"],
            "date": [days[place].date() for place in (186, 167, 150)], "value": [0.5, 0.25, 0.001],
            "known_at": [days[place] for place in (200, 178, 170)], "into": [None, None, names[0]],
        }
    )  # fmt: skip


def fold(sessions: Sessions, carried: Carried, since: int, until: int) -> tuple[Carried, list[Step]]:
    """What is carried after the sessions of these places, and what was decided from the beginning on."""
    line, core, steps, weights, cores = carried.line, carried.core, list[Step](), list[Any](), list[CoreState]()
    for place in range(since, until):
        core = core.after(sessions.days[place], sessions.returns[place], sessions.listed[place], Core())
        cores.append(core)
        weights.append(core.weights)
    rows, none = past_deviations(sessions.returns), np.zeros(sessions.returns.shape)
    tilt, evidence = none + np.array([0.2, -0.2, 0.1]), none + 0.5
    closes = closes_of(sessions, np.array(weights), rows, tilt, evidence, since=since)
    for place, close in enumerate(closes, since):
        if place < BEGIN:
            line = line.watched(close)
        else:
            line, step = line.after(close, terms_of(sessions, Book()))
            steps.append(step)
    return Carried(line, cores[-1]), steps


def start(sessions: Sessions) -> Carried:
    names, classes = sessions.names, sessions.classes
    return Carried(LineState.start(names, classes, 1e6), CoreState.start(names, classes, Core()))


def test_any_cut_goes_on_to_the_bit_through_the_disk(sessions: Sessions) -> None:
    end = len(sessions.days)
    last, whole = fold(sessions, start(sessions), 0, end)
    assert sum(np.any(step.trades != 0) for step in whole) > 10
    for cut in (BEGIN + 1, 161, 185, 191, end - 1):
        before, early = fold(sessions, start(sessions), 0, cut)
        after, late = fold(sessions, carried_of(bytes_of_carried(before)), cut, end)
        for one, other in zip([*early, *late], whole, strict=True):
            for name in ("weights", "target", "trades", "units", "core", "tilt"):
                np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
            assert (one.booked.equity, one.cash, one.gate) == (other.booked.equity, other.cash, other.gate)
        assert bytes_of_carried(after) == bytes_of_carried(last)


def test_what_is_known_of_returns_may_be_found_before_to_the_bit(sessions: Sessions) -> None:
    core, deviations = core_path(sessions, Core()), past_deviations(sessions.returns)
    deviations[150:, 1] = np.nan  # held, and forecast no more
    known, more = tuple(learned_of(sessions, deviations, BEGIN)), {"begin": BEGIN}
    wide = Book(size=BookSettings(symbol_band=0.5, spike_sizes=True))
    for book in (Book(), wide, Book()):  # what was found is shared, and used again
        mine = run_line(sessions, core, deviations, book, learned=known, **more)
        alone = run_line(sessions, core, deviations, book, **more)
        assert mine.frame.equals(alone.frame)
        assert mine.holdings.equals(alone.holdings)
        np.testing.assert_array_equal(mine.core_variance, alone.core_variance)


@pytest.mark.parametrize("classes", [("index",), ("equity", "index", "index", "equity")])
def test_many_sessions_at_once_are_each_session_after_the_other_to_the_bit(classes: tuple[str, ...]) -> None:
    rng, names = np.random.default_rng(7), tuple(f"S{place}" for place in range(len(classes)))
    returns = 0.01 * (rng.standard_normal((400, 1)) + rng.standard_normal((400, len(names))))
    returns[:, -1] = returns[:, 0]  # the correlation has no inverse
    deviations = np.full(returns.shape, 0.02)
    returns[rng.random(returns.shape) < 0.05] = np.nan
    deviations[rng.random(returns.shape) < 0.1] = np.nan
    deviations[:90, -1] = np.nan
    one = Learned.start(names, classes)
    early = Past.of(one, returns[:150], deviations[:150], 0)
    late = Past.of(early.after(149), returns[150:], deviations[150:], 150)
    for place in range(400):
        one = one.after(returns[place], deviations[place])
        many = (early if place < 150 else late).after(place)
        for name in ("total", "weight"):
            for sums in ("same", "lagged"):
                np.testing.assert_array_equal(
                    getattr(getattr(many.correlations, sums), name), getattr(getattr(one.correlations, sums), name)
                )
            np.testing.assert_array_equal(getattr(many.squares, name), getattr(one.squares, name))
        np.testing.assert_array_equal(many.squares.count, one.squares.count)
        np.testing.assert_array_equal(many.correlations.last, one.correlations.last)
        np.testing.assert_array_equal(many.ahead, one.ahead)
        np.testing.assert_array_equal(many.scale, one.scale)
        found = (early if place < 150 else late).correlation[place - (0 if place < 150 else 150)]
        np.testing.assert_array_equal(found, one.correlation[0])


def test_who_held_before_the_date_is_paid_for_what_becomes_known_late(sessions: Sessions) -> None:
    _, steps = fold(sessions, start(sessions), 0, len(sessions.days))
    for place, dated, known, value in ((1, 186, 200, 0.5), (2, 167, 178, 0.25)):
        units, booked = steps[dated - 1 - BEGIN].units[place], steps[known - BEGIN].booked
        assert units not in (0.0, steps[known - 1 - BEGIN].units[place])
        assert booked.dividend[place] == pytest.approx(units * value, rel=1e-12)
        assert f"on the {units:g} units held before" in steps[known - BEGIN].findings[0].sentence
    assert sum(bool(step.booked.dividend.any()) for step in steps) == 2
    given, held = steps[170 - BEGIN], steps[149 - BEGIN].units[2]
    assert given.units[0] - steps[169 - BEGIN].units[0] - given.booked.units[0] == pytest.approx(held * 0.001, rel=1e-9)


def test_changes_of_units_are_found_again_from_what_was_held(sessions: Sessions) -> None:
    none = pl.DataFrame(schema={"session": pl.Date, "symbol": pl.String, "ratio": pl.Float64})
    for cut in (BEGIN + 2, 185, len(sessions.days)):
        carried, steps = fold(sessions, start(sessions), 0, cut)
        found = changes_of(holdings_of(steps, sessions.names), none, sessions.names)
        assert found == carried.line.account.changes != ()


def test_a_split_that_is_told_after_its_session_was_decided_is_booked_at_the_next() -> None:
    """The split's bars wait until it is told: nothing of the symbol is known at three sessions, then all at once."""
    bars = synthetic.g1(260, seed=3, symbols=3)  # prices on one level, as a store has them
    days, name = bars["time"].unique().sort(), bars["symbol"].min()
    known = bars.filter((pl.col("symbol") != name) | ~pl.col("time").is_between(days[200], days[202]))
    split = {"symbol": [name], "kind": ["split"], "date": [days[200].date()], "value": [4.0]}
    told = with_known_at(read_actions(pl.DataFrame(split)), bars)
    none, later = (sessions_by(facts_of(known, one), Book()) for one in (None, told))
    before, _ = fold(none, start(none), 0, 203)
    (ours, steps), (_, theirs) = fold(later, before, 203, 230), fold(none, before, 203, 230)
    place = none.names.index(str(name))
    assert before.line.account.units[place] != 0
    np.testing.assert_allclose(steps[0].units[place] / theirs[0].units[place], 4, rtol=1e-9)
    for one, other in zip(steps, theirs, strict=True):
        assert one.booked.equity == pytest.approx(other.booked.equity, rel=1e-4)  # but for a lot of a unit
    assert bytes_of_carried(carried_of(bytes_of_carried(ours))) == bytes_of_carried(ours)
    held = pl.concat([holdings_of(fold(none, start(none), 0, 203)[1], none.names), holdings_of(steps, none.names)])
    split_at = pl.DataFrame({"session": [later.days[203]], "symbol": [name], "ratio": [4.0]})
    assert changes_of(held, split_at, none.names) == ours.line.account.changes


def test_parts_of_a_target_add_up(sessions: Sessions) -> None:
    _, steps = fold(sessions, start(sessions), 0, len(sessions.days))
    for step in steps:
        uncut = np.array([gate in ("", "lot", "ticket", "participation") for gate in step.gate])
        if uncut.all():
            np.testing.assert_allclose(step.core + step.tilt, step.target, atol=1e-12)
    assert any(step.tilt.any() for step in steps)


def test_a_file_of_something_else_is_refused(sessions: Sessions) -> None:
    good = bytes_of_carried(fold(sessions, start(sessions), 0, BEGIN + 3)[0])
    arrays = load(good)
    for name in arrays:
        without = {other: array for other, array in arrays.items() if other != name}
        with pytest.raises(ValueError, match="lacks"):
            carried_of(save(without))
        if name != "table":
            with pytest.raises(ValueError, match="expected"):
                carried_of(save({**arrays, name: np.zeros((7, 7, 7))}))
    with pytest.raises(ValueError, match="NaN"):
        carried_of(save({**arrays, "units": arrays["units"] * np.nan}))


# ── of a chain ────────────────────────────────────────────────────────────────────────────────────


def experiment() -> Experiment:
    cheap: dict[str, Any] = {
        "features": ("ret_log_1",), "lookback": 10, "models": ("ridge", "logistic"),
        "signals": {"model": "ridge", "confirmed_by": "ridge"}, "schedule": {"train": "1Y", "minimum": "1Y"},
        "selection": {"evidence": 1.0, "minimum_days": 20},
    }  # fmt: skip
    return Experiment(**cheap)


@pytest.fixture(scope="module")
def bars() -> pl.DataFrame:
    """An index of two symbols, a coin that closes three hours later, and two rows that come days late."""
    shares = synthetic.g1(420, seed=2, symbols=2)
    coin = synthetic.g1(420, seed=5, symbols=1).with_columns(
        symbol=pl.lit("COIN"), asset_class=pl.lit("crypto"), time=pl.col("time").dt.truncate("1d") + timedelta(days=1)
    )  # fmt: skip
    every = pl.concat([shares, coin.with_columns(known_at="time")])
    late = every["time"].unique().sort()[[700, 760]]
    known = pl.when(pl.col("time").is_in(late.implode())).then(pl.col("time") + timedelta(days=4)).otherwise("known_at")
    return make_bars(every.with_columns(known_at=known).drop("segment"))


@pytest.fixture(scope="module")
def whole(bars: pl.DataFrame) -> Chain:
    return make_chain(experiment(), bars)


@pytest.mark.parametrize("close", [-41, -40, -6, -5])
def test_a_chain_knows_nothing_of_later_sessions_and_goes_on_from_any_close(
    bars: pl.DataFrame, whole: Chain, close: int
) -> None:
    """The closes are those of the index, and three hours later of the coin, at which the session is decided again."""
    moment = bars["time"].unique().sort()[close]
    known = up_to(bars, np.datetime64(moment.replace(tzinfo=None), "us"))
    part = make_chain(experiment(), known)
    after = make_chain(experiment(), bars, past=part)
    ours, theirs, batch = part.course.holdings, after.course.holdings, whole.course.holdings
    assert (ours["held"] != 0).any()
    assert (theirs["held"] != 0).any()
    begins = theirs["session"].min()
    assert ours.filter(pl.col("session") < begins).equals(batch.filter(pl.col("session") < begins))
    assert theirs.equals(batch.filter(pl.col("session") >= begins))
    assert (begins == ours["session"].max()) == (moment.hour != 0)
    for one, other in zip(after.course.carried, whole.course.carried, strict=True):
        assert bytes_of_carried(one) == bytes_of_carried(other)


def test_no_field_of_what_is_carried_is_forgotten(whole: Chain) -> None:
    found = carried_of(bytes_of_carried(whole.course.carried[-1]))
    for mine, other in ((found.line, whole.course.carried[-1].line), (found.core, whole.course.carried[-1].core)):
        for one in fields(mine):
            left, right = getattr(mine, one.name), getattr(other, one.name)
            np.testing.assert_equal(_plain(left), _plain(right), one.name)
    assert replace(found.line, covariance=None).with_covariance().covariance is not None


def _plain(value: Any) -> Any:
    return (
        {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
        if hasattr(value, "__dataclass_fields__")
        else value
    )
