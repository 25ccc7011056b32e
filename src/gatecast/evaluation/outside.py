"""Forecasts, quantiles or daily profits of anybody's: a file or frame -> the table that evaluation reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from gatecast.errors import BarsFileError, SettingsError, cut
from gatecast.evaluation.record import LONGEST_HORIZON, TABLE_COLUMNS
from gatecast.market.bars import session_date
from gatecast.market.spellings import SPELLINGS, snake
from gatecast.market.tables import from_arrow, is_file, read_tables, shown_path
from gatecast.samples.targets import HEADS

PROFIT_NAMES = ("net", "profit", "pnl", "net_return", "strategy_return")
"""Names of the column of a file of daily profits."""
NAMES: Mapping[str, tuple[str, ...]] = {
    "symbol": SPELLINGS["symbol"], "time": SPELLINGS["time"], "model": ("model", "forecaster", "strategy"),
    "head": ("head", "task"), "step": ("step", "horizon", "bars_ahead"), "quantile": ("quantile", "q", "tau"),
    "value": ("value", "forecast", "prediction", "yhat", "y_hat"),
}  # fmt: skip
"""What is read of a file of forecasts -> the names that its column may have; earlier ones win."""
FORECASTS, QUANTILES, PROFITS = "forecasts", "quantiles", "profits"
READABLE = (pl.String, pl.Date, pl.Categorical, pl.Boolean, pl.Null)
"""Types of columns that are read, beside numbers and moments."""
LARGEST_VALUE = 100.0
"""Size of a forecast, in its own unit, beyond which it is none: a log return of 100 is a factor of 10^43."""
LARGEST_PROFIT = 10.0
"""Net return of one day that is taken for a fraction of the capital, and not for percent or money."""


@dataclass(frozen=True)
class Outside:
    """What a file holds: `kind` forecasts, quantiles or profits, and its rows.

    `rows` of forecasts: `TABLE_COLUMNS`; of quantiles these with `quantile` and without `head`; of profits `day` (Date)
    and `net`, a simple return of the capital. `name`: of a model that the file does not name.
    """

    kind: str
    rows: pl.DataFrame
    name: str

    @property
    def models(self) -> tuple[str, ...]:
        """The models whose forecasts it holds, in alphabetical order."""
        return tuple(self.rows["model"].unique().sort()) if "model" in self.rows.columns else ()


def read_outside(
    source: str | Path | Any, bars: pl.DataFrame, *, horizon: int | None = None, name: str | None = None
) -> Outside:
    """A file or frame of forecasts, quantiles or daily profits -> its rows, at the closes of the bars.

    Parameters
    ----------
    source: CSV or Parquet file, or a Polars or pandas frame. Forecasts: `symbol` (may be left out where the bars have
        one), `time`, then `head` and `value`, or a column for each head (return, direction, volatility, regime);
        `step`, bars ahead, and `model` may be left out. Quantiles of the return over the horizon: `quantile` and
        `value`. Profits: a date and `net` (or profit, pnl), the day's simple net return of the capital.
    bars: Bars. A time without a clock stands for its session's only close; one without a zone is UTC.
    horizon: bars ahead of rows that do not say. name: the model of rows that do not say; None: the file's own.

    Raises
    ------
    BarsFileError with line, column and value for a cell that cannot be read; SettingsError for missing columns.

    >>> from gatecast.market import synthetic
    >>> bars = synthetic.a1(300, seed=1)
    >>> table = bars.select(time=pl.col("time").dt.date(), direction=0.6)
    >>> found = read_outside(table, bars, horizon=5, name="mine")
    >>> found.kind, found.models, found.rows.columns
    ('forecasts', ('mine',), ['symbol', 'time', 'model', 'head', 'step', 'value'])
    """
    file, frame, first = _table_of(source)
    name = name or (file.name.split(".")[0] if file else "theirs")
    named = {snake(column): column for column in reversed(frame.columns)}
    found = {what: named[one] for what, names in NAMES.items() for one in reversed(names) if one in named}
    heads = {head: named[head] for head in HEADS if head in named}
    profit = next((named[one] for one in PROFIT_NAMES if one in named), None)
    for column, kind in frame.schema.items():
        readable = kind.is_numeric() or kind in READABLE or isinstance(kind, pl.Datetime | pl.Enum)
        if column in {*found.values(), *heads.values(), profit} and not readable:
            _refuse(f"the column holds {kind}.", file, column=column, advice="Convert it to text or numbers.")
    if "time" not in found:
        raise SettingsError(
            f"{_said(file)} has no column of times; it has {_columns(frame)}. Name one `time`, the close at which each "
            "forecast was made, or the day of each profit."
        )
    rows = frame.with_row_index("_line", first)
    if profit is not None and "value" not in found and not heads:
        return Outside(PROFITS, _profits(rows, found["time"], profit, file), name)
    if "value" not in found and not heads:
        raise SettingsError(
            f"{_said(file)} holds neither forecasts nor profits; it has {_columns(frame)}. Forecasts need `value` with "
            f"`head`, or columns named {', '.join(HEADS)}; daily profits a column `net`."
        )
    rows = rows.with_columns(symbol=_symbols(frame, found.get("symbol"), bars, file))
    rows = _with_times(rows, found["time"], bars, file)
    model = pl.col(found["model"]).cast(pl.String) if "model" in found else pl.lit(name)
    step = _steps(rows, found.get("step"), horizon, file)
    common = [pl.col("symbol"), pl.col("_time").alias("time"), model.alias("model"), step, pl.col("_line")]
    if "value" in found:
        known = "quantile" if "quantile" in found else "head"
        if known not in found:
            raise SettingsError(
                f"{_said(file)} does not say what `value` is: add a column `head` with {', '.join(HEADS)}, or a column "
                "`quantile`."
            )
        what = pl.col(found[known]).cast(pl.String).alias(known)
        table = rows.select(*common, what, value=pl.col(found["value"]))
        table = table.with_columns(_numbers(table, "value", file))
        if known == "quantile":
            table = table.with_columns(_numbers(table, "quantile", file))
            return Outside(QUANTILES, _checked_quantiles(_refuse_large(table, file), file).drop("_line"), name)
    else:
        wide = rows.select(*common, *(pl.col(column).alias(head) for head, column in heads.items()))
        wide = wide.with_columns(*(_numbers(wide, head, file) for head in heads))
        table = wide.unpivot(list(heads), index=["symbol", "time", "model", "step", "_line"], variable_name="head")
    return Outside(FORECASTS, _refuse_large(table, file).select(TABLE_COLUMNS), name)


def _table_of(source: Any) -> tuple[Path | None, pl.DataFrame, int]:
    """The file (None: a frame), its columns as they are, and the number of its first row."""
    if isinstance(source, str | Path):
        if not is_file(source):
            _refuse("there is no such file of forecasts.", shown_path(source), advice="Check the path.")
        (table, *_) = read_tables(Path(source), holds="forecasts or profits")
        return Path(source), table.frame, table.first_line
    if isinstance(source, pl.DataFrame):
        return None, source, 1
    try:
        import pyarrow as pa

        return None, from_arrow(pa.Table.from_pandas(source, preserve_index=False)), 1
    except Exception as error:  # whatever it is, pyarrow says why it is no frame
        raise SettingsError(f"expected a file or a frame of forecasts, got {type(source).__name__}: {error}.") from None


def _said(file: Path | None) -> str:
    return f"the file {shown_path(file)}" if file else "the table"


def _columns(frame: pl.DataFrame) -> str:
    return cut(", ".join(map(cut, frame.columns)), 500) or "none"


def _refuse(
    problem: str, file: Path | str | None, *, line: int | None = None, column: str | None = None, value: object = None,
    advice: str = "",
) -> None:  # fmt: skip
    raise BarsFileError(problem, file=file, line=line, column=column, value=value, advice=advice)


def _symbols(frame: pl.DataFrame, column: str | None, bars: pl.DataFrame, file: Path | None) -> pl.Series:
    """(rows,) the symbol of each forecast."""
    have = bars["symbol"].unique().sort().to_list()
    if column is not None:
        return frame[column].cast(pl.String).str.strip_chars().alias("symbol")
    if len(have) > 1:
        raise SettingsError(
            f"{_said(file)} has no column `symbol`, and the bars have {len(have)} symbols; it has {_columns(frame)}. "
            "Add the symbol of each forecast; of daily profits call the column `net`."
        )
    return pl.Series("symbol", have * len(frame), dtype=pl.String)


def _moments(values: pl.Series, file: Path | None, lines: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Times of any type -> UTC moments, and whether each is a date alone."""
    if values.dtype == pl.Date:
        return values.cast(pl.Datetime("us", "UTC")), pl.Series([True] * len(values), dtype=pl.Boolean)
    if isinstance(values.dtype, pl.Datetime):
        years = values.dt.year()
        if (wrong := (~years.is_between(1700, 2200)).fill_null(True).arg_true()).len():
            _refuse(
                "no time of markets.", file, line=lines[int(wrong[0])], column=values.name,
                advice="Write 2024-01-31, or 2024-01-31T21:00:00Z.",
            )  # fmt: skip
        aware = values.dt.convert_time_zone("UTC") if values.dtype.time_zone else values.dt.replace_time_zone("UTC")
        return aware.cast(pl.Datetime("us", "UTC")), pl.Series([False] * len(values), dtype=pl.Boolean)
    known: dict[str | None, tuple[datetime, bool]] = {}
    texts = values.cast(pl.String).str.strip_chars()
    for text in texts.unique().to_list():
        try:
            known[text] = _moment(text)
        except (TypeError, ValueError, OverflowError):
            line = lines.filter((texts == text) if text is not None else texts.is_null())[0]
            _refuse(
                "no date and no time.", file, line=line, column=values.name, value=text,
                advice="Write 2024-01-31, or 2024-01-31T21:00:00Z.",
            )  # fmt: skip
    both = [known[text] for text in texts]
    moments = pl.Series([one for one, _ in both], dtype=pl.Datetime("us", "UTC"))
    return moments, pl.Series([day for _, day in both], dtype=pl.Boolean)


