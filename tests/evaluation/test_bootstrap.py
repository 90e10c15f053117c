"""The cluster bootstrap: its distribution, its invariances, its coverage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hf_crosstask.evaluation import bootstrap
from hf_crosstask.evaluation.bootstrap import cluster_sums, percentile_interval, replicate_totals
from hf_crosstask.evaluation.counts import CountTable

COUNTS = arrays(np.int64, st.tuples(st.integers(2, 30), st.just(2), st.just(4)), elements=st.integers(0, 5)).map(
    lambda a: a.astype(float)
)


def table(per_example: np.ndarray) -> CountTable:
    return CountTable(per_example, np.zeros(per_example.shape[1:]))


def test_cluster_sums() -> None:
    counts = np.array([[1.0, 0], [2, 0], [4, 1]])
    np.testing.assert_array_equal(cluster_sums(counts, ["x", "y", "x"]), [[5, 1], [2, 0]])
    with pytest.raises(ValueError, match="3 rows of counts but 2"):
        cluster_sums(counts, ["x", "y"])


def test_replicates_have_the_mean_and_variance_of_resampled_clusters() -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 6, size=(200, 3)).astype(float)
    clusters = rng.integers(0, 50, size=200).tolist()
    sums = cluster_sums(counts, clusters)
    totals = replicate_totals(table(counts), clusters, replicates=40_000, seed=1)
    np.testing.assert_allclose(totals.mean(axis=0), counts.sum(axis=0), rtol=5e-3)
    expected = len(sums) * np.cov(sums.T, bias=True)  # of a sum of as many independent draws
    np.testing.assert_allclose(np.cov(totals.T), expected, atol=0.03 * expected.max())


@given(COUNTS, st.randoms())
@settings(deadline=None, max_examples=30)
def test_order_of_examples_does_not_matter(counts: np.ndarray, random: object) -> None:
    clusters = [f"d{index // 2}" for index in range(len(counts))]
    clusters[0] = "own"  # two clusters at least
    order = list(range(len(counts)))
    random.shuffle(order)  # type: ignore[attr-defined]
    one = replicate_totals(table(counts), clusters, replicates=20, seed=3)
    other = replicate_totals(table(counts[order]), [clusters[i] for i in order], replicates=20, seed=3)
    np.testing.assert_array_equal(one, other)


def test_splitting_the_examples_of_a_cluster_changes_nothing() -> None:
    counts = np.random.default_rng(1).integers(0, 5, size=(40, 4)).astype(float)
    whole = replicate_totals(table(2 * counts), range(40), replicates=50, seed=0)
    halves = replicate_totals(
        table(np.repeat(counts, 2, axis=0)), np.repeat(range(40), 2).tolist(), replicates=50, seed=0
    )
    np.testing.assert_array_equal(whole, halves)


def test_chunks_do_not_change_the_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = np.random.default_rng(2).integers(0, 5, size=(37, 4)).astype(float)
    whole = replicate_totals(table(counts), range(37), replicates=101, seed=5)
    monkeypatch.setattr(bootstrap, "_CHUNK", 100)
    np.testing.assert_array_equal(whole, replicate_totals(table(counts), range(37), replicates=101, seed=5))


def test_seed_decides_the_draw_and_the_constant_is_not_resampled() -> None:
    counts = np.random.default_rng(3).integers(0, 5, size=(30, 4)).astype(float)
    one, again = (replicate_totals(table(counts), range(30), replicates=10, seed=7) for _ in range(2))
    other = replicate_totals(table(counts), range(30), replicates=10, seed=8)
    constant = CountTable(counts, np.array([0.0, 0, 0, 9]))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()
    shifted = replicate_totals(constant, range(30), replicates=10, seed=7)
    np.testing.assert_array_equal(shifted - one, np.tile([0, 0, 0, 9], (10, 1)))


def test_one_cluster_is_refused() -> None:
    with pytest.raises(ValueError, match="at least two clusters, found 1"):
        replicate_totals(table(np.ones((3, 4))), ["d", "d", "d"], replicates=10, seed=0)


def test_interval_covers_the_truth_and_needs_the_clusters() -> None:
    """Items of a document share its difficulty: the cluster interval keeps its level, the naive one does not."""
    rng = np.random.default_rng(11)
    covered = {"cluster": 0, "naive": 0}
    for trial in range(300):
        difficulty = rng.beta(0.5, 0.5, size=60)  # mean 0.5
        right = (rng.random((60, 10)) < difficulty[:, None]).ravel().astype(float)[:, None]
        for kind, clusters in (("cluster", np.repeat(range(60), 10).tolist()), ("naive", range(600))):
            totals = replicate_totals(table(right), clusters, replicates=300, seed=trial)
            low, high = percentile_interval(totals[:, 0] / 600)
            covered[kind] += low <= 0.5 <= high
    assert 0.90 <= covered["cluster"] / 300 <= 0.985
    assert covered["naive"] / 300 < 0.75


def test_percentile_interval() -> None:
    assert percentile_interval(np.arange(101.0), 0.9) == pytest.approx((5.0, 95.0))
    with pytest.raises(ValueError, match="between 0 and 1"):
        percentile_interval(np.arange(3.0), 95)
