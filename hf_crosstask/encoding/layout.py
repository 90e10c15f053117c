"""Where a tokenizer puts its special tokens around one text or two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PROBE = "a"  # any visible text


@dataclass(frozen=True)
class Layout:
    """Special tokens around a first and (in the layout of a pair) a second text.

    Rows are put together here rather than by the tokenizer's own truncation, so that every cut is made and counted in
    one place. `type_ids` holds the token type of (before, first, between, second, after); None where the model has no
    token types.
    """

    before: tuple[int, ...]
    between: tuple[int, ...]
    after: tuple[int, ...]
    type_ids: tuple[int, int, int, int, int] | None

    @property
    def size(self) -> int:
        """How many special tokens a row has."""
        return len(self.before) + len(self.between) + len(self.after)

    def input_ids(self, first: Sequence[int], second: Sequence[int] = ()) -> list[int]:
        """The token ids of a row."""
        return [*self.before, *first, *self.between, *second, *self.after]

    def token_type_ids(self, first: int, second: int = 0) -> list[int]:
        """The token types of a row whose texts have `first` and `second` tokens."""
        if self.type_ids is None:
            raise ValueError("the model has no token types")
        parts = (len(self.before), first, len(self.between), second, len(self.after))
        return [kind for kind, count in zip(self.type_ids, parts, strict=True) for _ in range(count)]


def single_layout(tokenizer: PreTrainedTokenizerBase) -> Layout:
    """The layout of one text, read off the tokenizer by encoding a probe."""
    return _probe(tokenizer, pair=False)


def pair_layout(tokenizer: PreTrainedTokenizerBase) -> Layout:
    """The layout of two texts."""
    return _probe(tokenizer, pair=True)


def _probe(tokenizer: PreTrainedTokenizerBase, *, pair: bool) -> Layout:
    encoded = tokenizer(_PROBE, _PROBE if pair else None, return_token_type_ids=True)
    ids, kinds, texts = encoded["input_ids"], encoded["token_type_ids"], encoded.sequence_ids(0)
    first = [i for i, text in enumerate(texts) if text == 0]
    second = [i for i, text in enumerate(texts) if text == 1]
    after = (second or first)[-1] + 1  # the first position behind the last text
    between = range(first[-1] + 1, second[0]) if pair else range(0)
    type_ids = None
    if "token_type_ids" in tokenizer.model_input_names:
        type_ids = (
            kinds[0],
            kinds[first[0]],
            kinds[between[0]] if between else kinds[first[0]],
            kinds[second[0]] if second else kinds[first[0]],
            kinds[-1],
        )
    return Layout(
        before=tuple(ids[: first[0]]),
        between=tuple(ids[i] for i in between),
        after=tuple(ids[after:]),
        type_ids=type_ids,
    )
