"""What cuts a target and keeps a trade from it, in words: of a sizing, and of what a book has stored of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gatecast.trading.sizing import SLACK, STAGES, TARGET_CAPS, BookSettings, Cut, Sized

BAND = "band"
"""The gate of a trade that ends at the edge of the band about its target, or is not made within it."""
ROUNDING = "rounding"
"""The gate of a trade that is rounded to whole lots, and not blocked."""
OF_TRADE = STAGES[STAGES.index(BAND) :]
"""The stages of sizing at which a trade is cut; those before it cut the target."""
GATES = {
    "name": "the cap on one symbol cut the target", "class": "the cap on the class cut the target",
    "gross": "the cap on the gross value cut the target", "margin": "the cap on margin cut the target",
    "net": "the cap on the net value cut the target", "spike": "the spike of correlations cut the target",
    "halt": "no bar of this close was known by the next open: its market is closed, or its bar is missing or waits",
    "close": "it is to be closed", "stop": "the drawdown stop closes it",
    "borrow": "no more can be borrowed to be sold short",
    "participation": "the share of volume cut the trade", "lot": "less than a lot is left to be traded",
    ROUNDING: "the trade is rounded to whole lots",
    BAND: "what is near enough to the target is not traded (the band)",
    "ticket": "the trade is below the smallest ticket", "cash": "cash cut the trade",
}  # fmt: skip
"""Gate of `sizing.Sized`, the band, or rounding -> what it says of an order."""
KEEP_FROM_TRADE = ("halt", "participation", "lot", ROUNDING, "ticket", "cash", "borrow")
"""Gates by which something else than the band keeps a symbol from a trade, or makes it smaller."""
HOLD_STILL = ("halt", "close", "stop")
"""Gates by which a name has no target but what is held, or nothing."""
CLOSE = HOLD_STILL[1:]
"""Gates that close a position."""
CALLED = {
    "name": "symbol cap", "class": "class cap", "gross": "gross cap", "margin": "margin cap", "net": "net cap",
    "spike": "spike of correlations", "halt": "closed market or no bar", "close": "closing of the position",
    "stop": "drawdown stop", "borrow": "what can be borrowed", "participation": "volume limit",
    "lot": "whole lots", ROUNDING: "whole lots", BAND: "band", "ticket": "smallest ticket", "cash": "cash",
}  # fmt: skip
"""Gate -> what a reader calls it, in a few words."""
SHARES = {
    "name": "name_cap", "class": "class_cap", "gross": "gross_cap", "margin": "margin_cap", "net": "net_cap",
    "stop": "drawdown_stop", "participation": "participation",
}  # fmt: skip
"""Gate -> the setting of the book that says where it closes, a share; see `sizing.BookSettings`."""
LEAST_OFF = 5e-4
"""Distance of what is held from its target that is worth a word, as a share of equity."""


def cuts_of(sized: Sized, place: int) -> list[Cut]:
    """All that cut the target of a name and its trade, in the order of the stages, each gate of a stage once, with the
    `change` of the share by it. The changes of a stage's gates add up to that of the stage.

    The band is one where it leaves the name off its target, and rounding to whole lots where no lot was blocked.
    """
    moved = {stage: _change(sized, place, stage) for stage in STAGES[1:]}
    every = list(sized.gates[place])
    if abs(moved[BAND]) > SLACK:
        every.append(Cut(BAND, BAND))
    if abs(moved["lots"]) > SLACK and not any(one.stage == "lots" for one in every):
        every.append(Cut("lots", ROUNDING))
    by_stage: dict[str, dict[str, float]] = {}
    for one in every:
        by_stage.setdefault(one.stage, {})[one.gate] = one.change
    for stage, gates in by_stage.items():
        *_, last = gates
        gates[last] = moved[stage] - sum(change for gate, change in gates.items() if gate != last)
    return [Cut(stage, *one) for stage in STAGES if stage in by_stage for one in by_stage[stage].items()]


def gate_of_trade(sized: Sized, place: int) -> str:
    """The gate that binds, see `binding`; "" where nothing cut a name."""
    found = binding(cuts_of(sized, place))
    return found.gate if found else ""


def binding(cuts: Sequence[Cut]) -> Cut | None:
    """Which of the cuts of a name, in order, binds: the one that changed its share most, the last of those alike.

    None without any. Where the gate of an order, of a page, of a report and of an explanation is named, this rule
    names it. Rounding to whole lots counts from `LEAST_OFF` on.

    >>> binding([Cut("caps", "name", -0.3), Cut("volume", "participation", -0.2), Cut("lots", "lot", -0.01)])
    Cut(stage='caps', gate='name', change=-0.3)
    """
    worth = [one for one in cuts if _is_said(one)]
    return max(reversed(worth), key=lambda one: round(abs(one.change) / SLACK), default=None)


def _is_said(cut: Cut) -> bool:
    """Whether a cut is worth a word: every trade in lots is rounded a little."""
    return cut.gate != ROUNDING or abs(cut.change) >= LEAST_OFF


def _change(sized: Sized, place: int, stage: str) -> float:
    """By how much a stage changed the share of a name."""
    before = sized.stages[STAGES[STAGES.index(stage) - 1]]
    return float(sized.stages[stage][place] - before[place])


class Limit(NamedTuple):
    """What kept a name from what was wanted of it: `gate`, the one that binds (`binding`), and `words`, all that cut
    the target and all that cut the trade, as `limited_by` says it.

    `cap`: the one of `TARGET_CAPS` that binds; `kept`: the same of the gates that keep it from a trade; `closes`: the
    one of `CLOSE` that closes the position; "" where there is none. `costs`: gate in words -> the share of equity that
    it took of the position, below 0 where it added to it; 0 of those of `HOLD_STILL`, as such a name is not sized.
    """

    gate: str
    words: str
    cap: str = ""
    kept: str = ""
    costs: Mapping[str, float] = {}
    closes: str = ""

    def halted(self, now: Limit, why: str) -> Limit:
        """What is said of a name that cannot be traded now, of the last session in which it could: its order was made
        then. `now`: what the newest session says of it; `why` it cannot."""
        return self._replace(words=f"{self.words}; {why}" if self.words else why, kept="halt", costs=now.costs)


def limit_of(sized: Sized, place: int, size: BookSettings) -> Limit:
    """See `Limit`; `size`: the settings that it was sized by."""
    cuts = [one for one in cuts_of(sized, place) if _is_said(one)]
    of_trade = [one for one in cuts if one.stage in OF_TRADE]
    target, trade = (
        list(dict.fromkeys(cut_by(one.gate, size) for one in some))
        for some in ([one for one in cuts if one.stage not in OF_TRADE], of_trade)
    )
    cap = binding([one for one in cuts if one.gate in TARGET_CAPS])
    kept = binding([one for one in cuts if one in of_trade or one.gate in KEEP_FROM_TRADE])
    costs: dict[str, float] = {}
    for one in cuts:
        side = float(np.sign(sized.stages[STAGES[STAGES.index(one.stage) - 1]][place]))
        words = cut_by(one.gate, size)
        costs[words] = costs.get(words, 0.0) - (side * one.change if one.gate not in HOLD_STILL else 0.0)
    return Limit(
        gate_of_trade(sized, place), _in_words(target, trade), cap.gate if cap else "", kept.gate if kept else "",
        costs, next((one.gate for one in cuts if one.gate in CLOSE), ""),
    )  # fmt: skip


def _in_words(target: Sequence[str], trade: Sequence[str]) -> str:
    return "; ".join(f"{what}: {', '.join(said)}" for what, said in (("target", target), ("trade", trade)) if said)


def sentences_of(sized: Sized, place: int) -> list[str]:
    """All that cut the target of a name and its trade, a sentence each."""
    return list(dict.fromkeys(sentence_of(one) for one in cuts_of(sized, place) if _is_said(one)))


def sentence_of(cut: Cut) -> str:
    """What a gate says of an order.

    >>> sentence_of(Cut("caps", "gross")), sentence_of(Cut("caps again", "gross"))
    ('the cap on the gross value cut the target', 'the cap on the gross value cut the trade')
    """
    said = GATES[cut.gate]
    return said.replace("cut the target", "cut the trade") if cut.stage == "caps again" else said


def cut_by(gate: str, size: BookSettings | None = None) -> str:
    """A gate of a book in a few words; `size`: the settings of the book, where its number is to be told, too.

    >>> cut_by("gross"), cut_by("gross", BookSettings(gross_cap=1.5)), cut_by("ticket", BookSettings())
    ('gross cap', 'gross cap of 150%', 'smallest ticket of 100')
    >>> cut_by("fee")
    "a gate of an earlier version ('fee')"
    """
    if gate not in CALLED:
        return of_earlier_version(gate)
    number = "" if size is None else _number_of(gate, size)
    return f"{CALLED[gate]} of {number}" if number else CALLED[gate]


def of_earlier_version(gate: str) -> str:
    """What is said of a stored gate that this version does not have, so that no other is named for it."""
    return f"a gate of an earlier version ({gate!r})"


def _number_of(gate: str, size: BookSettings) -> str:
    """Where a gate closes, by the settings; "" where no setting says so."""
    if gate == "ticket":
        return f"{size.minimum_ticket:,g}"
    share = getattr(size, SHARES[gate]) if gate in SHARES else None
    return "" if share is None else f"{100 * share:g}%"


def kept_off(gate: str, held: float, target: float) -> tuple[str, ...]:
    """The gates that keep a holding off its target, as `limited_by` names them of a trade: the one that is noted of the
    trade, however near the target is; else the band, () at the target.

    What a small ticket drops is the way to the edge of the band, so that the band keeps the rest.

    >>> kept_off("lot", 0.0, 0.02), kept_off("ticket", 0.15, 0.14), kept_off("gross", 0.3, 0.28), kept_off("", 0.1, 0.1)
    (('lot',), ('band', 'ticket'), ('band',), ())
    >>> kept_off("band", 0.1334, 0.1337)
    ('band',)
    """
    off = abs(held - target) >= LEAST_OFF
    if gate in (BAND, *KEEP_FROM_TRADE):
        return (BAND, gate) if gate == "ticket" and off else (gate,)
    return (BAND,) if off else ()


def limited_by(row: Mapping[str, Any], size: BookSettings | None = None) -> str:
    """What cut the target of a holding, and what keeps it from a trade toward the target; "" where nothing does.

    `row`: of `trading.book.holdings_of`, `held` once its trade is filled; `size`: as in `cut_by`. A row has one gate,
    the last that was noted: of a desk that is kept `limit_of` says more. Where nothing is traded off the target and no
    other gate stops the trade, the band does: the distance is not worth its cost. A trade that ends off the target
    ends at the edge of the band, or at a whole lot.

    >>> limited_by({"gate": "gross", "held": 0.30, "target": 0.28, "trade": 0.0}, BookSettings())
    'target: gross cap of 100%; trade: band'
    >>> limited_by({"gate": "gross", "held": 0.28, "target": 0.28, "trade": -2.0})
    'target: gross cap'
    >>> limited_by({"gate": "gross", "held": 0.27, "target": 0.30, "trade": 5.0})
    'target: gross cap; trade: band or whole lots'
    >>> limited_by({"gate": "lot", "held": 0.0, "target": 0.01, "trade": 0.0}), limited_by({"gate": ""})
    ('trade: whole lots', '')
    >>> limited_by({"gate": "ticket", "held": 0.15, "target": 0.14, "trade": 0.0})
    'trade: band or smallest ticket'
    >>> limited_by({"gate": "fee", "held": 0.0, "target": 0.01, "trade": 0.0})
    "a gate of an earlier version ('fee')"
    """
    gate = str(row.get("gate") or "")
    off = abs(float(row.get("held") or 0.0) - float(row.get("target") or 0.0)) >= LEAST_OFF
    if gate and gate not in CALLED:
        return cut_by(gate)
    if gate in KEEP_FROM_TRADE:
        either = f"{CALLED[BAND]} or " if off and gate == "ticket" else ""
        return _in_words((), [f"{either}{cut_by(gate, size)}"])
    edge = (f"{CALLED[BAND]} or {CALLED['lot']}" if row.get("trade") else CALLED[BAND]) if off else ""
    return _in_words([cut_by(gate, size)] if gate else [], [edge] if edge else [])


def limit_of_row(row: Mapping[str, Any], size: BookSettings | None = None) -> Limit:
    """What is known of it by the row of a holding alone, see `limited_by`: of a book of which no desk is kept."""
    gate = str(row.get("gate") or "")
    cap, kept, closes = (gate if gate in some else "" for some in (TARGET_CAPS, KEEP_FROM_TRADE, CLOSE))
    return Limit(gate, limited_by(row, size), cap, kept, {cut_by(gate, size): 0.0} if gate else {}, closes)
