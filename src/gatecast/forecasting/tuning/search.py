"""Bayesian search by Optuna, in batches: asked for, tried side by side, and written down whole and in order.

A trial is written when its batch has ended, with all that is known of it, so that a study that was killed holds whole
trials only. What is asked for follows from the trials of earlier batches and the trial's number alone: the study goes
on to the very trials it would have had. On a server that several machines share, trials are claimed before they are
tried, and which ones there are depends on who came first.
"""

from __future__ import annotations

import os
import socket
import time
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from gatecast.errors import StoreError, StudiesError, cut, hidden

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.storages import BaseStorage, RDBStorage
    from optuna.study import Study
    from optuna.trial import FrozenTrial
    from optuna.trial import Trial as OptunaTrial

    FloatArray = NDArray[np.float64]

BATCH = 4  # trials that are asked for together; the first batch of a study is drawn without a model
STALE_SECONDS = 6 * 3600  # after which a claimed trial of another machine is taken for lost
NAMELESS_SECONDS = 30  # after which one is whose process died before it had signed its claim
Params = dict[str, Any]
Evaluate = Callable[[Sequence[tuple[int, Params]], int], Sequence["FloatArray | str"]]
"""Numbered candidates and a step -> for each the losses of the step's days, or why it failed."""


@dataclass(frozen=True)
class Trial:
    """One candidate of a study, tried: `days` are the losses of all days of all its steps, `loss` their mean."""

    number: int
    params: Params
    state: Literal["complete", "pruned", "failed"]
    loss: float | None = None
    reason: str = ""
    steps: tuple[float, ...] = ()
    days: tuple[float, ...] = ()


@dataclass(frozen=True)
class Budget:
    """What a study may spend: `trials`, or as many as begin within `seconds`."""

    trials: int
    seconds: float | None = None


@contextmanager
def open_storage(url: str | None) -> Iterator[BaseStorage]:
    """Optuna's storage at an address: None keeps it in memory, `sqlite:///FILE` is for one process at a time.

    Raises `StoreError` for a file that another process is searching in, and `StudiesError` for one that cannot be read
    or written, now or later, and for an address that does not answer.
    """
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    with _quiet(), _file_lock(file_of(url)):
        storage = _connected(url) if url else optuna.storages.InMemoryStorage()
        try:
            if file_of(url):
                _read_through(storage, url or "")
            yield storage
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            raise _unreachable(url or "", error) from None
        finally:
            if isinstance(storage, optuna.storages.RDBStorage):
                storage.engine.dispose()


