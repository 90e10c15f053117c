"""The samples of the README's section on own corpora: read, encoded and planned as they stand there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

README = Path(__file__).resolve().parents[2] / "README.md"
SECTION = "### Your own corpora\n"
_FENCE = re.compile(r"(?:^`(?P<file>\S+)`:\n\n)?^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
#: Format to the examples that its sample makes.
FORMATS = {"IOB": 1, "PubTator": 1, "brat": 2, "JSON Lines": 3}


def sections() -> dict[str, tuple[dict[str, str], dict[str, Any]]]:
    """Format to its files and its task, as the README shows them."""
    text = README.read_text(encoding="utf-8")
    assert SECTION in text
    text = re.split(r"^#{2,3} ", text.split(SECTION, 1)[1], flags=re.MULTILINE)[0]
    found = {}
    for part in re.split(r"^#### ", text, flags=re.MULTILINE)[1:]:
        fences = list(_FENCE.finditer(part))
        files = {match["file"]: match["text"] for match in fences if match["file"]}
        (task,) = (json.loads(match["text"]) for match in fences if match["kind"] == "json")
        found[re.split(r"[:,]", part)[0]] = (files, task)
    return found


@pytest.mark.parametrize("name", FORMATS)
def test_a_sample_is_read_encoded_and_planned(tmp_path: Path, name: str) -> None:
    from hf_crosstask.recipe import load_recipe
    from hf_crosstask.run.prepare import prepare

    files, task = sections()[name]
    assert files
    for file, text in files.items():
        assert "train" in file
        assert 1 <= len(text.splitlines()) <= 6
        for split in ("train", "dev", "test"):
            path = tmp_path / file.replace("train", split)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    recipe = {
        "name": "mine",
        "tasks": [task],
        "model": {"name_or_path": "tiny:bert"},
        "strategy": {"name": "S1"},
        "budget": {"steps": 2},
        "data_dir": str(tmp_path),
    }
    (tmp_path / "mine.json").write_text(json.dumps(recipe))
    ready = prepare(load_recipe(tmp_path / "mine.json"), base_models=tmp_path / "models")
    data = ready.data[task["name"]]
    assert {split: len(rows) for split, rows in data.splits.items()} == dict.fromkeys(
        ("train", "validation", "test"), FORMATS[name]
    )
    assert not any(data.dropped.values())
    assert not any(any(lost.values()) for lost in data.lost_gold.values())
    assert ready.plan.num_steps == 2


def test_the_formulation_shown_is_one_of_the_registry() -> None:
    from hf_crosstask.tasks.card import TaskSpec
    from hf_crosstask.tasks.registry import resolve_card

    posed = [task for files, task in sections().values() if not files]
    assert [resolve_card(TaskSpec(**task)).formulation for task in posed] == ["generative"]
