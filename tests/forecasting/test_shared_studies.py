"""Two processes on one study, on a PostgreSQL server that the test starts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from postgres import PROGRAMS, WHY_NOT, postgres_server
from test_search import SPACE, Bowl

from gatecast.errors import StoreError
from gatecast.forecasting.tuning.search import Budget, Trial, open_storage, search

pytestmark = pytest.mark.skipif(not PROGRAMS, reason=WHY_NOT)

WORKER = """
import sys, time
from test_search import GIVEN, SPACE, Bowl
from gatecast.forecasting.tuning.search import Budget, open_storage, search
class Slow(Bowl):
    def __call__(self, candidates, step):
        time.sleep(float(sys.argv[3]))
        return super().__call__(candidates, step)
with open_storage(sys.argv[1]) as storage:
    print("ready", flush=True)
    sys.stdin.readline()
    budget = Budget(int(sys.argv[2]))
    search(storage, "bowl", SPACE, [GIVEN], Slow(), steps=2, budget=budget, seed=lambda n: n, shared=True)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Address of an empty database on loopback."""
    with postgres_server() as address:
        yield address


STARTED: list[subprocess.Popen[bytes]] = []


@pytest.fixture(autouse=True)
def _nobody_is_left() -> Iterator[None]:
    yield
    for process in STARTED:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()
    STARTED.clear()


def worker(url: str, count: int, pause: float = 0.1) -> subprocess.Popen[bytes]:
    path = {"PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-c", WORKER, url, str(count), str(pause)]
    process = subprocess.Popen(command, env={**os.environ, **path}, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    STARTED.append(process)
    return process


def begin(*workers: subprocess.Popen[bytes]) -> None:
    """All of them at once, when each has connected."""
    for one in workers:
        assert one.stdout is not None
        assert one.stdout.readline() == b"ready\n"
    for one in workers:
        assert one.stdin is not None
        one.stdin.close()


def trials(url: str, count: int) -> list[Trial]:
    with open_storage(url) as storage:
        return search(
            storage, "bowl", SPACE, [], Bowl(), steps=2, budget=Budget(count), seed=lambda n: n, shared=True
        )  # fmt: skip


def claims(url: str) -> set[str]:
    import optuna

    storage = optuna.storages.RDBStorage(url)
    study = storage.get_study_id_from_name("bowl")
    found = {one.user_attrs.get("claimed_by") for one in storage.get_all_trials(study)} - {None}
    storage.engine.dispose()
    return found


def test_two_processes_work_on_one_study_at_once_and_a_lost_one_is_made_up_for(server: str) -> None:
    both = [worker(server, 20, pause=0.5) for _ in range(2)]
    begin(*both)
    assert [process.wait(120) for process in both] == [0, 0]
    found = trials(server, 20)
    assert len(found) == 20
    assert len({tuple(one.params.items()) for one in found}) == 20  # no point twice
    assert {one.state for one in found} <= {"complete", "pruned"}
    assert found[0].params == {"x": 2.5, "units": 16, "window": "1Y"}  # the guess, claimed by one alone
    assert len(claims(server)) == 2

    lost = worker(server, 28, pause=60)  # claims a batch and never gets to the end of it
    begin(lost)
    deadline = time.monotonic() + 60
    while len(claims(server)) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    lost.send_signal(signal.SIGKILL)
    lost.wait()
    other = worker(server, 28)
    begin(other)
    assert other.wait(120) == 0
    found = trials(server, 28)
    assert len(found) == 28
    assert all(one.loss is not None for one in found)


def test_a_server_that_is_not_there_is_named_without_its_password() -> None:
    with (
        pytest.raises(StoreError, match="cannot be read or written") as caught,
        open_storage("postgresql+psycopg://me:secret@127.0.0.1:1/none"),
    ):
        pass
    assert "secret" not in str(caught.value)
