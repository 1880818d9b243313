"""Types of settings that list the choices of a search space."""

from __future__ import annotations

import json
from typing import Annotated, TypeAlias, TypeVar

from pydantic import AfterValidator, Field

T = TypeVar("T")


def all_different(values: tuple[T, ...]) -> tuple[T, ...]:
    """Return the values. Raises ValueError, as pydantic expects of a validator, if two are equal."""
    if len(set(values)) < len(values):
        raise ValueError(f"must all be different, got {json.dumps(values)}")
    return values


Size: TypeAlias = Annotated[int, Field(ge=1)]
Choices: TypeAlias = Annotated[tuple[T, ...], Field(min_length=1), AfterValidator(all_different)]
