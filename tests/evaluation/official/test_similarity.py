"""Correlations: against scipy, and where they are undefined."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr

from hf_crosstask.errors import InputError
from hf_crosstask.evaluation.official import similarity

scores = st.lists(st.tuples(st.integers(0, 20), st.integers(-50, 50)), min_size=3, max_size=25)


@given(scores, st.floats(-1e6, 1e6))
def test_equals_scipy(pairs: list[tuple[int, int]], shift: float) -> None:
    gold, predicted = [right / 5 for right, _ in pairs], [guess / 10 for _, guess in pairs]
    values = similarity.score(gold, [guess + shift for guess in predicted])
    constant = len(set(gold)) == 1 or len(set(predicted)) == 1
    assert values["pearson"] == pytest.approx(0.0 if constant else pearsonr(gold, predicted)[0], abs=1e-6)
    unshifted = similarity.score(gold, predicted)
    assert unshifted["pearson"] == pytest.approx(0.0 if constant else pearsonr(gold, predicted)[0], abs=1e-12)
    assert unshifted["spearman"] == pytest.approx(0.0 if constant else spearmanr(gold, predicted)[0], abs=1e-12)


def test_perfect_and_reversed() -> None:
    gold = [0.0, 1.5, 4.0]
    assert similarity.score(gold, gold) == {"pearson": pytest.approx(1.0), "spearman": pytest.approx(1.0)}
    assert similarity.score(gold, [-x for x in gold])["pearson"] == pytest.approx(-1.0)


@pytest.mark.parametrize("constant", [0.1, 1e-9, 1e9, 2.2])
def test_a_constant_correlates_with_nothing(constant: float) -> None:
    assert similarity.score([0.3, 1.7, 2.2, 3.1], [constant] * 4) == {"pearson": 0.0, "spearman": 0.0}
    assert similarity.score([1.0], [2.0]) == {"pearson": 0.0, "spearman": 0.0}


def test_a_replicate_of_one_pair_drawn_again_and_again() -> None:
    table = similarity.pair_counts([0.3, 1.7, 2.2], [0.1, 0.2, 0.4])
    for pair in table.values:
        for draws in range(1, 60):
            assert float(similarity.from_counts(np.tile(pair, (draws, 1)).sum(axis=0))["pearson"]) == 0.0


def test_statistics(check_statistics: Callable[..., None]) -> None:
    gold, predicted = [0.0, 1.0, 2.5, 4.0, 3.0], [0.2, 0.9, 2.0, 3.0, 3.9]
    check_statistics(
        similarity.pair_counts(gold, predicted), similarity.from_counts, similarity.score(gold, predicted)
    )
    # A replicate's value is the correlation of the drawn pairs.
    drawn = [0, 0, 3, 4, 4]
    sums = similarity.pair_counts(gold, predicted).values[drawn].sum(axis=0)
    expected = pearsonr(np.array(gold)[drawn], np.array(predicted)[drawn])[0]
    assert float(similarity.from_counts(sums)["pearson"]) == pytest.approx(expected)


def test_inputs_that_cannot_be_scored() -> None:
    with pytest.raises(InputError, match="one of each per pair"):
        similarity.score([1.0, 2.0], [1.0])
    with pytest.raises(InputError, match="finite"):
        similarity.score([1.0, 2.0], [1.0, float("nan")])
