"""What every settings object has in common: frozen, closed, in words, and refused with a sentence that helps.

The words of a setting stand once, as the string under its field: a phrase that says what it is, up to the first
semicolon, and then what is to be known about it. `help`, `to_toml`, docs/settings.md and errors are made from them.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import re
import textwrap
import tomllib
import typing
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import NoneType
from typing import Any, ClassVar, Final, Literal, Self

import annotated_types
import tomli_w
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic.fields import FieldInfo

from gatecast.errors import SettingsError, cut, did_you_mean, shown

if typing.TYPE_CHECKING:
    from pydantic._internal._model_construction import ModelMetaclass
else:
    ModelMetaclass = type(BaseModel)

SHARED: Final = "shared"
"""Metadata of a setting that a section takes from the setting of the same name above all sections."""
LARGEST_SEED: Final = 2**32 - 1
"""Largest seed that all libraries take."""
MOST_BARS: Final = 10_000_000
"""Upper bound of a number of bars or days."""
MAX_FILE_BYTES: Final = 2**20
"""Size of a settings file."""
BARS_ENDINGS: Final = (".csv", ".gz", ".tsv", ".parquet", ".pq")
"""Endings of files that are no settings."""
MAX_TEXT: Final = 4096
"""Characters of a text in settings."""
MAX_VALUES: Final = 20_000
"""Values in all lists and tables of a settings object together."""
MAX_DEPTH: Final = 16
"""Tables and lists within each other; also the parts of a dotted key."""
MOST_FAULTS: Final = 5
"""Faults that one error tells."""


@dataclass(frozen=True)
class _Said:
    """Where the words of a setting stand: under its field in the source of a class. Reading it takes its time."""

    owner: type[BaseModel]
    name: str

    @property
    def words(self) -> str:
        return _words_in(self.owner).get(self.name, "")


class _WithWords(ModelMetaclass):
    """Classes of settings: the docstring ends with the settings and their words, read when it is asked for."""

    @property
    def __doc__(cls) -> str | None:  # type: ignore[override]
        own = cls.__dict__.get("__doc__")
        lines = lines_of(cls.model_fields)  # type: ignore[attr-defined]
        text = [inspect.cleandoc(own or ""), "", "Attributes", "-" * 10, *lines]
        return "\n".join(text).lstrip() if lines else own


@cache
def _words_in(owner: type[BaseModel]) -> dict[str, str]:
    """Field -> the string under it in the source of a class; nothing where its source cannot be read."""
    try:
        body = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
    except (OSError, TypeError, SyntaxError):
        return {}
    found = {}
    for field, text in pairwise(body[0].body if body and isinstance(body[0], ast.ClassDef) else ()):
        match (field, text):
            case (ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(said)))):
                found[name] = said
    return found


class Settings(BaseModel, metaclass=_WithWords):
    """Base of all settings: immutable, unknown keys refused, numbers checked against their range.

    Raises `SettingsError` with the key, the value that came and what was expected.

    >>> from gatecast.forecasting.schedule import Schedule
    >>> Schedule(trian="2Y")
    Traceback (most recent call last):
        ...
    gatecast.errors.SettingsError: Schedule: unknown setting 'trian'. Did you mean 'train'?
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    elsewhere: ClassVar[Mapping[str, str]] = {}
    """What is no setting, though it is often taken for one -> what sets it."""

    def __init__(self, /, *unnamed: Any, **values: Any) -> None:
        if unnamed:
            kind, first = type(self), next(iter(type(self).model_fields), "setting")
            name = "bars" if "bars" in kind.model_fields else first
            raise SettingsError(
                f"{kind.__name__}: {shown(unnamed[0])} has no name, and every setting is given by its name: "
                f"{kind.__name__}({name}=...)."
            )
        refuse_large(values, type(self).__name__)
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise SettingsError(explain(error, type(self))) from None

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        """Says of each field where its words stand."""
        super().__pydantic_init_subclass__(**options)
        for name in inspect.get_annotations(cls):
            if name in cls.model_fields:
                cls.model_fields[name].metadata.append(_Said(cls, name))

    @model_validator(mode="after")
    def _no_list_repeats(self) -> Self:
        """Refuses a list that names something twice."""
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if isinstance(value, tuple) and _is_list(field.annotation) and len(set(value)) < len(value):
                twice = next(one for position, one in enumerate(value) if one in value[:position])
                raise ValueError(f"{name} has {shown(twice)} twice: name each once.")
        return self

    def replace(self, /, **changes: Any) -> Any:
        """A copy with some settings changed, checked like a new one."""
        return type(self)(**{name: getattr(self, name) for name in self.model_fields_set} | changes)


