"""Temporal closure: the example of anaforatools' own tests, and small cases by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_crosstask.evaluation.official.anafora import closure_counts
from hf_crosstask.evaluation.official.temporal_closure import POINT_RELATIONS, TemporalRelation, distinct, implied


def relations(text: str) -> list[TemporalRelation]:
    """`A BEFORE B; …`."""
    triples = [part.split() for part in text.split(";")]
    return [TemporalRelation(source, target, value) for source, value, target in triples]


def test_the_example_of_anaforatools() -> None:
    reference = relations(
        "A BEFORE B; B IS_INCLUDED C; D INCLUDES C; E CONTAINS D; F AFTER E; G BEGINS-ON H; I BEFORE G;"
        "J IBEFORE K; K BEGUN_BY L; L BEGINS K"
    )
    predicted = relations(
        "A BEFORE B; B AFTER A; B CONTAINS E; B INCLUDES E; B BEFORE F; F AFTER D; H AFTER I; J IBEFORE L; K BEGUN_BY L"
    )
    # "K BEGUN_BY L" and "L BEGINS K" say the same, as do "A BEFORE B" and "B AFTER A", "B CONTAINS E" and "B INCLUDES E".
    assert (len(distinct(reference)), len(distinct(predicted))) == (9, 7)
    assert closure_counts(reference, predicted) == [9, 7, 6, 4]


def test_containment_is_transitive_and_directed() -> None:
    chain = relations("A CONTAINS B; B CONTAINS C")
    assert implied(relations("A CONTAINS C"), by=chain) == 1
    assert implied(relations("C CONTAINS A; C IS_INCLUDED A; A BEFORE C; A OVERLAP C"), by=chain) == 2


def test_before_and_simultaneous_combine() -> None:
    facts = relations("A SIMULTANEOUS B; B BEFORE C; C CONTAINS D")
    assert implied(relations("A BEFORE C; A BEFORE D; D AFTER B; A IBEFORE C"), by=facts) == 3


def test_unknown_relations() -> None:
    with pytest.raises(ValueError, match="not a temporal relation"):
        TemporalRelation("A", "B", "DURING-ISH")


facts = st.lists(
    st.builds(
        TemporalRelation, st.sampled_from("ABC"), st.sampled_from("DEF"), st.sampled_from(list(POINT_RELATIONS))
    ),
    max_size=6,
)


@given(facts, facts)
def test_a_set_implies_itself_and_more_facts_imply_no_less(some: list[TemporalRelation], more: list[TemporalRelation]):
    assert implied(distinct(some), by=some) == len(distinct(some))
    assert implied(distinct(more), by=some) <= implied(distinct(more), by=some + more) == len(distinct(more))
