"""An experiment is frozen settings; `run` is the pipeline on one screen; a Run is all that it produced."""

from __future__ import annotations

import re
import time
import tomllib
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field, ValidationInfo, field_validator, model_validator

from gatecast import provenance
from gatecast.arguments import checked
from gatecast.compute.disk import Disk
from gatecast.compute.estimate import Cost, Work
from gatecast.errors import BarsError, HistoryTooShortError, SettingsError, did_you_mean
from gatecast.evaluation.compare import per_session
from gatecast.evaluation.delay import DIES, Later, one_bar_later, without_repeated_ranges, without_what_dies
from gatecast.evaluation.holdout import FIRST_DAY, NEWEST_DAY, as_day, last_session
from gatecast.evaluation.knowing import most_to_blame
from gatecast.evaluation.ledger import (
    Data,
    Trial,
    daily_profit,
    independent_trials,
    ledger_path,
    problems,
    read_trials,
    record_trials,
    unrecorded,
)
from gatecast.evaluation.plausible import ABOUT_RETURNS, TOO_GOOD, too_good, without_what_is_too_good
from gatecast.evaluation.rivals import with_rival
from gatecast.evaluation.tuned import searches_of
from gatecast.evaluation.verdict import Verdict, judge
from gatecast.forecasting.conformal import Intervals, with_intervals
from gatecast.forecasting.ensemble import Ensemble
from gatecast.forecasting.forecaster import Forecaster, Timed
from gatecast.forecasting.forest import Forest
from gatecast.forecasting.garch import Garch
from gatecast.forecasting.highway import Highway
from gatecast.forecasting.hours import ByHour
from gatecast.forecasting.lag import LogisticLag, RidgeLag
from gatecast.forecasting.linear import BayesRidge, Ridge
from gatecast.forecasting.logistic import Logistic, har_regime_falls_rival, har_regime_rival, threshold_rival
from gatecast.forecasting.lstm import LSTM
from gatecast.forecasting.naive import RULES, VARIANCE_RULES, Naive
from gatecast.forecasting.regimes import HiddenMarkov
from gatecast.forecasting.schedule import EXPANDING, LONG, Schedule, work_of
from gatecast.forecasting.transformer import TFT
from gatecast.forecasting.tuning import DEFAULT, SearchProgress, TunedLSTM, Tuning
from gatecast.forecasting.volatility import HARLevels, LinearVariance, LogHAR, SmoothHAR
from gatecast.forecasting.walkforward import Forecasts, walk_forward
from gatecast.market import synthetic
from gatecast.market.actions import no_actions
from gatecast.market.bars import session_date
from gatecast.market.calendar import OLDEST_SESSIONS, periods_of, sessions_of
from gatecast.market.ends import find_ends_and_returns, has_ended
from gatecast.market.sources import Reading, read_with_findings
from gatecast.market.stale import repeated_ranges, untradable
from gatecast.results import (
    Chain,
    ClassResult,
    Run,
    audit_of,
    fills_of,
    forecasts_file,
    jsonable,
    kept_samples,
    scores_of,
    signals_frame,
    weights_frame,
)
from gatecast.samples.features import DEFAULT_FEATURES, find_feature
from gatecast.samples.features.catalogue import BUILT_IN, CATALOGUE
from gatecast.samples.known import delays
from gatecast.samples.targets import HEADS, to_times
from gatecast.samples.windows import Samples, make_samples
from gatecast.settings import Settings, said_above
from gatecast.trading.backtest import backtest, net_of_class
from gatecast.trading.costs import Costs
from gatecast.trading.plausible import PLANTED
from gatecast.trading.selection import SelectionSettings, select_strategy
from gatecast.trading.signals import SignalSettings, make_signals
from gatecast.trading.strategies import StrategySettings, propose

MODELS = ("lstm", "forest", "logistic", "ridge", "highway", "garch")
KNOWN_MODELS = (*MODELS, "tft", "gjr", "markov")
LONG_EVERY = 3  # refits that a rival on everything known stays in force: a month hardly changes twenty years
SIGMA_WARMUP = 22  # returns that a trailing volatility takes
Progress = Callable[[str, int, int], None]
"""Called with a stage's name, what is done and what there is to do."""
Plan = Callable[[dict[str, Work]], None]
"""Called with the work of each asset class, before anything is fitted."""
Span = tuple[NDArray[np.datetime64], NDArray[np.datetime64]]
"""(rows,) times of forecasts, and (rows,) when their answers are known."""


