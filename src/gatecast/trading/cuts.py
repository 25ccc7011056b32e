"""What cuts a target and keeps a trade from it, in words: of a sizing, and of what a book has stored of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gatecast.trading.sizing import SLACK, STAGES, TARGET_CAPS, Cut, Sized

BAND = "band"
"""The gate of a trade that ends at the edge of the band about its target, or is not made within it."""
OF_TRADE = STAGES[STAGES.index(BAND) :]
"""The stages of sizing at which a trade is cut; those before it cut the target."""
GATES = {
    "name": "the cap on one symbol cut the target", "class": "the cap on the class cut the target",
    "gross": "the cap on the gross value cut the target", "margin": "the cap on margin cut the target",
    "net": "the cap on the net value cut the target", "spike": "the spike of correlations cut the target",
    "halt": "its market is closed, or no bar of this close that it trades at was known by the next open",
    "close": "it is to be closed", "stop": "the drawdown stop closes it",
    "borrow": "no more can be borrowed to be sold short",
    "participation": "the share of volume cut the trade", "lot": "less than a lot is left to be traded",
    BAND: "what is near enough to the target is not traded (the band)",
    "ticket": "the trade is below the smallest ticket", "cash": "cash cut the trade",
}  # fmt: skip
"""Gate of `sizing.Sized`, or the band -> what it says of an order."""
KEEP_FROM_TRADE = ("halt", "participation", "lot", "ticket", "cash", "borrow")
"""Gates by which something else than the band keeps a symbol from a trade, or makes it smaller."""
CUT_BY = {
    "spike": "spike_sizes", "borrow": "what can be borrowed",
    "participation": "volume (participation)", "lot": "lots", "ticket": "minimum_ticket",
    "cash": "cash", "stop": "drawdown_stop", "halt": "closed or halted market",
}  # fmt: skip
"""Gate of a book -> what a reader calls it; of a cap the setting, see `cut_by`."""
LEAST_OFF = 5e-4
"""Distance of what is held from its target that is worth a word, as a share of equity."""


def cuts_of(sized: Sized, place: int) -> list[Cut]:
    """All that cut the target of a name and its trade, in the order of the stages, each gate of a stage once.

    The band is one where it leaves the name off its target.
    """
    found = dict.fromkeys(sized.gates[place])
    if abs(float(sized.stages[BAND][place] - sized.stages["caps"][place])) > SLACK:
        found[Cut(BAND, BAND)] = None
    return sorted(found, key=lambda one: STAGES.index(one.stage))


def gate_of_trade(sized: Sized, place: int) -> str:
    """What cut the trade of a name most, the last of those that cut it alike; else what cut its target last; or ""."""
    cuts = cuts_of(sized, place)
    of_trade = [one for one in reversed(cuts) if one.stage in OF_TRADE]
    if of_trade:
        return max(of_trade, key=lambda one: round(_change(sized, place, one.stage) / SLACK)).gate
    return cuts[-1].gate if cuts else ""


def _change(sized: Sized, place: int, stage: str) -> float:
    """By how much a stage changed the share of a name."""
    before = sized.stages[STAGES[STAGES.index(stage) - 1]]
    return abs(float(sized.stages[stage][place] - before[place]))


def sentences_of(sized: Sized, place: int) -> list[str]:
    """What cut the target of a name last, and all that cut its trade, a sentence each."""
    cuts = cuts_of(sized, place)
    of_target = [one for one in cuts if one.stage not in OF_TRADE][-1:]
    said = [*of_target, *(one for one in cuts if one.stage in OF_TRADE)]
    return list(dict.fromkeys(sentence_of(one) for one in said))


def sentence_of(cut: Cut) -> str:
    """What a gate says of an order.

    >>> sentence_of(Cut("caps", "gross")), sentence_of(Cut("caps again", "gross"))
    ('the cap on the gross value cut the target', 'the cap on the gross value cut the trade')
    """
    said = GATES[cut.gate]
    return said.replace("cut the target", "cut the trade") if cut.stage == "caps again" else said


def cut_by(gate: str) -> str:
    """A gate of a book in words.

    >>> cut_by("gross"), cut_by("lot")
    ('gross_cap', 'lots')
    """
    return CUT_BY.get(gate, f"{gate}_cap" if gate in TARGET_CAPS else gate)


def kept_off(gate: str, held: float, target: float) -> tuple[str, ...]:
    """The gates that keep a holding off its target: the band, where none other that is noted does; () at the target.

    What a small ticket drops is the way to the edge of the band, so that the band keeps the rest.

    >>> kept_off("lot", 0.0, 0.02), kept_off("ticket", 0.15, 0.14), kept_off("gross", 0.3, 0.28), kept_off("", 0.1, 0.1)
    (('lot',), ('band', 'ticket'), ('band',), ())
    """
    if abs(held - target) < LEAST_OFF:
        return ()
    return (BAND, gate) if gate == "ticket" else (gate,) if gate in KEEP_FROM_TRADE else (BAND,)


def limited_by(row: Mapping[str, Any]) -> str:
    """What cut the target of a holding, and what keeps it from a trade toward the target; "" where nothing does.

    `row`: of `trading.book.holdings_of`, `held` once its trade is filled. Where nothing is traded off the target and no
    other gate stops the trade, the band does: the distance is not worth its cost. A trade that ends off the target
    ends at the edge of the band, or at a whole lot.

    >>> limited_by({"gate": "gross", "held": 0.30, "target": 0.28, "trade": 0.0})
    'target: gross_cap; trade: band'
    >>> limited_by({"gate": "gross", "held": 0.28, "target": 0.28, "trade": -2.0})
    'target: gross_cap'
    >>> limited_by({"gate": "gross", "held": 0.27, "target": 0.30, "trade": 5.0})
    'target: gross_cap; trade: band or lots'
    >>> limited_by({"gate": "lot", "held": 0.0, "target": 0.01, "trade": 0.0}), limited_by({"gate": ""})
    ('trade: lots', '')
    >>> limited_by({"gate": "ticket", "held": 0.15, "target": 0.14, "trade": 0.0})
    'trade: band or minimum_ticket'
    """
    gate = str(row.get("gate") or "")
    off = abs(float(row.get("held") or 0.0) - float(row.get("target") or 0.0)) >= LEAST_OFF
    if gate in KEEP_FROM_TRADE:
        return f"trade: {'band or ' if off and gate == 'ticket' else ''}{cut_by(gate)}"
    said = [f"target: {cut_by(gate)}"] if gate else []
    return "; ".join([*said, *(["trade: band or lots" if row.get("trade") else "trade: band"] if off else [])])
