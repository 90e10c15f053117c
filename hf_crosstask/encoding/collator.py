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
    `attention_mask`, and where the rows have them `token_type_ids`, `entity_positions` ([rows, 2]) and `labels`
    ([rows], or [rows, length] padded with -100). Integers become int64, floats float32.

    Args:
        pad_token_id: what to pad `input_ids` with.
        pad_to_multiple_of: round the padded length up to a multiple of this.
    """

    def __init__(self, pad_token_id: int, *, pad_to_multiple_of: int | None = None):
        self.pad_to_multiple_of = pad_to_multiple_of
        self._padding = {"input_ids": pad_token_id, "attention_mask": 0, "token_type_ids": 0, "labels": IGNORED}

    @classmethod
    def for_tokenizer(
        cls, tokenizer: PreTrainedTokenizerBase, *, pad_to_multiple_of: int | None = None
    ) -> MultiTaskCollator:
        """A collator that pads with the tokenizer's padding token (see `pad_token_id`)."""
        return cls(pad_token_id(tokenizer), pad_to_multiple_of=pad_to_multiple_of)

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        lengths = [len(row["input_ids"]) for row in rows]
        longest = max(lengths)
        if self.pad_to_multiple_of:
            longest = -(-longest // self.pad_to_multiple_of) * self.pad_to_multiple_of
        real = np.arange(longest) < np.array(lengths)[:, None]
        batch = {
            name: self._pad(name, rows, lengths, real)
            for name in ("input_ids", "attention_mask", "token_type_ids")
            if name in rows[0]
        }
        if "attention_mask" not in batch:
            batch["attention_mask"] = real.astype(np.int64)
        if "labels" in rows[0]:
            if np.ndim(rows[0]["labels"]):
                batch["labels"] = self._pad("labels", rows, lengths, real)
            else:
                batch["labels"] = _stack("labels", rows)
        if "entity_positions" in rows[0]:
            batch["entity_positions"] = _stack("entity_positions", rows)
        return {name: torch.from_numpy(values) for name, values in batch.items()}

    def _pad(
        self, name: str, rows: Sequence[Mapping[str, Any]], lengths: list[int], real: NDArray[np.bool_]
    ) -> NDArray[np.int64]:
        if [len(row[name]) for row in rows] != lengths:
            raise ValueError(f"`{name}` and `input_ids` differ in length: is it encoded with the task's own encoder?")
        padded = np.full(real.shape, self._padding[name], dtype=np.int64)
        padded[real] = np.concatenate([row[name] for row in rows])
        return padded


def _stack(name: str, rows: Sequence[Mapping[str, Any]]) -> NDArray[Any]:
    values = np.array([row[name] for row in rows])
    return values.astype(np.float32 if values.dtype.kind == "f" else np.int64)
