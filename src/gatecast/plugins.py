"""What users may add to gatecast: by a decorator in their own Python, or by an entry point of an installed package.

A registry maps names to things of one sort, such as forecasters. A name is looked for among the built-in ones, then
among those added by decorator, then among the entry points of installed packages, which are imported when they are
first asked for by name. Nothing is ever imported because a settings file names a path.

In a package's `pyproject.toml`:

    [project.entry-points."gatecast.forecasters"]
    boosting = "my_package:Boosting"
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

from gatecast.errors import PluginError, did_you_mean

Thing = TypeVar("Thing")

OURS = "gatecast"
"""The origin of what is built in, and the distribution whose entry points are built in, too."""


class Registry(Generic[Thing]):
    """Names and the things that they stand for.

    `what`: the sort of things, for messages; `group`: the entry points' group.

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

    def __init__(self, what: str, group: str) -> None:
        self.what, self.group = what, group
        self._things: dict[str, Thing] = {}
        self._origins: dict[str, str] = {}

    def add(self, name: str, thing: Thing, *, built_in: bool = False) -> Thing:
        """Gives a thing its name and returns it. One's own name may be given again, a built-in one may not.

        Raises `PluginError` where the name is taken or no word of letters, digits and underscores.
        """
        if not name.isidentifier():
            raise PluginError(f"the {self.what} {name!r} needs a name of letters, digits and underscores.")
        if not built_in and (self._origins.get(name) == OURS or self._is_ours(name)):
            raise PluginError(f"the name {name!r} is taken by a built-in {self.what}: choose another.")
        self._things[name] = thing
        self._origins[name] = OURS if built_in else _source_of(thing)
        return thing

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

        "gatecast", "distribution==version" of a package, or the module of one added by decorator with a hash of its
        source, so that a thing that changed under the same name shows.
        """
        self.find(name)
        return self._origins[name]

    def __contains__(self, name: object) -> bool:
        return name in set(self)

    def __iter__(self) -> Iterator[str]:
        """All names: built-in ones and added ones in the order of their adding, then those of packages."""
        offered = sorted({point.name for point in entry_points(group=self.group)} - set(self._things))
        return iter([*self._things, *offered])

    def _is_ours(self, name: str) -> bool:
        return any(_distribution(point) == OURS for point in entry_points(group=self.group, name=name))

    def _load(self, name: str) -> None:
        points = sorted(entry_points(group=self.group, name=name), key=lambda point: _distribution(point) != OURS)
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
            self._things[name] = thing
        self._origins[name] = OURS if _distribution(point) == OURS else _release(point)


def _distribution(point: EntryPoint) -> str:
    return point.dist.name if point.dist else ""


def _release(point: EntryPoint) -> str:
    return f"{point.dist.name}=={point.dist.version}" if point.dist else point.value


def _source_of(thing: object) -> str:
    """Module and name of a class or function, with the beginning of its source's SHA-256."""
    made = thing if inspect.isclass(thing) or inspect.isroutine(thing) else type(thing)
    place = f"{made.__module__}.{getattr(made, '__qualname__', made.__name__)}"
    try:
        source = inspect.getsource(made)
    except (OSError, TypeError):  # typed in by hand, or compiled
        return place
    return f"{place} ({hashlib.sha256(source.encode()).hexdigest()[:12]})"
