"""Every recipe of the repository loads and says what its name says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hf_crosstask.recipe import load_recipe

RECIPES = Path(__file__).parents[2] / "recipes"
RUNNABLE = sorted(RECIPES.glob("*.json"))
RUNNABLE.remove(RECIPES / "recipe.schema.json")
MODELS = sorted((RECIPES / "models").glob("*.json"))
STRATEGIES = sorted((RECIPES / "strategies").glob("*.json"))
STUDY_MODELS = (
    *("phi3_mini", "phi3_small", "gemma2_2b", "gemma2_9b", "llama32_3b", "llama31_8b", "qwen25_7b", "mistral_7b"),
    *("biomistral_7b", "bert_base", "roberta_base", "biobert", "scibert", "pubmedbert", "bioclinicalbert", "bluebert"),
    "biomed_roberta",
)


@pytest.mark.parametrize("file", RUNNABLE, ids=lambda file: file.stem)
def test_runnable_recipes_load(file: Path) -> None:
    recipe = load_recipe(file)
    assert recipe.name == file.stem
    assert recipe.output_dir == f"outputs/{file.stem}"
    assert recipe.description


@pytest.mark.parametrize("file", MODELS, ids=lambda file: file.stem)
def test_every_model_goes_with_every_recipe(file: Path) -> None:
    recipe = load_recipe(RECIPES / "s2_phi3.json", [f"model={file.stem}"])
    assert recipe.model.name_or_path == json.loads(file.read_text(encoding="utf-8"))["model"]["name_or_path"]
    assert recipe.model.description
    assert recipe.model.trust_remote_code == (file.stem == "phi3_small")


def test_all_models_of_the_study_are_there() -> None:
    assert {file.stem for file in MODELS} == set(STUDY_MODELS)


@pytest.mark.parametrize("file", STRATEGIES, ids=lambda file: file.stem)
def test_strategies_go_by_their_name(file: Path) -> None:
    tasks = (
        '["synthetic_ner"]'
        if file.stem in ("s1", "s1_token_controlled")
        else '["synthetic_ner", "synthetic_relation"]'
    )
    overrides = [f"strategy={file.stem}", f"tasks={tasks}", "budget.tokens=9999", 'model.adapter={"r": 8}']
    recipe = load_recipe(RECIPES / "quickstart.json", overrides)
    assert recipe.strategy.name.lower() == file.stem.removesuffix("_pcgrad")


@pytest.mark.parametrize("family", ["phi3", "blurb"])
def test_controls_differ_from_their_single_task_twin_in_strategy_and_budget_alone(family: str) -> None:
    twins = [file for file in RUNNABLE if "token_controlled" in file.stem and family in file.stem]
    assert len(twins) == {"phi3": 1, "blurb": 3}[family]
    for file in twins:
        control = load_recipe(file)
        single = load_recipe(file.with_name(file.name.replace("_token_controlled", "")))
        multi = load_recipe(RECIPES / {"phi3": "s2_phi3.json", "blurb": "blurb_s2.json"}[family])
        assert control.budget.match is not None
        assert control.budget.match.run == multi.output_dir
        assert control.tasks == single.tasks
        assert control.task_names[0] in multi.task_names
        for section in ("model", "mixing", "training", "evaluation", "data_dir"):
            assert getattr(control, section) == getattr(single, section) == getattr(multi, section)
