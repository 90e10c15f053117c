"""What a sequential run forgot: every task's score after every stage, for `result.json`."""

from __future__ import annotations

import math

from hf_crosstask.evaluation.result import StageResult, StagesResult
from hf_crosstask.planning.stages import stages_of
from hf_crosstask.run.generating import is_generative
from hf_crosstask.run.prepare import Prepared, stage_split
from hf_crosstask.training.trainer import MultiTaskTrainer

#: What a task without a metric during training (its answers are generated) is compared by.
_LOSS = "loss"


def stages_result(trainer: MultiTaskTrainer, prepared: Prepared) -> StagesResult | None:
    """The stages of a run and its scores after each; None where tasks were learned together."""
    stages = stages_of(prepared.plan)
    if not stages:
        return None
    metric = {
        task: _LOSS if is_generative(prepared, task) else data.card.primary_metric
        for task, data in prepared.scored.items()
    }
    after = []
    for stage, scored in zip(stages, trainer.stage_scores, strict=False):  # early stopping may leave stages out
        scores = {task: _finite(scored.metrics[task][name]) for task, name in metric.items()}
        after.append(
            StageResult(task=stage.task, step=stage.end, tokens=stage.tokens, rehearsal=stage.rehearsal, scores=scores)
        )
    return StagesResult(
        order=[stage.task for stage in stages],
        split={task: stage_split(prepared.recipe, data) or "" for task, data in prepared.scored.items()},
        metric=metric,
        after=after,
        forgetting=_forgetting(after, metric),
    )


def _forgetting(after: list[StageResult], metric: dict[str, str]) -> dict[str, float]:
    lost = {}
    for own in after[:-1]:
        if own.task not in own.scores:  # trained on its text alone
            continue
        learned, kept = own.scores[own.task], after[-1].scores[own.task]
        if learned is not None and kept is not None:
            lost[own.task] = kept - learned if metric[own.task] == _LOSS else learned - kept
    return lost


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
