"""Thresholds of multi-label tasks, chosen on the validation split before the evaluation split is decoded.

One for all labels of a task, at which the task's primary metric is highest on validation (`multilabel.best_threshold`
says why one). Never chosen on the split that is reported: where there is no validation split, or it is the one that is
evaluated, the threshold stays at 0.5.
"""

from __future__ import annotations

from typing import Any

from hf_crosstask.run.prepare import Prepared, chooses_threshold
from hf_crosstask.training.trainer import MultiTaskTrainer


def choose_thresholds(trainer: MultiTaskTrainer, prepared: Prepared) -> dict[str, float]:
    """The threshold of every task that has one to choose. All processes take part."""
    tasks = [task for task, data in prepared.scored.items() if chooses_threshold(prepared.recipe, data)]
    if not tasks:
        return {}
    datasets = {task: prepared.encoded[task]["validation"].dataset for task in tasks}
    outputs: Any = trainer.predict(datasets, metric_key_prefix="validation")
    chosen = {}
    for task, output in outputs.items():
        threshold = prepared.scorer(task, "validation").with_best_threshold(output.predictions).threshold
        assert threshold is not None
        chosen[task] = threshold
    return chosen
