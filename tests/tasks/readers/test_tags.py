from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_crosstask.tasks.readers.tags import Scheme, TagError, TokenSpan, entity_spans

LABELS = ("Drug", "Cell-line")


def encode(spans: list[TokenSpan], length: int, scheme: Scheme) -> list[str]:
    tags = ["O"] * length
    for index, (start, end, type) in enumerate(spans):
        touches = index > 0 and spans[index - 1].end == start and spans[index - 1].type == type
        first = "I" if scheme == "IOB1" and not touches else "B"
        tags[start:end] = [f"{first}-{type}", *[f"I-{type}"] * (end - start - 1)]
        if scheme == "IOBES":
            tags[end - 1] = f"{'S' if end - start == 1 else 'E'}-{type}"
    return tags


@st.composite
def span_lists(draw: st.DrawFn) -> tuple[list[TokenSpan], int]:
    spans, position = [], 0
    for _ in range(draw(st.integers(0, 5))):
        start = position + draw(st.integers(0, 2))
        position = start + draw(st.integers(1, 4))
        spans.append(TokenSpan(start, position, draw(st.sampled_from(LABELS))))
    return spans, position + draw(st.integers(0, 2))


@given(span_lists(), st.sampled_from(["IOB1", "IOB2", "IOBES"]))
def test_round_trip(case: tuple[list[TokenSpan], int], scheme: Scheme) -> None:
    spans, length = case
    assert entity_spans(encode(spans, length, scheme), scheme, LABELS) == spans


@given(st.lists(st.sampled_from(["O", "B-Drug", "I-Drug", "B-Cell-line", "I-Cell-line", "S-Drug", "E-Drug"])))
def test_strict_schemes_accept_only_what_they_write(tags: list[str]) -> None:
    for scheme in ("IOB2", "IOBES"):
        try:
            spans = entity_spans(tags, scheme, LABELS)
        except TagError as error:
            index = error.index
        else:
            index = 0
            assert encode(spans, len(tags), scheme) == tags
        assert index in range(max(1, len(tags)))


@pytest.mark.parametrize(
    ("tags", "scheme", "index", "message"),
    [
        (["O", "I-Drug"], "IOB2", 1, "IOB1"),
        (["B-Drug", "I-Cell-line"], "IOB2", 1, "no entity of its type"),
        (["B-Drug", "E-Drug"], "IOB2", 1, "options.scheme to 'IOBES'"),
        (["B-Durg"], "IOB2", 0, "not in the label set"),
        (["B"], "IOB2", 0, "not in the label set"),
        (["drug"], "IOB2", 0, "unknown tag"),
        (["B-Drug", "O"], "IOBES", 1, "lacks its `E-`"),
        (["B-Drug"], "IOBES", 0, "ends inside"),
        (["E-Drug"], "IOBES", 0, "no entity of its type"),
    ],
)
def test_illegal_tags(tags: list[str], scheme: Scheme, index: int, message: str) -> None:
    with pytest.raises(TagError, match=message) as caught:
        entity_spans(tags, scheme, LABELS)
    assert caught.value.index == index


def test_tags_without_type_are_the_only_label() -> None:
    assert entity_spans(["B", "I", "O"], "IOB2", ("Drug",)) == [TokenSpan(0, 2, "Drug")]