@contextmanager
def _quiet() -> Iterator[None]:
    """Optuna's own log, for errors alone."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


@contextmanager
def _file_lock(file: Path | None) -> Iterator[None]:
    """Keeps other processes out of a file of studies."""
    from filelock import FileLock, Timeout

    if file is None:
        yield
        return
    if file.exists() and not file.is_file():
        raise StudiesError(f"{file} is no regular file: remove it, or give another place for the studies.")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{file}.lock", timeout=0)
        lock.acquire()
    except Timeout:
        raise StoreError(
            f"{file} is in use by another search: wait for it, or give a PostgreSQL address that both can share."
        ) from None
    except OSError as error:
        raise StudiesError(f"{file} cannot be written: {error.strerror}. Give another place for the studies.") from None
    try:
        yield
    finally:
        lock.release()


def _connected(url: str) -> RDBStorage:
    from optuna.exceptions import StorageInternalError
    from optuna.storages import RDBStorage
    from sqlalchemy.exc import ArgumentError, IntegrityError, ProgrammingError, SQLAlchemyError

    for left in reversed(range(10)):  # several may make the tables of a new server at once, and all but one fail
        try:
            return RDBStorage(url)
        except (IntegrityError, ProgrammingError) as error:
            if not left:
                raise _unreachable(url, error) from None
            time.sleep(0.3)
        except (ModuleNotFoundError, ImportError) as error:
            driver = f" (it lacks {error.name})" if error.name else ""
            raise StoreError(
                f"the studies at {hidden(url)} need a driver{driver}: pip install 'gatecast[postgresql]', and begin "
                "the address with postgresql+psycopg://."
            ) from None
        except ArgumentError:
            raise StoreError(
                f"{hidden(url)!r} is no address of studies: expected sqlite:///studies.db or "
                "postgresql+psycopg://user@host/name."
            ) from None
        except (SQLAlchemyError, StorageInternalError, ValueError, RuntimeError) as error:  # of a damaged file
            raise _unreachable(url, error) from None
    raise AssertionError("the last attempt returns or raises")


def _read_through(storage: BaseStorage, url: str) -> None:
    """Reads all of a file: a damaged one is found here, and not in the middle of a search."""
    try:
        for study in storage.get_all_studies():
            storage.get_all_trials(study._study_id, deepcopy=False)
    except Exception as error:  # whatever a library makes of flipped bits
        raise _unreachable(url, error) from None


def _unreachable(url: str, error: Exception) -> StudiesError:
    cause = str(error.__cause__ or error).strip().splitlines() or [type(error).__name__]
    return StudiesError(f"the studies at {hidden(url)} cannot be read or written: {cut(hidden(cause[0]), 300)}")


def file_of(url: str | None) -> Path | None:
    """The file of an SQLite address; None for memory and for a server.

    >>> str(file_of("sqlite:///studies.db")), file_of("postgresql+psycopg://host/name")
    ('studies.db', None)
    """
    return Path(url.removeprefix("sqlite:///")) if url and url.startswith("sqlite:///") else None


def search(
    storage: BaseStorage,
    name: str,
    space: dict[str, BaseDistribution],
    guesses: Sequence[Params],
    evaluate: Evaluate,
    *,
    steps: int,
    budget: Budget,
    sampler: Literal["tpe", "gp"] = "tpe",
    prune: bool = True,
    seed: Callable[[int], int],
    shared: bool = False,
    progress: Callable[[Sequence[Trial]], None] | None = None,
) -> list[Trial]:
    """The trials of the study `name`: as many as the budget has, those that it held already and those tried now.

    Parameters
    ----------
    space: name -> range of a parameter. guesses: what the first trials try; the others follow from those before.
    evaluate: tries candidates on a step (an inner fold); a candidate goes on to the next step unless it failed, or its
        mean so far is worse than the median of the trials of earlier batches (`prune`).
    seed: trial number -> seed of what is drawn for it. shared: other processes work on the same study.
    progress: called with all trials so far after each batch.
    """
    import optuna

    study = optuna.create_study(storage=storage, study_name=name, direction="minimize", load_if_exists=True)
    work = _Work(study, space, list(guesses), evaluate, steps, sampler, prune, seed)
    began = time.monotonic()
    if shared:
        _fail_stale_claims(study)
    while True:
        known = _finished(study)
        if budget.seconds is None and not shared:
            known = known[: budget.trials]  # a larger budget before changes nothing
        if progress:
            progress([_read(one) for one in known])
        late = budget.seconds is not None and time.monotonic() - began >= budget.seconds
        if late or (budget.seconds is None and len(known) >= budget.trials):
            return [_read(one) for one in known]
        most = budget.trials if budget.seconds is None else None
        if shared:
            work.claim_batch(most)
        else:
            begin = len(known) // BATCH * BATCH
            work.whole_batch(known, begin, BATCH if most is None else min(BATCH, most - begin))


@dataclass(frozen=True)
class _Work:
    """A study and how its trials are made."""

    study: Study
    space: dict[str, BaseDistribution]
    guesses: list[Params]
    evaluate: Evaluate
    steps: int
    sampler: Literal["tpe", "gp"]
    prune: bool
    seed: Callable[[int], int]

    def whole_batch(self, known: Sequence[FrozenTrial], begin: int, count: int) -> None:
        """Trials `begin` to `begin + count`, those that are not written yet; an interrupted batch is made whole."""
        before, there = known[:begin], known[begin:]
        twin = _in_memory(before)
        batch = []
        for number in range(begin, begin + count):
            if number < len(self.guesses):
                twin.enqueue_trial(self.guesses[number])
            twin.sampler = self.sampler_for(number)
            batch.append((number, dict(twin.ask(self.space).params)))
        for trial in self.tried(batch[len(there) :], before):
            self.study.add_trial(self.written(trial))

    def claim_batch(self, trials: int | None) -> None:
        """Up to a batch of trials that nobody has claimed, out of so many; waits where others are at the last ones."""
        from optuna.samplers import PartialFixedSampler
        from optuna.trial import TrialState

        claimed: list[OptunaTrial] = []
        me = f"{socket.gethostname()} {os.getpid()}"
        while len(claimed) < BATCH and (trials is None or len(_counted(self.study)) < trials):
            self.study.sampler = self.sampler_for(len(self.study.trials), zlib.crc32(me.encode()))
            trial = self.study.ask()
            before = sum(one.number < trial.number for one in _counted(self.study))
            if trials is not None and before >= trials:  # another took the last one at the same moment
                self.study.tell(trial, state=TrialState.FAIL)
                break
            if trial.number < len(self.guesses):
                with warnings.catch_warnings(action="ignore"):  # that it is new
                    self.study.sampler = PartialFixedSampler(self.guesses[trial.number], self.study.sampler)
            trial.set_user_attr("claimed_by", me)
            for name, distribution in self.space.items():
                _suggest(trial, name, distribution)
            claimed.append(trial)
        if not claimed:
            time.sleep(0.5)
            _fail_stale_claims(self.study)
            return
        earlier = [one for one in _finished(self.study) if one.number < claimed[0].number]
        made = self.tried([(one.number, one.params) for one in claimed], earlier)
        for trial, done in zip(claimed, made, strict=True):
            written = self.written(done)
            for key, value in written.user_attrs.items():
                trial.set_user_attr(key, value)
            for step, value in written.intermediate_values.items():
                trial.report(value, step)
            self.study.tell(trial, done.loss if done.state == "complete" else None, state=written.state)

    def tried(self, batch: Sequence[tuple[int, Params]], before: Sequence[FrozenTrial]) -> list[Trial]:
        """The candidates of a batch, tried step by step; only earlier batches decide which are given up."""
        days: dict[int, list[FloatArray]] = {number: [] for number, _ in batch}
        state: dict[int, tuple[Literal["complete", "pruned", "failed"], str]] = {}
        for step in range(self.steps):
            alive = [(number, params) for number, params in batch if number not in state]
            for (number, params), found in zip(alive, self.evaluate(alive, step) if alive else [], strict=True):
                if isinstance(found, str):
                    state[number] = "failed", found
                    continue
                days[number].append(found)
                if step + 1 < self.steps and self.hopeless(params, days[number], before):
                    state[number] = "pruned", f"worse than the median after {step + 1} of {self.steps} folds"
        made = []
        for number, params in batch:
            every = np.concatenate(days[number]) if days[number] else np.zeros(0)
            how, reason = state.get(number, ("complete", ""))
            loss = float(every.mean()) if how != "failed" and len(every) else None
            steps = tuple(float(np.mean(one)) for one in _running(days[number]))
            made.append(Trial(number, params, how, loss, reason, steps, tuple(every.tolist())))
        return made

    def hopeless(self, params: Params, days: Sequence[FloatArray], before: Sequence[FrozenTrial]) -> bool:
        """Whether the mean so far is worse than the median of earlier trials after as many steps."""
        from optuna.pruners import MedianPruner
        from optuna.trial import TrialState, create_trial

        if not self.prune:
            return False
        values = {step: float(np.mean(one)) for step, one in enumerate(_running(days))}
        trial = create_trial(
            state=TrialState.RUNNING, params=params, distributions=self.space, intermediate_values=values
        )
        return MedianPruner(n_startup_trials=BATCH, n_warmup_steps=0).prune(_in_memory(before), trial)

    def sampler_for(self, number: int, worker: int = 0) -> BaseSampler:
        """What proposes a trial, freshly seeded by its number (and, where several may ask at once, by who asks)."""
        from optuna.samplers import GPSampler, TPESampler

        kind = GPSampler if self.sampler == "gp" else TPESampler
        return kind(seed=(self.seed(number) + worker) % 2**31, n_startup_trials=BATCH)

    def written(self, trial: Trial) -> FrozenTrial:
        """The trial as Optuna keeps it."""
        from optuna.trial import TrialState, create_trial

        states = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
        return create_trial(
            state=states[trial.state], value=trial.loss, params=trial.params, distributions=self.space,
            user_attrs={"days": list(trial.days), "reason": trial.reason},
            intermediate_values=dict(enumerate(trial.steps)),
        )  # fmt: skip


def importance(studies: Sequence[Sequence[tuple[Params, float]]]) -> dict[str, float]:
    """Parameter -> its share in how far apart losses are, over several studies; {} where too few were tried.

    In: parameters and loss of each trial of each study; losses count relative to the mean of their study. By functional
    analysis of variance of a random forest (Hutter, Hoos and Leyton-Brown 2014, ICML); a rough guide below a hundred
    trials.
    """
    import optuna

    losses = [loss - float(np.mean([other for _, other in study])) for study in studies for _, loss in study]
    tried = [params for study in studies for params, _ in study]
    ranges = {name: _range([params[name] for params in tried]) for name in (tried[0] if tried else ())}
    varied = {name: of for name, of in ranges.items() if not of.single()}
    if len(tried) < 2 * BATCH or not varied or len(set(losses)) == 1:
        return {}
    with _quiet():
        together = _in_memory([])
        for params, loss in zip(tried, losses, strict=True):
            own = {name: params[name] for name in varied}
            together.add_trial(optuna.trial.create_trial(value=loss, params=own, distributions=varied))
        forest = optuna.importance.FanovaImportanceEvaluator(seed=0)
        found = optuna.importance.get_param_importances(together, evaluator=forest)
    return {name: float(share) for name, share in found.items()}


def _range(values: Sequence[Any]) -> BaseDistribution:
    """The range that these values lie in, on a log scale where it spans more than tenfold."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if any(isinstance(value, bool | str) or value is None for value in values):
        return CategoricalDistribution(tuple(dict.fromkeys(values)))
    return FloatDistribution(min(values), max(values), log=max(values) > 10 * min(values) > 0)


