"""Metrics of generated answers: ROUGE F1, corpus BLEU, perplexity of the right answer, and how many could be read."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hf_crosstask.evaluation.counts import CountTable, FloatArray, FromCounts, ratio
from hf_crosstask.evaluation.official import bleu, perplexity, rouge
from hf_crosstask.evaluation.predictions import Predictions

_ROUGE, _BLEU, _PERPLEXITY = slice(0, 10), slice(10, 20), slice(20, 22)

METRICS: Mapping[str, FromCounts] = {
    "rouge_1": lambda totals: rouge.from_counts(totals[..., _ROUGE])["rouge1_f1"],
    "rouge_2": lambda totals: rouge.from_counts(totals[..., _ROUGE])["rouge2_f1"],
    "rouge_l": lambda totals: rouge.from_counts(totals[..., _ROUGE])["rougeL_f1"],
    "bleu": lambda totals: bleu.from_counts(totals[..., _BLEU])["bleu"],
    "perplexity": lambda totals: perplexity.from_counts(totals[..., _PERPLEXITY])["perplexity"],
}
#: Metrics that need what only a model's own predictions carry.
OF_ANSWERS = frozenset({"perplexity", "parse_failure_rate"})


def answer_table(predictions: Predictions) -> CountTable:
    """Statistics `[examples, 22]` of ROUGE, BLEU and perplexity (0 without answers)."""
    gold = [answer for (answer,) in predictions.gold]
    predicted = [answer or "" for answer in predictions.predicted]
    losses = np.zeros((len(gold), 2))
    if predictions.answers is not None:
        likelihoods = [-answer.log_likelihood for answer in predictions.answers]
        losses = perplexity.example_counts(likelihoods, [answer.tokens for answer in predictions.answers]).values
    values = [rouge.example_counts(gold, predicted).values, bleu.example_counts(gold, predicted).values, losses]
    return CountTable(np.concatenate(values, axis=1), np.zeros(22))


def parse_failure_rate(predictions: Predictions, weights: FloatArray) -> FloatArray:
    """Share of answers that could not be read, under weights `[..., examples]`."""
    if predictions.answers is None:
        raise ValueError(f"task {predictions.target.task!r}: the predictions carry no answers")
    failed = np.array([not answer.parsed for answer in predictions.answers], dtype=np.float64)
    return ratio(weights @ failed, weights.sum(axis=-1))
