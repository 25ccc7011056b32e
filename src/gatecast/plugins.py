"""What users may add to gatecast: by a decorator in their own Python, or by an entry point of an installed package.

A registry maps names to things of one sort, such as forecasters. A name is looked for among the built-in ones, then
among those added by decorator, then among the entry points of installed packages, which are imported when they are
first asked for by name. Nothing is ever imported because a settings file names a path.

In a package's `pyproject.toml`:

    [project.entry-points."gatecast.strategies"]
    breakout = "my_package:Breakout"
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from typing import Any, Generic, TypeVar, cast, overload

from gatecast.errors import PluginError, did_you_mean

Thing = TypeVar("Thing")

OURS = "gatecast"
"""The origin of what is built in, and the distribution whose entry points are built in, too."""


def is_anything(thing: object) -> str:
    """No fault in any thing, whatever it is."""
    return ""


def is_ours(thing: object) -> bool:
    """Whether gatecast itself defines a class or function."""
    return str(getattr(thing, "__module__", "")).partition(".")[0] == OURS


def subclass_of(base: type) -> Callable[[object], str]:
    """A check for registries of classes: says "expected ..." of what is no finished subclass of `base` with a `kind`.

    >>> subclass_of(int)(3)
    'expected a subclass of builtins.int, got 3'
    """

    def fault(thing: object) -> str:
        wanted = f"expected a subclass of {base.__module__}.{base.__qualname__}"
        if not (isinstance(thing, type) and issubclass(thing, base)):
            return f"{wanted}, got {thing!r}"
        if missing := sorted(getattr(thing, "__abstractmethods__", ())):
            return f"{wanted} that defines {', '.join(missing)}, which {thing.__name__} does not"
        if not isinstance(getattr(thing, "kind", None), str):
            return f"{wanted} with a `kind`, the name that settings call it by, which {thing.__name__} lacks"
        return ""

    return fault


class Registry(Generic[Thing]):
    """Names and the things that they stand for.

    Parameters
    ----------
    what: the sort of things, for messages. group: the entry points' group.
    fault: thing -> what is wrong with it, a phrase; "" where it can be used. Asked when a thing is added or loaded.
    code: thing -> the class or function whose source tells that it has changed; None: the thing itself.

    >>> colours = Registry[str]("colour", "gatecast.example_colours")
    >>> colours.add("red", "#f00", built_in=True)
    '#f00'
    >>> colours.find("red"), colours.origin("red")
    ('#f00', 'gatecast')
    >>> colours.find("rde")
    Traceback (most recent call last):
        ...
    gatecast.errors.PluginError: there is no colour 'rde'. Did you mean 'red'?
    """

    def __init__(
        self,
        what: str,
        group: str,
        *,
        fault: Callable[[object], str] = is_anything,
        code: Callable[[Thing], object] | None = None,
    ) -> None:
        self.what, self.group, self._fault, self._code = what, group, fault, code
        self._things: dict[str, Thing] = {}
        self._origins: dict[str, str] = {}

    @overload
    def add(self, name: Thing) -> Thing: ...

    @overload
    def add(self, name: str, thing: Thing, *, built_in: bool = False) -> Thing: ...

    def add(self, name: str | Thing, thing: Thing | None = None, *, built_in: bool = False) -> Thing:
        """Gives a thing its name and returns it. One's own name may be given again, a built-in one may not.

        A class that says its name as `kind` needs no other: then `add` is a plain decorator, and what gatecast itself
        defines is built in.

        Raises `PluginError` where the name is taken or no word of letters, digits and underscores, and for a thing
        that is not of the registry's sort.
        """
        if thing is None:
            thing = cast("Thing", name)
            name = getattr(thing, "kind", "")
            built_in = is_ours(thing)
        if not isinstance(name, str) or not name.isidentifier():
            raise PluginError(f"the {self.what} {name!r} needs a name of letters, digits and underscores.")
        if not built_in and (self._origins.get(name) == OURS or self._is_ours(name)):
            raise PluginError(f"the name {name!r} is taken by a built-in {self.what}: choose another.")
        self._refuse_unfit(name, thing)
        self._things[name] = thing
        self._origins[name] = OURS if built_in else self._origin_of(name, thing)
        return thing

    def remove(self, name: str) -> None:
        """Forgets a thing that was added.

        >>> numbers = Registry[int]("number", "gatecast.example_numbers")
        >>> numbers.add("one", 1)
        1
        >>> numbers.remove("one")
        >>> list(numbers)
        []
        """
        self._things.pop(name, None)
        self._origins.pop(name, None)

    def find(self, name: str) -> Thing:
        """The thing of a name.

        Raises `PluginError` where there is none, where several packages offer it, or where its package cannot be
        imported.
        """
        if name not in self._things:
            self._load(name)
        return self._things[name]

    def origin(self, name: str) -> str:
        """Where a thing comes from.

        "gatecast", or module and name with a hash of its source, so that a thing that changed under the same name
        shows; before it "distribution==version" where a package offers it.
        """
        self.find(name)
        return self._origins[name]

    def is_built_in(self, name: str) -> bool:
        """Whether gatecast itself offers the name."""
        return name in self and self.origin(name) == OURS

    def is_importable(self, name: str) -> bool:
        """Whether another process finds the same by itself: a built-in thing, or one that a package offers."""
        if name not in self._things:
            return name in self
        return self._origins[name] == OURS or self._point_of(name, self._things[name]) is not None

    def __contains__(self, name: object) -> bool:
        return name in self._things or bool(_offered(self.group, str(name)))

    def __iter__(self) -> Iterator[str]:
        """All names: built-in ones and added ones in the order of their adding, then those of packages."""
        offered = sorted({point.name for point in _offered(self.group)} - set(self._things))
        return iter([*self._things, *offered])

    def _is_ours(self, name: str) -> bool:
        return any(_distribution(point) == OURS for point in _offered(self.group, name))

    def _load(self, name: str) -> None:
        points = sorted(_offered(self.group, name), key=lambda point: _distribution(point) != OURS)
        if not points:
            raise PluginError(f"there is no {self.what} {name!r}. {did_you_mean(name, list(self))}")
        if len(points) > 1 and _distribution(points[0]) != OURS:
            who = ", ".join(sorted(_release(point) for point in points))
            raise PluginError(f"several packages offer a {self.what} {name!r}: {who}. Uninstall all but one.")
        point = points[0]
        try:
            thing = point.load()
        except Exception as error:
            raise PluginError(
                f"the {self.what} {name!r} of {_release(point)} cannot be imported: {type(error).__name__}: {error}."
            ) from error
        if name not in self._things:  # unless importing it has added it
            self._refuse_unfit(name, thing, _release(point))
            self._things[name] = thing
        ours = _distribution(point) == OURS
        self._origins[name] = OURS if ours else self._origin_of(name, self._things[name])

    def _refuse_unfit(self, name: str, thing: object, of: str = "") -> None:
        fault = self._fault(thing)
        if not fault and (kind := getattr(thing, "kind", name)) != name:
            fault = f"expected a `kind` of the same name, got {kind!r}"
        if fault:
            raise PluginError(f"the {self.what} {name!r}{of and f' of {of}'}: {fault}.")

    def _origin_of(self, name: str, thing: Thing) -> str:
        """Module and name of a thing's code with the hash of its source, after the release of its package."""
        point = self._point_of(name, thing)
        source = _source_of(thing if self._code is None else self._code(thing))
        return source if point is None else f"{_release(point)}, {source}"

    def _point_of(self, name: str, thing: Thing) -> EntryPoint | None:
        """The entry point of the package whose code a thing is, None where no package offers it."""
        module = getattr(thing if self._code is None else self._code(thing), "__module__", "")
        offered = _offered(self.group, name)
        return next((one for one in offered if one.module.partition(".")[0] == module.partition(".")[0]), None)