def _moment(text: str | None) -> tuple[datetime, bool]:
    """A text as a UTC moment, and whether it is a date alone."""
    if text is None:
        raise ValueError("empty")
    found = datetime.fromisoformat(text)
    if not 1700 <= found.year <= 2200:
        raise ValueError("no year of markets")
    aware = found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    return aware, len(text) <= len("2024-01-31")


def _with_times(rows: pl.DataFrame, column: str, bars: pl.DataFrame, file: Path | None) -> pl.DataFrame:
    """The rows with `_time`, the close of the bar at which each was made."""
    moments, is_day = _moments(rows[column], file, rows["_line"])
    rows = rows.with_columns(_time=moments, _is_day=is_day)
    if not is_day.any():
        return rows
    closes = bars.select("symbol", "time", _day=session_date(pl.col("time")))
    several = closes.filter(closes.select("symbol", "_day").is_duplicated())
    if len(several):
        raise SettingsError(
            f"{_said(file)} gives dates without a clock, but {several['symbol'][0]} has several bars on "
            f"{several['_day'][0]}: give the close of each bar, such as 2024-01-31T15:30:00Z."
        )
    days = rows.with_columns(_day=pl.col("_time").dt.date())
    days = days.join(closes.rename({"time": "_close"}), on=["symbol", "_day"], how="left", maintain_order="left")
    have = set(bars["symbol"].unique())
    lost = days.filter(pl.col("_is_day") & pl.col("_close").is_null() & pl.col("symbol").is_in(list(have)))
    if len(lost):
        line, symbol, day = lost.select("_line", "symbol", "_day").row(0)
        _refuse(
            f"{symbol} has no bar on {day} ({len(lost)} such rows).", file, line=line, column=column, value=str(day),
            advice="A forecast is dated by the session at whose close it was made.",
        )  # fmt: skip
    return days.with_columns(_time=pl.when("_is_day").then("_close").otherwise("_time")).drop("_day", "_close")


