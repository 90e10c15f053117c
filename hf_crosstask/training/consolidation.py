"""Elastic weight consolidation (Kirkpatrick et al. 2017): earlier tasks' weights are held where they mattered.

The penalty is strength / 2 · Σ over earlier stages k of Fₖ (θ - θₖ)², with Fₖ the diagonal Fisher information at the end of
stage k. All stages together need two tensors a parameter, Σ Fₖ and Σ Fₖ θₖ: their penalty has the same gradient.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import Parameter

from hf_crosstask.errors import CheckpointError

#: Rows of a stage from which its Fisher information is estimated.
FISHER_ROWS = 512


class Consolidation:
    """What holds the shared parameters to earlier stages.

    Args:
        parameters: the shared parameters, by name.
        strength: weight of the penalty, in the unit of a task's mean loss.
    """

    def __init__(self, parameters: Mapping[str, Parameter], strength: float):
        self._parameters, self.strength = dict(parameters), strength
        self._precision = {name: torch.zeros_like(p, dtype=torch.float32) for name, p in self._parameters.items()}
        self._pull = {name: torch.zeros_like(value) for name, value in self._precision.items()}
        self._constant = 0.0

    @property
    def parameters(self) -> list[Parameter]:
        """The parameters that are held, in a fixed order."""
        return list(self._parameters.values())

    @torch.no_grad()
    def consolidate(self, fisher: Sequence[Tensor]) -> None:
        """Hold the parameters where they are now, as strongly as `fisher` says."""
        constant = torch.zeros((), dtype=torch.float64)
        for (name, parameter), values in zip(self._parameters.items(), fisher, strict=True):
            here = parameter.float()
            self._precision[name] += values
            self._pull[name] += values * here
            constant += (values * here * here).sum().double().cpu()
        self._constant += float(constant)

    @torch.no_grad()
    def add_gradients(self, scale: float = 1.0) -> None:
        """Add the penalty's gradient, times the loss scale, to the parameters that have one."""
        for name, parameter in self._parameters.items():
            if parameter.grad is not None:
                pull = self._precision[name] * parameter - self._pull[name]
                parameter.grad += (self.strength * scale * pull).to(parameter.grad.dtype)

    @torch.no_grad()
    def penalty(self) -> float:
        """The penalty where the parameters are now."""
        total = self._constant
        for name, parameter in self._parameters.items():
            here = parameter.double()
            total += float((self._precision[name] * here * here - 2 * self._pull[name] * here).sum())
        return self.strength / 2 * max(0.0, total)

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint holds, on the CPU."""
        state = {f"precision.{name}": value.cpu() for name, value in self._precision.items()}
        state |= {f"pull.{name}": value.cpu() for name, value in self._pull.items()}
        return state | {"constant": torch.tensor(self._constant, dtype=torch.float64)}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a checkpoint.

        Raises:
            CheckpointError: it holds other parameters.
        """
        if state.keys() != self.state().keys():
            raise CheckpointError("the checkpoint consolidates other parameters than the model shares")
        for name in self._parameters:
            self._precision[name].copy_(state[f"precision.{name}"])
            self._pull[name].copy_(state[f"pull.{name}"])
        self._constant = float(state["constant"])


def diagonal_fisher(
    losses: Iterable[Tensor], parameters: Sequence[Parameter], *, factor: float = 1.0, processes: int = 1
) -> list[Tensor]:
    """The empirical diagonal Fisher information: mean square of each row's gradient, at the true labels.

    Args:
        losses: one row's mean loss at a time, of this process's rows.
        parameters: whose information it is.
        factor: losses are multiplied with it before the backward pass, against underflow in fp16.
        processes: how many share the rows; all take part.

    Returns:
        fp32 tensors of the parameters' shapes. Rows whose gradient is not finite are left out.
    """
    fisher = [torch.zeros_like(parameter, dtype=torch.float32) for parameter in parameters]
    rows = torch.zeros((), device=parameters[0].device)
    for loss in losses:
        gradients = torch.autograd.grad(loss * factor, list(parameters), allow_unused=True)
        known = [
            (total, value.float() / factor)
            for total, value in zip(fisher, gradients, strict=True)
            if value is not None
        ]
        if known and all(bool(torch.isfinite(value).all()) for _, value in known):
            rows += 1
            for total, value in known:
                total += value * value
    if processes > 1:
        for values in [rows, *fisher]:
            torch.distributed.all_reduce(values)
    return [total / rows.clamp(min=1) for total in fisher]
