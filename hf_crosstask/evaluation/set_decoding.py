"""From logits to label sets and to scores."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hf_crosstask.evaluation.decoding import Logits, label_references, mean_by_example, references, seen_logits
from hf_crosstask.evaluation.multilabel import DEFAULT_THRESHOLD, best_threshold, label_matrix
from hf_crosstask.evaluation.predictions import Predictions, Target
from hf_crosstask.tasks.card import TaskCard

if TYPE_CHECKING:
    from datasets import Dataset


class LabelSetDecoder:
    """The labels whose probability (sigmoid of their logit) reaches the threshold; that is their confidence.

    Where several rows share an example, their logits are averaged.
    """

    def __init__(self, card: TaskCard, target: Target, examples: Dataset, encoded_rows: Dataset):
        self.references = label_references(target, examples)
        self.example_index: list[int] = list(encoded_rows["example_index"])
        self._labels = card.labels
        self.threshold = DEFAULT_THRESHOLD

    def at(self, threshold: float) -> LabelSetDecoder:
        """The decoder with another threshold."""
        other = copy.copy(self)
        other.threshold = threshold
        return other

    def decode(self, logits: Logits) -> Predictions:
        """See `Decoder`; each array is `[labels]`."""
        mean, seen = self._mean(logits)
        probabilities = sigmoid(mean)
        chosen = (probabilities >= self.threshold) & seen[:, None]
        picked = [np.flatnonzero(row) for row in chosen]
        return replace(
            self.references,
            predicted=tuple(
                tuple(self._labels[k] for k in row) if s else None for row, s in zip(picked, seen, strict=True)
            ),
            confidence=tuple(
                tuple(p[row].tolist()) if s else None for p, row, s in zip(probabilities, picked, seen, strict=True)
            ),
            logits=seen_logits(mean, seen),
        )

    def best_threshold(self, logits: Logits, metric: str) -> float:
        """The threshold at which the metric is highest on these examples; see `multilabel.best_threshold`."""
        mean, seen = self._mean(logits)
        gold = label_matrix(self.references.gold, self._labels)
        return best_threshold(sigmoid(mean) * seen[:, None], gold, self.references.split_groups, metric)

    def _mean(self, logits: Logits) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        return mean_by_example(logits, self.example_index, len(self.references), len(self._labels))


class ScoreDecoder:
    """One score an example, from the range [0, 1] in which it is learned back to the scale of the data.

    Where several rows share an example, their logits are averaged. Nothing is clipped to the scale.
    """

    def __init__(self, card: TaskCard, target: Target, examples: Dataset, encoded_rows: Dataset):
        scores = examples.select_columns(["score"]).with_format("arrow")[:]["score"].to_pylist()
        self.references = references(target, examples, [(score,) for score in scores])
        self.example_index: list[int] = list(encoded_rows["example_index"])
        self._low, self._high = card.score_range

    def decode(self, logits: Logits) -> Predictions:
        """See `Decoder`; each array is `[1]`."""
        mean, seen = mean_by_example(logits, self.example_index, len(self.references), 1)
        scores = self._low + (self._high - self._low) * mean[:, 0]
        return replace(
            self.references,
            predicted=tuple(float(score) if s else None for score, s in zip(scores, seen, strict=True)),
            logits=seen_logits(mean, seen),
        )


def sigmoid(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Probabilities of logits, in float64, without overflow."""
    small = np.exp(-np.abs(logits.astype(np.float64)))
    return np.where(logits >= 0, 1 / (1 + small), small / (1 + small))
