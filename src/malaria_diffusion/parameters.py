"""The base of everything a user may set."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, model_validator


class Parameters(BaseModel, extra="forbid", frozen=True):
    """Typed parameters that name an unknown key together with the known ones."""

    @model_validator(mode="before")
    @classmethod
    def _name_what_is_known(cls, values: Any) -> Any:
        unknown = sorted(set(values) - set(cls.model_fields)) if isinstance(values, dict) else []
        if unknown:
            raise ValueError(f"unknown {', '.join(map(repr, unknown))}; known are {', '.join(cls.model_fields)}")
        return values
