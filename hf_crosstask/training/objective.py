"""What a run optimises besides the plain weighted sum of its tasks' losses, as its arguments say, and the state of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import Parameter

from hf_crosstask.errors import CheckpointError, InputError
from hf_crosstask.models.multitask import MultiTaskModel
from hf_crosstask.planning.plan import TrainingPlan
from hf_crosstask.training.arguments import MultiTaskTrainingArguments
from hf_crosstask.training.checkpoint import CONSOLIDATION, Progress, StageScores
from hf_crosstask.training.conflicts import ConflictLog
from hf_crosstask.training.consolidation import Consolidation
from hf_crosstask.training.shared_gradients import SharedGradients
from hf_crosstask.training.weighting import loss_weighting


class Objective:
    """The parts of a run's objective.

    Args:
        model: what trains, unwrapped.
        args: the run's arguments.
        plan: its plan.

    Attributes:
        weighting: weights of the tasks' losses.
        surgery: on gradients of shared parameters; None where they are summed.
        conflicts: cosines of those gradients; empty without surgery.
        consolidation: what holds shared parameters to earlier stages; None where nothing does.
        stage_scores: every task's metrics after each stage so far.

    Raises:
        InputError: an argument does not fit the model or the tasks.
    """

    def __init__(self, model: nn.Module, args: MultiTaskTrainingArguments, plan: TrainingPlan):
        self.weighting = loss_weighting(
            args.loss_weights or "share", plan.tasks, steps=plan.num_steps, device=args.device
        )
        self.surgery: SharedGradients | None = None
        if args.gradient_surgery != "none":
            self.surgery = SharedGradients(
                model,
                plan.tasks,
                method=args.gradient_surgery,
                granularity=args.surgery_granularity,
                seed=args.seed,
                processes=args.world_size,
            )
        self.conflicts = ConflictLog(plan.tasks)
        self.consolidation: Consolidation | None = None
        if args.ewc:
            self.consolidation = Consolidation(_held(model), args.ewc)
        self.stage_scores: list[StageScores] = []

    def is_plain(self, parameter: Parameter) -> bool:
        """Whether a parameter's gradient is left as its tasks' losses give it."""
        return self.surgery is None or parameter not in self.surgery

    def logged(self) -> dict[str, float]:
        """Weights that change, and mean cosines since the last call."""
        logs = {f"weight_{task}": weight for task, weight in self.weighting.logged().items()}
        logs |= self.conflicts.window()
        if self.consolidation is not None:
            logs["ewc_penalty"] = self.consolidation.penalty()
        return logs

    def progress_parts(self) -> dict[str, Any]:
        """Fields of a checkpoint's progress."""
        targets = (
            self.surgery.targets.tolist() if self.surgery is not None and self.surgery.method == "gradvac" else []
        )
        return {
            "weighting": self.weighting.state(),
            "conflicts": self.conflicts.sums(),
            "surgery_targets": targets,
            "stage_scores": self.stage_scores,
        }

    def progress_tensors(self) -> dict[str, Tensor]:
        """Tensors of a checkpoint."""
        return {} if self.consolidation is None else self.consolidation.state()

    def resume(self, progress: Progress, checkpoint: str | Path) -> None:
        """Go on from a checkpoint.

        Raises:
            CheckpointError: it was written under other arguments.
        """
        if self.weighting.changes:
            if not (progress.weighting.log_variances or progress.weighting.windows):
                raise CheckpointError(f"{checkpoint} holds no state of loss_weights: it was written with a fixed rule")
            self.weighting.load(progress.weighting)
        self.conflicts = ConflictLog(self.conflicts.tasks, progress.conflicts)
        self.stage_scores = list(progress.stage_scores)
        if self.surgery is not None and self.surgery.method == "gradvac":
            self.surgery.resume_targets(progress.surgery_targets)
        if self.consolidation is not None:
            path = Path(checkpoint) / CONSOLIDATION
            if not path.exists():
                raise CheckpointError(f"{checkpoint} has no {CONSOLIDATION}: it was written without ewc")
            self.consolidation.load(load_file(path))


def _held(model: nn.Module) -> dict[str, Parameter]:
    """The parameters that tasks share, by name."""
    if isinstance(model, MultiTaskModel):
        found = {name: parameter for group in model.shared_groups() for name, parameter in group.parameters}
    else:
        found = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if not found:
        raise InputError(
            "ewc: no parameter is trained by two or more tasks, so there is nothing to hold; leave it out"
        )
    return found