def _in_memory(trials: Sequence[FrozenTrial]) -> Study:
    """A study that holds these trials and is nowhere on disk."""
    import optuna

    study = optuna.create_study(direction="minimize", sampler=optuna.samplers.RandomSampler(seed=0))
    study.add_trials(trials)
    return study


def _finished(study: Study) -> list[FrozenTrial]:
    """Trials that have ended; claims that were lost are none."""
    return [trial for trial in _counted(study) if trial.state.is_finished()]


def _counted(study: Study) -> list[FrozenTrial]:
    """Trials that have ended or are being tried."""
    every = study.get_trials(deepcopy=False)
    return [trial for trial in every if trial.state.name != "FAIL" or trial.user_attrs.get("reason")]


def _suggest(trial: OptunaTrial, name: str, of: BaseDistribution) -> None:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    match of:
        case CategoricalDistribution():
            trial.suggest_categorical(name, of.choices)
        case IntDistribution():
            trial.suggest_int(name, of.low, of.high, step=of.step, log=of.log)
        case FloatDistribution():
            trial.suggest_float(name, of.low, of.high, step=of.step, log=of.log)


def _read(trial: FrozenTrial) -> Trial:
    states: dict[str, Literal["complete", "pruned", "failed"]] = {
        "COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed",
    }  # fmt: skip
    steps = tuple(value for _, value in sorted(trial.intermediate_values.items()))
    return Trial(
        trial.number, dict(trial.params), states[trial.state.name], trial.value,
        str(trial.user_attrs.get("reason", "")), steps, tuple(trial.user_attrs.get("days", ())),
    )  # fmt: skip


def _fail_stale_claims(study: Study) -> None:
    """Marks as failed the trials whose process has died: on this machine at once, elsewhere after `STALE_SECONDS`.

    Optuna's own `fail_stale_trials` serves `Study.optimize` alone: a trial that was asked for, and whose process died
    before its first heartbeat, runs for ever there.
    """
    import datetime

    from optuna.trial import TrialState

    for trial in study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
        host, _, pid = str(trial.user_attrs.get("claimed_by", "")).partition(" ")
        here = host == socket.gethostname() and pid.isdecimal()
        begun = trial.datetime_start or datetime.datetime.min
        age = (datetime.datetime.now() - begun).total_seconds()
        if (here and not _process_alive(int(pid))) or age > (STALE_SECONDS if host else NAMELESS_SECONDS):
            study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)


def _process_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _running(days: Sequence[FloatArray]) -> Iterator[FloatArray]:
    """After each step, the losses of all days so far."""
    for step in range(len(days)):
        yield np.concatenate(days[: step + 1])
