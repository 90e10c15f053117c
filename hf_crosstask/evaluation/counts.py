"""Sufficient statistics: the counts of each example, and the values computed from their sums.

Every metric is a function of summed per-example counts, `from_counts(sum) -> value`, and broadcasts over leading axes:
the score is its value at the sum over all examples, a bootstrap replicate its value at the sum over the resampled ones,
a study's paired replicate the same for two arms at once. One path, so the interval can never belong to another metric.

The layout shared by entity, relation and classification metrics is `[..., rows, 4]`: a row per label, and in the last
axis the four numbers below. `LOST` are gold annotations that no example carries (a relation across sentences, say);
they are false negatives too, kept apart so that a score without them can be reported beside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Positions in the last axis: true positives, false positives, false negatives, lost gold annotations.
TP, FP, FN, LOST = range(4)

FloatArray = NDArray[np.float64]
FromCounts = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True)
class CountTable:
    """The sufficient statistics of one set of predictions.

    Attributes:
        per_example: `[examples, *shape]`.
        constant: `[*shape]`, added once to every sum: what belongs to no example, hence to no cluster. A bootstrap
            does not resample it, which leaves the interval slightly too narrow where much gold is lost.
    """

    per_example: FloatArray
    constant: FloatArray

    def __post_init__(self) -> None:
        if self.per_example.shape[1:] != self.constant.shape:
            raise ValueError(f"counts of shape {self.per_example.shape} do not fit {self.constant.shape}")

    def total(self) -> FloatArray:
        """The sum over all examples, `[*shape]`."""
        return self.per_example.sum(axis=0) + self.constant


def ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """`numerator / denominator`, and 0 where the denominator is 0 (the convention of seqeval and scikit-learn)."""
    return np.divide(numerator, denominator, out=np.zeros(np.shape(numerator)), where=np.asarray(denominator) > 0)


def precision(counts: FloatArray) -> FloatArray:
    """Precision of `[..., 4]` counts; 0 where nothing is predicted."""
    return ratio(counts[..., TP], counts[..., TP] + counts[..., FP])


def recall(counts: FloatArray) -> FloatArray:
    """Recall of `[..., 4]` counts (or `[..., 3]`: without lost gold); 0 where there is no gold."""
    return ratio(counts[..., TP], counts[..., TP] + counts[..., FN:].sum(axis=-1))


def f1(counts: FloatArray) -> FloatArray:
    """F1 of `[..., 4]` counts (or `[..., 3]`: without lost gold); 0 where there is neither gold nor prediction."""
    hits = 2 * counts[..., TP]
    return ratio(hits, hits + counts[..., FP] + counts[..., FN:].sum(axis=-1))


def micro(counts: FloatArray) -> FloatArray:
    """`[..., rows, 4]` counts summed over the rows: `[..., 4]`."""
    return counts.sum(axis=-2)


def macro_f1(counts: FloatArray) -> FloatArray:
    """Mean F1 over the rows of `[..., rows, 4]` counts that occur in gold or prediction.

    A class that occurs in neither has no F1 and is left out, as scikit-learn's `average="macro"` does with the labels
    it finds. The rule applies to each bootstrap replicate by itself.
    """
    present = counts.sum(axis=-1) > 0
    return ratio(np.where(present, f1(counts), 0.0).sum(axis=-1), present.sum(axis=-1).astype(np.float64))


def accuracy(counts: FloatArray) -> FloatArray:
    """Share of right examples, from `[..., classes, 4]` counts where every example has exactly one gold class.

    An example without a prediction is wrong.
    """
    return recall(micro(counts))


def lost_constant(lost: Mapping[str, int], labels: Sequence[str]) -> FloatArray:
    """Lost gold per label as a `[labels, 4]` constant of a `CountTable`.

    Raises:
        ValueError: a label that is not scored, or a negative count: the reader and the task card disagree.
    """
    constant = np.zeros((len(labels), 4))
    for label, count in lost.items():
        if label not in labels:
            raise ValueError(f"lost gold of {label!r}, which is not among the scored labels {list(labels)}")
        if count < 0:
            raise ValueError(f"lost gold of {label!r} is {count}")
        constant[list(labels).index(label), LOST] = count
    return constant


def label_report(counts: FloatArray, labels: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Precision, recall, F1 and gold support of each row of `[labels, 4]` counts."""
    values = zip(labels, precision(counts), recall(counts), f1(counts), counts, strict=True)
    return {
        label: {"precision": float(p), "recall": float(r), "f1": float(f), "support": int(row[TP] + row[FN:].sum())}
        for label, p, r, f, row in values
    }
