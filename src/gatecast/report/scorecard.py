"""The honest part of a report, as data: what a verdict rests on, and what luck, habit and leaks alone would show.

Each function turns one part of a run's scores into a sentence and a few rows that JSON can hold; how they look is in
the template `scorecard.html.j2`. A part that the scores lack is None or empty, and the page leaves it out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from gatecast.evaluation.holdout import how_little
from gatecast.evaluation.verdict import HELD
from gatecast.forecasting.panel import model_phrase
from gatecast.report.figures import Data
from gatecast.report.words import counted, gain, is_number, named, number, odds, percent, tone

Scores = Mapping[str, Any]


def scorecard(scores: Scores, bars: int | None = None) -> Data:
    """All parts of the scorecard: `rests`, `illusions`, `tried`, `holdout`, `audit`, `many`, `windows`.

    In: a run's scores without NaN, and how many bars its profit and loss was counted on.
    """
    return {
        "rests": rests(scores.get("verdicts") or {}),
        "illusions": illusions(scores.get("illusions") or {}),
        "tried": tried(
            scores.get("trials") or {},
            scores.get("backtest") or {},
            bars,
            (scores.get("verdicts") or {}).get("strategy"),
        ),
        "holdout": holdout(scores["holdout"]) if "holdout" in scores else None,
        "audit": audit(scores["audit"]) if scores.get("audit") else None,
        "many": many(scores.get("many") or {}),
        "windows": windows(scores.get("windows") or []),
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


def rival_of(row: Scores) -> str:
    """The rival of a verdict or of a hold-out's row in words."""
    rival = str(row.get("rival") or "")
    return HELD if row.get("head") == "strategy" else model_phrase(rival)


def as_good(verdict: Scores) -> str:
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
        return model_phrase(str(plain))
    if verdict.get("verdict") == "nothing worth trading" or effect <= 0:
        return rival_of(verdict)
    return model_phrase(simpler(verdict)) if simpler(verdict) else ""


def simpler(verdict: Scores) -> str:
    """The simple model that is as good as the forecast in force, or nothing.

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


def forest(verdict: Scores) -> Data | None:
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


def rests(verdicts: Mapping[str, Scores]) -> list[Data]:
    """What each answer rests on: questions as rows, an answer for each head; rows without any answer are left out."""
    table: list[Data] = [
        {
            "question": question,
            "why": why,
            "answers": {head: answer({"head": head, **verdict}) for head, verdict in verdicts.items()},
        }
        for question, (why, answer) in _RESTS.items()
    ]
    return [row for row in table if any(row["answers"].values())]


def _days(verdict: Scores) -> str:
    days, worth = verdict.get("n"), verdict.get("n_effective")
    if not is_number(days):
        return ""
    if not is_number(worth):
        return counted(days)
    fewer = float(f"{worth:.2g}") < days  # rounded to two digits they may not become more
    return f"{counted(days)}, worth {counted(float(worth)) if fewer else counted(days)}"


def _needed(verdict: Scores) -> str:
    needed = verdict.get("n_needed")
    if is_number(needed):
        return counted(needed)
    return "no gain to confirm" if is_number(verdict.get("effect")) and verdict["effect"] <= 0 else ""


def _costs(verdict: Scores) -> str:
    asked, days = verdict.get("break_even"), verdict.get("n_break_even")
    if not is_number(asked) or verdict.get("head") == "strategy":
        return "paid already" if is_number(asked) else ""
    if asked == 0:
        return "none: nothing is traded on it alone"
    return percent(asked, 2 if asked < 0.1 else 1) + (f" ({counted(days)} days to see it)" if is_number(days) else "")


def _without(verdict: Scores) -> str:
    left, year = verdict.get("without_best_year"), verdict.get("best_year")
    if not is_number(left) or not is_number(verdict.get("effect")) or verdict["effect"] <= 0:
        return ""
    stands = {"True": ": stands", "False": ": falls"}.get(str(verdict.get("survives")), "")
    return f"{gain(left, verdict.get('unit'), width_of(verdict))} without {year}{stands}"


def _best_days(verdict: Scores) -> str:
    share = verdict.get("best_days")
    return "" if not is_number(share) else "all of it" if share >= 1 else percent(share, 0)


def _spread(verdict: Scores) -> str:
    spread = verdict.get("seed_spread")
    return f"± {number(100 * spread, 2)} points" if is_number(spread) else ""


def _seen(verdict: Scores) -> str:
    least = verdict.get("detectable")
    return gain(least, verdict.get("unit"), width_of(verdict)) if is_number(least) else ""


def _over(name: str) -> Callable[[Scores], str]:
    """The gain over another model than the rival, with its interval where there is one, and the model's name."""

    def answer(verdict: Scores) -> str:
        value, low, high = (verdict.get(f"{name}{end}") for end in ("_gain", "_low", "_high"))
        if not is_number(value):
            return ""
        width = high - low if is_number(low) and is_number(high) else None
        shown = gain(value, verdict.get("unit"), width)
        if is_number(low) and is_number(high):
            shown += f" ({gain(low, verdict.get('unit'), width)} to {gain(high, verdict.get('unit'), width)})"
        other = str(verdict.get(name) or "")
        return f"{shown} over {model_phrase(other)}" if other else shown

    return answer


