"""The panel of forecasters: models that run by default, rivals that always run, the role and title of each.

This is the only file that spells the names of models. A row here and the model's own class are all that a built-in
model takes; a model of the user's, or of an installed package, needs no row: `models` in the settings names it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from gatecast.errors import SettingsError, did_you_mean
from gatecast.forecasting.forecaster import FORECASTERS, Forecaster, of_kind
from gatecast.forecasting.schedule import EXPANDING

LONGEST_NAME = 64
"""Characters in the name of a model."""
Runs = Literal["usually", "always", "when named"]


@dataclass(frozen=True)
class Row:
    """A forecaster of the panel, and when it runs: unless `models` leaves it out, always, or if `models` names it."""

    forecaster: Forecaster
    runs: Runs


def _row(runs: Runs, home: str, *, knows_hour: bool = False, **settings: Any) -> Row:
    """The forecaster of a class with settings; with `knows_hour` told the hour of the session, see `hours.ByHour`."""
    module, name = home.split(":")
    cls = getattr(import_module(f"gatecast.forecasting.{module}"), name)
    one: Forecaster = cls(**settings)
    if knows_hour:
        one = import_module("gatecast.forecasting.models.hours").ByHour(of=one)
    return Row(one, runs)


_REGIME: dict[str, Any] = {"heads": ("regime",), "strengths": (1.0,), "knows_hour": True}
_WHOLE_RECORD: dict[str, Any] = _REGIME | {"window": EXPANDING, "half_life": 4.0}

PANEL: dict[str, Row] = {
    "har_symbol": _row("always", "models.har:LinearVariance", knows_hour=True),
    "har_class": _row("always", "models.har:LinearVariance", knows_hour=True, pooled=True),
    "har_concentration": _row("always", "models.har:LinearVariance", knows_hour=True, pooled=True, concentration=True),
    "har_smooth": _row("always", "models.har:SmoothHAR", knows_hour=True),
    "lstm": _row("usually", "lstm.forecaster:LSTM"),
    "forest": _row("usually", "models.forest:Forest"),
    "logistic": _row("usually", "models.logistic:Logistic"),
    "ridge": _row("usually", "models.linear:Ridge"),
    "logistic_long": _row("usually", "models.logistic:Logistic", window=EXPANDING, every=3),
    "ridge_long": _row("usually", "models.linear:Ridge", window=EXPANDING, every=3),
    "constant": _row("always", "models.naive:Naive", rule="constant", knows_hour=True),
    "garch": _row("usually", "models.garch:Garch"),
    "gjr": _row("when named", "models.garch:Garch", asymmetric=True),
    "residual_lstm": _row("usually", "models.residual_lstm:ResidualLSTM"),
    "zero": _row("always", "models.naive:Naive", rule="zero"),
    "mean": _row("always", "models.naive:Naive", rule="mean"),
    "last": _row("always", "models.naive:Naive", rule="last"),
    "ewma": _row("always", "models.naive:Naive", rule="ewma", knows_hour=True),
    "ewma_range": _row("always", "models.naive:Naive", rule="ewma_range", knows_hour=True),
    "base_rate": _row("always", "models.naive:Naive", rule="base_rate"),
    "ridge_lag": _row("always", "models.lag:RidgeLag"),
    "logistic_lag": _row("always", "models.lag:LogisticLag"),
    "bayes": _row("always", "models.linear:BayesRidge"),
    "har": _row("always", "models.har:LogHAR", knows_hour=True),
    "har_levels": _row("always", "models.har:HARLevels", knows_hour=True),
    "har_falls": _row("always", "models.har:LogHAR", knows_hour=True, falls=True),
    "threshold": _row("always", "models.logistic:Logistic", inputs="distance", **_REGIME),
    "har_regime": _row("always", "models.logistic:Logistic", inputs="har", **_WHOLE_RECORD),
    "har_regime_falls": _row("always", "models.logistic:Logistic", inputs="har_falls", **_WHOLE_RECORD),
}
"""Name -> row. Members of an ensemble are combined in this order, those of the user's after them."""

MODELS = tuple(name for name, row in PANEL.items() if row.runs == "usually")
"""Models that run unless the settings say otherwise."""

# ── roles ─────────────────────────────────────────────────────────────────────────────────────────

