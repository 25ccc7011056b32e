"""Settings in words: one string under each field is what the file, the docs, `help` and errors say."""

from __future__ import annotations

import importlib
import os
import pkgutil
import pydoc
import runpy
import tomllib
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import annotated_types
import pytest
import tomli_w
from pydantic import Field
from pydantic.fields import FieldInfo

import gatecast
from gatecast.audits.full import Cuts
from gatecast.errors import SettingsError
from gatecast.experiment import Control, Experiment
from gatecast.machine import Machine
from gatecast.runs import run
from gatecast.settings import SHARED, Settings, holds_settings, parse_toml, section, shared_settings, to_toml, words

DOCS = Path(__file__).parents[1] / "docs"


class Inner(Settings):
    """A model of a user."""

    seed: Annotated[int, SHARED] = 0
    """what its draws begin from"""
    rate: Annotated[float, Field(gt=0, lt=1)] | None = Field(default=None, examples=[0.5])
    """how fast it learns;
    left out: as fast as it can"""


class Outer(Settings):
    """Settings of a user, with two sections."""

    seed: int = 3
    """everything random follows from it"""
    path: str | None = None
    wanted: Inner = Inner()
    """The model that runs."""
    further: Inner | None = None
    """Another model, off until the line below is there."""


TEXT = """# Settings of a gatecast outer. What is commented out is not set: the line shows how.

seed = 3  # everything random follows from it
# path =

# Handed over.

# The model that runs.
[wanted]
# rate = 0.5  # how fast it learns; left out: as fast as it can; above 0, below 1

# Another model, off until the line below is there.
# [further]
# rate = 0.5  # how fast it learns; left out: as fast as it can; above 0, below 1
"""


def every_class() -> Iterator[type[Settings]]:
    """All settings of the package."""
    for module in pkgutil.walk_packages(gatecast.__path__, "gatecast."):
        if not module.name.endswith("__main__"):  # which runs the command
            importlib.import_module(module.name)
    waiting = [Settings]
    for kind in waiting:
        waiting += kind.__subclasses__()
        if kind.__module__.startswith("gatecast."):
            yield kind


# ── the file ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "experiment",
    [
        Experiment(),
        Experiment(name='quoted "name"\n', lookback=40, horizon=3, features=("x", "z"), control=Control(bars=900)),
        Experiment(
            lookback=40, seed=3,
            model={"lstm": {"lookback": 40, "seed": 3, "scaling": "minmax", "learning_rate": 1e-5}},
        ),
        Experiment(
            bars={"source": "a\\b.csv", "symbols": ["Ä\"", "]", "#"], "stamp": "open", "as_of": "2018-01-01"},
            schedule={"refit": 21, "train": "18M", "expanding": True}, costs={"slippage_bps": 0.0},
            selection={"evidence": 0.5},
        ),
        Experiment(
            book={
                "core": {"kind": "weights", "weights": {"A": 0.5, 'B "C"': -0.2}}, "money": {"currency": "EUR"},
                "size": {"target_volatility": 0.15, "lots": {"fx": 1000.0}, "drawdown_stop": 0.2},
            },
        ),
    ],
)  # fmt: skip
def test_settings_read_back_into_the_same_experiment(experiment: Experiment, tmp_path: Path) -> None:
    file = tmp_path / "experiment.toml"
    file.write_text(to_toml(experiment), encoding="utf-8")
    assert Experiment.from_toml(file) == experiment


def test_settings_are_said_once(tmp_path: Path) -> None:
    file = tmp_path / "experiment.toml"
    file.write_text(to_toml(Experiment()).replace("lookback = 30", "lookback = 50"), encoding="utf-8")
    changed = Experiment.from_toml(file)
    assert changed.lookback == 50  # not contradicted by a second mention under [model.lstm]
    assert changed.panel["lstm"].lookback == 50  # type: ignore[attr-defined]


