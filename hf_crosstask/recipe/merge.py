"""Composing recipes: laying one JSON object over another, and changing one by `key.path=value`. Pure functions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Sections whose keys are alternatives: setting one replaces the others.
_ALTERNATIVES = ("budget",)


@dataclass(frozen=True)
class Override:
    """One `key.path=value` of a command line."""

    text: str
    path: tuple[str, ...]
    value: Any


def parse_json(text: str) -> Any:
    """JSON, strictly: no NaN or infinity, no key twice in an object.

    Raises:
        ValueError: what is wrong (`json.JSONDecodeError`, which knows where, for errors of syntax).
    """
    return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique_keys)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for key, item in pairs:
        if key in value:
            raise ValueError(f"the key {json.dumps(key)} occurs twice in one object")
        value[key] = item
    return value


def parse_override(text: str) -> Override:
    """`key.path=value`; the value is JSON where it parses as JSON, else a string.

    Raises:
        ValueError: there is no `=` or no key, or the value is an object with a key twice.
    """
    key, equals, value = text.partition("=")
    path = tuple(part.strip() for part in key.split("."))
    if not equals:
        raise ValueError(f"{text!r} is no override; write key.path=value, such as training.seed=7")
    if not all(path):
        raise ValueError(f"{text!r} names no key before the '='; write key.path=value, such as training.seed=7")
    try:
        return Override(text, path, parse_json(value))
    except ValueError as error:
        if value.lstrip()[:1] in ("{", "["):
            raise ValueError(f"{text!r}: the value begins like JSON but is none: {error}") from None
        return Override(text, path, value)


def merge(base: Mapping[str, Any], top: Mapping[str, Any], path: tuple[str, ...] = ()) -> dict[str, Any]:
    """`top` laid over `base`: objects merge key by key, everything else (lists too) is replaced."""
    exclusive = path == _ALTERNATIVES and bool(top)
    merged = {key: value for key, value in base.items() if not exclusive or key in top}
    for key, value in top.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            value = merge(below, value, (*path, key))
        merged[key] = value
    return merged


def apply_overrides(base: Mapping[str, Any], overrides: Sequence[Override]) -> tuple[dict[str, Any], list[str]]:
    """`base` with the overrides set one after the other; each replaces what stands at its path, whole.

    Returns:
        The changed object, and what is wrong with the overrides that could not be set.
    """
    value, problems = _without_alternatives(base, overrides), []
    for override in overrides:
        try:
            value = _set(value, override)
        except ValueError as error:
            problems.append(str(error))
    return value, problems


def _without_alternatives(base: Mapping[str, Any], overrides: Sequence[Override]) -> dict[str, Any]:
    """`base` without the keys that the overrides of an exclusive section replace."""
    named = {override.path[1] for override in overrides if override.path[:1] == _ALTERNATIVES and override.path[1:]}
    section = base.get(_ALTERNATIVES[0])
    if not named or not isinstance(section, Mapping):
        return dict(base)
    return {**base, _ALTERNATIVES[0]: {key: value for key, value in section.items() if key in named}}


def _set(base: Mapping[str, Any], override: Override, depth: int = 0) -> dict[str, Any]:
    key, *rest = override.path[depth:]
    if not rest:
        return {**base, key: override.value}
    below = base.get(key)
    if below is None:  # absent, or null where an object may stand
        below = {}
    if not isinstance(below, Mapping):
        here = ".".join(override.path[: depth + 1])
        kind = "a list" if isinstance(below, list) else json.dumps(below)
        raise ValueError(f"{override.text!r}: {here} is {kind}, not an object; replace it whole: {here}=<JSON>")
    return {**base, key: _set(below, override, depth + 1)}
