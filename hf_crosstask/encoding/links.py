"""Mentions of any shape as links between words, and links read back as mentions.

The scheme is W2NER (Li et al. 2022, "Unified Named Entity Recognition as Word-Word Relation Classification", AAAI,
arXiv:2112.10070): one relation joins each word of a mention to the mention's next word, another joins its first word to
its last and carries the type; a mention is a path of the former from a first word to a last. Discontinuous, nested and
crossing mentions need no special case. Three things differ from the paper:

- the relations lie in a band, not in a square: row = word, column = distance to the word farther on, so cost grows with
  the length of a text, not with its square. A mention may reach over as many words as the band has columns;
- relations are independent bits, not one class a pair of words, so that mentions of several types may share all words;
- column 0 of the first relation (a word and itself, unused in the paper) joins a word to the very next one *in a new
  part* of the mention: annotators split mentions at line ends, and scorers compare parts.

Every mention is read back. What the links of several mentions together say besides is read too: of `a b d` and
`b c d`, also `a b c d` and `b d`. Where more than `READINGS` mentions have the
same first and last word, the most probable stay.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

#: Mentions with the same first and last word that are read at most.
READINGS = 64
#: Above so many ends of mentions a word (and above `READINGS` in all), which no gold has, only the most probable mention
#: between two words is read: links that dense are a broken model's, and its readings without number.
DENSE = 2
#: Columns of the band by which a word is joined to the next one: in a new part, in the same part.
OPENS, CONTINUES = 0, 1
#: Bit (and channel) of the relation to the next word; type number t has `1 + t`.
NEXT = 0

_CERTAIN = 30.0  # log odds of a gold link; exp(-30) of doubt is nothing in a sum of a few
_Parts = tuple[tuple[int, int], ...]


class Mention(NamedTuple):
    """A mention in words: number of its type and its parts `[first, last + 1)`, ascending, none over another."""

    type: int
    parts: _Parts

    @property
    def first(self) -> int:
        """Its first word."""
        return self.parts[0][0]

    @property
    def last(self) -> int:
        """Its last word."""
        return self.parts[-1][1] - 1

    def joins(self) -> Iterator[tuple[int, int]]:
        """(word, column) of each link to the mention's next word."""
        previous = -1
        for start, end in self.parts:
            if previous >= 0:
                yield previous, OPENS if start == previous + 1 else start - previous
            yield from ((word, CONTINUES) for word in range(start, end - 1))
            previous = end - 1


def mark(mentions: Iterable[Mention], words: int, reach: int) -> NDArray[np.int64]:
    """The links of mentions as bits: `[words, reach]`.

    Args:
        mentions: of `reach` words at most, from first to last.
        words: in the text.
        reach: columns of the band, at least 2.
    """
    bits = np.zeros((words, reach), dtype=np.int64)
    for mention in mentions:
        for word, column in mention.joins():
            bits[word, column] |= 1 << NEXT
        bits[mention.first, mention.last - mention.first] |= 1 << (1 + mention.type)
    return bits


def certain(bits: NDArray[np.int64], types: int) -> NDArray[np.float64]:
    """The log odds `[words, reach, 1 + types]` of a model that is certain of the links of `mark`."""
    return np.where(bits[..., None] >> np.arange(1 + types) & 1, _CERTAIN, -_CERTAIN)


def read(scores: NDArray[np.floating]) -> list[tuple[Mention, float]]:
    """Mentions and their probabilities from the log odds of links, `[words, reach, 1 + types]`.

    A link holds where its log odds are positive. The probability of a mention is the product of its links', which are
    taken as independent. Mentions come in the order of their first words.
    """
    log_p = -np.logaddexp(0.0, -scores.astype(np.float64))
    joined: dict[int, list[tuple[int, bool, float]]] = defaultdict(list)
    for word, column in np.argwhere(scores[..., NEXT] > 0).tolist():
        joined[word].append((word + max(column, 1), column != CONTINUES, float(log_p[word, column, NEXT])))
    found = []
    ends: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for first, distance, type_number in np.argwhere(scores[..., NEXT + 1 :] > 0).tolist():
        ends[first].append((distance, type_number))
    dense = sum(map(len, ends.values())) > max(DENSE * len(scores), READINGS)
    limit = 1 if dense else READINGS
    for first, of_first in ends.items():
        paths = _paths(first, first + max(distance for distance, _ in of_first), joined, limit)
        for distance, type_number in of_first:
            for weight, parts in paths.get(first + distance, ()):
                probability = np.exp(weight + log_p[first, distance, NEXT + 1 + type_number])
                found.append((Mention(type_number, parts), float(probability)))
    return found


def _paths(
    first: int, last: int, joined: Mapping[int, Sequence[tuple[int, bool, float]]], limit: int
) -> dict[int, list[tuple[float, _Parts]]]:
    """The `limit` most probable paths from a word to each word up to `last`: log probability and parts."""
    paths: dict[int, list[tuple[float, _Parts]]] = defaultdict(list)
    paths[first] = [(0.0, ((first, first + 1),))]
    for word in range(first, last + 1):
        if word not in paths:
            continue
        best = paths[word] = heapq.nlargest(limit, paths[word], key=lambda path: path[0])
        for target, opens, weight in joined.get(word, ()):
            if target > last:
                continue
            for so_far, parts in best:
                extended = (*parts, (target, target + 1)) if opens else (*parts[:-1], (parts[-1][0], target + 1))
                paths[target].append((so_far + weight, extended))
    return paths
