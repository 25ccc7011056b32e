"""Findings: what a book held, earned and paid -> what somebody should look at, with weight, sample and advice.

Each function reads plain arrays or the table of holdings (`trading.book.holdings_of`), of a run or of a store alike,
and gives the findings of one kind; none where all is well. `docs/findings.md` has every kind with its threshold and
reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from gatecast.trading.cuts import KEEP_FROM_TRADE
from gatecast.trading.sizing import SPIKE_TIMES
from gatecast.trading.sizing import Finding as Sizing
from gatecast.trading.wanted import CARRIED

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

BOOK, STRATEGIES = "book", "strategies"
"""Subjects of findings that are of no symbol and no class."""
HEAVIEST = 3
"""Findings that a summary shows."""

# ── thresholds, each with its reason ──────────────────────────────────────────────────────────────

LEAST_CLOSES = 21
"""Closes of a record below which nothing is said of it: a month."""
LOT_SHARE = 0.5
"""Share of the closes with a target at which a lot kept a symbol from being held: at most of them."""
THIN_SHARE = 0.5
"""Share of the closes with a target at which the volume kept a symbol from it: at most of them."""
FEW_UNITS, LITTLE_MONEY = 1_000.0, 1e6
"""Units and money traded a session, in the median, below which a volume is rather one in thousands or millions: of
dear shares few are traded, of cheap ones many."""
BAND_CLOSES = 250
"""Closes without a trade before a band is called too wide: a year, in which forecasts of variance move."""
BAND_MOVED = 0.25
"""Least range of a symbol's target over its mean: with the usual half-width of .1 such a move leads to a trade."""
CRISIS_TIMES = 2.0
"""Times the median 21-session volatility that is called a crisis: normal returns reach it once in a million years."""
CRISIS_SHARE, CRISIS_LENGTH, CRISIS_ERRORS = 0.5, 0.25, 2.0
"""Least share of the profit that one crisis earned, its largest share of the record, and its least profit in standard
errors, below which it is luck."""
COST_SHARE = 1 / 3
"""Share of the gross profit that costs may take."""
COST_A_YEAR = 0.005
"""Costs a year, over equity, below which none of them matters: no better execution would change the result."""
STALE_SHARE, STALE_FILLS = 0.1, 5
"""Share of the value traded in a symbol that was filled at a price that did not move, and least number of fills."""
MOST_RISK = 0.6
"""Share of the book's variance in one symbol. Two classes of equal risk, one of a single symbol, drift to .55 within
the bands. Of one or two symbols nothing is said: they were asked for."""
REACHED = 0.5
"""Share of the closes at which the target volatility should be reached: most of them."""
ABSENT_SHARE = 0.05
"""Share of a symbol's closes, since its first forecast of volatility, that may be without one."""

# ── what a finding is ─────────────────────────────────────────────────────────────────────────────

ADVICE = {
    "ruined": "Add capital, or lower target_volatility and gross_cap before you start again.",
    "delisted": "Sell or write off the position, and bring the next bars with `gatecast update`: they book the end.",
    "volatility": "Look at the bars: no forecast means gaps or too short a history. Bring what is missing, or leave "
    "the symbol out of the core.",
    "spike": "Lower target_volatility or class_cap, or set spike_sizes = true so that this volatility sizes the book.",
    "cap": "Raise participation or the cap, or sell what exceeds it by hand.",
    "silent": "Find out whether it still trades. If it is gone, give its last return, such as -0.3: to a store by "
    "`gatecast actions add STORE --symbol SYMBOL --date DATE --kind delisting --return -0.3`, to a run by the row "
    "`SYMBOL,delisting,DATE,-0.3` in its table of actions (symbol,kind,date,value).",
    "concentration": "Set name_cap or class_cap, or add symbols to the class.",
    "target": "Raise the cap that binds, or lower target_volatility to what the caps allow: where they decide, "
    "forecasts of variance change little.",
    "cost": "Widen symbol_band and book_band, refit or trade less often, or leave out the symbols that cost most.",
    "crisis": "Do not expect this return again: judge the book by what it earned outside of the crisis.",
    "stale": "Give a later fill or bars with real prices, or leave the symbol out: nobody can trade at this price.",
    "lot": "Set lots or more capital, take a smaller contract, or leave the symbol out of the core.",
    "volume": "Look at the unit of the column volume: it is read in units (shares), so bring one in thousands or "
    "millions times that. If it is right, lower capital, raise participation, or leave the symbol out of the core.",
    "band": "Make symbol_band and book_band smaller: this band keeps forecasts from acting.",
    "late": "Tell a store of actions before their date (`gatecast actions add STORE`): the book decides without what "
    "it is told later, and only books it.",
    "not_booked": "Add what it gave to the result by hand, and tell a store of actions within 400 days.",
    "cliff": "Take a setting in the middle of a range of good ones, or search with more trials around this one.",
}
"""Kind of finding -> what to do; `SYMBOL` and `DATE` stand for the subject and the day of a finding, `STORE` for the
folder of a store."""


