"""The Temporal Fusion Transformer: its parts against torch's and scikit-learn's own, and what it learns and shows."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.metrics import log_loss, mean_pinball_loss
from torch import nn

from gatecast.errors import PluginError, SettingsError, StoreError
from gatecast.forecasting.forecaster import Task, from_state, state_of
from gatecast.forecasting.models.tft import TFT, FittedTFT, Network, Outputs, initial_weights, network_loss
from gatecast.forecasting.schedule import Fold, Schedule
from gatecast.samples.windows import Samples, make_samples

SMALL = TFT(units=8, batch=64, epochs=6)
QUICK = TFT(units=8, epochs=1)


@pytest.fixture(scope="module")
def fold(samples: Samples) -> Fold:
    """Two thirds of the time to learn from, the rest to forecast."""
    cutoff = np.sort(samples.times)[2 * len(samples) // 3]
    train, validation = Schedule().split(samples.times, samples.known_at, np.flatnonzero(samples.known_at <= cutoff))
    return Fold(0, train, validation, np.flatnonzero(samples.times >= cutoff), cutoff, samples)


@pytest.fixture(scope="module")
def fitted(fold: Fold) -> FittedTFT:
    return SMALL.fit_many([fold])[0]


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[head], other[head]) for head in one)


def test_shapes_units_and_ascending_quantiles(fitted: FittedTFT, fold: Fold) -> None:
    samples, rows = fold.data, fold.test[:50]
    forecast = fitted.predict(samples, rows)
    assert {head: one.shape for head, one in forecast.items()} == {
        "return": (50, 5), "direction": (50,), "volatility": (50,), "regime": (50,)
    }  # fmt: skip
    assert (forecast["volatility"] > 0).all()
    for head in ("direction", "regime"):
        assert ((forecast[head] > 0) & (forecast[head] < 1)).all()
    quantiles = fitted.quantiles(samples, rows)
    assert quantiles.shape == (50, 5, 3)
    assert (np.diff(quantiles, axis=2) >= 0).all()
    np.testing.assert_allclose(quantiles.mean(2), forecast["return"], rtol=1e-12)
    reversed_bias = fitted.weights["path_bias"][:, ::-1].copy()
    crossed = replace(fitted, weights={**fitted.weights, "path_bias": reversed_bias})
    assert (np.diff(crossed.quantiles(samples, rows), axis=2) >= 0).all()


def test_it_learns_the_planted_return_and_finds_its_feature(fitted: FittedTFT, fold: Fold) -> None:
    samples = fold.data
    rows = fold.test[np.isfinite(samples.targets["return"].value[samples.ends[fold.test], -1])]
    answer = samples.targets["return"].value[samples.ends[rows]]
    error = answer - fitted.predict(samples, rows)["return"]
    assert 1 - (error[:, -1] ** 2).sum() / (answer[:, -1] ** 2).sum() > 0.05
    weights = fitted.selection(samples, rows)
    assert sum(weights.values()) == pytest.approx(1)
    assert weights["x"] > weights["ret_log_1"]
    below = (answer[:, :, None] < fitted.quantiles(samples, rows)).mean((0, 1))
    np.testing.assert_allclose(below, SMALL.quantiles, atol=0.08)


def test_attention_sums_to_one_and_sees_no_later_step(fitted: FittedTFT, fold: Fold) -> None:
    weights = fitted.attention(fold.data, fold.test[:20])
    assert weights.shape == (5, 35)
    np.testing.assert_allclose(weights.sum(1), 1)
    later = np.triu(np.ones((5, 35), bool), 31)
    assert (weights[later] == 0).all()
    assert (weights[~later] > 0).all()


def test_what_happens_later_changes_nothing(fitted: FittedTFT, fold: Fold) -> None:
    samples = fold.data
    after = samples.time > fold.cutoff
    features = np.where(after[:, None], 7.0, samples.features)
    targets = {
        head: replace(one, value=np.where((after[:, None] if one.value.ndim == 2 else after), 0.5, one.value))
        for head, one in samples.targets.items()
    }
    changed = replace(samples, features=features, targets=targets)
    rows = np.flatnonzero(samples.times <= fold.cutoff)[-40:]
    assert same(fitted.predict(samples, rows), fitted.predict(changed, rows))
    again = QUICK.fit_many([replace(fold, samples=changed)])[0]
    assert same(QUICK.fit_many([fold])[0].predict(samples, rows), again.predict(samples, rows))


def test_a_row_is_forecast_as_among_others_and_a_symbol_too(
    fitted: FittedTFT, fold: Fold, market: pl.DataFrame
) -> None:
    samples, rows = fold.data, fold.test[-7:]
    together = fitted.predict(samples, rows)
    for i, row in enumerate(rows):
        alone = fitted.predict(samples, np.array([row]))
        assert same(alone, {head: one[i : i + 1] for head, one in together.items()})
    second = make_samples(market.filter(pl.col("symbol") == samples.symbols[1]), ("ret_log_1", "x"))["index"]
    assert same(fitted.predict(second, np.arange(len(second))[-7:]), together)
    unknown = fitted.predict(replace(samples, symbols=("other", "another")), rows)
    assert not same(unknown, together)
    assert np.isfinite(unknown["return"]).all()


def test_the_store_gives_back_the_same_and_refuses_another(fitted: FittedTFT, fold: Fold) -> None:
    arrays, settings = state_of(QUICK, fitted)
    for array in arrays.values():
        array.setflags(write=False)  # as a file mapped into memory
    back = from_state(arrays, json.loads(json.dumps(settings)))
    assert same(back.predict(fold.data, fold.test), fitted.predict(fold.data, fold.test))
    with pytest.raises(StoreError, match="tft"):
        from_state({**arrays, "weights.steps": arrays["weights.steps"][1:]}, settings)


def test_a_fit_that_forecasts_where_torch_cannot_be_imported_says_so(
    fitted: FittedTFT, fold: Fold, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "torch.py").write_text("raise OSError('libc10.so: no such file')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "torch")
    with pytest.raises(PluginError, match=r"\(OSError: libc10.so: no such file\). Install it again: pip install"):
        fitted.predict(fold.samples, fold.test[:1])


def test_a_fit_is_kept_for_the_folds_that_follow_and_cores_change_nothing(fold: Fold) -> None:
    folds = [replace(fold, index=i, cutoff=fold.cutoff + np.timedelta64(i, "D")) for i in range(3)]
    done: list[int] = []
    fits = QUICK.replace(every=2).fit_many(folds, Task(on_fit=done.append))
    assert done == [2, 1]
    assert fits[0] is fits[1]
    others = QUICK.replace(every=2).fit_many(folds, Task(jobs=2))
    for one, other in zip(fits, others, strict=True):
        assert same(one.weights, other.weights)
    assert not same(fits[1].weights, fits[2].weights)  # another cutoff, another seed


def test_a_head_without_answers_stays_where_it_began(fold: Fold) -> None:
    samples = fold.data
    missing = {head: np.full(len(samples.features), np.nan) for head in ("volatility", "regime")}
    targets = samples.targets | {head: replace(samples.targets[head], value=one) for head, one in missing.items()}
    fitted = QUICK.fit_many([replace(fold, samples=replace(samples, targets=targets))])[0]
    forecast = fitted.predict(samples, fold.test)
    assert (forecast["regime"] == 0.5).all()
    np.testing.assert_allclose(forecast["volatility"], samples.facts.baseline[samples.ends[fold.test]])
    assert np.isfinite(forecast["return"]).all()
    assert np.std(forecast["direction"]) > 0


def test_the_loss_counts_the_answers_that_there_are() -> None:
    rng = np.random.default_rng(0)
    path, last = rng.normal(size=(40, 5, 3)), rng.normal(size=(40, 3))
    answers = rng.normal(size=(40, 8))
    answers[:, [5, 7]] = rng.integers(0, 2, (40, 2))
    known = rng.random((40, 8)) < 0.7
    steps = [
        sum(mean_pinball_loss(answers[k, i], path[k, i, q], alpha=a) for q, a in enumerate((0.1, 0.5, 0.9)))
        for i, k in enumerate(known.T[:5])
    ]
    chance = 1 / (1 + np.exp(-last))
    both = sum(log_loss(answers[known[:, i], i], chance[known[:, i], i - 5]) for i in (5, 7))
    variance = 0.5 * np.mean((answers[known[:, 6], 6] - last[known[:, 6], 1]) ** 2)
    given = torch.tensor(path, requires_grad=True), torch.tensor(last, requires_grad=True)
    nothing = torch.zeros(0)
    loss = network_loss(TFT(), Outputs(*given, nothing, nothing), torch.tensor(np.where(known, answers, np.nan)))
    assert loss.item() == pytest.approx(np.mean(steps) + both + variance)
    loss.backward()
    assert given[0].grad is not None
    assert given[1].grad is not None
    assert (given[0].grad.numpy()[~known[:, :5]] == 0).all()
    assert (given[1].grad.numpy()[~known[:, 5:]] == 0).all()


@pytest.fixture
def network() -> Network:
    """A network of double precision that has nothing at zero or one."""
    rng = np.random.default_rng(1)
    start = initial_weights(QUICK, features=3, symbols=2, seed=0)
    return Network(QUICK, {name: torch.tensor(one + 0.3 * rng.normal(size=one.shape)) for name, one in start.items()})


def test_gates_and_residual_networks_are_the_papers(network: Network) -> None:
    w, a, context = network.weights, torch.randn(9, 8).double(), torch.randn(9, 8).double()
    hidden = nn.functional.elu(a @ w["enrich.in"] + w["enrich.in_bias"] + context @ w["enrich.context"])
    hidden = hidden @ w["enrich.out"] + w["enrich.out_bias"]
    value, gate = (hidden @ w["enrich.glu"] + w["enrich.glu_bias"]).chunk(2, -1)
    norm = nn.LayerNorm(8).double()
    norm.load_state_dict({"weight": w["enrich.norm"][0], "bias": w["enrich.norm_bias"][0]})
    expected = norm(a + torch.sigmoid(gate) * value)
    torch.testing.assert_close(network.residual("enrich", a, context), expected)


def test_attention_is_the_mean_of_heads_that_share_their_values(network: Network) -> None:
    w, layers = network.weights, torch.randn(12, 4, 8).double()
    mask = torch.ones(5, 12, dtype=torch.bool).tril(7)
    heads = []
    for head in (slice(0, 4), slice(4, 8)):
        query, key = (layers[-5:] @ w["query"][:, head]).transpose(0, 1), (layers @ w["key"][:, head]).transpose(0, 1)
        value = (layers @ w["value"]).transpose(0, 1)
        heads.append(nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask))
    expected = torch.stack(heads).mean(0).transpose(0, 1) @ w["mix"]
    torch.testing.assert_close(network.attend(layers)[0], expected)


def test_the_encoder_is_an_lstm_and_the_selection_a_weighted_sum(network: Network) -> None:
    lstm = nn.LSTM(8, 8).double()
    names = {"weight_ih_l0": "wx", "weight_hh_l0": "wh", "bias_ih_l0": "bx", "bias_hh_l0": "bh"}
    lstm.load_state_dict({name: network.weights[f"encoder.{own}"] for name, own in names.items()})
    inputs, first = torch.randn(6, 3, 8).double(), (torch.randn(1, 3, 8).double(), torch.randn(1, 3, 8).double())
    torch.testing.assert_close(network.lstm("encoder", inputs, first), lstm(inputs, first))
    variables, context = torch.randn(3, 6, 8).double(), torch.randn(6, 8).double()
    total, weights = network.select("temporal", variables, context)
    torch.testing.assert_close(weights.sum(1), torch.ones(6).double())
    each = network.residual("temporal.each", variables)
    torch.testing.assert_close(total, sum(weights[:, i, None] * each[i] for i in range(3)))


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"units": 10, "attention_heads": 4}, "4 attention heads"),
        ({"quantiles": (0.1, 0.5)}, "around"),
        ({"quantiles": ()}, "around"),
    ],
)
def test_settings_that_make_no_network_are_refused(settings: dict[str, object], why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        TFT(**settings)


def test_samples_of_another_length_are_refused(fold: Fold) -> None:
    with pytest.raises(SettingsError, match="lookback 30 and horizon 5, the TFT 20 and 5"):
        TFT(lookback=20).fit_many([fold])
