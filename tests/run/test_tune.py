"""The verb `tune`, with real trials."""

from __future__ import annotations

import json

import pytest
import torch

from hf_crosstask.errors import InputError
from hf_crosstask.recipe import load_recipe
from hf_crosstask.recipe.search_space import load_space

OPTIONS = {"train": 40, "validation": 8, "test": 8}
RECIPE = {
    "name": "small",
    "tasks": [{"name": "synthetic_ner", "options": OPTIONS}, {"name": "synthetic_relation", "options": OPTIONS}],
    "model": {"name_or_path": "tiny:bert", "max_length": 64, "adapter": {"r": 4, "dropout": 0.1}},
    "strategy": {"name": "S2"},
    "budget": {"steps": 2},
    "training": {"tokens_per_step": 200, "use_cpu": True},
}
SPACE = {
    "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    "warmup_steps": {"low": 0.01, "high": 0.5},
    "lr_scheduler_type": {"choices": ["linear", "cosine"]},
}


@pytest.fixture
def space(tmp_path):
    def make(parameters):
        file = tmp_path / "space.json"
        file.write_text(json.dumps({"parameters": parameters}), encoding="utf-8")
        return load_space(file)

    return make


def test_equal_trials_are_scored_on_validation_data(tmp_path, space, capsys):
    pytest.importorskip("optuna")
    from hf_crosstask.run.tune import tune

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    recipe = tmp_path / "recipe.json"
    recipe.write_text(json.dumps(RECIPE), encoding="utf-8")
    made = load_recipe(recipe, [f"output_dir={tmp_path / 'out'}"])
    found = []
    for name in ("one.json", "two.json"):
        assert tune(made, space(SPACE), trials=2, seed=3, json_file=tmp_path / name) == 0
        found.append(json.loads((tmp_path / name).read_text(encoding="utf-8")))
    torch.set_num_threads(threads)
    assert found[0] == found[1]  # the sampler is seeded
    assert len(found[0]["trials"]) == 2
    assert found[0]["objective"] == {"metric": "macro_score", "split": "validation"}
    assert found[0]["best"]["score"] == max(trial["score"] for trial in found[0]["trials"])
    drawn = [trial["values"] for trial in found[0]["trials"]]
    assert drawn[0] != drawn[1]
    for values in drawn:
        assert 1e-4 <= values["learning_rate"] <= 1e-2
        assert 0.01 <= values["warmup_steps"] <= 0.5
    assert "trial 2 of 2: macro_score" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()  # nothing but the file asked for
    overrides = [f"{key}={value}" for key, value in found[0]["best"]["overrides"].items()]
    assert (
        load_recipe(recipe, overrides).training.learning_rate
        == found[0]["best"]["overrides"]["training.learning_rate"]
    )


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"learning_rat": {"low": 1, "high": 2}}, "did you mean 'learning_rate'"),
        ({"tokens_per_step": {"choices": [1024, 2048]}}, "unknown searchable key of training 'tokens_per_step'"),
        ({"learning_rate": {"low": 2, "high": 1}}, r"low \(2\) must be below high \(1\)"),
        ({"learning_rate": {"low": 0, "high": 1, "log": True}}, "a logarithmic range must be above 0"),
        ({"learning_rate": {"low": 1}}, "needs low and high, or choices"),
        ({"learning_rate": {"choices": [1.0], "low": 1}}, "has choices, so no low"),
        ({"learning_rate": {"choices": ["fast"]}}, "takes numbers"),
        ({"lr_scheduler_type": {"low": 1, "high": 2}}, "takes names"),
        ({}, "at least 1"),
    ],
)
def test_a_space_that_is_none_is_refused(space, parameters, message):
    with pytest.raises(InputError, match=message):
        space(parameters)


def test_a_space_that_is_no_file(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        load_space(tmp_path / "none.json")
    (tmp_path / "space.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="is not JSON"):
        load_space(tmp_path / "space.json")
