"""Evaluation batches of one task, and putting their rows back in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_crosstask.errors import InputError, unknown_name
from hf_crosstask.training.feed import Collator, count, token_batches
from hf_crosstask.training.rows import IGNORED, Rows, fetch, row_shapes


@dataclass(frozen=True)
class EvalBatch:
    """One evaluation batch.

    Attributes:
        rows: row numbers in the dataset.
        inputs: model inputs.
        items: labelled items in it; 0 where there are no labels.
        real: False for a filler (FSDP only), whose results are dropped.
    """

    rows: NDArray[np.int64]
    inputs: dict[str, Any]
    items: int
    real: bool


class EvalBatches:
    """This process's share of one task's rows, grouped by length: little padding, any batch composition.

    Iterating gives `EvalBatch`es; `len` is the number of batches this process runs.
    """

    def __init__(
        self,
        task: str,
        dataset: Rows,
        lengths: NDArray[np.int64],
        collate: Collator,
        *,
        limit: int,
        process: int = 0,
        processes: int = 1,
        shifted: bool = False,
        lockstep: bool = False,
    ):
        self.task, self.dataset, self.lengths = task, dataset, lengths
        self._collate, self._shifted = collate, shifted
        sequences, longest = row_shapes(dataset, task).T
        batches = token_batches(longest, limit, sequences)
        self._mine = [(rows, True) for rows in batches[process::processes]]
        if lockstep and len(self._mine) < -(-len(batches) // processes):
            self._mine.append((batches[-1], False))

    def __len__(self) -> int:
        return len(self._mine)

    def __iter__(self) -> Iterator[EvalBatch]:
        for rows, real in self._mine:
            inputs = dict(self._collate(fetch(self.dataset, rows.tolist())))
            items = int(count(inputs, self.task, shifted=self._shifted)[3]) if "labels" in inputs else 0
            yield EvalBatch(rows, inputs, items, real)


def assemble(
    parts: Sequence[tuple[NDArray[np.int64], NDArray[Any]]], lengths: NDArray[np.int64]
) -> NDArray[Any] | None:
    """Batches of rows as one array in row order, padded on the right with -100 where batches differ in length.

    Args:
        parts: row numbers [b] and values [b, …] of each batch; every row occurs once.
        lengths: [n], for the number of rows.
    """
    if not parts:
        return None
    sample = parts[0][1]
    shape = list(sample.shape[1:])
    if sample.ndim > 1:
        shape[0] = max(values.shape[1] for _, values in parts)
    result = np.full((len(lengths), *shape), IGNORED, sample.dtype)
    for rows, values in parts:
        if sample.ndim > 1:
            result[rows, : values.shape[1]] = values
        else:
            result[rows] = values
    return result


def macro_score(scores: Mapping[str, Mapping[str, float]], primary: Mapping[str, str]) -> float | None:
    """Mean over tasks of each task's primary metric; None where no task has a metric.

    Args:
        scores: metrics of each task, `loss` among them.
        primary: the metric of each task; where a task is not named, the first one computed.

    Raises:
        InputError: a task has no metric of the name given.
    """
    values = []
    for task, metrics in scores.items():
        names = [name for name in metrics if name != "loss"]
        if not names:
            continue
        name = primary.get(task, names[0])
        if name not in metrics:
            raise InputError(f"primary_metrics: task {task}: {unknown_name('metric', name, names)}")
        values.append(metrics[name])
    return float(np.mean(values)) if values else None
