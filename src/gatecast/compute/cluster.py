"""Other machines: the jobs of a run on a Dask or Ray cluster, through joblib's backends, with the same bytes as here.

Who joins a cluster trusts it: its answers are pickles, which can run code here, as jobs do there. Versions and code are
compared before that, by plain questions (`compute.plain`), so that nothing of a stranger's is unpickled by mistake.

A job is sent whole: what it reads travels with it, and the samples of a class, which many jobs read, travel once. Both
stay with the scheduler until the job is done, so that a worker that dies takes nothing with it but its time.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import pickle
import platform
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from gatecast.compute.plain import PlainError, Scheduler, printable, ray_address, speaks_http2, with_scheduler
from gatecast.errors import ClusterError, SettingsError, did_you_mean

if TYPE_CHECKING:
    from gatecast.samples.windows import Samples

Item = TypeVar("Item")
Result = TypeVar("Result")

BACKENDS = ("local", "dask", "ray")
PATIENCE = 8  # seconds for all questions to a scheduler together, its first worker's coming included
DECIDING = ("gatecast", "numpy", "scipy", "numba", "llvmlite", "scikit-learn", "arch", "torch")
"""Libraries whose versions the last digits depend on."""
CODE = "gatecast's code"
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
    return {**found, CODE: code_hash()[:12]}


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
        _check(scheduler)
        try:
            client = Client(scheduler, timeout=PATIENCE, set_as_default=False)
        except (OSError, ValueError) as error:
            raise _no_scheduler(scheduler, str(error)) from None
        with client:

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


def _no_scheduler(scheduler: str, why: object) -> ClusterError:
    return ClusterError(
        f"no Dask scheduler answers at {printable(scheduler)} ({printable(why, 200)}): is the address right, such as "
        "tcp://10.0.0.1:8786, and `dask scheduler` running there?"
    )


def _check(scheduler: str) -> None:
    """Every part of the cluster is there, and of the same versions and code as this machine; nothing is unpickled here.

    Versions first: a function of ours is sent only to who has the same gatecast, and asked for its code's hash.
    """
    from distributed.comm.addressing import parse_address, parse_host_port
    from distributed.security import Security

    try:
        scheme, place = parse_address(scheduler)
        host, port = parse_host_port(place)
    except ValueError as error:
        raise _no_scheduler(scheduler, error) from None
    if scheme not in ("tcp", "tls"):
        raise ClusterError(f"the scheduler's address begins with {printable(scheme)}://: give one of tcp:// or tls://.")
    secure = Security().get_connection_args("client").get("ssl_context") if scheme == "tls" else None
    if scheme == "tls" and secure is None:
        raise ClusterError("an address of tls:// needs certificates: set Dask's distributed.comm.tls settings.")
    try:
        with_scheduler(host, port, secure, PATIENCE, lambda asked: _compare(asked, scheduler))
    except PlainError as error:
        raise _no_scheduler(scheduler, error) from None


def _compare(asked: Scheduler, scheduler: str) -> None:
    """Asks the scheduler and all its workers for versions, then for the hash of gatecast's code."""
    from distributed.protocol.pickle import dumps

    ours = fingerprint()
    who = _mapping(asked.ask("ncores"))
    while not who:
        if asked.deadline.end - time.monotonic() < 0.5:
            raise ClusterError(
                f"the scheduler at {scheduler} has no workers: start some with `dask worker {scheduler}`."
            )
        time.sleep(0.1)
        who = _mapping(asked.ask("ncores"))
    question = {"op": "versions", "packages": list(DECIDING)}
    found = {"the scheduler": asked.ask("versions", packages=list(DECIDING))}  # it opens what passes through
    found |= {f"worker {printable(name)}": one for name, one in _mapping(asked.ask("broadcast", msg=question)).items()}
    for name, theirs in found.items():
        refuse_others(name, _versions(theirs), {key: own for key, own in ours.items() if key != CODE})
    code = {"function": dumps(code_hash), "args": dumps(()), "kwargs": dumps({}), "wait": True}
    answers = {"the scheduler": asked.ask("run_function", **code)}
    everyone = _mapping(asked.ask("broadcast", msg={"op": "run", **code}))
    answers |= {f"worker {printable(name)}": one for name, one in everyone.items()}
    for name, answer in answers.items():
        refuse_others(name, {CODE: printable(_mapping(answer).get("result"))[:12]}, {CODE: ours[CODE]})


def _mapping(answer: Any) -> dict[str, Any]:
    if not isinstance(answer, dict):
        raise PlainError("what answers is no Dask scheduler")
    return answer


def _versions(answer: Any) -> dict[str, str]:
    """Dask's own answer about versions as `fingerprint` has them."""
    packages, host = (_mapping(_mapping(answer).get(key)) for key in ("packages", "host"))
    python = ".".join(str(packages.get("python")).split(".")[:3])
    versions = {name: "none" if packages.get(name) is None else packages[name] for name in DECIDING}
    return {
        name: printable(one) for name, one in {**versions, "python": python, "machine": host.get("machine")}.items()
    }


@contextmanager
def _ray() -> Iterator[Cluster]:
    try:
        import ray
        from ray.util.joblib import register_ray
    except ImportError:
        raise SettingsError("the backend ray is not installed: pip install 'gatecast[ray]'") from None
    own = not ray.is_initialized()
    address = ray_address() if own else None
    try:
        if address and os.environ.get("RAY_USE_TLS", "0") in ("", "0"):
            speaks_http2(*address, PATIENCE)
        if own:
            ray.init(log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError, PlainError) as error:
        raise ClusterError(f"no Ray cluster answers: {error}") from None
    register_ray()

    def place(data: bytes, parts: list[Any]) -> Any:
        return OnRay(ray.put(data), tuple(parts))

    try:
        yield Cluster(place, {"backend": "ray"}, {ray.exceptions.RayError: "Ray lost a job for good"})
    finally:
        if own:
            ray.shutdown()
