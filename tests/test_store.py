"""Runs on disk: whole or not at all, exact, checked before they are read."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import gatecast
from gatecast import store
from gatecast.errors import StoreError
from gatecast.experiment import Experiment
from gatecast.forecasting.forecaster import from_state
from gatecast.forecasting.models.linear import FittedLinear
from gatecast.forecasting.scaling import Scaler
from gatecast.market import synthetic
from gatecast.market.actions import read_actions, with_known_at
from gatecast.report import render
from gatecast.runs import Run, run

POSIX = os.name == "posix"


def small_experiment() -> Experiment:
    return Experiment(
        name="small",
        bars=synthetic.b1(900, seed=1, r2=0.05, symbols=2),
        features=("ret_log_1", "x"),
        model={"lstm": {"units": 16, "layers": 1, "seeds": 2, "epochs": 2}, "forest": {"trees": 5}},
        schedule={"refit": "1Y"},
    )


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GATECAST_DATA", str(tmp_path_factory.mktemp("data")))
        yield run(small_experiment())


@pytest.fixture(scope="module")
def kept(small: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved run that tests only read."""
    path = store.save_run(small, tmp_path_factory.mktemp("runs") / "small").path
    assert path is not None
    return path


@pytest.fixture
def folder(kept: Path, tmp_path: Path) -> Path:
    """A copy of it to damage."""
    return Path(shutil.copytree(kept, tmp_path / "small"))


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# ── what is written is what is read ───────────────────────────────────────────────────────────────


def test_the_page_is_left_beside_the_parts_and_is_that_of_the_run_that_comes_back(small: Run, tmp_path: Path) -> None:
    path = gatecast.save_run(small, tmp_path / "run").path
    assert path is not None
    assert (path / "report.html").read_text(encoding="utf-8") == render(store.load_run(path))


def test_a_run_comes_back_exactly(small: Run, kept: Path) -> None:
    loaded = store.load_run(kept)
    for name in ("bars", "forecasts", "signals", "weights", "equity"):
        assert getattr(loaded, name).equals(getattr(small, name), null_equal=True), name
        assert getattr(loaded, name).schema == getattr(small, name).schema
    assert loaded.scores == small.scores
    assert list(loaded.verdicts) == list(small.verdicts)  # in the order in which they are shown
    assert loaded.provenance == small.provenance
    assert loaded.experiment.to_dict() == small.experiment.to_dict()
    assert loaded.path == kept
    assert loaded.classes == {}


def test_a_run_keeps_the_actions_of_all_kinds(small: Run, tmp_path: Path) -> None:
    """The book of a chain that is made again is made with them."""
    table = pl.DataFrame(
        {
            "symbol": small.bars["symbol"][0], "kind": ["dividend", "split", "delisting"],
            "date": [date(2001, 3, 5), date(2001, 3, 6), small.bars["time"].dt.date().max()],
            "value": [1 / 3, 7.0, -0.1], "pay_date": [date(2001, 4, 5), None, None],
        }
    )  # fmt: skip
    actions = with_known_at(read_actions(table), small.bars)
    loaded = store.load_run(store.save_run(replace(small, actions=actions), tmp_path / "run").path or "")
    assert loaded.actions is not None
    assert loaded.actions.equals(actions, null_equal=True)
    assert store.chain_of(loaded).actions.equals(actions, null_equal=True)


def test_a_run_shows_itself_in_a_few_lines(small: Run, kept: Path) -> None:
    said = repr(store.load_run(kept)).splitlines()
    assert len(said) <= 10
    assert (
        said[0] == f"Run 'small': 1800 bars of 2 symbols, 2000-01-03 to {small.bars['time'].max():%Y-%m-%d}, in {kept}"
    )
    assert said[1] == small.scores["summary"]["headline"]
    assert [line.split()[0] for line in said[2:]] == list(small.verdicts)


def test_a_run_made_from_a_frame_can_be_run_again_from_its_folder(small: Run, kept: Path) -> None:
    again = Experiment.from_toml(kept / "experiment.toml")
    assert again.read().bars.equals(small.bars)
    assert again.replace(bars=small.bars).to_dict() == small.experiment.to_dict()


