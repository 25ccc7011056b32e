"""Leaks that come with the data: 20 variants on markets without anything to find, and what a run says of each.

A column or a function knows what nobody knew at the close; no cut inside the chain can show that, since the file says
the same at every cut. Each variant runs through the whole chain with linear models alone. For each the table says what
is named (the audit's findings), which verdicts are too good, which heads claim skill all the same, how much money is
held, and, where a claim stays, why that cannot be helped. A claim counts as false where the market without the leak has
nothing to find: in GARCH walks variance and regime can be forecast honestly, and count only where they are what leaks.

Run: `python benchmarks/outside_leaks.py`, `--only answer,two_columns`, `--seed 1`, `--json`. About a minute on one
core. `--further`: ten variants beside the twenty, means of the answers by group and values fitted to them. Exit status
1 where more than 3 of 20 variants end with false evidence.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import polars as pl

import gatecast
from gatecast.experiment import Experiment
from gatecast.market.bars import make_bars
from gatecast.samples.features import register
from gatecast.samples.features.catalogue import FEATURES

BARS, SIGMA, HORIZON = 1750, 0.01, 5
FAST = {
    "models": ("ridge", "logistic"),
    "signals": {"model": "ridge", "confirmed_by": "ridge"},
    "ensemble": {
        "members": ("ridge", "logistic", "logistic_long", "ridge_long"),
        "volatility_members": ("har_symbol", "har_class", "har_smooth", "constant"),
    },
}
DAILY, HOURLY = {"refit": "6M"}, {"refit": "3M", "minimum": "6M", "train": "6M"}
ALL = ("return", "direction", "volatility", "regime", "strategy")
MONEY = ("return", "direction", "strategy")


@dataclass
class Market:
    """Symbols with returns and closes, from which columns are made; `columns`: name -> one array a symbol."""

    returns: list[np.ndarray]
    seed: int
    hourly: bool = False
    columns: dict[str, list[np.ndarray]] = field(default_factory=dict)
    volumes: list[np.ndarray] | None = None
    closes: list[np.ndarray] = field(default_factory=list)
    spreads: list[np.ndarray] | None = None

    def __post_init__(self) -> None:
        self.closes = self.closes or [100 * np.exp(np.cumsum(one)) for one in self.returns]

    def column(self, name: str, make: Callable[[np.ndarray, np.random.Generator], np.ndarray]) -> Market:
        """The same with one more column, made of each symbol's returns and random numbers of its own."""
        rngs = [np.random.default_rng([self.seed, 77, k, len(self.columns)]) for k in range(len(self.returns))]
        self.columns[name] = [make(one, rng) for one, rng in zip(self.returns, rngs, strict=True)]
        return self

    def bars(self) -> pl.DataFrame:
        """Bars with real opens, ranges as wide as the market is wild, and volume without meaning unless it is given."""
        return make_bars(pl.concat([self._bars_of(number) for number in range(len(self.returns))]))

    def _bars_of(self, number: int) -> pl.DataFrame:
        rng, closes = np.random.default_rng([self.seed, 5, number]), self.closes[number]
        before = np.r_[closes[0], closes[:-1]]
        spread = np.std(np.log(closes / before)) if self.spreads is None else self.spreads[number]
        opens = before * np.exp(0.2 * spread * rng.standard_normal(len(closes)))
        high = np.maximum(opens, closes) * np.exp(0.3 * spread * np.abs(rng.standard_normal(len(closes))))
        low = np.minimum(opens, closes) * np.exp(-0.3 * spread * np.abs(rng.standard_normal(len(closes))))
        volume = np.exp(0.3 * rng.standard_normal(len(closes)) + 10)
        return pl.DataFrame(
            {
                "symbol": f"S{number}", "asset_class": "index",
                "time": hours_of(len(closes)) if self.hourly else days_of(len(closes)),
                "open": opens, "high": high, "low": low, "close": closes,
                "volume": volume if self.volumes is None else self.volumes[number],
            }
            | {name: values[number] for name, values in self.columns.items()}
        )  # fmt: skip


