"""Mentions as words, and back to their places."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hf_crosstask.encoding.mentions import place, written


def test_equal_words_mean_successive_places_and_whole_words_come_first() -> None:
    text = "p53 in p53-null p530 cells"
    assert place([("Gene", "p53"), ("Gene", "p53"), ("Gene", "p53"), ("Gene", "p53")], text) == [
        ((0, 3),),
        ((7, 10),),
        ((16, 19),),  # a part of a word, when no whole word is left
        None,
    ]
    assert place([("A", "p53"), ("B", "p53")], text) == [((0, 3),), ((0, 3),)]  # of another type: the same place
    assert place([("A", "null"), ("A", "p53")], text)[1] == ((0, 3),)  # out of order: the first of the text
    assert place([("A", "p54"), ("A", ""), ("A", " ... ")], text) == [None, None, None]


def test_parts_and_white_space() -> None:
    text = "left atrium is\n dilated and right atrium is dilated"
    offsets = [(0, 11), (16, 23)]
    assert written(text, offsets) == "left atrium ... dilated"
    assert written(text, [(12, 23)]) == "is dilated"
    assert place([("D", "left atrium ... dilated"), ("D", "is dilated")], text) == [tuple(offsets), ((12, 23),)]
    assert place([("D", "right atrium ... left")], text) == [None]


@given(st.lists(st.sampled_from(["a", "b", "ab", "(c)", "d."]), min_size=1, max_size=12), st.data())
def test_places_hold_the_words_asked_for(words: list[str], data: st.DataObject) -> None:
    text, spans, cursor = " ".join(words), [], 0
    for word in words:
        spans.append((cursor, cursor + len(word)))
        cursor += len(word) + 1
    chosen = sorted(data.draw(st.sets(st.sampled_from(spans))))
    asked = [("T", text[start:end]) for start, end in chosen]
    places = place(asked, text)
    assert len(set(places)) == len(places)
    for (_, wanted), found in zip(asked, places, strict=True):
        assert found is not None
        assert written(text, found) == wanted


@given(st.text(alphabet="ab (.\\[*\n", max_size=30), st.text(alphabet="ab (.\\[* ", max_size=8))
def test_no_words_break_it(text: str, words: str) -> None:
    [found] = place([("T", words)], text)
    assert found is None or text[found[0][0] : found[-1][1]]
