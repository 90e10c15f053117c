"""Words: the units that NER predictions are read and scored on, the same for every model."""

from __future__ import annotations

import re
import unicodedata
from typing import Literal, assert_never

Segmentation = Literal["whitespace", "regex"]

_WHITESPACE = re.compile(r"\S+")
_REGEX = re.compile(r"\w+|[^\w\s]")


def words(text: str, segmentation: Segmentation) -> list[tuple[int, int]]:
    r"""Character spans `[start, end)` of the words of a text, in order, never overlapping.

    Args:
        text: any text.
        segmentation: `whitespace` for text that is already tokenized (IOB files): `\S+`. `regex` for running text:
            `\w+|[^\w\s]`, so that an entity may begin or end beside a hyphen or a bracket; a combining mark belongs to
            the character it stands on (else decomposed accents and Indic vowel signs would cut words), and a
            character with nothing to see (soft hyphen, zero-width space, byte-order mark) is no word: many tokenizers
            drop both.
    """
    match segmentation:
        case "whitespace":
            return [found.span() for found in _WHITESPACE.finditer(text)]
        case "regex":
            spans = [found.span() for found in _REGEX.finditer(text)]
            return spans if text.isascii() and text.isprintable() else _visible(text, spans)
        case _:
            assert_never(segmentation)


def _visible(text: str, spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The spans of `_REGEX` with combining marks joined to what they stand on, and without invisible characters."""
    joined: list[tuple[int, int]] = []
    letters_last = False  # the last word is one of letters: what follows its marks goes on with it
    for start, end in spans:
        letters = text[start].isalnum() or text[start] == "_"
        mark = not letters and unicodedata.category(text[start]).startswith("M")
        touches = bool(joined) and joined[-1][1] == start
        if touches and (mark or (letters and letters_last)):
            joined[-1] = (joined[-1][0], end)
        elif letters or text[start].isprintable():
            joined.append((start, end))
            letters_last = letters
    return joined
