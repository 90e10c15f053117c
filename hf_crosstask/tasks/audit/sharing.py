"""What evaluation and training share: documents, whole texts, and runs of words.

Every kind of overlap has one form, a `Sharing`: documents or texts of either side, each holding *tokens* (a document,
a text's identity, an n-gram, a link between near-duplicates), and two of them overlap if they hold a common token. Its
size is linear in the n-grams, never in pairs of texts: boilerplate that a thousand texts share costs a thousand
entries, not a million.

**N-grams.** Two texts overlap if they share a run of n words, n = 13, or the length of the shorter text where that has
8 to 12 words. This is the range of Brown et al. 2020 (GPT-3, appendix C: n between 8 and 13 by the length of the
texts); lm-evaluation-harness uses 13 throughout, which cannot see short sentences. Texts below 8 words are not
covered.

**Identical texts.** In the eight public corpora the texts of seven words that two splits share are sentences, two of
them all that the texts show of a PubMed document in two corpora ("Binding sites were mapped for each factor."); what
they share below that are headings and copyright lines.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from hf_crosstask.tasks.audit.corpus import Corpus, Owner
from hf_crosstask.tasks.audit.hashing import Grams, HashedTexts, Hashes, Integers, Mask

_Integer = TypeVar("_Integer", np.uint64, np.int64)

LONGEST_GRAM = 13
SHORTEST_GRAM = 8
SHORTEST_IDENTICAL = 7


@dataclass(frozen=True)
class Sharing:
    """Tokens that occur on both sides, and who holds them.

    Attributes:
        owners: whether owners are documents or texts of the corpus.
        tokens: number of tokens.
        evaluation_owners, evaluation_tokens: who holds which token on the evaluation side, one entry per occurrence.
        train_owners, train_tokens: the same on the training side.
    """

    owners: Owner
    tokens: int
    evaluation_owners: Integers
    evaluation_tokens: Integers
    train_owners: Integers
    train_tokens: Integers


@dataclass(frozen=True)
class Matches:
    """Positions in two arrays whose values occur in both, and the number of the value at each of them."""

    left: Integers
    left_tokens: Integers
    right: Integers
    right_tokens: Integers
    tokens: int


def match(left: Hashes, right: Hashes) -> Matches:
    """Every position of `left` and of `right` whose value occurs on the other side; values must be well mixed."""
    in_left = np.flatnonzero(_contained(left, right))
    common = distinct(left[in_left])
    in_right = np.flatnonzero(_contained(right, common))
    return Matches(
        left=in_left,
        left_tokens=np.searchsorted(common, left[in_left]),
        right=in_right,
        right_tokens=np.searchsorted(common, right[in_right]),
        tokens=len(common),
    )


def distinct(values: npt.NDArray[_Integer]) -> npt.NDArray[_Integer]:
    """Distinct values, ascending. (`np.unique` hashes integers, which is ten times slower at this size.)"""
    ordered = np.sort(values)
    keep = np.ones(len(ordered), np.bool_)
    keep[1:] = ordered[1:] != ordered[:-1]
    return ordered[keep]


def shared_documents(corpus: Corpus) -> Sharing:
    """Documents with examples on both sides."""
    both = corpus.has("documents", corpus.evaluation) & corpus.has("documents", corpus.train)
    documents = np.flatnonzero(both)
    tokens = np.arange(len(documents))
    return Sharing("documents", len(documents), documents, tokens, documents, tokens)


def identical_texts(corpus: Corpus, texts: HashedTexts, among: Mask) -> Sharing:
    """Texts of equal letters and digits, among those that a mask selects."""
    evaluation = np.flatnonzero(corpus.has("texts", corpus.evaluation) & among)
    train = np.flatnonzero(corpus.has("texts", corpus.train) & among)
    found = match(texts.identity[evaluation], texts.identity[train])
    return Sharing(
        "texts", found.tokens, evaluation[found.left], found.left_tokens, train[found.right], found.right_tokens
    )


def shared_grams(corpus: Corpus, texts: HashedTexts, n: int, grams: Grams) -> Sharing:
    """Texts that share an n-gram; below the longest n, one of the two must be that n-gram and nothing more."""
    evaluation = grams.of(corpus.has("texts", corpus.evaluation))
    train = grams.of(corpus.has("texts", corpus.train))
    if n == LONGEST_GRAM:
        return _share(evaluation, train)
    whole = texts.lengths == n
    return combine([_share(evaluation.of(whole), train), _share(evaluation, train.of(whole))])


def combine(parts: list[Sharing]) -> Sharing:
    """The union of sharings of one kind of owner; their tokens stay apart."""
    shift = np.cumsum([0, *(part.tokens for part in parts)])
    return Sharing(
        owners=parts[0].owners,
        tokens=int(shift[-1]),
        evaluation_owners=np.concatenate([part.evaluation_owners for part in parts]),
        evaluation_tokens=np.concatenate(
            [part.evaluation_tokens + start for part, start in zip(parts, shift, strict=False)]
        ),
        train_owners=np.concatenate([part.train_owners for part in parts]),
        train_tokens=np.concatenate([part.train_tokens + start for part, start in zip(parts, shift, strict=False)]),
    )


def _share(evaluation: Grams, train: Grams) -> Sharing:
    found = match(evaluation.hashes, train.hashes)
    return Sharing(
        "texts",
        found.tokens,
        evaluation.owners[found.left].astype(np.int64),
        found.left_tokens,
        train.owners[found.right].astype(np.int64),
        found.right_tokens,
    )


def _contained(values: Hashes, of: Hashes) -> Mask:
    """Whether each value occurs in `of`. A table over the leading bits answers most; only its hits are looked up."""
    bits = min(max(len(of).bit_length() + 3, 8), 26)
    shift = np.uint64(64 - bits)
    table = np.zeros(1 << bits, np.bool_)
    table[of >> shift] = True
    inside = table[values >> shift]
    if not inside.any():
        return inside
    ordered = np.sort(of)
    candidates = values[inside]
    position = np.minimum(np.searchsorted(ordered, candidates), len(ordered) - 1)
    inside[inside] = ordered[position] == candidates
    return inside
