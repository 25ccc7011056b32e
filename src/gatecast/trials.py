"""A chain -> the trials that it is: what the ledger keeps of it and of the candidates of its searches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from gatecast import provenance
from gatecast.chain import Chain
from gatecast.evaluation.ledger import daily_profit, record_trials
from gatecast.evaluation.search_worth import searches_of
from gatecast.evaluation.trial import Data, Trial
from gatecast.experiment import Experiment, Volatility
from gatecast.forecasting.lstm import LSTM
from gatecast.forecasting.walkforward import Forecasts
from gatecast.market.bars import session_date
from gatecast.metrics.returns import sharpe
from gatecast.samples.features.catalogue import BUILT_IN
from gatecast.samples.windows import Samples
from gatecast.trading.book import Book


def record_chain(experiment: Experiment, chain: Chain) -> list[Trial]:
    """Adds the chain and the candidates of its searches to the ledger; all trials on the same market and span.

    Nothing is added for what is known already, or inside `ledger.unrecorded`.
    """
    return record_trials(trials_in(experiment, chain))


def trials_in(experiment: Experiment, chain: Chain) -> list[Trial]:
    """The candidates of a chain's searches, and the chain itself, the last."""
    trial = trial_of(chain, configuration(experiment))
    network = experiment.network if experiment.tuning else None
    nested = [one for each in chain.forecasts.values() for one in nested_trials(each, network, trial.data)]
    return [*nested, trial]


def configuration(experiment: Experiment) -> str:
    """Hash of the settings that make a trial. Names of data and the hold-out are not part of it."""
    left_out = ("name", "bars", "control", "holdout", "too_good", "orders")  # none of them changes a forecast
    settings = {key: value for key, value in experiment.to_dict().items() if key not in left_out}
    settings["resample"] = experiment.bars.resample
    if not experiment.drift.acts:
        del settings["drift"]  # alarms that are only said change no forecast and no position
    settings["book"] = {key: value for key, value in settings["book"].items() if key != "benchmark"}  # decides nothing
    for name, usual in (("book", Book(benchmark=experiment.book.benchmark)), ("volatility", Volatility())):
        if getattr(experiment, name) == usual:
            del settings[name]  # trials of before these settings were there are the same
    return provenance.hash_of_settings(settings, experiment.deciding_plugins)


def data_of(bars: pl.DataFrame, samples: Sequence[Samples]) -> Data:
    """What enters a trial of these bars: returns, and the values of features that are not built in."""
    own = {name for one in samples for name in one.names} - BUILT_IN
    return provenance.data_of(bars, samples, own)


def trial_of(chain: Chain, settings_hash: str) -> Trial:
    """What the ledger keeps of a run; `settings_hash`: see `configuration`."""
    days = session_date(chain.bars["time"].dt.replace_time_zone(None).to_numpy().astype("datetime64[us]"))
    value = sharpe(chain.net, periods_per_year=1)
    return Trial(
        tuple(chain.bars["symbol"].unique().sort().to_list()), str(days.min()), str(days.max()),
        settings_hash, None if np.isnan(value) else float(value), daily_profit(chain.result.equity),
        data=data_of(chain.bars, [one.samples for one in chain.classes.values()]),
    )  # fmt: skip


def nested_trials(forecasts: Forecasts, network: LSTM | None, data: Data | None = None) -> list[Trial]:
    """The candidates of a class's searches: they never saw what is judged, but each was tried.

    `network`: the LSTM with the given settings, from which the searches started; None: there were none.
    """
    searches = searches_of(forecasts)
    given = network.model_dump(mode="json") if network else {}
    return [
        Trial(
            forecasts.samples.symbols, found["since"][:10], found["date"][:10],
            provenance.hash_of({"given": given, **tried["params"]}), None, nested=True, data=data,
        )
        for found in searches
        for tried in found["trials"]
    ]  # fmt: skip
