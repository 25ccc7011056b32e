"""Markets with a planted truth, whose best attainable score is known: `truth_of` tells it.

A1-A4 hold nothing to find, B1-B3 something, D1 and D2 change their regime, G1, G3 and G4 their variance. Every
function gives a Bars frame of `n` business days from 3 January 2000, of an index that closes at 16:00 in New
York, one symbol (`A1`) or `symbols` independent ones (`A1_0`, `A1_1`, ...). `scale` times the recipe's
standardised return is the **log return from close to close**. Volume is exp(v), v standard normal. A column of
the truth (`x`, `z`, `state`, `h_true`) holds at row t what is known at that bar's close about the next one;
only the `state` of D1 and D2 is hidden, and that of bar t itself.

The price moves between two closes as a Brownian motion of the bar's own variance, a tenth of it overnight: so
the open is a real price, and ranges are as wide as they should be. `seed` decides everything: the first m bars
of a market of n > m bars are the market of m bars, to the bit, and a further symbol changes no other.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.random import Generator, SeedSequence
from numpy.typing import NDArray

from gatecast.errors import SettingsError, did_you_mean
from gatecast.market.bars import make_bars
from gatecast.market.classes import asset_class

FloatArray = NDArray[np.float64]

FIRST_SESSION, FIRST_CLOSE = np.datetime64("2000-01-03"), 100.0
OVERNIGHT = 0.1  # share of a bar's variance
STEPS = 24  # of the path within a bar


class Draws(NamedTuple):
    """One symbol's random numbers: a generator per role, so that no role shifts another's."""

    shock: Generator
    signal: Generator
    mixing: Generator
    volume: Generator
    overnight: Generator
    step: Generator
    extreme: Generator


@dataclass(frozen=True)
class Path:
    """One symbol in units of `scale`, (n,) each: returns, and the variance with which the price moved in a bar.

    `columns` are the truth's; `log_volume` the v of volume = exp(v).
    """

    returns: FloatArray
    variance: FloatArray
    log_volume: FloatArray
    columns: dict[str, FloatArray] = field(default_factory=dict)


# ── A: nothing to find ───────────────────────────────────────────────────────────────────────────


def a1(n: int, seed: int, scale: float = 0.01, *, symbols: int = 1) -> pl.DataFrame:
    """A Gaussian random walk.

    >>> a1(3, seed=0)["time"][0].isoformat()
    '2000-01-03T21:00:00+00:00'
    """
    return _market("a1", n, seed, scale, symbols, lambda draws: _walk(n, draws))


def a2(n: int, seed: int, scale: float = 0.01, *, symbols: int = 1) -> pl.DataFrame:
    """A GARCH martingale: h = .02 + .08 e² + .90 h with t5 innovations; only variance can be forecast."""
    return _market("a2", n, seed, scale, symbols, lambda draws: _garch(n, draws, scale, 0.02, 0.08, 0.90, degrees=5))


def a3(n: int, seed: int, scale: float = 0.01, *, symbols: int = 1, drift: float = 0.05) -> pl.DataFrame:
    """A random walk that drifts by `drift` standard deviations a bar."""
    return _market("a3", n, seed, scale, symbols, lambda draws: _walk(n, draws, drift))


def a4(n: int, seed: int, scale: float = 0.01, *, symbols: int = 1, features: int = 30) -> pl.DataFrame:
    """A random walk beside columns `noise_1`, `noise_2`, ...: persistent (.995) and of no use."""

    def path(draws: Draws) -> Path:
        noise = _persistent(draws.signal.standard_normal((n, features)), 0.995)
        return _walk(n, draws, columns={f"noise_{k + 1}": noise[:, k] for k in range(features)})

    return _market("a4", n, seed, scale, symbols, path)


# ── B: something to find ─────────────────────────────────────────────────────────────────────────


def b1(
    n: int, seed: int, scale: float = 0.01, *, symbols: int = 1, r2: float = 0.01, phi: float = 0.95, delay: int = 0
) -> pl.DataFrame:
    """A persistent linear signal: x_t of AR(`phi`) explains the share `r2` of the variance of r_{t+1+delay}.

    With a delay of 40 and a small `phi` a window of 40 bars is blind: the 41st bar from the end drives the next one.

    >>> b1(2, seed=0, r2=0.05).columns[-1]
    'x'
    """
    _check("r2", r2, 0 <= r2 < 1, "0 or more and below 1")
    _check("phi", phi, -1 < phi < 1, "between -1 and 1")
    _check("delay", delay, delay >= 0, "0 or more")

    def path(draws: Draws) -> Path:
        x = _persistent(draws.signal.standard_normal(n + 1 + delay), phi)  # the first are from before the first bar
        returns = math.sqrt(r2) * x[:n] + math.sqrt(1 - r2) * draws.shock.standard_normal(n)
        return Path(returns, np.full(n, 1 - r2), draws.volume.standard_normal(n), {"x": x[1 + delay :]})

    return _market("b1", n, seed, scale, symbols, path)


def b2(n: int, seed: int, scale: float = 0.01, *, symbols: int = 1, b: float = 0.3) -> pl.DataFrame:
    """Memory without anything linear: r_{t+1} = b sign(z_t z_{t-4}) + e, z and e standard normal."""

    def path(draws: Draws) -> Path:
        z = draws.signal.standard_normal(n + 5)  # five from before the first bar
        returns = b * np.sign(z[4:-1] * z[:-5]) + draws.shock.standard_normal(n)
        return Path(returns, np.ones(n), draws.volume.standard_normal(n), {"z": z[5:]})

    return _market("b2", n, seed, scale, symbols, path)


def b3(n: int, seed: int, scale: float = 0.01, *, symbols: int = 1, c: float = 0.5) -> pl.DataFrame:
    """Three down bars, a volume spike, a small recovery; then a drift of `c` on each of the next five bars.

    The pattern is complete at t where r_{t-4}, r_{t-3}, r_{t-2} < 0, v_{t-1} > 1 and 0 < r_t < 0.7. `state` is 1
    at t where r_{t+1} will drift.
    """
    return _market("b3", n, seed, scale, symbols, lambda draws: _pattern(n, draws, c))


# ── D: regime change ─────────────────────────────────────────────────────────────────────────────


def d1(
    n: int,
    seed: int,
    scale: float = 0.01,
    *,
    symbols: int = 1,
    change: int = 1000,
    variance: float = 4.0,
    mean: float = 0.0,
) -> pl.DataFrame:
    """A Gaussian walk whose mean and variance, 0 and 1, become `mean` and `variance` at bar `change`.

    Bars count from 0; `state` is 1 from that bar on.
    """
    _check("variance", variance, variance > 0, "above 0")

    def path(draws: Draws) -> Path:
        state = (np.arange(n) >= change).astype(np.float64)
        spread = np.where(state == 1, variance, 1.0)
        returns = mean * state + np.sqrt(spread) * draws.shock.standard_normal(n)
        return Path(returns, spread, draws.volume.standard_normal(n), {"state": state})

    return _market("d1", n, seed, scale, symbols, path)


STAY = (0.99, 0.97)
STATE_MEAN = np.array([0.05, -0.05])
STATE_DEVIATION = np.array([0.7, 1.8])


def d2(n: int, seed: int, scale: float = 0.01, *, symbols: int = 1) -> pl.DataFrame:
    """A hidden Markov market: calm (0: mean .05, s.d. .7, stays with .99) or turbulent (1: -.05, 1.8, .97).

    `state` is that of the bar itself and hidden: neither known at its close nor a feature.
    """

    def path(draws: Draws) -> Path:
        chance = draws.signal.random(n).tolist()
        calm = (1 - STAY[1]) / (2 - sum(STAY))
        stays = accumulate(
            chance[1:],
            lambda state, u: state if u < STAY[state] else 1 - state,
            initial=int(chance[0] >= calm),
        )
        state = np.array(list(stays))
        returns = STATE_MEAN[state] + STATE_DEVIATION[state] * draws.shock.standard_normal(n)
        columns = {"state": state.astype(np.float64)}
        return Path(returns, STATE_DEVIATION[state] ** 2, draws.volume.standard_normal(n), columns)

    return _market("d2", n, seed, scale, symbols, path)


# ── G: variance ──────────────────────────────────────────────────────────────────────────────────


def g1(n: int, seed: int, scale: float = 0.01, *, symbols: int = 1) -> pl.DataFrame:
    """h = .02 + .08 e² + .90 h, Gaussian; `h_true` is the variance of the **next** bar's log return."""
    return _market("g1", n, seed, scale, symbols, lambda draws: _garch(n, draws, scale, 0.02, 0.08, 0.90))


