"""Rules between keys, the resolved form, and the fingerprint."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from hf_crosstask.errors import RecipeError
from hf_crosstask.recipe import Recipe, load_recipe
from hf_crosstask.tasks.card import TaskSpec

Write = Callable[[str, Any], Path]


def refused(write: Write, recipe: dict[str, Any], **changes: Any) -> dict[str, str]:
    with pytest.raises(RecipeError) as caught:
        load_recipe(write("r.json", recipe | changes))
    return dict(caught.value.problems)


def accepted(write: Write, recipe: dict[str, Any], **changes: Any) -> Recipe:
    return load_recipe(write("r.json", recipe | changes))


S1, CONTROLLED = {"name": "S1"}, {"name": "S1_token_controlled"}


@pytest.mark.parametrize("strategy", [S1, CONTROLLED])
def test_single_task_strategies_take_one_task(write: Write, valid: dict[str, Any], strategy: dict[str, str]) -> None:
    found = refused(write, valid, strategy=strategy, budget={"tokens": 1000})
    assert "exactly one task, but `tasks` has 2: synthetic_ner, synthetic_classification" in found["strategy"]
    accepted(write, valid, strategy=strategy, budget={"tokens": 1000}, tasks=["synthetic_ner"])


def test_s2_takes_two_tasks(write: Write, valid: dict[str, Any]) -> None:
    assert "at least two tasks" in refused(write, valid, tasks=["synthetic_ner"])["strategy"]


def test_token_control_needs_tokens(write: Write, valid: dict[str, Any]) -> None:
    one = valid | {"tasks": ["synthetic_ner"], "strategy": CONTROLLED}
    for budget in ({"epochs": 1}, {"steps": 5}):
        assert '"match": "<run folder>"' in refused(write, one, budget=budget)["budget"]
    by_path = accepted(write, one, budget={"match": "outputs/a"})
    by_object = accepted(write, one, budget={"match": {"run": "outputs/a", "mode": "total_tokens"}})
    assert by_path == by_object
    assert by_path.budget.match is not None
    assert by_path.budget.match.run == "outputs/a"
    stops = refused(
        write, one, budget={"tokens": 9}, training={"early_stopping_patience": 2, "eval_strategy": "epoch"}
    )
    assert "spends its whole budget" in stops["training.early_stopping_patience"]


@pytest.mark.parametrize(
    ("budget", "problem"),
    [
        ({}, "found none"),
        ({"epochs": 1, "steps": 2}, "found epochs and steps"),
        ({"tokens": None}, "found none"),
    ],
)
def test_a_budget_is_exactly_one_of_four(
    write: Write, valid: dict[str, Any], budget: dict[str, Any], problem: str
) -> None:
    assert problem in refused(write, valid, budget=budget)["budget"]


@pytest.mark.parametrize(
    ("budget", "key"),
    [
        ({"epochs": 0}, "epochs"),
        ({"steps": -1}, "steps"),
        ({"steps": 1.5}, "steps"),
        ({"tokens": "many"}, "tokens"),
        ({"epochs": 10**400}, "epochs"),
        ({"match": {"run": "a", "mode": "totl_tokens"}}, "match.mode"),
        ({"match": {"path": "a"}}, "match.path"),
    ],
)
def test_impossible_budgets_are_refused(write: Write, valid: dict[str, Any], budget: dict[str, Any], key: str) -> None:
    assert f"budget.{key}" in refused(write, valid, budget=budget)


def test_mixing_parameters_go_with_their_sampling(write: Write, valid: dict[str, Any]) -> None:
    found = refused(write, valid, mixing={"sampling": "temperature", "weights": {"synthetic_ner": 1}})
    assert found["mixing.temperature"] == 'is required with sampling "temperature"'
    assert 'only goes with sampling "explicit"' in found["mixing.weights"]
    assert "mixing.weights" in refused(write, valid, mixing={"sampling": "explicit"})


def test_weights_name_exactly_the_tasks(write: Write, valid: dict[str, Any]) -> None:
    weights = {"synthetic_ner": 1, "synthetic_classfication": 2}
    found = refused(
        write, valid, mixing={"sampling": "explicit", "weights": weights}, training={"loss_weights": weights}
    )
    for key in ("mixing.weights", "training.loss_weights"):
        assert found[key] == "names no weight for synthetic_classification"
        unknown = found[f"{key}.synthetic_classfication"]
        assert unknown == "unknown task 'synthetic_classfication'; did you mean 'synthetic_classification'?"
    weights = {"synthetic_ner": 1, "synthetic_classification": 0}
    found = refused(
        write, valid, mixing={"sampling": "explicit", "weights": weights}, training={"loss_weights": weights}
    )
    for key in ("mixing.weights", "training.loss_weights"):
        assert "greater than 0" in found[f"{key}.synthetic_classification"]


def test_task_names_are_unique(write: Write, valid: dict[str, Any]) -> None:
    found = refused(write, valid, tasks=["synthetic_ner", "synthetic_relation", {"name": "synthetic_ner"}])
    assert "taken by tasks[0]" in found["tasks[2]"]


def test_a_window_must_move_on(write: Write, valid: dict[str, Any]) -> None:
    model = {"name_or_path": "m", "max_length": 64, "stride": 64}
    assert "smaller than max_length (64)" in refused(write, valid, model=model)["model.stride"]
    accepted(write, valid, model=model | {"long_inputs": "truncate"})


def test_micro_batches_are_parts_of_a_step(write: Write, valid: dict[str, Any]) -> None:
    found = refused(write, valid, training={"tokens_per_step": 100, "micro_batch_tokens": 200})
    assert "more than tokens_per_step (100)" in found["training.micro_batch_tokens"]


def test_early_stopping_needs_evaluations(write: Write, valid: dict[str, Any]) -> None:
    assert "training.early_stopping_patience" in refused(write, valid, training={"early_stopping_patience": 2})
    accepted(write, valid, training={"early_stopping_patience": 2, "eval_strategy": "steps", "eval_steps": 5})


def test_the_output_folder_follows_the_name(write: Write, valid: dict[str, Any]) -> None:
    assert accepted(write, valid).output_dir == "outputs/toy"
    assert accepted(write, valid, output_dir="here").output_dir == "here"


def test_a_recipe_never_changes(write: Write, valid: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        accepted(write, valid).name = "other"  # type: ignore[misc]


@pytest.fixture
def rich(valid: dict[str, Any]) -> dict[str, Any]:
    """A recipe that uses every section, and a task of the user's own."""
    mine = {
        "name": "mine",
        "type": "ner",
        "reader": "iob",
        "path": {"train": "a.tsv", "test": "b.tsv"},
        "labels": ["Gene", "Drug"],
    }
    return valid | {
        "tasks": ["synthetic_ner", mine],
        "model": {"name_or_path": "m", "adapter": {"target_modules": ["q_proj", "v_proj"]}},
        "mixing": {"sampling": "explicit", "weights": {"synthetic_ner": 1, "mine": 2.5}},
        "budget": {"match": "outputs/other"},
        "training": {
            "learning_rate": 2e-4,
            "lr_scheduler_kwargs": {"a": [1]},
            "eval_steps": None,
            "report_to": ["none"],
        },
        "evaluation": {"split": "validation"},
        "data_dir": "data",
    }


