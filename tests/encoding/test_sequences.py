"""Cutting a text and its pair to what there is room for."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_crosstask.encoding.sequences import cut_longer, cut_second, cut_start_of_first

TOKENS = st.lists(st.integers(0, 9), max_size=30)
CAPACITY = st.integers(1, 40)


@pytest.mark.parametrize("cut", [cut_second, cut_longer, cut_start_of_first])
@given(first=TOKENS, second=TOKENS, capacity=CAPACITY)
def test_all_room_is_used_and_no_more(cut, first, second, capacity):
    kept, other = cut(first, second, capacity)
    assert len(kept) + len(other) == min(capacity, len(first) + len(second))
    assert other == second[: len(other)]
    assert kept in (first[: len(kept)], first[len(first) - len(kept) :])


@given(first=TOKENS, second=TOKENS, capacity=CAPACITY)
def test_neither_text_is_cut_below_half_of_the_room(first, second, capacity):
    for text, kept in zip((first, second), cut_longer(first, second, capacity), strict=True):
        assert kept == text or len(kept) >= capacity // 2


@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_the_longer_is_cut_as_transformers_cuts_it(tokenizers_by_name, name):
    tokenizer = tokenizers_by_name[name]
    words = ["aspirin", "serum", "patient", "metformin", "rose", "p53", "binds", "salbutamol", "unchanged", "did"]
    for one in range(1, 10):
        for other in range(1, 10):
            texts = " ".join(words[:one]), " ".join(words[:other])
            for length in range(8, 40, 3):
                theirs = tokenizer(*texts, truncation="longest_first", max_length=length)
                special = tokenizer.num_special_tokens_to_add(pair=True)
                ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
                ours = cut_longer(*ids, length - special)
                sides = theirs.sequence_ids(0)
                assert tuple(map(len, ours)) == (sides.count(0), sides.count(1)), (texts, length)


def test_what_is_asked_at_the_end_stays():
    question, choice = list(range(100, 120)), [1, 2, 3]
    assert cut_start_of_first(question, choice, 8) == ([115, 116, 117, 118, 119], choice)
    assert cut_start_of_first(question, choice, 23) == (question, choice)
    assert cut_start_of_first(question, choice, 3) == ([], choice)
    assert cut_start_of_first(question, choice, 2) == ([], [1, 2])
    for smaller, larger in pairwise(cut_start_of_first(question, choice, room)[0] for room in range(3, 23)):
        assert larger[-len(smaller) :] == smaller or not smaller
