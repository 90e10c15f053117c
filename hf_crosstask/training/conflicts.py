"""How much the tasks' gradients conflict over a run: cosines of every pair of tasks, step by step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_crosstask.training.checkpoint import PairSums


class ConflictLog:
    """Cosines between tasks' gradients of their shared parameters, before surgery.

    Args:
        tasks: task names.
        sums: of a checkpoint, to go on from.
    """

    def __init__(self, tasks: Sequence[str], sums: Iterable[PairSums] = ()):
        self.tasks = tuple(tasks)
        self._run: dict[tuple[str, str], tuple[int, float, float, int]] = {
            (one, other): (steps, total, least, negative) for one, other, steps, total, least, negative in sums
        }
        self._window: dict[tuple[str, str], tuple[int, float]] = {}

    def record(self, cosines: NDArray[np.float64]) -> None:
        """Add one step's cosines [T, T]; pairs without one (a task is absent) are NaN."""
        for first, one in enumerate(self.tasks):
            for second in range(first + 1, len(self.tasks)):
                cosine = float(cosines[first, second])
                if math.isfinite(cosine):
                    pair = (one, self.tasks[second])
                    steps, total, least, negative = self._run.get(pair, (0, 0.0, 1.0, 0))
                    self._run[pair] = (steps + 1, total + cosine, min(least, cosine), negative + (cosine < 0))
                    steps, total = self._window.get(pair, (0, 0.0))
                    self._window[pair] = (steps + 1, total + cosine)

    def window(self) -> dict[str, float]:
        """`cosine_<task>_<task>`: mean cosines since the last call."""
        means = {f"cosine_{one}_{other}": total / steps for (one, other), (steps, total) in self._window.items()}
        self._window.clear()
        return means

    def sums(self) -> list[PairSums]:
        """What a checkpoint holds."""
        return [(*pair, *values) for pair, values in self._run.items()]

    def summary(self) -> list[dict[str, Any]]:
        """One row a pair of tasks that met: `tasks`, `steps`, mean and smallest cosine, share of negative ones."""
        return [
            {"tasks": list(pair), "steps": steps, "mean": total / steps, "min": least, "negative": negative / steps}
            for pair, (steps, total, least, negative) in self._run.items()
        ]
