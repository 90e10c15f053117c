"""Cutting a long token sequence into windows of whole words, each word owned by exactly one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Windows:
    """Token ranges `[start, end)` and, for each word, the number of the range that owns it (-1: none)."""

    ranges: list[tuple[int, int]]
    owner: NDArray[np.int64]


def cover(first: NDArray[np.int64], end: NDArray[np.int64], total: int, capacity: int, stride: int) -> Windows:
    """Cover a text with windows so that every word is seen whole and owned once.

    Windows begin and end at word edges and overlap by at most `stride` tokens. The owner of a word is the window that
    shows most of its context: whose nearer edge is farthest away; of equals the earlier. (Edges of the text need no
    exception: the edge of a neighbouring window is nearer still.) Windows that own no word are left out.
    A word longer than `capacity` gets a window of its own with its first `capacity` tokens.

    Args:
        first: [words] index of the first token of each word, increasing.
        end: [words] index behind the last token of each word.
        total: tokens of the text; those that belong to no word (white space) go along with the word they precede.
        capacity: tokens a window can hold, at least 1.
        stride: tokens that neighbouring windows share at most, less than `capacity`.
    """
    count = len(first)
    if total <= capacity or count == 0:
        return Windows([(0, min(total, capacity))], np.zeros(count, dtype=np.int64))
    begin = np.concatenate([[0], end[:-1]])  # where the tokens between the previous word and this one begin
    ranges: list[tuple[int, int]] = []
    owner = np.full(count, -1, dtype=np.int64)
    best = np.full(count, -1, dtype=np.int64)
    word = 0
    while True:
        start = _start(word, first, end, begin, capacity)
        stop = max(word + 1, int(np.searchsorted(end, start + capacity, side="right")))  # words [word, stop) fit
        last = stop == count
        # Behind the last word only white space is left: as much of it as there is room for.
        finish = min(total if last else int(end[stop - 1]), start + capacity)
        context = np.minimum(first[word:stop] - start, finish - end[word:stop])
        context = np.maximum(context, 0)  # a clipped word reaches past its window
        better = context > best[word:stop]
        best[word:stop][better] = context[better]
        owner[word:stop][better] = len(ranges)
        ranges.append((start, finish))
        if last:
            break
        # Step back from the first word not seen yet, as far as the overlap allows and that word still fits.
        following = stop
        while (
            following - 1 > word
            and end[stop - 1] - begin[following - 1] <= stride
            and end[stop] - begin[following - 1] <= capacity
        ):
            following -= 1
        word = following
    used, owner = np.unique(owner, return_inverse=True)
    return Windows([ranges[number] for number in used], owner)


def cut(first: NDArray[np.int64], end: NDArray[np.int64], total: int, capacity: int) -> Windows:
    """The beginning of a text alone: one window, which owns the words that fit whole (see `cover`)."""
    windows = cover(first, end, total, capacity, stride=0)
    return Windows(windows.ranges[:1], np.where(windows.owner == 0, 0, -1))


def _start(
    word: int, first: NDArray[np.int64], end: NDArray[np.int64], begin: NDArray[np.int64], capacity: int
) -> int:
    """Where a window that opens with `word` begins: with the white space before it, unless there is no room for it."""
    return int(min(first[word], max(begin[word], end[word] - capacity)))
