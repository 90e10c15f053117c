from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_crosstask.encoding.links import READINGS, Mention, certain, mark, read

WORDS, REACH, TYPES = 9, 6, 2


def mention(words: str, type_number: int = 0) -> Mention:
    """A mention of single letters, a to i; a bar opens a new part where a letter of the alphabet is not left out."""
    parts: list[tuple[int, int]] = []
    for piece in words.split("|"):
        opens = True
        for letter in piece:
            word = ord(letter) - ord("a")
            if opens or word != parts[-1][1]:
                parts.append((word, word + 1))
            else:
                parts[-1] = (parts[-1][0], word + 1)
            opens = False
    return Mention(type_number, tuple(parts))


def back(*mentions: Mention) -> set[Mention]:
    return {found for found, _ in read(certain(mark(mentions, WORDS, REACH), TYPES))}


@st.composite
def mentions(draw: st.DrawFn) -> Mention:
    first = draw(st.integers(0, WORDS - 1))
    others = draw(st.sets(st.integers(first + 1, min(first + REACH, WORDS) - 1))) if first + 1 < WORDS else set()
    parts: list[tuple[int, int]] = []
    for word in sorted({first, *others}):
        if parts and parts[-1][1] == word and draw(st.booleans()):
            parts[-1] = (parts[-1][0], word + 1)
        else:
            parts.append((word, word + 1))
    return Mention(draw(st.integers(0, TYPES - 1)), tuple(parts))


def test_links_of_a_mention():
    bits = mark([mention("bc|de"), mention("d", 1)], WORDS, REACH)
    assert {(int(w), int(c), int(bits[w, c])) for w, c in np.argwhere(bits)} == {
        (1, 1, 0b1),  # b, then c in the same part
        (2, 0, 0b1),  # c, then d in a new part
        (3, 1, 0b1),
        (1, 3, 0b10),  # b to e: a mention of type 0
        (3, 0, 0b100),  # d alone: of type 1
    }


@pytest.mark.parametrize(
    "structure",
    [
        ["abc"],
        ["ab", "cd"],  # side by side
        ["abcd", "bc"],  # nested
        ["abc", "bcd"],  # crossing
        ["ace"],  # three parts
        ["ace", "bd"],  # parts of one between parts of the other
        ["ad", "bd", "cd"],  # a shared head: "left, right and middle lobe"
        ["ab", "ac", "ad"],
        ["abd", "acd"],  # the same first and last word
        ["abcd", "ad", "acd"],
        ["ab", "a|b"],  # the same words, in one part and in two
        ["a", "ab", "abc"],
    ],
)
def test_structures_that_are_read_back_alone(structure):
    given_mentions = {mention(words) for words in structure}
    assert back(*given_mentions) == given_mentions


def test_types_may_share_all_words():
    assert back(mention("ac", 0), mention("ac", 1)) == {mention("ac", 0), mention("ac", 1)}


def test_what_mentions_say_together_is_read_too():
    assert back(mention("abd"), mention("bcd")) == {mention(words) for words in ("abd", "bcd", "abcd", "bd")}
    both = {mention("abd", 0), mention("acd", 1)}
    assert back(*both) - both == {mention("abd", 1), mention("acd", 0)}


@settings(max_examples=300, deadline=None)
@given(gold=st.lists(mentions(), max_size=7).map(set))
def test_every_mention_is_read_back(gold):
    found = back(*gold)
    by_edges = {(m.first, m.last, m.type): 0 for m in found}
    for m in found:
        by_edges[m.first, m.last, m.type] += 1
    assert max(by_edges.values(), default=0) <= READINGS
    crowded = {edges for edges, count in by_edges.items() if count == READINGS}
    assert all(m in found or (m.first, m.last, m.type) in crowded for m in gold)
    # Nothing comes from nowhere: every reading has the edges and the type of a gold mention, and joins that gold has.
    assert {(m.first, m.last, m.type) for m in found} <= {(m.first, m.last, m.type) for m in gold}
    assert {join for m in found for join in m.joins()} <= {join for m in gold for join in m.joins()}


@given(gold=mentions())
def test_a_mention_alone_is_unambiguous(gold):
    assert back(gold) == {gold}


def test_the_most_probable_of_too_many_readings_stay():
    # a, any of b to h, i: 2^7 paths, of which the one that skips nothing is likeliest.
    scores = np.full((9, 9, 2), -5.0)
    for word in range(9):
        for column in range(1, 9 - word):
            scores[word, column, 0] = 3.0 if column == 1 else 0.5
    scores[0, 8, 1] = 3.0
    found = read(scores)
    assert len(found) == READINGS
    assert max(found, key=lambda each: each[1])[0] == Mention(0, ((0, 9),))
    assert len({each for each, _ in found}) == READINGS


def test_probability_is_the_product_over_links():
    scores = np.full((3, 3, 2), -9.0)
    scores[0, 2, 0], scores[0, 2, 1] = 1.0, 2.0
    ((found, probability),) = read(scores)
    assert found == mention("ac")
    assert probability == pytest.approx(1 / (1 + np.exp(-1)) / (1 + np.exp(-2)))


def test_links_without_an_end_and_ends_without_links_say_nothing():
    scores = np.full((4, 4, 2), -9.0)
    scores[0, 1, 0] = 9.0  # a to b, and no mention
    scores[1, 2, 1] = 9.0  # b … d a mention, and no path
    assert read(scores) == []
    assert read(np.zeros((0, 4, 2))) == []


def test_of_senselessly_many_links_only_the_most_probable_are_read():
    noise = np.random.default_rng(0).normal(0.0, 1.0, (200, 12, 2))
    found = read(noise)
    assert len({(m.first, m.last) for m, _ in found}) == len(found) > 500
