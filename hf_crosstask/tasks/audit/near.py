"""Near-duplicates: edited copies of a text, and texts that are part of a longer one.

Texts are compared by their sets of 3-word shingles, with both measures of Broder 1997 ("On the resemblance and
containment of documents"):

- *resemblance*, |A ∩ B| / |A ∪ B|, at least 0.5 (the threshold of Broder et al. 1997, "Syntactic clustering of the
  web"): an edited copy. One changed word in nine is still found: one in 11 words, two in 20, three in 29.
- *containment*, |A ∩ B| / |A| for the shorter A, at least 0.8: a sentence inside an abstract, which is how corpora of
  sentences and corpora of documents overlap. A lower threshold here finds opening phrases ("the aim of this study was
  to determine whether the …").

Either way at least 6 shingles must be shared (8 running words). Both measures are computed exactly, not estimated by
MinHash. On the eight public corpora of the study every pair found across corpora is of one PubMed document; with a
containment of 0.7, three pairs are not.

Pairs are proposed by prefix filtering (Bayardo et al. 2007, "Scaling up all pairs similarity search"). Either measure
asks that the shorter text share at least two thirds of its shingles. A text that has fewer in common with the whole
other side is done; any other must share one of its rarest shingles, as many as leave fewer than two thirds, and is
compared with the texts that hold one of these. Nothing is missed, except in masses of boilerplate: a shingle in more
than `MOST_TEXTS` texts proposes that many of them, spread evenly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hf_crosstask.tasks.audit.corpus import Corpus
from hf_crosstask.tasks.audit.hashing import Grams, Hashes, Integers, mix
from hf_crosstask.tasks.audit.sharing import Sharing, distinct, match

SHINGLE = 3
RESEMBLANCE = 0.5
CONTAINMENT = 0.8
FEWEST_SHARED = 6
MOST_TEXTS = 200

_CHUNK = 4_000_000  # entries worked on at a time: bounds memory, does not touch the result


@dataclass(frozen=True)
class _Side:
    """The shingles that texts of one side have in common with the other side, ordered by text.

    Attributes:
        owners, shingles: which text holds which shingle, shape [entries] each.
        held: entries of each text, and `first` where they begin, shape [texts].
        frequency: how many texts hold each shingle, shape [shingles].
    """

    owners: Integers
    shingles: Integers
    held: Integers
    first: Integers
    frequency: Integers


def near_duplicates(corpus: Corpus, shingles: Grams) -> Sharing:
    """Near-duplicate texts of the two sides; each pair is a token of its own.

    Args:
        corpus: the splits.
        shingles: the 3-grams of all texts. (A text below 8 words has too few to be found.)
    """
    texts = corpus.size("texts")
    owners, values = _distinct_shingles(shingles, texts)
    sizes = np.bincount(owners, minlength=texts)
    in_evaluation = corpus.has("texts", corpus.evaluation)[owners]
    in_train = corpus.has("texts", corpus.train)[owners]
    found = match(values[in_evaluation], values[in_train])
    evaluation = _side(owners[in_evaluation][found.left], found.left_tokens, texts, found.tokens)
    train = _side(owners[in_train][found.right], found.right_tokens, texts, found.tokens)
    keys = [
        *(left * texts + right for left, right in _similar(evaluation, train, sizes)),
        *(right * texts + left for left, right in _similar(train, evaluation, sizes)),
    ]
    pairs = distinct(np.concatenate([np.empty(0, np.int64), *keys]))
    tokens = np.arange(len(pairs))
    return Sharing("texts", len(pairs), pairs // texts, tokens, pairs % texts, tokens)


def _distinct_shingles(shingles: Grams, texts: int) -> tuple[Integers, Hashes]:
    """Owner and hash of the distinct shingles of each text, by owner.

    Owner and leading hash bits share one 64-bit key, so that one sort does it; what the owner leaves the hash (47 bits
    for 100,000 texts) is ample where six shingles must agree.
    """
    hash_bits = np.uint64(64 - max(texts.bit_length(), 1))
    keys = (shingles.owners.astype(np.uint64) << hash_bits) | (shingles.hashes >> (np.uint64(64) - hash_bits))
    keys = distinct(keys)
    return (keys >> hash_bits).astype(np.int64), mix(keys & ((np.uint64(1) << hash_bits) - np.uint64(1)))


def _side(owners: Integers, shingles: Integers, texts: int, count: int) -> _Side:
    held = np.bincount(owners, minlength=texts)
    return _Side(owners, shingles, held, np.cumsum(held) - held, np.bincount(shingles, minlength=count))


def _similar(shorter: _Side, other: _Side, sizes: Integers) -> Iterator[tuple[Integers, Integers]]:
    """Near-duplicate pairs, found from the shorter text: (its number, the other's)."""
    fewest = np.maximum(np.ceil(sizes * min(CONTAINMENT, 2 * RESEMBLANCE / (1 + RESEMBLANCE)) - 1e-9), FEWEST_SHARED)
    texts = np.flatnonzero(shorter.held >= fewest)
    entries = _ranges(shorter.first[texts], shorter.held[texts])
    by_rarity = np.lexsort((other.frequency[shorter.shingles[entries]], shorter.owners[entries]))
    probes = (shorter.held[texts] - fewest[texts] + 1).astype(np.int64)
    starts = np.cumsum(shorter.held[texts]) - shorter.held[texts]
    probing = entries[by_rarity[_ranges(starts, probes)]]

    known = np.sort(other.owners * len(other.frequency) + other.shingles)
    holders = other.owners[np.argsort(other.shingles, kind="stable")]
    first_holder = np.cumsum(other.frequency) - other.frequency
    frequency = other.frequency[shorter.shingles[probing]]
    counts = np.minimum(frequency, MOST_TEXTS)
    for start, stop in _chunks(counts, shorter.owners[probing]):
        count, entry = counts[start:stop], probing[start:stop]
        step = np.repeat(frequency[start:stop] / count, count)
        offset = ((_ranges(np.zeros_like(count), count) + _phase(np.repeat(entry, count))) * step).astype(np.int64)
        left = np.repeat(shorter.owners[entry], count)
        right = holders[np.repeat(first_holder[shorter.shingles[entry]], count) + offset]
        keys = distinct(left * len(sizes) + right)
        left, right = keys // len(sizes), keys % len(sizes)
        enough = _in_common(left, right, shorter, known) >= _needed(sizes[left], sizes[right])
        yield left[enough], right[enough]


def _needed(left: Integers, right: Integers) -> Integers:
    """The fewest shared shingles that make texts of so many distinct shingles near-duplicates."""
    contained = np.ceil(CONTAINMENT * np.minimum(left, right) - 1e-9)
    resembling = np.ceil(RESEMBLANCE / (1 + RESEMBLANCE) * (left + right) - 1e-9)
    return np.maximum(np.minimum(contained, resembling), FEWEST_SHARED).astype(np.int64)


def _in_common(left: Integers, right: Integers, side: _Side, known: Integers) -> Integers:
    """How many shingles each pair shares; `known` are the sorted (text, shingle) keys of the side of `right`."""
    result = np.zeros(len(left), np.int64)
    counts = side.held[left]
    for start, stop in _chunks(counts, np.arange(len(left))):
        count = counts[start:stop]
        held = side.shingles[_ranges(side.first[left[start:stop]], count)]
        wanted = np.repeat(right[start:stop], count) * len(side.frequency) + held
        hit = known[np.minimum(np.searchsorted(known, wanted), len(known) - 1)] == wanted
        result[start:stop] = np.bincount(np.repeat(np.arange(stop - start), count)[hit], minlength=stop - start)
    return result


def _phase(entries: Integers) -> npt.NDArray[np.float64]:
    """A number in [0, 1) for each entry, so that different texts sample different holders of a frequent shingle."""
    return (mix(entries.astype(np.uint64)) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _chunks(counts: Integers, owners: Integers) -> Iterator[tuple[int, int]]:
    """Consecutive [start, end) ranges whose counts sum to about `_CHUNK`, never parting the entries of one owner."""
    work = np.cumsum(counts)
    start = 0
    while start < len(work):
        done = work[start - 1] if start else 0
        stop = min(max(int(np.searchsorted(work, done + _CHUNK)), start + 1), len(work))
        stop = int(np.searchsorted(owners, owners[stop - 1], side="right"))
        yield start, stop
        start = stop


def _ranges(first: Integers, count: Integers) -> Integers:
    """The numbers first[i], …, first[i] + count[i] - 1 for every i, one after another."""
    starts = np.cumsum(count) - count
    return np.repeat(first - starts, count) + np.arange(count.sum())