class BarsSettings(Settings):
    """Where bars come from and how they are to be understood; see `gatecast.read_bars`."""

    source: str = "embedded"
    """a CSV or Parquet file, a folder, a glob, or embedded"""
    symbols: tuple[str, ...] | None = Field(default=None, examples=[["SP500"]])
    """keep only these"""
    symbols_file: str | None = Field(default=None, examples=["symbols.csv"])
    """a CSV with symbol and asset_class"""
    asset_class: str = "equity"
    """for symbols without a class of their own"""
    timezone: str | None = Field(default=None, examples=["Europe/Berlin"])
    """zone of times without one"""
    stamp: Literal["open", "close"] | None = Field(default=None, examples=["open"])
    """which end of its bar an intraday, weekly or monthly time is"""
    resample: str | None = Field(default=None, examples=["1w"])
    """coarser bars to make of these"""
    start: str | None = Field(default=None, examples=["2005-01-01"])
    """first session"""
    end: str | None = Field(default=None, examples=["2018-12-31"])
    """last session"""
    as_of: str | None = Field(default=None, examples=["2018-12-31"])
    """only what was known then; a date: at its end, UTC"""
    versions: Literal["first", "newest"] = "first"
    """of several versions of a row: the first known, which forecasts could use, or the newest"""
    known_at: dict[str, str] | None = Field(default=None, examples=[{"short_interest": "16d"}])
    """when further columns become known: a delay after the row's close, or a column of times"""
    date_format: str | None = Field(default=None, examples=["%d/%m/%Y"])
    """format of dates like 03/04/2024, which are refused without it"""
    splits: str | Literal[False] | None = Field(default=None, examples=["splits.csv"])
    """a table of symbol, date, ratio of splits that the prices do not contain; false: every step is a true move"""
    actions: str | None = Field(default=None, examples=["actions.csv"])
    """a table of symbol, kind, date, value; the kind is split or delisting"""
    columns: tuple[str, ...] | None = Field(default=None, examples=[["sentiment"]])
    """further columns to read; left out: all that hold numbers"""
    frame: Any = Field(default=None, exclude=True, repr=False)
    """bars handed over in memory, instead of a source; in no file"""

    @field_validator("start", "end", "as_of", mode="before")
    @classmethod
    def _on_a_day_of_markets(cls, value: Any, about: ValidationInfo) -> Any:
        """Refuses years in which no market has bars; what is no date is refused by `read_bars`."""
        if isinstance(value, str) and re.match(r"\d{4}", value) and not FIRST_DAY[:4] <= value[:4] <= NEWEST_DAY[:4]:
            as_day(value[:10], str(about.field_name))
        return value

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of `gatecast.read_bars` but the source; a class that nobody gave is not among them."""
        unsaid = set() if "asset_class" in self.model_fields_set else {"asset_class"}
        return self.model_dump(exclude={"source", *unsaid})

    def read(self, sealed: str | None = None) -> Reading:
        """The bars and what was found in them; nothing that became known in the session `sealed` or later."""
        return read_with_findings(self.source if self.frame is None else self.frame, sealed=sealed, **self.options)


class Control(Settings):
    """A planted market that runs through the same chain, so that a reader sees what skill would look like."""

    market: str = "b1"
    """a name of gatecast.market.synthetic"""
    r2: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """share of each bar's variance that can be forecast; of b1 alone"""
    bars: Annotated[int, Field(ge=700, le=100_000)] = 2500
    """length in bars"""
    seed: Annotated[int, Field(ge=0)] = 0
    """seed of the planted path"""

    @field_validator("market")
    @classmethod
    def _known(cls, market: str) -> str:
        if market not in synthetic.MARKETS:
            raise ValueError(f"unknown market {market!r}. {did_you_mean(market, synthetic.MARKETS)}")
        return market

    def make(self) -> pl.DataFrame:
        """The planted bars."""
        truth = {"r2": self.r2} if self.market == "b1" else {}
        return synthetic.MARKETS[self.market](self.bars, self.seed, **truth)


