"""From predictions to values: counts, scores, intervals and the trivial baseline of each task type.

A `Scoring` needs predictions only, not the model or the data: `scoring_for(Predictions.from_parquet(path).target)`
scores a finished run again. The table `SCORINGS` is open: a task type is added by one function.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from hf_crosstask.errors import InputError, unknown_name
from hf_crosstask.evaluation import correlation, generation, multilabel, ranking, spans
from hf_crosstask.evaluation import counts as c
from hf_crosstask.evaluation.bootstrap import percentile_interval, replicate_totals, replicate_weights
from hf_crosstask.evaluation.counts import CountTable, FloatArray, FromCounts
from hf_crosstask.evaluation.entities import alternative_counts, entity_counts, merged_counts
from hf_crosstask.evaluation.labels import label_counts, most_frequent, scored_labels
from hf_crosstask.evaluation.official import multiple_choice, similarity
from hf_crosstask.evaluation.predictions import ENTITY_TYPES, Predictions, Target
from hf_crosstask.evaluation.result import MetricValue
from hf_crosstask.evaluation.shared_tasks import Addition, addition_for
from hf_crosstask.tasks.schema import TaskType

#: Predictions and weights `[..., examples]` to values `[...]`.
Weighted = Callable[[Predictions, FloatArray], FloatArray]


def _split_groups(predictions: Predictions) -> Sequence[str]:
    return predictions.split_groups


@dataclass(frozen=True)
class Scoring:
    """How the predictions of one task become values.

    Attributes:
        target: the task.
        metrics: name to `from_counts`; all read the same summed counts and broadcast over leading axes.
        count: predictions to their `CountTable`.
        trivial: predictions (their gold) to those of the trivial predictor on the same examples.
        rows: the label of each leading row of the counts, for the report by label.
        only_with_alternatives: metrics that exist only where the predictions carry alternatives.
        only_with_answers: metrics that exist only where the predictions carry generated answers.
        weighted: name to function of metrics without additive statistics.
        clusters: what a bootstrap draws: the cluster of each example.
    """

    target: Target
    metrics: Mapping[str, FromCounts]
    count: Callable[[Predictions], CountTable]
    trivial: Callable[[Predictions], Predictions]
    rows: tuple[str, ...] = ()
    only_with_alternatives: frozenset[str] = frozenset()
    only_with_answers: frozenset[str] = frozenset()
    weighted: Mapping[str, Weighted] = field(default_factory=dict)
    clusters: Callable[[Predictions], Sequence[str]] = _split_groups

    def names(self, predictions: Predictions) -> list[str]:
        """The metrics that these predictions support."""
        absent = self.only_with_alternatives if predictions.alternatives is None else frozenset()
        if predictions.answers is None:
            absent |= self.only_with_answers
        return [name for name in (*self.metrics, *self.weighted) if name not in absent]

    def from_counts(self, metric: str, totals: FloatArray) -> FloatArray:
        """Values of a metric at summed counts `[..., *shape of the counts]`: `[...]`.

        Raises:
            InputError: the task has no such metric, or it has no additive statistics.
        """
        if metric not in self.metrics:
            raise InputError(f"task {self.target.task!r}: {unknown_name('metric', metric, self.metrics)}")
        return self.metrics[metric](totals)

    def score(self, predictions: Predictions) -> dict[str, float]:
        """Every metric's value, in [0, 1]; correlations in [-1, 1]."""
        total, once = self.count(predictions).total(), np.ones(len(predictions))
        return {
            name: float(self.metrics[name](total) if name in self.metrics else self.weighted[name](predictions, once))
            for name in self.names(predictions)
        }

    def by_label(self, predictions: Predictions) -> dict[str, dict[str, Any]]:
        """Precision, recall, F1 and gold support of each scored label; of label sets, over documents."""
        if not self.rows:
            return {}
        return c.label_report(self.count(predictions).total()[: len(self.rows)], self.rows)

    def interval(
        self, predictions: Predictions, metric: str, *, replicates: int = 1000, seed: int, level: float = 0.95
    ) -> tuple[float, float]:
        """Percentile interval of a metric over resampled clusters (`split_group`; of rankings the query).

        Raises:
            InputError: the task, or these predictions, have no such metric.
            ValueError: all examples belong to one cluster.
        """
        if metric not in self.names(predictions):
            raise InputError(f"task {self.target.task!r}: {unknown_name('metric', metric, self.names(predictions))}")
        return percentile_interval(self._resampled(predictions, replicates, seed)[metric], level)

    def evaluate(
        self, predictions: Predictions, *, replicates: int = 1000, seed: int, level: float = 0.95
    ) -> dict[str, MetricValue]:
        """Every metric's value with its interval, all from the same replicates.

        The interval is null where all examples belong to one cluster: nothing shows how they vary.
        """
        values = self.score(predictions)
        if len(set(self.clusters(predictions))) < 2:
            return {name: MetricValue(value=value) for name, value in values.items()}
        resampled = self._resampled(predictions, replicates, seed)
        intervals = {name: percentile_interval(resampled[name], level) for name in values}
        return {
            name: MetricValue(value=value, low=intervals[name][0], high=intervals[name][1])
            for name, value in values.items()
        }

    def _resampled(self, predictions: Predictions, replicates: int, seed: int) -> dict[str, FloatArray]:
        """The values `[replicates]` of every metric, all from the same replicates."""
        table, clusters = self.count(predictions), self.clusters(predictions)
        counted = [name for name in self.names(predictions) if name in self.metrics]
        if not self.weighted:
            totals = replicate_totals(table, clusters, replicates=replicates, seed=seed)
            return {name: self.metrics[name](totals) for name in counted}
        parts: dict[str, list[FloatArray]] = {name: [] for name in self.names(predictions)}
        for weights in replicate_weights(clusters, replicates=replicates, seed=seed):
            totals = np.tensordot(weights, table.per_example, axes=1) + table.constant
            for name in counted:
                parts[name].append(self.metrics[name](totals))
            for name, value in self.weighted.items():
                parts[name].append(value(predictions, weights))
        return {name: np.concatenate(values) for name, values in parts.items()}

    def majority(self, predictions: Predictions) -> dict[str, float]:
        """The values of the trivial predictor on the same examples.

        Classification, and relations without a negative class: the most frequent gold label of these examples, the
        best that a constant answer can reach. Entities, and relations with a negative class: it predicts nothing,
        hence 0.0 throughout. Label sets: the constant set with the best document micro-F1. Multiple choice: the
        position that is right most often. Similarity: a constant, whose correlation is 0. Rankings: the order in which
        the candidates came (a search engine's). Generation: the empty answer.
        """
        return self.score(self.trivial(predictions))


