from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from hf_crosstask.tasks.readers.documents import fitting_line_ends, outer_span, slices, text_group


@given(st.lists(st.text("ab ", min_size=1, max_size=5).filter(str.strip), min_size=2, max_size=6))
def test_offsets_made_on_single_line_feeds(lines: list[str]) -> None:
    unix = "\n".join(lines)
    spans = [match.span() for match in re.finditer(r"\w+", unix)]
    for number in range(len(spans) + 1):
        assert fitting_line_ends(unix.replace("\n", "\r\n"), spans[:number]) == unix


def test_offsets_made_on_windows_line_ends() -> None:
    windows = "one\r\ntwo three\r\nfour"
    spans = [match.span() for match in re.finditer(r"\w+", windows)]
    assert fitting_line_ends(windows, spans) == windows
    assert fitting_line_ends("one\ntwo", [(0, 1)]) == "one\ntwo"


def test_small_helpers() -> None:
    assert slices("abcdef", [(0, 2), (3, 4)]) == ["ab", "d"]
    assert outer_span({"offsets": [[5, 7], [1, 2]]}) == (1, 7)
    assert text_group("x", "a") == text_group("x", "a") != text_group("x", "b")
    assert text_group("x", "a").startswith("x:")