def test_the_resolved_recipe_is_json_and_loads_to_an_equal_one(write: Write, rich: dict[str, Any]) -> None:
    recipe = accepted(write, rich)
    again = load_recipe(write("recipe.json", recipe.resolved()))
    assert again == recipe
    assert again.resolved() == recipe.resolved() == json.loads(json.dumps(recipe.resolved()))
    assert again.fingerprint() == recipe.fingerprint()


def test_the_resolved_recipe_holds_defaults_and_only_the_arguments_given(write: Write, rich: dict[str, Any]) -> None:
    resolved = accepted(write, rich).resolved()
    assert resolved["model"]["adapter"]["r"] == 16
    assert resolved["tasks"][0] == {"name": "synthetic_ner"}
    assert set(resolved["training"]) == {
        *("tokens_per_step", "micro_batch_tokens", "eval_batch_tokens", "loss_weights", "seed", "time_limit_minutes"),
        *("early_stopping_patience", "learning_rate", "lr_scheduler_kwargs", "eval_steps", "report_to"),
    }
    assert resolved["training"]["eval_steps"] is None


@pytest.mark.parametrize(
    "change",
    [
        "name=other",
        "description=other",
        "output_dir=elsewhere",
        "data_dir=elsewhere",
        "model.description=other",
        "training.logging_steps=1",
        "training.report_to=tensorboard",
        "training.save_total_limit=1",
        "training.time_limit_minutes=5",
        'tasks=[{"name": "synthetic_ner"}, "synthetic_classification"]',
        "mixing.sampling=proportional",
        "training.seed=42",
    ],
)
def test_the_fingerprint_ignores_what_cannot_change_results(write: Write, valid: dict[str, Any], change: str) -> None:
    file = write("r.json", valid)
    assert load_recipe(file, [change]).fingerprint() == load_recipe(file).fingerprint()


@pytest.mark.parametrize(
    "change",
    [
        "training.seed=43",
        "training.learning_rate=1e-4",
        "training.tokens_per_step=2048",
        "model.name_or_path=tiny:roberta",
        "model.adapter.r=8",
        "budget.steps=10",
        "mixing.sampling=uniform",
        "evaluation.split=validation",
        'tasks=["synthetic_classification", "synthetic_ner"]',
        'tasks=[{"name": "synthetic_ner", "max_examples": {"train": 5}}, "synthetic_classification"]',
    ],
)
def test_the_fingerprint_sees_what_can(write: Write, valid: dict[str, Any], change: str) -> None:
    file = write("r.json", valid)
    assert load_recipe(file, [change]).fingerprint() != load_recipe(file).fingerprint()


def test_a_recipe_can_be_made_in_python(valid: dict[str, Any]) -> None:
    tasks = (TaskSpec(name="synthetic_ner"), TaskSpec(name="synthetic_classification"))
    assert Recipe(**(valid | {"tasks": tasks})) == Recipe.model_validate(valid)
