"""One direction of dependency, and a package that imports without torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "hf_crosstask"
#: Each part imports only from parts before it.
LAYERS = [
    "_version",
    "errors",
    "atomic",
    "tasks",
    "recipe",
    "planning",
    "encoding",
    "models",
    "evaluation",
    "training",
    "data_report",
    "run",
    "analyses",
    "study",
    "report",
    "release",
    "cli",
]


def _part(module: str) -> str | None:
    pieces = module.split(".")
    return pieces[1] if pieces[0] == "hf_crosstask" and len(pieces) > 1 else None


def _imported_parts(file: Path) -> set[str]:
    parts = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            parts.add(_part(node.module))
        elif isinstance(node, ast.Import):
            parts |= {_part(alias.name) for alias in node.names}
    return {part for part in parts if part}


def test_every_part_has_a_layer():
    parts = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert parts - {"__init__"} == set(LAYERS)


@pytest.mark.parametrize("part", LAYERS)
def test_a_part_imports_only_from_parts_before_it(part):
    folder = PACKAGE / part
    files = sorted(folder.rglob("*.py")) if folder.is_dir() else [PACKAGE / f"{part}.py"]
    allowed = set(LAYERS[: LAYERS.index(part) + 1])
    upward = {
        f"{file.relative_to(PACKAGE)} imports {name}" for file in files for name in _imported_parts(file) - allowed
    }
    assert not upward


def test_importing_the_package_and_asking_for_help_bring_in_no_torch():
    code = (
        "import sys, contextlib, hf_crosstask, hf_crosstask.cli\n"
        "with contextlib.suppress(SystemExit): hf_crosstask.cli.main(['--help'])\n"
        "heavy = {'torch', 'transformers', 'datasets', 'peft', 'numpy'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_public_name_loads():
    import hf_crosstask

    for name in hf_crosstask.__all__:
        assert getattr(hf_crosstask, name) is not None