def g3(n: int, seed: int, scale: float = 0.01, *, symbols: int = 1) -> pl.DataFrame:
    """h = .05 + .10 e² + .85 h with t5 innovations; `h_true` as in `g1`."""
    return _market("g3", n, seed, scale, symbols, lambda draws: _garch(n, draws, scale, 0.05, 0.10, 0.85, degrees=5))


def g4(n: int, seed: int, scale: float = 0.01, *, symbols: int = 1) -> pl.DataFrame:
    """h = .02 + (.02 + .12 where e < 0) e² + .90 h, Gaussian; `h_true` as in `g1`."""
    return _market(
        "g4", n, seed, scale, symbols, lambda draws: _garch(n, draws, scale, 0.02, 0.02, 0.90, leverage=0.12)
    )


MARKETS: dict[str, Callable[..., pl.DataFrame]] = {
    market.__name__: market for market in (a1, a2, a3, a4, b1, b2, b3, d1, d2, g1, g3, g4)
}
"""The markets by name."""


# ── what is attainable ───────────────────────────────────────────────────────────────────────────

GAUSSIAN_QLIKE, T5_QLIKE = 1.270363, 1.568054
"""QLIKE of the true variance against squared returns."""

HORIZONS = range(1, 21)


def truth_of(name: str, **parameters: float) -> dict[str, object]:
    """The attainable figures of a market with these parameters (those of its function; others by default).

    - `r2`, `hit_rate`: the most that a forecast of the next bar's return can reach, R² against zero;
      `r2_by_horizon` and `hit_rate_by_horizon` for the sum over 1 to 20 bars (b1); `linear_r2` of linear
      forecasts (b2); `r2_mean` against the mean (a3); `state_share` of the bars (b3).
    - `qlike`: of the true variance of the next bar against its squared return, `qlike_constant` and
      `qlike_ewma` (.94) of simple rivals.
    - `accuracy` and `log_loss` of the state, of the base rate, predicted for the next bar and filtered (d2).
    - `mean_delay`: the shortest attainable mean delay of an alarm, in bars, at one false alarm in 1,000 bars
      (d1, by change of mean in standard deviations and by multiple of the variance).

    Raises SettingsError for an unknown name or parameter.

    >>> truth_of("b2", b=0.3)["hit_rate"]
    0.6179114221889526
    """
    if name not in MARKETS:
        raise SettingsError(f"there is no market {name!r}. {did_you_mean(name, MARKETS)}")
    known = {key: value.default for key, value in inspect.signature(MARKETS[name]).parameters.items()}
    for parameter in parameters:
        if parameter not in known:
            raise SettingsError(f"market {name!r} has no parameter {parameter!r}. {did_you_mean(parameter, known)}")
    return _TRUTHS[name]({**known, **parameters})


