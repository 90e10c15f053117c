"""Weights of the tasks' losses in a step: fixed, learned (uncertainty) or following the losses (dynamic weight average).

A step's loss is the sum over its tasks of weight times mean loss. Every rule depends on the plan, on what a checkpoint
holds and on losses of all processes together, so processes and resumed runs agree to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import Parameter

from hf_crosstask.errors import InputError
from hf_crosstask.training.checkpoint import WeightingState
from hf_crosstask.training.feed import loss_weights

RULES = ("share", "equal", "uncertainty", "dwa")
#: A run has this many windows of steps, over which dynamic weight averaging compares losses.
_WINDOWS = 20
#: Softness of dynamic weight averaging (the paper's T).
_TEMPERATURE = 2.0


class LossWeighting:
    """A fixed rule, and the base of those that change.

    Args:
        rule: `share` (a task's share of the step's tokens), `equal`, or a weight for each task.

    Attributes:
        changes: whether weights change in training, so that they are worth logging.
    """

    changes = False

    def __init__(self, rule: str | Mapping[str, float]):
        self.rule = rule

    def weights(self, step_tokens: Mapping[str, int]) -> Mapping[str, float | Tensor]:
        """Weight of each task present in a step, whose forward tokens are given."""
        return loss_weights(self.rule, step_tokens)

    def penalty(self, step_tokens: Mapping[str, int]) -> Tensor | None:
        """What is added to the step's loss, once over all processes."""
        return None

    def parameters(self) -> list[Parameter]:
        """What the optimizer trains, without weight decay."""
        return []

    def after_step(self, step: int, losses: Tensor, processes: int) -> None:
        """Learn from one step: [T, 2] sums of item losses and numbers of items on this process."""

    def state(self) -> WeightingState:
        """What a checkpoint holds."""
        return WeightingState()

    def load(self, state: WeightingState) -> None:
        """Go on from a checkpoint."""

    def logged(self) -> dict[str, float]:
        """Weights to log, by task."""
        return {}


class UncertaintyWeighting(LossWeighting):
    """Homoscedastic uncertainty (Kendall et al. 2018): the mean over the step's tasks of exp(-s) L + s / 2.

    The log-variance s of each task starts at 0 (equal weights) and is trained by the optimizer at the learning rate of
    everything else; gradient clipping leaves it out. A step's loss includes the s / 2, so it can be negative.
    """

    changes = True

    def __init__(self, tasks: Sequence[str], device: torch.device):
        super().__init__("uncertainty")
        self._log_variances = {task: Parameter(torch.zeros((), device=device)) for task in tasks}

    def weights(self, step_tokens: Mapping[str, int]) -> Mapping[str, float | Tensor]:
        return {task: torch.exp(-self._log_variances[task]) / len(step_tokens) for task in step_tokens}

    def penalty(self, step_tokens: Mapping[str, int]) -> Tensor | None:
        return torch.stack([self._log_variances[task] for task in step_tokens]).mean() / 2

    def parameters(self) -> list[Parameter]:
        return list(self._log_variances.values())

    def state(self) -> WeightingState:
        return WeightingState(log_variances={task: value.item() for task, value in self._log_variances.items()})

    @torch.no_grad()
    def load(self, state: WeightingState) -> None:
        for task, value in state.log_variances.items():
            self._log_variances[task].fill_(value)

    def logged(self) -> dict[str, float]:
        return {task: math.exp(-value.item()) for task, value in self._log_variances.items()}


class DynamicWeightAverage(LossWeighting):
    """Dynamic weight averaging (Liu et al. 2019): tasks whose loss falls slowly get more weight.

    The run is cut into 20 windows of steps. A task's rate is its mean loss in the last window over that in the window
    before (1 until there are two); weights are softmax(rate / 2), made to sum to 1 over the tasks present in a step. A
    task that a window does not see keeps its rate.
    """

    changes = True

    def __init__(self, tasks: Sequence[str], steps: int):
        super().__init__("dwa")
        self.tasks = tuple(tasks)
        self.window = max(1, math.ceil(steps / _WINDOWS))
        self._windows: dict[str, list[float]] = {task: [] for task in tasks}
        self._current = torch.zeros((len(self.tasks), 2), dtype=torch.float64)

    def weights(self, step_tokens: Mapping[str, int]) -> Mapping[str, float | Tensor]:
        shares = {task: math.exp(min(self._rate(task), 100.0) / _TEMPERATURE) for task in step_tokens}
        total = sum(shares.values())
        return {task: share / total for task, share in shares.items()}

    def _rate(self, task: str) -> float:
        windows = self._windows[task]
        if len(windows) < 2 or not windows[0] > 0 or not math.isfinite(windows[1]):
            return 1.0
        return windows[1] / windows[0]

    def after_step(self, step: int, losses: Tensor, processes: int) -> None:
        if processes > 1:
            torch.distributed.all_reduce(losses)
        # Step totals are added one after another, so that a resumed run rounds as an uninterrupted one.
        self._current += losses.cpu()
        if (step + 1) % self.window == 0:
            for task, (total, items) in zip(self.tasks, self._current.tolist(), strict=True):
                if items:
                    self._windows[task] = [*self._windows[task], total / items][-2:]
            self._current.zero_()

    def state(self) -> WeightingState:
        current = {task: (row[0], row[1]) for task, row in zip(self.tasks, self._current.tolist(), strict=True)}
        return WeightingState(windows=self._windows, current=current)

    def load(self, state: WeightingState) -> None:
        self._windows = {task: list(state.windows[task]) for task in self.tasks}
        self._current = torch.tensor([state.current[task] for task in self.tasks], dtype=torch.float64)

    def logged(self) -> dict[str, float]:
        return {task: float(weight) for task, weight in self.weights(dict.fromkeys(self.tasks, 1)).items()}


def loss_weighting(
    rule: str | Mapping[str, float], tasks: Sequence[str], *, steps: int, device: torch.device
) -> LossWeighting:
    """The weighting that a rule names.

    Args:
        rule: of `RULES`, or a weight for each task.
        tasks: the training tasks.
        steps: steps of the plan.
        device: where losses are.

    Raises:
        InputError: unknown rule, or a task has no weight.
    """
    if rule == "uncertainty":
        return UncertaintyWeighting(tasks, device)
    if rule == "dwa":
        return DynamicWeightAverage(tasks, steps)
    check_rule(rule, tasks)
    return LossWeighting(rule)


def check_rule(rule: str | Mapping[str, float], tasks: Sequence[str]) -> None:
    """Refuse a rule that does not exist, or that leaves a task without weight.

    Raises:
        InputError: naming the rules, or the tasks.
    """
    if not isinstance(rule, str):
        loss_weights(rule, dict.fromkeys(tasks, 1))
    elif rule not in RULES:
        raise InputError(f"loss_weights is {rule!r}; it is {', '.join(map(repr, RULES))} or a weight for each task")