def test_every_setting_stands_in_the_file_with_a_comment() -> None:
    lines = [line.removeprefix("# ") for line in to_toml(Experiment()).splitlines()]
    shown = [line.split(" = ")[0] for line in lines if " = " in line]
    said = {f"{name}.{key}" for name, keys in shared_settings(Experiment).items() for key in keys}
    expected, every = [], Experiment(tuning={}, control={})
    for name, value in every.model_dump().items():
        if name in ("model", "strategy"):
            for key, own in value.items():
                assert f"[{name}.{key}]" in lines
                expected += own  # what is said above is left out already
        elif isinstance(value, dict):
            assert f"[{name}]" in lines
            for key, own in value.items():
                within = section(type(getattr(every, name)).model_fields[key]) is not None
                assert not within or f"[{name}.{key}]" in lines
                expected += own if within else [key] if f"{name}.{key}" not in said else []
        else:
            expected.append(name)
    assert sorted(shown) == sorted(expected)
    assert [line for line in lines if " = " in line and "  # " not in line] == []


def test_what_is_commented_out_can_be_used_as_it_stands() -> None:
    lines = [
        line.removeprefix("# ") if " = " in line or line.startswith("# [") else line
        for line in to_toml(Experiment()).splitlines()
        if not line.startswith("# file = ")  # weights of the core are there already
    ]
    text = "\n".join(lines).replace('kind = "equal_risk"', 'kind = "weights"')  # weights go with their kind
    used = Experiment(**tomllib.loads(text))
    assert used.control == Control()
    assert used.bars.symbols == ("SP500",)
    assert used.costs.slippage_bps == 2.0


def test_any_settings_become_a_commented_file() -> None:
    text = to_toml(Outer(), {"wanted": "Handed over."})
    assert text == TEXT
    assert Outer(**tomllib.loads(text)) == Outer()
    changed = Outer(path="a", wanted={"seed": 5, "rate": 0.1}, further={})
    text = to_toml(changed)
    assert "seed = 5  # said at the top\n" in text
    assert Outer(**tomllib.loads(text)) == changed
    assert "seed = 0  # what its draws begin from\n" in to_toml(Inner())  # no section: nothing is said above


# ── their words ───────────────────────────────────────────────────────────────────────────────────


def test_every_setting_has_words() -> None:
    found = list(every_class())
    assert {Experiment, Cuts} <= set(found)
    silent = [f"{kind.__name__}.{name}" for kind in found for name, one in kind.model_fields.items() if not words(one)]
    assert silent == []


