"""Did searching for settings beat the settings that were given, out of sample, and what did the searches find?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gatecast.evaluation.paired import paired
from gatecast.evaluation.verdict import NAMES
from gatecast.forecasting.panel import NETWORK
from gatecast.forecasting.tuning.search import importance
from gatecast.forecasting.tuning.tuned import DEFAULT

if TYPE_CHECKING:
    from gatecast.evaluation.record import Record
    from gatecast.forecasting.walkforward import Forecasts

SETTINGS = {
    "lookback": "lookback", "layers": "layers", "units": "units", "dropout": "dropout",
    "learning_rate": "learning rate", "weight_decay": "weight decay", "batch": "chunks an update",
    "window": "training window",
}  # fmt: skip


def searches_of(forecasts: Forecasts) -> tuple[dict[str, Any], ...]:
    """Every search of one class in order, see `forecasting.tuning.tuned.search_once`; () where none was made."""
    return tuple(getattr(forecasts.fitted.get(NETWORK), "searches", ()))


def search_worth(
    records: Mapping[str, Record], searches: Mapping[str, Sequence[Mapping[str, Any]]]
) -> dict[str, Any] | None:
    """What the searches of a run were worth; None without any.

    Parameters
    ----------
    records: head -> record with the models `lstm` and `lstm_default`.
    searches: asset class -> its searches, see `searches_of`; classes without one take no part.

    Returns
    -------
    `heads`, one row each: `n` days, `given` and `searched` (mean daily standardised losses), `gain` (share of the given
    settings' loss that the search saved) with its 90 % interval `low` to `high` (fixed-b), `statistic` and `pvalue`
    (Diebold-Mariano, the correction of Harvey, Leybourne and Newbold, two-sided, above 0 where the search is better),
    `worth` ("better", "worse", "no difference" where luck may be all of it, or "nothing changed"); `classes`, one row
    each: `dates` (of each search what it chose and by how much), `tried`, `failed`, `pruned`, `importance` of the
    settings; `reproducible`.
    """
    found = {name: own for name, own in searches.items() if own}
    if not found:
        return None
    rows = [_row(record.of_classes(found)) for record in records.values()]
    return {
        "heads": [row for row in rows if row],
        "classes": [_class_row(name, own) for name, own in found.items()],
        "reproducible": all(one["reproducible"] for own in found.values() for one in own),
    }


def _row(record: Record) -> dict[str, Any] | None:
    both = paired(record, NETWORK, NETWORK + DEFAULT)
    if both.n == 0:
        return None
    worth = "nothing changed" if both.same else both.outcome("better", "worse", "no difference")
    return {
        "head": record.head, "n": both.n, "given": both.loss_against, "searched": both.loss, "gain": both.gain,
        "low": both.low, "high": both.high, "statistic": both.statistic, "pvalue": both.pvalue, "worth": worth,
    }  # fmt: skip


def _class_row(name: str, searches: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    every = [trial for one in searches for trial in one["trials"]]
    whole = [
        [(trial["params"], trial["loss"]) for trial in one["trials"] if trial["state"] == "complete"]
        for one in searches
    ]
    names = ("date", "since", "chosen", "given_loss", "loss", "statistic", "replaced")
    return {
        "asset_class": name, "dates": [{key: one[key] for key in names} for one in searches],
        "tried": len(every), "failed": sum(trial["state"] == "failed" for trial in every),
        "pruned": sum(trial["state"] == "pruned" for trial in every),
        "reasons": sorted({trial["reason"] for trial in every if trial["state"] == "failed"})[:5],
        "importance": importance([one for one in whole if one]),
    }  # fmt: skip


# ── in words ──────────────────────────────────────────────────────────────────────────────────────


def said_of(found: Mapping[str, Any], seconds: Mapping[str, float] | None = None) -> list[str]:
    """Sentences that answer whether the searches paid; `seconds`: model -> time of its training."""
    return [*(sentence(row) for row in found["heads"]), *cost(seconds or {}), *counted(found)]


def sentence(row: Mapping[str, Any]) -> str:
    """Whether the search helped one head.

    >>> row = {"head": "return", "gain": 0.012, "low": 0.002, "high": 0.022, "worth": "better"}
    >>> sentence(row)
    'The return forecast: the settings that were found lost 1.20 % less than those given (0.20 to 2.20 %).'
    """
    what = NAMES[row["head"]]
    if row["worth"] == "nothing changed":
        return f"{what}: nothing changed, the settings given stayed in force."
    gain, low, high = (100 * row[name] for name in ("gain", "low", "high"))
    how = "less" if gain >= 0 else "more"
    low, high = (low, high) if gain >= 0 else (-high, -low)
    said = f"{what}: the settings that were found lost {abs(gain):.2f} % {how} than those given"
    luck = "; luck may be all of it" if row["worth"] == "no difference" else ""
    return f"{said} ({low:.2f} to {high:.2f} %{luck})."


def cost(seconds: Mapping[str, float]) -> list[str]:
    """What the searches took beside the fits alone; nothing where it is not known."""
    tuned, given = seconds.get(NETWORK), seconds.get(NETWORK + DEFAULT)
    if not tuned or not given:
        return []
    return [f"Searches and fits took {tuned:.3g} s, the fits of the given settings alone {given:.3g} s."]


def counted(found: Mapping[str, Any]) -> list[str]:
    """How many candidates there were, and whether the same would come out again."""
    tried, pruned, failed = (sum(one[name] for one in found["classes"]) for name in ("tried", "pruned", "failed"))
    dates = sum(len(one["dates"]) for one in found["classes"])
    replaced = sum(row["replaced"] for one in found["classes"] for row in one["dates"])
    said = [
        f"{tried} candidates at {dates} dates, of which {pruned} were given up early and {failed} failed; the settings "
        f"given were replaced at {replaced} of the dates. Each candidate was scored on rows before its date."
    ]
    reasons = [reason for one in found["classes"] for reason in one["reasons"]]
    if reasons:
        said.append(f"Why candidates failed, for example: {reasons[0]}")
    if not found["reproducible"]:
        said.append("Not reproducible: the budget was time, or several machines shared the studies.")
    return said


def searched(one: Mapping[str, Any]) -> str:
    """What mattered in one class's searches."""
    shares = sorted(one["importance"].items(), key=lambda item: -item[1])[:3]
    if not shares:
        return "Too few candidates to tell which settings mattered."
    return "What mattered most: " + ", ".join(f"{setting_named(name)} ({share:.0%})" for name, share in shares) + "."


def setting_named(parameter: str) -> str:
    """A searched setting in words."""
    return SETTINGS.get(parameter, parameter)


def value_named(value: Any) -> str:
    """A chosen value in words."""
    if isinstance(value, bool):
        return "in" if value else "out"
    return f"{value:.2g}" if isinstance(value, float) else str(value)
