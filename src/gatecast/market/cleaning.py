"""Rows that cannot be bars are left out, and those that say how are adjusted: each time with a finding.

Rows carry `table` and `line`, so that every refusal and every finding names its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Literal

import polars as pl

from gatecast.market.bars import FURTHER_LIMITS, INTERNAL, PRICES, newest_known, odd_scale, session_date, split_ratio
from gatecast.market.tables import Notes

Versions = Literal["first", "newest"]

WIDEN_LIMIT = 0.05  # a settlement so far outside the traded range widens it; further out is a bad bar
SPIKE_LIMIT = 5.0  # a low under a fifth of open and close, or a high over five times both, is a bad bar
PRICE_LIMITS = (1e-10, 1e10)
FAR_OUT = 50  # robust standard deviations from the median, beyond which a cell of a further column is told
PLACE = ("symbol", "time", "_table", "_line")  # what a finding shows of a row
BAD_SHARE, BAD_MIN = 0.05, 5  # a larger share of bad bars refuses the symbol, from so many bad bars on


def without_repeats(rows: pl.DataFrame, notes: Notes, versions: Versions = "first") -> pl.DataFrame:
    """One row a bar: exact repeats dropped, versions told apart by known_at, other values refused.

    `versions`: of several versions of a row the "first" known stays, which forecasts could use, or the "newest". A
    version that cannot be a bar (see `quarantine`) is none where another one can: the first sound version counts, as of
    its own `known_at`.
    """
    content = [name for name in rows.columns if name not in ("_table", "_line", "segment")]
    repeated = ~pl.struct(content).is_first_distinct()
    notes.add_counts("info", "duplicate", rows.filter(repeated), "Rows that repeat another are dropped.")
    once = rows.unique(content, keep="first", maintain_order=True)
    clash = once.filter(once.select("symbol", "time", "known_at").is_duplicated())
    if clash.height:
        first, second = clash.row(0, named=True), clash.row(1, named=True)
        column = next(name for name in content if first[name] != second[name])
        count = clash.filter(symbol=first["symbol"], time=first["time"]).height
        shorter = " Where bars are shorter than a day, give times of day beside the dates." * (count > 2)
        notes.refuse(
            second,
            f"line {first['_line']} has {first[column]} for the same symbol {first['symbol']!r} and time"
            f" {first['time']}.",
            f"Keep one of them, or add a column known_at that says which came later.{shorter}",
            column,
            second[column],
        )
    once = once.sort("symbol", "time", "known_at", maintain_order=True)
    once = once.with_columns(_rule_of(rows=once).alias("_rule"))
    unsound = pl.col("_rule").is_not_null() & pl.col("_rule").is_null().any().over("symbol", "time")
    advice = "Versions of rows that cannot be bars are left out; a sound version counts, once it is known."
    notes.add_counts("warning", "bad_version", once.filter(unsound), advice)
    once = once.filter(~unsound).drop("_rule")
    revisions = once.filter(~once.select(pl.struct("symbol", "time").is_first_distinct()).to_series())
    if versions == "first":
        advice = "Rows with later versions: the first known is read; as_of= or versions='newest' read later ones."
        notes.add_counts("info", "revised", revisions, advice)
        return once.unique(["symbol", "time"], keep="first", maintain_order=True)
    advice = "Rows of which the newest version is read: nothing before its known_at may use it."
    notes.add_counts("warning", "revised", revisions, advice)
    return newest_known(once).sort("symbol", "time", maintain_order=True)


def refuse_mixed_spacing(rows: pl.DataFrame, notes: Notes) -> None:
    """Bars of a symbol have one length: four steps in a row under half the usual one, or five of a coarser
    kind (a day, a week, four times the usual), are other bars."""
    step, usual = pl.col("_step"), pl.col("_usual")
    coarser = (
        pl.when(usual < timedelta(hours=20)).then(timedelta(hours=20))
        .when(usual < timedelta(days=4)).then(timedelta(days=5))
        .otherwise(usual * 4)
    )  # fmt: skip
    table = rows.with_columns(pl.col("time").diff().over("symbol").alias("_step"))
    table = table.with_columns(step.mode().min().over("symbol").alias("_usual")).with_columns(
        (step.rolling_max(4).over("symbol") < usual / 2).alias("_finer"),
        (step.rolling_min(5).over("symbol") >= coarser).alias("_coarser"),
    )
    other = (
        table.with_row_index("_at").filter("_finer").head(1),
        table.with_row_index("_at").filter("_coarser").head(1),
    )
    for found, back in zip(other, (3, 4), strict=True):
        if found.height:
            row = table.row(found["_at"][0] - back, named=True)
            problem = f"this bar of {row['symbol']!r} and the next are {row['_step']} long, most are {row['_usual']}."
            notes.refuse(row, problem, "Keep one length of bars in a series.", "time", str(row["time"]))


def _rules() -> list[tuple[str, str, pl.Expr, str]]:
    """What a bar cannot be: the rule's name, the column at fault, whether a row is at fault, and the fault in words."""
    low, high, volume, adjusted = (pl.col(name) for name in ("low", "high", "volume", "adjusted_close"))
    body_low, body_high = pl.min_horizontal("open", "close"), pl.max_horizontal("open", "close")
    outside = pl.max_horizontal(body_high / high, low / body_low) - 1
    rules: list[tuple[str, str, pl.Expr, str]] = []
    for name in PRICES:
        price = pl.col(name)
        rules += [
            ("missing_price", name, price.is_null(), "A price is missing."),
            ("not_finite", name, price.is_infinite(), "A price is infinite."),
            ("non_positive", name, price <= 0, "A price is not positive: log returns are undefined."),
            ("out_of_bounds", name, ~price.is_between(*PRICE_LIMITS), "A price is beyond 1e-10 to 1e10."),
        ]
    lacks_adjusted = adjusted.is_null() & adjusted.is_not_null().any().over("symbol")
    rules += [
        ("missing_price", "adjusted_close", lacks_adjusted, "The adjusted close is missing."),
        ("not_finite", "adjusted_close", adjusted.is_infinite(), "The adjusted close is infinite."),
        ("non_positive", "adjusted_close", adjusted <= 0, "The adjusted close is not positive."),
        ("high_below_low", "high", high < low, "The high is below the low."),
        ("outside_range", "close", outside > WIDEN_LIMIT, "Open or close is over 5 % outside high and low."),
        ("spike", "low", low * SPIKE_LIMIT < body_low, "The low is under a fifth of open and close."),
        ("spike", "high", high > body_high * SPIKE_LIMIT, "The high is over five times open and close."),
        ("bad_volume", "volume", (volume < 0) | volume.is_infinite(), "Volume is negative or infinite."),
    ]
    return rules