@dataclass(frozen=True)
class Finding:
    """What somebody should look at.

    `kind`: one of `ADVICE`. `subject`: a symbol, an asset class, BOOK or STRATEGIES. `weight`: how much is at stake,
    0 or more, as a share of `share_of`, in words: 0.1 of the equity is a tenth of it. `sample`: what the finding rests
    on, so many `counted` (such as closes). `sentence`: what was found, with numbers. `day`: the session that the advice
    names, if any.

    >>> Finding("lot", "A", 0.1, "equity", 250, "closes", "A: one lot is too large.").advice
    'Set lots or more capital, take a smaller contract, or leave the symbol out of the core.'
    """

    kind: str
    subject: str
    weight: float
    share_of: str
    sample: int
    counted: str
    sentence: str
    day: str = ""

    @property
    def advice(self) -> str:
        """What to do."""
        return ADVICE[self.kind].replace("SYMBOL", self.subject).replace("DATE", self.day)

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it, with `advice`."""
        return {
            "kind": self.kind, "subject": self.subject, "weight": self.weight, "share_of": self.share_of,
            "sample": self.sample, "counted": self.counted, "sentence": self.sentence, "advice": self.advice,
        }  # fmt: skip


def heaviest_first(findings: Iterable[Finding]) -> list[Finding]:
    """The findings by weight; of the same weight by kind, as `ADVICE` has them, and subject."""
    order = {kind: place for place, kind in enumerate(ADVICE)}
    return sorted(findings, key=lambda one: (-one.weight, order[one.kind], one.subject))


def said_of(findings: Sequence[Mapping[str, Any]], most: int = HEAVIEST) -> list[str]:
    """Findings as JSON holds them, the heaviest first -> their number in a line, then a line each of the first.

    >>> said_of([Finding("cost", BOOK, 0.5, "gross profit", 900, "sessions", "Costs took half.").to_dict()])[0]
    '1 finding:'
    """
    if not findings:
        return []
    more = f", the {most} heaviest" if len(findings) > most else ""
    first = f"{len(findings)} finding{'s' * (len(findings) != 1)}{more}:"
    return [first, *(in_words(one) for one in findings[:most])]


def in_words(finding: Mapping[str, Any]) -> str:
    """One finding as JSON holds it, in a line: what was found, what it rests on, and what to do."""
    rests = f"{finding['weight']:.1%} of the {finding['share_of']}, {finding['sample']:,} {finding['counted']}"
    return f"{finding['sentence']} ({rests}) {finding['advice']}"


# ── of the table of holdings ──────────────────────────────────────────────────────────────────────


def too_coarse(holdings: pl.DataFrame) -> list[Finding]:
    """Symbols that were never traded because one lot is more than their target; `holdings`: see `holdings_of`."""
    wanted = holdings.filter(pl.col("target") != 0)
    never = (pl.col("units") == 0) & (pl.col("trade") == 0)
    rows = (
        wanted.group_by("symbol")
        .agg(
            closes=pl.len(), size=pl.col("target").abs().mean(), never=never.all(),
            lot=((pl.col("gate") == "lot") & never).mean(),
        )
        .filter(pl.col("never"), pl.col("closes") >= LEAST_CLOSES, pl.col("lot") >= LOT_SHARE)
        .sort("symbol")
    )  # fmt: skip
    return [
        Finding(
            "lot", row["symbol"], row["size"], "equity", row["closes"], "closes",
            f"{row['symbol']} was never traded: one lot is more than its target, {row['size']:.2%} of the equity in "
            f"the mean of {row['closes']:,} closes.",
        )
        for row in rows.iter_rows(named=True)
    ]  # fmt: skip


def too_thin(holdings: pl.DataFrame, traded: Mapping[str, tuple[float, float]] | None = None) -> list[Finding]:
    """Symbols that the share of a session's volume kept from their target; `holdings`: see `holdings_of`.

    `traded`: symbol -> units and money traded a session, the medians; a symbol of which too few are traded to be a
    volume in units is said at once, whether its trades were kept back or not.
    """
    rows = (
        holdings.filter(pl.col("target") != 0)
        .group_by("symbol")
        .agg(
            closes=pl.len(), kept=(pl.col("gate") == "participation").sum(), size=pl.col("target").abs().mean(),
            off=(pl.col("held") - pl.col("target")).abs().mean(), never=(pl.col("units") == 0).all(),
        )
        .filter(pl.col("closes") >= LEAST_CLOSES)
        .sort("symbol")
    )  # fmt: skip
    found = []
    for row in rows.iter_rows(named=True):
        name = row["symbol"]
        units, money = (traded or {}).get(name, (np.nan, np.nan))
        few = units < FEW_UNITS and money < LITTLE_MONEY
        if not few and row["kept"] < THIN_SHARE * row["closes"]:
            continue
        digits = 1 if units < 100 else 0
        told = f" The median of its volume is {units:,.{digits}f} units a session." if units > 0 else ""
        odd = " That looks as if it were given in thousands or millions." if few else ""
        held = "; it was never held" if row["never"] else ""
        found.append(
            Finding(
                "volume", name, row["off"], "equity", row["closes"], "closes",
                f"{name}: the share of a session's volume that may be traded cut its trade at {row['kept']:,} of "
                f"{row['closes']:,} closes{held}. Its target was {row['size']:.2%} of the equity in the mean."
                f"{told}{odd}",
            )
        )  # fmt: skip
    return found


def too_wide(holdings: pl.DataFrame) -> list[Finding]:
    """Symbols whose target moved for a year and more while the band kept them from every trade but the first."""
    held = holdings.filter((pl.col("target") != 0) & (pl.col("units") != 0)).sort("symbol", "session")
    rows = (
        held.group_by("symbol", maintain_order=True)
        .agg(
            closes=pl.len(), traded=(pl.col("trade") != 0).any(), kept=pl.col("gate").is_in(KEEP_FROM_TRADE).mean(),
            off=(pl.col("held") - pl.col("target")).abs().mean(), size=pl.col("target").abs().mean(),
            moved=pl.col("target").abs().max() - pl.col("target").abs().min(),
        )
        .filter(
            ~pl.col("traded"), pl.col("closes") >= BAND_CLOSES, pl.col("kept") < LOT_SHARE,
            pl.col("moved") > BAND_MOVED * pl.col("size"),
        )
    )  # fmt: skip
    return [
        Finding(
            "band", row["symbol"], row["off"], "equity", row["closes"], "closes",
            f"{row['symbol']} was not traded once it was held, at {row['closes']:,} closes: its target moved by "
            f"{row['moved']:.1%} of the equity, and the band is wider. What is held lay {row['off']:.1%} of the equity "
            "off the target in the mean.",
        )
        for row in rows.iter_rows(named=True)
    ]  # fmt: skip


def gone(held: Mapping[str, float], ended: Mapping[str, str], silent: Mapping[str, str]) -> list[Finding]:
    """What is held and cannot be traded any more, or has had no bar for some sessions.

    `held`: symbol -> share of the equity. `ended`: symbol -> how it ended, in words; `silent`: symbol -> day of its
    newest bar.
    """
    said = [
        ("delisted", name, f"{name} is held, {share:+.1%} of the equity, and is {ended[name]}.")
        for name, share in held.items() if share and name in ended
    ] + [
        ("silent", name, f"{name} is held, {share:+.1%} of the equity, has had no bar since {silent[name]}, and its "
         "risk is that of its last forecast.")
        for name, share in held.items() if share and name in silent and name not in ended
    ]  # fmt: skip
    return [
        Finding(kind, name, abs(held[name]), "equity", 1, "close", sentence, silent.get(name, ""))
        for kind, name, sentence in said
    ]


# ── of profits and costs ──────────────────────────────────────────────────────────────────────────


def one_crisis(earned: ArrayLike, market: ArrayLike, days: ArrayLike) -> list[Finding]:
    """Whether one crisis earned most of the profit.

    A crisis is a stretch of sessions in which the volatility of the market over 21 sessions is at least `CRISIS_TIMES`
    its median. It carries the profit where it earned at least half of it within at most a quarter of the record, and
    more than two standard errors of what sessions like its own earn by luck.

    Parameters
    ----------
    earned, market: (sessions,) simple returns of the book beyond cash, and of the market, NaN where there is none.
    days: (sessions,) dates.
    """
    profit, moves = np.nan_to_num(np.asarray(earned, np.float64)), np.asarray(market, np.float64)
    total = float(profit.sum())
    if len(profit) < BAND_CLOSES or not total > 0:
        return []
    named = np.asarray(days, "datetime64[D]")
    found = []
    for first, last in _stretches(_wild(moves)):
        part = profit[first:last]
        own, error = float(part.sum()), float(part.std() * np.sqrt(len(part)))
        if own >= CRISIS_SHARE * total and len(part) <= CRISIS_LENGTH * len(profit) and own > CRISIS_ERRORS * error:
            found.append((own / total, len(part), f"{named[first]} to {named[last - 1]}"))
    if not found:
        return []
    share, count, span = max(found)
    rest = f"The other {len(profit) - count:,} sessions earned {total - share * total:+.1%} of the equity."
    return [
        Finding(
            "crisis", BOOK, min(share, 1.0), "profit", len(profit), "sessions",
            f"One crisis, {span} ({count} sessions), earned {share:.0%} of the profit beyond cash. {rest}",
        )
    ]  # fmt: skip


def _wild(market: FloatArray) -> BoolArray:
    """(sessions,) whether a session lies within 21 whose volatility is at least `CRISIS_TIMES` the median."""
    square = np.nan_to_num(market) ** 2
    windows = np.convolve(square, np.ones(LEAST_CLOSES), "valid") / LEAST_CLOSES
    usual = float(np.median(windows))
    wild = np.zeros(len(market), np.bool_)
    for place in np.flatnonzero(windows >= CRISIS_TIMES**2 * usual).tolist() if usual > 0 else ():
        wild[place : place + LEAST_CLOSES] = True
    return wild


def _stretches(inside: BoolArray) -> list[tuple[int, int]]:
    """First and one beyond last of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], inside, [False]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def too_costly(gross: float, cost: float, years: float, sessions: int, subject: str = BOOK) -> list[Finding]:
    """Whether costs took more than a third of the gross profit.

    `gross`, `cost`: sums over the record, as shares of the equity of their session; of `cost` commission, spread and
    impact. Costs below half a per cent a year are never too high.
    """
    if sessions < LEAST_CLOSES or cost < COST_A_YEAR * years or cost <= COST_SHARE * gross:
        return []
    share = min(cost / gross, 1.0) if gross > 0 else cost / years
    took = f"{share:.0%} of the gross profit" if gross > cost else "all of the gross profit" if gross > 0 else ""
    said = f"took {took}" if took else "came on top of a loss before costs"
    return [
        Finding(
            "cost", subject, share, "gross profit" if gross > 0 else "equity a year", sessions, "sessions",
            f"Costs of the {subject}, {cost / years:.2%} of the equity a year, {said} ({gross / years:+.2%} a year).",
        )
    ]  # fmt: skip


