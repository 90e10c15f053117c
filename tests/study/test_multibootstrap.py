from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from invented_runs import arm, run, share
from scipy import stats

from hf_crosstask.errors import InputError
from hf_crosstask.evaluation import counts as c
from hf_crosstask.study.multibootstrap import (
    Components,
    cluster_weights,
    exact,
    mean_contrast,
    multibootstrap,
    seed_weights,
)
from hf_crosstask.study.scored import ScoredRun


def f1_runs(name: str, seeds: int = 3, documents: int = 12, task: str = "t") -> list[ScoredRun]:
    """Entity counts of sentences in documents of four, with gold that no sentence carries."""
    generator = np.random.default_rng([1, *name.encode()])
    names = np.array([f"s{index:03}" for index in range(4 * documents)])
    groups = np.array([f"d{index // 4:02}" for index in range(4 * documents)])
    return [
        ScoredRun(
            name,
            task,
            seed,
            "entity_f1",
            generator.integers(0, 4, (len(names), 1, 4)) * np.array([1.0, 1.0, 1.0, 0.0]),
            np.array([[0.0, 0.0, 0.0, 5.0]]),
            groups,
            names,
            lambda totals: c.f1(c.micro(totals)),
        )
        for seed in range(seeds)
    ]


def reordered(runs: list[ScoredRun], order: np.ndarray) -> list[ScoredRun]:
    return [
        replace(each, statistics=each.statistics[order], clusters=each.clusters[order], ids=each.ids[order])
        for each in runs
    ]


def test_a_replicate_is_the_corpus_metric_of_the_drawn_documents():
    a, b = f1_runs("a"), f1_runs("b")
    found = multibootstrap({"a": a, "b": b}, replicates=20, seed=3)
    weights = cluster_weights(12, 20, np.random.SeedSequence([3, 1, *b"t", 0]))
    for replicate in range(20):
        for index, runs in enumerate((a, b)):
            for seed, each in enumerate(runs):
                drawn = [
                    sentence
                    for document in range(12)
                    for sentence in range(4 * document, 4 * document + 4)
                    for _ in range(weights[replicate, document])
                ]
                tp, fp, fn, _ = each.statistics[drawn, 0].sum(axis=0)
                assert found.replicates[replicate, index, seed] == pytest.approx(2 * tp / (2 * tp + fp + fn + 5))
    assert found.values[0].tolist() == [pytest.approx(each.value) for each in a]


def test_the_order_of_examples_runs_and_arms_does_not_matter():
    a, b = f1_runs("a"), f1_runs("b")
    order = np.random.default_rng(0).permutation(len(a[0].ids))
    first = multibootstrap({"a": a, "b": b}, replicates=300).contrast("a", "b").estimate()
    shuffled = {"b": reordered(b, order)[::-1], "a": reordered(a, order)}
    second = multibootstrap(shuffled, replicates=300).contrast("a", "b").estimate()
    assert first.model_dump() == pytest.approx(second.model_dump())


def test_the_opposite_contrast_is_the_mirror_image():
    found = multibootstrap({"a": f1_runs("a"), "b": f1_runs("b")}, replicates=300)
    there, back = found.contrast("a", "b").estimate(), found.contrast("b", "a").estimate()
    assert (there.low, there.high, there.p) == pytest.approx((-back.high, -back.low, back.p))
    assert there.p_greater() == pytest.approx(back.p_less())


def test_parts_add_up_to_the_whole_in_every_replicate():
    found = multibootstrap({name: f1_runs(name) for name in ("multi", "equal", "single")}, replicates=200)
    parts = found.contrast("equal", "single") + found.contrast("multi", "equal")
    whole = found.contrast("multi", "single")
    assert np.allclose(parts.replicates, whole.replicates, atol=1e-15)
    assert parts.estimate().estimate == pytest.approx(whole.estimate().estimate)
    assert np.allclose((whole - found.contrast("equal", "single")).per_seed, found.contrast("multi", "equal").per_seed)


