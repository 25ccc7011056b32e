"""The card of a store: its journal -> one page on its purpose, what it rests on, where it fails and who changed it.

The parts follow Mitchell and others (2019), "Model cards for model reporting", Proceedings of FAT* 2019, with those
that a book needs. Everything is read from the journal and the files it names, so that the same journal gives the same
bytes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatecast.arguments import checked
from gatecast.evaluation.conclusion import in_percent
from gatecast.evaluation.risk import sentences_of
from gatecast.files import jsonable
from gatecast.forecasting.panel import ENSEMBLE
from gatecast.live.blotter import Blotter
from gatecast.live.kept import scores_in_force
from gatecast.live.morning import dated_in_words, findings_of
from gatecast.market.classes import asset_class
from gatecast.market.reading import as_utc
from gatecast.report.offline import offline_page
from gatecast.report.words import coded, is_number, named, number, typeset
from gatecast.store.about import halt_in_words
from gatecast.store.journal import moment_of
from gatecast.store.store import Store
from gatecast.trading.by_session import converters_of

if TYPE_CHECKING:
    from gatecast.store.journal import Record

Cell = str
MOST = 40
"""Rows of a table that are shown, the newest or the first; how many more there are is said."""


@dataclass(frozen=True)
class Section:
    """A part of a card: its title, sentences, and a table of texts (no rows: none)."""

    title: str
    said: Sequence[str] = ()
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[Cell]] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it; `rows` by the names of the columns."""
        rows = [dict(zip(self.columns, row, strict=True)) for row in self.rows]
        return {"title": self.title, "said": list(self.said), "rows": rows}


@dataclass(frozen=True)
class Card:
    """The card of a store as of its newest record: `number`, `hash` and `now` of it, and the sections."""

    id: str
    number: int
    hash: str
    now: str
    sections: Sequence[Section]

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        found: dict[str, Any] = jsonable(
            {
                "id": self.id, "record": self.number, "hash": self.hash, "now": self.now,
                "sections": [one.to_dict() for one in self.sections],
            }
        )  # fmt: skip
        return found

    @property
    def _first(self) -> str:
        return f"Store {self.id}, as of record {self.number} ({self.now[:16].replace('T', ' ')} UTC), {self.hash[:16]}."

    def markdown(self) -> str:
        """The card as a page of Markdown.

        >>> card = Card("abc", 3, "f" * 64, "2024-01-05T21:00", [Section("Data", ["2 | 3"], ["a"], [["x|y"]])])
        >>> print(card.markdown())
        # Card
        <BLANKLINE>
        Store abc, as of record 3 (2024-01-05 21:00 UTC), ffffffffffffffff.
        <BLANKLINE>
        ## Data
        <BLANKLINE>
        - 2 | 3
        <BLANKLINE>
        | a |
        |---|
        | x\\|y |
        <BLANKLINE>
        """
        lines = ["# Card", "", self._first, ""]
        for one in self.sections:
            lines += [f"## {one.title}", ""]
            lines += [*(f"- {_plain(text)}" for text in one.said), *[""] * bool(one.said)]
            if one.rows:
                rows = (" | ".join(_plain(cell).replace("|", "\\|") for cell in row) for row in one.rows)
                lines += [f"| {' | '.join(one.columns)} |", "|" + "---|" * len(one.columns)]
                lines += [*(f"| {row} |" for row in rows), ""]
        return "\n".join(lines)

    def html(self) -> str:
        """The card as one HTML page without scripts and without anything from elsewhere."""
        parts = []
        for one in self.sections:
            said = "".join(f"<li>{coded(typeset(text))}</li>" for text in one.said)
            head = "".join(f"<th>{escape(name)}</th>" for name in one.columns)
            body = "".join(_row(one.columns, row) for row in one.rows)
            parts.append(
                f"<section><h2>{escape(one.title)}</h2>\n"
                + (f"<ul>{said}</ul>\n" if said else "")
                + (
                    f'<table class="stacked"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>\n'
                    if body
                    else ""
                )
                + "</section>\n"
            )
        return offline_page(
            "Card · gatecast",
            f"<main>\n<h1>Card</h1>\n<p>{escape(self._first)}</p>\n{''.join(parts)}</main>",
            rules=STYLE,
        )


