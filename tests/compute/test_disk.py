"""What a finished class leaves is on disk: the same numbers, gone with the run, whole in every copy."""

from __future__ import annotations

import copy
import gc
import json
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.testing import assert_array_equal

from gatecast import live, report, scores, store
from gatecast.chain import make_chain
from gatecast.compute.disk import Disk, StoredArrays, StoredFile
from gatecast.errors import StoreError
from gatecast.experiment import Experiment
from gatecast.machine import Machine
from gatecast.market import synthetic
from gatecast.runs import Run, run


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of temporary files of its own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_arrays_come_back_as_they_were_each_time_anew(temporary: Path) -> None:
    days = np.array(["2024-01-02", "NaT"], "datetime64[us]")
    arrays = {"a": np.array([[1.0, np.nan], [-0.0, 2.0]]), "day": days, "by_column": np.ones((2, 3), order="F")}
    kept = Disk().arrays(arrays)
    assert list(kept) == list(arrays)
    assert len(kept) == 3
    assert "a" in kept
    assert "b" not in kept
    for name, array in arrays.items():
        assert kept[name].tobytes() == array.tobytes()
        assert kept[name].dtype == array.dtype
        assert kept[name].flags.f_contiguous == array.flags.f_contiguous
    kept["a"][:] = 0
    assert kept["a"][1, 1] == 2.0  # nobody else sees what is done to a copy
    with pytest.raises(KeyError):
        kept["b"]
    with pytest.raises(TypeError):
        kept["a"] = days  # type: ignore[index]


def test_blocks_come_back_cut_as_they_were(temporary: Path) -> None:
    blocks = {"m": (np.arange(3.0), np.zeros(0), np.arange(2.0)), "n": (np.ones(1),)}
    kept = Disk().blocks(blocks)
    for name, own in blocks.items():
        assert [one.tolist() for one in kept[name]] == [one.tolist() for one in own]


@dataclass(frozen=True)
class Pair:
    """Two arrays, a name and a pair inside."""

    first: np.ndarray[Any, Any]
    second: np.ndarray[Any, Any]
    name: str
    inner: Pair | None = None


def test_a_dataclass_reads_the_fields_that_are_away_and_its_copies_are_in_memory(temporary: Path) -> None:
    disk = Disk()
    inner = disk.store(Pair(np.zeros(1), np.zeros(1), "inner"))
    kept = disk.store(Pair(np.arange(2), np.arange(3), "pair", inner), "second")
    assert isinstance(kept, Pair)
    assert kept.name == "pair"
    assert kept.second.tolist() == [0, 1, 2]
    assert "first" in vars(kept)
    assert "second" not in vars(kept)
    assert kept.second is not kept.second
    with pytest.raises(AttributeError, match="'Pair' has no attribute 'third'"):
        kept.third  # type: ignore[attr-defined]  # noqa: B018
    assert replace(kept, name="other").second.tolist() == [0, 1, 2]
    for again in (copy.deepcopy(kept), pickle.loads(pickle.dumps(kept))):
        assert type(again) is Pair
        assert again.second.tolist() == [0, 1, 2]
        assert type(again.inner) is Pair
        assert "second" in vars(again.inner)


def test_what_is_away_can_be_changed_and_put_away_again(temporary: Path) -> None:
    disk = Disk()
    once = disk.store(Pair(np.arange(3.0), np.zeros(1), "one"))
    again = disk.store(replace(once, name="two"))
    assert (again.name, again.first.tolist(), once.name) == ("two", [0.0, 1.0, 2.0], "one")


def test_the_folder_goes_with_the_last_that_lies_in_it(temporary: Path) -> None:
    disk = Disk()
    kept, folder = disk.arrays({"a": np.arange(2)}), disk.folder
    assert folder.parent == temporary
    assert folder.stat().st_mode & 0o077 == 0
    del disk
    gc.collect()
    assert kept["a"].tolist() == [0, 1]
    copied = pickle.loads(pickle.dumps(kept))
    del kept
    gc.collect()
    assert not folder.exists()
    assert type(copied) is dict
    assert copied["a"].tolist() == [0, 1]


