"""What is no cluster, or one of other versions, is told in seconds, and nothing that it sends is unpickled."""

from __future__ import annotations

import os
import pickle
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from gatecast.compute import cluster as module
from gatecast.compute.cluster import cluster, fingerprint
from gatecast.compute.plain import PlainError, decoded, speaks_http2
from gatecast.errors import ClusterError

msgpack = pytest.importorskip("msgpack", reason="needs the extra dask")
pytest.importorskip("distributed", reason="needs the extra dask")


class Planted:
    """A pickle that makes a folder as it is read."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.place),)


def message(*frames: bytes) -> bytes:
    """Frames as Dask sends them."""
    content = struct.pack(f"<{len(frames) + 1}Q", len(frames), *map(len, frames)) + b"".join(frames)
    return struct.pack("<Q", len(content)) + content


def as_message(answer: Any) -> bytes:
    return message(msgpack.dumps(answer))


GREETING = as_message({"compression": None, "python": (3, 11, 2), "pickle-protocol": 5})


@contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """The address of a port behind which each connection is served so, on a thread of its own."""
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(0.2)
    ended = threading.Event()

    def accept() -> None:
        while not ended.is_set():
            with suppress(TimeoutError):
                one, _ = server.accept()
                threading.Thread(target=served, args=(one,), daemon=True).start()

    def served(one: socket.socket) -> None:
        with one, suppress(OSError):
            serve(one)
            ended.wait(60)

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}"
    finally:
        ended.set()
        thread.join()
        server.close()


def question(one: socket.socket) -> dict[str, Any]:
    """The next message of the client's."""
    begin = one.recv(8, socket.MSG_WAITALL)
    if len(begin) < 8:
        raise ConnectionResetError  # the client has gone
    (size,) = struct.unpack("<Q", begin)
    found: dict[str, Any] = msgpack.loads(one.recv(size, socket.MSG_WAITALL)[16:])
    return found


def scheduler_with(answers: Mapping[str, bytes]) -> Callable[[socket.socket], None]:
    """A scheduler with ready answers to some operations; to all others it says nothing."""

    def serve(one: socket.socket) -> None:
        question(one)
        one.sendall(GREETING)
        while (op := question(one)["op"]) in answers:
            one.sendall(answers[op])

    return serve


def drip(one: socket.socket) -> None:
    for byte in GREETING[:60]:
        one.sendall(bytes([byte]))
        threading.Event().wait(0.05)


def never(one: socket.socket) -> None:
    """Accepts, and says nothing."""


@pytest.mark.parametrize(
    ("serve", "why"),
    [
        pytest.param(never, "it has not answered within 0.5 s", id="silent"),
        pytest.param(drip, "it has not answered within 0.5 s", id="slow drip"),
        pytest.param(lambda one: one.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "is no Dask", id="another service"),
        pytest.param(lambda one: one.sendall(bytes(64)), "what answers is no Dask scheduler", id="zeros"),
        pytest.param(lambda one: one.shutdown(2), "it ended the connection", id="hangs up"),
        pytest.param(lambda one: one.sendall(struct.pack("<Q", 2**40)), "is no Dask", id="a terabyte is announced"),
        pytest.param(lambda one: one.sendall(struct.pack("<QQ", 16, 2**60) + bytes(8)), "is no Dask", id="frames"),
        pytest.param(lambda one: one.sendall(message(b"\x91" * 5000)), "is no Dask scheduler", id="deep nesting"),
        pytest.param(scheduler_with({}), "it has not answered within 0.5 s", id="silent after its greeting"),
        pytest.param(scheduler_with({"ncores": as_message([1])}), "what answers is no Dask scheduler", id="a list"),
        pytest.param(
            scheduler_with({
                "ncores": as_message({"tcp://a:1": 1}), "versions": as_message({"packages": 3}),
                "broadcast": as_message({}),
            }),
            "what answers is no Dask scheduler", id="no versions",
        ),
    ],
)  # fmt: skip
def test_what_is_no_scheduler_ends_in_one_sentence(
    serve: Callable[[socket.socket], None], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.5)
    with listening(serve) as address, pytest.raises(ClusterError, match=f"no Dask scheduler answers at {address}") \
            as caught, cluster("dask", address):  # fmt: skip
        pass
    assert why in str(caught.value)


def test_the_limit_is_eight_seconds_for_all_questions() -> None:
    assert module.PATIENCE == 8