class Experiment(Settings):
    """Everything that decides a run, frozen; to and from TOML.

    `bars` may also be a path, a Polars or pandas frame. `lookback`, `horizon` and `seed` are said once here and given
    to every model.

    >>> Experiment(horizon=50)
    Traceback (most recent call last):
        ...
    gatecast.errors.SettingsError: Experiment: horizon = 50: input should be less than or equal to 22 (bars ahead, h).
    """

    name: str = "experiment"
    """names the run and its folder"""
    seed: Annotated[int, Field(ge=0)] = 0
    """everything random follows from it"""
    lookback: Annotated[int, Field(ge=10, le=100)] = 30
    """bars in a window, T"""
    horizon: Annotated[int, Field(ge=1, le=22)] = 5
    """bars ahead, h"""
    features: tuple[str, ...] | None = Field(default=None, examples=[["ret_log_1", "rsi_14"]])
    """names of the catalogue or columns of the bars; left out: the default five"""
    volatility_proxy: str = "garman_klass"
    """measure of variance: close_to_close, parkinson, garman_klass, or a column of the bars"""
    models: tuple[str, ...] = MODELS
    """models that run, of lstm, forest, logistic, ridge, highway, tft, garch, gjr, markov"""
    bars: BarsSettings = BarsSettings()
    """Where the bars come from, and how they are to be understood."""
    holdout: str | None = Field(default=None, examples=["2017-01-01"])
    """first session that nothing reads until `gatecast unseal`, once"""
    too_good: tuple[str, ...] = ()
    """heads or columns that may be too good to be true, which is refused otherwise; heads: return, direction, strategy;
    planted: a market whose truth is known; said first"""
    schedule: Schedule = Schedule()
    """Walk-forward: when models are refitted, and on what."""
    lstm: LSTM = LSTM()
    """The LSTM; lookback, horizon and seed are said once, above."""
    forest: Forest = Forest()
    """The random forest."""
    logistic: Logistic = Logistic()
    """The logistic regression."""
    ridge: Ridge = Ridge()
    """The ridge regression, the linear yardstick."""
    highway: Highway = Highway()
    """The LSTM that corrects the linear forecasts of variance."""
    tft: TFT = TFT()
    """The Temporal Fusion Transformer, where models name tft; lookback, horizon and seed are said above."""
    garch: Garch = Garch()
    """GARCH and GJR-GARCH with t innovations, where models name garch or gjr."""
    markov: HiddenMarkov = HiddenMarkov()
    """The hidden Markov model of regimes, where models name markov; its seed is said above."""
    ensemble: Ensemble = Ensemble()
    """How the models' forecasts become one."""
    intervals: Intervals = Intervals()
    """Intervals around the ensemble's path."""
    signals: SignalSettings = SignalSettings()
    """When a forecast is a signal."""
    strategies: StrategySettings = StrategySettings()
    """What the strategies have in common."""
    selection: SelectionSettings = SelectionSettings()
    """Which strategy is in force, and how evidence reaches the money."""
    costs: Costs = Costs()
    """Costs of trading in basis points; left out: those of the asset class."""
    tuning: Tuning | None = None
    """Bayesian search for the LSTM's settings, one study a class and date: off until the line below is there."""
    control: Control | None = None
    """A planted market through the same chain, to see what evidence of skill looks like."""
    jobs: Annotated[int, Field(ge=1, le=1024)] = Field(default=1, exclude=True)
    """number of cores; changes no result"""
    unfinished: Path | None = Field(default=None, exclude=True, repr=False)
    """folder that keeps an interrupted run's networks; changes no result"""
    studies: Path | None = Field(default=None, exclude=True, repr=False)
    """file that keeps the searches for settings, where tuning names no storage"""

    @field_validator("bars", mode="before")
    @classmethod
    def _bars_from_anything(cls, bars: Any) -> Any:
        if isinstance(bars, str | Path):
            return BarsSettings(source=str(bars))
        if isinstance(bars, BarsSettings | dict):
            return bars
        return BarsSettings(source="frame", frame=bars)

    @field_validator("holdout", mode="before")
    @classmethod
    def _a_date(cls, holdout: Any) -> Any:
        return None if holdout is None else str(as_day(holdout))

    @field_validator("models")
    @classmethod
    def _known_models(cls, models: tuple[str, ...]) -> tuple[str, ...]:
        for name in models:
            if name not in KNOWN_MODELS:
                raise ValueError(f"unknown model {name!r}. {did_you_mean(name, KNOWN_MODELS)}")
        if len(set(models)) != len(models):
            raise ValueError("expected each model once")
        return models

    @field_validator("too_good", mode="before")
    @classmethod
    def _one_or_more(cls, names: Any) -> Any:
        return (names,) if isinstance(names, str) else names

    @field_validator("features")
    @classmethod
    def _at_least_one(cls, features: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if features is not None and (not features or len(set(features)) != len(features)):
            raise ValueError("expected at least one feature, each named once (leave it out for the default five)")
        return features

    @model_validator(mode="after")
    def _said_once(self) -> Experiment:
        for model, said in SAID_ABOVE.items():
            settings = getattr(self, model)
            for name in sorted(said & settings.model_fields_set):
                above, below = getattr(self, name), getattr(settings, name)
                if above != below:
                    raise ValueError(f"{name} = {above} and {model}.{name} = {below}: set it once, at the top.")
        if self.tuning is not None and "lstm" not in self.models:
            raise ValueError("tuning searches for the settings of the model 'lstm': add it to models, or leave it out.")
        if self.tuning is not None and self.tuning.head not in ("all", *self.lstm.heads):
            raise ValueError(
                f"tuning.head = {self.tuning.head!r}, which the LSTM does not forecast: expected all or one of "
                f"its heads, {', '.join(self.lstm.heads)}."
            )
        for model in ("lstm", "logistic", "ridge"):
            if getattr(self, model).label != model:
                raise ValueError(f"{model}.label: in an experiment a model goes by its own name, {model!r}.")
        self._known_as_too_good()
        heads = self._heads()
        needs: list[tuple[str, tuple[str, ...], tuple[str, ...]]] = [
            ("ensemble.members", self.ensemble.members, ("return", "direction")),
            ("ensemble.volatility_members", self.ensemble.volatility_members, ("volatility",)),
            ("signals.model", (self.signals.model,), ("return",)),
            ("signals.confirmed_by", (self.signals.confirmed_by,), ("return",)),
        ]
        for place, names, wanted in needs:
            able = [name for name in heads if not set(wanted).isdisjoint(heads[name])]
            section, setting = place.split(".")
            if section == "ensemble" and names == Ensemble.model_fields[setting].default:
                continue  # those of the default that forecast here take part
            for name in names:
                if name in KNOWN_MODELS and name not in self.models:
                    there = [one for one in self.models if one in able and section == "signals"]
                    other = f', or set {setting} = "{there[0]}" under [{section}]' if there else ""
                    raise ValueError(f"{place} needs the model {name!r}: add it to models{other}.")
                if name not in able:
                    raise ValueError(
                        f"{place} names {name!r}, which forecasts no {' and no '.join(wanted)} here. "
                        f"Those that do: {', '.join(able) or 'none'}."
                    )
        if not any("direction" in heads.get(name, ()) for name in self.ensemble.members):
            able = [name for name in heads if "direction" in heads[name]]
            raise ValueError(
                "expected a member of the ensemble that forecasts the probability of a rise; "
                + (f"those that do here: {', '.join(able)}." if able else "add lstm, forest or logistic to models.")
            )
        return self

    def _known_as_too_good(self) -> None:
        features = self.features or DEFAULT_FEATURES
        needed = [need for name in features if name in CATALOGUE for need in CATALOGUE[name].needs]
        known = list(dict.fromkeys([PLANTED, *ABOUT_RETURNS, *features, *needed]))
        for name in self.too_good:
            if name not in known:
                raise ValueError(
                    f"too_good names {name!r}: expected a head that may be too good ({', '.join(ABOUT_RETURNS)}), a "
                    f"feature or column in use, or {PLANTED!r}. {did_you_mean(name, known)}"
                )

    def combine(self, forecasts: Forecasts, since: int = 0) -> Forecasts:
        """The rival in force, the ensemble of the models' forecasts, and intervals; `since`: see `Ensemble.combine`."""
        return with_intervals(self.ensemble.combine(with_rival(forecasts), since), self.intervals)

    def _heads(self) -> dict[str, tuple[str, ...]]:
        """What each model of the experiment, and each rival that forecasts variance, forecasts."""
        own: dict[str, tuple[str, ...]] = {
            "lstm": self.lstm.heads, "forest": HEADS,
            "logistic": self.logistic.heads, "ridge": ("return", "volatility"), "highway": ("volatility",),
            "tft": HEADS, "garch": ("volatility",), "gjr": ("volatility",), "markov": ("regime",),
        }  # fmt: skip
        names = (
            "har", "har_levels", "har_falls", "har_symbol", "har_class", "har_smooth",
            "constant", "ewma", "ewma_range", "last",
        )  # fmt: skip
        rivals = dict.fromkeys(names, ("volatility",))
        long = {name + LONG: own[name] for name in self._on_both_windows()}
        return {name: own[name] for name in self.models} | long | rivals

    def _on_both_windows(self) -> list[str]:
        """The cheap models that also run on everything known, to show whether a longer window is better."""
        cheap = () if self.schedule.expanding else ("ridge", "logistic")
        return [name for name in cheap if name in self.models and getattr(self, name).window != EXPANDING]

    def read(self) -> Reading:
        """The bars and what was found in them; no session of the hold-out, nor what became known in it.

        Raises `BarsError` where no price moves at all: there is nothing to forecast.
        """
        settings = self.bars
        if self.holdout is not None:
            settings = settings.replace(end=last_session(self.holdout, settings.end))
        reading: Reading = settings.read(sealed=self.holdout)
        if reading.bars.group_by("symbol").agg(pl.col("close").n_unique() == 1)["close"].all():
            names = ", ".join(reading.bars["symbol"].unique().sort().head(10))
            raise BarsError(
                f"no price moves ({names}): there is nothing to forecast. Give another file or other symbols."
            )
        return reading

    @property
    def context(self) -> int:
        """Bars that must lie behind a sample: the longest lookback of any model."""
        return max(self.lookback, self.tuning.reach if self.tuning else 0)

    def make_samples(self, bars: pl.DataFrame) -> dict[str, Samples]:
        """Asset class -> samples, as the experiment's models need them."""
        return make_samples(
            bars, self.features, lookback=self.lookback, horizon=self.horizon,
            volatility_proxy=self.volatility_proxy, context=self.context,
        )  # fmt: skip

    def lstms(self, told: SearchProgress | None = None) -> list[Forecaster]:
        """The LSTM; with `tuning` the one whose settings are searched for, and beside it the one with those given."""
        lstm: LSTM = self.lstm.replace(
            lookback=self.lookback, horizon=self.horizon, seed=self.seed, unfinished=self.unfinished
        )
        if self.tuning is None:
            return [lstm]
        window = lstm.window or (EXPANDING if self.schedule.expanding else self.schedule.train)
        storage = self.tuning.storage or (f"sqlite:///{self.studies}" if self.studies else None)
        return [
            TunedLSTM(lstm.replace(window=window), self.tuning, storage, told),
            lstm.replace(label="lstm" + DEFAULT),
        ]

    def forecasters(self, told: SearchProgress | None = None) -> list[Forecaster]:
        """The models of the experiment and every task's simple rivals; `told` hears how far searches have come."""
        own: dict[str, Forecaster] = {
            "forest": self.forest.replace(seed=self.seed),
            "logistic": self.logistic,
            "ridge": self.ridge,
            "highway": self.highway.replace(
                lookback=self.lookback, horizon=self.horizon, seed=self.seed, unfinished=self.unfinished
            ),
            "tft": self.tft.replace(lookback=self.lookback, horizon=self.horizon, seed=self.seed),
            "garch": self.garch.replace(asymmetric=False),
            "gjr": self.garch.replace(asymmetric=True),
            "markov": self.markov.replace(seed=self.seed),
        }
        long: list[Forecaster] = [
            getattr(self, name).replace(window=EXPANDING, every=LONG_EVERY, label=name + LONG)
            for name in self._on_both_windows()
        ]
        return [
            *(one for name in self.models for one in (self.lstms(told) if name == "lstm" else [own[name]])),
            *long,
            *(ByHour(Naive(rule=rule)) if rule in VARIANCE_RULES else Naive(rule=rule) for rule in RULES),
            RidgeLag(),
            LogisticLag(),
            BayesRidge(),
            *(
                ByHour(one)
                for one in (
                    LogHAR(), HARLevels(), LogHAR(falls=True), LinearVariance(), LinearVariance(pooled=True),
                    SmoothHAR(), threshold_rival(), har_regime_rival(), har_regime_falls_rival(),
                )
            ),
        ]  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """JSON-able settings, each once, without what changes no result (`jobs`); `Experiment(**...)` reads them."""
        return self.model_dump(mode="json", exclude=SAID_ABOVE)

    @classmethod
    @checked
    def from_toml(cls, path: str | Path, **changes: Any) -> Experiment:
        """From a settings file; `changes` (nested by section) win over it.

        Raises `SettingsError` with the place for what is no TOML, unknown or out of range.
        """
        try:
            settings = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"{path}: the settings cannot be read: {error}.") from None
        except tomllib.TOMLDecodeError as error:
            raise SettingsError(f"{path}: this is no TOML: {error}.") from None
        if isinstance(settings.get("bars"), str):
            settings["bars"] = {"source": settings["bars"]}
        return cls(**merge(settings, changes))


