"""An experiment is frozen settings: all that decides a run, in one object, to and from TOML."""

from __future__ import annotations

import warnings
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, ClassVar

import polars as pl
from pydantic import Field, SerializeAsAny, ValidationInfo, field_serializer, field_validator, model_validator

from gatecast.arguments import checked
from gatecast.errors import BarsError, SettingsError, cut, did_you_mean, shown
from gatecast.evaluation.holdout import last_session
from gatecast.evaluation.plausible import ABOUT_RETURNS
from gatecast.forecasting.combining.ensemble import Ensemble
from gatecast.forecasting.combining.intervals import Intervals
from gatecast.forecasting.drift import Drift
from gatecast.forecasting.forecaster import FORECASTERS, Forecaster
from gatecast.forecasting.lstm import LSTM
from gatecast.forecasting.panel import (
    FORMER_NAMES,
    LONGER,
    MADE_OF_OTHERS,
    MODELS,
    NETWORK,
    always,
    entry,
    from_former_sections,
    is_model,
    model_titles,
    unknown_model,
)
from gatecast.forecasting.schedule import EXPANDING, Schedule
from gatecast.forecasting.tuning.tuned import DEFAULT, GivenLSTM, TunedLSTM, Tuning
from gatecast.market import synthetic
from gatecast.market.given import Currencies
from gatecast.market.reading import BarsSettings, as_day
from gatecast.market.sources import Reading, read_with_findings
from gatecast.market.vendors import VENDORS, vendor_of
from gatecast.plugins import OURS, Registry
from gatecast.samples.features import DEFAULT_FEATURES
from gatecast.samples.features.catalogue import FEATURES
from gatecast.samples.windows import Samples, Sampling
from gatecast.settings import LARGEST_SEED, Settings, read_toml, shared, shared_settings, without_moved
from gatecast.trading.book import Book
from gatecast.trading.costs import Costs
from gatecast.trading.orders import OrderSettings
from gatecast.trading.plausible import PLANTED
from gatecast.trading.selection import SelectionSettings
from gatecast.trading.signals import SignalSettings
from gatecast.trading.strategies import (
    STRATEGIES,
    Strategy,
    StrategySettings,
    load_strategies,
    strategy_titles,
    with_moved_settings,
)

MOVED = {
    "jobs": "--jobs or Machine(jobs=...)",
    "unfinished": "the command keeps networks beside the run by itself, and in Python Machine(unfinished=...)",
    "studies": "--storage, GATECAST_STORAGE or Machine(studies=...)",
}
"""What stood among the settings up to version 0.1 -> what sets it now, see `gatecast.machine`."""


class Control(Settings):
    """A planted market that runs through the same chain, so that a reader sees what skill would look like."""

    market: str = "b1"
    """a name of gatecast.market.synthetic"""
    r2: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """share of each bar's variance that can be forecast; of b1 alone"""
    bars: Annotated[int, Field(ge=700, le=100_000)] = 2500
    """length in bars"""
    seed: Annotated[int, Field(ge=0, le=LARGEST_SEED)] = 0
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


class Volatility(Settings):
    """What forecasts of variance may read beside the bars."""

    implied: str | None = Field(default=None, examples=["vix"])
    """a column of the bars that holds an implied volatility, in any unit; left out: none"""


