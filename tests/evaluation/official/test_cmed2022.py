"""The n2c2 2022 scorer: drugs, events, attributes and Combined by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_crosstask.errors import DataFormatError, InputError
from hf_crosstask.evaluation.official import brat, cmed2022
from hf_crosstask.evaluation.official.brat import Attribute, BratDocument, Event, Span
from hf_crosstask.evaluation.official.cmed2022 import ATTRIBUTES

START = dict(zip(ATTRIBUTES, ("Start", "NotNegated", "Future", "Certain", "Physician"), strict=True))


def document(*mentions: tuple[str | None, int, int, dict[str, str]]) -> BratDocument:
    """Mentions as (event type or None, start, end, attributes)."""
    spans, events, attributes = [], [], []
    for index, (kind, start, end, values) in enumerate(mentions):
        spans.append(Span(f"T{index}", kind or "Drug", ((start, end),), "x"))
        if kind:
            events.append(Event(f"E{index}", kind, f"T{index}"))
        for name, value in values.items():
            attributes.append(Attribute(f"A{len(attributes)}", name, f"E{index}", value))
    return BratDocument(tuple(spans), (), tuple(events), tuple(attributes))


def score(gold: BratDocument, predicted: BratDocument) -> dict[str, float]:
    return cmed2022.score({"f": gold}, {"f": predicted})


def test_drugs_events_and_attributes_are_separate() -> None:
    gold = document(("Disposition", 0, 5, START), ("NoDisposition", 10, 15, {}))
    predicted = document(("Disposition", 0, 5, {**START, "Actor": "Patient"}), ("Undetermined", 10, 15, {}))
    values = score(gold, predicted)
    assert values["strict_drug_f1"] == 1.0
    assert values["strict_event_f1"] == 0.5
    assert values["strict_event_macro_f1"] == pytest.approx(1 / 3)
    assert values["strict_attribute_f1"] == pytest.approx(4 / 5)
    assert values["strict_attribute_macro_f1"] == pytest.approx(4 / 5)
    assert (values["strict_actor_f1"], values["strict_action_f1"]) == (0.0, 1.0)
    assert values["strict_combined_f1"] == 0.0


def test_lenient_mentions_carry_lenient_attributes() -> None:
    gold, predicted = document(("Disposition", 0, 5, START)), document(("Disposition", 3, 9, START))
    values = score(gold, predicted)
    assert values["strict_drug_f1"] == values["strict_event_f1"] == values["strict_combined_f1"] == 0.0
    assert values["lenient_drug_f1"] == values["lenient_event_f1"] == values["lenient_combined_f1"] == 1.0
    apart = score(gold, document(("Disposition", 5, 9, START)))
    assert apart["lenient_drug_f1"] == 0.0


def test_attributes_need_the_event_type() -> None:
    values = score(document(("Disposition", 0, 5, START)), document(("Undetermined", 0, 5, START)))
    assert values["strict_attribute_f1"] == values["strict_combined_f1"] == 0.0


def test_combined_compares_missing_values_too() -> None:
    part = {"Action": "Start", "Actor": "Physician"}
    assert (
        score(document(("Disposition", 0, 5, part)), document(("Disposition", 0, 5, part)))["strict_combined_f1"] == 1
    )
    assert (
        score(document(("Disposition", 0, 5, START)), document(("Disposition", 0, 5, part)))["strict_combined_f1"] == 0
    )


def test_the_order_of_attributes_does_not_matter() -> None:
    backwards = dict(reversed(START.items()))
    values = score(document(("Disposition", 0, 5, START)), document(("Disposition", 0, 5, backwards)))
    assert values["strict_combined_f1"] == values["strict_attribute_f1"] == 1.0
    # A value in another attribute's place is another combination.
    one, other = ({name: "Unknown"} for name in ("Actor", "Action"))
    assert (
        score(document(("Disposition", 0, 5, one)), document(("Disposition", 0, 5, other)))["strict_combined_f1"] == 0
    )


def test_every_gold_mention_takes_one_prediction() -> None:
    gold, predicted = (
        document(("Disposition", 0, 9, {})),
        document(("Disposition", 0, 4, {}), ("Disposition", 5, 9, {})),
    )
    assert score(gold, predicted)["lenient_event_precision"] == 0.5
    # The first gold mention takes the only prediction.
    assert score(predicted, gold)["lenient_event_recall"] == 0.5


def test_the_assignment_is_greedy_in_file_order() -> None:
    gold = document((None, 0, 9, {}), (None, 8, 12, {}))
    # The first gold mention takes 8-9, which the second would have needed.
    assert score(gold, document((None, 8, 9, {}), (None, 0, 3, {})))["lenient_drug_recall"] == 0.5
    assert score(gold, document((None, 0, 3, {}), (None, 8, 9, {})))["lenient_drug_recall"] == 1.0


def test_repeated_mentions_count_once_but_repeated_attributes_do_not() -> None:
    gold = document(("Disposition", 0, 5, {"Action": "Start"}))
    twice = document(("Disposition", 0, 5, {"Action": "Start"}), ("Disposition", 0, 5, {"Action": "Start"}))
    values = score(gold, twice)
    assert (values["strict_event_precision"], values["strict_drug_precision"]) == (1.0, 1.0)
    assert values["strict_action_precision"] == 0.5


def test_unknown_event_types_count_in_micro_only() -> None:
    values = score(document(("Disposition", 0, 5, {})), document(("Disposition", 0, 5, {}), ("Odd", 7, 9, {})))
    assert values["strict_event_precision"] == 0.5
    assert values["strict_event_disposition_precision"] == 1.0


def test_nothing_predicted() -> None:
    assert set(score(document(("Disposition", 0, 5, START)), BratDocument()).values()) == {0.0}


def test_statistics(check_statistics: Callable[..., None]) -> None:
    gold = {"a": document(("Disposition", 0, 5, START), ("Undetermined", 6, 9, {})), "b": document((None, 0, 4, {}))}
    predicted = {"a": document(("Disposition", 2, 5, START)), "b": gold["b"], "z": gold["a"]}
    table = cmed2022.document_counts(gold, predicted)
    assert table.units == ("a", "b")
    check_statistics(table, cmed2022.from_counts, cmed2022.score(gold, predicted))


def test_inputs_that_cannot_be_scored() -> None:
    with pytest.raises(InputError, match="no gold file"):
        cmed2022.score({"a": BratDocument()}, {"b": BratDocument()})
    odd = document(("Disposition", 0, 5, {"Mood": "Good"}))
    with pytest.raises(DataFormatError, match="Mood of E0"):
        score(odd, odd)


mentions = st.lists(
    st.tuples(
        st.sampled_from(cmed2022.EVENTS),
        st.integers(1, 9),
        st.dictionaries(st.sampled_from(ATTRIBUTES), st.sampled_from(["P", "Q"])),
    ),
    min_size=1,
    max_size=6,
).map(lambda items: document(*((k, 10 * i, 10 * i + size, values) for i, (k, size, values) in enumerate(items))))


@given(mentions)
def test_gold_against_itself_and_round_trip(gold: BratDocument) -> None:
    values = score(gold, gold)
    assert values["strict_drug_f1"] == values["lenient_drug_f1"] == values["strict_event_f1"] == 1.0
    assert values["strict_combined_f1"] == values["strict_attribute_f1"] == float(bool(gold.attributes))
    assert brat.parse(brat.format_ann(gold)) == gold


def test_the_format_example(shared_data: Path) -> None:
    for path in (shared_data / "format_examples" / "n2c2_2022_track1").rglob("*.ann"):
        gold = brat.parse(path.read_text(), path.name)
        assert sorted(brat.format_ann(gold).splitlines()) == sorted(path.read_text().splitlines())
        assert set(score(gold, gold).values()) == {1.0}
