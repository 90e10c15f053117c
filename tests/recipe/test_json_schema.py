"""The JSON Schema for editors is true to the code, and the committed copy to both."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hf_crosstask.recipe import Recipe, recipe_schema

RECIPES = Path(__file__).parents[2] / "recipes"


def test_the_committed_schema_is_fresh() -> None:
    committed = json.loads((RECIPES / "recipe.schema.json").read_text(encoding="utf-8"))
    schema = recipe_schema()
    if committed["$comment"] != schema["$comment"]:  # another transformers: its fields differ, ours may not
        ours = Recipe.model_fields["training"].annotation.__base__.model_fields
        for value in (committed, schema):
            del value["$comment"]
            properties = value["$defs"]["Training"]["properties"]
            value["$defs"]["Training"]["properties"] = {key: properties[key] for key in ours}
    assert committed == schema, "run: hf-crosstask schema > recipes/recipe.schema.json"


def test_every_recipe_points_to_the_schema() -> None:
    for file in recipe_files():
        target = json.loads(file.read_text(encoding="utf-8"))["$schema"]
        assert (file.parent / target).resolve() == RECIPES / "recipe.schema.json"


def recipe_files() -> list[Path]:
    """All but studies, which have a schema of their own."""
    files = sorted(RECIPES.glob("**/*.json"))
    return [file for file in files if file.name != "recipe.schema.json" and file.parent.name != "studies"]


def keys(value: Any, schema: dict[str, Any], root: dict[str, Any], path: str = "") -> Iterator[str]:
    """Keys of a recipe that the schema does not know."""
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    if isinstance(value, dict) and "properties" in schema:
        for key, item in value.items():
            if key not in schema["properties"]:
                yield f"{path}.{key}"
            else:
                yield from keys(item, schema["properties"][key], root, f"{path}.{key}")


@pytest.mark.parametrize("file", recipe_files(), ids=lambda file: file.stem)
def test_the_schema_knows_every_key_of_the_recipes(file: Path) -> None:
    schema = recipe_schema()
    assert list(keys(json.loads(file.read_text(encoding="utf-8")), schema, schema)) == []


def test_every_field_is_described() -> None:
    schema = recipe_schema()
    sections = {name: value for name, value in schema["$defs"].items() if name != "TaskSpec"} | {"Recipe": schema}
    undescribed = [
        f"{name}.{key}"
        for name, section in sections.items()
        for key, value in section["properties"].items()
        if not value.get("description")
    ]
    assert undescribed == []


def test_parts_of_recipes_are_valid_for_an_editor() -> None:
    schema = recipe_schema()
    assert "required" not in schema
    assert [name for name, value in schema["$defs"].items() if "required" in value] == ["TaskSpec"]
    assert {"type": "string"} in schema["properties"]["tasks"]["items"]["anyOf"]
