"""From the log odds of links between words to entities of any shape (see `hf_crosstask.encoding.links`)."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hf_crosstask.encoding.links import Mention, read
from hf_crosstask.encoding.span_ner import cell_owners
from hf_crosstask.encoding.words import words
from hf_crosstask.evaluation.decoding import Logits, entity_references
from hf_crosstask.evaluation.entities import Entity
from hf_crosstask.evaluation.predictions import Predictions, Target
from hf_crosstask.tasks.card import TaskCard

if TYPE_CHECKING:
    from datasets import Dataset


class SpanDecoder:
    """Entities from the links of all windows of an example together, each link taken from the window that owns it.

    The confidence of an entity is the product of the probabilities of its links.
    """

    def __init__(self, card: TaskCard, target: Target, examples: Dataset, encoded_rows: Dataset):
        self.references = entity_references(target, examples)
        self._labels, self._reach = card.labels, card.reach
        columns = encoded_rows.select_columns(["example_index", "word_index"]).with_format("arrow")[:]
        self.example_index: list[int] = columns["example_index"].to_pylist()
        self._word_index = [np.asarray(row, dtype=np.int64) for row in columns["word_index"].to_pylist()]
        self._rows: dict[int, list[int]] = defaultdict(list)
        for row, example in enumerate(self.example_index):
            self._rows[example].append(row)
        self._spans = [np.array(words(text, card.segmentation)).reshape(-1, 2) for text in examples["text"]]

    def decode(self, logits: Logits) -> Predictions:
        """See `Decoder`; each array is `[words, reach, 1 + labels]`."""
        shapes = {array.shape[1:] for array in logits}
        wanted = (self._reach, 1 + len(self._labels))
        if shapes - {wanted}:
            raise ValueError(f"logits of shape [words, {wanted[0]}, {wanted[1]}] expected, found [words, *{shapes}]")
        predicted, confidence = [], []
        for example, spans in enumerate(self._spans):
            present, scores = self._assembled(self._rows[example], logits)
            found = read(scores)
            predicted.append(tuple(self._entity(mention, spans[present]) for mention, _ in found))
            confidence.append(tuple(probability for _, probability in found))
        gold = self.references
        return Predictions(
            gold.target, gold.ids, gold.split_groups, gold.gold, tuple(predicted), tuple(confidence), gold.alternatives
        )

    def _assembled(self, rows: list[int], logits: Logits) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The words of an example that have a token, and their links `[words, reach, 1 + labels]`."""
        of_rows = [self._word_index[row] for row in rows]
        present = np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *of_rows]))
        shown = [
            (int(first), int(first) + len(row))
            for row in of_rows
            for first in [np.searchsorted(present, row[:1]).sum()]
        ]
        owner = cell_owners(shown, len(present), self._reach)
        scores = np.full((len(present), self._reach, 1 + len(self._labels)), -np.inf)
        for number, ((first, stop), row) in enumerate(zip(shown, rows, strict=True)):
            owned = owner[first:stop] == number
            scores[first:stop][owned] = logits[row][: stop - first][owned]
        return present, scores

    def _entity(self, mention: Mention, spans: NDArray[np.int64]) -> Entity:
        offsets = tuple((int(spans[first, 0]), int(spans[stop - 1, 1])) for first, stop in mention.parts)
        return Entity(self._labels[mention.type], offsets)