class Experiment(Settings):
    """Everything that decides a run, frozen; to and from TOML. Where it runs is no part of it, see `Machine`.

    `bars` may also be a path, a Polars or pandas frame. `lookback`, `horizon` and `seed` are said once here and given
    to every model.

    >>> Experiment(horizon=50)
    Traceback (most recent call last):
        ...
    gatecast.errors.SettingsError: Experiment: horizon = 50: input should be less than or equal to 22 (bars ahead, h).
    """

    elsewhere: ClassVar = {
        "out": "--out of the command, or gatecast.save_run(RUN, FOLDER),",
        "storage": "--storage, GATECAST_STORAGE or Machine(studies=...)",
    }

    name: str = "experiment"
    """names the run and its folder"""
    seed: Annotated[int, Field(ge=0, le=LARGEST_SEED)] = 0
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
    """models that run: names of tables [model.NAME], of built-in models, or of kinds that a package offers"""
    bars: BarsSettings = BarsSettings()
    """Where the bars come from, and how they are to be understood."""
    holdout: str | None = Field(default=None, examples=["2017-01-01"])
    """first session that nothing reads until `gatecast unseal`, once"""
    too_good: tuple[str, ...] = ()
    """heads or columns that may be too good to be true, which is refused otherwise; heads: return, direction, strategy;
    planted: a market whose truth is known; said first"""
    schedule: Schedule = Schedule()
    """Walk-forward: when models are refitted, and on what."""
    model: dict[str, SerializeAsAny[Forecaster]] = Field(default_factory=dict, validate_default=True)
    """Settings of the models by name: kind says what a model is, and its own settings follow; lookback, horizon and
    seed are said once, above."""
    volatility: Volatility = Volatility()
    """What forecasts of variance may read beside the bars."""
    ensemble: Ensemble = Ensemble()
    """How the models' forecasts become one."""
    intervals: Intervals = Intervals()
    """Intervals around the ensemble's path."""
    drift: Drift = Drift()
    """When a change of the inputs or of the losses is an alarm, and what an alarm does."""
    signals: SignalSettings = SignalSettings()
    """When a forecast is a signal."""
    strategies: StrategySettings = StrategySettings()
    """What the strategies have in common, and which take part."""
    strategy: dict[str, SerializeAsAny[Strategy]] = Field(default_factory=dict, validate_default=True)
    """Settings of the strategies by name: kind says what a strategy is, and its own settings follow."""
    selection: SelectionSettings = SelectionSettings()
    """Which strategy is in force, and how evidence reaches the money."""
    book: Book = Book()
    """What the book holds, how large it is, and what it pays."""
    orders: OrderSettings = OrderSettings()
    """What orders of a store's book may not exceed, and how they are placed."""
    costs: Costs = Costs()
    """Costs of trading in basis points; left out: those of the asset class."""
    tuning: Tuning | None = None
    """Bayesian search for the LSTM's settings, one study a class and date: off until the line below is there."""
    control: Control | None = None
    """A planted market through the same chain, to see what evidence of skill looks like."""

    @field_validator("bars", mode="before")
    @classmethod
    def _bars_from_anything(cls, bars: Any) -> Any:
        if isinstance(bars, str | Path):
            return BarsSettings(source=str(bars))
        if isinstance(bars, BarsSettings | dict):
            return bars
        if bars is None or isinstance(bars, int | float | bytes):
            raise ValueError(
                "expected a path, a list of paths, a folder, a glob, 'embedded', or a pandas or Polars frame; got "
                f"{shown(bars)} ({type(bars).__name__})."
            )
        return BarsSettings(source="frame", frame=bars)

    @model_validator(mode="before")
    @classmethod
    def _without_the_machine(cls, values: Any) -> Any:
        return without_moved(values, MOVED)

    @model_validator(mode="before")
    @classmethod
    def _former_strategies(cls, values: Any) -> Any:
        return with_moved_settings(values) if isinstance(values, dict) else values

    @field_validator("holdout", mode="before")
    @classmethod
    def _a_date(cls, holdout: Any) -> Any:
        return None if holdout is None else str(as_day(holdout))

    @model_validator(mode="before")
    @classmethod
    def _former_sections(cls, values: Any) -> Any:
        """Sections of models as files of version 0.1 have them are read as tables of `model`, with a notice."""
        if not isinstance(values, dict):
            return values
        values = with_present_names(values)
        former = {name: one for name, one in values.items() if name not in cls.model_fields and is_model(name)}
        if not former:
            return values
        tables = values.get("model")
        if twice := [name for name in former if isinstance(tables, dict) and name in tables]:
            raise ValueError(f"[{twice[0]}] and [model.{twice[0]}] are both there: keep the second, which is read now.")
        rest = {name: one for name, one in values.items() if name not in former}
        models, tables = from_former_sections(former, rest.get("models"))
        names = ", ".join(f"[{name}]" for name in former)
        warnings.warn(
            f"settings of models stand in [model.NAME] now: {names} is read for one more version.",
            UserWarning, stacklevel=2,
        )  # fmt: skip
        given = rest.get("model", {})
        return {**rest, "models": models, "model": {**tables, **given} if isinstance(given, dict) else given}

    @field_validator("strategy", "model", mode="before")
    @classmethod
    def _by_name(cls, tables: Any, about: ValidationInfo) -> Any:
        """The strategy of every name that takes part; the forecaster of every name in `models` and of other tables."""
        names = about.data.get("models" if about.field_name == "model" else "strategies")
        if names is None:  # which is refused by itself
            return {}
        if not isinstance(tables, dict):
            return tables
        return load_models(names, tables) if about.field_name == "model" else load_strategies(names.in_order, tables)

    @field_serializer("strategy", "model")
    def _tables(self, parts: dict[str, Any]) -> dict[str, Any]:
        """Each table with its kind, and without what is said above."""
        return {
            name: {"kind": one.kind, **one.model_dump(mode="json", exclude=shared(type(one)))}
            for name, one in parts.items()
        }

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
        sections = {name: getattr(self, name) for name in SHARED_SETTINGS} | {
            f"model.{k}": v for k, v in self.model.items()
        }
        for section, settings in sections.items():
            for name in sorted(shared(type(settings)) & settings.model_fields_set):
                above, below = getattr(self, name), getattr(settings, name)
                if above != below:
                    raise ValueError(f"{name} = {above} and {section}.{name} = {below}: set it once, at the top.")
        if self.tuning is not None:
            lstm = self.model.get(NETWORK) if NETWORK in self.models else None
            if not isinstance(lstm, LSTM):
                raise ValueError(
                    f"tuning searches for the settings of the model {NETWORK!r} of kind {LSTM.kind}: have it among "
                    "models, or leave tuning out."
                )
            if self.tuning.head not in ("all", *lstm.heads):
                raise ValueError(
                    f"tuning.head = {self.tuning.head!r}, which the LSTM does not forecast: expected all or one of "
                    f"its heads, {', '.join(lstm.heads)}."
                )
        self._known_as_too_good()
        heads = {name: one.output_heads() for name, one in self.panel.items()}
        needs: list[tuple[str, tuple[str, ...], tuple[str, ...]]] = [
            ("ensemble.members", self.ensemble.members or (), ("return", "direction")),
            ("ensemble.volatility_members", self.ensemble.volatility_members or (), ("volatility",)),
            ("signals.model", (self.signals.model,), ("return",)),
            ("signals.confirmed_by", (self.signals.confirmed_by,), ("return",)),
        ]
        for place, names, wanted in needs:
            able = [name for name in heads if not set(wanted).isdisjoint(heads[name])]
            section, setting = place.split(".")
            for name in names:
                if name not in heads and is_model(name):
                    there = [one for one in self.models if one in able and section == "signals"]
                    other = f', or set {setting} = "{there[0]}" under [{section}]' if there else ""
                    raise ValueError(f"{place} needs the model {name!r}: add it to models{other}.")
                if name not in able:
                    raise ValueError(
                        f"{place} names {name!r}, which forecasts no {' and no '.join(wanted)} here. "
                        f"Those that do: {', '.join(able) or 'none'}."
                    )
        members = self.ensemble.members or [
            name for name, one in self.panel.items() if "direction" in one.member_heads()
        ]
        if not any("direction" in heads.get(name, ()) for name in members):
            able = [name for name in self.models if "direction" in heads.get(name, ())]
            others = [name for name in MODELS if "direction" in entry(name, {}).output_heads()]
            raise ValueError(
                "expected a member of the ensemble that forecasts the probability of a rise; "
                + (f"those that do here: {', '.join(able)}." if able else f"add one of {', '.join(others)} to models.")
            )
        return self

    def _known_as_too_good(self) -> None:
        features = self.features or DEFAULT_FEATURES
        needed = [need for name in features if name in FEATURES for need in FEATURES.find(name).needs]
        implied = [self.volatility.implied] if self.volatility.implied else []
        known = list(dict.fromkeys([PLANTED, *ABOUT_RETURNS, *features, *needed, *implied]))
        for name in self.too_good:
            if name not in known:
                raise ValueError(
                    f"too_good names {name!r}: expected a head that may be too good ({', '.join(ABOUT_RETURNS)}), a "
                    f"feature or column in use, or {PLANTED!r}. {did_you_mean(name, known)}"
                )

    @property
    def model_titles(self) -> dict[str, str]:
        """Model -> its title for a reader, see `panel.model_titles`."""
        return model_titles(self.panel)

    @property
    def strategy_titles(self) -> dict[str, str]:
        """Strategy -> what a reader calls it, with the models that give the signals."""
        return strategy_titles(self.signals.model, self.signals.confirmed_by, self.strategy, self.model_titles)

    def read(self) -> Reading:
        """The bars and what was found in them, see `read_before`."""
        return read_before(self.holdout, self.bars, self.book.money.prices)

    @property
    def context(self) -> int:
        """Bars that must lie behind a sample: the longest lookback of any model."""
        return max(self.lookback, self.tuning.reach if self.tuning else 0)

    @property
    def sampling(self) -> Sampling:
        """What samples are made with, as the experiment's models need them."""
        return Sampling(
            self.features, self.lookback, self.horizon, self.volatility_proxy, self.context, self.volatility.implied
        )

    def make_samples(self, bars: pl.DataFrame) -> dict[str, Samples]:
        """Asset class -> samples, as the experiment's models need them."""
        return self.sampling.make(bars)

    @property
    def panel(self) -> dict[str, Forecaster]:
        """Name -> forecaster: the models of the experiment, and every task's simple rivals.

        With `tuning` the network is the one whose settings are searched for, and beside it stands the one with those
        given. A model on everything known is left out where the same model learns from everything anyway.
        """
        own: dict[str, Forecaster] = {}
        for name in self.models:
            one = self._with_shared(self.model[name])
            short = next((key for key, longer in LONGER.items() if longer == name and key in self.models), None)
            if short and EXPANDING in (getattr(self.model[short], "window", None), self._window):
                continue
            if name == NETWORK and self.tuning is not None and isinstance(one, LSTM):
                own[name] = TunedLSTM(lstm=one.replace(window=one.window or self._window), tuning=self.tuning)
                own[name + DEFAULT] = GivenLSTM(**{key: getattr(one, key) for key in one.model_fields_set})
            else:
                own[name] = one
        return own | always()

    @property
    def network(self) -> LSTM:
        """The LSTM that studies are about, with what is said above. Raises `SettingsError` for a run without."""
        one = self.model.get(NETWORK)
        if not isinstance(one, LSTM):
            raise SettingsError(f"this needs the model {NETWORK!r} of kind {LSTM.kind}: add it to models.")
        filled: LSTM = self._with_shared(one)
        return filled

    def with_model(self, name: str, forecaster: Forecaster) -> Experiment:
        """The same with other settings of one model."""
        changed: Experiment = self.replace(model={**self.model, name: forecaster})
        return changed

    @property
    def _window(self) -> str | int:
        """What a model learns from that says nothing of it."""
        return EXPANDING if self.schedule.expanding else self.schedule.train

    def _with_shared(self, one: Forecaster) -> Any:
        said = {name: getattr(self, name) for name in shared(type(one))}
        return one.replace(**said) if said else one

    @property
    def plugins(self) -> dict[str, str]:
        """Sort and name of every part that is not gatecast's own -> where it comes from, see `Registry.origin`."""
        found = {f"{sort.what}/{name}": sort.origin(name) for sort, name in self._parts}
        return {name: origin for name, origin in found.items() if origin != OURS}

    @property
    def deciding_plugins(self) -> dict[str, str]:
        """The plug-ins that make another trial when their code changes: models and strategies.

        Features count by their values and vendors by their bars, which are hashed with the data.
        """
        sorts = (FORECASTERS.what, STRATEGIES.what)
        return {name: origin for name, origin in self.plugins.items() if name.startswith(sorts)}

    @property
    def is_importable(self) -> bool:
        """Whether another process that is given bars finds all else: nothing was added by a decorator in this one."""
        return all(sort.is_importable(name) for sort, name in self._parts if sort is not VENDORS)

    @property
    def _parts(self) -> list[tuple[Registry[Any], str]]:
        """What the run is made of, with the registry that has it."""
        features = [name for name in self.features or () if name in FEATURES]
        vendor = None if self.bars.frame is not None else vendor_of(self.bars.source)
        return [
            *((FORECASTERS, self.model[name].kind) for name in self.models),
            *((STRATEGIES, one.kind) for one in self.strategy.values()),
            *((FEATURES, name) for name in features),
            *([(VENDORS, vendor[0])] if vendor else []),
        ]

    @property
    def forecasting(self) -> dict[str, Any]:
        """What the forecasts of the models are made with, each setting and model by name."""
        found: dict[str, Any] = {
            "horizon": self.horizon, "lookback": self.lookback, "seed": self.seed,
            "volatility_proxy": self.volatility_proxy, "schedule": self.schedule.model_dump(mode="json"),
            "tuning": self.tuning and self.tuning.model_dump(mode="json"),
        }  # fmt: skip
        if self.volatility.implied is not None:
            found["volatility.implied"] = self.volatility.implied
        if self.drift.adds_refits:
            found["drift"] = self.drift.model_dump(mode="json")
        tables = self._tables(self.model)
        return found | {f"model.{name}": tables[name] for name in self.models}

    def to_dict(self) -> dict[str, Any]:
        """JSON-able settings, each once; `Experiment(**...)` reads them."""
        return self.model_dump(mode="json", exclude=SHARED_SETTINGS)

    @classmethod
    @checked
    def from_toml(cls, path: str | Path, **changes: Any) -> Experiment:
        """From a settings file; `changes` (nested by section) win over it.

        Of a run whose bars were a frame, the bars are those saved beside the file, in `bars.parquet`. Raises
        `SettingsError` with the place for what is no TOML, unknown or out of range.
        """
        settings = read_toml(Path(path))
        if isinstance(settings.get("bars"), str):
            settings["bars"] = {"source": settings["bars"]}
        beside = Path(path).with_name("bars.parquet")
        if isinstance(settings.get("bars"), dict) and settings["bars"].get("source") == "frame" and beside.is_file():
            settings["bars"] = {"source": str(beside)}  # as they were read: no other setting of them applies again
        try:
            return cls(**merge(settings, changes))
        except SettingsError as error:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    cls(**settings)
                except SettingsError:
                    raise SettingsError(f"{cut(str(path))}: {error}") from None  # the fault is in the file
            raise