def _truth_b1(given: dict[str, float]) -> dict[str, object]:
    by_horizon = {h: b1_r2(given["r2"], given["phi"], h) for h in HORIZONS}
    hits = {h: 0.5 + math.asin(math.sqrt(r2)) / math.pi for h, r2 in by_horizon.items()}
    return {
        "r2": by_horizon[1],
        "hit_rate": hits[1],
        "r2_by_horizon": by_horizon,
        "hit_rate_by_horizon": hits,
    }


def b1_r2(r2: float, phi: float, horizon: int) -> float:
    """The optimal R² for the sum of the next `horizon` returns of B1.

    >>> round(b1_r2(0.01, 0.95, 20), 5)
    0.07244
    """
    k = np.arange(1, horizon)
    slope = (1 - phi**horizon) / (1 - phi)
    spread = horizon + 2 * float(np.sum((horizon - k) * phi**k))
    return r2 * slope**2 / (r2 * spread + horizon * (1 - r2))


def _truth_b3(given: dict[str, float]) -> dict[str, object]:
    share = _state_share(given["c"])
    signal = share * (1 - share) * given["c"] ** 2
    explained = share * given["c"] ** 2 / (1 + share * given["c"] ** 2)
    hit = 0.5 * (1 - share) + share * _normal_share(abs(given["c"]))
    return {"r2": explained, "r2_mean": signal / (1 + signal), "hit_rate": hit, "state_share": share}


