"""Actions of companies that a store is told, and bars that wait until it is: `gatecast actions`.

An action stands beside the bars, which stay as they came, and changes nothing that was issued. Each change is one
record; taking it back is another.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from gatecast.arguments import checked
from gatecast.errors import SettingsError, StoreError, cut, did_you_mean, shown, symbol_fault
from gatecast.live.gates import DOUBTFUL_BAR, NOT_FORECAST
from gatecast.live.tables import forget, kept_actions
from gatecast.machine import ONE_CORE, Machine
from gatecast.market.actions import (
    GIVES,
    GOES,
    KINDS,
    LEVELS,
    PAYS,
    TERMS,
    WHOLE,
    problem_of_terms,
    refuse_contradicted,
    told_twice,
    with_terms,
)
from gatecast.market.bars import UTC_TIME, session_date
from gatecast.market.calendar import LONGEST_HALT
from gatecast.market.given import refuse_above_price, with_ends
from gatecast.market.merging import DataProblem
from gatecast.market.reading import as_utc
from gatecast.market.steps import PENCE, Step, doubtful_steps, factors, on_one_level
from gatecast.notebook import Shown
from gatecast.store.journal import moment_of, text_of
from gatecast.store.store import Store

if TYPE_CHECKING:
    from gatecast.store.state import Wait

WHATS = ("split", "unit", "real-move", "error")
VALUES = {
    **dict.fromkeys((*LEVELS, "spin_off"), ("ratio",)), "delisting": ("price", "return"),
    **dict.fromkeys(("dividend", "special_dividend", "return_of_capital", "rights"), ("cash",)),
}  # fmt: skip
"""Kind of an action -> what its value is given by, one of them; mergers and changes of symbols have more."""
LONGEST_BREAK = 10
"""Days from a symbol's last bar to its merger or new name, within which its end is that of the action."""
PROBABLE, POSSIBLE = timedelta(days=366), timedelta(days=3653)
"""How far ahead the date of an action may be without a note, and at all: a year and ten."""
WARNED = timedelta(days=10)
"""Time after an action is dated or told in which each update warns of it."""
MISFIT = 0.5
"""Share of a step, in logs, that may be left when its split is given: more is the split of another step."""


# ── what waits ────────────────────────────────────────────────────────────────────────────────────


def step_of(wait: Wait) -> Step:
    """The step of a bar that waits."""
    return Step(wait.symbol, moment_of(wait.time), wait.ratio, wait.was, wait.opens)


def say_waiting(store: Store) -> list[DataProblem]:
    """A problem for each symbol of a store that waits: what its bar looks like, and the commands that resolve it."""
    return [
        DataProblem(DOUBTFUL_BAR, (symbol,), waiting_sentence(store, wait))
        for symbol, wait in store.state.waiting.items()
    ]


def waiting_sentence(store: Store, wait: Wait) -> str:
    """What a bar that waits looks like, and the commands that resolve it."""
    step, kind = step_of(wait), "unit" if math.isclose(max(wait.ratio, 1 / wait.ratio), PENCE) else "split"
    names = f"{shlex.quote(str(store.folder))} --symbol {shlex.quote(wait.symbol)} --date {step.day}"
    return (
        f"{step.sentence} The symbol waits from this bar on: nothing is decided or learned from it. Say what it is: "
        f"`gatecast actions resolve {names} --as {kind} --ratio {step.ratio:g}`, `--as real-move`, or "
        "`--as error` for a wrong bar."
    )


def changed_waits(store: Store, steps: Sequence[Step] | None, now: datetime) -> list[dict[str, Any]]:
    """Bars that wait from now on or no more, as a record has them, where these steps wait now; None: as before."""
    if steps is None:
        return []
    waiting = {(one.symbol, moment_of(one.time)): one for one in store.state.waits if one.until is None}
    wait_now = {(one.symbol, one.time): one for one in steps}
    released = [_said(one, now) for key, one in waiting.items() if key not in wait_now]
    return released + [_new(one, store.actions) for key, one in wait_now.items() if key not in waiting]


