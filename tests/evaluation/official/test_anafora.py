"""The THYME scorer: the values of anaforatools' own tests, and its conventions by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_crosstask.errors import DataFormatError
from hf_crosstask.evaluation.official import anafora
from hf_crosstask.evaluation.official.anafora import Document, Entity, Relation

NOTE = "ID1_clinic_1"


def event(name: str, start: int, end: int, **properties: str | None) -> Entity:
    return Entity(name, "EVENT", ((start, end),), tuple(properties.items()))


def timex(name: str, start: int, end: int, kind: str = "DATE") -> Entity:
    return Entity(name, "TIMEX3", ((start, end),), (("Class", kind),))


def contains(source: str, target: str, kind: str = "TLINK", value: str = "CONTAINS") -> Relation:
    return Relation(f"{source}-{target}-{value}", kind, source, target, value)


def test_closure_data_of_anaforatools() -> None:
    # test_temporal_closure_data: time -> first event -> second event; the prediction links the time to the second.
    first, second = event("e1", 2211, 2219), event("e2", 2273, 2279)
    entities = (timex("t", 2220, 2231), first, second)
    gold = Document(entities, (contains("t", "e1"), contains("e1", "e2")))
    predicted = Document(entities, (contains("t", "e2"), contains("e1", "e2")))
    values = anafora.score({NOTE: gold}, {NOTE: predicted})
    assert (values["cr_precision"], values["cr_recall"]) == (1.0, 0.5)
    assert (values["cr_exact_precision"], values["cr_exact_recall"]) == (0.5, 0.5)


def test_nothing_predicted_has_precision_one() -> None:
    gold = {NOTE: Document((event("e", 0, 4), timex("t", 5, 9)), (contains("t", "e"),))}
    for predicted in ({}, {NOTE: Document()}):
        values = anafora.score(gold, predicted)
        for name in ("es", "ts", "cr", "cr_exact"):
            assert [values[f"{name}_{measure}"] for measure in ("precision", "recall", "f1")] == [1.0, 0.0, 0.0]


def test_nothing_annotated_has_recall_one() -> None:
    values = anafora.score({NOTE: Document()}, {NOTE: Document((event("e", 0, 4),))})
    assert [values[f"es_{measure}"] for measure in ("precision", "recall", "f1")] == [0.0, 1.0, 0.0]
    assert [values[f"ts_{measure}"] for measure in ("precision", "recall", "f1")] == [1.0, 1.0, 1.0]


def test_attributes_need_the_span_and_the_value() -> None:
    gold = Document((event("a", 0, 4, DocTimeRel="BEFORE"), event("b", 5, 9, DocTimeRel="BEFORE/OVERLAP")))
    predicted = Document((event("x", 0, 4, DocTimeRel="AFTER"), event("y", 5, 9, DocTimeRel="BEFORE/OVERLAP")))
    values = anafora.score({NOTE: gold}, {NOTE: predicted})
    assert (values["es_f1"], values["dr_f1"]) == (1.0, 0.5)


def test_an_event_without_the_attribute_takes_part_where_any_has_it() -> None:
    gold = Document((event("a", 0, 4, Polarity="POS"), event("b", 5, 9)))
    predicted = Document((event("a", 0, 4, Polarity="NEG"), event("b", 5, 9)))
    table = anafora.document_counts({NOTE: gold}, {NOTE: predicted}).total()
    position = 4 * anafora.SUBTASKS.index("ea_polarity")
    assert table[position : position + 4].tolist() == [2, 2, 1, 1]
    none = 4 * anafora.SUBTASKS.index("ea_degree")
    assert table[none : none + 4].tolist() == [0, 0, 0, 0]


def test_an_empty_value_is_not_a_missing_one() -> None:
    gold = Document((event("a", 0, 4, Degree=None), event("b", 5, 9, Degree="MOST")))
    predicted = Document((event("a", 0, 4), event("b", 5, 9, Degree="MOST")))
    assert anafora.score({NOTE: gold}, {NOTE: predicted})["ea_degree_f1"] == 0.5


def test_annotations_are_sets() -> None:
    gold = Document((timex("a", 0, 4), timex("b", 0, 4)))
    values = anafora.score({NOTE: gold}, {NOTE: Document((timex("c", 0, 4),))})
    assert values["ts_f1"] == values["ta_class_f1"] == 1.0


def test_types_and_fragments_must_be_equal() -> None:
    gold = Document((Entity("a", "EVENT", ((0, 4), (8, 9)), ()),))
    for guess in (Entity("a", "EVENT", ((0, 4),), ()), Entity("a", "TIMEX3", ((0, 4), (8, 9)), ())):
        assert anafora.score({NOTE: gold}, {NOTE: Document((guess,))})["es_recall"] == 0.0


def test_relations_count_in_clinic_notes_only_and_containers_only() -> None:
    document = Document(
        (timex("t", 0, 4), event("e", 5, 9)),
        (contains("t", "e"), contains("e", "t", value="OVERLAP"), contains("e", "t", kind="ALINK")),
    )
    pathology = anafora.document_counts({"ID1_pathology_cytology": document}, {}).total()
    assert pathology[4 * anafora.SUBTASKS.index("cr")] == 0
    clinic = anafora.document_counts({NOTE: document}, {}).total()
    assert clinic[4 * anafora.SUBTASKS.index("cr")] == 1


def test_documents_without_gold_are_ignored(check_statistics: Callable[..., None]) -> None:
    gold = {NOTE: Document((event("e", 0, 4, DocTimeRel="AFTER"), timex("t", 5, 9)), (contains("t", "e"),))}
    gold["ID2_clinic_2"] = Document((event("e", 0, 4),))
    predicted = {NOTE: Document((event("e", 0, 4, DocTimeRel="BEFORE"),)), "other_clinic": gold[NOTE]}
    table = anafora.document_counts(gold, predicted)
    assert table.units == (NOTE, "ID2_clinic_2")
    check_statistics(table, anafora.from_counts, anafora.score(gold, predicted))


entities = st.lists(
    st.tuples(st.sampled_from(["EVENT", "TIMEX3"]), st.integers(0, 50), st.integers(1, 5), st.sampled_from("XYZ")),
    min_size=1,
    max_size=6,
).map(
    lambda rows: tuple(
        Entity(f"{index}@e@d@s", kind, ((start, start + size),), (("DocTimeRel", value), ("Class", value)))
        for index, (kind, start, size, value) in enumerate(rows)
    )
)


@st.composite
def documents(draw: st.DrawFn) -> Document:
    found = draw(entities)
    ids = st.sampled_from([entity.id for entity in found])
    links = draw(st.lists(st.tuples(ids, ids), max_size=4, unique=True))
    return Document(found, tuple(contains(source, target) for source, target in links))


@given(documents())
def test_gold_against_itself_and_round_trip(document: Document) -> None:
    assert set(anafora.score({NOTE: document}, {NOTE: document}).values()) == {1.0}
    assert anafora.parse(anafora.format_xml(document)) == document


@given(documents(), documents())
def test_order_and_ids_do_not_matter(gold: Document, predicted: Document) -> None:
    renamed = {entity.id: f"{index}@other" for index, entity in enumerate(reversed(predicted.entities))}
    shuffled = Document(
        tuple(Entity(renamed[e.id], e.type, e.spans, e.properties[::-1]) for e in reversed(predicted.entities)),
        tuple(
            Relation(r.id, r.type, renamed[r.source], renamed[r.target], r.value) for r in predicted.relations[::-1]
        ),
    )
    assert anafora.score({NOTE: gold}, {NOTE: predicted}) == anafora.score({NOTE: gold}, {NOTE: shuffled})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("<data><annotations>", "well-formed"),
        ('<!DOCTYPE data [<!ENTITY a "b">]><data/>', "document type"),
        (
            "<data><annotations><entity><id>1</id><span>0</span><type>X</type></entity></annotations></data>",
            "start,end",
        ),
        ("<data><annotations><entity><id>1</id><type>X</type></entity></annotations></data>", "without <span>"),
        (
            "<data><annotations>"
            + 2 * "<entity><id>1</id><span>0,1</span><type>X</type></entity>"
            + "</annotations></data>",
            "two entities",
        ),
        (
            "<data><annotations><relation><id>r</id><type>TLINK</type><properties><Source>9</Source></properties>"
            "</relation></annotations></data>",
            "is not an entity",
        ),
    ],
)
def test_broken_files(text: str, problem: str) -> None:
    with pytest.raises(DataFormatError, match=problem):
        anafora.parse(text, "note.xml")


def test_the_format_example(shared_data: Path) -> None:
    for path in (shared_data / "format_examples" / "semeval2016_task12_thyme").rglob("*.xml"):
        gold = anafora.parse(path.read_text(), path.name)
        assert gold.entities
        assert gold.relations
        assert anafora.parse(anafora.format_xml(gold)) == gold
        assert set(anafora.score({path.name: gold}, {path.name: gold}).values()) == {1.0}
