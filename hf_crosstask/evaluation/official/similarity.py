"""Sentence similarity (BIOSSES): Pearson and Spearman correlation.

A correlation with a constant is undefined; it is reported as 0 (no association measured), so that a trivial predictor
has a score.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from hf_crosstask.errors import InputError
from hf_crosstask.evaluation.counts import FloatArray, ratio
from hf_crosstask.evaluation.official.base import UnitCounts, Values, scalars


def _arrays(gold: Sequence[float], predicted: Sequence[float]) -> tuple[FloatArray, FloatArray]:
    right, guess = np.asarray(gold, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    if right.shape != guess.shape or right.ndim != 1:
        raise InputError(f"{right.shape} gold scores but {guess.shape} predicted ones; one of each per pair")
    if not (np.isfinite(right).all() and np.isfinite(guess).all()):
        raise InputError("a similarity score is not a finite number")
    return right, guess


def pair_counts(gold: Sequence[float], predicted: Sequence[float]) -> UnitCounts:
    """Statistics `[pairs, 6]`: 1, x, y, x², y², xy of the scores, centred on their means (Pearson does not mind).

    Raises:
        InputError: the numbers of scores differ, or a score is not finite.
    """
    right, guess = _arrays(gold, predicted)
    x, y = (_centred(side) for side in (right, guess))
    values = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=-1)
    return UnitCounts(tuple(str(index) for index in range(len(x))), values)


def _centred(scores: FloatArray) -> FloatArray:
    # Against the first score before the mean, so that a constant is exactly 0.
    shifted = scores - scores[:1]
    return shifted - shifted.mean() if len(shifted) else shifted


def from_counts(sums: FloatArray) -> Values:
    """`pearson` of summed `[..., 6]` statistics."""
    n, x, y, xx, yy, xy = (sums[..., column] for column in range(6))
    # A replicate that drew one score only has a spread of rounding errors: 0.
    spreads = [
        np.where(spread > 1e-12 * n * square, spread, 0.0)
        for spread, square in ((n * xx - x * x, xx), (n * yy - y * y, yy))
    ]
    variances = spreads[0] * spreads[1]
    return {"pearson": np.clip(ratio(n * xy - x * y, np.sqrt(variances)), -1, 1)}


def spearman(gold: Sequence[float], predicted: Sequence[float]) -> float:
    """Rank correlation, tied ranks averaged. It has no additive statistics: a bootstrap recomputes it.

    Raises:
        InputError: the numbers of scores differ, or a score is not finite.
    """
    from scipy.stats import ConstantInputWarning, spearmanr

    right, guess = _arrays(gold, predicted)
    if len(right) < 2:
        return 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstantInputWarning)
        value = float(spearmanr(right, guess).statistic)
    return value if np.isfinite(value) else 0.0


def score(gold: Sequence[float], predicted: Sequence[float]) -> dict[str, float]:
    """`pearson` and `spearman`."""
    return {
        **scalars(from_counts(pair_counts(gold, predicted).total())),
        "spearman": spearman(gold, predicted),
    }
