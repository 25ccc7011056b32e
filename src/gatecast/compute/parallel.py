"""One list of jobs over the cores, or over a cluster: results in order, the same bytes wherever they are made."""

from __future__ import annotations

import os
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager, nullcontext
from contextvars import copy_context
from typing import Any, TypeVar

from gatecast.compute.cluster import active
from gatecast.compute.memory import give_back
from gatecast.compute.threads import one_thread
from gatecast.errors import ProcessKilledError

Item = TypeVar("Item")
Result = TypeVar("Result")
Progress = Callable[[int], None]
"""Called with how many more are done."""
AHEAD = 4
"""Items for each thread that are begun and not taken: one that takes long holds up no other, and few results wait."""


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
    """The results of `fan_out` one by one, each as soon as it and all before it are there.

    Of threads at most `AHEAD` items for each are begun whose results nobody has taken. Raises `ProcessKilledError`
    where one of the processes is killed.
    """
    cluster = None if light else active()
    with one_thread(), _one_pool() if processes and jobs > 1 and not cluster else nullcontext():
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


class AbandonedError(Exception):
    """Work that nobody waits for any more: what stood beside it has failed, or was interrupted."""


def side_by_side(
    work: Callable[[Item, Callable[[], None]], Result], items: Iterable[Item], *, jobs: int = 1
) -> list[Result]:
    """`[work(item, go_on) for item in items]`, at most `jobs` at a time, each of which may fan out by itself; in order.

    For long work with stages that use one core: those of one item run beside those of another. Work calls `go_on` now
    and then: once another item has failed, or an interrupt has come, it raises `AbandonedError`. The first failure is
    raised when all that had begun has ended. Inside `cluster` one item follows the other.

    >>> side_by_side(lambda item, go_on: go_on() or -item, [1, 2, 3], jobs=2)
    [-1, -2, -3]
    """
    abandoned, failures = threading.Event(), list[BaseException]()

    def go_on() -> None:
        if abandoned.is_set():
            raise AbandonedError

    def begun(item: Item) -> Result:
        try:
            go_on()
            return work(item, go_on)
        except BaseException as error:
            if not isinstance(error, AbandonedError):
                failures.append(error)
            abandoned.set()
            raise

    with one_thread():
        if jobs == 1 or active() or not _has_locks():
            return [work(item, go_on) for item in items]
        # what a thread ignores of warnings, another may restore: at the end they are as before
        with warnings.catch_warnings(), ThreadPoolExecutor(jobs) as pool:
            try:
                results = [pool.submit(copy_context().run, begun, item) for item in items]
                while wait(results, timeout=1).not_done:  # an interrupt just before it waits is seen after that
                    pass
                return [one.result() for one in results]
            except AbandonedError:
                raise failures[0] from None
            finally:
                abandoned.set()


_pool = threading.RLock()
WORKER_REPLACED = "A worker stopped while some jobs were given to the"
"""How a warning of joblib's begins."""


@contextmanager
def _one_pool() -> Iterator[None]:
    """The processes of joblib, which all threads share, for one of them; the others wait.

    joblib warns where it replaces a process that was idle for long, or has grown by 300 MB: no job is lost by that.
    """
    with _pool, warnings.catch_warnings():
        warnings.filterwarnings("ignore", WORKER_REPLACED)
        yield


def _abandon(stream: object) -> None:
    """Ends a stream before its time, on purpose: joblib need not warn of the jobs that nobody waits for."""
    if isinstance(stream, Generator):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            stream.close()


def _stream(work: Callable[[Item], Result], items: Iterable[Item], jobs: int, processes: bool) -> Iterable[Result]:
    if jobs == 1 or not _has_locks():
        return map(work, items)
    return _of_processes(work, items, jobs) if processes else _of_threads(work, items, jobs)


def _of_threads(work: Callable[[Item], Result], items: Iterable[Item], jobs: int) -> Iterator[Result]:
    waiting = deque[Future[Result]]()
    with ThreadPoolExecutor(jobs) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) == AHEAD * jobs:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _of_processes(work: Callable[[Item], Result], items: Iterable[Item], jobs: int) -> Iterator[Result]:
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    # processes made earlier, which would be used again, look for packages where this one did at that time
    begun: dict[str, Any] = {"initializer": _begin, "initargs": (tuple(sys.path), os.getpid())}
    stream: Iterable[Result] = Parallel(n_jobs=jobs, backend="loky", return_as="generator", **begun)(
        delayed(_and_give_back)(work, item) for item in items
    )
    try:
        yield from stream
    except TerminatedWorkerError:
        raise ProcessKilledError(
            "a process of this run was ended from outside, as the system does where memory is short. Run it in fewer "
            "processes (--jobs 1, in Python machine=Machine(jobs=1)), or where more memory is free."
        ) from None


def _and_give_back(work: Callable[[Item], Result], item: Item) -> Result:
    """Work in a process that then waits for more, for how long nobody knows."""
    try:
        return work(item)
    finally:
        give_back()


def _has_locks() -> bool:
    """Whether the locks of a pool can be made here: not where shared memory is full, or may not be written."""
    from multiprocessing import Lock

    try:
        Lock()
    except OSError:
        return False
    return True


def _begin(path: tuple[str, ...], owner: int) -> None:
    """In a new process of the pool: where it looks for packages, and that it ends when its owner has ended."""
    sys.path[:] = path
    threading.Thread(target=_end_with, args=(owner,), daemon=True).start()


def _end_with(owner: int) -> None:
    """Ends this process within a second of its owner: one that is killed, or ends at once, tells nobody."""
    while os.getppid() == owner:
        time.sleep(1)
    os._exit(1)
