"""Why one symbol was forecast and held as it was at a close."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from gatecast.explanations.corrected import Correction, say_corrected
from gatecast.samples.features.catalogue import FEATURES

if TYPE_CHECKING:
    from gatecast.explanations.forecasts import HeadSays
    from gatecast.trading.waterfall import Waterfall

SHOWN_OTHER = 3
"""Forecasts that a sentence names, whose inputs do not add up to what was issued."""


@dataclass(frozen=True)
class Explanation:
    """Why a symbol was forecast and held as it was at a close.

    `model`, `refit`: number of the model's record in a store, and the cutoff of the refit that forecast. `known`:
    feature -> its newest value then. `heads`: see `HeadSays`; () where nothing was forecast, for `reason`. `decision`:
    see `Waterfall`. `same`: whether the decision, made again, holds what was issued; None where that is not kept.
    `came`: the log return over the horizon after it, None where it is not known, for `not_come`. `not_issued`: why a
    store issued no forecast at this close, though its fits forecast it; "" where it did. `corrected`: bars of the class
    that say something else now than when it was decided; what is explained is of the bars as they were known then.
    """

    symbol: str
    asset_class: str
    time: datetime
    model: int | None
    refit: str
    horizon: int
    known: Mapping[str, float]
    heads: tuple[HeadSays, ...] = field(repr=False)
    decision: Waterfall = field(repr=False)
    same: bool | None = None
    came: float | None = None
    not_come: str = ""
    reason: str = ""
    not_issued: str = ""
    corrected: tuple[Correction, ...] = ()

    def __repr__(self) -> str:
        held = self.decision.held
        said = (
            ", ".join(f"{head.head} {head.value:.4g}" for head in self.heads) or f"nothing was forecast: {self.reason}"
        )
        doubt = f"; nothing was issued: {self.not_issued}" if self.not_issued else ""
        doubt += f"; {self.since}" if self.since else ""
        return f"{self.symbol} at {self.time:%Y-%m-%d %H:%M} UTC: {said}; held {held:+.2%}{doubt}"

    @property
    def caution(self) -> str:
        """What must be read before all else: that nothing was forecast, or that no forecast was issued; else ""."""
        if self.reason:
            return f"Nothing was forecast: {self.reason}."
        if self.not_issued:
            return (
                f"Nobody could trade on what follows: the store issued no forecast at this close ({self.not_issued}). "
                "Its fits say of this bar:"
            )
        return ""

    @property
    def since(self) -> str:
        """What is not as it was when it was decided, and what was done about it: "" where all is the same."""
        other = [f"{head.head} of {model.model}" for head in self.heads for model in head.models if model.same is False]
        found = [say_corrected(self.corrected)]
        if other:
            more = f" and {len(other) - SHOWN_OTHER} more" if len(other) > SHOWN_OTHER else ""
            named = ", ".join(other[:SHOWN_OTHER]) + more
            found.append(
                f"The inputs of {named} do not add up to what was issued: what they add is said of other bars or "
                "settings than those of then; the forecasts themselves are those that were issued."
            )
        if self.same is False:
            found.append("The book was issued with another holding: bars or settings were corrected since.")
        return " ".join(filter(None, found))

    @property
    def known_words(self) -> dict[str, str]:
        """Feature of `known` -> its name, and what it is and its unit, where the catalogue says so."""
        found = dict[str, str]()
        for name in self.known:
            one = FEATURES.find(name) if name in FEATURES else None
            said = ", ".join(filter(None, (one.description, one.unit))) if one else ""
            found[name] = f"{name} ({said})" if said else name
        return found

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "symbol": self.symbol, "asset_class": self.asset_class, "time": self.time, "model": self.model,
            "refit": self.refit, "horizon": self.horizon, "known": dict(self.known),
            "known_words": self.known_words, "reason": self.reason,
            "heads": [one.to_dict() for one in self.heads], "decision": self.decision.to_dict(), "same": self.same,
            "came": self.came, "not_come": self.not_come, "not_issued": self.not_issued, "caution": self.caution,
            "since": self.since, "corrected": [one.to_dict() for one in self.corrected],
        }  # fmt: skip