@pytest.mark.parametrize("end", ["raise KeyboardInterrupt", "raise ValueError", "sys.exit(1)", "pass"])
def test_nothing_is_left_behind_however_the_program_ends(tmp_path: Path, end: str) -> None:
    code = f"""
import sys, tempfile
tempfile.tempdir = {str(tmp_path)!r}
import numpy as np
from gatecast.compute.disk import Disk
kept = Disk().arrays({{"a": np.arange(3)}})
print(kept["a"].sum())
{end}
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "3\n"
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_room_is_named(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk()

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(StoreError, match=r"No space left on device. Make room there, or set TMPDIR"):
        disk.arrays({"a": np.arange(2)})
    monkeypatch.setattr(tempfile, "mkdtemp", full)
    with pytest.raises(StoreError, match="a finished class"):
        Disk()


# ── a run of two classes ──────────────────────────────────────────────────────────────────────────


def two_classes() -> Experiment:
    parts = [
        synthetic.b1(700, seed=seed, r2=0.05, symbols=2).with_columns(
            symbol=pl.concat_str(pl.lit(name), "symbol"), asset_class=pl.lit(name)
        )
        for seed, name in enumerate(("crypto", "index"))
    ]
    return Experiment(
        bars=pl.concat(parts), features=("ret_log_1", "x"), 
        model={"lstm": {"units": 16, "layers": 1, "seeds": 2, "epochs": 2}, "forest": {"trees": 5}},
        schedule={"refit": "6M"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Run, Run]]:
    """The same run: finished classes on disk, both at work at a time; and in memory, one after the other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GATECAST_DATA", str(tmp_path_factory.mktemp("data")))
        away = run(two_classes(), machine=Machine(jobs=2))
        with patch.context() as only_here:
            only_here.setattr(Disk, "for_classes", lambda _: None)
            held = run(two_classes())
        yield away, held


def test_on_disk_side_by_side_and_in_memory_one_after_the_other_are_the_same_bytes(both: tuple[Run, Run]) -> None:
    away, held = (store.run_parts(one) for one in both)
    assert isinstance(both[0].forecasts_parquet, StoredFile)
    assert isinstance(both[1].forecasts_parquet, bytes)
    assert away.keys() == held.keys()
    for name in away:
        if name != "provenance.json":  # it has the clock
            assert away[name] == held[name], name
    assert json.loads(away["scores.json"])["trials"]["count"] == 1
    assert both[0].forecasts.equals(both[1].forecasts)
    assert both[0].scan_forecasts().filter(pl.col("head") == "return").collect().height > 0


def arrays_in(one: Any, seen: set[int]) -> Iterator[np.ndarray[Any, Any]]:
    """The arrays that something holds in memory, each once, without those of fitted models."""
    if id(one) in seen:
        return
    seen.add(id(one))
    if isinstance(one, np.ndarray):
        yield one
    elif isinstance(one, StoredArrays):
        return
    elif is_dataclass(one):
        for field in fields(one):
            if field.name in vars(one) and field.name != "fitted":
                yield from arrays_in(vars(one)[field.name], seen)
    elif isinstance(one, dict | list | tuple):
        for inner in one.values() if isinstance(one, dict) else one:
            yield from arrays_in(inner, seen)


def test_a_finished_class_holds_little_in_memory(both: tuple[Run, Run]) -> None:
    away, held = (
        sum(array.nbytes for array in arrays_in(one.classes, set())) / len(one.bars) for one in both
    )  # bytes a bar
    assert held > 1000
    assert away < 60


def test_every_array_of_a_class_is_what_it_was(both: tuple[Run, Run]) -> None:
    for name in both[0].classes:
        one, other = (run.classes[name] for run in both)
        assert_array_equal(one.samples.features, other.samples.features)
        assert_array_equal(one.forecasts.rows, other.forecasts.rows)
        assert one.samples is one.forecasts.samples
        assert all(fold.data is one.samples for fold in one.forecasts.folds)
        for mine, theirs in zip(one.forecasts.folds, other.forecasts.folds, strict=True):
            assert_array_equal(mine.train, theirs.train)
            assert_array_equal(mine.validation, theirs.validation)
        for part in ("signals", "proposals", "selection"):
            for field in fields(getattr(one, part)):
                assert_array_equal(getattr(getattr(one, part), field.name), getattr(getattr(other, part), field.name))
        for mine, theirs in zip(one.forecasts.members["lstm"], other.forecasts.members["lstm"], strict=True):
            assert_array_equal(mine["return"], theirs["return"])