class Fills(NamedTuple):
    """Trades of a book: symbol of each, value of each in money, and whether the price of its fill was stale."""

    symbols: Sequence[str]
    value: FloatArray
    stale: BoolArray


def stale_fills(fills: Fills) -> list[Finding]:
    """Symbols of which a tenth and more of the value was traded at prices that did not move; see `Fills`."""
    names, total = np.asarray(fills.symbols, dtype=object), float(fills.value.sum())
    found = []
    for name in sorted(set(fills.symbols)):
        own = names == name
        bad = own & fills.stale
        value, share = (
            float(fills.value[bad].sum()),
            float(fills.value[bad].sum() / max(fills.value[own].sum(), 1e-300)),
        )
        if bad.sum() >= STALE_FILLS and share >= STALE_SHARE:
            found.append(
                Finding(
                    "stale", name, value / total, "value traded", int(own.sum()), "fills",
                    f"{name}: {int(bad.sum())} of {int(own.sum())} fills, {share:.0%} of the value traded in it, were "
                    "at a price that did not move from one close to the next, or without volume.",
                )
            )  # fmt: skip
    return found


# ── of sizes and risk ─────────────────────────────────────────────────────────────────────────────


def concentrated(shares: Mapping[str, float]) -> list[Finding]:
    """Whether one symbol has most of the risk; `shares`: symbol -> share of the variance of the book, together 1."""
    if len(shares) < 3:
        return []
    name = max(shares, key=lambda one: shares[one])
    if not shares[name] > MOST_RISK:
        return []
    said = f"{name} has {shares[name]:.0%} of the variance of the book, of {len(shares)} symbols held."
    return [Finding("concentration", name, min(shares[name], 1.0), "variance", len(shares), "symbols", said)]


