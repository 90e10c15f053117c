"""The largest micro-batch that fits the device, found by running real ones forward and backward before training.

A step's tokens are cut into micro-batches. The sizes tried are those that cut a step into a whole number of equal parts
for each process: nothing in between makes a step shorter. A size fits where the memory it needs stays under `SHARE` of
what the device has.

On a GPU each size is run with the longest and with the shortest rows of every task that fill it (attention and answers
weigh differently there), largest first, and its peak is measured. On a CPU there is no such measure: one micro-batch
is run, the bytes that it keeps for its backward pass are counted, and larger ones are taken to need proportionally more,
twice over for what the backward pass itself needs.
"""

from __future__ import annotations

import gc
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hf_crosstask.errors import InputError
from hf_crosstask.models.multitask import MultiTaskModel
from hf_crosstask.training.feed import token_batches
from hf_crosstask.training.modules import unwrap_ddp
from hf_crosstask.training.rows import Rows, fetch, row_shapes

if TYPE_CHECKING:
    from hf_crosstask.training.trainer import MultiTaskTrainer

#: Of the device's memory. The rest is for fragmentation and for what a longer run needs.
SHARE = 0.85
_CPU_PROBE = 2048
_CPU_FACTOR = 2.0
_OPTIMIZER_COPIES = 2  # Adam's moments


@dataclass(frozen=True)
class Probe:
    """One size that was tried: padded tokens, and the bytes it needs (None: more than the device has)."""

    tokens: int
    bytes: int | None


@dataclass(frozen=True)
class Fit:
    """What was found.

    Attributes:
        micro_batch_tokens: the largest size that fits.
        limit_bytes: what may be used: `SHARE` of the device's memory, less what others use.
        device: its name.
        probes: the sizes tried, in order.
    """

    micro_batch_tokens: int
    limit_bytes: int
    device: str
    probes: tuple[Probe, ...]

    def to_json(self) -> dict[str, Any]:
        """As written into the run folder."""
        return asdict(self) | {"share": SHARE}


