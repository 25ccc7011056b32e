"""What a start does to a network: cold, from the newest clean fit, and from last month's fit, which saw the block.

Monthly refits of the default LSTM on the embedded indices. Printed, means over refits and seeds: training loss of the
epoch that was kept, its loss on the validation block, epochs gone through; and the mean daily loss out of sample of
each head. Run: `python benchmarks/starts.py` (two minutes of one core).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from gatecast import read_bars
from gatecast.evaluation.record import Record, day_means
from gatecast.forecasting.lstm import LSTM, forecaster
from gatecast.forecasting.lstm.training import Fit, train_network
from gatecast.forecasting.schedule import Fold, Schedule, warm_starts
from gatecast.forecasting.walkforward import walk_forward
from gatecast.samples.targets import HEADS
from gatecast.samples.windows import make_samples

Starts = Callable[[Sequence[Fold]], list[int | None]]
RULES: dict[str, Starts] = {
    "cold": lambda folds: [None] * len(folds),
    "clean": warm_starts,
    "last month's": lambda folds: [None, *range(len(folds) - 1)],
}


def main() -> None:
    samples = make_samples(read_bars("embedded", start="2006-08-01", end="2018-12-31"))["index"]
    print(f"{'start':<14}{'training':>10}{'validation':>12}{'epochs':>8}" + "".join(f"{head:>12}" for head in HEADS))
    for name, rule in RULES.items():
        fits: list[Fit] = []

        def noted(*arguments: object, fits: list[Fit] = fits) -> Fit:
            fits.append(train_network(*arguments))  # type: ignore[arg-type]
            return fits[-1]

        forecaster.warm_starts, forecaster.train_network = rule, noted  # type: ignore[assignment]
        forecasts = walk_forward([LSTM(warm_start=True)], samples, Schedule(minimum="2Y"))
        losses = [
            float(day_means(Record.of({"index": forecasts}, head), "lstm", "lstm").model.mean()) for head in HEADS
        ]
        kept = [(fit.train_loss[fit.best_epoch - 1], min(fit.validation_loss), len(fit.train_loss)) for fit in fits]
        trained, checked, epochs = np.mean(kept, axis=0)
        print(f"{name:<14}{trained:>10.3f}{checked:>12.3f}{epochs:>8.1f}" + "".join(f"{one:>12.4f}" for one in losses))


if __name__ == "__main__":
    main()