def _luck(name: str) -> Callable[[Scores], str]:
    return lambda verdict: odds(verdict[name]) if is_number(verdict.get(name)) else ""


_RESTS: dict[str, tuple[str, Callable[[Scores], str]]] = {
    "As good and simpler": (
        "the simplest forecast that the record cannot tell from it; that is no claim for it",
        as_good,
    ),
    "Over the plain yardstick": ("the gain over the simplest forecast in use", _over("plain")),
    "Over the best simple model": (
        "chosen with hindsight; where its range contains 0 it is as good",
        _over("simple"),
    ),
    "Days judged": ("and as many independent ones they are worth", _days),
    "Could have been seen": ("the smallest gain that so many days show four times in five", _seen),
    "Days needed": ("for a gain of this size to show four times in five", _needed),
    "Gain that pays the costs": ("of a round trip", _costs),
    "Luck alone does as well": ("the whole record looked at once, and the only question", _luck("pvalue")),
    "… after all questions and tries": (
        "likewise, corrected for all that was asked and tried: this decides the verdict",
        _luck("pvalue_trials"),
    ),
    "… looked at every day": (
        "for a reader who looks daily and stops at the best day: shown for comparison, decides nothing",
        _luck("pvalue_watched"),
    ),
    "Without its best year": ("whether a claim still stands", _without),
    "From the best 1 % of days": ("share of the whole gain", _best_days),
    "Spread over LSTM seeds": ("how much chance in the training moves it", _spread),
}


# ── three illusions ───────────────────────────────────────────────────────────────────────────────


def illusions(found: Scores) -> list[Data]:
    """What makes a forecast look good that is not, each with what explains it away: `title, says, heading, rows`.

    Rows have `label`, `text` and, where there is a picture, `value`; `mine` marks the one that counts.
    """
    parts = {"best_of": _best_of, "overlap": _overlap, "levels": _levels}
    return [say(found[name]) for name, say in parts.items() if name in found]


def _best_of(found: Scores | None) -> Data:
    title = "The best of many"
    if not found:
        return {"title": title, "says": "There are no hits and misses to count.", "rows": []}
    hits, coins, up = (found.get(name) for name in ("hit_rate", "coins", "always_up"))
    models = found["models"]
    many = max(1, round(models * max(found.get("tries") or 1, 1)))
    thrown = f"{_count(many, 'coin')} thrown on {counted(found['independent'])} days that share no bar"
    beaten = all(is_number(v) and is_number(hits) and hits > v for v in (coins, up))
    says = (
        f"Somebody always looks best. Yours is right more often than the best of {thrown}; whether by enough, the "
        "verdict says."
        if beaten
        else f"Somebody always looks best. The best of {thrown}, or always saying up, does as well: this hit rate is "
        "no sign of skill."
    )
    rows = [
        _row(
            f"Best of your {_count(found['models'], 'model')}: {named(found['model'])}", hits, percent(hits), 0.5, True
        ),
        _row(f"Best of {_count(many, 'coin')}", coins, percent(coins), 0.5),
        _row("Always saying up", up, percent(up), 0.5),
    ]
    return {"title": title, "says": says, "heading": "Right about up or down, from 50 %", "rows": rows}


