"""The guard of a refit: which damaged fits it refuses, and how many ordinary ones.

Ordinary: every refit of synthetic markets with linear models, a forest and a small LSTM. Damaged: at one refit the fit
is made on samples whose feature columns are in another order ("swapped"), whose features are a hundred times as large
("scale"), or whose answers are ("answers"); it forecasts from the true ones. On noise a network has learned so little
of its features that their order hardly matters: such a fit loses no more than the one before it, and is not refused.

Run: `python benchmarks/guard.py`, with `--bars 1500 --markets 4` for less or more.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from gatecast.forecasting.forecaster import ALONE, Forecaster, Task
from gatecast.forecasting.lstm import LSTM
from gatecast.forecasting.models.forest import Forest
from gatecast.forecasting.models.linear import Ridge
from gatecast.forecasting.panel import PANEL
from gatecast.forecasting.schedule import Fold, Schedule
from gatecast.forecasting.walkforward import Forecasts, walk_forward
from gatecast.market import synthetic
from gatecast.samples.targets import Target
from gatecast.samples.windows import Samples, make_samples

SMALL: dict[str, Any] = {"units": 16, "layers": 1, "seeds": 1, "epochs": 4}
LINEAR = ("ridge", "logistic", "bayes", "ridge_lag", "har", "har_symbol", "threshold", "har_regime")
MARKETS = ("a1", "a2", "a3", "b1", "b2", "b3", "g1")


def damaged(fold: Fold, how: str) -> Fold:
    """The fold on samples that are damaged; the rows stay."""
    samples = fold.data
    if how == "swapped":
        return fold.on(replace(samples, features=np.roll(samples.features, 1, axis=1)))
    if how == "scale":
        return fold.on(replace(samples, features=100 * samples.features))
    value = {"return": lambda x: 100 * x, "volatility": lambda x: x + np.log(100.0)}
    targets = {
        head: Target(value[head](one.value) if head in value else 1 - one.value, one.known_at)
        for head, one in samples.targets.items()
    }
    return fold.on(replace(samples, targets=targets))


AT = 3
"""Number of the refit whose fit is damaged."""


class _Damaged(Forecaster):
    """A model one of whose fits is damaged."""

    how: ClassVar[str]

    def fit_many(self, folds: Sequence[Fold], task: Task = ALONE) -> Any:
        return super().fit_many([damaged(one, self.how) if one.index == AT else one for one in folds], task)


def damaged_model(model: type[Forecaster], how: str, **settings: Any) -> Forecaster:
    """The model with settings, one of whose fits is damaged."""
    cls: type[Forecaster] = type(f"Damaged{model.__name__}", (_Damaged, model), {"how": how, "__module__": __name__})
    return cls(**settings)


def market(name: str, bars: int, seed: int) -> Samples:
    """A synthetic market of three symbols."""
    frame = getattr(synthetic, name)(bars, seed=seed, symbols=3)
    own = [column for column in ("x",) if column in frame.columns]
    features = ("ret_log_1", "rsi_14", "macd_hist", "volume_ratio_20", "atr_14", *own)
    return make_samples(frame, features)["index"]


def refused_of(forecasts: Forecasts) -> Counter[str]:
    """Model -> refits that were refused, each told on a line."""
    for model, refits in forecasts.refused.items():
        for cutoff, reason in refits.items():
            print(f"  {model} {str(cutoff)[:10]}: {reason}")
    return Counter({model: len(refits) for model, refits in forecasts.refused.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--bars", type=int, default=1500)
    parser.add_argument("--markets", type=int, default=len(MARKETS))
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    models: dict[str, Forecaster] = {name: PANEL[name].forecaster for name in LINEAR}
    models |= {"forest": Forest(trees=20), "lstm": LSTM(**SMALL)}
    candidates, refused = Counter[str](), Counter[str]()
    print("ordinary refits", flush=True)
    for seed in range(1, options.seeds + 1):
        for name in MARKETS[: options.markets]:
            found = walk_forward(models, market(name, options.bars, seed), Schedule())
            candidates.update(dict.fromkeys(models, len(found.folds) - 1))
            refused.update(refused_of(found))
            print(f"  {name}, seed {seed}: {refused.total()} of {candidates.total()} refused so far", flush=True)
    for model in models:
        print(f"{model:12} {refused[model]:3} of {candidates[model]} refused")
    print(f"{'all':12} {refused.total():3} of {candidates.total()} refused")
    print("damaged refits", flush=True)
    own: dict[type[Forecaster], Any] = {Ridge: {}, Forest: {"trees": 20}, LSTM: SMALL | {"epochs": 8}}
    planted = synthetic.b1(900, seed=1, r2=0.1, symbols=4)
    markets = {
        "planted": make_samples(planted, ("ret_log_1", "rsi_14", "atr_14", "x"))["index"],
        "noise": market("a1", 900, 1),
    }
    for name, samples in markets.items():
        for model, settings in own.items():
            for how in ("swapped", "scale", "answers"):
                one = damaged_model(model, how, **settings)
                found = walk_forward({model.kind: one}, samples, Schedule(refit="3M"))
                reason = found.refused.get(model.kind, {}).get(found.folds[AT].cutoff, "NOT REFUSED")
                print(f"  {name} {model.kind:7} {how:8} {reason}", flush=True)


if __name__ == "__main__":
    main()
