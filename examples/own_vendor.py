"""A vendor of one's own: bars that a class fetches, asked for by name, and checked like those of any file.

This one makes them up, so that the example needs no network; yours asks a service or a database.
"""

from collections.abc import Sequence
from datetime import date

import polars as pl

import gatecast
from gatecast.market.vendors import VENDORS, Vendor


@VENDORS.add
class Archive(Vendor):
    """A made-up market; what follows the colon is its seed."""

    kind = "archive"

    def fetch(
        self, request: str, *, symbols: Sequence[str] | None, start: date | None, end: date | None
    ) -> pl.DataFrame:
        bars = gatecast.market.synthetic.g1(1200, seed=int(request), symbols=2)
        daily = bars.with_columns(date=pl.col("time").dt.date()).drop("time", "known_at", "segment")
        return daily if end is None else daily.filter(pl.col("date") <= end)


def main() -> None:
    print(gatecast.read_bars("archive:5", start="2004-06-01", end="2004-06-03"))

    experiment = gatecast.Experiment(
        bars="archive:5", schedule={"refit": "1Y"}, models=("ridge", "logistic"),
        signals={"model": "ridge", "confirmed_by": "ridge"},
    )  # fmt: skip
    run = gatecast.run(experiment)
    print(run.verdicts["return"]["sentence"])
    print(run.provenance["plugins"])


if __name__ == "__main__":
    main()