def _rule_of(rows: pl.DataFrame) -> pl.Series:
    """(rows,) the number of the first of `_rules` that a row breaks, null for a sound bar."""
    number = pl.lit(None, pl.Int32)
    for position, (_, _, fault, _) in reversed(list(enumerate(_rules()))):
        number = pl.when(fault).then(position).otherwise(number)
    return rows.select(number.alias("_rule")).to_series()


def quarantine(rows: pl.DataFrame, notes: Notes) -> pl.DataFrame:
    """Without the bars that cannot be true, each of which is a finding.

    A non-positive close starts a new segment. A symbol with more than 5 % (and five) of them, or nothing
    else, is refused.
    """
    rules = _rules()
    undefined = (pl.col("close") <= 0).fill_null(False).cum_sum()
    pieces = pl.col("segment").fill_null(0).rle_id() + undefined
    rows = rows.with_columns(_rule_of(rows), pieces.over("symbol").cast(pl.Int32).alias("segment"))
    bad = rows.filter(pl.col("_rule").is_not_null())
    total = dict(rows.group_by("symbol").len().iter_rows())
    for (symbol,), own in bad.group_by("symbol", maintain_order=True):
        row = own.row(0, named=True)
        _, column, _, problem = rules[row["_rule"]]
        if own.height == total[symbol] or own.height > max(BAD_SHARE * total[symbol], BAD_MIN):
            notes.refuse(
                row,
                f"{own.height} of the {total[symbol]} bars of {symbol!r} are bad; the first: {problem}",
                "Ask the vendor for sound prices, cut the bad years with start= or end=,"
                " or leave the symbol out with symbols=.",
                column,
                row[column],
            )
    for row in bad.iter_rows(named=True):
        rule, column, _, problem = rules[row["_rule"]]
        notes.add("error", rule, row, row[column], f"{problem} The bar is left out.")
    return rows.filter(pl.col("_rule").is_null()).drop("_rule")


