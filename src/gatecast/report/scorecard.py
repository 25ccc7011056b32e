"""The scorecard of a report: scores -> tables and sentences on the tests, the trials, the hold-out and leaks.

Each function turns one part of a run's scores into a sentence and a few rows that JSON can hold; how they look is in
the template `scorecard.html.j2`. A part that the scores lack is None or empty, and the page leaves it out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from gatecast.evaluation.holdout import how_little
from gatecast.evaluation.verdict import CORE, HELD
from gatecast.report.figures import Data
from gatecast.report.words import (
    Names,
    counted,
    gain,
    is_number,
    named,
    number,
    p_value,
    percent,
    phrased,
    titled,
    tone,
)

Scores = Mapping[str, Any]
Answer = Callable[[Scores, Names | None], str]
"""A verdict, and the titles of the run's models -> what stands in a cell of the table."""


def scorecard(scores: Scores, bars: int | None = None) -> Data:
    """All parts of the scorecard: `rests`, `illusions`, `tried`, `holdout`, `audit`, `many`, `windows`.

    In: a run's scores without NaN, and how many bars its profit and loss was counted on.
    """
    names = scores.get("names")
    return {
        "rests": evidence_rows(scores.get("verdicts") or {}, names),
        "illusions": illusions(scores.get("illusions") or {}, names),
        "tried": trial_rows(
            scores.get("trials") or {},
            scores.get("backtest") or {},
            bars,
            (scores.get("verdicts") or {}).get("strategy"),
        ),
        "holdout": holdout(scores["holdout"], names) if "holdout" in scores else None,
        "audit": audit(scores["audit"]) if scores.get("audit") else None,
        "many": model_tables(scores.get("many") or {}),
        "windows": window_rows(scores.get("windows") or [], names),
    }


def placed(values: Mapping[str, Any], zero: float | None = None) -> Data:
    """Where numbers lie on a line of their own scale, in percent of its width; what is no number is left out.

    `zero`: the place of 0, the same on every line that shares it; None: as far left as the numbers allow.

    >>> placed({"low": -1.0, "high": 2.0, "unknown": None}, zero=30)
    {'zero': 30, 'low': 4.0, 'high': 82.0}
    >>> placed({"much": 0.5, "little": 0.25})
    {'zero': 0.0, 'much': 100.0, 'little': 50.0}
    """
    found = {name: value for name, value in values.items() if is_number(value)}
    left, right = max([0.0, *(-v for v in found.values())]), max([0.0, *found.values()])
    if zero is None:
        zero, unit = 100 * left / ((left + right) or 1.0), 100 / ((left + right) or 1.0)
    else:
        unit = 1 / (max(left / (zero - 4), right / (96 - zero)) or 1.0)
    return {"zero": zero, **{name: round(zero + unit * value, 2) for name, value in found.items()}}


def width_of(row: Scores) -> float | None:
    """How wide the interval of a verdict is, or the widest one of a hold-out's row; None without one."""
    ends = ((row.get(f"{name}low"), row.get(f"{name}high")) for name in ("", "before_", "after_"))
    return max((high - low for low, high in ends if is_number(low) and is_number(high)), default=None)


# ── the verdict ───────────────────────────────────────────────────────────────────────────────────


def rival_of(row: Scores, names: Names | None = None) -> str:
    """The rival of a verdict or of a hold-out's row in words."""
    rival = str(row.get("rival") or "")
    if row.get("head") == "strategy":
        return CORE if rival == CORE else HELD
    return phrased(rival, names)


def as_good(verdict: Scores, names: Names | None = None) -> str:
    """The simplest forecast that the record cannot tell from this one, or that beats it; empty where it shows none.

    That is a comparison, no claim of skill for the simpler one.

    >>> as_good({"verdict": "cannot tell", "effect": -0.01, "low": -0.05, "rival": "har"})
    'the log-HAR'
    >>> as_good({"verdict": "cannot tell", "effect": 0.01, "low": -0.01, "rival": "har"})
    ''
    """
    effect, low = verdict.get("effect"), verdict.get("low")
    if tone(verdict.get("verdict")) == "wrong" or not (is_number(effect) and is_number(low)):
        return ""
    plain, plain_low = verdict.get("plain"), verdict.get("plain_low")
    if plain and is_number(plain_low) and plain_low <= 0:
        return phrased(plain, names)
    if verdict.get("verdict") == "nothing worth trading" or effect <= 0:
        return rival_of(verdict, names)
    return phrased(simpler(verdict), names) if simpler(verdict) else ""


