"""Opening a hold-out: the chain again on all bars, and each gain before and in the hold-out."""

from __future__ import annotations

import reprlib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from gatecast.arguments import checked, takes
from gatecast.chain import Progress, make_chain
from gatecast.compute.progress import shown
from gatecast.errors import SettingsError
from gatecast.evaluation import holdout
from gatecast.evaluation.on_file import problems
from gatecast.evaluation.record import records_of
from gatecast.evaluation.trial import market_of
from gatecast.files import jsonable
from gatecast.machine import ONE_CORE, Machine
from gatecast.market.bars import session_date
from gatecast.market.merging import refuse_other_market
from gatecast.market.reading import TABLES, BarsSettings
from gatecast.market.sources import Reading
from gatecast.provenance import hash_of_settings
from gatecast.runs import Run
from gatecast.verdicts import Tilts


@checked
@takes(BarsSettings, without=BarsSettings.model_fields.keys() - {*TABLES})
def unseal(
    run: Run,
    *,
    bars: str | Path | pl.DataFrame | None = None,
    again: bool = False,
    progress: Progress | bool | None = None,
    machine: Machine = ONE_CORE,
    **tables: Any,
) -> Run:
    """A sealed run with what its hold-out shows, once for these instruments and sessions; the opening is recorded.

    Parameters
    ----------
    run: made with `holdout` set. bars: where its bars are, a file or a frame, and what `tables` they need (None: where
        the run read them, which only a run that was made by this process may say).
    again: open it although it was opened before, which the report will say.
    progress, machine: as in `gatecast.run`.

    Returns the run with `scores["holdout"]`: what `holdout.measure` gives (each head's and the strategy's gain before
    and in the hold-out, how much of it is gone, and how little so many years can confirm), `opened` (every opening,
    ISO, this one last), `seen` (earlier trials that read these days without a seal) and `same_past` (the share of the
    sealed run's forecasts that came out the same). All else in the run stays sealed.

    Raises `SettingsError` where there is nothing to open or it was opened before, `BarsError` where the bars are of
    another market than the run's (`market.merging.refuse_other_market`), `StoreError` when the opening cannot be
    recorded, and what reading and the chain raise. Nothing is recorded or shown then.
    """
    sealed = run.experiment
    if sealed.holdout is None:
        raise SettingsError(
            'this run has no hold-out: it has read all of its bars. Set holdout = "2017-01-01" (a first day of your '
            "own) in the settings before a run, and nothing will read the sessions from then on."
        )
    source = sealed.bars
    if bars is not None:
        is_file = isinstance(bars, str | Path)
        source = source.replace(source=str(bars), frame=None) if is_file else source.replace(frame=bars)
    elif run.is_loaded:
        raise SettingsError(
            f"give the run's bars, --bars FILE or bars=...: {_where(source)}, and a run's own settings open nothing "
            "outside its folder."
        )
    if run.is_loaded:
        source.refuse_tables(tables)
    source = source.replace(**tables)
    symbols = run.bars["symbol"].unique().sort().to_list()
    market = market_of(run.bars)
    with problems() as unread:
        holdout.refuse_second(symbols, sealed.holdout, market=market, again=again)
        seen = holdout.seen_without_seal(symbols, sealed.holdout, market=market)
    opened = sealed.replace(holdout=None, control=None, bars=source)
    whole = _whole(opened.read(), symbols, sealed.holdout, opened.horizon)
    refuse_other_market(run.bars, whole.bars)
    with shown(progress) as told:
        chain = make_chain(opened, whole.bars, told, actions=whole.actions, machine=machine)
    periods = chain.result.rows_per_year
    found = holdout.measure(
        records_of(chain.forecasts), chain.result.equity, sealed.holdout, periods_per_year=periods,
        tilt=Tilts(opened.book, chain).of(),
    )  # fmt: skip
    same = holdout.same_past(run.forecasts, pl.concat([one.to_frame() for one in chain.forecasts.values()]))
    market = market_of(whole.bars)
    earlier = holdout.refuse_second(symbols, sealed.holdout, market=market, again=again)  # somebody, in the meantime
    opening = holdout.Opening(
        tuple(symbols), found["first"], found["last"], datetime.now(UTC).isoformat(timespec="seconds"),
        hash_of_settings(sealed.to_dict(), sealed.plugins), found=jsonable({**found, "same_past": same}),
    )  # fmt: skip
    holdout.record_opening(opening, market=market)  # before anything is shown
    said = [*holdout.reservations(earlier, seen, same, unread), found["sentence"]]
    found |= {
        "opened": [one.opened for one in (*earlier, opening)], "seen": seen, "same_past": same,
        "sentence": " ".join(said),
    }  # fmt: skip
    warnings = list(dict.fromkeys([*unread, *run.scores.get("warnings", [])]))
    return replace(run, scores={**run.scores, "holdout": jsonable(found), "warnings": warnings})


def _whole(reading: Reading, symbols: list[str], first: str, horizon: int) -> Reading:
    """All bars of the run's symbols, and of no other, which would be seen without being recorded.

    `first`: first session of the hold-out; `horizon`: bars ahead. Raises `SettingsError` where a symbol is missing or
    there are too few sessions to open.
    """
    bars = reading.bars.filter(pl.col("symbol").is_in(symbols))
    missing = sorted(set(symbols) - set(bars["symbol"].unique()))
    if missing:
        raise SettingsError(f"the bars have nothing of {', '.join(missing)}: give a file with all symbols of the run.")
    days = np.unique(session_date(bars["time"].dt.replace_time_zone(None).to_numpy()).astype("datetime64[D]"))
    least, have = holdout.MIN_DAYS_PER_SIDE + horizon, np.count_nonzero(days >= np.datetime64(first))
    if have < least:
        raise SettingsError(
            f"there are {have} sessions from {first} on (the bars end on {days[-1]}), and {least} are the least that "
            "show anything: nothing was opened. Wait for them, or give a newer file with --bars (bars=)."
        )
    return replace(reading, bars=bars)


def _where(source: BarsSettings) -> str:
    """Where the bars of a loaded run came from, in words."""
    return "they were a frame" if source.source == "frame" else f"they were read from {reprlib.repr(source.source)}"
