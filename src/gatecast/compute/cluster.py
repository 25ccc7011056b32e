"""Other machines: the jobs of a run on a Dask or Ray cluster, through joblib's backends, with the same bytes as here.

A job is sent whole: what it reads travels with it, and the samples of a class, which many jobs read, travel once. Both
stay with the scheduler until the job is done, so that a worker that dies takes nothing with it but its time.
"""

from __future__ import annotations

import hashlib
import io
import logging
import pickle
import platform
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from gatecast.errors import ClusterError, SettingsError, did_you_mean

if TYPE_CHECKING:
    from gatecast.samples.windows import Samples

Item = TypeVar("Item")
Result = TypeVar("Result")

BACKENDS = ("local", "dask", "ray")
PATIENCE = 8  # seconds that a scheduler, and then its first worker, has to answer
DECIDING = ("gatecast", "numpy", "scipy", "numba", "llvmlite", "scikit-learn", "arch", "torch")
"""Libraries whose versions the last digits depend on."""
_active: ContextVar[Cluster | None] = ContextVar("cluster", default=None)


@contextmanager
def cluster(backend: str = "local", scheduler: str | None = None) -> Iterator[None]:
    """Inside it `fan_out` sends its work, but for what is light, to the machines of a cluster.

    Parameters
    ----------
    backend: "local" changes nothing; "dask"; "ray", whose cluster is that of the variable RAY_ADDRESS, else this
        machine. scheduler: address of Dask's, such as "tcp://10.0.0.1:8786".

    Raises
    ------
    SettingsError for options that do not belong together or a package that is not installed; ClusterError where nobody
    answers within seconds, or a worker has other versions than this machine, or other code.

    >>> with cluster("local"):
    ...     active() is None
    True
    """
    if backend not in BACKENDS:
        raise SettingsError(f"unknown backend {backend!r}. {did_you_mean(backend, BACKENDS)}")
    if scheduler and backend != "dask":
        raise SettingsError(f"a scheduler belongs to the backend dask, not to {backend}: add --backend dask.")
    if backend == "local":
        yield
        return
    with _dask(scheduler) if backend == "dask" else _ray() as found:
        token = _active.set(found)
        try:
            yield
        finally:
            _active.reset(token)


def active() -> Cluster | None:
    """The cluster that is in force here; None: this machine."""
    return _active.get()