SAID_ABOVE = said_above(Experiment)
"""Section -> the settings in it that the experiment says once, for all of them."""


@checked
def run(experiment: Experiment, *, progress: Progress | None = None, plan: Plan | None = None) -> Run:
    """The whole chain, bars to verdict; `gatecast.save_run` writes what it returns.

    Raises `HistoryTooShortError` when no model can be fitted even once, `BarsError` for bars that cannot be trusted.

    >>> quick = Experiment(
    ...     bars=synthetic.b1(900, seed=1, r2=0.05), features=("ret_log_1", "x"),
    ...     lstm=LSTM(units=16, layers=1, seeds=1, epochs=2), schedule=Schedule(refit="1Y"), forest=Forest(trees=5),
    ... )
    >>> run(quick).verdicts["return"]["horizon"]
    5
    """
    began = time.monotonic()
    reading = experiment.read()
    with problems() as early:  # what cannot be read is found before hours of work, not after them
        read_trials(ledger_path())
    chain = make_chain(experiment, reading.bars, progress, plan, reading.actions)
    with problems() as found:
        trials = record_chain(experiment, chain)
    later = later_of(experiment, chain)
    verdicts = judge_chain(experiment, chain, trials, later)
    without = None
    if chain.takes_default_terms:
        without = judge_chain(experiment, chain.without_default_ends(), trials, later)
    finished = finish(experiment, chain)
    audit = audit_of(finished)
    doubted = not audit.clean or any(verdict.verdict in (TOO_GOOD, DIES) for verdict in verdicts.values())
    if doubted and experiment.selection.evidence is None:  # nothing is held of what cannot be believed
        chain = chain.with_nothing_held(experiment.costs)
        finished = finish(experiment, chain)
    finished = replace(finished, control=run_control(experiment, progress, plan))
    with problems() as more:
        scores = scores_of(finished, chain, verdicts, trials, reading, without, later, audit)
    scores["warnings"] = [*dict.fromkeys([*early, *found, *more]), *scores["warnings"]]
    cost = asdict(Cost.since(began, len(chain.bars)))
    return replace(finished, scores=scores, provenance={**finished.provenance, "cost": cost})


