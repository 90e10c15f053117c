"""Tag schemes (IOB1, IOB2, IOBES): from one tag per token to entity spans, strictly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

Scheme = Literal["IOB2", "IOB1", "IOBES"]

_PREFIXES: dict[Scheme, frozenset[str]] = {
    "IOB2": frozenset("BI"),
    "IOB1": frozenset("BI"),
    "IOBES": frozenset("BIES"),
}


class TokenSpan(NamedTuple):
    """An entity over the tokens [start, end)."""

    start: int
    end: int
    type: str


class TagError(ValueError):
    """A tag that the scheme does not allow here.

    Args:
        index: of the tag in its sentence.
        problem: what was found and what was expected, with the remedy.
    """

    def __init__(self, index: int, problem: str):
        super().__init__(problem)
        self.index, self.problem = index, problem


def entity_spans(tags: Sequence[str], scheme: Scheme, labels: Sequence[str]) -> list[TokenSpan]:
    """The entities that the tags of one sentence encode.

    - IOB2: `B-` begins every entity; an `I-` that continues nothing is an error.
    - IOB1: `I-` begins an entity too, after `O` or another type; `B-` separates neighbours of one type (read leniently:
      it may begin any entity).
    - IOBES: `B- I- E-` for several tokens, `S-` for one; an entity left open is an error.

    Tags without a type (`B`, `I`) are read as the only label, where there is only one.

    Raises:
        TagError: at the first tag that breaks the scheme or names an unknown type.
    """
    spans: list[TokenSpan] = []
    start, open_type = 0, ""  # the type of the entity that is open, if any
    for index, tag in enumerate(tags):
        prefix, type = ("O", "") if tag == "O" else _parse(tag, index, scheme, labels)
        if prefix in "IE" and open_type == type:
            if prefix == "E":
                spans.append(TokenSpan(start, index + 1, type))
                open_type = ""
            continue
        if prefix == "E" or (prefix == "I" and scheme != "IOB1"):
            remedy = (
                " Set options.scheme to 'IOB1' if `I-` begins entities in this corpus." if scheme == "IOB2" else ""
            )
            raise TagError(index, f"illegal tag {tag!r}: no entity of its type is open in {scheme}.{remedy}")
        if open_type:
            if scheme == "IOBES":
                raise TagError(index, f"illegal tag {tag!r}: the {open_type} entity before it lacks its `E-` tag.")
            spans.append(TokenSpan(start, index, open_type))
            open_type = ""
        if prefix == "S":
            spans.append(TokenSpan(index, index + 1, type))
        elif prefix != "O":
            start, open_type = index, type
    if open_type:
        if scheme == "IOBES":
            raise TagError(len(tags) - 1, f"the sentence ends inside a {open_type} entity without its `E-` tag.")
        spans.append(TokenSpan(start, len(tags), open_type))
    return spans


def _parse(tag: str, index: int, scheme: Scheme, labels: Sequence[str]) -> tuple[str, str]:
    prefix, dash, type = tag.partition("-")
    if prefix not in _PREFIXES[scheme]:
        remedy = " Set options.scheme to 'IOBES'." if prefix in ("E", "S") else ""
        expected = ", ".join(f"{letter}-<type>" for letter in sorted(_PREFIXES[scheme]))
        raise TagError(index, f"unknown tag {tag!r}: {scheme} has O, {expected}.{remedy}")
    if not dash and len(labels) == 1:
        return prefix, labels[0]
    if type not in labels:
        raise TagError(index, f"tag {tag!r} has the type {type!r}, which is not in the label set {list(labels)}.")
    return prefix, type
