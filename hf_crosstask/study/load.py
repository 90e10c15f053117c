"""Reading a study: its file, the command line, and the recipe of every run, with everything that is wrong at once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hf_crosstask.atomic import write_json
from hf_crosstask.errors import RecipeError
from hf_crosstask.recipe.load import compose_files, read_object
from hf_crosstask.recipe.merge import apply_overrides, merge, parse_override
from hf_crosstask.recipe.problems import Layer, explain
from hf_crosstask.recipe.schema import Recipe
from hf_crosstask.study.schema import Study

#: A study in its own folder.
FILE_NAME = "study.json"


def load_study(path: str | Path, overrides: Sequence[str] = ()) -> tuple[Study, dict[str, Any]]:
    """A study and the recipe (not yet validated) that all its runs start from.

    Args:
        path: the JSON file, or the folder of a study (whose `study.json` it is; the folder is then where it says).
        overrides: `key.path=value` of the study: `seeds=[1,2]`, `recipe.budget.epochs=2`, `output_dir=…`.

    Raises:
        RecipeError: everything that is wrong, at once.
    """
    path = Path(path)
    if path.is_dir():
        overrides = [f"output_dir={json.dumps(str(path))}", *overrides]
        path = path / FILE_NAME
    value = read_object(path)
    value.pop("$schema", None)
    problems: list[tuple[str, str]] = []
    parsed = []
    for text in overrides:
        try:
            parsed.append(parse_override(text))
        except ValueError as error:
            problems.append(("", str(error)))
    changed, unset = apply_overrides(value, parsed)
    problems += [("", text) for text in unset]
    layers = [Layer(str(path), value)]
    base: dict[str, Any] = {}
    names = changed.get("base")
    if isinstance(names, (str, list)):
        try:
            for layer in compose_files(names, path):
                base = merge(base, layer.value)
        except RecipeError as error:
            if error.source != str(path):
                raise
            problems += [("base", text) for _, text in error.problems]
    if base and not changed.get("tasks"):
        changed = {**changed, "tasks": base.get("tasks", [])}
    if base and not changed.get("data_dir") and isinstance(base.get("data_dir"), str):
        changed = {**changed, "data_dir": base["data_dir"]}
    try:
        study = Study.model_validate(changed)
    except ValidationError as error:
        problems += explain(error, changed, layers, str(path), Study)
        raise RecipeError(path, problems) from None
    if problems:
        raise RecipeError(path, problems)
    for key in ("name", "description", "tasks", "strategy", "output_dir", "data_dir", "$schema"):
        base.pop(key, None)
    return study, merge(base, study.recipe)


def remember(study: Study, base: Mapping[str, Any], folder: Path) -> None:
    """Write `study.json` and the recipe it starts from into the study's folder, which can then be opened by itself."""
    value = study.model_dump(mode="json")
    value["tasks"] = [spec.model_dump(mode="json", exclude_none=True) for spec in study.tasks]
    for name, arm in study.arms.items():
        value["arms"][name]["auxiliary"] = [spec.model_dump(mode="json", exclude_none=True) for spec in arm.auxiliary]
    write_json(folder / "base_recipe.json", dict(base))
    write_json(folder / FILE_NAME, value | {"base": "base_recipe.json"})


def check_recipe(value: Mapping[str, Any], where: str) -> tuple[Recipe | None, list[tuple[str, str]]]:
    """A run's recipe, or what is wrong with it; `where` names the arm in front of each key."""
    try:
        return Recipe.model_validate(value), []
    except ValidationError as error:
        found = explain(error, value, [Layer(where, value)], where)
        return None, [(f"{where}.{key}" if key else where, text) for key, text in found]