def _said(wait: Wait, now: datetime, *, left_out: bool = False) -> dict[str, Any]:
    """A bar that waits no more; one that did not before is known since it did not, but for one that was left out."""
    until = wait.until if wait.until is not None and not wait.left_out else text_of(now)
    return {**_again(wait), "until": until, "left_out": left_out}


def _again(wait: Wait) -> dict[str, Any]:
    """A bar that waits again."""
    return {name: getattr(wait, name) for name in ("symbol", "time", "ratio", "was", "opens")}


def _new(step: Step, actions: pl.DataFrame) -> dict[str, Any]:
    """A bar that waits from now on; prices as they came, `actions` beside them."""
    at = pl.DataFrame([[step.symbol, step.time]], schema={"symbol": pl.String, "time": UTC_TIME}, orient="row")
    factor = factors(at, actions)
    by = 1.0 if factor is None else factor[0]
    return {
        "symbol": step.symbol, "time": text_of(step.time), "ratio": step.ratio, "was": step.was / by,
        "opens": step.opens / by,
    }  # fmt: skip


def without_waiting(rows: Sequence[Mapping[str, Any]], store: Store, now: datetime) -> list[dict[str, Any]]:
    """Rows of `newest_rows` -> those of symbols that wait without forecasts, of the newest bar that waits: its time
    and its own close."""
    waits = store.state.waiting
    if not waits:
        return [dict(row) for row in rows]
    last = pl.col("time", "close").sort_by("time").last()
    newest = {symbol: own for symbol, *own in store.bars.waiting(now).group_by("symbol").agg(last).iter_rows()}
    return [
        _waiting_row(row, newest.get(row["symbol"]), waiting_sentence(store, waits[row["symbol"]]))
        if row["symbol"] in waits else dict(row)
        for row in rows
    ]  # fmt: skip


def _waiting_row(row: Mapping[str, Any], bar: Sequence[Any] | None, why: str) -> dict[str, Any]:
    """The row of a symbol that waits; `bar`: time and close of its newest bar, None where none is there as yet."""
    told = {
        **row, **{name: None for name in NOT_FORECAST if name in row}, "current": False, "time": None,
        **{name: 0.0 for name in ("weight", "book") if row.get(name) is not None}, "reason": why,
    }  # fmt: skip
    if bar is None:
        return told
    time, close = bar
    told |= {"close": close, "class_newest_bar": max(row["class_newest_bar"], time)}
    return told | {"today": "bar"} if told["class_newest_bar"] == time and row["today"] != "ended" else told


# ── the command ───────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Actions(Shown):
    """The actions of a store after a command, the bars that wait, those that are errors, and what was done.

    `changed`: whether a record was written. `message`: in a sentence. `warnings`: of dividends that may have been told
    twice.
    """

    store: Path
    now: datetime
    actions: pl.DataFrame
    waiting: Sequence[Mapping[str, Any]]
    left_out: Sequence[Mapping[str, Any]] = ()
    changed: bool = False
    message: str = ""
    warnings: Sequence[str] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "store": str(self.store), "now": self.now, "changed": self.changed, "message": self.message,
            "actions": self.actions.to_dicts(), "waiting": list(self.waiting), "left_out": list(self.left_out),
            "warnings": list(self.warnings),
        }  # fmt: skip


