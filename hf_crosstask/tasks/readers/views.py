"""The examples that a task makes of annotated documents: the document, candidate pairs, or marked mentions."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hf_crosstask.errors import DataFormatError, InputError
from hf_crosstask.tasks.readers.base import ReadResult, Source, integer
from hf_crosstask.tasks.readers.documents import Document, DocumentOptions, in_document, outer_span, split_group
from hf_crosstask.tasks.readers.holdout import choose_groups
from hf_crosstask.tasks.readers.sentences import Span, merge_straddled, split_sentences
from hf_crosstask.tasks.schema import make_example

_BLANK_LINE = re.compile(r"\n[ \t\r]*\n")
_OPEN, _CLOSE = "<< ", " >>"


@dataclass(frozen=True)
class PairView:
    """What makes the candidate pairs of a document.

    Attributes:
        source, options: of the reader.
        types: the candidate (head type, tail type) pairs.
        dropped, lost: counts to add to: reason, and label of gold relations that no pair carries.
    """

    source: Source
    options: DocumentOptions
    types: set[tuple[str, str]]
    dropped: Counter[str]
    lost: Counter[str]

    def gold(self, document: Document) -> dict[tuple[str, str], list[str]]:
        """(head, tail) to the gold relation types.

        Raises:
            DataFormatError: a type is not in the label set.
        """
        labels = self.source.card.labels
        gold: dict[tuple[str, str], list[str]] = defaultdict(list)
        for relation in document.relations:
            if relation["type"] not in labels:
                problem = f"relation {relation['id']} has the type {relation['type']!r}, not in {list(labels)}."
                remedy = "Rename it or leave it out with options.relation_types."
                raise DataFormatError(document.where, problem, remedy=remedy)
            types = gold[relation["head"], relation["tail"]]
            if relation["type"] in types:
                self.dropped["relations listed twice"] += 1
            else:
                types.append(relation["type"])
        return gold

    def example(
        self,
        document: Document,
        span: Span,
        entities: tuple[Mapping[str, Any], Mapping[str, Any]],
        gold: Sequence[str],
        name: str,
    ) -> dict[str, Any]:
        """One candidate pair (head, tail) in `text[span]`; without gold types it is a negative."""
        card = self.source.card
        start, end = span
        head, tail = entities if card.official is None else map(in_document, entities)
        types = sorted(gold or [str(card.negative_label)], key=card.labels.index)
        return make_example(
            f"{document.name}.{name}",
            card.name,
            document.text[start:end],
            split_group=document.group,
            entities=[_shifted(head, -start), _shifted(tail, -start)],
            relations=[
                {"id": f"R{number}", "type": type, "head": head["id"], "tail": tail["id"]}
                for number, type in enumerate(types, start=1)
            ],
        )


PairExamples = Callable[[PairView, Document], Iterator[dict[str, Any]]]


def document_examples(
    source: Source,
    options: DocumentOptions,
    splits: Mapping[str, Sequence[Document]],
    dropped: Mapping[str, Counter[str]],
    pair_examples: PairExamples | None = None,
) -> ReadResult:
    """The examples of the task type over each split's documents.

    Args:
        source: names the task; its card's type decides the view.
        options: of the reader.
        splits: the documents of each split.
        dropped: split to reason to count, what the reader itself left out; added to.
        pair_examples: makes the candidate pairs of a document; by default those of `mention_pairs`.

    Raises:
        InputError: documents make no examples of this task type.
        DataFormatError: an empty document, a document name or relation type that is not known, an attribute value
            that is not in the label set.
    """
    documents = {
        split: [_mapped(document, options, dropped[split]) for document in named]
        for split, named in _named(source, options, splits).items()
    }
    if options.validation_documents:
        documents = _with_validation(source, options, documents)
    result = ReadResult(splits={})
    for split in documents:
        lost: Counter[str] = Counter()
        counts = dropped.get(split, Counter())
        pairs = PairView(source, options, set(), counts, lost)
        result.splits[split] = list(_view(pairs, documents, split, pair_examples or mention_pairs))
        if counts:
            result.dropped[split] = {reason: count for reason, count in counts.items() if count}
        if source.card.type == "relation":
            result.lost_gold[split] = dict(sorted(lost.items()))
    return result


def _named(
    source: Source, options: DocumentOptions, splits: Mapping[str, Sequence[Document]]
) -> dict[str, list[Document]]:
    """The documents under unique names.

    A document that another split holds too (ten abstracts of JNLPBA do) becomes `<split>.<name>`, and keeps its
    `split_group`: the leakage audit must see it.
    """
    seen: set[str] = set()
    named: dict[str, list[Document]] = {split: [] for split in splits}
    for split, documents in splits.items():
        for document in documents:
            if options.pmid_names and not document.group and integer(document.name) is None:
                problem = f"the document name {document.name!r} is not a PMID."
                raise DataFormatError(document.where, problem, remedy="Set options.pmid_names to false.")
            if not document.text.strip():
                raise DataFormatError(document.where, f"the text of {document.name} is empty.")
            name = document.name if document.name not in seen else f"{split}.{document.name}"
            seen.add(name)
            named[split].append(replace(document, name=name, group=split_group(source, options, document)))
    return named


def _mapped(document: Document, options: DocumentOptions, dropped: Counter[str]) -> Document:
    """The document with its types renamed or left out."""
    if not options.types and not options.relation_types:
        return document
    entities, out = [], set()
    for entity in document.entities:
        type = options.types.get(entity["type"], entity["type"])
        if type is None:
            out.add(entity["id"])
            dropped[f"entities of type {entity['type']}"] += 1
        else:
            entities.append(entity | {"type": type})
    relations = []
    for relation in document.relations:
        type = options.relation_types.get(relation["type"], relation["type"])
        if type is None:
            dropped[f"relations of type {relation['type']}"] += 1
        elif relation["head"] in out or relation["tail"] in out:
            dropped["relations of entities left out"] += 1
        else:
            relations.append(relation | {"type": type})
    return replace(document, entities=entities, relations=relations)


def _with_validation(
    source: Source, options: DocumentOptions, documents: Mapping[str, list[Document]]
) -> dict[str, list[Document]]:
    if "validation" in documents or "train" not in documents:
        problem = "options.validation_documents cuts a validation split from the training split, but "
        problem += "there is one already." if "validation" in documents else "there is no training split."
        raise InputError(f"task {source.card.name!r}: {problem}")
    sizes = Counter(document.group for document in documents["train"])
    held = choose_groups(sizes, options.validation_documents, options.split_seed, source.name)
    train = [document for document in documents["train"] if document.group not in held]
    validation = [document for document in documents["train"] if document.group in held]
    return {"train": train, "validation": validation} | {s: d for s, d in documents.items() if s != "train"}


def _view(
    view: PairView, documents: Mapping[str, Sequence[Document]], split: str, pair_examples: PairExamples
) -> Iterator[dict[str, Any]]:
    card, options = view.source.card, view.options
    match card.type:
        case "ner" | "span_ner":
            for document in documents[split]:
                yield make_example(
                    document.name,
                    card.name,
                    document.text,
                    split_group=document.group,
                    entities=document.entities,
                    relations=document.relations,
                )
        case "relation":
            if card.negative_label not in card.labels:
                raise InputError(f"task {card.name!r}: candidate pairs need a `negative_label` among the `labels`")
            gold_in = documents["train"] if "train" in documents else [d for part in documents.values() for d in part]
            view = replace(view, types=_gold_pairs(gold_in) if options.pairs is None else set(options.pairs))
            for document in documents[split]:
                if document.has_relations:
                    yield from pair_examples(view, document)
                else:
                    view.dropped["documents whose relations were never annotated"] += 1
        case "classification":
            for document in documents[split]:
                yield from _mention_examples(view.source, options, document, view.dropped)
        case _:
            raise InputError(
                f"task {card.name!r}: the reader {card.reader!r} makes ner, span_ner, relation and classification "
                f"examples, not {card.type}"
            )


def _gold_pairs(documents: Iterable[Document]) -> set[tuple[str, str]]:
    pairs = set()
    for document in documents:
        types = document.types()
        for relation in document.relations:
            if relation["head"] in types and relation["tail"] in types:
                pairs.add((types[relation["head"]], types[relation["tail"]]))
    return pairs


def _sentences(document: Document) -> list[Span]:
    """The document's sentences; a blank line ends one, and no entity crosses a boundary."""
    text, spans, start = document.text, [], 0
    for end in [*(match.end() for match in _BLANK_LINE.finditer(text)), len(text)]:
        spans += [(first + start, last + start) for first, last in split_sentences(text[start:end])]
        start = end
    return merge_straddled(spans, (outer_span(entity) for entity in document.entities))


