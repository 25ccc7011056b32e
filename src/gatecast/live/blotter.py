"""The blotter of a store: what its journal says of orders, fills, positions and halts; and what an account should hold.

Nothing here writes. All follows from the records, see `store.state.ORDERS`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import polars as pl

from gatecast.errors import SettingsError, StoreError, cut, did_you_mean
from gatecast.live.positions import Clock, Fill, Positions, split_day
from gatecast.market.actions import GOES
from gatecast.market.classes import asset_class
from gatecast.market.sessions import day_of
from gatecast.store.schema import FillsFile, OrdersFile, PositionsFile
from gatecast.store.state import SETTINGS
from gatecast.store.store import Store
from gatecast.trading.events import NEAR

ROUNDING = 1e-9
"""Difference of units, as a share of them, that is none."""
FRACTION = 1.0
"""Units by which a holding may differ after a ratio was applied to it: fractions are paid in cash."""


@dataclass(frozen=True)
class Break:
    """A holding that is not what was expected; `reason`: None while nobody has explained it."""

    symbol: str
    expected: float
    found: float
    reason: str | None = None

    def sentence_of(self, account: str) -> str:
        """What differs, of an account.

        >>> Break("SPY", 5.0, 4.0).sentence_of("main")
        'main: SPY should be 5 units and is 4.'
        """
        return f"{account}: {self.symbol} should be {self.expected:,.6g} units and is {self.found:,.6g}."

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return dict(self.__dict__)


@dataclass(frozen=True)
class Halt:
    """A halt of all exports: the number of its `record`, `by` whom, for which `reason`, `since` when (UTC), and whether
    it lets orders pass that close what is held (`flatten`)."""

    record: int
    by: str
    reason: str
    flatten: bool
    since: str

    def __str__(self) -> str:
        but = ", with --flatten" if self.flatten else ""
        since = self.since[:16].replace("T", " ")
        return f"halted by {self.by} since {since} UTC ({self.reason}){but}, record {self.record}"


@dataclass(frozen=True)
class Baseline:
    """What an account held at a moment, from which on fills and actions are counted.

    `splits_until`: see `live.positions.Positions`. `agreed`: when these units were given and agreed with earlier ones,
    None of an account's first.
    """

    units: Mapping[str, float]
    as_of: datetime
    splits_until: date | None = None
    agreed: datetime | None = None

    @classmethod
    def of(cls, units: Mapping[str, float], told: Mapping[str, Any], agreed: datetime | None) -> Baseline:
        """Of the documents of orders and of positions, which tell the same of their moment."""
        until = told.get("splits_until")
        return cls(units, datetime.fromisoformat(told["as_of"]), date.fromisoformat(until) if until else None, agreed)

    def has(self, action: Mapping[str, Any], clock: Clock) -> bool:
        """Whether the units are those after an action.

        One of the very day, of which the file says nothing, is in units that agreed with earlier ones when it was
        known. In others it counts as not yet there: the account is then expected to hold what it makes of them, so that
        a holding that is lost is seen.
        """
        day = split_day(action["symbol"], self.as_of, self.splits_until, clock)
        if action["date"] != day or self.splits_until is not None:
            return bool(action["date"] <= day)
        known = action["known_at"]
        return self.agreed is not None and (known is None or known <= self.agreed)


@dataclass(frozen=True)
class Blotter:
    """What the journal of a store says of orders."""

    store: Store

    @property
    def events(self) -> Sequence[Mapping[str, Any]]:
        """All that happened, the oldest first; see `State.orders`."""
        return self.store.state.orders

    def of(self, kind: str, **fields: Any) -> list[Mapping[str, Any]]:
        """The records of a kind whose fields have these values, the oldest first."""
        return [one for one in self.events if one["kind"] == kind and _has(one, fields)]

    def exports(self, **fields: Any) -> list[Mapping[str, Any]]:
        """The records of exports that were not withdrawn, whose fields have these values, the oldest first."""
        standing = list[Mapping[str, Any]]()
        for one in self.events:
            if one["kind"] == "withdrawn":
                standing = [export for export in standing if export["id"] != one["id"]]
            elif one["kind"] == "exported":
                standing.append(one)
        return [one for one in standing if _has(one, fields)]

    def withdrawal_of(self, order_id: str) -> Mapping[str, Any] | None:
        """The newest record that withdrew an order; None for one that was not, or that was exported again since."""
        found = [
            one for one in self.of("withdrawn")
            if any(row["order_id"] == order_id for row in self.content(self.proposed(one["id"]))["orders"])
        ]  # fmt: skip
        return found[-1] if found and order_id not in self.exported() else None

    def clock(self, symbol: str, moment: datetime) -> date:
        """The day of a moment on the clock of a symbol's exchange; in UTC of one that the store does not have."""
        state = self.store.state
        kind = state.symbols.get(symbol)
        return moment.date() if kind is None else day_of(moment, asset_class(kind), state.calendars.get(symbol))

    @property
    def accounts(self) -> list[str]:
        """The accounts that the store has seen, sorted."""
        return sorted({one["account"] for one in self.events if "account" in one})

    def refuse_new(self, account: str) -> None:
        """Raises `SettingsError` for an account that the store has not seen, where it has seen others."""
        if (known := self.accounts) and account not in known:
            raise SettingsError(
                f"the account {cut(account)!r} is new in {self.store.folder}. {did_you_mean(account, known)} Where it "
                "is meant, give --new-account once."
            )

    def last_capital(self, account: str, day: date) -> float | None:
        """The capital of an account's last export before a session; None before the first."""
        found = [one for one in self.exports(account=account) if one["session"][:10] < str(day)]
        return float(self.content(self.proposed(found[-1]["id"]))["capital"]) if found else None

    @property
    def halts(self) -> list[Halt]:
        """The halts that are in force, the oldest first: each until it is released.

        A release without a number, of an older version of gatecast, ends all.
        """
        found = list[Halt]()
        for one in self.events:
            if one["kind"] == "halted":
                told = str(one["by"]), str(one["reason"]), bool(one.get("flatten")), str(one["now"])
                found.append(Halt(int(one["record"]), *told))
            elif one["kind"] == "released":
                found = [halt for halt in found if one.get("halt") not in (None, halt.record)]
        return found

    @property
    def flattens(self) -> Halt | None:
        """The oldest halt where all that are in force let orders pass that close what is held; None where one does not,
        and where there is none."""
        found = self.halts
        return found[0] if found and all(one.flatten for one in found) else None

    @property
    def halted(self) -> list[Mapping[str, Any]]:
        """The halts that are in force, as they are told: see `Halt`, each with a `sentence`, which says what all
        together let pass."""
        found = self.halts
        only = "only orders that close what is held are exported" if self.flattens else "no orders are exported"
        return [{**one.__dict__, "sentence": f"{only}: {one}."} for one in found]

    @property
    def restricted(self) -> list[Mapping[str, Any]]:
        """The symbols that the settings in force restrict: `symbol`, `since` when (UTC) and a `sentence`.

        Settings whose file was pruned say nothing: what they restricted counts from the next ones on.
        """
        store, since = self.store, dict[str, str]()
        listed = {*store.experiment.orders.restricted}
        for record in store.records() if listed else ():
            if record.kind in ("created", "settings"):
                part = record.parts["settings"]
            elif record.kind in ("accepted", "rollback") and (model := store.state.model(record.body["model"])):
                part = model.parts.get(SETTINGS, "")
            else:
                continue
            if part and store.artefacts.has(part):
                table = tomllib.loads(store.artefacts.get(part).decode())
                own = listed & {*table.get("orders", {}).get("restricted", ())}
                since = {name: since.get(name, record.now.isoformat()) for name in sorted(own)}
        return [
            {
                "symbol": name, "since": moment,
                "sentence": f"{name!r} is left as it is: restricted by the settings since {moment[:10]}.",
            }
            for name, moment in sorted(since.items())
        ]  # fmt: skip

    @property
    def unexplained(self) -> list[tuple[str, Break]]:
        """Account and break of each that was seen when the account was last reconciled, and that nobody explained."""
        newest = {one["account"]: one["breaks"] for one in self.of("reconciled")}
        return [
            (account, Break(one["symbol"], one["expected"], one["found"]))
            for account, breaks in sorted(newest.items()) for one in breaks if not one.get("reason")
        ]  # fmt: skip

    def proposed(self, orders_id: str) -> Mapping[str, Any]:
        """The record of orders that were proposed. Raises `StoreError` where they were not."""
        found = self.of("proposed", id=orders_id)
        if not found:
            ids = [one["id"] for one in self.of("proposed")][-20:]
            near = did_you_mean(orders_id, ids) if ids else "None were."
            raise StoreError(f"{self.store.folder}: no orders {orders_id!r} were proposed. {near}")
        return found[0]

    def content(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """The orders of a record, and what they were made of. Raises `StoreError` where they cannot be read."""
        found: dict[str, Any] = self.store.document(event["parts"]["orders"], OrdersFile)
        return found

    def exported(self, account: str | None = None) -> dict[str, tuple[str, Mapping[str, Any], datetime]]:
        """Id of each order that was exported and not withdrawn -> its account, the order, and when first; `account`:
        None: of all.

        One that was exported again, after it was cancelled and a part filled, is the one of more units.
        """
        found = dict[str, tuple[str, Mapping[str, Any], datetime]]()
        for event in self.exports(**({} if account is None else {"account": account})):
            for order in self.content(self.proposed(event["id"]))["orders"]:
                name, moment = order["order_id"], datetime.fromisoformat(event["now"])
                _, known, first = found.setdefault(name, (event["account"], order, moment))
                if order["units"] > known["units"]:
                    found[name] = event["account"], order, first
        return found

    def fills(self, account: str, since: datetime | None = None) -> list[Fill]:
        """All fills of an account that came after a moment, in the order in which they came.

        Raises `StoreError` where they cannot be read.
        """
        rows = list[Fill]()
        for event in self.of("fills", account=account):
            if since is not None and datetime.fromisoformat(event["now"]) <= since:
                continue
            rows += self.fills_of(event)
        return rows

    def fills_of(self, event: Mapping[str, Any]) -> list[Fill]:
        """The fills of a record of fills. Raises `StoreError` where they cannot be read."""
        return [*map(Fill.of, self.store.document(event["parts"]["fills"], FillsFile)["fills"])]

    def filled(self, account: str) -> dict[str, float]:
        """Id of each order -> units that were filled of it, above 0."""
        found = dict[str, float]()
        for one in self.fills(account):
            found[one.order_id] = found.get(one.order_id, 0.0) + one.units
        return found

    def baseline(self, account: str) -> Baseline | None:
        """What an account last held for certain: at its newest export, or where it was reconciled without a break that
        nobody explained. None before the first."""
        found = self._certain(account)
        event = next(found, None)
        if event is None:
            return None
        agreed = datetime.fromisoformat(event["now"]) if next(found, None) is not None else None
        if event["kind"] == "exported":
            content = self.content(self.proposed(event["id"]))
            return Baseline.of(content["positions"], content, agreed)
        kept = self.store.document(event["parts"]["positions"], PositionsFile)
        return Baseline.of(kept["units"], kept, agreed)

    def _certain(self, account: str) -> Iterator[Mapping[str, Any]]:
        """The records that can be a baseline of an account, the newest first."""
        standing = {one["record"] for one in self.exports(account=account)}
        for event in reversed(self.events):
            if event.get("account") != account:
                continue
            clean = event["kind"] == "reconciled" and all(one.get("reason") for one in event["breaks"])
            if clean or event["record"] in standing:
                yield event

    def breaks(self, account: str, positions: Positions) -> list[Break]:
        """Holdings that are not what the last ones, fills and actions since add up to; none before the first.

        Those that were explained have the reason. It holds for the positions that it was given for, until others come.
        """
        baseline = self.baseline(account)
        if baseline is None:
            return []
        if baseline.as_of > positions.as_of:
            raise StoreError(
                f"these positions are of {positions.as_of:%Y-%m-%d %H:%M} UTC, older than those of "
                f"{baseline.as_of:%Y-%m-%d %H:%M} UTC that {account!r} gave before: give the newest ones."
            )
        fills = self.fills(account, baseline.as_of)
        wanted, rounded = expected(baseline, fills, self.store.actions, positions, self.clock)
        return self._differing(account, wanted, positions, rounded)

    def _differing(
        self, account: str, wanted: Mapping[str, float], positions: Positions, rounded: frozenset[str]
    ) -> list[Break]:
        said = {
            (one["symbol"], one["expected"], one["found"]): one["reason"]
            for event in self.of("reconciled", account=account)[-1:]
            if self.store.document(event["parts"]["positions"], PositionsFile) == positions.to_dict()
            for one in event["breaks"] if one.get("reason")
        }  # fmt: skip
        breaks, found = [], positions.units
        for symbol in sorted({*wanted, *found}):
            one, other = float(wanted.get(symbol, 0.0)), float(found.get(symbol, 0.0))
            room = FRACTION if symbol in rounded else ROUNDING * max(1.0, abs(one))
            if abs(one - other) > room:
                breaks.append(Break(symbol, one, other, said.get((symbol, one, other))))
        return breaks


def expected(
    baseline: Baseline, fills: Sequence[Fill], actions: pl.DataFrame, positions: Positions, clock: Clock
) -> tuple[dict[str, float], frozenset[str]]:  # fmt: skip
    """Symbol -> units that an account should hold at the moment of new positions; and symbols that a ratio has rounded.

    Fills after the baseline's moment count, and actions that its units do not have (`Baseline.has`) up to the day of
    the new positions (`live.positions.split_day`): each at the beginning of its day on the clock of the exchange.
    Positions of one moment are the same units, unless both files say until when they have splits.

    >>> from datetime import UTC
    >>> from gatecast.market.actions import no_actions
    >>> evening, later = datetime(2024, 6, 28, 22, tzinfo=UTC), datetime(2024, 7, 1, 22, tzinfo=UTC)
    >>> fill = Fill("f1", "a1", "SPY", "buy", 40.0, 545.2, datetime(2024, 7, 1, 13, 30, tzinfo=UTC))
    >>> found = Positions({}, later, later.date())
    >>> expected(Baseline({"SPY": 100.0}, evening), [fill], no_actions(), found, lambda _, moment: moment.date())[0]
    {'SPY': 140.0}
    """
    same = baseline.as_of == positions.as_of and None in (baseline.splits_until, positions.splits_until)
    rows = [] if same else without_merged(actions).to_dicts()
    happened: list[tuple[date, int, datetime, Any]] = [
        (row["date"], 0, baseline.as_of, row) for row in rows
        if not baseline.has(row, clock) and row["date"] <= positions.split_day(row["symbol"], clock)
    ]  # fmt: skip
    happened += [
        (clock(one.symbol, one.time), 1, one.time, one)
        for one in fills if baseline.as_of < one.time <= positions.as_of
    ]  # fmt: skip
    units, rounded = dict(baseline.units), set[str]()
    for *_, one in sorted(happened, key=lambda event: event[:3]):
        if isinstance(one, Fill):
            units[one.symbol] = units.get(one.symbol, 0.0) + one.signed
        else:
            rounded |= _act(units, one)
    return {symbol: held for symbol, held in units.items() if held != 0}, frozenset(rounded)


def rest_of(order: Mapping[str, Any], filled: Mapping[str, float]) -> float:
    """Units of an order that are not filled; 0 where what is left is less than files of fills round to.

    `filled`: id of each order -> its units that were filled.

    >>> order = {"order_id": "a1", "units": 0.3}
    >>> rest_of(order, {"a1": 0.1}), rest_of(order, {"a1": 0.1 + 0.2}), rest_of(order, {"a1": 0.29999999999996})
    (0.19999999999999998, 0.0, 0.0)
    """
    rest = float(order["units"] - filled.get(order["order_id"], 0.0))
    return rest if rest > ROUNDING * order["units"] else 0.0


def without_merged(actions: pl.DataFrame) -> pl.DataFrame:
    """Actions without the delistings that mergers and changes of symbols were."""
    gone = [
        (pl.col("symbol") == symbol) & ((pl.col("date") - day).abs() <= timedelta(days=NEAR))
        for symbol, day in actions.filter(pl.col("kind").is_in(GOES)).select("symbol", "date").iter_rows()
    ]
    return actions.filter(~((pl.col("kind") == "delisting") & pl.any_horizontal(pl.lit(False), *gone)))


def _has(event: Mapping[str, Any], fields: Mapping[str, Any]) -> bool:
    return all(event.get(name) == value for name, value in fields.items())


def _act(units: dict[str, float], action: Mapping[str, Any]) -> set[str]:
    """What an action makes of the units that are held; the symbols whose units it changes."""
    symbol, kind, into = action["symbol"], action["kind"], action.get("into")
    held = units.get(symbol, 0.0)
    if not held:
        return set()
    if kind == "split":
        units[symbol] = held * action["value"]
        return {symbol}
    if kind == "delisting":
        units.pop(symbol)
        return {symbol}
    if kind in (*GOES, "spin_off"):
        ratio = (action.get("ratio") or 1.0) if kind == "merger" else action["value"]
        if kind in GOES:
            units.pop(symbol)
        if into:
            units[into] = units.get(into, 0.0) + held * ratio
        return {symbol, into or symbol}
    return set()
