"""Reading a recipe: the file, what it extends, the overrides; every error names its file and key."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hf_crosstask.errors import RecipeError, closest
from hf_crosstask.recipe.merge import Override, apply_overrides, merge, parse_json, parse_override
from hf_crosstask.recipe.problems import Layer, Problem, explain
from hf_crosstask.recipe.schema import Recipe

_CHECKOUT = Path(__file__).resolve().parents[2]
# `model=phi3_mini` on a command line means the key `model` of recipes/models/phi3_mini.json.
_SECTION_FOLDERS = {"model": "models", "strategy": "strategies"}
_COMMAND_LINE = "the command line"


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Load, compose and validate a recipe.

    Args:
        path: the JSON file. Its `extends` (one file or a list; relative to the file or to the recipes folder) are
            merged in order, later over earlier, the file itself last: objects key by key, lists and scalars replaced.
            The keys of `budget` are alternatives: setting one replaces the others.
        overrides: `key.path=value`, each replacing what stands at its path; the value is JSON where it parses as JSON,
            else a string. `model=phi3_mini` and `strategy=s2` take that key from a recipe file (a path, or a bare name
            under recipes/models or recipes/strategies).

    Raises:
        RecipeError: everything that is wrong, at once. (What keeps a file from being read comes first, alone.)
    """
    path = Path(path)
    layers = _Composer().layers(path)
    parsed, problems = _parse_overrides(overrides, path)
    value, unset = apply_overrides(_compose(layers), parsed)
    problems += [("", text) for text in unset]
    layers += [Layer(_COMMAND_LINE, apply_overrides({}, [override])[0]) for override in parsed]
    try:
        recipe = Recipe.model_validate(value)
    except ValidationError as error:
        problems += explain(error, value, layers, str(path))
        raise RecipeError(path, problems) from None
    if problems:
        raise RecipeError(path, problems)
    return recipe


def compose_files(names: str | Sequence[str], beside: Path) -> list[Layer]:
    """The recipe files of these names and all that they extend, lowest layer first.

    Args:
        names: as in `extends`: relative to the file that names them, or to the recipes folder.
        beside: that file.

    Raises:
        RecipeError: a file is missing or is no JSON object.
    """
    composer = _Composer()
    given = [names] if isinstance(names, str) else list(names)
    return [layer for file in composer._extended(beside, given) for layer in composer.layers(file)]


def _parse_overrides(texts: Sequence[str], recipe: Path) -> tuple[list[Override], list[Problem]]:
    overrides: list[Override] = []
    problems: list[Problem] = []
    for text in texts:
        try:
            overrides.append(_section_from_file(parse_override(text), recipe))
        except ValueError as error:
            problems.append(("", str(error)))
    return overrides, problems


def _compose(layers: Sequence[Layer]) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for layer in layers:
        value = merge(value, layer.value)
    return value


