"""The text placebo through the whole run: the reference's plan, no score, no trace of labels, the same bits resumed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from launching import RECIPES, SMALL, differences

from hf_crosstask import load_run
from hf_crosstask.errors import InputError
from hf_crosstask.evaluation.result import read_result
from hf_crosstask.recipe import load_recipe
from hf_crosstask.release.bundle import open_run
from hf_crosstask.run.prepare import prepare
from hf_crosstask.tasks.card import TaskSpec
from hf_crosstask.tasks.load import load_task

NER = {"name": "synthetic_ner", "options": {"train": 60, "validation": 10, "test": 20}}
RELATION = {"name": "synthetic_relation", "options": {"train": 60, "validation": 10, "test": 20}}
BEES = {"name": "bees", "type": "classification", "reader": "jsonl", "labels": ["stable", "critical"]}
TEXT = 'placebos={"synthetic_ner": "text", "synthetic_relation": "text", "bees": "text"}'


def write_bees(folder: Path, labels: tuple[str, str]) -> None:
    """A task whose texts are those of the synthetic classification, with labels that do or do not fit them."""
    folder.mkdir(parents=True)
    data = load_task(
        TaskSpec(name="synthetic_classification", options={"train": 40, "validation": 4, "test": 4}), data_dir=None
    )
    for split, rows in data.splits.items():
        lines = [
            {key: row[key] for key in ("id", "split_group", "text")}
            | {"labels": row["labels"] if labels == ("stable", "critical") else [labels[number % 2]]}
            for number, row in enumerate(rows)
        ]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def arguments(family: str, strategy: dict[str, Any], bees: Path, *more: str) -> list[str]:
    tasks = [NER, RELATION, {**BEES, "path": str(bees)}]
    return [
        str(RECIPES / "s2_phi3.json"),
        *(each for each in SMALL if not each.startswith(("tasks", "budget", "training.save_total"))),
        f"tasks={json.dumps(tasks)}",
        f"strategy={json.dumps(strategy)}",
        f"model.name_or_path=tiny:{family}",
        'budget={"steps": 6}',
        "training.learning_rate=5e-3",
        *more,
    ]


S3A = {"name": "S3a", "fusion": "gated", "surgery": {"method": "pcgrad"}}
PLACEBO = TEXT.replace('"synthetic_ner": "text", ', "")


@pytest.mark.parametrize(("family", "strategy"), [("bert", S3A), ("llama", {"name": "S2"})])
def test_tasks_as_text_keep_the_plan_and_have_no_score_and_resume_to_the_same_bits(
    family: str, strategy: dict[str, Any], tmp_path: Path, train
) -> None:
    write_bees(tmp_path / "true", ("stable", "critical"))
    given = arguments(family, strategy, tmp_path / "true", PLACEBO)
    run_dir, stopped = tmp_path / "run", tmp_path / "stopped"
    done = train(*given, f"output_dir={run_dir}")
    assert done.code == 0, done.err
    assert "trained on text only" in done.out
    result = read_result(run_dir)
    assert list(result.tasks) == ["synthetic_ner"]
    assert list(result.text_tasks) == ["synthetic_relation", "bees"]
    assert result.tokens.counted == sum(each.tokens.counted for each in result.trained.values())
    for each in result.text_tasks.values():
        assert each.tokens.counted == each.tokens.planned > 0
        assert each.loss is not None
        assert 4 < each.loss < 8  # about the logarithm of the vocabulary
        predicted = each.tokens.supervised / each.tokens.counted
        assert predicted > 0.9 if family == "llama" else 0.08 < predicted < 0.16
    assert sorted(path.stem for path in (run_dir / "predictions").iterdir()) == ["synthetic_ner"]
    assert sorted(path.stem for path in (run_dir / "heads").iterdir()) == ["synthetic_ner"]
    assert (run_dir / "adapters" / "synthetic_ner" / "adapter_model.safetensors").exists()
    assert not (run_dir / "adapters" / "bees").exists()
    assert load_run(run_dir).model.tasks == ("synthetic_ner",)
    with pytest.raises(InputError, match=r"on text alone \(a placebo\): it is a control"):
        open_run(run_dir)

    recipe = load_recipe(given[0], [*given[1:-1], f"output_dir={run_dir}"])
    reference = prepare(recipe, base_models=run_dir / "base_model")  # with labels
    assert reference.plan.fingerprint == result.fingerprints.plan

    if family == "llama":  # it draws no masks, and stops as other runs do
        return
    limit = "training.time_limit_minutes=1e-6"
    assert train(*given, f"output_dir={stopped}", limit, "--resume").code == 3
    assert train(*given, f"output_dir={stopped}", "--resume").code == 0
    assert differences(run_dir, stopped) == []


def test_other_labels_train_the_same_bits_and_sequential_runs_and_validation_leave_text_out(
    tmp_path: Path, train
) -> None:
    sequential = {"name": "S4", "rehearsal": 0.1, "ewc": 1.0}
    more = [PLACEBO, 'training.eval_strategy="steps"', "training.eval_steps=2", "training.load_best_model_at_end=true"]
    states = []
    for name, labels in (("true", ("stable", "critical")), ("wrong", ("critical", "stable"))):
        write_bees(tmp_path / name, labels)
        done = train(*arguments("bert", sequential, tmp_path / name, *more), f"output_dir={tmp_path / f'run_{name}'}")
        assert done.code == 0, done.err
        states.append((tmp_path / f"run_{name}" / "checkpoint-6" / "trained.safetensors").read_bytes())
    texts = [[json.loads(line) for line in (tmp_path / name / "train.jsonl").open()] for name in ("true", "wrong")]
    assert [row["text"] for row in texts[0]] == [row["text"] for row in texts[1]]
    assert sum(one["labels"] != other["labels"] for one, other in zip(*texts, strict=True)) > 5
    assert states[0] == states[1]
    stages = read_result(tmp_path / "run_true").stages
    assert stages is not None
    assert stages.order == ["synthetic_ner", "synthetic_relation", "bees"]
    assert list(stages.metric) == list(stages.after[-1].scores) == list(stages.forgetting) == ["synthetic_ner"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([TEXT], "placebos.synthetic_ner: leave a task that is trained with its labels: nothing else has a score"),
        ([PLACEBO, 'release={"repo": "me/x"}'], "release: a run with a text placebo is a control; it is not released"),
        ([PLACEBO, 'strategy={"name": "S3b"}'], "S3b feeds on what level-1 heads find; text has no such head"),
        (['placebos={"bees": "texts"}'], "placebos.bees"),
    ],
)
def test_what_cannot_be_is_said(more: list[str], message: str, tmp_path: Path, train) -> None:
    write_bees(tmp_path / "bees", ("stable", "critical"))
    done = train(*arguments("bert", {"name": "S2"}, tmp_path / "bees", *more), "--dry-run")
    assert done.code == 2
    assert message in done.err


def test_answers_that_are_part_of_the_text_are_an_error(tmp_path: Path, train) -> None:
    write_bees(tmp_path / "bees", ("stable", "critical"))
    given = arguments("llama", {"name": "S2"}, tmp_path / "bees", 'placebos={"bees": "text"}')
    given = [each.replace('"reader": "jsonl"', '"reader": "jsonl", "formulation": "generative"') for each in given]
    done = train(*given, "--dry-run")
    assert done.code == 2
    assert "placebos.bees: the task is posed to the language model (generative)" in done.err