def sizes(tokens_per_step: int, processes: int, longest: int) -> list[int]:
    """Micro-batch sizes worth trying, largest first: a step cut into 1, 2, 3, 4, 6, 8, 12, … parts a process.

    Args:
        tokens_per_step: forward tokens of a step.
        processes: how many share it.
        longest: padded tokens of the largest row, which a micro-batch must hold.
    """
    found: list[int] = []
    parts = 1
    while True:
        size = -(-tokens_per_step // (parts * processes))
        if size <= longest:
            return [*found, longest]
        found.append(size)
        parts = parts + 1 if parts < 3 else parts * 4 // 3 if (parts & (parts - 1)) else parts * 3 // 2


def fit_micro_batch(trainer: MultiTaskTrainer) -> Fit:
    """The largest micro-batch that a trainer's model runs on its device.

    Every process must call it; all get the smallest of their answers. The model keeps its weights and has no gradients
    afterwards.

    Raises:
        InputError: not even the longest row fits.
    """
    args = trainer.args
    if trainer.is_fsdp_enabled:
        raise InputError('training.micro_batch_tokens: "auto" cannot measure a sharded model (FSDP); give a number')
    model = unwrap_ddp(trainer.model)
    model.train()
    if args.activation_checkpointing:
        given = dict(args.activation_checkpointing_kwargs or {})
        extra = {name: given.pop(name) for name in ("every_n_layers", "offload") if name in given}
        enable: Any = model.activation_checkpointing_enable
        enable(activation_checkpointing_kwargs=given or None, **extra)
    datasets = trainer.train_dataset or {}
    shapes = {task: row_shapes(dataset, task) for task, dataset in datasets.items()}
    longest = max(int(shape.prod(axis=1).max()) for shape in shapes.values())
    tried = sizes(args.tokens_per_step, args.world_size, longest)
    measure = _fit_cuda if args.device.type == "cuda" else _fit_host
    try:
        fit = measure(trainer, model, shapes, tried)
    finally:
        model.zero_grad(set_to_none=True)
        gc.collect()
        if args.device.type == "cuda":
            torch.cuda.empty_cache()
    if args.world_size > 1:
        smallest = torch.tensor(fit.micro_batch_tokens, device=args.device)
        torch.distributed.all_reduce(smallest, torch.distributed.ReduceOp.MIN)
        fit = Fit(int(smallest), fit.limit_bytes, fit.device, fit.probes)
    if fit.micro_batch_tokens == 0:
        raise InputError(
            f"not even one row of {longest} tokens fits into {fit.limit_bytes / 2**30:.1f} GiB of {fit.device}. Lower "
            "model.max_length, set training.activation_checkpointing, or model.quantization=nf4"
        )
    return fit


def _fit_cuda(
    trainer: MultiTaskTrainer, model: nn.Module, shapes: dict[str, NDArray[np.int64]], tried: list[int]
) -> Fit:
    device = trainer.args.device
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info(device)
    others = total - free - torch.cuda.memory_reserved(device)
    limit = int(SHARE * total) - others
    probes = []
    for size in tried:
        probe = Probe(size, _peak_bytes(trainer, model, shapes, size))
        probes.append(probe)
        if probe.bytes is not None and probe.bytes <= limit:
            return Fit(size, limit, torch.cuda.get_device_name(device), tuple(probes))
    return Fit(0, limit, torch.cuda.get_device_name(device), tuple(probes))


def _peak_bytes(
    trainer: MultiTaskTrainer, model: nn.Module, shapes: dict[str, NDArray[np.int64]], size: int
) -> int | None:
    """Peak bytes over the largest micro-batches of every task, optimizer included; None where memory runs out."""
    device = trainer.args.device
    model.zero_grad(set_to_none=True)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    try:
        for task, dataset in (trainer.train_dataset or {}).items():
            for rows in _fillings(shapes[task], size):
                _run(trainer, model, task, dataset, rows)
    except torch.cuda.OutOfMemoryError:
        return None
    return int(torch.cuda.max_memory_allocated(device)) + _held_bytes(trainer, model)


def _fit_host(
    trainer: MultiTaskTrainer, model: nn.Module, shapes: dict[str, NDArray[np.int64]], tried: list[int]
) -> Fit:
    available = psutil.virtual_memory().available
    used = psutil.Process().memory_info().rss
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # processes that share this machine's memory
    limit = int(SHARE * (available / here + used)) - used
    task = max(shapes, key=lambda name: int(shapes[name].prod(axis=1).max()))
    largest = int(shapes[task].prod(axis=1).max())
    rows = token_batches(shapes[task][:, 1], max(_CPU_PROBE, largest), shapes[task][:, 0])[0]
    kept = _Kept(model)
    with torch.autograd.graph.saved_tensors_hooks(kept.pack, _unpack):
        _run(trainer, model, task, (trainer.train_dataset or {})[task], rows)
    computed = int(shapes[task][rows, 0].sum() * shapes[task][rows, 1].max())
    fixed = _held_bytes(trainer, model) + _gradient_bytes(model)
    probes = []
    for size in tried:
        needed = int(fixed + _CPU_FACTOR * kept.bytes * size / computed)
        probes.append(Probe(size, needed))
        if needed <= limit:
            return Fit(size, limit, trainer.args.device.type, tuple(probes))
    return Fit(0, limit, trainer.args.device.type, tuple(probes))


class _Kept:
    """Counts the bytes of tensors kept for a backward pass, each storage once, parameters not."""

    def __init__(self, model: nn.Module):
        self.bytes = 0
        self._seen = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}

    def pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._seen:
            self._seen.add(storage.data_ptr())
            self.bytes += storage.nbytes()
        return tensor


def _unpack(tensor: Tensor) -> Tensor:
    return tensor


def _fillings(shape: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    """The longest rows that fill a micro-batch, and the shortest (repeated where a task has too few)."""
    order = np.argsort(shape[:, 1], kind="stable")
    repeated = np.resize(order, max(len(order), -(-size // int(shape.prod(axis=1).min()))))
    longest = token_batches(shape[:, 1], size, shape[:, 0])[0]
    padded = np.cumsum(shape[repeated, 0]) * np.maximum.accumulate(shape[repeated, 1])
    shortest = repeated[: max(1, int(np.searchsorted(padded, size, side="right")))]
    return [longest, shortest]


def _run(trainer: MultiTaskTrainer, model: nn.Module, task: str, dataset: Rows, rows: NDArray[np.int64]) -> None:
    """One micro-batch, forward and backward, as in training."""
    examples: Any = trainer.keep_columns(dataset)
    inputs = trainer._prepare_inputs(dict(trainer.data_collator(fetch(examples, rows.tolist()))))
    with trainer.compute_loss_context_manager():
        loss = trainer.compute_loss(model, trainer.with_task(inputs, task))
    loss.backward()


def _trained(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _held_bytes(trainer: MultiTaskTrainer, model: nn.Module) -> int:
    """The optimizer's state, and the tasks' own gradients that surgery keeps until the end of a step."""
    held = _OPTIMIZER_COPIES * sum(parameter.nbytes for parameter in _trained(model))
    if trainer.args.gradient_surgery != "none" and isinstance(model, MultiTaskModel):
        for group in model.shared_groups():
            held += len(group.users) * sum(parameter.nbytes for _, parameter in group.parameters)
    return held


def _gradient_bytes(model: nn.Module) -> int:
    return sum(parameter.nbytes for parameter in _trained(model))
