"""Files are opened in one place: regular ones within a size, at once."""

import errno
import io
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from gatecast import files
from gatecast.errors import StoreError
from gatecast.formats import table_of
from gatecast.store.artefacts import Artefacts

SMALL = 1000


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "file"


def test_a_file_is_read_up_to_its_limit(place: Path) -> None:
    place.write_bytes(b"x" * SMALL)
    assert files.read(place, at_most=SMALL) == b"x" * SMALL
    with pytest.raises(OSError, match="it has 1,000 bytes: at most 999 are read"):
        files.read(place, at_most=SMALL - 1)


def test_an_empty_file_is_read(place: Path) -> None:
    place.touch()
    assert files.read(place, at_most=0) == b""


def test_a_file_that_grows_while_it_is_open_is_not_read_beyond_the_limit(place: Path) -> None:
    place.write_bytes(b"x" * SMALL)
    with files.opened(place, at_most=SMALL) as file:
        with place.open("ab") as more:
            more.write(b"y" * SMALL)
        with pytest.raises(OSError, match="more than 1,000 bytes"):
            files.read_at_most(file, SMALL)


def _pipe(place: Path) -> None:
    os.mkfifo(place)


def _socket(place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(place))


def _zeros(place: Path) -> None:
    place.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [Path.mkdir, _pipe, _socket, _zeros])
def test_what_is_no_regular_file_is_refused_at_once(place: Path, make: object) -> None:
    make(place)  # type: ignore[operator]
    with pytest.raises(OSError, match="a regular file was expected"):
        files.read(place, at_most=SMALL)
    assert not files.is_regular(place)


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="no /proc here")
def test_a_file_without_a_size_is_refused() -> None:
    with pytest.raises(OSError, match="no size"):
        files.read(Path("/proc/self/status"), at_most=SMALL**2)


def test_a_link_is_followed_where_asked(tmp_path: Path, place: Path) -> None:
    (tmp_path / "real").write_bytes(b"real")
    place.symlink_to(tmp_path / "real")
    assert files.read(place, at_most=SMALL) == b"real"
    with pytest.raises(OSError, match="it is a link"):
        files.read(place, at_most=SMALL, follow=False)


@pytest.mark.parametrize("name", ["zero\0byte", "x" * 5000])
def test_a_name_that_no_file_can_have_is_an_error_of_files(tmp_path: Path, name: str) -> None:
    with pytest.raises(OSError, match=r"no file can have this name|too long"):
        files.read(tmp_path / name, at_most=SMALL)
    assert not files.is_regular(tmp_path / name)


def test_a_table_whose_rows_share_a_long_text_is_refused() -> None:
    pl.DataFrame({"a": pl.repeat("x" * 1000, 200_000, eager=True)}).write_parquet(file := io.BytesIO())
    with pytest.raises(ValueError, match="200,000,000 bytes of text"):
        table_of(file.getvalue(), {"a": pl.String})


@pytest.mark.parametrize(
    ("code", "hint"),
    [(errno.ENOSPC, "make room"), (errno.EACCES, "allow yourself to write there"), (errno.EROFS, "allow yourself")],
)
def test_what_to_do_fits_what_the_disk_said(
    code: int, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("gatecast.store.artefacts.write_whole", refuses)
    with pytest.raises(StoreError, match=f"as it was; {hint}") as told:
        Artefacts(tmp_path).put(b"{}", ".json")
    assert ("make room" in str(told.value)) == (code == errno.ENOSPC)


def test_a_reader_that_cannot_start_is_not_the_fault_of_the_file(tmp_path: Path) -> None:
    code = (
        "import io, polars as pl, sys\nfrom pathlib import Path\nfrom gatecast.store.artefacts import Artefacts\n"
        "from gatecast.errors import StoreError\n"
        "try: Artefacts(Path(sys.argv[1])).table(sys.argv[2], {'a': pl.Int64})\nexcept StoreError as why: print(why)"
    )
    content = io.BytesIO()
    pl.DataFrame({"a": [1]}).write_parquet(content)
    name = Artefacts(tmp_path).put(content.getvalue(), ".parquet")
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), name], capture_output=True, text=True, check=True,
        env={**os.environ, "POLARS_MAX_THREADS": "0"},
    )  # fmt: skip
    assert "POLARS_MAX_THREADS" in done.stdout
    assert "Restore" not in done.stdout
