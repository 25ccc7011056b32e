"""A scheduler and two workers, processes of their own on loopback: the same bytes, whatever happens to them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from gatecast.cli.app import execute
from gatecast.compute import cluster as module
from gatecast.compute.cluster import active, cluster
from gatecast.compute.parallel import fan_out
from gatecast.errors import ClusterError, GatecastError, SettingsError, TrainingError
from gatecast.experiment import Experiment
from gatecast.forecasting.forecaster import Task
from gatecast.forecasting.lstm import LSTM
from gatecast.forecasting.models.forest import Forest
from gatecast.forecasting.models.residual_lstm import ResidualLSTM
from gatecast.forecasting.schedule import Schedule
from gatecast.runs import run
from gatecast.samples.windows import Samples

pytest.importorskip("distributed", reason="needs the extra dask")

TINY = LSTM(units=16, layers=1, seeds=2, epochs=2)


@dataclass
class Machines:
    """A scheduler and its workers; they end with the test, and by themselves if nobody ends them."""

    folder: Path
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, program: str, *words: str) -> subprocess.Popen[bytes]:
        log = (self.folder / f"{program}.{len(self.running)}.log").open("wb")
        command = [sys.executable, "-W", "ignore", "-m", f"distributed.cli.{program}", *words, "--no-dashboard"]
        with log:
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        self.running.append(process)
        return process

    @property
    def file(self) -> Path:
        return self.folder / "scheduler.json"

    @property
    def address(self) -> str:
        return str(json.loads(self.file.read_text())["address"])

    def mend(self) -> None:
        """Two workers are there, however many a test has killed."""
        from distributed import Client

        if not self.running:
            words = ("--host", "127.0.0.1", "--port", "0", "--idle-timeout", "300s")
            self.start("dask_scheduler", *words, "--scheduler-file", str(self.file))
        until(lambda: self.file.exists() and self.file.stat().st_size > 0)
        self.workers = [one for one in self.workers if one.poll() is None]
        while len(self.workers) < 2:
            words = ("--scheduler-file", str(self.file), "--nthreads", "1", "--no-nanny", "--host", "127.0.0.1")
            self.workers.append(self.start("dask_worker", *words, "--local-directory", str(self.folder)))
        with Client(self.address, set_as_default=False) as client:
            until(lambda: len(client.scheduler_info()["workers"]) == 2)

    def end(self) -> None:
        for process in reversed(self.running):
            process.kill()
            process.wait()


def until(there: Callable[[], bool]) -> None:
    for _ in range(1200):
        if there():
            return
        time.sleep(0.05)
    raise AssertionError("waited in vain")


@pytest.fixture(scope="module")
def all_machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    machines = Machines(tmp_path_factory.mktemp("cluster"))
    try:
        yield machines
    finally:
        machines.end()


@pytest.fixture
def machines(all_machines: Machines) -> Machines:
    all_machines.mend()
    return all_machines


@pytest.fixture
def away(machines: Machines) -> Iterator[module.Cluster]:
    with cluster("dask", machines.address):
        found = active()
        assert found is not None
        yield found


@pytest.fixture(scope="module")
def small(market: pl.DataFrame) -> Experiment:
    return Experiment(
        bars=market, features=("ret_log_1", "x"), schedule=Schedule(refit="1Y"),
        model={"lstm": TINY, "forest": Forest(trees=5), "residual_lstm": ResidualLSTM(units=16, epochs=2)},
    )  # fmt: skip


@pytest.fixture(scope="module")
def local(small: Experiment) -> bytes:
    return bytes_of(small)


def bytes_of(experiment: Experiment, progress: Any = None) -> bytes:
    """Every forecast of a run, and what it holds."""
    found, file = run(experiment, progress=progress), BytesIO()
    found.forecasts.rechunk().write_parquet(file)
    found.weights.rechunk().write_parquet(file)
    return file.getvalue()


def test_a_run_on_two_workers_is_the_local_run(small: Experiment, local: bytes, machines: Machines) -> None:
    with cluster("dask", machines.address):
        assert bytes_of(small) == local


def test_a_worker_killed_in_the_middle_costs_time_alone(small: Experiment, local: bytes, machines: Machines) -> None:
    victim = machines.workers[0]

    def kill(stage: str, done: int, total: int) -> None:
        if stage.endswith("lstm") and 1 < done < total and victim.poll() is None:
            victim.kill()
            victim.wait()

    with cluster("dask", machines.address):
        assert bytes_of(small, kill) == local
    assert victim.poll() == -9


def test_workers_do_the_work_on_one_thread(machines: Machines, away: module.Cluster) -> None:
    def work(number: int) -> tuple[int, int, set[int]]:
        import os

        import numpy as np
        from threadpoolctl import threadpool_info

        np.ones((2, 2)) @ np.ones((2, 2))
        return number, os.getpid(), {one["num_threads"] for one in threadpool_info()}

    found = fan_out(work, range(8))
    assert [number for number, _, _ in found] == list(range(8))
    assert {process for _, process, _ in found} <= {worker.pid for worker in machines.workers}
    assert all(threads == {1} for _, _, threads in found)
    assert {process for _, process, _ in fan_out(work, range(3), light=True)} == {os.getpid()}


def test_samples_are_sent_once_and_without_what_is_computed_from_them(
    samples: Samples, away: module.Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert samples.windows.shape[2] == 30
    sizes: list[int] = []
    place = away.place

    def counted(data: bytes, parts: list[Any]) -> Any:
        sizes.append(len(data))
        return place(data, parts)

    monkeypatch.setattr(away, "place", counted)
    expected = [float(np.nansum(samples.features[row])) for row in range(100, 106)]
    for _ in range(2):
        assert fan_out(lambda row: float(np.nansum(samples.features[row])), range(100, 106)) == expected
    large = [size for size in sizes if size > 10_000]
    assert len(large) == 1
    assert large[0] < 1.2 * sum(array.nbytes for array in arrays_of(samples))
    assert len(sizes) == 3  # the samples, and each fan-out's work


def arrays_of(thing: object) -> list[np.ndarray[Any, Any]]:
    """Every array in the fields of samples, targets and facts."""
    if isinstance(thing, np.ndarray):
        return [thing]
    inside = thing if isinstance(thing, dict) else getattr(thing, "__dataclass_fields__", {})
    values = thing.values() if isinstance(thing, dict) else [getattr(thing, name) for name in inside]
    return [array for value in values for array in arrays_of(value)]


def test_networks_are_kept_here_and_taken_up_before_anything_is_sent(
    samples: Samples, away: module.Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folds = [fold.on(samples) for fold in Schedule(refit="6M").folds(samples.times, samples.known_at)][:3]
    told: list[int] = []
    task = Task(resume=tmp_path / "kept", on_fit=told.append)
    ours = TINY.fit_many(folds, task)
    files = sorted((tmp_path / "kept").glob("*.safetensors"))
    assert len(files) == sum(told) == 6
    files[2].unlink()
    sent: list[object] = []
    packed = away.packed

    def counted(thing: object) -> tuple[bytes, list[Any]]:
        sent.append(thing)
        return packed(thing)

    monkeypatch.setattr(away, "packed", counted)
    told.clear()
    again = TINY.fit_many(folds, task)
    assert len(sent) == 1 + 1  # the work, and the one that is missing
    assert sum(told) == 6
    for one, other, alone in zip(ours, again, TINY.fit_many(folds), strict=True):
        for member in range(2):
            for name, weights in one.members[member].items():
                assert weights.tobytes() == other.members[member][name].tobytes()
                assert weights.tobytes() == alone.members[member][name].tobytes()


def test_an_error_in_a_job_is_the_one_that_it_would_be_here(away: module.Cluster) -> None:
    def work(number: int) -> int:
        from gatecast.errors import TrainingError

        if number == 3:
            raise TrainingError("the loss is no longer finite.")
        return number

    with pytest.raises(TrainingError, match="the loss is no longer finite"):
        fan_out(work, range(6))


def test_an_interruption_ends_the_wait(away: module.Cluster) -> None:
    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fan_out(lambda number: number, range(20), progress=stop)
    assert fan_out(lambda number: number, range(3)) == [0, 1, 2]  # and the cluster is as it was


def test_a_job_that_kills_its_workers_is_an_error_and_no_endless_wait(machines: Machines) -> None:
    from distributed import Client

    def patience(count: int) -> None:
        def change(count: int, dask_scheduler: Any = None) -> None:
            dask_scheduler.allowed_failures = count

        with Client(machines.address, set_as_default=False) as client:
            client.run_on_scheduler(change, count)

    def work(number: int) -> int:
        import os
        import signal

        if number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    patience(0)
    try:
        with cluster("dask", machines.address), pytest.raises(ClusterError, match="every worker that tried"):
            fan_out(work, range(3))
    finally:
        patience(3)


def test_other_versions_are_refused(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    with cluster("dask", machines.address):
        ours = {**module.fingerprint(), "numpy": "1.0"}
        monkeypatch.setattr(module, "fingerprint", lambda: ours)
        with pytest.raises(ClusterError, match=r"a worker that came later has numpy .* where this machine has 1\.0"):
            fan_out(abs, range(3))
    monkeypatch.undo()
    theirs = module.fingerprint()
    with pytest.raises(ClusterError, match="worker tcp://a:1 has gatecast none where this machine has"):
        module.refuse_others("worker tcp://a:1", {**theirs, "gatecast": "none"}, theirs)


@contextmanager
def nobody() -> Iterator[str]:
    """An address at which nobody answers."""
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and never listening
        yield f"tcp://127.0.0.1:{taken.getsockname()[1]}"


def test_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.5)
    with nobody() as address, pytest.raises(ClusterError, match=f"no Dask scheduler answers at {address}"), \
            cluster("dask", address):  # fmt: skip
        pass


@pytest.mark.parametrize(
    ("backend", "scheduler", "sentence"),
    [
        ("dask", None, "the backend dask needs its scheduler's address: add --scheduler tcp://HOST:8786."),
        ("local", "tcp://a:1", "a scheduler belongs to the backend dask, not to local: add --backend dask."),
        ("ray", "tcp://a:1", "a scheduler belongs to the backend dask, not to ray: add --backend dask."),
        ("dusk", None, "unknown backend 'dusk'. Did you mean 'dask'?"),
    ],
)
def test_options_that_make_no_sense(
    backend: str, scheduler: str | None, sentence: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    words = ["run", "--backend", backend, *(["--scheduler", scheduler] if scheduler else [])]
    assert execute(words) == 2
    assert capsys.readouterr().err == f"error: {sentence}\n"


@pytest.mark.parametrize(("backend", "package"), [("dask", "distributed"), ("ray", "ray")])
def test_a_backend_that_is_not_installed(backend: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    address = "tcp://a:1" if backend == "dask" else None
    with pytest.raises(SettingsError, match=rf"pip install 'gatecast\[{backend}\]'"), cluster(backend, address):
        pass


def test_an_address_that_is_none(machines: Machines) -> None:
    with pytest.raises(GatecastError, match="no Dask scheduler answers at nonsense"), cluster("dask", "nonsense"):
        pass


def test_a_run_on_ray_is_the_local_run(small: Experiment, local: bytes) -> None:
    pytest.importorskip("ray", reason="needs the extra ray (240 MB)")
    with cluster("ray"):
        assert bytes_of(small) == local
