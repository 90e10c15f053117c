"""Summing gradients over processes, once per step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import Parameter


@torch.no_grad()
def sum_gradients(parameters: Iterable[Parameter]) -> None:
    """Replace each parameter's gradient by its sum over all processes.

    A parameter that has a gradient on some processes gets the sum on all; one that has none anywhere keeps none. The
    parameters are the same, in the same order, on every process.
    """
    chosen = list(parameters)
    present = torch.tensor([float(p.grad is not None) for p in chosen], device=chosen[0].device)
    torch.distributed.all_reduce(present, torch.distributed.ReduceOp.MAX)
    groups: dict[torch.dtype, list[Parameter]] = defaultdict(list)
    for parameter, anywhere in zip(chosen, present.tolist(), strict=True):
        if anywhere:
            groups[parameter.dtype].append(parameter)
    for members in groups.values():
        flat = torch.cat([_gradient(parameter).flatten() for parameter in members])
        torch.distributed.all_reduce(flat)
        start = 0
        for parameter in members:
            parameter.grad = flat[start : start + parameter.numel()].view_as(parameter)
            start += parameter.numel()


def _gradient(parameter: Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
