"""The placebo study: the rank of a run among runs on copies of its market without predictability.

A copy is the user's own market with the sign of each day drawn anew: see `flipped`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gatecast.arguments import checked
from gatecast.chain import Progress, make_chain
from gatecast.compute.cluster import code_hash
from gatecast.compute.parallel import fan_out
from gatecast.compute.progress import shown
from gatecast.errors import SettingsError, StoreError
from gatecast.evaluation.ledger import unrecorded
from gatecast.evaluation.paired import LEVEL
from gatecast.evaluation.verdict import NAMES
from gatecast.experiment import Experiment
from gatecast.files import append_lines, read
from gatecast.machine import ONE_CORE, Machine
from gatecast.market.bars import session_date
from gatecast.notebook import Shown, draw_boxes, number_text
from gatecast.provenance import hash_of, hash_of_bars, libraries_of
from gatecast.samples.features import DEFAULT_FEATURES, compute_features
from gatecast.samples.features.catalogue import BUILT_IN
from gatecast.verdicts import judge_chain

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.evaluation.verdict import Verdict

    FloatArray = NDArray[np.float64]

ABOUT_SIGNS = ("return", "direction", "strategy")
"""What flips leave nothing of; volatility and regime can be forecast on a copy as well as on the market."""
WHOLE = "run"
KEPT = "volatility and its clustering, ranges, gaps, volumes, drift, the size of co-movement of symbols, not its sign"
REMOVED = "autocorrelation of returns, lead and lag, their link to any feature, asymmetry, leverage"
PRICES = ("open", "high", "low", "close")
MAX_COPIES_BYTES = 2**26
MOST_COPIES = 100_000
FILE = "placebo.jsonl"


@dataclass(frozen=True)
class Rank:
    """One statistic of the market's own run, and of every copy's. The larger the better.

    `of` is the head, "strategy", or "run": the largest of return, direction and strategy, which is the strongest claim
    of a run. All three are one-sided and near standard normal where there is nothing to find. A statistic is 0 where
    there is no effect to test: no position was ever held, or the forecasts are the rival's own.
    """

    of: str
    statistic: float
    copies: tuple[float, ...]

    @property
    def beaten(self) -> int:
        """How many copies the run beats."""
        return sum(self.statistic > copy for copy in self.copies)

    @property
    def tied(self) -> int:
        """How many copies are as good, such as those of a strategy that never held anything; p counts them against."""
        return sum(self.statistic == copy for copy in self.copies)

    @property
    def pvalue(self) -> float:
        """(1 + copies at least as good) / (1 + copies): the chance of such a rank where there is nothing to find."""
        return (1 + len(self.copies) - self.beaten) / (1 + len(self.copies))

    @property
    def beats(self) -> str:
        """How many of how many.

        >>> Rank("return", 2.0, (0.0, 2.0, 3.0)).beats
        '1 of 3 copies (1 tie)'
        """
        ties = f" ({self.tied} tie)" if self.tied else ""
        return f"{self.beaten} of {len(self.copies)} copies{ties}"

    @property
    def sentence(self) -> str:
        """The rank in words.

        >>> Rank("return", 2.0, (0.0, 1.0, 3.0)).sentence
        'Your return forecast beats 2 of 3 copies, p 0.5.'
        """
        name = self.of if self.of in ("strategy", WHOLE) else f"{self.of} forecast"
        if self.of in (*ABOUT_SIGNS, WHOLE):
            return f"Your {name} beats {self.beats}, p {self.pvalue:.3g}."
        return f"Your {name} beats {self.beats}: copies keep it, this tells only what the signs of returns add."

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "statistic": self.statistic, "beaten": self.beaten, "tied": self.tied, "pvalue": self.pvalue,
            "sentence": self.sentence, "copies": list(self.copies),
        }  # fmt: skip


@dataclass(frozen=True)
class Placebo(Shown):
    """Ranks by head, of the strategy, and of the "run" as a whole."""

    ranks: dict[str, Rank]

    @property
    def sentence(self) -> str:
        """What a reader should take away."""
        whole = self.ranks[WHOLE]
        text = f"Your run beats {whole.beats} of its own market without predictability, p {whole.pvalue:.3g}."
        if whole.pvalue <= LEVEL:
            return f"{text} A run as good is rare where there is nothing to find."
        if 1 + len(whole.copies) < 1 / LEVEL:
            return f"{text} So few copies cannot make a p of {LEVEL}: {1 / LEVEL - 1:.0f} are the least."
        return f"{text} A run as good is nothing unusual where there is nothing to find."

    def summary(self) -> str:
        """Plain text of at most 100 columns: the sentence, a table of the ranks, and what a copy is."""
        row = "  {:<12}{:>9}{:>8}{:>6}{:>8}   {:>12}{:>12}{:>12}".format
        titles = ("", "statistic", "beats", "ties", "p", "copies: 5 %", "median", "95 %")
        table = [row(*titles).rstrip()]
        for name, rank in self.ranks.items():
            numbers = (number_text(value, ".2f", "-") for value in np.quantile(rank.copies, (0.05, 0.5, 0.95)))
            pvalue = f"{rank.pvalue:.3g}" if name in (*ABOUT_SIGNS, WHOLE) else ""
            own = (number_text(rank.statistic, ".2f", "-"), str(rank.beaten), str(rank.tied), pvalue)
            table.append(row(name, *own, *numbers))
        said = (
            f"run: the largest of {', '.join(ABOUT_SIGNS)}. Copies keep: {KEPT}. Volatility and regime can be forecast "
            f"there as well; their ranks tell only what the signs of returns add. Copies lose: {REMOVED}."
        )
        return "\n".join([fill(self.sentence, 100), "", *table, "", fill(said, 100)])

    def plot(self) -> Any:
        """A Plotly figure: the run's statistics beside those of its copies without predictability."""
        copies = {name: rank.copies for name, rank in self.ranks.items()}
        own = {name: rank.statistic for name, rank in self.ranks.items()}
        return draw_boxes(copies, own, "The run (diamonds) and its copies (boxes)", "statistic")

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "copies": len(self.ranks[WHOLE].copies), "sentence": self.sentence,
            "ranks": {name: rank.to_dict() for name, rank in self.ranks.items()},
            "kept": KEPT, "removed": REMOVED,
        }  # fmt: skip


