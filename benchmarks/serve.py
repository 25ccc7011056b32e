"""How fast `gatecast serve` answers: 60 symbols, so many requests a second from one client on this machine.

Makes the store of `benchmarks/update.py` with one more close, starts the command on a free port and asks for a page, or
a part of the API, at an even pace for so many seconds; each request begins at its own time, however long those before
it take. Each path is asked for once before. Printed are the time of that, the median, the 95th and 99th percentile and
the largest time in milliseconds, the requests that failed, and the bytes of an answer; and the same of the first page
from the end of an update on, while the service makes what it says of the new close.

Run: `python benchmarks/serve.py FOLDER`, with `--rate 50`, `--seconds 20`, `--symbols 60`.
"""

from __future__ import annotations

import argparse
import http.client
import json
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from update import made_store

from gatecast.live import update

ASKED = ("/", "/symbols/S00", "/risk", "/api/symbols", "/api/symbols/S00/forecast", "/api/symbols/S00/bars?limit=500")


def seconds_of(host: str, port: int, path: str, at: float) -> tuple[float, int, int]:
    """Seconds that a request takes which is due at a moment, its status and bytes."""
    time.sleep(max(0.0, at - time.perf_counter()))
    connection = http.client.HTTPConnection(host, port, timeout=30)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        size = len(answer.read())
    finally:
        connection.close()
    return time.perf_counter() - at, answer.status, size


def said(host: str, port: int, path: str, about: str, rate: float, count: int) -> None:
    """Prints the times of so many requests at an even pace."""
    begin = time.perf_counter() + 0.1
    with ThreadPoolExecutor(64) as pool:
        jobs = [pool.submit(seconds_of, host, port, path, begin + place / rate) for place in range(count)]
        found = [job.result() for job in jobs]
    half, most, nearly, worst = np.percentile(1000 * np.array([one[0] for one in found]), [50, 95, 99, 100])
    failed = sum(one[1] != 200 for one in found)
    print(
        f"{path:32} {about:>30}; 50 % {half:5.1f} 95 % {most:5.1f} 99 % {nearly:5.1f} most {worst:6.1f} ms, "
        f"{failed} of {count} failed",
        flush=True,
    )


def main() -> None:
    """The table."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("folder", type=Path)
    asked.add_argument("--symbols", type=int, default=60)
    asked.add_argument("--bars", type=int, default=1250)
    asked.add_argument("--rate", type=float, default=50)
    asked.add_argument("--seconds", type=float, default=20)
    given = asked.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    store, news, now = made_store(given.folder, given.symbols, given.bars)
    copy = store.with_name("served")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(store, copy)
    words = ["serve", str(copy), "--port", "0", "--now", now.isoformat(), "--json"]
    with subprocess.Popen([sys.executable, "-m", "gatecast", *words], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            host, port = json.loads(server.stdout.readline())["address"].removeprefix("http://").strip("/").split(":")
            count = int(given.rate * given.seconds)
            once = {path: seconds_of(host, int(port), path, time.perf_counter()) for path in ASKED}
            update(copy, news, now=now, asset_class="equity")
            said(host, int(port), "/", "after an update", given.rate, count)
            for path, (first, _, size) in once.items():
                said(host, int(port), path, f"{size:,} bytes, first {1000 * first:.0f} ms", given.rate, count)
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
