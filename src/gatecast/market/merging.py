"""Two readings of the same symbols become one: the bars a run saw, and newer ones, with the checks of a single reading.

The run's bars stay as they are. A history that was re-based as a whole (a split, a dividend) is told by the bars that
both have: they differ by one factor, and the new bars are brought to the run's level. A step that looks like a split
and that no common bar explains is refused, as `read_bars` refuses it inside one file. Bars of another market under a
symbol of the run are refused by the bars that both have, see `refuse_other_market`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

import polars as pl

from gatecast.errors import BarsError
from gatecast.market.actions import read_splits
from gatecast.market.bars import COLUMNS, PRICES, SPLIT_TOLERANCE, findings, make_bars, session_date
from gatecast.market.calendar import fill_times
from gatecast.market.classes import ASSET_CLASSES
from gatecast.market.cleaning import FAR_OUT, refuse_mixed_spacing, refuse_splits
from gatecast.market.facts import facts_of
from gatecast.market.steps import Step, doubtful_steps
from gatecast.market.tables import Notes
from gatecast.market.universe import INSIDE

Kind = Literal[
    "new symbol", "no newer bar", "revised", "rescaled", "missing", "stale", "ended", "odd", "left out", "late",
    "not finite", "awaited", "old model", "other versions", "no variance", "no window", "doubtful bar", "outside",
]  # fmt: skip
CHANGED = 1e-9  # a relative difference beyond which a number is another one
PROVES = 3  # common bars that a factor must hold for, and how many of the latest are asked
ASKED = 60
ROUNDING = 0.01  # the largest relative error of a price that was rounded after it was re-based
LENGTH = 6  # new bars of a symbol that tell how long they are
DAY = timedelta(hours=20)  # a usual spacing of at least so much is of days or longer
AGREE = 0.9  # share of the common numbers that must have the factor; the others were revised besides
ALIKE = 0.25  # of the market's usual move, by which two readings of a close may differ
ALIKE_STEP = 0.05  # and two readings of a step, or the closes of a history that was re-based
VENDORS = 1e-4  # and by which they always may: the quotes of two sources
UNFINISHED = 4.0  # usual moves by which a close may differ where fewer than three bars are common: it may have gone on
SEAM, SEAM_LARGEST = (
    6.0,
    1.5,
)  # standard deviations, and largest known steps, by which bars without a common one may begin
TAIL = 150  # of the run's bars, enough for the trailing volatility that a new bar is compared with


@dataclass(frozen=True)
class DataProblem:
    """One thing to be said of new bars: its kind, the symbols it concerns (none: all of them), and a sentence."""

    kind: Kind
    symbols: tuple[str, ...]
    sentence: str


@dataclass(frozen=True)
class Merged:
    """The bars of both readings, what must be said of them, and `news`: the newer rows that the run's bars have not.

    `news` are later rows, rows that became known later, rows between, and rows with other numbers, on the run's level.
    `steps`: the bar of each symbol since which it waits; these rows are in `news` and not in `bars`.
    """

    bars: pl.DataFrame
    problems: tuple[DataProblem, ...]
    news: pl.DataFrame = field(default_factory=pl.DataFrame, repr=False)
    steps: tuple[Step, ...] = ()


def merge_bars(
    run_bars: pl.DataFrame,
    newer: pl.DataFrame,
    splits: str | pl.DataFrame | Literal[False] | None = None,
    actions: pl.DataFrame | None = None,
    *,
    corrections: Literal["left out", "kept"] = "left out",
    waiting: pl.DataFrame | None = None,
) -> Merged:
    """The run's bars and after them the newer ones of the same symbols, on the run's level.

    A row that the run had and that was not known by the fill of its newest close was never read: once it is known, the
    newer bars' row stands in its place.

    Parameters
    ----------
    run_bars: Bars frame that a run saw. newer: Bars frame that may repeat it; of what both have, the run's rows stay.
    splits: as `read_bars` takes it, and as the newer bars were read: splits after the run's last bar scale new bars
        that share none with the run; ratio 1 marks a true move; False: every step is a true move.
    actions: the delistings that are known: a symbol that has ended is not missing.
    corrections: what is said of common rows with other numbers: whoever keeps them as new versions finds them in
        `news`; in `bars` the run's stay.
    waiting: bars after the run's that wait already; None: a step that looks like a split is refused and waits not. With
        a frame, which may be empty, a symbol waits from such a step on, see `market.steps`.

    Returns
    -------
    Merged: `run_bars`, the later rows, and rows between that became known after those of `run_bars`; `problems` name
    what was revised, re-based, is missing, late, new or odd.

    Raises `BarsError` when no symbol is common, a column is missing, a class or the time of the closes is another one,
    the common bars of a symbol are another market's, or a step onto a new bar looks like a split.

    >>> from gatecast.market import synthetic
    >>> bars = synthetic.a1(300, seed=1)
    >>> half = bars.with_columns(pl.col("open", "high", "low", "close") / 2)
    >>> merged = merge_bars(bars[:290], half)
    >>> merged.bars["close"].equals(bars["close"]), [problem.kind for problem in merged.problems]
    (True, ['rescaled'])
    """
    problems: list[DataProblem] = []
    symbols = run_bars["symbol"].unique().sort().to_list()
    strange = tuple(sorted(set(newer["symbol"].unique()) - set(symbols)))
    newer = newer.filter(pl.col("symbol").is_in(symbols))
    if len(newer) == 0:
        raise BarsError(
            f"none of the run's symbols ({', '.join(symbols[:10])}) is among the bars"
            + (f" ({', '.join(strange[:10])})" if strange else "")
            + ": give a file with the same symbols, or name the symbol with --symbols."
        )
    missing = [name for name in run_bars.columns if name not in newer.columns]
    if missing:
        raise BarsError(f"the run's bars have the columns {', '.join(missing)}, the new ones do not: add them.")
    problems += new_symbols(strange)
    newer = newer.select(run_bars.columns)
    _refuse_other_reading(run_bars.select(COLUMNS), newer.select(COLUMNS))
    newer, rescaled, rounding = _on_the_runs_level(run_bars, newer, splits)
    newer, held, steps = _held_back(run_bars, newer, waiting, splits)
    refuse_other_market(run_bars, newer, least=PROVES)
    problems += rescaled
    late = _late(run_bars, newer)
    own = newer.join(late, on=["symbol", "time"], how="anti", maintain_order="left")
    changed = _changed(run_bars, own, rounding)
    problems += _revised(run_bars, own, changed, kept=corrections == "kept")
    unknown = newer.join(run_bars.select("symbol", "time"), on=["symbol", "time"], how="anti", maintain_order="left")
    came_late = newer.join(late, on=["symbol", "time"], how="semi", maintain_order="left")  # with the file's segments
    news = pl.concat([part.select(run_bars.columns) for part in (unknown, changed, came_late, held)])
    news = news.unique(["symbol", "time"], keep="first").sort("symbol", "time")
    problems += _of_bars(
        "late", late, "bars that the run could not read", "became known after it",
        "they are read from then on, what was issued before stays.",
    )  # fmt: skip

    last = run_bars.group_by("symbol").agg(_last=pl.col("time").max(), _before=pl.col("segment").max())
    added = newer.join(last, on="symbol").filter(pl.col("time") > pl.col("_last"))
    ended = set(facts_of(pl.concat([run_bars, added.select(run_bars.columns)]), actions).symbols_ended)
    problems += _missing(run_bars.select(COLUMNS), newer.select(COLUMNS), {*ended, *held["symbol"]})
    if len(late):
        run_bars = make_bars(pl.concat([run_bars.join(late, on=["symbol", "time"], how="anti"), late]))
    if len(added) == 0:
        refuse_other_market(run_bars, newer)
        nothing = () if len(held) else (DataProblem("no newer bar", (), _NO_NEWS),)
        return Merged(run_bars, (*problems, *nothing), news, steps)
    first = pl.col("segment").first().over("symbol")  # segments go on counting where the run's end
    added = added.with_columns(segment=(pl.col("_before") + pl.col("segment") - first).cast(pl.Int32))
    bars = make_bars(pl.concat([run_bars, added.select(run_bars.columns)]))
    told = bars if waiting is None else bars.join(_contradicted(run_bars, newer), on="symbol", how="semi")
    _refuse_steps(bars.join(last, on="symbol", maintain_order="left"), splits, told["symbol"].unique())
    refuse_other_market(run_bars, newer)  # of one or two common bars a split may be the better reason
    if waiting is None:
        _refuse_doubtful(run_bars, newer, splits)
    _refuse_seams(run_bars, newer, splits)
    return Merged(bars, (*problems, *_odd(bars, last), *_odd_cells(run_bars, added)), news, steps)


def _held_back(
    run_bars: pl.DataFrame, newer: pl.DataFrame, waiting: pl.DataFrame | None,
    splits: str | pl.DataFrame | Literal[False] | None,
) -> tuple[pl.DataFrame, pl.DataFrame, tuple[Step, ...]]:  # fmt: skip
    """The newer bars without those that wait, these, and the step since which each symbol does.

    A listed true move (ratio 1), and `splits=False`, wait not. Where the latest common bar is not on the run's level
    either, nothing waits, and the step is refused.
    """
    if waiting is None:
        return newer, newer.clear(), ()
    others = waiting.select(newer.columns).join(newer, on=["symbol", "time"], how="anti", maintain_order="left")
    rows = pl.concat([newer, others]).sort("symbol", "time")
    other = _contradicted(run_bars, newer).join(waiting, on="symbol", how="anti")
    rows = rows.join(other, on="symbol", how="anti", maintain_order="left")
    steps = _steps(run_bars, rows, splits)
    since = pl.DataFrame(
        {"symbol": [one.symbol for one in steps], "_since": [one.time for one in steps]},
        schema={"symbol": pl.String, "_since": newer.schema["time"]},
    )
    placed = newer.join(since, on="symbol", how="left", maintain_order="left")
    waits = (pl.col("time") >= pl.col("_since")).fill_null(False)
    return placed.filter(~waits).select(newer.columns), placed.filter(waits).select(newer.columns), tuple(steps)


def _steps(
    run_bars: pl.DataFrame, newer: pl.DataFrame, splits: str | pl.DataFrame | Literal[False] | None
) -> list[Step]:  # fmt: skip
    """The newer bars that look like the first after a split, see `market.steps`, but for listed true moves."""
    true = read_splits(splits).filter(pl.col("value") == 1).select("symbol", "date").rows()
    found = [] if splits is False else doubtful_steps(run_bars, newer)
    return [one for one in found if (one.symbol, one.day) not in true]


def _refuse_doubtful(
    run_bars: pl.DataFrame, newer: pl.DataFrame, splits: str | pl.DataFrame | Literal[False] | None
) -> None:  # fmt: skip
    """Raises `BarsError` for a newer bar that looks like the first after a split, where nothing can wait."""
    for step in _steps(run_bars, newer, splits)[:1]:
        raise BarsError(
            f"the new bars do not go on from the run's: {step.sentence} List it in a table with the columns symbol, "
            f"date and ratio ({step.ratio:g}, or 1 for a true move): --splits FILE. Where all such steps are true "
            "moves say --splits false."
        )


def _contradicted(run_bars: pl.DataFrame, newer: pl.DataFrame) -> pl.DataFrame:
    """Symbols of which the latest common close is another one by more than the open after a split may be."""
    both = newer.sort("time").join(run_bars.select("symbol", "time", _was="close"), on=["symbol", "time"])
    latest = both.group_by("symbol").agg(((pl.col("close") / pl.col("_was")).log().abs()).last().alias("_apart"))
    return latest.filter(pl.col("_apart") > SPLIT_TOLERANCE).select("symbol")


def _late(run_bars: pl.DataFrame, newer: pl.DataFrame) -> pl.DataFrame:
    """Bars within the known ones' span that became known after these: the sessions were there, not the rows.

    A row of `run_bars` that is not known by the fill of the newest close counts as not there, since nothing has read
    it. Another bar that `run_bars` lacks is a correction, and stays out.
    """
    read = run_bars.filter(pl.col("known_at") <= fill_times(run_bars).max())
    own = _within(newer.filter(pl.col("known_at") > read["known_at"].max()), run_bars)
    own = own.join(read, on=["symbol", "time"], how="anti", maintain_order="left")
    before = run_bars.select("symbol", "time", _segment="segment").sort("time")
    placed = own.sort("time").join_asof(before, on="time", by="symbol", strategy="backward", check_sortedness=False)
    return placed.with_columns(segment=pl.col("_segment")).select(run_bars.columns).sort("symbol", "time")


def new_symbols(symbols: Sequence[str]) -> list[DataProblem]:
    """What is said of symbols that the run does not have; nothing where there are none."""
    if not symbols:
        return []
    said = (
        f"{names_of(symbols)} {'is' if len(symbols) == 1 else 'are'} not in the run and left out: nothing is forecast."
    )
    return [DataProblem("new symbol", tuple(symbols), f"{said} Make a run on bars that have them.")]


_NO_NEWS = "the file has no bar that is newer than the run's."


def names_of(symbols: Sequence[str], most: int = 10) -> str:
    """The symbols in quotes, of many the first ten and how many more."""
    more = f" and {len(symbols) - most} more" if len(symbols) > most else ""
    return ", ".join(repr(symbol) for symbol in symbols[:most]) + more


def _refuse_other_reading(run_bars: pl.DataFrame, newer: pl.DataFrame) -> None:
    """Raises `BarsError` where the newer bars were read in another way: another class, or other times of the closes."""
    kinds = run_bars.group_by("symbol").agg(pl.col("asset_class").last())
    other = newer.join(kinds, on="symbol", suffix="_known").filter(pl.col("asset_class") != pl.col("asset_class_known"))
    if len(other):
        row = other.row(0, named=True)
        raise BarsError(
            f"{row['symbol']!r} is of the class {row['asset_class_known']} in the run and {row['asset_class']} in the "
            "new bars: read them as the run's were (--symbols-file or --asset-class)."
        )
    usual = run_bars.group_by("symbol").agg(usual=pl.col("time").diff().median())
    _refuse_other_length(run_bars, newer, usual)
    day = session_date(pl.col("time")).alias("day")
    same_days = run_bars.filter(day.is_in(newer.select(day.unique())["day"].implode()))
    sessions = same_days.join(usual.filter(pl.col("usual") >= DAY), on="symbol")
    closes = sessions.group_by("symbol", day).agg(close_known=pl.col("time").last())
    moved = newer.with_columns(day).join(closes, on=["symbol", "day"]).filter(pl.col("time") != pl.col("close_known"))
    if len(moved):
        row = moved.row(0, named=True)
        raise BarsError(
            f"the bar of {row['symbol']!r} on {row['day']} closes at {row['time']:%Y-%m-%d %H:%M} UTC in the new bars "
            f"and at {row['close_known']:%Y-%m-%d %H:%M} in the run: read them as the run's were (timezone, stamp, "
            "symbols file)."
        )
    _refuse_crowded(run_bars, newer, usual)


def _refuse_other_length(run_bars: pl.DataFrame, newer: pl.DataFrame, usual: pl.DataFrame) -> None:
    """Raises `BarsError` for bars of another length than the known ones; `usual`: symbol, usual spacing of these.

    Bars that both have say nothing by their spacing, since a file of corrections has any; nor do bars that came late,
    each a usual step after a known one. Six or more other bars do; and common bars of which each has the highest high
    and the lowest low of all known ones since the common bar before.
    """
    keys = ["symbol", "time"]
    first = newer.group_by("symbol").agg(_first=pl.col("time").min())
    following = pl.col("time").shift(-1).over("symbol")
    run_bars = run_bars.join(first, on="symbol", maintain_order="left").filter(
        (pl.col("time") >= pl.col("_first")) | (following >= pl.col("_first")).fill_null(True)
    )  # rows before the newest one before them are beside none of them
    own = newer.select(*keys, "high", "low").join(usual, on="symbol").sort(*keys)
    every = pl.concat([run_bars.select(keys), newer.select(keys)]).unique().sort(*keys)
    beside = every.with_columns(beside=pl.col("time").diff().over("symbol"))
    unknown = own.with_columns(step=pl.col("time").diff().over("symbol"))
    unknown = unknown.join(run_bars.select(keys), on=keys, how="anti").join(beside, on=keys)
    told = unknown.group_by("symbol").agg(
        pl.len(), pl.col("usual").first(), now=pl.col("step").median(), beside=pl.col("beside").median()
    )  # fmt: skip
    fits = pl.col("beside").is_between(pl.col("usual") * 0.75, pl.col("usual") * 2)
    other = (pl.col("now") < pl.col("usual") / 2) | ((pl.col("now") > pl.col("usual") * 2) & ~fits)
    for rows in (
        told.filter(other, pl.col("len") >= LENGTH),
        _spans(run_bars, own.join(run_bars.select(keys), on=keys, how="semi")),
    ):
        if len(rows):
            raise BarsError(_other_length(**rows.sort("symbol").row(0, named=True)))


def _other_length(symbol: str, now: timedelta, usual: timedelta, **_: Any) -> str:
    return (
        f"the new bars of {symbol!r} are {now} long, the run's {usual}: give bars of the same length, or read them "
        "with the run's --resample."
    )


def _refuse_crowded(run_bars: pl.DataFrame, newer: pl.DataFrame, usual: pl.DataFrame) -> None:
    """Raises `BarsError` for several newer bars in one session, of a symbol that has one bar a session."""
    daily = newer.join(usual.filter(pl.col("usual") >= DAY), on="symbol").with_columns(day=session_date(pl.col("time")))
    unknown = daily.join(run_bars.select("symbol", "time"), on=["symbol", "time"], how="anti")
    counted = unknown.sort("symbol", "time").group_by("symbol", "day", maintain_order=True).agg(
        pl.len(), pl.col("usual").first(), now=pl.col("time").diff().median()
    )  # fmt: skip
    crowded = counted.filter(pl.col("len") > 1)
    if len(crowded):
        raise BarsError(_other_length(**crowded.row(0, named=True)))


def _spans(run_bars: pl.DataFrame, both: pl.DataFrame) -> pl.DataFrame:
    """Symbols whose common bars are each as wide as all known ones since the common bar before: symbol, now, usual."""
    marks = both.select("symbol", "time", mark="time", widest="high", lowest="low").sort("time")
    known = run_bars.select("symbol", "time", "high", "low").sort("time")
    each = known.join_asof(marks, on="time", by="symbol", strategy="forward", check_sortedness=False)
    within = each.drop_nulls("mark").group_by("symbol", "mark").agg(
        pl.len(), pl.col("high").max(), pl.col("low").min(), pl.col("widest", "lowest").first()
    )  # fmt: skip
    within = within.sort("symbol", "mark").with_columns(now=pl.col("mark").diff().over("symbol")).drop_nulls("now")
    as_wide = (pl.col("widest") >= pl.col("high") * (1 - CHANGED)) & (pl.col("lowest") <= pl.col("low") * (1 + CHANGED))
    found = within.filter(pl.col("len") > 1).group_by("symbol").agg(
        as_wide.mean().alias("wide"), bars=pl.len(), now=pl.col("now").median()
    )  # fmt: skip
    found = found.filter(pl.col("bars") >= LENGTH - 1, pl.col("wide") >= AGREE)
    return found.join(both.select("symbol", "usual").unique("symbol"), on="symbol")


def refuse_other_market(run_bars: pl.DataFrame, newer: pl.DataFrame, *, least: int = 1) -> None:
    """Raises `BarsError` for a symbol whose newer bars are another market's than the known ones: by the common closes.

    A common bar agrees where its close differs from the known one by at most a quarter of the market's usual move (the
    mean absolute log step of the common bars), or its step from the common bar before by a twentieth; a hundredth of a
    percent always may. Fewer than half that agree, of all common bars or of the latest 60, are another market:
    corrections explain no more. Fewer than three common bars have no steps to go by; their closes may differ by four
    usual moves, as that of an unfinished bar; a larger correction is taken where unchanged bars come with it. Nothing
    is said of a symbol with fewer than `least` common bars. A level that changed as a whole is no other market.

    >>> from gatecast.market import synthetic
    >>> one, other = (synthetic.a1(300, seed=seed).with_columns(symbol=pl.lit("A")) for seed in (1, 2))
    >>> refuse_other_market(one, one.with_columns(pl.col("close") * 1.0005))
    >>> refuse_other_market(one, other)
    Traceback (most recent call last):
        ...
    gatecast.errors.BarsError: ...
    """
    both = _common_bars(run_bars, newer)
    last = pl.int_range(pl.len()).reverse().over("symbol") < ASKED
    fewer = pl.col("agrees").sum() < (pl.col("agrees") | pl.col("moves")).sum().clip(lower_bound=1) / 2
    other = pl.concat(
        [part.group_by("symbol").agg(fewer.alias("other"), pl.len()) for part in (both, both.filter(last))]
    )
    names = other.filter("other", pl.col("len") >= least)["symbol"].unique().sort().to_list()
    if not names:
        return
    own = both.filter(pl.col("symbol") == names[0])
    wrong = own.filter(~pl.col("agrees"))
    first, newest = (
        f"{row['time']:%Y-%m-%d %H:%M} UTC (close {row['close']:.6g}, the run has {row['was']:.6g})"
        for row in (wrong.row(0, named=True), wrong.row(-1, named=True))
    )
    several = f" ({len(names)} symbols are: {names_of(names)})" if len(names) > 1 else ""
    more = PROVES - 1
    few = (
        f"Where they are corrections, give {more} or more unchanged bars of {names[0]!r} with them. "
        if len(own) < PROVES  # so few show no market
        else ""
    )
    raise BarsError(
        f"the new bars of {names[0]!r} are another market's than the run's{several}: of {len(own)} common bars "
        f"{len(wrong)} disagree, from {first} to {newest}. Expected are closes within {own['room'][0]:.2%} of the "
        "run's, or the same steps, on half of them, once a split or another adjustment of the whole history is undone. "
        f"{few}Give the bars of the market that the run saw, leave the symbol out with --symbols, or make a new run on "
        "these bars."
    )


def _common_bars(run_bars: pl.DataFrame, newer: pl.DataFrame) -> pl.DataFrame:
    """The bars that both have: symbol, time, close, `was` (the known close), `room` (by which the closes may differ),
    `agrees`, and `moves` (whether the market did, so that a like step shows something)."""
    run_bars, newer = run_bars.select(COLUMNS), newer.select(COLUMNS)
    usual = run_bars.group_by("symbol").agg(usual=pl.col("close").log().diff().abs().mean().fill_null(0.0))
    both = newer.join(run_bars.select("symbol", "time", was="close"), on=["symbol", "time"]).join(usual, on="symbol")
    many = pl.len().over("symbol") >= PROVES
    both = both.sort("symbol", "time").with_columns(
        step=pl.col("close").log().diff().over("symbol"), moved=pl.col("was").log().diff().over("symbol")
    )
    move = pl.when(many).then(pl.col("moved").abs().mean().over("symbol")).otherwise("usual")
    near = pl.max_horizontal(move * ALIKE_STEP, VENDORS)
    both = both.with_columns(
        room=pl.max_horizontal(move * pl.when(many).then(ALIKE).otherwise(UNFINISHED), VENDORS),
        moves=(many & (pl.col("moved").abs() > near)).fill_null(False),
        like=((pl.col("step") - pl.col("moved")).abs() <= near).fill_null(False),
    )
    level = (pl.col("close") / pl.col("was")).log().abs() <= pl.col("room")
    return both.select(
        "symbol", "time", "close", "was", "room", "moves", agrees=level | (pl.col("moves") & pl.col("like"))
    )


def _refuse_seams(
    run_bars: pl.DataFrame, newer: pl.DataFrame, splits: str | pl.DataFrame | Literal[False] | None
) -> None:
    """Raises `BarsError` for a symbol without a common bar whose newer bars begin far from the run's last close.

    Far is more than six standard deviations of the run's log steps, times the root of the bars that fit in between, and
    more than 1.5 times its largest step: a crash that size is possible, and shown by one common bar. A listed true move
    (ratio 1), or `splits=False`, allows it. Steps of a split are refused before.
    """
    if splits is False:
        return
    step = pl.col("close").log().diff()
    known = run_bars.group_by("symbol").agg(
        last=pl.col("time").max(), was=pl.col("close").last(), spread=step.std(), largest=step.abs().max(),
        usual=pl.col("time").diff().median(),
    )  # fmt: skip
    shared = newer.join(run_bars.select("symbol", "time"), on=["symbol", "time"], how="semi")["symbol"].unique()
    first = newer.sort("time").group_by("symbol").agg(pl.col("time", "open").first())
    seams = first.join(known, on="symbol").filter(~pl.col("symbol").is_in(shared.implode()))
    between = ((pl.col("time") - pl.col("last")) / pl.col("usual")).clip(lower_bound=1.0)
    move = (pl.col("open") / pl.col("was")).log().abs()
    far = move > pl.max_horizontal(pl.col("spread") * SEAM * between.sqrt(), pl.col("largest") * SEAM_LARGEST)
    true = read_splits(splits).filter(pl.col("value") == 1).select("symbol", day="date")
    seams = seams.filter(far, pl.col("time") > pl.col("last")).with_columns(
        day=session_date(pl.col("time")), times=move / pl.col("spread")
    )
    seams = seams.join(true, on=["symbol", "day"], how="anti").sort("symbol")
    if len(seams):
        row = seams.row(0, named=True)
        raise BarsError(
            f"the new bars of {row['symbol']!r} begin at {row['open']:.6g} on {row['day']}, the run's end at "
            f"{row['was']:.6g} on {row['last']:%Y-%m-%d}, and no bar is common: that is {row['times']:.0f} standard "
            "deviations of a step, as of another market. Give a file that repeats some of the run's bars, or list the "
            "move with ratio 1 (--splits)."
        )


# ── one factor for a whole history ────────────────────────────────────────────────────────────────


def _on_the_runs_level(
    run_bars: pl.DataFrame, newer: pl.DataFrame, splits: str | pl.DataFrame | Literal[False] | None
) -> tuple[pl.DataFrame, list[DataProblem], dict[Any, float]]:
    """The newer bars divided by each symbol's factor, a problem a symbol that has one, and the rounding of each."""
    keys = ("symbol", "time", *PRICES, "volume")
    both = newer.select(keys).join(run_bars.select(keys), on=["symbol", "time"], suffix="_known")
    last = run_bars.group_by("symbol").agg(last=session_date(pl.col("time").max()))
    ends = dict(last.iter_rows())
    problems, price, volume, rounding, proven = [], {}, {}, {}, set()
    for (symbol,), own in both.sort("time").group_by("symbol", maintain_order=True):
        found = _factor(own.tail(ASKED), PRICES)
        if found is not None:
            proven.add(symbol)
        if found is None or abs(found[0] - 1) <= CHANGED:
            continue
        price[symbol], rounding[symbol] = found
        volume[symbol] = (_factor(own.tail(ASKED), ("volume",)) or (1.0, 0.0))[0]
        problems.append(
            DataProblem(
                "rescaled", (str(symbol),),
                f"the prices of {symbol!r} were re-based since the run: the latest {min(len(own), ASKED)} common bars "
                f"are {found[0]:.6g} times the run's. The new bars are divided by it (volume by {volume[symbol]:.6g}).",
            )
        )  # fmt: skip
    for symbol, day, ratio in read_splits(splits).select("symbol", "date", "value").iter_rows():
        if symbol in ends and symbol not in proven and day > ends[symbol] and ratio != 1:
            price[symbol] = price.get(symbol, 1.0) / ratio
            volume[symbol] = volume.get(symbol, 1.0) * ratio
            said = f"the new bars of {symbol!r} are brought to the run's level by the split of {day}, ratio {ratio:g}."
            problems.append(DataProblem("rescaled", (symbol,), said))
    if not price:
        return newer, problems, rounding
    by = {
        name: pl.col("symbol").replace_strict(factors, default=1.0, return_dtype=pl.Float64)
        for name, factors in (("price", price), ("volume", volume))
    }
    return newer.with_columns(pl.col(PRICES) / by["price"], pl.col("volume") / by["volume"]), problems, rounding


