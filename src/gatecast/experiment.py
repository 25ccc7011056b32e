"""An experiment is frozen settings: all that decides a run, in one object, to and from TOML."""

from __future__ import annotations

import tomllib
import warnings
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import polars as pl
from pydantic import Field, field_validator, model_validator

from gatecast.arguments import checked
from gatecast.errors import BarsError, SettingsError, did_you_mean
from gatecast.evaluation.holdout import last_session
from gatecast.evaluation.plausible import ABOUT_RETURNS
from gatecast.evaluation.rivals import with_rival
from gatecast.forecasting.conformal import Intervals, with_intervals
from gatecast.forecasting.ensemble import Ensemble
from gatecast.forecasting.forecaster import Forecaster
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
from gatecast.forecasting.schedule import EXPANDING, LONG, Schedule
from gatecast.forecasting.transformer import TFT
from gatecast.forecasting.tuning import DEFAULT, SearchProgress, TunedLSTM, Tuning
from gatecast.forecasting.volatility import HARLevels, LinearVariance, LogHAR, SmoothHAR
from gatecast.forecasting.walkforward import Forecasts
from gatecast.market import synthetic
from gatecast.market.reading import BarsSettings, as_day
from gatecast.market.sources import Reading, read_with_findings
from gatecast.samples.features import DEFAULT_FEATURES
from gatecast.samples.features.catalogue import CATALOGUE
from gatecast.samples.targets import HEADS
from gatecast.samples.windows import Samples, make_samples
from gatecast.settings import Settings, said_above
from gatecast.trading.costs import Costs
from gatecast.trading.plausible import PLANTED
from gatecast.trading.selection import SelectionSettings
from gatecast.trading.signals import SignalSettings
from gatecast.trading.strategies import StrategySettings

MODELS = ("lstm", "forest", "logistic", "ridge", "highway", "garch")
KNOWN_MODELS = (*MODELS, "tft", "gjr", "markov")
LONG_EVERY = 3  # refits that a rival on everything known stays in force: a month hardly changes twenty years


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
        reading: Reading = read_with_findings(settings, sealed=self.holdout)
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

        Of a run whose bars were a frame, the bars are those saved beside the file, in `bars.parquet`. Raises
        `SettingsError` with the place for what is no TOML, unknown or out of range.
        """
        try:
            settings = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"{path}: the settings cannot be read: {error}.") from None
        except tomllib.TOMLDecodeError as error:
            raise SettingsError(f"{path}: this is no TOML: {error}.") from None
        if isinstance(settings.get("bars"), str):
            settings["bars"] = {"source": settings["bars"]}
        beside = Path(path).with_name("bars.parquet")
        if isinstance(settings.get("bars"), dict) and settings["bars"].get("source") == "frame" and beside.is_file():
            settings["bars"] = {"source": str(beside)}  # as they were read: no other setting of them applies again
        return cls(**merge(settings, changes))


SAID_ABOVE = said_above(Experiment)
"""Section -> the settings in it that the experiment says once, for all of them."""


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


_MOVED = {
    "make_chain": "chain", "forecast_class": "chain", "decide": "chain", "run": "runs", "judge_chain": "runs",
    "record_chain": "runs",
}  # fmt: skip
"""What stood here up to version 0.1, and where it is now: read from here for one version, with a notice."""


def __getattr__(name: str) -> Any:
    if name not in _MOVED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = f"gatecast.{_MOVED[name]}"
    warnings.warn(f"{__name__}.{name} is now {home}.{name}", DeprecationWarning, stacklevel=2)
    return getattr(import_module(home), name)