def _steps(rows: pl.DataFrame, column: str | None, horizon: int | None, file: Path | None) -> pl.Expr | pl.Series:
    """Bars ahead of each row."""
    if column is not None:
        steps = _numbers(rows.select("_line", step=column), "step", file)
        whole = steps.is_between(1, LONGEST_HORIZON).fill_null(False) & (steps.fill_null(0.5) % 1 == 0)
        if (wrong := (~whole).arg_true()).len():
            place = int(wrong[0])
            _refuse(
                "no number of bars ahead.", file, line=rows["_line"][place], column=column, value=steps[place],
                advice=f"Give a whole number, 1 to {LONGEST_HORIZON}.",
            )  # fmt: skip
        return steps.cast(pl.Int64)
    if horizon is None:
        raise SettingsError(
            f"{_said(file)} does not say how many bars ahead its forecasts are: add a column `step`, or give "
            "horizon=5, the bars that each spans."
        )
    return pl.lit(horizon, pl.Int64).alias("step")


def _numbers(rows: pl.DataFrame, column: str, file: Path | None) -> pl.Series:
    """A column as numbers, null where it is empty. Refuses text that is no number, with its line."""
    values = rows[column]
    if values.dtype.is_numeric():
        return values.cast(pl.Float64).fill_nan(None).alias(column)
    texts = values.cast(pl.String).str.strip_chars()
    empty = texts.is_null() | texts.str.to_lowercase().is_in(["", "nan", "null", "na", "none"])
    found = texts.cast(pl.Float64, strict=False)
    if (wrong := (~empty & found.is_null()).arg_true()).len():
        place = int(wrong[0])
        _refuse(
            "no number.", file, line=rows["_line"][place], column=column, value=texts[place],
            advice="Write it with a point, and nothing where there is no forecast.",
        )  # fmt: skip
    return found.set(empty, None).fill_nan(None).alias(column)