def _told(
    store: Store, now: datetime, message: str = "", *, changed: bool = False, symbol: str | None = None
) -> Actions:  # fmt: skip
    """A store's actions and what waits, of one `symbol` where it is given."""
    actions, waits = pl.concat([store.actions, _coming(store)]), [*store.state.waiting.values()]
    actions = actions.sort("symbol", "kind", "date")
    errors = [one for one in store.state.waits if one.left_out]
    if symbol is not None:
        actions = actions.filter(pl.col("symbol") == symbol)
        waits, errors = ([one for one in some if one.symbol == symbol] for some in (waits, errors))
    waiting = [
        {
            "symbol": one.symbol, "date": step_of(one).day, "time": moment_of(one.time), "ratio": one.ratio,
            "close_before": one.was, "open": one.opens, "sentence": waiting_sentence(store, one),
        }
        for one in waits
    ]  # fmt: skip
    left_out = [
        {"symbol": one.symbol, "date": step_of(one).day, "time": moment_of(one.time), "open": one.opens,
         "known_at": None if one.until is None else moment_of(one.until)}
        for one in errors
    ]  # fmt: skip
    twice = [f"{one.symbol!r}: {one.advice}" for one in told_twice(actions)]
    return Actions(store.folder, now, actions, waiting, left_out, changed, message, twice)


def say_told_twice(known: pl.DataFrame, actions: pl.DataFrame, now: datetime) -> list[DataProblem]:
    """A problem for each dividend of a symbol of the `known` bars that may have been told twice, within `WARNED` of its
    date or of when it became known."""
    own = actions.filter(pl.col("symbol").is_in(known["symbol"].unique().implode()))
    return [
        DataProblem("odd", (str(one.symbol),), f"{one.symbol!r}: {one.advice}") for one in told_twice(own, now - WARNED)
    ]


def _coming(store: Store) -> pl.DataFrame:
    """Actions of the tables that a store keeps which are dated after a symbol's newest bar: they count once it has one.

    `known_at` is null where the table does not say it.
    """
    kept = [with_terms(table) for table in kept_actions(store).values()]
    if not kept:
        return store.actions.clear()
    newest = store.bars.versions().group_by("symbol").agg(_last=session_date(pl.col("time").max()))
    table = pl.concat(kept).unique(["symbol", "kind", "date"]).join(newest, on="symbol")
    table = table.filter(pl.col("date") > pl.col("_last")).drop("_last")
    return table.join(store.actions, on=["symbol", "kind", "date"], how="anti").select(store.actions.columns)


@checked
def list_actions(store: str | Path, *, symbol: str | None = None, now: datetime | None = None) -> Actions:
    """The actions that a store was told, those of its tables that are still to come, the bars that wait and those that
    are errors; of one `symbol` or all. `now`: as of when."""
    opened = Store.open(store).as_of(None if now is None else _moment(now))
    if symbol is not None:
        _refuse_unknown(opened, symbol)
    return _told(opened, _moment(now), symbol=symbol)


