"""SemEval-2016 Task 12 (Clinical TempEval, THYME): time expressions, events, their attributes, and narrative containers.

Semantics of anaforatools (`anafora.evaluate`, Bethard) as the official wrapper (bethard/clinical-tempeval) calls it:

- annotations are compared as sets: two with the same spans and value count once. Spans match exactly, fragments in
  order; the text does not matter;
- TS and ES: spans of TIMEX3 and EVENT. TA: TIMEX3 span and Class. EA: EVENT span and ContextualModality, Degree,
  Polarity, Type, each by itself. DR: EVENT span and DocTimeRel. An annotation without the attribute takes part with no
  value wherever any annotation of the document has it;
- precision is 1 where nothing is predicted, recall is 1 where nothing is annotated, over the whole corpus;
- CR: TLINKs of type CONTAINS as (source span, target span), with temporal closure (see `temporal_closure`); only in
  clinic notes (`clin` in the file name), where alone relations are annotated. `cr_exact_*` is without closure;
- documents without gold are ignored; documents without a prediction count as predicting nothing.

In phase 2 (gold spans given) precision, recall and F1 of DR coincide: its accuracy.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Collection, Hashable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np

from hf_crosstask.errors import DataFormatError
from hf_crosstask.evaluation.counts import FloatArray
from hf_crosstask.evaluation.official.base import UnitCounts, Values, harmonic, offset, scalars, unit_counts
from hf_crosstask.evaluation.official.temporal_closure import TemporalRelation, distinct, implied

Spans = tuple[tuple[int, int], ...]
Properties = tuple[tuple[str, str | None], ...]

#: Metric prefix to the entity type and the property it scores (None: the span alone).
VIEWS: dict[str, tuple[str, str | None]] = {
    "ts": ("TIMEX3", None),
    "es": ("EVENT", None),
    "ta_class": ("TIMEX3", "Class"),
    "ea_modality": ("EVENT", "ContextualModality"),
    "ea_degree": ("EVENT", "Degree"),
    "ea_polarity": ("EVENT", "Polarity"),
    "ea_type": ("EVENT", "Type"),
    "dr": ("EVENT", "DocTimeRel"),
}
#: All metric prefixes, in the order of the statistics.
SUBTASKS = (*VIEWS, "cr", "cr_exact")
#: Statistics of a document.
COLUMNS = 4 * len(SUBTASKS)


@dataclass(frozen=True)
class Entity:
    """An EVENT, TIMEX3, DOCTIME or SECTIONTIME; `properties` are (name, value) pairs, None for an empty value."""

    id: str
    type: str
    spans: Spans
    properties: Properties = ()


@dataclass(frozen=True)
class Relation:
    """A TLINK or ALINK between two entities of the document, by their ids; `value` is its Type property."""

    id: str
    type: str
    source: str
    target: str
    value: str | None


@dataclass(frozen=True)
class Document:
    """The annotations of one note."""

    entities: tuple[Entity, ...] = ()
    relations: tuple[Relation, ...] = ()


def _text(element: ElementTree.Element, tag: str, source: str) -> str:
    value = element.findtext(tag, default="")
    if not value:
        raise DataFormatError(source, f"an <{element.tag}> without <{tag}>")
    return value.strip()


def _entity(element: ElementTree.Element, source: str) -> Entity:
    name = _text(element, "id", source)
    spans = []
    for part in _text(element, "span", source).split(";"):
        start, _, end = part.partition(",")
        try:
            spans.append((offset(start.strip()), offset(end.strip())))
        except ValueError as error:
            raise DataFormatError(source, f"entity {name}: expected start,end, found {part!r}") from error
    properties = tuple((child.tag, child.text) for child in element.find("properties") or ())
    return Entity(name, _text(element, "type", source), tuple(spans), properties)


def _relation(element: ElementTree.Element, entities: Mapping[str, Entity], source: str) -> Relation:
    name = _text(element, "id", source)
    properties = {child.tag: (child.text or "").strip() for child in element.find("properties") or ()}
    for role in ("Source", "Target"):
        if properties.get(role) not in entities:
            raise DataFormatError(source, f"relation {name}: its {role} {properties.get(role)!r} is not an entity")
    kind = _text(element, "type", source)
    return Relation(name, kind, properties["Source"], properties["Target"], properties.get("Type") or None)


def parse(text: str, source: str = "annotations") -> Document:
    """The entities and relations of an Anafora XML file.

    Raises:
        DataFormatError: no well-formed XML, a document type definition (entity attacks), repeated ids, missing parts,
            spans that are no numbers, or relations whose ends are not entities of the file.
    """
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise DataFormatError(source, "a document type definition has no place in Anafora XML")
    try:
        root = ElementTree.fromstring(text.removeprefix("\ufeff"))
    except (ElementTree.ParseError, ValueError) as error:
        raise DataFormatError(source, f"not well-formed XML: {error}") from error
    entities: dict[str, Entity] = {}
    for element in root.iterfind("annotations/entity"):
        entity = _entity(element, source)
        if entity.id in entities:
            raise DataFormatError(source, f"two entities have the id {entity.id!r}")
        entities[entity.id] = entity
    relations = tuple(_relation(element, entities, source) for element in root.iterfind("annotations/relation"))
    return Document(tuple(entities.values()), relations)


def format_xml(document: Document) -> str:
    """The file `parse` (and anaforatools) reads."""
    root = ElementTree.Element("data")
    annotations = ElementTree.SubElement(root, "annotations")
    for entity in document.entities:
        spans = ";".join(f"{start},{end}" for start, end in entity.spans)
        head = {"id": entity.id, "span": spans, "type": entity.type, "parentsType": "TemporalEntities"}
        _append(annotations, "entity", head, entity.properties)
    for relation in document.relations:
        head = {"id": relation.id, "type": relation.type, "parentsType": "TemporalRelations"}
        ends = (("Source", relation.source), ("Type", relation.value), ("Target", relation.target))
        _append(annotations, "relation", head, ends)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _append(parent: ElementTree.Element, tag: str, head: Mapping[str, str], properties: Properties) -> None:
    element = ElementTree.SubElement(parent, tag)
    for name, content in head.items():
        ElementTree.SubElement(element, name).text = content
    holder = ElementTree.SubElement(element, "properties")
    for name, value in properties:
        ElementTree.SubElement(holder, name).text = value


def is_clinic_note(document: str) -> bool:
    """Whether the official wrapper scores relations in this document (pathology notes have none annotated)."""
    return "clin" in document.lower()


def document_counts(
    gold: Mapping[str, Document],
    predicted: Mapping[str, Document],
    *,
    scores_relations: Callable[[str], bool] = is_clinic_note,
) -> UnitCounts:
    """Statistics `[gold documents, 40]`: per subtask, annotated, predicted, predictions right, annotations found.

    Args:
        gold: document name to its annotations.
        predicted: the same; documents that are missing predict nothing.
        scores_relations: whether a document takes part in CR.
    """
    rows = {}
    for name, right in gold.items():
        guess = predicted.get(name, Document())
        row: list[int] = []
        for kind, attribute in VIEWS.values():
            row += _set_counts(_view(right, guess, kind, attribute), _view(guess, right, kind, attribute))
        links = [_containers(side) if scores_relations(name) else set() for side in (right, guess)]
        row += closure_counts(*links)
        row += _set_counts(*links)
        rows[name] = row
    return unit_counts(rows, COLUMNS)


def _set_counts(right: AbstractSet[Hashable], guess: AbstractSet[Hashable]) -> list[int]:
    shared = len(right & guess)
    return [len(right), len(guess), shared, shared]


def _view(document: Document, other: Document, kind: str, attribute: str | None) -> set[Hashable]:
    """The spans of one entity type, with the value of an attribute.

    anaforatools makes the view of an attribute only where the document has it, in gold or prediction.
    """
    entities = [entity for entity in document.entities if entity.type == kind]
    if attribute is None:
        return {entity.spans for entity in entities}
    others = [entity for entity in other.entities if entity.type == kind]
    if not any(name == attribute for entity in entities + others for name, _ in entity.properties):
        return set()
    return {
        (entity.spans, *[value for name, value in entity.properties if name == attribute][-1:]) for entity in entities
    }


def _containers(document: Document) -> set[TemporalRelation]:
    spans = {entity.id: entity.spans for entity in document.entities}
    return {
        TemporalRelation(spans[relation.source], spans[relation.target], "CONTAINS")
        for relation in document.relations
        if relation.type == "TLINK" and relation.value == "CONTAINS"
    }


def closure_counts(gold: Collection[TemporalRelation], predicted: Collection[TemporalRelation]) -> list[int]:
    """Annotated, predicted, predictions implied by the annotation, annotations implied by the prediction."""
    right, guess = distinct(gold), distinct(predicted)
    return [len(right), len(guess), implied(guess, by=right), implied(right, by=guess)]


def from_counts(sums: FloatArray) -> Values:
    """`<subtask>_precision`, `_recall` and `_f1` for each of `SUBTASKS`, of summed `[..., 40]` statistics."""
    values: Values = {}
    for index, name in enumerate(SUBTASKS):
        annotated, predicted, right, found = (sums[..., 4 * index + column] for column in range(4))
        precision, recall = _or_one(right, predicted), _or_one(found, annotated)
        values |= {f"{name}_precision": precision, f"{name}_recall": recall, f"{name}_f1": harmonic(precision, recall)}
    return values


def _or_one(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    return np.divide(numerator, denominator, out=np.ones(np.shape(numerator)), where=np.asarray(denominator) > 0)


def score(
    gold: Mapping[str, Document],
    predicted: Mapping[str, Document],
    *,
    scores_relations: Callable[[str], bool] = is_clinic_note,
) -> dict[str, float]:
    """The metrics of a submission; both map document names to annotations."""
    return scalars(from_counts(document_counts(gold, predicted, scores_relations=scores_relations).total()))
