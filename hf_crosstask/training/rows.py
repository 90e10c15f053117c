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
_LIST_TYPES = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)


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


def row_shapes(dataset: Rows, task: str) -> Ints:
    """[n, 2] the number of sequences of each row, and the tokens of its longest: 1 and all, but for lists of sequences.

    Raises:
        InputError: the dataset is not encoded.
    """
    lengths = token_lengths(dataset, task)
    if not np.ndim(dataset[0]["input_ids"][0]):
        return np.stack([np.ones_like(lengths), lengths], axis=1)
    sizes = [list(map(len, row)) for row in _column(dataset, "input_ids")]
    return np.asarray([(len(row), max(row)) for row in sizes], np.int64)


def label_counts(dataset: Rows, task: str, *, shifted: bool) -> Ints:
    """[n] items of each row that carry a label: labelled positions for token tasks, one for a row with a single target.

    Args:
        dataset: the encoded dataset.
        task: its name, for errors.
        shifted: position i predicts label i + 1 (causal language models), so the first label predicts nothing.
    """
    if "labels" not in column_names(dataset):
        raise InputError(f"the training dataset of task {task} has no labels column")
    first = dataset[0]["labels"]
    if isinstance(first, list) and first and isinstance(first[0], list):
        first = first[0]  # lists differ in length
    first = np.asarray(first)
    if np.issubdtype(first.dtype, np.floating):
        return np.ones(len(dataset), np.int64)
    if first.ndim == 0:
        return (np.asarray(_column(dataset, "labels")) != IGNORED).astype(np.int64)
    counts = _reduce_lists(dataset, "labels", lambda values: values != IGNORED)
    if shifted:
        counts = counts - np.asarray([row[0] != IGNORED for row in _column(dataset, "labels")], np.int64)
    return counts


def answer_columns(dataset: Rows) -> Ints:
    """[n, 2] the first and the last column of each row's answer: where `completion_mask` is 1 in any of its sequences, or
    where `labels` are not -100."""
    if "completion_mask" in column_names(dataset):
        marked = [
            np.concatenate([np.flatnonzero(each) for each in row]) for row in _column(dataset, "completion_mask")
        ]
    else:
        marked = [np.flatnonzero(np.asarray(row) != IGNORED) for row in _column(dataset, "labels")]
    return np.asarray([(each.min(), each.max()) for each in marked], np.int64)


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
    """Sum of `weigh(values)` over each row's list (or lists of lists), without a Python loop where it is an Arrow table."""
    if isinstance(dataset, Dataset):
        lists = dataset.select_columns([name]).with_format("arrow")[:][name].combine_chunks()
        if isinstance(lists, pa.ChunkedArray):
            lists = pa.concat_arrays(lists.chunks) if lists.num_chunks else pa.array([], pa.list_(pa.int64()))
        starts = np.arange(len(lists) + 1)
        while any(is_kind(lists.type) for is_kind in _LIST_TYPES):
            sizes = lists.value_lengths().to_numpy(zero_copy_only=False).astype(np.int64)
            starts = np.concatenate([[0], np.cumsum(sizes)])[starts]
            lists = lists.flatten()
        values = weigh(lists.to_numpy(zero_copy_only=False))
        return np.diff(np.concatenate([[0], np.cumsum(values, dtype=np.int64)])[starts])
    return np.asarray(
        [sum(weigh(np.asarray(values)).sum() for values in _flat(row)) for row in _column(dataset, name)]
    )


def _flat(row: Any) -> list[Any]:
    """The lists of numbers in a row: one, or several where it holds lists of lists."""
    return list(row) if np.ndim(row[0]) else [row]