@checked
def add_action(
    store: str | Path,
    *,
    symbol: str,
    day: date,
    kind: str,
    ratio: float | None = None,
    last_return: float | None = None,
    price: float | None = None,
    cash: float | None = None,
    into: str | None = None,
    pay_day: date | None = None,
    known_at: datetime | None = None,
    now: datetime | None = None,
    machine: Machine = ONE_CORE,
) -> Actions:
    """Tells a store of an action; the same again changes nothing.

    Parameters
    ----------
    day: the first session that it moves, of a delisting the last one. kind: "split" or "unit", which need their `ratio`
        (2 is two for one, 0.01 pence where pounds were); "delisting", which needs its `last_return` or the `price` paid
        at last; "dividend", "special_dividend", "return_of_capital" or "rights", which need their `cash` a share;
        "spin_off", which needs `ratio` units of the symbol `into` for each share; "merger", which needs its `cash`, its
        `ratio` and `into`, or both; "symbol_change", which needs `into` (`ratio`: left out, 1).
    pay_day: when cash is paid; left out: on the day.
    known_at: when it became known (default: `now`). A split of bars that the store has is known now at the earliest,
        what gives money or units in a session that its book has decided after the closes that were seen there.
    now: default: the clock.

    Raises `StoreError` for a symbol that the store does not have, `BarsError` and `SettingsError` for an action that
    does not fit to the bars or to those that are there.
    """
    moment = _moment(now)
    opened = Store.open(store, machine=machine)
    with opened.locked():
        _refuse_unknown(opened, symbol)
        _refuse_earlier(opened, moment)
        terms = {"cash": cash, "ratio": ratio, "return": last_return, "price": price}
        value, own_ratio = _value(opened, symbol, day, kind, terms, moment)
        known = moment if known_at is None else as_utc(known_at, "known_at")
        row = _row(symbol, day, kind, value, known, pay_day, into, own_ratio)
        row = known_since_told(opened, row, moment, said=row)
        note = _before_bars(opened, row, moment) or ("" if kind in GOES else far_ahead(row, moment))
        there = _those(opened, symbol, day, *(LEVELS if kind in LEVELS else (kind,)))
        if len(there):
            further = row.select(list(TERMS)).equals(there.select(list(TERMS)))
            if there["kind"][0] == kind and math.isclose(there["value"][0], value) and further:
                return _told(opened, moment, f"the store has this {kind} already: nothing has changed.")
            raise SettingsError(
                f"the store has a {there['kind'][0]} of {symbol!r} on {day}, {there['value'][0]:g}: take it back with "
                f"`gatecast actions remove` first."
            )
        if kind == "delisting":
            refuse_contradicted(row, opened.bars.as_of(moment))
            return _changed(opened, pl.concat([opened.actions, row]), moment, "add", row, note=note)
        if kind not in LEVELS:
            return _changed(opened, _with_money(opened, row, moment), moment, "add", row, note=note)
        wait = opened.state.waiting.get(symbol)
        if wait is not None and step_of(wait).day == day:
            return _resolved(opened, wait, row, moment, "add")
        _refuse_unfit(opened, row, wait, moment)
        return _changed(opened, pl.concat([opened.actions, row]), moment, "add", row, note=note)


@checked
def resolve(
    store: str | Path,
    *,
    symbol: str,
    day: date,
    what: str,
    ratio: float | None = None,
    now: datetime | None = None,
    machine: Machine = ONE_CORE,
) -> Actions:
    """Says what a bar is that waits: the first after a split, a real move, or an error of the feed.

    Parameters
    ----------
    day: the session of the bar. what: "split" or "unit", which need their `ratio` (2 is two for one, 0.01 pence where
        pounds were); "real-move": the bar is taken as it is; "error": it is left out until it comes corrected. The bars
        after it are judged again, and the symbol waits on where one of them looks like a split. now: see `add_action`.

    The bars are known from now on. Said again it changes nothing; otherwise than before, it takes the place of what was
    said. Raises `StoreError` where no bar of that session waits or did, `SettingsError` for a ratio that does not fit.
    """
    moment = _moment(now)
    if what not in WHATS:
        raise SettingsError(f"a bar is split, unit, real-move or error, not {cut(what)!r}. {did_you_mean(what, WHATS)}")
    if (ratio is None) == (what in LEVELS):
        raise SettingsError(
            "a split or another unit needs its ratio, and nothing else has one: --as split --ratio 2 is two for one."
        )
    opened = Store.open(store, machine=machine)
    with opened.locked():
        _refuse_unknown(opened, symbol)
        _refuse_earlier(opened, moment)
        found = [one for one in opened.state.waits if one.symbol == symbol and step_of(one).day == day]
        if not found:
            waiting = ", ".join(f"{one.symbol!r} {step_of(one).day}" for one in opened.state.waiting.values())
            raise StoreError(f"no bar of {symbol!r} on {day} waits. Waiting: {waiting or 'none'}.")
        wait = next((one for one in found if one.until is None), found[-1])
        value = 1.0 if ratio is None else ratio
        kind = "unit" if what == "unit" else "split"
        row = None if what == "error" else _row(symbol, day, kind, value, moment)
        if wait.until is not None:
            there = _those(opened, symbol, day, *LEVELS).select("kind", "value").rows()
            same = wait.left_out if row is None else not wait.left_out and there == [(kind, value)]
            if same:
                return _told(opened, moment, "this was said already: nothing has changed.")
        return _resolved(opened, wait, row, moment, "resolve")


