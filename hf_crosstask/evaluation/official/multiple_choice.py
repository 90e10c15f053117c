"""Multiple choice (MedQA, MedMCQA): accuracy. An answer that could not be parsed is wrong, and is reported apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hf_crosstask.errors import InputError
from hf_crosstask.evaluation.counts import FloatArray, ratio
from hf_crosstask.evaluation.official.base import UnitCounts, Values, scalars


def question_counts(gold: Sequence[str], predicted: Sequence[str | None]) -> UnitCounts:
    """Statistics `[questions, 3]`: 1, right, unparsed (None).

    Raises:
        InputError: the numbers of questions differ.
    """
    if len(gold) != len(predicted):
        raise InputError(f"{len(gold)} gold answers but {len(predicted)} predicted ones; one of each per question")
    rows = [(1, right == guess, guess is None) for right, guess in zip(gold, predicted, strict=True)]
    return UnitCounts(tuple(str(index) for index in range(len(rows))), np.array(rows, float).reshape(len(rows), 3))


def from_counts(sums: FloatArray) -> Values:
    """`accuracy` and `parse_failure_rate` of summed `[..., 3]` statistics."""
    return {
        "accuracy": ratio(sums[..., 1], sums[..., 0]),
        "parse_failure_rate": ratio(sums[..., 2], sums[..., 0]),
    }


def score(gold: Sequence[str], predicted: Sequence[str | None]) -> dict[str, float]:
    """The metrics of one prediction per question."""
    return scalars(from_counts(question_counts(gold, predicted).total()))
