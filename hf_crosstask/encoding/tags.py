"""IOB2 tags: from a label set to tags, and from tags back to entities with seqeval's strict reading."""

from __future__ import annotations

from collections.abc import Sequence

from hf_crosstask.errors import InputError

OUTSIDE = 0  # number of the tag "O"


def ner_tags(labels: Sequence[str]) -> list[str]:
    """The tags of a label set, in label order: `["O", "B-X", "I-X", "B-Y", "I-Y", …]`.

    Label number `i` has `B-` at `1 + 2 * i` and `I-` at `2 + 2 * i`.

    Raises:
        InputError: no label, a label twice, or a label that its tag could not give back (empty, or with a hyphen at
            either end, which seqeval strips).
    """
    if not labels:
        raise InputError("a task of entities needs its entity types: `labels` is empty")
    if len(set(labels)) != len(labels):
        raise InputError(f"`labels` names an entity type twice: {list(labels)}")
    for label in labels:
        if not label or label != label.strip("-"):
            raise InputError(f"{label!r} cannot be an entity type: it is empty or begins or ends with a hyphen")
    return ["O", *(f"{prefix}-{label}" for label in labels for prefix in "BI")]


def decode_tags(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """Entities `(type, first word, last word + 1)` of one tag sequence, in order.

    The semantics of seqeval 1.2.2 with `mode="strict", scheme=IOB2`: an entity begins with `B-` and goes on through
    `I-` of the same type; an `I-` that continues nothing is no entity.

    Raises:
        ValueError: a tag is not of IOB2.
    """
    entities: list[tuple[str, int, int]] = []
    kind, start = "", -1  # start < 0: no entity is open
    for position, tag in enumerate(tags):
        prefix, tag_type = tag[:1], tag[1:].strip("-") or "_"
        if prefix not in ("B", "I", "O"):
            raise ValueError(f"{tag!r} is not an IOB2 tag")
        if start >= 0 and (prefix != "I" or tag_type != kind):
            entities.append((kind, start, position))
            start = -1
        if prefix == "B":
            kind, start = tag_type, position
    if start >= 0:
        entities.append((kind, start, len(tags)))
    return entities