@cache
def _state_share(c: float) -> float:
    """The share of bars that drift, from a path of a million bars."""
    return float(_pattern(1_000_000, _draws("b3", 0, 0), c).columns["state"].mean())


def _normal_share(x: float) -> float:
    return 0.5 + 0.5 * math.erf(x / math.sqrt(2))


def _nothing(given: dict[str, float]) -> dict[str, object]:
    return {"r2": 0.0, "hit_rate": 0.5}


def _variances(floor: float, constant: float, ewma: float) -> Callable[[dict[str, float]], dict[str, object]]:
    return lambda given: {
        **_nothing(given),
        "qlike": floor,
        "qlike_constant": constant,
        "qlike_ewma": ewma,
    }


_TRUTHS: dict[str, Callable[[dict[str, float]], dict[str, object]]] = {
    "a1": _nothing,
    "a2": lambda given: {**_nothing(given), "qlike": T5_QLIKE},
    "a3": lambda given: {
        "r2": given["drift"] ** 2 / (1 + given["drift"] ** 2),
        "r2_mean": 0.0,
        "hit_rate": _normal_share(abs(given["drift"])),
    },
    "a4": _nothing,
    "b1": _truth_b1,
    "b2": lambda given: {
        "r2": given["b"] ** 2 / (1 + given["b"] ** 2),
        "linear_r2": 0.0,
        "hit_rate": _normal_share(abs(given["b"])),
    },
    "b3": _truth_b3,
    "d1": lambda given: {
        "change": given["change"],
        "mean_delay": {"mean": {0.1: 243.0, 0.5: 31.0, 1.0: 10.5}, "variance": {2.0: 25.0, 4.0: 7.5}},
    },
    "d2": lambda given: {
        "accuracy": {"base": 0.750, "predicted": 0.929, "filtered": 0.942},
        "log_loss": {"base": 0.562, "predicted": 0.208},
    },
    "g1": _variances(GAUSSIAN_QLIKE, 1.4102, 1.2837),
    "g3": _variances(T5_QLIKE, 1.7309, 1.6127),
    "g4": _variances(GAUSSIAN_QLIKE, 1.5026, 1.3068),
}


# ── paths ────────────────────────────────────────────────────────────────────────────────────────


def _walk(n: int, draws: Draws, drift: float = 0.0, columns: dict[str, FloatArray] | None = None) -> Path:
    returns = drift + draws.shock.standard_normal(n)
    return Path(returns, np.ones(n), draws.volume.standard_normal(n), columns or {})


def _garch(
    n: int,
    draws: Draws,
    scale: float,
    constant: float,
    arch: float,
    garch: float,
    *,
    leverage: float = 0.0,
    degrees: int | None = None,
) -> Path:
    """h = constant + (arch + leverage where e < 0) e² + garch h, from its mean of 1 on.

    Innovations of Student's t with `degrees`, of variance 1, are Gaussian given a variance of their own, which
    the price within the bar moves with.
    """
    own = (degrees - 2) / draws.mixing.chisquare(degrees, n) if degrees else np.ones(n)
    innovation = np.sqrt(own) * draws.shock.standard_normal(n)
    growth = (arch + leverage * (innovation < 0)) * innovation**2 + garch
    h = np.array(list(accumulate(growth.tolist(), lambda h, g: constant + g * h, initial=1.0)))
    return Path(
        np.sqrt(h[:-1]) * innovation,
        h[:-1] * own,
        draws.volume.standard_normal(n),
        {"h_true": h[1:] * scale**2},
    )