def short_of_target(
    reached: ArrayLike, volatility: ArrayLike, target: float, caps: Mapping[str, int] | None = None
) -> list[Finding]:
    """Whether the target volatility was reached at fewer than half of the closes.

    `reached`: (closes,) whether it was. `volatility`: (closes,) of a year, forecast of what was aimed at after caps.
    `caps`: what kept it lower, in words -> closes.
    """
    was, forecast = np.asarray(reached, np.bool_), np.nan_to_num(np.asarray(volatility, np.float64))
    if len(was) < LEAST_CLOSES or was.mean() >= REACHED:
        return []
    missing = float(np.clip(1 - forecast / target, 0, 1).mean())
    why = "; ".join(f"{name} at {count:,}" for name, count in (caps or {}).items())
    because = f" What kept it lower, several at the same close counted each: {why}." if why else ""
    return [
        Finding(
            "target", BOOK, missing, "target volatility", len(was), "closes",
            f"The target volatility of {target:.1%} a year was reached at {int(was.sum()):,} of {len(was):,} closes; "
            f"what the caps left to aim at had {forecast.mean():.1%} in the mean.{because}",
        )
    ]  # fmt: skip


def correlation_spike(spiked: float, target: float) -> list[Finding]:
    """Whether the volatility of a year with each class falling together is above 1.5 times the target; NaN: unknown."""
    if not spiked > SPIKE_TIMES * target * (1 + 1e-9):
        return []
    said = (
        f"With each class falling together (correlations of at least .8) the volatility is {spiked:.1%} a year, "
        f"{spiked / target:.1f} times the target of {target:.1%}."
    )
    return [Finding("spike", BOOK, spiked - target, "equity a year", 1, "close", said)]


