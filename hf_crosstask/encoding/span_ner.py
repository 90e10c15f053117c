"""Entities of any shape (discontinuous, nested, crossing) as links between words: see `links`.

A row is a window; its labels are a band `[words, reach]` of bits, one row a word. A cell (a word and a distance) is
supervised in one window: of those that show both its words the one that shows most of their context. So the cells of all
windows together make one band of the whole text, and an entity is found wherever one window shows it whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_crosstask.encoding import links, ner, windows
from hf_crosstask.encoding.alignment import AlignedText, align
from hf_crosstask.encoding.encoder import IGNORED, Columns, EncodingContext, TaskEncoder
from hf_crosstask.encoding.links import Mention
from hf_crosstask.encoding.report import EncodingReport
from hf_crosstask.errors import InputError

_MOST_TYPES = 30  # the labels are 32-bit numbers, with a bit for each type and one more


def cell_owners(shown: Sequence[tuple[int, int]], words: int, reach: int) -> NDArray[np.int64]:
    """The window that owns each cell, `[words, reach]`; -1 where no window shows both words.

    It is the one in which the nearer edge is most words away; of equals the earlier.

    Args:
        shown: words `[first, last + 1)` of each window.
        words: in the text.
        reach: columns of the band.
    """
    owner = np.full((words, reach), -1, dtype=np.int64)
    best = np.full((words, reach), -1, dtype=np.int64)
    for number, (first, stop) in enumerate(shown):
        head = np.arange(first, stop)[:, None]
        context = np.minimum(head - first, stop - 1 - (head + np.arange(reach)))
        better = context > best[first:stop]
        best[first:stop][better] = context[better]
        owner[first:stop][better] = number
    return owner


@dataclass(frozen=True)
class _Encoded:
    """A text as windows.

    Attributes:
        cutter, shown: windows in tokens and in (numbers among the) words that have a token.
        owner: see `cell_owners`.
        kept: the entities that align with words and that a window shows whole.
        misaligned: how many entities do not align with words.
        bits: the links of the kept mentions.
    """

    cutter: windows.Windows
    shown: list[tuple[int, int]]
    owner: NDArray[np.int64]
    kept: list[Mention]
    misaligned: int
    bits: NDArray[np.int64]


def _encode(
    batch: Mapping[str, list[Any]], indices: Sequence[int], context: EncodingContext
) -> tuple[Columns, EncodingReport]:
    if len(context.card.labels) > _MOST_TYPES:
        raise InputError(
            f"task {context.card.name!r}: span_ner takes {_MOST_TYPES} entity types at most, found "
            f"{len(context.card.labels)}; merge some with the reader's options, or make two tasks of it"
        )
    names = ("example_index", "input_ids", "labels", "word_index", "word_positions")
    columns: Columns = {name: [] for name in names}
    if context.single.type_ids is not None:
        columns["token_type_ids"] = []
    reports = []
    for index, example_id, entities, text in zip(
        indices, batch["id"], batch["entities"], align(batch["text"], context), strict=True
    ):
        distinct = _distinct(entities)
        encoded = _windowed(distinct, text, example_id, context)
        _add_rows(columns, index, text, encoded, context)
        reports.append(_report(text, encoded, len(distinct), ner.mark(distinct, text, example_id, context), context))
    return columns, EncodingReport.merge(reports)


def _windowed(
    entities: Sequence[Mapping[str, Any]], text: AlignedText, example_id: str, context: EncodingContext
) -> _Encoded:
    capacity, words, reach = ner.text_capacity(context), len(text.present), context.card.reach
    if context.long_inputs == "truncate":
        cutter = windows.cut(text.first, text.end, len(text.ids), capacity)
    else:
        cutter = windows.cover(text.first, text.end, len(text.ids), capacity, context.stride)
    # Windows begin and end at word edges, so a word is shown where its first token is.
    shown = [(int(first), int(stop)) for first, stop in np.searchsorted(text.first, cutter.ranges)]
    owner = cell_owners(shown, words, reach)
    mentions, misaligned = _mentions(entities, text, example_id, context)
    kept = [m for m in mentions if m.last - m.first < reach and owner[m.first, m.last - m.first] >= 0]
    return _Encoded(cutter, shown, owner, kept, misaligned, links.mark(kept, words, reach))


def _report(
    text: AlignedText, encoded: _Encoded, entities: int, bio: ner.Marked, context: EncodingContext
) -> EncodingReport:
    cutter, kept = encoded.cutter, set(encoded.kept)
    read = {mention for mention, _ in links.read(links.certain(encoded.bits, len(context.card.labels)))}
    return EncodingReport(
        examples=1,
        rows=len(encoded.shown),
        tokens=sum(end - start + context.single.size for start, end in cutter.ranges),
        examples_truncated=int((cutter.owner < 0).any()),
        examples_windowed=int(len(encoded.shown) > 1),
        rows_unsupervised=int(len(text.present) == 0),
        words=len(text.spans),
        words_cut=int((cutter.owner < 0).sum()),
        words_without_token=len(text.spans) - len(text.present),
        words_clipped=int(((text.end - text.first > ner.text_capacity(context)) & (cutter.owner >= 0)).sum()),
        entities=entities,
        entities_misaligned=encoded.misaligned,
        entities_overlapping=len(kept - read),
        entities_cut=entities - encoded.misaligned - len(kept),
        entities_spurious=len(read - kept),
        bio_discontinuous=bio.discontinuous,
        bio_overlapping=bio.overlapping,
    )


def _distinct(entities: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The entities without those that differ from another in nothing but order of parts, id, or normalization."""
    keyed = {(entity["type"], tuple(sorted(map(tuple, entity["offsets"])))): entity for entity in entities}
    return list(keyed.values())


