"""Composing recipes: what merging and overriding promise, for any JSON."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_crosstask.recipe.merge import Override, apply_overrides, merge, parse_json, parse_override

KEYS = st.sampled_from(["a", "b", "c", "model", "training", "budget"])
SCALARS = st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["x", "1e-3", ""])
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=8
)
OBJECTS = st.dictionaries(KEYS, VALUES, max_size=4)
PATHS = st.lists(KEYS, min_size=1, max_size=3).map(tuple)


def leaves(value: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Paths of everything that is no object, and of empty objects."""
    for key, item in value.items():
        if isinstance(item, dict) and item:
            yield from leaves(item, (*path, key))
        else:
            yield (*path, key), item


def at(value: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


@given(OBJECTS, OBJECTS)
def test_the_top_wins_and_the_rest_of_the_base_stays(base: dict[str, Any], top: dict[str, Any]) -> None:
    before = copy.deepcopy((base, top))
    merged = merge(base, top)
    for path, value in leaves(top):
        if value != {}:
            assert at(merged, path) == value
    for key in base.keys() - top.keys():
        assert merged[key] == base[key]
    assert merged.keys() == base.keys() | top.keys()
    assert (base, top) == before


@given(OBJECTS)
def test_merging_nothing_or_the_same_changes_nothing(base: dict[str, Any]) -> None:
    assert merge(base, {}) == merge({}, base) == merge(base, base) == base


def test_objects_merge_deeply_and_lists_are_replaced() -> None:
    base = {"model": {"adapter": {"r": 8, "alpha": 16}, "max_length": 512}, "tasks": ["a", "b"]}
    assert merge(base, {"model": {"adapter": {"r": 4}}, "tasks": ["c"]}) == {
        "model": {"adapter": {"r": 4, "alpha": 16}, "max_length": 512},
        "tasks": ["c"],
    }
    assert merge(base, {"model": {"adapter": None}})["model"] == {"adapter": None, "max_length": 512}


def test_the_keys_of_a_budget_replace_each_other() -> None:
    base = {"budget": {"epochs": 3}}
    assert merge(base, {"budget": {"tokens": 10}}) == {"budget": {"tokens": 10}}
    assert merge(base, {"budget": {}}) == base
    assert apply_overrides(base, [parse_override("budget.steps=5")]) == ({"budget": {"steps": 5}}, [])
    contradiction, _ = apply_overrides(base, [parse_override("budget.steps=5"), parse_override("budget.tokens=7")])
    assert contradiction == {"budget": {"steps": 5, "tokens": 7}}  # both said: left for validation to refuse
    matched = {"budget": {"match": {"run": "outputs/a"}}}
    assert apply_overrides(matched, [parse_override("budget.match.run=outputs/b")])[0] == {
        "budget": {"match": {"run": "outputs/b"}}
    }


@given(OBJECTS, PATHS, VALUES)
def test_an_override_sets_its_path_and_nothing_else(base: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    before = copy.deepcopy(base)
    changed, problems = apply_overrides(base, [Override("x", path, value)])
    assert base == before
    if problems:  # the path leads through something that is neither an object nor null
        assert changed == base or path[0] == "budget"
        return
    assert at(changed, path) == value
    for other, item in leaves(base):
        related = other[: len(path)] == path or path[: len(other)] == other
        if not related and not (path[0] == other[0] == "budget" and len(path) > 1):
            assert at(changed, other) == item


@given(OBJECTS, st.lists(st.tuples(PATHS, VALUES), max_size=4))
def test_the_last_override_of_a_path_wins(base: dict[str, Any], changes: list[tuple[tuple[str, ...], Any]]) -> None:
    changed, problems = apply_overrides(base, [Override("x", path, value) for path, value in changes])
    if changes and not problems:
        path, value = changes[-1]
        assert at(changed, path) == value


def test_an_override_through_a_list_or_a_scalar_is_refused() -> None:
    base = {"tasks": ["a"], "name": "n"}
    changed, problems = apply_overrides(base, [parse_override("tasks.0=b"), parse_override("name.x=1")])
    assert changed == base
    assert "tasks is a list" in problems[0]
    assert 'name is "n"' in problems[1]


def test_null_gives_way_to_an_object() -> None:
    assert apply_overrides({"model": {"adapter": None}}, [parse_override("model.adapter.r=8")]) == (
        {"model": {"adapter": {"r": 8}}},
        [],
    )


@given(PATHS, VALUES)
def test_a_value_that_is_json_is_read_as_json(path: tuple[str, ...], value: Any) -> None:
    override = parse_override(f"{'.'.join(path)}={json.dumps(value)}")
    assert (override.path, override.value) == (path, value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a=tiny:phi3", "tiny:phi3"),
        ("a=x=y", "x=y"),
        ("a=", ""),
        ('a="7"', "7"),
        ("a=1e-4", 1e-4),
        ("a=True", "True"),
        ("a=NaN", "NaN"),
        ("a=null", None),
    ],
)
def test_any_other_value_is_a_string(text: str, value: Any) -> None:
    assert parse_override(text).value == value


@pytest.mark.parametrize("text", ["x", "=1", "a..b=1", ".a=1"])
def test_what_is_no_override_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"write key\.path=value"):
        parse_override(text)


@pytest.mark.parametrize("text", ['a={"b": 1', "a=[1,", 'a={"b": 1, "b": 2}', 'a={"b": NaN}'])
def test_broken_objects_and_lists_are_not_taken_for_strings(text: str) -> None:
    with pytest.raises(ValueError, match="begins like JSON"):
        parse_override(text)


def test_a_key_twice_is_refused() -> None:
    with pytest.raises(ValueError, match='"seed" occurs twice'):
        parse_json('{"training": {"seed": 1, "lr": 2, "seed": 3}}')