def _factor(both: pl.DataFrame, columns: Sequence[str]) -> tuple[float, float] | None:
    """How many times the run's the common numbers are, and the relative rounding, if nine in ten agree; else None.

    Of a factor's distance from 1 a tenth may be rounding, at most 1 %; more than a twentieth of the usual move between
    two bars only where the numbers have so few decimals. Markets that move alike have no factor.
    """
    usable = pl.all_horizontal(pl.col(name).is_finite() & (pl.col(f"{name}_known") > 0) for name in columns)
    rows = both.filter(usable)
    if len(rows) < PROVES:
        return None
    ratio = pl.concat([(rows[name] / rows[f"{name}_known"]).alias("ratio") for name in columns])
    factor = float(ratio.median())  # type: ignore[arg-type]
    if factor <= 0:
        return None
    apart = (ratio / factor - 1).abs()
    rounding = float(apart.quantile(AGREE, "higher"))  # type: ignore[arg-type]
    usual = rows[f"{columns[-1]}_known"].log().diff().abs().mean() or 0.0
    few = sum(_half_step(rows[end]) for name in columns[-1:] for end in (name, f"{name}_known"))
    may = min(ROUNDING, abs(factor - 1) / 10, max(ALIKE_STEP * float(usual), few))  # type: ignore[arg-type]
    return (factor, rounding) if rounding <= max(CHANGED, may) else None


