"""Counts of label decisions: classification and relation extraction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np

from hf_crosstask.evaluation.counts import FN, FP, TP, FloatArray


def label_counts(
    gold: Sequence[Collection[str]],
    predicted: Sequence[str | None],
    labels: Sequence[str],
    negative: str | None = None,
) -> FloatArray:
    """Counts `[examples, scored labels, 4]` of one predicted label an example against its set of gold labels.

    A prediction is right if it is among the example's gold labels; every other gold label of the example is a miss,
    for one label is all that is predicted. The negative label is not scored: predicting it is no prediction, and gold
    negatives are no gold. None is an example without a prediction.

    Args:
        gold: the gold labels of each example (classification: exactly one).
        predicted: the predicted label of each example, or None.
        labels: the label set; the scored labels are these without `negative`, in this order.
        negative: the label that stands for "none of them" (relation extraction).

    Raises:
        ValueError: a label is not in the label set, or the numbers of examples differ.
    """
    scored = scored_labels(labels, negative)
    row = {label: index for index, label in enumerate(scored)}
    known = {*labels, None}
    counts = np.zeros((len(gold), len(scored), 4))
    for index, (right, guess) in enumerate(zip(map(set, gold), predicted, strict=True)):
        unknown = (right | {guess}) - known
        if unknown:
            raise ValueError(f"label {sorted(map(str, unknown))[0]!r} is not among {list(labels)}")
        if guess is not None and guess != negative:
            counts[index, row[guess], TP if guess in right else FP] = 1
        for label in right - {guess, negative}:
            counts[index, row[label], FN] = 1
    return counts


def scored_labels(labels: Sequence[str], negative: str | None) -> list[str]:
    """The label set without the negative label."""
    return [label for label in labels if label != negative]


def most_frequent(gold: Sequence[Collection[str]], labels: Sequence[str]) -> str | None:
    """The gold label of most examples (the first of `labels` at a tie), or None without examples."""
    frequency = Counter(label for example in gold for label in set(example))
    return max(labels, key=lambda label: frequency[label]) if frequency else None