def refuse_large(values: Mapping[str, Any], owner: str) -> None:
    """Raises `SettingsError` for values beyond `MAX_TEXT`, `MAX_VALUES` or `MAX_DEPTH`, for whole numbers of more than
    64 bits, and for names that are no text. Frames and other objects are not looked into.

    >>> refuse_large({"name": "a" * 5000}, "Experiment")
    Traceback (most recent call last):
        ...
    gatecast.errors.SettingsError: Experiment: name: a text of 5,000 characters; at most 4,096 are taken. Use a \
shorter one.
    """
    waiting: list[tuple[Any, str, int]] = [(dict(values), "", 0)]
    count = 0
    while waiting:
        value, place, depth = waiting.pop()
        at = f"{owner}: {place}:" if place else f"{owner}:"
        inner: list[tuple[Any, Any]] = []
        if isinstance(value, str | bytes) and len(value) > MAX_TEXT:
            text = f"{at} a text of {len(value):,} characters; at most {MAX_TEXT:,} are taken. Use a shorter one."
            raise SettingsError(text)
        if isinstance(value, int) and value.bit_length() > 63:
            raise SettingsError(f"{at} {shown(value)} is beyond all that a setting may be. Use a smaller one.")
        if isinstance(value, dict):
            odd = [key for key in value if not isinstance(key, str)]
            if odd:
                raise SettingsError(f"{at} the name {shown(odd[0])} is no text. Write it in quotes.")
            inner = [*((key, "") for key in value), *((one, key) for key, one in value.items())]
        elif isinstance(value, list | tuple | set | frozenset):
            inner = [(one, "") for one in value]
        count += len(inner)
        if count > 2 * MAX_VALUES:
            raise SettingsError(f"{at} more than {MAX_VALUES:,} values in lists and tables. Use fewer.")
        if inner and depth >= MAX_DEPTH:
            raise SettingsError(f"{at} more than {MAX_DEPTH} lists or tables within each other. Use fewer.")
        waiting += [(one, ".".join(filter(None, (place, cut(str(key), 80)))), depth + 1) for one, key in inner]


def _is_list(annotation: Any) -> bool:
    """Whether an annotation is, or may be, a tuple of any length."""
    return ... in typing.get_args(annotation) or any(_is_list(one) for one in typing.get_args(annotation))


# ── settings from TOML ────────────────────────────────────────────────────────────────────────────


