"""The parts of `MultiTaskTrainer` that strategies need: learned loss weights, stages, and their state in checkpoints."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from hf_crosstask.planning.stages import Stage, stages_of
from hf_crosstask.training.checkpoint import StageScores
from hf_crosstask.training.checkpointing import AtomicCheckpoints
from hf_crosstask.training.consolidation import FISHER_ROWS, diagonal_fisher
from hf_crosstask.training.evaluating import TaskEvaluation
from hf_crosstask.training.modules import unwrap_ddp
from hf_crosstask.training.objective import Objective
from hf_crosstask.training.rows import fetch
from hf_crosstask.training.stages import stage_rows, stage_schedule


class StrategyTrainer(TaskEvaluation, AtomicCheckpoints):
    """A trainer with an `Objective`, made anew whenever training starts."""

    task_objective: Objective
    lr_scheduler: Any

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages of a sequential run; none where tasks are learned together."""
        return stages_of(self.plan)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """As in transformers, with what the loss weighting learns, which weight decay leaves alone."""
        optimizer = super().create_optimizer(model)
        learned = self.task_objective.weighting.parameters()
        if learned:
            optimizer.add_param_group({"params": learned, "weight_decay": 0.0})
        return optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> LRScheduler:
        """As in transformers; in a sequential run, the whole schedule once for every stage."""
        if not self.stages or self.lr_scheduler is not None:
            return super().create_scheduler(num_training_steps, optimizer)
        factors = stage_schedule(self.args, self.stages)
        scheduler = LambdaLR(
            self.optimizer if optimizer is None else optimizer, lambda step: factors[min(step, len(factors) - 1)]
        )
        self.lr_scheduler, self._created_lr_scheduler = scheduler, True
        return scheduler

    def score_stage(self, stage: Stage) -> None:
        """Score every task of `eval_dataset` after a stage; all processes take part."""
        metrics = {}
        for task, dataset in (self.eval_dataset or {}).items():
            output = self.evaluation_loop(
                self._eval_batches(task, dataset),
                description=f"Scores of {task} after the stage of {stage.task}",
                prediction_loss_only=self._metric_function(task) is None,
                metric_key_prefix="stage",
            )
            metrics[task] = {name.removeprefix("stage_"): value for name, value in output.metrics.items()}
        self.task_objective.stage_scores.append(StageScores(task=stage.task, step=stage.end, metrics=metrics))

    @property
    def stage_scores(self) -> list[StageScores]:
        """Every task's metrics after each stage so far."""
        return self.task_objective.stage_scores

    @property
    def gradient_conflicts(self) -> list[dict[str, Any]]:
        """Cosines between the tasks' gradients over the run so far, one row a pair of tasks; none without surgery."""
        return self.task_objective.conflicts.summary()

    def progress_parts(self) -> dict[str, Any]:
        return self.task_objective.progress_parts()

    def progress_tensors(self) -> dict[str, Tensor]:
        return self.task_objective.progress_tensors()

    def consolidate(self, step: int) -> None:
        """Where a stage has just ended: measure what its task needs. In the next stage's first step, so that a run resumed
        between the two measures the same."""
        consolidation = self.task_objective.consolidation
        ended = next((stage for stage in self.stages if stage.end == step), None)
        if consolidation is None or ended is None:
            return
        model = unwrap_ddp(self.model_wrapped)
        model.eval()  # no dropout
        rows = stage_rows(self.plan, ended, FISHER_ROWS)[self.args.process_index :: self.args.world_size]
        losses = (self._row_loss(model, ended.task, row) for row in rows)
        fisher = diagonal_fisher(
            losses,
            consolidation.parameters,
            factor=1024.0 if self.args.fp16 else 1.0,
            processes=self.args.world_size,
        )
        consolidation.consolidate(fisher)
        model.train()

    def _row_loss(self, model: nn.Module, task: str, row: int) -> Tensor:
        dataset = self.keep_columns(self.train_dataset[task])
        tensors = self._prepare_inputs(dict(self.data_collator(fetch(dataset, [row]))))
        with self.compute_loss_context_manager():
            return self.compute_loss(model, self.with_task(tensors, task))
