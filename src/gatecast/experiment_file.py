"""An experiment as a file to edit: every setting with a comment, read back by `Experiment.from_toml`."""

from __future__ import annotations

import typing
from typing import TYPE_CHECKING, Any, Literal

import annotated_types
import tomli_w

from gatecast.experiment import Control, Experiment

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

SECTIONS = {
    "bars": "Where the bars come from, and how they are to be understood.",
    "schedule": "Walk-forward: when models are refitted, and on what.",
    "lstm": "The LSTM; lookback, horizon and seed are said once, above.",
    "forest": "The random forest.",
    "logistic": "The logistic regression.",
    "ridge": "The ridge regression, the linear yardstick.",
    "ensemble": "How the models' forecasts become one.",
    "signals": "When a forecast is a signal.",
    "strategies": "What the strategies have in common.",
    "selection": "Which strategy is in force, and how evidence reaches the money.",
    "costs": "Costs of trading in basis points; left out: those of the asset class.",
    "control": "A planted market through the same chain, to see what evidence of skill looks like.",
}

COMMENTS = {
    "name": "names the run and its folder",
    "seed": "everything random follows from it",
    "lookback": "bars in a window (T)",
    "horizon": "bars ahead (h)",
    "features": "names of the catalogue or columns of the bars; left out: the default five",
    "volatility_proxy": "close_to_close, parkinson, garman_klass, or a column of the bars",
    "models": "of lstm, forest, logistic, ridge",
    "bars.source": "a CSV or Parquet file, a folder, a glob, or embedded",
    "bars.symbols": "keep only these",
    "bars.symbols_file": "a CSV with symbol and asset_class",
    "bars.asset_class": "of symbols that nothing else classifies",
    "bars.timezone": "of times without one",
    "bars.stamp": "what an intraday time stands for: open or close of the bar",
    "bars.resample": "to coarser bars",
    "bars.start": "first session",
    "bars.end": "last session",
    "bars.as_of": "only what was known then",
    "bars.date_format": "of dates like 03/04/2024",
    "schedule.train": "window of what is known: 2Y, 18M, 60W, or a number of bars",
    "schedule.refit": "1M, 1W, 3M, 1Y, or a number of bars",
    "schedule.expanding": "keep all since the first bar",
    "schedule.validation": "latest share of the window, for early stopping",
    "schedule.minimum": "history before the first refit",
    "lstm.lookback": "said at the top",
    "lstm.horizon": "said at the top",
    "lstm.units": "units in a layer",
    "lstm.layers": "layers",
    "lstm.dropout": "between layers and before the heads",
    "lstm.heads": "what it forecasts",
    "lstm.scaling": "of inputs, fitted on training rows only",
    "lstm.training": "on chunks of bars, or window by window as the reference",
    "lstm.engine": "the compiled kernel, or its readable twin",
    "lstm.burn_in_gradient": "gradients run through the bars before a chunk",
    "lstm.learning_rate": "of Adam",
    "lstm.weight_decay": "of Adam",
    "lstm.clip": "largest norm of the gradient",
    "lstm.epochs": "at most",
    "lstm.patience": "epochs without improvement before it stops",
    "lstm.chunk": "labels in a chunk",
    "lstm.batch": "chunks in an update",
    "lstm.seeds": "networks in the ensemble",
    "lstm.seed": "said at the top",
    "forest.trees": "number of trees",
    "forest.depth": "of a tree, at most",
    "forest.leaf": "rows in a leaf, at least",
    "forest.columns": "share of inputs tried at a split",
    "forest.seed": "said at the top",
    "logistic.inputs": "summaries of the window, or distance to the regime's level",
    "logistic.heads": "what it forecasts",
    "logistic.strengths": "inverse penalties to choose from on the validation block",
    "logistic.label": "its name in the forecasts",
    "ridge.penalties": "to choose from on the validation block",
    "ensemble.members": "models that are combined",
    "ensemble.volatility_members": "models whose variance is averaged",
    "ensemble.prior_sd": "of the calibration slopes, around 0",
    "ensemble.stacking": "let a stacked logistic compete",
    "ensemble.minimum_days": "of record before a slope leaves 0",
    "signals.threshold": "standard deviations of the forecast's own past",
    "signals.minimum": "earlier forecasts that a z-score needs",
    "signals.model": "whose forecast signals",
    "signals.confirmed_by": "whose agreement makes a consensus",
    "strategies.target_volatility": "yearly, of a full position",
    "strategies.consensus_boost": "larger positions when both models agree",
    "strategies.trend_bars": "of past return whose sign is the trend",
    "strategies.oversold": "RSI below which mean reversion buys",
    "strategies.overbought": "RSI above which it sells",
    "selection.memory_bars": "how slowly the record forgets",
    "selection.learning_rate": "weight of one bar's net profit",
    "selection.weak": "statistic at which positions begin",
    "selection.strong": "statistic at which they are whole",
    "selection.minimum_days": "of record before anything is held",
    "selection.evidence": "0-1: overrides what the evidence allows, and the report says so",
    "costs.commission_bps": "a side",
    "costs.slippage_bps": "a side: half the spread and the impact",
    "costs.borrow_bps_per_year": "of what is held short",
    "control.market": "a name of gatecast.market.synthetic",
    "control.r2": "share of each bar's variance that can be forecast",
    "control.bars": "its length",
    "control.seed": "of the planted path",
}  # fmt: skip

