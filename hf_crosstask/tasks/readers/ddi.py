"""DDI-2013: drug-drug interactions, from the original XML; every annotated pair of one sentence is an example.

Files: the folders `Train` and `Test` of DDICorpus (below the folder, or in the zip archive in it), each with `DrugBank`
and `MedLine`. **The folder `Test for DrugNER task` is not the test set of this task** (its 112 documents hold 941
pairs, all without interaction): it is left out and counted.

- `charOffset="a-b"` counts characters of the sentence, **end inclusive**; `a-b;c-d` is a discontinuous mention.
- `pair` has `ddi="true"` with a `type`, or `ddi="false"`. One training pair is true without a type: no class is made up
  for it, it is left out and counted. The same would hold in the test part.
- One entity of the distribution has wrong offsets; it is known by its id, corrected, and counted.
- `e1` is the head, `e2` the tail, in the order of the text. `split_group` is the PMID of MedLine documents (their file
  name) and the document's id for DrugBank.

Options: `validation_documents` (90, as many as BLURB holds out; its list was never published) training documents
become the validation split, chosen by a hash of their id and `split_seed`; 0 keeps all for training. `encoding` is not
used: XML declares its own.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from hf_crosstask.errors import DataFormatError
from hf_crosstask.tasks.readers.base import Options, ReadResult, Source, integer, parse_options, pmid_group
from hf_crosstask.tasks.readers.documents import corpus_group, slices
from hf_crosstask.tasks.readers.files import FileTree, split_trees
from hf_crosstask.tasks.readers.holdout import choose_groups
from hf_crosstask.tasks.readers.safe_xml import Node, parse_xml
from hf_crosstask.tasks.schema import make_entity, make_example

ENTITY_TYPES = ("drug", "brand", "group", "drug_n")
#: Entities whose offsets miss their mention, with the offsets that the mention has.
_KNOWN_ERRORS = {"DDI-DrugBank.d216.s16.e2": "96-98;107-115"}
_OFFSET = re.compile(r"[0-9]{1,9}-[0-9]{1,9}(?:;[0-9]{1,9}-[0-9]{1,9})*")
_UNTYPED = "true pairs without a type"


class DdiOptions(Options):
    """Options of the reader; the module docstring explains them."""

    validation_documents: int = Field(90, ge=0)
    split_seed: int = 0


@dataclass(frozen=True)
class _Document:
    id: str
    examples: list[dict[str, Any]]


def read(source: Source) -> ReadResult:
    """Read training and test part.

    Raises:
        DataFormatError: a file is missing or breaks the format, a mention is not at its offsets, a pair names an
            unknown entity or type.
    """
    options = parse_options(source, DdiOptions)
    trees = split_trees(source, lambda name: name.lower().endswith(".xml"), "folders Train and Test with XML files")
    dropped: dict[str, Counter[str]] = {split: Counter() for split in trees}
    parts: dict[str, list[_Document]] = {}
    for split, tree in trees.items():
        wanted = tree.keep(lambda name: "drugner" not in name.lower())
        others = len(tree.names) - len(wanted.names)
        if others:
            dropped[split]["documents of the DrugNER test, which is not that of this task"] = others
        parts[split] = [_document(source, wanted, name, dropped[split]) for name in wanted.names]
        ids = Counter(document.id for document in parts[split])
        twice = [id for id, count in ids.items() if count > 1]
        if twice:
            raise DataFormatError(tree.root, f"the document {twice[0]} occurs twice in the {split} part.")
    splits: dict[str, list[_Document]] = dict(parts)
    if options.validation_documents and "validation" not in parts and "train" in parts:
        sizes = {document.id: 1 for document in parts["train"]}
        held = choose_groups(sizes, options.validation_documents, options.split_seed, source.name)
        splits["train"] = [document for document in parts["train"] if document.id not in held]
        splits["validation"] = [document for document in parts["train"] if document.id in held]
    return ReadResult(
        {
            split: [example for document in documents for example in document.examples]
            for split, documents in splits.items()
        },
        dropped={split: dict(counts) for split, counts in dropped.items() if counts},
    )


def _document(source: Source, tree: FileTree, name: str, dropped: Counter[str]) -> _Document:
    where = tree.where(name)
    root = parse_xml(tree.read_bytes(name), where)
    if root.tag != "document":
        raise DataFormatError(where, f"expected <document>, found <{root.tag}>.", line=root.line)
    id = _attribute(where, root, "id")
    stem = name.rsplit("/", 1)[-1].rsplit(".", 1)[0]
    medline = id.startswith("DDI-MedLine") and integer(stem) is not None
    group = pmid_group(stem) if medline else corpus_group("ddi", id)
    examples = [
        example for sentence in root.children for example in _sentence(source, where, sentence, group, dropped)
    ]
    return _Document(id, examples)


def _sentence(
    source: Source, where: str, sentence: Node, group: str, dropped: Counter[str]
) -> Iterator[dict[str, Any]]:
    if sentence.tag != "sentence":
        raise DataFormatError(where, f"expected <sentence>, found <{sentence.tag}>.", line=sentence.line)
    text = _attribute(where, sentence, "text", empty=True)
    entities: dict[str, dict[str, Any]] = {}
    pairs = []
    for node in sentence.children:
        if node.tag == "entity":
            entity = _entity(where, node, text, dropped)
            if entity["id"] in entities:
                raise DataFormatError(where, f"the entity {entity['id']} occurs twice.", line=node.line)
            entities[entity["id"]] = entity
        elif node.tag == "pair":
            pairs.append(node)
        else:
            raise DataFormatError(where, f"expected <entity> or <pair>, found <{node.tag}>.", line=node.line)
    for node in pairs:
        label = _label(source, where, node)
        if label is None:
            dropped[_UNTYPED] += 1
            continue
        ends = [_attribute(where, node, name) for name in ("e1", "e2")]
        for end in ends:
            if end not in entities:
                raise DataFormatError(where, f"{end!r} is no entity of this sentence.", line=node.line)
        if ends[0] == ends[1]:
            raise DataFormatError(where, f"a pair of {ends[0]} with itself.", line=node.line)
        yield make_example(
            _attribute(where, node, "id"),
            source.card.name,
            text,
            split_group=group,
            entities=[entities[end] for end in ends],
            relations=[{"id": "R1", "type": label, "head": ends[0], "tail": ends[1]}],
        )


def _entity(where: str, node: Node, text: str, dropped: Counter[str]) -> dict[str, Any]:
    id, type, mention = (_attribute(where, node, name) for name in ("id", "type", "text"))
    if type not in ENTITY_TYPES:
        raise DataFormatError(where, f"entity type {type!r}; valid: {', '.join(ENTITY_TYPES)}.", line=node.line)
    given = _attribute(where, node, "charOffset")
    if not _OFFSET.fullmatch(given):
        raise DataFormatError(where, f"charOffset is {given!r}, expected `a-b[;c-d]`.", line=node.line)
    if id in _KNOWN_ERRORS:
        given = _KNOWN_ERRORS[id]
        dropped["known offset errors of the distribution, corrected"] += 1
    pairs = [part.split("-") for part in given.split(";")]
    offsets = [(int(first), int(last) + 1) for first, last in pairs]
    try:
        parts = slices(text, offsets)
    except ValueError as error:
        raise DataFormatError(where, f"{id}: {error}", line=node.line) from None
    # Parts are joined by a blank, or by none inside a word: white space is not compared.
    if "".join("".join(parts).split()) != "".join(mention.split()):
        problem = f"{id}: the sentence has {' '.join(parts)!r} at {given}, the entity says {mention!r}."
        raise DataFormatError(where, problem, line=node.line)
    return make_entity(id, type, offsets, parts)


def _label(source: Source, where: str, node: Node) -> str | None:
    """The class of a pair; None for a true pair without a type."""
    card, type = source.card, node.attributes.get("type")
    match _attribute(where, node, "ddi"):
        case "false":
            if type is not None:
                raise DataFormatError(where, f"a pair without interaction has the type {type!r}.", line=node.line)
            return card.negative_label or "false"
        case "true":
            if type is not None and (type not in card.labels or type == card.negative_label):
                problem = f"interaction {type!r} is not in the label set {list(card.labels)}."
                raise DataFormatError(where, problem, line=node.line)
            return type
        case other:
            raise DataFormatError(where, f'expected ddi="true" or "false", found {other!r}.', line=node.line)


def _attribute(where: str, node: Node, name: str, *, empty: bool = False) -> str:
    value = node.attributes.get(name)
    if value is None or (not value and not empty):
        raise DataFormatError(where, f"<{node.tag}> has no {name!r}.", line=node.line)
    return value
