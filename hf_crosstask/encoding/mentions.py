"""Mentions written out as words, and where they stand in their text: entities of the generative form.

A mention is its words, single spaces between them; the parts of a discontiguous mention are joined by ` ... `. Mentions
are written in the order of the text, so that of equal words each next mention means the next place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

Offsets = tuple[tuple[int, int], ...]
GAP = " ... "


def written(text: str, offsets: Sequence[Sequence[int]]) -> str:
    """The words of a mention with these `[start, end)` parts."""
    return GAP.join(" ".join(text[start:end].split()) for start, end in offsets)


def place(mentions: Sequence[tuple[str, str]], text: str) -> list[Offsets | None]:
    """Where each (type, words) stands in the text; None where its words do not.

    The first place at or behind the start of the mention before it is taken, else the first of the text; in either case
    whole words before parts of words. A place is given to a type once.
    """
    taken: set[tuple[str, Offsets]] = set()
    places: list[Offsets | None] = []
    cursor = 0
    for kind, words in mentions:
        free = (offsets for offsets in _candidates(words, text, cursor) if (kind, offsets) not in taken)
        found = next(free, None)
        if found is not None:
            taken.add((kind, found))
            cursor = found[0][0]
        places.append(found)
    return places


def _candidates(words: str, text: str, cursor: int) -> Iterator[Offsets]:
    parts = [r"\s+".join(map(re.escape, part.split())) for part in words.split(GAP)]
    if not all(parts):
        return
    for edge in (r"(?<!\w){}(?!\w)", "{}"):
        patterns = [re.compile(edge.format(part)) for part in parts]
        for start in (cursor, 0):
            for first in patterns[0].finditer(text, start):
                offsets = [first.span()]
                for pattern in patterns[1:]:
                    match = pattern.search(text, offsets[-1][1])
                    if match is None:
                        break
                    offsets.append(match.span())
                if len(offsets) == len(patterns):
                    yield tuple(offsets)