def test_help_shows_the_settings_with_their_words() -> None:
    for kind in (gatecast.LSTM, Experiment, Cuts):
        text = " ".join(pydoc.plain(pydoc.render_doc(kind)).replace("|", "").split())
        for name, field in kind.model_fields.items():
            assert f"{name}: {words(field)}" in text


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"horizon": 50}, "horizon = 50: input should be less than or equal to 22 (bars ahead, h)."),
        ({"model": {"lstm": {"units": "many"}}}, "unable to parse string as an integer (units in a layer)."),
        (
            {"model": {"lstm": {"chunk": 0}}},
            "greater than or equal to 1 (labels in a chunk, K).",
        ),  # what it is, no more than that
        ({"model": {"lstm": 3}}, "expected a table of settings, [model.lstm]"),
        ({"selection": {"evidence": 1.5}}, "less than or equal to 1 (overrides what the evidence allows, and the"),
        ({"ensemble": {"members": [3]}}, "should be a valid string (models that are combined, those of them that run"),
    ],
)
def test_an_error_says_what_the_setting_is(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Experiment(**settings)
    assert text in str(caught.value)


# ── the docs ──────────────────────────────────────────────────────────────────────────────────────


def test_pages_that_the_code_makes_are_as_it_makes_them() -> None:
    for name, page in runpy.run_path(str(DOCS / "make.py"))["PAGES"].items():
        assert (DOCS / name).read_text(encoding="utf-8") == page(), f"docs/{name} is old: make docs"


def test_the_page_of_settings_has_them_all() -> None:
    text = (DOCS / "settings.md").read_text(encoding="utf-8")
    for name, field in Experiment.model_fields.items():
        if not field.exclude:
            assert words(field) in text
            heading = f"## [{name}.NAME]" if holds_settings(field) else f"## [{name}]" if section(field) else ""
            assert (heading or f"| `{name}` |") in text


def _all_kinds() -> list[type[Settings]]:
    """Every class of settings of the package, plug-in kinds among them."""
    for module in pkgutil.walk_packages(gatecast.__path__, "gatecast."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found, waiting = set(), [Settings]
    while waiting:
        inner = waiting.pop().__subclasses__()
        waiting += inner
        found |= {one for one in inner if one.__module__.startswith("gatecast.")}
    return sorted(found, key=lambda kind: f"{kind.__module__}.{kind.__name__}")


def _unbounded(kind: object, bounds: tuple[object, ...] = ()) -> list[object]:
    """The numbers of an annotation that lack a lower or an upper bound; `bounds`: what is said of it around it."""
    origin, of = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        inner = [one for said in of[1:] for one in (said.metadata if isinstance(said, FieldInfo) else [said])]
        return _unbounded(of[0], (*bounds, *inner))
    if origin is typing.Literal:
        return []
    if of:
        return [fault for one in of for fault in _unbounded(one, bounds if origin is not tuple else ())]
    if kind not in (int, float):
        return []
    low = any(isinstance(one, annotated_types.Ge | annotated_types.Gt) for one in bounds)
    high = any(isinstance(one, annotated_types.Le | annotated_types.Lt) for one in bounds)
    return [] if low and high else [kind]


@pytest.mark.parametrize("kind", _all_kinds(), ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_every_number_in_settings_has_a_lower_and_an_upper_bound(kind: type[Settings]) -> None:
    for name, field in kind.model_fields.items():
        assert not _unbounded(field.annotation, tuple(field.metadata)), f"{kind.__name__}.{name}: give it ge= and le="


def test_numbers_without_bounds_are_found() -> None:
    class Loose(Settings):
        size: typing.Annotated[int, Field(ge=1)] = 1
        shares: tuple[typing.Annotated[float, Field(ge=0, le=1)] | None, ...] = ()
        rates: tuple[float, ...] | None = None

    found = {name: _unbounded(field.annotation, tuple(field.metadata)) for name, field in Loose.model_fields.items()}
    assert found == {"size": [int], "shares": [], "rates": [float]}


LARGE = {
    "a long text": {"name": "a" * 10**6},
    "many values": {"models": ["zero"] * 10**6},
    "many keys": {"model": {f"m{n}": {"kind": "zero"} for n in range(50_000)}},
    "long key": {"a" * 10**6: 1},
    "a large number": {"seed": 10**5000},
    "beyond 64 bits": {"seed": 2**64},
    "a large share": {"costs": {"slippage_bps": 1e300}},
    "repeated models": {"models": ["zero", "zero"]},
    "repeated levels": {"intervals": {"levels": [0.8, 0.8]}},
    "many faults": {"intervals": {"levels": [7.0 + n for n in range(1000)]}},
    "signs that a terminal obeys": {"\x1b[2Jname": 1},
}


def _deep(depth: int) -> dict[str, object]:
    found: dict[str, object] = {}
    for _ in range(depth):
        found = {"a": found}
    return found


@pytest.mark.parametrize("values", [*LARGE.values(), _deep(100_000)], ids=[*LARGE, "deep"])
def test_large_settings_are_refused_in_few_words(values: dict[str, Any]) -> None:
    with pytest.raises(SettingsError) as caught:
        Experiment(**values)
    assert len(str(caught.value)) < 2000
    assert str(caught.value).isprintable()


TOML = {
    "a dotted key": "a" + ".a" * 100_000 + " = 1",
    "a dotted key with spaces": "a" + " . a" * 100_000 + " = 1",
    "a dotted table": "[a" + ".a" * 100_000 + "]",
    "a dotted key of texts": '"a"' + '."a"' * 100_000 + " = 1",
    "deep lists": "a = " + "[" * 100_000 + "]" * 100_000,
    "deep lists on many lines": "a = " + "[\n" * 100_000,
    "deep tables": "a = " + "{a = " * 100_000,
    "a large number": "seed = " + "9" * 100_000,
    "a large file": "# " + "a" * 2**20,
    "texts without an end": '"""\\' * 100_000,
    "a zero byte": "seed = 1\0",
    "a byte that is no text": "seed = \udcff",
}


@pytest.mark.parametrize("text", TOML.values(), ids=TOML)
def test_hostile_toml_is_refused_in_few_words(text: str, tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(SettingsError) as caught:
        Experiment.from_toml(file)
    assert len(str(caught.value)) < 1000
    assert "\0" not in str(caught.value)


def test_a_file_of_settings_must_be_a_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(SettingsError, match="a regular file was expected"):
            Experiment.from_toml(path)


def test_dots_in_texts_and_comments_are_no_depth() -> None:
    text = f'name = "{"a." * 100}" # {"b." * 100}\nlevels = [{", ".join("0.5" for _ in range(100))}]'
    assert parse_toml(text, "here")["name"] == "a." * 100


@pytest.mark.parametrize("key", [1, None, ("a", 1)])
@pytest.mark.parametrize("section", ["schedule", "bars", "tuning", "network"])
def test_a_name_that_is_no_text_is_refused(section: str, key: object) -> None:
    with pytest.raises(SettingsError, match="no text"):
        Experiment(**{section: {key: 2}})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"refit": "1M"}, "unknown setting 'refit'. It stands under [schedule]."),
        ({"train": "2Y"}, "It stands under [schedule]."),
        ({"symbols": ["A"]}, "It stands under [bars]."),
        ({"seeds": 3}, "under [model.lstm]"),
        ({"out": "runs/a"}, "It is no setting: --out of the command"),
        ({"storage": "sqlite:///a.db"}, "It is no setting: --storage"),
        ({"models": "lstm"}, "models = 'lstm': expected a list ("),
        ({"schedule": "1M"}, "schedule = '1M': expected a table of settings ("),
        ({"bars": 3}, "bars: expected a path, a list of paths, a folder, a glob, 'embedded', or a pandas"),
    ],
)
def test_a_setting_in_a_wrong_place_is_told_its_place(given: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as error:
        Experiment(**given)
    assert said in str(error.value)
    file = tmp_path / "a.toml"
    file.write_text(tomli_w.dumps(given))
    if "bars" not in given:
        with pytest.raises(SettingsError, match=r"a\.toml: Experiment: ") as error:
            Experiment.from_toml(file)
        assert said in str(error.value)


def test_a_change_that_is_refused_does_not_blame_the_file(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("horizon = 5")
    with pytest.raises(SettingsError, match=r"^Experiment: horizon = 50"):
        Experiment.from_toml(file, horizon=50)


def test_a_value_without_a_name_is_refused_in_words() -> None:
    with pytest.raises(SettingsError, match=r"'x\.csv' has no name.*Experiment\(bars=\.\.\.\)"):
        Experiment("x.csv")
    with pytest.raises(SettingsError, match="unfinished = 3: expected a path"):
        Machine(unfinished=3)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="must be an Experiment"):
        run(3)  # type: ignore[arg-type]
    with pytest.warns(UserWarning, match="the command keeps networks beside the run by itself"):
        Experiment(unfinished="a")


@pytest.mark.parametrize("number", [0, -0.0, 1_700_000_000, True])
@pytest.mark.parametrize("name", ["start", "end", "as_of"])
def test_a_number_is_no_date(name: str, number: float) -> None:
    with pytest.raises(SettingsError, match="expected a date as text"):
        Experiment(bars={name: number})
