"""Runs scored as THYME, ADE and CMED score submissions: the same documents through the official functions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_crosstask.evaluation.entities import Entity
from hf_crosstask.evaluation.official import ade2018, anafora, brat, cmed2022
from hf_crosstask.evaluation.predictions import Pair, Predictions, Target
from hf_crosstask.evaluation.relation_pairs import PairFiller
from hf_crosstask.evaluation.scoring import scoring_for
from hf_crosstask.evaluation.slots import SlotBaseline, SlotFiller, slot_names
from hf_crosstask.tasks.card import TaskSpec
from hf_crosstask.tasks.load import load_task
from hf_crosstask.tasks.readers.documents import document_offsets, in_document
from hf_crosstask.tasks.schema import make_entity, make_example, to_dataset

TYPES = {
    "thyme2016": ("EVENT", "TIMEX3"),
    "ade2018": ("Drug", "ADE", "Dosage"),
    "cmed2022": cmed2022.EVENTS,
}
VALUES = {
    "thyme2016": {"EVENT": ("BEFORE", "AFTER"), "TIMEX3": ("DATE", "TIME")},
    "cmed2022": {"Disposition": ("Start", "Stop"), "NoDisposition": (), "Undetermined": ()},
}
PLACES = [((0, 2),), ((1, 3),), ((4, 6),), ((4, 6), (8, 9)), ((8, 9),), ((10, 12),)]


def slots_of(official: str, kind: str, pick: st.DrawFn) -> tuple[str, ...]:
    """A value in each slot that the type has."""
    if official == "ade2018":
        return ()
    values = VALUES[official][kind]
    own = {"EVENT": {"DocTimeRel", "Type", "Degree", "Polarity", "ContextualModality"}, "TIMEX3": {"Class"}}
    has = own.get(kind, set(cmed2022.ATTRIBUTES))
    return tuple(pick(st.sampled_from(values)) if values and name in has else "" for name in slot_names(official))


@st.composite
def notes(draw: st.DrawFn, official: str) -> list[list[list[tuple[Entity, tuple[str, ...]]]]]:
    """Gold and predicted mentions with slots of a few documents."""
    documents = []
    for _ in range(draw(st.integers(1, 3))):
        sides = []
        for _ in range(2):
            places = draw(st.lists(st.sampled_from(PLACES), max_size=4, unique=True))
            kinds = [draw(st.sampled_from(TYPES[official])) for _ in places]
            sides.append(
                [
                    (Entity(kind, place), slots_of(official, kind, draw))
                    for kind, place in zip(kinds, places, strict=True)
                ]
            )
        documents.append(sides)
    return documents


def as_predictions(official: Any, documents: Any) -> Predictions:
    ids = tuple(f"d{number}" for number in range(len(documents)))
    sides = [tuple(tuple(entity for entity, _ in document[side]) for document in documents) for side in (0, 1)]
    slots = [tuple(tuple(values for _, values in document[side]) for document in documents) for side in (0, 1)]
    has = official != "ade2018"
    return Predictions(
        target=Target("toy", "ner", TYPES[official], official=official),
        ids=ids,
        split_groups=ids,
        gold=sides[0],
        predicted=sides[1],
        confidence=tuple((0.5,) * len(row) for row in sides[1]),
        gold_slots=slots[0] if has else None,
        predicted_slots=slots[1] if has else None,
    )


def as_anafora(mentions: Any) -> anafora.Document:
    names = slot_names("thyme2016")
    return anafora.Document(
        tuple(
            anafora.Entity(str(n), e.type, e.offsets, tuple((k, v) for k, v in zip(names, values, strict=True) if v))
            for n, (e, values) in enumerate(mentions)
        )
    )


def as_ann(mentions: Any) -> str:
    """An `.ann` file of the n2c2 tracks."""
    lines, count = [], 0
    for number, (entity, values) in enumerate(mentions, start=1):
        lines.append(f"T{number}\t{entity.type} {';'.join(f'{a} {b}' for a, b in entity.offsets)}\tx")
        if entity.type in cmed2022.EVENTS:
            lines.append(f"E{number}\t{entity.type}:T{number} ")
        for name, value in zip(slot_names("cmed2022"), values, strict=False):
            if value:
                count += 1
                lines.append(f"A{count}\t{name} E{number} {value}")
    return "".join(f"{line}\n" for line in lines)


def both(documents: Any, convert: Any) -> list[dict[str, Any]]:
    return [{f"d{n}": convert(document[side]) for n, document in enumerate(documents)} for side in (0, 1)]


@settings(max_examples=20)
@given(documents=notes("thyme2016"))
def test_thyme_mentions_and_attributes(documents: Any) -> None:
    expected = anafora.score(*both(documents, as_anafora))
    values = scoring_for(as_predictions("thyme2016", documents).target).score(as_predictions("thyme2016", documents))
    for metric in ("es_f1", "ts_precision", "ta_class_f1", "ea_polarity_f1", "ea_type_recall", "dr_f1"):
        assert values[metric] == pytest.approx(expected[metric], abs=1e-12), metric
    assert not {metric for metric in values if metric.startswith("cr")}


@settings(max_examples=20)
@given(documents=notes("ade2018"))
def test_ade_mentions(documents: Any) -> None:
    expected = ade2018.score(*both(documents, lambda mentions: brat.parse(as_ann(mentions))))
    predictions = as_predictions("ade2018", documents)
    values = scoring_for(predictions.target).score(predictions)
    for mode in ("strict", "lenient"):
        for measure in ("precision", "recall", "f1"):
            assert values[f"{mode}_{measure}"] == pytest.approx(expected[f"{mode}_entity_{measure}"], abs=1e-12)


@settings(max_examples=20)
@given(documents=notes("cmed2022"))
def test_cmed_events_and_slots(documents: Any) -> None:
    expected = cmed2022.score(*both(documents, lambda mentions: brat.parse(as_ann(mentions))))
    predictions = as_predictions("cmed2022", documents)
    values = scoring_for(predictions.target).score(predictions)
    for part in ("drug", "event", "action", "actor", "attribute", "combined"):
        for mode in ("strict", "lenient"):
            metric = f"{mode}_{part}_f1"
            assert values[metric] == pytest.approx(expected[metric], abs=1e-12), metric


@st.composite
def candidates(
    draw: st.DrawFn, labels: tuple[str, ...], kinds: tuple[str, str]
) -> list[tuple[str, Pair, str, str | None]]:
    """(document, pair, gold, predicted); no pair twice in a document."""
    rows: list[tuple[str, Pair, str, str | None]] = []
    for document in "ab":
        places = draw(st.lists(st.tuples(*[st.sampled_from(PLACES)] * 2), max_size=6, unique=True))
        for head, tail in places:
            pair = Pair(Entity(kinds[0], head), Entity(kinds[1], tail))
            rows.append((document, pair, draw(st.sampled_from(labels)), draw(st.sampled_from((*labels, None)))))
    return rows


def of_pairs(official: Any, labels: tuple[str, ...], rows: Any, lost: dict[str, int]) -> Predictions:
    return Predictions(
        target=Target("toy", "relation", labels, "none", lost, official=official),
        ids=tuple(f"c{number}" for number in range(len(rows))),
        split_groups=tuple(row[0] for row in rows),
        gold=tuple((row[2],) for row in rows),
        predicted=tuple(row[3] for row in rows),
        confidence=(0.5,) * len(rows),
        pairs=tuple(row[1] for row in rows),
    )


def links(rows: Any, document: str, column: int) -> list[tuple[Pair, str]]:
    return [(row[1], row[column]) for row in rows if row[0] == document and row[column] not in (None, "none")]


LABELS = ("none", "CONTAINS")


@settings(max_examples=30)
@given(rows=candidates(LABELS, ("EVENT", "EVENT")), lost=st.integers(0, 2))
def test_thyme_containers_with_closure(rows: Any, lost: int) -> None:
    def document(found: list[tuple[Pair, str]]) -> anafora.Document:
        ends = [mention for pair, _ in found for mention in pair]
        entities = tuple(anafora.Entity(str(n), mention.type, mention.offsets) for n, mention in enumerate(ends))
        relations = (
            anafora.Relation(f"r{n}", "TLINK", str(2 * n), str(2 * n + 1), "CONTAINS") for n in range(len(found))
        )
        return anafora.Document(entities, tuple(relations))

    gold, predicted = ({name: document(links(rows, name, column)) for name in "ab"} for column in (2, 3))
    far = [
        (Pair(Entity("EVENT", ((n, n + 1),)), Entity("EVENT", ((n + 50, n + 51),))), "CONTAINS") for n in range(lost)
    ]
    gold["c"] = document(far)
    expected = anafora.score(gold, predicted, scores_relations=lambda name: True)
    made = of_pairs("thyme2016", LABELS, rows, {"CONTAINS": lost})
    values = scoring_for(made.target).score(made)
    for metric in ("cr_f1", "cr_precision", "cr_recall", "cr_exact_f1"):
        assert values[metric] == pytest.approx(expected[metric], abs=1e-12), metric


ADE_LABELS = ("none", "ADE-Drug", "Reason-Drug")


@settings(max_examples=30)
@given(rows=candidates(ADE_LABELS, ("ADE", "Drug")), lost=st.integers(0, 2))
def test_ade_relations(rows: Any, lost: int) -> None:
    def document(found: list[tuple[Pair, str]]) -> brat.BratDocument:
        ends = [mention for pair, _ in found for mention in pair]
        spans = tuple(brat.Span(f"T{n}", mention.type, mention.offsets, "") for n, mention in enumerate(ends))
        relations = (brat.Relation(f"R{n}", label, f"T{2 * n}", f"T{2 * n + 1}") for n, (_, label) in enumerate(found))
        return brat.BratDocument(spans, tuple(relations))

    gold, predicted = ({name: document(links(rows, name, column)) for name in "ab"} for column in (2, 3))
    far = [(Pair(Entity("ADE", ((n, n + 1),)), Entity("Drug", ((n + 50, n + 51),))), "ADE-Drug") for n in range(lost)]
    gold["c"], predicted["c"] = document(far), brat.BratDocument()
    expected = ade2018.score(gold, predicted)
    made = of_pairs("ade2018", ADE_LABELS, rows, {"ADE-Drug": lost})
    values = scoring_for(made.target).score(made)
    for mode in ("strict", "lenient"):
        for measure in ("precision", "recall", "f1"):
            metric = f"{mode}_relation_{measure}"
            assert values[f"{mode}_{measure}"] == pytest.approx(expected[metric], abs=1e-12), metric


def test_saved_predictions_score_the_same_with_an_interval(tmp_path: Path) -> None:
    pair, far = (Pair(Entity("ADE", ((n, n + 2),)), Entity("Drug", ((n + 4, n + 6),))) for n in (0, 90))
    rows = [("a", pair, "ADE-Drug", "ADE-Drug"), ("a", far, "none", "ADE-Drug"), ("b", pair, "Reason-Drug", "none")]
    made = of_pairs("ade2018", ADE_LABELS, rows, {})
    again = Predictions.from_parquet(made.to_parquet(tmp_path / "p.parquet"))
    assert again.pairs == made.pairs
    scoring = scoring_for(again.target)
    values = scoring.evaluate(again, replicates=100, seed=0)
    assert (values["strict_f1"].value, values["strict_f1"].low) == (0.5, 0.0)
    assert values["strict_f1"].high == pytest.approx(2 / 3)  # document a alone, twice
    assert scoring.majority(again)["lenient_f1"] == 0
    assert [*scoring.by_label(again)] == ["ADE-Drug", "Reason-Drug"]


def test_the_trivial_predictor_finds_nothing() -> None:
    mention = (Entity("EVENT", ((0, 2),)), slots_of("thyme2016", "EVENT", lambda strategy: "BEFORE"))
    made = as_predictions("thyme2016", [[[mention], [mention]]])
    scoring = scoring_for(made.target)
    assert scoring.score(made)["dr_f1"] == 1.0
    assert scoring.majority(made)["es_f1"] == scoring.majority(made)["entity_f1"] == 0.0


def event(number: int, text: str, values: dict[str, str], kind: str = "EVENT") -> dict[str, Any]:
    attributes = [{"name": name, "value": value} for name, value in values.items()]
    entity = make_entity("T1", kind, [(0, len(text))], [text], attributes=attributes)
    return make_example(f"e{number}", "toy", text, split_group=f"e{number}", entities=[entity])


def test_thyme_attributes_are_memorized_by_words_then_type() -> None:
    rows = [("Surgery", "BEFORE"), ("surgery", "AFTER"), ("surgery", "AFTER"), ("pain", "BEFORE"), ("fever", "BEFORE")]
    train = to_dataset([event(n, words, {"DocTimeRel": value}) for n, (words, value) in enumerate(rows)])
    baseline = SlotBaseline.of(train, "thyme2016")
    when = slot_names("thyme2016").index("DocTimeRel")
    assert baseline.fill("SURGERY", Entity("EVENT", ((0, 7),)))[when] == "AFTER"
    assert baseline.fill("cough", Entity("EVENT", ((0, 5),)))[when] == "BEFORE"
    assert set(baseline.fill("surgery", Entity("TIMEX3", ((0, 7),)))) == {""}
    test = to_dataset([event(0, "surgery", {"DocTimeRel": "BEFORE"})])
    mention = [(Entity("EVENT", ((0, 7),)), ())]
    predictions = as_predictions("ade2018", [[mention, mention]])
    filled = SlotFiller(test, train, "thyme2016")(predictions)
    assert filled.gold_slots is not None
    assert filled.predicted_slots is not None
    assert (filled.gold_slots[0][0][when], filled.predicted_slots[0][0][when]) == ("BEFORE", "AFTER")


def test_cmed_slots_are_those_of_the_type() -> None:
    rows = [
        ("x", {"Action": "Stop"}, "Disposition"),
        ("y", {"Action": "Stop"}, "Disposition"),
        ("z", {}, "Undetermined"),
    ]
    train = to_dataset([event(n, *row) for n, row in enumerate(rows)])
    baseline = SlotBaseline.of(train, "cmed2022")
    assert baseline.fill("z", Entity("Disposition", ((0, 1),))) == ("Stop", "", "", "", "")
    assert set(baseline.fill("x", Entity("Undetermined", ((0, 1),)))) == {""}


def test_pairs_know_their_place_in_the_document(tmp_path: Path) -> None:
    entity = make_entity("T1", "Drug", [(3, 5), (7, 9)], ["ab", "cd"])
    assert document_offsets(entity) == document_offsets(in_document(entity)) == ((3, 5), (7, 9))
    for split in ("train", "test"):
        folder = tmp_path / "notes" / split
        folder.mkdir(parents=True)
        text = "Glorin was stopped.\n\nMavin 5 mg went on."
        (folder / f"{split}1.txt").write_text(text)
        spans = [("Drug", "Glorin"), ("Drug", "Mavin"), ("Dosage", "5 mg")]
        lines = [f"T{n}\t{t} {text.index(m)} {text.index(m) + len(m)}\t{m}" for n, (t, m) in enumerate(spans, start=1)]
        (folder / f"{split}1.ann").write_text("\n".join([*lines, "R1\tDosage-Drug Arg1:T3 Arg2:T2", ""]))
    spec = TaskSpec(name="n2c2_2018_ade_relation", path="notes", options={"distance": 0})
    examples = load_task(spec, data_dir=tmp_path).splits["test"]
    assert [text.startswith("Mavin") for text in examples["text"]] == [True]
    rows = [("a", Pair(Entity("", ((0, 1),)), Entity("", ((0, 1),))), "Dosage-Drug", None)]
    (pair,) = PairFiller(examples)(of_pairs("ade2018", ("none", "Dosage-Drug"), rows, {})).pairs or ()
    assert pair == Pair(Entity("Dosage", ((27, 31),)), Entity("Drug", ((21, 26),)))
