"""Jobs in processes and threads, and work side by side."""

from __future__ import annotations

import inspect
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path

import pytest
from joblib.externals.loky import process_executor
from threadpoolctl import threadpool_info, threadpool_limits

from gatecast.compute import parallel
from gatecast.compute.parallel import AHEAD, fan_out, side_by_side, stream_out
from gatecast.compute.threads import one_thread
from gatecast.errors import ProcessKilledError


def test_processes_find_a_package_whose_folder_was_added_after_they_were_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fan_out(abs, [-1, -2, -3], jobs=2, processes=True) == [1, 2, 3]
    (tmp_path / "found_later.py").write_text("def twice(number):\n    return 2 * number\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    from found_later import twice

    assert fan_out(twice, [1, 2, 3], jobs=2, processes=True) == [2, 4, 6]
    del sys.modules["found_later"]


def test_processes_end_with_an_owner_that_is_killed() -> None:
    code = """
import os, signal
from gatecast.compute.parallel import fan_out
print(*set(fan_out(os.getpgid, [0, 0], jobs=2, processes=True)), os.getpid(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=False, start_new_session=True
    )  # fmt: skip
    group, owner = map(int, done.stdout.split())
    assert (group, done.returncode) == (owner, -signal.SIGKILL)
    until = time.monotonic() + 60
    while True:  # until no process of its group is there
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            break
        assert time.monotonic() < until
        time.sleep(0.1)


def die(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_a_process_that_is_killed_is_an_error_that_says_so_and_the_next_work_is_done() -> None:
    with pytest.raises(ProcessKilledError, match=r"ended from outside.*--jobs 1"):
        fan_out(die, range(6), jobs=2, processes=True)
    assert fan_out(die, [1, 2], jobs=2, processes=True) == [1, 2]


@pytest.mark.parametrize("failing", [False, True])
def test_of_threads_few_items_are_begun_that_nobody_has_taken(failing: bool) -> None:
    begun = list[int]()

    def work(number: int) -> int:
        begun.append(number)
        if failing and number == 20:
            raise ValueError("20")
        return -number

    taken = list[int]()
    try:
        for one in stream_out(work, range(100), jobs=2):
            taken.append(one)
            assert len(begun) <= len(taken) + 2 * AHEAD
    except ValueError:
        assert failing
        assert taken == [-number for number in range(20)]
        assert len(begun) <= 20 + 2 * AHEAD
    else:
        assert taken == [-number for number in range(100)]


def test_without_room_for_locks_jobs_are_done_one_after_the_other() -> None:
    code = """
import resource, signal
import joblib
from gatecast.compute.parallel import fan_out
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))  # as where shared memory is full
print(fan_out(abs, [-1, -2, -3], jobs=2), fan_out(abs, [-1, -2], jobs=2, processes=True))
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("[1, 2, 3] [1, 2]", 0), done.stderr


def test_side_by_side_two_items_are_at_work_at_a_time_and_results_are_in_order() -> None:
    both = threading.Barrier(2)  # broken unless two wait at it

    def work(item: int, go_on: Callable[[], None]) -> tuple[int, list[int]]:
        go_on()
        both.wait(timeout=30)
        return item, fan_out(abs, [-item, item], jobs=2)

    expected = [(item, [item, item]) for item in (3, 1, 2, 4)]
    assert side_by_side(work, [3, 1, 2, 4], jobs=2) == expected


@pytest.mark.parametrize("jobs", [1, 2])
def test_side_by_side_the_failure_is_raised_and_what_stands_beside_it_ends(jobs: int) -> None:
    ended = list[str]()

    def work(item: str, go_on: Callable[[], None]) -> None:
        if item == "fails":
            raise ValueError("this one")
        try:
            while True:
                go_on()
                time.sleep(0.001)
        finally:
            ended.append(item)

    with pytest.raises(ValueError, match="this one"):
        side_by_side(work, ["long", "fails", "never"] if jobs == 2 else ["fails", "never"], jobs=jobs)
    assert ended == ["long"] * (jobs == 2)


def test_an_interrupt_ends_what_is_at_work() -> None:
    both, ended = threading.Barrier(3), list[int]()

    def work(item: int, go_on: Callable[[], None]) -> None:
        both.wait(timeout=30)
        try:
            while True:
                go_on()
                time.sleep(0.001)
        finally:
            ended.append(item)

    def interrupt() -> None:
        both.wait(timeout=30)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        side_by_side(work, [1, 2, 3], jobs=2)
    until = time.monotonic() + 30
    while sorted(ended) != [1, 2]:
        assert time.monotonic() < until
        time.sleep(0.001)


def test_blas_stays_on_one_thread_until_the_last_of_several_has_left() -> None:
    def threads() -> list[int]:
        return [one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"]

    with threadpool_limits(3, user_api="blas"):
        before, first, second = threads(), one_thread(), one_thread()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert set(threads()) == {1}
        second.__exit__(None, None, None)
        assert threads() == before


LOADED_INSIDE = """
import os, numpy
from threadpoolctl import threadpool_info
from gatecast.compute.threads import one_thread
from gatecast.errors import ProcessKilledError
before = {one["filepath"] for one in threadpool_info()}
with one_thread():
    import scipy.linalg
print({one["num_threads"] for one in threadpool_info() if one["filepath"] not in before}, os.environ["OMP_NUM_THREADS"])
"""


def test_a_library_that_is_loaded_inside_has_one_thread_too() -> None:
    surroundings = {**os.environ, "OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", LOADED_INSIDE], env=surroundings, capture_output=True, text=True, check=True
    )  # fmt: skip
    assert done.stdout.split() == ["{1}", "2"]


def test_what_is_set_in_the_context_reaches_what_stands_side_by_side() -> None:
    setting = ContextVar("setting", default=0)
    setting.set(7)
    assert side_by_side(lambda item, go_on: item * setting.get(), [1, 2], jobs=2) == [7, 14]


def test_that_joblib_replaces_a_worker_is_said_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parallel.WORKER_REPLACED in inspect.getsource(process_executor)

    class Warns(list[int]):
        def __iter__(self) -> Iterator[int]:  # as the pool's own thread does while results are awaited
            warnings.warn(f"{parallel.WORKER_REPLACED} executor.", UserWarning, stacklevel=1)
            warnings.warn("something else", UserWarning, stacklevel=1)
            return super().__iter__()

    monkeypatch.setattr(parallel, "_stream", lambda *_: Warns([1]))
    with pytest.warns(UserWarning, match="something") as said:
        assert fan_out(abs, [1], jobs=2, processes=True) == [1]
    assert [str(one.message) for one in said] == ["something else"]
