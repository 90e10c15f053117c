"""Named entities as IOB2 tags over sub-tokens.

Every sub-token of a word is supervised (`B-` on the first of an entity, `I-` on the rest of it, `O` elsewhere); a
word's prediction is read at its first sub-token. Entities that one tag sequence cannot hold, or that no row shows, are
counted and stay in the gold standard, where they are misses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_crosstask.encoding import windows
from hf_crosstask.encoding.alignment import AlignedText, align
from hf_crosstask.encoding.encoder import IGNORED, Columns, EncodingContext, TaskEncoder
from hf_crosstask.encoding.report import EncodingReport
from hf_crosstask.encoding.tags import OUTSIDE, ner_tags
from hf_crosstask.errors import InputError
from hf_crosstask.tasks.card import Official

#: Official scorers to which a discontinuous mention reaches from its first to its last character; so it is learned.
OUTER_BOUNDS: frozenset[Official] = frozenset({"ade2018", "cmed2022"})


@dataclass(frozen=True)
class Marked:
    """Tag of each word, the words of each entity that its tags hold, and how many entities they do not hold."""

    word_tags: NDArray[np.int64]
    kept: list[tuple[int, int]]
    discontinuous: int
    misaligned: int
    overlapping: int


def _encode(
    batch: Mapping[str, list[Any]], indices: Sequence[int], context: EncodingContext
) -> tuple[Columns, EncodingReport]:
    ner_tags(context.card.labels)  # refuses label sets that tags cannot express
    capacity = text_capacity(context)
    names = ("example_index", "input_ids", "labels", "word_index", "word_position")
    columns: Columns = {name: [] for name in names}
    if context.single.type_ids is not None:
        columns["token_type_ids"] = []
    reports = []
    for index, example_id, entities, text in zip(
        indices, batch["id"], batch["entities"], align(batch["text"], context), strict=True
    ):
        marked = mark(entities, text, example_id, context)
        if context.long_inputs == "truncate":
            cutter = windows.cut(text.first, text.end, len(text.ids), capacity)
        else:
            cutter = windows.cover(text.first, text.end, len(text.ids), capacity, context.stride)
        _add_rows(columns, index, text, marked.word_tags, cutter, context)
        reports.append(_report(text, marked, cutter, len(entities), capacity, context))
    return columns, EncodingReport.merge(reports)


def text_capacity(context: EncodingContext) -> int:
    """Tokens of text that a window holds.

    Raises:
        InputError: the stride is as long, so that windows would not advance.
    """
    capacity = context.max_length - context.single.size
    if not 0 <= context.stride < capacity:
        raise InputError(
            f"stride {context.stride} must be at least 0 and less than the {capacity} tokens of text that "
            f"max_length {context.max_length} has room for"
        )
    return capacity


def mark(
    entities: Sequence[Mapping[str, Any]], text: AlignedText, example_id: str, context: EncodingContext
) -> Marked:
    """The entities that one tag sequence can hold, as tags of words.

    Raises:
        DataFormatError: an entity's type is not in the card.
    """
    spans = text.spans
    word_tags = np.full(len(spans), OUTSIDE, dtype=np.int64)
    discontinuous = misaligned = 0
    candidates: list[tuple[int, int, int]] = []  # (first word, last word + 1, class id)
    for entity in entities:
        label = context.label_number(entity["type"], example_id)
        if len(entity["offsets"]) > 1 and context.card.official not in OUTER_BOUNDS:
            discontinuous += 1
            continue
        start, end = min(start for start, _ in entity["offsets"]), max(end for _, end in entity["offsets"])
        first, last = np.searchsorted(spans[:, 0], start), np.searchsorted(spans[:, 1], end)
        if first < len(spans) and last < len(spans) and spans[first, 0] == start and spans[last, 1] == end:
            candidates.append((int(first), int(last) + 1, label))
        else:
            misaligned += 1
    kept: list[tuple[int, int]] = []
    # Longest first (in characters; of equals the first in the text): where entities nest, the outer one is learned.
    for first, stop, label in sorted(candidates, key=lambda c: (spans[c[0], 0] - spans[c[1] - 1, 1], c)):
        if (word_tags[first:stop] == OUTSIDE).all():
            word_tags[first] = 1 + 2 * label
            word_tags[first + 1 : stop] = 2 + 2 * label
            kept.append((first, stop))
    return Marked(word_tags, kept, discontinuous, misaligned, len(candidates) - len(kept))


def _add_rows(
    columns: Columns,
    index: int,
    text: AlignedText,
    word_tags: NDArray[np.int64],
    cutter: windows.Windows,
    context: EncodingContext,
) -> None:
    layout = context.single
    inside = text.token_word >= 0
    labels = np.where(inside, word_tags[text.token_word] if len(word_tags) else IGNORED, IGNORED)
    continues = inside.copy()
    continues[text.first] = False
    labels[continues & (labels % 2 == 1)] += 1  # B- (odd) becomes I- (the next number) behind a word's first token
    owner_of_word = np.full(len(text.spans) + 1, -1)  # the last place, read for word -1, stays unowned
    owner_of_word[text.present] = cutter.owner
    owner_of_token = owner_of_word[text.token_word]
    for number, (start, end) in enumerate(cutter.ranges):
        owned = cutter.owner == number
        columns["example_index"].append(index)
        columns["input_ids"].append(layout.input_ids(text.ids[start:end]))
        if layout.type_ids is not None:
            columns["token_type_ids"].append(layout.token_type_ids(end - start))
        row = np.where(owner_of_token[start:end] == number, labels[start:end], IGNORED)
        columns["labels"].append(
            [IGNORED] * len(layout.before) + row.tolist() + [IGNORED] * (len(layout.between) + len(layout.after))
        )
        columns["word_index"].append(text.present[owned].tolist())
        columns["word_position"].append((text.first[owned] - start + len(layout.before)).tolist())


def _report(
    text: AlignedText,
    marked: Marked,
    cutter: windows.Windows,
    entities: int,
    capacity: int,
    context: EncodingContext,
) -> EncodingReport:
    readable = np.zeros(len(text.spans), dtype=bool)
    readable[text.present[cutter.owner >= 0]] = True
    return EncodingReport(
        examples=1,
        rows=len(cutter.ranges),
        tokens=sum(end - start + context.single.size for start, end in cutter.ranges),
        examples_truncated=int((cutter.owner < 0).any()),
        examples_windowed=int(len(cutter.ranges) > 1),
        rows_unsupervised=int(not readable.any()),
        words=len(text.spans),
        words_cut=int((cutter.owner < 0).sum()),
        words_without_token=len(text.spans) - len(text.present),
        words_clipped=int(((text.end - text.first > capacity) & (cutter.owner >= 0)).sum()),
        entities=entities,
        entities_discontinuous=marked.discontinuous,
        entities_misaligned=marked.misaligned,
        entities_overlapping=marked.overlapping,
        entities_cut=sum(not readable[first:stop].all() for first, stop in marked.kept),
    )


NER = TaskEncoder(
    inputs=("id", "text", "entities"),
    columns={"labels": "int32[]", "word_index": "int32[]", "word_position": "int32[]"},
    encode=_encode,
)