def simpler(verdict: Scores) -> str:
    """The simple model that cannot be told from the forecast in force, or is better, or nothing.

    It is the best simple one with hindsight, where the interval of the gain over it contains 0.

    >>> simpler({"simple": "har_smooth", "simple_low": -0.01, "simple_high": 0.02})
    'har_smooth'
    >>> simpler({"simple": "har_smooth", "simple_low": 0.01, "simple_high": 0.02})
    ''
    """
    low = verdict.get("simple_low")
    if verdict.get("simple") and is_number(low):
        return str(verdict["simple"]) if low <= 0 else ""
    return str(verdict.get("simpler") or "")


def interval_plot(verdict: Scores) -> Data | None:
    """The line of one verdict: its interval, its effect, the gain that pays the costs and what could have been seen.

    Marks beyond twice the interval's ends would squeeze it and are left to the table; None without an interval.
    """
    if not (is_number(verdict.get("effect")) and is_number(verdict.get("low"))):
        return None
    bounds = {name: verdict.get(name) for name in ("low", "effect", "high")}
    reach = 2 * max(abs(value) for value in bounds.values() if is_number(value))
    marks = {name: verdict.get(name) for name in ("break_even", "detectable")}
    near = {name: value for name, value in marks.items() if is_number(value) and 0 < value <= max(reach, 1e-12)}
    return placed(bounds | near, zero=30)


def evidence_rows(verdicts: Mapping[str, Scores], names: Names | None = None) -> list[Data]:
    """The test of each head: quantities as rows, a value for each head; rows without any value are left out."""
    table: list[Data] = [
        {
            "question": question,
            "why": why,
            "answers": {head: answer({"head": head, **verdict}, names) for head, verdict in verdicts.items()},
        }
        for question, (why, answer) in _RESTS.items()
    ]
    return [row for row in table if any(row["answers"].values())]


def _days(verdict: Scores, names: Names | None) -> str:
    days, worth = verdict.get("n"), verdict.get("n_effective")
    if not is_number(days):
        return ""
    of_all = verdict.get("days")
    held = f" with a position, of {counted(of_all)}" if is_number(of_all) and days < of_all else ""
    if not is_number(worth):
        return f"{counted(days)}{held}"
    fewer = float(f"{worth:.2g}") < days  # rounded to two digits they may not become more
    return f"{counted(days)}{held} ({counted(float(worth)) if fewer else counted(days)} independent)"


def _needed(verdict: Scores, names: Names | None) -> str:
    needed = verdict.get("n_needed")
    if is_number(needed):
        return counted(needed)
    return "no gain" if is_number(verdict.get("effect")) and verdict["effect"] <= 0 else ""


def _costs(verdict: Scores, names: Names | None) -> str:
    asked, days = verdict.get("break_even"), verdict.get("n_break_even")
    if not is_number(asked) or verdict.get("head") == "strategy":
        return "costs are deducted" if is_number(asked) else ""
    if asked == 0:
        return "none: not traded by itself"
    return percent(asked, 2 if asked < 0.1 else 1) + (
        f" ({counted(days)} days to detect it)" if is_number(days) else ""
    )


def _without(verdict: Scores, names: Names | None) -> str:
    left, year = verdict.get("without_best_year"), verdict.get("best_year")
    if not is_number(left) or not is_number(verdict.get("effect")) or verdict["effect"] <= 0:
        return ""
    stands = {"True": ", significant", "False": ", not significant"}.get(str(verdict.get("survives")), "")
    return f"{gain(left, verdict.get('unit'), width_of(verdict))} without {year}{stands}"