@checked
def placebo(
    experiment: Experiment,
    *,
    copies: int = 199,
    folder: str | Path | None = None,
    machine: Machine = ONE_CORE,
    progress: Progress | bool | None = None,
) -> Placebo:
    """Where the run stands among runs of the same chain on copies without predictability.

    Refits, ensemble, selection and the strategy's profit are done anew on every copy; no copy enters the ledger of
    trials. A rank's p-value covers all that the chain does with its data (overlap, pooling, ensemble, selection).
    That of "run", the best statistic of return, direction and strategy, covers as well that there are three to look at.

    Parameters
    ----------
    experiment: any; its seed decides the copies. copies: 199 make .005 the smallest p-value.
    folder: keeps every copy as it ends, one JSON line in `placebo.jsonl`, so that a study that was stopped goes on and
        one with more copies begins where this one ended. Lines of other settings, data or code are left alone.
    machine: its cores, one copy each, change no result. progress: called with "placebo", runs done and runs there are;
        True shows bars, as in `run`.

    Raises
    ------
    SettingsError for fewer than one copy or a folder that cannot be written, StoreError when it no longer can be; what
    reading and the chain raise.

    References
    ----------
    Phipson and Smyth (2010), Statistical Applications in Genetics and Molecular Biology 9: why p counts the run itself.
    Westfall and Young (1993), Resampling-Based Multiple Testing: the best of several statistics.

    >>> from gatecast.forecasting.models.forest import Forest
    >>> from gatecast.forecasting.lstm import LSTM
    >>> from gatecast.forecasting.schedule import Schedule
    >>> from gatecast.market import synthetic
    >>> quick = Experiment(
    ...     bars=synthetic.b1(800, seed=1, r2=0.1), features=("x",), schedule=Schedule(refit="1Y"),
    ...     model={"lstm": LSTM(units=16, layers=1, seeds=1, epochs=2), "forest": Forest(trees=5)},
    ... )
    >>> placebo(quick, copies=2).ranks["return"].sentence
    'Your return forecast beats 2 of 2 copies, p 0.333.'
    """
    if not 1 <= copies <= MOST_COPIES:
        raise SettingsError(f"copies = {copies}: expected 1 to {MOST_COPIES:,}; 199 make .005 the smallest p-value.")
    experiment = experiment.replace(control=None)
    bars = experiment.read().bars
    key = key_of(experiment, bars)
    file = _opened(Path(folder)) if folder is not None else None
    found = read_copies(file, key) if file else {}

    def work(copy: int) -> tuple[int, dict[str, float]]:
        verdicts = verdicts_of(experiment, flipped(bars, copy, experiment.seed))
        statistics = {name: _number(verdict.statistic) for name, verdict in verdicts.items()}
        if file:
            _append(file, {"key": key, "copy": copy, "statistics": statistics})
        return copy, statistics

    missing = [copy for copy in range(copies + 1) if copy not in found]  # 0 is the market itself
    done = copies + 1 - len(missing)

    def report(count: int) -> None:
        nonlocal done
        done += count
        if told:
            told("placebo", done, copies + 1)

    with shown(progress) as told:
        report(0)
        found |= fan_out(work, missing, jobs=machine.jobs, processes=experiment.is_importable, progress=report)
    return ranked([found[copy] for copy in range(copies + 1)])


