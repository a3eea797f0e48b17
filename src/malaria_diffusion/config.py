"""The base of everything a user may set."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import Any, TypeVar

from pydantic import BaseModel, model_validator

Number = TypeVar("Number", int, float)


class Parameters(BaseModel, extra="forbid", frozen=True):
    """Typed parameters that name an unknown key together with the known ones."""

    @model_validator(mode="before")
    @classmethod
    def _name_what_is_known(cls, values: Any) -> Any:
        unknown = sorted(set(values) - set(cls.model_fields)) if isinstance(values, dict) else []
        if unknown:
            raise ValueError(f"unknown {', '.join(map(repr, unknown))}; known are {', '.join(cls.model_fields)}")
        return values


def rising(value: list[Number]) -> list[Number]:
    """The list as it is, if it rises and holds each number once.

    Raises:
        ValueError: it does not.
    """
    if value != sorted(set(value)):
        raise ValueError(f"must rise, each number once; found {value}")
    return value


def parse_parameters(text: str) -> dict[str, Any]:
    """What stands behind `--params`: items key=value with commas between, the key a path with dots.

    A value is the text that was written, whatever YAML would make of it (of the folder 2024_05 the number 202405), but
    for null, and for lists and quoted texts, which are JSON. Its type is the business of who reads it. A comma, or in a
    key a dot or an equals sign, that separates nothing has a backslash before it.

    Raises:
        ValueError: an item is no key=value, or a key has two values.
    """
    nested: dict[str, Any] = {}
    for item in filter(None, (part.strip() for part in re.split(r"(?<!\\),", text))):
        key, *value = re.split(r"(?<!\\)=", item, maxsplit=1)
        *path, last = [re.sub(r"\\([,.=])", r"\1", name) for name in re.split(r"(?<!\\)\.", key.strip())]
        if not value or not key.strip():
            raise ValueError(f"{item!r} is not a key and a value with = between")
        inner = nested
        for name in path:
            inner = inner.setdefault(name, {}) if isinstance(inner, dict) else inner
        if not isinstance(inner, dict) or last in inner:
            raise ValueError(f"{key.strip()!r} has two values")
        inner[last] = _value(value[0].strip().replace("\\,", ","))
    return nested


def escaped(name: str) -> str:
    """A name as a part of a path in `--params`."""
    return re.sub(r"([,.=])", r"\\\1", name)


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The leaves of a nested dict by their paths, with dots between."""
    leaves: dict[str, Any] = {}
    for key, value in values.items():
        leaves |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return leaves


def _value(text: str) -> Any:
    if text[:1] in {"[", '"'}:
        with suppress(json.JSONDecodeError):
            return json.loads(text)
    return None if text in {"", "null"} else text
