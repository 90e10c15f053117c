from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_crosstask.errors import PlanError
from hf_crosstask.planning.budget import Budget, choose_exactly


@pytest.mark.parametrize(
    ("given_values", "message"),
    [
        ({}, "a budget is one of epochs, steps or tokens; found none"),
        ({"epochs": 1, "tokens": 5}, "a budget is one of epochs, steps or tokens; found epochs and tokens"),
        ({"epochs": 0}, "budget.epochs must be a positive number, found 0"),
        ({"steps": -3}, "budget.steps must be a positive number, found -3"),
        ({"epochs": float("inf")}, "budget.epochs must be a positive number, found inf"),
        ({"epochs": float("nan")}, "budget.epochs must be a positive number, found nan"),
        ({"steps": 2.5}, "budget.steps must be a whole number, found 2.5"),
        ({"tokens": 0.5}, "budget.tokens must be a whole number, found 0.5"),
    ],
)
def test_refused(given_values, message):
    with pytest.raises(PlanError) as error:
        Budget(**given_values)
    assert str(error.value) == message


def test_total_tokens():
    assert Budget(tokens=777).total_tokens(1000, 100) == 777
    assert Budget(steps=7).total_tokens(1000, 100) == 700
    assert Budget(epochs=2.5).total_tokens(1001, 100) == 2502  # 2502.5 to the even number


def test_numbers_of_any_type_are_the_same_budget():
    assert Budget(epochs=3) == Budget(epochs=3.0)
    assert type(Budget(tokens=np.int64(5)).tokens) is int


def largest_sum(items, limit):
    sums = {0}
    for item in items:
        sums |= {total + item for total in sums if total + item <= limit}
    return max(sums)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.data())
def test_choice_is_the_largest_reachable_sum(items, data):
    target = data.draw(st.integers(0, sum(items)))
    lengths = np.array(items)
    chosen = choose_exactly(lengths, target)
    assert len(set(chosen.tolist())) == len(chosen)
    assert (np.diff(chosen) > 0).all()
    assert lengths[chosen].sum() == largest_sum(items, target)


@given(st.integers(0, 2**32), st.floats(0.01, 0.99))
def test_choice_keeps_the_order_and_is_exact_for_natural_lengths(seed, share):
    lengths = np.random.default_rng(seed).integers(5, 60, 2000)
    target = int(share * lengths.sum())
    chosen = choose_exactly(lengths, target)
    prefix = int(np.searchsorted(np.cumsum(lengths), target, side="right"))
    kept = max(0, prefix - 64)
    assert lengths[chosen].sum() == target
    assert chosen[:kept].tolist() == list(range(kept))
    assert chosen[-1] < prefix + 192


def test_choice_finds_a_fitting_example_beyond_the_window():
    lengths = np.array([100] * 500 + [7])
    assert choose_exactly(lengths, 99).tolist() == [500]
    assert choose_exactly(lengths, 6).tolist() == []
