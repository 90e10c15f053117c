"""One tiny run of every task type, from a user's own JSONL files to `result.json`."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from launching import command, run

from hf_crosstask.evaluation.predictions import Predictions
from hf_crosstask.evaluation.result import RunResult, TaskResult, read_result
from hf_crosstask.evaluation.scoring import scoring_for

Train = Callable[..., Any]
Rows = list[dict[str, Any]]
DRUGS = ("aspirin", "codeine", "heparin", "insulin", "morphine", "warfarin")
FILLERS = ("given", "daily", "patient", "noted", "ward", "visit", "stable", "review")


def sentence(rng: random.Random, *words: str) -> str:
    """Some words among fillers, in any order."""
    chosen = [*words, *rng.sample(FILLERS, 4)]
    rng.shuffle(chosen)
    return " ".join(chosen)


def multilabel(rng: random.Random, count: int) -> Rows:
    """Sentences, two a document; a drug's name is its label, and one sentence in three names none."""
    rows = []
    for number in range(count):
        drugs = rng.sample(DRUGS[:3], rng.choice((0, 1, 1, 2)))
        rows.append({"split_group": f"d{number // 2}", "text": sentence(rng, *drugs), "labels": drugs})
    return rows


def similarity(rng: random.Random, count: int) -> Rows:
    """Pairs that score 4 where both name aspirin, 2 where one does, and 0 else; give or take a half."""
    rows = []
    for _ in range(count):
        both = [rng.random() < 0.5, rng.random() < 0.5]
        left, right = (sentence(rng, "aspirin" if named else "codeine") for named in both)
        score = min(4.0, max(0.0, 2.0 * sum(both) + rng.uniform(-0.5, 0.5)))
        rows.append({"text": left, "text_pair": right, "score": score})
    return rows


def ranking(rng: random.Random, count: int) -> Rows:
    """Queries with five candidates; those that say `answer` are relevant."""
    rows = []
    for query in range(count):
        for rank in range(1, 6):
            relevant = rng.random() < 0.35
            candidate = sentence(rng, "answer" if relevant else "chatter")
            rows.append(
                {"group_id": f"q{query}", "rank": rank, "score": float(relevant), "labels": str(relevant).lower()}
                | {"text": sentence(rng, "why"), "text_pair": candidate}
            )
    return rows


def multiple_choice(rng: random.Random, count: int) -> Rows:
    """Three or four choices, of which one names a drug."""
    rows = []
    for _ in range(count):
        choices = rng.sample(FILLERS, rng.choice((2, 3)))
        answer = rng.choice(DRUGS)
        choices.insert(rng.randrange(len(choices) + 1), answer)
        rows.append({"text": sentence(rng, "which"), "choices": choices, "answer": answer})
    return rows


def classification(rng: random.Random, count: int) -> Rows:
    """Does the sentence name a drug?"""
    rows = []
    for _ in range(count):
        positive = rng.random() < 0.4
        rows.append(
            {"text": sentence(rng, *rng.sample(DRUGS, 1) * positive), "labels": "drug" if positive else "none"}
        )
    return rows


MAKERS = {function.__name__: function for function in (multilabel, similarity, ranking, multiple_choice)}
SPECS: dict[str, dict[str, Any]] = {
    "multilabel": {"labels": list(DRUGS[:3])},
    "similarity": {"score_range": [0, 4]},
    "ranking": {},
    "multiple_choice": {},
}
#: Least primary metric: far above the trivial predictor, far below what every seed reaches.
REACHED = {"multilabel": 0.8, "similarity": 0.8, "ranking": 0.6, "multiple_choice": 0.8}


def write(folder: Path, maker: Callable[[random.Random, int], Rows], sizes: dict[str, int]) -> None:
    folder.mkdir()
    for seed, (split, size) in enumerate(sizes.items()):
        rows = maker(random.Random(seed), size)
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def recipe(folder: Path, *tasks: dict[str, Any], **sections: Any) -> Path:
    path = folder / "recipe.json"
    content: dict[str, Any] = {
        "name": "types",
        "tasks": list(tasks),
        "model": {"name_or_path": "tiny:bert", "max_length": 64},
        "strategy": {"name": "S1" if len(tasks) == 1 else "S2"},
        "budget": {"steps": 60},
        "training": {"tokens_per_step": 512, "learning_rate": 2e-3, "disable_tqdm": True},
        "evaluation": {"bootstrap_replicates": 100},
        "data_dir": str(folder),
        "output_dir": str(folder / "run"),
    }
    path.write_text(json.dumps(content | sections), encoding="utf-8")
    return path


def task(name: str) -> dict[str, Any]:
    return {"name": name, "type": name, "reader": "jsonl", "path": name, **SPECS[name]}


