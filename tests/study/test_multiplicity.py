from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_crosstask.study.multiplicity import at_least, holm, intersection_union, partial_conjunction

P = st.lists(st.floats(0, 1), min_size=1, max_size=10)


def test_holm_gives_the_textbook_values():
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}) == pytest.approx(
        {"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02}
    )
    assert holm({}) == {}
    with pytest.raises(ValueError, match="not a p-value"):
        holm({"a": 1.2})


@settings(max_examples=30)
@given(P)
def test_holm_lies_between_no_correction_and_bonferroni(values):
    adjusted = holm({str(index): p for index, p in enumerate(values)})
    for index, p in enumerate(values):
        assert p <= adjusted[str(index)] <= min(1.0, len(values) * p)


@settings(max_examples=30)
@given(P, st.randoms())
def test_holm_keeps_the_order_and_ignores_that_of_its_input(values, random):
    named = {str(index): p for index, p in enumerate(values)}
    adjusted = holm(named)
    for first in named:
        for second in named:
            assert named[first] > named[second] or adjusted[first] <= adjusted[second]
    shuffled = list(named)
    random.shuffle(shuffled)
    assert holm({name: named[name] for name in shuffled}) == adjusted


@settings(max_examples=30)
@given(P, st.integers(0, 9), st.floats(0, 1))
def test_a_smaller_p_never_raises_another_adjusted_p(values, index, smaller):
    before = holm({str(i): p for i, p in enumerate(values)})
    index %= len(values)
    lowered = [min(smaller, p) if i == index else p for i, p in enumerate(values)]
    after = holm({str(i): p for i, p in enumerate(lowered)})
    assert all(after[name] <= before[name] for name in before)


def test_all_controls_must_be_beaten():
    assert intersection_union([0.001, 0.2, 0.03]) == 0.2


def test_partial_conjunction_runs_from_any_to_all():
    assert partial_conjunction([0.04, 0.01, 0.002]) == pytest.approx([0.006, 0.02, 0.04])
    assert at_least([0.04, 0.01, 0.002]) == 3
    assert at_least([0.04, 0.03, 0.9]) == 0
    assert at_least([]) == 0


@settings(max_examples=30)
@given(P)
def test_partial_conjunction_begins_at_bonferroni_and_ends_at_the_largest(values):
    found = partial_conjunction(values)
    assert found[0] == pytest.approx(min(1.0, len(values) * min(values)))
    assert found == sorted(found)
    assert found[-1] >= max(values)
