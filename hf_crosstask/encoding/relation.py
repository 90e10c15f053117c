"""Relation candidates as sentences with typed entity markers in plain punctuation.

Zhou and Chen 2021, "An Improved Baseline for Sentence-level Relation Extraction", typed entity marker (punct): the
head becomes `@ * type * mention @`, the tail `# ^ type ^ mention #`, types in lower case with spaces for underscores.
No new vocabulary: any tokenizer and any frozen embedding can read it. A mention in several parts is marked from its
first character to its last. Markers may nest or cross where the entities do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_crosstask.encoding.encoder import Columns, EncodingContext, TaskEncoder
from hf_crosstask.encoding.report import EncodingReport
from hf_crosstask.errors import DataFormatError, InputError

_MARKERS = (("@", "*"), ("#", "^"))  # (around the mention, around its type) of head and tail


@dataclass(frozen=True)
class MarkedText:
    """A text with its markers, and the character of each mention's opening and closing marker: head, then tail."""

    text: str
    opening: tuple[int, int]
    closing: tuple[int, int]


def mark(text: str, head: Mapping[str, Any], tail: Mapping[str, Any]) -> MarkedText:
    """Put the markers into a text.

    Markers stand apart from the text by one space on either side, so that no tokenizer joins them with their
    neighbours. At one place, markers close before others open, the outer mention opens first and closes last.
    """
    edges = []  # (character, order at one place, mention, opens)
    for mention, entity in enumerate((head, tail)):
        start, end = _outer_bounds(entity)
        edges.append((start, (1, -end, mention), mention, True))
        edges.append((end, (0, -start, -mention), mention, False))
    opening, closing = [0, 0], [0, 0]
    marked, done = "", 0
    for position, _, mention, opens in sorted(edges):
        marked, done = _apart(marked, text[done:position]), position
        outer, inner = _MARKERS[mention]
        if opens:
            kind = (head, tail)[mention]["type"].replace("_", " ").lower()
            marker = f"{outer} {inner} {kind} {inner}"
            marked = _apart(marked, marker)
            opening[mention] = len(marked) - len(marker)
        else:
            marked = _apart(marked, outer)
            closing[mention] = len(marked) - 1
    return MarkedText(_apart(marked, text[done:]), (opening[0], opening[1]), (closing[0], closing[1]))


def crop(total: int, mentions: Sequence[tuple[int, int]], capacity: int) -> NDArray[np.int64] | None:
    """The tokens to keep of a sequence that is too long: `capacity` of them, in order.

    Both mentions, markers included, and what lies between them stay, with equally much context on either side (more on
    one side where the other has none left). Where mentions and what lies between them are too long, the context is
    taken around each mention.

    Args:
        total: tokens of the sequence, more than `capacity`.
        mentions: token range `[start, end)` of each marked mention.
        capacity: tokens to keep.

    Returns:
        [capacity] indices, or None where the mentions alone are longer.
    """
    position = np.arange(total)
    whole = (min(start for start, _ in mentions), max(end for _, end in mentions))
    for ranges in ([whole], mentions):
        distance = np.min(
            [np.maximum(np.maximum(start - position, position - end + 1), 0) for start, end in ranges], axis=0
        )
        if (distance == 0).sum() <= capacity:
            return np.sort(np.argsort(distance, kind="stable")[:capacity])
    return None


def _apart(left: str, right: str) -> str:
    """Both strings, with a space between them where there is no white space yet."""
    if not left or not right or left[-1].isspace() or right[0].isspace():
        return left + right
    return f"{left} {right}"


def _outer_bounds(entity: Mapping[str, Any]) -> tuple[int, int]:
    return min(start for start, _ in entity["offsets"]), max(end for _, end in entity["offsets"])


def _encode(
    batch: Mapping[str, list[Any]], indices: Sequence[int], context: EncodingContext
) -> tuple[Columns, EncodingReport]:
    layout, card = context.single, context.card
    capacity = context.max_length - layout.size
    marked, labels = [], []
    for example_id, text, entities, relations in zip(
        batch["id"], batch["text"], batch["entities"], batch["relations"], strict=True
    ):
        if not relations:
            raise DataFormatError(card.name, f"example {example_id!r}: it has no relation, not even a negative one")
        by_id = {entity["id"]: entity for entity in entities}
        marked.append(mark(text, by_id[relations[0]["head"]], by_id[relations[0]["tail"]]))
        labels.append(context.label_number(relations[0]["type"], example_id))
    encoded = context.tokenize([item.text for item in marked])
    rows: list[list[int]] = []
    positions: list[list[int]] = []
    cropped = cropped_between = 0
    for number, (item, ids) in enumerate(zip(marked, encoded["input_ids"], strict=True)):
        opening = [encoded.char_to_token(number, character) for character in item.opening]
        closing = [encoded.char_to_token(number, character) for character in item.closing]
        if None in opening or None in closing:
            raise InputError("the tokenizer drops punctuation (`@`, `#`), which entity markers are made of")
        wanted = closing if context.causal else opening
        if len(ids) > capacity:
            mentions = [(start, end + 1) for start, end in zip(opening, closing, strict=True)]
            kept = crop(len(ids), mentions, capacity)
            if kept is None:
                raise DataFormatError(
                    card.name,
                    f"example {batch['id'][number]!r}: its two marked mentions have more tokens than the {capacity} "
                    f"that max_length {context.max_length} has room for.",
                    remedy="Raise max_length.",
                )
            cropped += 1
            cropped_between += int((np.diff(kept) > 1).any())
            ids = [ids[i] for i in kept]
            wanted = np.searchsorted(kept, wanted).tolist()
        rows.append(layout.input_ids(ids))
        positions.append([len(layout.before) + position for position in wanted])
    columns: Columns = {
        "example_index": list(indices),
        "input_ids": rows,
        "labels": labels,
        "entity_positions": positions,
    }
    if layout.type_ids is not None:
        columns["token_type_ids"] = [layout.token_type_ids(len(row) - layout.size) for row in rows]
    return columns, EncodingReport(
        examples=len(rows),
        rows=len(rows),
        tokens=sum(map(len, rows)),
        examples_cropped=cropped,
        examples_cropped_between=cropped_between,
    )


RELATION = TaskEncoder(
    inputs=("id", "text", "entities", "relations"),
    columns={"labels": "int32", "entity_positions": "int32[]"},
    encode=_encode,
)
