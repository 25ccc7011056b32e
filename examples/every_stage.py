"""Every stage by itself, in the order of `gatecast.experiment.run`: what goes in, what comes out."""

import numpy as np

from gatecast.chain import Chain, ClassResult
from gatecast.evaluation.judge import judge
from gatecast.evaluation.record import records_of
from gatecast.forecasting.combining.ensemble import Ensemble
from gatecast.forecasting.lstm import LSTM
from gatecast.forecasting.models.forest import Forest
from gatecast.forecasting.models.har import LogHAR
from gatecast.forecasting.models.linear import Ridge
from gatecast.forecasting.models.logistic import Logistic
from gatecast.forecasting.models.naive import Naive
from gatecast.forecasting.panel import PANEL
from gatecast.forecasting.schedule import Schedule
from gatecast.forecasting.walkforward import walk_forward
from gatecast.market import findings, synthetic
from gatecast.market.facts import Facts
from gatecast.samples.features import compute_features
from gatecast.samples.windows import make_samples
from gatecast.trading.backtest import backtest, net_returns
from gatecast.trading.costs import Costs
from gatecast.trading.decisions import make_decisions
from gatecast.trading.selection import select_strategy
from gatecast.trading.signals import make_signals
from gatecast.trading.strategies import StrategySettings, propose

YEAR = 252  # bars


def main() -> None:
    # market/: what happened. One row a bar, `time` is its close, `known_at` when it became known.
    bars = synthetic.b1(1200, seed=7, r2=0.05)
    print(bars.tail(2), findings(bars))

    # samples/: what a model sees. A feature of a bar needs that bar and earlier ones; windows are views.
    names = ("ret_log_1", "rsi_14", "x")
    print(compute_features(bars, names).tail(2))
    samples = make_samples(bars, names, lookback=30, horizon=5)["index"]
    print(f"{len(samples)} samples, one window: {samples.window(np.array([0])).shape}")

    # forecasting/: what we expect, out of sample only. Settings know how to fit, a fitted model how to predict.
    schedule = Schedule(train="2Y", refit="6M")
    lstm = LSTM(units=16, layers=1, seeds=1, epochs=5)
    rules = [Naive(rule=rule) for rule in ("zero", "mean", "last", "ewma", "base_rate", "constant")]
    forecasters = [lstm, Forest(trees=10), Logistic(), Ridge(), *rules, LogHAR(), PANEL["threshold"].forecaster.of]
    forecasts = walk_forward(forecasters, samples, schedule)
    combined = Ensemble().combine(forecasts)
    for fold in combined.folds:
        print(f"refit {fold.cutoff}: {len(fold.train)} train, {len(fold.validation)} validate, {len(fold.test)} test")

    # trading/: what we would do. Decided at a close, held from the next open (or close, where opens are not real).
    costs, facts = Costs(), Facts(bars)
    per_side, borrow = costs.per_side("index"), costs.borrow_per_bar("index", YEAR)
    signals = make_signals(combined)
    proposals = propose(combined, signals, bars, costs.round_trip("index"), YEAR)
    opens, closes = bars["open"].to_numpy(), bars["close"].to_numpy()
    net = net_returns(proposals.weights, opens, closes, samples.listing, per_side, borrow, facts.fills)[2]
    target = StrategySettings().target_volatility / np.sqrt(YEAR)
    selection = select_strategy(combined, proposals, net, per_side, target)
    classes = {"index": ClassResult(samples, combined, signals, proposals, selection, net)}
    decisions = make_decisions(classes, facts)
    print(decisions.newest())
    result = backtest(decisions.weights.select("symbol", "time", "weight"), bars, costs)
    print(result.equity.tail(2))

    # evaluation/: what it was worth, head by head, against each head's own best simple rival.
    chain = Chain(facts, classes, decisions, costs)
    verdicts = judge(
        records_of(chain.forecasts), chain.net, chain.benchmark,
        round_trip=costs.round_trip("index"), periods_per_year=YEAR, sessions=chain.sessions,
    )  # fmt: skip
    for verdict in verdicts.values():
        print(verdict.sentence)


if __name__ == "__main__":
    main()
