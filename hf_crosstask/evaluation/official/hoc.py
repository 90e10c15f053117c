"""Hallmarks of Cancer: document-level micro-F1 (BLURB) and example-based F1 (BLUE).

A document's labels are the union of its sentences' labels, in gold and in prediction alike.

- BLURB (LinkBERT `src/seqcls/utils_hoc.py`): true and false positives summed over all documents and the ten hallmarks;
  documents without any hallmark take part.
- BLUE (ncbi-nlp/BLUE_Benchmark `blue/eval_hoc.py`): precision and recall of each document, averaged over documents,
  and the harmonic mean of the two averages; a document without a prediction has precision 0. Documents without gold
  labels have no recall and are left out (BLUE's split has none). The script prints the two averages under each
  other's names; here they bear their own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from hf_crosstask.errors import DataFormatError, InputError
from hf_crosstask.evaluation.counts import FloatArray, ratio
from hf_crosstask.evaluation.official.base import (
    UnitCounts,
    Values,
    data_lines,
    harmonic,
    precision_recall_f1,
    scalars,
    unit_counts,
)

#: The ten hallmarks as BLUE spells them.
HALLMARKS = (
    "activating invasion and metastasis",
    "avoiding immune destruction",
    "cellular energetics",
    "enabling replicative immortality",
    "evading growth suppressors",
    "genomic instability and mutation",
    "inducing angiogenesis",
    "resisting cell death",
    "sustaining proliferative signaling",
    "tumor promoting inflammation",
)

Labels = Mapping[str, Collection[str]]


def merge_sentences(sentences: Iterable[tuple[str, Collection[str]]]) -> dict[str, set[str]]:
    """Document name to labels, from the (document, labels) of each sentence; sentences may have none."""
    documents: dict[str, set[str]] = {}
    for document, labels in sentences:
        documents.setdefault(document, set()).update(labels)
    return documents


def parse(text: str, source: str = "predictions") -> list[tuple[str, frozenset[str]]]:
    """The (document, labels) of each sentence of a BLUE file: a header with `index` and `labels`, then
    `document_sentence<TAB>label,label,…`.

    Raises:
        DataFormatError: no such header, a row of another width, or an index without `_`.
    """
    lines = list(data_lines(text))
    header = lines[0][1].split("\t") if lines else []
    if not {"index", "labels"} <= set(header):
        raise DataFormatError(source, f"expected a header with index and labels, found {header}", line=1)
    sentences = []
    for number, line in lines[1:]:
        row = line.split("\t")
        if len(row) != len(header):
            raise DataFormatError(source, f"expected {len(header)} cells, found {len(row)}", line=number)
        cells = dict(zip(header, row, strict=True))
        document, underscore, _ = cells["index"].partition("_")
        if not underscore:
            raise DataFormatError(source, f"expected document_sentence, found {cells['index']!r}", line=number)
        sentences.append((document, frozenset(filter(None, cells["labels"].split(",")))))
    return sentences


def format_lines(sentences: Iterable[tuple[str, Collection[str]]]) -> str:
    """The file `parse` reads; sentences are numbered within their document, labels sorted."""
    lines, seen = ["index\tlabels"], dict[str, int]()
    for document, labels in sentences:
        number = seen[document] = seen.get(document, -1) + 1
        lines.append(f"{document}_{number}\t{','.join(sorted(labels))}")
    return "".join(line + "\n" for line in lines)


def document_counts(gold: Labels, predicted: Labels, labels: Sequence[str] = HALLMARKS) -> UnitCounts:
    """Statistics `[documents, 33]`: TP, FP, FN per hallmark (30), then documents with gold labels, the sum of their
    precisions and of their recalls.

    Raises:
        InputError: the two sides are not about the same documents, or a label is not among `labels`.
    """
    if gold.keys() != predicted.keys():
        odd = sorted(gold.keys() ^ predicted.keys())[0]
        raise InputError(f"gold and prediction must cover the same documents; {odd!r} is on one side only")
    unknown = sorted({label for side in (gold, predicted) for found in side.values() for label in found} - {*labels})
    if unknown:
        raise InputError(f"{unknown[0]!r} is not among the labels {list(labels)}")
    rows = {}
    for name in gold:
        right, guess = ({label: label in side[name] for label in labels} for side in (gold, predicted))
        table = [
            (right[label] and guess[label], guess[label] > right[label], right[label] > guess[label])
            for label in labels
        ]
        hits, wrong, missed = np.array(table, dtype=float).sum(axis=0)
        example = (1.0, hits / max(hits + wrong, 1), hits / (hits + missed)) if hits + missed else (0.0, 0.0, 0.0)
        rows[name] = (*(float(cell) for cells in table for cell in cells), *example)
    return unit_counts(rows, 3 * len(labels) + 3)


def from_counts(sums: FloatArray) -> Values:
    """`micro_*` (BLURB), `example_*` (BLUE): precision, recall, f1; and `macro_f1`, the mean F1 of the hallmarks."""
    counts = sums[..., :-3].reshape(*sums.shape[:-1], -1, 3)
    documents, precision, recall = (sums[..., column] for column in (-3, -2, -1))
    example = ratio(precision, documents), ratio(recall, documents)
    return {
        **precision_recall_f1(counts.sum(axis=-2), "micro"),
        "example_precision": example[0],
        "example_recall": example[1],
        "example_f1": harmonic(*example),
        "macro_f1": precision_recall_f1(counts, "label")["label_f1"].mean(axis=-1),
    }


def score(gold: Labels, predicted: Labels, labels: Sequence[str] = HALLMARKS) -> dict[str, float]:
    """The metrics of a submission; both map document names to labels."""
    return scalars(from_counts(document_counts(gold, predicted, labels).total()))