def _placed(document: Document) -> tuple[list[Span], dict[str, int]]:
    """The sentences, and entity id to the number of its sentence."""
    sentences = _sentences(document)
    starts = [start for start, _ in sentences]
    places: dict[str, int] = {}
    number = 0
    for entity in sorted(document.entities, key=outer_span):
        start, _ = outer_span(entity)
        while number + 1 < len(starts) and starts[number + 1] <= start:
            number += 1
        places[entity["id"]] = number
    return sentences, places


def _around(sentences: Sequence[Span], first: int, last: int, entities: Iterable[Mapping[str, Any]]) -> Span:
    """From the first to the last sentence; an entity may begin or end in the white space around them."""
    outer = [outer_span(entity) for entity in entities]
    return min(sentences[first][0], *(s for s, _ in outer)), max(sentences[last][1], *(e for _, e in outer))


def _shifted(entity: Mapping[str, Any], shift: int) -> dict[str, Any]:
    return {**entity, "offsets": [[start + shift, end + shift] for start, end in entity["offsets"]]}


def mention_pairs(view: PairView, document: Document) -> Iterator[dict[str, Any]]:
    """The candidate pairs of entities at most `options.distance` sentences apart."""
    entities = {entity["id"]: entity for entity in document.entities}
    gold = view.gold(document)
    sentences, places = _placed(document)
    by_sentence: dict[int, list[str]] = defaultdict(list)
    for name, place in places.items():
        by_sentence[place].append(name)
    carried = set()
    for head, place in places.items():
        for near in range(place - view.options.distance, place + view.options.distance + 1):
            for tail in by_sentence.get(near, []):
                if head == tail or (entities[head]["type"], entities[tail]["type"]) not in view.types:
                    continue
                carried.add((head, tail))
                pair = entities[head], entities[tail]
                span = _around(sentences, min(place, near), max(place, near), pair)
                yield view.example(document, span, pair, gold.get((head, tail), []), f"{head}.{tail}")
    for missed in gold.keys() - carried:
        view.lost.update(gold[missed])