def _half_step(values: pl.Series) -> float:
    """The largest relative error of values that were rounded to the decimals that they have; 0 for more than eight.

    >>> _half_step(pl.Series([0.25, 0.5])), _half_step(pl.Series([1 / 3]))
    (0.02, 0.0)
    """
    digits = next((digits for digits in range(9) if (values.round(digits) == values).all()), None)
    least = values.filter(values > 0).min()
    return 0.0 if digits is None or least is None else 0.5 * 10**-digits / float(least)  # type: ignore[arg-type]


# ── what was revised, is missing, or odd ──────────────────────────────────────────────────────────


def _changed(run_bars: pl.DataFrame, newer: pl.DataFrame, rounding: dict[Any, float]) -> pl.DataFrame:
    """The common bars of `newer` with other numbers, and for each of these columns a further one, `_other_NAME`."""
    columns = _numbers_of(run_bars)
    then = run_bars.select("symbol", "time", pl.col(columns).name.prefix("_then_"))
    both = newer.join(then, on=["symbol", "time"])
    room = {symbol: max(CHANGED, 3 * share) for symbol, share in rounding.items()}
    limit = pl.col("symbol").replace_strict(room, default=CHANGED, return_dtype=pl.Float64)
    other = {}
    for name in columns:
        now, was = pl.col(name), pl.col(f"_then_{name}")
        apart = (now - was).abs() > limit * pl.max_horizontal(now.abs(), was.abs())
        other[f"_other_{name}"] = apart.fill_null(False) | (now.is_null() != was.is_null())
    return both.with_columns(**other).filter(pl.any_horizontal(*other))


