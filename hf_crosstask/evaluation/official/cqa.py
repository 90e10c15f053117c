"""SemEval-2016/2017 Task 3 (community question answering): MAP, AvgRec and MRR at 10, and P/R/F1/accuracy.

Semantics of the official scorer v2.2 (`MAP_scripts/ev.py`, `metrics.py`), held against the output it prints for the
files of its own distribution:

- candidates are sorted by score, descending; the sort is stable, so ties keep the order of the file;
- only the top 10 count, in subtask C too, where a query has 100 candidates;
- average precision is the mean of the precisions at the relevant candidates *found in the top 10*, not divided by the
  number of relevant ones; queries without a relevant candidate count as 0 in MAP and MRR;
- AvgRec is the mean over k = 1..10 of (relevant found up to k, all queries) / (sum of min(k, relevant of the query));
- precision, recall, F1 and accuracy compare the true/false columns and ignore the scores;
- relevance comes from the gold file only. The official script prints MRR times 100; here it lies in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hf_crosstask.errors import DataFormatError, InputError
from hf_crosstask.evaluation.counts import FloatArray, ratio
from hf_crosstask.evaluation.official.base import (
    UnitCounts,
    Values,
    data_lines,
    group_by,
    precision_recall_f1,
    scalars,
    unit_counts,
)

#: Ranks that count, in every subtask.
TOP = 10
_COLUMNS = 3 + 2 * TOP + 4


@dataclass(frozen=True)
class Candidate:
    """One line of a `.relevancy` (gold) or `.pred` (submission) file.

    Attributes:
        query: RELQ_ID in subtask A, ORGQ_ID in B and C.
        candidate: the id of the comment or related question.
        rank: the search engine's rank in gold files; the scorer ignores it (submissions write 0).
        score: the search engine's score, or the system's.
        relevant: the gold label, or the system's decision.
    """

    query: str
    candidate: str
    rank: int
    score: float
    relevant: bool


def parse(text: str, source: str = "predictions") -> list[Candidate]:
    """The lines of a file: query, candidate, rank, score, `true` or `false`, separated by white space.

    Raises:
        DataFormatError: another number of fields, a rank or score that is no finite number, another label.
    """
    candidates = []
    for number, line in data_lines(text):
        fields = line.split()
        if len(fields) != 5:
            raise DataFormatError(
                source, f"expected query, candidate, rank, score, label; found {line!r}", line=number
            )
        query, candidate, rank, score, label = fields
        if label not in ("true", "false"):
            raise DataFormatError(source, f"the label is 'true' or 'false', not {label!r}", line=number)
        try:
            entry = Candidate(query, candidate, int(rank), float(score), label == "true")
        except ValueError as error:
            raise DataFormatError(source, f"rank or score is not a number: {error}", line=number) from error
        if not math.isfinite(entry.score):
            raise DataFormatError(source, f"the score {score!r} cannot be sorted by", line=number)
        candidates.append(entry)
    return candidates


def format_lines(candidates: Sequence[Candidate]) -> str:
    """The file `parse` reads; scores keep every digit."""
    return "".join(
        f"{c.query}\t{c.candidate}\t{c.rank}\t{c.score!r}\t{'true' if c.relevant else 'false'}\n" for c in candidates
    )


def query_counts(gold: Sequence[Candidate], predicted: Sequence[Candidate]) -> UnitCounts:
    """Statistics `[queries, 27]`: 1, AP, RR, hits@1..10, best possible hits@1..10, and TP, FP, FN, TN.

    `query_counts(gold, gold)` is the search engine's baseline.

    Raises:
        InputError: the lines are not about the same candidates in the same order, as the scorer demands.
    """
    if len(gold) != len(predicted):
        raise InputError(f"{len(gold)} gold lines but {len(predicted)} predicted ones; both list every candidate once")
    for number, (right, guess) in enumerate(zip(gold, predicted, strict=True), start=1):
        if (right.query, right.candidate) != (guess.query, guess.candidate):
            raise InputError(
                f"line {number}: gold is about ({right.query}, {right.candidate}), the prediction about "
                f"({guess.query}, {guess.candidate}); keep the order of the gold file"
            )
    pairs = group_by(zip(gold, predicted, strict=True), lambda pair: pair[0].query)
    return unit_counts({query: _query_row(candidates) for query, candidates in pairs.items()}, _COLUMNS)


def _query_row(pairs: list[tuple[Candidate, Candidate]]) -> list[float]:
    ranked = sorted(pairs, key=lambda pair: pair[1].score, reverse=True)
    hits = np.zeros(TOP)
    for position, (right, _) in enumerate(ranked[:TOP]):
        hits[position] = right.relevant
    found = hits.cumsum()
    precisions = (found / np.arange(1, TOP + 1))[hits > 0]
    relevant = sum(right.relevant for right, _ in pairs)
    best = np.minimum(np.arange(1, TOP + 1), relevant)
    confusion = [
        sum(right.relevant == truth and guess.relevant == decision for right, guess in pairs)
        for truth, decision in ((True, True), (False, True), (True, False), (False, False))
    ]
    average = float(precisions.mean()) if len(precisions) else 0.0
    reciprocal = 1 / (1 + int(hits.argmax())) if hits.any() else 0.0
    return [1.0, average, reciprocal, *found, *best, *confusion]


def from_counts(sums: FloatArray) -> Values:
    """`map`, `avg_rec`, `mrr`, `precision`, `recall`, `f1`, `accuracy` of summed `[..., 27]` statistics.

    A ratio with nothing in its denominator is 0 (the official script stops at AvgRec without any relevant candidate).
    """
    queries, found, best = sums[..., 0], sums[..., 3 : 3 + TOP], sums[..., 3 + TOP : 3 + 2 * TOP]
    confusion = sums[..., 3 + 2 * TOP :]
    decisions = precision_recall_f1(confusion[..., :3], "decision")
    return {
        "map": ratio(sums[..., 1], queries),
        "avg_rec": ratio(found, best).mean(axis=-1),
        "mrr": ratio(sums[..., 2], queries),
        "precision": decisions["decision_precision"],
        "recall": decisions["decision_recall"],
        "f1": decisions["decision_f1"],
        "accuracy": ratio(confusion[..., 0] + confusion[..., 3], confusion.sum(axis=-1)),
    }


def score(gold: Sequence[Candidate], predicted: Sequence[Candidate]) -> dict[str, float]:
    """The metrics of a submission against its gold file."""
    return scalars(from_counts(query_counts(gold, predicted).total()))
