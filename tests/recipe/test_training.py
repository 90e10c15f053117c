"""The section `training`: transformers' own fields, read without importing it, and the ones something else decides."""

from __future__ import annotations

import dataclasses
import enum
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic import ValidationError

from hf_crosstask.errors import RecipeError
from hf_crosstask.recipe import load_recipe
from hf_crosstask.recipe.training import REFUSED, RENAMED, WITHOUT_EFFECT_ON_RESULTS, Training, TrainingSettings
from hf_crosstask.recipe.training_arguments import training_arguments

RECIPES = Path(__file__).parents[2] / "recipes"


def literals(annotation: Any) -> set[Any]:
    """All literal values in a type."""
    if get_origin(annotation) is Literal:
        return set(get_args(annotation))
    return set().union(*(literals(part) for part in get_args(annotation)))


@pytest.mark.slow
def test_the_parsed_fields_are_those_of_the_class() -> None:
    import transformers
    from transformers import TrainingArguments

    parsed = training_arguments()
    fields = {field.name: field for field in dataclasses.fields(TrainingArguments)}
    assert parsed.keys() == {name for name in fields if not name.startswith("_")}
    for name, argument in parsed.items():
        assert " ".join(str(fields[name].metadata.get("help", "")).split()) == argument.help or not argument.help
    assert sum(not argument.help for argument in parsed.values()) <= 5
    enums = {
        "optim": transformers.training_args.OptimizerNames,
        "lr_scheduler_type": transformers.SchedulerType,
        "eval_strategy": transformers.trainer_utils.IntervalStrategy,
        "save_strategy": transformers.trainer_utils.SaveStrategy,
        "hub_strategy": transformers.trainer_utils.HubStrategy,
    }
    for name, values in enums.items():
        assert issubclass(values, enum.Enum)
        assert literals(parsed[name].type) == {value.value for value in values}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["quickstart", "s2_phi3", "blurb_s2"])
def test_transformers_accepts_the_arguments_of_recipes(name: str, tmp_path: Path) -> None:
    from transformers import TrainingArguments

    arguments = load_recipe(RECIPES / f"{name}.json").training.arguments()
    made = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, **arguments)
    assert made.learning_rate == arguments["learning_rate"]


def test_nothing_heavy_is_imported_to_check_a_recipe() -> None:
    code = (
        "import sys; from hf_crosstask.recipe import load_recipe; load_recipe(sys.argv[1]); "
        "print([name for name in ('torch', 'transformers', 'datasets', 'peft') if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(RECIPES / "quickstart.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_field_of_transformers_is_ours_refused_or_passed_on() -> None:
    passed_on = Training.model_fields.keys() - TrainingSettings.model_fields.keys()
    known = training_arguments().keys()
    assert passed_on == known - REFUSED.keys() - TrainingSettings.model_fields.keys()
    assert not RENAMED.keys() & known
    # No name here that transformers no longer has (as of the version in constraints.txt).
    assert REFUSED.keys() <= known
    assert WITHOUT_EFFECT_ON_RESULTS - TrainingSettings.model_fields.keys() <= known


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_field_that_something_else_decides_says_what_to_use(name: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(RECIPES / "quickstart.json", [f"training.{name}=1"])
    (problem,) = caught.value.problems
    assert problem == (f"training.{name}", f"is not set here: {REFUSED[name]} (from the command line)")


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("training.warmup_ratio=0.1", "use `warmup_steps`"),
        ("training.evaluation_strategy=steps", "use `eval_strategy`"),
        ("training.learning_rat=1", "did you mean 'learning_rate'?"),
        ("training.batch=1", "`hf-crosstask schema` lists the valid ones"),
        ("training.lr_scheduler_type=cosin", 'did you mean "cosine"?'),
        ("training.warmup_steps=many", "expected a number"),
        ("training.save_total_limit=2.5", "expected a whole number"),
        ("training.tf32=1", "expected true or false"),
        ("training.lr_scheduler_kwargs=3", "expected an object or a string"),
        ("max_steps=5", "use `budget.steps`"),
    ],
)
def test_wrong_names_and_types_are_explained(override: str, hint: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(RECIPES / "quickstart.json", [override])
    (problem,) = caught.value.problems
    assert problem[0] == override.partition("=")[0]
    assert hint in problem[1]


def test_arguments_are_those_given_and_the_seed() -> None:
    training = Training(learning_rate=1e-4, max_grad_norm=0, tokens_per_step=99, optim_args=None)
    assert training.arguments() == {"learning_rate": 1e-4, "max_grad_norm": 0, "optim_args": None, "seed": 42}
    assert training.weight_decay is None
    with pytest.raises(ValidationError):
        Training(max_steps=3)