@dataclass
class _Composer:
    """Collects a file and everything it extends, lowest layer first."""

    stack: list[Path] = field(default_factory=list)

    def layers(self, path: Path) -> list[Layer]:
        resolved = path.resolve()
        if resolved in self.stack:
            circle = " -> ".join(file.name for file in [*self.stack[self.stack.index(resolved) :], resolved])
            raise RecipeError(path, [("extends", f"goes in a circle: {circle}")])
        value = read_object(path)
        self.stack.append(resolved)
        below: list[Layer] = []
        for file in self._extended(path, value.pop("extends", [])):
            below += self.layers(file)
        self.stack.pop()
        value.pop("$schema", None)
        return [*below, Layer(str(path), value)]

    def _extended(self, path: Path, names: object) -> list[Path]:
        if isinstance(names, str):
            names = [names]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            problem = f"expected a file name or a list of them, found {json.dumps(names)}"
            raise RecipeError(path, [("extends", problem)])
        found: list[Path] = []
        problems: list[Problem] = []
        for name in names:
            file = _find(name, [path.parent, *_recipe_folders(path)])
            if file is None:
                problems.append(("extends", _not_found(name, path)))
            else:
                found.append(file)
        if problems:
            raise RecipeError(path, problems)
        return found


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        RecipeError: there is no such file, or it does not hold one JSON object; errors of syntax as file:line:column.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise RecipeError(path, [("", _no_such_recipe(path))]) from None
    except UnicodeDecodeError as error:
        raise RecipeError(path, [("", f"is not UTF-8 text (byte {error.start}: {error.reason})")]) from None
    except OSError as error:
        raise RecipeError(path, [("", f"cannot be read: {error.strerror}")]) from None
    try:
        value = parse_json(text)
    except json.JSONDecodeError as error:
        raise RecipeError(f"{path}:{error.lineno}:{error.colno}", [("", f"is not valid JSON: {error.msg}")]) from None
    except ValueError as error:
        raise RecipeError(path, [("", str(error))]) from None
    except RecursionError:
        raise RecipeError(path, [("", "is nested too deeply")]) from None
    if not isinstance(value, dict):
        raise RecipeError(path, [("", "a recipe is a JSON object, { … }")])
    return value


def _section_from_file(override: Override, recipe: Path) -> Override:
    """`model=<name or file>` with the section in place of the name; other overrides as they are.

    Raises:
        ValueError: no such file, or it does not set the section.
    """
    section = override.path[0]
    folder = _SECTION_FOLDERS.get(section)
    if folder is None or len(override.path) > 1 or not isinstance(override.value, str):
        return override
    name = override.value
    places = [Path(), recipe.parent, *_recipe_folders(recipe)]
    spellings = [name] if name.endswith(".json") else [f"{folder}/{name}.json", f"{folder}/{name.lower()}.json"]
    file = next((file for spelling in spellings if (file := _find(spelling, places))), None)
    if file is None:
        known = sorted({file.stem for place in _recipe_folders(recipe) for file in (place / folder).glob("*.json")})
        guess = None if ":" in name or "/" in name else closest(name, known)
        hint = f"did you mean {section}={guess}?" if guess else f"known: {', '.join(known) or 'none'}"
        also = "; to change only the weights, set model.name_or_path" if section == "model" and not guess else ""
        raise ValueError(f"{override.text!r}: no recipe of that name in {folder}/; {hint}{also}")
    value = _compose(_Composer().layers(file))
    if not isinstance(value.get(section), Mapping):
        raise ValueError(f"{override.text!r}: {file} has no {section!r}")
    return Override(override.text, override.path, value[section])


def _recipe_folders(path: Path) -> list[Path]:
    """The recipes folder around (or beside a parent of) a file, then that of this checkout."""
    found: list[Path] = []
    for folder in path.resolve().parents:
        if folder.name == "recipes" or (folder / "recipes").is_dir():
            found.append(folder if folder.name == "recipes" else folder / "recipes")
            break
    own = _CHECKOUT / "recipes"
    if own.is_dir() and own not in found:
        found.append(own)
    return found


def _find(name: str, places: Sequence[Path]) -> Path | None:
    return next((file for place in places if (file := place / name).is_file()), None)


def _not_found(name: str, path: Path) -> str:
    places = [path.parent, *_recipe_folders(path)]
    known = {file.relative_to(place).as_posix() for place in places for file in place.glob("**/*.json")}
    guess = closest(name, known)
    looked = ", ".join(dict.fromkeys(str(place) for place in places))
    return f"no file {name!r}; " + (f"did you mean {guess!r}?" if guess else f"looked in {looked}")


def _no_such_recipe(path: Path) -> str:
    files = {file.name: file for place in (_CHECKOUT / "recipes", path.parent) for file in place.glob("*.json")}
    guess = closest(path.name, files) or closest(f"{path.name}.json", files)
    return "no such file" + (f"; did you mean {files[guess]}?" if guess else "")