def _pattern(n: int, draws: Draws, c: float) -> Path:
    noise, v = draws.shock.standard_normal(n), draws.volume.standard_normal(n)
    state = np.zeros(n)
    while True:  # a drift can make or break a later pattern: every round is right for longer
        returns = noise + c * np.concatenate([[0.0], state[:-1]])
        down = returns < 0
        complete = np.zeros(n)
        complete[4:] = down[:-4] & down[1:-3] & down[2:-2] & (v[3:-1] > 1) & (returns[4:] > 0) & (returns[4:] < 0.7)
        drifts = (np.convolve(complete, np.ones(5))[:n] > 0).astype(np.float64)
        if np.array_equal(drifts, state):
            return Path(returns, np.ones(n), v, {"state": state})
        state = drifts


def _persistent(shocks: FloatArray, phi: float) -> FloatArray:
    """Stationary AR(1) paths of variance 1 down the columns of standard normal shocks."""
    weight = math.sqrt(1 - phi**2)
    return np.array(list(accumulate(shocks, lambda x, shock: phi * x + weight * shock)))


# ── bars ─────────────────────────────────────────────────────────────────────────────────────────


def _market(name: str, n: int, seed: int, scale: float, symbols: int, path: Callable[[Draws], Path]) -> pl.DataFrame:
    _check("n", n, n >= 1, "1 or more")
    _check("symbols", symbols, symbols >= 1, "1 or more")
    _check("scale", scale, scale > 0, "above 0")
    frames = []
    for number in range(symbols):
        draws = _draws(name, seed, number)
        symbol = name.upper() if symbols == 1 else f"{name.upper()}_{number}"
        frames.append(_bars(symbol, path(draws), draws, scale))
    return make_bars(pl.concat(frames))


def _draws(name: str, seed: int, number: int) -> Draws:
    sequence = SeedSequence(seed, spawn_key=(int.from_bytes(name.encode()), number))
    return Draws(*(np.random.default_rng(child) for child in sequence.spawn(len(Draws._fields))))


def _bars(symbol: str, path: Path, draws: Draws, scale: float) -> pl.DataFrame:
    n = path.returns.size
    close = FIRST_CLOSE * np.exp(scale * np.cumsum(path.returns))
    before = np.concatenate([[FIRST_CLOSE], close[:-1]])
    gap, top, bottom = _within(path, draws)
    open_ = before * np.exp(scale * gap)
    days = np.busday_offset(FIRST_SESSION, np.arange(n))
    return pl.DataFrame(
        {
            "symbol": np.full(n, symbol),
            "session": days,
            "open": open_,
            "high": np.maximum.reduce([before * np.exp(scale * top), open_, close]),
            "low": np.minimum.reduce([before * np.exp(scale * bottom), open_, close]),
            "close": close,
            "volume": np.exp(path.log_volume),
            **path.columns,
        }
    ).select(
        "symbol",
        pl.lit("index").alias("asset_class"),
        asset_class("index").close_of(pl.col("session")).alias("time"),
        pl.exclude("symbol", "session"),
    )


def _within(path: Path, draws: Draws) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The open, high and low of every bar over the previous close, (n,) each, in units of `scale`.

    A Brownian bridge to the bar's return, in STEPS after the open; within a step its highest and lowest are
    drawn from their exact distributions, so that ranges are not short of what happens between the steps.
    """
    n = path.returns.size
    gap = OVERNIGHT * path.returns + np.sqrt(
        OVERNIGHT * (1 - OVERNIGHT) * path.variance
    ) * draws.overnight.standard_normal(n)
    variance = (1 - OVERNIGHT) / STEPS * path.variance[:, None]
    free = np.cumsum(np.sqrt(variance) * draws.step.standard_normal((n, STEPS)), axis=1)
    share = np.arange(1, STEPS + 1) / STEPS
    end = gap[:, None] + free + share * (path.returns - gap - free[:, -1])[:, None]
    start = np.column_stack([gap, end[:, :-1]])
    luck = -2 * variance[:, None, :] * np.log1p(-draws.extreme.random((n, 2, STEPS)))
    reach = np.sqrt((end - start)[:, None, :] ** 2 + luck)
    top, bottom = (start + end + reach[:, 0]) / 2, (start + end - reach[:, 1]) / 2
    return gap, top.max(axis=1), bottom.min(axis=1)


def _check(name: str, value: float, holds: bool, expected: str) -> None:
    if not holds:
        raise SettingsError(f"{name} must be {expected}, got {value}.")
