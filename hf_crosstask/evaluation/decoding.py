"""From logits to predictions: word tags to entities, class scores to labels. (Label sets, scores and lists:
`set_decoding`, `list_decoding`.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hf_crosstask.encoding.tags import decode_tags, ner_tags
from hf_crosstask.encoding.words import words
from hf_crosstask.evaluation.entities import Entity, as_entity
from hf_crosstask.evaluation.predictions import Predictions, Target
from hf_crosstask.tasks.card import TaskCard

if TYPE_CHECKING:
    from datasets import Dataset

Logits = Sequence[NDArray[np.float32]]

#: Entity attributes, `start:end`, by which a reader names spans that are acceptable instead of a gold entity
#: (`alternative`) or, overlapping none, are at least not wrong (`neutral`).
_ACCEPTED = frozenset({"alternative", "neutral"})


class Decoder(Protocol):
    """Turns the logits of one task's encoded rows into predictions.

    Attributes:
        references: ids, clusters and gold of the examples, with nothing predicted.
        example_index: for each encoded row, the number of its example.
    """

    references: Predictions
    example_index: list[int]

    def decode(self, logits: Logits) -> Predictions:
        """Predictions in example order, from one array of finite numbers for each encoded row."""
        ...


class TagDecoder:
    """Entities from one tag a word, read at the token that stands for the word.

    The tags of all windows of an example make one sequence, read as strict IOB2. A word that no window owns (truncated)
    is outside. The confidence of an entity is the product of the probabilities of its words' tags: the model's
    probability of that piece of the tag sequence, its words taken as independent.
    """

    def __init__(self, card: TaskCard, target: Target, examples: Dataset, encoded_rows: Dataset):
        self.references = entity_references(target, examples)
        self._tags = ner_tags(card.labels)
        self._spans = [words(text, card.segmentation) for text in examples["text"]]
        rows = encoded_rows.select_columns(["example_index", "word_index", "word_position"]).with_format("arrow")[:]
        self.example_index: list[int] = rows["example_index"].to_pylist()
        self._word_position = rows["word_position"].to_pylist()
        # Words of all examples in one array: example i has the numbers [first[i], first[i + 1]).
        self._first = np.cumsum([0, *map(len, self._spans)])
        pieces = [np.zeros(0, dtype=np.int64)]
        for example, owned in zip(self.example_index, rows["word_index"].to_pylist(), strict=True):
            if max(owned, default=-1) >= len(self._spans[example]):
                raise ValueError(f"task {target.task!r}: an encoded row has more words than its example")
            pieces.append(self._first[example] + np.asarray(owned, dtype=np.int64))
        self._words = np.concatenate(pieces)
        if len(np.unique(self._words)) != len(self._words):
            raise ValueError(f"task {target.task!r}: two encoded rows own the same word")

    def decode(self, logits: Logits) -> Predictions:
        """See `Decoder`; each array is `[length, tags]`."""
        shapes = {array.shape[1:] for array in logits}
        if shapes - {(len(self._tags),)}:
            raise ValueError(f"logits of shape [length, {len(self._tags)}] expected, found [length, *{shapes}]")
        read = [array[position] for array, position in zip(logits, self._word_position, strict=True)]
        scores = np.concatenate([np.zeros((0, len(self._tags))), *read])
        best = np.zeros(self._first[-1], dtype=np.int64)  # 0 is "O"
        log_probability = np.zeros(self._first[-1])
        best[self._words] = scores.argmax(axis=1)
        log_probability[self._words] = log_softmax(scores).max(axis=1)
        predicted, confidence = [], []
        for spans, first in zip(self._spans, self._first[:-1], strict=True):
            found = decode_tags([self._tags[tag] for tag in best[first : first + len(spans)]])
            predicted.append(tuple(Entity(kind, ((spans[a][0], spans[b - 1][1]),)) for kind, a, b in found))
            confidence.append(tuple(float(np.exp(log_probability[first + a : first + b].sum())) for _, a, b in found))
        gold = self.references
        return Predictions(
            gold.target, gold.ids, gold.split_groups, gold.gold, tuple(predicted), tuple(confidence), gold.alternatives
        )


class LabelDecoder:
    """One label an example: the largest logit; the confidence is its softmax probability.

    Where several rows share an example, their logits are averaged. An example without a row has no prediction.
    """

    def __init__(self, card: TaskCard, target: Target, examples: Dataset, encoded_rows: Dataset):
        self.references = label_references(target, examples)
        self.example_index: list[int] = list(encoded_rows["example_index"])
        self._labels = card.labels

    def decode(self, logits: Logits) -> Predictions:
        """See `Decoder`; each array is `[labels]`."""
        gold = self.references
        mean, seen = mean_by_example(logits, self.example_index, len(gold), len(self._labels))
        probability = np.exp(log_softmax(mean).max(axis=1))
        best = mean.argmax(axis=1)
        return Predictions(
            target=gold.target,
            ids=gold.ids,
            split_groups=gold.split_groups,
            gold=gold.gold,
            predicted=tuple(self._labels[b] if s else None for b, s in zip(best, seen, strict=True)),
            confidence=tuple(float(p) if s else None for p, s in zip(probability, seen, strict=True)),
            logits=seen_logits(mean, seen),
        )


def mean_by_example(
    logits: Logits, example_index: Sequence[int], examples: int, width: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Logits `[examples, width]`, averaged over the rows of each example, and which examples have a row.

    Raises:
        ValueError: a row has another number of logits.
    """
    shapes = {array.shape for array in logits}
    if shapes - {(width,)}:
        raise ValueError(f"logits of shape [{width}] expected, found {sorted(shapes)}")
    rows = np.bincount(example_index, minlength=examples)
    mean = np.zeros((examples, width))
    np.add.at(mean, np.asarray(example_index, dtype=np.int64), np.reshape(logits, (-1, width)))
    return mean / np.maximum(rows, 1)[:, None], rows > 0


