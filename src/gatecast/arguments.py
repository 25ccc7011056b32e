"""Arguments of public functions are checked against their annotations, so that a wrong type is refused by its name."""

from __future__ import annotations

import functools
import inspect
import reprlib
import types
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import date, datetime
from numbers import Integral, Real
from pathlib import Path
from typing import Annotated, Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, overload

import numpy as np
import polars as pl

from gatecast.errors import GatecastError, SettingsError, shown, text_fault
from gatecast.settings import Settings, lines_of

Function = TypeVar("Function", bound=Callable[..., Any])
Given = ParamSpec("Given")
Result = TypeVar("Result")
MOST_NAME, MOST_REASON = 200, 1000
"""Characters of a name, and of a reason, that somebody gives."""
WORDS: dict[Any, str] = {
    str: "text", int: "a whole number", float: "a number", bool: "True or False", Path: "a path", date: "a date",
    datetime: "a time (datetime)", pl.DataFrame: "a Polars frame", type(None): "None",
}  # fmt: skip
ADVICE = {
    "DataFrame": "gatecast.read_bars reads files and frames of pandas and Polars.",
    "Experiment": "Make one with gatecast.Experiment(bars=...), or gatecast.Experiment.from_toml(FILE).",
    "Run": "gatecast.load_run(FOLDER) and gatecast.run(EXPERIMENT) give one.",
    "Samples": "gatecast.make_samples(BARS) gives them, by asset class.",
    "Record": "gatecast.evaluation.record.records_of(FORECASTS) gives them, by head.",
    "Forecasts": "gatecast.walk_forward(...) gives them; the ensemble must be among them.",
}
"""What to do, by the class that was expected."""


@overload
def checked(function: Callable[Given, Result]) -> Callable[Given, Result]: ...


@overload
def checked(*, error: type[GatecastError]) -> Callable[[Callable[Given, Result]], Callable[Given, Result]]: ...


def checked(function: Any = None, *, error: type[GatecastError] = SettingsError) -> Any:
    """A function that raises `error` for an argument of another type than its annotation says; else the same.

    The text says the function, the argument, what was expected, what came and what to do. Numbers of NumPy are numbers;
    True and False are none. Of a `Literal` text only the type is checked: the function itself names what it knows.

    >>> @checked
    ... def double(number: float, *, name: str | None = None) -> float:
    ...     return 2 * number
    >>> double(2), double(np.float32(2), name="two")
    (4, np.float32(4.0))
    >>> double("2")
    Traceback (most recent call last):
        ...
    gatecast.errors.SettingsError: double: number must be a number; got '2' (str). Correct this argument.
    """
    if function is None:
        return functools.partial(checked, error=error)
    signature = inspect.signature(function)

    @functools.cache
    def kinds() -> dict[str, Any]:
        """Name of each argument -> its annotation, once the module is complete."""
        names = function.__globals__
        return {
            name: eval(one.annotation, names) if isinstance(one.annotation, str) else one.annotation
            for name, one in signature.parameters.items()
        }

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError:
            return function(*args, **kwargs)  # Python says which argument is missing or unknown
        wrong = [refusal(name, kinds()[name], value) for name, value in given.items() if not fits(value, kinds()[name])]
        if wrong:
            raise error(f"{function.__name__}: {' '.join(wrong)}")
        return function(*args, **kwargs)

    return call