def finish(experiment: Experiment, chain: Chain) -> Run:
    """The run of a chain, without scores."""
    return Run(
        experiment, chain.bars, forecasts_file(chain.forecasts.values(), chain.disk),
        signals_frame(chain.classes, experiment.signals, experiment.selection.evidence), chain.weights,
        chain.result.equity, {},
        provenance.of_run(experiment.to_dict(), chain.bars, chain.forecasts, chain.seconds), chain.classes,
    )  # fmt: skip


def make_chain(
    experiment: Experiment,
    bars: pl.DataFrame,
    progress: Progress | None = None,
    plan: Plan | None = None,
    actions: pl.DataFrame | None = None,
) -> Chain:
    """The pipeline, bars to profit and loss; nothing is judged or recorded yet.

    One class after the other; of several only the one at work is in memory, see `compute.disk`. `actions`: the
    delistings that are known, see `gatecast.market.ends`.

    Raises `HistoryTooShortError` as `run` does.
    """
    names = bars["asset_class"].unique().sort().to_list()
    disk = Disk.for_classes(len(names))
    made: dict[str, Samples] = {}
    for name in names:
        made |= experiment.make_samples(bars.filter(pl.col("asset_class") == name))
        made[name] = kept_samples(made[name], disk) if disk else made[name]
    samples = enough_history(made, bars, experiment)
    left_out = {
        name: history_needed(bars.filter(pl.col("asset_class") == name), experiment)
        for name in made if name not in samples
    }  # fmt: skip
    if plan:
        plan({name: work_of(one, experiment.schedule.folds(one.times, one.known_at)) for name, one in samples.items()})
    seconds: dict[str, float] = {}
    fills, classes = fills_of(bars), {}
    for name, one in samples.items():
        at_work = deepcopy(one) if disk else one  # a copy is in memory
        result = decide(experiment, forecast_class(experiment, at_work, progress, seconds), bars, fills, actions)
        classes[name] = result.kept_on(disk, one) if disk else result
        at_work.forget()
        del at_work, result  # or they would stay until the next class is done
    weights = weights_frame(classes, bars, actions)
    book = backtest(weights.select("symbol", "time", "weight"), bars, experiment.costs, actions=actions)
    return Chain(bars, classes, weights, book, seconds, left_out, disk, no_actions() if actions is None else actions)


