"""Every study of the repository loads and expands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hf_crosstask.study.expand import expand
from hf_crosstask.study.load import load_study
from hf_crosstask.study.schema import study_schema

STUDIES = Path(__file__).parents[2] / "recipes" / "studies"
#: Runs of each study.
RUNS = {"quickstart": 35, "blurb4": 27}


def test_every_study_is_tested() -> None:
    assert {file.stem for file in STUDIES.glob("*.json")} - {"study.schema"} == set(RUNS)


@pytest.mark.parametrize("name", RUNS)
def test_it_expands(name: str) -> None:
    file = STUDIES / f"{name}.json"
    study, base = load_study(file)
    assert study.name == f"{name}_study"
    assert study.description
    runs = expand(study, base, file, lambda spec: spec.name)
    assert len(runs) == RUNS[name]
    assert any(arm.confirmatory for arm in study.arms.values())
    assert study.smallest_effect


def test_the_schema_for_editors_is_current() -> None:
    assert json.loads((STUDIES / "study.schema.json").read_text(encoding="utf-8")) == study_schema()