def test_the_folder_has_the_promised_parts(kept: Path) -> None:
    found = set(files(kept))
    assert {"forecasts.parquet", "signals.parquet", "weights.parquet", "equity.parquet", "bars.parquet"} <= found
    assert {"scores.json", "experiment.toml", "provenance.json", "manifest.json"} <= found
    assert {"models/index/lstm.safetensors", "models/index/lstm.json", "models/index/forest.safetensors"} <= found
    assert {Path(name).suffix for name in found} == {".parquet", ".json", ".toml", ".safetensors"}
    assert pl.read_parquet(kept / "forecasts.parquet").columns[:7] == [
        "symbol", "time", "model", "head", "step", "value", "known_at",
    ]  # fmt: skip


def test_the_manifest_lists_every_part_with_its_sha256(kept: Path) -> None:
    manifest = json.loads((kept / "manifest.json").read_bytes())
    parts = {name: content for name, content in files(kept).items() if name != "manifest.json"}
    assert manifest["parts"] == {
        name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)} for name, content in parts.items()
    }


def test_stored_models_forecast_bit_for_bit(small: Run, kept: Path) -> None:
    one = small.classes["index"]
    rows = one.forecasts.folds[-1].test
    models = store.load_models(kept)["index"]
    assert models.keys() == one.forecasts.fitted.keys() >= {"lstm", "forest", "logistic", "ridge", "har", "last"}
    for name, fitted in models.items():
        for head, values in fitted.predict(one.samples, rows).items():
            np.testing.assert_array_equal(values, one.forecasts.values[name][head][rows], f"{name} {head}")


def test_the_scale_of_signals_comes_back(small: Run, kept: Path) -> None:
    scale = store.load_scale(kept)["index"]
    assert scale.keys() == {"lstm", "forest"}
    for name, values in scale.items():
        np.testing.assert_array_equal(values, np.concatenate(small.classes["index"].forecasts.scale[name]))


def test_what_was_issued_comes_back(small: Run, kept: Path) -> None:
    mine, theirs = (store.past_of(one).forecasts["index"] for one in (kept, small))
    assert (mine.symbol, mine.cutoffs) == (theirs.symbol, theirs.cutoffs)
    assert (mine.in_force, mine.rivals) == (theirs.in_force, theirs.rivals)
    np.testing.assert_array_equal(mine.time, theirs.time)
    assert mine.values.keys() == theirs.values.keys()
    for model, heads in theirs.values.items():
        assert mine.values[model].keys() == heads.keys()
        for head, values in heads.items():
            np.testing.assert_array_equal(mine.values[model][head], values, f"{model} {head}")
    assert mine.members.keys() == theirs.members.keys() >= {"lstm"}
    for own, seeds in zip(mine.members["lstm"], theirs.members["lstm"], strict=True):
        for head, values in seeds.items():
            np.testing.assert_array_equal(own[head], values)


def test_a_folder_of_an_earlier_version_is_a_past_without_members(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_bytes())
    for name in [name for name in manifest["parts"] if name.startswith("issued/")]:
        (folder / name).unlink()
        del manifest["parts"][name]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    past = store.past_of(folder).forecasts["index"]
    assert past.members == {}
    assert len(past.cutoffs) == len(store.load_run(folder).scores["folds"])


def test_the_same_experiment_twice_gives_the_same_bytes(small: Run, kept: Path, tmp_path: Path) -> None:
    again = store.save_run(run(small_experiment()), tmp_path / "again")
    assert again.path is not None
    first, second = files(kept), files(again.path)
    assert first.keys() == second.keys()
    differ = {name for name in first if first[name] != second[name]}
    assert differ <= {"provenance.json", "manifest.json"}  # the clock


def test_chunks_in_memory_do_not_show_in_the_bytes(small: Run) -> None:
    in_chunks = pl.concat([small.bars[:100], small.bars[100:]], rechunk=False)
    assert store.run_parts(replace(small, bars=in_chunks))["bars.parquet"] == store.run_parts(small)["bars.parquet"]


def test_a_loaded_run_takes_its_models_along(kept: Path, tmp_path: Path) -> None:
    store.save_run(store.load_run(kept), tmp_path / "copy")
    assert files(tmp_path / "copy") == files(kept)


def test_arrays_in_any_memory_order_come_back(small: Run, tmp_path: Path) -> None:
    weights = np.asfortranarray(np.arange(6.0).reshape(3, 2))
    turned = FittedLinear("summaries", Scaler(np.zeros(4)[::2], np.ones(2)), {"return": weights})
    one = small.classes["index"]
    forecasts = replace(one.forecasts, fitted={"ridge": turned})
    store.save_run(replace(small, classes={"index": replace(one, forecasts=forecasts)}), tmp_path / "run")
    loaded = store.load_models(tmp_path / "run")["index"]["ridge"]
    assert isinstance(loaded, FittedLinear)
    np.testing.assert_array_equal(loaded.weights["return"], weights)


