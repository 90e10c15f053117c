"""The fields of `transformers.TrainingArguments`, read from its source.

Importing the class takes seconds (it pulls in torch); checking a recipe should not. So the dataclass is parsed, not
imported: names, types and help texts of its fields, the values of its enums. Nothing is executed.
"""

from __future__ import annotations

import ast
import importlib.util
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, reduce
from pathlib import Path
from typing import Any, Literal, Union

from hf_crosstask.recipe.section import Flag, Int, Number

_SCALARS: Mapping[str, Any] = {"int": Int, "float": Number, "bool": Flag, "str": str, "Any": Any}
_GENERICS: Mapping[str, Any] = {
    "dict": dict,
    "list": list,
    "Literal": Literal,
    "Optional": typing.Optional,
    "Union": Union,
}
_BARE: Mapping[str, Any] = {"dict": dict[str, Any], "list": list[Any]}


@dataclass(frozen=True)
class Argument:
    """One field of `TrainingArguments`.

    Attributes:
        name: the field's name.
        type: its type for pydantic: strict scalars, enums as the literals that JSON can hold.
        help: its help text; empty where the source computes it.
    """

    name: str
    type: Any
    help: str


@cache
def training_arguments() -> Mapping[str, Argument]:
    """Name to field, in the order of the source, of the installed transformers.

    Raises:
        ModuleNotFoundError: transformers is not installed.
        RuntimeError: its source no longer holds the dataclass.
    """
    spec = importlib.util.find_spec("transformers")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("transformers is not installed", name="transformers")
    folder = Path(spec.submodule_search_locations[0])
    module = _parse(folder / "training_args.py")
    classes = {node.name: node for node in module.body if isinstance(node, ast.ClassDef)}
    if "TrainingArguments" not in classes:
        raise RuntimeError(
            f"{folder}/training_args.py defines no TrainingArguments: this transformers is not supported"
        )
    enums = _Enums(folder, module, classes)
    return types.MappingProxyType(
        {
            name: Argument(name, _type(annotation, enums), _help(value))
            for name, annotation, value in _fields(classes["TrainingArguments"])
        }
    )


def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def _fields(definition: ast.ClassDef) -> Iterator[tuple[str, ast.expr, ast.expr | None]]:
    for node in definition.body:
        if (
            isinstance(node, ast.AnnAssign)
            and isinstance(node.target, ast.Name)
            and not node.target.id.startswith("_")
        ):
            yield node.target.id, node.annotation, node.value


def _help(value: ast.expr | None) -> str:
    """The constant `metadata={"help": …}` of a `field(…)` call."""
    if not isinstance(value, ast.Call):
        return ""
    metadata = next((keyword.value for keyword in value.keywords if keyword.arg == "metadata"), None)
    if not isinstance(metadata, ast.Dict):
        return ""
    for key, text in zip(metadata.keys, metadata.values, strict=True):
        if isinstance(key, ast.Constant) and key.value == "help" and isinstance(text, ast.Constant):
            return " ".join(str(text.value).split())
    return ""


class _Enums:
    """Values of the enum classes that annotations name: of the module itself, or of one it imports them from."""

    def __init__(self, folder: Path, module: ast.Module, classes: Mapping[str, ast.ClassDef]):
        self._folder, self._classes = folder, dict(classes)
        self._imports = {
            alias.asname or alias.name: node.module
            for node in ast.walk(module)
            if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module
            for alias in node.names
        }

    def values(self, name: str) -> list[str]:
        """The string values of enum `name`; none where it is no enum of strings that the source shows."""
        if name not in self._classes and name in self._imports:
            path = self._folder / (self._imports[name].replace(".", "/") + ".py")
            if path.is_file():
                found = {node.name: node for node in _parse(path).body if isinstance(node, ast.ClassDef)}
                self._classes = found | self._classes
        if name not in self._classes:
            return []
        return [
            node.value.value
            for node in self._classes[name].body
            if isinstance(node, ast.Assign)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ]


def _type(annotation: ast.expr, enums: _Enums) -> Any:
    """A pydantic type for an annotation; what JSON cannot express is left to transformers (`Any`)."""
    match annotation:
        case ast.Constant(value=None):
            return None
        case ast.Constant(value=str(text)):
            return _type(ast.parse(text, mode="eval").body, enums)
        case ast.Name(id=name) if name in _SCALARS:
            return _SCALARS[name]
        case ast.Name(id=name) if name in _BARE:
            return _BARE[name]
        case ast.Name(id=name):
            values = enums.values(name)
            return Literal[tuple(values)] if values else Any
        case ast.BinOp(op=ast.BitOr()):
            members = list(_members(annotation))
            if any(isinstance(member, ast.Name) and enums.values(member.id) for member in members):
                # `Enum | str` says how the value may be spelled, not that any string will do.
                members = [member for member in members if not (isinstance(member, ast.Name) and member.id == "str")]
            return reduce(lambda left, right: Union[left, right], [_type(member, enums) for member in members])  # noqa: UP007
        case ast.Subscript(value=ast.Name(id="Literal"), slice=inner):
            values = ast.literal_eval(inner)
            return Literal[values]
        case ast.Subscript(value=ast.Name(id=name), slice=inner) if name in _GENERICS:
            parts = inner.elts if isinstance(inner, ast.Tuple) else [inner]
            arguments = tuple(_type(part, enums) for part in parts)
            return _GENERICS[name][arguments if len(arguments) > 1 else arguments[0]]
    return Any


def _members(annotation: ast.expr) -> Iterator[ast.expr]:
    if isinstance(annotation, ast.BinOp) and isinstance(annotation.op, ast.BitOr):
        yield from _members(annotation.left)
        yield from _members(annotation.right)
    else:
        yield annotation
