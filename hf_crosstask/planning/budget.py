"""Budgets, and the choice of examples whose tokens sum to one exactly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hf_crosstask.errors import PlanError

# Examples among which an exact sum is sought: enough for natural lengths to reach every total, small enough that the
# dynamic programme takes milliseconds.
_DROPPED, _ADDED = 64, 192


@dataclass(frozen=True)
class Budget:
    """How long to train; exactly one of the three.

    Args:
        epochs: passes over the mixture (its forward tokens, times this).
        steps: optimizer updates of `tokens_per_step` tokens.
        tokens: forward tokens, hit exactly where example lengths allow.
    """

    epochs: float | None = None
    steps: int | None = None
    tokens: int | None = None

    def __post_init__(self) -> None:
        given = {name: value for name, value in vars(self).items() if value is not None}
        if len(given) != 1:
            raise PlanError(
                f"a budget is one of epochs, steps or tokens; found {' and '.join(given) if given else 'none'}"
            )
        (name, value) = next(iter(given.items()))
        if not np.isfinite(value) or value <= 0:
            raise PlanError(f"budget.{name} must be a positive number, found {value}")
        if name != "epochs" and value != int(value):
            raise PlanError(f"budget.{name} must be a whole number, found {value}")
        # One type each, so that 3 and 3.0 epochs are the same budget in a plan's fingerprint.
        object.__setattr__(self, name, float(value) if name == "epochs" else int(value))

    def total_tokens(self, tokens_per_pass: int, tokens_per_step: int) -> int:
        """Forward tokens of the whole run."""
        if self.tokens is not None:
            return self.tokens
        if self.steps is not None:
            return self.steps * tokens_per_step
        return round((self.epochs or 0.0) * tokens_per_pass)


def choose_exactly(lengths: NDArray[np.int64], target: int) -> NDArray[np.int64]:
    """Positions of examples, none twice, whose lengths sum to `target` or to the largest reachable sum below it.

    The choice keeps to the order of `lengths`: a prefix, but for the last few examples, which are exchanged for ones
    that complete the sum (subset sum by dynamic programming over a window of 256 examples; the sum is the largest
    reachable one within that window).

    Args:
        lengths: [n] tokens of each example, in the order in which they would be seen.
        target: tokens to reach, at most `lengths.sum()`.

    Returns:
        Positions into `lengths`, ascending.
    """
    cumulative = np.cumsum(lengths)
    prefix = int(np.searchsorted(cumulative, target, side="right"))
    if prefix and cumulative[prefix - 1] == target:
        return np.arange(prefix)
    kept = max(0, prefix - _DROPPED)
    pool = lengths[kept : prefix + _ADDED]
    missing = target - int(cumulative[kept - 1] if kept else 0)
    chosen = _subset_with_largest_sum(pool.tolist(), missing)
    if not kept and not chosen and len(lengths) and lengths.min() <= target:
        return np.asarray([lengths.argmin()], dtype=np.int64)  # it lies beyond the window
    return np.concatenate([np.arange(kept), kept + np.asarray(chosen, dtype=np.int64)]).astype(np.int64)


def _subset_with_largest_sum(items: list[int], limit: int) -> list[int]:
    """Indices of a subset with the largest sum that does not exceed `limit`; sets of sums are bits of an integer."""
    mask = (1 << (limit + 1)) - 1
    reachable = [1]
    for item in items:
        reachable.append((reachable[-1] | (reachable[-1] << item)) & mask)
        if reachable[-1] >> limit & 1:
            break
    remaining = reachable[-1].bit_length() - 1
    chosen = []
    for index in range(len(reachable) - 2, -1, -1):
        if not reachable[index] >> remaining & 1:
            chosen.append(index)
            remaining -= items[index]
    return chosen[::-1]