def _constant(answer_of: Callable[[Sequence[tuple[Any, ...]]], Any]) -> Callable[[Predictions], Predictions]:
    """The trivial predictor that gives one answer, chosen from all gold, to every example."""

    def trivial(predictions: Predictions) -> Predictions:
        return _answered(predictions, (answer_of(predictions.gold),) * len(predictions))

    return trivial


def _answered(predictions: Predictions, answers: Sequence[Any]) -> Predictions:
    nothing = (None,) * len(predictions)
    return replace(predictions, predicted=tuple(answers), confidence=nothing, logits=None, answers=None)


def _rows(select: slice, value: FromCounts) -> FromCounts:
    """`value` of the selected rows summed."""
    return lambda totals: value(c.micro(totals[..., select, :]))


def _without_lost(totals: FloatArray) -> FloatArray:
    return c.f1(c.micro(totals)[..., : c.LOST])


def _entity_scoring(target: Target) -> Scoring:
    types = slice(0, len(target.labels))
    merged = slice(len(target.labels), len(target.labels) + 1)
    alternatives = slice(len(target.labels) + 1, None)
    metrics = {
        "entity_f1": _rows(types, c.f1),
        "entity_precision": _rows(types, c.precision),
        "entity_recall": _rows(types, c.recall),
        "entity_f1_merged": _rows(merged, c.f1),
        "entity_f1_alternatives": _rows(alternatives, c.f1),
    }
    if len(target.labels) == 1:
        del metrics["entity_f1_merged"]  # it is entity_f1
    return Scoring(
        target=target,
        metrics=metrics,
        count=partial(_count_entities, lost=c.lost_constant(target.lost_gold, target.labels)),
        trivial=_constant(lambda gold: ()),
        rows=target.labels,
        only_with_alternatives=frozenset({"entity_f1_alternatives"}),
    )


