"""One list of jobs over the cores, or over a cluster: results in order, the same bytes wherever they are made."""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager, closing
from typing import Any, TypeVar

from gatecast.compute.cluster import active

Item = TypeVar("Item")
Result = TypeVar("Result")
Progress = Callable[[int], None]
"""Called with how many more are done."""


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

    Threads where the work releases the interpreter's lock, `processes` where it does not; one job after the other where
    the machine has no room for the locks of either. Inside `cluster` the
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
    cluster = None if light else active()
    with one_thread():
        stream = cluster.stream(work, items) if cluster else _stream(work, items, jobs, processes)
        try:
            for result in stream:  # noqa: UP028, since a `yield from` would close it before it can be abandoned
                yield result
        except (KeyboardInterrupt, GeneratorExit):
            _abandon(stream)
            if (
                processes and jobs > 1 and not cluster
            ):  # they would finish what they are at, and leave their locks behind
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
    limits: AbstractContextManager[object] = _libraries(len(sys.modules)).limit(limits=1)
    return limits


@functools.lru_cache(maxsize=1)
def _libraries(modules: int) -> Any:
    # Looking for the libraries takes 5 ms, and a run asks a hundred times; more come with more modules alone.
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def _stream(work: Callable[[Item], Result], items: Iterable[Item], jobs: int, processes: bool) -> Iterable[Result]:
    if jobs == 1 or not _has_locks():
        return map(work, items)
    from joblib import Parallel, delayed

    # processes made earlier, which would be used again, look for packages where this one did at that time
    given: dict[str, Any] = {"initializer": _look_for_packages_in, "initargs": (tuple(sys.path),)} if processes else {}
    backend = "loky" if processes else "threading"
    stream: Iterable[Result] = Parallel(n_jobs=jobs, backend=backend, return_as="generator", **given)(
        delayed(work)(item) for item in items
    )
    return stream


def _has_locks() -> bool:
    """Whether the locks of a pool can be made here: not where shared memory is full, or may not be written."""
    from multiprocessing import Lock

    try:
        Lock()
    except OSError:
        return False
    return True


def _look_for_packages_in(path: tuple[str, ...]) -> None:
    sys.path[:] = path