RIVALS: dict[str, tuple[str, ...]] = {
    "return": ("zero", "mean", "ridge_lag"),
    "direction": ("base_rate", "logistic_lag"),
    "volatility": ("constant", "ewma", "ewma_range", "har", "har_levels", "har_falls"),
    "regime": ("base_rate", "threshold", "har_regime", "har_regime_falls"),
}
"""Head -> its simple rivals, the simplest first. One with semivariances has no column to read here, and is left out."""
PLAIN = {"return": "zero", "direction": "base_rate", "volatility": "har", "regime": "har_regime"}
"""Head -> its plain yardstick: in force until there is a record, and what the field compares with."""
REGRESSIONS = {
    "return": ("bayes", "ridge", "ridge_long"),
    "direction": ("logistic", "logistic_long"),
    "volatility": ("har_symbol", "har_class", "har_concentration", "har_smooth", "ridge"),
    "regime": ("logistic", "logistic_long"),
}
"""Head -> gatecast's own linear models: with the rivals they are the simple models that are compared with hindsight."""
STARTS = {
    "return": ("bayes", "zero"),
    "direction": ("base_rate",),
    "regime": ("har_regime_falls", "har_regime", "base_rate"),
}
"""Head -> what its ensemble starts from: the first of these that forecasts."""
LONGER = {"logistic": "logistic_long", "ridge": "ridge_long"}
"""Model -> the same on everything known, which shows whether a longer memory is better."""
PAST_MEAN = "mean"
"""The historical mean of returns, the second yardstick of an R²."""
BY_YEAR = ("lstm", "forest", "logistic", "ridge", "ensemble")
"""Forecasts whose gain is told for each year."""
NETWORK = "lstm"
"""The network whose seeds the command sets, whose settings are searched for, and whose forecast makes the signals."""
FORMER_NAMES = {"highway": "residual_lstm"}
"""Names of version 0.1 -> the present ones: read in settings and saved runs for one more version."""
SECOND = "forest"
"""The model that confirms a signal."""
CORRECTION = "residual_lstm"
"""The network that corrects the variance in force, and is no member of it."""
SIDE_BY_SIDE = {
    "return": ("ensemble", "bayes", "ridge", "lstm"),
    "volatility": ("ensemble", "har", "ewma", "ridge", "lstm"),
}
"""Head -> the forecasts that studies and pictures set beside each other."""
PICTURED = {
    "return": ("ensemble", NETWORK, "ridge", SECOND),
    "direction": ("ensemble", NETWORK, "logistic", SECOND),
    "volatility": ("ensemble", NETWORK),
}
"""Head -> the forecasts that a picture of it shows, the first that a run has."""
SIZED_BY = ("constant", "ewma", "rival", "har_falls", "ensemble")
"""The forecasts of variance by which the core of the book is sized, line by line, the simplest first."""
PICTURED_RIVALS = ("har", "ewma", "constant")
"""The variance forecasts that a picture shows beside the ensemble's, the first that a run has after the rival."""
NETWORKS = ((NETWORK,), (CORRECTION,), (NETWORK, CORRECTION))
"""The networks, by themselves and together: what each is worth is said in a sentence."""
CORRECTED = ("har_symbol", "har_class")
"""The forecasts of variance that it corrects."""


def panel_of(
    models: Iterable[str], tables: Mapping[str, Forecaster | Mapping[str, Any]] | None = None
) -> dict[str, Forecaster]:
    """Name -> forecaster of the models that are named, `tables` with settings of their own, in the order of `models`.

    A table without `kind` changes the settings of the panel's row of that name, or is of the kind of that name.
    Raises `SettingsError` for an unknown name or setting.

    >>> panel_of(["garch"], {"garch": {"every": 6}})["garch"].every
    6
    """
    tables = tables or {}
    return {name: entry(name, tables.get(name, {})) for name in models}


def entry(name: str, table: Forecaster | Mapping[str, Any]) -> Forecaster:
    """The forecaster of a name and a table of settings, see `panel_of`."""
    if not (name.isidentifier() and name.isascii() and len(name) <= LONGEST_NAME):
        raise SettingsError(
            f"a model is called {name[:LONGEST_NAME]!r}: expected at most {LONGEST_NAME} letters a-z, digits and "
            "underscores, since its name stands in files and tables."
        )
    if isinstance(table, Forecaster):
        return table
    if "kind" not in table and name in PANEL:
        row: Forecaster = PANEL[name].forecaster
        return row if not table else row.replace(**table)
    if "kind" not in table and name not in FORECASTERS:
        raise SettingsError(f"model.{name} says no kind: expected kind = one of {', '.join(known_kinds())}.")
    return of_kind({"kind": name, **table})


def known_names() -> list[str]:
    """Every name that `models` may name without a table: the panel's, and kinds that users and packages added."""
    named = [name for name, row in PANEL.items() if row.runs != "always"]
    kinds = {one.kind for row in PANEL.values() for one in (row.forecaster, getattr(row.forecaster, "of", None)) if one}
    return [*named, *(kind for kind in FORECASTERS if kind not in PANEL and kind not in kinds)]


def known_kinds() -> list[str]:
    """Every kind that a table may name."""
    return [kind for kind in FORECASTERS if FORECASTERS.find(kind).is_named()]


def is_model(name: str) -> bool:
    """Whether `models` may name it without a table of its own."""
    return name in known_names() or name in FORMER_NAMES


