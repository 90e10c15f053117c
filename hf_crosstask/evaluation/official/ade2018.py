"""n2c2 2018 Track 2 (adverse drug events and medication): entities and relations, strict and lenient.

Semantics of the official evaluation script (copies: uf-hobi-informatics-lab/ClinicalTransformerNER
`src/eval_scripts/brat_eval.py`, NLPatVCU/medaCy):

- an entity matches with the same type and, strict, the same offsets; lenient, offsets that overlap;
- discontinuous entities count by their outer bounds, start of the first to end of the last fragment;
- going through the system's entities in file order, one that matches a gold entity which an earlier one matched is
  dropped: it is neither right nor wrong. Of the rest, those that match any gold entity are true positives. So one
  system entity over two gold entities is one true positive and leaves one false negative, and gold entities of one
  type that overlap (strict: that repeat) do not score 1 even against themselves;
- relations match with the same type and both arguments matching as entities, by the same procedure; with the
  system's own entities as arguments this is the end-to-end score, with gold ones the relation score;
- micro values sum over all files and types, types outside the task's included; macro values are means over *files*
  (0 for a file where a ratio has nothing in its denominator);
- only files on both sides are scored: the script skips a gold file without a system file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from hf_crosstask.errors import InputError
from hf_crosstask.evaluation.counts import FloatArray, ratio
from hf_crosstask.evaluation.official.base import UnitCounts, Values, precision_recall_f1, scalars, unit_counts
from hf_crosstask.evaluation.official.brat import BratDocument, Relation, Span, spans_match

ENTITIES = ("Drug", "Strength", "Form", "Dosage", "Duration", "Frequency", "Route", "ADE", "Reason")
RELATIONS = tuple(f"{name}-Drug" for name in ENTITIES[1:])
MODES = ("strict", "lenient")
#: The row of types outside the task: only a submission can have them, and they are wrong.
_OTHER = "other"
_TARGETS = {"entity": (*ENTITIES, _OTHER), "relation": (*RELATIONS, _OTHER)}
#: Statistics of a file.
COLUMNS = 1 + len(MODES) * sum(3 * len(labels) + 3 for labels in _TARGETS.values())

Item = TypeVar("Item", Span, Relation)


def match_counts(gold: Sequence[Item], predicted: Sequence[Item], equal: Callable[[Item, Item], bool]) -> list[int]:
    """TP, FP, FN of one file by the procedure above."""
    matched: set[int] = set()
    hits = wrong = 0
    for guess in predicted:
        found = {index for index, right in enumerate(gold) if equal(right, guess)}
        if not found:
            wrong += 1
        elif not found & matched:
            hits += 1
        matched |= found
    return [hits, wrong, len(gold) - hits]


def _entity_equal(strict: bool) -> Callable[[Span, Span], bool]:
    return lambda right, guess: right.type == guess.type and spans_match(right, guess, strict=strict)


def _relation_equal(gold: BratDocument, predicted: BratDocument, strict: bool) -> Callable[[Relation, Relation], bool]:
    rights, guesses = ({span.id: span for span in document.spans} for document in (gold, predicted))
    same = _entity_equal(strict)

    def equal(right: Relation, guess: Relation) -> bool:
        return (
            right.type == guess.type
            and same(rights[right.head], guesses[guess.head])
            and same(rights[right.tail], guesses[guess.tail])
        )

    return equal


def _by_label(
    gold: Sequence[Item], predicted: Sequence[Item], equal: Callable[[Item, Item], bool], labels: Sequence[str]
) -> list[float]:
    """Counts of each label (`[labels, 3]`, flat), then precision, recall and F1 of the file as a whole."""

    def of(items: Sequence[Item], label: str) -> list[Item]:
        return [item for item in items if (item.type if item.type in labels else _OTHER) == label]

    # Items of different types never match, so the labels can be counted one by one.
    rows = [match_counts(of(gold, label), of(predicted, label), equal) for label in labels]
    counts: FloatArray = np.array(rows, dtype=np.float64)
    return [*counts.ravel(), *(float(value) for value in precision_recall_f1(counts.sum(axis=0), "file").values())]


def document_counts(gold: Mapping[str, BratDocument], predicted: Mapping[str, BratDocument]) -> UnitCounts:
    """Statistics `[common files, 127]`; see `from_counts`.

    Raises:
        InputError: no file is on both sides.
    """
    common = [name for name in gold if name in predicted]
    if not common:
        raise InputError("no gold file has a system file of the same name; nothing can be scored")
    rows = {}
    for name in common:
        right, guess = gold[name], predicted[name]
        row = [1.0]
        for strict in (True, False):
            relation_equal = _relation_equal(right, guess, strict)
            row += _by_label(right.spans, guess.spans, _entity_equal(strict), _TARGETS["entity"])
            row += _by_label(right.relations, guess.relations, relation_equal, _TARGETS["relation"])
        rows[name] = row
    return unit_counts(rows, COLUMNS)


def from_counts(sums: FloatArray) -> Values:
    """For each of strict/lenient and entity/relation: micro `<mode>_<target>_precision`, `_recall`, `_f1`; the means
    over files `…_macro_precision`, …; and `…_f1_<label>` of each type."""
    values: Values = {}
    files, start = sums[..., 0], 1
    for mode in MODES:
        for target, labels in _TARGETS.items():
            prefix, size = f"{mode}_{target}", 3 * len(labels)
            counts = sums[..., start : start + size].reshape(*sums.shape[:-1], len(labels), 3)
            values |= precision_recall_f1(counts.sum(axis=-2), prefix)
            for column, name in enumerate(("precision", "recall", "f1")):
                values[f"{prefix}_macro_{name}"] = ratio(sums[..., start + size + column], files)
            for index, label in enumerate(labels[:-1]):
                values[f"{prefix}_f1_{label}"] = precision_recall_f1(counts[..., index, :], label)[f"{label}_f1"]
            start += size + 3
    return values


def score(gold: Mapping[str, BratDocument], predicted: Mapping[str, BratDocument]) -> dict[str, float]:
    """The metrics of a submission; both map file names to annotations."""
    return scalars(from_counts(document_counts(gold, predicted).total()))
