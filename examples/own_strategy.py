"""A strategy of one's own: long above the highest close of the last bars, short below the lowest, judged like ours."""

import numpy as np
import polars as pl

import gatecast
from gatecast.trading.strategies import STRATEGIES, Strategy, View


@STRATEGIES.add
class Breakout(Strategy):
    """The side on which the close last left the range of the bars before it."""

    kind = "breakout"
    bars: int = 55
    """bars whose highest and lowest close are the range"""

    def side(self, view: View) -> np.ndarray:
        close, group = pl.col("close"), ["symbol", "segment"]
        above = close > close.rolling_max(self.bars).shift(1).over(group)
        below = close < close.rolling_min(self.bars).shift(1).over(group)
        left = pl.when(above).then(1.0).when(below).then(-1.0)
        side = view.bars.select(side=left.forward_fill().over(group).fill_null(0.0))
        return view.as_known(side["side"].to_numpy())


def main() -> None:
    experiment = gatecast.Experiment(
        bars=gatecast.market.synthetic.g1(1200, seed=5), schedule={"refit": "1Y"}, models=("ridge", "logistic"),
        signals={"model": "ridge", "confirmed_by": "ridge"},
        strategies={"names": ["trend", "slow", "breakout"]}, strategy={"slow": {"kind": "breakout", "bars": 200}},
    )  # fmt: skip
    run = gatecast.run(experiment)
    for row in run.scores["strategies"]:
        print(f"{row['title']:<32}{row['total_net']:>8.1%}")
    print(run.provenance["plugins"])


if __name__ == "__main__":
    main()