STYLE = (
    "h1{margin-top:40px}section{padding-top:40px}li{max-width:84ch;overflow-wrap:anywhere}"
    "td,th{white-space:normal;overflow-wrap:break-word;vertical-align:top}"
    "@media(max-width:820px){table.stacked td{display:block;text-align:left}"
    "table.stacked td[data-name]::before{display:block}}"
)


def _row(columns: Sequence[str], cells: Sequence[str]) -> str:
    first, *others = (coded(typeset(cell)) for cell in cells)
    named_cells = (
        f'<td data-name="{escape(name)}">{cell}</td>' for name, cell in zip(columns[1:], others, strict=True)
    )
    return f"<tr><td>{first}</td>{''.join(named_cells)}</tr>"


def _plain(text: str) -> str:
    """A text in one line that no reader of Markdown takes for markup."""
    return re.sub(r"[<>&]", lambda found: escape(found.group()), " ".join(str(text).split()))


@checked
def card(store: str | Path, *, now: datetime | None = None) -> Card:
    """The card of a store, made of its journal; `now`: of its records up to that moment (default: of all).

    Raises `StoreError` where it cannot be read, and where it had no record yet; nothing is written.
    """
    opened = Store.open(store)
    opened = opened.as_of(as_utc(now, "now") if now else None)
    state, told = opened.state, Told(opened)
    sections = (_purpose, _data, _assumptions, _rivals, _failures, _limits, _changes, _orders, _overrides)
    return Card(opened.id, state.number, state.hash, state.now, [one(told) for one in sections])


@dataclass(frozen=True)
class Told:
    """A store, its records, and the scores of the refit in force ({} without one, or where its files were removed)."""

    store: Store

    @cached_property
    def records(self) -> list[Record]:
        """All records that count, in order."""
        return list(self.store.records())

    @cached_property
    def scores(self) -> dict[str, Any]:
        """Of the refit in force."""
        return scores_in_force(self.store)

    def of_kind(self, *kinds: str) -> list[Record]:
        """The records of these kinds, in order."""
        return [one for one in self.records if one.kind in kinds]

    @property
    def classes(self) -> dict[str, list[str]]:
        """Asset class -> its symbols."""
        found: dict[str, list[str]] = {}
        for symbol, kind in self.store.state.symbols.items():
            found.setdefault(kind, []).append(symbol)
        return dict(sorted(found.items()))


NO_FAILURE = "None is known. That nothing was found does not mean that nothing is wrong."
CHANGES = (
    "refit", "accepted", "refused", "rollback", "settings", "actions", "upgraded", "pruned", "lost", "clock",
)  # fmt: skip
"""Kinds of records that change what a store says."""
NO_MODEL = "No model is in force: nothing was judged yet."


# ── the sections ──────────────────────────────────────────────────────────────────────────────────


def _purpose(told: Told) -> Section:
    settings = told.store.experiment
    bars = f"{settings.horizon} bar{'s' * (settings.horizon != 1)}"
    return Section(
        "Purpose",
        [
            f"Forecasts of return, direction, volatility and turbulence over {bars}, made at each close, with a "
            "verdict on each; and a book that is sized by the forecast of volatility.",
            f"Models: {', '.join(named(one, settings.model_titles) for one in settings.models)}.",
            "Made for somebody who decides by hand: it says what it would hold and places no orders by itself.",
            "Not made for: advice to others, prices between closes, symbols that are not listed below, and money that "
            "cannot be lost. A verdict other than \"evidence of skill\" means that the forecast was not shown to help.",
        ],
    )  # fmt: skip


def _data(told: Told) -> Section:
    state = told.store.state
    counts = Counter[str]()
    for one in told.of_kind("bars"):
        counts.update({name: count for name, count in one.body["counts"].items() if count})
    arrived = [one.body["rows"] for one in told.of_kind("bars")]
    rows, years = sum(sum(one.values()) for one in arrived), sorted({int(year) for one in arrived for year in one})
    actions = Counter(told.store.actions["kind"].to_list())
    survivorship = (told.scores.get("survivorship") or {}).get("sentence")
    hashes = [one.body.get("data_hash") for one in told.of_kind("refit") if one.number == state.serving]
    span = f"years {years[0]} to {years[-1]}" if years else "no year yet"
    return Section(
        "Data and licences",
        [
            f"{rows:,} versions of bars of {len(state.symbols)} symbols, {span}; "
            f"{_listed(counts) or 'none came'}. Each row is kept with the moment at which it became known.",
            f"Columns beside prices and volume: {', '.join(state.columns) or 'none'}. Tables beside the bars: "
            f"{', '.join(sorted(state.tables)) or 'none'}. Corporate actions: {_listed(actions) or 'none'}.",
            f"Hash of the bars of the refit in force: {hashes[0]}." if hashes else "No refit names its bars yet.",
            "Where the bars came from, and under which licence, the journal does not know: ask whoever gave them "
            "before anything made of them is passed on.",
            *([survivorship] if survivorship else []),
        ],
        ("asset class", "symbols", "names"),
        [(name, str(len(own)), _some(own)) for name, own in told.classes.items()],
    )  # fmt: skip