def ranked(statistics: list[dict[str, float]]) -> Placebo:
    """The ranks, out of the statistics of the market (first) and of every copy.

    >>> market = {"return": 2.0, "direction": 0.1, "strategy": 0.0}
    >>> copy = {"return": 0.0, "direction": 2.5, "strategy": 0.0}
    >>> ranked([market, copy]).ranks["run"].beaten
    0
    """
    whole = [{**each, WHOLE: max(each[name] for name in ABOUT_SIGNS)} for each in statistics]
    market, *copies = whole
    order = [name for name in (WHOLE, *NAMES) if name in market]
    return Placebo({name: Rank(name, market[name], tuple(copy[name] for copy in copies)) for name in order})


def flipped(bars: pl.DataFrame, copy: int, seed: int = 0) -> pl.DataFrame:
    """A copy of a market in which the past says nothing about the sign of what comes next; copy 0 is the market.

    Every session draws a sign that all symbols share. Where it is negative, a bar's four prices are mirrored, in logs,
    about previous close + drift, the drift being the mean log return of the symbol's bars in this sample, which is
    more than anybody knew at the time. An open that repeats the previous close goes on doing so.

    Kept: the size of every return about its drift, hence volatility and its clustering; ranges and gaps, volumes and
    all other columns; the drift; the size of the co-movement of symbols, not its sign across days. Lost:
    autocorrelation of returns, lead and lag between symbols, what any feature says about returns, asymmetry, leverage
    (falls no longer announce volatility), and the link of a column to returns of its own bar, if it has a sign.

    Parameters
    ----------
    bars: a Bars frame. copy, seed: decide the signs, one draw a session from the first on.

    Returns
    -------
    A Bars frame of the same rows and columns; only open, high, low and close differ.

    >>> from gatecast.market import synthetic
    >>> market = synthetic.a1(500, seed=1)
    >>> step = lambda bars: np.diff(np.log(bars["close"].to_numpy()))
    >>> drift = step(market).mean()
    >>> np.allclose(abs(step(market) - drift), abs(step(flipped(market, copy=3)) - drift))
    True
    """
    if copy == 0:
        return bars
    _, day = np.unique(session_date(bars["time"].dt.replace_time_zone(None).to_numpy()), return_inverse=True)
    draws = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(copy,)))
    sign = (2.0 * draws.integers(2, size=day.max() + 1) - 1)[day]
    prices = bars.select(PRICES).to_numpy()
    starts = np.flatnonzero(bars["symbol"].is_first_distinct().to_numpy())[1:]
    parts = zip(np.split(prices, starts), np.split(sign, starts), strict=True)
    mirrored = np.concatenate([_mirrored(*part) for part in parts])
    return bars.with_columns(pl.Series(name, mirrored[:, column]) for column, name in enumerate(PRICES))