def days_of(count: int) -> list:
    """So many business days, 21:00 UTC."""
    days = np.busday_offset("2005-01-03", np.arange(count)).astype("datetime64[us]") + np.timedelta64(21, "h")
    return pl.Series(days).dt.replace_time_zone("UTC").to_list()


def hours_of(count: int) -> list:
    """Closes of seven bars an hour apart in each session, 15:00 to 21:00 UTC, winter time throughout the year."""
    days = np.busday_offset("2005-01-03", np.arange(-(-count // 7))).astype("datetime64[us]")
    times = (days[:, None] + np.arange(15, 22) * np.timedelta64(1, "h")).reshape(-1)[:count]
    return pl.Series(times).dt.replace_time_zone("UTC").to_list()


def walks(seed: int, symbols: int = 1, bars: int = BARS, hourly: bool = False) -> Market:
    """Gaussian random walks."""
    rngs = [np.random.default_rng([seed, number]) for number in range(symbols)]
    return Market([SIGMA * rng.standard_normal(bars) for rng in rngs], seed, hourly)


def garch_walks(seed: int, symbols: int = 1, bars: int = BARS) -> Market:
    """Martingales whose variance is GARCH(1, 1): .02, .08, .90."""
    returns, spreads = [], []
    for number in range(symbols):
        shock, variance = np.random.default_rng([seed, number]).standard_normal(bars), np.ones(bars)
        for t in range(bars - 1):
            variance[t + 1] = 0.02 + 0.08 * variance[t] * shock[t] ** 2 + 0.90 * variance[t]
        returns.append(SIGMA * np.sqrt(variance) * shock)
        spreads.append(SIGMA * np.sqrt(variance))
    return Market(returns, seed, spreads=spreads)


def coming(returns: np.ndarray, bars: int) -> np.ndarray:
    """(bars,) sum of the next so many returns, fewer at the end."""
    total, at = np.r_[0, np.cumsum(returns)], np.arange(len(returns))
    return total[np.minimum(at + 1 + bars, len(returns))] - total[np.minimum(at + 1, len(returns))]


def past(returns: np.ndarray, bars: int) -> np.ndarray:
    """(bars,) sum of the last so many returns."""
    total, at = np.r_[0, np.cumsum(returns)], np.arange(len(returns))
    return total[at + 1] - total[np.maximum(at + 1 - bars, 0)]


def unit(values: np.ndarray) -> np.ndarray:
    """Over its standard deviation."""
    return values / np.std(values)


def ahead(values: np.ndarray, rows: int = 1) -> np.ndarray:
    """Each row with the value of so many rows later; zeros at the end."""
    return np.r_[values[rows:], np.zeros(rows)]


def centred_mean(values: np.ndarray, width: int) -> np.ndarray:
    """Mean of the rows around each, itself in the middle."""
    return np.convolve(np.pad(values, width // 2, mode="edge"), np.ones(width) / width, "valid")


@dataclass(frozen=True)
class Variant:
    """One leak: its kind, the market with it, the features of the run, and the heads in which a claim is false."""

    name: str
    kind: str
    about: str
    make: Callable[[int], Market]
    features: tuple[str, ...]
    null: tuple[str, ...] = ALL
    settings: dict = field(default_factory=dict)
    function: Callable[[Market], None] | None = None
    why: str = ""


# ── a column of the future ───────────────────────────────────────────────────────────────────────


def answer(seed: int) -> Market:
    return walks(seed).column("x", lambda r, _: coming(r, HORIZON))


def sign_only(seed: int) -> Market:
    return walks(seed, 4).column("x", lambda r, g: np.where(g.random(len(r)) < 0.6, np.sign(coming(r, HORIZON)), 0.0))


def third_of_history(seed: int) -> Market:
    def part(r: np.ndarray, g: np.random.Generator) -> np.ndarray:
        noise, n = g.standard_normal(len(r)), len(r)
        inside = (np.arange(n) > n // 2) & (np.arange(n) < n // 2 + n // 3)
        return np.where(inside, unit(coming(r, HORIZON)), noise)

    return walks(seed).column("x", part)


def two_columns(seed: int) -> Market:
    market = walks(seed).column("cover", lambda r, g: 5 * g.standard_normal(len(r)))
    covers = iter(market.columns["cover"])
    return market.column("rest", lambda r, g: unit(coming(r, HORIZON)) - next(covers))


def future_variance(seed: int) -> Market:
    return walks(seed).column("x", lambda r, g: np.log(coming(r**2, HORIZON) + 1e-6) + 0.3 * g.standard_normal(len(r)))


# ── a registered function of the future ──────────────────────────────────────────────────────────


def looked_up(market: Market) -> None:
    """A function that looks each close up in a table made of the whole file."""
    closes = market.closes[0]
    table = dict(zip(closes.tolist(), (unit(coming(market.returns[0], HORIZON))).tolist(), strict=True))

    @register("looked_up", warmup=0, needs=("close",))
    def _looked_up(close: np.ndarray) -> np.ndarray:
        """The mood of the day, from a table by price."""
        noise = np.sin(1e5 * close)
        return np.array([table.get(price, 0.0) for price in close.tolist()]) + noise


def hidden_answer(seed: int) -> Market:
    return walks(seed, 4).column("rating", lambda r, g: 2 * unit(ahead(r)) + 3 * g.standard_normal(len(r)))


def of_a_column(market: Market) -> None:
    """A function of a column that is itself no feature."""

    @register("mood", warmup=2, needs=("rating",))
    def _mood(rating: np.ndarray) -> np.ndarray:
        """The rating's mean of three bars, squeezed."""
        return np.tanh(np.convolve(rating, (0.6, 0.3, 0.1))[: len(rating)])


# ── filled backwards ─────────────────────────────────────────────────────────────────────────────


def filled_backwards(seed: int) -> Market:
    def fill(r: np.ndarray, g: np.random.Generator) -> np.ndarray:
        block = np.arange(len(r)) // 10  # measured on every tenth bar, missing between, filled with the next one
        last = np.minimum(block * 10 + 9, len(r) - 1)
        return unit(past(r, 10))[last] + 0.5 * g.standard_normal(len(r))

    return garch_walks(seed, 4).column("x", fill)


def figure_of_the_quarter(seed: int) -> Market:
    def figure(r: np.ndarray, g: np.random.Generator) -> np.ndarray:
        last = np.minimum(np.arange(len(r)) // 63 * 63 + 62, len(r) - 1)
        return (unit(past(r, 63)) + 0.5 * g.standard_normal(len(r)))[last]

    return walks(seed, 4).column("x", figure)


# ── revised rows ─────────────────────────────────────────────────────────────────────────────────


def revised_figure(seed: int) -> Market:
    return walks(seed).column("x", lambda r, g: g.standard_normal(len(r)) + 0.3 * unit(coming(r, HORIZON)))


def revised_volume(seed: int) -> Market:
    market = walks(seed)
    rng = np.random.default_rng([seed, 78])
    market.volumes = [
        np.exp(10 + 0.3 * rng.standard_normal(len(r)) + 0.8 * unit(np.abs(ahead(r)))) for r in market.returns
    ]
    return market


# ── shifted stamps ───────────────────────────────────────────────────────────────────────────────


def date_of_the_day_before(seed: int) -> Market:
    return walks(seed).column("x", lambda r, g: 0.3 * unit(ahead(r)) + 0.95 * g.standard_normal(len(r)))


def open_as_close(seed: int) -> Market:
    market = walks(seed, 1, 2 * BARS, hourly=True)
    return market.column("x", lambda r, g: unit(ahead(r)) + 2 * g.standard_normal(len(r)))


def wrong_zone(seed: int) -> Market:
    market = walks(seed, 4)
    rng = np.random.default_rng([seed, 79])
    abroad = rng.standard_normal(BARS)  # closes eight hours after these, and moves their next bar
    beta = np.array([0.15, 0.2, 0.25, 0.3])
    mixed = [
        SIGMA * (b * np.r_[0.0, abroad[:-1]] + np.sqrt(1 - b**2) * unit(one))
        for b, one in zip(beta, market.returns, strict=True)
    ]
    return Market(mixed, seed).column("x", lambda r, g: abroad)


# ── adjusted levels ──────────────────────────────────────────────────────────────────────────────


def share_of_highest(seed: int) -> Market:
    return walks(seed, 4).column("x", lambda r, g: np.exp(np.cumsum(r) - np.cumsum(r).max()))


def from_the_trend(seed: int) -> Market:
    def rest(r: np.ndarray, g: np.random.Generator) -> np.ndarray:
        level, at = np.cumsum(r), np.arange(len(r))
        return level - np.polyval(np.polyfit(at / len(at), level, 12), at / len(at))

    return walks(seed).column("x", rest)


# ── smoothed from both sides ─────────────────────────────────────────────────────────────────────


def centred_prices(seed: int) -> Market:
    market = walks(seed)
    market.closes = [np.exp(centred_mean(np.log(one), 5)) for one in market.closes]
    return market


def centred_column(seed: int) -> Market:
    return garch_walks(seed).column("x", lambda r, g: unit(centred_mean(r, 11)) + 0.5 * g.standard_normal(len(r)))


# ── joined by number ─────────────────────────────────────────────────────────────────────────────


def holidays_left_out(seed: int) -> Market:
    def joined(r: np.ndarray, g: np.random.Generator) -> np.ndarray:
        same_day = 0.7 * unit(r) + 0.7 * g.standard_normal(len(r))  # the other file lacks a row after every 400
        kept = np.delete(same_day, np.arange(300, len(r), 400))
        return np.r_[kept, np.zeros(len(r) - len(kept))]

    return walks(seed).column("x", joined)


def off_by_one(seed: int) -> Market:
    return garch_walks(seed, 4).column("x", lambda r, g: ahead(0.2 * unit(r) + g.standard_normal(len(r))))


WITH_X = ("ret_log_1", "rsi_14", "x")
NEXT = {"horizon": 1}
VARIANTS = (
    Variant("answer", "future column", "sum of the next five returns", answer, WITH_X),
    Variant("sign_only", "future column", "sign of the next five, on 60 % of bars, 4 symbols", sign_only, WITH_X),
    Variant("third_of_history", "future column", "the next five in a third of the history", third_of_history, WITH_X),
    Variant("two_columns", "future column", "two columns whose sum is the next five", two_columns,
            ("ret_log_1", "cover", "rest")),
    Variant("future_variance", "future column", "log variance of the next five, and noise", future_variance, WITH_X),
    Variant("looked_up", "future function", "each close looked up in the whole file, GARCH",
            lambda seed: garch_walks(seed), ("ret_log_1", "looked_up"), MONEY, function=looked_up),
    Variant("of_a_column", "future function", "of a column that knows the next bar, 4 symbols", hidden_answer,
            ("ret_log_1", "mood"), function=of_a_column),
    Variant("filled_backwards", "back-fill", "return of ten bars, filled to before them, 4 symbols, GARCH",
            filled_backwards, WITH_X, MONEY),
    Variant("figure_of_the_quarter", "back-fill", "a quarter's figure from its first day, 4 symbols",
            figure_of_the_quarter, WITH_X),
    Variant("revised_figure", "revised row", "noise, revised by .3 of the next five", revised_figure, WITH_X),
    Variant("revised_volume", "revised row", "volume that includes the next session's trades", revised_volume,
            ("ret_log_1", "volume_ratio_20", "rsi_14"), settings=NEXT),
    Variant("date_of_the_day_before", "shifted stamp", "one row early, R² 9 % of the next bar",
            date_of_the_day_before, WITH_X, settings=NEXT),
    Variant("open_as_close", "shifted stamp", "hourly, a bar's open time taken for its close", open_as_close, WITH_X,
            settings={"schedule": HOURLY}),
    Variant("wrong_zone", "shifted stamp", "a later market's close joined by date, 4 symbols", wrong_zone, WITH_X),
    Variant("share_of_highest", "adjusted level", "price over the highest of the whole file, 4 symbols",
            share_of_highest, WITH_X),
    Variant("from_the_trend", "adjusted level", "distance to a smooth trend of the whole file", from_the_trend, WITH_X),
    Variant("centred_prices", "smoothed price", "closes that are means of two bars before and after", centred_prices,
            ("ret_log_1", "rsi_14")),
    Variant("centred_column", "smoothed price", "centred mean of eleven returns, GARCH", centred_column, WITH_X, MONEY),
    Variant("holidays_left_out", "joined by number", "of the same day, a row earlier after each of 4 holidays",
            holidays_left_out, WITH_X),
    Variant("off_by_one", "joined by number", "R² 4 % of the next bar, 4 symbols, GARCH", off_by_one, WITH_X, MONEY),
)  # fmt: skip
MOST_FALSE = 3


# ── made of the answers (--further): small R², no limit shows them ───────────────────────────────


def mean_by(group: np.ndarray, answers: np.ndarray, weight: float = 0.0) -> np.ndarray:
    """(bars,) the mean answer of each bar's group over the whole file, drawn to 0 by so many further answers of 0."""
    place = np.unique(group, return_inverse=True)[1]
    return (np.bincount(place, answers) / (np.bincount(place) + weight))[place]


def months(count: int) -> np.ndarray:
    """(bars,) month of the year, 0 to 11."""
    days = np.busday_offset("2005-01-03", np.arange(count))
    return days.astype("datetime64[M]").astype(int) % 12


def season(seed: int) -> Market:
    return walks(seed, 4).column("x", lambda r, _: mean_by(months(len(r)), ahead(r)))


def season_of_all(seed: int) -> Market:
    market = walks(seed, 4)
    mean = mean_by(months(BARS), np.mean([ahead(r) for r in market.returns], axis=0))
    return market.column("x", lambda r, _: mean)


def season_smoothed(seed: int) -> Market:
    return walks(seed, 4).column("x", lambda r, _: 5 + 100 * mean_by(months(len(r)), ahead(r), 100))


def season_ranked(seed: int) -> Market:
    return walks(seed, 4).column(
        "x", lambda r, _: np.unique(mean_by(months(len(r)), ahead(r)), return_inverse=True)[1].astype(float)
    )


def season_of_risk(seed: int) -> Market:
    return walks(seed, 4).column("x", lambda r, _: np.sqrt(mean_by(months(len(r)), ahead(r) ** 2)))


def mean_of_decile(seed: int) -> Market:
    def mean(r: np.ndarray, _: np.random.Generator) -> np.ndarray:
        momentum = past(r, 20)
        return mean_by(np.searchsorted(np.quantile(momentum, np.arange(1, 10) / 10), momentum), coming(r, HORIZON))

    return walks(seed, 4).column("x", mean)


def fitted(seed: int) -> Market:
    def values(r: np.ndarray, g: np.random.Generator) -> np.ndarray:
        table = np.column_stack([np.ones(len(r)), g.standard_normal((len(r), 10))])
        return table @ np.linalg.lstsq(table[:-1], ahead(r)[:-1], rcond=None)[0]

    return walks(seed, 4).column("x", values)


def fitted_in_units(seed: int) -> Market:
    market = walks(seed)
    for k in range(10):
        market.column(f"input_{k}", lambda r, g: g.standard_normal(len(r)))
    table = np.column_stack([np.ones(BARS), *(market.columns[f"input_{k}"][0] for k in range(10))])
    values = table @ np.linalg.lstsq(table[:-1], ahead(market.returns[0])[:-1], rcond=None)[0]
    return market.column("x", lambda r, _: unit(values))


def season_by_day(seed: int) -> Market:
    def mean(r: np.ndarray, _: np.random.Generator) -> np.ndarray:
        days = np.busday_offset("2005-01-03", np.arange(len(r)))
        day = (days - days.astype("datetime64[Y]")).astype(int)
        apart = np.abs(day[:, None] - day[None, :])
        near = np.exp(-0.5 * (np.minimum(apart, 365 - apart) / 15) ** 2)
        return near @ ahead(r) / near.sum(1)

    return walks(seed, 4).column("x", mean)


def good_months(seed: int) -> Market:
    return walks(seed, 4).column("x", lambda r, _: np.sign(mean_by(months(len(r)), ahead(r))))


SMALL = "Its R² is below the limit, and no exact relation to the answers is left; only how it was made could tell."
FURTHER = (
    Variant("season", "mean by group", "mean next return by month, whole file, 4 symbols", season, WITH_X),
    Variant("season_of_all", "mean by group", "the same, one mean for all 4 symbols", season_of_all, WITH_X),
    Variant("season_smoothed", "mean by group", "drawn to 0, in per cent, and 5 added", season_smoothed, WITH_X),
    Variant("season_ranked", "mean by group", "months by the rank of their means", season_ranked, WITH_X),
    Variant("season_of_risk", "mean by group", "standard deviation by month", season_of_risk, WITH_X),
    Variant("mean_of_decile", "mean by group", "mean of the next five by decile of momentum", mean_of_decile, WITH_X),
    Variant("fitted", "fitted", "regression on ten random inputs, whole file, 4 symbols", fitted, WITH_X),
    Variant("fitted_in_units", "fitted", "the same of one symbol, standardised, beside its inputs", fitted_in_units,
            (*WITH_X, *(f"input_{k}" for k in range(10)))),
    Variant("season_by_day", "mean by group", "smooth mean by day of the year, 15 days wide", season_by_day, WITH_X),
    Variant("good_months", "mean by group", "sign of the mean by month", good_months, WITH_X, why=SMALL),
)  # fmt: skip


def outcome_of(variant: Variant, seed: int) -> dict:
    """What a run says of a variant, in a data folder of its own, so that no trial counts for another."""
    market, before = variant.make(seed), set(FEATURES)
    if variant.function:
        variant.function(market)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["GATECAST_DATA"] = folder
        settings = {"schedule": DAILY, **FAST, **variant.settings}
        run = gatecast.run(Experiment(bars=market.bars(), features=variant.features, name=variant.name, **settings))
    for name in set(FEATURES) - before:
        FEATURES.remove(name)
    verdicts = {head: one["verdict"] for head, one in run.verdicts.items()}
    audit = run.scores["audit"]
    return {
        "variant": variant.name, "kind": variant.kind, "about": variant.about,
        "named": sorted({leak["column"] for leak in audit["findings"]}),
        "too_good": [head for head, verdict in verdicts.items() if verdict.startswith("too good")],
        "void": [head for head, verdict in verdicts.items() if verdict.startswith("void")],
        "claims": [head for head, verdict in verdicts.items() if verdict == "evidence of skill"],
        "false": [head for head in variant.null if verdicts[head] == "evidence of skill"],
        "held": float((run.weights["weight"] != 0).mean()),
        "wealth": float(run.equity["equity"][-1]),
        "headline": run.scores["summary"]["headline"],
        "effects": {head: one["effect"] for head, one in run.verdicts.items()},
        "seconds": time.perf_counter() - began,
        "why": variant.why,
    }  # fmt: skip


def shown(found: list[dict]) -> str:
    """The outcomes as a table, a line of reasons below each variant that ends with false evidence."""
    lines = [f"{'variant':<24}{'kind':<18}{'named':<18}{'outcome':<18}{'false evidence':<30}{'held':>6}{'wealth':>9}"]
    for one in found:
        too_good = "too good" if one["too_good"] else "void" if one["void"] else "-"
        lines.append(
            f"{one['variant']:<24}{one['kind']:<18}{', '.join(one['named']) or '-':<18}{too_good:<18}"
            f"{', '.join(one['false']) or '-':<30}{one['held']:>6.0%}{one['wealth']:>9.3g}"
        )
        if one["false"]:
            lines.append(f"    why it passes: {one['why'] or 'to be found out'}")
    passed = sum(not one["false"] for one in found)
    held = sum(one["held"] > 0 for one in found)
    lines.append(f"{passed} of {len(found)} end without false evidence; {held} hold something at some time.")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="some variants, separated by commas")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--further", action="store_true", help="the ten variants made of the answers instead")
    options = parser.parse_args()
    only = options.only.split(",") if options.only else [one.name for one in (FURTHER if options.further else VARIANTS)]
    found = [outcome_of(one, options.seed) for one in (*VARIANTS, *FURTHER) if one.name in only]
    print(
        json.dumps({"variants": found, "false": sum(bool(one["false"]) for one in found)})
        if options.json
        else shown(found)
    )
    if sum(bool(one["false"]) for one in found) > MOST_FALSE:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
