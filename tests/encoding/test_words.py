from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_crosstask.encoding.words import words


def cut(text: str, segmentation: str) -> list[str]:
    return [text[start:end] for start, end in words(text, segmentation)]


def test_running_text_is_cut_at_punctuation():
    assert cut("IL-2 (p53_a), 3.5 mg", "regex") == ["IL", "-", "2", "(", "p53_a", ")", ",", "3", ".", "5", "mg"]


def test_tokenized_text_is_cut_at_white_space_alone():
    assert cut("IL-2 (p53),\tx\u2009y", "whitespace") == ["IL-2", "(p53),", "x", "y"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cafe\u0301s bar", ["cafe\u0301s", "bar"]),  # a decomposed accent
        ("हिन्दी", ["हिन्दी"]),  # vowel signs and virama are marks
        ("\u0301a", ["\u0301", "a"]),  # a mark that stands on nothing
        ("*\u0301a", ["*\u0301", "a"]),  # a mark on a symbol does not join the letters behind it
        ("beta\u00adblocker\u200b.\ufeff", ["beta", "blocker", "."]),  # nothing to see, no word
    ],
)
def test_marks_join_and_invisible_characters_are_no_words(text: str, expected: list[str]):
    assert cut(text, "regex") == expected


@given(st.text())
def test_whitespace_words_are_those_of_split(text: str):
    assert cut(text, "whitespace") == text.split()


@given(st.text(alphabet=st.characters(exclude_categories=["M", "C"])))
def test_without_marks_and_invisible_characters_the_pattern_alone_decides(text: str):
    assert cut(text, "regex") == re.findall(r"\w+|[^\w\s]", text)


@given(st.text(), st.sampled_from(["regex", "whitespace"]))
def test_words_are_in_order_and_apart(text: str, segmentation: str):
    spans = words(text, segmentation)
    assert all(start < end for start, end in spans)
    assert all(before[1] <= after[0] for before, after in pairwise(spans))
