"""Jobs in processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gatecast.compute.parallel import fan_out


def test_processes_find_a_package_whose_folder_was_added_after_they_were_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fan_out(abs, [-1, -2, -3], jobs=2, processes=True) == [1, 2, 3]
    (tmp_path / "found_later.py").write_text("def twice(number):\n    return 2 * number\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    from found_later import twice

    assert fan_out(twice, [1, 2, 3], jobs=2, processes=True) == [2, 4, 6]
    del sys.modules["found_later"]


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
