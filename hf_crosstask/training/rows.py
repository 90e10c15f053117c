"""Encoded datasets as the plan sees them: lengths, items that carry a label, and rows to feed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from datasets import Dataset
from numpy.typing import NDArray

from hf_crosstask.errors import InputError

IGNORED = -100
Ints = NDArray[np.int64]


class Rows(Protocol):
    """Any map-style dataset of feature dictionaries with `input_ids` and `labels`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any) -> Any: ...


def column_names(dataset: Rows) -> list[str]:
    """Columns of a dataset."""
    if isinstance(dataset, Dataset):
        return list(dataset.column_names)
    return list(dataset[0])


def token_lengths(dataset: Rows, task: str) -> Ints:
    """[n] forward tokens of each row: ones in `attention_mask` where there is one, else the length of `input_ids`.

    Raises:
        InputError: the dataset is not encoded.
    """
    names = column_names(dataset) if len(dataset) else []
    if "input_ids" not in names:
        raise InputError(
            f"the dataset of task {task} has no input_ids (columns: {', '.join(names) or 'none'}); encode it first"
        )
    if "attention_mask" in names:
        return _reduce_lists(dataset, "attention_mask", lambda values: values != 0)
    return _reduce_lists(dataset, "input_ids", np.ones_like)


def label_counts(dataset: Rows, task: str, *, shifted: bool) -> Ints:
    """[n] items of each row that carry a label: labelled positions for token tasks, one for a row with a single target.

    Args:
        dataset: the encoded dataset.
        task: its name, for errors.
        shifted: position i predicts label i + 1 (causal language models), so the first label predicts nothing.
    """
    if "labels" not in column_names(dataset):
        raise InputError(f"the training dataset of task {task} has no labels column")
    first = np.asarray(dataset[0]["labels"])
    if np.issubdtype(first.dtype, np.floating):
        return np.ones(len(dataset), np.int64)
    if first.ndim == 0:
        return (np.asarray(_column(dataset, "labels")) != IGNORED).astype(np.int64)
    counts = _reduce_lists(dataset, "labels", lambda values: values != IGNORED)
    if shifted:
        counts = counts - np.asarray([row[0] != IGNORED for row in _column(dataset, "labels")], np.int64)
    return counts


def fetch(dataset: Rows, indices: Sequence[int]) -> list[dict[str, Any]]:
    """Rows by number, as dictionaries."""
    if isinstance(dataset, Dataset):
        columns: Mapping[str, list[Any]] = dataset[list(indices)]
        names = list(columns)
        return [dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return [dict(dataset[index]) for index in indices]


def _column(dataset: Rows, name: str) -> list[Any]:
    if isinstance(dataset, Dataset):
        return dataset.with_format(None)[name][:]
    return [dataset[index][name] for index in range(len(dataset))]


def _reduce_lists(dataset: Rows, name: str, weigh: Any) -> Ints:
    """Sum of `weigh(values)` over each row's list, without a Python loop where the dataset is an Arrow table."""
    if isinstance(dataset, Dataset):
        lists = dataset.select_columns([name]).with_format("arrow")[:][name].combine_chunks()
        if isinstance(lists, pa.ChunkedArray):
            lists = pa.concat_arrays(lists.chunks) if lists.num_chunks else pa.array([], pa.list_(pa.int64()))
        values = weigh(lists.flatten().to_numpy(zero_copy_only=False))
        ends = np.cumsum(lists.value_lengths().to_numpy(zero_copy_only=False).astype(np.int64))
        sums = np.concatenate([[0], np.cumsum(values, dtype=np.int64)])
        return np.diff(sums[np.concatenate([[0], ends])])
    return np.asarray([weigh(np.asarray(row)).sum() for row in _column(dataset, name)], np.int64)