def _assumptions(told: Told) -> Section:
    settings = told.store.experiment
    money, size = settings.book.money, settings.book.size
    fills = Counter(one.get("fill", "") for one in (told.scores.get("fills") or {}).values())
    rate = "the rate of one-month bills, to its end in 2018, then its last value"
    if money.benchmark_rate is not None:
        rate = f"{money.benchmark_rate:.2%} a year"
    elif money.currency != "USD":
        rate = "2 % a year, which is an assumption"
    return Section(
        "Assumptions",
        [
            "A decision at a close is filled at the next bar's open, or at its close where opens are no prices of "
            f"their own{f' (symbols: {_listed(fills)})' if fills else ''}.",
            f"The book begins with {size.capital:,.0f} {money.currency}, aims at {size.target_volatility:.1%} a year "
            f"with a gross of at most {size.gross_cap:g}, and trades at most {size.participation:.0%} of a symbol's "
            "volume in a session.",
            f"Cash earns {rate}, less {money.credit_spread:.2%}; debt pays {money.debit_spread:.2%} more. Impact is "
            f"{money.impact:g} times the volatility times the root of the share of volume.",
            *_currencies(told),
            "A symbol that ends on unknown terms costs its holder the share below. Results are before taxes on income; "
            f"{money.withholding:.0%} of dividends is withheld.",
        ],
        ("asset class", "strategies, bps a side", "book: commission, bps", "half spread, bps", "borrow, bps a year",
         "return at an unknown end"),
        [_costs_of(name, settings) for name in told.classes],
    )  # fmt: skip


def _currencies(told: Told) -> list[str]:
    """In which currencies symbols are priced beside the book's, and by which prices they are converted."""
    book, home = told.store.experiment.book, told.store.experiment.book.money.currency
    rows = converters_of(book, told.store.state.symbols).items()
    each = [f"{one} by {symbol}" if symbol else f"{one} as a hundredth of {home}" for one, symbol in rows]
    return [f"Prices that are not in {home} are converted by the newest close of a rate: {', '.join(each)}."] * any(
        each
    )


def _costs_of(name: str, settings: Any) -> tuple[str, ...]:
    usual, money = asset_class(name), settings.book.money
    commission = usual.commission_bps if money.commission_bps is None else money.commission_bps
    spread = usual.half_spread_bps if money.half_spread_bps is None else money.half_spread_bps
    borrow = usual.borrow_bps_per_year if money.borrow_bps_per_year is None else money.borrow_bps_per_year
    return (
        name, f"{1e4 * settings.costs.per_side(name):g}",
        f"{commission:g}" if money.commission_per_unit is None else f"{money.commission_per_unit:g} a unit",
        f"{spread:g}", f"{borrow:g}", f"{usual.end_return:.0%}",
    )  # fmt: skip


def _rivals(told: Told) -> Section:
    verdicts, names = told.scores.get("verdicts") or {}, told.scores.get("names")
    if not verdicts:
        return Section("Rivals, and where it loses", [NO_MODEL])
    said = [f"{head}: {sentence}" for head, one in verdicts.items() for sentence in sentences_of(one)]
    rows = [
        (
            head, str(one.get("verdict")), _effect(one), str(one.get("unit") or "–"),
            number(one.get("pvalue_trials"), 2), named(one.get("most_in_force") or one.get("rival"), names),
            _better(told.scores, head, names),
        )
        for head, one in verdicts.items()
    ]  # fmt: skip
    return Section(
        "Rivals, and where it loses", said,
        ("head", "verdict", "gain (90 % interval)", "unit", "p, corrected", "against", "models with a smaller loss"),
        rows,
    )  # fmt: skip


