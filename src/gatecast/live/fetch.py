"""Symbols' histories from a vendor into a store: asked for politely, kept as they come, stored all together."""

from __future__ import annotations

import hashlib
import io
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from gatecast.arguments import checked
from gatecast.chain import Progress
from gatecast.compute.progress import shown
from gatecast.errors import BarsError, GatecastError, PluginError, SettingsError, StoreError, hint_of
from gatecast.errors import shown as shown_value
from gatecast.experiment import Experiment
from gatecast.files import full_path, write_whole
from gatecast.live.newest import NOT_OF_NEWEST
from gatecast.live.update import Updated, update
from gatecast.live.watch import OVERLAP
from gatecast.machine import ONE_CORE, Machine
from gatecast.market.columns import name_columns
from gatecast.market.frames import read_frame
from gatecast.market.reading import as_day, as_utc
from gatecast.market.sources import read_with_findings
from gatecast.market.tables import read_tables
from gatecast.market.vendors import VENDORS, fetched, vendor_of
from gatecast.notebook import Shown
from gatecast.store.identity import is_store, refuse_taken
from gatecast.store.store import Store

USUAL_VENDOR = "yfinance"
SINCE = date(2000, 1, 1)
"""First session that is asked for where none is given."""
PAUSE_SECONDS = 1.0
"""Between two questions to a vendor."""
TRIES = 3
"""Questions for one symbol that gets no answer, each after twice the pause of the one before."""
STALE = timedelta(hours=12)
"""How long an answer is kept for a command that goes on."""


@dataclass(frozen=True)
class Fetched(Shown):
    """What is stored of each symbol, and what storing it did.

    `symbols`: symbol -> `rows`, `first`, `last` (day) that the store has since the first session that was asked for,
    and `kept`, whether an earlier command that was interrupted had the answer already. `missing`: symbol -> why nothing
    of it was stored. `updated`: see `update`.
    """

    vendor: str
    symbols: Mapping[str, Mapping[str, Any]]
    missing: Mapping[str, str]
    updated: Updated

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "vendor": self.vendor, "symbols": {name: dict(one) for name, one in self.symbols.items()},
            "missing": dict(self.missing), "updated": self.updated.to_dict(),
        }  # fmt: skip


@checked
def fetch(
    symbols: Sequence[str],
    store: str | Path,
    *,
    vendor: str = USUAL_VENDOR,
    since: str | date | None = None,
    now: datetime | None = None,
    pause_seconds: float = PAUSE_SECONDS,
    experiment: Experiment | None = None,
    machine: Machine = ONE_CORE,
    progress: Progress | bool | None = None,
    options: Mapping[str, Any] | None = None,
) -> Fetched:
    """Asks a vendor for symbols one after the other and stores what came, as `update` does.

    Parameters
    ----------
    symbols: names as the vendor has them. vendor: "yfinance", "ccxt:kraken", or one of your own, see docs/plugins.md.
    since: first session of symbols that the store does not have (None: 2000-01-01); of the others the last 30 days that
        are stored and what came since are asked for.
    pause_seconds: between two questions; a symbol without an answer is asked for again after twice, then four times it.
    now, experiment, machine, options: see `update`. progress: as in `gatecast.run`.

    Each answer is kept in a folder beside the store until all are stored, so that a command that was interrupted, or
    found no room, goes on where it stopped; answers that the store refuses are not kept. A symbol without bars, or
    whose answer is no frame of that symbol alone, is named in `missing`, and the others are stored.

    Raises `BarsError` where no symbol has bars or they do not fit the store, `PluginError` where the vendor's package
    cannot be imported, `StoreError` where no store can be made or answers cannot be kept.
    """
    names = list(dict.fromkeys(name.strip() for name in symbols if name.strip()))
    if not names:
        raise SettingsError("no symbol is named: give one or more, such as SPY TLT.")
    if not 0 <= pause_seconds <= 3600:
        raise SettingsError(f"pause_seconds = {pause_seconds}: expected 0 to 3600.")
    source = f"{vendor}:" if vendor in VENDORS else vendor
    if vendor_of(source) is None:
        raise BarsError(f"{vendor!r} is no vendor: expected one of {', '.join(sorted(VENDORS))}, such as ccxt:kraken.")
    moment = datetime.now(UTC) if now is None else as_utc(now, "now")
    first = SINCE if since is None else as_day(_whole_day(since), "since")
    place = full_path(store)
    begins = _begins(place, names, first, moment)
    kept = place.with_name(f"{place.name}.fetched")
    found, missing, asked = dict[str, tuple[pl.DataFrame, bool]](), dict[str, str](), 0
    with shown(progress) as told:
        for number, name in enumerate(names):
            file = kept / f"{_key(source, name, begins[name])}.parquet"
            table = _kept(file, name)
            was_kept = table is not None
            if table is None:
                if asked:
                    time.sleep(pause_seconds)
                asked += 1
                table = _asked(source, name, begins[name], pause_seconds, missing)
                if table is not None:
                    _keep(file, table)
            if table is not None:
                found[name] = (table, was_kept)
            if told:
                told(f"fetching from {vendor}", number + 1, len(names))
    given = dict(options or {})

    def store_all(tables: Sequence[pl.DataFrame]) -> Updated:
        return update(place, tables, now=moment, experiment=experiment, machine=machine, **given)

    try:
        if not found:
            raise _nothing(vendor, missing)
        try:
            done = store_all([table for table, _ in found.values()])
        except BarsError:
            refused = _refused(place, {name: table for name, (table, _) in found.items()}, experiment, moment, given)
            if not 0 < len(refused) < len(found):
                raise
            missing |= refused
            done = store_all([table for name, (table, _) in found.items() if name not in refused])
    except BarsError:
        shutil.rmtree(kept, ignore_errors=True)
        raise
    shutil.rmtree(kept, ignore_errors=True)
    stored = _stored(place, begins, moment)
    asked_for = [name for name in found if name not in missing]
    missing |= dict.fromkeys((name for name in asked_for if name not in stored), "none of its bars is over")
    said = {name: {**stored[name], "kept": found[name][1]} for name in asked_for if name in stored}
    return Fetched(vendor, said, missing, done)