def test_the_same_seed_gives_the_same_replicates_and_another_gives_others():
    arms = {"a": f1_runs("a"), "b": f1_runs("b")}
    first, again, other = (multibootstrap(arms, replicates=50, seed=seed).replicates for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_one_seed_gives_the_standard_error_of_the_mean_over_examples():
    generator = np.random.default_rng(5)
    a, b = ((generator.random(300) < level).astype(float) for level in (0.8, 0.7))
    found = multibootstrap({"a": [run("a", 0, a)], "b": [run("b", 0, b)]}, replicates=10_000)
    estimate = found.contrast("a", "b").estimate()
    assert estimate.standard_error == pytest.approx((a - b).std(ddof=1) / math.sqrt(300), rel=0.03)
    assert (estimate.df_clusters, estimate.seed_sd, estimate.over) == (299, None, "test set only")
    assert estimate.high - estimate.estimate == pytest.approx(stats.t.ppf(0.975, 299) * estimate.standard_error)


def test_seeds_that_agree_on_every_example_leave_the_variance_of_the_examples():
    generator = np.random.default_rng(5)
    a, b = ((generator.random(300) < level).astype(float) for level in (0.8, 0.7))
    seeds = range(4)
    found = multibootstrap(
        {"a": [run("a", s, a) for s in seeds], "b": [run("b", s, b) for s in seeds]}, replicates=5000
    )
    estimate = found.contrast("a", "b").estimate()
    assert estimate.variance_seeds == 0.0
    assert math.sqrt(estimate.variance_clusters) == pytest.approx((a - b).std(ddof=1) / math.sqrt(300), rel=0.04)


def test_variance_components_are_those_of_the_two_way_model():
    """Differences with known parts: of seeds, of examples, and of both together."""
    generator = np.random.default_rng(2)
    parts = []
    for _ in range(60):
        difference = (
            generator.normal(0, 0.1, (6, 1)) + generator.normal(0, 1.0, 80) + generator.normal(0, 1.5, (6, 80))
        )
        zero = np.zeros(80)
        arms = {"a": [run("a", s, difference[s]) for s in range(6)], "b": [run("b", s, zero) for s in range(6)]}
        parts.append(multibootstrap(arms, replicates=400).contrast("a", "b").components())
    of_seeds, of_clusters = 0.01 / 6 + 2.25 / 480, 1 / 80
    assert np.mean([part.seeds for part in parts]) == pytest.approx(of_seeds, rel=0.25)
    assert np.mean([part.clusters for part in parts]) == pytest.approx(of_clusters, rel=0.12)
    assert (parts[0].df_seeds, parts[0].df_clusters) == (5, 79)


def test_arms_without_any_difference_are_exactly_equal():
    same = arm("a", 0.5)
    found = multibootstrap({"a": same, "b": [replace(each, arm="b") for each in same]}, replicates=100)
    estimate = found.contrast("a", "b").estimate()
    assert (estimate.estimate, estimate.low, estimate.high, estimate.p) == (0.0, 0.0, 0.0, 1.0)


def test_documents_are_drawn_whole():
    """Twins in one document carry no more information than one of them."""
    generator = np.random.default_rng(0)
    once = [(generator.random(60) < level).astype(float) for level in (0.8, 0.6)]
    twice = [np.repeat(side, 2) for side in once]
    groups = [f"d{index // 2:02}" for index in range(120)]
    by_document = {n: [run(n, 0, s, clusters=groups)] for n, s in zip("ab", twice, strict=True)}
    alone = {n: [run(n, 0, s)] for n, s in zip("ab", once, strict=True)}
    found = [multibootstrap(arms, replicates=4000).contrast("a", "b").estimate() for arms in (by_document, alone)]
    assert found[0].standard_error == pytest.approx(found[1].standard_error, rel=0.05)


@settings(max_examples=30)
@given(
    seeds=st.floats(0, 10), clusters=st.floats(0, 10), df=st.tuples(st.integers(1, 20), st.integers(1, 5000)),
    tail=st.floats(1e-10, 0.49),
)  # fmt: skip
def test_a_tail_probability_inverts_the_reach(seeds, clusters, df, tail):
    components = Components(seeds, clusters, *df)
    reach = components.reach(tail)
    if reach > 1e-6:
        assert components.tail(reach) == pytest.approx(tail, rel=1e-6)
        assert components.tail(-reach) == pytest.approx(1 - tail, rel=1e-6)
        assert components.tail(2 * reach) < tail


def test_with_one_part_the_test_is_students():
    assert Components(4.0, 0.0, 4, 99).tail(5.0) == pytest.approx(stats.t.sf(2.5, 4))
    assert Components(0.0, 4.0, 4, 99).tail(5.0) == pytest.approx(stats.t.sf(2.5, 99))


def test_the_interval_excludes_no_difference_just_where_p_says_so():
    for number in range(12):
        arms = {"a": arm("a", 0.60 + 0.01 * (number % 4), noise=number), "b": arm("b", 0.6, noise=number)}
        estimate = multibootstrap(arms, replicates=200).contrast("a", "b").estimate()
        assert (estimate.p < 0.05) == (estimate.low > 0 or estimate.high < 0)
        assert estimate.interval(0.95) == pytest.approx((estimate.low, estimate.high))


def test_a_mean_over_tasks_is_surer_than_one_task():
    found = [
        multibootstrap({n: f1_runs(n, task=task) for n in "ab"}, replicates=500).contrast("a", "b") for task in "xyzw"
    ]
    mean = mean_contrast(found).estimate()
    assert mean.estimate == pytest.approx(np.mean([each.per_seed.mean() for each in found]))
    assert mean.variance_clusters <= max(each.estimate().variance_clusters for each in found)
    with pytest.raises(ValueError, match="different seeds"):
        mean_contrast([found[0], multibootstrap({n: f1_runs(n, seeds=2) for n in "ab"}).contrast("a", "b")])


def test_weights_draw_as_many_as_there_are():
    weights = cluster_weights(50, 2000, np.random.SeedSequence(0))
    assert (weights.sum(axis=1) == 50).all()
    assert weights.mean(axis=0) == pytest.approx(np.ones(50), abs=0.15)
    assert weights.var() == pytest.approx(1 - 1 / 50, rel=0.05)
    assert (seed_weights(5, 100, 0).sum(axis=1) == 5).all()


def test_counts_are_summed_in_single_precision_only_where_that_is_exact():
    assert exact(np.array([[3.0], [4.0]])).dtype == np.float32
    assert exact(np.array([[0.5]])).dtype == np.float64
    assert exact(np.full((2, 1), float(1 << 23))).dtype == np.float64


def test_runs_that_do_not_belong_together_are_refused():
    a, b = arm("a", 0.5), arm("b", 0.5)
    with pytest.raises(InputError, match="no seed in common"):
        multibootstrap({"a": a[:2], "b": b[2:]})
    with pytest.raises(InputError, match="other examples"):
        multibootstrap({"a": a, "b": arm("b", 0.5, examples=401)})
    with pytest.raises(InputError, match="two runs"):
        multibootstrap({"a": [*a, a[0]], "b": b})
    with pytest.raises(InputError, match="macro_f1"):
        multibootstrap({"a": a, "b": [replace(each, metric_name="macro_f1") for each in b]})
    with pytest.raises(ValueError, match="two test clusters"):
        multibootstrap({n: [run(n, 0, [1.0, 0.0], clusters=["d", "d"])] for n in "ab"})


def test_only_seeds_that_all_arms_have_are_used():
    found = multibootstrap({"a": arm("a", 0.5)[1:4], "b": arm("b", 0.5)}, replicates=100)
    assert found.seeds == (1, 2, 3)
    assert share(np.array([1.0, 2.0])) == 0.5