@checked
def remove_action(
    store: str | Path, *, symbol: str, day: date, kind: str = "split", now: datetime | None = None,
    machine: Machine = ONE_CORE,
) -> Actions:  # fmt: skip
    """Takes an action back, or what was said of a bar, which waits again; where there is none nothing changes.

    It leaves the tables that the store keeps as well, and may be one of them that is still to come. It may be one that
    an earlier version took and that cannot be used.

    What was issued meanwhile stays. Raises `StoreError` for a symbol that the store does not have.
    """
    moment = _moment(now)
    opened = Store.open(store, machine=machine)
    with opened.locked():
        _refuse_unknown(opened, symbol)
        _refuse_earlier(opened, moment)
        _refuse_kind(kind)
        own = pl.col("symbol") == symbol, pl.col("kind").is_in(LEVELS if kind in LEVELS else [kind])
        every = opened.bars.told
        there = every.filter(*own, pl.col("date") == day)
        waited = [
            one for one in opened.state.waits
            if kind in LEVELS and one.symbol == symbol and step_of(one).day == day and one.until is not None
        ]  # fmt: skip
        kept = [table.filter(*own, pl.col("date") == day) for table in kept_actions(opened).values()]
        told = pl.concat([there.clear(), *kept]).unique(["symbol", "kind", "date"])
        if there.is_empty() and not waited and told.is_empty():
            others = every.filter(pl.col("symbol") == symbol, pl.col("date") == day)["kind"].unique().sort().to_list()
            hint = f" Of that day it has a {others[0]} (--kind {others[0]})." if others else ""
            return _told(opened, moment, f"there is no {kind} of {symbol!r} on {day}: nothing has changed.{hint}")
        if len(told):
            forget(opened, told, moment)  # else the next update would take it from its table again
        if there.is_empty() and not waited:
            return _told(opened, moment, "taken back from the table that the store keeps.", changed=True)
        gone = pl.concat([there, _end_of(every, there)])
        left = every.join(gone, on=["symbol", "kind", "date"], how="anti", maintain_order="left")
        return _changed(opened, left, moment, "remove", there, [_again(one) for one in waited])


# ── one change ────────────────────────────────────────────────────────────────────────────────────


def _resolved(store: Store, wait: Wait, row: pl.DataFrame | None, now: datetime, verb: str) -> Actions:
    """A bar that waits no more, with its action (None: it is left out); the bars after it are judged again."""
    step = step_of(wait)
    actions = store.actions.join(
        _those(store, wait.symbol, step.day, *LEVELS), on=["symbol", "kind", "date"], how="anti", maintain_order="left"
    )
    if row is not None:
        left = math.log(step.opens * row["value"][0] / step.was) if row["value"][0] != 1 else 0.0
        if abs(left) > MISFIT * abs(math.log(step.opens / step.was)):
            raise SettingsError(
                f"a ratio of {row['value'][0]:g} does not explain the step of {wait.symbol!r} from {step.was:g} to "
                f"{step.opens:g}: about {step.was / step.opens:.3g} does. For a real move say --as real-move."
            )
        actions = pl.concat([actions, row])
    _refuse_within_session(store, wait, row, now)
    known, later = store.bars.for_chain(now), store.bars.waiting(now)
    known = known.filter((pl.col("symbol") != wait.symbol) | (pl.col("time") < step.time))
    raw = store.bars.as_of(now).filter(pl.col("symbol") == wait.symbol)
    if row is not None:
        known = pl.concat([known, on_one_level(raw.filter(pl.col("time") == step.time), actions)])
    after = on_one_level(store.bars.without_left_out(raw).filter(pl.col("time") > step.time), actions)
    newer = pl.concat([after, later.filter(pl.col("symbol") != wait.symbol)])
    steps = [one for one in doubtful_steps(known, newer) if one.symbol == wait.symbol]
    waits = [_said(wait, now, left_out=row is None)]
    waits += [
        _said(one, now) for one in store.state.waits
        if one.symbol == wait.symbol and one.until is None and one.time > wait.time
    ]  # fmt: skip
    waits += [_new(one, actions) for one in steps]  # of one close the last counts
    told = row if row is not None else pl.DataFrame({"symbol": [wait.symbol], "date": [step.day]})
    return _changed(store, actions, now, verb, told, waits)


