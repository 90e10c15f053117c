"""Texts as sequences of 64-bit word hashes, and rolling hashes of their n-grams, in numpy.

A word is a maximal run of letters and digits after Unicode NFKC normalization and lower-casing. Nothing is kept as a
Python object per word: four million words take 32 MB. Two different n-grams share a hash with a probability near
2^-64, so that among 10^7 training and 10^7 evaluation n-grams a false match is expected once in 10^5 audits.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]
Integers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_BASE = np.uint64(0x9E3779B97F4A7C13)  # odd, hence invertible modulo 2^64
_INVERSE = np.uint64(pow(int(_BASE), -1, 1 << 64))
_CODE_POINTS = 0x110000
_CHUNK = 2_000_000  # characters hashed at a time: bounds memory, does not touch the result


@dataclass(frozen=True)
class HashedTexts:
    """Texts after normalization.

    Attributes:
        words: hash of every word of every text, text after text, shape [words].
        offsets: text `i` owns `words[offsets[i]:offsets[i + 1]]`, shape [texts + 1].
        identity: hash of each text's letters and digits without its spaces and punctuation, shape [texts]. Tokenized
            and untokenized copies of a text have the same identity.
    """

    words: Hashes
    offsets: Integers
    identity: Hashes

    @property
    def lengths(self) -> Integers:
        """Words per text, shape [texts]."""
        return np.diff(self.offsets)


@dataclass(frozen=True)
class Grams:
    """N-grams of a set of texts: `hashes` and, of the same shape, the index of the text that holds each."""

    hashes: Hashes
    owners: npt.NDArray[np.int32]

    def of(self, texts: Mask) -> Grams:
        """The grams of the texts that a mask of shape [texts] selects."""
        keep = texts[self.owners]
        return Grams(self.hashes[keep], self.owners[keep])


def hash_texts(texts: Sequence[str]) -> HashedTexts:
    """Normalize and hash texts; a text without letters or digits has no words."""
    parts = [_hash_chunk(chunk) for chunk in _chunks(texts)]
    if not parts:
        return HashedTexts(np.empty(0, np.uint64), np.zeros(1, np.int64), np.empty(0, np.uint64))
    lengths = np.concatenate([part.lengths for part in parts])
    return HashedTexts(
        words=np.concatenate([part.words for part in parts]),
        offsets=np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]),
        identity=np.concatenate([part.identity for part in parts]),
    )


def rolling_grams(texts: HashedTexts, sizes: Collection[int]) -> Iterator[tuple[int, Grams]]:
    """The n-grams of all texts for each n of `sizes`, ascending; the hash of n + 1 words rolls on from that of n."""
    total = len(texts.words)
    owners = np.repeat(np.arange(len(texts.identity), dtype=np.int32), texts.lengths)
    words_left = np.repeat(texts.offsets[1:], texts.lengths) - np.arange(total)
    hashes = np.zeros(total, np.uint64)
    for n in range(1, max(sizes, default=0) + 1):
        reach = max(total - n + 1, 0)
        hashes = hashes[:reach] * _BASE + texts.words[n - 1 :]
        if n in sizes:
            inside = words_left[:reach] >= n
            yield n, Grams(mix(hashes[inside]), owners[:reach][inside])


def mix(values: Hashes) -> Hashes:
    """Spread the bits of 64-bit values: the finalizer of splitmix64 (Steele et al. 2014), a bijection."""
    values = values ^ (values >> np.uint64(30))
    values = values * np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(27)
    values *= np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values


def _chunks(texts: Sequence[str]) -> Iterator[list[str]]:
    """The normalized texts in chunks of about `_CHUNK` characters."""
    chunk: list[str] = []
    characters = 0
    for text in texts:
        normal = text.lower() if text.isascii() else unicodedata.normalize("NFKC", text).lower()
        chunk.append(normal)
        characters += len(normal)
        if characters >= _CHUNK:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def _hash_chunk(texts: list[str]) -> HashedTexts:
    """Polynomial hashes of segments as differences of one prefix sum, shifted to a common power of the base."""
    codes = np.frombuffer("\n".join([*texts, ""]).encode("utf-32-le", "surrogatepass"), np.uint32)
    ends = np.cumsum([len(text) + 1 for text in texts])  # each text and the line break that closes it
    values = _character_values()[codes]
    letters = values != 0
    before = np.concatenate([np.zeros(1, np.int64), np.cumsum(letters)])  # letters before each character
    values = values[letters]
    powers, inverse_powers = _powers(_BASE, len(values) + 1), _powers(_INVERSE, len(values) + 1)
    prefix = np.concatenate([np.zeros(1, np.uint64), np.cumsum(values * powers[:-1], dtype=np.uint64)])

    def segments(starts: Integers, stops: Integers) -> Hashes:
        return mix((prefix[stops] - prefix[starts]) * inverse_powers[starts])

    edges = np.diff(letters.astype(np.int8), prepend=0)
    word_starts, word_stops = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    text_starts, text_stops = before[np.concatenate([[0], ends[:-1]])], before[ends]
    return HashedTexts(
        words=segments(before[word_starts], before[word_stops]),
        offsets=np.concatenate([np.zeros(1, np.int64), np.searchsorted(word_starts, ends)]),
        identity=segments(text_starts, text_stops),
    )


@functools.cache
def _character_values() -> Hashes:
    """A random-looking value for every letter and digit, 0 for every other code point."""
    word_character = np.array([chr(code).isalnum() for code in range(_CODE_POINTS)])
    return np.where(word_character, mix(np.arange(1, _CODE_POINTS + 1, dtype=np.uint64)), np.uint64(0))


def _powers(base: np.uint64, count: int) -> Hashes:
    """base^0, base^1, … modulo 2^64."""
    powers = np.full(count, base, np.uint64)
    powers[0] = 1
    return np.cumprod(powers, dtype=np.uint64)
