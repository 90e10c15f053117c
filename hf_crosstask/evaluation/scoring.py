"""From predictions to values: counts, scores, intervals and the trivial baseline of each task type.

A `Scoring` needs predictions only, not the model or the data: `scoring_for(Predictions.from_parquet(path).target)`
scores a finished run again. The table `SCORINGS` is open: a task type is added by one function.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from hf_crosstask.errors import InputError, unknown_name
from hf_crosstask.evaluation import counts as c
from hf_crosstask.evaluation.bootstrap import percentile_interval, replicate_totals
from hf_crosstask.evaluation.counts import CountTable, FloatArray, FromCounts
from hf_crosstask.evaluation.entities import alternative_counts, entity_counts
from hf_crosstask.evaluation.labels import label_counts, most_frequent, scored_labels
from hf_crosstask.evaluation.predictions import Predictions, Target
from hf_crosstask.evaluation.result import MetricValue
from hf_crosstask.tasks.schema import TaskType


@dataclass(frozen=True)
class Scoring:
    """How the predictions of one task become values.

    Attributes:
        target: the task.
        metrics: name to `from_counts`; all read the same summed counts and broadcast over leading axes.
        count: predictions to their `CountTable`.
        trivial: gold (of any number of examples) to the trivial predictor's prediction of one example.
        rows: the label of each leading row of the counts, for the report by label.
        only_with_alternatives: metrics that exist only where the predictions carry alternatives.
    """

    target: Target
    metrics: Mapping[str, FromCounts]
    count: Callable[[Predictions], CountTable]
    trivial: Callable[[Sequence[tuple[Any, ...]]], Any]
    rows: tuple[str, ...]
    only_with_alternatives: frozenset[str] = frozenset()

    def names(self, predictions: Predictions) -> list[str]:
        """The metrics that these predictions support."""
        absent = self.only_with_alternatives if predictions.alternatives is None else frozenset()
        return [name for name in self.metrics if name not in absent]

    def from_counts(self, metric: str, totals: FloatArray) -> FloatArray:
        """Values of a metric at summed counts `[..., rows, 4]`: `[...]`.

        Raises:
            InputError: the task has no such metric.
        """
        if metric not in self.metrics:
            raise InputError(f"task {self.target.task!r}: {unknown_name('metric', metric, self.metrics)}")
        return self.metrics[metric](totals)

    def score(self, predictions: Predictions) -> dict[str, float]:
        """Every metric's value, in [0, 1]."""
        total = self.count(predictions).total()
        return {name: float(self.metrics[name](total)) for name in self.names(predictions)}

    def by_label(self, predictions: Predictions) -> dict[str, dict[str, Any]]:
        """Precision, recall, F1 and gold support of each scored label."""
        return c.label_report(self.count(predictions).total()[: len(self.rows)], self.rows)

    def interval(
        self, predictions: Predictions, metric: str, *, replicates: int = 1000, seed: int, level: float = 0.95
    ) -> tuple[float, float]:
        """Percentile interval of a metric over resampled `split_group` clusters.

        Raises:
            InputError: the task, or these predictions, have no such metric.
            ValueError: all examples belong to one cluster.
        """
        if metric not in self.names(predictions):
            raise InputError(f"task {self.target.task!r}: {unknown_name('metric', metric, self.names(predictions))}")
        totals = replicate_totals(self.count(predictions), predictions.split_groups, replicates=replicates, seed=seed)
        return percentile_interval(self.from_counts(metric, totals), level)

    def evaluate(
        self, predictions: Predictions, *, replicates: int = 1000, seed: int, level: float = 0.95
    ) -> dict[str, MetricValue]:
        """Every metric's value with its interval, all from the same replicates.

        The interval is null where all examples belong to one cluster: nothing shows how they vary.
        """
        table = self.count(predictions)
        total, names = table.total(), self.names(predictions)
        if len(set(predictions.split_groups)) < 2:
            return {name: MetricValue(value=float(self.metrics[name](total))) for name in names}
        totals = replicate_totals(table, predictions.split_groups, replicates=replicates, seed=seed)
        values = {}
        for name in names:
            low, high = percentile_interval(self.metrics[name](totals), level)
            values[name] = MetricValue(value=float(self.metrics[name](total)), low=low, high=high)
        return values

    def majority(self, predictions: Predictions) -> dict[str, float]:
        """The values of the trivial predictor on the same examples.

        Classification, and relations without a negative class: the most frequent gold label of these examples, the
        best that a constant answer can reach. Entities, and relations with a negative class: it predicts nothing,
        hence 0.0 throughout.
        """
        answer = self.trivial(predictions.gold)
        constant = Predictions(
            target=self.target,
            ids=predictions.ids,
            split_groups=predictions.split_groups,
            gold=predictions.gold,
            predicted=(answer,) * len(predictions),
            confidence=(None,) * len(predictions),
            alternatives=predictions.alternatives,
        )
        return self.score(constant)