def seen_logits(mean: NDArray[np.float64], seen: NDArray[np.bool_]) -> tuple[NDArray[np.float32] | None, ...]:
    """The logits of each example as predictions keep them; None at an example without a row."""
    return tuple(m if s else None for m, s in zip(mean.astype(np.float32), seen, strict=True))


def log_softmax(scores: NDArray[Any]) -> NDArray[np.float64]:
    """Log probabilities over the last axis, computed in float64."""
    shifted = scores.astype(np.float64) - scores.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def entity_references(target: Target, examples: Dataset) -> Predictions:
    """The gold side of an entity task: all entities, also those that encoding cut or could not align (misses)."""
    columns = examples.select_columns(["id", "split_group", "entities"]).with_format("arrow")[:].to_pydict()
    alternatives = tuple(_alternatives(row) for row in columns["entities"])
    nothing = ((),) * len(columns["id"])
    return Predictions(
        target=target,
        ids=tuple(columns["id"]),
        split_groups=tuple(columns["split_group"]),
        gold=tuple(tuple(as_entity(item) for item in row) for row in columns["entities"]),
        predicted=nothing,
        confidence=nothing,
        alternatives=alternatives if any(alternatives) else None,
    )


def _alternatives(entities: Sequence[Mapping[str, Any]]) -> tuple[Entity, ...]:
    found: dict[Entity, None] = {}
    for entity in entities:
        for attribute in entity["attributes"]:
            if attribute["name"] in _ACCEPTED:
                start, end = attribute["value"].split(":")
                found[Entity(entity["type"], ((int(start), int(end)),))] = None
    return tuple(found)


def label_references(target: Target, examples: Dataset) -> Predictions:
    """The gold side of a label task: an example's labels, or the distinct types of its candidate pair's relations."""
    column = "relations" if target.type == "relation" else "labels"
    rows = examples.select_columns([column]).with_format("arrow")[:][column].to_pylist()
    if column == "relations":
        rows = [list(dict.fromkeys(relation["type"] for relation in row)) for row in rows]
    return references(target, examples, rows)


def references(target: Target, examples: Dataset, gold: Sequence[Sequence[Any]]) -> Predictions:
    """Predictions of these examples with nothing predicted."""
    columns = examples.select_columns(["id", "split_group"]).with_format("arrow")[:].to_pydict()
    nothing = (None,) * len(gold)
    return Predictions(
        target=target,
        ids=tuple(columns["id"]),
        split_groups=tuple(columns["split_group"]),
        gold=tuple(map(tuple, gold)),
        predicted=nothing,
        confidence=nothing,
    )