def _best_days(verdict: Scores, names: Names | None) -> str:
    share = verdict.get("best_days")
    return "" if not is_number(share) else "100 % or more" if share >= 1 else percent(share, 0)


def _spread(verdict: Scores, names: Names | None) -> str:
    spread = verdict.get("seed_spread")
    return f"± {number(100 * spread, 2)} points" if is_number(spread) else ""


def _seen(verdict: Scores, names: Names | None) -> str:
    least = verdict.get("detectable")
    if not is_number(least):
        return ""
    if verdict.get("head") == "return":  # no difference of losses
        return f"R² of {percent(least, 1 if least >= 0.02 else 2)}, of a calibrated forecast"
    return gain(least, verdict.get("unit"), width_of(verdict))


def _over(name: str) -> Answer:
    """The gain over another model than the rival, with its interval where there is one, and the model's name."""

    def answer(verdict: Scores, names: Names | None = None) -> str:
        value, low, high = (verdict.get(f"{name}{end}") for end in ("_gain", "_low", "_high"))
        if not is_number(value):
            return ""
        width = high - low if is_number(low) and is_number(high) else None
        shown = gain(value, verdict.get("unit"), width)
        if is_number(low) and is_number(high):
            shown += f" ({gain(low, verdict.get('unit'), width)} to {gain(high, verdict.get('unit'), width)})"
        other = str(verdict.get(name) or "")
        return f"{shown} over {phrased(other, names)}" if other else shown

    return answer


def _p(name: str) -> Answer:
    return lambda verdict, names: p_value(verdict[name]) if is_number(verdict.get(name)) else ""


SIMPLER = "Simpler, not shown to be worse"

_RESTS: dict[str, tuple[str, Answer]] = {
    SIMPLER: ("the simplest forecast whose loss is not significantly larger; no claim of skill for it", as_good),
    "Gain over the plain yardstick": ("a fixed, simple forecast, named beside it", _over("plain")),
    "Gain over the best simple model": (
        "the one with the smallest loss over the whole record; not told apart if the interval contains 0",
        _over("simple"),
    ),
    "Days": ("and the number of independent days with the same standard error", _days),
    "Smallest detectable gain": ("at 5 % one-sided, with 80 % power", _seen),
    "Days needed": ("to detect the measured gain with 80 % power", _needed),
    "Break-even gain": ("the gain that pays the cost of a round trip", _costs),
    "p-value": ("one-sided, of this test alone", _p("pvalue")),
    "p-value, corrected": (
        "for all heads (Holm) and trials: it decides the verdict",
        _p("pvalue_trials"),
    ),
    "p-value, sequential": (
        "valid if tested every day; it decides nothing",
        _p("pvalue_watched"),
    ),
    "Without the best year": ("the gain, and whether it is still significant", _without),
    "Share of the best 1 % of days": ("in the whole gain", _best_days),
    "Spread over seeds": ("standard deviation of the gain over the seeds of the network", _spread),
}


# ── three common errors ───────────────────────────────────────────────────────────────────────────


def illusions(found: Scores, names: Names | None = None) -> list[Data]:
    """Three errors that make a forecast look better than it is, each with the correction: `title, says, heading, rows`.

    Rows have `label`, `text` and, where there is a picture, `value`; `mine` marks the one that counts.
    """
    parts = {"best_of": _best_of, "overlap": _overlap, "levels": _levels}
    return [say(found[name], names) for name, say in parts.items() if name in found]


