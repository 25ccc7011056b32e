"""A real PostgreSQL server for tests, where Debian's package is installed."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
WHY_NOT = "no PostgreSQL server is installed (Debian: postgresql)"


def as_postgres() -> dict[str, str]:
    """The server refuses root: there Debian's own user runs it."""
    return {"user": "postgres"} if os.geteuid() == 0 else {}


@contextmanager
def postgres_server() -> Iterator[str]:
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
