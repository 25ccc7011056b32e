"""The LSTM: the cell against its formulas, the kernel against its torch twin, and what a fit promises."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from gatecast.errors import SettingsError, TrainingError
from gatecast.forecasting.forecaster import Task
from gatecast.forecasting.lstm import LSTM, FittedLSTM
from gatecast.forecasting.lstm import training as t
from gatecast.forecasting.lstm.network import Network
from gatecast.forecasting.lstm.selection import PACE, shares
from gatecast.forecasting.schedule import Schedule
from gatecast.forecasting.walkforward import walk_forward
from gatecast.market import synthetic
from gatecast.metrics.forecast import r2_zero
from gatecast.samples.windows import Samples, make_samples

TINY = LSTM(units=16, layers=1, seeds=1, epochs=2)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def problem(
    settings: LSTM, features: int, seed: int, bars: int = 130
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray], t.Chunks]:
    """Random inputs, answers (some missing), weights with a live head, and chunks of which some are partial."""
    draw = np.random.default_rng(seed)
    inputs = draw.standard_normal((bars, features)).astype(np.float32)
    table = draw.standard_normal((bars, len(settings.output_columns))).astype(np.float32)
    table[:, list(settings.binary_columns)] = table[:, list(settings.binary_columns)] > 0
    table[draw.random(table.shape) < 0.05] = np.nan
    weights = t.initial_weights(settings, features, table.shape[1], seed)
    for name in ("head.w", "select.w", "select.b"):
        if name in weights:
            weights[name] = draw.standard_normal(weights[name].shape).astype(np.float32) * (
                0.3 if name == "head.w" else 0.05
            )
    ends = np.r_[settings.lookback : 70, 75 + settings.lookback : bars]
    return inputs, table, weights, t.make_chunks(ends, settings.lookback, settings.chunk, 1)


def shapes() -> list[tuple[LSTM, int]]:
    """Twenty random networks: sizes off every multiple, all subsets of heads, with selection and without."""
    draw = np.random.default_rng(5)
    heads = ("return", "direction", "volatility", "regime")
    found = []
    for number in range(20):
        some = tuple(head for head in heads if draw.random() < 0.6) or ("return",)
        found.append(
            (
                LSTM(
                    units=int(draw.integers(16, 40)), layers=int(draw.integers(1, 4)),
                    lookback=int(draw.integers(10, 14)),
                    horizon=int(draw.integers(1, 8)), dropout=float(draw.choice([0.0, 0.3])), heads=some,
                    chunk=int(draw.integers(1, 9)), batch=int(draw.integers(1, 7)), clip=1e6,
                    selection=number % 2 == 0,
                ),
                int(draw.integers(1, 12)),
            )
        )  # fmt: skip
    return found


def test_the_cell_is_the_formulas() -> None:
    network = Network(3, 16, 1, 1).double()
    draw = np.random.default_rng(0)
    weights = {name: draw.standard_normal(w.shape) for name, w in network.weights().items()}
    network.load(weights)
    x = draw.standard_normal((12, 3))
    h, c = np.zeros(16), np.zeros(16)
    wx, wh, b = weights["0.wx"], weights["0.wh"], weights["0.b"]  # gates i, f, o, u
    for step in x:
        i, f, o = (sigmoid(step @ wx[:, g] + h @ wh[:, g] + b[g]) for g in range(3))
        c = f * c + i * np.tanh(step @ wx[:, 3] + h @ wh[:, 3] + b[3])
        h = o * np.tanh(c)
    expected = h @ weights["head.w"] + weights["head.b"]
    got = network(torch.from_numpy(x[:, None]), 1).detach().numpy()[0, 0]
    np.testing.assert_allclose(got, expected, rtol=1e-12)


@pytest.mark.parametrize(("settings", "features"), shapes())
def test_kernel_and_twin_agree_on_losses_and_gradients(settings: LSTM, features: int) -> None:
    inputs, table, weights, chunks = problem(settings, features, seed=features)
    compiled = t.CompiledEngine(settings, inputs, table, weights, seed=3)
    twin = t.TorchEngine(settings, inputs, table, weights, seed=3)
    assert compiled.check(chunks) == pytest.approx(twin.check(chunks), rel=2e-5)
    # one update on one batch: the gradient is what the twin's autograd says
    order = np.arange(min(settings.batch, len(chunks)))
    assert compiled.epoch(chunks, order) == pytest.approx(twin.epoch(chunks, order), rel=2e-5)
    theirs = twin.network.weights(gradients=True)
    counted = chunks.counted[:, order].sum()
    for name, gradient in theirs.items():
        ours = compiled.shape.part(compiled.network.gradient, name) / counted
        np.testing.assert_allclose(ours, gradient, rtol=2e-3, atol=3e-6 * max(1.0, np.abs(gradient).max()))


@pytest.mark.parametrize("selection", [False, True])
def test_the_twins_gradient_is_that_of_finite_differences(selection: bool) -> None:
    settings = LSTM(units=16, layers=2, lookback=10, horizon=2, dropout=0.0, chunk=3, batch=4, selection=selection)
    inputs, table, weights, chunks = problem(settings, 3, seed=9)
    engine = t.TorchEngine(settings, inputs, table, weights, seed=0)
    engine.network.double()
    engine.data, engine.answers = engine.data.double(), engine.answers.double()
    loss, _ = engine._loss(engine.network, chunks, np.arange(4), learning=False)
    loss.backward()
    for parameter in engine.trained:
        flat, gradient = parameter.data.view(-1), parameter.grad.view(-1)
        for place in range(0, len(flat), max(1, len(flat) // 5)):
            moved = []
            for step in (1e-5, -1e-5):
                flat[place] += step
                moved.append(float(engine._loss(engine.network, chunks, np.arange(4), learning=False)[0].detach()))
                flat[place] -= step
            assert (moved[0] - moved[1]) / 2e-5 == pytest.approx(float(gradient[place]), rel=1e-5, abs=1e-7)


def test_both_engines_train_to_the_same_loss(samples: Samples) -> None:
    fold = Schedule().folds(samples.times, samples.known_at)[3].on(samples)
    fits = []
    for engine in ("compiled", "torch"):
        settings = LSTM(units=20, layers=2, epochs=3, seeds=1, engine=engine)
        lesson = settings._prepare(fold)
        fits.append(t.train_network(settings, lesson.inputs, lesson.table, lesson.train, lesson.validation, 7))
    np.testing.assert_allclose(fits[0].train_loss, fits[1].train_loss, rtol=1e-4)
    np.testing.assert_allclose(fits[0].validation_loss, fits[1].validation_loss, rtol=1e-4)
    for name, weights in fits[0].weights.items():
        np.testing.assert_allclose(weights, fits[1].weights[name], atol=2e-4)


def test_without_the_burn_in_gradient_memory_ends_at_the_labels() -> None:
    settings = LSTM(units=16, layers=1, lookback=10, horizon=1, dropout=0.0, chunk=2, batch=4, clip=1e6)
    inputs, table, weights, chunks = problem(settings, 2, seed=1)
    full, cut = (
        t.CompiledEngine(settings.replace(burn_in_gradient=flag), inputs, table, weights, seed=0)
        for flag in (True, False)
    )
    order = np.arange(4)
    assert full.epoch(chunks, order) == cut.epoch(chunks, order)
    name = "0.wh"
    assert (
        np.abs(full.shape.part(full.network.gradient, name) - cut.shape.part(cut.network.gradient, name)).max() > 1e-6
    )
    np.testing.assert_array_equal(
        full.shape.part(full.network.gradient, "head.w"), cut.shape.part(cut.network.gradient, "head.w")
    )


@pytest.mark.parametrize("engine", ["compiled", "torch"])
def test_weight_decay_is_light_until_something_is_learned(engine: str) -> None:
    draw = np.random.default_rng(0)
    inputs = draw.standard_normal((300, 1)).astype(np.float32)
    noise = draw.standard_normal((300, 1)).astype(np.float32)
    rows = np.arange(20, 240), np.arange(250, 300)

    def weights_of(answers: np.ndarray, rate: float, decay: float) -> bytes:
        settings = LSTM(
            units=16, layers=1, lookback=10, horizon=1, heads=("return",), epochs=4, learning_rate=rate,
            weight_decay=decay, engine=engine,
        )  # fmt: skip
        return t.train_network(settings, inputs, answers, *rows, seed=1).weights["0.wh"].tobytes()

    assert weights_of(noise, 1e-6, 0.9) == weights_of(noise, 1e-6, t.PLATEAU_DECAY)  # nothing is learned so slowly
    assert weights_of(inputs, 1e-2, 0.9) != weights_of(inputs, 1e-2, t.PLATEAU_DECAY)


@pytest.mark.parametrize("selection", [False, True])
def test_padding_stays_zero(selection: bool) -> None:
    settings = LSTM(units=17, layers=2, lookback=10, horizon=3, chunk=4, batch=3, selection=selection)
    inputs, table, weights, chunks = problem(settings, 5, seed=2)
    engine = t.CompiledEngine(settings, inputs, table, weights, seed=0)
    for _ in range(3):
        engine.epoch(chunks, np.arange(len(chunks)))
    rest = engine.network.flat.copy()
    for name in engine.shape.views:
        engine.shape.part(rest, name)[...] = 0
    assert not rest.any()
    assert engine.network.flat.any()


def test_the_mask_drops_the_share_it_should() -> None:
    mask = t.dropout_mask((40, 8, 64), 0.8, key=12345, layer=1)
    assert set(np.unique(mask)) == {np.float32(0), np.float32(1 / 0.8)}
    assert (mask > 0).mean() == pytest.approx(0.8, abs=0.01)
    assert (mask != t.dropout_mask((40, 8, 64), 0.8, key=12346, layer=1)).mean() > 0.25


@pytest.mark.parametrize("offset", [0, 1, 6])
def test_chunks_use_every_label_once_and_read_nothing_later(offset: int) -> None:
    ends = np.r_[50:83, 120:124, 200:231]
    chunks = t.make_chunks(ends, lookback=20, length=7, offset=offset)
    assert sorted(chunks.labels[chunks.counted].tolist()) == ends.tolist()
    for column in range(len(chunks)):
        bars, labels = chunks.bars[:, column], chunks.labels[chunks.counted[:, column], column]
        run_end = next(end for end in (82, 123, 230) if labels[-1] <= end)
        assert bars.max() <= run_end
        assert bars[0] == labels[0] - 19  # the first label sees its whole window


@pytest.mark.parametrize("selection", [False, True])
def test_a_forecasts_bytes_do_not_depend_on_its_neighbours(samples: Samples, selection: bool) -> None:
    fitted = TINY.replace(selection=selection).fit(samples)
    many = fitted.predict(samples, np.arange(400, 471))
    for row in (400, 437, 470):
        one = fitted.predict(samples, np.array([row]))
        for head, values in many.items():
            assert one[head].tobytes() == values[row - 400 : row - 399].tobytes()


def test_jobs_and_neighbouring_folds_change_no_byte(samples: Samples) -> None:
    folds = [fold.on(samples) for fold in Schedule(refit="6M").folds(samples.times, samples.known_at)]
    settings = TINY.replace(seeds=2)
    alone, together = settings.fit_many(folds[1:2]), settings.fit_many(folds, Task(jobs=2))
    for ours, theirs in zip(alone[0].members, together[1].members, strict=True):
        for name, weights in ours.items():
            assert weights.tobytes() == theirs[name].tobytes()
    assert alone[0].members[0]["0.wh"].tobytes() != alone[0].members[1]["0.wh"].tobytes()


def test_an_interrupted_fit_goes_on_with_the_same_bytes(
    samples: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folds = [fold.on(samples) for fold in Schedule(refit="6M").folds(samples.times, samples.known_at)][:4]
    whole = TINY.fit_many(folds)
    kept, trained = Task(resume=tmp_path / "kept"), []

    def train(*arguments: object) -> t.Fit:
        if len(trained) == 2:
            raise KeyboardInterrupt
        trained.append(arguments)
        return t.train_network(*arguments)

    monkeypatch.setattr("gatecast.forecasting.lstm.forecaster.train_network", train)
    with pytest.raises(KeyboardInterrupt):
        TINY.fit_many(folds, kept)
    files = sorted((tmp_path / "kept").iterdir())
    assert len(files) == 2
    files[0].write_bytes(files[0].read_bytes()[:-5])  # cut short: fitted anew
    trained[:] = [None] * 3  # no more interruptions
    again = TINY.fit_many(folds, kept)
    assert len(trained) == 3 + 3  # one damaged, two missing
    for ours, theirs in zip(whole, again, strict=True):
        assert ours.smear == theirs.smear
        for name, weights in ours.members[0].items():
            assert weights.tobytes() == theirs.members[0][name].tobytes()


def test_a_network_kept_for_other_settings_or_data_is_not_taken(samples: Samples, tmp_path: Path) -> None:
    fold = Schedule().folds(samples.times, samples.known_at)[3].on(samples)
    kept = Task(resume=tmp_path)
    TINY.fit_many([fold], kept)
    TINY.replace(learning_rate=1e-3).fit_many([fold], kept)
    TINY.fit_many([replace(fold, train=fold.train[1:])], kept)
    TINY.replace(seed=1).fit_many([fold], kept)
    TINY.fit_many([fold], kept)
    assert len(list(tmp_path.iterdir())) == 4


COLD = """
import hashlib, numpy as np
from gatecast.forecasting.lstm import LSTM
from gatecast.forecasting.lstm.training import train_network
draw = np.random.default_rng(0)
inputs, table = draw.standard_normal((90, 3)).astype("float32"), draw.standard_normal((90, 8)).astype("float32")
settings = LSTM(units=16, layers=2, lookback=10, epochs=3, chunk=5)
fit = train_network(settings, inputs, table, np.arange(20, 60), np.arange(65, 90), 1)
print(hashlib.sha256(b"".join(fit.weights[name].tobytes() for name in sorted(fit.weights))).hexdigest())
"""


def test_code_fresh_from_the_compiler_and_from_the_cache_gives_the_same_bytes(tmp_path: Path) -> None:
    environment = {**os.environ, "GATECAST_CACHE": str(tmp_path)}
    environment.pop("NUMBA_CACHE_DIR", None)
    hashes = [
        subprocess.run([sys.executable, "-c", COLD], env=environment, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert hashes[0] == hashes[1] != ""
    assert any((tmp_path / "kernel").glob("train_epoch.*"))


def test_chunks_are_shorter_where_there_is_much_to_train_on() -> None:
    assert [LSTM().labels(rows) for rows in (4_999, 5_000)] == [32, 16]
    assert LSTM(chunk=20).labels(5_000) == 20


def test_early_stopping_restores_the_best_weights(samples: Samples) -> None:
    fold = Schedule().folds(samples.times, samples.known_at)[3].on(samples)
    settings = LSTM(units=32, layers=1, seeds=1, epochs=40, patience=3, learning_rate=1e-2, chunk=32)
    lesson = settings._prepare(fold)
    fit = t.train_network(settings, lesson.inputs, lesson.table, lesson.train, lesson.validation, 1)
    assert len(fit.validation_loss) == fit.best_epoch + 3 < 40
    assert min(fit.validation_loss) == fit.validation_loss[fit.best_epoch - 1]
    engine = t.CompiledEngine(settings, lesson.inputs, lesson.table, fit.weights, 1)
    again = engine.check(t.make_chunks(lesson.validation, settings.lookback, settings.chunk))
    assert again == fit.validation_loss[fit.best_epoch - 1]


def test_an_exploding_loss_is_seen(samples: Samples) -> None:
    fold = Schedule().folds(samples.times, samples.known_at)[0].on(samples)
    lesson = TINY._prepare(fold)
    table = lesson.table.copy()
    table[lesson.train[5], 0] = np.inf
    with pytest.raises(TrainingError, match="no longer finite in epoch 1"):
        t.train_network(TINY, lesson.inputs, np.where(np.isinf(table), 1e30, table), lesson.train, lesson.validation, 1)


def test_the_scaler_knows_only_training_bars(samples: Samples) -> None:
    fold = Schedule().folds(samples.times, samples.known_at)[2].on(samples)
    changed = samples.features.copy()
    seen = np.zeros(len(changed), bool)
    for step in range(30):
        seen[samples.ends[fold.train] - step] = True
    changed[~seen] += 100.0
    other = replace(fold, samples=replace(samples, features=changed))
    ours, theirs = TINY._prepare(fold).scaler, TINY._prepare(other).scaler
    np.testing.assert_array_equal(ours.centre, theirs.centre)
    np.testing.assert_array_equal(ours.spread, theirs.spread)


@pytest.mark.parametrize("selection", [False, True])
def test_stored_and_back_is_the_same_bytes(samples: Samples, selection: bool) -> None:
    fitted = TINY.replace(selection=selection).fit(samples)
    again = FittedLSTM.from_state(*fitted.state())
    rows = np.arange(300, 310)
    if selection:
        np.testing.assert_array_equal(again.selected, fitted.selected)
        np.testing.assert_array_equal(again.selection(samples, rows), fitted.selection(samples, rows))
    for head, values in fitted.predict(samples, rows).items():
        assert values.tobytes() == again.predict(samples, rows)[head].tobytes()


def test_what_was_said_while_fitting_is_what_the_network_says_when_asked(samples: Samples) -> None:
    folds = [fold.on(samples) for fold in Schedule(refit="6M").folds(samples.times, samples.known_at)]
    fitted = TINY.replace(seeds=2).fit_many(folds[:1])[0]
    rows = np.r_[folds[0].test, folds[0].validation, folds[0].train[-5:]]
    assert fitted.said is not None
    assert (fitted.said.places(samples, samples.ends[folds[0].validation]) >= 0).all()
    other = replace(samples, features=samples.features + 1.0)  # other bars at the same places
    sent = pickle.loads(pickle.dumps(fitted))
    assert sent.said is None
    for asked in (samples, other):
        both, each = fitted.predict_members(asked, rows)
        again, alone = sent.predict_members(asked, rows)
        for ours, theirs in zip([both, *each], [again, *alone], strict=True):
            assert {head: values.tobytes() for head, values in ours.items()} == {
                head: values.tobytes() for head, values in theirs.items()
            }


def test_it_finds_what_is_planted(samples: Samples) -> None:
    fold = Schedule(train="5Y", validation=0.2, minimum="4Y").folds(samples.times, samples.known_at)[0].on(samples)
    late = np.flatnonzero((samples.times >= fold.cutoff) & ~np.isnat(samples.known_at))
    fitted = LSTM(units=32, layers=1, seeds=2).fit_many([replace(fold, test=late)])[0]
    forecast = fitted.predict(samples, late)["return"][:, -1]
    answer = samples.targets["return"].value[samples.ends[late], -1]
    assert np.corrcoef(forecast, answer)[0, 1] > 0.15


@pytest.mark.parametrize(
    "wrong", [{"lookback": 9}, {"lookback": 101}, {"units": 15}, {"units": 257}, {"horizon": 23}, {"heads": ("price",)}]
)
def test_values_outside_the_ranges_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        LSTM(**wrong)


def test_samples_of_another_lookback_are_refused(samples: Samples) -> None:
    with pytest.raises(SettingsError, match="30 bars of context"):
        LSTM(lookback=40).fit(samples)


def test_heads_begin_with_the_share_of_ones() -> None:
    from gatecast.forecasting.lstm.training import first_forecasts

    random = np.random.default_rng(0)
    settings = LSTM(horizon=1, heads=("return", "regime"))
    answers = np.column_stack([random.standard_normal(900), random.random(900) < 1 / 3]).astype(float)
    answers[::7, 1] = np.nan
    bias = first_forecasts(answers, settings)
    assert bias[0] == 0
    assert 1 / (1 + np.exp(-bias[1])) == pytest.approx(np.nanmean(answers[:, 1]), abs=0.002)
    assert np.isfinite(first_forecasts(np.full((5, 2), np.nan), settings)).all()


def test_selection_is_the_formula_and_begins_as_the_plain_network() -> None:
    settings = LSTM(units=16, layers=1, lookback=10, horizon=1, dropout=0.0, chunk=2, batch=4, heads=("return",))
    inputs, table, weights, chunks = problem(settings.replace(selection=True), 3, seed=4)
    logits = inputs @ weights["select.w"] + PACE * weights["select.b"]
    share = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    plain = {name: array for name, array in weights.items() if not name.startswith("select")}
    selecting = t.CompiledEngine(settings.replace(selection=True), inputs, table, weights, seed=0)
    by_hand = t.CompiledEngine(settings, (3 * share * inputs).astype(np.float32), table, plain, seed=0)
    assert selecting.check(chunks) == pytest.approx(by_hand.check(chunks), rel=1e-5)
    np.testing.assert_allclose(shares(weights, inputs), share, rtol=1e-5)
    start = t.initial_weights(settings.replace(selection=True), 3, 1, 4) | {"head.w": weights["head.w"]}
    begun = t.CompiledEngine(settings.replace(selection=True), inputs, table, start, seed=0)
    without = t.CompiledEngine(settings, inputs, table, {name: start[name] for name in start if name in plain}, seed=0)
    assert begun.check(chunks) == pytest.approx(without.check(chunks), rel=1e-6)


def test_selection_finds_the_feature_that_matters_among_noise() -> None:
    """One useful feature, eight of noise: its share is the largest at every refit, and no skill is lost."""
    bars = synthetic.b1(2600, seed=3, r2=0.05, symbols=2)
    noise = np.random.default_rng(0).standard_normal((len(bars), 8))
    bars = bars.with_columns(pl.Series(f"noise_{i}", noise[:, i]) for i in range(8))
    features = ("noise_0", "noise_1", "x", *(f"noise_{i}" for i in range(2, 8)))
    samples = make_samples(bars, features, horizon=1)["index"]
    settings = LSTM(units=32, layers=1, seeds=2, horizon=1, heads=("return",), window="expanding")
    gained = {}
    for selection in (False, True):
        found = walk_forward([settings.replace(selection=selection)], samples, Schedule(refit="2Y", minimum="6Y"))
        rows = found.rows[~np.isnat(samples.known_at[found.rows])]
        answer = samples.targets["return"].value[samples.ends[rows], 0]
        gained[selection] = r2_zero(answer, found.values["lstm"]["return"][rows, 0])
    fitted = found.fitted["lstm"]
    assert fitted.selected.shape == (len(found.folds), 9)
    assert (fitted.selected.argmax(1) == features.index("x")).all()
    later = fitted.selection(samples, found.folds[-1].test)
    np.testing.assert_allclose(later.sum(1), 1, rtol=1e-5)
    assert later.mean(0).argmax() == features.index("x")
    assert gained[True] >= gained[False]
    assert gained[True] > 0.02


def test_a_network_without_selection_says_so(samples: Samples) -> None:
    with pytest.raises(SettingsError, match="selection = true"):
        TINY.fit(samples).selection(samples, np.arange(3))


def test_a_label_that_counts_twice_has_twice_the_gradient() -> None:
    settings = LSTM(units=16, layers=1, lookback=10, horizon=2, dropout=0.0, chunk=3, batch=4, clip=1e6)
    inputs, table, weights, chunks = problem(settings, 3, seed=6)
    counts = np.random.default_rng(0).uniform(0.1, 3.0, len(inputs)).astype(np.float32)
    order = np.arange(4)
    compiled, twin = (kind(settings, inputs, table, weights, 0, counts) for kind in (t.CompiledEngine, t.TorchEngine))
    assert compiled.epoch(chunks, order) == pytest.approx(twin.epoch(chunks, order), rel=2e-5)
    ours = compiled.shape.part(compiled.network.gradient, "head.b") / chunks.counted[:, order].sum()
    np.testing.assert_allclose(ours, twin.network.weights(gradients=True)["head.b"], rtol=2e-4, atol=1e-6)
    double = t.CompiledEngine(settings, inputs, table, weights, 0, 2 * counts)
    once = t.CompiledEngine(settings, inputs, table, weights, 0, counts)
    assert double.check(chunks) == pytest.approx(2 * once.check(chunks), rel=1e-6)


def test_recent_labels_count_more_in_the_lesson_and_validation_does_not_change(samples: Samples) -> None:
    fold = Schedule().folds(samples.times, samples.known_at)[3].on(samples)
    plain, recent = TINY._prepare(fold), TINY.replace(half_life=0.5)._prepare(fold)
    assert (plain.counts == 1).all()
    np.testing.assert_allclose(recent.counts[recent.train], fold.recency(0.5), rtol=1e-6)
    assert (recent.counts[recent.validation] == 1).all()
    np.testing.assert_array_equal(plain.table, recent.table)


def test_a_window_of_its_own_is_the_schedules_with_that_length(samples: Samples) -> None:
    mine = Schedule(refit="6M").folds(samples.times, samples.known_at)[-1].on(samples)
    theirs = Schedule(refit="6M", expanding=True).folds(samples.times, samples.known_at)[-1].on(samples)
    ours, expected = TINY.replace(window="expanding").fit_many([mine])[0], TINY.fit_many([theirs])[0]
    for name, weights in expected.members[0].items():
        assert weights.tobytes() == ours.members[0][name].tobytes()


def test_rows_that_come_late_now_and_then_are_learned_from_once() -> None:
    bars = synthetic.a1(800, seed=1).with_row_index("i")
    late = pl.when(pl.col("i") % 50 == 49).then(pl.col("known_at") + timedelta(days=2)).otherwise(pl.col("known_at"))
    own = make_samples(bars.with_columns(known_at=late).drop("i"), ("ret_log_1",))["index"]
    fold = Schedule(refit="6M").folds(own.times, own.known_at)[-1].on(own)
    assert len(own.first_of_end(fold.validation)) < len(fold.validation)  # two decisions on one window
    assert np.isfinite(TINY.replace(horizon=5).fit_many([fold])[0].smear)
