"""A recipe to change, and a folder to write recipes in."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def valid() -> dict[str, Any]:
    """A small valid recipe, as JSON."""
    return {
        "name": "toy",
        "tasks": ["synthetic_ner", "synthetic_classification"],
        "model": {"name_or_path": "tiny:bert"},
        "strategy": {"name": "S2"},
        "budget": {"epochs": 1},
    }


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, Any], Path]:
    """Write a value as JSON (or a string as it is) under a file name; returns the file."""

    def write_file(name: str, value: Any) -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
        return file

    return write_file
