"""The bars of a store, for years: every version of every row that ever came, by calendar year.

A row is never changed. Another reading of it is a new version with its own `known_at`; `as_of` gives the rows as they
were known at a moment. Of what comes, a row is

- new: the store has no row of this symbol and close. Its `known_at` is as read. A row that does not say when it became
  known, and comes after the fill of its close, is late; of a symbol that the store did not have, only where something
  was issued before the close, and never its newest row. A late row's `known_at` is the moment it came, or the fill of a
  newer close that comes in time with it, where that is earlier and nothing was issued since: what is decided at that
  close is decided with it;
- repeated: it says the same as the version in force, to 1e-9 of each number. It is dropped;
- corrected: it says something else. Its `known_at` is as read where the source says it, else the moment it came;
- unfinished: it closes after the moment it came. It is left out.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import polars as pl

from gatecast.errors import BarsError, SettingsError, StoreError, cut, shown, symbol_fault
from gatecast.market.actions import (
    GIVES,
    KINDS,
    LEVELS,
    PAYS,
    SCHEMA,
    TERMS,
    no_actions,
    problem_of_terms,
    with_terms,
)
from gatecast.market.bars import COLUMNS, PRICES, make_bars, refuse_lacking
from gatecast.market.calendar import deadlines, fill_times
from gatecast.market.sessions import orders_until
from gatecast.market.steps import on_one_level
from gatecast.store.artefacts import Artefacts
from gatecast.store.journal import moment_of
from gatecast.store.schema import TIME
from gatecast.store.state import BarsPart, State, Wait

if TYPE_CHECKING:
    from polars._typing import PolarsDataType

SAME = 1e-9
"""Relative difference up to which two numbers are one."""
KEYS = ("symbol", "time")
VERSION: dict[str, PolarsDataType] = {
    "symbol": pl.String, "asset_class": pl.String, "time": TIME, **dict.fromkeys(PRICES, pl.Float64),
    "volume": pl.Float64, "known_at": TIME, "starts": pl.Boolean,
}  # fmt: skip
"""Columns of an artefact of bars. `starts`: whether the row starts a segment for another reason than a gap."""
RECORD: dict[str, PolarsDataType] = {"record": pl.Int64}
"""The number of the record that a row came with, where an artefact has rows of several."""
ORDER = ("symbol", "time", "known_at", "record")
PART_ROWS = 50_000_000
LONGEST_NAME = 2**20
"""Bytes of a text in a table of actions. Earlier versions took symbols as long as a line: see `actions.misnamed`."""


def actions_of(artefacts: Artefacts, name: str) -> pl.DataFrame:
    """An artefact that is a table of actions; one of an earlier version lacks further columns, which are empty then."""
    return with_terms(artefacts.table(name, SCHEMA, further=tuple(TERMS.values()), longest=LONGEST_NAME))


@dataclass(frozen=True)
class Arrived:
    """What of the bars that came is to be stored.

    Attributes
    ----------
    years: calendar year of the close -> rows, with the columns of `VERSION` and the further ones.
    counts: new, repeated, corrected, late (also among the new), unfinished.
    symbols: symbol -> asset class, of those that the store did not have.
    columns: further columns. problems: what must be said.
    """

    years: Mapping[int, pl.DataFrame]
    counts: Mapping[str, int]
    symbols: Mapping[str, str]
    columns: tuple[str, ...]
    problems: tuple[str, ...] = ()


class History:
    """The bars of a store as its state names them.

    `state` gives the state in force whenever it is asked; `came` the artefacts with which all bars came, in order, from
    which a year that was brought together and is damaged is read instead, with a warning.
    """

    def __init__(
        self, artefacts: Artefacts, state: Callable[[], State], came: Callable[[], Iterable[BarsPart]]
    ) -> None:  # fmt: skip
        self._artefacts, self._state, self._came = artefacts, state, came
        self._frames: dict[tuple[str, int | None], pl.DataFrame] | None = None  # that were read, within `read_once`

    @contextlib.contextmanager
    def read_once(self) -> Iterator[None]:
        """For as long as it lasts an artefact that was read and checked is not read again: nobody else may write."""
        self._frames = {}
        try:
            yield
        finally:
            self._frames = None

    def of_state(self, state: State) -> History:
        """The bars as another state names them; what was read once is not read again."""
        other = History(self._artefacts, lambda: state, self._came)
        other._frames = self._frames
        return other

    def versions(self, since: datetime | None = None, years: Iterable[int] | None = None) -> pl.DataFrame:
        """Every version of every row, sorted by symbol, time, known_at and record.

        `since`: of rows that close at it or later; earlier years are not read. `years`: of these calendar years alone.
        What came while the clock was ahead is known by the moment of the record that says so, or by its close if that
        is later.
        """
        rows = self._stored(since, years)
        for clock in self._state().clocks:
            right = pl.max_horizontal("time", pl.lit(datetime.fromisoformat(clock.now)).cast(TIME))
            before = pl.col("record") < clock.record
            rows = rows.with_columns(
                known_at=pl.when(before).then(pl.min_horizontal("known_at", right)).otherwise("known_at")
            )
        return rows.sort(ORDER) if self._state().clocks else rows

    def _stored(self, since: datetime | None = None, years: Iterable[int] | None = None) -> pl.DataFrame:
        """The versions as the artefacts have them."""
        wanted = None if years is None else set(years)
        parts = [
            part for part in self._state().bars
            if (since is None or part.year >= since.astimezone(UTC).year) and (wanted is None or part.year in wanted)
        ]  # fmt: skip
        frames = [frame for part in parts for frame in self._whole(part)]
        further = dict.fromkeys(self._state().columns, pl.Float64)
        empty = pl.DataFrame(schema={**VERSION, **further, **RECORD})
        found = _sorted(pl.concat([empty, *frames], how="diagonal"))
        return found if since is None else found.filter(pl.col("time") >= since)

    def as_of(self, moment: datetime, since: datetime | None = None, record: int | None = None) -> pl.DataFrame:
        """The Bars frame as it was known at a moment: of each symbol and close the version known last by then.

        `since`: see `versions`; segments are numbered from there. `record`: of what had come by this record alone.
        Raises `StoreError` for bars that are none.
        """
        return self._as_of(self.versions(since), moment, record)

    def for_chain(self, moment: datetime, record: int | None = None) -> pl.DataFrame:
        """As `as_of`, each row known since its first version: a correction changes a row, not when it was there.

        Bars that wait are not there, those that did are known since they do no more; all are on the level of the first.
        """
        rows = self.versions()
        now = self._as_of(rows, moment, record)
        first = rows.filter(_differs_from(1) & ~_differs_from(-1)).select(*KEYS, _first="known_at")  # of several
        joined = now.join(first, on=KEYS, how="left", maintain_order="left")
        joined = joined.with_columns(known_at=pl.min_horizontal("known_at", "_first")).drop("_first")
        return on_one_level(self._without_waiting(joined, moment, record), self.actions_as_of(moment))

    def closes_by_record(self, issued: pl.DataFrame, moment: datetime) -> pl.DataFrame:
        """symbol, time, close of rows as known when something was issued of them, on the level of `for_chain`.

        `issued`: symbol, time and the number of the `record` that issued it. Later versions, and rows that came later,
        are left out.
        """
        rows = self.versions().join(issued.rename({"record": "_issued"}), on=KEYS, maintain_order="left")
        then = _last(rows.filter(pl.col("record") <= pl.col("_issued")).drop("_issued"))
        return on_one_level(self._bars(then), self.actions_as_of(moment)).select(*KEYS, "close")

    def waiting(self, moment: datetime) -> pl.DataFrame:
        """The bars that wait, as of a moment, on the level of `for_chain`."""
        waiting = self._state().waiting
        rows = self.versions(None if waiting else moment)  # without one that waits of no row
        own = [self._waits_since(one) for one in waiting.values()]
        now = self._as_of(rows.filter(pl.col("symbol").is_in([*waiting])), moment, None)
        return on_one_level(now.filter(pl.any_horizontal(pl.lit(False), *own)), self.actions_as_of(moment))

    def _as_of(self, versions: pl.DataFrame, moment: datetime, record: int | None) -> pl.DataFrame:
        refuse_naive(moment)
        rows = versions.filter(pl.col("known_at") <= moment)
        if record is not None:
            rows = rows.filter(pl.col("record") <= record)
        return self._bars(_last(_without_repeats(rows, self._state().columns)))

    def first_known(self, since: datetime | None = None) -> pl.DataFrame:
        """The Bars frame of each row's first version, on the level of splits that were known then."""
        rows = self._without_waiting(self._bars(_first(self.versions(since))), datetime.max.replace(tzinfo=UTC))
        for (known,), split in self.actions.filter(pl.col("kind").is_in(LEVELS)).group_by("known_at"):
            then = pl.col("known_at") >= known
            rows = pl.concat([rows.filter(~then), on_one_level(rows.filter(then), split)]).sort(KEYS)
        return rows

    @property
    def told(self) -> pl.DataFrame:
        """All actions that were told, as they were written, whether they can be used or not."""
        name = self._state().actions
        return no_actions() if name is None else actions_of(self._artefacts, name)

    @property
    def actions(self) -> pl.DataFrame:
        """All actions that were told, as `market.actions.read_actions` gives them.

        Raises `StoreError` that names a row which is no action; `gatecast actions remove` takes it back.
        """
        table = self.told
        for row in table.iter_rows(named=True):
            kind, value = row["kind"], row["value"]
            fits = kind in KINDS and value is not None and KINDS[kind][0](value)
            terms = fits and not (kind in (*GIVES, *PAYS) and problem_of_terms(row))
            keys = kind not in LEVELS or None not in (row["symbol"], row["date"], row["known_at"])
            if not (terms and keys):
                what = f"its {cut(str(kind))} of {shown(row['symbol'])} on {row['date']}, {value}, is no action"
                back = "`gatecast actions remove` takes it back"
                raise self._artefacts.fault(str(self._state().actions), f"{what}: {back}")
        return table

    def actions_as_of(self, moment: datetime) -> pl.DataFrame:
        """Those of them that are known at a moment."""
        return self.actions.filter((pl.col("known_at") <= moment).fill_null(True))

    def _without_waiting(self, bars: pl.DataFrame, moment: datetime, record: int | None = None) -> pl.DataFrame:
        """The bars without those that wait at a moment; those that did are known since they do no more."""
        for one in self._state().waits:
            if record is not None and one.record > record:
                continue
            since = self._waits_since(one)
            if one.until is None or moment_of(one.until) > moment:
                bars = bars.filter(~since)
                continue
            if one.left_out:
                bars = bars.filter(~(since & self._is_left_out(one)))
            until = pl.lit(moment_of(one.until), TIME)
            bars = bars.with_columns(
                known_at=pl.when(since).then(pl.max_horizontal("known_at", until)).otherwise("known_at")
            )
        return bars

    def without_left_out(self, bars: pl.DataFrame) -> pl.DataFrame:
        """Raw bars without those that somebody said are no true ones."""
        wrong = [self._is_left_out(one) for one in self._state().waits if one.left_out]
        return bars.filter(~pl.any_horizontal(pl.lit(False), *wrong))

    def _waits_since(self, wait: Wait) -> pl.Expr:
        """Whether a row is the bar that waits, or a later one of its symbol."""
        return (pl.col("symbol") == wait.symbol) & (pl.col("time") >= pl.lit(moment_of(wait.time), TIME))

    def _is_left_out(self, wait: Wait) -> pl.Expr:
        """Whether a raw row is the bar that waited; a corrected one is another."""
        at = (pl.col("symbol") == wait.symbol) & (pl.col("time") == pl.lit(moment_of(wait.time), TIME))
        return at & _same(pl.col("open"), pl.lit(wait.opens))

    def _bars(self, rows: pl.DataFrame) -> pl.DataFrame:
        if rows.is_empty():
            further = [pl.lit(None, pl.Float64).alias(name) for name in self._state().columns]
            return rows.with_columns(segment=pl.lit(None, pl.Int32)).select(*COLUMNS, *further)
        segment = pl.col("starts").cast(pl.Int32).cum_sum().over("symbol")
        try:
            return make_bars(rows.with_columns(segment=segment).drop("starts", "record"))
        except BarsError as error:
            raise StoreError(f"the bars of the store cannot be used: {error}") from None

    def _whole(self, part: BarsPart) -> list[pl.DataFrame]:
        """The rows of an artefact; where it was brought together and is damaged, those it was made of."""
        try:
            return [self.read(part)]
        except StoreError as error:
            if part.record is not None:
                raise
            since = {one.record for one in self._state().bars if one.year == part.year}
            made_of = [one for one in self._came() if one.year == part.year and one.record not in since]
            frames = [self.read(one) for one in made_of]
            if sum(map(len, frames)) != part.rows:
                raise
            warnings.warn(
                f"the bars of {part.year} are read as they came, which takes longer: {error}", stacklevel=2
            )  # fmt: skip
            return frames

    def read(self, part: BarsPart) -> pl.DataFrame:
        """The rows of an artefact of bars. Raises `StoreError` for one that is none."""
        key, frames = (part.part, part.record), self._frames
        if frames is None:
            return self._checked(part)
        if key not in frames:
            frames[key] = self._checked(part)
        return frames[key]

    def _checked(self, part: BarsPart) -> pl.DataFrame:
        columns = VERSION if part.record is not None else {**VERSION, **RECORD}
        further = dict.fromkeys(self._state().columns, pl.Float64)
        frame = self._artefacts.table(part.part, {**columns, **further}, most_rows=PART_ROWS)
        if len(frame) != part.rows:
            raise self._artefacts.fault(part.part, f"it has {len(frame):,} rows, expected {part.rows:,}")
        if any(frame[name].null_count() for name in columns if name != "volume"):
            raise self._artefacts.fault(part.part, "it has a row with a missing value")
        if frame.filter(pl.col("time").dt.year() != part.year).height:
            raise self._artefacts.fault(part.part, f"it has rows of another year than {part.year}")
        return frame if part.record is None else frame.with_columns(pl.lit(part.record, pl.Int64).alias("record"))

    def arrived(self, bars: pl.DataFrame, now: datetime, stated: bool | None = None) -> Arrived:
        """What of a Bars frame that came at `now` is to be stored; nothing is written.

        `stated`: whether the source says when its rows became known; left out: where any `known_at` is not the close.

        Raises `BarsError` for a frame that is none, lacks a further column of the store's, or gives a symbol another
        asset class, and for a symbol longer than a store takes.
        """
        refuse_lacking(bars)
        refuse_naive(now)
        state = self._state()
        bars, problems = self._fitting(bars)
        stated = bool((bars["known_at"] != bars["time"]).any()) if stated is None else stated
        came = bars.filter(pl.col("time") <= now)
        counts = {"unfinished": len(bars) - len(came)}
        came = _with_starts(came).with_columns(pl.col("known_at").cast(TIME)).sort(KEYS)
        years = set(came["time"].dt.year().unique())
        before = self.versions(years={*years, *(year - 1 for year in years)})
        known = before.join(came.select(KEYS), on=KEYS, how="semi")
        new = came.join(known, on=KEYS, how="anti")
        late = self._late(before, new, now)
        if stated:  # row by row: one that says nothing is late in such a file, too
            late &= new["known_at"] == new["time"]
        if late.any():
            in_hand = self._in_hand(before, new, late, now)
            new = new.with_columns(known_at=pl.when(late).then(in_hand).otherwise("known_at"))
        other, repeated = self._other(came.join(known, on=KEYS, how="semi"), known, now, stated)
        counts |= {"new": len(new), "late": int(late.sum()), "corrected": len(other), "repeated": repeated}
        stored = pl.concat([new, other]).sort("symbol", "time", "known_at")
        parts = {int(year): frame for (year,), frame in stored.group_by(pl.col("time").dt.year())}
        fresh = dict(new.filter(~pl.col("symbol").is_in([*state.symbols])).select("symbol", "asset_class").iter_rows())
        columns = state.columns or tuple(name for name in bars.columns if name not in COLUMNS)
        return Arrived(dict(sorted(parts.items())), counts, dict(sorted(fresh.items())), columns, tuple(problems))

    def _fitting(self, bars: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
        """The frame with the columns that the store has, and what must be said of the others."""
        state, problems = self._state(), []
        further = [name for name in bars.columns if name not in COLUMNS]
        if state.bars:
            missing = [name for name in state.columns if name not in further]
            if missing:
                raise BarsError(
                    f"the store's bars have the columns {cut(', '.join(missing))}, the new ones do not: add them."
                )
            more = [name for name in further if name not in state.columns]
            if more:
                problems.append(
                    f"columns that the store does not have were left out: {cut(', '.join(more))}. A new store has them."
                )
            further = list(state.columns)
        odd = [name for name in further if name in (*VERSION, *RECORD)]
        if odd:
            raise BarsError(f"a further column may not be called {odd[0]!r}: the store needs this name. Rename it.")
        for symbol, name in bars.select("symbol", "asset_class").unique().sort("symbol", "asset_class").iter_rows():
            if fault := symbol_fault(symbol):
                raise BarsError(f"symbol = {shown(symbol)}: {fault}. Correct it.")
            if state.symbols.get(symbol, name) != name:
                raise BarsError(
                    f"{cut(symbol)!r} is of the class {name} in the new bars and {state.symbols[symbol]} in the store: "
                    "name its class as it is there (symbols file, asset_class), or make a new store with the right one."
                )
        return bars.select(*COLUMNS, *further), problems

    def _late(self, before: pl.DataFrame, new: pl.DataFrame, now: datetime) -> pl.Series:
        """(rows of `new`,) whether the row comes after the fill of its close, of a symbol that was in the store or of a
        close since something was issued; of a new symbol the newest row is in time.

        Rows before the symbol's first are its history, and not late. A newest bar may come until its exchange opens
        again, where the store has no later close of its class: decisions there were made without it.
        """
        if new.is_empty():
            return pl.Series("late", [], pl.Boolean)
        rows = _closes_of(before, new)
        fills = rows.with_columns(fill=deadlines(rows)).select(*KEYS, "fill")
        fill = new.join(fills, on=KEYS, how="left", maintain_order="left")["fill"]
        counts = new["symbol"].is_in([*self._state().symbols])
        if issued := self._issued():
            is_newest = new.select(pl.col("time") == pl.col("time").max().over("symbol")).to_series()
            counts |= (new["time"] > issued) & ~is_newest  # how long one bar is nobody knows
        late = ((fill < now) & counts).alias("late")
        if not late.any():
            return late
        stored = self.versions()
        newest = stored.group_by("asset_class").agg(_newest=pl.col("time").max())
        closed = new.join(newest, on="asset_class", how="left", maintain_order="left")
        passed = closed.select((pl.col("time") < pl.col("_newest")).fill_null(False)).to_series()
        if (late & ~passed).any():
            opens = rows.with_columns(until=orders_until(rows, self._state().calendars)).select(*KEYS, "until")
            late &= passed | (new.join(opens, on=KEYS, how="left", maintain_order="left")["until"] < now)
        begun = stored.group_by("symbol").agg(_begun=pl.col("time").min())
        first = new.join(begun, on="symbol", how="left", maintain_order="left")["_begun"]
        return (late & (new["time"] >= first).fill_null(True)).alias("late")

    def _issued(self) -> datetime | None:
        """When something was issued for the last time."""
        return max((datetime.fromisoformat(one.now) for one in self._state().issued), default=None)

    def _in_hand(self, before: pl.DataFrame, new: pl.DataFrame, late: pl.Series, now: datetime) -> pl.Series:
        """(rows of `new`,) from when on late rows were in hand, see the module's words."""
        rows = _closes_of(before, new)
        fills = rows.with_columns(_fill=fill_times(rows)).select(*KEYS, "_fill")
        in_time = new.filter(~late).group_by("symbol").agg(pl.col("time").max()).join(fills, on=KEYS)
        newest = new.select("symbol", "time").join(
            in_time.select("symbol", "_fill", _newest="time"), on="symbol", how="left", maintain_order="left"
        )
        counts = pl.col("time") < pl.col("_newest")
        if issued := self._issued():
            counts &= pl.col("_fill") > pl.lit(issued, TIME)
        came = pl.lit(now, TIME)
        return newest.select(pl.when(counts).then(pl.min_horizontal("_fill", came)).otherwise(came)).to_series()

    def _other(
        self, came: pl.DataFrame, known: pl.DataFrame, now: datetime, stated: bool
    ) -> tuple[pl.DataFrame, int]:  # fmt: skip
        """Of rows that the store has: those that say something else, with their `known_at`; and how many do not."""
        if came.is_empty():
            return came, 0
        values = [name for name in came.columns if name in (*PRICES, "volume", *self._state().columns)]
        then = known.select(*KEYS, "record", pl.col("known_at").alias("_known"), pl.col(values).name.prefix("_then_"))
        if not stated:
            in_force = _last(then.sort(*KEYS, "_known", "record"))
            both = came.join(in_force, on=KEYS, how="left", maintain_order="left")
            both = both.with_columns(known_at=pl.max_horizontal(pl.lit(now, TIME), "_known"))
        else:
            then = then.sort("_known", "record", maintain_order=True)
            both = came.sort("known_at").join_asof(
                then, left_on="known_at", right_on="_known", by=list(KEYS), check_sortedness=False
            )  # fmt: skip
        said_again = pl.col("_known").is_not_null() & pl.all_horizontal(
            _same(pl.col(name), pl.col(f"_then_{name}")) for name in values
        )
        other = both.filter(~said_again).select(came.columns)
        return other.sort(KEYS), len(came) - len(other)

    def compacted(self) -> list[tuple[int, pl.DataFrame]]:
        """Year -> all versions of its rows, where these are in several artefacts, in a new one or in a damaged one."""
        found = []
        for year in sorted({part.year for part in self._state().bars}):
            parts = [part for part in self._state().bars if part.year == year]
            if len(parts) > 1 or parts[0].record is not None or not self._artefacts.is_whole(parts[0].part):
                found.append((year, self._stored(years=[year])))
        return found


def refuse_naive(moment: datetime) -> None:
    """Raises `SettingsError` for a moment without time zone."""
    if moment.tzinfo is None:
        raise SettingsError(f"{moment} has no time zone: give a moment such as datetime(2024, 1, 2, tzinfo=UTC).")


def _closes_of(before: pl.DataFrame, new: pl.DataFrame) -> pl.DataFrame:
    """Symbol, asset class and time of each close that there is before or anew, by symbol and time."""
    rows = pl.concat([one.select("symbol", "asset_class", "time") for one in (before, new)])
    return rows.unique(KEYS, keep="first", maintain_order=True).sort(KEYS)


def _same(one: pl.Expr, other: pl.Expr) -> pl.Expr:
    near = (one - other).abs() <= SAME * pl.max_horizontal(one.abs(), other.abs())
    return (one == other).fill_null(False) | near.fill_null(False) | (one.is_null() & other.is_null())


def _sorted(rows: pl.DataFrame) -> pl.DataFrame:
    """Versions by symbol, time, known_at and record. Years follow each other: mostly the symbols alone are sorted."""
    found = rows.sort("symbol", maintain_order=True)
    symbol, time = pl.col("symbol"), pl.col("time")
    if found.select(((symbol != symbol.shift()) | (time > time.shift())).all()).item():
        return found
    return rows.sort(ORDER)


def _without_repeats(rows: pl.DataFrame, columns: tuple[str, ...]) -> pl.DataFrame:
    """Versions, sorted, without those that say the same as the version before them: their row was known before."""
    values = (*PRICES, "volume", *columns)
    repeated = pl.all_horizontal(_same(pl.col(name), pl.col(name).shift()) for name in values)
    return rows.filter(_differs_from(1) | ~repeated)


def _first(rows: pl.DataFrame) -> pl.DataFrame:
    """The first version of each row; `rows` sorted."""
    return rows.filter(_differs_from(1))


def _last(rows: pl.DataFrame) -> pl.DataFrame:
    """The last version of each row; `rows` sorted."""
    return rows.filter(_differs_from(-1))


def _differs_from(steps: int) -> pl.Expr:
    """Whether a version is of another symbol or close than the one so many places before it (after it: -1)."""
    return pl.any_horizontal(pl.col(key).ne_missing(pl.col(key).shift(steps)) for key in KEYS)


def _with_starts(bars: pl.DataFrame) -> pl.DataFrame:
    """Bars with `starts` in place of `segment`: where a segment starts that no gap starts."""
    if bars.is_empty():
        return bars.drop("segment").with_columns(starts=pl.lit(False))
    bars = bars.sort(KEYS)
    gaps = make_bars(bars.drop("segment"))["segment"]
    given = (pl.col("segment").diff() != 0).over("symbol")
    by_gap = (pl.col("_gap").diff() != 0).over("symbol")
    rows = bars.with_columns(_gap=gaps).with_columns(starts=(given & ~by_gap).fill_null(False))
    return rows.drop("segment", "_gap").cast({"volume": pl.Float64})


def parquet(frame: pl.DataFrame) -> bytes:
    """The bytes of a table; the same table gives the same bytes."""
    file = io.BytesIO()
    frame.write_parquet(file)
    return file.getvalue()
