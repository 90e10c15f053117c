"""What every section of a recipe shares: unknown keys are errors, values are never coerced, nothing changes later."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, NoReturn

from pydantic import BaseModel, ConfigDict, Strict, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

# Scalars as JSON has them: "3", 3.0 and true are not the integer 3 (an integer is a number, though).
Int = Annotated[int, Strict()]
Number = Annotated[float, Strict()]
Flag = Annotated[bool, Strict()]


class Section(BaseModel):
    """Base of the recipe and its sections."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def refuse(problems: Sequence[tuple[Sequence[str | int], str]]) -> NoReturn:
    """Raise, inside a validator, one error for each `(key path below the validated value, what is wrong)`."""
    errors = [
        InitErrorDetails(
            type=PydanticCustomError("recipe", "{problem}", {"problem": text}), loc=tuple(path), input=None
        )
        for path, text in problems
    ]
    raise ValidationError.from_exception_data("recipe", errors)