def test_a_scheduler_without_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 1)
    with listening(scheduler_with({"ncores": as_message({})})) as address, \
            pytest.raises(ClusterError, match="has no workers: start some"), cluster("dask", address):  # fmt: skip
        pass


def versions(**others: str) -> dict[str, Any]:
    """What a machine like this one answers, but for some packages."""
    ours = fingerprint()
    packages = {**{name: ours[name] for name in module.DECIDING}, "python": f"{ours['python']}.final.0", **others}
    return {"host": {"machine": ours["machine"]}, "packages": packages}


def test_other_versions_and_other_code_are_refused_before_anything_is_unpickled(tmp_path: Path) -> None:
    place = tmp_path / "ran"
    planted = pickle.dumps(Planted(place))
    workers = as_message({"tcp://a:1": 1})
    other = scheduler_with({
        "ncores": workers, "versions": as_message(versions()),
        "broadcast": as_message({"tcp://a:1": versions(numpy="1.0\x1b[2J")}),
    })  # fmt: skip
    with listening(other) as address, cluster_error(address) as said:
        pass
    assert said == [f"worker tcp://a:1 has numpy 1.0?[2J where this machine has {fingerprint()['numpy']}"]
    hashed = message(
        msgpack.dumps({"status": "OK", "result": {"__Serialized__": 1}}),
        msgpack.dumps({"serializer": "msgpack", "num-sub-frames": 1}), msgpack.dumps("f" * 64),
    )  # fmt: skip
    older = scheduler_with({
        "ncores": workers, "versions": as_message(versions()), "run_function": hashed,
        "broadcast": as_message({"tcp://a:1": versions()}),
    })  # fmt: skip
    with listening(older) as address, cluster_error(address) as said:
        pass
    ours = fingerprint()[module.CODE]
    assert said == [f"the scheduler has gatecast's code ffffffffffff where this machine has {ours}"]
    pickled = message(msgpack.dumps({"status": "OK", "result": {"__Pickled__": 1}}),
                      msgpack.dumps({"pickled-obj": planted, "num-sub-frames": 0}))  # fmt: skip
    serialized = message(
        msgpack.dumps({"status": "OK", "result": {"__Serialized__": 1}}),
        msgpack.dumps({"serializer": "pickle", "num-sub-frames": 1, "compression": [None]}), planted,
    )  # fmt: skip
    for answer in (pickled, serialized):
        asked = scheduler_with({"ncores": answer})
        with listening(asked) as address, cluster_error(address) as said:
            pass
        assert "no Dask scheduler answers" in said[0]
    assert not place.exists()


@contextmanager
def cluster_error(address: str) -> Iterator[list[str]]:
    """The first sentence, to its colon, of joining the cluster at an address."""
    said: list[str] = []
    with pytest.raises(ClusterError) as caught, cluster("dask", address):
        pass
    said.append(str(caught.value).split(": results")[0])
    yield said


def test_a_pickle_in_an_answer_is_never_opened(tmp_path: Path) -> None:
    planted = pickle.dumps(Planted(tmp_path / "ran"))
    header = msgpack.dumps({"pickled-obj": planted, "num-sub-frames": 0})
    with pytest.raises(PlainError, match="does not open"):
        decoded([msgpack.dumps({"__Pickled__": 1}), header])
    with pytest.raises(PlainError, match="does not open"):
        decoded([msgpack.dumps({"a": {"__Serialized__": 1}}), msgpack.dumps({"serializer": "pickle"}), planted])
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("scheme", ["inproc", "ws", "ucx"])
def test_an_address_that_cannot_be_asked_plainly(scheme: str) -> None:
    with pytest.raises(ClusterError, match="give one of tcp:// or tls://"), cluster("dask", f"{scheme}://a:1"):
        pass


@pytest.mark.parametrize(
    ("serve", "why"),
    [
        pytest.param(never, "it has not answered within 0.5 s", id="silent"),
        pytest.param(lambda one: one.sendall(b"220 mail ready\r\n"), "what answers is no Ray cluster", id="nonsense"),
        pytest.param(lambda one: one.sendall(bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])), "", id="HTTP/2"),
    ],
)
def test_what_is_no_ray_is_told_before_ray_is_asked(serve: Callable[[socket.socket], None], why: str) -> None:
    with listening(serve) as address:
        host, port = address.removeprefix("tcp://").split(":")
        if why:
            with pytest.raises(PlainError, match=why):
                speaks_http2(host, int(port), 0.5)
        else:
            speaks_http2(host, int(port), 5)
