"""ROUGE-1, ROUGE-2 and ROUGE-L (Lin 2004), as Google's `rouge_score` computes them without stemming.

Text is lower-cased, everything but a-z and 0-9 separates tokens. ROUGE-L takes the longest common subsequence of the
whole texts. A corpus value is the mean over examples of each example's precision, recall or F1.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from hf_crosstask.errors import InputError
from hf_crosstask.evaluation.counts import FloatArray, ratio
from hf_crosstask.evaluation.official.base import UnitCounts, Values, scalars

NAMES = ("rouge1", "rouge2", "rougeL")
_MEASURES = ("precision", "recall", "f1")
_TOKEN = re.compile(r"[a-z0-9]+")


def tokens(text: str) -> list[str]:
    """The tokens of a text."""
    return _TOKEN.findall(text.lower())


def longest_common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """Its length, by one addition per token on an integer of `len(first)` bits (Hyyrö 2004)."""
    positions: dict[str, int] = {}
    for index, token in enumerate(first):
        positions[token] = positions.get(token, 0) | 1 << index
    everything = (1 << len(first)) - 1
    row = everything
    for token in second:
        matches = row & positions.get(token, 0)
        row = (row + matches) | (row - matches)
        row &= everything
    return len(first) - row.bit_count()


def _overlap(first: Sequence[str], second: Sequence[str], order: int) -> tuple[int, int, int]:
    left, right = (
        Counter(tuple(side[start : start + order]) for start in range(len(side) - order + 1))
        for side in (first, second)
    )
    return (left & right).total(), left.total(), right.total()


def example_counts(references: Sequence[str], predictions: Sequence[str]) -> UnitCounts:
    """Statistics `[examples, 10]`: 1, then precision, recall and F1 of ROUGE-1, ROUGE-2 and ROUGE-L.

    Raises:
        InputError: the numbers of texts differ.
    """
    if len(references) != len(predictions):
        raise InputError(f"{len(references)} references but {len(predictions)} predictions")
    rows = []
    for reference, prediction in zip(references, predictions, strict=True):
        right, guess = tokens(reference), tokens(prediction)
        overlaps = [_overlap(right, guess, order) for order in (1, 2)]
        overlaps.append((longest_common_subsequence(right, guess), len(right), len(guess)))
        row = [1.0]
        for shared, annotated, predicted in overlaps:
            precision, recall = shared / max(predicted, 1), shared / max(annotated, 1)
            row += [precision, recall, 2 * precision * recall / (precision + recall) if shared else 0.0]
        rows.append(row)
    return UnitCounts(tuple(str(index) for index in range(len(rows))), np.array(rows).reshape(len(rows), 10))


def from_counts(sums: FloatArray) -> Values:
    """`rouge1_f1`, `rouge1_precision`, … of summed `[..., 10]` statistics."""
    names = [f"{name}_{measure}" for name in NAMES for measure in _MEASURES]
    return {name: ratio(sums[..., 1 + column], sums[..., 0]) for column, name in enumerate(names)}


def score(references: Sequence[str], predictions: Sequence[str]) -> dict[str, float]:
    """The mean ROUGE values of one prediction per reference."""
    return scalars(from_counts(example_counts(references, predictions).total()))