def _refuse_large(table: pl.DataFrame, file: Path | None) -> pl.DataFrame:
    """The rows that have a value. Refuses a table without any, and values that no forecast has."""
    table = table.drop_nulls("value")
    if table.is_empty():
        raise SettingsError(f"{_said(file)} has no forecast: it has no row, or every value is empty.")
    large = table.filter(~(pl.col("value").is_finite() & (pl.col("value").abs() <= LARGEST_VALUE)))
    if len(large):
        line, value = large.select("_line", "value").row(0)
        _refuse(
            "no forecast.", file, line=line, column="value", value=value,
            advice="Give log returns, probabilities, or variances of log returns.",
        )  # fmt: skip
    return table


def _checked_quantiles(table: pl.DataFrame, file: Path | None) -> pl.DataFrame:
    """Rows of quantiles. Refuses levels that are none, and quantiles that cross."""
    wrong = table.filter(~pl.col("quantile").is_between(0, 1, closed="none").fill_null(False))
    if len(wrong):
        line, level = wrong.select("_line", "quantile").row(0)
        _refuse("no quantile.", file, line=line, column="quantile", value=level, advice="Give a share between 0 and 1.")
    table = table.sort("model", "symbol", "time", "step", "quantile")
    keys = ["model", "symbol", "time", "step"]
    before = table.with_columns(
        _below=pl.col("value").shift(1).over(keys), _level=pl.col("quantile").shift(1).over(keys)
    )
    wrong = before.filter((pl.col("_below") > pl.col("value")) | (pl.col("_level") == pl.col("quantile")))
    if len(wrong):
        line, level, value = wrong.select("_line", "quantile", "value").row(0)
        _refuse(
            f"the quantile {level:g} is below that of a lower level, or there twice.", file, line=line, column="value",
            value=value, advice="Sort the quantiles of each forecast.",
        )  # fmt: skip
    return table


def _own_days(times: pl.Series) -> pl.Series:
    """Times by the date that they have where they were written, whatever their zone."""
    if isinstance(times.dtype, pl.Datetime):
        return times.dt.date().alias(times.name)
    return times.cast(pl.String).str.slice(0, len("2024-01-31")) if times.dtype == pl.String else times


def _profits(rows: pl.DataFrame, time: str, column: str, file: Path | None) -> pl.DataFrame:
    """`day` and `net`, a row a day, in order of time."""
    moments, _ = _moments(_own_days(rows[time]), file, rows["_line"])
    net = _numbers(rows.select("_line", net=column), "net", file)
    table = pl.DataFrame({"_line": rows["_line"], "day": moments.dt.date(), "net": net}).drop_nulls("net").sort("day")
    wrong = table.filter(~(pl.col("net").is_finite() & pl.col("net").is_between(-1, LARGEST_PROFIT)))
    if len(wrong):
        line, value = wrong.select("_line", "net").row(0)
        _refuse(
            "no net return of a day.", file, line=line, column=column, value=value,
            advice="Give fractions of the capital (.01 is one per cent), not below -1.",
        )  # fmt: skip
    twice = table.filter(pl.col("day").is_duplicated())
    if len(twice):
        line, day = twice.select("_line", "day").row(0)
        _refuse("the day is there twice.", file, line=line, column=time, value=str(day), advice="Keep one row a day.")
    if table.is_empty():
        raise SettingsError(f"{_said(file)} has no profit: expected a day and its net return in each row.")
    return table.select("day", "net")
