"""Perplexity of generated tasks: the exponential of the mean negative log-likelihood per supervised token."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hf_crosstask.errors import InputError
from hf_crosstask.evaluation.counts import FloatArray, ratio
from hf_crosstask.evaluation.official.base import UnitCounts, Values, scalars


def example_counts(losses: Sequence[float], tokens: Sequence[int]) -> UnitCounts:
    """Statistics `[examples, 2]`: summed negative log-likelihood in nats, supervised tokens.

    Raises:
        InputError: the numbers of examples differ, or a loss is not finite.
    """
    if len(losses) != len(tokens):
        raise InputError(f"{len(losses)} losses but {len(tokens)} token counts")
    values = np.array([losses, tokens], dtype=np.float64).T
    if not np.isfinite(values).all():
        raise InputError("a loss is not a finite number")
    return UnitCounts(tuple(str(index) for index in range(len(values))), values.reshape(-1, 2))


def from_counts(sums: FloatArray) -> Values:
    """`perplexity` of summed `[..., 2]` statistics; 1 without any token."""
    return {"perplexity": np.exp(ratio(sums[..., 0], sums[..., 1]))}


def score(losses: Sequence[float], tokens: Sequence[int]) -> dict[str, float]:
    """The corpus perplexity."""
    return scalars(from_counts(example_counts(losses, tokens).total()))