def test_copies_of_a_run_are_whole_without_its_folder(both: tuple[Run, Run]) -> None:
    away, held = both
    name = next(iter(away.classes))
    copied = pickle.loads(pickle.dumps((away.forecasts_parquet, away.classes[name].forecasts.values)))
    assert copied[0] == held.forecasts_parquet
    assert_array_equal(copied[1]["ensemble"]["return"], held.classes[name].forecasts.values["ensemble"]["return"])
    renamed = replace(away, scores={})
    assert renamed.forecasts.equals(held.forecasts)


def test_a_run_is_saved_and_goes_on_after_its_folder_is_gone(
    both: tuple[Run, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    away, held = (store.save_run(one, tmp_path / name) for one, name in zip(both, ("away", "held"), strict=True))
    a, b = (json.loads((tmp_path / name / "manifest.json").read_text())["parts"] for name in ("away", "held"))
    assert {name: a[name] for name in a if name != "provenance.json"} == {
        name: b[name] for name in b if name != "provenance.json"
    }
    again = store.load_run(tmp_path / "away")
    assert again.forecasts.equals(held.forecasts)
    said = [live.forecast_newest(tmp_path / name, away.bars) for name in ("away", "held")]
    assert [str(row) for row in said[0]] == [str(row) for row in said[1]]
    assert len(said[0]) == 4
    assert "<html" in report.render(again)


def cheap() -> Experiment:
    return two_classes().replace(models=("logistic", "ridge"), signals={"model": "ridge", "confirmed_by": "ridge"},
        ensemble={"members": ("logistic",), "volatility_members": ("har",)})  # fmt: skip


def test_credit_reads_finished_classes_where_they_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    given = list[object]()

    def told(*forecasts: object, disk: object, **more: object) -> list[object]:
        given.append(disk)
        return []

    monkeypatch.setattr(scores, "credit_of", told)
    run(cheap())
    assert [type(one) for one in given] == [Disk]


def test_a_chain_lets_go_of_its_folder(temporary: Path) -> None:
    settings = cheap()
    chain = make_chain(settings, settings.read().bars)
    assert [path.name[:9] for path in temporary.iterdir()] == ["gatecast-"]
    del chain
    gc.collect()
    assert list(temporary.iterdir()) == []


def test_a_disk_that_takes_a_part_of_an_array_is_said(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def short(*_: object, **__: object) -> None:
        raise OSError("6500 requested and 1520 written")  # NumPy's, without a kind

    disk = Disk()
    monkeypatch.setattr(np, "save", short)
    with pytest.raises(StoreError, match="it took a part of a file alone"):
        disk.arrays({"a": np.arange(3)})


def test_what_is_lent_is_read_by_copies_where_it_lies(temporary: Path) -> None:
    disk = Disk()
    numbers = np.arange(1e5)
    one, arrays, blocks = (
        disk.store(Pair(numbers, numbers[:9], "a")), disk.arrays({"b": numbers}), disk.blocks({"c": (numbers,)})
    )  # fmt: skip
    with disk.lent():
        sent = pickle.dumps((one, arrays, blocks))
        copy_of_one, copy_of_arrays, copy_of_blocks = pickle.loads(sent)
        assert len(sent) < 2000
        assert "first" not in vars(copy_of_one)
        for found in (copy_of_one.first, copy_of_arrays["b"], copy_of_blocks["c"][0]):
            assert_array_equal(found, numbers)
        assert copy_of_one.name == "a"
        with disk.lent():  # to another at the same time
            pass
        assert len(pickle.dumps((one, arrays, blocks))) == len(sent)
    for held in map(pickle.dumps, (one, arrays, blocks)):
        assert len(held) > numbers.nbytes
    del copy_of_one, copy_of_arrays, copy_of_blocks
    gc.collect()
    assert_array_equal(one.first, numbers)  # the folder is the lender's
