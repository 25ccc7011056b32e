"""Your own data: a CSV file in, a folder with forecasts, verdicts and a report out, and a forecast of the newest bar.

The CSV is written here, to a temporary folder, so that the example runs by itself; use your own path instead.
"""

import tempfile
from pathlib import Path

import polars as pl

import gatecast
from gatecast.live import forecast_newest
from gatecast.report import render
from gatecast.store import write_page


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        market = gatecast.market.synthetic.g1(1200, seed=5, symbols=2)
        daily = market.with_columns(Date=pl.col("time").dt.date()).select(
            "Date", pl.col("symbol").alias("Ticker"), *("open", "high", "low", "close"),
            volume=(pl.col("volume") * 1e6).round(),  # in shares: how many may be traded depends on it
        )  # fmt: skip
        earlier = daily.filter(pl.col("Date") < daily["Date"].max())
        earlier.write_csv(folder / "bars.csv")
        daily.write_csv(folder / "newest.csv")  # the same and one more day

        # 1. Read it, and see what is odd about it. Names and spellings of columns are found out.
        bars = gatecast.read_bars(folder / "bars.csv", asset_class="equity")
        print(bars.tail(2))

        # 2. Run. Everything that is not said is left at its default; the models are small here.
        experiment = gatecast.Experiment(
            name="my market",
            bars={"source": str(folder / "bars.csv"), "asset_class": "equity"},
            horizon=5,
            model={
                "lstm": gatecast.LSTM(units=16, layers=1, seeds=1, epochs=3),
                "forest": gatecast.Forest(trees=10),
            },
            schedule=gatecast.Schedule(refit="1Y"),
        )
        run = gatecast.run(experiment)

        # 3. Keep it: Parquet, JSON and models in one folder, and the report as one page.
        run = gatecast.save_run(run, folder / "runs" / "my market")
        page = write_page(run.path, render(run))
        print(run.summary())
        print(f"{page.name}: {page.stat().st_size / 1e6:.1f} MB")

        # 4. The next day: forecast from the newest bar with the models that were kept.
        newest = gatecast.read_bars(folder / "newest.csv", asset_class="equity")
        for forecast in forecast_newest(run.path, newest):
            print(f"{forecast['symbol']} {forecast['time']:%Y-%m-%d}: P(rise) {forecast['probability_up']:.2f}")


if __name__ == "__main__":
    main()