def _numbers_of(bars: pl.DataFrame) -> list[str]:
    return [*PRICES, "volume", *bars.columns[len(COLUMNS) :]]


def _revised(
    run_bars: pl.DataFrame, newer: pl.DataFrame, changed: pl.DataFrame, *, kept: bool
) -> list[DataProblem]:  # fmt: skip
    """Common bars with other numbers, see `_changed`, and bars before the run's last that the run did not have.

    `kept`: whether these are kept as new versions.
    """
    which = ", ".join(name for name in _numbers_of(run_bars) if changed[f"_other_{name}"].any())
    what = f"differ from those the run saw ({which})"
    follows = "the run's are kept (revised_input). Run again to learn from the others."
    others = "they are left out (revised_input)."
    if kept:
        follows = others = "they are kept from now on (revised_input); what was issued stays."
    return [
        *_of_bars("revised", changed, "bars", what, follows),
        *_of_bars(
            "revised", _only_in(newer.select(COLUMNS), run_bars), "bars that the run did not have",
            "lie before its last one", others,
        ),
    ]  # fmt: skip


def _only_in(bars: pl.DataFrame, other: pl.DataFrame) -> pl.DataFrame:
    """The bars that `other` has not, between its first and its last bar of the symbol."""
    inside = _within(bars, other)
    return inside.join(other.select("symbol", "time"), on=["symbol", "time"], how="anti", maintain_order="left")