def _effect(verdict: Mapping[str, Any]) -> str:
    effect, low, high = (verdict.get(name) for name in ("effect", "low", "high"))
    return in_percent(effect, low, high) if is_number(effect) and is_number(low) and is_number(high) else "–"


def _better(scores: Mapping[str, Any], head: str, names: Any) -> str:
    """The models that lost less than the ensemble in a head, at its longest step, the best first."""
    own = [row for row in scores.get("models") or [] if row.get("head") == head and is_number(row.get("loss"))]
    last = max((row.get("step") or 0 for row in own), default=0)
    losses = {row["model"]: row["loss"] for row in own if (row.get("step") or 0) == last}
    if ENSEMBLE not in losses:
        return "–"
    better = sorted((loss, name) for name, loss in losses.items() if loss < losses[ENSEMBLE])
    return _some([named(name, names) for _, name in better], 3) if better else "none"


def _failures(told: Told) -> Section:
    state, book = told.store.state, told.scores.get("book") or {}
    alarms = Counter(str(one.get("name")) for one in state.alarms)
    audit = told.scores.get("audit") or {}
    gate = ((book.get("risk") or {}).get("gate") or {}).get("sentence")
    said = [
        *(f"Finding: {dated_in_words(one)}" for one in findings_of(told.store, moment_of(state.now))),
        *([f"Control of the book: {gate}"] if gate else []),
        *(str(one.get("sentence")) for one in audit.get("findings") or []),
        *(f"Warning: {text}" for text in told.scores.get("warnings") or []),
        *([f"Alarms that were told, the newest {len(state.alarms)}: {_listed(alarms)}."] if alarms else []),
        *([f"Refits that were due and not made: {_some(list(state.missed))}."] if state.missed else []),
        *([f"Bars wait until somebody says what they are: {_some(sorted(state.waiting))}."] if state.waiting else []),
        *(f"Not in the book: {text}" for text in (book.get("left_out") or {}).values()),
    ]  # fmt: skip
    return Section("Known failures", said or [NO_FAILURE])


def _limits(told: Told) -> Section:
    verdicts = told.scores.get("verdicts") or {}
    seen = [
        f"In {head} a true gain of {one['detectable']:.2%} shows in {one['n']:,} days in 80 of 100 cases: one that is "
        "smaller may be there unseen."
        for head, one in verdicts.items() if is_number(one.get("detectable")) and one.get("n")
    ]  # fmt: skip
    return Section(
        "Limits",
        [
            *seen,
            "The record is of the past of these symbols; a market that changes more than it did there is not in it. "
            "Alarms of drift say that inputs or losses have changed, after they have.",
            "Sizes follow forecasts of volatility and past correlations: where symbols fall together as they never did "
            "the loss is larger than the forecast says (`stress` on the page of a run).",
            f"Fills, costs and ends of symbols are assumptions as above. {_exported(told.store)}",
        ],
    )  # fmt: skip


def _exported(store: Store) -> str:
    """What the journal knows of orders that left the store."""
    blotter = Blotter(store)
    standing, every = ({one["id"] for one in events} for events in (blotter.exports(), blotter.of("exported")))
    back = f"{len(every - standing)} of them withdrawn since, "
    files = f"{len(every):,} file{'s were' if len(every) != 1 else ' was'} exported"
    if not standing:
        return f"Of orders {f'{files}, and withdrawn since' if every else 'no file was exported'}."
    told = sum(one["new"] for one in blotter.of("fills"))
    known = f"{told:,} fill{'s were' if told != 1 else ' was'} told" if told else "no fill was told"
    return (
        f"Of orders {files}, {back if every - standing else ''}and {known}: how fills compare with the assumptions is "
        "not judged here."
    )


def _changes(told: Told) -> Section:
    models = {one.record: one for one in told.store.state.models}
    rows = []
    for one in told.of_kind(*CHANGES):
        rows.append((str(one.number), _when(one), one.kind, _change(one, models)))
    more = f" The newest {MOST} of them." if len(rows) > MOST else ""
    serving = told.store.state.serving
    first = f"Model {serving} is in force." if serving else NO_MODEL
    refused = len(told.scores.get("refused") or [])
    return Section(
        "Changes",
        [
            f"{first} Refits of the store: {len(models)}; fits that the guard refused in all refits since the history "
            f"began: {refused}; changes: {len(rows)}.{more}"
        ],
        ("record", "when (UTC)", "what", "of"), rows[-MOST:],
    )  # fmt: skip


