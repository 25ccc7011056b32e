"""What users add: names, where they come from, and packages that offer the same or cannot be imported."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest
from installed import package

from gatecast.errors import PluginError
from gatecast.plugins import Registry, subclass_of

GROUP = "gatecast.testing"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.fixture
def registry() -> Registry[type]:
    own = Registry[type]("forecaster", GROUP)
    own.add("forest", dict, built_in=True)
    return own


def test_a_package_offers_a_thing_that_is_imported_when_it_is_asked_for(
    installed: Path, registry: Registry[type]
) -> None:
    package(installed, "boosted_things", {GROUP: "boosting = boosted_things:Boosting"}, "class Boosting: pass")
    assert list(registry) == ["forest", "boosting"]
    assert "boosting" in registry
    assert "boosted_things" not in sys.modules
    assert registry.find("boosting").__name__ == "Boosting"
    assert registry.origin("boosting").startswith("boosted_things==1.5, boosted_things.Boosting (")
    assert registry.is_importable("boosting")


def test_a_built_in_name_cannot_be_taken(installed: Path, registry: Registry[type]) -> None:
    package(installed, "hostile_forest", {GROUP: "forest = hostile_forest:Forest"}, "class Forest: pass")
    assert registry.find("forest") is dict
    assert registry.origin("forest") == "gatecast"
    with pytest.raises(PluginError, match="'forest' is taken by a built-in forecaster"):
        registry.add("forest", list)


def test_two_packages_with_one_name_are_refused(installed: Path, registry: Registry[type]) -> None:
    for name in ("first_offer", "second_offer"):
        package(installed, name, {GROUP: f"both = {name}:Both"}, "class Both: pass")
    with pytest.raises(PluginError, match=r"offer a forecaster 'both': first_offer==1.5, second_offer==1.5"):
        registry.find("both")


def test_a_package_that_cannot_be_imported_is_named(installed: Path, registry: Registry[type]) -> None:
    package(installed, "broken_offer", {GROUP: "broken = broken_offer:Broken"}, "import no_such_library")
    with pytest.raises(PluginError, match=r"'broken' of broken_offer==1.5 cannot be imported: ModuleNotFoundError"):
        registry.find("broken")


def test_an_own_thing_may_be_added_again_and_its_origin_changes_with_its_source() -> None:
    signs = Registry[Callable[[float], float]]("sign", GROUP)

    def mine(value: float) -> float:
        return value

    signs.add("mine", mine)
    before = signs.origin("mine")

    def mine(value: float) -> float:  # type: ignore[no-redef]
        return -value

    signs.add("mine", mine)
    assert signs.find("mine")(1.0) == -1.0
    assert before.startswith(f"{__name__}.test_an_own_thing")
    assert signs.origin("mine") != before


class Shape(ABC):
    kind: ClassVar[str]

    @abstractmethod
    def area(self) -> float: ...


def test_a_class_goes_by_its_kind_and_one_that_is_not_finished_is_refused() -> None:
    shapes = Registry[type[Shape]]("shape", GROUP, fault=subclass_of(Shape))

    @shapes.add
    class Square(Shape):
        kind = "square"

        def area(self) -> float:
            return 1.0

    assert shapes.find("square") is Square
    assert not shapes.is_built_in("square")
    assert not shapes.is_importable("square")
    shapes.remove("square")
    assert "square" not in shapes
    with pytest.raises(PluginError, match=r"'circle': expected a subclass of .*Shape that defines area, which Circle"):

        @shapes.add
        class Circle(Shape):
            kind = "circle"

    with pytest.raises(PluginError, match=r"'number': expected a subclass of .*Shape, got 3"):
        shapes.add("number", 3)  # type: ignore[arg-type]
    with pytest.raises(PluginError, match="needs a name of letters"):
        shapes.add(Shape)


def test_what_a_package_offers_is_checked_as_well(installed: Path) -> None:
    shapes = Registry[type[Shape]]("shape", GROUP, fault=subclass_of(Shape))
    package(installed, "no_shapes", {GROUP: "blob = no_shapes:blob"}, "blob = 1")
    with pytest.raises(PluginError, match=r"'blob' of no_shapes==1.5: expected a subclass"):
        shapes.find("blob")


@pytest.mark.parametrize("name", ["", "two words", "a-b", "1st"])
def test_a_name_is_a_word(name: str, registry: Registry[type]) -> None:
    with pytest.raises(PluginError, match="needs a name of letters"):
        registry.add(name, list)


def test_a_name_that_nobody_offers_is_an_error_with_the_nearest(registry: Registry[type]) -> None:
    with pytest.raises(PluginError, match="Did you mean 'forest'"):
        registry.find("forrest")
