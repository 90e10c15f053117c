"""DDIExtraction 2013 (SemEval-2013 Task 9.2): drug-drug interactions between the drugs of a sentence.

- `micro_*`: detection and classification, true and false positives summed over the four types (the task's ranking, and
  BLURB's metric); pairs without interaction are no class;
- `macro_f1`: the mean of the four F1 values (scikit-learn's macro average, BLUE); `official_macro_f1`: the harmonic mean
  of mean precision and mean recall, as the official `evaluateDDI.jar` prints it;
- `detection_*`: whether a pair interacts, whatever the type.

A submission has a line `sentence|drug 1|drug 2|0 or 1|type` for every pair (`null` where there is no interaction). A
pair is unordered; one that is missing from the prediction is predicted not to interact.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from hf_crosstask.errors import DataFormatError, InputError
from hf_crosstask.evaluation.counts import FloatArray
from hf_crosstask.evaluation.official.base import (
    UnitCounts,
    Values,
    data_lines,
    group_by,
    harmonic,
    precision_recall_f1,
    scalars,
    unit_counts,
)

TYPES = ("mechanism", "effect", "advise", "int")
_NONE = "null"


@dataclass(frozen=True)
class Pair:
    """Two drugs of a sentence by their ids, and the type of their interaction (None: they do not interact)."""

    sentence: str
    first: str
    second: str
    type: str | None

    def __post_init__(self) -> None:
        if self.type is not None and self.type not in TYPES:
            raise InputError(f"{self.type!r} is no type of interaction; known: {', '.join(TYPES)}")

    @property
    def document(self) -> str:
        """The document: the sentence id (`DDI-DrugBank.d1.s0`) without its last part."""
        return self.sentence.rpartition(".")[0] or self.sentence


def parse(text: str, source: str = "predictions") -> list[Pair]:
    """The lines of a submission.

    Raises:
        DataFormatError: another number of fields, an unknown type, or a type that contradicts the 0 or 1 before it.
    """
    pairs = []
    for number, line in data_lines(text):
        fields = line.strip().split("|")
        if len(fields) != 5:
            raise DataFormatError(source, f"expected sentence|drug|drug|0 or 1|type; found {line!r}", line=number)
        sentence, first, second, interacts, kind = fields
        if interacts not in ("0", "1") or (interacts == "1") != (kind in TYPES) or kind not in (*TYPES, _NONE):
            expected = f"0|{_NONE} or 1 and one of {', '.join(TYPES)}"
            raise DataFormatError(source, f"expected {expected}; found {interacts}|{kind}", line=number)
        pairs.append(Pair(sentence, first, second, kind if interacts == "1" else None))
    return pairs


def format_lines(pairs: Iterable[Pair]) -> str:
    """The submission `parse` reads."""
    return "".join(f"{p.sentence}|{p.first}|{p.second}|{int(p.type is not None)}|{p.type or _NONE}\n" for p in pairs)


def _types(pairs: Iterable[Pair]) -> dict[frozenset[str], str | None]:
    types: dict[frozenset[str], str | None] = {}
    for pair in pairs:
        key = frozenset((pair.first, pair.second))
        if key in types:
            raise InputError(f"the pair {pair.first}, {pair.second} is listed twice")
        types[key] = pair.type
    return types


def document_counts(gold: Iterable[Pair], predicted: Iterable[Pair]) -> UnitCounts:
    """Statistics `[documents, 15]`: TP, FP, FN of each type (12), then of detection.

    Documents are those of gold, then those with predictions only.

    Raises:
        InputError: a pair is listed twice.
    """
    sides = [group_by(pairs, lambda pair: pair.document) for pairs in (gold, predicted)]
    rows = {}
    for name in sides[0] | sides[1]:
        right, guess = (_types(side.get(name, [])) for side in sides)
        table = np.zeros((len(TYPES) + 1, 3))
        for pair in right | guess:
            truth, decision = right.get(pair), guess.get(pair)
            for row, kind in enumerate(TYPES):
                table[row] += (truth == kind == decision, truth != kind == decision, truth == kind != decision)
            found, said = truth is not None, decision is not None
            table[-1] += (found and said, said > found, found > said)
        rows[name] = table.ravel().tolist()
    return unit_counts(rows, 15)


def from_counts(sums: FloatArray) -> Values:
    """The values the module's docstring lists, and `f1_<type>` of each type, of summed `[..., 15]` statistics."""
    counts = sums.reshape(*sums.shape[:-1], len(TYPES) + 1, 3)
    each = precision_recall_f1(counts[..., :-1, :], "type")
    return {
        **precision_recall_f1(counts[..., :-1, :].sum(axis=-2), "micro"),
        "macro_f1": each["type_f1"].mean(axis=-1),
        "official_macro_f1": harmonic(each["type_precision"].mean(axis=-1), each["type_recall"].mean(axis=-1)),
        **precision_recall_f1(counts[..., -1, :], "detection"),
        **{f"f1_{kind}": each["type_f1"][..., row] for row, kind in enumerate(TYPES)},
    }


def score(gold: Iterable[Pair], predicted: Iterable[Pair]) -> dict[str, float]:
    """The metrics of a submission; both sides hold the pairs of all documents."""
    return scalars(from_counts(document_counts(gold, predicted).total()))