def _overlap(found: Scores | None) -> Data:
    title = "The same days counted twice"
    if not found:
        return {"title": title, "says": "Each answer spans one day: none is counted twice.", "rows": []}
    naive, *honest = (found.get(name) for name in ("naive", "diebold_mariano", "non_overlapping"))
    span = f"Each answer spans {found['sessions']} days and shares all but one with its neighbour"
    worst = max((p for p in honest if is_number(p)), default=None)
    if not is_number(naive) or worst is None:
        says = f"{span}. There is no gain in returns to test."
    elif naive < 0.05 <= worst:
        says = f"{span}. The gain in returns looks sure only if that is overlooked."
    elif worst < 0.05:
        says = f"{span}. The gain in returns is less sure than it looks, and stands."
    else:
        says = f"{span}. The gain in returns is not sure by any count."
    rows = [
        {"label": label, "text": odds(p), "value": None, "mine": mine}
        for label, p, mine in zip(
            ("Every day as news", "Overlap corrected", "Separate days only"),
            (naive, *honest),
            (False, True, True),
            strict=True,
        )
    ]
    return {"title": title, "says": says, "heading": "How often luck alone does as well", "rows": rows}


def _levels(found: Scores | None) -> Data:
    title = "A line that hugs the price"
    if not found:
        return {"title": title, "says": "The forecasts move too little to be laid over the price.", "rows": []}
    labels = {
        "forecast_price": "Forecast price",
        "todays_price": "Today's price, no forecast",
        "change": "Forecast change",
    }
    rows = [
        _row(label, found.get(name), number(found.get(name), 3), 0.0, name == "change")
        for name, label in labels.items()
    ]
    return {
        "title": title,
        "says": "Drawn over the price, any forecast looks right, since prices move little in so short a time. Money is "
        "made only on the change.",
        "heading": "Correlation with what came",
        "rows": rows,
    }


def _row(label: str, value: Any, text: str, base: float, mine: bool = False) -> Data:
    return {"label": label, "text": text, "value": value - base if is_number(value) else None, "mine": mine}


def _count(count: Any, what: str) -> str:
    return f"{counted(count)} {what}{'' if count == 1 else 's'}"


# ── how often it was tried ────────────────────────────────────────────────────────────────────────


def tried(trials: Scores, backtest: Scores, bars: int | None = None, verdict: Scores | None = None) -> Data | None:
    """How many settings were tried, what they are worth, how sure the Sharpe ratio is: `says, rows, facts`.

    `verdict`: that on the strategy, which alone says whether the profit is more than luck; the numbers beside it answer
    narrower questions and claim nothing.
    """
    if not is_number(trials.get("count")):
        return None
    count, worth = trials["count"], trials.get("effective")
    says = f"{_count(count, 'setting')} {'has' if count == 1 else 'have'} been tried on these instruments and days"
    says += ": nothing was picked from many." if count == 1 else _alike(count, worth)
    if trials.get("nested"):
        says += f" {counted(trials['nested'])} of them were candidates of searches that saw nothing of what is judged."
    best, outcome = trials.get("best_of") or {}, (verdict or {}).get("verdict")
    if outcome:
        after = (verdict or {}).get("pvalue_trials")
        luck = f" (luck alone does as well, after all questions and tries: {odds(after)})" if is_number(after) else ""
        says += f" Whether the profit is more than luck the verdict on the strategy says: {outcome}{luck}."
    if count > 1 and not is_number(best.get("pvalue")) and best.get("reason"):
        says += f" What luck gives the best of them cannot be computed: {best['reason']}."
    proven = tone(outcome) == "skill"
    sure = {
        "the Sharpe ratio is above 0": backtest.get("probabilistic_sharpe"),
        "… above what luck gives the best try": None if count == 1 else backtest.get("deflated_sharpe"),
    }
    rows = [
        {"label": label, "text": _sure(value), "value": value, "mine": proven and value > 0.95}
        for label, value in sure.items()
        if is_number(value)
    ]
    if rows and count > 1 and len(rows) < len(sure):
        rows.append({"label": [*sure][1], "text": "cannot be computed", "value": None, "mine": False})
    facts = {
        "Settings tried": f"{counted(count)}"
        + (f", worth {worth:.1f} independent" if is_number(worth) and count > 1 else ""),
        "Luck alone gives the best of them as much, of this one question": odds(best["pvalue"])
        if count > 1 and is_number(best.get("pvalue"))
        else None,
        "Shortest record for the Sharpe ratio": _record(backtest, bars)
        if all(is_number(r["value"]) for r in rows) and rows
        else None,
    }
    return {"says": says, "rows": rows, "facts": {label: text for label, text in facts.items() if text}}