def test_a_model_name_cannot_leave_the_folder(small: Run, tmp_path: Path) -> None:
    one = small.classes["index"]
    fitted = {"../../out": one.forecasts.fitted["ridge"], "..": one.forecasts.fitted["zero"]}
    panel = {"../../out": one.forecasts.panel["ridge"], "..": one.forecasts.panel["zero"]}
    classes = {"index": replace(one, forecasts=replace(one.forecasts, fitted=fitted, panel=panel))}
    store.save_run(replace(small, classes=classes), tmp_path / "runs" / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    assert store.load_models(tmp_path / "runs" / "run")["index"].keys() == fitted.keys()


def test_the_settings_say_that_the_bars_were_handed_over_in_memory(kept: Path) -> None:
    lines = (kept / "experiment.toml").read_text(encoding="utf-8").splitlines()
    place = next(number for number, line in enumerate(lines) if "handed over in memory" in line)
    assert lines[place + 3] == "[bars]"


# ── damage ────────────────────────────────────────────────────────────────────────────────────────


def load_all(folder: Path) -> None:
    store.load_run(folder)
    store.load_models(folder)
    store.load_scale(folder)
    store.past_of(folder)


@pytest.mark.parametrize(
    "name",
    ["forecasts.parquet", "bars.parquet", "scores.json", "experiment.toml", "models/index/lstm.safetensors",
     "models/index/lstm.json", "scale/index.safetensors", "issued/index.safetensors", "issued/index.json"],
)  # fmt: skip
@pytest.mark.parametrize("damage", ["flip", "truncate", "lengthen", "remove"])
def test_damage_is_refused_with_the_file_and_what_to_do(folder: Path, name: str, damage: str) -> None:
    path = folder / name
    content = path.read_bytes()
    middle = len(content) // 2
    if damage == "flip":
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    elif damage == "truncate":
        path.write_bytes(content[:-1])
    elif damage == "lengthen":
        path.write_bytes(content + b" ")
    else:
        path.unlink()
    with pytest.raises(StoreError, match=r"(damaged|missing).*(run the experiment again)") as error:
        load_all(folder)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no JSON"),
        (b"{", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[]", "not the manifest"),
        (b'{"format": "something else"}', "not the manifest"),
        (b'{"format": "gatecast run", "version": 99}', "version 99"),
        (b'{"format": "gatecast run", "version": 1}', "list of parts"),
        (b'{"format": "gatecast run", "version": 1, "parts": {"a": {"sha256": "0"}}}', "list of parts"),
        (b'{"format": "gatecast run", "version": 1, "parts": {}}', "does not list"),
    ],
)
def test_a_manifest_that_is_none_is_refused(folder: Path, content: bytes, message: str) -> None:
    (folder / "manifest.json").write_bytes(content)
    with pytest.raises(StoreError, match=message):
        store.load_run(folder)


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "models/../../outside", "a\\b", "", "a/b/c/d"])
def test_a_manifest_cannot_name_a_file_elsewhere(folder: Path, name: str) -> None:
    manifest = json.loads((folder / "manifest.json").read_bytes())
    (folder.parent / "outside").write_bytes(b"x")
    manifest["parts"][name] = {"sha256": hashlib.sha256(b"x").hexdigest(), "bytes": 1}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(StoreError, match="no part of a run"):
        store.load_run(folder)


@pytest.mark.skipif(not POSIX, reason="links need rights elsewhere")
def test_a_link_out_of_the_folder_is_not_followed(folder: Path) -> None:
    outside = folder.parent / "outside.parquet"
    shutil.move(folder / "bars.parquet", outside)
    (folder / "bars.parquet").symlink_to(outside)
    with pytest.raises(StoreError, match=r"bars\.parquet leads out"):
        store.load_run(folder)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no gatecast run"):
        store.load_run(tmp_path)
    with pytest.raises(StoreError, match="no gatecast run"):
        store.load_models(tmp_path / "absent")


def test_loading_runs_no_code(folder: Path) -> None:
    """No pickle, no compilation, no process and no connection while a run is loaded."""
    load_all(folder)  # what is imported late is imported now
    seen: list[str] = []
    armed = True
    forbidden = {"pickle.find_class", "exec", "compile", "os.system", "subprocess.Popen", "socket.connect"}
    sys.addaudithook(lambda event, _: seen.append(event) if armed and event in forbidden else None)
    load_all(folder)
    armed = False
    assert seen == []


