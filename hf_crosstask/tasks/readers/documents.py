"""Annotated documents (brat, Anafora, PubTator, ShARe) and the examples that a task makes of them.

The formats of whole documents carry more than one task needs. `card.type` decides what the examples are:

| type | example |
|---|---|
| `ner`, `span_ner` | the document with all entities, attributes and relations |
| `relation` | a candidate pair of entities with the sentences that hold both; the negative class without a gold relation |
| `classification` | a marked mention (`<< mention >>`) in its sentence, labelled with its type or one of its attributes |

Options of every reader of documents:

- `types`: entity type (and trigger of an event) of the source to that of the task; null leaves such entities out
- `relation_types`: the same for relations
- `distance` (relation): sentences between the two entities at most; 0 is the same sentence, 1 neighbours too
- `pairs` (relation): the candidate [head type, tail type] pairs; without it, those of the gold relations of the
  training split (of all splits where there is none)
- `attribute` (classification): the attribute to predict; without it, the entity's type
- `mentions` (classification): the types of the entities to classify; without it, all
- `context` (classification): sentences shown before and after that of the mention
- `validation_documents`: hold this many documents of the training split out, where the corpus has no validation split;
  the choice depends on the documents' names and `split_seed` alone, never on the seed of a run
- `corpus`: the name in `split_group` (`<corpus>:<document>`); tasks of one corpus share it, so that the leakage audit
  compares their documents. `pmid_names`: the documents' names are PMIDs.
- `encoding`

What is left out by option, or cannot be an example, is counted: `dropped` by reason, gold relations that no candidate
pair carries in `lost_gold` by label.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import Field

from hf_crosstask.tasks.readers.base import Source, TextOptions, pmid_group
from hf_crosstask.tasks.readers.sentences import Span

#: The attribute that `in_document` adds.
DOCUMENT_OFFSETS = "document_offsets"


class DocumentOptions(TextOptions):
    """Options of every reader of documents; the module docstring explains them."""

    types: dict[str, str | None] = Field(default_factory=dict)
    relation_types: dict[str, str | None] = Field(default_factory=dict)
    distance: int = Field(0, ge=0)
    pairs: list[tuple[str, str]] | None = None
    attribute: str | None = None
    mentions: list[str] | None = None
    context: int = Field(1, ge=0)
    validation_documents: int = Field(0, ge=0)
    split_seed: int = 0
    corpus: str | None = None
    pmid_names: bool = False


@dataclass(frozen=True)
class Document:
    """One annotated document.

    Attributes:
        name: unique in the corpus.
        where: its annotation file, named in errors.
        entities, relations: as the unified schema has them; offsets are into `text`.
        has_relations: False where relations were never annotated, so that their absence says nothing.
        concepts: whether relations hold between concepts (ids of normalizations) instead of entities.
        group: its `split_group`; empty for the one that the options give it.
    """

    name: str
    text: str
    where: str
    entities: list[dict[str, Any]] = field(default_factory=list)
    relations: list[dict[str, str]] = field(default_factory=list)
    has_relations: bool = True
    concepts: bool = False
    group: str = ""

    def types(self) -> dict[str, str]:
        """Type of everything a relation may hold between: entities, or concepts as first mentioned."""
        if not self.concepts:
            return {entity["id"]: entity["type"] for entity in self.entities}
        types: dict[str, str] = {}
        for entity in self.entities:
            for item in entity["normalized"]:
                types.setdefault(item["id"], entity["type"])
        return types


def split_group(source: Source, options: DocumentOptions, document: Document) -> str:
    """The `split_group` of a document."""
    if document.group or options.pmid_names:
        return document.group or pmid_group(document.name)
    return corpus_group(options.corpus or source.card.name, document.name)


def corpus_group(corpus: str, document: str) -> str:
    """The `split_group` of a document that has no PMID: its name in the id space of its corpus."""
    return f"{corpus}:{document}"


def text_group(corpus: str, text: str) -> str:
    """The `split_group` of a text whose document is unknown: copies of the text share it."""
    return corpus_group(corpus, hashlib.sha256(text.encode()).hexdigest()[:16])


def in_document(entity: Mapping[str, Any]) -> dict[str, Any]:
    """The entity with its place in the document as an attribute, for examples that show a part of the document.

    Only tasks with an official scorer of relations have it: the scorer compares mentions of the whole document.
    """
    value = ";".join(f"{start}:{end}" for start, end in entity["offsets"])
    return {**entity, "attributes": [*entity["attributes"], {"name": DOCUMENT_OFFSETS, "value": value}]}


def document_offsets(entity: Mapping[str, Any]) -> tuple[Span, ...]:
    """The place of an entity in its document; its offsets in the example where no attribute says it (`in_document`)."""
    values = [item["value"] for item in entity["attributes"] if item["name"] == DOCUMENT_OFFSETS]
    if not values:
        return tuple(sorted((start, end) for start, end in entity["offsets"]))
    pairs = [part.split(":") for part in values[0].split(";")]
    return tuple(sorted((int(start), int(end)) for start, end in pairs))


def fitting_line_ends(text: str, spans: Iterable[Span]) -> str:
    """The text that offsets without mention texts were made on, where the file has CRLF line ends.

    The corpora that this serves are distributed with single line feeds; a file that passed through Windows has two
    characters where the annotators saw one. So the text with single line feeds is taken, unless more of the spans fit
    to whole words in the text as it is.
    """
    if "\r\n" not in text:
        return text
    pairs = list(spans)
    folded = text.replace("\r\n", "\n")
    return text if _fitting(text, pairs) > _fitting(folded, pairs) else folded


def _fitting(text: str, spans: Iterable[Span]) -> int:
    """How many spans begin and end at the edge of a word."""

    def edge(position: int) -> bool:
        return not (text[position - 1 : position].isalnum() and text[position : position + 1].isalnum())

    return sum(
        0 <= start < end <= len(text)
        and not text[start].isspace()
        and not text[end - 1].isspace()
        and edge(start)
        and edge(end)
        for start, end in spans
    )


def slices(text: str, offsets: Sequence[Span]) -> list[str]:
    """The text of each part of an entity.

    Raises:
        ValueError: a part lies outside the text or is empty; the message says which.
    """
    for start, end in offsets:
        if not 0 <= start < end <= len(text):
            raise ValueError(f"offsets [{start}, {end}) lie outside the text of {len(text)} characters.")
    return [text[start:end] for start, end in offsets]


def outer_span(entity: Mapping[str, Any]) -> Span:
    """From the start of an entity's first part to the end of its last."""
    return min(start for start, _ in entity["offsets"]), max(end for _, end in entity["offsets"])
