"""The arms of a throughput benchmark: ours, `transformers.Trainer` in two orders, and the ceiling.

- ours: `MultiTaskTrainer` on the datasets, with its defaults;
- default: `transformers.Trainer`, random order, batches of 16 rows, padded to the longest row of the batch;
- grouped: the same with `train_sampling_strategy="group_by_length"`;
- ceiling: no trainer at all: forward, backward, clipping and optimizer on full micro-batches of rows of exactly equal
  length, whose lengths are distributed as those of ours.

A turn takes steps of a pass over the whole mixture, drawn anew for each round: ours the first steps of its plan, whose
steps are alike; the ceiling the same rows; the peers every n-th batch of a pass, after sorting by padded size, so that a
short turn has the whole pass's share of long rows and of padding. The peers get what helps them: rows in memory,
batches made ahead, and mixed batches that pass the backbone once (`mixed_batches.py`). All arms train the same model on
in turn; for ours and the ceiling its dropout, attention and LoRA layers are this library's, for the peers torch's and
PEFT's own, unless `Workload.our_layers_for_peers`.
"""

from __future__ import annotations

import copy
import gc
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from meter import Meter, Turn
from mixed_batches import MixedBatchModel, MixedCollator
from mixture import Ints
from stock import stock
from transformers import PrinterCallback, Trainer, TrainingArguments
from transformers.trainer_pt_utils import LengthGroupedSampler

from hf_crosstask.encoding.collator import MultiTaskCollator
from hf_crosstask.models.multitask import MultiTaskModel
from hf_crosstask.planning import Budget, plan
from hf_crosstask.planning.mixing import Mixing, apportion, token_shares
from hf_crosstask.training.arguments import MultiTaskTrainingArguments
from hf_crosstask.training.feed import token_batches
from hf_crosstask.training.rows import token_lengths
from hf_crosstask.training.trainer import MultiTaskTrainer

#: Of issue 2, Show 7: how many times as fast as each other arm ours is to be.
TARGETS = {"default": 5.0, "grouped": 1.3, "ceiling": 0.95}
#: Steps of a turn that run before its clock starts.
WARM_UP = 1
PEER_ROWS = 16
#: Batches that `group_by_length` sorts together. Most of its padding is in one of them, so a turn has at least as many.
_MEGABATCH = 50
_GOLDEN = (5**0.5 - 1) / 2

_Row = tuple[str, int]


@dataclass(frozen=True)
class Workload:
    """What all arms train, and how.

    Attributes:
        model: trained by all arms, on its device.
        datasets: encoded rows of each task.
        collate: pads rows of one task.
        mixing: shares of the tasks.
        tokens_per_step, micro_batch_tokens: of ours and of the ceiling.
        turn_tokens: forward tokens of a turn, about.
        folder: for what trainers write.
        arguments: `TrainingArguments` of every trainer.
        our_layers_for_peers: peers train with this library's layers, too.
    """

    model: MultiTaskModel
    datasets: Mapping[str, Dataset]
    collate: MultiTaskCollator
    mixing: Mixing
    tokens_per_step: int
    micro_batch_tokens: int
    turn_tokens: int
    folder: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    our_layers_for_peers: bool = False

    @property
    def steps(self) -> int:
        """Steps of one turn, where a step is `tokens_per_step` tokens."""
        return max(1, round(self.turn_tokens / self.tokens_per_step))

    @cached_property
    def per_token(self) -> frozenset[str]:
        """The tasks that have a label a token."""
        first = {task: dataset[:8] for task, dataset in self.datasets.items()}
        return frozenset(
            task
            for task, rows in first.items()
            if isinstance(rows["labels"][0], list)
            and all(len(a) == len(b) for a, b in zip(rows["labels"], rows["input_ids"], strict=True))
        )

    def common_arguments(self) -> dict[str, Any]:
        """The arguments of every trainer."""
        return {
            "output_dir": self.folder,
            "num_train_epochs": 1,
            "learning_rate": 1e-4,
            "logging_steps": 20,
            "save_strategy": "no",
            "disable_tqdm": True,
            "report_to": "none",
            **self.arguments,
        }


Arm = Callable[[Workload, int], Turn]


