"""The n2c2 2018 scorer: the procedure of the official script, step by step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_crosstask.errors import InputError
from hf_crosstask.evaluation.official import ade2018, brat
from hf_crosstask.evaluation.official.brat import BratDocument, Relation, Span


def spans(*items: tuple[str, int, int]) -> BratDocument:
    return BratDocument(tuple(Span(f"T{i}", kind, ((start, end),), "x") for i, (kind, start, end) in enumerate(items)))


def entity_counts(gold: BratDocument, predicted: BratDocument, mode: str) -> tuple[float, float]:
    values = ade2018.score({"f": gold}, {"f": predicted})
    return values[f"{mode}_entity_precision"], values[f"{mode}_entity_recall"]


def test_strict_and_lenient() -> None:
    gold, predicted = spans(("Drug", 0, 10), ("Dosage", 12, 15)), spans(("Drug", 5, 12), ("Form", 12, 15))
    assert entity_counts(gold, predicted, "strict") == (0.0, 0.0)
    assert entity_counts(gold, predicted, "lenient") == (0.5, 0.5)
    beside = spans(("Drug", 10, 12))
    assert entity_counts(gold, beside, "lenient") == (0.0, 0.0)


def test_a_second_prediction_for_a_matched_entity_is_neither_right_nor_wrong() -> None:
    gold, predicted = spans(("Drug", 0, 10)), spans(("Drug", 0, 4), ("Drug", 5, 10))
    assert entity_counts(gold, predicted, "lenient") == (1.0, 1.0)
    assert entity_counts(gold, predicted, "strict") == (0.0, 0.0)


def test_one_prediction_over_two_entities_finds_one() -> None:
    gold, predicted = spans(("Drug", 0, 4), ("Drug", 5, 10)), spans(("Drug", 0, 10))
    assert entity_counts(gold, predicted, "lenient") == (1.0, 0.5)
    # Both are taken then: a further prediction for the second is dropped.
    assert entity_counts(gold, spans(("Drug", 0, 10), ("Drug", 5, 10)), "lenient") == (1.0, 0.5)


def test_a_prediction_is_dropped_if_any_of_its_matches_is_taken() -> None:
    # The second prediction also covers an untouched gold entity, and is dropped all the same.
    gold = spans(("Drug", 0, 4), ("Drug", 5, 10))
    predicted = spans(("Drug", 0, 3), ("Drug", 2, 10))
    assert entity_counts(gold, predicted, "lenient") == (1.0, 0.5)


def test_repeated_gold_does_not_score_one_against_itself() -> None:
    gold = spans(("Drug", 0, 4), ("Drug", 0, 4))
    assert entity_counts(gold, gold, "strict") == (1.0, 0.5)


def test_discontinuous_entities_count_by_their_outer_bounds() -> None:
    gold = BratDocument((Span("T1", "ADE", ((0, 3), (10, 15)), "x"),))
    assert entity_counts(gold, spans(("ADE", 0, 15)), "strict") == (1.0, 1.0)
    assert entity_counts(gold, spans(("ADE", 5, 8)), "lenient") == (1.0, 1.0)


def related(kind: str, head: tuple[str, int, int], tail: tuple[str, int, int]) -> BratDocument:
    return BratDocument(spans(head, tail).spans, (Relation("R1", kind, "T0", "T1"),))


def test_relations_need_type_and_both_arguments() -> None:
    gold = related("ADE-Drug", ("ADE", 0, 5), ("Drug", 10, 15))
    for guess, strict, lenient in (
        (gold, 1.0, 1.0),
        (related("ADE-Drug", ("ADE", 1, 5), ("Drug", 10, 15)), 0.0, 1.0),
        (related("ADE-Drug", ("Reason", 0, 5), ("Drug", 10, 15)), 0.0, 0.0),
        (related("Reason-Drug", ("ADE", 0, 5), ("Drug", 10, 15)), 0.0, 0.0),
        (related("ADE-Drug", ("ADE", 0, 5), ("Drug", 15, 18)), 0.0, 0.0),
    ):
        values = ade2018.score({"f": gold}, {"f": guess})
        assert (values["strict_relation_f1"], values["lenient_relation_f1"]) == (strict, lenient)


def test_types_outside_the_task_are_wrong_but_counted() -> None:
    values = ade2018.score({"f": spans(("Drug", 0, 4))}, {"f": spans(("Drug", 0, 4), ("Herb", 6, 9))})
    assert values["strict_entity_precision"] == 0.5
    assert values["strict_entity_f1_Drug"] == 1.0


def test_micro_over_files_macro_by_file(check_statistics: Callable[..., None]) -> None:
    gold = {"a": spans(("Drug", 0, 4)), "b": spans(("Drug", 0, 4), ("Form", 5, 9), ("Route", 10, 14)), "c": spans()}
    predicted = {"a": spans(("Drug", 0, 4)), "b": spans(("Drug", 0, 4)), "c": spans(), "z": spans(("Drug", 0, 1))}
    values = ade2018.score(gold, predicted)
    assert values["strict_entity_f1"] == pytest.approx(2 * 2 / (2 + 4))
    assert values["strict_entity_macro_f1"] == pytest.approx((1 + 2 * 1 / (1 + 3) + 0) / 3)
    check_statistics(ade2018.document_counts(gold, predicted), ade2018.from_counts, values)


def test_files_of_one_side_are_skipped() -> None:
    gold = {"a": spans(("Drug", 0, 4)), "b": spans(("Drug", 0, 4))}
    assert ade2018.score(gold, {"a": gold["a"]})["strict_entity_recall"] == 1.0
    with pytest.raises(InputError, match="no gold file"):
        ade2018.score(gold, {"c": gold["a"]})


#: Entities that do not overlap: against themselves the procedure finds them all.
apart = st.lists(st.tuples(st.sampled_from(ade2018.ENTITIES), st.integers(1, 9)), min_size=2, max_size=8).map(
    lambda items: [(kind, 10 * index, 10 * index + size) for index, (kind, size) in enumerate(items)]
)


@given(apart, st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=1))
def test_gold_against_itself_and_nothing_predicted(items: list[tuple[str, int, int]], ends: list[tuple[int, int]]):
    document = BratDocument(spans(*items).spans, tuple(Relation("R1", "ADE-Drug", f"T{a}", f"T{b}") for a, b in ends))
    values = ade2018.score({"f": document}, {"f": document})
    assert {value for name, value in values.items() if "_f1_" not in name} == {1.0}
    assert set(ade2018.score({"f": document}, {"f": BratDocument()}).values()) == {0.0}
    assert brat.parse(brat.format_ann(document)) == document


@given(apart)
def test_the_order_of_gold_does_not_matter(items: list[tuple[str, int, int]]) -> None:
    predicted = spans(*((kind, start, end + 7) for kind, start, end in items[::2]))
    values = ade2018.score({"f": spans(*items)}, {"f": predicted})
    assert ade2018.score({"f": spans(*items[::-1])}, {"f": predicted}) == pytest.approx(values)


def test_the_format_example(shared_data: Path) -> None:
    gold = {
        path.name: brat.parse(path.read_text(), path.name)
        for path in (shared_data / "format_examples" / "n2c2_2018_track2").rglob("*.ann")
    }
    values = ade2018.score(gold, gold)
    assert values["strict_relation_f1"] == values["strict_entity_f1"] == 1.0
    # Strength 39-44 and Route 45-47 are of different types and do not touch; two drugs are far apart.
    assert values["lenient_entity_f1"] == 1.0