def _count_entities(predictions: Predictions, lost: FloatArray) -> CountTable:
    """A row for each type, one for all types merged, and where there are alternatives, one more: alternatives accepted."""
    gold, predicted = predictions.gold, predictions.predicted
    tables = [entity_counts(gold, predicted, predictions.target.labels), merged_counts(gold, predicted)]
    if predictions.alternatives is not None:
        tables.append(alternative_counts(gold, predictions.alternatives, predicted))
    all_lost = lost.sum(axis=0, keepdims=True)
    constant = np.concatenate([lost, *(all_lost for _ in tables[1:])])
    return CountTable(np.concatenate(tables, axis=1), constant)


def _span_scoring(target: Target) -> Scoring:
    return Scoring(target, spans.metrics(target), spans.span_table, spans.nothing_found, rows=target.labels)


def _label_scoring(target: Target, metrics: Mapping[str, FromCounts]) -> Scoring:
    scored = scored_labels(target.labels, target.negative_label)
    negative = target.negative_label
    return Scoring(
        target=target,
        metrics=metrics,
        count=partial(_count_labels, lost=c.lost_constant(target.lost_gold, scored)),
        trivial=_constant(lambda gold: most_frequent(gold, target.labels) if negative is None else negative),
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
    metrics: dict[str, FromCounts] = {
        "accuracy": c.accuracy,
        "macro_f1": c.macro_f1,
        "micro_f1": _rows(slice(None), c.f1),
    }
    if target.positive_label is not None:
        row = target.labels.index(target.positive_label)
        metrics["positive_f1"] = _rows(slice(row, row + 1), c.f1)
        metrics["positive_precision"] = _rows(slice(row, row + 1), c.precision)
        metrics["positive_recall"] = _rows(slice(row, row + 1), c.recall)
    return _label_scoring(target, metrics)


def _multilabel_scoring(target: Target) -> Scoring:
    def matrix(rows: Sequence[Any]) -> multilabel.Labels:
        return multilabel.label_matrix([row or () for row in rows], target.labels)

    def count(predictions: Predictions) -> CountTable:
        gold, predicted = matrix(predictions.gold), matrix(predictions.predicted)
        return multilabel.multilabel_table(gold, predicted, predictions.split_groups)

    def trivial(predictions: Predictions) -> Predictions:
        best = multilabel.best_constant(matrix(predictions.gold), predictions.split_groups)
        answer = tuple(target.labels[number] for number in best)
        return _answered(predictions, (answer,) * len(predictions))

    return Scoring(target, multilabel.METRICS, count, trivial, rows=target.labels)


def _similarity_scoring(target: Target) -> Scoring:
    def scores(predictions: Predictions) -> tuple[FloatArray, FloatArray]:
        if None in predictions.predicted:
            raise ValueError(f"task {target.task!r}: an example has no predicted score")
        gold = np.array([score for (score,) in predictions.gold], dtype=np.float64)
        return gold, np.array(predictions.predicted, dtype=np.float64)

    def count(predictions: Predictions) -> CountTable:
        gold, predicted = scores(predictions)
        return CountTable(similarity.pair_counts(gold.tolist(), predicted.tolist()).values, np.zeros(6))

    def spearman(predictions: Predictions, weights: FloatArray) -> FloatArray:
        return correlation.weighted_spearman(*scores(predictions), weights)

    return Scoring(
        target,
        metrics={"pearson": lambda totals: similarity.from_counts(totals)["pearson"]},
        count=count,
        trivial=_constant(lambda gold: 0.0),
        weighted={"spearman": spearman},
    )


def _ranking_scoring(target: Target) -> Scoring:
    return Scoring(
        target, ranking.METRICS, ranking.ranking_table, ranking.given_order, clusters=ranking.query_clusters
    )


def _choice_scoring(target: Target) -> Scoring:
    def count(predictions: Predictions) -> CountTable:
        answers = [answer for (answer,) in predictions.gold]
        return CountTable(multiple_choice.question_counts(answers, predictions.predicted).values, np.zeros(3))

    return Scoring(
        target,
        metrics={"accuracy": lambda totals: multiple_choice.from_counts(totals)["accuracy"]},
        count=count,
        trivial=_commonest_position,
    )


def _commonest_position(predictions: Predictions) -> Predictions:
    """The choice at the position where the right one stands most often, of every question that has as many choices."""
    if predictions.choices is None:
        raise ValueError("predictions of a multiple-choice task carry the choices of each question")
    rows = list(zip(predictions.choices, predictions.gold, strict=True))
    position = Counter(choices.index(answer) for choices, (answer,) in rows).most_common(1)[0][0]
    return _answered(predictions, [choices[position] if position < len(choices) else None for choices, _ in rows])


def _generation_scoring(target: Target) -> Scoring:
    return Scoring(target, generation.METRICS, generation.answer_table, _constant(lambda gold: ""))


def _with_parse_failures(scoring: Scoring) -> Scoring:
    """The scoring of the generative form: the same metrics, and how many answers could not be read."""
    weighted = {**scoring.weighted, "parse_failure_rate": generation.parse_failure_rate}
    return replace(scoring, weighted=weighted, only_with_answers=generation.OF_ANSWERS)


def _with_official(scoring: Scoring, addition: Addition) -> Scoring:
    """The scoring with an official scorer's metrics: its statistics become the last rows of the counts."""
    rows = -(-addition.columns // 4)

    def shaped(statistics: FloatArray) -> FloatArray:
        padding = [(0, 0)] * (statistics.ndim - 1) + [(0, 4 * rows - addition.columns)]
        return np.pad(statistics, padding).reshape(*statistics.shape[:-1], rows, 4)

    def count(predictions: Predictions) -> CountTable:
        table = scoring.count(predictions)
        return CountTable(
            np.concatenate([table.per_example, shaped(addition.count(predictions))], axis=1),
            np.concatenate([table.constant, shaped(addition.lost(scoring.target.lost_gold))]),
        )

    def own(value: FromCounts) -> FromCounts:
        return lambda totals: value(totals[..., :-rows, :])

    def official(name: str) -> FromCounts:
        return lambda totals: addition.from_counts(
            totals[..., -rows:, :].reshape(*totals.shape[:-2], 4 * rows)[..., : addition.columns]
        )[name]

    metrics = {name: own(value) for name, value in scoring.metrics.items()}
    metrics |= {name: official(source) for name, source in addition.metrics.items()}
    entities = scoring.target.type in ENTITY_TYPES
    return replace(scoring, metrics=metrics, count=count, trivial=spans.nothing_found if entities else scoring.trivial)


SCORINGS: dict[TaskType, Callable[[Target], Scoring]] = {
    "ner": _entity_scoring,
    "span_ner": _span_scoring,
    "relation": _relation_scoring,
    "classification": _classification_scoring,
    "multilabel": _multilabel_scoring,
    "similarity": _similarity_scoring,
    "ranking": _ranking_scoring,
    "multiple_choice": _choice_scoring,
    "generation": _generation_scoring,
}

#: Task types without a label set.
_UNLABELLED: frozenset[TaskType] = frozenset({"similarity", "ranking", "multiple_choice", "generation"})
#: Task types whose examples carry all gold there is.
_NOTHING_LOST: frozenset[TaskType] = _UNLABELLED | {"multilabel"}


def scoring_for(target: Target) -> Scoring:
    """The scoring of a task.

    Raises:
        InputError: its type cannot be scored, it has no labels, or its negative label is not one of them.
    """
    if target.type not in SCORINGS:
        raise InputError(f"task {target.task!r}: no metric for tasks of type {target.type!r}; {_supported()}")
    if not target.labels and target.type not in _UNLABELLED:
        raise InputError(f"task {target.task!r}: the card lists no `labels`, so nothing can be scored")
    if target.negative_label is not None and target.negative_label not in target.labels:
        problem = unknown_name("negative_label", target.negative_label, target.labels)
        raise InputError(f"task {target.task!r}: {problem}")
    if target.positive_label is not None and target.positive_label not in target.labels:
        problem = unknown_name("positive_label", target.positive_label, target.labels)
        raise InputError(f"task {target.task!r}: {problem}")
    if target.lost_gold and target.type in _NOTHING_LOST:
        raise InputError(f"task {target.task!r}: lost gold has no meaning in a {target.type} task")
    scoring = SCORINGS[target.type](target)
    addition = addition_for(target)
    if addition is not None:
        scoring = _with_official(scoring, addition)
    return _with_parse_failures(scoring) if target.formulation == "generative" else scoring


def _supported() -> str:
    return f"supported: {', '.join(SCORINGS)}"