def _mention_examples(
    source: Source, options: DocumentOptions, document: Document, dropped: Counter[str]
) -> Iterator[dict[str, Any]]:
    card = source.card
    sentences, places = _placed(document)
    for entity in document.entities:
        if options.mentions is not None and entity["type"] not in options.mentions:
            continue
        label = entity["type"]
        if options.attribute is not None:
            values = [item["value"] for item in entity["attributes"] if item["name"] == options.attribute]
            if len(values) > 1:
                problem = f"entity {entity['id']} has {len(values)} values of {options.attribute}: {values}."
                raise DataFormatError(document.where, problem)
            if not values or not values[0]:
                dropped[f"mentions without {options.attribute}"] += 1
                continue
            label = values[0]
        if label not in card.labels:
            what = options.attribute or "type"
            problem = f"the {what} of entity {entity['id']} is {label!r}, not in the label set {list(card.labels)}."
            raise DataFormatError(document.where, problem)
        place = places[entity["id"]]
        place_after = min(place + options.context, len(sentences) - 1)
        start, end = _around(sentences, max(place - options.context, 0), place_after, (entity,))
        first, last = outer_span(entity)
        text = document.text
        yield make_example(
            f"{document.name}.{entity['id']}",
            card.name,
            text[start:first] + _OPEN + text[first:last] + _CLOSE + text[last:end],
            split_group=document.group,
            entities=[_shifted(entity, len(_OPEN) - start)],
            labels=[label],
        )