def _within(bars: pl.DataFrame, other: pl.DataFrame) -> pl.DataFrame:
    """The bars between the first and the last bar that `other` has of their symbol."""
    span = other.group_by("symbol").agg(begin=pl.col("time").min(), end=pl.col("time").max())
    return bars.join(span, on="symbol", maintain_order="left").filter(pl.col("time").is_between("begin", "end"))


def _of_bars(kind: Kind, bars: pl.DataFrame, noun: str, what: str, follows: str) -> list[DataProblem]:
    """The problem that these bars are, said with their number and the first of them; none where there are no bars."""
    if len(bars) == 0:
        return []
    row = bars.row(0, named=True)
    said = f"{len(bars)} {noun} {what}, the first {row['symbol']!r} {row['time'].isoformat()}: {follows}"
    return [DataProblem(kind, tuple(bars["symbol"].unique().sort()), said)]


def _missing(run_bars: pl.DataFrame, newer: pl.DataFrame, ended: Collection[str] = ()) -> list[DataProblem]:
    """Symbols that traded at the run's end and have no new reading, the run's bars that are gone, and holes between."""
    problems = []
    newest = pl.col("time").max()
    gap = pl.col("asset_class").last().replace_strict(
        {name: one.gap_limit for name, one in ASSET_CLASSES.items()}, return_dtype=pl.Duration("us")
    )  # fmt: skip
    span = run_bars.group_by("symbol").agg(
        pl.col("asset_class").last(), gap=gap, last=newest, longest=pl.col("time").diff().max()
    )
    alive = span.filter(pl.col("last") + pl.col("gap") >= pl.col("last").max().over("asset_class"))
    silent = tuple(alive.filter(~pl.col("symbol").is_in([*newer["symbol"].unique(), *ended]))["symbol"].sort())
    if silent:
        problems.append(DataProblem("missing", silent, f"the new bars have none of {names_of(silent)}."))
    gone = _only_in(run_bars, newer)
    problems += _of_bars("missing", gone, "of the run's bars", "are not in the new file", "the run's are kept.")
    after = newer.join(span, on="symbol").filter(pl.col("time") > pl.col("last"))
    hole = after.group_by("symbol").agg(pl.col("time").min(), pl.col("last", "longest").first())
    hole = hole.filter(pl.col("time") - pl.col("last") > pl.col("longest")).sort("symbol")
    for row in hole.iter_rows(named=True):
        said = (
            f"{row['symbol']!r} has no bar between {row['last']:%Y-%m-%d %H:%M} and {row['time']:%Y-%m-%d %H:%M} UTC: "
            "longer than any pause of the run's bars. Give the bars between."
        )
        problems.append(DataProblem("missing", (row["symbol"],), said))
    return problems