def ours(work: Workload, seed: int) -> Turn:
    """`MultiTaskTrainer` as a user runs it."""
    trainer = MultiTaskTrainer(
        model=copy.copy(work.model),  # accelerate replaces `forward` where it computes in bf16
        args=MultiTaskTrainingArguments(
            tokens_per_step=work.tokens_per_step,
            micro_batch_tokens=work.micro_batch_tokens,
            sampling=work.mixing.sampling,
            sampling_temperature=work.mixing.temperature,
            data_seed=seed,
            **work.common_arguments(),
        ),
        train_dataset=work.datasets,
        data_collator=work.collate,
    )
    turn = _measured(trainer, work.model, steps=min(work.steps, trainer.plan.num_steps - WARM_UP))
    turn.padded_share_of_pass = trainer.plan.summary()["padding_share"]
    return turn


def default(work: Workload, seed: int) -> Turn:
    """`transformers.Trainer` in random order."""
    rows, lengths = one_pass(work, seed)
    return _peer(work, seed, rows, lengths, np.random.default_rng(seed).permutation(len(rows)))


def grouped(work: Workload, seed: int) -> Turn:
    """`transformers.Trainer` with `group_by_length`: the order is from its own sampler."""
    rows, lengths = one_pass(work, seed)
    generator = torch.Generator().manual_seed(seed)
    order = list(LengthGroupedSampler(PEER_ROWS, lengths=lengths.tolist(), generator=generator))
    return _peer(work, seed, rows, lengths, np.asarray(order), at_least=_MEGABATCH)


def _peer(work: Workload, seed: int, rows: Sequence[_Row], lengths: Ints, order: Ints, *, at_least: int = 1) -> Turn:
    batches = order[: len(order) // PEER_ROWS * PEER_ROWS].reshape(-1, PEER_ROWS)
    longest = lengths[batches].max(axis=1)
    steps = min(len(batches), max(at_least, round(work.turn_tokens / (PEER_ROWS * lengths.mean()))))
    chosen = [batches[number] for number in every_nth(longest, steps, seed)]
    trainer = Trainer(
        model=MixedBatchModel(work.model),
        args=TrainingArguments(
            per_device_train_batch_size=PEER_ROWS,
            train_sampling_strategy="sequential",  # the batches are made: in the order of the arm
            remove_unused_columns=False,
            **work.common_arguments(),
        ),
        train_dataset=[
            {**work.datasets[task][row], "task": task}
            for batch in [*chosen[:WARM_UP], *chosen]
            for task, row in (rows[number] for number in batch)
        ],
        data_collator=MixedCollator(work.collate, work.per_token),
    )
    with nullcontext() if work.our_layers_for_peers else stock(work.model):
        turn = _measured(trainer, work.model, steps=steps)
    turn.padded_share_of_pass = 1 - lengths[batches].sum() / (PEER_ROWS * longest.sum())
    return turn


def _measured(trainer: Trainer, model: MultiTaskModel, *, steps: int) -> Turn:
    meter = Meter(model.backbone, skipped=WARM_UP, last=steps)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(meter)
    trainer.train()
    return meter.turn


def ceiling(work: Workload, seed: int) -> Turn:
    """Forward, backward, clipping and optimizer on micro-batches without padding."""
    model = work.model
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    device = trained[0].device
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)  # what the Trainer's default is
    batches = equal_length_batches(work, seed)
    model.train()
    meter = Meter(model.backbone)
    seen = steps = 0
    for number, (task, batch) in enumerate([*batches[:WARM_UP], *batches]):
        if number == WARM_UP:
            optimizer.zero_grad()
            meter.start()
            seen = steps = 0
        with _autocast(work, device):
            loss = model(task=task, **{name: values.to(device) for name, values in batch.items()}).loss
        loss.backward()
        seen += batch["input_ids"].numel()
        if seen >= (steps + 1) * work.tokens_per_step or number == len(batches):
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            steps += 1
    return meter.finish(steps=steps)


def _autocast(work: Workload, device: torch.device) -> AbstractContextManager[Any]:
    return torch.autocast(device.type, torch.bfloat16) if work.arguments.get("bf16") else nullcontext()