def _refuse_within_session(store: Store, wait: Wait, row: pl.DataFrame | None, now: datetime) -> None:
    """Raises `SettingsError` for a split or another unit that begins within a session, which none does."""
    step = step_of(wait)
    own = store.bars.as_of(now).filter(pl.col("symbol") == wait.symbol, pl.col("time") < step.time)
    if (
        row is not None
        and row["value"][0] != 1
        and (own.select(session_date(pl.col("time"))).to_series() == step.day).any()
    ):
        raise SettingsError(
            f"the step of {wait.symbol!r} at {step.time:%Y-%m-%d %H:%M} UTC is within a session, and a split or "
            "another unit begins with one: say --as real-move, or --as error."
        )


def _changed(
    store: Store, actions: pl.DataFrame, now: datetime, verb: str, row: pl.DataFrame,
    waits: Sequence[Mapping[str, Any]] = (), note: str = "",
) -> Actions:  # fmt: skip
    """Writes the record of a change, and says so, with a `note`."""
    told = [{name: str(value) for name, value in one.items()} for one in row.to_dicts()]
    more = {"waits": [dict(one) for one in waits], "verb": verb, "rows": told}
    store.set_actions(actions.sort("symbol", "kind", "date"), now, more)
    words = {"add": "added", "remove": "taken back", "resolve": "resolved"}[verb]
    own = [waiting_sentence(store, one) for symbol, one in store.state.waiting.items() if symbol in row["symbol"]]
    message = f"{words}; what was issued stays. The next `gatecast update {store.folder}` decides with it."
    return _told(store, now, " ".join(filter(None, [message, note, *own])), changed=True)


def far_ahead(actions: pl.DataFrame, now: datetime) -> str:
    """A sentence where an action is dated more than a year ahead, which is mostly a typo; "" where none is.

    Raises `SettingsError` for one that is dated more than ten years ahead.
    """
    today = as_utc(now, "now").date()
    late = actions.filter(pl.col("date") > today + PROBABLE).sort("date", descending=True)
    for symbol, kind, day in late.select("symbol", "kind", "date").iter_rows():
        what = f"The {kind} of {symbol!r} on {day} is more than"
        if day > today + POSSIBLE:
            raise SettingsError(f"{what} ten years ahead: correct its date.")
        return f"{what} a year ahead: look for a typo in its date."
    return ""


def _before_bars(store: Store, row: pl.DataFrame, now: datetime) -> str:
    """A sentence where an action is dated before its symbol's first bar, or has nothing to change on its day."""
    symbol, kind, day = row.row(0)[:3]
    first = store.bars.as_of(now).filter(pl.col("symbol") == symbol).select(session_date(pl.col("time")).min()).item()
    if first is None or day > first or (day == first and kind in ("delisting", *GOES)):
        return ""
    return f"The first bar of {symbol!r} is of {first}: a {kind} on {day} changes nothing."


def known_since_told(store: Store, actions: pl.DataFrame, now: datetime, said: pl.DataFrame) -> pl.DataFrame:
    """Actions as a store takes them: what they give or end up to the newest session of its book is known after the
    newest close that was seen there at the earliest, and where nobody said when, now.

    That session was decided without it and stays; the next one pays who held before the date. An end from which the
    symbol has returned stays in the past. `said`: the rows that say when they became known.
    """
    decided = max(store.state.issued, key=lambda one: (one.session, one.record), default=None)
    if decided is None or not decided.session:
        return actions
    key = ["symbol", "kind", "date"]
    dated = actions.join(
        said.select(*key, _said=pl.lit(decided.until != "")), on=key, how="left", maintain_order="left"
    )
    since = datetime.fromisoformat(decided.until) + timedelta(microseconds=1) if decided.until else now
    earliest = pl.when("_said").then(pl.lit(since, UTC_TIME)).otherwise(pl.lit(max(now, since), UTC_TIME))
    ends = _still_gone(store, actions, now).with_columns(_gone=pl.lit(True))
    dated = dated.join(ends, on=key, how="left", maintain_order="left")
    late = pl.col("kind").is_in([*PAYS, *GIVES]) | pl.col("_gone").fill_null(False)
    late &= pl.col("date") <= date.fromisoformat(decided.session[:10])
    told = pl.when(late).then(pl.max_horizontal("known_at", earliest)).otherwise("known_at")
    return dated.with_columns(known_at=told).select(actions.columns)


