"""The tuning study: settings searched for at every tuning date, compared with the given ones out of sample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from textwrap import fill
from typing import TYPE_CHECKING, Any

from gatecast.arguments import checked
from gatecast.chain import Progress
from gatecast.compute.progress import shown
from gatecast.evaluation.ledger import record_trials
from gatecast.evaluation.on_file import problems
from gatecast.evaluation.record import Record
from gatecast.evaluation.search_worth import said_of, search_worth, searched, searches_of, setting_named, value_named
from gatecast.experiment import Experiment
from gatecast.files import jsonable
from gatecast.forecasting.forecaster import Task
from gatecast.forecasting.panel import NETWORK, RIVALS
from gatecast.forecasting.tuning.tuned import DEFAULT, Tuning
from gatecast.forecasting.walkforward import Fits, Forecasts, walk_forward
from gatecast.history import enough_history
from gatecast.machine import ONE_CORE, Machine
from gatecast.notebook import Shown, draw_bars
from gatecast.trials import data_of, nested_trials

if TYPE_CHECKING:
    from gatecast.forecasting.forecaster import Forecaster
    from gatecast.forecasting.schedule import Schedule
    from gatecast.samples.windows import Samples


@dataclass(frozen=True)
class Tuned(Shown):
    """What was found: `scores` as in `evaluation.search_worth.search_worth`, `seconds` model -> time of its training.

    `searches`: asset class -> every search with all its candidates, see `forecasting.tuning.tuned.search_once`.
    `warnings`: what the ledger of trials could not read or write.
    """

    name: str
    scores: Mapping[str, Any]
    searches: Mapping[str, tuple[dict[str, Any], ...]]
    seconds: Mapping[str, float]
    warnings: tuple[str, ...] = ()

    def plot(self) -> Any:
        """A Plotly figure: how much each setting mattered in the searches of each asset class, as shares."""
        shares = {
            f"{one['asset_class']}: {setting_named(name)}": share
            for one in self.scores.get("classes", []) for name, share in one["importance"].items()
        }  # fmt: skip
        return draw_bars(shares, "Settings that mattered", "share of the spread of losses")

    def to_dict(self) -> dict[str, Any]:
        """Everything, JSON-able; undefined numbers are None."""
        found: dict[str, Any] = jsonable(
            {"name": self.name, **self.scores, "searches": dict(self.searches), "seconds": dict(self.seconds),
             "sentences": [*said_of(self.scores, self.seconds), *self.warnings]}
        )  # fmt: skip
        return found

    def summary(self) -> str:
        """In words: whether it paid, what mattered, and the settings in force from each date on."""
        lines = [fill(one, 100) for one in (*said_of(self.scores, self.seconds), *self.warnings)]
        for one in self.scores["classes"]:
            lines += ["", f"{one['asset_class']}. {searched(one)}"]
            for name, share in sorted(one["importance"].items(), key=lambda item: -item[1]):
                lines.append(f"  {setting_named(name):<16} {'█' * round(40 * share)} {share:.0%}")
            for row in one["dates"]:
                chosen = ", ".join(f"{setting_named(key)} {value_named(value)}" for key, value in row["chosen"].items())
                lines.append(f"  from {row['date'][:10]}  {chosen if row['replaced'] else 'as given'}")
        return "\n".join(lines)


@checked
def tune(experiment: Experiment, *, progress: Progress | bool | None = None, machine: Machine = ONE_CORE) -> Tuned:
    """The searches of every asset class and date, and what they were worth out of sample.

    Only the LSTM is fitted: with the settings in force from each date on, and beside it with those given. The searches
    are those that `run` makes with the same settings; kept at the address `machine.studies`, they are made once. Their
    candidates enter the ledger of trials. `progress`: as in `run`.

    Raises `HistoryTooShortError` as `run` does, `StoreError` for studies that cannot be read or written.

    >>> from gatecast.forecasting.lstm import LSTM
    >>> from gatecast.forecasting.schedule import Schedule
    >>> from gatecast.market import synthetic
    >>> quick = Experiment(
    ...     bars=synthetic.b1(700, seed=1, r2=0.1), features=("x",),
    ...     model={"lstm": LSTM(units=16, layers=1, seeds=1, epochs=1)}, schedule=Schedule(refit="1Y"),
    ...     tuning=Tuning(trials=2, units=(16, 16), layers=(1, 1), folds=1),
    ... )
    >>> tune(quick, progress=True).scores["classes"][0]["tried"]
    2
    """
    experiment = experiment.replace(tuning=experiment.tuning or Tuning())
    bars = experiment.read().bars
    samples = enough_history(experiment.make_samples(bars), bars, experiment.schedule, experiment.sampling)
    models = {name: one for name, one in experiment.panel.items() if name in (NETWORK, NETWORK + DEFAULT)}
    seconds: dict[str, float] = {}
    with shown(progress) as told:
        forecasts = {
            name: _forecast(models, experiment.schedule, one, seconds, told, machine.task)
            for name, one in samples.items()
        }
    data = data_of(bars, list(samples.values()))
    with problems() as unread:
        record_trials([trial for one in forecasts.values() for trial in nested_trials(one, experiment.network, data)])
    searches = {name: searches_of(one) for name, one in forecasts.items()}
    scores = search_worth({head: Record.of(forecasts, head) for head in RIVALS}, searches) or {}
    return Tuned(experiment.name, scores, searches, seconds, tuple(unread))


def _forecast(
    models: Mapping[str, Forecaster], schedule: Schedule, samples: Samples, seconds: dict[str, float],
    progress: Progress | None, task: Task,
) -> Forecasts:  # fmt: skip
    """One class by the LSTM alone, with the settings that are searched for and with those given."""

    def on_search(count: int, of: int, best: str) -> None:
        if progress:
            progress(f"{samples.asset_class}: search | {best}", count, of)

    def report(model: str, count: int) -> None:
        done[model] = done.get(model, 0) + count
        if progress:
            progress(f"{samples.asset_class}: {model}", done[model], total)

    def clock(fits: Fits) -> None:
        seconds[fits.name] = seconds.get(fits.name, 0.0) + fits.seconds

    done: dict[str, int] = {}
    total = models[NETWORK].fit_count(len(schedule.folds(samples.times, samples.known_at)))
    task = replace(task, on_search=on_search)
    return walk_forward(models, samples, schedule, task, progress=report, on_fits=clock)