def _best_of(found: Scores | None, names: Names | None) -> Data:
    title = "Picking the best of many"
    if not found:
        return {"title": title, "says": "There is no hit rate to compare.", "rows": []}
    hits, coins, up = (found.get(name) for name in ("hit_rate", "coins", "always_up"))
    models = found["models"]
    many = max(1, round(models * max(found.get("tries") or 1, 1)))
    guessers = f"the best of {_count(many, 'random guesser')} on {counted(found['independent'])} days without overlap"
    beaten = all(is_number(v) and is_number(hits) and hits > v for v in (coins, up))
    rise = "always forecasting a rise"
    known = {
        text: hits > share for text, share in ((guessers, coins), (rise, up)) if is_number(share) and is_number(hits)
    }
    over, under = ([text for text, above in known.items() if above is side] for side in (True, False))
    says = "Of many models, one always has the highest hit rate."
    if beaten:
        says += f" Here it is above that of {guessers} and of {rise}. The verdict tests whether the difference is "
        says += "significant."
    elif over and under:
        says += f" Here it is above that of {over[0]}, but not above that of {under[0]}: it is no sign of skill."
    elif under:
        says += f" Here it is not above that of {' or of '.join(under)}: it is no sign of skill."
    else:
        says += f" Here it {f'is above that of {over[0]}, but ' if over else ''}cannot be compared with that of "
        says += f"{rise if guessers in over else guessers}: it is no sign of skill."
    if many > models:
        says += (
            f" There are as many guessers as {_count(models, 'forecast')} times {many / models:.3g} independent trials."
        )
    says += " The combined forecasts are counted with the models; simple rivals are not."
    rows = [
        _row(
            f"Best of {_count(found['models'], 'forecast')} of models and combinations: {named(found['model'], names)}",
            hits,
            percent(hits),
            0.5,
            True,
        ),
        _row(f"Best of {_count(many, 'random guesser')}", coins, percent(coins), 0.5),
        _row("Always forecasting a rise: the share of rises over the test", up, percent(up), 0.5),
    ]
    return {"title": title, "says": says, "heading": "Hit rate, bars from 50 %", "rows": rows}


def _overlap(found: Scores | None, names: Names | None) -> Data:
    title = "Counting overlapping days as independent"
    if not found:
        return {"title": title, "says": "Each outcome spans one day: none overlap.", "rows": []}
    naive, *honest = (found.get(name) for name in ("naive", "diebold_mariano", "non_overlapping"))
    span = f"Each outcome spans {found['sessions']} days, all but one of them shared with the next"
    worst = max((p for p in honest if is_number(p)), default=None)
    if not is_number(naive) or worst is None:
        says = f"{span}. There is no gain in returns to test."
    elif naive < 0.05 <= worst:
        says = f"{span}. The gain in returns is significant only if the overlap is ignored."
    elif worst < 0.05:
        says = (
            f"{span}. By this test alone the gain in returns is significant with the overlap corrected. The verdict "
            "asks for more: the Clark-West test against no change, and corrections for the number of heads and trials."
        )
    else:
        says = f"{span}. The gain in returns is not significant by any of the tests."
    rows = [
        {"label": label, "text": p_value(p), "value": None, "mine": mine}
        for label, p, mine in zip(
            ("Overlap ignored", "Overlap corrected", "Days without overlap only"),
            (naive, *honest),
            (False, True, True),
            strict=True,
        )
    ]
    return {"title": title, "says": says, "heading": "p-value of the gain in returns", "rows": rows}


def _levels(found: Scores | None, names: Names | None) -> Data:
    title = "Comparing price levels"
    if not found:
        return {"title": title, "says": "The forecasts are too close to 0 to compare price levels.", "rows": []}
    labels = {
        "forecast_price": "Forecast price",
        "todays_price": "Today's price as the forecast",
        "change": "Forecast change",
    }
    rows = [
        _row(label, found.get(name), number(found.get(name), 3), 0.0, name == "change")
        for name, label in labels.items()
    ]
    return {
        "title": title,
        "says": "Any forecast price correlates with the price that follows, because prices change little in so short a "
        "time. Only the correlation of forecast and realised changes shows skill.",
        "heading": "Correlation with the outcome",
        "rows": rows,
    }


def _row(label: str, value: Any, text: str, base: float, mine: bool = False) -> Data:
    return {"label": label, "text": text, "value": value - base if is_number(value) else None, "mine": mine}


def _count(count: Any, what: str) -> str:
    return f"{counted(count)} {what}{'' if count == 1 else 's'}"


# ── how often it was tried ────────────────────────────────────────────────────────────────────────