def record_chain(experiment: Experiment, chain: Chain) -> list[Trial]:
    """Adds the chain and the candidates of its searches to the ledger; all trials on the same market and span.

    Nothing is added for what is known already, or inside `ledger.unrecorded`.
    """
    trial = trial_of(experiment, chain)
    nested = [one for each in chain.forecasts.values() for one in nested_trials(experiment, each, trial.data)]
    return record_trials([*nested, trial])


def judge_chain(
    experiment: Experiment,
    chain: Chain,
    trials: Sequence[Trial] | None = None,
    later: Sequence[Later] | None = None,
) -> dict[str, Verdict]:
    """The verdicts of a chain, corrected for all that was tried on the same market and span.

    A claim that one bar of delay ends, and one that is too good to be true, is none.

    This is where a judgement is made, and so where a trial counts: whoever judges a chain has tried it. `make_chain`
    and `walk_forward` alone claim nothing and leave no trial.

    Parameters
    ----------
    trials: what `record_chain` returned; None: the chain is recorded here. Copies and planted markets are judged
        inside `ledger.unrecorded`, where there are no other trials.
    later: what `later_of` returned; None: found here.
    """
    trials = [one for one in (record_chain(experiment, chain) if trials is None else trials) if not one.nested]
    days, held = per_session(chain.benchmark, chain.sessions)
    with unrecorded():  # the trials on file are counted above
        verdicts = judge(
            chain.forecasts, chain.net, chain.benchmark,
            round_trip=float(np.mean([experiment.costs.round_trip(name) for name in chain.classes])),
            periods_per_year=chain.result.rows_per_year, sessions=chain.sessions, trials=max(len(trials), 1),
            effective_trials=independent_trials(trials, days, held) if trials else None,
        )  # fmt: skip
    if PLANTED in experiment.too_good:  # its truth is known, and may end with the next bar
        return verdicts
    verdicts = without_repeated_ranges(verdicts, list(repeated_ranges(chain.bars.sort("symbol", "time"))))
    found = too_good(
        chain.forecasts, chain.net, chain.benchmark, chain.sessions, sessions_of(chain.bars),
        {name: one.selection.too_good for name, one in chain.classes.items()}, experiment.too_good,
    )  # fmt: skip
    blamed = [one for name in chain.classes for one in _blamed(chain, name, experiment)] if found else []
    later = later_of(experiment, chain) if later is None else later
    if untradable(chain.bars.sort("symbol", "time")):  # stale prices explain what is too good, and not a leak
        return without_what_is_too_good(without_what_dies(verdicts, later), found, blamed, stale=True)
    return without_what_dies(without_what_is_too_good(verdicts, found, blamed), later)


def _blamed(chain: Chain, name: str, experiment: Experiment) -> list[tuple[str, float]]:
    bars = chain.bars.filter(pl.col("asset_class") == name).sort("symbol", "time")
    return most_to_blame(bars, chain.classes[name].samples.names, experiment.horizon)


def later_of(experiment: Experiment, chain: Chain) -> list[Later]:
    """The effects of a chain's forecasts of returns and of its book with decisions one bar late."""
    weights = chain.weights.select("symbol", "time", "weight")
    return one_bar_later(chain.forecasts, weights, chain.bars, experiment.costs, chain.actions)


def forecast_class(
    experiment: Experiment,
    samples: Samples,
    progress: Progress | None = None,
    seconds: dict[str, float] | None = None,
) -> Forecasts:
    """Walk-forward forecasts of one asset class by every model, with the ensemble on top.

    What each model's training takes is added to `seconds`.
    """
    spent = {} if seconds is None else seconds
    total = len(experiment.schedule.folds(samples.times, samples.known_at))
    seldom = len(range(0, total, experiment.highway.every))
    networks = len(range(0, total, experiment.lstm.every)) * experiment.lstm.seeds
    work = {"lstm": networks, "lstm" + DEFAULT: networks, "highway": seldom * experiment.highway.seeds}
    work |= {name + LONG: len(range(0, total, LONG_EVERY)) for name in MODELS}
    done: dict[str, int] = {}

    def report(model: str, count: int) -> None:
        done[model] = done.get(model, 0) + count
        if progress:
            progress(f"{samples.asset_class}: {model}", done[model], work.get(model, total))

    def told(count: int, of: int, best: str) -> None:
        if progress:
            progress(f"{samples.asset_class}: tuning", count, of)

    forecasters = [Timed(one, spent) for one in experiment.forecasters(told)]
    forecasts = walk_forward(forecasters, samples, experiment.schedule, jobs=experiment.jobs, progress=report)
    combined = experiment.combine(forecasts)
    report("ensemble", total)
    return combined


