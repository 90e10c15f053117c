"""A scorer turns the model's logits on one task's examples into predictions, and predictions into values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hf_crosstask.errors import CrosstaskError, InputError, unknown_name
from hf_crosstask.evaluation.answers import AnswerDecoder
from hf_crosstask.evaluation.decoding import Decoder, LabelDecoder, TagDecoder
from hf_crosstask.evaluation.list_decoding import CandidateDecoder, ChoiceDecoder
from hf_crosstask.evaluation.predictions import Predictions, Target
from hf_crosstask.evaluation.relation_pairs import PairFiller
from hf_crosstask.evaluation.result import MetricValue
from hf_crosstask.evaluation.scoring import Scoring, scoring_for
from hf_crosstask.evaluation.set_decoding import LabelSetDecoder, ScoreDecoder
from hf_crosstask.evaluation.slots import SlotFiller, slot_names
from hf_crosstask.evaluation.span_decoding import SpanDecoder
from hf_crosstask.tasks.card import TaskCard
from hf_crosstask.tasks.schema import TaskType

if TYPE_CHECKING:
    from datasets import Dataset

#: How each task type's logits become predictions; a task type is added by one entry here and one in `SCORINGS`.
DECODERS: dict[TaskType, Callable[[TaskCard, Target, Dataset, Dataset], Decoder]] = {
    "ner": TagDecoder,
    "span_ner": SpanDecoder,
    "relation": LabelDecoder,
    "classification": LabelDecoder,
    "multilabel": LabelSetDecoder,
    "similarity": ScoreDecoder,
    "ranking": CandidateDecoder,
    "multiple_choice": ChoiceDecoder,
    "generation": AnswerDecoder,
}

#: Task types that decide by a threshold, which the validation split chooses.
WITH_THRESHOLD: frozenset[TaskType] = frozenset({"multilabel"})


def _complete(predictions: Predictions) -> Predictions:
    """Nothing to add."""
    return predictions


@dataclass(frozen=True)
class Scorer:
    """Decodes and scores one task on one set of examples; made by `build_scorer`.

    Attributes:
        card: the task; `card.primary_metric` is one of the metrics.
        scoring: from predictions to values, usable without the examples.
        decoder: from logits to predictions.
        complete: adds to predictions what an official scorer compares besides.
    """

    card: TaskCard
    scoring: Scoring
    decoder: Decoder
    complete: Callable[[Predictions], Predictions] = _complete

    def decode(self, logits: Sequence[NDArray[np.float32]]) -> Predictions:
        """Predictions, one for each example in example order.

        Args:
            logits: one array for each encoded row: `[length, tags]` for `ner`, `[words, reach, 1 + labels]` for
                `span_ner`, `[1]` for `similarity`, one number a choice or candidate for
                `multiple_choice` and `ranking`, `[labels]` for the others.

        Raises:
            CrosstaskError: a logit is not a finite number (the model diverged).
            ValueError: the arrays do not fit the encoded rows or the labels.
        """
        self._check(logits)
        return self.complete(self.decoder.decode(logits))

    def read(self, answers: Sequence[str], likelihoods: Sequence[NDArray[np.float32]]) -> Predictions:
        """Predictions of a generative task, one for each example in example order.

        Args:
            answers: what was generated for each example.
            likelihoods: [2] log-likelihood of each example's right answer, and its tokens.

        Raises:
            CrosstaskError: a likelihood is not a finite number (the model diverged).
            ValueError: the task is not generative, or the numbers of rows differ.
        """
        if not isinstance(self.decoder, AnswerDecoder):
            raise ValueError(f"task {self.card.name!r} has a head: decode its logits")
        self._check(likelihoods)
        return self.complete(self.decoder.read(answers, likelihoods))

    def with_best_threshold(self, logits: Sequence[NDArray[np.float32]]) -> Scorer:
        """The scorer with the threshold at which the primary metric is highest on these examples.

        The scorer itself where the task decides without a threshold (see `WITH_THRESHOLD`). What it then says of the
        same examples is too good; use it to choose between models, and `with_threshold` to score other examples.

        Args, Raises: as for `decode`.
        """
        if not isinstance(self.decoder, LabelSetDecoder):
            return self
        self._check(logits)
        return self.with_threshold(self.decoder.best_threshold(logits, self.card.primary_metric))

    def with_threshold(self, threshold: float) -> Scorer:
        """The scorer with another threshold.

        Raises:
            ValueError: the task decides without one.
        """
        if not isinstance(self.decoder, LabelSetDecoder):
            raise ValueError(f"task {self.card.name!r} of type {self.card.type} decides without a threshold")
        return replace(self, decoder=self.decoder.at(threshold))

    @property
    def threshold(self) -> float | None:
        """The threshold of decisions; None where there is none."""
        return self.decoder.threshold if isinstance(self.decoder, LabelSetDecoder) else None

    def _check(self, logits: Sequence[NDArray[np.float32]]) -> None:
        if len(logits) != len(self.decoder.example_index):
            raise ValueError(f"{len(logits)} arrays of logits for {len(self.decoder.example_index)} encoded rows")
        if not all(np.isfinite(array).all() for array in logits):
            raise CrosstaskError(
                f"task {self.card.name!r}: the model's logits are not all finite numbers, so there is nothing to score; "
                "the training diverged (lower the learning rate, or use bf16 or fp32 instead of fp16)"
            )

    def score(self, predictions: Predictions) -> dict[str, float]:
        """Every metric's value, in [0, 1]; correlations in [-1, 1]."""
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
        return self.scoring.majority(self.complete(self.decoder.references))


def build_scorer(
    card: TaskCard,
    examples: Dataset,
    encoded_rows: Dataset,
    lost_gold: Mapping[str, int],
    *,
    train: Dataset | None = None,
) -> Scorer:
    """The scorer of a task on a set of examples.

    Args:
        card: the task.
        examples: rows of the unified schema.
        encoded_rows: what `encode_task` made of them; several rows may share an example (windows).
        lost_gold: label to the number of gold annotations that no example carries; they count as false negatives.
        train: the training examples, which fill in what an official scorer wants besides spans and types (`slots`).

    Raises:
        InputError: the task type cannot be scored, or the card's primary metric does not exist for it.
    """
    target = Target.of(card, lost_gold)
    scoring = scoring_for(target)
    form = AnswerDecoder if card.formulation == "generative" else DECODERS[card.type]
    decoder = form(card, target, examples, encoded_rows)
    complete: Callable[[Predictions], Predictions] = _complete
    if card.official is not None and card.type == "relation":
        complete = PairFiller(examples)
    elif card.official is not None and slot_names(card.official):
        if train is None:
            raise InputError(f"task {card.name!r}: the official scorer {card.official} needs the training examples")
        complete = SlotFiller(examples, train, card.official)
    metrics = scoring.names(decoder.references)
    if card.primary_metric not in metrics:
        why = unknown_name("primary_metric", card.primary_metric, metrics)
        if card.primary_metric in scoring.only_with_alternatives:
            why = f"{card.primary_metric!r} needs acceptable alternatives, and these examples carry none"
        raise InputError(f"task {card.name!r}: {why}")
    return Scorer(card, scoring, decoder, complete)
