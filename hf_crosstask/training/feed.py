"""From the plan to tensors: the training data of one process, one optimizer step at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from hf_crosstask.errors import InputError
from hf_crosstask.planning.plan import MicroBatch, TrainingPlan, assign_to_processes
from hf_crosstask.training.rows import IGNORED, Rows, fetch

Collator = Callable[[list[dict[str, Any]]], Mapping[str, Any]]


@dataclass
class Fed:
    """One micro-batch as tensors, with what was counted in them.

    Attributes:
        planned: the micro-batch of the plan.
        inputs: model inputs on the CPU.
        counts: examples, forward tokens, padded tokens, supervised positions, counted from `inputs`.
        real: False for a filler that a process without work runs with weight zero, to stay in step (FSDP only).
    """

    planned: MicroBatch
    inputs: dict[str, Any]
    counts: NDArray[np.int64]
    real: bool = True

    @property
    def items(self) -> int:
        """Positions or rows that carry a label."""
        return int(self.counts[3])

    def pin_memory(self) -> Fed:
        """Called by the DataLoader where the device is a GPU."""
        self.inputs = {
            name: value.pin_memory() if isinstance(value, Tensor) else value for name, value in self.inputs.items()
        }
        return self


def count(inputs: Mapping[str, Any], task: str, *, shifted: bool) -> NDArray[np.int64]:
    """[4] examples, forward tokens, padded tokens and labelled items of a batch of tensors.

    A sequence that is all padding (a row with fewer sequences than another) is not computed, so not counted.

    Raises:
        InputError: the collator gave no attention mask, without which padding cannot be told from text.
    """
    if "attention_mask" not in inputs:
        raise InputError(
            f"the collator's batch of task {task} has no attention_mask, which token counts are taken from"
        )
    mask, labels = inputs["attention_mask"], inputs["labels"]
    if labels.is_floating_point():
        items = len(labels)
    else:
        items = int((labels[..., 1:] != IGNORED).sum() if shifted and labels.dim() > 1 else (labels != IGNORED).sum())
    padded = int(mask.any(dim=-1).sum()) * mask.shape[-1]
    return np.asarray([len(mask), int(mask.sum()), padded, items], np.int64)


class StepFeed(Dataset[list[Fed]]):
    """Item s is what this process runs in step s: its share of the step's micro-batches, collated.

    Args:
        plan: the plan.
        datasets: encoded training dataset of each task.
        collate: makes a batch of tensors from rows of one task.
        process: number of this process.
        processes: how many share each step.
        shifted: labels predict the next position (causal language models).
        lockstep: give every process the same number of micro-batches, with fillers.
    """

    def __init__(
        self,
        plan: TrainingPlan,
        datasets: Mapping[str, Rows],
        collate: Collator,
        *,
        process: int = 0,
        processes: int = 1,
        shifted: bool = False,
        lockstep: bool = False,
    ):
        self.plan, self.datasets, self.collate = plan, datasets, collate
        self.process, self.processes = process, processes
        self.shifted, self.lockstep = shifted, lockstep

    def __len__(self) -> int:
        return self.plan.num_steps

    def __getitem__(self, step: int) -> list[Fed]:
        batches = self.plan.step(step)
        owners = assign_to_processes([batch.padded for batch in batches], self.processes)
        fed = [self._feed(batch) for batch, owner in zip(batches, owners, strict=True) if owner == self.process]
        if self.lockstep:
            rounds = max(owners.count(process) for process in range(self.processes))
            smallest = min(batches, key=lambda batch: batch.padded)
            fed += [self._feed(smallest, real=False) for _ in range(rounds - len(fed))]
        return fed

    def _feed(self, batch: MicroBatch, *, real: bool = True) -> Fed:
        inputs = dict(self.collate(fetch(self.datasets[batch.task], batch.examples.tolist())))
        return Fed(batch, inputs, count(inputs, batch.task, shifted=self.shifted), real)


def token_batches(
    lengths: NDArray[np.int64], limit: int, sequences: NDArray[np.int64] | None = None
) -> list[NDArray[np.int64]]:
    """Rows grouped by length into batches of at most `limit` padded tokens, longest first.

    A row longer than the limit is a batch of its own.

    Args:
        lengths: [n] tokens of each row's longest sequence.
        limit: tokens of a batch.
        sequences: [n] how many sequences each row holds; by default one.
    """
    order = np.argsort(-lengths, kind="stable")
    ends = np.arange(1, len(order) + 1) if sequences is None else np.cumsum(sequences[order])
    batches, start = [], 0
    while start < len(order):
        most = limit // int(max(1, lengths[order[start]]))  # sequences as long as the first row's
        stop = int(np.searchsorted(ends, (ends[start - 1] if start else 0) + most, side="right"))
        stop = max(start + 1, stop)
        batches.append(order[start:stop])
        start = stop
    return batches


def seed_dropout(seed: int, micro_batch: int) -> None:
    """Seed dropout for one micro-batch, from the run's seed and the micro-batch's number in the plan.

    So dropout does not depend on what ran before: not on evaluation, a resume, or which process runs the micro-batch.
    """
    (state,) = np.random.SeedSequence([seed, micro_batch]).generate_state(1, np.uint32)
    torch.manual_seed(int(state))  # the CPU generator uses no more than 32 bits


def loss_weights(rule: str | Mapping[str, float], step_tokens: Mapping[str, int]) -> dict[str, float]:
    """Weight of each task present in a step; the weights sum to 1.

    Args:
        rule: `share`, `equal`, or a weight for each task.
        step_tokens: forward tokens of each task present.

    Raises:
        InputError: a task has no weight.
    """
    if isinstance(rule, str):
        if rule not in ("share", "equal"):
            raise InputError(f"loss_weights is {rule!r}; it is 'share', 'equal' or a weight for each task")
        weights: dict[str, float] = {
            task: float(tokens if rule == "share" else 1) for task, tokens in step_tokens.items()
        }
    else:
        missing = [task for task in step_tokens if task not in rule]
        if missing:
            raise InputError(f"loss_weights names no weight for {', '.join(missing)}")
        weights = {task: float(rule[task]) for task in step_tokens}
    total = sum(weights.values())
    return {task: weight / total for task, weight in weights.items()}
