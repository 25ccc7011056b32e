"""Options of the command, and the settings that they become."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Collection
from datetime import UTC, date, datetime, time
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic.fields import FieldInfo
from typer.core import TyperCommand

from gatecast.errors import SettingsError
from gatecast.market.reading import BarsSettings, close_named
from gatecast.settings import words

if TYPE_CHECKING:
    from gatecast.experiment import Experiment
    from gatecast.machine import Machine

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on the last line of standard output.")]
Backend = Annotated[str, typer.Option(help="Where the jobs are done: local, dask, ray; changes no result.")]
Scheduler = Annotated[str | None, typer.Option(help="Of the backend dask, such as tcp://10.0.0.1:8786.")]
Jobs = Annotated[int | None, typer.Option(help="Cores to use; changes no result.", show_default="all")]
Storage = Annotated[
    str | None,
    typer.Option(
        help="Address of the searches for settings: sqlite:///FILE or a PostgreSQL server.",
        envvar="GATECAST_STORAGE", show_default="a file",
    ),
]  # fmt: skip
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")]


READING = {name: field for name, field in BarsSettings.model_fields.items() if name not in ("source", "frame")}
"""The settings that say how bars are to be understood: each is an option of every command that reads bars."""


def with_bars_options(*without: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A command whose argument `options` becomes one option for each setting of bars, all but `without`.

    The command gets them as one dictionary, name -> value as `BarsSettings` takes it, of those that were given.
    """
    fields = {name: field for name, field in READING.items() if name not in without}

    def add(command: Callable[..., None]) -> Callable[..., None]:
        own = list(signature(command, eval_str=True).parameters.values())
        added = [
            Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=_option(field))
            for name, field in fields.items()
        ]
        place = [one.name for one in own].index("options")
        parameters = [one.replace(kind=Parameter.KEYWORD_ONLY) for one in (*own[:place], *added, *own[place + 1 :])]

        def call(**given: Any) -> None:
            texts = {name: given.pop(name) for name in fields}
            options = {name: _value(fields[name], text) for name, text in texts.items() if text is not None}
            command(options=options, **given)

        call.__name__, call.__doc__ = command.__name__, command.__doc__
        call.__annotations__ = {one.name: one.annotation for one in parameters}
        call.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
        return call

    return add


def _option(field: FieldInfo) -> Any:
    """The option of a setting: its text, with the setting's words as help."""
    said = words(field)
    more = f"; {_FORMS[form]}" if (form := _form(field)) in _FORMS else ""
    return Annotated[str | None, typer.Option(help=f"{said[0].upper()}{said[1:]}{more}.")]


_FORMS = {"tuple": "separated by commas", "yes": "true or false", "dict": "written NAME=VALUE, separated by commas"}


def _form(field: FieldInfo) -> str:
    """What a setting holds: tuple, dict, number, yes or text."""
    if field.annotation is bool:
        return "yes"
    kinds = str(field.annotation)
    return next((form for form in _FORMS if f"{form}[" in kinds), "number" if "float" in kinds else "text")


