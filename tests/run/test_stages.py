"""A sequential run, and one with gradient surgery, from the recipe to what is recorded."""

from __future__ import annotations

import io
import json
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from hf_crosstask.errors import Interrupted, RecipeError
from hf_crosstask.evaluation.result import read_result
from hf_crosstask.evaluation.stages_table import print_stages
from hf_crosstask.recipe import load_recipe
from hf_crosstask.run.load import load_run
from hf_crosstask.run.prepare import stage_split
from hf_crosstask.run.train import train

OPTIONS = {"train": 60, "validation": 8, "test": 12}
RECIPE = {
    "name": "small",
    "tasks": [
        {"name": "synthetic_ner", "options": OPTIONS},
        {"name": "synthetic_classification", "options": OPTIONS},
    ],
    "model": {"name_or_path": "tiny:bert", "max_length": 64, "adapter": {"r": 4, "dropout": 0.1}},
    "strategy": {"name": "S4", "order": ["synthetic_classification", "synthetic_ner"]},
    "budget": {"steps": 6},
    "training": {
        "tokens_per_step": 300,
        "learning_rate": 1e-3,
        "save_steps": 1,
        "disable_tqdm": True,
        "use_cpu": True,
    },
    "evaluation": {"bootstrap_replicates": 100, "split": "validation"},
}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """The recipe with overrides; all runs share one tiny model."""
    folder = tmp_path_factory.mktemp("runs")
    file = folder / "recipe.json"
    file.write_text(json.dumps(RECIPE | {"base_model_dir": str(folder / "base")}), encoding="utf-8")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    def make(name, *overrides):
        return load_recipe(file, [f"output_dir={folder / name}", *overrides]), folder / name

    yield make
    torch.set_num_threads(threads)


def weights(folder):
    return [load_file(file) for file in sorted(folder.glob("adapters/**/*.safetensors"))]


def test_every_task_is_scored_after_every_stage_across_a_stop(recipe, capsys):
    options = ["strategy.ewc=10", "strategy.rehearsal=0.2"]
    whole, folder = recipe("whole", *options)
    train(whole)
    result = read_result(folder)
    stages = result.stages
    assert stages.order == ["synthetic_classification", "synthetic_ner"]
    assert set(stages.split.values()) == {"validation"}
    assert stages.metric == {"synthetic_ner": "entity_f1", "synthetic_classification": "accuracy"}
    assert [stage.step for stage in stages.after] == [4, 6]
    assert [stage.rehearsal > 0 for stage in stages.after] == [False, True]
    assert sum(stage.tokens for stage in stages.after) == result.tokens.counted
    first, last = (stage.scores["synthetic_classification"] for stage in stages.after)
    for task, name in stages.metric.items():  # it is the validation split that is scored at the end, too
        assert stages.after[-1].scores[task] == result.tasks[task].metrics.values[name].value
    assert stages.forgetting == {"synthetic_classification": pytest.approx(first - last)}
    printed = capsys.readouterr().out
    assert "one stage after another: synthetic_classification (4 steps), synthetic_ner (2 steps, " in printed
    assert "scores after each stage (validation)" in printed
    table = io.StringIO()
    print_stages(result, table)
    assert table.getvalue() in printed
    assert f"{stages.forgetting['synthetic_classification']:+.4f}" in table.getvalue()

    stopped, other = recipe("stopped", *options, "training.time_limit_minutes=0.0001")
    with pytest.raises(Interrupted):
        train(stopped)
    for _ in range(6):  # one step at a time, across the border of the stages
        try:
            train(stopped, resume=True)
        except Interrupted:
            continue
        break
    again = read_result(other)
    assert again.stages == stages
    for one, two in zip(weights(folder), weights(other), strict=True):
        assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_stage_that_is_frozen_is_not_forgotten(recipe):
    made, folder = recipe("frozen", "strategy.freeze=true")
    train(made)
    result = read_result(folder)
    assert result.stages.forgetting == {"synthetic_classification": 0.0}
    ranks = {
        task: json.loads((folder / "adapters" / task / "adapter_config.json").read_text())["r"]
        for task in ("synthetic_classification", "synthetic_ner")
    }
    assert ranks == {"synthetic_classification": 4, "synthetic_ner": 8}  # its own, on top of the earlier one
    assert load_run(folder).model.layout.uses["synthetic_ner"] == (
        "private_synthetic_classification",
        "private_synthetic_ner",
    )


def test_conflicts_are_recorded(recipe):
    made, folder = recipe("surgery", 'strategy={"name": "S2", "surgery": {}}', "training.loss_weights=dwa")
    train(made)
    result = read_result(folder)
    (pair,) = result.gradient_conflicts
    assert pair["tasks"] == ["synthetic_ner", "synthetic_classification"]
    assert pair["steps"] == 6
    assert json.loads((folder / "gradient_conflicts.json").read_text()) == result.gradient_conflicts
    assert result.stages is None


def test_without_a_validation_split_the_evaluated_one_is_scored(recipe):
    made, _ = recipe("splits", "evaluation.split=test")
    assert stage_split(made, SimpleNamespace(splits={"train": [], "test": []})) == "test"
    assert stage_split(made, SimpleNamespace(splits={"train": [], "validation": [], "test": []})) == "validation"
    joint, _ = recipe("splits", 'strategy={"name": "S2"}')
    assert stage_split(joint, SimpleNamespace(splits={"train": [], "validation": []})) is None


@pytest.mark.parametrize(
    ("overrides", "key", "problem"),
    [
        (["strategy.freeze=true", "strategy.ewc=1"], "strategy.freeze", "keeps earlier tasks exactly as they were"),
        (["strategy.freeze=true", "model.adapter=null"], "strategy.freeze", "adds an adapter at every stage"),
    ],
)
def test_freezing_goes_with_neither(recipe, overrides, key, problem):
    with pytest.raises(RecipeError) as error:
        recipe("wrong", *overrides)
    assert problem in dict(error.value.problems)[key]