def _rows(select: slice, value: FromCounts) -> FromCounts:
    """`value` of the selected rows summed."""
    return lambda totals: value(c.micro(totals[..., select, :]))


def _without_lost(totals: FloatArray) -> FloatArray:
    return c.f1(c.micro(totals)[..., : c.LOST])


def _entity_scoring(target: Target) -> Scoring:
    types = slice(0, len(target.labels))
    alternatives = slice(len(target.labels), None)
    return Scoring(
        target=target,
        metrics={
            "entity_f1": _rows(types, c.f1),
            "entity_precision": _rows(types, c.precision),
            "entity_recall": _rows(types, c.recall),
            "entity_f1_alternatives": _rows(alternatives, c.f1),
        },
        count=partial(_count_entities, lost=c.lost_constant(target.lost_gold, target.labels)),
        trivial=lambda gold: (),
        rows=target.labels,
        only_with_alternatives=frozenset({"entity_f1_alternatives"}),
    )


def _count_entities(predictions: Predictions, lost: FloatArray) -> CountTable:
    """A row for each type and, where there are alternatives, one more: all types, alternatives accepted."""
    table = entity_counts(predictions.gold, predictions.predicted, predictions.target.labels)
    if predictions.alternatives is None:
        return CountTable(table, lost)
    accepted = alternative_counts(predictions.gold, predictions.alternatives, predictions.predicted)
    return CountTable(
        np.concatenate([table, accepted], axis=1), np.concatenate([lost, lost.sum(axis=0, keepdims=True)])
    )


def _label_scoring(target: Target, metrics: Mapping[str, FromCounts]) -> Scoring:
    scored = scored_labels(target.labels, target.negative_label)
    negative = target.negative_label
    return Scoring(
        target=target,
        metrics=metrics,
        count=partial(_count_labels, lost=c.lost_constant(target.lost_gold, scored)),
        trivial=lambda gold: most_frequent(gold, target.labels) if negative is None else negative,
        rows=tuple(scored),
    )


def _count_labels(predictions: Predictions, lost: FloatArray) -> CountTable:
    target = predictions.target
    return CountTable(
        label_counts(predictions.gold, predictions.predicted, target.labels, target.negative_label), lost
    )


def _relation_scoring(target: Target) -> Scoring:
    everything = slice(None)
    metrics = {
        "micro_f1": _rows(everything, c.f1),
        "micro_precision": _rows(everything, c.precision),
        "micro_recall": _rows(everything, c.recall),
        "micro_f1_candidates": _without_lost,
        "macro_f1": c.macro_f1,
    }
    return _label_scoring(target, metrics)


def _classification_scoring(target: Target) -> Scoring:
    if target.negative_label is not None:
        raise InputError(
            f"task {target.task!r}: `negative_label` belongs to relation tasks; a classification scores every class"
        )
    return _label_scoring(target, {"accuracy": c.accuracy, "macro_f1": c.macro_f1})


SCORINGS: dict[TaskType, Callable[[Target], Scoring]] = {
    "ner": _entity_scoring,
    "relation": _relation_scoring,
    "classification": _classification_scoring,
}


def scoring_for(target: Target) -> Scoring:
    """The scoring of a task.

    Raises:
        InputError: its type cannot be scored, it has no labels, or its negative label is not one of them.
    """
    if target.type not in SCORINGS:
        raise InputError(f"task {target.task!r}: no metric for tasks of type {target.type!r}; {_supported()}")
    if not target.labels:
        raise InputError(f"task {target.task!r}: the card lists no `labels`, so nothing can be scored")
    if target.negative_label is not None and target.negative_label not in target.labels:
        problem = unknown_name("negative_label", target.negative_label, target.labels)
        raise InputError(f"task {target.task!r}: {problem}")
    return SCORINGS[target.type](target)


def _supported() -> str:
    return f"supported: {', '.join(SCORINGS)}"
