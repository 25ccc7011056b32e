"""What a store has, as tables for other programs: bars as of now, actions, decisions, forecasts; CSV or Parquet."""

from __future__ import annotations

import io
from datetime import datetime
from pathlib import Path
from typing import Literal

import polars as pl

from gatecast.arguments import checked
from gatecast.errors import SettingsError, StoreError, did_you_mean
from gatecast.files import full_path, write_whole
from gatecast.store.history import parquet
from gatecast.store.identity import is_store
from gatecast.store.issued import in_force
from gatecast.store.pieces import forecasts_in_force
from gatecast.store.store import Store

FORMATS = ("csv", "parquet")
FORMULA = "^[=+\\-@\t\r]"
"""What begins a text that a spreadsheet takes for a formula."""


@checked
def export(store: Store, folder: str | Path, now: datetime, form: Literal["csv", "parquet"] = "csv") -> dict[str, int]:
    """Writes bars, actions, decisions and forecasts of a store into a folder; the name of each file -> its rows.

    `bars` are those known at `now`, as they came; `actions` are beside them. `decisions` are all that were issued, with
    `in_force` of those that count, `forecasts` those that count. In CSV, texts that a spreadsheet takes for a formula
    begin with an apostrophe; Parquet has them as they are. Each file is written whole or not at all. Raises
    `StoreError` where one cannot be.
    """
    if form not in FORMATS:
        raise SettingsError(f"there is no format {form!r}. {did_you_mean(form, FORMATS)}")
    place, done = full_path(folder), {}
    if is_store(place):
        raise StoreError(f"{place} is a store: give another folder for its tables.")
    decisions = store.decisions()
    tables = {"bars": store.bars.as_of(now), "decisions": decisions.with_columns(in_force=in_force(decisions))}
    tables["actions"] = store.actions
    tables["forecasts"] = forecasts_in_force(store.artefacts, store.state, store.experiment.horizon)
    for name, table in tables.items():
        file = place / f"{name}.{form}"
        try:
            write_whole(file, parquet(table) if form == "parquet" else _csv(table))
        except OSError as error:
            raise StoreError(f"{file} cannot be written: {error.strerror or error}. Give another folder.") from None
        done[file.name] = len(table)
    return done


def neutral(table: pl.DataFrame) -> pl.DataFrame:
    """A table whose texts are no formulas of a spreadsheet, nor its names of columns.

    >>> neutral(pl.DataFrame({"a": ["=1+1", "B", None], "b": [-1.0, 2.0, 3.0]})).rows()[:2]
    [("'=1+1", -1.0), ('B', 2.0)]
    """
    texts = [name for name, kind in table.schema.items() if kind == pl.String]
    marked = table.with_columns(
        pl.when(pl.col(name).str.contains(FORMULA)).then(pl.lit("'") + pl.col(name)).otherwise(name).alias(name)
        for name in texts
    )  # fmt: skip
    return marked.rename({name: f"'{name}" for name in marked.columns if name[:1] in "=+-@\t\r"})


def _csv(table: pl.DataFrame) -> bytes:
    file = io.BytesIO()
    neutral(table).write_csv(file, datetime_format="%Y-%m-%dT%H:%M:%S%.6fZ")
    return file.getvalue()
