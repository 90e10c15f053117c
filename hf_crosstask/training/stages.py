"""Sequential training: a learning-rate schedule for every stage, and every task's score after each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments, get_scheduler

from hf_crosstask.errors import InputError
from hf_crosstask.planning.plan import TrainingPlan
from hf_crosstask.planning.stages import Stage

if TYPE_CHECKING:
    from hf_crosstask.training.trainer import MultiTaskTrainer

#: Schedules that follow the evaluation loss, not the step.
_UNPLANNED = ("reduce_lr_on_plateau", "greedy")


class ScoreStages(TrainerCallback):
    """Scores every task at the end of each stage, before the checkpoint of that step is written."""

    def __init__(self, trainer: MultiTaskTrainer):
        self._trainer = trainer

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        ended = [stage for stage in self._trainer.stages if stage.end == state.global_step]
        if ended:
            self._trainer.score_stage(ended[0])


def stage_schedule(args: TrainingArguments, stages: Sequence[Stage]) -> list[float]:
    """What the learning rate is multiplied with in every step: the whole schedule, warmup included, once a stage.

    Raises:
        InputError: the schedule follows the evaluation loss.
    """
    kind = str(getattr(args.lr_scheduler_type, "value", args.lr_scheduler_type))
    if kind in _UNPLANNED:
        raise InputError(f"training.lr_scheduler_type {kind!r} cannot start anew at every stage; choose another")
    rate = args.learning_rate or 1.0
    factors = []
    for stage in stages:
        steps = stage.end - stage.first
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=rate)
        scheduler = get_scheduler(
            kind,
            optimizer=optimizer,
            num_warmup_steps=args.get_warmup_steps(steps),
            num_training_steps=steps,
            scheduler_specific_kwargs=args.lr_scheduler_kwargs,
        )
        for _ in range(steps):
            factors.append(optimizer.param_groups[0]["lr"] / rate)
            optimizer.step()
            scheduler.step()
    return factors


def stage_rows(plan: TrainingPlan, stage: Stage, limit: int) -> list[int]:
    """The first different training rows of a stage's own task, in the order in which it saw them."""
    seen = [
        batch.examples
        for step in range(stage.first, stage.end)
        for batch in plan.step(step)
        if batch.task == stage.task
    ]
    return list(dict.fromkeys(np.concatenate(seen).tolist()))[:limit]
