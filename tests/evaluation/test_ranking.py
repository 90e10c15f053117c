"""Rankings against the official scorer, over queries in any order; bootstrap over queries."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_crosstask.evaluation.official import cqa
from hf_crosstask.evaluation.predictions import Predictions, Query, Target
from hf_crosstask.evaluation.ranking import query_clusters, ranking_table
from hf_crosstask.evaluation.scoring import scoring_for

TARGET = Target("forum", "ranking", ("false", "true"))
#: Query, relevance, score (with ties), rank of the search engine.
ROWS = st.lists(
    st.tuples(st.sampled_from("pqrs"), st.booleans(), st.integers(-3, 3), st.integers(1, 99)), min_size=1, max_size=60
)


def predictions(rows: list[tuple[str, bool, float, int]], groups: list[str] | None = None) -> Predictions:
    scores = [float(score) for _, _, score, _ in rows]
    return Predictions(
        TARGET,
        tuple(f"c{index}" for index in range(len(rows))),
        tuple(query for query, *_ in rows) if groups is None else tuple(groups),
        tuple(("true" if relevant else "false",) for _, relevant, _, _ in rows),
        tuple("true" if score > 0 else "false" for score in scores),
        (0.5,) * len(rows),
        logits=tuple(np.array([score], dtype=np.float32) for score in scores),
        queries=tuple(Query(query, rank) for query, _, _, rank in rows),
    )


def random_rows(queries: int, seed: int = 0) -> list[tuple[str, bool, float, int]]:
    rng = random.Random(seed)
    rows = []
    for query in range(queries):
        for rank in range(1, rng.randint(4, 15)):
            relevant = rng.random() < 0.4
            rows.append((f"q{query}", relevant, rng.gauss(1.0 if relevant else -0.5, 1.5), rank))
    return rows


@given(ROWS)
@settings(deadline=None)
def test_scores_are_the_official_ones(rows: list[tuple[str, bool, int, int]]) -> None:
    gold = [cqa.Candidate(q, str(i), rank, 0.0, right) for i, (q, right, _, rank) in enumerate(rows)]
    guess = [cqa.Candidate(q, str(i), 0, float(score), score > 0) for i, (q, _, score, _) in enumerate(rows)]
    assert scoring_for(TARGET).score(predictions(rows)) == pytest.approx(cqa.score(gold, guess), abs=1e-12)


def test_average_precision_by_hand() -> None:
    """Relevant at ranks 1 and 3, and in another query at rank 2; a third query has nothing relevant."""
    rows = [("p", True, 3.0, 1), ("p", False, 2.0, 2), ("p", True, 1.0, 3)]
    rows += [("q", True, 0.5, 1), ("q", False, 0.9, 2), ("r", False, 1.0, 1)]
    values = scoring_for(TARGET).score(predictions(rows))
    assert values["map"] == pytest.approx(((1 + 2 / 3) / 2 + 1 / 2 + 0) / 3)
    assert values["mrr"] == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert values["accuracy"] == pytest.approx(3 / 6)


def test_intervals_come_from_whole_queries() -> None:
    some = predictions(random_rows(60))
    scoring = scoring_for(TARGET)
    for name, value in scoring.evaluate(some, seed=1).items():
        assert value.low is not None
        assert value.high is not None
        assert value.low < value.value < value.high, name
    table = ranking_table(some)
    assert (table.per_example[:, 0] > 0).sum() == 60  # a query's statistics stand once, at its first candidate
    # Half of the queries twice is the same as those queries alone: MAP is a mean over queries.
    half = predictions([row for row in random_rows(60) if int(row[0][1:]) < 30])
    assert scoring.from_counts("map", 2 * ranking_table(half).total()) == pytest.approx(scoring.score(half)["map"])


def test_clusters_are_split_groups_unless_they_tear_a_query() -> None:
    rows = random_rows(4)
    whole = [f"thread{int(query[1:]) // 2}" for query, *_ in rows]
    assert query_clusters(predictions(rows, whole)) == tuple(whole)
    torn = [str(index) for index in range(len(rows))]
    assert query_clusters(predictions(rows, torn)) == [query for query, *_ in rows]
    values = scoring_for(TARGET).evaluate(predictions(rows, torn), seed=0)
    by_query = scoring_for(TARGET).evaluate(predictions(rows), seed=0)
    assert values == by_query


def test_the_trivial_ranking_is_the_one_that_came_with_the_data() -> None:
    rows = random_rows(20)
    engine = [(query, relevant, -float(rank), rank) for query, relevant, _, rank in rows]
    majority, as_engine = (
        scoring_for(TARGET).majority(predictions(rows)),
        scoring_for(TARGET).score(predictions(engine)),
    )
    for name in ("map", "avg_rec", "mrr"):
        assert majority[name] == as_engine[name]
    assert majority["recall"] == 0.0  # the commoner label is "false"
    assert majority["accuracy"] == pytest.approx(sum(not relevant for _, relevant, _, _ in rows) / len(rows))


def test_a_file_keeps_queries(tmp_path: Path) -> None:
    some = predictions(random_rows(5))
    again = Predictions.from_parquet(some.to_parquet(tmp_path / "p.parquet"))
    assert again.queries == some.queries
    assert scoring_for(again.target).score(again) == scoring_for(TARGET).score(some)


def test_candidates_without_a_prediction_come_last() -> None:
    rows = [("p", True, 1.0, 1), ("p", False, 2.0, 2)]
    some = predictions(rows)
    none: dict[str, Any] = {"predicted": (None, None), "logits": (None, None)}
    assert scoring_for(TARGET).score(replace(some, **none))["map"] == 1.0  # the order of the file
    assert scoring_for(TARGET).score(replace(some, **none))["recall"] == 0.0
    with pytest.raises(ValueError, match="carry the query"):
        scoring_for(TARGET).score(replace(some, queries=None))
