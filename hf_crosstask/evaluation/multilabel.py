"""Counts of label sets, of documents and of single examples, and the threshold that turns probabilities into sets.

A document (`split_group`) has the union of its examples' labels, in gold and in prediction alike; where every example
is its own group, documents are examples. Document scores are those of `official.hoc` (BLURB's micro-F1, BLUE's
example-based F1).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from hf_crosstask.evaluation import counts as c
from hf_crosstask.evaluation.counts import FN, FP, TP, CountTable, FloatArray, FromCounts, ratio
from hf_crosstask.evaluation.official import hoc

Labels = NDArray[np.bool_]

#: Thresholds that are tried: fine enough for any use, coarse enough not to fit single examples.
THRESHOLDS = np.arange(1, 100) / 100
DEFAULT_THRESHOLD = 0.5


def label_matrix(rows: Sequence[Collection[str]], labels: Sequence[str]) -> Labels:
    """Label sets as `[examples, labels]` truth values.

    Raises:
        ValueError: a label is not in the label set.
    """
    column = {label: index for index, label in enumerate(labels)}
    matrix = np.zeros((len(rows), len(labels)), dtype=bool)
    for index, row in enumerate(rows):
        for label in row:
            if label not in column:
                raise ValueError(f"label {label!r} is not among {list(labels)}")
            matrix[index, column[label]] = True
    return matrix


def group_numbers(groups: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The number of each example's group, and the first example of each group; numbered by first appearance."""
    number: dict[str, int] = {}
    of_example = np.array([number.setdefault(group, len(number)) for group in groups], dtype=np.int64)
    return of_example, np.unique(of_example, return_index=True)[1]


def union_by_group(matrix: Labels, of_example: NDArray[np.int64]) -> Labels:
    """`[examples, labels]` to `[groups, labels]`: what any example of the group has."""
    united = np.zeros((of_example.max(initial=-1) + 1, matrix.shape[1]), dtype=bool)
    np.logical_or.at(united, of_example, matrix)
    return united


def set_counts(gold: Labels, predicted: Labels) -> FloatArray:
    """`[rows, labels, 4]` counts of label sets; nothing is lost."""
    counts = np.zeros((*gold.shape, 4))
    counts[..., TP], counts[..., FP], counts[..., FN] = gold & predicted, predicted & ~gold, gold & ~predicted
    return counts


def multilabel_table(gold: Labels, predicted: Labels, groups: Sequence[str]) -> CountTable:
    """Counts `[examples, 2 * labels + 1, 4]`.

    Rows: each label over documents; documents with gold labels, the sums of their precisions and recalls; each label
    over examples. What is counted of a document stands at its first example, so that sums over whole documents, which
    are all that scores and bootstraps form, hold every document once.
    """
    of_example, first = group_numbers(groups)
    documents = set_counts(union_by_group(gold, of_example), union_by_group(predicted, of_example))
    hits, wrong, missed = (documents[..., column].sum(axis=-1) for column in (TP, FP, FN))
    labelled = hits + missed > 0
    labels = gold.shape[1]
    per_example = np.zeros((len(gold), 2 * labels + 1, 4))
    per_example[first, :labels] = documents
    per_example[first, labels, :3] = np.stack(
        [labelled, ratio(hits, hits + wrong) * labelled, ratio(hits, hits + missed)], axis=-1
    )
    per_example[:, labels + 1 :] = set_counts(gold, predicted)
    return CountTable(per_example, np.zeros(per_example.shape[1:]))


def _of_documents(metric: str) -> FromCounts:
    def value(totals: FloatArray) -> FloatArray:
        labels = totals.shape[-2] // 2
        counts = totals[..., :labels, :3].reshape(*totals.shape[:-2], 3 * labels)
        return hoc.from_counts(np.concatenate([counts, totals[..., labels, :3]], axis=-1))[metric]

    return value


def _of_examples(value: FromCounts) -> FromCounts:
    return lambda totals: value(totals[..., totals.shape[-2] // 2 + 1 :, :])


#: Macro values are means over all labels of the card, whether they occur or not.
METRICS: Mapping[str, FromCounts] = {
    "document_micro_f1": _of_documents("micro_f1"),
    "document_micro_precision": _of_documents("micro_precision"),
    "document_micro_recall": _of_documents("micro_recall"),
    "document_macro_f1": _of_documents("macro_f1"),
    "document_example_f1": _of_documents("example_f1"),
    "micro_f1": _of_examples(lambda counts: c.f1(c.micro(counts))),
    "macro_f1": _of_examples(lambda counts: c.f1(counts).mean(axis=-1)),
}


def best_threshold(probabilities: FloatArray, gold: Labels, groups: Sequence[str], metric: str) -> float:
    """The threshold of `THRESHOLDS` at which a metric is highest (of several, the middle one).

    One threshold for all labels, not one each: of calibrated probabilities, one threshold maximises micro-F1 (Lipton,
    Elkan and Naryanaswamy 2014, "Optimal thresholding of classifiers to maximize F1 measure", §4), and rare labels have
    too few documents in a validation split (ten or so in HoC's) to choose a threshold by.

    Args:
        probabilities: `[examples, labels]` on a split that is not the one to be reported.
        gold: its labels.
        groups: its documents.
        metric: a key of `METRICS`.
    """
    values = [
        float(METRICS[metric](multilabel_table(gold, probabilities >= threshold, groups).total()))
        for threshold in THRESHOLDS
    ]
    best = np.flatnonzero(np.isclose(values, max(values), rtol=0, atol=1e-12))
    return float(THRESHOLDS[best[len(best) // 2]])


def best_constant(gold: Labels, groups: Sequence[str]) -> NDArray[np.int64]:
    """The label set (numbers) that, as the answer to every example, gives the highest `document_micro_f1`.

    It is made of the most frequent labels: no other set of its size has more hits.
    """
    documents = union_by_group(gold, group_numbers(groups)[0])
    frequency = documents.sum(axis=0)
    order = np.argsort(-frequency, kind="stable")
    hits = np.cumsum(frequency[order])
    sizes = np.arange(1, len(order) + 1)
    values = ratio(2.0 * hits, sizes * float(len(documents)) + frequency.sum())
    return np.sort(order[: int(values.argmax()) + 1])