def _offered(group: str, name: str | None = None) -> EntryPoints:
    """The entry points of a group, all or those of one name, of the packages that are installed now."""
    offered = _entry_points_of(group, tuple((folder, _changed(folder)) for folder in sys.path))
    return offered if name is None else offered.select(name=name)


@functools.lru_cache(maxsize=32)
def _entry_points_of(group: str, folders: tuple[tuple[str, int], ...]) -> EntryPoints:
    # Reading the metadata of every package takes 20 ms; a folder's time changes when one is installed there.
    return entry_points(group=group)


def _changed(folder: str) -> int:
    try:
        return os.stat(folder or ".").st_mtime_ns
    except OSError:
        return 0


def _distribution(point: EntryPoint) -> str:
    return point.dist.name if point.dist else ""


def _release(point: EntryPoint) -> str:
    return f"{point.dist.name}=={point.dist.version}" if point.dist else point.value


def _source_of(thing: object) -> str:
    """Module and name of a class or function, with the beginning of its source's SHA-256."""
    made: Any = thing if inspect.isclass(thing) or inspect.isroutine(thing) else type(thing)
    place = f"{made.__module__}.{getattr(made, '__qualname__', made.__name__)}"
    try:
        source = inspect.getsource(made)
    except (OSError, TypeError):  # typed in by hand, or compiled
        return place
    return f"{place} ({hashlib.sha256(source.encode()).hexdigest()[:12]})"