EXAMPLES: dict[str, Any] = {
    "features": ["ret_log_1", "rsi_14"], "bars.symbols": ["SP500"], "bars.symbols_file": "symbols.csv",
    "bars.timezone": "Europe/Berlin", "bars.stamp": "open", "bars.resample": "1w", "bars.start": "2005-01-01",
    "bars.end": "2018-12-31", "bars.as_of": "2018-12-31", "bars.date_format": "%d/%m/%Y", "selection.evidence": 1.0,
    "costs.commission_bps": 1.0, "costs.slippage_bps": 2.0, "costs.borrow_bps_per_year": 50.0,
}  # fmt: skip
"""What a setting that is left out could look like."""

_SAID_ABOVE = {"lstm.lookback", "lstm.horizon", "lstm.seed", "forest.seed"}


def to_toml(experiment: Experiment) -> str:
    """Commented TOML that `Experiment.from_toml` reads back into the same settings; what is left out is commented.

    >>> import tomllib
    >>> tomllib.loads(to_toml(Experiment(horizon=3)))["horizon"]
    3
    """
    lines = ["# Settings of a gatecast experiment. What is commented out is not set: the line shows how.", ""]
    lines += _section("", experiment, active=True)
    if experiment.bars.source == "frame":
        lines += ["", "# These bars were handed over in memory; they are in bars.parquet, beside this file."]
    for name, comment in SECTIONS.items():
        settings = getattr(experiment, name)
        active = settings is not None
        lines += ["", f"# {comment}", f"[{name}]" if active else f"# [{name}]"]
        lines += _section(f"{name}.", settings if active else Control(), active)
    return "\n".join(lines) + "\n"


def _section(prefix: str, settings: BaseModel, active: bool) -> list[str]:
    """One line a setting: `key = value  # what it is (what it may be)`."""
    lines = []
    for key, value in settings.model_dump(mode="json").items():
        place, field = prefix + key, type(settings).model_fields[key]
        if place in SECTIONS or (place in _SAID_ABOVE and value == field.default):
            continue
        shown = EXAMPLES.get(place) if value is None else value
        line = tomli_w.dumps({key: shown}).strip()
        line = line.replace("[\n    ", "[").replace(",\n    ", ", ").replace(",\n]", "]")
        comment = "; ".join(part for part in (COMMENTS.get(place, ""), _allowed(field)) if part)
        lines.append(("" if active and value is not None else "# ") + line + (f"  # {comment}" if comment else ""))
    return lines


def _allowed(field: FieldInfo) -> str:
    """The range or the choices of a setting, in words."""
    if typing.get_origin(field.annotation) is Literal:
        return " or ".join(typing.get_args(field.annotation))
    low = high = ""
    for bound in field.metadata:
        match bound:
            case annotated_types.Ge(ge):
                low = f"{ge} or more"
            case annotated_types.Gt(gt):
                low = f"above {gt}"
            case annotated_types.Le(le):
                high = f"at most {le}"
            case annotated_types.Lt(lt):
                high = f"below {lt}"
    if low.endswith(" or more") and high.startswith("at most "):
        return f"{low.removesuffix(' or more')} to {high.removeprefix('at most ')}"
    return ", ".join(part for part in (low, high) if part)
