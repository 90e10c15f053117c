"""Sub-tokens of a text, each belonging to one word at most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from hf_crosstask.encoding.encoder import EncodingContext
from hf_crosstask.encoding.words import words

_SPACES = {"▁", "Ġ"}  # a space alone, as SentencePiece and byte-level vocabularies write it


@dataclass(frozen=True)
class AlignedText:
    """A tokenized text and its words.

    Attributes:
        spans: [words, 2] characters `[start, end)` of each word.
        ids: token ids, special tokens not included.
        token_word: [tokens] word of each token; -1 for white space and zero-width tokens.
        present: [present] the words that have a token, increasing.
        first, end: [present] their first token, and the position behind their last.
    """

    spans: NDArray[np.int64]
    ids: list[int]
    token_word: NDArray[np.int64]
    present: NDArray[np.int64]
    first: NDArray[np.int64]
    end: NDArray[np.int64]


def align(texts: Sequence[str], context: EncodingContext) -> list[AlignedText]:
    """Tokenize texts so that every token belongs to one word at most.

    The raw text is tokenized whole. Where a token lies across the edge of two words (Qwen-2 writes "(IL" in one
    token, byte-level vocabularies hold ")."), the text is tokenized anew in two pieces, cut at that edge, until no
    such token is left: otherwise the tokenizer would decide which entities a model can mark. Tokenizers that write a
    space before every piece (Llama-1 style) do so before such a piece too. Tokens are matched to words by the
    characters they cover, white space left out, so it does not matter whether a tokenizer's offsets include the space
    before a word.
    """
    prefixes = [
        context.tokenizer.convert_tokens_to_ids(token) for token in _SPACES & context.tokenizer.get_vocab().keys()
    ]
    spans = [np.array(words(text, context.card.segmentation), dtype=np.int64).reshape(-1, 2) for text in texts]
    aligned: dict[int, AlignedText] = {}
    edges: dict[int, set[int]] = {number: {0, len(text)} for number, text in enumerate(texts)}
    while edges:
        pieces = [(number, start, end) for number, cuts in edges.items() for start, end in pairwise(sorted(cuts))]
        encoded = context.tokenize([texts[number][start:end] for number, start, end in pieces])
        ids: dict[int, list[int]] = {number: [] for number in edges}
        offsets: dict[int, list[NDArray[np.int64]]] = {number: [] for number in edges}
        for (number, start, _), piece_ids, piece_offsets in zip(
            pieces, encoded["input_ids"], encoded["offset_mapping"], strict=True
        ):
            ids[number].extend(piece_ids)
            offsets[number].append(np.array(piece_offsets, dtype=np.int64).reshape(-1, 2) + start)
        unsettled = {}
        for number, cuts in edges.items():
            covered = _without_prefixes(np.concatenate(offsets[number]), np.isin(ids[number], prefixes))
            low, high = _words_of_tokens(covered, spans[number])
            crossed = [word for a, b in zip(low, high, strict=True) if b > a for word in range(a, b)]
            if crossed:
                unsettled[number] = cuts | {int(spans[number][word, 1]) for word in crossed}
            else:
                aligned[number] = _aligned(spans[number], ids[number], low)
        edges = unsettled
    return [aligned[number] for number in range(len(texts))]


def _without_prefixes(offsets: NDArray[np.int64], space: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Offsets with no width for the space that a tokenizer puts before a text.

    Its offsets say that it covers the first character, but so does the token after it, which really does. A model that
    reads from left to right knows nothing of a word at such a token.
    """
    prefix = space & np.append(offsets[1:, 0] == offsets[:-1, 0], np.zeros(min(len(offsets), 1), dtype=bool))
    return np.where(prefix[:, None], offsets[:, :1], offsets)


def _words_of_tokens(
    offsets: NDArray[np.int64], spans: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first and the last word that each token covers a character of; -1 for both where there is none."""
    start, end = offsets[:, 0], offsets[:, 1]
    low = np.searchsorted(spans[:, 1], start, side="right")  # the first word that ends behind the token's start
    high = np.searchsorted(spans[:, 0], end, side="left") - 1  # the last word that starts before the token's end
    none = (low > high) | (start >= end)
    return np.where(none, -1, low), np.where(none, -1, high)


def _aligned(spans: NDArray[np.int64], ids: list[int], token_word: NDArray[np.int64]) -> AlignedText:
    inside = np.flatnonzero(token_word >= 0)
    word = token_word[inside]
    opens = np.flatnonzero(np.diff(word, prepend=-1))
    closes = np.append(opens[1:], len(inside))[: len(opens)] - 1
    return AlignedText(spans, ids, token_word, word[opens], inside[opens], inside[closes] + 1)