def checked(folder: Path, name: str) -> tuple[RunResult, TaskResult, Predictions]:
    """A finished run's result; what its predictions file scores is what the result says."""
    result = read_result(folder / "run")
    predictions = Predictions.from_parquet(folder / "run" / "predictions" / f"{name}.parquet")
    metrics = result.tasks[name].metrics
    scored = scoring_for(predictions.target).score(predictions)
    assert scored == pytest.approx({metric: value.value for metric, value in metrics.values.items()})
    for value in metrics.values.values():
        assert value.low is not None
        assert value.high is not None
        assert value.low <= value.value <= value.high
    assert result.tokens.counted == result.tokens.planned > 0
    return result, result.tasks[name], predictions


@pytest.mark.parametrize("name", list(MAKERS))
def test_a_task_of_each_type_trains_and_scores(train: Train, tmp_path: Path, name: str) -> None:
    write(tmp_path / name, MAKERS[name], {"train": 160, "validation": 30, "test": 40})
    done = train(recipe(tmp_path, task(name)))
    assert done.code == 0, done.err
    _, scored, predictions = checked(tmp_path, name)
    primary = scored.metrics.values[scored.metrics.primary].value
    assert primary > REACHED[name]
    assert primary > scored.metrics.majority + 0.1
    assert len(predictions) == {"ranking": 200}.get(name, 40)
    assert name in done.out


def all_types(folder: Path) -> list[dict[str, Any]]:
    """A task of each type and its files."""
    tasks = []
    for name, maker in {**MAKERS, "classification": classification}.items():
        write(folder / name, maker, {"train": 60, "validation": 12, "test": 16})
        tasks.append(task(name) if name in SPECS else {"name": name, "type": name, "reader": "jsonl", "path": name})
    tasks[-1] |= {"labels": ["none", "drug"], "positive_label": "drug", "primary_metric": "positive_f1"}
    return tasks


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_all_types_train_together(train: Train, tmp_path: Path, family: str) -> None:
    """Rows of one sequence and of several, labels of every kind, in one plan; validation scored on the way."""
    training = {"tokens_per_step": 512, "eval_strategy": "steps", "eval_steps": 5, "disable_tqdm": True}
    done = train(
        recipe(tmp_path, *all_types(tmp_path), budget={"steps": 10}, training=training),
        f"model.name_or_path=tiny:{family}",
        'model.adapter={"r": 4}',
        'audit={"policy": "allow"}',
    )
    assert done.code == 0, done.err
    result = read_result(tmp_path / "run")
    assert list(result.tasks) == [*MAKERS, "classification"]
    planned = json.loads((tmp_path / "run" / "plan.json").read_text(encoding="utf-8"))["tasks"]
    assert {name: each["padded_tokens"] for name, each in planned.items()} == {
        name: each.tokens.padded for name, each in result.tasks.items()
    }
    for name, each in result.tasks.items():
        assert each.tokens.counted == each.tokens.planned > 0
        assert each.tokens.padded >= each.tokens.counted
        assert each.loss is not None
        assert each.loss > 0
        assert (tmp_path / "run" / "adapters" / name / "adapter_model.safetensors").is_file()
    assert set(result.tasks["classification"].metrics.values) >= {"positive_f1", "accuracy"}


@pytest.mark.slow
def test_two_processes_choose_the_same_threshold_and_score_the_same(train: Train, tmp_path: Path) -> None:
    path = recipe(tmp_path, *all_types(tmp_path), budget={"steps": 6}, audit={"policy": "allow"})
    more = ["training.micro_batch_tokens=256", "training.disable_tqdm=true"]
    assert train(path, *more).code == 0
    done = run(command(path, tmp_path / "two", *more, processes=2))
    assert done.returncode == 0, done.stderr
    one, two = read_result(tmp_path / "run"), read_result(tmp_path / "two")
    assert two.environment.processes == 2
    assert one.fingerprints == two.fingerprints
    for name, each in one.tasks.items():
        other = two.tasks[name]
        assert (other.tokens, other.metrics.model_extra) == (each.tokens, each.metrics.model_extra)
        for metric, value in each.metrics.values.items():
            assert other.metrics.values[metric].value == pytest.approx(value.value, abs=1e-3), (name, metric)


@pytest.mark.parametrize("split", ["test", "validation"])
def test_thresholds_come_from_validation_and_are_not_chosen_on_what_is_scored(
    train: Train, tmp_path: Path, split: str
) -> None:
    write(tmp_path / "multilabel", multilabel, {"train": 60, "validation": 30, "test": 30})
    done = train(
        recipe(tmp_path, task("multilabel"), budget={"steps": 8}, evaluation={"split": split})
    )  # too few steps to reach 0.5
    assert done.code == 0, done.err
    _, scored, predictions = checked(tmp_path, "multilabel")
    extra = scored.metrics.model_extra or {}
    if split == "validation":
        assert extra == {"threshold": 0.5, "threshold_from": "default"}
    else:
        assert extra["threshold_from"] == "validation"
        assert extra["threshold"] != 0.5
    assert predictions.logits is not None
    for labels, logits in zip(predictions.predicted, predictions.logits, strict=True):
        assert logits is not None
        reached = 1 / (1 + np.exp(-logits.astype(float))) >= extra["threshold"]
        assert labels == tuple(np.array(DRUGS[:3])[reached])
