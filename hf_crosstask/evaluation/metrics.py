"""The metrics as plain functions, and as `evaluate.Metric` classes that need no network.

The functions take gold first and return values in [0, 1]; all compute through the counts that scorers and bootstrap
use. The classes load on first use (`import evaluate` takes seconds) and follow `evaluate`'s conventions: keyword
arguments `predictions` and `references`, `add_batch`, `combine`. `evaluate.load("accuracy")` would ask the Hub for a
script; `hf_crosstask.evaluation.metrics.Accuracy()` does not.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hf_crosstask.evaluation import counts as c
from hf_crosstask.evaluation.counts import FloatArray
from hf_crosstask.evaluation.entities import Entity, alternative_counts, entity_counts, merged_counts
from hf_crosstask.evaluation.labels import label_counts, scored_labels
from hf_crosstask.evaluation.multilabel import METRICS, label_matrix, multilabel_table

if TYPE_CHECKING:
    from hf_crosstask.evaluation.evaluate_metrics import Accuracy as Accuracy
    from hf_crosstask.evaluation.evaluate_metrics import AlternativeEntityF1 as AlternativeEntityF1
    from hf_crosstask.evaluation.evaluate_metrics import EntityF1 as EntityF1
    from hf_crosstask.evaluation.evaluate_metrics import LabelSetF1 as LabelSetF1
    from hf_crosstask.evaluation.evaluate_metrics import MacroF1 as MacroF1
    from hf_crosstask.evaluation.evaluate_metrics import PositiveF1 as PositiveF1
    from hf_crosstask.evaluation.evaluate_metrics import RelationF1 as RelationF1

_CLASSES = ("Accuracy", "AlternativeEntityF1", "EntityF1", "LabelSetF1", "MacroF1", "PositiveF1", "RelationF1")


def __getattr__(name: str) -> Any:
    if name in _CLASSES:
        return getattr(importlib.import_module("hf_crosstask.evaluation.evaluate_metrics"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_CLASSES])


def entity_scores(gold: Sequence[Iterable[Entity]], predicted: Sequence[Iterable[Entity]]) -> dict[str, float]:
    """Micro precision, recall and F1 of exact entities; see `entity_counts`."""
    types = sorted({entity.type for row in (*map(tuple, gold), *map(tuple, predicted)) for entity in row})
    return _scores(c.micro(entity_counts(gold, predicted, types)))


def merged_entity_scores(gold: Sequence[Iterable[Entity]], predicted: Sequence[Iterable[Entity]]) -> dict[str, float]:
    """Precision, recall and F1 of exact spans whatever their type (BLURB's JNLPBA); see `merged_counts`."""
    return _scores(c.micro(merged_counts(gold, predicted)))


def alternative_entity_scores(
    gold: Sequence[Iterable[Entity]], alternatives: Sequence[Iterable[Entity]], predicted: Sequence[Iterable[Entity]]
) -> dict[str, float]:
    """Precision, recall and F1 as BC2GM's official script scores; see `alternative_counts`."""
    return _scores(c.micro(alternative_counts(gold, alternatives, predicted)))


def relation_scores(
    gold: Sequence[Collection[str]],
    predicted: Sequence[str | None],
    labels: Sequence[str],
    negative: str | None = None,
    lost_gold: Mapping[str, int] | None = None,
) -> dict[str, float]:
    """Micro precision, recall and F1 over the labels but the negative one, without lost gold, and macro-F1.

    Args:
        gold: the gold labels of each candidate pair; see `label_counts`.
        predicted: its predicted label.
        labels: the label set.
        negative: the negative class, which is not scored.
        lost_gold: label to gold relations that no candidate carries: false negatives of all values but
            `micro_f1_candidates`.
    """
    lost = c.lost_constant(lost_gold or {}, scored_labels(labels, negative))
    counts = label_counts(gold, predicted, labels, negative).sum(axis=0) + lost
    total = c.micro(counts)
    return {
        "micro_f1": float(c.f1(total)),
        "micro_precision": float(c.precision(total)),
        "micro_recall": float(c.recall(total)),
        "micro_f1_candidates": float(c.f1(total[: c.LOST])),
        "macro_f1": float(c.macro_f1(counts)),
    }


def accuracy(gold: Sequence[str], predicted: Sequence[str | None]) -> float:
    """Share of examples whose predicted label is the gold label; None is wrong."""
    return float(c.accuracy(_class_counts(gold, predicted)))


def macro_f1(gold: Sequence[str], predicted: Sequence[str | None]) -> float:
    """Mean F1 over the classes in gold or prediction (scikit-learn's `average="macro"`)."""
    return float(c.macro_f1(_class_counts(gold, predicted)))


def positive_f1(gold: Sequence[str], predicted: Sequence[str | None], positive: str) -> float:
    """F1 of one class (GAD's `1`); 0 where it is neither in gold nor predicted."""
    labels = sorted({positive, *gold, *(label for label in predicted if label is not None)})
    counts = label_counts([(label,) for label in gold], predicted, labels).sum(axis=0)
    return float(c.f1(counts[labels.index(positive)]))


def label_set_scores(
    gold: Sequence[Collection[str]],
    predicted: Sequence[Collection[str]],
    labels: Sequence[str],
    documents: Sequence[str] | None = None,
) -> dict[str, float]:
    """F1 values of label sets, of documents (the union of their examples) and of examples; see `multilabel_table`.

    Args:
        gold: the labels of each example.
        predicted: its predicted labels.
        labels: the label set; macro values are means over all of it.
        documents: the document of each example; by default each is its own.
    """
    names = [str(index) for index in range(len(gold))] if documents is None else documents
    total = multilabel_table(label_matrix(gold, labels), label_matrix(predicted, labels), names).total()
    return {name: float(value(total)) for name, value in METRICS.items()}


def _class_counts(gold: Sequence[str], predicted: Sequence[str | None]) -> FloatArray:
    labels = sorted({*gold, *(label for label in predicted if label is not None)})
    return label_counts([(label,) for label in gold], predicted, labels).sum(axis=0)


def _scores(per_example: FloatArray) -> dict[str, float]:
    total = per_example.sum(axis=0)
    return {"precision": float(c.precision(total)), "recall": float(c.recall(total)), "f1": float(c.f1(total))}