def decide(
    experiment: Experiment,
    forecasts: Forecasts,
    bars: pl.DataFrame,
    fills: NDArray[np.bool_],
    actions: pl.DataFrame | None = None,
) -> ClassResult:
    """Signals, every strategy's proposal and profit, and the strategy in force, for one asset class.

    `fills`: (bars,) whether orders are filled at each bar's open, see `fills_of`. `actions`: the delistings that are
    known. An end without a bar counts in the records at the class's first forecast at or after it; a symbol whose end
    is known at a close has no weight there.
    """
    samples = forecasts.samples
    name = samples.asset_class
    own = bars.filter(pl.col("asset_class") == name)
    at_open = fills[(bars["asset_class"] == name).to_numpy()]
    periods = periods_of(own)
    per_side = experiment.costs.per_side(name)
    signals = make_signals(forecasts, experiment.signals)
    proposals = propose(forecasts, signals, own, 2 * per_side, periods, experiment.strategies)
    ends = find_ends_and_returns(bars, actions)
    proposals = proposals.without(has_ended(own, ends))
    net, booked = net_of_class(proposals.weights, own, experiment.costs, at_open, ends)
    at = proposals.forecast_at[np.argsort(samples.time[proposals.forecast_at], kind="stable")]
    for moment, profit in booked:
        place = int(np.searchsorted(samples.time[at], moment))
        if place < len(at):
            net[at[place]] += profit
    target = experiment.strategies.target_volatility / np.sqrt(periods)
    class_starts = bars.group_by("asset_class").agg(pl.col("time").min())["time"].dt.replace_time_zone(None).to_numpy()
    selection = select_strategy(
        forecasts, proposals, net, per_side, target, experiment.selection, class_starts, experiment.too_good
    )
    return ClassResult(samples, forecasts, signals, proposals, selection, net)


def enough_history(samples: dict[str, Samples], bars: pl.DataFrame, experiment: Experiment) -> dict[str, Samples]:
    """The classes that can be fitted at least once; the others are left out, and the run's warnings name them.

    Raises `HistoryTooShortError` when there is none, with what it would take.
    """
    found = {name: one for name, one in samples.items() if experiment.schedule.folds(one.times, one.known_at)}
    if not found and not any(one.names for one in samples.values()):
        reasons = "; ".join(f"{name}: {why}" for one in samples.values() for name, why in one.left_out.items())
        raise HistoryTooShortError(
            f"Nothing moved: there is nothing to judge. No feature has values that vary: {reasons}."
        )
    if not found:
        raise HistoryTooShortError(history_needed(bars, experiment))
    return found


def history_needed(bars: pl.DataFrame, experiment: Experiment) -> str:
    """What the symbol with the most bars has, and what it would take to fit it once: more bars, or a longer window."""
    symbol, have = bars.group_by("symbol").len().sort("len", "symbol").row(-1)
    own = bars.filter(pl.col("symbol") == symbol)
    schedule, times = experiment.schedule, to_times(own, "time")
    names = experiment.features or DEFAULT_FEATURES
    warmup = max(SIGMA_WARMUP, *(find_feature(name, bars.columns).warmup for name in names))
    first = warmup + experiment.context - 1
    pace = np.timedelta64(round(365.25 * 86_400_000_000 / periods_of(own)), "us")
    more = 5 * experiment.horizon + sum(_bars(length, pace) for length in (schedule.minimum, schedule.refit)) + 60
    times = np.r_[times, times[-1] + pace * np.arange(1, first + more)]  # as if the symbol went on at its pace
    known_at = np.r_[times[experiment.horizon :], np.full(experiment.horizon, np.datetime64("NaT"))]
    folds = schedule.folds(times[first:], known_at[first:])
    spans = [(times[first:last], known_at[first:last]) for last in (have, len(times))]
    if not all(_window_does(schedule, *span) for span in spans):
        return window_needed(schedule, spans, experiment.horizon)
    cutoff = folds[0].cutoff
    need = int(np.searchsorted(times, cutoff)) + 1
    wait = own.select((pl.col("known_at") - pl.col("time")).filter(pl.Series(delays(own) > 0))).to_series()
    if have >= need and len(wait) > have / 10:
        days = cast(timedelta, wait.median()) / timedelta(days=1)
        return (
            f"{symbol!r} has {have} bars, but {len(wait)} of them became known after the next fill, half of these "
            f"{days:.3g} days or more after their close. A forecast needs every bar of its window, and a newest one "
            f"that is at most {OLDEST_SESSIONS} sessions old. Correct known_at, or get the bars sooner."
        )
    enough = (
        f"{need} are needed, around {np.datetime_as_string(cutoff, 'D')} at its pace" if need > have
        else f"{need} would do if they were in one piece: gaps or missing values are between them"
    )  # fmt: skip
    return (
        f"{symbol!r} has {have} bars; {enough}: {warmup} for the features to settle, "
        f"{experiment.context} for a window, then {schedule.minimum} to learn from, until the next refit "
        f"of every {schedule.refit}. A longer file or features that settle sooner help, or a smaller minimum under "
        "[schedule] in a settings file."
    )


