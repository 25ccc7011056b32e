"""A feature of one's own: where the close lies in the bar's range, registered, audited for looking ahead, and used."""

import numpy as np

import gatecast
from gatecast.audits.full import Cuts
from gatecast.samples.features import register


@register("close_in_range", warmup=0, needs=("high", "low", "close"))
def close_in_range(high: np.ndarray, low: np.ndarray, close: np.ndarray) -> np.ndarray:
    """Where the close lies between low (0) and high (1)."""
    return (close - low) / (high - low + 1e-9 * close)


def main() -> None:
    bars = gatecast.market.synthetic.g1(1200, seed=5)
    print(gatecast.compute_features(bars, ["ret_log_1", "close_in_range"]).tail(2))

    experiment = gatecast.Experiment(
        bars=bars, features=("ret_log_1", "close_in_range"), schedule={"refit": "1Y"},
        models=("ridge", "logistic"), signals={"model": "ridge", "confirmed_by": "ridge"},
    )  # fmt: skip
    print("looks ahead:", not gatecast.audit(experiment, cuts=Cuts(samples=10), full=False).clean)
    run = gatecast.run(experiment)
    print(run.provenance["plugins"])


if __name__ == "__main__":
    main()
