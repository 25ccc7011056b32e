"""What is said of a file of forecasts or profits: each of its models, and what that rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from textwrap import fill
from typing import Any

from gatecast.evaluation.plausible import TOO_GOOD, VOID
from gatecast.evaluation.quantiles import Quantiles
from gatecast.evaluation.verdict import Verdict
from gatecast.notebook import Shown, draw_intervals, number_text
from gatecast.studies.placebo import Rank


@dataclass(frozen=True)
class Judged:
    """What is said of one model, or of daily profits.

    Attributes
    ----------
    verdicts: head -> verdict, "strategy" among them: a plain trade of the forecasts, or the profits themselves.
    quantiles: of a file of quantiles. leaks: sentences on what the forecasts know of later bars. planted: of a leak
        that was planted in a copy, whether it was `seen`, and a sentence. power: head -> see `power_of`. ranks: head ->
        the place among copies at other times. costs: of the plain trade, shares of the capital a year: gross, cost,
        net, and its sharpe and turnover. before_cutoff: head -> gain over the rival up to the cutoff: no evidence.
    """

    name: str
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    quantiles: Quantiles | None = None
    leaks: tuple[str, ...] = ()
    planted: Mapping[str, Any] = field(default_factory=dict)
    power: Mapping[str, Sequence[Mapping[str, float]]] = field(default_factory=dict)
    ranks: Mapping[str, Rank] = field(default_factory=dict)
    costs: Mapping[str, float] = field(default_factory=dict)
    before_cutoff: Mapping[str, float] = field(default_factory=dict)

    @property
    def doubtful(self) -> bool:
        """Whether the forecasts know later bars, or are too good to be true."""
        return bool(self.leaks) or any(one.verdict in (TOO_GOOD, VOID) for one in self.verdicts.values())

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "name": self.name, "verdicts": {head: one.to_dict() for head, one in self.verdicts.items()},
            "quantiles": self.quantiles.to_dict() if self.quantiles else None, "leaks": list(self.leaks),
            "planted": dict(self.planted), "power": {head: list(rows) for head, rows in self.power.items()},
            "placebo": {head: one.to_dict() for head, one in self.ranks.items()}, "costs": dict(self.costs),
            "before_cutoff": dict(self.before_cutoff),
        }  # fmt: skip

    def lines(self) -> list[str]:
        """What is said of it, a line a sentence or row."""
        lines = [self.name, *(f"  LEAK: {one}" for one in self.leaks)]
        for head, one in self.verdicts.items():
            lines += [f"  {head}: {one.verdict}", f"    {one.sentence}"]
        if self.quantiles:
            lines += [f"  quantiles: {self.quantiles.verdict}", f"    {self.quantiles.sentence}"]
        if self.costs:
            lines.append(
                "  traded plainly: gross {gross:+.1%} a year, cost {cost:.1%}, net {net:+.1%}, Sharpe ratio {ratio}, "
                "turnover {turnover:.0f} times the capital a year".format(
                    **self.costs, ratio=number_text(self.costs["sharpe"], ".2f")
                )
            )
        lines += [f"  copies at other times: {rank.sentence}" for rank in self.ranks.values()]
        for head, gain in self.before_cutoff.items():
            lines.append(
                f"  {head}, up to the cutoff: gain {number_text(gain, '+.1%')}; what was learned there is no evidence."
            )
        if self.planted:
            lines.append(f"  a leak planted in a copy: {self.planted['sentence']}")
        for head, rows in self.power.items():
            effects, lengths = (list(dict.fromkeys(row[key] for row in rows)) for key in ("effect", "years"))
            lines.append(f"  how often this test finds a true effect ({head}), by the length of the record:")
            lines.append("    effect     " + "".join(f"{effect:>8.1%}" for effect in effects))
            for years in lengths:
                shares = [row["power"] for row in rows if row["years"] == years]
                lines.append(f"    {years:>5.1f} years" + "".join(f"{share:>8.0%}" for share in shares))
        return lines


@dataclass(frozen=True)
class Judgement(Shown):
    """What is said of a file: each of its models, from when to when, and how much was tried on this market."""

    kind: str
    models: Mapping[str, Judged]
    horizon: int | None
    first: str
    last: str
    trials: int | None
    notes: tuple[str, ...] = ()

    @property
    def doubtful(self) -> bool:
        """Whether any model knows later bars or is too good to be true."""
        return any(one.doubtful for one in self.models.values())

    def plot(self) -> Any:
        """A Plotly figure: each verdict's gain over the rival in force with its 90 % interval."""
        rows = [
            (f"{name}: {head}", one.effect, one.low, one.high)
            for name, model in self.models.items() for head, one in model.verdicts.items()
        ]  # fmt: skip
        return draw_intervals(rows, "Gains over the rival in force", "share of the rival's loss; strategy: a year")

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "kind": self.kind, "horizon": self.horizon, "first": self.first, "last": self.last, "trials": self.trials,
            "models": {name: one.to_dict() for name, one in self.models.items()}, "notes": list(self.notes),
            "doubtful": self.doubtful,
        }  # fmt: skip

    def summary(self) -> str:
        """Plain text of at most 100 columns."""
        ahead = f" over {self.horizon} bar{'s' * (self.horizon != 1)}" if self.horizon else ""
        known = "not known" if self.trials is None else f"{self.trials:,}"
        lines = [f"{self.kind}{ahead}, judged from {self.first} to {self.last}; trials on this market: {known}"]
        lines += [line for one in self.models.values() for line in ("", *one.lines())]
        lines += ["", *self.notes] if self.notes else []
        return "\n".join(fill(line, 100, subsequent_indent="    ", break_long_words=False) for line in lines)