def look_over(rows: pl.DataFrame, names: Sequence[str], notes: Notes) -> pl.DataFrame:
    """The rows with infinite cells of the further columns `names`, and those beyond 1e30 in size, emptied.

    These and cells far out are findings. Far out: more than 50 robust standard deviations (1.4826 times the median
    distance from the median) from the median of the symbol's column. A column with more than 5 % (and five) of its
    numbers beyond 1e30, or with none of 1e-13, is refused: nothing can be computed from it.
    """
    largest = FURTHER_LIMITS[1]
    cleaned = []
    for name in (name for name in names if not name.startswith(INTERNAL) and rows.schema[name].is_float()):
        cell = pl.col(name)
        own = rows.select(*PLACE, cell)
        advice = f"Infinite cells of the column {name!r}: read as empty."
        notes.add_counts("warning", "not_finite", own.filter(cell.is_infinite()), advice)
        own = own.with_columns(pl.when(cell.is_finite()).then(cell).alias(name))
        size = own[name].abs()
        beyond = own.filter(size > largest)
        few = beyond.height <= max(BAD_SHARE * size.count(), BAD_MIN)
        problem = odd_scale(own[name].filter(size <= largest) if few else own[name])
        if problem:
            row = own.row(size.arg_max() or 0, named=True)
            notes.refuse(row, f"the column {problem}", "", name, row[name])
        advice = f"Cells of the column {name!r} are beyond {largest:g}: read as empty."
        notes.add_counts("warning", "out_of_bounds", beyond, advice)
        own = own.with_columns(pl.when(cell.abs() <= largest).then(cell).alias(name))
        cleaned.append(own[name])
        distance = (cell - cell.median().over("symbol")).abs()
        spread = 1.4826 * distance.median().over("symbol")
        far = own.filter((spread > 0) & (distance > FAR_OUT * spread))
        for _, cells in far.group_by("symbol", maintain_order=True):
            row = cells.row(0, named=True)
            advice = (
                f"{cells.height} cell(s) of the column {name!r} lie more than {FAR_OUT} robust standard deviations from"
                " its median; this is the first: a code for a missing value, such as -9999? Empty the cell."
            )
            notes.add("warning", "far_out", row, row[name], advice)
    return rows.with_columns(cleaned)


def tell_ends(rows: pl.DataFrame, names: Sequence[str], notes: Notes) -> None:
    """Tells of further columns `names` that a symbol has no value of, or none any more; `rows` sorted, one a bar.

    A column has stopped where more bars at the symbol's end are empty than ever lay between two of its values.
    """
    places = rows.select(*PLACE, pl.int_range(pl.len()).over("symbol").alias("_at"))
    for name in (name for name in names if not name.startswith(INTERNAL)):
        given = places.with_columns(rows[name].is_not_null().alias("_given"))
        spans = given.group_by("symbol", maintain_order=True).agg(
            pl.len().alias("_bars"),
            pl.col("_at").filter("_given").max().alias("_last"),
            pl.col("_at").filter("_given").diff().max().fill_null(1).alias("_pause"),
        )
        never = pl.col("_last").is_null()
        spans = spans.filter(never | (pl.col("_bars") - pl.col("_last") > pl.col("_pause")))
        told = places.join(spans, on="symbol", maintain_order="left")
        for row in told.filter(pl.col("_at") == pl.col("_last").fill_null(0)).iter_rows(named=True):
            if row["_last"] is None:
                advice = f"The column {name!r} has no value on any bar: no forecast can read it."
                notes.add("warning", "column_empty", row, row["_bars"], advice)
                continue
            left = row["_bars"] - 1 - row["_last"]
            advice = (
                f"The column {name!r} has its last value here; the {left} bar(s) after it have none, and no forecast"
                " that reads it."
            )
            notes.add("warning", "column_ends", row, left, advice)


