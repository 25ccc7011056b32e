"""A forecaster of one's own: half the mean path of the newest answers, judged, audited and reported like ours."""

from dataclasses import dataclass

import numpy as np

import gatecast
from gatecast.forecasting.forecaster import ALONE, FORECASTERS, Forecaster, Traits, fit_every
from gatecast.samples.targets import decode


@dataclass(frozen=True)
class FittedDrift:
    path: np.ndarray  # (horizon,) mean return so many steps ahead, in trailing volatilities

    def predict(self, samples, rows):
        ends, paths = samples.ends[rows], np.tile(self.path, (len(rows), 1))
        return {"return": decode("return", paths, samples.facts.sigma[ends], samples.facts.baseline[ends])}

    def state(self):
        return {"path": self.path}, {}

    @classmethod
    def from_state(cls, arrays, settings):
        return cls(arrays["path"])


@FORECASTERS.add
class Drift(Forecaster):
    """Half the mean of the newest answers that are known at a refit."""

    kind, fitted = "drift", FittedDrift
    traits = Traits("recent drift", heads=("return",), member_of=("return",))
    answers: int = 500
    """newest answers of the class that count"""

    def fit_many(self, folds, task=ALONE):
        return fit_every(self.fit_fold, folds, 1, task)

    def fit_fold(self, fold):
        newest = fold.data.answers[fold.record[-self.answers :], : fold.data.horizon]
        return FittedDrift(np.nanmean(newest, axis=0) / 2)


def main() -> None:
    experiment = gatecast.Experiment(
        bars=gatecast.market.synthetic.g1(1200, seed=5), schedule={"refit": "1Y"},
        models=("ridge", "logistic", "drift", "slow"), model={"slow": {"kind": "drift", "answers": 1000}},
        signals={"model": "drift", "confirmed_by": "ridge"},
    )  # fmt: skip
    run = gatecast.run(experiment)
    for row in run.scores["models"]:
        if row["head"] == "return":
            print(f"{row['model']:<16}{row['gain']:>8.2%}")
    print(run.provenance["plugins"])


if __name__ == "__main__":
    main()
