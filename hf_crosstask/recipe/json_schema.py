"""The JSON Schema of recipe files, for editors."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from hf_crosstask.recipe.schema import Recipe


def recipe_schema() -> dict[str, Any]:
    """JSON Schema of a recipe file, or of a part of one that others extend: so no section's keys are required.

    `hf-crosstask train` checks more: required keys, and rules between keys.
    """
    schema = Recipe.model_json_schema(mode="validation")
    for definition in (schema, *schema["$defs"].values()):
        if definition["title"] != "TaskSpec":
            definition.pop("required", None)
    for definition in (schema, *schema["$defs"].values()):
        for field in definition["properties"].values():
            field.pop("title", None)  # only repeats the key
    schema["properties"] = {
        "$schema": {"type": "string", "description": "this schema, for editors"},
        "extends": {
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
            "description": "recipe files that this one builds on, relative to it or to the recipes folder; later ones "
            "win, this file last",
        },
        **schema["properties"],
    }
    comment = f"Written by `hf-crosstask schema`; `training` has the fields of transformers {version('transformers')}."
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$comment": comment, **schema}
