"""Run folders whose manifest fits, and whose parts are hostile or of another run: one sentence each, before any use."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load, save

from gatecast import store
from gatecast.errors import StoreError
from gatecast.experiment import Experiment
from gatecast.files import sweep
from gatecast.market import synthetic
from gatecast.processes import mark
from gatecast.report import render_saved
from gatecast.runs import run


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A small saved run that tests only copy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GATECAST_DATA", str(tmp_path_factory.mktemp("data")))
        experiment = Experiment(
            bars=synthetic.b1(900, seed=1, r2=0.05), features=("ret_log_1", "x"),
            model={"lstm": {"units": 16, "layers": 1, "seeds": 1, "epochs": 1}, "forest": {"trees": 3}},
            schedule={"refit": "1Y"}, book={"core": {"kind": "none"}},
        )  # fmt: skip
        place = tmp_path_factory.mktemp("runs") / "small"
        store.save_run(run(experiment), place)
        yield place


@pytest.fixture
def folder(kept: Path, tmp_path: Path) -> Path:
    """A copy of it to damage."""
    return Path(shutil.copytree(kept, tmp_path / "small"))


def put(folder: Path, name: str, content: bytes) -> None:
    """Replaces a part, and its line in the manifest."""
    (folder / name).write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["parts"][name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def read_all(folder: Path) -> None:
    store.load_run(folder)
    store.load_models(folder)
    store.load_scale(folder)
    store.past_of(folder)


def refused(folder: Path, match: str) -> None:
    with pytest.raises(StoreError, match=match) as error:
        read_all(folder)
    assert len(str(error.value)) < 1_500


@pytest.mark.parametrize("name", ["scores.json", "provenance.json", "models/index/ridge.json", "issued/index.json"])
@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"[]", "dictionary"),
        (b'{"a": 1, "a": 2}', "twice in a table"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": 1e400}', "no float holds"),
        (b'{"a": 9007199254740993}', "beyond 2"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "within each other"),
        (b'{"a": ' + b"[" * 100 + b"]" * 100 + b"}", "within each other"),
        (b'{"a": "' + b"x" * 200_000 + b'"}', "200,000 characters"),
        (b"\xff\xfe", "UTF-8"),
        (b'{"a": ' + b"1" * 5_000 + b"}", "whole number"),
    ],
)
def test_json_that_can_be_read_in_two_ways_is_refused(folder: Path, name: str, content: bytes, match: str) -> None:
    put(folder, name, content)
    refused(folder, match)


@pytest.mark.parametrize(
    ("name", "change", "match"),
    [
        ("scores.json", {"verdicts": []}, "verdicts"),
        ("scores.json", {"folds": [{"asset_class": "index"}]}, "folds"),
        ("scores.json", {"warnings": "text"}, "warnings"),
        ("scores.json", {"book": {"lines": [{"line": "ensemble"}]}}, "book.lines.0.title"),
        ("provenance.json", {"data_hash": "0" * 64}, "not the bars"),
        ("provenance.json", {"features": {"index": 3}}, "features"),
        ("issued/index.json", {"refits": ["never"]}, "refits"),
        ("issued/index.json", {"in_force": {"return": ["zero"] * 99}}, "one name for each"),
        ("issued/index.json", {"refused": {"ridge": {"2001-01-01": "why"}}}, "no model of these refits"),
        ("issued/index.json", {"refused": {"ridge": {"never": "why"}}}, "refused"),
        ("issued/index.json", {"refused": ["ridge"]}, "refused"),
        ("models/index/zero.json", {"rule": "nonsense"}, "nonsense"),
        ("models/index/ridge.json", {"smear": 1e12}, "smear"),
        ("models/index/lstm.json", {"settings": {"units": 8}}, "lstm"),
    ],
)
def test_fields_of_another_type_are_refused(folder: Path, name: str, change: dict[str, Any], match: str) -> None:
    put(folder, name, json.dumps({**json.loads((folder / name).read_bytes()), **change}).encode())
    refused(folder, match)


def numeric_models(folder: Path) -> list[str]:
    names = (path.relative_to(folder).as_posix() for path in sorted((folder / "models").rglob("*.safetensors")))
    return [
        name
        for name in names
        if any(one.dtype.kind == "f" and one.size for one in load((folder / name).read_bytes()).values())
    ]


@pytest.mark.parametrize("bad", [np.inf, -np.inf, 1e300])
def test_weights_that_are_no_finite_numbers_are_refused_in_every_model(folder: Path, bad: float) -> None:
    """The spread of a scaler may be infinite, in which case the column is constant."""
    for name in numeric_models(folder):
        good = (folder / name).read_bytes()
        arrays = load(good)
        key = next(
            key for key, one in sorted(arrays.items()) if one.dtype.kind == "f" and one.size and "spread" not in key
        )
        array = arrays[key].copy()
        array.flat[0] = bad
        put(folder, name, save({**arrays, key: array}))
        with pytest.raises(StoreError, match="mangles"):
            store.load_models(folder)
        put(folder, name, good)
    store.load_models(folder)


@pytest.mark.parametrize("change", ["shape", "dtype", "missing"])
def test_arrays_of_another_shape_or_kind_are_refused_in_every_model(folder: Path, change: str) -> None:
    for name in numeric_models(folder):
        good = (folder / name).read_bytes()
        arrays = load(good)
        key = sorted(arrays)[0]
        other = {"shape": arrays[key][None], "dtype": np.zeros(arrays[key].shape, np.int16)}
        rest = {name: one for name, one in arrays.items() if name != key}
        put(folder, name, save(rest if change == "missing" else {**rest, key: other[change]}))
        with pytest.raises(StoreError, match="mangles"):
            store.load_models(folder)
        put(folder, name, good)


def test_a_tree_that_leads_back_is_refused(folder: Path) -> None:
    arrays = load((folder / "models/index/forest.safetensors").read_bytes())
    arrays["left"][np.flatnonzero(arrays["feature"] >= 0)[0]] = 0
    put(folder, "models/index/forest.safetensors", save(arrays))
    refused(folder, "after its parent")


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\x00" * 8, (2**60).to_bytes(8, "little") + b"{}",
        len(b'{"a":{"dtype":"F64","shape":[1000000000000],"data_offsets":[0,8]}}').to_bytes(8, "little")
        + b'{"a":{"dtype":"F64","shape":[1000000000000],"data_offsets":[0,8]}}' + b"\x00" * 8,
        (2).to_bytes(8, "little") + b"{}" + b"\x00" * 8,
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "name", ["models/index/ridge.safetensors", "scale/index.safetensors", "issued/index.safetensors"]
)
def test_a_file_of_arrays_is_checked_by_its_header(folder: Path, name: str, content: bytes) -> None:
    put(folder, name, content)
    refused(folder, r"cannot be used: it")


@pytest.mark.parametrize(
    ("name", "change", "match"),
    [
        ("bars", lambda table: table.drop("close"), "'close' is none"),
        ("bars", lambda table: table.with_columns(pl.lit("x").alias("note")), "column 'note'"),
        ("bars", lambda table: table.with_columns(pl.col("close") * -1), "above 0"),
        ("bars", lambda table: table.vstack(table), "two rows"),
        ("bars", lambda table: table.with_columns(pl.col("close") * 2), "not the bars"),
        ("signals", lambda table: table.with_columns(pl.col("time").dt.offset_by("1h")), "other symbols or times"),
        ("weights", lambda table: table.with_columns(weight=pl.lit(float("nan"))), "no finite value"),
        ("weights", lambda table: table.with_columns(pl.lit([1.0]).alias("weight")), "List"),
        ("equity", lambda table: pl.concat([table] * 3), "rows"),
        ("forecasts", lambda table: table.with_columns(step=pl.lit(99, pl.Int32)), "two rows|outside"),
        ("forecasts", lambda table: table.with_columns(value=pl.lit(float("inf"))), "no finite value"),
        ("forecasts", lambda table: table.head(0), "are missing"),
    ],
)
def test_tables_that_are_not_of_the_run_are_refused(
    folder: Path, name: str, change: Callable[[pl.DataFrame], pl.DataFrame], match: str
) -> None:
    change(pl.read_parquet(folder / f"{name}.parquet")).write_parquet(file := io.BytesIO())
    put(folder, f"{name}.parquet", file.getvalue())
    refused(folder, match)


def test_a_table_far_larger_in_memory_than_in_its_file_is_refused_unread(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    good = pq.read_table(folder / "forecasts.parquet").slice(0, 1)
    rows = pa.concat_tables([good] * 1_000).combine_chunks()
    with pq.ParquetWriter(folder / "bomb", rows.schema, compression="zstd") as writer:
        for _ in range(20):
            writer.write_table(pa.concat_tables([rows] * 100).combine_chunks())
    content = (folder / "bomb").read_bytes()
    assert len(content) < 500_000
    put(folder, "forecasts.parquet", content)
    refused(folder, "bytes in memory out of a file of")


@pytest.mark.skipif(os.name != "posix", reason="pipes and links")
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "link", "link to itself"])
@pytest.mark.parametrize("name", ["manifest.json", "bars.parquet", "models/index/ridge.json"])
def test_what_is_no_file_is_never_opened(folder: Path, name: str, kind: str) -> None:
    path = folder / name
    moved = path.rename(folder / "moved")
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to({"device": "/dev/zero", "link": moved, "link to itself": path.name}[kind])
    refused(folder, "cannot be read|through a link|damaged")


def test_an_empty_scale_is_no_error_of_the_program(folder: Path) -> None:
    put(folder, "scale/index.safetensors", b"")
    with pytest.raises(StoreError, match="no file of arrays"):
        store.load_scale(folder)


# ── who writes, and what a killed process leaves ──────────────────────────────────────────────────


def test_a_second_writer_is_told_who_has_the_lock(tmp_path: Path) -> None:
    from filelock import FileLock

    other = FileLock(tmp_path / ".run.lock")
    other.acquire()
    (tmp_path / ".run.locked-by").write_text("1234 2024-01-02 03:04:05\n")
    with pytest.raises(StoreError, match="process 1234, since 2024-01-02"), store.locked(tmp_path / "run"):
        pass
    other.release()
    with store.locked(tmp_path / "run"), store.locked(tmp_path / "run"):  # what it left is no obstacle
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_a_dead_process_left_is_swept_and_what_a_living_one_has_is_not(folder: Path) -> None:
    machine = mark().split("-")[0]
    dead, living = f"{machine}-4194305-7", mark()
    for owner in (dead, living, "00000000-4194305-7"):
        half = folder.with_name(f".small.previous.{owner}.0123456789ab.part")
        half.mkdir()
        (half / "x").write_text("half")
    store.check_place(folder)
    left = sorted(path.name.split(".")[3] for path in folder.parent.iterdir() if path.name.endswith(".part"))
    assert left == sorted([living, "00000000-4194305-7"])
    assert sweep(folder.parent / "absent") == []


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs a system that says what processes do")
def test_what_a_killed_process_left_is_swept_before_its_parent_asks_for_it(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"], stdout=-1)
    assert child.stdout is not None
    child.stdout.readline()
    start = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[19]
    owner = f"{mark().split('-')[0]}-{child.pid}-{start}"
    half = tmp_path / f".small.{owner}.0123456789ab.part"
    half.write_text("half")
    assert sweep(tmp_path) == []
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and is still listed
    assert sweep(tmp_path) == [half]
    child.communicate()


DIES = """
import os, sys
from gatecast import store
from gatecast.report import render_saved
folder, at = sys.argv[1], int(sys.argv[2])
loaded, rename, calls = store.load_run(folder), os.replace, []
def dies(source, target):
    calls.append(target)
    if len(calls) == at:
        os._exit(9)
    rename(source, target)