def read_toml(path: Path) -> dict[str, Any]:
    """The settings of a TOML file, by section. Raises `SettingsError` with the file for what cannot be read.

    >>> read_toml(Path("bars.csv"))
    Traceback (most recent call last):
        ...
    gatecast.errors.SettingsError: bars.csv: settings are TOML, and this is called as bars are. Give bars with --bars, \
or as Experiment(bars=...).
    """
    from gatecast.files import read  # the command starts without what it loads

    if path.suffix.lower() in BARS_ENDINGS:
        raise SettingsError(
            f"{cut(str(path))}: settings are TOML, and this is called as bars are. Give bars with --bars, or as "
            "Experiment(bars=...)."
        )
    try:
        return parse_toml(read(path, at_most=MAX_FILE_BYTES).decode("utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise SettingsError(f"{cut(str(path))}: the settings cannot be read: no UTF-8 ({error.reason}).") from None
    except OSError as error:
        raise SettingsError(f"{cut(str(path))}: the settings cannot be read: {error.strerror or error}.") from None


def parse_toml(text: str, place: str) -> dict[str, Any]:
    """Settings out of TOML; `place` names it in errors. Raises `SettingsError` for what is none, or is too deep.

    >>> parse_toml("[lstm]\\nunits = 32", "a.toml")
    {'lstm': {'units': 32}}
    >>> parse_toml("a" + ".a" * 100_000 + " = 1", "a.toml")
    Traceback (most recent call last):
        ...
    gatecast.errors.SettingsError: a.toml: more than 16 tables or lists within each other. Use fewer.
    """
    place = cut(place)
    if _deeper_than(text, MAX_DEPTH):
        raise SettingsError(f"{place}: more than {MAX_DEPTH} tables or lists within each other. Use fewer.")
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError also for a number of thousands of digits
        raise SettingsError(f"{place}: this is no TOML: {cut(str(error))}.") from None


_QUOTED = re.compile(
    r'''"""(?:[^\\"]|\\.|"(?!""))*+(?:"""|\Z)'''
    r"""|'''(?:[^']|'(?!''))*+(?:'''|\Z)"""
    r"""|"(?:[^"\\\n]|\\.)*+"?|'[^'\n]*+'?|\#[^\n]*+""",
    re.DOTALL,
)
"""Texts and comments of TOML."""


def _deeper_than(text: str, limit: int) -> bool:
    """Whether TOML has more brackets open at a time than the limit, or a key of more parts; texts do not count."""
    bare = _QUOTED.sub("q", text)
    bare = re.sub(r"[ \t]+", " ", bare).replace(" .", ".").replace(". ", ".")
    if any(word.count(".") > limit for word in re.split(r"[\s,=\[\]{}]", bare)):
        return True
    depth = 0
    for sign in re.findall(r"[\[\]{}]", bare):
        depth += 1 if sign in "[{" else -1 if depth else 0
        if depth > limit:
            return True
    return False


# ── what a field says about itself ────────────────────────────────────────────────────────────────


def lines_of(fields: Mapping[str, FieldInfo]) -> list[str]:
    """One paragraph a setting, for a docstring: its name, its words, its range."""
    lines = [f"{name}: {meaning(field)}" for name, field in fields.items()]
    return [textwrap.fill(line, 116, subsequent_indent="    ") for line in lines]


def meaning(field: FieldInfo) -> str:
    """The words of a setting, then its range or choices."""
    return "; ".join(part for part in (words(field), allowed(field)) if part)


def words(field: FieldInfo) -> str:
    """The string under the field, on one line; "" without any."""
    said = field.description or next((one.words for one in field.metadata if isinstance(one, _Said)), "")
    return " ".join(said.split())


def allowed(field: FieldInfo) -> str:
    """The range or the choices of a setting, in words; "" where it has none."""
    field = _given(field)
    if typing.get_origin(field.annotation) is Literal:
        return " or ".join(typing.get_args(field.annotation))
    low = high = ""
    for bound in field.metadata:
        match bound:
            case annotated_types.Ge(ge):
                low = f"{ge} or more"
            case annotated_types.Gt(gt):
                low = f"above {gt}"
            case annotated_types.Le(le):
                high = f"at most {le}"
            case annotated_types.Lt(lt):
                high = f"below {lt}"
    if low.endswith(" or more") and high.startswith("at most "):
        return f"{low.removesuffix(' or more')} to {high.removeprefix('at most ')}"
    return ", ".join(part for part in (low, high) if part)


def section(field: FieldInfo) -> type[Settings] | None:
    """The class of a field that is a section, None for a plain setting."""
    kind = _given(field).annotation
    return kind if isinstance(kind, type) and issubclass(kind, Settings) else None


def shared_settings(owner: type[Settings]) -> dict[str, set[str]]:
    """Section -> the settings in it that `owner` says once, for all its sections."""
    inner = {name: kind for name, field in owner.model_fields.items() if (kind := section(field))}
    return {name: said for name, kind in inner.items() if (said := shared(kind))}


def holds_settings(field: FieldInfo) -> bool:
    """Whether a field is a table of settings by name, each of a kind."""
    kinds = [getattr(kind, "__origin__", kind) for kind in typing.get_args(_given(field).annotation)]  # of Annotated
    return len(kinds) == 2 and isinstance(kinds[1], type) and issubclass(kinds[1], Settings)


def first_words(kind: type[Settings]) -> str:
    """The first sentence about a class of settings."""
    return " ".join(inspect.cleandoc(kind.__doc__ or "").split("\n\n")[0].split())


def shared(owner: type[Settings]) -> set[str]:
    """The settings of a section that are said once, above all sections."""
    return {name for name, one in owner.model_fields.items() if SHARED in one.metadata}


def _given(field: FieldInfo) -> FieldInfo:
    """A field that may be None, as it is where it is given."""
    kinds = typing.get_args(field.annotation)
    rest = [kind for kind in kinds if kind is not NoneType]
    return FieldInfo.from_annotation(rest[0]) if len(rest) == 1 < len(kinds) else field


def without_moved(values: Any, moved: Mapping[str, str]) -> Any:
    """Settings without those of `moved`, with a notice of each; `moved`: setting -> what sets it now.

    Values that are no table stay as they are.

    >>> with warnings.catch_warnings(record=True):
    ...     warnings.simplefilter("always")
    ...     without_moved({"seed": 1, "jobs": 4}, {"jobs": "--jobs"})
    {'seed': 1}
    """
    if not isinstance(values, dict):
        return values
    for name in (name for name in moved if name in values):
        warnings.warn(
            f"{name} is no setting of an experiment any more and was ignored: {moved[name]} sets it.",
            UserWarning, stacklevel=2,
        )  # fmt: skip
    return {name: value for name, value in values.items() if name not in moved}


# ── errors ────────────────────────────────────────────────────────────────────────────────────────


def explain(error: ValidationError, owner: type[BaseModel]) -> str:
    """One sentence a fault, out of pydantic's list of faults."""
    sentences = []
    faults = error.errors()
    for fault in faults[:MOST_FAULTS]:
        place = cut(".".join(str(part) for part in fault["loc"]))
        model, field = _find(owner, fault["loc"])
        if fault["type"] == "extra_forbidden":
            name = str(fault["loc"][-1])
            if name in (elsewhere := getattr(owner, "elsewhere", {})):
                advice = f"It is no setting: {elsewhere[name]} sets it."
            elif homes := [home for home in _homes(owner, name) if f"{home}.{name}".lstrip(".") != place]:
                tables = [f"under [{home}]" if home else "at the top, above all sections" for home in homes]
                advice = f"It stands {' or '.join(tables)}."
            else:
                advice = did_you_mean(name, model.model_fields)
            sentences.append(f"unknown setting {place!r}. {advice}")
        elif fault["type"] == "value_error":
            text = fault["msg"].removeprefix("Value error, ")
            name = place.rpartition(".")[2]
            named = bool(name) and text.startswith(f"{name} = ")
            sentences.append(place + text.removeprefix(name) if named else f"{place}: {text}" if place else text)
        else:
            about = words(field).split(";")[0].rstrip(".") if field else ""
            what = f" ({about})" if about else ""
            sentences.append(f"{place} = {shown(fault['input'])}: {_told(fault)}{what}.")
    if len(faults) > MOST_FAULTS:
        sentences.append(f"And {len(faults) - MOST_FAULTS} more faults.")
    return f"{owner.__name__}: " + " ".join(sentences)


_PLAIN = {
    "tuple_type": "expected a list", "path_type": "expected a path", "dict_type": "expected a table of settings",
    "model_type": "expected a table of settings",
}  # fmt: skip
"""Sort of a fault -> what is said of it, where pydantic's own words are those of Python's types."""


def _told(fault: Mapping[str, Any]) -> str:
    """What was expected, as a phrase without a capital."""
    return _PLAIN.get(fault["type"]) or cut(fault["msg"].lower())


def _homes(owner: type[BaseModel], name: str) -> list[str]:
    """The tables of `owner` in which a setting of this name exists, "" for itself; tables by name as `owner` has them.

    >>> from gatecast.experiment import Experiment
    >>> _homes(Experiment, "refit"), _homes(Experiment, "epochs")[:1], _homes(Experiment, "horizon")
    (['schedule'], ['model.lstm'], [''])
    """
    if name in owner.model_fields:
        return [""]
    homes = [
        place for place, field in owner.model_fields.items() if (kind := section(field)) and name in kind.model_fields
    ]
    with contextlib.suppress(SettingsError, ValidationError):
        for place, field in owner.model_fields.items():
            if holds_settings(field):
                tables = getattr(owner(), place).items()
                homes += [f"{place}.{key}" for key, one in tables if name in type(one).model_fields]
    return homes[:3]


def _find(owner: type[BaseModel], path: tuple[str | int, ...]) -> tuple[type[BaseModel], FieldInfo | None]:
    """The section that a path leads into, and the setting there, if there is such a one."""
    field = None
    for part in path:
        field = owner.model_fields.get(str(part))
        inner = section(field) if field else None
        if inner is None:
            break
        owner = inner
    return owner, field


# ── settings as commented TOML ────────────────────────────────────────────────────────────────────


def to_toml(settings: Settings, notes: Mapping[str, str] | None = None) -> str:
    """Commented TOML that reads back into the same settings; what is not set is commented out, with an example.

    A section that is not set is shown with its defaults, commented out. `notes`: section -> a sentence above it.

    >>> from gatecast.forecasting.models.garch import Garch
    >>> print(to_toml(Garch(every=3)).splitlines()[2])
    every = 3  # refits from one fit of the parameters to the next; the variance goes on bar by bar; 1 to 1000
    """
    kind = type(settings)
    head = f"# Settings of a gatecast {kind.__name__.lower()}. What is commented out is not set: the line shows how."
    return "\n".join([head, "", *_lines(settings), *_tables(settings, notes or {})]) + "\n"


def _tables(settings: Settings, notes: Mapping[str, str], path: str = "", mark: str = "") -> list[str]:
    """The lines of the sections of settings, and of the sections in those, such as [book.size]."""
    above, lines = shared_settings(type(settings)), list[str]()
    for name, field in type(settings).model_fields.items():
        if (inner := section(field)) is not None:
            given = getattr(settings, name)
            hidden, one = ("# ", inner()) if given is None else (mark, given)
            lines += ["", f"# {notes[name]}"] if name in notes else []
            lines += ["", f"# {words(field)}", f"{hidden}[{path}{name}]"]
            lines += [*_lines(one, hidden, above.get(name, set())), *_tables(one, {}, f"{path}{name}.", hidden)]
        elif holds_settings(field):
            for key, one in getattr(settings, name).items():
                lines += [
                    "",
                    f"# {first_words(type(one))}",
                    f"[{path}{name}.{key}]",
                    f'kind = "{one.kind}"  # what it is',
                ]
                lines += _lines(one, "", shared(type(one)))
    return lines


def _lines(settings: Settings, mark: str = "", above: typing.Collection[str] = ()) -> list[str]:
    """One line a setting: `key = value  # what it is; what it may be`; what is said above only where it differs."""
    lines = []
    for key, value in settings.model_dump(mode="json").items():
        field = type(settings).model_fields[key]
        plain = section(field) is None and not holds_settings(field)
        if plain and not (key in above and value == field.default):
            comment = "said at the top" if key in above else meaning(field)
            line = _assignment(key, _example(field) if value is None else value)
            lines.append(("# " if value is None else mark) + line + (f"  # {comment}" if comment else ""))
    return lines


def _example(field: FieldInfo) -> Any:
    """What a setting that is left out could look like; None where its field has no example."""
    return next(iter(field.examples or _given(field).examples or ()), None)


def _assignment(key: str, value: Any) -> str:
    """`key = value` on one line."""
    if value is None:
        return f"{key} ="
    if isinstance(value, dict):
        return f"{key} = {_inline(value)}"
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return f"{key} = [{', '.join(map(_inline, value))}]"
    text = tomli_w.dumps({key: value}).strip()
    return text.replace("[\n    ", "[").replace(",\n    ", ", ").replace(",\n]", "]")


def _inline(table: Mapping[str, Any]) -> str:
    """A table on one line, without what is not set."""
    return f"{{{', '.join(_assignment(name, one) for name, one in table.items() if one is not None)}}}"