def from_former_sections(
    sections: Mapping[str, Any], models: Iterable[str] | None
) -> tuple[tuple[str, ...], dict[str, Any]]:
    """`models` and tables of a settings file of version 0.1, which had a section for each kind of model.

    A section counted for all of its kind, and what runs on everything known was not named.
    """
    tables: dict[str, Any] = {}
    if models is not None and not (isinstance(models, list | tuple) and all(isinstance(name, str) for name in models)):
        raise SettingsError(f"models = {models!r}: expected a list of names.")
    names = MODELS if models is None else tuple(models)
    sections = {FORMER_NAMES.get(name, name): one for name, one in sections.items()}
    names += tuple(longer for short, longer in LONGER.items() if short in names and longer not in names)
    for section, given in sections.items():
        for name in dict.fromkeys((section, *names)):
            row = PANEL[name].forecaster if name in PANEL else None
            if not isinstance(given, dict):
                if name == section:
                    tables[name] = given
            elif name == section or (row is not None and row.kind == section):
                own = {key: getattr(row, key) for key in row.model_fields_set} if row and name != section else {}
                tables[name] = {**{key: one for key, one in given.items() if key != "label"}, **own}
    return names, tables


def unknown_model(name: str) -> str:
    """What to say of a name that no model goes by."""
    return f"unknown model {name!r}. {did_you_mean(name, known_names())}"


def always() -> dict[str, Forecaster]:
    """The simple models that every run has."""
    return {name: row.forecaster for name, row in PANEL.items() if row.runs == "always"}


def in_order(names: Iterable[str]) -> list[str]:
    """Names in the panel's order, those that it does not have last."""
    places = {name: place for place, name in enumerate(PANEL)}
    return sorted(names, key=lambda name: places.get(name, len(places)))


# ── what a reader meets ───────────────────────────────────────────────────────────────────────────

ENSEMBLE = "ensemble"
"""The forecast in force."""
RIVAL = "rival"
"""The simple rival that was in force at each refit."""
EWMA_OF_RETURNS = "ewma"
"""The exponential average of squared returns, beside which a book's covariance is scored."""
MADE_OF_OTHERS = {
    ENSEMBLE: "ensemble",
    "equal_weight": "equal weights",
    "stacked": "stacked weights",
    "density": "turbulence implied by the volatility forecast",
    RIVAL: "best simple forecast so far",
}
"""Forecasts that are made of those of models -> their titles."""


def forecaster_of(name: str, panel: Mapping[str, Forecaster] | None = None) -> Forecaster | None:
    """The forecaster of a name in a run's panel, else in gatecast's; None where neither has it."""
    name = FORMER_NAMES.get(name, name)
    if panel and name in panel:
        return panel[name]
    return PANEL[name].forecaster if name in PANEL else None


def is_linear(name: str, panel: Mapping[str, Forecaster] | None = None) -> bool:
    """Whether a forecast is that of a linear model."""
    one = forecaster_of(name, panel)
    return one is not None and one.traits_with_settings().linear


def model_title(name: str, panel: Mapping[str, Forecaster] | None = None) -> str:
    """A model's title, `panel` being the run's; of one that has none its name, without underscores.

    >>> model_title("forest"), model_title("rival"), model_title("my_model")
    ('random forest', 'best simple forecast so far', 'my model')
    """
    one = forecaster_of(name, panel)
    if one is None and name in FORECASTERS:
        return FORECASTERS.find(name).traits.title
    return one.title() if one else MADE_OF_OTHERS.get(name, name.replace("_", " "))


def model_titles(panel: Mapping[str, Forecaster]) -> dict[str, str]:
    """Name -> title of the models of a run's panel and of the forecasts that are made of them.

    Where two models have one title, the name stands beside that of the one that is not in gatecast's panel.

    >>> own = model_titles({"forest": PANEL["forest"].forecaster, "deep": PANEL["forest"].forecaster.replace(trees=9)})
    >>> own["forest"], own["deep"], own["ensemble"]
    ('random forest', 'random forest (deep)', 'ensemble')
    """
    every = MADE_OF_OTHERS | {name: one.title() for name, one in panel.items()}
    counts = Counter(every.values())
    return {
        name: f"{title} ({name})" if counts[title] > 1 and name not in PANEL else title for name, title in every.items()
    }


def model_phrase(name: str, panel: Mapping[str, Forecaster] | None = None) -> str:
    """A model's title within a sentence, as `model_title`.

    >>> model_phrase("har"), model_phrase("zero"), model_phrase("rival"), model_phrase("my_model")
    ('the log-HAR', 'forecasting no change', 'the best simple forecast so far', 'my model')
    """
    one = forecaster_of(name, panel)
    if one is None and name in MADE_OF_OTHERS:
        return f"the {MADE_OF_OTHERS[name]}"
    return one.phrase() if one else name.replace("_", " ")
