"""Queries and their ranked candidates, scored as the shared task on community question answering scores them.

`official.cqa` has the semantics. The unit is the query: what is counted of one stands at its first candidate, so that
sums over whole queries hold each once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from hf_crosstask.evaluation.counts import CountTable, FloatArray, FromCounts
from hf_crosstask.evaluation.labels import most_frequent
from hf_crosstask.evaluation.official import cqa
from hf_crosstask.evaluation.predictions import Predictions, Query
from hf_crosstask.tasks.schema import RELEVANCE


def _value(metric: str, totals: FloatArray) -> FloatArray:
    return cqa.from_counts(totals)[metric]


METRICS: Mapping[str, FromCounts] = {
    metric: partial(_value, metric) for metric in ("map", "avg_rec", "mrr", "precision", "recall", "f1", "accuracy")
}


def _queries(predictions: Predictions) -> tuple[Query, ...]:
    if predictions.queries is None:
        raise ValueError("predictions of a ranking task carry the query and the rank of each candidate")
    return predictions.queries


def ranking_table(predictions: Predictions) -> CountTable:
    """Statistics `[candidates, 27]` of `official.cqa`, each query's at its first candidate.

    Candidates are ordered by their logit; one without a prediction comes last and counts as not relevant.
    """
    gold, guesses = [], []
    logits = predictions.logits if predictions.logits is not None else (None,) * len(predictions)
    rows = zip(_queries(predictions), predictions.ids, predictions.gold, predictions.predicted, logits, strict=True)
    for query, name, (label,), decision, logit in rows:
        gold.append(cqa.Candidate(query.id, name, query.rank, 0.0, label == RELEVANCE[1]))
        score = -np.inf if logit is None else float(logit[0])
        guesses.append(cqa.Candidate(query.id, name, 0, score, decision == RELEVANCE[1]))
    counted = cqa.query_counts(gold, guesses)
    first: dict[str, int] = {}
    for index, query in enumerate(_queries(predictions)):
        first.setdefault(query.id, index)
    per_example = np.zeros((len(predictions), counted.values.shape[1]))
    per_example[[first[query] for query in counted.units]] = counted.values
    return CountTable(per_example, np.zeros(per_example.shape[1:]))


def query_clusters(predictions: Predictions) -> Sequence[str]:
    """What a bootstrap draws: the candidates' `split_group` where no query has two of them, else their query."""
    group_of: dict[str, str] = {}
    for query, group in zip(_queries(predictions), predictions.split_groups, strict=True):
        if group_of.setdefault(query.id, group) != group:
            return [query.id for query in _queries(predictions)]
    return predictions.split_groups


def given_order(predictions: Predictions) -> Predictions:
    """The trivial ranking: candidates in the order they came in (a search engine's), all with the commoner label."""
    label = most_frequent(predictions.gold, RELEVANCE)
    ranks = [query.rank for query in _queries(predictions)]
    return replace(
        predictions,
        predicted=(label,) * len(ranks),
        confidence=(None,) * len(ranks),
        logits=tuple(np.array([-rank], dtype=np.float64) for rank in ranks),
    )