def window_needed(schedule: Schedule, spans: Sequence[Span], horizon: int) -> str:
    """That the training window is too short for answers over `horizon` bars, and the shortest that would do.

    `spans`: times and known_at as in `Schedule.folds`, of a symbol that has rows enough. The shortest is in the unit of
    `schedule.train`; with it at least half of the refits of each span have rows to train and to validate on.

    >>> times = np.arange("2015-01-01T21", "2017-01-01T21", 24, dtype="datetime64[h]").astype("datetime64[us]")
    >>> known_at = np.r_[times[5:], np.full(5, np.datetime64("NaT"))]
    >>> window_needed(Schedule(train="1W"), [(times, known_at)], 5)[-87:-43]
    'shortest that would do is 2W: --train 2W, or'
    """
    given = schedule.train
    short, unit = (given, "") if isinstance(given, int) else (int(given[:-1]), given[-1])

    def does(count: int) -> bool:
        longer = schedule.replace(train=f"{count}{unit}" if unit else count)
        return all(_window_does(longer, *span) for span in spans)

    long = 2 * short
    while not does(long) and long < len(spans[-1][0]):  # as many of any unit as there are bars hold them all
        short, long = long, 2 * long
    while long - short > 1:
        middle = (short + long) // 2
        short, long = (short, middle) if does(middle) else (middle, long)
    return (
        f"A training window of {given} is too short: with answers over {horizon} bar{'s' * (horizon != 1)} no row is "
        f"left to train on and another to validate on. The shortest that would do is {long}{unit}: "
        f"--train {long}{unit}, or train under [schedule] in a settings file."
    )


def _window_does(schedule: Schedule, times: NDArray[np.datetime64], known_at: NDArray[np.datetime64]) -> bool:
    """Whether at least half of the refits that have a past have rows to train and to validate on."""
    everything = schedule.replace(expanding=True)
    return 2 * len(schedule.folds(times, known_at)) >= len(everything.folds(times, known_at))


def _bars(length: str | int, pace: np.timedelta64) -> int:
    """How many bars a length of the schedule holds."""
    if isinstance(length, int):
        return length
    days = int(length[:-1]) * {"D": 1, "W": 7, "M": 31, "Y": 366}[length[-1]]
    return int(np.timedelta64(days, "D") / pace)


def configuration(experiment: Experiment) -> str:
    """Hash of what makes a trial. How its data are called, and what is held out, make no other configuration."""
    left_out = ("name", "bars", "control", "holdout", "too_good")  # allowing an outcome changes no forecast
    settings = {key: value for key, value in experiment.to_dict().items() if key not in left_out}
    settings["resample"] = experiment.bars.resample
    return provenance.hash_of(settings)


def data_of(bars: pl.DataFrame, samples: Sequence[Samples]) -> Data:
    """What enters a trial of these bars: returns, and the values of features that are not built in."""
    own = {name for one in samples for name in one.names} - BUILT_IN
    return provenance.data_of(bars, samples, own)


def trial_of(experiment: Experiment, chain: Chain) -> Trial:
    """What the ledger keeps of a run."""
    from gatecast.metrics.returns import sharpe

    days = session_date(chain.bars["time"].dt.replace_time_zone(None).to_numpy().astype("datetime64[us]"))
    value = sharpe(chain.net, periods_per_year=1)
    return Trial(
        tuple(chain.bars["symbol"].unique().sort().to_list()), str(days.min()), str(days.max()),
        configuration(experiment), None if np.isnan(value) else float(value), daily_profit(chain.result.equity),
        data=data_of(chain.bars, [one.samples for one in chain.classes.values()]),
    )  # fmt: skip


def nested_trials(experiment: Experiment, forecasts: Forecasts, data: Data | None = None) -> list[Trial]:
    """The candidates of a class's searches: they never saw what is judged, but each was tried."""
    given = experiment.lstm.model_dump(mode="json")
    return [
        Trial(
            forecasts.samples.symbols, found["since"][:10], found["date"][:10],
            provenance.hash_of({"given": given, **tried["params"]}), None, nested=True, data=data,
        )
        for found in searches_of(forecasts)
        for tried in found["trials"]
    ]  # fmt: skip


def run_control(experiment: Experiment, progress: Progress | None, plan: Plan | None = None) -> Run | None:
    """The planted market through the same chain, its truth's own column among the features; its scores are verdicts.

    Nobody trades on it: it is no trial.
    """
    if experiment.control is None:
        return None
    bars = experiment.control.make()
    extra = tuple(name for name in ("x", "z") if name in bars.columns)
    features = tuple(dict.fromkeys((*(experiment.features or DEFAULT_FEATURES), *extra)))
    planted = experiment.replace(
        name=f"planted market {experiment.control.market}", bars=bars, features=features, control=None,
        too_good=(PLANTED,),
    )  # fmt: skip
    told = (lambda stage, n, of: progress(f"control {stage}", n, of)) if progress else None
    asked = (lambda work: plan({f"control {name}": one for name, one in work.items()})) if plan else None
    reading = planted.read()
    chain = make_chain(planted, reading.bars, told, asked, reading.actions)
    with unrecorded():
        verdicts = judge_chain(planted, chain)
    scores = jsonable({"verdicts": {head: verdict.to_dict() for head, verdict in verdicts.items()}})
    return replace(finish(planted, chain), scores=scores)


def merge(settings: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Settings with nested changes laid over them; a change that is None changes nothing.

    >>> merge({"lstm": {"units": 32}}, {"lstm": {"layers": 1}, "seed": None})
    {'lstm': {'units': 32, 'layers': 1}}
    """
    merged = dict(settings)
    for key, value in changes.items():
        if isinstance(value, dict):
            if isinstance(merged.get(key, {}), dict):  # else it is no table, and is left to be refused
                merged[key] = merge(merged.get(key, {}), value)
        elif value is not None:
            merged[key] = value
    return merged
