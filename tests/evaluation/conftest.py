"""Builders of small tasks, predictions and results for the evaluation tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from hf_crosstask.evaluation.entities import Entity
from hf_crosstask.evaluation.predictions import Predictions, Target
from hf_crosstask.evaluation.result import RunResult
from hf_crosstask.tasks.card import TaskCard
from hf_crosstask.tasks.schema import TaskType


@pytest.fixture(scope="session")
def make_card() -> Callable[..., TaskCard]:
    """A task card from what a test cares about."""

    def make(type: TaskType, labels: Sequence[str], primary: str, **fields: Any) -> TaskCard:
        return TaskCard(
            name=fields.pop("name", "toy"),
            type=type,
            level=1,
            labels=tuple(labels),
            primary_metric=primary,
            reader="synthetic",
            **fields,
        )

    return make


@pytest.fixture(scope="session")
def make_predictions() -> Callable[..., Predictions]:
    """Predictions of a label or entity task, one cluster an example unless groups are given."""

    def make(
        target: Target,
        gold: Sequence[Sequence[Any]],
        predicted: Sequence[Any],
        groups: Sequence[str] | None = None,
        alternatives: Sequence[Sequence[Entity]] | None = None,
    ) -> Predictions:
        entities = target.type == "ner"
        sets = target.type == "multilabel"
        ids = tuple(f"e{index}" for index in range(len(gold)))
        return Predictions(
            target=target,
            ids=ids,
            split_groups=ids if groups is None else tuple(groups),
            gold=tuple(map(tuple, gold)),
            predicted=tuple(map(tuple, predicted)) if entities else tuple(predicted),
            confidence=(
                tuple((0.5,) * len(row or ()) for row in predicted) if entities or sets else (0.5,) * len(gold)
            ),
            alternatives=None if alternatives is None else tuple(map(tuple, alternatives)),
        )

    return make


@pytest.fixture
def result_json() -> dict[str, Any]:
    """A finished run's `result.json` with two tasks."""

    def task(type: str, metric: str, value: float, tokens: int) -> dict[str, Any]:
        return {
            "type": type,
            "examples": {"train": 100, "validation": 20, "test": 30},
            "tokens": {"planned": tokens, "counted": tokens, "padded": tokens + 9, "supervised": 50, "unique": 40},
            "epochs": 2.5,
            "metrics": {
                "primary": metric,
                "values": {metric: {"value": value, "low": value - 0.05, "high": value + 0.05}},
                "majority": 0.0 if metric == "entity_f1" else 0.552,
            },
        }

    return {
        "schema_version": 1,
        "experiment_id": "s2_toy",
        "status": "finished",
        "strategy": "S2",
        "seed": 42,
        "fingerprints": {"recipe": "aa", "data": "bb", "plan": "cc"},
        "tokens": {"planned": 1234567 + 1000, "counted": 1234567 + 1000, "padded": 1300000},
        "match": {"mode": "total_tokens", "reference": "runs/s2", "target": 1235570, "difference": -3},
        "tasks": {
            "genes": task("ner", "entity_f1", 0.8123, 1234567),
            "answers": task("classification", "accuracy", 0.552, 1000),
        },
        "parameters": {"total": 1000, "trainable": 100, "heads": 10, "per_adapter": {"shared": 90}},
        "train": {
            "steps": 12,
            "runtime_s": 3.5,
            "loss": 0.25,
            "tokens_per_s": 1000.0,
            "peak_memory_bytes": 0,
            "stopped": None,
        },
        "environment": {"versions": {"torch": "2.13.0"}, "hardware": "a CPU", "processes": 2, "git_commit": None},
    }


@pytest.fixture
def run_result(result_json: dict[str, Any]) -> RunResult:
    """The same as a model."""
    return RunResult.model_validate(result_json)
