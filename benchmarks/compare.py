"""How often `gatecast compare` says that two runs differ which are equally good: at most 7 of 100 pairs.

Two kinds of pairs, both runs of a pair on the same bars without skill. Seeds: small walks of a ridge regression, a
logistic one and a small LSTM with another seed. Their ensembles hardly differ, as little weight goes to what has shown
no skill; so, noise: one walk whose ensemble's forecasts get noise that lasts, drawn twice, and everything after them is
decided again. A run against itself must be the same exactly. And in seconds, without a walk: the series that the tests
read, of two forecasters with noise that lasts, drawn from a formula.

    python benchmarks/compare.py seeds|noise|series [--pairs 100]
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from functools import cache
from typing import Any

import numpy as np
import polars as pl
from scipy.signal import lfilter

from gatecast.chain import Chain, decided_again, make_chain
from gatecast.evaluation.ledger import unrecorded
from gatecast.experiment import Experiment
from gatecast.forecasting.lstm import LSTM
from gatecast.forecasting.panel import ENSEMBLE, SIZED_BY
from gatecast.market import synthetic
from gatecast.metrics.forecast import qlike_losses
from gatecast.runs import Run, finish
from gatecast.studies import comparing
from gatecast.studies.comparing import BETTER, THE_SAME, WORSE, compare

BARS = 1500
MOST = 7
"""Pairs of 100 that may be said to differ."""
FEW: dict[str, Any] = {
    "signals": {"model": "ridge", "confirmed_by": "ridge"}, "schedule": {"refit": "1Y"}, "control": None,
    "horizon": 1, "selection": {"evidence": 1.0},
}  # fmt: skip
LASTS, SIZE = 0.9, 0.25
"""Correlation of noise from bar to bar, and its deviation in log variances, log odds, and deviations of a return."""


def done(experiment: Experiment, chain: Chain) -> Run:
    """A run without its scores, which nobody reads here."""
    return replace(finish(experiment, chain), scores={"verdicts": {}})


def walk(market: int, seed: int, *models: str) -> tuple[Experiment, Chain]:
    """A small walk-forward on a market without skill."""
    own = {"model": {"lstm": LSTM(units=16, layers=1, seeds=1, epochs=2)}} if "lstm" in models else {}
    bars = synthetic.g1(BARS, seed=market, symbols=2)
    experiment = Experiment(bars=bars, seed=seed, models=models, **FEW, **own)
    reading = experiment.read()
    return experiment, make_chain(experiment, reading.bars, actions=reading.actions)


def by_seeds(market: int) -> tuple[Run, Run]:
    """Two walks that differ in the seed of their LSTM."""
    one, other = (
        done(*walk(market, seed, "ridge", "logistic", "lstm")) for seed in (2 * market, 2 * market + 1)
    )  # fmt: skip
    return one, other


def by_noise(number: int) -> tuple[Run, Run]:
    """One walk with noise in its ensemble's forecasts, drawn twice; five pairs share a walk."""
    experiment, chain = walk_for_noise(number // 5)
    one, other = (done(experiment, noisy(experiment, chain, [number, place])) for place in (0, 1))
    return one, other


@cache
def walk_for_noise(market: int) -> tuple[Experiment, Chain]:
    """A walk without a network."""
    return walk(market, 0, "ridge", "logistic")


def noisy(experiment: Experiment, chain: Chain, seed: list[int]) -> Chain:
    """The chain with noise in what its ensemble forecasts, all that follows decided again."""
    random, classes = np.random.default_rng(seed), {}
    for name, result in chain.classes.items():
        heads = dict(result.forecasts.values[ENSEMBLE])
        count, samples = len(result.samples), result.samples

        def drawn(count: int = count) -> Any:
            return SIZE * np.sqrt(1 - LASTS**2) * lfilter([1.0], [1.0, -LASTS], random.standard_normal(count))

        heads["volatility"] = heads["volatility"] * np.exp(drawn())
        heads["return"] = heads["return"] + (samples.facts.sigma[samples.ends] * drawn())[:, None]
        for head in ("direction", "regime"):
            odds = np.log(heads[head] / (1 - heads[head])) + drawn()
            heads[head] = 1 / (1 + np.exp(-odds))
        values = {model: result.forecasts.values[model] for model in ("ridge", *SIZED_BY)} | {ENSEMBLE: heads}
        classes[name] = replace(result, forecasts=replace(result.forecasts, values=values))
    return decided_again(experiment, replace(chain, classes=classes))


KINDS = {"seeds": by_seeds, "noise": by_noise}


def pairs_of(kind: str, count: int) -> Iterator[tuple[Run, Run]]:
    """So many pairs, each on a market of its own."""
    yield from (KINDS[kind](market) for market in range(count))


def lasting(random: np.random.Generator, correlation: float, count: int) -> Any:
    """(count,) a series of deviation 1 whose correlation from day to day is given."""
    steps = random.standard_normal(count + 300) * np.sqrt(1 - correlation**2)
    return lfilter([1.0], [1.0, -correlation], steps)[300:]


def compared_series(number: int, days: int) -> list[comparing.Difference]:
    """What is said of two forecasters that are equally good: each head, and books that are sized by their variances."""
    random = np.random.default_rng([number, days])
    sigma = 0.01 * np.exp(0.4 * lasting(random, 0.98, days))
    returns = random.standard_t(5, days) * sigma * np.sqrt(3 / 5)
    turbulent = lasting(random, 0.95, days) > 0

    def noise() -> Any:
        return SIZE * lasting(random, LASTS, days)

    def brier(answer: Any) -> Any:
        return (1 / (1 + np.exp(-noise())) - answer) ** 2

    variances = [sigma**2 * np.exp(noise()) for _ in range(2)]
    losses = {
        "direction": [brier(returns > 0) for _ in range(2)], "regime": [brier(turbulent) for _ in range(2)],
        "return": [(returns / sigma - noise()) ** 2 for _ in range(2)],
        "volatility": [qlike_losses(returns**2, one) for one in variances],
    }  # fmt: skip
    found = [
        comparing._difference(head, comparing._mean(one - other), float(one.mean()), days)
        for head, (one, other) in losses.items()
    ]
    first, size = date(2001, 1, 1), [np.minimum(1.0, 0.1 / 16 / np.sqrt(one)) for one in variances]
    day = pl.Series([first + timedelta(days=int(1.45 * place)) for place in range(days)])
    columns = {"day": day}
    for ending, weight, variance in zip(comparing._BOTH, size, variances, strict=True):
        columns |= {
            f"earned{ending}": pl.Series(weight * returns), f"variance{ending}": pl.Series(weight**2 * variance)
        }  # fmt: skip
    both = pl.DataFrame(columns)
    worth = comparing._worth("book", *comparing._columns(both, "earned"), day)
    return comparing._corrected([*found, worth, comparing._control(both), comparing._variance(both)])


def series(pairs: int) -> None:
    """Counts and prints pairs of series."""
    for days in (420, 1200):
        told = [[one.of for one in compared_series(number, days) if one.outcome in (BETTER, WORSE)]
                for number in range(pairs)]  # fmt: skip
        counts = Counter(name for names in told for name in names)
        print(f"{days} days: {sum(map(bool, told))} of {pairs} pairs are said to differ; {dict(counts)}")


def main() -> None:
    """Counts and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=[*KINDS, "series"])
    parser.add_argument("--pairs", type=int, default=100)
    asked = parser.parse_args()
    if asked.kind == "series":
        series(asked.pairs)
        return
    said, answered, same, differ, began = Counter[str](), Counter[str](), Counter[str](), 0, time.monotonic()
    with unrecorded():
        for number, (first, second) in enumerate(pairs_of(asked.kind, asked.pairs), 1):
            if number == 1:
                own = compare(first, first)
                assert {one.outcome for one in own.differences if not one.reason} == {THE_SAME}
            found = compare(first, second)
            differ += found.differs
            for one in found.differences:
                answered[one.of] += bool(np.isfinite(one.pvalue))
                same[one.of] += one.outcome == THE_SAME
                said[one.of] += one.pvalue < 0.05
            told = [one.of for one in found.differences if one.outcome in (BETTER, WORSE)]
            last = f"; in the last {', '.join(told)}" if told else ""
            print(f"{number} pairs, {differ} said to differ, {time.monotonic() - began:.0f} s{last}", flush=True)
    for name in answered:
        print(f"{name}: {said[name]} of {answered[name]} below .05 alone, {same[name]} the same")
    print(f"{differ} of {asked.pairs} pairs are said to differ; at most {MOST * asked.pairs / 100:g} may")


if __name__ == "__main__":
    main()
