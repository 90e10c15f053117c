"""Paired permutation: what if the two arms' predictions on a document had been each other's?

The null hypothesis is about the trained models at hand (on each cluster, the arms' predictions are exchangeable); it
says nothing about other seeds. A swap exchanges a whole cluster, for all seeds at once, and the corpus metric is computed
from the swapped sums. `sign_flip` is the same over seeds, and refuses where it cannot reach significance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

from hf_crosstask.errors import InputError
from hf_crosstask.evaluation.counts import FloatArray
from hf_crosstask.study.multibootstrap import check_same_test, cluster_statistics, exact
from hf_crosstask.study.scored import ScoredRun, by_seed, common_seeds

_CHUNK = 1 << 20
#: Differences that rounding alone tells apart are equal; p must not depend on the order of a sum.
_TOLERANCE = 1e-12
#: All sign patterns are tried up to this many seeds or clusters.
_ENUMERABLE = 20
#: Below, a sign flip over seeds cannot give p < .05, whatever the data.
MINIMUM_SEEDS = 6


class Permutation(BaseModel):
    """A permutation test: the observed difference, its two-sided p, how many patterns were tried, and if all were."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    difference: float
    p: float
    swaps: int
    exact: bool
    unit: str


class TooFewSeedsError(InputError):
    """A test over seeds could not give a significant result with so few of them."""


def paired_permutation(
    first: Sequence[ScoredRun], second: Sequence[ScoredRun], *, swaps: int = 10_000, seed: int = 0
) -> Permutation:
    """Swap predictions of clusters between two arms, paired by seed; the statistic is the mean difference over seeds.

    All patterns are tried where they are no more than `swaps`; else random ones, and the observed pattern counts as one
    of them (so that p is never 0 and the test is exact; Phipson and Smyth 2010).

    Raises:
        InputError: the arms share no seed, or the runs differ in task, metric or test examples.
    """
    seeds = common_seeds([first, second])
    if not seeds:
        raise InputError("the two arms have no seed in common, so they cannot be paired")
    a, b = ([by_seed(arm)[each] for each in seeds] for arm in (first, second))
    check_same_test([*a, *b])
    sums_a, sums_b = cluster_statistics(a), cluster_statistics(b)
    clusters, shape = len(sums_a), sums_a.shape[1:]
    moved = exact((sums_b - sums_a).reshape(clusters, -1))
    constant = np.stack([run.constant for run in a])
    total_a, total_b = sums_a.sum(axis=0) + constant, sums_b.sum(axis=0) + constant
    metric = a[0].metric

    def differences(pattern: np.ndarray) -> FloatArray:
        shift = (pattern.astype(moved.dtype) @ moved).astype(np.float64).reshape(-1, *shape)
        return (metric(total_a + shift) - metric(total_b - shift)).mean(axis=-1)

    observed = float(differences(np.zeros((1, clusters)))[0])
    everything = clusters <= _ENUMERABLE and 2**clusters <= swaps
    tried = 2**clusters if everything else swaps
    generator = np.random.default_rng([seed, 2, *a[0].task.encode()])
    size = max(1, _CHUNK // clusters)
    extreme = 0
    for start in range(0, tried, size):
        stop = min(start + size, tried)
        pattern = _patterns(start, stop, clusters) if everything else _random(generator, stop - start, clusters)
        extreme += int((np.abs(differences(pattern)) >= abs(observed) - _TOLERANCE).sum())
    p = extreme / tried if everything else (extreme + 1) / (tried + 1)
    unit = "examples" if clusters == len(a[0].ids) else "documents"
    return Permutation(difference=observed, p=p, swaps=tried, exact=everything, unit=unit)


def _patterns(start: int, stop: int, bits: int) -> np.ndarray:
    return (np.arange(start, stop)[:, None] >> np.arange(bits)) & 1


def _random(generator: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    width = math.ceil(columns / 8)
    packed = np.frombuffer(generator.bytes(rows * width), dtype=np.uint8).reshape(rows, width)
    return np.unpackbits(packed, axis=1, count=columns)


def minimum_sign_flip_p(seeds: int) -> float:
    """The smallest two-sided p that a sign flip over so many seeds can give."""
    return min(1.0, 2.0 / 2**seeds)


def sign_flip(differences: Sequence[float] | FloatArray, *, swaps: int = 100_000, seed: int = 0) -> Permutation:
    """Sign-flip permutation of paired differences over seeds (test set fixed), exact up to 16 seeds.

    Raises:
        TooFewSeedsError: fewer than 6 seeds: p cannot fall below .05.
    """
    values = np.asarray(differences, dtype=np.float64)
    count = len(values)
    if count < MINIMUM_SEEDS:
        raise TooFewSeedsError(
            f"a sign flip over {count} seeds cannot give a p below {minimum_sign_flip_p(count):.3g}; "
            f"run at least {MINIMUM_SEEDS} seeds, or test over documents"
        )
    everything = count <= _ENUMERABLE and 2**count <= swaps
    tried = 2**count if everything else swaps
    generator = np.random.default_rng([seed, 3])
    pattern = _patterns(0, tried, count) if everything else _random(generator, tried, count)
    means = (1.0 - 2.0 * pattern) @ values / count
    observed = float(values.mean())
    scale = _TOLERANCE * max(1.0, float(np.abs(values).max()))
    extreme = int((np.abs(means) >= abs(observed) - scale).sum())
    p = extreme / tried if everything else (extreme + 1) / (tried + 1)
    return Permutation(difference=observed, p=p, swaps=tried, exact=everything, unit="seeds")