def test_a_stored_model_is_rebuilt_by_its_kind_alone() -> None:
    with pytest.raises(StoreError, match=r"'forrest'.*Did you mean 'forest'"):
        from_state({}, {"kind": "forrest"})
    with pytest.raises(StoreError, match="unknown kind 'None'"):
        from_state({}, {})
    with pytest.raises(StoreError, match="lacks or mangles"):
        from_state({}, {"kind": "lstm", "settings": {"units": 9}})
    with pytest.raises(StoreError, match="lacks or mangles"):
        from_state({}, {"kind": "har", "symbols": []})


# ── the place ─────────────────────────────────────────────────────────────────────────────────────


def test_the_run_that_was_there_stays_as_the_previous_one(small: Run, tmp_path: Path) -> None:
    for number in range(3):
        numbered = replace(small, scores={**small.scores, "number": number})
        store.save_run(numbered, tmp_path / "runs" / "one")
    assert store.load_run(tmp_path / "runs" / "one").scores["number"] == 2
    assert store.load_run(tmp_path / "runs" / "one.previous").scores["number"] == 1
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["one", "one.previous"]


def test_a_missing_run_points_to_the_previous_one(folder: Path) -> None:
    folder.rename(folder.with_name("gone.previous"))
    with pytest.raises(StoreError, match=r"run before is in .*gone\.previous"):
        store.load_run(folder.with_name("gone"))


def test_an_empty_folder_is_used(small: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    store.save_run(small, tmp_path / "empty")
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_what_is_no_run_is_never_replaced(small: Run, folder: Path, tmp_path: Path) -> None:
    thesis = tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "chapter.txt").write_text("years")
    (tmp_path / "note").write_text("a file")
    notes = store.previous(folder)
    shutil.copytree(folder, notes)
    (notes / "notes.txt").write_text("mine")
    before = files(tmp_path)
    for place, message in [
        (thesis, "holds something that is no gatecast run"),
        (tmp_path / "note", "is a file"),
        (tmp_path / "note" / "run", r"note is a file|cannot be made"),
        (folder, r"holds notes\.txt"),
    ]:
        with pytest.raises(StoreError, match=message):
            store.save_run(small, place)
    assert files(tmp_path) == before


@pytest.mark.skipif(not POSIX, reason="needs a limit on the size of files")
def test_a_full_disk_leaves_everything_as_it_was(small: Run, folder: Path, tmp_path: Path) -> None:
    import resource

    before = files(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(StoreError, match=r"cannot be written.*unchanged"):
            store.save_run(small, folder)
        with pytest.raises(StoreError, match=r"report\.html cannot be written"):
            store.write_page(folder, "x" * 50_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files(tmp_path) == before
    load_all(folder)


@pytest.mark.parametrize("failing", [1, 2])
def test_a_rename_that_fails_brings_the_old_run_back(
    small: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    before, calls, rename = files(folder), [], os.replace

    def sometimes(source: Any, target: Any) -> None:
        calls.append(target)
        if len(calls) == failing:
            raise PermissionError(13, "in use")
        rename(source, target)

    monkeypatch.setattr(os, "replace", sometimes)
    with pytest.raises(StoreError, match="in use"):
        store.save_run(replace(small, scores={}), folder)
    assert files(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_an_interruption_leaves_no_litter(small: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)  # the moment at which the folder takes its place
    with pytest.raises(KeyboardInterrupt):
        store.save_run(small, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_the_page_can_be_drawn_again_beside_the_parts(folder: Path) -> None:
    for text in ("<p>one", "<p>two \ud800"):  # half a character is no reason to lose a page
        page = store.write_page(folder, text)
    assert page == folder / "report.html"
    assert page.read_text(encoding="utf-8") == "<p>two \\ud800"
    load_all(folder)


def test_a_saved_run_gives_its_classes_again_without_a_fit(small: Run, kept: Path) -> None:
    again, whole = store.chain_of(kept).classes["index"], small.classes["index"]
    for model, heads in whole.forecasts.values.items():
        for head, values in heads.items():
            assert np.array_equal(again.forecasts.values[model][head], values, equal_nan=True), (model, head)
    assert np.array_equal(again.selection.weight, whole.selection.weight)
    assert np.array_equal(again.selection.chosen, whole.selection.chosen)
    assert np.array_equal(again.signals.z, whole.signals.z, equal_nan=True)
