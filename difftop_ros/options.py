"""Options written once: a field says default, bounds and meaning; checks, command line, parameters and docs follow.

Here: the frozen model that all settings are made of, its errors in one sentence, and its fields as a list. The settings
themselves stand beside what they are for (policies/config.py, learning/settings.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_core.core_schema import ValidationInfo
from typing_extensions import Self

from difftop_ros.errors import UserError


@dataclass(frozen=True)
class OneOf:
    """Metadata of a str field: its values are names that a registry knows, asked for when they are needed."""

    names: Callable[[], Sequence[str]]


@dataclass(frozen=True)
class Option:
    """A field as others need it. kind: str, int, float or tuple (of int); choices: all values, None where open."""

    name: str
    default: Any
    description: str
    kind: type
    choices: tuple[str, ...] | None


class Options(BaseModel):
    """Frozen settings. A value that cannot be raises `error` naming the key, what it is and what was expected."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    error: ClassVar[type[UserError]] = UserError

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**{key: tuple(v) if isinstance(v, list) else v for key, v in values.items()})
        except ValidationError as error:
            key = next((str(found["loc"][0]) for found in error.errors() if found["loc"]), "")
            raise self.error(_sentence(error, type(self)), key) from None

    @field_validator("*")
    @classmethod
    def _known(cls, value: Any, info: ValidationInfo) -> Any:
        choices = _choices(cls.model_fields[info.field_name or ""])
        if choices is not None and value not in choices:
            raise ValueError(f"expected one of {list(choices)}")
        return value

    def replace(self, **changes: Any) -> Self:
        """The same with some values changed, checked anew."""
        return type(self)(**{**{name: getattr(self, name) for name in type(self).model_fields}, **changes})

    def to_dict(self) -> dict[str, Any]:
        """Plain data for YAML."""
        return self.model_dump(mode="json")

    @classmethod
    def listed(cls) -> list[Option]:
        """The fields that are values, not further settings, in their order."""
        found = []
        for name, field in cls.model_fields.items():
            kind: Any = get_origin(field.annotation) or field.annotation
            kind = str if kind is Literal else kind
            if kind in (str, int, float, tuple):
                found.append(Option(name, field.default, field.description or "", kind, _choices(field)))
        return found


def _choices(field: FieldInfo) -> tuple[str, ...] | None:
    if get_origin(field.annotation) is Literal:
        return get_args(field.annotation)
    named = [mark for mark in field.metadata if isinstance(mark, OneOf)]
    return tuple(named[0].names()) if named else None


def _sentence(error: ValidationError, model: type[Options]) -> str:
    """The first finding as 'key is value; expected …'; that of unknown keys names all of them."""
    findings = error.errors(include_url=False)
    unknown = sorted(str(found["loc"][-1]) for found in findings if found["type"] == "extra_forbidden")
    if unknown:
        return f"unknown settings {unknown}; expected some of {sorted(model.model_fields)}"
    found = findings[0]
    message = found["msg"].removeprefix("Value error, ")
    if not found["loc"]:  # a check across fields says all itself
        return message
    return f"{found['loc'][0]} is {_got(found)!r}; {_expected(found['type'], found.get('ctx', {}), message)}"


def _got(found: Any) -> Any:
    return list(found["input"]) if isinstance(found["input"], tuple) else found["input"]


def _expected(kind: str, limits: dict[str, Any], message: str) -> str:
    words = {
        "greater_than_equal": "at least {ge:g}",
        "greater_than": "more than {gt:g}",
        "less_than_equal": "at most {le:g}",
        "less_than": "less than {lt:g}",
        "int_type": "a whole number",
        "float_type": "a number",
        "string_type": "text",
        "literal_error": "one of {expected}",
        "tuple_type": "a list of whole numbers",
        "multiple_of": "a multiple of {multiple_of:g}",
        "too_short": "at least {min_length} of them",
        "missing_argument": "a value",
    }
    if kind == "value_error":
        return message
    return f"expected {words[kind].format(**limits)}" if kind in words else message[:1].lower() + message[1:]
