"""Per-task gradients of the shared parameters of one step, and what surgery makes of them.

Used by `MultiTaskTrainer` in this order, once a step: a task's micro-batches run one after another and accumulate in
`.grad` as ever; `take` then moves what the task left on the shared parameters into its row of a buffer [T, P]; when all
tasks are through, `combine` sums the buffer over processes, and writes one combined gradient a parameter.

- Heads and private parameters are never touched: their gradient is their task's own.
- Tasks share one loss scale, to which every method is equivariant. A gradient that is not finite is passed on as the plain
  sum, for the scaler to find.
- A parameter that no task of the step used keeps no gradient.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import Parameter

from hf_crosstask.errors import CheckpointError, InputError, unknown_name
from hf_crosstask.models.multitask import MultiTaskModel
from hf_crosstask.training.surgery import (
    GRANULARITIES,
    METHODS,
    STATELESS,
    Floats,
    Orders,
    gradvac,
    task_orders,
)

#: Columns of the buffer that are widened to fp64 at a time.
_CHUNK = 1 << 20
_LAYER = re.compile(r"\.(\d+)(?=\.)")
_PART = re.compile(r"(\.lora_\w+.*|\.modules_to_save\..*|\.[^.]+)$")


@dataclass(frozen=True)
class Block:
    """Parameters over which gradients are compared: numbers `first` to `last`, columns `start` to `stop` of the buffer."""

    first: int
    last: int
    start: int
    stop: int


class SharedGradients:
    """The shared parameters of a model, and the surgery on their gradients.

    Args:
        model: its shared parameters are `MultiTaskModel.shared_groups()`; all that trains, of any other model.
        tasks: the training tasks.
        method: of `surgery.METHODS`, but not `none`.
        granularity: one Gramian over all parameters of a group, one a layer, or one a module.
        seed: of the order in which conflicts are removed.
        processes: number of processes that hold a part of each step.

    Raises:
        InputError: unknown method or granularity, or no parameter is shared.
    """

    def __init__(
        self,
        model: nn.Module,
        tasks: Sequence[str],
        *,
        method: str,
        granularity: str = "global",
        seed: int = 0,
        processes: int = 1,
    ):
        if method not in METHODS[1:]:
            raise InputError(f"gradient_surgery: {unknown_name('method', method, METHODS)}")
        if granularity not in GRANULARITIES:
            raise InputError(f"surgery_granularity: {unknown_name('granularity', granularity, GRANULARITIES)}")
        self.tasks, self.method, self.seed, self.processes = tuple(tasks), method, seed, processes
        self.parameters, self.blocks = _blocks(model, self.tasks, granularity)
        if not self.parameters:
            raise InputError(
                "gradient_surgery: no parameter is trained by two or more tasks, so no gradients can conflict; set it to "
                '"none"'
            )
        self._ids = {id(parameter) for parameter in self.parameters}
        #: GradVac's target similarities, [blocks, T, T].
        self.targets = np.zeros((len(self.blocks), len(self.tasks), len(self.tasks)))
        self._present: tuple[str, ...] = ()
        self._buffer = torch.empty(0)
        self._used = torch.empty(0)

    def __contains__(self, parameter: Parameter) -> bool:
        return id(parameter) in self._ids

    def begin(self, present: Sequence[str]) -> None:
        """Start a step in which the given tasks are present, on this process or another."""
        self._present = tuple(task for task in self.tasks if task in present)
        first = self.parameters[0]
        double = any(parameter.dtype == torch.float64 for parameter in self.parameters)
        self._buffer = torch.zeros(
            (len(self._present), self.blocks[-1].stop),
            dtype=torch.float64 if double else torch.float32,
            device=first.device,
        )
        self._used = torch.zeros((len(self._present), len(self.parameters)), device=first.device)

    def resume_targets(self, targets: list[list[list[float]]]) -> None:
        """Go on with the target similarities of a checkpoint.

        Raises:
            CheckpointError: they are of other blocks or tasks.
        """
        found = np.asarray(targets, dtype=np.float64)
        if found.shape != self.targets.shape:
            raise CheckpointError("the checkpoint's surgery_targets are of another gradient surgery")
        self.targets = found

    @torch.no_grad()
    def take(self, task: str) -> None:
        """Move what a task's micro-batches left on the shared parameters into the buffer."""
        number = self._present.index(task)
        row, start = self._buffer[number], 0
        used = []
        for parameter in self.parameters:
            used.append(parameter.grad is not None)
            if parameter.grad is not None:
                row[start : start + parameter.numel()] += parameter.grad.flatten()
                parameter.grad = None
            start += parameter.numel()
        self._used[number] += torch.tensor(used, dtype=self._used.dtype).to(self._used.device)

    @torch.no_grad()
    def combine(self, step: int) -> Floats:
        """Write the combined gradients; all processes take part.

        Returns:
            [T, T] Gramian of all tasks' gradients over the parameters that both train; zeros for absent tasks, and not
            finite where a gradient is not.
        """
        if self.processes > 1:
            torch.distributed.all_reduce(self._buffer)
            torch.distributed.all_reduce(self._used)
        used_by: NDArray[np.bool_] = np.greater(self._used.cpu().numpy(), 0)
        combined = torch.empty_like(self._buffer[0])
        total = np.zeros((len(self.tasks), len(self.tasks)))
        for number, block in enumerate(self.blocks):
            # Who used it is seen, not taken from the model's word.
            rows = np.flatnonzero(used_by[:, block.first : block.last].any(axis=1)).tolist()
            columns = slice(block.start, block.stop)
            # Choosing rows copies them; most blocks have all.
            jacobian = self._buffer[:, columns] if len(rows) == len(self._present) else self._buffer[rows, columns]
            gramian = _gramian(jacobian)
            members = [self.tasks.index(self._present[row]) for row in rows]
            total[np.ix_(members, members)] += gramian
            weights = self._weights(gramian, members, number, step)
            combined[columns] = torch.as_tensor(weights).to(jacobian) @ jacobian
        start = 0
        for number, parameter in enumerate(self.parameters):
            if used_by[:, number].any():
                gradient = combined[start : start + parameter.numel()].view_as(parameter)
                parameter.grad = gradient.to(parameter.dtype)
            start += parameter.numel()
        self._buffer = torch.empty(0)
        return total

    def _weights(self, gramian: Floats, members: list[int], block: int, step: int) -> Floats:
        """[members] weights of one block's gradients; plain ones where nothing can conflict."""
        if len(members) < 2 or not np.isfinite(gramian).all():
            return np.ones(len(members))
        orders: Orders = task_orders(len(members), self.seed, step)
        if self.method != "gradvac":
            return STATELESS[self.method](gramian, orders)
        chosen = np.ix_(members, members)
        weights, self.targets[block][chosen] = gradvac(gramian, orders, self.targets[block][chosen])
        return weights


