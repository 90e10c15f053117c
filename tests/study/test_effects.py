from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from invented_runs import arm
from scipy import stats

from hf_crosstask.study.effects import (
    cohens_d_pooled,
    detectable_by_examples,
    equivalence,
    hedges_correction,
    minimum_detectable_d_z,
    paired_d_z,
    seed_effects,
)
from hf_crosstask.study.multibootstrap import multibootstrap

A, B = [0.81, 0.83, 0.80, 0.86, 0.84], [0.80, 0.80, 0.79, 0.82, 0.83]


@pytest.mark.parametrize(
    ("seeds", "alpha", "d_z"),
    [
        (3, 0.05, 3.26),
        (5, 0.05, 1.68),
        (8, 0.05, 1.16),
        (10, 0.05, 1.00),
        (20, 0.05, 0.66),
        (5, 0.05 / 8, 2.98),
        (10, 0.05 / 8, 1.43),
    ],
)
def test_the_smallest_effect_that_so_many_seeds_show(seeds, alpha, d_z):
    assert minimum_detectable_d_z(seeds, alpha=alpha) == pytest.approx(d_z, abs=0.005)


@pytest.mark.parametrize("seeds", [3, 6, 12])
def test_the_smallest_effect_has_the_power_it_promises(seeds):
    d_z = minimum_detectable_d_z(seeds)
    drawn = np.random.default_rng(seeds).normal(d_z, 1, (40_000, seeds))
    assert (stats.ttest_1samp(drawn, 0, axis=1).pvalue < 0.05).mean() == pytest.approx(0.8, abs=0.01)


def test_hedges_correction_has_its_known_values():
    assert hedges_correction(2) == pytest.approx(0.5642, abs=1e-4)
    assert hedges_correction(4) == pytest.approx(0.7979, abs=1e-4)
    assert hedges_correction(10) == pytest.approx(0.9228, abs=1e-4)
    with pytest.raises(ValueError, match="at least 2"):
        hedges_correction(1)


def test_seed_effects_are_those_of_a_paired_t_test():
    found, reference = seed_effects(A, B), stats.ttest_rel(A, B)
    differences = np.subtract(A, B)
    assert found.t == pytest.approx(reference.statistic)
    assert found.p == pytest.approx(reference.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(reference.confidence_interval()))
    assert found.d_z == pytest.approx(differences.mean() / differences.std(ddof=1))
    assert found.hedges_g == pytest.approx(found.d_z * 0.797885, rel=1e-4)
    assert found.cohens_d_pooled == pytest.approx(0.02 / math.sqrt((np.var(A, ddof=1) + np.var(B, ddof=1)) / 2))
    assert found.label == "over seeds, test set fixed"
    assert found.sign_flip_p is None
    assert "0.0625" in str(found.sign_flip_note)


def test_enough_seeds_have_a_sign_flip():
    found = seed_effects([*A, 0.9, 0.9], [*B, 0.8, 0.85])
    assert found.sign_flip_p == found.sign_flip_minimum_p == 2 / 2**7
    assert found.sign_flip_note is None


def test_what_one_seed_or_none_that_varies_leaves_undefined():
    one = seed_effects([0.8], [0.7])
    assert (one.difference, one.sd, one.t, one.p, one.minimum_detectable_d_z) == (pytest.approx(0.1), *[None] * 4)
    constant = seed_effects([0.75, 0.75, 0.75], [0.5, 0.5, 0.5])
    assert (constant.d_z, constant.t, constant.p, constant.cohens_d_pooled, constant.low) == (*[None] * 4, 0.25)
    with pytest.raises(ValueError, match="do not pair"):
        seed_effects([0.8, 0.7], [0.7])


@settings(max_examples=30)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=8))
def test_swapping_the_arms_changes_signs_alone(pairs):
    a, b = (list(sides) for sides in zip(*pairs, strict=True))
    for effect in (paired_d_z(np.subtract(a, b)), cohens_d_pooled(a, b)):
        assert effect is None or math.isfinite(effect)
    there, back = seed_effects(a, b), seed_effects(b, a)
    assert there.p == (back.p if back.p is None else pytest.approx(back.p))
    assert (there.d_z is None) == (back.d_z is None)


@pytest.mark.parametrize(
    ("examples", "discordant", "points"),
    [
        (500, 0.1, 4.0),
        (500, 0.2, 5.6),
        (534, 0.1, 3.8),
        (534, 0.2, 5.4),
        (371, 0.1, 4.6),
        (371, 0.2, 6.5),
        (5716, 0.1, 1.2),
    ],
)
def test_what_a_test_set_can_show(examples, discordant, points):
    assert 100 * detectable_by_examples(examples, discordant) == pytest.approx(points, abs=0.06)


def test_equivalence_is_two_one_sided_tests():
    found = multibootstrap({"a": arm("a", 0.6), "b": arm("b", 0.6)}, replicates=500).contrast("a", "b").estimate()
    wide, narrow = equivalence(found, 0.2), equivalence(found, 0.0001)
    assert wide.shown
    assert not narrow.shown
    assert wide.p == pytest.approx(max(found.p_greater(-0.2), found.p_less(0.2)))
    assert (wide.low, wide.high) == pytest.approx(found.interval(0.90))
    edge = max(abs(wide.low), abs(wide.high))  # the margin that the 90 % interval just reaches
    assert equivalence(found, edge).p == pytest.approx(0.05, rel=1e-6)
    assert not equivalence(found, 0.2, p_adjusted=0.06).shown
    with pytest.raises(ValueError, match="positive"):
        equivalence(found, 0.0)
