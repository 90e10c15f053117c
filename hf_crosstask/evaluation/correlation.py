"""Correlations of weighted examples: the weights say how often a bootstrap replicate drew each.

With all weights 1 they are the values of `official.similarity`. A correlation with a constant is undefined and counts
as 0, there as here.
"""

from __future__ import annotations

import numpy as np

from hf_crosstask.evaluation.counts import FloatArray
from hf_crosstask.evaluation.official import similarity

METRICS = ("pearson", "spearman")


def weighted_pearson(x: FloatArray, y: FloatArray, weights: FloatArray) -> FloatArray:
    """Pearson's r of `x` and `y`, `[examples]` or `[..., examples]`, under weights `[..., examples]`: `[...]`."""
    total = weights.sum(axis=-1)
    columns = [np.ones_like(x), x, y, x * x, y * y, x * y]
    sums = [total, *((weights * column).sum(axis=-1) for column in columns[1:])]
    return similarity.from_counts(np.stack(sums, axis=-1))["pearson"]


def weighted_ranks(values: FloatArray, weights: FloatArray) -> FloatArray:
    """Ranks `[..., examples]` of values `[examples]` of which there are `weights` copies, tied ranks averaged.

    The rank of a value is the number of smaller copies, and the mean of 1, 2, … over its own.
    """
    distinct, place = np.unique(values, return_inverse=True)
    order = np.argsort(place, kind="stable")
    starts = np.searchsorted(place[order], np.arange(len(distinct)))
    copies = np.add.reduceat(weights[..., order], starts, axis=-1)
    below = np.cumsum(copies, axis=-1) - copies
    return (below + (copies + 1) / 2)[..., place]


def weighted_spearman(x: FloatArray, y: FloatArray, weights: FloatArray) -> FloatArray:
    """Spearman's rho of `x` and `y` `[examples]` under weights `[..., examples]`: Pearson's r of their ranks."""
    centre = (weights.sum(axis=-1, keepdims=True) + 1) / 2
    return weighted_pearson(weighted_ranks(x, weights) - centre, weighted_ranks(y, weights) - centre, weights)