def _change(record: Record, models: Mapping[int, Any]) -> str:
    """What a record changed, in a few words."""
    body = record.body
    if record.kind == "refit":
        cutoffs = ", ".join(f"{name} {cutoff[:10]}" for name, cutoff in sorted((body.get("cutoffs") or {}).items()))
        asked = f"; asked for: {', '.join(sorted(body['asked']))}" if body.get("asked") else ""
        refused = "".join(
            f"; the guard refused {name}: {why}" for name, why in sorted((body.get("refused") or {}).items())
        )
        other = "; other settings" if _other_settings(record, models) else ""
        return f"refitted at {cutoffs}{other}{asked}{refused}"
    if record.kind in ("accepted", "refused", "rollback"):
        return f"model {body['model']}" + (f": {body['reason']}" if body.get("reason") else "")
    if record.kind == "actions":
        rows = ", ".join(f"{one['symbol']} {one['date']}" for one in body.get("rows", ()))
        return f"{body.get('verb', '')} {rows}".strip()
    if record.kind == "pruned":
        return f"{body['count']:,} files removed"
    return ", ".join(f"{name} {body[name]}" for name in ("before", "after", "count") if name in body)


def _other_settings(record: Record, models: Mapping[int, Any]) -> bool:
    """Whether a refit has other settings than the one before it."""
    before = [one for number, one in sorted(models.items()) if number < record.number]
    mine = models.get(record.number)
    return bool(before and mine and mine.parts.get("settings.toml") != before[-1].parts.get("settings.toml"))


ORDERED = ("approved", "exported", "withdrawn")
"""Kinds of records by which orders go out, or are taken back."""


def _orders(told: Told) -> Section:
    rows = [
        (str(one.number), _when(one), one.body.get("by") or "not recorded", one.kind, str(one.body.get("id") or ""))
        for one in told.of_kind(*ORDERED)
    ]  # fmt: skip
    counts = Counter(one.kind for one in told.of_kind("proposed", *ORDERED))
    more = f" The newest {MOST} are listed." if len(rows) > MOST else ""
    first = f"Orders: {_listed(dict(sorted(counts.items())))}.{more}" if counts else "No orders were made from it."
    return Section("Orders", [first], ("record", "when (UTC)", "by", "what", "orders"), rows[-MOST:])


def _overrides(told: Told) -> Section:
    settings = told.store.experiment
    said = []
    if settings.selection.evidence is not None:
        said.append(f"The settings set the evidence to {settings.selection.evidence:g}, whatever the record says.")
    if settings.too_good:
        said.append(f"The settings allow to be too good to be true: {', '.join(settings.too_good)}.")
    rows = [
        (str(one.number), _when(one), str(one.body.get("by") or "not recorded"), one.kind, text)
        for one in told.records for text in _overridden(one)
    ]  # fmt: skip
    none = [] if said or rows else ["None."]
    return Section("Overrides", [*said, *none], ("record", "when (UTC)", "by", "what", "why"), rows[-MOST:])


def _overridden(record: Record) -> Iterable[str]:
    """What a record overrode, and why: each sentence one row."""
    body = record.body
    for one in body.get("overrides") or ():
        yield f"limit {one.get('limit')}: {one.get('reason')} (until {str(one.get('until'))[:16]})"
    for one in body.get("breaks") or ():
        if one.get("reason"):
            yield f"break of {one.get('symbol')} explained: {one['reason']}"
    if record.kind in ("halted", "released", "rollback"):
        yield f"{body.get('reason') or ''}{halt_in_words(body)}"
    if record.kind == "withdrawn":
        yield f"orders {body.get('id')} were withdrawn" + (f": {body['reason']}" if body.get("reason") else "")
    if record.kind == "actions" and body.get("verb") == "resolve":
        yield _change(record, {})
    if record.kind == "exported" and body.get("again"):
        yield "orders were exported again"
    if record.kind == "refit" and body.get("asked"):
        yield f"a refit that was not due: {', '.join(sorted(body['asked']))}"


def _when(record: Record) -> str:
    return f"{record.now:%Y-%m-%d %H:%M}"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _some(names: Sequence[str], most: int = 12) -> str:
    """Names, of many the first.

    >>> _some(["a", "b", "c"], 2)
    'a, b and 1 more'
    """
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
