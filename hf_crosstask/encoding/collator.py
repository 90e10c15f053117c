"""Encoded rows of one task to a batch of right-padded tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from hf_crosstask.encoding.encoder import IGNORED
from hf_crosstask.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def pad_token_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id to pad with: the padding token's, else the end-of-sequence token's (padding is masked out).

    Raises:
        InputError: the tokenizer has neither.
    """
    for token_id in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if token_id is not None:
            return int(token_id)
    raise InputError("the tokenizer has neither a pad_token nor an eos_token to pad batches with: set pad_token")


class MultiTaskCollator:
    """Turn rows of one task into tensors: padded on the right, on the CPU.

    Takes the columns a model reads and leaves all others (`example_index`, `word_index`, …) alone. Makes `input_ids`,
    `attention_mask`, and where the rows have them `token_type_ids`, `completion_mask`, `entity_positions` ([rows, 2]),
    `word_positions` ([rows, words], padded with 0) and `labels`: [rows]; as `input_ids` where there is one a token,
    [rows, sequences] where there is one a sequence, [rows, labels] for several labels a row, and
    [rows, words, reach] beside `word_positions`; padded with -100. Integers become int64, floats float32.

    Rows that hold several sequences (`input_ids` is a list of lists) become tensors of [rows, sequences, length]; a
    sequence that a row does not have is all padding, with an attention mask of zeros.

    Args:
        pad_token_id: what to pad `input_ids` with.
        pad_to_multiple_of: round the padded length up to a multiple of this.
    """

    def __init__(self, pad_token_id: int, *, pad_to_multiple_of: int | None = None):
        self.pad_to_multiple_of = pad_to_multiple_of
        zeros = dict.fromkeys(("attention_mask", "token_type_ids", "completion_mask"), 0)
        self._padding = {"input_ids": pad_token_id, **zeros, "labels": IGNORED}

    @classmethod
    def for_tokenizer(
        cls, tokenizer: PreTrainedTokenizerBase, *, pad_to_multiple_of: int | None = None
    ) -> MultiTaskCollator:
        """A collator that pads with the tokenizer's padding token (see `pad_token_id`)."""
        return cls(pad_token_id(tokenizer), pad_to_multiple_of=pad_to_multiple_of)

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        names = [name for name in self._padding if name != "labels" and name in rows[0]]
        counts = [len(row["input_ids"]) for row in rows]
        nested = np.ndim(rows[0]["input_ids"][0]) > 0
        sequences = (
            [{name: row[name][i] for name in names} for row in rows for i in range(len(row["input_ids"]))]
            if nested
            else rows
        )
        lengths = [len(sequence["input_ids"]) for sequence in sequences]
        longest = max(lengths)
        if self.pad_to_multiple_of:
            longest = -(-longest // self.pad_to_multiple_of) * self.pad_to_multiple_of
        real = np.arange(longest) < np.array(lengths)[:, None]
        batch: dict[str, NDArray[Any]] = {name: self._pad(name, sequences, lengths, real) for name in names}
        if "attention_mask" not in batch:
            batch["attention_mask"] = real.astype(np.int64)
        if nested:
            batch = {name: self._by_row(name, values, counts) for name, values in batch.items()}
        if "labels" in rows[0]:
            batch["labels"] = self._labels(rows, lengths, counts, real, nested=nested)
        if "entity_positions" in rows[0]:
            batch["entity_positions"] = _stack("entity_positions", rows)
        if "word_positions" in rows[0]:
            batch["word_positions"] = _by_word("word_positions", rows, 0)
        return {name: torch.from_numpy(values) for name, values in batch.items()}

    def _pad(
        self, name: str, rows: Sequence[Mapping[str, Any]], lengths: list[int], real: NDArray[np.bool_]
    ) -> NDArray[np.int64]:
        if [len(row[name]) for row in rows] != lengths:
            raise ValueError(f"`{name}` and `input_ids` differ in length: is it encoded with the task's own encoder?")
        padded = np.full(real.shape, self._padding[name], dtype=np.int64)
        padded[real] = np.concatenate([row[name] for row in rows])
        return padded

    def _by_row(self, name: str, sequences: NDArray[np.int64], counts: list[int]) -> NDArray[np.int64]:
        """[all sequences, length] to [rows, sequences, length]."""
        present = np.arange(max(counts)) < np.array(counts)[:, None]
        padded = np.full((*present.shape, sequences.shape[1]), self._padding[name], dtype=np.int64)
        padded[present] = sequences
        return padded

    def _labels(
        self,
        rows: Sequence[Mapping[str, Any]],
        lengths: list[int],
        counts: list[int],
        real: NDArray[np.bool_],
        *,
        nested: bool,
    ) -> NDArray[Any]:
        if "word_positions" in rows[0]:
            return _by_word("labels", rows, IGNORED)
        if nested and _is_list_of_lists(rows[0]["labels"]):  # one a token of each sequence
            sequences = [{"labels": values} for row in rows for values in row["labels"]]
            return self._by_row("labels", self._pad("labels", sequences, lengths, real), counts)
        labels = np.asarray(rows[0]["labels"])
        if labels.ndim == 0 or (labels.dtype.kind == "f" and not nested):
            return _stack("labels", rows)
        if not nested:
            return self._pad("labels", rows, lengths, real)
        if [len(row["labels"]) for row in rows] != counts:
            raise ValueError("`labels` and `input_ids` differ in length: is it encoded with the task's own encoder?")
        present = np.arange(max(counts)) < np.array(counts)[:, None]
        padded = np.full(present.shape, IGNORED, dtype=np.float32 if labels.dtype.kind == "f" else np.int64)
        padded[present] = np.concatenate([row["labels"] for row in rows])
        return padded


def _is_list_of_lists(labels: Any) -> bool:
    """Whether a row's labels are lists themselves; they may differ in length, which numpy has no array for."""
    return not isinstance(labels, (int, float)) and getattr(labels, "ndim", 1) > 0 and np.ndim(labels[0]) > 0


def _by_word(name: str, rows: Sequence[Mapping[str, Any]], padding: int) -> NDArray[np.int64]:
    """One item a word, padded to the most words of a row: [rows, words, *shape of an item]."""
    values = [np.asarray(row[name], dtype=np.int64) for row in rows]
    padded = np.full((len(rows), max(map(len, values)), *values[0].shape[1:]), padding, dtype=np.int64)
    for row, of_row in zip(padded, values, strict=True):
        row[: len(of_row)] = of_row
    return padded


def _stack(name: str, rows: Sequence[Mapping[str, Any]]) -> NDArray[Any]:
    values = np.array([row[name] for row in rows])
    return values.astype(np.float32 if values.dtype.kind == "f" else np.int64)
