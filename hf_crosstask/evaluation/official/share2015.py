"""SemEval-2015 Task 14: disorder identification (Task 1) and template slot filling (Task 2).

Semantics of the official Perl scorers (github.com/cemantix/semeval-2015-task-14-scoring, Elhadad and Gorman), in their
last version unless `version="2014-10"` asks for the first:

- everything is compared in lower case; a disorder is its document and its span string, so a second line for the same
  mention replaces the first (but adds its body location: several lines = several body locations, any of them right);
- only documents with gold disorders are scored; predictions elsewhere are ignored;
- Task 1: both modes require equal CUIs. Strict: the same spans in the same order. Relaxed: exact matches first; then
  each gold disorder takes every unmatched prediction that overlaps it, the longest overlap is the true positive, the
  others are false positives. Ends are *inclusive*: 0-5 and 5-9 overlap by one character;
- Task 2: disorders are matched by spans alone, exact first, then overlap as above, whatever the CUI. A gold disorder
  with an exact match still takes further overlapping predictions, the longest of which replaces the exact one;
- the accuracy of a true positive is over nine slots (the CUI and eight attributes); weighted, each slot counts by the
  weight of its gold value. A gold value without a weight counts 0: the table spells `doner_other`, so the documented
  `donor_other` is never scored;
- the two headline values are F (relaxed spans) times the mean accuracy.

Where several gold disorders compete for a prediction, the Perl result depends on its random hash order; here the order
of the lines decides, and of equal overlaps the later line is the true positive.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hf_crosstask.errors import DataFormatError
from hf_crosstask.evaluation.counts import FloatArray, ratio
from hf_crosstask.evaluation.official.base import (
    UnitCounts,
    Values,
    data_lines,
    group_by,
    harmonic,
    offset,
    precision_recall_f1,
    scalars,
    unit_counts,
)

Spans = tuple[tuple[int, int], ...]
Version = Literal["final", "2014-10"]

#: The attributes in the order of the columns; the scorer's ninth slot is the CUI.
ATTRIBUTES = (
    "negation", "subject", "uncertainty", "course", "severity", "conditional", "generic", "body_location"
)  # fmt: skip
SLOTS = ("cui", *ATTRIBUTES)
DEFAULTS = ("no", "patient", "no", "unmarked", "unmarked", "false", "false", "null")

_CHANGED = ("increased", "improved", "worsened", "resolved", "decreased", "changed")
_COMMON: dict[str, dict[str, float]] = {
    "cui": {"any": 1.0},
    "negation": {"no": 0.21, "yes": 0.79},
    "uncertainty": {"no": 0.07, "yes": 0.93},
    "conditional": {"false": 0.06, "true": 0.94},
    "body_location": {"null": 0.51, "any": 0.49},
}
#: Slot to gold value to weight, by version of the scorer.
WEIGHTS: dict[Version, dict[str, dict[str, float]]] = {
    "final": {
        **_COMMON,
        "subject": {"patient": 0.05, "family_member": 0.95, "other": 0.95, "doner_other": 0.95},
        "course": {"unmarked": 0.05, **dict.fromkeys(_CHANGED, 0.95)},
        "severity": {"unmarked": 0.08, "moderate": 0.95, "severe": 0.95, "slight": 0.95},
        "generic": {"false": 0.05, "true": 0.95},
    },
    "2014-10": {
        **_COMMON,
        "subject": {"patient": 0.01, "family_member": 0.99, "other": 1.0, "doner_other": 1.0},
        "course": {"unmarked": 0.04, **dict.fromkeys(_CHANGED, 0.99), "decreased": 1.0, "changed": 1.0},
        "severity": {"unmarked": 0.08, "moderate": 0.96, "severe": 0.97, "slight": 0.99},
        "generic": {"false": 0.01, "true": 0.99},
    },
}


@dataclass(frozen=True)
class Disorder:
    """A disorder mention with its template.

    Attributes:
        document: the name in the first column.
        spans: (start, end) of each fragment as written.
        cui: `C…` or `CUI-less`.
        values: the eight attribute values, in the order of `ATTRIBUTES`.
        cues: the eight cue spans as written (`null` or `a-b,c-d`); never scored.
    """

    document: str
    spans: Spans
    cui: str
    values: tuple[str, ...] = DEFAULTS
    cues: tuple[str, ...] = ("null",) * 8

    def __post_init__(self) -> None:
        if len(self.values) != 8 or len(self.cues) != 8:
            raise ValueError(f"a template has 8 values and 8 cues, not {len(self.values)} and {len(self.cues)}")


def _spans(text: str) -> Spans:
    pairs = tuple(tuple(offset(value) for value in part.split("-")) for part in text.split(","))
    if any(len(pair) != 2 or pair[0] > pair[1] for pair in pairs):
        raise ValueError(f"{text!r} is not of the form a-b,c-d")
    return tuple((start, end) for start, end in pairs)


def parse(text: str, source: str = "predictions") -> list[Disorder]:
    """The lines of a `.pipe` file: 19 columns (Task 1 files: 3), an empty last one allowed.

    Raises:
        DataFormatError: another number of columns, or spans that are not `a-b,c-d`.
    """
    disorders = []
    for number, line in data_lines(text):
        columns = line.strip().split("|")
        if columns[-1] == "":
            columns.pop()
        if len(columns) not in (3, 19):
            raise DataFormatError(source, f"expected 19 columns (Task 1: 3), found {len(columns)}", line=number)
        try:
            spans = _spans(columns[1])
        except ValueError as error:
            raise DataFormatError(source, f"spans: {error}", line=number) from error
        template = (tuple(columns[3::2]), tuple(columns[4::2])) if len(columns) == 19 else ()
        disorders.append(Disorder(columns[0], spans, columns[2], *template))
    return disorders


def format_lines(disorders: Iterable[Disorder]) -> str:
    """A file of 19 columns, as the official validator demands."""
    return "".join(
        "|".join(
            [
                d.document,
                ",".join(f"{start}-{end}" for start, end in d.spans),
                d.cui,
                *(cell for pair in zip(d.values, d.cues, strict=True) for cell in pair),
            ]
        )
        + "\n"
        for d in disorders
    )


@dataclass(frozen=True)
class _Template:
    """The slots of one span in one document, in lower case; body locations of several lines are collected."""

    values: Mapping[str, str]
    body_locations: frozenset[str]

    def agrees(self, gold: _Template, slot: str) -> bool:
        if slot == "body_location":
            return bool(self.body_locations & gold.body_locations)
        return self.values[slot] == gold.values[slot]

    def weight(self, slot: str, weights: Mapping[str, Mapping[str, float]]) -> float:
        value = self.values[slot]
        if slot == "cui":
            value = "any"
        elif slot == "body_location":
            value = "any" if self.body_locations - {"null"} else "null"
        return weights[slot].get(value, 0.0)


_Templates = dict[Spans, _Template]


def _by_document(disorders: Iterable[Disorder], version: Version) -> dict[str, _Templates]:
    documents: dict[str, _Templates] = {}
    for name, lines in group_by(disorders, lambda d: d.document.lower()).items():
        templates: _Templates = {}
        for line in lines:
            values = dict(zip(SLOTS, (line.cui.lower(), *(value.lower() for value in line.values)), strict=True))
            locations = {values["body_location"]}
            if version == "final" and line.spans in templates:
                locations |= templates[line.spans].body_locations
            templates[line.spans] = _Template(values, frozenset(locations))
        documents[name] = templates
    return documents


def overlap(first: Spans, second: Spans) -> int:
    """The largest overlap of any two fragments in characters, ends inclusive; 0 where none touch."""
    return max(0, max((min(b, d) - max(a, c) + 1 for a, b in first for c, d in second), default=0))


@dataclass(frozen=True)
class _Matching:
    """Gold spans to the prediction that is their true positive, and the predictions that are false positives."""

    pairs: dict[Spans, Spans]
    false_positives: set[Spans]

    def counts(self, gold: _Templates) -> tuple[int, int, int]:
        return len(self.pairs), len(self.false_positives), len(gold) - len(self.pairs)


def _match_relaxed(gold: _Templates, predicted: _Templates, *, same_cui: bool, keep_exact: bool) -> _Matching:
    """The greedy matching of the Perl scripts; `keep_exact`: exact matches take no further predictions."""

    def comparable(right: Spans, guess: Spans) -> bool:
        return not same_cui or gold[right].values["cui"] == predicted[guess].values["cui"]

    pairs = {spans: spans for spans in gold if spans in predicted and comparable(spans, spans)}
    marked, wrong = set(pairs), set()
    for right in gold:
        # The script looks the gold span up among the marked *predictions*: a gold disorder whose span another CUI's
        # prediction shares is skipped once that prediction is taken.
        if keep_exact and right in marked:
            continue
        overlaps = {
            guess: size
            for guess in predicted
            if guess not in marked and comparable(right, guess) and (size := overlap(right, guess))
        }
        if overlaps:
            marked |= overlaps.keys()
            pairs[right] = max(reversed(overlaps), key=lambda guess: overlaps[guess])
            wrong |= overlaps.keys() - {pairs[right]}
    return _Matching(pairs, wrong | (predicted.keys() - marked))


def task1_counts(gold: Sequence[Disorder], predicted: Sequence[Disorder], version: Version = "final") -> UnitCounts:
    """Statistics `[gold documents, 6]`: strict TP, FP, FN, then relaxed TP, FP, FN."""
    guesses = _by_document(predicted, version)
    rows = {}
    for name, right in _by_document(gold, version).items():
        guess = guesses.get(name, {})
        hits = sum(
            spans in guess and template.values["cui"] == guess[spans].values["cui"]
            for spans, template in right.items()
        )
        relaxed = _match_relaxed(right, guess, same_cui=True, keep_exact=version == "final")
        rows[name] = (hits, len(guess) - hits, len(right) - hits, *relaxed.counts(right))
    return unit_counts(rows, 6)


def task1_from_counts(sums: FloatArray) -> Values:
    """`strict_*` and `relaxed_*` precision, recall and f1."""
    return {**precision_recall_f1(sums[..., 0:3], "strict"), **precision_recall_f1(sums[..., 3:6], "relaxed")}


def task2_counts(gold: Sequence[Disorder], predicted: Sequence[Disorder], version: Version = "final") -> UnitCounts:
    """Statistics `[gold documents, 23]`: TP, FP, FN, summed accuracies (plain, weighted) of the true positives, then
    per slot the weight earned (9) and the weight to earn (9)."""
    guesses = _by_document(predicted, version)
    rows = {}
    for name, right in _by_document(gold, version).items():
        guess = guesses.get(name, {})
        matching = _match_relaxed(right, guess, same_cui=False, keep_exact=False)
        earned, total, plain, weighted = np.zeros(9), np.zeros(9), 0.0, 0.0
        for spans, match in matching.pairs.items():
            agreed = np.array([guess[match].agrees(right[spans], slot) for slot in SLOTS])
            weights = np.array([right[spans].weight(slot, WEIGHTS[version]) for slot in SLOTS])
            plain += float(agreed.mean())
            weighted += float(weights[agreed].sum() / weights.sum())
            earned += weights * agreed
            total += weights
        rows[name] = (*matching.counts(right), plain, weighted, *earned, *total)
    return unit_counts(rows, 23)


def task2_from_counts(sums: FloatArray) -> Values:
    """Span `precision`, `recall`, `f1`; `accuracy`, `weighted_accuracy`; both times F: `f1_accuracy` (unweighted) and
    `f1_weighted_accuracy` (the headline); and `weighted_accuracy_<slot>`. Accuracies without a true positive are 0."""
    spans = precision_recall_f1(sums[..., 0:3], "span")
    f1 = harmonic(spans["span_precision"], spans["span_recall"])
    accuracy, weighted = ratio(sums[..., 3], sums[..., 0]), ratio(sums[..., 4], sums[..., 0])
    slots = ratio(sums[..., 5:14], sums[..., 14:23])
    return {
        "precision": spans["span_precision"],
        "recall": spans["span_recall"],
        "f1": f1,
        "accuracy": accuracy,
        "f1_accuracy": f1 * accuracy,
        "weighted_accuracy": weighted,
        "f1_weighted_accuracy": f1 * weighted,
        **{f"weighted_accuracy_{slot}": slots[..., index] for index, slot in enumerate(SLOTS)},
    }


def score_task1(
    gold: Sequence[Disorder], predicted: Sequence[Disorder], version: Version = "final"
) -> dict[str, float]:
    """Task 1 values; both sides hold the disorders of all documents."""
    return scalars(task1_from_counts(task1_counts(gold, predicted, version).total()))


def score_task2(
    gold: Sequence[Disorder], predicted: Sequence[Disorder], version: Version = "final"
) -> dict[str, float]:
    """Task 2 values (2a: predictions carry the gold spans; 2b: end to end)."""
    return scalars(task2_from_counts(task2_counts(gold, predicted, version).total()))
