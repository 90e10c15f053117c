"""Callbacks: evaluation and saving at the plan's own epochs, and stopping with a checkpoint before a session ends."""

from __future__ import annotations

import math
import signal
import threading
import time
from types import FrameType
from typing import Any

import psutil
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from hf_crosstask.planning.plan import TrainingPlan


class PlanProgress(TrainerCallback):
    """Make `epoch` mean passes over the mixture, as the plan counts them.

    To the Trainer the whole plan is one epoch, which is what makes skipping on resume exact. Logged epochs and the
    `epoch` strategies of evaluation, saving and logging follow the plan instead.

    `eval_steps` below 1 is a share of the plan's steps: 0.1 evaluates exactly ten times, however many steps there are (the
    Trainer rounds the distance between evaluations up, which leaves short runs fewer), so that runs of different length
    look at validation equally often. Where the best checkpoint is kept, one is saved at each of them.
    """

    def __init__(self, plan: TrainingPlan):
        self.plan = plan
        tokens = plan.tokens_after_step.sum(axis=1)
        self._passes = (tokens / plan.tokens_per_pass).tolist()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        state.epoch = self._passes[state.global_step]
        last = state.global_step == self.plan.num_steps  # the Trainer's own end of epoch
        if state.global_step in self.plan.epoch_ends and not last:
            control.should_log |= args.logging_strategy == IntervalStrategy.EPOCH
            control.should_evaluate |= args.eval_strategy == IntervalStrategy.EPOCH
            control.should_save |= args.save_strategy == SaveStrategy.EPOCH
        share = args.eval_steps or 1.0
        if args.eval_strategy == IntervalStrategy.STEPS and share < 1:
            looks = state.global_step in evenly(self.plan.num_steps, share) and state.global_step >= args.eval_delay
            control.should_evaluate = looks
            if args.load_best_model_at_end and args.save_strategy == SaveStrategy.STEPS:
                control.should_save |= looks
        return control

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        if state.global_step < self.plan.num_steps:  # stopped early, which ends no pass
            control.should_log = control.should_evaluate = control.should_save = False
        return control


def evenly(steps: int, share: float) -> frozenset[int]:
    """The steps (1-based) that end every `share` of all steps, and the last one."""
    parts = int(round(1 / share, 6))
    return frozenset({min(steps, math.ceil(round(part * share * steps, 6))) for part in range(1, parts + 1)} | {steps})


class GracefulStop(TrainerCallback):
    """Stop at the next step, with a checkpoint, on SIGTERM or when the time limit is reached.

    The request is agreed on by all processes, so that all save the same step. `stopped` then says why; training that
    ended by itself leaves it None.

    Args:
        time_limit_minutes: counted from the start of the process, so that loading and encoding count too.
    """

    def __init__(self, time_limit_minutes: float | None = None):
        self.time_limit_minutes = time_limit_minutes
        self.stopped: str | None = None
        self._signal: str | None = None
        self._previous: Any = None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.stopped = self._signal = None
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGTERM, self._on_signal)

    def release_signal(self) -> None:
        """Give SIGTERM its former meaning; called when training ends, also by an error."""
        if self._previous is not None:
            signal.signal(signal.SIGTERM, self._previous)
            self._previous = None

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        reason = _agreed(self._reason(), args)
        if reason and state.global_step < state.max_steps:
            self.stopped = reason
            control.should_save = control.should_training_stop = True
        return control

    def _reason(self) -> str | None:
        if self._signal:
            return self._signal
        if self.time_limit_minutes is not None:
            elapsed = time.time() - psutil.Process().create_time()
            if elapsed > 60 * self.time_limit_minutes:
                return "time_limit"
        return None

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signal = signal.Signals(number).name.lower()


_REASONS = (None, "sigterm", "time_limit")


def _agreed(reason: str | None, args: TrainingArguments) -> str | None:
    """The same answer on every process: a reason, where any process has one."""
    if args.world_size == 1:
        return reason
    code = torch.tensor(_REASONS.index(reason), device=args.device)
    torch.distributed.all_reduce(code, torch.distributed.ReduceOp.MAX)
    return _REASONS[int(code)]
