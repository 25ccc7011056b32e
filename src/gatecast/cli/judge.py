"""`gatecast judge` and `compare`: forecasts from anywhere beside the simple rivals, and two runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gatecast.cli.options import AsJson, with_bars_options
from gatecast.cli.show import make_console, print_json
from gatecast.compute.progress import TerminalBars, printable


@with_bars_options()
def judge(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Forecasts, quantiles or profits: CSV or Parquet.")],
    bars: Annotated[str, typer.Option(help="CSV or Parquet file, folder, glob, embedded or VENDOR:request.")],
    *,
    options: dict[str, Any],
    horizon: Annotated[int | None, typer.Option(help="Bars ahead, 1-22, where the file does not say.")] = None,
    name: Annotated[str | None, typer.Option(help="Of the model, where the file does not say.")] = None,
    cutoff: Annotated[str | None, typer.Option(help="Last session that the model was trained on.")] = None,
    copies: Annotated[int, typer.Option(help="Of the forecasts, moved in time, to be beaten; 0: none.")] = 199,
    seed: Annotated[int, typer.Option(help="Decides the copies and the planted leak.")] = 0,
    proxy: Annotated[str, typer.Option(help="What answers of variance are made of.")] = "garman_klass",
    commission_bps: Annotated[float | None, typer.Option(help="Of the plain trade, basis points a side.")] = None,
    slippage_bps: Annotated[float | None, typer.Option(help="Half the spread and impact, basis points a side.")] = None,
    cash: Annotated[
        float | None, typer.Option(help="Interest a year that profits are judged beyond.", show_default="US bills")
    ] = None,
    too_good: Annotated[str | None, typer.Option(help="Heads that may be too good, separated by commas.")] = None,
    as_json: AsJson = False,
) -> None:
    """Judge forecasts or daily profits from anywhere: verdict, costs, power, copies, a planted leak.

    Columns: symbol, time, head, step, value (or one column a head: return, direction, volatility, regime); or symbol,
    time, quantile, value; or a date and net, the day's net return. Example of a file, of which the first line names the
    columns: "symbol,time,head,step,value", then "SPY,2024-01-31,return,5,0.0031".

    Units: return, the log return over the horizon; direction and regime, probabilities; volatility, the variance of the
    log return over all bars of the horizon (a standard deviation squared; a fraction, not of a year). No network is
    trained. Exit status 3 where the forecasts know later bars or are too good to be true. Each model counts as a trial
    on its market.
    """
    from gatecast.market.sources import read_with_findings
    from gatecast.studies.judging import judge_forecasts
    from gatecast.trading.costs import Costs

    reading = read_with_findings(bars, **options)
    allowed = [part.strip() for part in (too_good or "").split(",") if part.strip()]
    with TerminalBars() as progress:
        found = judge_forecasts(
            file, reading.bars, horizon=horizon, name=name, cutoff=cutoff, copies=copies, seed=seed,
            costs=Costs(commission_bps=commission_bps, slippage_bps=slippage_bps), volatility_proxy=proxy,
            too_good=allowed, actions=reading.actions, cash=cash, progress=progress,
        )  # fmt: skip
    if as_json:
        print_json(found.to_dict())
    else:
        make_console().print(printable(found.summary()), markup=False, soft_wrap=True)
    if found.doubtful:
        raise typer.Exit(3)


def compare(
    first: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")],
    second: Annotated[Path, typer.Argument(metavar="OTHER", help="Folder of another run on the same market.")],
    as_json: AsJson = False,
) -> None:
    """Compare two runs: paired daily differences of loss, money and book; settings, data and trials side by side.

    Both books are made again from the stored forecasts; nothing is fitted.
    """
    from gatecast.store import load_run
    from gatecast.studies.comparing import compare as compare_runs

    with TerminalBars() as progress:
        found = compare_runs(load_run(first), load_run(second), (str(first), str(second)), progress=progress)
    if as_json:
        print_json(found.to_dict())
    else:
        make_console().print(printable(found.summary()), markup=False, soft_wrap=True)