def _mentions(
    entities: Sequence[Mapping[str, Any]], text: AlignedText, example_id: str, context: EncodingContext
) -> tuple[list[Mention], int]:
    """Entities in (numbers among the) words that have a token, and how many there are whose parts are not words.

    An entity of words of which one at an edge of a part has no token is neither.
    """
    mentions, misaligned = [], 0
    for entity in entities:
        label = context.label_number(entity["type"], example_id)
        offsets = sorted(map(tuple, entity["offsets"]))
        parts = _parts(offsets, text.spans[text.present])
        if parts is not None:
            mentions.append(Mention(label, parts))
        elif _parts(offsets, text.spans) is None:
            misaligned += 1
    return mentions, misaligned


def _parts(offsets: Sequence[tuple[int, ...]], spans: NDArray[np.int64]) -> tuple[tuple[int, int], ...] | None:
    """Parts in words `[first, last + 1)`; None where an edge is no word edge, or parts overlap."""
    parts: list[tuple[int, int]] = []
    for start, end in offsets:
        first, last = (int(np.searchsorted(spans[:, side], edge)) for side, edge in ((0, start), (1, end)))
        if max(first, last) >= len(spans) or spans[first, 0] != start or spans[last, 1] != end:
            return None
        if parts and first < parts[-1][1]:
            return None
        parts.append((first, last + 1))
    return tuple(parts)


def _add_rows(
    columns: Columns,
    index: int,
    text: AlignedText,
    encoded: _Encoded,
    context: EncodingContext,
) -> None:
    layout = context.single
    # A decoder has read a whole word at its last token only.
    read_at = text.end - 1 if context.causal else text.first
    for number, ((start, end), (first, stop)) in enumerate(zip(encoded.cutter.ranges, encoded.shown, strict=True)):
        columns["example_index"].append(index)
        columns["input_ids"].append(layout.input_ids(text.ids[start:end]))
        if layout.type_ids is not None:
            columns["token_type_ids"].append(layout.token_type_ids(end - start))
        supervised = encoded.owner[first:stop] == number
        columns["labels"].append(np.where(supervised, encoded.bits[first:stop], IGNORED).tolist())
        columns["word_index"].append(text.present[first:stop].tolist())
        columns["word_positions"].append(
            (np.minimum(read_at[first:stop], end - 1) - start + len(layout.before)).tolist()
        )
        if first == stop:  # a text without a word: a place to read at, where nothing is supervised or decoded
            columns["labels"][-1] = [[IGNORED] * context.card.reach]
            columns["word_positions"][-1] = [0]


SPAN_NER = TaskEncoder(
    inputs=("id", "text", "entities"),
    columns={"labels": "int32[][]", "word_index": "int32[]", "word_positions": "int32[]"},
    encode=_encode,
)
