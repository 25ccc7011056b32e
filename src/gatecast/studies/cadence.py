"""How often an LSTM should be refitted: score and cost of five cadences on the same out-of-sample forecasts.

All are one walk-forward on a monthly schedule; the seldom ones go on with the fit that they have. So the rows that are
forecast are the same, and where two cadences are refitted on the same day their networks are the same to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gatecast.arguments import checked
from gatecast.chain import Progress
from gatecast.compute.progress import shown
from gatecast.evaluation.ledger import record_trials
from gatecast.evaluation.on_file import problems
from gatecast.evaluation.paired import LEVEL, paired
from gatecast.evaluation.record import day_means, gain_over, records_of
from gatecast.evaluation.trial import Trial
from gatecast.experiment import Experiment
from gatecast.files import jsonable
from gatecast.forecasting.forecaster import Task
from gatecast.forecasting.panel import NETWORK, RIVAL, RIVALS
from gatecast.forecasting.schedule import EXPANDING, Schedule
from gatecast.forecasting.walkforward import Fits, Forecasts, walk_forward
from gatecast.history import enough_history
from gatecast.machine import ONE_CORE, Machine
from gatecast.market.bars import session_date
from gatecast.metrics import significance
from gatecast.notebook import Shown, draw_intervals, number_text
from gatecast.samples.targets import HEADS
from gatecast.trials import configuration, data_of

if TYPE_CHECKING:
    from gatecast.evaluation.paired import Paired
    from gatecast.evaluation.record import Record
    from gatecast.forecasting.forecaster import Forecaster
    from gatecast.forecasting.lstm import LSTM
    from gatecast.samples.windows import Samples

MONTHLY, QUARTERLY, YEARLY, NEVER, WARM = "monthly", "quarterly", "yearly", "never", "monthly_warm"
MONTHS = {MONTHLY: 1, QUARTERLY: 3, YEARLY: 12, NEVER: 1200, WARM: 1}
"""Cadence -> months from one fit to the next; a century: the first fit is the only one."""
AGAINST = (
    (MONTHLY, NEVER), (QUARTERLY, NEVER), (YEARLY, NEVER), (WARM, NEVER), (MONTHLY, YEARLY), (QUARTERLY, YEARLY),
    (WARM, MONTHLY),
)  # fmt: skip
"""Which cadence is set beside which."""
SAID = {
    (MONTHLY, YEARLY): ("Monthly refits", "yearly ones"),
    (MONTHLY, NEVER): ("Monthly refits", "a fit that is never renewed"),
    (WARM, MONTHLY): ("Warm starts", "cold ones"),
}
"""What the sentences speak of."""
SYMBOLS, SEEDS = 10, 3
"""What a comparison of cadences should at least rest on."""


@dataclass(frozen=True)
class Cost:
    """What a cadence took: networks that were trained, epochs that they went through, seconds of wall-clock time.

    Epochs depend on no machine; the seconds are those of this one, on as many cores as there were jobs.
    """

    fits: int = 0
    epochs: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Score:
    """One head of one cadence: mean daily loss, share of the simple rival's loss that it saves, and what seeds do.

    `seed_spread` is the standard deviation of the single networks' losses, as a share of `loss`; NaN for one network.
    """

    head: str
    cadence: str
    loss: float
    rival: str
    over_rival: float
    seed_spread: float


@dataclass(frozen=True)
class Difference:
    """A cadence beside another, on the same days.

    `gain` is what it saves of the loss of `against`, as a share, with its 90 % interval (long-run variance);
    `statistic` and `pvalue` (two-sided) are Diebold and Mariano's with the correction of Harvey, Leybourne and Newbold,
    and `pvalue_holm` is corrected for all `comparisons` of the study. `cost` is its epochs over those of `against`.
    The test is undefined, and `reason` says why, where nothing can be told.
    """

    head: str
    cadence: str
    against: str
    gain: float
    low: float
    high: float
    statistic: float
    pvalue: float
    days: int
    cost: float
    reason: str = ""
    pvalue_holm: float = np.nan
    comparisons: int = 1

    @property
    def certain(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0 or self.high < 0

    @property
    def sentence(self) -> str:
        """The difference in words.

        >>> one = Difference("volatility", "monthly", "yearly", 0.012, 0.004, 0.02, 2.4, 0.01, 900, 11.0, "", 0.02, 6)
        >>> one.sentence
        'Monthly refits lose 1.2 % less than yearly ones (0.4 to 2.0) and cost 11.0 times as much.'
        >>> replace(one, low=-0.004).sentence
        'Monthly refits and yearly ones: no difference that can be told (+1.2 %, -0.4 to 2.0), at 11.0 times the cost.'
        """
        name, other = SAID.get((self.cadence, self.against), (self.cadence, self.against))
        if self.reason:
            return f"{name} and {other}: nothing to tell ({self.reason})."
        cost, low, high = f"{self.cost:.1f} times", 100 * self.low, 100 * self.high
        if not self.certain:
            between = f"{round(100 * self.gain, 1) + 0.0:+.1f} %, {low:.1f} to {high:.1f}"
            return f"{name} and {other}: no difference that can be told ({between}), at {cost} the cost."
        less, low, high = ("less", low, high) if self.gain > 0 else ("more", -high, -low)
        text = f"{name} lose {100 * abs(self.gain):.1f} % {less} than {other} ({low:.1f} to {high:.1f}) and cost {cost}"
        if not self.pvalue_holm < LEVEL:
            return f"{text} as much; among {self.comparisons} comparisons luck alone may show that."
        return f"{text} as much."


@dataclass(frozen=True)
class Cadences(Shown):
    """What the study found. `rows` and `days` are forecasts and days that were scored; `trials`: see `cadence`."""

    symbols: dict[str, int]
    seeds: int
    rows: int
    days: int
    first: str
    last: str
    refits: dict[str, int]
    costs: dict[str, Cost]
    scores: tuple[Score, ...]
    differences: tuple[Difference, ...]
    trials: int
    notes: tuple[str, ...] = ()

    @property
    def heads(self) -> list[str]:
        """Those that were scored."""
        return list(dict.fromkeys(score.head for score in self.scores))

    @property
    def sentences(self) -> dict[str, str]:
        """Head -> monthly beside yearly and never, and warm beside cold, in words."""
        return {
            head: " ".join(
                one.sentence for pair in SAID for one in self.differences
                if one.head == head and (one.cadence, one.against) == pair
            )
            for head in self.heads
        }  # fmt: skip

    @property
    def rests(self) -> str:
        """What it rests on."""
        symbols = ", ".join(f"{count} {name}" for name, count in self.symbols.items())
        return (
            f"{self.rows:,} forecasts of {sum(self.symbols.values())} symbols ({symbols}) on {self.days:,} days, "
            f"{self.first} to {self.last}; {self.seeds} networks in an ensemble."
        )

    def summary(self) -> str:
        """Plain text of at most 100 columns: cost, a table a head, and what it means."""
        row = "  {:<14}{:>8}{:>9}{:>10}{:>12}".format
        first = self.costs[NEVER].epochs
        lines = [fill(self.rests, 100), *(fill(note, 100) for note in self.notes), ""]
        lines += ["Cost", row("", "fits", "epochs", "seconds", "x never")]
        for name, cost in self.costs.items():
            lines.append(row(name, cost.fits, cost.epochs, f"{cost.seconds:.1f}", f"{cost.epochs / first:.1f}"))
        for head in self.heads:
            lines += ["", *self._table(head), "", fill(self.sentences[head], 100)]
        said = (
            "loss: mean over days of the mean over symbols. over rival: share of its loss that is saved. seeds: "
            "standard deviation of single networks' losses, % of the loss. Gains in % of the other's loss with 90 % "
            f"intervals; t: Diebold-Mariano with HLN. The {len(self.costs)} cadences are tries on these rows; with "
            f"them the ledger has {self.trials} configurations of these symbols and this span."
        )
        return "\n".join([*lines, "", fill(said, 100)])

    def _table(self, head: str) -> Iterator[str]:
        row = "  {:<13}{:>8}{:>11}{:>7}  {:<30}{:<28}".format
        own = {score.cadence: score for score in self.scores if score.head == head}
        rival = next(iter(own.values())).rival
        yield row(head, "loss", "over rival", "seeds", "against never (t)", "against yearly (t)").rstrip()
        for name, score in own.items():
            spread = f"{100 * score.seed_spread:.1f}" if np.isfinite(score.seed_spread) else "-"
            cells = [_cell(self._one(head, name, other)) for other in (NEVER, YEARLY)]
            yield row(
                name, f"{score.loss:.4f}", number_text(100 * score.over_rival, "+.1f", "-") + " %", spread, *cells
            ).rstrip()
        warm = self._one(head, WARM, MONTHLY)
        yield f"  {WARM} against monthly: {_cell(warm) or warm.reason if warm else '-'}; rival: {rival}"

    def _one(self, head: str, cadence: str, against: str) -> Difference | None:
        found = (one for one in self.differences if (one.head, one.cadence, one.against) == (head, cadence, against))
        return next(found, None)

    def to_frame(self) -> pl.DataFrame:
        """One row a head, cadence and other cadence (null where it is compared with none): scores, gains and cost."""
        rows = []
        for score in self.scores:
            own = [one for one in self.differences if (one.head, one.cadence) == (score.head, score.cadence)]
            scored = asdict(score) | asdict(self.costs[score.cadence])
            rows += [scored | _compared(one) for one in own] or [scored]
        order = [*asdict(self.scores[0]), *asdict(Cost()), *_compared(self.differences[0])]
        return pl.DataFrame(rows, infer_schema_length=None).select(order)

    def plot(self) -> Any:
        """A Plotly figure: what each cadence saves of the loss of another, with 90 % intervals."""
        rows = [(f"{one.head}: {one.cadence} over {one.against}", one.gain, one.low, one.high)
                for one in self.differences]  # fmt: skip
        return draw_intervals(rows, "Gains of refitting more often", "share of the other's loss")

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        plain: dict[str, Any] = jsonable(
            {
                **asdict(self),
                "differences": [{**asdict(one), "sentence": one.sentence} for one in self.differences],
                "sentences": self.sentences,
            }
        )
        return plain


def _compared(one: Difference) -> dict[str, Any]:
    return {name: value for name, value in asdict(one).items() if name not in ("head", "cadence")}


def _cell(one: Difference | None) -> str:
    if one is None or one.reason:
        return ""
    gain, low, high = (f"{100 * value:.{1 if abs(one.gain) > 0.1 else 2}f}" for value in (one.gain, one.low, one.high))
    return f"{gain} ({low} to {high}) {one.statistic:.1f}"


@checked
def cadence(
    experiment: Experiment, *, progress: Progress | bool | None = None, machine: Machine = ONE_CORE
) -> Cadences:
    """LSTMs refitted monthly, quarterly, yearly and never, and monthly from warm starts, on the same forecasts.

    The schedule is the experiment's with monthly refits, the first when there is a whole window to learn from: else the
    fit that is never renewed would be a poor one. Nothing is combined, traded or chosen, but all cadences are scored on
    the rows that a run would be judged on: each enters the ledger of trials as the configuration that it is, once.

    Parameters
    ----------
    experiment: any; its `lstm.every` and `lstm.warm_start` are the study's to set.
    progress: called with "class: cadence", networks trained and networks there are; True shows bars, as in `run`.
    machine: its cores change the seconds alone; nothing is kept of what was interrupted.

    Raises
    ------
    What reading raises; HistoryTooShortError for a history without a window and a month after it.

    References
    ----------
    Diebold and Mariano (1995), Journal of Business & Economic Statistics 13; Harvey, Leybourne and Newbold (1997),
    International Journal of Forecasting 13; Holm (1979), Scandinavian Journal of Statistics 6.

    >>> from gatecast.forecasting.lstm import LSTM
    >>> from gatecast.market import synthetic
    >>> quick = Experiment(
    ...     bars=synthetic.b1(1200, seed=1, r2=0.1), features=("x",),
    ...     model={"lstm": LSTM(units=16, layers=1, seeds=1, epochs=1)}, schedule=Schedule(train="1Y"),
    ... )
    >>> found = cadence(quick)
    >>> [cost.fits for cost in found.costs.values()]
    [41, 14, 4, 1, 41]
    """
    bars = experiment.read().bars
    experiment = experiment.replace(schedule=monthly(experiment.schedule, experiment.network))
    made = replace(experiment.sampling, context=0).make(bars)  # no search is made
    samples = enough_history(made, bars, experiment.schedule, experiment.sampling)
    lstms = {name: variant(experiment.network, name) for name in MONTHS}
    wanted = {name for names in RIVALS.values() for name in names}
    rivals = {name: one for name, one in experiment.panel.items() if name in wanted}
    costs, task = dict.fromkeys(MONTHS, Cost()), Task(jobs=machine.jobs)
    with shown(progress) as told:
        forecasts = {
            name: _forecast(lstms, rivals, experiment.schedule, one, costs, told, task) for name, one in samples.items()
        }
    heads = [head for head in HEADS if head in experiment.network.heads]
    records = records_of(forecasts, heads)
    first = records[heads[0]]
    rows = int(np.isfinite(first.losses(MONTHLY)).sum())
    span = day_means(first, MONTHLY, NEVER).day
    with problems() as unread:
        settings = [configuration(experiment.with_model(NETWORK, lstm)) for lstm in lstms.values()]
        tried = len(record_trials(trials_of(settings, bars, list(samples.values()))))
    return Cadences(
        {name: len(one.symbols) for name, one in samples.items()}, experiment.network.seeds, rows, len(span),
        str(span.min()) if len(span) else "", str(span.max()) if len(span) else "",
        {name: len(one.folds) for name, one in forecasts.items()}, costs,
        tuple(_score(record, name) for record in records.values() for name in MONTHS), tuple(compared(records, costs)),
        tried, (*_notes(experiment.network.seeds, samples, sorted(made.keys() - samples.keys())), *unread),
    )  # fmt: skip


def monthly(schedule: Schedule, lstm: LSTM) -> Schedule:
    """The schedule with monthly refits, the first when there is a whole window to learn from."""
    window = lstm.window or (EXPANDING if schedule.expanding else schedule.train)
    changed: Schedule = schedule.replace(refit="1M", minimum=schedule.minimum if window == EXPANDING else window)
    return changed


def variant(lstm: LSTM, name: str) -> LSTM:
    """The LSTM of a cadence."""
    changed: LSTM = lstm.replace(every=MONTHS[name], warm_start=name == WARM)
    return changed


def trials_of(settings: Sequence[str], bars: pl.DataFrame, samples: Sequence[Samples]) -> list[Trial]:
    """A trial a cadence: `settings` are the hashes of runs with each. No book was held, so none has a profit."""
    days = session_date(bars["time"].dt.replace_time_zone(None).to_numpy().astype("datetime64[us]"))
    symbols = tuple(bars["symbol"].unique().sort().to_list())
    data = data_of(bars, samples)
    return [Trial(symbols, str(days.min()), str(days.max()), one, None, data=data) for one in settings]


# ── forecasts and cost ────────────────────────────────────────────────────────────────────────────


def _forecast(
    lstms: Mapping[str, LSTM], rivals: Mapping[str, Forecaster], schedule: Schedule, samples: Samples,
    costs: dict[str, Cost], progress: Progress | None, task: Task,
) -> Forecasts:  # fmt: skip
    """Out-of-sample forecasts of a class by every cadence, and by the heads' simple rivals."""
    folds = schedule.folds(samples.times, samples.known_at)
    lstms[MONTHLY].replace(seeds=1, epochs=1).fit_many([folds[0].on(samples)])  # compiles before the clock runs
    done: dict[str, int] = {}

    def report(model: str, count: int) -> None:
        done[model] = done.get(model, 0) + count
        if progress and model in lstms:
            progress(f"{samples.asset_class}: {model}", done[model], lstms[model].fit_count(len(folds)))

    def count(fits: Fits) -> None:
        if fits.name not in lstms:
            return
        trained = [n for one in {id(one): one for one in fits.fits}.values() for n in getattr(one, "trained", ())]
        before = costs[fits.name]
        costs[fits.name] = Cost(before.fits + len(trained), before.epochs + sum(trained), before.seconds + fits.seconds)

    return walk_forward({**lstms, **rivals}, samples, schedule, task, progress=report, on_fits=count)