def _nothing(vendor: str, missing: Mapping[str, str]) -> BarsError:
    why = "; ".join(f"{name}: {one}" for name, one in list(missing.items())[:5])
    return BarsError(f"{vendor} gave no bars of any symbol ({why}). Check the names, or try later.")


def _refused(
    place: Path, tables: Mapping[str, pl.DataFrame], experiment: Experiment | None, now: datetime,
    options: Mapping[str, Any],
) -> dict[str, str]:  # fmt: skip
    """Symbol -> why its bars cannot be read by themselves, as a store's settings say."""
    made = is_store(place)
    settings = Store.open(place).experiment if made else experiment or Experiment()
    kept = {name: one for name, one in settings.bars.options.items() if name not in NOT_OF_NEWEST}
    found = dict[str, str]()
    for name, table in tables.items():
        try:
            read_with_findings(
                table, now=now, currencies=settings.book.money.prices,
                **{**({"splits": False} if made else {}), **kept, **options},
            )  # fmt: skip
        except BarsError as error:
            found[name] = str(error)
    return found


def _stored(place: Path, begins: Mapping[str, date], now: datetime) -> dict[str, dict[str, Any]]:
    """Symbol -> rows, first and last day of the bars that a store has of it since a day."""
    bars = Store.open(place).bars.as_of(now).select("symbol", day=pl.col("time").dt.date())
    since = pl.DataFrame({"symbol": list(begins), "since": list(begins.values())})
    counted = (
        bars.join(since, on="symbol").filter(pl.col("day") >= pl.col("since")).group_by("symbol")
        .agg(rows=pl.len(), first=pl.col("day").min().cast(pl.String), last=pl.col("day").max().cast(pl.String))
    )  # fmt: skip
    return {row.pop("symbol"): row for row in counted.to_dicts()}


def _whole_day(since: str | date) -> str | date:
    """A day; of a year or a month alone the first one."""
    if isinstance(since, str) and since.replace("-", "").isdecimal():
        return {4: f"{since}-01-01", 7: f"{since}-01"}.get(len(since), since)
    return since


def _begins(place: Path, names: Sequence[str], first: date, now: datetime) -> dict[str, date]:
    """Symbol -> the first session that is asked for. Raises `StoreError` where no store is and none can be made."""
    last = dict[str, datetime]()
    if is_store(place):
        bars = Store.open(place).bars.as_of(now)
        last = dict(bars.group_by("symbol").agg(pl.col("time").max()).iter_rows())
    else:
        refuse_taken(place)
    return {name: (last[name] - OVERLAP).date() if name in last else first for name in names}


def _key(source: str, name: str, begin: date) -> str:
    return hashlib.sha256(f"{source}\0{name}\0{begin}".encode()).hexdigest()[:32]


def _kept(file: Path, name: str) -> pl.DataFrame | None:
    """The answer on a symbol that a file holds, unless it is old or cannot be read."""
    try:
        if time.time() - file.stat().st_mtime > STALE.total_seconds():
            return None
        (table,) = read_tables(file)
        return _of_symbol(name, table.frame)
    except (OSError, BarsError):
        return None


def _keep(file: Path, table: pl.DataFrame) -> None:
    content = io.BytesIO()
    table.write_parquet(content)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        write_whole(file, content.getvalue())
    except OSError as error:
        raise StoreError(
            f"{file.parent} cannot be written: {error.strerror or error}. Nothing was stored; {hint_of(error)}, or "
            "give another folder."
        ) from None


def _asked(source: str, name: str, begin: date, pause: float, missing: dict[str, str]) -> pl.DataFrame | None:
    """The bars of one symbol; None where there is no answer, and why is then in `missing`."""
    for attempt in range(TRIES):
        if attempt:
            time.sleep(pause * 2**attempt)
        try:
            answer = fetched(source, [name], begin, None)
        except PluginError:
            raise
        except GatecastError as error:
            missing[name] = str(error)
            continue
        try:
            table = _of_symbol(name, answer)
        except BarsError as error:
            missing[name] = str(error)
            return None
        missing.pop(name, None)
        return table
    return None


def _of_symbol(name: str, answer: Any) -> pl.DataFrame:
    """The table of an answer. Raises `BarsError` where it is no frame, has no row, or rows of another symbol."""
    tables = read_frame(answer)
    frame = tables[0].frame
    if len(tables) == 1 and frame.is_empty():
        raise BarsError("no bars")
    strange = [column for column, kind in frame.schema.items() if kind.is_object() or kind.is_nested()]
    if strange:
        raise BarsError(f"the column {shown_value(strange[0])} holds objects: expected numbers, text or times")
    if len(tables) == 1 and tables[0].symbol is None:
        rows, _ = name_columns(tables[0])
        if "symbol" not in rows.columns:
            raise BarsError(f"the answer has no column of symbols: expected one with {name!r} in each row")
        symbols = rows["symbol"].cast(pl.String).unique(maintain_order=True).to_list()
    else:
        frame = frame.with_columns(symbol=pl.lit(tables[0].symbol))
        symbols = [one.symbol for one in tables]
    if symbols != [name]:
        listed = ", ".join(map(shown_value, symbols[:5]))
        raise BarsError(f"the answer has rows of {listed}: expected {name!r} in each row")
    return frame