def _mirrored(prices: FloatArray, sign: FloatArray) -> FloatArray:
    """One symbol's open, high, low and close, (bars, 4), with each bar's move multiplied by its sign."""
    log = np.log(prices)
    before = np.r_[log[0, 3], log[:-1, 3]]
    drift = float(np.diff(log[:, 3]).mean()) if len(log) > 1 else 0.0
    sign = np.r_[1.0, sign[1:]]  # a first bar has no return: it stays
    move = drift + sign[:, None] * (log - before[:, None] - drift)
    path = log[0, 3] + np.cumsum(move[:, 3])
    copy: FloatArray = np.exp(np.r_[path[0], path[:-1]][:, None] + move)
    repeats = prices[1:, 0] == prices[:-1, 3]
    copy[1:, 0] = np.where(repeats, copy[:-1, 3], copy[1:, 0])
    copy[:, 1], copy[:, 2] = copy.max(axis=1), copy.min(axis=1)
    return copy


def verdicts_of(experiment: Experiment, bars: pl.DataFrame) -> dict[str, Verdict]:
    """Bars to verdicts, on one core; nothing of it enters the ledger of trials."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1), unrecorded():  # the last digits depend on the number of threads
        return judge_chain(experiment, make_chain(experiment, bars))


# ── what is kept ──────────────────────────────────────────────────────────────────────────────────


def own_features(names: Collection[str], columns: Collection[str]) -> list[str]:
    """The features that are functions of the user's own: neither built in nor columns of the bars."""
    return sorted({*names} - BUILT_IN - {*columns})


def key_of(experiment: Experiment, bars: pl.DataFrame) -> str:
    """Hash of all that decides a copy: settings, seed, data, own features, this program and the libraries below it.

    The user's features count by what they make of the market itself, other plug-ins by their origin.
    """
    settings = {key: value for key, value in experiment.to_dict().items() if key not in ("name", "bars", "control")}
    own = own_features(experiment.features or DEFAULT_FEATURES, bars.columns)
    made = bars.hstack(compute_features(bars, own).select(own)) if own else bars
    libraries = libraries_of([experiment.panel])
    return hash_of([settings, hash_of_bars(made), code_hash(), libraries, experiment.deciding_plugins])


def read_copies(file: Path, key: str) -> dict[int, dict[str, float]]:
    """copy -> its statistics, of the lines with this key; a line that a crash cut short is passed over."""
    found: dict[int, dict[str, float]] = {}
    try:
        lines = read(file, at_most=MAX_COPIES_BYTES).decode("utf-8", errors="replace").splitlines()
    except OSError as error:
        raise SettingsError(f"{file}: {error.strerror or error}. Give another folder.") from None
    for line in lines:
        try:
            fields = json.loads(line)
            if fields["key"] == key:
                found[int(fields["copy"])] = {str(name): float(value) for name, value in fields["statistics"].items()}
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
            continue
    return found


def _opened(folder: Path) -> Path:
    """The file, there and ready for lines. Raises SettingsError where that cannot be."""
    file = folder / FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file.open("ab").close()
    except OSError as error:
        raise SettingsError(f"{file}: copies cannot be kept there: {error.strerror}. Give another folder.") from None
    return file


def _append(file: Path, fields: Mapping[str, Any]) -> None:
    """One line, see `append_lines`; never mixed with another process's."""
    try:
        append_lines(file, [fields])
    except OSError as error:
        raise StoreError(f"{file}: a copy cannot be kept: {error.strerror}. What is there stays good.") from None


def _number(statistic: float) -> float:
    """Nothing to test, such as no position ever held, is neither good nor bad; the last digits are rounding."""
    return round(float(statistic), 9) if np.isfinite(statistic) else 0.0
