"""A scorer turns the model's logits on one task's examples into predictions, and predictions into values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hf_crosstask.errors import CrosstaskError, InputError, unknown_name
from hf_crosstask.evaluation.decoding import Decoder, LabelDecoder, TagDecoder
from hf_crosstask.evaluation.predictions import Predictions, Target
from hf_crosstask.evaluation.result import MetricValue
from hf_crosstask.evaluation.scoring import Scoring, scoring_for
from hf_crosstask.tasks.card import TaskCard
from hf_crosstask.tasks.schema import TaskType

if TYPE_CHECKING:
    from datasets import Dataset

#: How each task type's logits become predictions; a task type is added by one entry here and one in `SCORINGS`.
DECODERS: dict[TaskType, Callable[[TaskCard, Target, Dataset, Dataset], Decoder]] = {
    "ner": TagDecoder,
    "relation": LabelDecoder,
    "classification": LabelDecoder,
}


@dataclass(frozen=True)
class Scorer:
    """Decodes and scores one task on one set of examples; made by `build_scorer`.

    Attributes:
        card: the task; `card.primary_metric` is one of the metrics.
        scoring: from predictions to values, usable without the examples.
        decoder: from logits to predictions.
    """

    card: TaskCard
    scoring: Scoring
    decoder: Decoder

    def decode(self, logits: Sequence[NDArray[np.float32]]) -> Predictions:
        """Predictions, one for each example in example order.

        Args:
            logits: one array for each encoded row: `[length, tags]` for `ner`, `[labels]` for the others.

        Raises:
            CrosstaskError: a logit is not a finite number (the model diverged).
            ValueError: the arrays do not fit the encoded rows or the labels.
        """
        if len(logits) != len(self.decoder.example_index):
            raise ValueError(f"{len(logits)} arrays of logits for {len(self.decoder.example_index)} encoded rows")
        if not all(np.isfinite(array).all() for array in logits):
            raise CrosstaskError(
                f"task {self.card.name!r}: the model's logits are not all finite numbers, so there is nothing to score; "
                "the training diverged (lower the learning rate, or use bf16 or fp32 instead of fp16)"
            )
        return self.decoder.decode(logits)

    def score(self, predictions: Predictions) -> dict[str, float]:
        """Every metric's value, in [0, 1]."""
        return self.scoring.score(predictions)

    def interval(
        self, predictions: Predictions, metric: str, *, replicates: int = 1000, seed: int, level: float = 0.95
    ) -> tuple[float, float]:
        """Percentile bootstrap interval of a metric over `split_group` clusters; see `Scoring.interval`."""
        return self.scoring.interval(predictions, metric, replicates=replicates, seed=seed, level=level)

    def evaluate(
        self, predictions: Predictions, *, replicates: int = 1000, seed: int, level: float = 0.95
    ) -> dict[str, MetricValue]:
        """Every metric's value with its interval (null where there is one cluster); see `Scoring.evaluate`."""
        return self.scoring.evaluate(predictions, replicates=replicates, seed=seed, level=level)

    def majority(self) -> dict[str, float]:
        """The trivial predictor's values on these examples; see `Scoring.majority`."""
        return self.scoring.majority(self.decoder.references)


def build_scorer(card: TaskCard, examples: Dataset, encoded_rows: Dataset, lost_gold: Mapping[str, int]) -> Scorer:
    """The scorer of a task on a set of examples.

    Args:
        card: the task.
        examples: rows of the unified schema.
        encoded_rows: what `encode_task` made of them; several rows may share an example (windows).
        lost_gold: label to the number of gold annotations that no example carries; they count as false negatives.

    Raises:
        InputError: the task type cannot be scored, or the card's primary metric does not exist for it.
    """
    target = Target.of(card, lost_gold)
    scoring = scoring_for(target)
    decoder = DECODERS[card.type](card, target, examples, encoded_rows)
    metrics = scoring.names(decoder.references)
    if card.primary_metric not in metrics:
        why = unknown_name("primary_metric", card.primary_metric, metrics)
        if card.primary_metric in scoring.metrics:
            why = f"{card.primary_metric!r} needs acceptable alternatives, and these examples carry none"
        raise InputError(f"task {card.name!r}: {why}")
    return Scorer(card, scoring, decoder)
