"""The bounds within which bars and actions are read: first and last session, a moment, a sealed session, now."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta

import polars as pl

from gatecast.errors import BarsError, did_you_mean
from gatecast.market.bars import UTC_TIME, Finding, session_date
from gatecast.market.cleaning import BAD_MIN, BAD_SHARE
from gatecast.market.tables import Notes

STILL_OPEN = timedelta(days=1)
"""A bar that closes within so long of now is of a session that is still open: it is left out, and is no error."""
MOST_NAMED = 20  # symbols whose actions do not apply, named one by one


def actions_of(
    actions: pl.DataFrame, known: Sequence[str], wanted: Sequence[str] | None, now: datetime | None, notes: Notes
) -> pl.DataFrame:
    """Actions dated up to now, of symbols that the source has; the others are findings.

    Where only some symbols are `wanted`, nothing is told of others, but for another spelling of one of them.
    """
    today = session_date(pl.lit(now or datetime.now(UTC)).cast(UTC_TIME))
    unmatched = actions.filter(~pl.col("symbol").is_in(list(known)))
    if wanted is not None:
        spelt = [name.lower() for name in wanted]
        unmatched = unmatched.filter(pl.col("symbol").str.to_lowercase().is_in(spelt))
    names = unmatched["symbol"].unique(maintain_order=True).to_list()
    for name in names[:MOST_NAMED]:
        row = unmatched.filter(pl.col("symbol") == name).row(0, named=True)
        advice = f"A {row['kind']} on {row['date']} of a symbol without bars: not applied. {_meant(name, known)}"
        notes.findings.append(Finding("warning", name, None, "action_unmatched", row["value"], advice))
    if names[MOST_NAMED:]:
        advice = f"Actions of as many further symbols without bars are not applied, the first {names[MOST_NAMED]!r}."
        notes.findings.append(Finding("warning", None, None, "action_unmatched", len(names) - MOST_NAMED, advice))
    actions = actions.filter(pl.col("symbol").is_in(list(known)))
    for row in actions.filter(pl.col("date") > today).iter_rows(named=True):
        advice = f"A {row['kind']} dated {row['date']}, which has not come yet: not applied. Correct the date, or wait."
        notes.findings.append(Finding("warning", row["symbol"], None, "action_to_come", row["value"], advice))
    return actions.filter(pl.col("date") <= today)


def actions_within(
    actions: pl.DataFrame,
    end: date | None,
    as_of: datetime | None,
    sealed: date | None,
    now: datetime | None,
    notes: Notes,
) -> pl.DataFrame:
    """Actions (`known_at` filled) of the bounds within which bars are read: neither dated nor known beyond any of them.

    A delisting is booked at the later of both, so that one beyond a bound would be booked after the last bar. Prices
    show a split on its date, so that `end` asks only for that. A delisting that is known after now is a finding.
    """
    known, ends = session_date(pl.col("known_at")), pl.col("kind") == "delisting"
    late = actions.filter(ends & (pl.col("known_at") > (now or datetime.now(UTC))))
    for row in late.iter_rows(named=True):
        moment = f"{row['known_at']:%Y-%m-%d %H:%M} UTC"
        advice = f"A delisting of {row['date']}, known at {moment}, which has not come yet: not applied."
        notes.findings.append(Finding("warning", row["symbol"], None, "action_to_come", row["value"], advice))
    kept = actions.join(late, on=["symbol", "kind", "date"], how="anti", maintain_order="left")
    if end is not None:
        kept = kept.filter(pl.col("date") <= end, ~ends | (known <= end))
    if as_of is not None:
        last = session_date(pl.lit(as_of).cast(UTC_TIME))
        kept = kept.filter(pl.col("date") <= last, pl.col("known_at") <= as_of)
    if sealed is not None:
        kept = kept.filter(pl.col("date") < sealed, known < sealed)
    return kept


def _meant(symbol: str, known: Sequence[str]) -> str:
    same = [name for name in known if name.lower() == symbol.lower()]
    if same:
        return f"Did you mean {same[0]!r}?"
    advice = did_you_mean(symbol, known)
    return (
        advice if len(known) <= MOST_NAMED or advice.startswith("Did") else "Correct the symbol, or leave the row out."
    )


def within(
    rows: pl.DataFrame,
    start: str | date | None,
    end: str | date | None,
    as_of: datetime | None,
    sealed: date | None,
    now: datetime | None,
    notes: Notes,
) -> pl.DataFrame:
    """The sessions from start to end, known at as_of and before the sealed session, without bars still to close."""
    moment = now or datetime.now(UTC)
    closed = pl.col("time") <= moment
    unfinished = rows.filter(~closed)
    later = unfinished.filter(pl.col("time") > moment + STILL_OPEN)
    if later.height > max(BAD_SHARE * rows.height, BAD_MIN):
        row = later.row(0, named=True)
        problem = f"{later.height} of {rows.height} bars close in the future, more than a day after now."
        notes.refuse(row, problem, "Correct the dates or the clock, or say now=.", "time", str(row["time"]))
    notes.add_counts("warning", "unfinished", unfinished, "Bars that have not closed yet are left out.")
    session = session_date(pl.col("time"))
    kept = rows.filter(
        closed,
        pl.lit(True) if start is None else session >= date_of(start, "start"),
        pl.lit(True) if end is None else session <= date_of(end, "end"),
        pl.lit(True) if as_of is None else pl.col("known_at") <= as_of,
        pl.lit(True) if sealed is None else session_date(pl.col("known_at")) < sealed,
    )
    if kept.is_empty():
        first, last = rows["time"].min(), rows["time"].max()
        given = (("start", start), ("end", end), ("as_of", as_of), ("holdout", sealed))
        cut = ", ".join(f"{name}={value}" for name, value in given if value is not None)
        raise BarsError(f"no bars are left with {cut or 'the present clock'}; the source has {first!s} to {last!s}.")
    return kept


def date_of(value: str | date, name: str) -> date:
    """A date, of itself or of its text; `name` of the setting that says it. Raises `BarsError`."""
    try:
        given = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        raise BarsError(f"{name} must be a date such as 2018-12-31, got {value!r}.") from None
    return given.date() if isinstance(given, datetime) else given


def moment_of(value: str | date) -> datetime:
    """A moment in UTC; a date means its end."""
    try:
        given = value
        if isinstance(value, str):
            given = date.fromisoformat(value) if len(value) == 10 else datetime.fromisoformat(value)
        if not isinstance(given, datetime) and isinstance(given, date):
            return datetime.combine(min(given, date(9999, 12, 30)), time(), UTC) + timedelta(days=1)
        if isinstance(given, datetime) and given.tzinfo is not None:
            return given
    except ValueError:
        pass
    raise BarsError(f"as_of must be a date or a time with its offset (2018-12-31T21:00:00+00:00), got {str(value)!r}.")