# ── scores ────────────────────────────────────────────────────────────────────────────────────────


def _score(record: Record, name: str) -> Score:
    both = paired(record, name, RIVAL)
    spread = gain_over(both.loss, _spread(record, name))
    return Score(record.head, name, both.loss, RIVAL, both.gain, 1 - spread)


def _spread(record: Record, name: str) -> float:
    """Standard deviation over the seeds of the mean daily loss that each has alone; NaN of fewer than two."""
    alone = [record.with_forecasts(name, values) for values in record.members.get(name, ())]
    each = [float(day_means(one, name, name).model.mean()) for one in alone]
    return float(np.std(each, ddof=1)) if len(each) > 1 else float("nan")


def compared(records: Mapping[str, Record], costs: Mapping[str, Cost]) -> list[Difference]:
    """All pairs of `AGAINST` in all heads, corrected for how many they are."""
    found = [
        difference(record.head, paired(record, name, other), costs[name].epochs / max(costs[other].epochs, 1))
        for record in records.values()
        for name, other in AGAINST
    ]
    told = [one for one in found if not one.reason]
    corrected = iter(significance.holm(np.array([one.pvalue for one in told])) if told else ())
    return [
        one if one.reason else replace(one, pvalue_holm=float(next(corrected)), comparisons=len(told)) for one in found
    ]