class Cluster:
    """A cluster in force: where to put what many jobs read, and joblib's settings to send jobs.

    `place(data, parts)` puts a pickle there whose shared `parts` are there already, and returns what stands for it in
    a job's arguments. `settings`: of `joblib.Parallel`. `troubles`: errors of the cluster itself, with what they mean.
    """

    def __init__(
        self,
        place: Callable[[bytes, list[Any]], Any],
        settings: dict[str, Any],
        troubles: dict[type[BaseException], str],
    ) -> None:
        self.place, self.settings, self.troubles = place, settings, troubles
        self.samples: dict[int, tuple[weakref.ref[Samples], Any]] = {}

    def stream(self, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """`map(work, items)` on the cluster, in order."""
        from joblib import Parallel, delayed

        data, parts = self.packed(work)
        common = self.place(data, parts)
        own = fingerprint()
        jobs = (delayed(_do)(own, common, *self.packed(item)) for item in items)
        try:
            yield from Parallel(n_jobs=-1, batch_size=1, **self.settings)(jobs)
        except tuple(self.troubles) as error:
            meaning = next(text for kind, text in self.troubles.items() if isinstance(error, kind))
            raise ClusterError(f"{meaning} ({type(error).__name__}).") from None

    def packed(self, thing: object) -> tuple[bytes, list[Any]]:
        """A pickle without its samples, and what stands for those."""
        file = io.BytesIO()
        pickler = _pickler(file)
        pickler.dump(thing)
        return file.getvalue(), [self._shared(samples) for samples in pickler.samples]

    def _shared(self, samples: Samples) -> Any:
        """What stands for these samples; sent at first sight, and forgotten with them."""
        key = id(samples)
        if key not in self.samples:
            forget = weakref.ref(samples, lambda _: self.samples.pop(key, None))
            self.samples[key] = forget, self.place(pickle.dumps(samples, protocol=5), [])
        return self.samples[key][1]


def _pickler(file: io.BytesIO) -> Any:
    """A pickler, of closures too, that leaves samples out and lists them in `samples`."""
    from cloudpickle import Pickler

    from gatecast.samples.windows import Samples

    class WithoutSamples(Pickler):  # type: ignore[misc]
        samples: list[Samples]

        def persistent_id(self, thing: object) -> int | None:
            if not isinstance(thing, Samples):
                return None
            for number, known in enumerate(self.samples):
                if known is thing:
                    return number
            self.samples.append(thing)
            return len(self.samples) - 1

    pickler = WithoutSamples(file, protocol=5)
    pickler.samples = []
    return pickler


class _Unpickler(pickle.Unpickler):
    parts: list[Any]

    def persistent_load(self, number: Any) -> Any:
        return self.parts[number]


# ── on the worker ─────────────────────────────────────────────────────────────────────────────────


def unpack(data: bytes, parts: list[Any]) -> Any:
    """What was packed, with the samples in place."""
    unpickler = _Unpickler(io.BytesIO(data))
    unpickler.parts = [part.get() if isinstance(part, OnRay) else part for part in parts]
    return unpickler.load()


@dataclass(frozen=True)
class OnRay:
    """Something that lies in Ray's store; unpacked once in each process that asks for it."""

    reference: Any
    parts: tuple[Any, ...]

    def get(self) -> Any:
        """The thing itself."""
        return _from_ray(self)


@lru_cache(maxsize=8)
def _from_ray(one: OnRay) -> Any:
    import ray

    return unpack(ray.get(one.reference), list(one.parts))


def _do(client: dict[str, str], work: Any, item: bytes, parts: list[Any]) -> Any:
    """One job, on one thread, as it would be on the client."""
    from joblib import parallel_config
    from threadpoolctl import threadpool_limits

    refuse_others("a worker that came later", fingerprint(), client)
    threadpool_limits(1)  # for good: given back, it would be taken from a neighbour in the same process
    if isinstance(work, OnRay):
        work = work.get()
    with parallel_config(backend="sequential"):  # scikit-learn would send each tree to the cluster
        return work(unpack(item, parts))


@cache
def fingerprint() -> dict[str, str]:
    """What the bytes of a result depend on beside its inputs: versions and code."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for name in DECIDING:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return {**found, "gatecast's code": code_hash()[:12]}


@cache
def code_hash() -> str:
    """Hash of the program's own source."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        digest.update(file.relative_to(root).as_posix().encode() + file.read_bytes())
    return digest.hexdigest()


def refuse_others(who: str, theirs: dict[str, str], ours: dict[str, str]) -> None:
    """Raises `ClusterError` where versions or code differ.

    >>> refuse_others("worker tcp://a:1", {"numpy": "1.0"}, {"numpy": "2.0"})
    Traceback (most recent call last):
        ...
    gatecast.errors.ClusterError: worker tcp://a:1 has numpy 1.0 where this machine has 2.0: results would differ. ...
    """
    other = [f"{name} {theirs.get(name, 'none')} where this machine has {own}" for name, own in ours.items()
             if theirs.get(name) != own]  # fmt: skip
    if other:
        raise ClusterError(
            f"{who} has {', '.join(other)}: results would differ. Give all machines the same environment."
        )


# ── Dask and Ray ──────────────────────────────────────────────────────────────────────────────────


@contextmanager
def _dask(scheduler: str | None) -> Iterator[Cluster]:
    if not scheduler:
        raise SettingsError("the backend dask needs its scheduler's address: add --scheduler tcp://HOST:8786.")
    try:
        import dask
        from distributed import CancelledError, Client, KilledWorker
        from joblib._dask import DaskDistributedBackend
    except ImportError:
        raise SettingsError("the backend dask is not installed: pip install 'gatecast[dask]'") from None

    class Reporting(DaskDistributedBackend):
        """joblib's, which else waits for ever for a job that the scheduler has given up, and sends none to one core."""

        def effective_n_jobs(self, n_jobs: int) -> int:
            return max(2, super().effective_n_jobs(n_jobs))

        def submit(self, func: Any, callback: Any = None) -> Any:
            job: Any = super().submit(func, callback)

            def report(done: Any) -> None:
                if callback and done.exception() is not None:
                    callback(done.exception())

            job.add_done_callback(report)
            return job

    large = {"distributed.admin.large-graph-warning-threshold": "1TB"}  # samples are meant to stay with the scheduler
    with dask.config.set(large), _silence("distributed.client"):
        _check_reachable(scheduler)
        with Client(scheduler, timeout=PATIENCE, set_as_default=False) as client:
            _check(client, scheduler)

            def place(data: bytes, parts: list[Any]) -> Any:
                return client.submit(unpack, data, parts, pure=False)

            how = {"backend": Reporting(client=client), "return_as": "generator"}
            again = "start some, then this command again"
            troubles: dict[type[BaseException], str] = {
                KilledWorker: "every worker that tried one of the jobs died, perhaps of want of memory: see its log",
                CancelledError: f"the connection to the scheduler at {scheduler} was lost: start it, then this command",
                ModuleNotFoundError: "a worker lacks what the jobs need: give all machines the same environment",
                TimeoutError: f"the scheduler at {scheduler} has lost all its workers: {again}",
            }
            yield Cluster(place, how, troubles)


@contextmanager
def _silence(name: str) -> Iterator[None]:
    """No tracebacks in the log for what is said in one sentence."""
    log = logging.getLogger(name)
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.setLevel(level)


def _check_reachable(scheduler: str) -> None:
    """Whether a scheduler is there; a client that found none, or something else, would be long in closing."""
    import asyncio

    from distributed.comm.core import connect

    async def come_and_go() -> None:
        comm = await connect(scheduler, timeout=PATIENCE)
        await comm.close()

    try:
        asyncio.run(come_and_go())
    except Exception as error:  # what another service answers can be anything
        raise ClusterError(
            f"no Dask scheduler answers at {scheduler} ({type(error).__name__}): is the address right, such as "
            "tcp://10.0.0.1:8786, and `dask scheduler` running there?"
        ) from None


def _check(client: Any, scheduler: str) -> None:
    """Every part of the cluster is there, and of the same versions as this machine."""
    try:
        client.wait_for_workers(1, timeout=PATIENCE)
    except TimeoutError:
        raise ClusterError(
            f"the scheduler at {scheduler} has no workers: start some with `dask worker {scheduler}`."
        ) from None
    ours = fingerprint()
    found = {f"worker {name}": one for name, one in client.run(fingerprint, on_error="return").items()}
    try:
        found["the scheduler"] = client.run_on_scheduler(fingerprint)  # it opens what passes through
    except Exception as error:
        found["the scheduler"] = error
    for who, theirs in found.items():
        if isinstance(theirs, BaseException):
            raise ClusterError(
                f"{who} cannot load gatecast {ours['gatecast']} ({theirs}): give all machines the same environment."
            )
        refuse_others(who, theirs, ours)


@contextmanager
def _ray() -> Iterator[Cluster]:
    try:
        import ray
        from ray.util.joblib import register_ray
    except ImportError:
        raise SettingsError("the backend ray is not installed: pip install 'gatecast[ray]'") from None
    own = not ray.is_initialized()
    try:
        if own:
            ray.init(log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ClusterError(f"no Ray cluster answers: {error}") from None
    register_ray()

    def place(data: bytes, parts: list[Any]) -> Any:
        return OnRay(ray.put(data), tuple(parts))

    try:
        yield Cluster(place, {"backend": "ray"}, {ray.exceptions.RayError: "Ray lost a job for good"})
    finally:
        if own:
            ray.shutdown()
