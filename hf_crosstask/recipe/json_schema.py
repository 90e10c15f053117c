"""The JSON Schema of recipe files, for editors."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from pydantic import BaseModel

from hf_crosstask.recipe.schema import Recipe


def recipe_schema() -> dict[str, Any]:
    """JSON Schema of a recipe file, or of a part of one that others extend: so no section's keys are required.

    `hf-crosstask train` checks more: required keys, and rules between keys.
    """
    extends = {
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
        "description": "recipe files that this one builds on, relative to it or to the recipes folder; later ones "
        "win, this file last",
    }
    comment = f"Written by `hf-crosstask schema`; `training` has the fields of transformers {version('transformers')}."
    return editor_schema(Recipe, comment, extends=extends)


def editor_schema(model: type[BaseModel], comment: str, **more: dict[str, Any]) -> dict[str, Any]:
    """The JSON Schema of a file for editors: nothing is required, and `more` keys are allowed."""
    schema = model.model_json_schema(mode="validation")
    for definition in (schema, *schema["$defs"].values()):
        if definition["title"] != "TaskSpec":
            definition.pop("required", None)
    for definition in (schema, *schema["$defs"].values()):
        for field in definition["properties"].values():
            field.pop("title", None)  # only repeats the key
    own = {"type": "string", "description": "this schema, for editors"}
    schema["properties"] = {"$schema": own, **more, **schema["properties"]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$comment": comment, **schema}
