"""One number for many tasks: wins, normalised means, relative gains; and what a point cost in tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict


class WinTieLoss(BaseModel):
    """On how many tasks an arm is better, not told apart, and worse."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    wins: int
    ties: int
    losses: int


def win_tie_loss(intervals: Sequence[tuple[float, float]]) -> WinTieLoss:
    """A win has its whole interval above 0, a loss below; give `(difference, difference)` to count bare differences."""
    wins, losses = sum(low > 0 for low, _ in intervals), sum(high < 0 for _, high in intervals)
    return WinTieLoss(wins=wins, ties=len(intervals) - wins - losses, losses=losses)


def normalised_aggregate(
    values: Mapping[str, float], floors: Mapping[str, float], ceilings: Mapping[str, float] | None = None
) -> float:
    """The mean over tasks of (value - floor) / (ceiling - floor): 0 is the trivial predictor, 1 the ceiling (default 1.0).

    Raises:
        ValueError: no tasks, a task without a floor, or a floor that reaches its ceiling.
    """
    shares = []
    for task, value in values.items():
        if task not in floors:
            raise ValueError(f"task {task!r} has no floor, so its value cannot be normalised")
        ceiling = 1.0 if ceilings is None else ceilings[task]
        if floors[task] >= ceiling:
            raise ValueError(f"task {task!r}: the floor {floors[task]} is not below the ceiling {ceiling}")
        shares.append((value - floors[task]) / (ceiling - floors[task]))
    if not shares:
        raise ValueError("no tasks to aggregate")
    return float(np.mean(shares))


def relative_gain(values: Mapping[str, float], reference: Mapping[str, float]) -> float:
    """Δ_m of multi-task learning (Vandenhende et al. 2021): the mean over tasks of (value - reference) / reference.

    Raises:
        ValueError: no tasks, or a reference that is not positive.
    """
    if not values or any(reference[task] <= 0 for task in values):
        raise ValueError("relative gains need at least one task, and references above 0")
    return float(np.mean([(value - reference[task]) / reference[task] for task, value in values.items()]))


def tokens_per_point(tokens: int, value: float, reference: float) -> float | None:
    """Tokens spent for each point (0.01) of the metric above a reference; None where nothing was gained."""
    points = 100 * (value - reference)
    return tokens / points if points > 0 else None
