"""The space of a hyper-parameter search: one JSON file, the same for every arm that is compared.

{"parameters": {"learning_rate": {"low": 1e-5, "high": 1e-3, "log": true},
                "weight_decay": {"choices": [0.0, 0.01, 0.1]}}}
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator

from hf_crosstask.atomic import json_fingerprint
from hf_crosstask.errors import InputError, unknown_name
from hf_crosstask.recipe.section import Flag, Number, Section, refuse

#: Keys of `training` that can be searched: those that leave the plan, so the tokens of every trial, as they are.
SEARCHABLE: dict[str, type] = {
    "learning_rate": float,
    "weight_decay": float,
    "warmup_steps": float,
    "max_grad_norm": float,
    "adam_beta1": float,
    "adam_beta2": float,
    "adam_epsilon": float,
    "lr_scheduler_type": str,
}


class Parameter(Section):
    """Where one key's values come from: a range, or a list."""

    low: Number | None = Field(default=None, description="lowest value of a range")
    high: Number | None = Field(default=None, description="highest value of a range")
    log: Flag = Field(default=False, description="draw the logarithm evenly")
    choices: tuple[float | str, ...] | None = Field(default=None, min_length=1, description="the values of a list")

    @model_validator(mode="after")
    def _range_or_list(self) -> Parameter:
        ranged = (self.low is not None, self.high is not None)
        if self.choices is not None and (any(ranged) or self.log):
            raise ValueError("has choices, so no low, high or log")
        if self.choices is None and not all(ranged):
            raise ValueError("needs low and high, or choices")
        if self.low is not None and self.high is not None:
            if self.low >= self.high:
                raise ValueError(f"low ({self.low:g}) must be below high ({self.high:g})")
            if self.log and self.low <= 0:
                raise ValueError("a logarithmic range must be above 0")
        return self

    @property
    def first(self) -> float | str:
        """A value of the space."""
        if self.choices is not None:
            return self.choices[0]
        assert self.low is not None
        return self.low


class SearchSpace(Section):
    """The keys of `training` that are searched."""

    parameters: dict[str, Parameter] = Field(min_length=1, description="key of `training` to its values")

    @model_validator(mode="after")
    def _searchable(self) -> SearchSpace:
        problems: list[tuple[list[str], str]] = []
        for name, parameter in self.parameters.items():
            if name not in SEARCHABLE:
                problems.append((["parameters", name], unknown_name("searchable key of training", name, SEARCHABLE)))
                continue
            values = parameter.choices if parameter.choices is not None else (parameter.first,)
            wanted = SEARCHABLE[name]
            if any(isinstance(value, str) != (wanted is str) for value in values):
                problems.append((["parameters", name], "takes names" if wanted is str else "takes numbers"))
        if problems:
            refuse(problems)
        return self

    def fingerprint(self) -> str:
        """Hex SHA-256: arms are compared fairly where it is the same."""
        return json_fingerprint(self.model_dump(mode="json"))


def load_space(file: str | Path) -> SearchSpace:
    """Read a search space.

    Raises:
        InputError: the file is missing, is no JSON, or describes no space; all problems at once.
    """
    try:
        content: Any = json.loads(Path(file).read_bytes())
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"{file}: is not JSON: {error}") from None
    try:
        return SearchSpace.model_validate(content)
    except ValidationError as error:
        lines = [f"  {'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        raise InputError(f"{file}: no search space\n" + "\n".join(lines)) from None