def difference(head: str, both: Paired, cost: float) -> Difference:
    """One cadence beside another in words and numbers; `cost`: its epochs over those of the other."""
    nan = float("nan")
    blank = Difference(head, both.model, both.against, nan, nan, nan, nan, nan, both.n, cost)
    if both.n and both.same:
        return replace(blank, gain=0.0, reason="they are the same fits")
    if not both.test.enough:
        least = significance.BARS_PER_HORIZON * both.overlap
        few = f"{both.n} days are too few, {least} are the least"
        return replace(blank, reason=few if both.n < least else both.test.reason)
    return replace(
        blank, gain=both.mean.effect / both.loss_against, low=both.low, high=both.high,
        statistic=both.statistic, pvalue=both.pvalue,
    )  # fmt: skip


def _notes(seeds: int, samples: dict[str, Samples], left_out: Sequence[str]) -> Iterator[str]:
    """What a reader should know before the numbers."""
    symbols = sum(len(one.symbols) for one in samples.values())
    if symbols < SYMBOLS:
        yield f"Only {symbols} symbol(s): {SYMBOLS} are the least that such a comparison should rest on."
    if seeds < SEEDS:
        yield f"Only {seeds} network(s) in an ensemble: {SEEDS} are the least; seeds may decide it."
    for name in left_out:
        yield f"{name} is left out: its history is too short for a window and a month after it."