def _value(field: FieldInfo, text: str) -> Any:
    """The value of a setting that the text of an option stands for; what the text may not be, the setting refuses."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    match _form(field):
        case "tuple":
            return parts
        case "dict":
            return {name.strip(): value.strip() for name, _, value in (part.partition("=") for part in parts)}
        case "yes":
            return {"true": True, "false": False}.get(text.lower(), text)
        case "number":
            try:
                return float(text)
            except ValueError:
                return text
        case _:
            return False if text in ("false", "False") and "Literal[False]" in str(field.annotation) else text


def with_options(text: str, known: Collection[str]) -> str:
    """A text that speaks of arguments (timezone='UTC') with a command's options instead (--timezone UTC).

    Arguments that are no reading option of the command, whose options are `known`, stay as they are; so does a text
    that names options itself.

    >>> with_options("Say timezone='UTC' or scale=2.", ["timezone"])
    'Say --timezone UTC or scale=2.'
    """
    if "--" in text:
        return text
    reading = {*READING, "reference", "now"}

    def spelt(found: re.Match[str]) -> str:
        name, value = found[1], found[2] or ""
        if name not in reading & {*known} or (name == "asset_class" and "/" in value):  # else a folder's name
            return found[0]
        value = value.strip("'") if re.fullmatch(r"'[\w/:.+-]+'", value) else value
        return f"--{name.replace('_', '-')}" + (f" {value}" if value else "")

    return re.sub(r"(?<![\w/-])([a-z_]+)=('[^']*'|[^\s,;.)('\[]+)?", spelt, text)


def experiment_of(config: Path | None, changes: dict[str, Any]) -> Experiment:
    """The experiment of a settings file, or the default one, with the changes that are not None."""
    from gatecast.experiment import Experiment

    given = only_given(changes)
    return Experiment.from_toml(config, **given) if config else Experiment(**given)


def only_given(options: dict[str, Any]) -> dict[str, Any]:
    """Options that were given, through all levels; sections without any are left out."""
    inner = {key: only_given(value) if isinstance(value, dict) else value for key, value in options.items()}
    return {key: value for key, value in inner.items() if value is not None and value != {}}


def as_moment(text: str | None, option: str = "--now") -> datetime | None:
    """A date or a time, UTC where it has no zone; raises `SettingsError` for anything else."""
    given = as_close(text, option)
    return given if given is None or isinstance(given, datetime) else datetime.combine(given, time(), UTC)


def as_close(text: str | None, option: str) -> date | datetime | None:
    """A date, which is a session, or the moment of a close, UTC where it has no zone; raises `SettingsError`.

    >>> as_close("2024-01-31", "--time")
    datetime.date(2024, 1, 31)
    """
    try:
        return None if text is None else close_named(text)
    except ValueError:
        raise SettingsError(f"{option} must be a date or a time such as 2024-01-31T21:00, got {text!r}.") from None


def as_setting(text: str, option: str, *, several: bool = False) -> tuple[str, Any]:
    """NAME=VALUE -> the name and the value; several: NAME=VALUE,VALUE -> a list of them.

    A value is a number, true, false or none where it reads as one, else text. Raises `SettingsError` for other forms.

    >>> as_setting("book.size.book_band=.1", "--set"), as_setting("target=.05,1", "--over", several=True)
    (('book.size.book_band', 0.1), ('target', [0.05, 1]))
    """
    name, sign, value = (part.strip() for part in text.partition("="))
    if not (name and sign and value):
        form = "NAME=VALUE,VALUE such as target=.05,.1,.15" if several else "NAME=VALUE such as band=.1"
        raise SettingsError(f"{option} must be {form}, got {text!r}.")
    return name, [_scalar(part.strip()) for part in value.split(",")] if several else _scalar(value)


def _scalar(text: str) -> Any:
    """A number, True, False or None where a text reads as one, else the text."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


_WORDS = {"true": True, "false": False, "none": None}


def output_file(out: Path, endings: tuple[str, ...] = ()) -> Path:
    """The full path of a file that is to be written. Raises `SettingsError` where it cannot be, before any work."""
    from gatecast.files import full_path

    place = full_path(out)
    if place.is_dir() or not place.parent.is_dir():
        raise SettingsError(f"{place} cannot be written: give the name of a file in a folder that is there.")
    if endings and place.suffix.lower() not in endings:
        raise SettingsError(f"{place} has another ending than {' or '.join(endings)}: give a name that ends so.")
    return place


def write_output(place: Path, text: str) -> None:
    """Writes a file whole or not at all. Raises `SettingsError`."""
    from gatecast.files import write_whole

    try:
        write_whole(place, text.encode())
    except OSError as error:
        raise SettingsError(f"{place} cannot be written: {error.strerror or error}.") from None


def as_length(text: str | None) -> str | int | None:
    return int(text) if text is not None and text.isdecimal() else text


def machine_of(
    jobs: int | None, address: str | None = None, unfinished: Path | None = None, index: str | None = None
) -> Machine:
    """Where a command's work is done: all cores unless the option says how many; `address`: of searches; `index`: of
    the index of stores."""
    from gatecast.machine import Machine

    return Machine(jobs=core_count() if jobs is None else jobs, studies=address, unfinished=unfinished, index=index)


def core_count() -> int:
    from joblib import cpu_count

    return int(cpu_count())


def as_folder(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "run"


class OnceCommand(TyperCommand):
    """A command whose options of two values are given once: of several the last alone would count."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Reads the words of a command line. Raises `SettingsError` for such an option that is there again."""
        for name in (name for param in self.params if param.nargs == 2 for name in param.opts):
            if sum(word.partition("=")[0] == name for word in args) > 1:
                raise SettingsError(
                    f"{name} is given twice: give it once, and then the same command with the next one."
                )
        return super().parse_args(ctx, args)
