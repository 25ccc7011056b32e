"""What every settings object has in common: frozen, closed, and refused with a sentence that helps."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from gatecast.errors import SettingsError, did_you_mean


class Settings(BaseModel):
    """Base of all settings: immutable, unknown keys refused, numbers checked against their range.

    Raises `SettingsError` with the key, the value that came and what was expected.

    >>> from gatecast.forecasting.schedule import Schedule
    >>> Schedule(trian="2Y")
    Traceback (most recent call last):
        ...
    gatecast.errors.SettingsError: Schedule: unknown setting 'trian'. Did you mean 'train'?
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise SettingsError(explain(error, type(self))) from None

    def replace(self, **changes: Any) -> Any:
        """A copy with some settings changed, checked like a new one."""
        return type(self)(**{name: getattr(self, name) for name in self.model_fields_set} | changes)


def explain(error: ValidationError, owner: type[BaseModel]) -> str:
    """One sentence a fault, out of pydantic's list of faults."""
    sentences = []
    for fault in error.errors():
        place = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            known = _fields_at(owner, fault["loc"][:-1])
            sentences.append(f"unknown setting {place!r}. {did_you_mean(str(fault['loc'][-1]), known)}")
        elif fault["type"] == "value_error":
            text = fault["msg"].removeprefix("Value error, ")
            sentences.append(f"{place}: {text}" if place else text)
        else:
            sentences.append(f"{place} = {fault['input']!r}: {fault['msg'].lower()}.")
    return f"{owner.__name__}: " + " ".join(sentences)


def _fields_at(owner: type[BaseModel], path: tuple[str | int, ...]) -> list[str]:
    for part in path:
        annotation = owner.model_fields[str(part)].annotation if str(part) in owner.model_fields else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        owner = annotation
    return list(owner.model_fields)
