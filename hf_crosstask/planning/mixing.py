"""Mixing: what share of the training tokens each task gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hf_crosstask.errors import PlanError, unknown_name

Sampling = Literal["proportional", "temperature", "uniform", "explicit"]
Unit = Literal["examples", "tokens"]


@dataclass(frozen=True)
class Mixing:
    """How tasks are mixed.

    Args:
        sampling: `proportional` (every example equally often), `temperature` (P ∝ n^(1/τ), as in multilingual BERT
            and T5), `uniform` (every task equally often), `explicit` (the given weights).
        temperature: τ ≥ 1 flattens, τ = 1 is proportional, τ → ∞ uniform. Only with `temperature`.
        weights: relative weight of every task. Only with `explicit`.
        unit: what n and the weights count: draws of `examples` (the usual meaning of sampling probabilities) or
            forward `tokens`. With examples of unequal length the two differ: uniform over examples gives a task with
            long inputs more tokens.
    """

    sampling: Sampling = "proportional"
    temperature: float = 1.0
    weights: Mapping[str, float] | None = None
    unit: Unit = "examples"

    def __post_init__(self) -> None:
        if self.sampling not in ("proportional", "temperature", "uniform", "explicit"):
            raise PlanError(
                unknown_name("sampling", self.sampling, ["proportional", "temperature", "uniform", "explicit"])
            )
        if self.unit not in ("examples", "tokens"):
            raise PlanError(unknown_name("mixing unit", self.unit, ["examples", "tokens"]))
        if not (np.isfinite(self.temperature) and self.temperature > 0):
            raise PlanError(f"mixing temperature must be a positive number, found {self.temperature}")
        if (self.weights is not None) != (self.sampling == "explicit"):
            raise PlanError("mixing weights are given with sampling 'explicit', and only with it")


def token_shares(mixing: Mixing, examples: Mapping[str, int], tokens: Mapping[str, int]) -> dict[str, float]:
    """Each task's share of the forward tokens; sums to 1.

    Args:
        mixing: the mixing rule.
        examples: number of training examples per task.
        tokens: forward tokens of one pass over each task.

    Raises:
        PlanError: explicit weights do not name exactly the tasks, or are not positive.
    """
    sizes = examples if mixing.unit == "examples" else tokens
    if mixing.sampling == "explicit":
        weights = _checked_weights(mixing.weights or {}, examples)
    elif mixing.sampling == "uniform":
        weights = dict.fromkeys(examples, 1.0)
    else:
        exponent = 1.0 / mixing.temperature if mixing.sampling == "temperature" else 1.0
        largest = max(sizes.values())  # relative sizes: a small temperature would overflow absolute ones
        weights = {task: (size / largest) ** exponent for task, size in sizes.items()}
    if mixing.unit == "examples":
        weights = {task: weight * tokens[task] / examples[task] for task, weight in weights.items()}
    total = sum(weights.values())
    return {task: weight / total for task, weight in weights.items()}


def _checked_weights(weights: Mapping[str, float], tasks: Mapping[str, int]) -> dict[str, float]:
    missing = [task for task in tasks if task not in weights]
    if missing:
        raise PlanError(f"mixing weights name no weight for {', '.join(missing)}")
    for task, weight in weights.items():
        if task not in tasks:
            raise PlanError(f"mixing weights: {unknown_name('task', task, tasks)}")
        if not (np.isfinite(weight) and weight > 0):
            raise PlanError(f"mixing weight of {task} must be a positive number, found {weight}")
    return {task: float(weights[task]) for task in tasks}


def apportion(total: int, shares: Mapping[str, float]) -> dict[str, int]:
    """Split `total` into whole numbers in the given shares (largest remainder; the sum is exact)."""
    exact = {task: total * share for task, share in shares.items()}
    quotas = {task: int(value) for task, value in exact.items()}
    by_remainder = sorted(exact, key=lambda task: (quotas[task] - exact[task], task))
    for task in by_remainder[: total - sum(quotas.values())]:
        quotas[task] += 1
    return quotas