def _blocks(model: nn.Module, tasks: Sequence[str], granularity: str) -> tuple[list[Parameter], list[Block]]:
    """The shared parameters in buffer order, and their blocks."""
    keyed: list[tuple[tuple[int, str], Parameter]] = []
    for group, named in enumerate(_groups(model, tasks)):
        keyed += [((group, _key(name, granularity)), parameter) for name, parameter in named]
    positions = {key: position for position, key in enumerate(dict.fromkeys(key for key, _ in keyed))}
    keyed.sort(key=lambda item: positions[item[0]])
    blocks: list[Block] = []
    first = start = 0
    for _, members in groupby(keyed, key=lambda item: item[0]):
        sizes = [parameter.numel() for _, parameter in members]
        blocks.append(Block(first, first + len(sizes), start, start + sum(sizes)))
        first, start = blocks[-1].last, blocks[-1].stop
    return [parameter for _, parameter in keyed], blocks


def _groups(model: nn.Module, tasks: Sequence[str]) -> Iterable[list[tuple[str, Parameter]]]:
    """Parameters that two or more of the tasks train, by who trains them."""
    if isinstance(model, MultiTaskModel):
        for group in model.shared_groups():
            if len(set(group.users) & set(tasks)) > 1:
                yield group.parameters
    elif len(tasks) > 1:
        yield [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]


def _key(name: str, granularity: str) -> str:
    if granularity == "layer":
        found = _LAYER.search(name)
        return found[1] if found else ""
    return _PART.sub("", name) if granularity == "module" else ""


def _gramian(jacobian: Tensor) -> Floats:
    """J Jᵀ in fp64, of J [T, P]."""
    rows, columns = jacobian.shape
    total = np.zeros((rows, rows))
    exact = torch.float64 if jacobian.device.type != "mps" else torch.float32  # Apple GPUs have no float64
    for start in range(0, columns, _CHUNK):
        part = jacobian[:, start : start + _CHUNK].to(exact)
        total += (part @ part.T).double().cpu().numpy() if exact == torch.float64 else (part @ part.T).cpu().numpy()
    return total
