"""The metrics as `evaluate.Metric` classes; import them from `hf_crosstask.evaluation.metrics`, which loads this lazily.

Each returns plain floats, which JSON takes. `evaluate` keeps predictions in Arrow files under `HF_HOME/metrics`; pass
`cache_dir=` or `keep_in_memory=True` to keep them elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import datasets
import evaluate

from hf_crosstask.encoding.tags import decode_tags
from hf_crosstask.evaluation import metrics
from hf_crosstask.evaluation.entities import Entity

_STRING = datasets.Value("string")
_ENTITY = {"type": _STRING, "start": datasets.Value("int32"), "end": datasets.Value("int32")}


def _info(description: str, features: dict[str, Any]) -> evaluate.MetricInfo:
    return evaluate.MetricInfo(
        description=description, citation="", inputs_description="", features=datasets.Features(features)
    )


class EntityF1(evaluate.Metric):
    """Strict entity precision, recall and F1 on IOB2 tag sequences, one a sentence (seqeval's strict IOB2)."""

    def _info(self) -> evaluate.MetricInfo:
        tags = datasets.List(_STRING)
        return _info("Strict entity F1 on IOB2 tags.", {"predictions": tags, "references": tags})

    def _compute(self, predictions: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> dict[str, float]:
        return metrics.entity_scores(_from_tags(references), _from_tags(predictions))


class AlternativeEntityF1(evaluate.Metric):
    """BC2GM's official F1; every input is a list of {type, start, end} an example."""

    def _info(self) -> evaluate.MetricInfo:
        entities = datasets.List(_ENTITY)
        features = {"predictions": entities, "references": entities, "alternatives": entities}
        return _info("Entity F1 with acceptable alternatives (BC2GM).", features)

    def _compute(self, predictions: Any, references: Any, alternatives: Any) -> dict[str, float]:
        return metrics.alternative_entity_scores(
            _from_spans(references), _from_spans(alternatives), _from_spans(predictions)
        )


class RelationF1(evaluate.Metric):
    """Micro and macro F1 over the positive classes.

    `references` are lists: the gold labels of each candidate. Keyword arguments of `compute`: `labels`, `negative`,
    `lost_gold`; see `relation_scores`.
    """

    def _info(self) -> evaluate.MetricInfo:
        features = {"predictions": _STRING, "references": datasets.List(_STRING)}
        return _info("Relation F1 over the positive classes.", features)

    def _compute(
        self,
        predictions: Sequence[str],
        references: Sequence[Sequence[str]],
        labels: Sequence[str],
        negative: str | None = None,
        lost_gold: Mapping[str, int] | None = None,
    ) -> dict[str, float]:
        return metrics.relation_scores(references, predictions, labels, negative, lost_gold)


class Accuracy(evaluate.Metric):
    """Share of right labels."""

    def _info(self) -> evaluate.MetricInfo:
        return _info("Accuracy of labels.", {"predictions": _STRING, "references": _STRING})

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        return {"accuracy": metrics.accuracy(references, predictions)}


class MacroF1(evaluate.Metric):
    """Mean F1 over the classes in references or predictions."""

    def _info(self) -> evaluate.MetricInfo:
        return _info("Macro-F1 of labels.", {"predictions": _STRING, "references": _STRING})

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        return {"macro_f1": metrics.macro_f1(references, predictions)}


class PositiveF1(evaluate.Metric):
    """F1 of one class; keyword argument of `compute`: `positive`."""

    def _info(self) -> evaluate.MetricInfo:
        return _info("F1 of the positive class.", {"predictions": _STRING, "references": _STRING})

    def _compute(self, predictions: Sequence[str], references: Sequence[str], positive: str) -> dict[str, float]:
        return {"positive_f1": metrics.positive_f1(references, predictions, positive)}


class LabelSetF1(evaluate.Metric):
    """F1 values of label sets; keyword arguments of `compute`: `labels`, `documents`; see `label_set_scores`."""

    def _info(self) -> evaluate.MetricInfo:
        labels = datasets.List(_STRING)
        return _info("F1 of label sets, by document and by example.", {"predictions": labels, "references": labels})

    def _compute(
        self,
        predictions: Sequence[Sequence[str]],
        references: Sequence[Sequence[str]],
        labels: Sequence[str],
        documents: Sequence[str] | None = None,
    ) -> dict[str, float]:
        return metrics.label_set_scores(references, predictions, labels, documents)


def _from_tags(rows: Sequence[Sequence[str]]) -> list[list[Entity]]:
    return [[Entity(kind, ((first, end),)) for kind, first, end in decode_tags(tags)] for tags in rows]


def _from_spans(rows: Sequence[Sequence[Mapping[str, Any]]]) -> list[list[Entity]]:
    return [[Entity(item["type"], ((item["start"], item["end"]),)) for item in row] for row in rows]
