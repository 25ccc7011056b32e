"""The contents of the report: a run -> a dictionary that JSON can hold, from which alone the page is made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import polars as pl

from gatecast.evaluation.risk import quoted, sentences_of
from gatecast.files import jsonable
from gatecast.forecasting.panel import NETWORK, NETWORKS
from gatecast.forecasting.schedule import EXPANDING, Schedule
from gatecast.market.actions import recorded_delistings
from gatecast.market.bars import session_date
from gatecast.market.facts import Facts
from gatecast.metrics.periods import course as course_of
from gatecast.metrics.returns import per_session, returns_of_levels
from gatecast.newest import TODAY, newest_rows
from gatecast.report import figures, words
from gatecast.report.book import book, to_trade
from gatecast.report.candles import charts_data
from gatecast.report.course import course
from gatecast.report.credit import alone, credit, gains, label
from gatecast.report.figures import Data, part
from gatecast.report.intervals import intervals
from gatecast.report.scorecard import scorecard
from gatecast.report.tuning import tuning
from gatecast.trading.decisions import why_position

if TYPE_CHECKING:
    from gatecast.forecasting.forecaster import Forecaster
    from gatecast.runs import Run
    from gatecast.trading.signals import SignalSettings

HEADS = ("return", "direction", "volatility", "regime", "strategy", "risk")

METRICS = {
    "gain": ("gain over the rival", 1),
    "r2_zero": ("R² against zero", 1),
    "r2_mean": ("R² against the mean", 1),
    "hit_rate": ("hit rate", 1),
    "information_coefficient": ("information coefficient", 1),
    "information_coefficient_monthly": ("by month", 1),
    "brier": ("Brier", -1),
    "log_loss": ("log loss", -1),
    "qlike": ("QLIKE", -1),
    "log_mse": ("log error²", -1),
    "calibration_error": ("calibration error", -1),
}
"""Score -> its words, and 1 where higher is better, -1 where lower is."""

REFUSED_SHOWN = 5
"""Refused refits whose reasons the page shows."""
REFITS_SHOWN = 24
"""Newest refits of each asset class that the page shows; all are in `scores.json`."""
SCORECARD = ("verdicts", "illusions", "trials", "backtest", "holdout", "audit", "many", "windows", "names")
"""Parts of the scores that the scorecard is made of."""


def report_data(run: Run) -> Data:
    """All that the report says, as a dictionary that JSON can hold.

    Parts that the run lacks are None or empty. Figures stand under `figures` as data, recent bars
    under `figures.candles`, one entry a symbol.
    """
    scores, experiment = run.scores, run.experiment
    verdicts = scores.get("verdicts") or {}
    newest = _newest(run)
    money = _money(run, newest)
    if experiment.selection.evidence is not None:
        money["evidence_set"] = experiment.selection.evidence
    summary = scores.get("summary") or {}
    if isinstance(summary, str):
        summary = {"headline": summary}
    folds = list(scores.get("folds") or [])
    names = figures.names_of(run)
    told = book(jsonable({k: scores[k] for k in ("book", "verdicts") if k in scores}), experiment.book.size)
    by_month = {
        "book": course((scores.get("book") or {}).get("course"), "gatecast's line", "its core, bought and held"),
        "strategies": course(_course(run), "the strategies, net of costs", "the benchmark, bought and held"),
    }
    window = _window(experiment.schedule, experiment.model.get(NETWORK))
    data = {
        "name": experiment.name or "A run",
        "survivorship": (scores.get("survivorship") or {}).get("sentence") or None,
        "headline": summary.get("headline") or _headline(verdicts),
        "subline": summary.get("subline"),
        "names": names,
        "network": words.named(NETWORK, names),
        "network_and_correction": label({"models": NETWORKS[-1]}, names),
        "span": _span(run, folds),
        "alone": alone(scores.get("models") or [], verdicts, window, scores.get("many"), names),
        "quoted": quoted(verdicts.get("risk") or {}),
        "book": told,
        "course": {name: {k: v for k, v in one.items() if k != "figures"} for name, one in by_month.items() if one},
        "findings": scores.get("findings") or [],
        "heads": _heads(verdicts, money),
        "scorecard": scorecard(jsonable({k: scores[k] for k in SCORECARD if k in scores}), _bars_judged(run)),
        "money": money,
        "newest": newest,
        "today": _today(newest, told),
        "control": {k: v for k, v in (scores.get("control") or {}).items() if k != "equity"} or None,
        "figures": {
            "candles": charts_data(run, {row["symbol"]: _since(row) for row in newest}),
            **{name: to_data(run) for name, to_data in figures.FIGURES.items()},
            **{f"{what}_{name}": of for name, one in by_month.items() if one for what, of in one["figures"].items()},
        },
        "models": _models(scores.get("models") or [], verdicts),
        "refused": _refused(scores.get("refused") or [], names),
        "costs": _costs(experiment.models, run.provenance.get("seconds") or {}, scores.get("models") or []),
        "credit": credit(scores.get("credit") or [], scores.get("in_force") or [], names),
        "gains": gains(verdicts, scores.get("credit") or []),
        "tuning": tuning(scores.get("tuning"), run.provenance.get("seconds")),
        "intervals": intervals(scores.get("coverage") or []),
        "years": _years(scores.get("years") or []),
        "strategies": scores.get("strategies") or [],
        "signalling": _signalling(experiment.signals, names),
        "backtest": {k: v for k, v in (scores.get("backtest") or {}).items() if k not in ("tear_sheet", "ends")},
        "ends": _ends((scores.get("backtest") or {}).get("ends") or {}),
        "later": [
            {**row, "at_once": (verdicts.get(row["head"]) or {}).get("effect")}
            for row in scores.get("one_bar_later") or []
        ],
        "tear_sheet": _tear_sheet(scores.get("backtest") or {}),
        "signals": scores.get("signals") or {},
        "folds": _newest_refits(folds),
        "alarms": scores.get("alarms") or [],
        "fills": scores.get("fills") or {},
        "features_left_out": {k: v for k, v in (scores.get("features_left_out") or {}).items() if v},
        "warnings": scores.get("warnings") or [],
        "settings": _settings(experiment.to_dict()),
        "provenance": run.provenance,
    }
    return jsonable(data)  # type: ignore[no-any-return]


def _headline(verdicts: Mapping[str, Any]) -> str:
    heads = [head for head, v in verdicts.items() if v.get("verdict") == "evidence of skill"]
    if heads:
        return f"Evidence of skill in {' and '.join(heads)}"
    return "No evidence of skill" if verdicts else "No verdict"


def _span(run: Run, folds: list[Any]) -> Data:
    bars = part(run.bars, "symbol", "time")
    if bars is None:
        return {}
    classes = bars["asset_class"].unique().sort().to_list() if "asset_class" in bars.columns else []
    first, last = figures.bar_labels(pl.Series([bars["time"].min(), bars["time"].max()]), daily=True)
    return {
        "first": first,
        "last": last,
        "bars": bars.height,
        "symbols": bars["symbol"].unique().sort().to_list(),
        "asset_classes": classes,
        "refits": len(folds) or None,
    }


def _newest_refits(folds: list[Any]) -> list[Any]:
    """The newest of each asset class, in the order given."""
    kept: dict[Any, list[Any]] = {}
    for fold in folds:
        kept.setdefault(fold.get("asset_class"), []).append(fold)
    return [fold for of_class in kept.values() for fold in of_class[-REFITS_SHOWN:]]


def _window(schedule: Schedule, network: Forecaster | None) -> str | int:
    """What the LSTM learns from at a refit; `network`: its settings, None where the run has none."""
    return EXPANDING if schedule.expanding else getattr(network, "window", None) or schedule.train


def _settings(settings: Mapping[str, Any]) -> Data:
    """The settings without the tables of models that the run does not have, and their tables by name.

    >>> _settings({"models": ["forest"], "model": {"forest": {"trees": 60}, "garch": {"every": 6}}, "seed": 0})
    {'models': ['forest'], 'seed': 0, 'model.forest': {'trees': 60}}
    """
    models = settings.get("models")
    rest = {key: value for key, value in settings.items() if key != "model"}
    tables = settings.get("model") or {}
    return rest | {f"model.{name}": one for name, one in tables.items() if models is None or name in models}


def _signalling(signals: SignalSettings, names: words.Names) -> dict[str, Any]:
    """The titles of the models whose forecasts make signals and whose agreement confirms them, if they are two."""
    return {
        "model": words.named(signals.model, names),
        "confirmed_by": words.named(signals.confirmed_by, names),
        "can_agree": signals.can_agree,
    }


ENDS = {
    "known": "with the last return given in the table of actions",
    "default": "with the default loss of the class: the last return is unknown",
    "vendor": "with the data source (several symbols in one session): sold at the last close",
    "returned": "resumed later: booked at the move to the first fill",
}
"""How an end of a symbol is booked -> its words."""


def _ends(found: Mapping[str, Any]) -> Data | None:
    """How many symbols ended and how each was booked, and the total returns with and without default losses.

    In: `results.ends_of`. Totals only where default losses were booked; None where no symbol ended.
    """
    if not any(found.get(kind) for kind in ENDS):
        return None
    total, without = (found.get(name) or {} for name in ("total_return", "total_return_without_default"))
    names = {"strategy": "strategies", "benchmark": "benchmark, bought and held"}
    return {
        "counts": [{"booked": said, "symbols": found.get(kind, 0)} for kind, said in ENDS.items()],
        "totals": [
            {"of": said, "with": total.get(name), "without": without.get(name)} for name, said in names.items()
        ] if found.get("default") else [],
    }  # fmt: skip


def _bars_judged(run: Run) -> int | None:
    equity = part(run.equity, "time")
    return None if equity is None else equity.height


def _since(row: Mapping[str, Any]) -> str | None:
    """Since when a symbol has no bar, in words; None where it has one today."""
    said = {"ended": "ended on", "no bar": "no bar since"}.get(row["today"])
    return said and f"{said} {row['newest_bar']}"


def _money(run: Run, rows: Iterable[Mapping[str, Any]]) -> Data:
    """The strategies in numbers: evidence factor, signals and those traded, positions.

    `rows`: see `gatecast.newest.newest_rows`; positions now are the sum of their shares of the capital.
    """
    rows = list(rows)
    today = [row["symbol"] for row in rows if row["today"] in ("bar", "no trade")]
    signals = part(run.signals, "symbol", "time", "signal", "evidence")
    weights = part(run.weights, "symbol", "time", "weight")
    money: Data = {}
    if signals is not None:
        newest = signals.filter(pl.col("symbol").is_in(today)).sort("time").group_by("symbol").last()
        money |= {
            "evidence_newest": newest["evidence"].mean(),
            "evidence_mean": signals["evidence"].mean(),
            "signals": int((signals["signal"] != 0).sum()),
        }
    if weights is not None:
        book = "book" if "book" in weights.columns else "weight"
        money |= {
            "share_held": (weights["weight"].fill_nan(0).fill_null(0) != 0).mean(),
            "gross_newest": sum(abs(row.get(book) or 0.0) for row in rows),
        }
    if signals is not None and weights is not None:
        both = signals.join(weights, on=["symbol", "time"], how="inner")
        money["signals_traded"] = int((both["signal"] * both["weight"] > 0).sum())
    return money


def _heads(verdicts: Mapping[str, Any], money: Data) -> list[Data]:
    order = [head for head in HEADS if head in verdicts] + [head for head in verdicts if head not in HEADS]
    return [
        {"head": head, **verdicts[head], "money": _follows(head, money), "said": sentences_of(verdicts[head])}
        for head in order
    ]


def _follows(head: str, money: Data) -> str | None:
    """How a head is used in trading, in a sentence."""
    evidence, traded = money.get("evidence_newest"), money.get("signals_traded")
    if head == "return" and traded is not None:
        return f"{money['signals']:,} signals, {traded:,} of them traded."
    if head == "direction":
        return "Enters the expected return, which must exceed the cost of a round trip before a position is opened."
    if head == "volatility":
        return "Sets the size of the book and of every position, and the width of the intervals."
    if head == "regime":
        return "Describes the coming bars; no position follows from it alone."
    if head == "risk":
        return "How large the book is follows from this forecast. Control and money are answers of their own."
    if head == "strategy" and (override := money.get("evidence_set")) is not None:
        return f"{words.begun(why_position(override))}, not because of the record."
    if head == "strategy" and evidence is not None:
        effect = (
            "there is no position"
            if evidence == 0
            else "positions are taken in full"
            if evidence == 1
            else "positions are scaled down by it"
        )
        return f"The evidence factor at the newest bar is {evidence:.2f}: {effect}."
    return None


def _newest(run: Run) -> list[Data]:
    """The newest forecast of each symbol, see `gatecast.newest`, times as text: those of today first, by |z|."""
    bars = part(run.bars, "symbol", "time", "close")
    if bars is None:
        return []
    settings, scores = run.experiment, run.scores
    ended = {}
    if "asset_class" in bars.columns:
        ended = Facts(bars, recorded_delistings(scores.get("delistings"))).symbols_ended
    rows = newest_rows(
        bars, run.scan_forecasts(), part(run.signals, "symbol", "time"), part(run.weights, "symbol", "time"),
        scores.get("verdicts") or {},
        signal_model=settings.signals.model, confirmed_by=settings.signals.confirmed_by,
        abstain=settings.strategies.abstain,
        titles=figures.titles_of(run), names=figures.names_of(run), ended=ended,
    )  # fmt: skip
    size = {row["symbol"]: abs(row["z"]) if words.is_number(row.get("z")) else 0.0 for row in rows}
    rows.sort(key=lambda row: (TODAY.index(row["today"]), -size[row["symbol"]]))
    daily = figures.is_daily(bars.filter(pl.col("symbol") == bars["symbol"][0])["time"])
    times = figures.bar_labels(pl.Series([row["newest_bar"] for row in rows]), daily)
    return [{**row, "newest_bar": time} for row, time in zip(rows, times, strict=True)]


def _today(newest: Iterable[Mapping[str, Any]], told: Data | None) -> Data:
    """What stands on top: the day of the newest bar, what the book trades, and how many symbols have which signal."""
    current = [row for row in newest if row.get("current")]
    sides = [row.get("signal") or 0 for row in current]
    return {
        "day": max((row["newest_bar"] for row in current), default=None),
        "headline": to_trade(told["holds"]) if told and told["holds"] else None,
        "symbols": len(current), "bullish": sides.count(1), "bearish": sides.count(-1),
    }  # fmt: skip


def _course(run: Run) -> Data | None:
    """The strategies and the benchmark by months and years, see `metrics.periods.course`; None without a record."""
    equity = part(run.equity, "time", "net", "benchmark")
    if equity is None:
        return None
    days = equity.select(session_date(pl.col("time"))).to_series().to_numpy().astype("datetime64[D]")
    lines = {
        "net": equity["net"].fill_null(0).fill_nan(0).to_numpy(),
        "benchmark": returns_of_levels(equity["benchmark"].to_numpy()),
    }
    by_session = {name: per_session(values, days) for name, values in lines.items()}
    sessions = by_session["net"][0]
    years = max((sessions[-1] - sessions[0]).astype(int) / 365.25, 1 / 365.25)
    per_year = len(sessions) / years
    return course_of(sessions, {name: values for name, (_, values) in by_session.items()}, per_year)


def _models(rows: Iterable[Mapping[str, Any]], verdicts: Mapping[str, Any]) -> list[Data]:
    """One table a head at its longest step: models by scores, the best of each score and the rival marked."""
    tables = []
    rows = [dict(row) for row in rows]
    for head in dict.fromkeys(row.get("head") for row in rows):
        of_head = [row for row in rows if row.get("head") == head]
        step = max((row.get("step") or 0 for row in of_head), default=0)
        of_head = [row for row in of_head if (row.get("step") or 0) == step]
        metrics = [m for m in METRICS if any(jsonable(row.get(m)) is not None for row in of_head)]
        best = {}
        for metric in metrics:
            known = {row["model"]: row[metric] for row in of_head if jsonable(row.get(metric)) is not None}
            top = (max if METRICS[metric][1] > 0 else min)(known.values())
            best[metric] = [model for model, value in known.items() if value == top and len(known) > 1]
        rival = verdicts.get(str(head), {}).get("rival")
        tables.append(
            {
                "head": head,
                "step": step or None,
                "metrics": metrics,
                "best": best,
                "rivals": [row["model"] for row in of_head if row.get("rival", row["model"] == rival)],
                "rows": of_head,
            }
        )
    return tables


def _refused(rows: Sequence[Mapping[str, Any]], names: words.Names) -> str:
    """How many refits the guard refused, and the first of them with their reasons; "" for none.

    >>> _refused([{"asset_class": "index", "model": "lstm", "refit": "2020-03-02T21:00", "reason": "Worse."}], {})
    '1 refit refused: LSTM (index, 2020-03-02): Worse.'
    """
    if not rows:
        return ""
    first = [
        f"{words.named(row['model'], names)} ({row['asset_class']}, {str(row['refit'])[:10]}): {row['reason']}"
        for row in rows[:REFUSED_SHOWN]
    ]
    rest = [f"And {len(rows) - len(first)} more, in scores.json."] if len(rows) > len(first) else []
    return f"{len(rows)} refit{'s' * (len(rows) != 1)} refused: {' '.join([*first, *rest])}"


def _costs(models: Iterable[str], seconds: Mapping[str, float], rows: Iterable[Mapping[str, Any]]) -> Data | None:
    """For each of the models that run: its gain over the network in each head, and its seconds of training.

    `seconds`: model -> seconds of training; `rows`: scores of models. Gains are shares of the network's loss. None
    where there is no network, nothing beside it, or no clock was kept.
    """
    loss: dict[tuple[Any, Any], Any] = {(row.get("model"), row.get("head")): row.get("loss") for row in rows}
    models = [name for name in models if name in seconds]
    heads = [head for head in HEADS if words.is_number(loss.get((NETWORK, head))) and loss[NETWORK, head] > 0]
    if NETWORK not in models or len(models) < 2 or not heads:
        return None
    table = []
    for name in models:
        gains = {
            head: 1 - loss[name, head] / loss[NETWORK, head]
            for head in heads if name != NETWORK and words.is_number(loss.get((name, head)))
        }  # fmt: skip
        table.append({"model": name, "gains": gains, "seconds": seconds[name]})
    return {"heads": heads, "rows": table}


def _years(rows: Iterable[Mapping[str, Any]]) -> list[Data]:
    """One table a head and score: years by models."""
    tables: dict[tuple[Any, Any], Data] = {}
    for row in rows:
        table = tables.setdefault(
            (row["head"], row["metric"]),
            {"head": row["head"], "metric": row["metric"], "models": [], "rows": {}},
        )
        if row["model"] not in table["models"]:
            table["models"].append(row["model"])
        table["rows"].setdefault(str(row["year"]), {})[row["model"]] = row["value"]
    return list(tables.values())


def _tear_sheet(backtest: Mapping[str, Any]) -> list[Data]:
    """Rows of measure, net and benchmark.

    Of less than a year of record no growth a year, and no multiple of it: it would multiply what was seen. The growth
    over the record, `comp`, is there.
    """
    sheet = backtest.get("tear_sheet") or {}
    left_out = ("cagr", "calmar") if (backtest.get("record_years") or 1.0) < 1 else ()
    net, benchmark = (sheet.get(name) or {} for name in ("strategy", "benchmark"))
    return [
        {"measure": measure, "net": net.get(measure), "benchmark": benchmark.get(measure)}
        for measure in dict.fromkeys([*net, *benchmark])
        if measure not in left_out
    ]