os.replace = dies
store.save_run(loaded, folder)
"""


@pytest.mark.parametrize("dies_at", [1, 2, 3, 4])
def test_a_kill_at_any_rename_blocks_no_later_run(folder: Path, dies_at: int) -> None:
    """A process of its own ends at the n-th rename, without its `finally`: nothing is put back."""
    shutil.copytree(folder, store.previous(folder))
    ended = subprocess.run([sys.executable, "-c", DIES, str(folder), str(dies_at)], check=False, timeout=120)
    assert ended.returncode == 9
    whole = [place for place in (folder, store.previous(folder)) if (place / "manifest.json").is_file()]
    assert whole
    for place in whole:
        store.load_run(place)
    store.check_place(folder)
    assert not [path for path in folder.parent.iterdir() if path.name.endswith(".part")]
    with store.locked(folder):
        pass


@pytest.mark.parametrize(
    ("part", "value"),
    [
        *((name, [{}]) for name in ("years", "in_force", "one_bar_later", "coverage")),
        *((name, [{}]) for name in ("credit", "rivals", "strategies")),
        ("selection", {"x": 1}), ("names", {}), ("many", {"return": {"x": 1}}),
        ("backtest", {"bars_per_year": {"a": 1}}),
    ],
)  # fmt: skip
def test_a_page_is_drawn_of_odd_scores_or_refused_in_a_sentence(folder: Path, part: str, value: Any) -> None:
    scores = json.loads((folder / "scores.json").read_bytes())
    put(folder, "scores.json", json.dumps({**scores, part: value}).encode())
    try:
        found = render_saved(folder)
    except StoreError as error:
        found = str(error)
    assert re.search("</html>|expected .* got .*scores.json.*Take the folder from a backup", found)