def adjust(rows: pl.DataFrame, splits: pl.DataFrame, notes: Notes) -> pl.DataFrame:
    """Prices scaled by the adjusted close over the close, then by splits, which scale volume too, and other units."""
    factor = (pl.col("adjusted_close") / pl.col("close")).fill_null(1.0)
    advice = "All four prices are scaled by the adjusted close over the close; volume is as it was."
    notes.add_counts("info", "adjusted", rows.filter((factor - 1).abs() > 1e-9), advice)
    rows = rows.with_columns(pl.col(PRICES) * factor)
    for symbol, kind, day, ratio in splits.select("symbol", "kind", "date", "value").iter_rows():
        before = (pl.col("symbol") == symbol) & (session_date(pl.col("time")) < day)
        if ratio != 1:
            by = ratio if kind == "split" else 1.0
            advice = f"Prices before {day} are divided by {ratio:g}" + (", volume multiplied." if by != 1 else ".")
            notes.add_counts("info", "split_applied", rows.filter(before), advice)
            divisor, multiple = (pl.when(before).then(one).otherwise(1.0) for one in (ratio, by))
            rows = rows.with_columns(pl.col(PRICES) / divisor, pl.col("volume") * multiple)
    far = rows.filter(~pl.all_horizontal(pl.col(PRICES).is_between(*PRICE_LIMITS)))
    if far.height:
        row = far.row(0, named=True)
        column = next(name for name in PRICES if not PRICE_LIMITS[0] <= row[name] <= PRICE_LIMITS[1])
        problem = f"after splits and the adjusted close, a price of {row['symbol']!r} is beyond 1e-10 to 1e10."
        notes.refuse(row, problem, "Correct the ratio of the split or the adjusted close.", column, row[column])
    return rows


def refuse_splits(rows: pl.DataFrame, splits: pl.DataFrame, notes: Notes) -> None:
    """A step that looks like a split has to be listed, with ratio 1 where it was a true move."""
    true_moves = splits.filter(pl.col("value") == 1).select("symbol", _session="date")
    previous = pl.col("close").shift().over("symbol")
    steps = rows.with_columns(
        split_ratio().alias("_ratio"),
        previous.alias("_previous"),
        session_date(pl.col("time")).alias("_session"),
        pl.col("time").diff().over("symbol").alias("_gap"),
    ).filter(pl.col("_ratio").is_not_null() & (pl.col("_gap") <= timedelta(days=10)))
    unexplained = steps.join(true_moves, on=["symbol", "_session"], how="anti", maintain_order="left")
    if unexplained.height:
        row = unexplained.row(0, named=True)
        many = f" (the first of {unexplained.height})" if unexplained.height > 1 else ""
        notes.refuse(
            row,
            f"{row['symbol']!r} steps from {row['_previous']:g} to {row['open']:g} on {row['_session']}: that"
            f" looks like a split with ratio {row['_ratio']:g} which the prices do not contain{many}.",
            "List it in a table with the columns symbol, date and ratio (1 for a true move): splits= in Python,"
            ' splits = "FILE" under [bars] in the settings, --splits FILE of the command. Where all such steps are true'
            " moves, say splits=False (splits = false, --splits false).",
            "open",
            row["open"],
        )


def widen(rows: pl.DataFrame, notes: Notes) -> pl.DataFrame:
    """High and low enclose open and close; before a symbol's first volume above 0 it has none. `rows` are sorted."""
    highest, lowest = pl.max_horizontal(PRICES), pl.min_horizontal(PRICES)
    outside = (highest > pl.col("high") * (1 + 1e-9)) | (lowest < pl.col("low") * (1 - 1e-9))
    advice = "Open or close lie up to 5 % outside high and low, which now include them."
    notes.add_counts("warning", "range_widened", rows.filter(outside), advice)
    traded = (pl.col("volume") > 0).fill_null(False).cum_max().over("symbol")
    volume = pl.when(traded).then("volume").alias("volume")
    return rows.with_columns(highest.alias("high"), lowest.alias("low"), volume)