SHARED_SETTINGS = shared_settings(Experiment)
"""Section -> the settings in it that the experiment says once, for all of them."""


def load_models(names: tuple[str, ...], tables: dict[str, Any]) -> dict[str, Forecaster]:
    """The forecaster of every name in `names`, and of the other tables; `tables`: name -> settings, or a Forecaster.

    Raises `ValueError` for a table that no name asks for, a name that is taken, and a name that nobody knows.
    """
    for name, table in tables.items():
        if not isinstance(table, dict | Forecaster):
            raise ValueError(f"model.{name} = {shown(table)}: expected a table of settings, [model.{name}]")
        if name in always() or name in MADE_OF_OTHERS:
            raise ValueError(f"model.{name}: a forecast that every run has goes by this name. Choose another.")
        if name == NETWORK + DEFAULT:
            raise ValueError(f"model.{name}: a tuned run calls the network with given settings so. Choose another.")
        if name not in names and not is_model(name):
            raise ValueError(f"model.{name} has settings, but does not run: add {name!r} to models, or remove it.")
    for name in names:
        if name not in tables and not is_model(name):
            raise ValueError(f"{unknown_model(name)}")
    return {name: entry(name, tables.get(name, {})) for name in (*names, *tables)}


def read_before(holdout: str | None, bars: BarsSettings, prices: Currencies) -> Reading:
    """The bars and what was found in them; no session of the hold-out, nor what became known in it.

    `holdout`: first session of it, YYYY-MM-DD; None: there is none. `prices`: their currencies. Raises `BarsError`
    where no price moves at all: there is nothing to forecast.
    """
    if holdout is not None:
        bars = bars.replace(end=last_session(holdout, bars.end))
    reading: Reading = read_with_findings(bars, sealed=holdout, currencies=prices)
    if reading.bars.group_by("symbol").agg(pl.col("close").n_unique() == 1)["close"].all():
        names = ", ".join(reading.bars["symbol"].unique().sort().head(10))
        raise BarsError(f"no price moves ({names}): there is nothing to forecast. Give another file or other symbols.")
    return reading


def with_present_names(values: dict[str, Any]) -> dict[str, Any]:
    """Settings with the present names of models in `models` and in tables of `model`.

    >>> with_present_names({"models": ["ridge", "highway"], "model": {"highway": {"every": 6}}})
    {'models': ['ridge', 'residual_lstm'], 'model': {'residual_lstm': {'every': 6}}}
    """
    found = dict(values)
    if isinstance(values.get("models"), list | tuple):
        found["models"] = [FORMER_NAMES.get(name, name) if isinstance(name, str) else name for name in values["models"]]
    if isinstance(values.get("model"), dict):
        found["model"] = {FORMER_NAMES.get(name, name): one for name, one in values["model"].items()}
    return found


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
    "make_chain": "chain", "forecast_class": "chain", "decide": "chain", "run": "runs", "judge_chain": "verdicts",
    "record_chain": "trials",
}  # fmt: skip
"""What stood here up to version 0.1, and where it is now: read from here for one version, with a notice."""


def __getattr__(name: str) -> Any:
    if name not in _MOVED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = f"gatecast.{_MOVED[name]}"
    warnings.warn(f"{__name__}.{name} is now {home}.{name}", DeprecationWarning, stacklevel=2)
    return getattr(import_module(home), name)