def _refuse_steps(
    bars: pl.DataFrame, splits: str | pl.DataFrame | Literal[False] | None, symbols: pl.Series
) -> None:  # fmt: skip
    """`read_bars`' refusals of a split that nobody listed and of bars of another length, from the run's last bar on.

    `symbols`: those of which a split is refused.
    """
    placed = bars.with_columns(_table=pl.lit(0), _line=pl.lit(None, pl.Int64))
    notes = Notes((None,))
    try:
        if splits is not False:
            own = placed.filter(pl.col("time") >= pl.col("_last"), pl.col("symbol").is_in(symbols.implode()))
            refuse_splits(own, read_splits(splits), notes)
        refuse_mixed_spacing(placed, notes)
    except BarsError as error:
        raise BarsError(
            f"the new bars do not go on from the run's: {error} A file that repeats some of the run's bars shows "
            "whether its history was re-based."
        ) from None


def _odd(bars: pl.DataFrame, last: pl.DataFrame) -> list[DataProblem]:
    """What `findings` says of single new bars: extreme returns, gaps, jumps of level."""
    ends = dict(last.select("symbol", "_last").iter_rows())
    placed = bars.join(last, on="symbol", maintain_order="left")
    new = pl.col("time") > pl.col("_last")
    recent = placed.filter(pl.int_range(pl.len()).over("symbol") >= (~new).sum().over("symbol") - TAIL)
    return [
        DataProblem(
            "odd", (one.symbol,), f"{one.symbol!r} {one.time.isoformat()}: {one.rule} {one.value:.4g}. {one.advice}"
        )
        for one in findings(recent.select(bars.columns))
        if one.rule in ("extreme", "gap", "level_jump") and one.symbol and one.time and one.time > ends[one.symbol]
        and isinstance(one.value, float)
    ]  # fmt: skip


