"""pydantic's errors in plain words: dotted key, what is wrong, the closest valid name, and the file that says so."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from hf_crosstask.errors import closest
from hf_crosstask.recipe.schema import Recipe
from hf_crosstask.recipe.training import REFUSED, RENAMED

#: (dotted key path, what is wrong)
Problem = tuple[str, str]
_Path = tuple[str | int, ...]

_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "a string",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "none_required": "null",
}
_BOUNDS = {
    "greater_than": ("gt", "greater than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}
_LITERAL = re.compile(r"'[^']*'|\d+|True|False")
_MANY = 20  # more valid keys than this are not listed


@dataclass(frozen=True)
class Layer:
    """One file of a composed recipe, and the object in it."""

    label: str
    value: Mapping[str, Any]


def explain(
    error: ValidationError,
    data: Mapping[str, Any],
    layers: Sequence[Layer],
    source: str,
    root: type[BaseModel] = Recipe,
) -> list[Problem]:
    """Every error as a problem.

    Args:
        error: from validating `data` as a `Recipe`.
        data: the composed recipe.
        layers: what it was composed of, lowest first; a problem that stems from elsewhere than `source` says so.
        source: the recipe file itself.
        root: what `data` was validated as.
    """
    grouped: dict[_Path, list[ErrorDetails]] = {}
    for item in error.errors(include_url=False):
        if not _follows(item):
            grouped.setdefault(_path(item, data), []).append(item)
    problems: list[Problem] = []
    for path, items in grouped.items():
        deeper = any(other[: len(path)] == path and len(other) > len(path) for other in grouped)
        if deeper and all(_expected(item) for item in items):
            continue  # another member of a union, which the value does not mean to be
        label = _origin(path, layers)
        where = f" (from {label})" if label not in (None, source) else ""
        problems += [(_dotted(path), text + where) for text in _texts(path, items, root)]
    return problems


def _follows(item: ErrorDetails) -> bool:
    """Whether the error only follows from another one, which is reported itself."""
    no_default = item["type"] == "default_factory_not_called"
    only_wrong_items = item["type"] == "too_short" and bool(item["input"])  # pydantic counts the valid ones
    return no_default or only_wrong_items


def _path(item: ErrorDetails, data: Any) -> _Path:
    """The error's location without the marks that pydantic adds for members of unions."""
    path: list[str | int] = []
    location = item["loc"]
    for position, part in enumerate(location):
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            absent = item["type"] in ("missing", "recipe") and position == len(location) - 1
            if not (absent and isinstance(data, Mapping)):
                continue
        path.append(part)
    return tuple(path)


def _origin(path: _Path, layers: Sequence[Layer]) -> str | None:
    """The last file that sets the key; None where none does (a missing key, or one from the command line)."""
    for layer in reversed(layers):
        value: Any = layer.value
        for part in path:
            try:
                value = value[part]
            except (KeyError, IndexError, TypeError):
                break
        else:
            return layer.label
    return None


def _dotted(path: _Path) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _texts(path: _Path, items: Sequence[ErrorDetails], root: type[BaseModel]) -> list[str]:
    expected = list(dict.fromkeys(text for item in items if (text := _expected(item))))
    others = [_text(path, item, root) for item in items if not _expected(item)]
    if expected and not others:  # else the value is of one member of a union, and breaks that member's rule
        given = items[0]["input"]
        text = f"expected {' or '.join(expected)}, found {_shown(given)}"
        if "a string" in expected and isinstance(given, (int, float)):
            text += f"; for a string write it in quotes: {json.dumps(json.dumps(given))}"
        others.append(text)
    return others


def _expected(item: ErrorDetails) -> str | None:
    """What should stand there, where the error is one of type or choice."""
    if item["type"] == "literal_error":
        choices = _choices(item)
        guess = closest(item["input"], choices) if isinstance(item["input"], str) else None
        listed = ", ".join(json.dumps(choice) for choice in choices)
        return f"one of {listed}" + (f" (did you mean {json.dumps(guess)}?)" if guess else "")
    return _EXPECTED.get(item["type"])


def _choices(item: ErrorDetails) -> list[Any]:
    """The literals in pydantic's "'a', 'b' or 3"."""
    return [ast.literal_eval(text) for text in _LITERAL.findall(item["ctx"]["expected"])]


def _text(path: _Path, item: ErrorDetails, root: type[BaseModel]) -> str:
    kind, context = item["type"], item.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_key(path, root)
    if kind == "missing":
        return "is required" + (f" ({description})" if (description := _description(path, root)) else "")
    if kind in _BOUNDS:
        key, words = _BOUNDS[kind]
        return f"must be {words} {context[key]:g}, found {_shown(item['input'])}"
    if kind in ("too_short", "string_too_short"):
        return "must not be empty"
    if kind == "string_pattern_mismatch":
        rule = "a name holds only letters, digits, '_' and '-', and starts with a letter or digit"
        return f"{rule}; found {_shown(item['input'])}"
    if kind == "value_error":
        return str(context["error"])
    return item["msg"]


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "…"


def _unknown_key(path: _Path, root: type[BaseModel]) -> str:
    name = str(path[-1])
    section = _model_at(path[:-1], root)
    if path[:-1] == ("training",):
        if name in REFUSED:
            return f"is not set here: {REFUSED[name]}"
        if name in RENAMED:
            return f"unknown key; {RENAMED[name]}"
    valid = list(section.model_fields) if section else []
    guess = closest(name, valid)
    if guess:
        return f"unknown key; did you mean {guess!r}?"
    sections = _sections((), root)
    elsewhere = [_dotted((*place, key)) for place, model in sections for key in model.model_fields if key == name]
    if elsewhere:
        return f"unknown key here; did you mean {' or '.join(elsewhere)}?"
    if name in REFUSED:
        return f"unknown key; {REFUSED[name]}"
    if len(valid) > _MANY:
        return "unknown key; `hf-crosstask schema` lists the valid ones"
    return f"unknown key; valid: {', '.join(sorted(valid))}"


def _description(path: _Path, root: type[BaseModel]) -> str | None:
    section = _model_at(path[:-1], root)
    field = section.model_fields.get(str(path[-1])) if section else None
    return field.description if field else None


def _model_at(path: _Path, root: type[BaseModel]) -> type[BaseModel] | None:
    """The section that a key path leads to."""
    model: type[BaseModel] | None = root
    named = False  # the next part names an entry of a map of sections
    for part in path:
        if isinstance(part, int) or named:
            named = False
            continue
        field = model.model_fields.get(part) if model else None
        model = _model_in(field.annotation) if field else None
        named = bool(model and field and get_origin(field.annotation) is dict)
    return model


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for part in get_args(annotation) if (model := _model_in(part))), None)


def _sections(path: _Path, model: type[BaseModel]) -> Iterator[tuple[_Path, type[BaseModel]]]:
    """The recipe and all its sections (not the tasks), with their places."""
    yield path, model
    for key, field in model.model_fields.items():
        section = _model_in(field.annotation) if key != "tasks" else None
        if section:
            yield from _sections((*path, key), section)
