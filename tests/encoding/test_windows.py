from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hf_crosstask.encoding import windows


@dataclass(frozen=True)
class Laid:
    first: np.ndarray
    end: np.ndarray
    total: int


@st.composite
def laid_out(draw: st.DrawFn) -> Laid:
    """Words of random token counts with random white-space tokens between them."""
    sizes = draw(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 12)), min_size=1, max_size=30))
    tail = draw(st.integers(0, 3))
    gaps, lengths = np.array(sizes).T
    end = np.cumsum(gaps + lengths)
    return Laid(end - lengths, end, int(end[-1]) + tail)


def context(laid: Laid, window: tuple[int, int], word: int) -> float:
    """How far the nearer edge of a window is from a word, edges of the text not counting; -1: not whole inside."""
    start, finish = window
    if not (start <= laid.first[word] and laid.end[word] <= finish):
        return -1
    left = laid.first[word] - start if start > 0 else np.inf
    right = finish - laid.end[word] if finish < laid.end[-1] else np.inf
    return min(left, right)


@given(laid_out(), st.integers(1, 20), st.data())
def test_every_word_is_owned_once_by_the_window_that_shows_most_of_its_context(laid, capacity, data):
    stride = data.draw(st.integers(0, capacity - 1))
    result = windows.cover(laid.first, laid.end, laid.total, capacity, stride)
    assert len(result.owner) == len(laid.first)
    for start, finish in result.ranges:
        assert 0 <= start < finish <= laid.total
        assert finish - start <= capacity
    for before, after in pairwise(result.ranges):
        assert before[0] < after[0]
        assert before[1] - after[0] <= stride
    assert set(result.owner) == set(range(len(result.ranges)))  # all words owned, no window for nothing
    assert (np.diff(result.owner) >= 0).all()
    for word, owner in enumerate(result.owner):
        start, finish = result.ranges[owner]
        assert start <= laid.first[word] < finish
        if laid.end[word] - laid.first[word] > capacity:  # clipped: its beginning fills a window of its own
            assert (start, finish) == (laid.first[word], laid.first[word] + capacity)
        else:
            best = max(context(laid, window, word) for window in result.ranges)
            assert context(laid, (start, finish), word) == best >= 0


def test_a_text_that_fits_is_one_window_with_all_its_tokens():
    result = windows.cover(np.array([1, 3]), np.array([3, 6]), 8, 8, 2)
    assert result.ranges == [(0, 8)]
    assert result.owner.tolist() == [0, 0]


def test_overlap_is_used_and_shared_between_neighbours():
    first = np.arange(20)
    result = windows.cover(first, first + 1, 20, 8, 4)
    assert result.ranges == [(0, 8), (4, 12), (8, 16), (12, 20)]
    # The words of each overlap [4, 8), [8, 12), … go half to either side.
    assert result.owner.tolist() == [0] * 6 + [1] * 4 + [2] * 4 + [3] * 6


def test_of_equal_windows_the_earlier_owns():
    first = np.arange(13)
    result = windows.cover(first, first + 1, 13, 8, 3)
    assert result.ranges == [(0, 8), (5, 13)]
    assert result.owner.tolist() == [0] * 7 + [1] * 6  # word 6 has one neighbour on the nearer side in both


def test_a_word_longer_than_a_window_is_clipped_and_left_behind():
    result = windows.cover(np.array([0, 2, 50]), np.array([2, 50, 52]), 52, 10, 3)
    assert result.ranges == [(0, 2), (2, 12), (50, 52)]
    assert result.owner.tolist() == [0, 1, 2]


def test_more_white_space_than_a_window_holds():
    result = windows.cover(np.array([40]), np.array([42]), 90, 10, 0)
    assert result.ranges == [(32, 42)]
    assert windows.cover(np.array([], dtype=int), np.array([], dtype=int), 90, 10, 0).ranges == [(0, 10)]


@given(laid_out(), st.integers(1, 20))
def test_cut_keeps_the_beginning(laid, capacity):
    result = windows.cut(laid.first, laid.end, laid.total, capacity)
    ((start, finish),) = result.ranges
    owned = result.owner == 0
    assert finish - start <= capacity
    assert owned[0]
    assert (np.diff(owned.astype(int)) <= 0).all()  # a beginning
    fits = laid.end - start <= capacity
    assert (owned == fits)[1:].all()