def trial_rows(trials: Scores, backtest: Scores, bars: int | None = None, verdict: Scores | None = None) -> Data | None:
    """The number of trials, of independent ones among them, and probabilities of the Sharpe ratio: `says, rows, facts`.

    `verdict`: of the strategy. It alone decides on skill; the probabilities are shown beside it and decide nothing.
    """
    if is_number(assumed := trials.get("assumed")) and not is_number(trials.get("count")):
        says = (
            f"The number of trials is unknown: {assumed} could be read, earlier ones could not. No verdict is evidence "
            "of skill."
        )
        return {"says": says, "rows": [], "facts": {}}
    if not is_number(trials.get("count")):
        return None
    count, worth = trials["count"], trials.get("effective")
    says = f"{_count(count, 'configuration')} {'was' if count == 1 else 'were'} tried on these symbols and days"
    says += ": there was no choice among several." if count == 1 else _alike(count, worth)
    if trials.get("nested"):
        says += f" {counted(trials['nested'])} of them were candidates of searches inside training windows."
    best, outcome = trials.get("best_of") or {}, (verdict or {}).get("verdict")
    if outcome:
        after = (verdict or {}).get("pvalue_trials")
        corrected = f" (corrected p {p_value(after)})" if is_number(after) else ""
        says += f" Verdict on the strategy: {outcome}{corrected}."
    if count > 1 and not is_number(best.get("pvalue")) and best.get("reason"):
        says += f" The test of the best of them cannot be computed: {best['reason']}."
    proven = tone(outcome) == "skill"
    sure = {
        "Sharpe ratio above 0": backtest.get("probabilistic_sharpe"),
        "Sharpe ratio above the expected best of all trials": None if count == 1 else backtest.get("deflated_sharpe"),
    }
    rows = [
        {"label": label, "text": _sure(value), "value": value, "mine": proven and value > 0.95}
        for label, value in sure.items()
        if is_number(value)
    ]
    if rows and count > 1 and len(rows) < len(sure):
        rows.append({"label": [*sure][1], "text": "cannot be computed", "value": None, "mine": False})
    facts = {
        "Configurations tried": f"{counted(count)}"
        + (f", {worth:.1f} independent" if is_number(worth) and count > 1 else ""),
        "p-value of the best of them (superior predictive ability)": p_value(best["pvalue"])
        if count > 1 and is_number(best.get("pvalue"))
        else None,
        "Minimum track record of this Sharpe ratio": _record(backtest, bars)
        if all(is_number(r["value"]) for r in rows) and rows
        else None,
    }
    return {"says": says, "rows": rows, "facts": {label: text for label, text in facts.items() if text}}


def _alike(count: int, worth: Any) -> str:
    """The number of independent trials among several configurations, in words.

    >>> _alike(4, 4.0), _alike(4, 1.02)
    (', each counted as an independent trial.', ', so alike that they count as one trial.')
    >>> _alike(4, 2.3)
    ', some alike: they count as 2.3 independent trials.'
    """
    if not is_number(worth):
        return "."
    independent = round(float(worth), 1)
    if independent >= count:
        return ", each counted as an independent trial."
    if independent <= 1:
        return ", so alike that they count as one trial."
    return f", some alike: they count as {independent:.1f} independent trials."


def _sure(chance: float) -> str:
    return "over 99.9 %" if chance > 0.999 else "under 0.1 %" if chance < 0.001 else percent(chance)


def _record(backtest: Scores, bars: int | None) -> str:
    least, periods = backtest.get("min_track_record_bars"), backtest.get("periods_per_year")
    if not is_number(least):
        return "none: the Sharpe ratio is below the expected best of the trials"
    years = f", {number(least / periods, 2)} years" if is_number(periods) and periods else ""
    return f"{counted(float(least))} bars{years}" + (f"; the record has {counted(bars)}" if bars else "")


# ── the hold-out, leaks, many models ──────────────────────────────────────────────────────────────


