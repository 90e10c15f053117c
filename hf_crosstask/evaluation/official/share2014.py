"""SemEval-2014 Task 7 and ShARe/CLEF 2013 Task 1: disorder mentions (Task A) and their CUIs (Task B).

Semantics of the official `eval.pl` (options -n -r -t -input -gold):

- a mention is its document and its offsets; a second line for the same mention overwrites the CUI of the first;
- Task A strict: same offsets. Relaxed: a prediction that overlaps any gold mention of the document is a true positive,
  a gold mention that overlaps no prediction a false negative (so the two sides of a match may differ in number);
- ends are exclusive, fragments of discontinuous mentions are compared pairwise; CUIs do not matter in Task A;
- Task B strict accuracy: mentions found with the right CUI / all gold mentions. Relaxed: / gold mentions found;
- CUIs are compared in lower case; predictions in documents without gold are false positives;
- without a true positive every value is 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hf_crosstask.errors import DataFormatError
from hf_crosstask.evaluation.counts import FloatArray, ratio
from hf_crosstask.evaluation.official.base import (
    UnitCounts,
    Values,
    data_lines,
    group_by,
    offset,
    precision_recall_f1,
    scalars,
    unit_counts,
)

Spans = tuple[tuple[int, int], ...]

#: The only type of the corpus.
TYPE = "Disease_Disorder"


@dataclass(frozen=True)
class Disorder:
    """A disorder mention: document, CUI (or `CUI-less`) and its fragments as [start, end) offsets, ascending."""

    document: str
    cui: str
    spans: Spans


def parse(text: str, source: str = "predictions") -> list[Disorder]:
    """The lines `document||Disease_Disorder||CUI||start||end[||start||end…]` of a `.pipe` file.

    Raises:
        DataFormatError: a line without whole pairs of offsets, or offsets that decrease.
    """
    disorders = []
    for number, line in data_lines(text):
        document, *rest = line.strip().split("||")
        if len(rest) < 4 or len(rest) % 2:
            raise DataFormatError(
                source, f"expected document||type||CUI||start||end[||…]; found {line!r}", line=number
            )
        try:
            offsets = [offset(value) for value in rest[2:]]
        except ValueError as error:
            raise DataFormatError(source, str(error), line=number) from error
        if offsets != sorted(offsets):
            raise DataFormatError(source, f"offsets must not decrease: {offsets}", line=number)
        spans = tuple(zip(offsets[::2], offsets[1::2], strict=True))
        disorders.append(Disorder(document, rest[1], spans))
    return disorders


def format_lines(disorders: Iterable[Disorder]) -> str:
    """The file `parse` reads."""
    return "".join(
        "||".join([d.document, TYPE, d.cui, *(str(bound) for span in d.spans for bound in span)]) + "\n"
        for d in disorders
    )


def overlap(first: Spans, second: Spans) -> bool:
    """Whether any two fragments share a character (ends exclusive)."""
    return any(a < d and c < b for a, b in first for c, d in second)


def document_counts(gold: Sequence[Disorder], predicted: Sequence[Disorder]) -> UnitCounts:
    """Statistics `[documents, 9]`: strict TP, FP, FN; relaxed TP, FP, FN; right CUIs, wrong CUIs, gold mentions.

    Documents are those of gold, then those with predictions only.
    """
    by_document = {side: group_by(items, lambda d: d.document) for side, items in ((0, gold), (1, predicted))}
    rows = {}
    for document in by_document[0] | by_document[1]:
        right, guess = ({d.spans: d.cui.lower() for d in by_document[side].get(document, [])} for side in (0, 1))
        found = right.keys() & guess.keys()
        named = sum(right[spans] == guess[spans] for spans in found)
        hits = sum(any(overlap(spans, other) for other in right) for spans in guess)
        missed = sum(not any(overlap(spans, other) for other in guess) for spans in right)
        strict = (len(found), len(guess) - len(found), len(right) - len(found))
        rows[document] = (*strict, hits, len(guess) - hits, missed, named, len(found) - named, len(right))
    return unit_counts(rows, 9)


def from_counts(sums: FloatArray) -> Values:
    """`strict_*`, `relaxed_*` (precision, recall, f1), `cui_strict_accuracy` and `cui_relaxed_accuracy`."""
    return {
        **precision_recall_f1(sums[..., 0:3], "strict"),
        **precision_recall_f1(sums[..., 3:6], "relaxed"),
        "cui_strict_accuracy": ratio(sums[..., 6], sums[..., 8]),
        "cui_relaxed_accuracy": ratio(sums[..., 6], sums[..., 6] + sums[..., 7]),
    }


def score(gold: Sequence[Disorder], predicted: Sequence[Disorder]) -> dict[str, float]:
    """The metrics of a submission; both sides hold the mentions of all documents."""
    return scalars(from_counts(document_counts(gold, predicted).total()))
