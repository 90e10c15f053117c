"""From logits of rows that hold several sequences to predictions: the choices of a question, candidates of a query.

The arrays of such rows have one number a sequence and may be padded behind the last.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from hf_crosstask.evaluation.decoding import Logits, label_references, log_softmax, references
from hf_crosstask.evaluation.predictions import Predictions, Query, Target
from hf_crosstask.evaluation.set_decoding import sigmoid
from hf_crosstask.tasks.card import TaskCard
from hf_crosstask.tasks.schema import RELEVANCE

if TYPE_CHECKING:
    from datasets import Dataset


class ChoiceDecoder:
    """The choice with the highest score; the confidence is its softmax probability among the choices."""

    def __init__(self, card: TaskCard, target: Target, examples: Dataset, encoded_rows: Dataset):
        columns = examples.select_columns(["choices", "answer"]).with_format("arrow")[:].to_pydict()
        self._choices = tuple(map(tuple, columns["choices"]))
        self.references = replace(
            references(target, examples, [(answer,) for answer in columns["answer"]]), choices=self._choices
        )
        self.example_index: list[int] = list(encoded_rows["example_index"])
        if self.example_index != list(range(len(self._choices))):
            raise ValueError(f"task {target.task!r}: every question has exactly one encoded row, in order")

    def decode(self, logits: Logits) -> Predictions:
        """See `Decoder`; each array is `[choices]`."""
        scores = [_first(array, len(row)) for array, row in zip(logits, self._choices, strict=True)]
        best = [int(row.argmax()) for row in scores]
        return replace(
            self.references,
            predicted=tuple(row[b] for row, b in zip(self._choices, best, strict=True)),
            confidence=tuple(float(np.exp(log_softmax(row)[b])) for row, b in zip(scores, best, strict=True)),
            logits=tuple(row.astype(np.float32) for row in scores),
        )


class CandidateDecoder:
    """Candidates of queries: relevant where the logit is positive; its order ranks them.

    The confidence is the probability of the decision.
    """

    def __init__(self, card: TaskCard, target: Target, examples: Dataset, encoded_rows: Dataset):
        columns = examples.select_columns(["group_id", "rank"]).with_format("arrow")[:].to_pydict()
        self.references = replace(
            label_references(target, examples), queries=tuple(map(Query, columns["group_id"], columns["rank"]))
        )
        rows = encoded_rows.select_columns(["example_index", "candidate_index"]).with_format("arrow")[:]
        self.example_index: list[int] = rows["example_index"].to_pylist()
        self._candidates: list[list[int]] = rows["candidate_index"].to_pylist()
        listed = [candidate for row in self._candidates for candidate in row]
        if sorted(listed) != list(range(len(self.references))):
            raise ValueError(f"task {target.task!r}: every candidate stands in exactly one encoded row")

    def decode(self, logits: Logits) -> Predictions:
        """See `Decoder`; each array is `[candidates]`."""
        scores = np.zeros(len(self.references), dtype=np.float32)
        for array, candidates in zip(logits, self._candidates, strict=True):
            scores[candidates] = _first(array, len(candidates))
        return replace(
            self.references,
            predicted=tuple(RELEVANCE[int(score > 0)] for score in scores),
            confidence=tuple(sigmoid(np.abs(scores)).tolist()),
            logits=tuple(scores[:, None]),
        )


def _first(array: np.ndarray, count: int) -> np.ndarray:
    """The numbers of a row's own sequences.

    Raises:
        ValueError: there are fewer.
    """
    if array.ndim != 1 or len(array) < count:
        raise ValueError(f"logits of shape [{count}] expected, found {list(array.shape)}")
    return array[:count]
