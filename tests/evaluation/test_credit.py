"""What a model is worth to the ensemble: against recombinations by hand, useless and useful members planted."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
from made_up import made_up, with_values
from scipy import stats

from gatecast.chain import stored_samples
from gatecast.compute.disk import Disk
from gatecast.compute.parallel import fan_out
from gatecast.evaluation import credit
from gatecast.evaluation.credit import credit_of, without
from gatecast.experiment import Experiment
from gatecast.forecasting.combining.ensemble import Ensemble
from gatecast.forecasting.lstm import LSTM
from gatecast.forecasting.models.forest import Forest
from gatecast.forecasting.schedule import Schedule
from gatecast.forecasting.walkforward import Forecasts
from gatecast.market import synthetic
from gatecast.runs import run
from gatecast.samples.windows import Samples, make_samples

FloatArray = np.ndarray[Any, np.dtype[np.float64]]
Row = dict[str, Any]
LSTM_ONLY = Ensemble(members=("lstm",), volatility_members=("lstm",))


def with_linear(forecasts: Forecasts, **log_changes: FloatArray) -> Forecasts:
    """The forecasts with rivals of variance that differ from the log-HAR by these logs."""
    base = forecasts.values["har"]["volatility"]
    for name, change in log_changes.items():
        forecasts = with_values(forecasts, name, volatility=base * np.exp(change))
    return forecasts


def found(forecasts: Forecasts, ensemble: Ensemble) -> dict[tuple[str, str], Row]:
    """(head, models) -> row, of one class."""
    rows = credit_of({"index": ensemble.combine(forecasts)}, ensemble)
    assert {row["asset_class"] for row in rows} <= {"index"}
    return {(row["head"], "+".join(row["models"])): row for row in rows}


def oracle_variance(samples: Samples) -> FloatArray:
    return np.nan_to_num(samples.targets["volatility"].value[samples.ends], nan=-7.7)


@pytest.fixture(scope="module")
def forecasts(samples: Samples) -> Forecasts:
    """Three members with some skill, and every forecast of variance that a run has."""
    noise = np.random.default_rng(4).standard_normal((3, len(samples)))
    some = made_up(samples, seed=1, skill={"lstm": 0.10, "forest": 0.05, "logistic": 0.02})
    return with_linear(some, har_symbol=0.2 * noise[0], har_class=0.2 * noise[1], residual_lstm=0.2 * noise[2])


# ── the numbers ───────────────────────────────────────────────────────────────────────────────────


def loss_by_hand(forecasts: Forecasts, head: str) -> FloatArray:
    """(samples,) of the forecast in force, by its formula."""
    samples = forecasts.samples
    answer = samples.targets[head].value[samples.ends]
    forecast = forecasts.values["ensemble"][head]
    if head == "return":
        return (answer[:, -1] - forecast[:, -1]) ** 2 / samples.facts.sigma[samples.ends] ** 2 / samples.horizon
    if head == "volatility":
        return np.exp(answer) / forecast - np.log(np.exp(answer) / forecast) - 1
    return (forecast - answer) ** 2


@pytest.mark.parametrize("head", ["return", "direction", "volatility", "regime"])
def test_a_row_is_the_daily_losses_of_two_whole_recombinations(forecasts: Forecasts, head: str) -> None:
    ensemble = Ensemble()
    row = found(forecasts, ensemble)[head, "lstm"]
    left = ensemble.replace(
        members=("forest", "logistic"), volatility_members=("har_symbol", "har_class", "har_smooth", "constant", "har")
    )
    both = [loss_by_hand(one.combine(forecasts), head) for one in (ensemble, left)]
    scored = np.isfinite(both[0])
    samples = forecasts.samples
    sessions = samples.sessions[scored]
    days = np.array([[loss[scored][sessions == day].mean() for loss in both] for day in np.unique(sessions)])
    assert row["n"] == len(days)
    assert row["with"] == pytest.approx(days[:, 0].mean())
    assert row["without"] == pytest.approx(days[:, 1].mean())
    assert row["more"] == pytest.approx(days[:, 1].mean() / days[:, 0].mean() - 1)
    saved, n, h = days[:, 1] - days[:, 0], len(days), samples.horizon_sessions
    centred = saved - saved.mean()
    spread = sum((1 if k == 0 else 2) * (centred[k:] @ centred[: n - k]) / n for k in range(h))
    correction = (n + 1 - 2 * h + h * (h - 1) / n) / n  # Harvey, Leybourne and Newbold
    statistic = saved.mean() / np.sqrt(spread / n) * np.sqrt(correction)
    assert row["statistic"] == pytest.approx(statistic)
    assert row["pvalue"] == pytest.approx(2 * stats.t.sf(abs(statistic), n - 1))


@pytest.mark.parametrize(
    ("models", "members", "absent"),
    [
        ("residual_lstm", ("har_symbol", "har_class", "har_smooth", "lstm", "constant", "har"), ("residual_lstm",)),
        ("har_class", ("har_symbol", "har_smooth", "lstm", "constant", "har"), ()),
        ("lstm+residual_lstm", ("har_symbol", "har_class", "har_smooth", "constant", "har"), ("residual_lstm",)),
    ],
)
def test_of_the_variance_each_member_the_correction_and_both_networks_are_left_out(
    samples: Samples, forecasts: Forecasts, models: str, members: tuple[str, ...], absent: tuple[str, ...]
) -> None:
    oracle = oracle_variance(samples) - np.log(forecasts.values["har"]["volatility"])
    corrected = with_linear(forecasts, residual_lstm=oracle)  # a correction that pays, so that it has a share
    row = found(corrected, Ensemble())["volatility", models]
    kept = {name: heads for name, heads in corrected.values.items() if name not in absent}
    one = Ensemble(volatility_members=members).combine(Forecasts(samples, corrected.folds, kept))
    scored = np.isfinite(loss_by_hand(one, "volatility"))
    sessions = samples.sessions[scored]
    daily = [loss_by_hand(one, "volatility")[scored][sessions == day].mean() for day in np.unique(sessions)]
    assert row["without"] == pytest.approx(np.mean(daily))


def test_every_head_has_its_own_models(forecasts: Forecasts) -> None:
    rows = found(forecasts, Ensemble())
    by_head: dict[str, set[str]] = {}
    for head, models in rows:
        by_head.setdefault(head, set()).add(models)
    three = {"lstm", "forest", "logistic"}
    linear = {"har_symbol", "har_class", "har_smooth", "har"}
    variances = linear | {"lstm", "constant", "residual_lstm", "lstm+residual_lstm"}
    assert by_head == {"return": three, "direction": three, "volatility": variances, "regime": three | variances}


def test_p_values_are_adjusted_for_all_models_of_a_head(forecasts: Forecasts) -> None:
    from statsmodels.stats.multitest import multipletests

    rows = [row for (head, _), row in found(forecasts, Ensemble()).items() if head == "direction"]
    adjusted = multipletests([row["pvalue"] for row in rows], method="holm")[1]
    assert [row["pvalue_holm"] for row in rows] == pytest.approx(adjusted.tolist())


# ── what is planted is found ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("head", ["return", "direction", "volatility", "regime"])
def test_an_oracle_among_the_members_has_nearly_all_of_the_credit(samples: Samples, head: str) -> None:
    forecasts = made_up(samples, seed=3, skill={"lstm": 1.0})
    if head == "volatility":
        forecasts = with_values(forecasts, "lstm", volatility=np.exp(oracle_variance(samples)))
        forecasts = with_linear(forecasts, har_symbol=np.zeros(len(samples)))
    rows = found(forecasts, Ensemble(volatility_members=("har", "har_symbol", "lstm"), volatility_base=("har",)))
    mine = rows[head, "lstm"]
    assert mine["more"] > 0.1
    assert mine["statistic"] > 4
    assert mine["worth"] == "helps"
    others = [row for (of, models), row in rows.items() if of == head and models != "lstm"]
    assert others
    assert all(row["more"] < mine["more"] / 4 for row in others)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("skill_of_another", "most"), [(0.0, 0.01), (0.1, 0.04)])
def test_a_useless_member_is_worth_about_nothing(
    samples: Samples, seed: int, skill_of_another: float, most: float
) -> None:
    forecasts = made_up(samples, seed=seed, skill={"forest": skill_of_another})  # whose skill it dilutes
    rng = np.random.default_rng(seed)
    forecasts = with_linear(forecasts, har_symbol=0.1 * rng.standard_normal(len(samples)))
    rows = found(forecasts, Ensemble(volatility_members=("har", "har_symbol", "constant"), volatility_base=("har",)))
    for head, models in (("return", "lstm"), ("direction", "lstm"), ("volatility", "har_symbol"), ("regime", "lstm")):
        assert abs(rows[head, models]["more"]) < most
        assert rows[head, models]["worth"] != "helps"


def test_a_member_that_misleads_is_said_to_hurt(samples: Samples) -> None:
    forecasts = made_up(samples, seed=2)
    worse = 1.5 * np.random.default_rng(0).standard_normal(len(samples))
    ensemble = Ensemble(volatility_members=("har", "har_symbol"), volatility_base=("har", "har_symbol"))
    row = found(with_linear(forecasts, har_symbol=worse), ensemble)["volatility", "har_symbol"]
    assert (row["worth"], row["more"] < -0.05, row["statistic"] < -4) == ("hurts", True, True)


def test_a_correction_that_never_paid_is_worth_nothing(samples: Samples, forecasts: Forecasts) -> None:
    noise = np.random.default_rng(0).standard_normal(len(samples))
    row = found(with_linear(forecasts, residual_lstm=noise), Ensemble())["volatility", "residual_lstm"]
    assert (row["worth"], row["more"]) == ("nothing", pytest.approx(0.0, abs=1e-12))
    assert np.isnan(row["statistic"])


# ── the edges ─────────────────────────────────────────────────────────────────────────────────────


def test_without_the_only_member_nothing_would_be_left(samples: Samples) -> None:
    assert found(made_up(samples), LSTM_ONLY) == {}


def test_several_classes_are_shown_together_and_each_by_itself(samples: Samples, forecasts: Forecasts) -> None:
    bars = synthetic.b1(900, seed=3, r2=0.05)
    other = made_up(make_samples(bars, ("ret_log_1", "x"))["index"], seed=5, skill={"lstm": 0.1})
    ensemble = Ensemble(members=("lstm", "forest"), volatility_members=("har", "lstm"))
    both = {"index": ensemble.combine(forecasts), "crypto": ensemble.combine(other)}
    rows = {(row["asset_class"], row["head"], *row["models"]): row for row in credit_of(both, ensemble)}
    assert {scope for scope, *_ in rows} == {"all", "index", "crypto"}
    alone = credit_of({"crypto": both["crypto"]}, ensemble)
    assert [row for row in rows.values() if row["asset_class"] == "crypto"] == alone
    days = [set(one.samples.sessions[np.isfinite(loss_by_hand(one, "direction"))].tolist()) for one in both.values()]
    assert rows["all", "direction", "lstm"]["n"] == len(days[0] | days[1])


def test_a_run_keeps_the_credit_of_its_models() -> None:
    experiment = Experiment(
        bars=synthetic.b1(900, seed=1, r2=0.05), features=("ret_log_1", "x"), schedule=Schedule(refit="6M"),
        model={"lstm": LSTM(units=16, layers=1, seeds=1, epochs=2), "forest": Forest(trees=5)},
        models=("lstm", "forest", "logistic", "ridge"),
    )  # fmt: skip
    rows = run(experiment).scores["credit"]
    assert {row["head"] for row in rows} == {"return", "direction", "volatility", "regime"}
    scored = {row["head"]: row["with"] for row in rows}
    models = {row["head"]: row["loss"] for row in run(experiment).scores["models"] if row["model"] == "ensemble"}
    assert scored == pytest.approx(models)  # one symbol: a day is a bar


class Watched(Ensemble):
    """An ensemble that notes the heads that it is asked to combine beside the variance."""

    asked: ClassVar[list[set[str]]] = []

    def combine(self, forecasts: Forecasts, *given: Any, **named: Any) -> Forecasts:
        self.asked.append({head for head in ("return", "direction", "regime") if head in named["heads"]})
        return super().combine(forecasts, *given, **named)


def test_only_heads_that_the_models_have_a_part_in_are_combined_again(forecasts: Forecasts) -> None:
    combined = Ensemble().combine(forecasts)
    for models, heads in {
        ("har_class",): {"regime"}, ("residual_lstm",): {"regime"}, ("logistic",): {"return", "direction", "regime"},
        ("lstm", "residual_lstm"): {"regime"},
    }.items():  # fmt: skip
        Watched.asked.clear()
        made = without(combined, Watched(), models).values["without"]
        assert [heads] == Watched.asked, models
        assert set(made) - {"volatility"} == heads


def test_the_credit_is_the_same_on_any_number_of_cores(forecasts: Forecasts) -> None:
    combined = {"index": Ensemble().combine(forecasts)}
    one, two = (credit_of(combined, Ensemble(), jobs=jobs, importable=True) for jobs in (1, 2))
    assert repr(one) == repr(two)


@pytest.mark.parametrize(("most", "processes"), [(1, False), (2**29, True)])
def test_what_is_too_large_to_be_sent_is_shared_by_threads(
    forecasts: Forecasts, monkeypatch: pytest.MonkeyPatch, most: int, processes: bool
) -> None:
    asked, copied = list[bool](), list[Forecasts]()
    light = credit._light
    monkeypatch.setattr(credit, "_light", lambda one: copied.append(one) or light(one))

    def watched(*given: Any, **options: Any) -> Any:
        asked.append(options["processes"])
        return fan_out(*given, **options)

    combined = {"index": Ensemble().combine(forecasts)}
    monkeypatch.setattr(credit, "MOST_SENT", most)
    monkeypatch.setattr(credit, "fan_out", watched)
    alone = repr(credit_of(combined, Ensemble(), importable=True))
    assert repr(credit_of(combined, Ensemble(), jobs=2, importable=True)) == alone
    assert repr(credit_of(combined, Ensemble(), jobs=2)) == alone
    assert asked == [False, processes, False]
    assert len(copied) == processes  # threads read what is there, of finished classes on disk


def test_other_processes_read_several_classes_from_disk(
    samples: Samples, forecasts: Forecasts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the classes of a large market each process would else hold a copy of all, and this one, too."""
    disk, lent = Disk(), list[bool]()
    combined = Ensemble().combine(forecasts)
    classes = {name: combined.stored_on(disk, stored_samples(samples, disk)) for name in ("index", "crypto")}

    def watched(*given: Any, **options: Any) -> Any:
        lent.append(disk.is_lent)
        return fan_out(*given, **options)

    monkeypatch.setattr(credit, "fan_out", watched)
    monkeypatch.setattr(credit, "MOST_SENT", 1)
    alone = repr(credit_of(dict.fromkeys(classes, combined), Ensemble()))
    assert repr(credit_of(classes, Ensemble(), jobs=2, importable=True, disk=disk)) == alone
    assert repr(credit_of(classes, Ensemble(), jobs=2, disk=disk)) == alone
    assert lent == [False, True, False]
    assert not disk.is_lent