def takes(settings: type[Settings], without: Collection[str] = ()) -> Callable[[Function], Function]:
    """A function that takes the settings of a class, all but `without`, as its keyword arguments `**options`.

    They stand in its signature with their types, and at the end of its docstring with their words, so that `help` and
    completion know them. The function itself makes the settings object, which refuses what is unknown.

    >>> from gatecast.trading.costs import Costs
    >>> @takes(Costs)
    ... def total(name: str, **options: float) -> float:
    ...     return sum(options.values())
    >>> list(inspect.signature(total).parameters)[:2], total("a", commission_bps=1.0, slippage_bps=0.5)
    (['name', 'commission_bps'], 1.5)
    """

    def add(function: Function) -> Function:
        own = inspect.signature(function, eval_str=False)
        kept = {name: field for name, field in settings.model_fields.items() if name not in {*without, *own.parameters}}
        options = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.annotation)
            for name, field in kept.items()
        ]
        first = [one for one in own.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
        function.__signature__ = own.replace(parameters=[*first, *options])  # type: ignore[attr-defined]
        function.__doc__ = "\n".join(
            [inspect.cleandoc(function.__doc__ or ""), "", "Options", "-" * 7, *lines_of(kept)]
        )
        return function

    return add


def fits(value: object, kind: Any) -> bool:
    """Whether a value is of the kind that an annotation says.

    >>> fits(["A"], list[str] | None), fits("A", list[str]), fits(True, int), fits({"a": 1}, dict[str, str])
    (True, False, False, False)
    """
    origin, of = get_origin(kind), get_args(kind)
    if kind is Any or kind is inspect.Parameter.empty:
        return True
    if origin is Annotated:
        return fits(value, of[0])
    if origin in (Union, types.UnionType):
        return any(fits(value, one) for one in of)
    if origin is Literal:
        return any(isinstance(value, str) if isinstance(one, str) else value is one for one in of)
    if kind is None or kind is type(None):
        return value is None
    if kind in (int, float):
        return isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool)
    if origin is np.ndarray:
        return isinstance(value, np.ndarray) and value.dtype.kind in _dtypes(of)
    if origin is tuple:
        return isinstance(value, tuple | list) and all(fits(one, of[0]) for one in value)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(fits(k, of[0]) and fits(v, of[1]) for k, v in value.items())
    if isinstance(origin, type) and issubclass(origin, Callable):  # type: ignore[arg-type]
        return callable(value)
    if isinstance(origin, type) and issubclass(origin, Iterable):
        right = not isinstance(value, str | bytes) and isinstance(value, origin)
        return right and (not isinstance(value, Collection) or all(fits(one, of[0]) for one in value))
    return isinstance(value, origin or kind)


def _dtypes(of: tuple[Any, ...]) -> str:
    """The kinds of NumPy types that an array of an annotation may hold."""
    return "M" if "datetime64" in str(of) else "fiub"


def refusal(name: str, kind: Any, value: object) -> str:
    """What is said of an argument of another type."""
    parts = [one for one in ADVICE if one in str(kind)]
    advice = ADVICE[parts[0]] if parts else "Correct this argument."
    try:
        text = reprlib.repr(value)
    except ValueError:  # a number of thousands of digits
        text = shown(value)
    came = f"{text} ({type(value).__name__})"
    return f"{name} must be {in_words(kind)}; got {' '.join(came.split())}. {advice}"


def in_words(kind: Any) -> str:
    """An annotation in words.

    >>> in_words(str | list[str] | None), in_words(dict[str, float])
    ('text, a list (each: text) or None', 'a dictionary (keys: text, values: a number)')
    """
    origin, of = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return in_words(of[0])
    if origin in (Union, types.UnionType):
        words = list(dict.fromkeys(in_words(one) for one in of))
        return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]
    if origin is Literal:
        return " or ".join(repr(one) for one in of)
    if origin is np.ndarray:
        return f"a NumPy array of {'dates' if _dtypes(of) == 'M' else 'numbers'}"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return f"a dictionary (keys: {in_words(of[0])}, values: {in_words(of[1])})"
    if isinstance(origin, type) and issubclass(origin, Callable):  # type: ignore[arg-type]
        return "a function"
    if isinstance(origin, type) and issubclass(origin, Iterable):
        return f"a list (each: {in_words(of[0])})"
    name = str(getattr(kind, "__name__", kind))
    return WORDS.get(kind, f"{'an' if name[:1] in 'AEIO' else 'a'} {name}")


def refuse_odd_text(name: str, text: str | None, longest: int = MOST_NAME) -> None:
    """Raises `SettingsError` for a text that somebody gives and that is empty, too long or holds control characters.

    >>> refuse_odd_text("by", "ann")
    >>> refuse_odd_text("by", "a\\nb")
    Traceback (most recent call last):
        ...
    gatecast.errors.SettingsError: by = 'a\\nb': it holds the sign '\\n'. Give a plain text of one line.
    """
    if text is not None and (fault := text_fault(text, longest)):
        raise SettingsError(f"{name} = {shown(text)}: {fault}. Give a plain text of one line.")