def _still_gone(store: Store, actions: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """Symbol, kind and date of delistings of symbols of the store that have not returned since."""
    ends = actions.filter(kind="delisting").select("symbol", "kind", "date")
    if ends.is_empty():
        return ends
    last = store.bars.as_of(now).group_by("symbol").agg(last=session_date(pl.col("time")).max())
    gone = ends.join(last, on="symbol").filter(pl.col("last") <= pl.col("date") + timedelta(days=LONGEST_HALT))
    return gone.select(ends.columns).unique()


def _moment(now: datetime | None) -> datetime:
    return datetime.now(UTC) if now is None else as_utc(now, "now")


def _refuse_unknown(store: Store, symbol: str) -> None:
    if symbol not in store.state.symbols:
        raise StoreError(f"{store.folder} has no symbol {cut(symbol)!r}. {did_you_mean(symbol, store.state.symbols)}")


def _refuse_earlier(store: Store, now: datetime) -> None:
    """Raises `SettingsError` for a moment before the newest record: what is said now was not known before it."""
    if now < moment_of(store.state.now):
        raise SettingsError(
            f"now = {now:%Y-%m-%d %H:%M} UTC is before the store's newest record, {store.state.now[:16]} UTC: give a "
            "later --now, or mend the computer's clock."
        )


def _refuse_kind(kind: str) -> None:
    if kind not in KINDS:
        raise SettingsError(f"there is no kind of action {cut(kind)!r}. {did_you_mean(kind, KINDS)}")


def _those(store: Store, symbol: str, day: date, *kinds: str) -> pl.DataFrame:
    """The store's actions of these kinds, of a symbol and date."""
    return store.actions.filter(pl.col("symbol") == symbol, pl.col("kind").is_in(kinds), pl.col("date") == day)


def _with_money(store: Store, row: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """The store's actions with one that is money; a merger and a change of symbol end it where its bars end.

    Raises `SettingsError` for a merger or a change that is to come, `BarsError` for one after which the symbol has bars
    and for money a share above the price.
    """
    symbol, kind, day = row.row(0)[:3]
    every, bars, prices = pl.concat([store.actions, row]), store.bars.as_of(now), store.experiment.book.money.prices
    if kind in GOES and day > as_utc(now, "now").date():
        raise SettingsError(f"the {kind} of {symbol!r} on {day} has not come yet: say it on that day, or later.")
    if kind not in GOES:
        refuse_above_price(row, bars, prices)
        return every
    ended = with_ends(every, bars, prices)
    refuse_contradicted(ended.filter(pl.col("symbol") == symbol), bars)
    refuse_above_price(row, bars, prices)
    return ended


def _end_of(told: pl.DataFrame, taken_back: pl.DataFrame) -> pl.DataFrame:
    """The delistings that mergers and changes of symbols were, which are taken back with them."""
    days = [
        pl.col("date").is_between(day - timedelta(days=LONGEST_BREAK), day) & (pl.col("symbol") == symbol)
        for symbol, kind, day in taken_back.select("symbol", "kind", "date").iter_rows() if kind in GOES
    ]  # fmt: skip
    return told.filter(pl.col("kind") == "delisting", pl.any_horizontal(pl.lit(False), *days))


def _row(
    symbol: str, day: date, kind: str, value: float, known_at: datetime, pay_day: date | None = None,
    into: str | None = None, ratio: float | None = None,
) -> pl.DataFrame:  # fmt: skip
    """An action as a table of one row. Raises `SettingsError` for a kind or value that is none."""
    _refuse_kind(kind)
    fits, words = KINDS[kind]
    if not math.isfinite(value) or not fits(value):
        raise SettingsError(f"no value of a {kind}: {value:g}. Expected: {words}.")
    if into is not None and (fault := symbol_fault(into)):
        raise SettingsError(f"into = {shown(into)}: {fault}. Give the symbol that is given.")
    for name, given, kinds in (("pay date", pay_day, PAYS), ("into", into, GIVES)):
        if given is not None and kind not in kinds:
            raise SettingsError(f"a {kind} has no {name}: leave it out, or give another kind ({', '.join(kinds)}).")
    cells = (symbol, kind, day, float(value), known_at, pay_day, into, ratio)
    row = pl.DataFrame([cells], schema=WHOLE, orient="row")
    if kind in (*GIVES, *PAYS) and (problem := problem_of_terms(row.row(0, named=True))):
        raise SettingsError(f"{symbol!r} on {day}: {problem}")
    return row


def _value(
    store: Store, symbol: str, day: date, kind: str, terms: Mapping[str, float | None], now: datetime
) -> tuple[float, float | None]:  # fmt: skip
    """The value of an action from its terms, and of a merger its ratio.

    Raises `SettingsError` where a term is missing or is of another kind.
    """
    _refuse_kind(kind)
    given = {name: one for name, one in terms.items() if one is not None}
    if kind == "merger" and given and set(given) <= {"cash", "ratio"}:
        return given.get("cash", 0.0), given.get("ratio")
    if kind == "symbol_change" and set(given) <= {"ratio"}:
        return given.get("ratio", 1.0), None
    wanted = VALUES.get(kind, ("cash", "ratio") if kind == "merger" else ("ratio",))
    if kind not in VALUES or len(given) != 1 or not set(given) <= set(wanted):
        names = " or ".join(f"--{name}" for name in wanted)
        got = ", ".join(f"--{name}" for name in given) or "none"
        raise SettingsError(f"a {kind} needs {names} and nothing else, got {got}.")
    ((name, value),) = given.items()
    if name != "price":
        return value, None
    closes = store.bars.as_of(now).filter(pl.col("symbol") == symbol, session_date(pl.col("time")) <= day)
    if closes.is_empty():
        raise SettingsError(f"{symbol!r} has no bar up to {day}, from which --price would be counted: give --return.")
    return value / float(closes["close"][-1]) - 1, None


def _refuse_unfit(store: Store, row: pl.DataFrame, wait: Wait | None, now: datetime) -> None:
    """Raises `SettingsError` for a split that the bars which are there do not show, or that was not known with them."""
    symbol, _, day, ratio, known_at = row.row(0)[:5]
    if wait is not None and day <= step_of(wait).day:
        raise SettingsError(f"{waiting_sentence(store, wait)} A split of {day} would be another one.")
    bars = store.bars.for_chain(now).filter(pl.col("symbol") == symbol)
    after = bars.filter(session_date(pl.col("time")) >= day)
    before = bars.filter(session_date(pl.col("time")) < day)
    if after.is_empty():
        return
    if known_at < now:
        raise SettingsError(
            f"the store has bars of {symbol!r} from {day} on without this split: it is known from now on at the "
            "earliest. Leave --known-at out."
        )
    if ratio != 1 and len(before):
        step = math.log(after["open"][0] / before["close"][-1])
        if abs(step + math.log(ratio)) > MISFIT * abs(math.log(ratio)):
            raise SettingsError(
                f"the bars of {symbol!r} do not step by a ratio of {ratio:g} on {day}: from {before['close'][-1]:g} to "
                f"{after['open'][0]:g}. They contain the split already, or its date or ratio is another."
            )
