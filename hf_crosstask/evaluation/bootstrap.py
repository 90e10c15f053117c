"""Cluster bootstrap: sufficient statistics are summed, and only what has none is recomputed.

Sentences of one document are not independent, so whole clusters (`split_group`: document, PMID or patient) are drawn
with replacement and their counts summed; a metric's `from_counts` then runs once over all replicates. A metric without
additive statistics (rank correlation) is computed from how often each example was drawn (`replicate_weights`).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

import numpy as np

from hf_crosstask.evaluation.counts import CountTable, FloatArray

#: Cluster draws made at once; small enough to stay in the processor's cache.
_CHUNK = 1 << 18


def cluster_sums(per_example: FloatArray, clusters: Sequence[Hashable]) -> FloatArray:
    """Counts summed within clusters: `[examples, *shape]` to `[distinct clusters, *shape]`, by first appearance."""
    if len(clusters) != len(per_example):
        raise ValueError(f"{len(per_example)} rows of counts but {len(clusters)} cluster names")
    number: dict[Hashable, int] = {}
    index = [number.setdefault(cluster, len(number)) for cluster in clusters]
    sums = np.zeros((len(number), *per_example.shape[1:]))
    np.add.at(sums, index, per_example)
    return sums


def replicate_totals(table: CountTable, clusters: Sequence[Hashable], *, replicates: int, seed: int) -> FloatArray:
    """Total counts of every bootstrap replicate, `[replicates, *shape]`.

    A replicate draws as many clusters as there are, with replacement. Clusters with equal counts are interchangeable
    and the distinct count vectors are sorted, so a replicate is how often each vector was drawn, times the vectors:
    one matrix product for many replicates, and the order of the examples does not matter.

    Raises:
        ValueError: fewer than two clusters, from which no variability can be estimated.
    """
    shape = table.constant.shape
    sums = cluster_sums(table.per_example, clusters).reshape(-1, int(np.prod(shape)))
    drawn = len(sums)
    if drawn < 2:
        raise ValueError(f"a cluster bootstrap needs at least two clusters, found {drawn}")
    distinct, copies = np.unique(sums, axis=0, return_counts=True)
    vector_of_cluster = np.repeat(np.arange(len(distinct)), copies)
    generator = np.random.default_rng(seed)
    totals = np.empty((replicates, sums.shape[1]))
    chunk = max(1, _CHUNK // drawn)
    for start in range(0, replicates, chunk):
        size = min(chunk, replicates - start)
        vectors = vector_of_cluster[generator.integers(0, drawn, size=(size, drawn), dtype=np.int32)]
        vectors += np.arange(size)[:, None] * len(distinct)
        weights = np.bincount(vectors.ravel(), minlength=size * len(distinct)).reshape(size, len(distinct))
        totals[start : start + size] = weights.astype(np.float64) @ distinct
    return totals.reshape(replicates, *shape) + table.constant


def replicate_weights(
    clusters: Sequence[str], *, replicates: int, seed: int, chunk: int = _CHUNK
) -> Iterator[FloatArray]:
    """How often each example was drawn in each bootstrap replicate: arrays `[some replicates, examples]`.

    Clusters are drawn as by `replicate_totals`, in the order of their names, so that the order of the examples does
    not matter; the draws themselves are others.

    Raises:
        ValueError: fewer than two clusters, from which no variability can be estimated.
    """
    names = sorted(set(clusters))
    if len(names) < 2:
        raise ValueError(f"a cluster bootstrap needs at least two clusters, found {len(names)}")
    number = {name: index for index, name in enumerate(names)}
    cluster_of_example = np.array([number[name] for name in clusters])
    generator = np.random.default_rng(seed)
    size = max(1, chunk // len(clusters))
    for start in range(0, replicates, size):
        drawn = generator.integers(0, len(names), size=(min(size, replicates - start), len(names)), dtype=np.int64)
        drawn += np.arange(len(drawn))[:, None] * len(names)
        weights = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)
        yield weights[:, cluster_of_example].astype(np.float64)


def percentile_interval(values: FloatArray, level: float = 0.95) -> tuple[float, float]:
    """The central `level` share of bootstrap values (percentile method)."""
    if not 0 < level < 1:
        raise ValueError(f"the level of an interval lies between 0 and 1, not {level}")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
