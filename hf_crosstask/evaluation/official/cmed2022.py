"""n2c2 2022 Track 1 (contextualized medication events, CMED): drugs, events, attributes, strict and lenient.

Semantics of the official `eval_script_v3.py` (copy: tti-coin/n2c2-2022_track1 `span-based/src/eval_script.py`):

- every `T` line is a `Drug`; a `T` line that an event refers to is also a mention of the event's type;
- mentions match with the same type and, strict, the same outer bounds; lenient, bounds that overlap. Mentions that
  repeat exactly count once. Each gold mention, in file order, takes the first unused system mention that matches;
- an attribute matches with the same name and value, on mentions that match (type included); the same greedy
  assignment, without removing repeats;
- `Combined` is one item per event with attributes: all five values at once (missing ones empty, on both sides);
- micro values sum over all files; the macro value of events is the mean over the three event types, that of
  attributes the mean over the five attributes (precision, recall and F1 each by itself);
- only files on both sides are scored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hf_crosstask.errors import DataFormatError, InputError
from hf_crosstask.evaluation.counts import FloatArray
from hf_crosstask.evaluation.official.base import UnitCounts, Values, precision_recall_f1, scalars, unit_counts
from hf_crosstask.evaluation.official.brat import BratDocument, Span, spans_match

EVENTS = ("Disposition", "NoDisposition", "Undetermined")
ATTRIBUTES = ("Action", "Negation", "Temporality", "Certainty", "Actor")
MODES = ("strict", "lenient")
DRUG, COMBINED = "Drug", "Combined"
#: The row of event types outside the task: only a submission can have them, and they are wrong.
_OTHER = "other"
_MENTIONS = (DRUG, *EVENTS, _OTHER)
_ROWS = (*_MENTIONS, *ATTRIBUTES, COMBINED)
#: Statistics of a file.
COLUMNS = len(MODES) * len(_ROWS) * 3


@dataclass(frozen=True)
class _Item:
    """A mention, or an attribute of one: `kind` and `value` must be equal, the spans match by the mode."""

    kind: str
    value: str
    span: Span


def _mentions(document: BratDocument) -> list[_Item]:
    events = {event.trigger: event.type for event in document.events}
    kinds = [_Item(events[span.id], "", span) for span in document.spans if span.id in events]
    return _distinct(kinds + [_Item(DRUG, "", span) for span in document.spans])


def _distinct(items: Sequence[_Item]) -> list[_Item]:
    first: dict[tuple[str, int, int], _Item] = {}
    for item in items:
        first.setdefault((item.kind, item.span.start, item.span.end), item)
    return list(first.values())


def _attributes(document: BratDocument) -> list[_Item]:
    spans = {span.id: span for span in document.spans}
    events = {event.id: event for event in document.events}
    items: list[_Item] = []
    combined: dict[str, dict[str, str]] = {}
    for attribute in document.attributes:
        event = events.get(attribute.target)
        if event is None or attribute.type not in ATTRIBUTES:
            raise DataFormatError(
                "annotations", f"{attribute.id}: {attribute.type} of {attribute.target} is no attribute of an event"
            )
        span = spans[event.trigger]
        items.append(_Item(attribute.type, f"{event.type} {attribute.value}", span))
        values = combined.setdefault(event.id, dict.fromkeys(ATTRIBUTES, ""))
        values[attribute.type] = attribute.value
    for name, values in combined.items():
        event = events[name]
        items.append(_Item(COMBINED, f"{event.type} {'_'.join(values.values())}", spans[event.trigger]))
    return items


def _greedy_counts(gold: Sequence[_Item], predicted: Sequence[_Item], strict: bool) -> list[int]:
    """TP, FP, FN: each gold item takes the first unused prediction that matches."""
    unused = list(predicted)
    for right in gold:
        for index, guess in enumerate(unused):
            if (right.kind, right.value) == (guess.kind, guess.value) and spans_match(
                right.span, guess.span, strict=strict
            ):
                del unused[index]
                break
    hits = len(predicted) - len(unused)
    return [hits, len(unused), len(gold) - hits]


def _rows(gold: BratDocument, predicted: BratDocument, strict: bool) -> list[list[int]]:
    """Counts of every row of `_ROWS`; items of different kinds never match, so the rows can be counted one by one."""
    rows = []
    for names, items in ((_MENTIONS, _mentions), ((*ATTRIBUTES, COMBINED), _attributes)):
        sides = [items(document) for document in (gold, predicted)]
        for name in names:
            right, guess = (
                [item for item in side if (item.kind if item.kind in names else _OTHER) == name] for side in sides
            )
            rows.append(_greedy_counts(right, guess, strict))
    return rows


def document_counts(gold: Mapping[str, BratDocument], predicted: Mapping[str, BratDocument]) -> UnitCounts:
    """Statistics `[common files, 66]`: mode x (Drug, event types, other, attributes, Combined) x (TP, FP, FN).

    Raises:
        InputError: no file is on both sides.
        DataFormatError: an attribute that belongs to no event, or is none of the five.
    """
    common = [name for name in gold if name in predicted]
    if not common:
        raise InputError("no gold file has a system file of the same name; nothing can be scored")
    rows = {
        name: np.array([_rows(gold[name], predicted[name], strict) for strict in (True, False)], float).ravel()
        for name in common
    }
    return unit_counts({name: row.tolist() for name, row in rows.items()}, COLUMNS)


def from_counts(sums: FloatArray) -> Values:
    """For strict and lenient: `<mode>_drug_*`, `<mode>_event_*` (micro), `<mode>_event_macro_*`,
    `<mode>_event_<type>_*`, `<mode>_attribute_*` (micro), `<mode>_attribute_macro_*`, `<mode>_<attribute>_*` and
    `<mode>_combined_*`; each precision, recall and f1."""
    tables = sums.reshape(*sums.shape[:-1], len(MODES), len(_ROWS), 3)
    values: Values = {}
    for position, mode in enumerate(MODES):
        table = tables[..., position, :, :]

        def of(names: Sequence[str], prefix: str, table: FloatArray = table) -> Values:
            return precision_recall_f1(table[..., [_ROWS.index(name) for name in names], :].sum(axis=-2), prefix)

        values |= of([DRUG], f"{mode}_drug") | of([*EVENTS, _OTHER], f"{mode}_event")
        values |= of(ATTRIBUTES, f"{mode}_attribute") | of([COMBINED], f"{mode}_combined")
        for group, members in (("event", EVENTS), ("attribute", ATTRIBUTES)):
            prefixes = {name: f"{mode}_event_{name}" if group == "event" else f"{mode}_{name}" for name in members}
            for name, prefix in prefixes.items():
                values |= of([name], prefix)
            for measure in ("precision", "recall", "f1"):
                parts = [values[f"{prefix}_{measure}"] for prefix in prefixes.values()]
                values[f"{mode}_{group}_macro_{measure}"] = np.mean(np.stack(parts), axis=0)
    return {name.lower(): value for name, value in values.items()}


def score(gold: Mapping[str, BratDocument], predicted: Mapping[str, BratDocument]) -> dict[str, float]:
    """The metrics of a submission; both map file names to annotations."""
    return scalars(from_counts(document_counts(gold, predicted).total()))
