"""Label placebos: a task's training examples with its own labels in random order.

A multi-task run on them shows what an auxiliary task does by its text, its format and its regularisation alone: what
its labels teach is gone. Texts, and so tokens and plan, stay as they are, and so do the label frequencies of the split.
Entities keep their number and their lengths in words within each sentence, but move to random words; their types are
permuted over the split.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hf_crosstask.atomic import json_fingerprint
from hf_crosstask.encoding.words import words
from hf_crosstask.tasks.card import TaskCard
from hf_crosstask.tasks.load import TaskData
from hf_crosstask.tasks.schema import check_examples, make_entity, to_dataset

_Examples = list[dict[str, Any]]


def permute_labels(data: TaskData, seed: int) -> TaskData:
    """The task with the labels of its training split permuted; validation and test are untouched.

    Args:
        data: the task.
        seed: of the permutation, with the task's name.
    """
    card, stream = data.card, random.Random(f"{seed}/{data.card.name}/permuted_labels")
    examples = data.splits["train"].with_format(None).to_list()
    if card.type in ("ner", "span_ner"):
        examples = _moved_entities(examples, card, stream)
    elif card.type == "relation":
        examples = _permuted_relations(examples, stream)
    elif card.type == "multiple_choice":
        examples = [_another_answer(example, stream) for example in examples]
    else:
        fields = {"similarity": ("score",), "generation": ("answer",), "ranking": ("labels", "score")}
        examples = _permuted(examples, fields.get(card.type, ("labels",)), stream)
    check_examples(examples, card.type, card.labels, source=f"{card.name} (permuted labels)")
    return replace(
        data,
        splits={**data.splits, "train": to_dataset(examples)},
        fingerprint=json_fingerprint([data.fingerprint, "permuted_labels", seed]),
    )


def _permuted(examples: _Examples, fields: Sequence[str], stream: random.Random) -> _Examples:
    order = stream.sample(range(len(examples)), len(examples))
    return [
        {**example, **{field: examples[other][field] for field in fields}}
        for example, other in zip(examples, order, strict=True)
    ]


def _permuted_relations(examples: _Examples, stream: random.Random) -> _Examples:
    """The types change places over all relations of the split; what is related stays."""
    types = [relation["type"] for example in examples for relation in example["relations"]]
    stream.shuffle(types)
    drawn = iter(types)
    return [
        {**example, "relations": [{**relation, "type": next(drawn)} for relation in example["relations"]]}
        for example in examples
    ]


def _another_answer(example: dict[str, Any], stream: random.Random) -> dict[str, Any]:
    return {**example, "answer": stream.choice(example["choices"])}


def _moved_entities(examples: _Examples, card: TaskCard, stream: random.Random) -> _Examples:
    types = [entity["type"] for example in examples for entity in example["entities"]]
    stream.shuffle(types)
    drawn = iter(types)
    moved = []
    for example in examples:
        spans = words(example["text"], card.segmentation)
        sizes = [_words_in(entity, spans) for entity in example["entities"]]
        entities = []
        for number, (start, end) in enumerate(_places(sizes, len(spans), stream)):
            first, last = spans[start][0], spans[end - 1][1]
            entities.append(make_entity(f"T{number}", next(drawn), [(first, last)], [example["text"][first:last]]))
        moved.append({**example, "entities": entities, "relations": []})
    return moved


def _words_in(entity: dict[str, Any], spans: Sequence[tuple[int, int]]) -> int:
    """How many words an entity has, at least one."""
    touched = [1 for start, end in spans if any(start < right and left < end for left, right in entity["offsets"])]
    return max(1, len(touched))


def _places(sizes: Sequence[int], words: int, stream: random.Random) -> list[tuple[int, int]]:
    """Random places for runs of so many words, none overlapping; the longest of nested entities shrink to fit."""
    sizes = list(sizes)
    while sum(sizes) > words:
        longest = max(range(len(sizes)), key=sizes.__getitem__)
        if sizes[longest] == 1:
            sizes.pop()
        else:
            sizes[longest] -= 1
    stream.shuffle(sizes)
    gaps = sorted(stream.randint(0, words - sum(sizes)) for _ in sizes)
    places, taken = [], 0
    for size, gap in zip(sizes, gaps, strict=True):
        places.append((gap + taken, gap + taken + size))
        taken += size
    return places
