from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from invented_runs import arm, run

from hf_crosstask.errors import InputError
from hf_crosstask.evaluation import counts as c
from hf_crosstask.study.permutation import (
    TooFewSeedsError,
    minimum_sign_flip_p,
    paired_permutation,
    sign_flip,
)
from hf_crosstask.study.scored import ScoredRun


def counted(name: str, seed: int, table: np.ndarray, documents: np.ndarray) -> ScoredRun:
    names = np.array([f"s{index}" for index in range(len(table))])
    constant = np.array([[0.0, 0.0, 0.0, 2.0]])
    return ScoredRun(name, "t", seed, "f1", table, constant, documents, names, lambda totals: c.f1(c.micro(totals)))


def by_hand(a: list[ScoredRun], b: list[ScoredRun]) -> float:
    """Swap the documents' sentences in all 2^documents ways and score the corpus anew each time."""
    documents = a[0].clusters
    names = sorted(set(documents))

    def difference(swapped: set[str]) -> float:
        values = []
        for first, second in zip(a, b, strict=True):
            tables = [np.zeros(4), np.zeros(4)]
            for index, document in enumerate(documents):
                sides = (second, first) if document in swapped else (first, second)
                for table, side in zip(tables, sides, strict=True):
                    table += side.statistics[index, 0]
            f1 = [2 * tp / max(2 * tp + fp + fn + 2, 1) for tp, fp, fn, _ in tables]
            values.append(f1[0] - f1[1])
        return float(np.mean(values))

    observed = difference(set())
    every = [
        difference({name for name, swap in zip(names, pattern, strict=True) if swap})
        for pattern in product([False, True], repeat=len(names))
    ]
    return sum(abs(value) >= abs(observed) - 1e-12 for value in every) / len(every)


@settings(max_examples=25)
@given(data=st.data())
def test_small_cases_equal_all_permutations_by_hand(data):
    generator = np.random.default_rng(data.draw(st.integers(0, 10_000)))
    sentences, seeds = data.draw(st.integers(2, 8)), data.draw(st.integers(1, 3))
    documents = np.array([f"d{index}" for index in generator.integers(0, 5, sentences)])
    documents[:2] = ["d0", "d1"]
    tables = generator.integers(0, 3, (2, seeds, sentences, 1, 4)) * np.array([1.0, 1.0, 1.0, 0.0])
    a, b = (
        [counted(name, s, side[s], documents) for s in range(seeds)] for name, side in zip("ab", tables, strict=True)
    )
    found = paired_permutation(a, b)
    assert found.exact
    assert found.p == pytest.approx(by_hand(a, b))
    assert paired_permutation(b, a).p == found.p


def test_random_swaps_come_close_to_all_of_them():
    generator = np.random.default_rng(4)
    a, b = ((generator.random(12) < level).astype(float) for level in (0.9, 0.4))
    exact = paired_permutation([run("a", 0, a)], [run("b", 0, b)], swaps=4096)
    drawn = paired_permutation([run("a", 0, a)], [run("b", 0, b)], swaps=4095)
    assert (exact.exact, exact.swaps, drawn.exact) == (True, 4096, False)
    assert drawn.p == pytest.approx(exact.p, abs=0.03)


def test_the_same_predictions_give_one_and_clear_differences_almost_zero():
    same = arm("a", 0.5)
    assert paired_permutation(same, [replace(each, arm="b") for each in same]).p == 1.0
    found = paired_permutation(arm("a", 0.7), arm("b", 0.5), swaps=999)
    assert found.p == 1 / 1000  # never 0: the observed pattern is one of them
    assert found.difference == pytest.approx(0.2, abs=0.02)


def test_permutation_is_valid_under_its_null():
    generator = np.random.default_rng(0)
    p = []
    for _ in range(300):
        right = (generator.random((2, 40)) < 0.6).astype(float)
        p.append(paired_permutation([run("a", 0, right[0])], [run("b", 0, right[1])], swaps=199).p)
    assert np.mean(np.array(p) <= 0.05) < 0.085
    assert np.mean(np.array(p) <= 0.5) > 0.3


def test_swapped_documents_are_named():
    documents = [f"d{index // 2}" for index in range(40)]
    right = np.arange(40) % 3 == 0
    found = paired_permutation([run("a", 0, right, clusters=documents)], [run("b", 0, ~right, clusters=documents)])
    assert found.unit == "documents"
    assert paired_permutation([run("a", 0, right)], [run("b", 0, ~right)], swaps=50).unit == "examples"


def test_arms_without_common_seeds_are_refused():
    with pytest.raises(InputError, match="no seed in common"):
        paired_permutation(arm("a", 0.5)[:2], arm("b", 0.5)[2:])


@pytest.mark.parametrize(("seeds", "smallest"), [(5, 0.0625), (6, 0.03125), (8, 0.0078125), (9, 0.00390625)])
def test_the_smallest_p_of_a_sign_flip(seeds, smallest):
    assert minimum_sign_flip_p(seeds) == smallest
    if seeds >= 6:
        assert sign_flip([0.01 + 0.001 * seed for seed in range(seeds)]).p == smallest


def test_a_sign_flip_that_cannot_be_significant_is_refused_with_its_smallest_p():
    with pytest.raises(TooFewSeedsError, match=r"5 seeds cannot give a p below 0\.0625.*at least 6"):
        sign_flip([0.1, 0.2, 0.3, 0.1, 0.2])


@settings(max_examples=25)
@given(st.lists(st.floats(-1, 1).map(lambda value: round(value, 3)), min_size=6, max_size=8))
def test_sign_flips_equal_all_signs_by_hand(differences):
    values = np.array(differences)
    means = [abs((np.array(signs) * values).mean()) for signs in product([1, -1], repeat=len(values))]
    expected = np.mean([mean >= abs(values.mean()) - 1e-12 for mean in means])
    found = sign_flip(differences)
    assert found.p == pytest.approx(expected)
    assert sign_flip(-values).p == found.p
