"""Loading: composition, overrides, and one clear error for everything that is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hf_crosstask.errors import RecipeError
from hf_crosstask.recipe import Recipe, load_recipe

Write = Callable[[str, Any], Path]


def problems(path: Path, *overrides: str) -> dict[str, str]:
    """Key to problem, of a recipe that must be refused."""
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, overrides)
    found = dict(caught.value.problems)
    assert len(found) == len(caught.value.problems), "a key is reported twice"
    for key, text in found.items():
        assert f"{key}: {text}" in str(caught.value) or not key
        assert "pydantic" not in text
        assert "Input should" not in text
    return found


# Composition


def test_files_are_merged_in_order_the_file_itself_last(write: Write, valid: dict[str, Any]) -> None:
    write("recipes/a.json", {"training": {"seed": 1, "learning_rate": 1e-3}, "model": {"max_length": 64}})
    write("recipes/sub/b.json", {"extends": "../a.json", "training": {"seed": 2}, "model": {"name_or_path": "b"}})
    file = write("recipes/c.json", valid | {"extends": ["a.json", "sub/b.json"], "$schema": "x.json"})
    recipe = load_recipe(file)
    assert (recipe.training.seed, recipe.training.arguments()["learning_rate"]) == (2, 1e-3)
    assert (recipe.model.max_length, recipe.model.name_or_path) == (64, "tiny:bert")


def test_extends_looks_beside_the_file_then_in_the_recipes_folder(write: Write, valid: dict[str, Any]) -> None:
    write("recipes/models/m.json", {"model": {"max_length": 77, "stride": 7}})
    deep = write("recipes/mine/deep/r.json", valid | {"extends": "models/m.json"})
    assert load_recipe(deep).model.max_length == 77
    write("recipes/mine/deep/models/m.json", {"model": {"max_length": 99}})
    assert load_recipe(deep).model.max_length == 99
    beside = write("elsewhere/r.json", valid | {"extends": "models/m.json"})
    assert load_recipe(beside).model.max_length == 77


def test_a_recipe_anywhere_finds_the_shipped_models(write: Write, valid: dict[str, Any]) -> None:
    del valid["model"]
    recipe = load_recipe(write("r.json", valid | {"extends": "models/phi3_mini.json"}))
    assert recipe.model.name_or_path == "microsoft/Phi-3-mini-4k-instruct"


def test_a_child_budget_replaces_its_parent(write: Write, valid: dict[str, Any]) -> None:
    write("a.json", {"budget": {"epochs": 3}})
    recipe = load_recipe(write("b.json", valid | {"extends": "a.json", "budget": {"tokens": 1000}}))
    assert (recipe.budget.epochs, recipe.budget.tokens) == (None, 1000)


def test_a_circle_names_its_files(write: Write, valid: dict[str, Any]) -> None:
    write("a.json", {"extends": "b.json"})
    write("b.json", {"extends": "a.json"})
    found = problems(write("c.json", valid | {"extends": "a.json"}))
    assert "circle: a.json -> b.json -> a.json" in found["extends"]


def test_missing_files_are_all_named_with_the_closest_one(write: Write, valid: dict[str, Any]) -> None:
    write("recipes/models/phi3_mini.json", {})
    file = write("recipes/r.json", valid | {"extends": ["models/phi3_mni.json", "nothing_like_it.txt"]})
    with pytest.raises(RecipeError) as caught:
        load_recipe(file)
    first, second = [text for _, text in caught.value.problems]
    assert "'models/phi3_mni.json'; did you mean 'models/phi3_mini.json'" in first
    assert f"no file 'nothing_like_it.txt'; looked in {file.parent}" in second


def test_extends_must_be_file_names(write: Write, valid: dict[str, Any]) -> None:
    assert "expected a file name" in problems(write("r.json", valid | {"extends": [3]}))["extends"]


# Overrides


def test_overrides_change_keys(write: Write, valid: dict[str, Any]) -> None:
    recipe = load_recipe(
        write("r.json", valid | {"model": {"name_or_path": "m", "adapter": None}}),
        [
            "training.seed=7",
            "training.report_to=tensorboard",
            "model.name_or_path=tiny:phi3",
            "model.adapter.r=8",
            "budget.steps=5",
            'mixing={"sampling": "temperature", "temperature": 2}',
            'tasks=["synthetic_ner", "synthetic_relation"]',
            "data_dir=some where",
        ],
    )
    assert recipe.training.arguments() == {"seed": 7, "report_to": "tensorboard"}
    assert recipe.model.name_or_path == "tiny:phi3"
    assert recipe.model.adapter is not None
    assert recipe.model.adapter.r == 8
    assert (recipe.budget.epochs, recipe.budget.steps) == (None, 5)
    assert recipe.mixing.temperature == 2
    assert recipe.task_names == ("synthetic_ner", "synthetic_relation")
    assert recipe.data_dir == "some where"


def test_a_section_by_name_replaces_the_whole_section(write: Write, valid: dict[str, Any]) -> None:
    write("recipes/models/base.json", {"model": {"max_length": 99, "stride": 9}})
    write("recipes/models/mine.json", {"extends": "base.json", "model": {"name_or_path": "mine"}, "name": "no"})
    write("recipes/strategies/s1.json", {"strategy": {"name": "S1"}})
    file = write("recipes/r.json", valid | {"model": {"name_or_path": "x", "trust_remote_code": True}})
    one_task = 'tasks=["synthetic_ner"]'
    recipe = load_recipe(file, ["model=mine", "strategy=S1", one_task, "model.stride=3"])
    assert (recipe.name, recipe.strategy.name) == ("toy", "S1")
    assert recipe.model.model_dump(include={"name_or_path", "max_length", "stride", "trust_remote_code"}) == {
        "name_or_path": "mine",
        "max_length": 99,
        "stride": 3,
        "trust_remote_code": False,
    }
    by_path = load_recipe(file, ["model=models/mine.json"])
    by_full_path = load_recipe(file, [f"model={file.parent / 'models' / 'mine.json'}"])
    assert by_path.model == by_full_path.model


def test_an_unknown_section_name_suggests_the_closest(write: Write, valid: dict[str, Any]) -> None:
    found = problems(write("r.json", valid), "model=phi3_mni")
    assert "did you mean model=phi3_mini?" in found[""]
    found = problems(write("r.json", valid), "model=tiny:phi3")
    assert "set model.name_or_path" in found[""]


def test_bad_overrides_are_reported_with_everything_else(write: Write, valid: dict[str, Any]) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(write("r.json", valid | {"nmae": 1}), ["seed", "training.seed=x", "tasks.0=y"])
    text = str(caught.value)
    assert "4 problems" in text
    assert "'seed' is no override" in text
    assert "tasks is a list" in text
    assert 'training.seed: expected a whole number, found "x" (from the command line)' in text
    assert "nmae: unknown key; did you mean 'name'?" in text


# Files


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ('{"name": "x",\n  "tasks": [1 2]}', ":2:15", "is not valid JSON"),
        ("", ":1:1", "is not valid JSON"),
        ('{"a": 1, "a": 2}', "", '"a" occurs twice'),
        ('{"a": Infinity}', "", "Infinity is not JSON"),
        ("[]", "", "a recipe is a JSON object"),
    ],
)
def test_broken_files_name_the_place(write: Write, text: str, where: str, what: str) -> None:
    file = write("r.json", text)
    with pytest.raises(RecipeError) as caught:
        load_recipe(file)
    assert caught.value.source == f"{file}{where}"
    assert what in str(caught.value)


def test_files_that_are_not_there_or_not_text(write: Write, tmp_path: Path) -> None:
    write("quickstart.json", {})
    assert f"did you mean {tmp_path / 'quickstart.json'}?" in problems(tmp_path / "quikstart.json")[""]
    assert "cannot be read" in problems(tmp_path)[""]
    (tmp_path / "b.json").write_bytes(b'{"name": "\xff"}')
    assert "is not UTF-8" in problems(tmp_path / "b.json")[""]


def test_a_byte_order_mark_is_no_error(write: Write, valid: dict[str, Any]) -> None:
    assert load_recipe(write("r.json", "\ufeff" + json.dumps(valid))).name == "toy"


# Messages


def test_everything_wrong_is_reported_at_once_in_plain_words(write: Write, valid: dict[str, Any]) -> None:
    wrong = valid | {
        "name": "no spaces",
        "tasks": ["synthetic_nre", {"name": "mine", "labls": ["A"]}, {"name": "other", "type": "nre"}],
        "model": {"name_or_path": "m", "adapter": {"r": "8", "target_modules": 5}, "max_length": 3.5},
        "strategy": {"name": "S9"},
        "mixing": {"sampling": "uniform", "temperature": 2},
        "budget": {"epochs": 1, "tokens": 3},
        "training": {"seed": True, "eval_strategy": "step", "loss_weights": "shar", "micro_batch_tokens": 0},
        "evaluation": {"confidence": 95},
        "learning_rate": 1e-4,
        "zzz": 0,
    }
    found = problems(write("r.json", wrong))
    expected = {
        "name": 'starts with a letter or digit; found "no spaces"',
        "tasks[0]": "did you mean 'synthetic_ner'?",
        "tasks[1].labls": "unknown key; did you mean 'labels'?",
        "tasks[2].type": '(did you mean "ner"?), found "nre"',
        "model.adapter.r": 'expected a whole number, found "8"',
        "model.adapter.target_modules": "expected a string or a list, found 5",
        "model.max_length": "expected a whole number, found 3.5",
        "strategy.name": 'expected one of "S1", "S1_token_controlled", "S2"',
        "mixing.temperature": 'only goes with sampling "temperature"',
        "budget": "exactly one of epochs, steps, tokens, match; found epochs and tokens",
        "training.seed": "expected a whole number, found true",
        "training.eval_strategy": '(did you mean "steps"?), found "step"',
        "training.loss_weights": '(did you mean "share"?) or an object, found "shar"',
        "training.micro_batch_tokens": "must be greater than 0, found 0",
        "evaluation.confidence": "must be less than 1, found 95",
        "learning_rate": "did you mean training.learning_rate?",
        "zzz": "unknown key; valid: ",
    }
    assert found.keys() == expected.keys()
    for key, text in expected.items():
        assert text in found[key], key


def test_missing_keys_say_what_they_are(write: Write) -> None:
    found = problems(write("r.json", {"model": {}}))
    assert found == {
        "name": "is required (names the run)",
        "tasks": "is required (the tasks: names of the registry, or objects that change or define one)",
        "model.name_or_path": "is required (Hub id, local folder, or tiny:<family> (made on the spot))",
        "strategy": "is required (which tasks share what)",
        "budget": "is required (how long to train: exactly one key)",
    }


def test_a_problem_names_the_file_it_comes_from(write: Write, valid: dict[str, Any]) -> None:
    base = write("base.json", {"training": {"learning_rte": 1}, "model": {"max_length": "long"}})
    found = problems(write("r.json", valid | {"extends": "base.json"}))
    assert found["training.learning_rte"] == f"unknown key; did you mean 'learning_rate'? (from {base})"
    assert found["model.max_length"].endswith(f"(from {base})")


def test_a_union_reports_the_member_that_was_meant(write: Write, valid: dict[str, Any]) -> None:
    found = problems(write("r.json", valid | {"training": {"loss_weights": {"synthetic_ner": "x"}}}))
    assert found == {"training.loss_weights.synthetic_ner": 'expected a number, found "x"'}


def test_a_number_where_a_string_belongs_says_how_to_quote_it(write: Write, valid: dict[str, Any]) -> None:
    found = problems(write("r.json", valid), "model.revision=1234")
    assert 'write it in quotes: "1234"' in found["model.revision"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
PATHS = st.sampled_from(
    [f"{section}.{key}" for section, key in (("model", "adapter"), ("budget", "match"), ("training", "optim"))]
    + ["name", "tasks", "model", "strategy", "mixing", "budget", "training", "evaluation", "data_dir", "x.y"]
    + ["training.loss_weights", "mixing.weights", "training.lr_scheduler_kwargs", "model.adapter.target_modules"]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(PATHS, JSON), min_size=1, max_size=4))
def test_any_json_anywhere_loads_or_is_refused_clearly(
    write: Write, valid: dict[str, Any], changes: list[tuple[str, Any]]
) -> None:
    file = write("r.json", valid)
    try:
        recipe = load_recipe(file, [f"{path}={json.dumps(value)}" for path, value in changes])
    except RecipeError:
        return
    assert Recipe.model_validate(recipe.resolved()) == recipe