def _odd_cells(run_bars: pl.DataFrame, added: pl.DataFrame) -> list[DataProblem]:
    """Newer cells of further columns far from all known ones of the symbol, see `cleaning.FAR_OUT`, or unlike them all.

    A column that stood still on all known bars taught nothing, and every other value is unlike them. One problem for a
    symbol and column, with its first cell.
    """
    problems = []
    for name in (name for name in run_bars.columns[len(COLUMNS) :] if name != INSIDE):
        cell = pl.col("_cell")
        known, newer = (bars.select("symbol", "time", _cell=pl.col(name)) for bars in (run_bars, added))
        usual = known.filter(cell.is_not_null()).group_by("symbol").agg(
            middle=cell.median(), spread=1.4826 * (cell - cell.median()).abs().median(), still=cell.min() == cell.max()
        )  # fmt: skip
        away = (cell - pl.col("middle")).abs()
        far = pl.when("still").then(away > 0).otherwise((pl.col("spread") > 0) & (away > FAR_OUT * pl.col("spread")))
        rows = newer.join(usual, on="symbol").filter(far).sort("symbol", "time")
        for row in rows.unique("symbol", keep="first", maintain_order=True).iter_rows(named=True):
            what = (
                f"and was {row['middle']:.6g} on all bars before: what was learned says nothing of it."
                if row["still"] else f"more than {FAR_OUT} robust standard deviations from its median, "
                f"{row['middle']:.6g}: another unit, or a code for a missing value?"
            )  # fmt: skip
            said = f"{row['symbol']!r} {row['time'].isoformat()}: the column {name!r} is {row['_cell']:.6g}, {what}"
            problems.append(DataProblem("odd", (row["symbol"],), said))
    return problems