def equal_length_batches(work: Workload, seed: int) -> list[tuple[str, dict[str, torch.Tensor]]]:
    """The rows of ours' turn of the same seed in full micro-batches, each row at its micro-batch's mean length.

    Lengths are those of neighbours after sorting, so their distribution is ours' and nothing is padding.
    """
    made = plan(
        {task: token_lengths(dataset, task) for task, dataset in work.datasets.items()},
        budget=Budget(epochs=1),
        mixing=work.mixing,
        tokens_per_step=work.tokens_per_step,
        micro_batch_tokens=work.micro_batch_tokens,
        seed=seed,
    )
    rows: dict[str, list[int]] = {}
    for step in range(WARM_UP, min(WARM_UP + work.steps, made.num_steps)):
        for planned in made.step(step):
            rows.setdefault(planned.task, []).extend(planned.examples.tolist())
    batches = []
    for task, numbers in rows.items():
        lengths = made.lengths[task][numbers]
        for group in token_batches(lengths, work.micro_batch_tokens):
            chosen = [numbers[index] for index in group]
            batches.append((task, _equal_length_batch(work, task, chosen, round(lengths[group].mean()))))
    order = np.random.default_rng(seed).permutation(len(batches))
    return [batches[index] for index in order]


def _equal_length_batch(work: Workload, task: str, rows: Sequence[int], length: int) -> dict[str, torch.Tensor]:
    """Rows as tensors, every row cut to `length` or continued from its own start."""
    encoded, batch = work.datasets[task][rows], {}
    for name in ("input_ids", "attention_mask", "token_type_ids", "labels", "entity_positions"):
        if name not in encoded:
            continue
        values = encoded[name]
        if name == "entity_positions":
            values = np.minimum(values, length - 1)
        elif name != "labels" or task in work.per_token:
            values = [np.resize(value, length) for value in values]
        batch[name] = torch.as_tensor(np.asarray(values))
    return batch


def one_pass(work: Workload, seed: int) -> tuple[list[_Row], Ints]:
    """The rows of one pass over the mixture and their lengths: as many rows as it has, in the chosen mixing's shares.

    A task with a larger share than its size repeats all its rows evenly.
    """
    generator = np.random.default_rng(seed)
    by_task = {task: token_lengths(dataset, task) for task, dataset in work.datasets.items()}
    sizes = {task: len(lengths) for task, lengths in by_task.items()}
    # Shares of examples are what shares of tokens would be if every example had one token.
    shares = token_shares(work.mixing, sizes, sizes)
    rows: list[_Row] = []
    lengths = []
    for task, quota in apportion(sum(sizes.values()), shares).items():
        repeats = -(-quota // sizes[task])
        numbers = np.concatenate([generator.permutation(sizes[task]) for _ in range(repeats)])[:quota]
        rows += [(task, number) for number in numbers.tolist()]
        lengths.append(by_task[task][numbers])
    return rows, np.concatenate(lengths)


def every_nth(sizes: Ints, wanted: int, seed: int) -> list[int]:
    """`wanted` batches whose sizes are distributed as those of all, in random order (systematic sampling).

    Where the counting starts moves evenly with the seed, so that a few rounds together sample still more evenly.
    """
    generator = np.random.default_rng(seed)
    start = (0.5 + seed * _GOLDEN) % 1
    positions = ((np.arange(wanted) + start) * len(sizes) / wanted).astype(np.int64)
    shuffled = generator.permutation(len(sizes))
    by_size = shuffled[np.argsort(sizes[shuffled], kind="stable")]
    return generator.permutation(by_size[positions]).tolist()


ARMS: dict[str, Arm] = {"ours": ours, "default": default, "grouped": grouped, "ceiling": ceiling}


def take_turns(work: Workload, names: Sequence[str], rounds: int) -> dict[str, list[Turn]]:
    """The turns of each arm, one of every arm in each round; progress goes to standard error."""
    turns: dict[str, list[Turn]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names:
            gc.collect()  # the last turn's trainer and optimizer
            turn = ARMS[name](work, number)
            turns[name].append(turn)
            print(
                f"round {number + 1} {name:8} {turn.tokens_per_second:8,.0f} tokens/s, {turn.seconds:.1f} s, "
                f"{turn.steps} steps, {turn.tokens:,} tokens, {turn.padded_share:.1%} padding",
                file=sys.stderr,
                flush=True,
            )
    return turns
