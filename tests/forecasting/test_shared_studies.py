"""Two processes on one study, on a PostgreSQL server that the test starts."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_search import SPACE, Bowl

from gatecast.errors import StoreError
from gatecast.forecasting.tuning.search import Budget, Trial, open_storage, search

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
pytestmark = pytest.mark.skipif(not PROGRAMS, reason="no PostgreSQL server is installed (Debian: postgresql)")

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


def as_postgres() -> dict[str, str]:
    """The server refuses root: there Debian's own user runs it."""
    return {"user": "postgres"} if os.geteuid() == 0 else {}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of an empty database on loopback."""
    programs = PROGRAMS[-1].parent
    folder = Path("/tmp") / f"gatecast-postgres-{os.getpid()}"  # a socket's path must be short
    folder.mkdir(mode=0o700)
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder, **as_postgres()}
    data = folder / "data"
    subprocess.run([programs / "initdb", "-D", data, "-U", "studies", "-A", "trust", "-N"], check=True, **quiet)
    settings = ("fsync=off", f"port={port}", "listen_addresses=127.0.0.1", f"unix_socket_directories={folder}")
    options = [part for setting in settings for part in ("-c", setting)]
    process = subprocess.Popen([programs / "postgres", "-D", data, *options], **quiet)
    try:
        deadline = time.monotonic() + 60
        while subprocess.run(
            [programs / "pg_isready", "-h", "127.0.0.1", "-p", str(port)], check=False, **quiet
        ).returncode:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield f"postgresql+psycopg://studies@127.0.0.1:{port}/postgres"
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
        shutil.rmtree(folder)


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