def of_sizing(counts: Mapping[str, tuple[int, str]], closes: int) -> list[Finding]:
    """What sizing itself found at some closes; `counts`: kind of `sizing.Finding` -> closes, and its newest sentence.

    Lots and spikes are told by `too_coarse` and `correlation_spike`, which know more of them.
    """
    return [
        Finding(
            OF_SIZING[kind], BOOK, count / closes, "closes", closes, "closes",
            f"At {count:,} of {closes:,} closes {NEWEST_OF.get(kind, '')}{sentence}.",
        )
        for kind, (count, sentence) in sorted(counts.items()) if kind in OF_SIZING and closes
    ]  # fmt: skip


OF_SIZING = {"ruined": "ruined", "stuck": "volatility", "cap": "cap", "late": "late", "not_booked": "not_booked"}
"""Kind of `sizing.Finding` -> kind of finding."""
NEWEST_OF = {
    "late": "what actions gave was booked later than on their date, the newest: ",
    "not_booked": "what actions gave became known too late to be booked, the newest: ",
}
"""Kind of `sizing.Finding` whose sentence is of one event -> what is said before the newest."""


def counted(found: Iterable[Sequence[Sizing]]) -> dict[str, tuple[int, str]]:
    """What sizing found at each of several closes -> kind to number of closes, and what was said at the newest.

    Of events (`NEWEST_OF`) all of that close are said, of other kinds the last.
    """
    counts = dict[str, tuple[int, str]]()
    for close in found:
        for kind, sentence in dict(close).items():
            said = "; ".join(one.sentence for one in close if one.kind == kind) if kind in NEWEST_OF else sentence
            counts[kind] = (counts.get(kind, (0, ""))[0] + 1, said)
    return counts


def unforecast(
    names: Sequence[str], wanted: BoolArray, deviations: FloatArray, core: FloatArray
) -> list[Finding]:  # fmt: skip
    """Symbols of the core without a forecast of volatility at the newest close, or at more than 5 % of their closes.

    Arrays are (closes, names): `wanted`, whether the symbol has a bar and the core may hold it; `deviations`, forecast
    standard deviations, each of the newest `CARRIED` sessions, NaN or not above 0 where there is none; `core`, its
    shares of the core where it had a forecast. Closes before a symbol's first forecast are its warm-up and do not
    count.
    """
    there = np.isfinite(deviations) & (deviations > 0)
    since = np.maximum.accumulate(there, axis=0)
    absent = wanted & since & ~there
    closes = (wanted & since).sum(axis=0)
    found = []
    for place, name in enumerate(names):
        missing = int(absent[:, place].sum())
        if closes[place] < LEAST_CLOSES or not (absent[-1, place] or missing > ABSENT_SHARE * closes[place]):
            continue
        own = np.abs(core[there[:, place], place])
        size = float(own[own > 0].mean()) if (own > 0).any() else 0.0
        now = ", the newest among them" if absent[-1, place] else ""
        found.append(
            Finding(
                "volatility", name, size * missing / int(closes[place]), "core", int(closes[place]), "closes",
                f"{name} had no forecast of volatility of the last {CARRIED} sessions at {missing:,} of "
                f"{int(closes[place]):,} closes{now}: nothing of it is held then; its share of the core is {size:.1%}.",
            )
        )  # fmt: skip
    return found
