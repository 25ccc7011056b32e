"""The interface of everything that forecasts: settings that fit, and fitted numbers that predict."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import AbstractContextManager, closing
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

import numpy as np

from gatecast.forecasting.cluster import active

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.forecasting.schedule import Fold
    from gatecast.samples.windows import Samples

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

Item = TypeVar("Item")
Result = TypeVar("Result")
Progress = Callable[[int], None]


class FittedForecaster(Protocol):
    """Learned numbers, scaler included. Nothing in it changes after `fit`."""

    def predict(self, samples: Samples, rows: IntArray) -> dict[str, FloatArray]:
        """Forecasts made at the close of each row, from its window and facts alone.

        Returns head -> array: `return` (rows, horizon) cumulative log returns; `direction` and `regime` (rows,)
        probabilities; `volatility` (rows,) variance over the horizon in the proxy's unit, above 0.
        """
        ...

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Arrays and JSON-able settings from which `from_state` of the same class rebuilds it."""
        ...


@runtime_checkable
class SeedEnsemble(FittedForecaster, Protocol):
    """A fitted forecaster made of several that differ by their seed alone."""

    def predict_members(
        self, samples: Samples, rows: IntArray
    ) -> tuple[dict[str, FloatArray], list[dict[str, FloatArray]]]:
        """What `predict` returns, and what each seed by itself would have."""
        ...


@runtime_checkable
class Forecaster(Protocol):
    """Settings only; `fit` is `fit_many` of one fold, and `fit_many` is what fans refits out over the cores."""

    @property
    def name(self) -> str:
        """The name in `forecasts.parquet`."""
        ...

    def fit_many(
        self, folds: Sequence[Fold], *, jobs: int = 1, progress: Progress | None = None
    ) -> Sequence[FittedForecaster]:
        """One fitted forecaster a fold, each from its own train and validation rows; `progress(n)` after n more."""
        ...


def fan_out(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    jobs: int = 1,
    processes: bool = False,
    light: bool = False,
    progress: Progress | None = None,
) -> list[Result]:
    """`[work(item) for item in items]` over the cores, in order; results depend on neither `jobs` nor the machine.

    Threads where the work releases the interpreter's lock, `processes` where it does not. Inside `cluster` the
    cluster's machines do it instead, but for `light` work, which takes less time than sending it would.
    """
    results = []
    with closing(stream_out(work, items, jobs=jobs, processes=processes, light=light)) as stream:
        for result in stream:
            results.append(result)
            if progress:
                progress(1)
    return results


def stream_out(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    jobs: int = 1,
    processes: bool = False,
    light: bool = False,
) -> Generator[Result]:
    """The results of `fan_out` one by one, each as soon as it and all before it are there; items are made as needed."""
    away = None if light else active()
    with one_thread():
        stream = away.stream(work, items) if away else _stream(work, items, jobs, processes)
        try:
            for result in stream:  # noqa: UP028, since a `yield from` would close it before it can be abandoned
                yield result
        except (KeyboardInterrupt, GeneratorExit):
            _abandon(stream)
            if processes and jobs > 1 and not away:  # they would finish what they are at, and leave their locks behind
                from joblib.externals.loky import get_reusable_executor

                get_reusable_executor().shutdown(wait=True, kill_workers=True)
            raise


def _abandon(stream: object) -> None:
    """Ends a stream before its time, on purpose: joblib need not warn of the jobs that nobody waits for."""
    if isinstance(stream, Generator):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            stream.close()


def one_thread() -> AbstractContextManager[object]:
    """BLAS on one thread: a second one would slow the other jobs, and change the last digits with the machine."""
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[object] = threadpool_limits(1)
    return limits


def _stream(work: Callable[[Item], Result], items: Iterable[Item], jobs: int, processes: bool) -> Iterable[Result]:
    if jobs == 1:
        return map(work, items)
    from joblib import Parallel, delayed

    backend = "loky" if processes else "threading"
    stream: Iterable[Result] = Parallel(n_jobs=jobs, backend=backend, return_as="generator")(
        delayed(work)(item) for item in items
    )
    return stream


def centre_and_spread(answers: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(columns,) means and standard deviations of the answers that are known: 0 and 1 where there is nothing to see.

    >>> import numpy as np
    >>> centre, spread = centre_and_spread(np.array([[1.0, np.nan, 5.0], [3.0, np.nan, 5.0]]))
    >>> centre.tolist(), spread.tolist()
    ([2.0, 0.0, 5.0], [1.0, 1.0, 1.0])
    """
    known = np.isfinite(answers).any(axis=0)
    centre, spread = np.zeros(answers.shape[1]), np.ones(answers.shape[1])
    centre[known] = np.nanmean(answers[:, known], axis=0)
    spread[known] = np.nanstd(answers[:, known], axis=0)
    return centre, np.where(spread > 0, spread, 1.0)


def seed_of(seed: int, asset_class: str, cutoff: np.datetime64, member: int = 0) -> int:
    """A seed that depends on the class, the cut-off and the member alone: what else is in the run changes nothing.

    >>> seed_of(0, "index", np.datetime64("2010-01-04T21:00")) == seed_of(0, "index", np.datetime64("2010-01-04T21:00"))
    True
    """
    moment = int(cutoff.astype("datetime64[s]").astype(np.int64))
    key = (zlib.crc32(asset_class.encode()), moment, member)
    return int(np.random.SeedSequence(seed, spawn_key=key).generate_state(1)[0])