def holdout(found: Scores | None, names: Names | None = None) -> Data:
    """The hold-out: `state` none, sealed or opened, what it says, and for an opened one each gain before and in it."""
    if found is None:
        return {"state": "none"}
    if not found.get("heads"):
        return {"state": "sealed", **found, "worth": how_little(2.0)}
    heads = [{**row, "rival": rival_of(row, names), "kept": shrinkage_words(row)} for row in found["heads"]]
    return {"state": "opened", **found, "heads": heads}


def shrinkage_words(row: Scores) -> str:
    """How much smaller a gain is in the hold-out, in words.

    >>> shrinkage_words({"before": 0.1, "after": 0.06, "shrinkage": 0.4})
    '40 % smaller'
    >>> shrinkage_words({"before": -0.1, "after": 0.1})
    'no gain before'
    """
    before, after, gone = (row.get(name) for name in ("before", "after", "shrinkage"))
    if not is_number(after) or not is_number(before):
        return "not measured"
    if before <= 0 or not is_number(gone):
        return "no gain before"
    return "gone" if gone >= 1 else f"{percent(gone, 0)} smaller" if gone > 0.005 else "not smaller"


def dumbbell(row: Scores) -> Data:
    """The line of one gain before the hold-out and in it, with both intervals."""
    names = ("before", "before_low", "before_high", "after", "after_low", "after_high")
    return placed({name: row.get(name) for name in names}, zero=30)


def audit(found: Scores) -> Data:
    """Whether information from the future was used: `clean`, `says`, `banner`, and the lists of the audit."""
    if found.get("clean", True):
        says = "The checks listed below found no use of information from the future."
        return {**found, "clean": True, "says": says, "banner": None}
    stages = _and(found.get("guilty") or [])
    banner = f"This run used information from the future{f' ({stages})' if stages else ''}. All its numbers are void."
    return {**found, "says": "Stages that used information before it was known.", "banner": banner}


def _and(names: Iterable[str]) -> str:
    *most, last = [named(name) for name in names] or [""]
    return f"{', '.join(most)} and {last}" if most else last


def model_tables(found: Mapping[str, Scores]) -> list[Data]:
    """One table a head: models by their gain, whether each may be the best, and whether it beats the rival."""

    def size(row: Scores) -> float:
        gained = row.get("gain")
        return gained if is_number(gained) else float("-inf")

    tables = []
    for head, one in ((head, one) for head, one in found.items() if one):
        rows = sorted(one.get("models") or [], key=size, reverse=True)
        tables.append({"head": head, **one, "models": rows})
    return tables


# ── a longer window ───────────────────────────────────────────────────────────────────────────────


def window_rows(rows: Iterable[Scores], names: Names | None = None) -> list[Data]:
    """One sentence a head and model: the loss if trained on all past bars, and on the sliding window.

    >>> row = {"head": "volatility", "model": "ridge", "since": 1999, "window": "2Y", "longer": "better"}
    >>> window_rows([row | {"sliding": 0.22, "everything": 0.1774, "pvalue": None}])[0]["says"].split("; ")[0]
    'Ridge regression: loss 0.177 if trained on all bars since 1999, 0.220 if on the last 2 years'
    """
    outcome = {"better": "the longer window is better", "worse": "the longer window is worse"}
    return [
        {
            **row,
            "says": f"{titled(row.get('model'), names)}: loss {number(row.get('everything'), 3)} if trained on all "
            f"bars since {row.get('since')}, {number(row.get('sliding'), 3)} if on {stretch(row.get('window'))}; "
            f"{outcome.get(str(row.get('longer')), 'the difference is not significant')}"
            + (f" (p {p_value(row['pvalue'])})." if is_number(row.get("pvalue")) else "."),
        }
        for row in rows
    ]


def stretch(window: Any) -> str:
    """The length of a window in words.

    >>> stretch("2Y"), stretch("1Y"), stretch(500)
    ('the last 2 years', 'the last year', 'the last 500 bars')
    """
    units = {"D": "day", "W": "week", "M": "month", "Y": "year"}
    count, unit = str(window)[:-1], units.get(str(window)[-1:])
    if unit is None:
        return f"the last {counted(window)} bars"
    return f"the last {unit}" if count == "1" else f"the last {count} {unit}s"