def _alike(count: int, worth: Any) -> str:
    """As how many independent tries several settings count.

    >>> _alike(4, 4.0), _alike(4, 1.02)
    (', so different that each counts.', ', so alike that they count as one try.')
    >>> _alike(4, 2.3)
    ', of which some are alike: they count as 2.3 independent tries.'
    """
    if not is_number(worth):
        return "."
    independent = round(float(worth), 1)
    if independent >= count:
        return ", so different that each counts."
    if independent <= 1:
        return ", so alike that they count as one try."
    return f", of which some are alike: they count as {independent:.1f} independent tries."


def _sure(chance: float) -> str:
    return "over 99.9 %" if chance > 0.999 else "under 0.1 %" if chance < 0.001 else percent(chance)


def _record(backtest: Scores, bars: int | None) -> str:
    least, periods = backtest.get("min_track_record_bars"), backtest.get("periods_per_year")
    if not is_number(least):
        return "none: luck alone gives as high a Sharpe ratio"
    years = f", {number(least / periods, 2)} years" if is_number(periods) and periods else ""
    return f"{counted(float(least))} bars{years}" + (f"; there are {counted(bars)}" if bars else "")


# ── the hold-out, leaks, many models ──────────────────────────────────────────────────────────────


def holdout(found: Scores | None) -> Data:
    """The hold-out: `state` none, sealed or opened, what it says, and for an opened one each gain before and in it."""
    if found is None:
        return {"state": "none"}
    if not found.get("heads"):
        return {"state": "sealed", **found, "worth": how_little(2.0)}
    heads = [{**row, "rival": rival_of(row), "kept": kept(row)} for row in found["heads"]]
    return {"state": "opened", **found, "heads": heads}


def kept(row: Scores) -> str:
    """What is left of a gain in the hold-out.

    >>> kept({"before": 0.1, "after": 0.06, "shrinkage": 0.4}), kept({"before": -0.1, "after": 0.1})
    ('40 % gone', 'nothing to confirm')
    """
    before, after, gone = (row.get(name) for name in ("before", "after", "shrinkage"))
    if not is_number(after) or not is_number(before):
        return "not measured"
    if before <= 0 or not is_number(gone):
        return "nothing to confirm"
    return "all gone" if gone >= 1 else f"{percent(gone, 0)} gone" if gone > 0.005 else "nothing gone"


def dumbbell(row: Scores) -> Data:
    """The line of one gain before the hold-out and in it, with both intervals."""
    names = ("before", "before_low", "before_high", "after", "after_low", "after_high")
    return placed({name: row.get(name) for name in names}, zero=30)


def audit(found: Scores) -> Data:
    """Whether the future leaks in: `clean`, `says`, `banner`, and the lists of the audit as they are."""
    if found.get("clean", True):
        says = "No leak was found where this run looked."
        return {**found, "clean": True, "says": says, "banner": None}
    stages = _and(found.get("guilty") or [])
    banner = (
        f"The future leaks into this run{f', through its {stages}' if stages else ''}. Believe no number on this page."
    )
    return {**found, "says": "What each stage knew before it could be known.", "banner": banner}


def _and(names: Iterable[str]) -> str:
    *most, last = [named(name) for name in names] or [""]
    return f"{', '.join(most)} and {last}" if most else last


def many(found: Mapping[str, Scores]) -> list[Data]:
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


def windows(rows: Iterable[Scores]) -> list[Data]:
    """One sentence a head and model: what learning from everything known changes against the sliding window.

    >>> row = {"head": "volatility", "model": "ridge", "since": 1999, "window": "2Y", "longer": "better"}
    >>> windows([row | {"sliding": 0.22, "everything": 0.1774, "pvalue": None}])[0]["says"].split(": ")[0]
    'On everything known since 1999 ridge regression had a loss of 0.177, on the last 2 years 0.220'
    """
    said = {"better": "a longer window is better", "worse": "a longer window is worse"}
    return [
        {
            **row,
            "says": f"On everything known since {row.get('since')} {named(row.get('model'))} had a loss of "
            f"{number(row.get('everything'), 3)}, on {stretch(row.get('window'))} {number(row.get('sliding'), 3)}: "
            f"{said.get(str(row.get('longer')), 'the difference may be luck')}."
            + (f" Luck alone does as well: {odds(row['pvalue'])}." if is_number(row.get("pvalue")) else ""),
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
