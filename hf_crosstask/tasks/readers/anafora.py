"""Anafora XML beside raw text (THYME: Clinical TempEval, SemEval-2016 Task 12).

Files: one folder per note below each split's folder (`Train/ID001_clinic_001/…`), holding the text in a file named like
the folder, without extension, and `<note>.Temporal-Relation.gold.completed.xml`; pathology notes have
`…Temporal-Entity…` instead, without relations (their absence then says nothing). Other annotation layers of the
distribution (UMLS-Entity, Coreference) are no part of this task.

- `<entity>` EVENT, TIMEX3, SECTIONTIME, DOCTIME: an entity, its properties as attributes (`DocTimeRel`, `Class`, …);
  spans `s,e[;s2,e2]`, ends exclusive, into the text with its line ends as they are. The last two anchor relations and
  are not scored by the task.
- `<relation>` TLINK, ALINK: a relation of type `TLINK:CONTAINS`, `ALINK:INITIATES`, …, Source as head, Target as tail.

The distribution has Unix line ends; where a file has CRLF, the offsets tell whether it was converted
(`documents.fitting_line_ends`). Option `layer` (`Temporal`): which annotation files to read. Option `broken_relations`:
`error` (default), or `drop`, which leaves relations out that lack an argument or name an unknown one, and counts them.
The other options, and what the examples are for each task type, are in `documents.py`.

`write_anafora` writes examples back in this format, the official submission format.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal
from xml.sax.saxutils import escape

from hf_crosstask import atomic
from hf_crosstask.errors import DataFormatError, InputError
from hf_crosstask.tasks.readers.base import ReadResult, Source, parse_options
from hf_crosstask.tasks.readers.documents import Document, DocumentOptions, fitting_line_ends, slices
from hf_crosstask.tasks.readers.files import FileTree, file_name, split_trees, unique_stems, write_note
from hf_crosstask.tasks.readers.safe_xml import Node, parse_xml
from hf_crosstask.tasks.readers.views import document_examples
from hf_crosstask.tasks.schema import make_entity

_ENTITIES = ("EVENT", "TIMEX3", "SECTIONTIME", "DOCTIME")
_RELATIONS = ("TLINK", "ALINK")
_SPAN = re.compile(r"[0-9]{1,9},[0-9]{1,9}(?:;[0-9]{1,9},[0-9]{1,9})*")
_REMEDY = "To leave such relations out, set options.broken_relations to 'drop'."
_XML_CHARACTERS = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class AnaforaOptions(DocumentOptions):
    """Options of the reader; the module docstring explains them."""

    layer: str = "Temporal"
    broken_relations: Literal["error", "drop"] = "error"


def read(source: Source) -> ReadResult:
    """Read the notes of each split.

    Raises:
        DataFormatError: a file is missing or breaks the format, offsets are wrong, a relation names an unknown entity.
    """
    options = parse_options(source, AnaforaOptions)
    kinds = rf"\.{re.escape(options.layer)}(?:-[A-Za-z]+)?\.[^/]*xml"
    wanted = re.compile(rf"(?:.*/)?(?P<note>[^/]+)/(?P=note)(?P<kind>{kinds})?", re.DOTALL)
    splits: dict[str, list[Document]] = {}
    dropped: dict[str, Counter[str]] = {}
    trees = split_trees(source, wanted.fullmatch, f"<note>/<note> with <note>.{options.layer}*.xml beside it")
    for split, tree in trees.items():
        dropped[split] = Counter()
        splits[split] = [
            _read_note(tree, note, text_file, layer_file, options, dropped[split])
            for note, text_file, layer_file in _paired(tree, wanted)
        ]
    return document_examples(source, options, splits, dropped)


def _paired(tree: FileTree, wanted: re.Pattern[str]) -> list[tuple[str, str, str]]:
    """(note, text file, annotation file) of each note."""
    kinds = {name: match["kind"] for name in tree.names if (match := wanted.fullmatch(name)) is not None}

    def note(name: str) -> str:
        return name.split("/")[-2]

    texts = unique_stems(tree.root, [name for name, kind in kinds.items() if kind is None], note)
    layers = unique_stems(tree.root, [name for name, kind in kinds.items() if kind is not None], note)
    for document, name in texts.items():
        if document not in layers:
            raise DataFormatError(tree.where(name), "has no annotation file beside it.")
    for document, name in layers.items():
        if document not in texts:
            remedy = "THYME annotations are distributed without text; ask Mayo Clinic for the notes."
            raise DataFormatError(tree.where(name), f"has no text {document} beside it.", remedy=remedy)
    return [(document, texts[document], layers[document]) for document in texts]


def _read_note(
    tree: FileTree, note: str, text_file: str, layer_file: str, options: AnaforaOptions, dropped: Counter[str]
) -> Document:
    where = tree.where(layer_file)
    root = parse_xml(tree.read_bytes(layer_file), where)
    annotations = root.find("annotations")
    if root.tag != "data" or len(annotations) != 1:
        raise DataFormatError(
            where, "expected <data> with one <annotations>: this is no Anafora file.", line=root.line
        )
    nodes = {_child(where, node, "id"): node for node in annotations[0].children}
    if len(nodes) < len(annotations[0].children):
        raise DataFormatError(where, "an annotation id occurs twice.")
    spans = {id: _spans(where, node) for id, node in nodes.items() if node.tag == "entity"}
    text = fitting_line_ends(
        tree.read_text(text_file, options.encoding), [span for parts in spans.values() for span in parts]
    )
    entities, relations = [], []
    for id, node in nodes.items():
        type, properties = _child(where, node, "type"), _properties(where, node)
        if node.tag == "entity" and type in _ENTITIES:
            try:
                parts = slices(text, spans[id])
            except ValueError as error:
                raise DataFormatError(where, f"{id}: {error}", line=node.line) from None
            attributes = [{"name": name, "value": value} for name, value in properties]
            entities.append(make_entity(id, type, spans[id], parts, attributes=attributes))
        elif node.tag == "relation" and type in _RELATIONS:
            relations.append((node, id, type, properties))
        elif node.tag in ("entity", "relation"):
            valid = ", ".join(_ENTITIES if node.tag == "entity" else _RELATIONS)
            raise DataFormatError(where, f"{node.tag} {id} has the type {type!r}; valid: {valid}.", line=node.line)
        else:
            raise DataFormatError(where, f"expected <entity> or <relation>, found <{node.tag}>.", line=node.line)
    known = {entity["id"] for entity in entities}
    found = []
    for relation in relations:
        try:
            found.append(_relation(where, known, *relation))
        except DataFormatError:
            if options.broken_relations == "error":
                raise
            dropped["relations without a known source or target"] += 1
    return Document(
        note,
        text,
        where,
        entities,
        found,
        has_relations="-Entity." not in layer_file and "_path_" not in note,
    )


def _relation(
    where: str, known: set[str], node: Node, id: str, type: str, properties: list[tuple[str, str]]
) -> dict[str, str]:
    values = {}
    for name in ("Source", "Type", "Target"):
        found = [value for key, value in properties if key == name]
        if len(found) != 1 or not found[0]:
            problem = f"{type} {id} has {len(found)} values of {name}, expected one."
            raise DataFormatError(where, problem, line=node.line, remedy=_REMEDY)
        values[name] = found[0]
    for name in ("Source", "Target"):
        if values[name] not in known:
            problem = f"the {name} of {type} {id} is {values[name]!r}, which is no entity of this file."
            raise DataFormatError(where, problem, line=node.line, remedy=_REMEDY)
    return {"id": id, "type": f"{type}:{values['Type']}", "head": values["Source"], "tail": values["Target"]}


def _child(where: str, node: Node, tag: str) -> str:
    found = [child.text.strip() for child in node.find(tag)]
    if len(found) != 1 or not found[0]:
        raise DataFormatError(where, f"expected one <{tag}> in <{node.tag}>, found {len(found)}.", line=node.line)
    return found[0]


def _spans(where: str, node: Node) -> list[tuple[int, int]]:
    span = _child(where, node, "span")
    if not _SPAN.fullmatch(span):
        raise DataFormatError(where, f"expected the span `start,end[;start,end]`, found {span!r}.", line=node.line)
    pairs = [part.split(",") for part in span.split(";")]
    return [(int(start), int(end)) for start, end in pairs]


def _properties(where: str, node: Node) -> list[tuple[str, str]]:
    found = node.find("properties")
    if len(found) != 1:
        raise DataFormatError(where, f"expected one <properties> in <{node.tag}>.", line=node.line)
    return [(child.tag, child.text.strip()) for child in found[0].children]


def write_anafora(examples: Iterable[Mapping[str, Any]], folder: str | Path, *, annotator: str = "system") -> None:
    """Write documents as `<id>/<id>` (the text) and `<id>/<id>.Temporal-Relation.<annotator>.completed.xml`.

    Ids keep their form where they already have that of Anafora (`1@e@<document>@<annotator>`). Reading the folder again
    gives the same examples then.

    Raises:
        InputError: an example's id is no file name, a relation's type lacks its kind (`TLINK:CONTAINS`), or a value
            cannot stand in XML.
    """
    for example in examples:
        note = file_name(example["id"])
        path = Path(folder) / note / note
        write_note(path, example["text"])
        kind = "Entity" if "_path_" in note and not example["relations"] else "Relation"
        xml = _xml(note, annotator, example["entities"], example["relations"])
        atomic.write_text(path.with_name(f"{note}.Temporal-{kind}.{annotator}.completed.xml"), xml)


def _xml(note: str, annotator: str, entities: list[Mapping[str, Any]], relations: list[Mapping[str, str]]) -> str:
    ids = {}
    for number, entity in enumerate(entities, start=1):
        ids[entity["id"]] = entity["id"] if "@e@" in entity["id"] else f"{number}@e@{note}@{annotator}"
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', "", "<data>", "<annotations>"]
    for entity in entities:
        span = ";".join(f"{start},{end}" for start, end in entity["offsets"])
        lines += _annotation(
            "entity", ids[entity["id"]], span, entity["type"], [(a["name"], a["value"]) for a in entity["attributes"]]
        )
    for number, relation in enumerate(relations, start=1):
        id = relation["id"] if "@r@" in relation["id"] else f"{number}@r@{note}@{annotator}"
        type, colon, value = relation["type"].partition(":")
        if not colon:
            raise InputError(f"relation {relation['id']!r} of {note}: its type must be like TLINK:CONTAINS")
        properties = [("Source", ids[relation["head"]]), ("Type", value), ("Target", ids[relation["tail"]])]
        lines += _annotation("relation", id, None, type, properties)
    return "\n".join([*lines, "</annotations>", "</data>", ""])


def _annotation(tag: str, id: str, span: str | None, type: str, properties: list[tuple[str, str]]) -> list[str]:
    parents = "TemporalEntities" if tag == "entity" else "TemporalRelations"
    lines = [f"\t<{tag}>", f"\t\t<id>{_text(id)}</id>"]
    lines += [] if span is None else [f"\t\t<span>{span}</span>"]
    lines += [f"\t\t<type>{_text(type)}</type>", f"\t\t<parentsType>{parents}</parentsType>", "\t\t<properties>"]
    for name, value in properties:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.\-]*", name):
            raise InputError(f"annotation {id!r}: the property name {name!r} cannot be an XML element")
        lines.append(f"\t\t\t<{name}>{_text(value)}</{name}>")
    return [*lines, "\t\t</properties>", f"\t</{tag}>"]


def _text(value: str) -> str:
    if _XML_CHARACTERS.search(value):
        raise InputError(f"{value!r} holds a character that XML cannot")
    return escape(value)
