"""A small study, and finished runs of it made without training: real plans, predictions and results."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from hf_crosstask.atomic import file_sha256, write_json
from hf_crosstask.evaluation.predictions import Predictions, Target
from hf_crosstask.evaluation.result import RunResult, write_result
from hf_crosstask.planning.budget import Budget
from hf_crosstask.planning.flops import FlopAccount, FlopRates
from hf_crosstask.planning.plan import TrainingPlan, plan
from hf_crosstask.planning.stored import write_plan
from hf_crosstask.recipe import Recipe
from hf_crosstask.run.flops import flop_counts
from hf_crosstask.study.expand import PlannedRun
from hf_crosstask.training.matching import read_reference

TEST_EXAMPLES = 120
#: How often an arm is right.
LEVELS = {"text": 0.62, "S2": 0.9, "S1": 0.6, "S1_token_controlled": 0.62}

SMALL = {"train": 12, "validation": 3, "test": 3}
BASE: dict[str, Any] = {
    "tasks": [
        {
            "name": name,
            "type": "classification",
            "reader": "synthetic",
            "labels": ["stable", "critical"],
            "options": SMALL,
        }
        for name in ("bees", "wasps")
    ],
    "model": {"name_or_path": "tiny:bert", "max_length": 64, "adapter": {"r": 4}},
    "strategy": {"name": "S2"},
    "budget": {"epochs": 2},
    "training": {"tokens_per_step": 200},
    "name": "base",
}
STUDY: dict[str, Any] = {
    "name": "small",
    "base": "base.json",
    "seeds": [1, 2],
    "arms": {
        "S2": {"strategy": "S2", "confirmatory": True},
        "S1": {"strategy": "S1"},
        "S1_token_controlled": {"strategy": "S1_token_controlled", "match": {"arm": "S2"}},
    },
    "smallest_effect": 0.01,
    "statistics": {"replicates": 200, "minimum_seeds": 2},
}


def write_study(folder: Path, **changes: Any) -> Path:
    """The study's file, with the base recipe beside it and its output beside that."""
    (folder / "base.json").write_text(json.dumps(BASE))
    path = folder / "study.json"
    path.write_text(json.dumps({**STUDY, "output_dir": str(folder / "out"), **changes}))
    return path


def finish(run: PlannedRun, output_dir: Path) -> Path:
    """Write a run's folder as training would leave it."""
    folder = run.folder(output_dir)
    located = run.located(output_dir)
    recipe = Recipe.model_validate(located)
    made = _plan(recipe)
    write_json(folder / "recipe.json", recipe.resolved())
    write_plan(folder / "plan.npz", made)
    (folder / "checkpoint-1").mkdir(exist_ok=True)
    tasks = {task: _task(recipe, made, task, folder) for task in recipe.task_names if task not in recipe.text_tasks}
    text = {task: _trained(made, task) for task in recipe.text_tasks}
    total = made.total_tokens
    match = None
    if recipe.budget.match:
        budget = recipe.budget.match
        reference = read_reference(budget.run, budget.mode, budget.fraction)
        target = reference.target(recipe.task_names)
        match = {"mode": reference.mode, "reference": reference.path, "target": target, "difference": total - target}
        if reference.mode == "flops":
            match["difference"] = sum(_account(made.tasks).by_task(made).values()) - target
        if reference.mode == "parameters":
            match["parameters"] = {"matched": "total", "target": 5000, "reached": 5010}
    files = [folder / "recipe.json", folder / "plan.npz", *folder.glob("predictions/*.parquet")]
    result = {
        "experiment_id": run.id,
        "status": "finished",
        "strategy": recipe.strategy.name,
        "seed": recipe.training.seed,
        "fingerprints": {"recipe": recipe.fingerprint(), "data": "d", "plan": made.fingerprint},
        "tokens": {"planned": total, "counted": total, "padded": total},
        "match": match,
        "tasks": tasks,
        "text_tasks": text,
        "parameters": {"total": 9000, "trainable": 5000, "heads": 1, "per_adapter": {}},
        "train": {
            "steps": made.num_steps, "runtime_s": 1.0, "loss": 0.5, "tokens_per_s": 1.0, "peak_memory_bytes": 0,
            "stopped": None,
        },
        "environment": {"versions": {"torch": "2"}, "hardware": "a CPU", "processes": 1, "git_commit": None},
        "files": {path.relative_to(folder).as_posix(): file_sha256(path) for path in files},
        "threads": 1,
        "flops": flop_counts(_account(made.tasks), made, made.num_steps).model_dump(),
        "validation_looks": 0,
    }  # fmt: skip
    if recipe.evaluation.score_validation:
        result["validation"] = {task: {"accuracy": 0.5} for task in tasks}
    write_result(folder, RunResult.model_validate(result))
    return folder


def _plan(recipe: Recipe) -> TrainingPlan:
    lengths = {task: np.random.default_rng([*task.encode()]).integers(5, 30, 12) for task in recipe.task_names}

    def make(budget: Budget) -> TrainingPlan:
        return plan(lengths, budget=budget, tokens_per_step=200, seed=recipe.training.seed)

    match = recipe.budget.match
    if match is None:
        return make(Budget(epochs=recipe.budget.epochs))
    return read_reference(match.run, match.mode, match.fraction).plan(recipe.task_names, make, _account(lengths))


def _account(tasks: Iterable[str]) -> FlopAccount:
    """Invented costs; tasks differ."""
    return FlopAccount({task: FlopRates(token=1000 + len(task), pair=2) for task in tasks})


def _task(recipe: Recipe, made: TrainingPlan, task: str, folder: Path) -> dict[str, Any]:
    level = LEVELS["text" if recipe.text_tasks else recipe.strategy.name]
    drawn = np.random.default_rng([recipe.training.seed, *recipe.strategy.name.encode()]).normal(
        0, 0.03, TEST_EXAMPLES
    )
    right = np.random.default_rng(0).permutation(TEST_EXAMPLES) / TEST_EXAMPLES + drawn < level
    gold = ["stable" if number % 2 else "critical" for number in range(TEST_EXAMPLES)]
    other = {"stable": "critical", "critical": "stable"}
    ids = tuple(f"{task}-{number}" for number in range(TEST_EXAMPLES))
    Predictions(
        target=Target(task, "classification", ("stable", "critical")),
        ids=ids,
        split_groups=ids,
        gold=tuple((label,) for label in gold),
        predicted=tuple(label if hit else other[label] for label, hit in zip(gold, right, strict=True)),
        confidence=(0.5,) * TEST_EXAMPLES,
    ).to_parquet(folder / "predictions" / f"{task}.parquet")
    score = {"primary": "accuracy", "values": {"accuracy": {"value": float(right.mean())}}, "majority": 0.5}
    return {**_trained(made, task), "metrics": score}


def _trained(made: TrainingPlan, task: str) -> dict[str, Any]:
    """What a result says of a task besides its scores."""
    tokens = made.tokens_by_task[task]
    unique = int(made.lengths[task].sum())
    return {
        "type": "classification",
        "examples": {"train": 12, "test": TEST_EXAMPLES},
        "tokens": {"planned": tokens, "counted": tokens, "padded": tokens, "supervised": 1, "unique": unique},
        "epochs": tokens / unique,
        "data_fingerprint": f"data of {task}",
    }
