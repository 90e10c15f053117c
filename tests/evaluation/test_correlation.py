"""Correlations of weighted examples against scipy's of the repeated ones; the scoring of similarity tasks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hf_crosstask.evaluation.bootstrap import percentile_interval, replicate_weights
from hf_crosstask.evaluation.correlation import weighted_pearson, weighted_ranks, weighted_spearman
from hf_crosstask.evaluation.official import similarity
from hf_crosstask.evaluation.predictions import Predictions, Target
from hf_crosstask.evaluation.scoring import scoring_for

TARGET = Target("pairs", "similarity", ())
PAIRS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 3)), min_size=2, max_size=25)


def predictions(gold: np.ndarray, guess: np.ndarray, groups: list[str] | None = None) -> Predictions:
    ids = tuple(f"e{index}" for index in range(len(gold)))
    return Predictions(
        TARGET,
        ids,
        ids if groups is None else tuple(groups),
        tuple((score,) for score in gold.tolist()),
        tuple(guess.tolist()),
        (None,) * len(ids),
    )


@given(PAIRS)
@settings(deadline=None)
def test_weights_are_copies(pairs: list[tuple[int, int, int]]) -> None:
    x, y, copies = (np.array(column, dtype=float) for column in zip(*pairs, strict=True))
    repeated = [np.repeat(column, copies.astype(int)) for column in (x, y)]
    if not copies.sum():
        return
    weights = np.stack([copies, np.ones_like(copies)])  # two replicates at once
    for function, theirs in ((weighted_pearson, stats.pearsonr), (weighted_spearman, stats.spearmanr)):
        ours = function(x, y, weights)
        for value, sides in zip(ours, (repeated, (x, y)), strict=True):
            if min(len(set(side)) for side in sides) > 1:
                assert value == pytest.approx(theirs(*sides).statistic, abs=1e-9)
            else:
                assert value == 0.0  # a constant
    ranks = weighted_ranks(x, copies)
    np.testing.assert_allclose(np.repeat(ranks, copies.astype(int)), stats.rankdata(repeated[0]))


@given(PAIRS)
@settings(deadline=None)
def test_scores_are_those_of_the_official_scorer(pairs: list[tuple[int, int, int]]) -> None:
    gold, guess, _ = (np.array(column, dtype=float) for column in zip(*pairs, strict=True))
    assert scoring_for(TARGET).score(predictions(gold, guess)) == pytest.approx(
        similarity.score(gold.tolist(), guess.tolist()), abs=1e-9
    )


def test_both_intervals_come_from_the_same_honest_replicates() -> None:
    """Every replicate's Spearman is that of the drawn pairs, ranked anew."""
    rng = np.random.default_rng(0)
    gold = rng.integers(0, 9, 20) / 2
    guess = gold + rng.normal(0, 1, 20)
    groups = [f"d{index // 2}" for index in range(20)]
    values = scoring_for(TARGET).evaluate(predictions(gold, guess, groups), replicates=50, seed=3)
    (weights,) = replicate_weights(groups, replicates=50, seed=3)
    assert (weights[:, ::2] == weights[:, 1::2]).all()  # whole documents are drawn
    assert set(weights.sum(axis=1)) == {20.0}
    for name, theirs in (("pearson", stats.pearsonr), ("spearman", stats.spearmanr)):
        drawn = [np.repeat(np.arange(20), row.astype(int)) for row in weights]
        expected = percentile_interval(np.array([theirs(gold[rows], guess[rows]).statistic for rows in drawn]))
        assert (values[name].low, values[name].high) == pytest.approx(expected, abs=1e-9)
        assert values[name].low < values[name].value < values[name].high


def test_intervals_of_twenty_pairs_are_wide() -> None:
    """BIOSSES: an r of 0.92 on 20 pairs has a 95 % interval of about 0.81 to 0.97 (Fisher)."""
    widths = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        gold = rng.normal(size=20)
        guess = 0.92 * gold + np.sqrt(1 - 0.92**2) * rng.normal(size=20)
        value = scoring_for(TARGET).evaluate(predictions(gold, guess), replicates=300, seed=seed)["pearson"]
        assert value.low is not None
        assert value.high is not None
        widths.append(value.high - value.low)
    assert 0.08 < np.median(widths) < 0.2


def test_order_and_scale_of_the_examples_do_not_matter() -> None:
    rng = np.random.default_rng(1)
    gold, guess = rng.normal(size=(2, 30))
    groups = [f"d{index // 3}" for index in range(30)]
    order = rng.permutation(30)
    scoring = scoring_for(TARGET)
    one = scoring.evaluate(predictions(gold, guess, groups), seed=1)
    for other in (
        scoring.evaluate(predictions(gold[order], guess[order], [groups[i] for i in order]), seed=1),
        scoring.evaluate(predictions(4 * gold, 100 + 0.5 * guess, groups), seed=1),
    ):
        for name, value in one.items():
            assert other[name].model_dump() == pytest.approx(value.model_dump(), abs=1e-9)


def test_a_constant_answer_has_no_correlation() -> None:
    some = predictions(np.arange(5.0), np.arange(5.0))
    assert scoring_for(TARGET).majority(some) == {"pearson": 0.0, "spearman": 0.0}
    assert scoring_for(TARGET).by_label(some) == {}


def test_a_file_keeps_scores(tmp_path: Path) -> None:
    some = predictions(np.array([0.0, 2.5, 4.0]), np.array([0.1, 3.0, 2.0]))
    again = Predictions.from_parquet(some.to_parquet(tmp_path / "p.parquet"))
    assert (again.gold, again.predicted, again.target) == (some.gold, some.predicted, some.target)
    assert scoring_for(again.target).score(again) == scoring_for(TARGET).score(some)


def test_a_missing_score_is_no_score() -> None:
    some = predictions(np.arange(2.0), np.arange(2.0))
    broken = Predictions(TARGET, some.ids, some.split_groups, some.gold, (0.5, None), some.confidence)
    with pytest.raises(ValueError, match="no predicted score"):
        scoring_for(TARGET).score(broken)


@given(st.lists(st.sampled_from("abcdef"), min_size=2, max_size=30), st.integers(1, 40), st.integers(1, 300))
@settings(deadline=None)
def test_weights_do_not_depend_on_the_chunk(clusters: list[str], replicates: int, chunk: int) -> None:
    if len(set(clusters)) < 2:
        with pytest.raises(ValueError, match="at least two clusters"):
            list(replicate_weights(clusters, replicates=replicates, seed=0))
        return
    whole = np.concatenate(list(replicate_weights(clusters, replicates=replicates, seed=5)))
    parts = np.concatenate(list(replicate_weights(clusters, replicates=replicates, seed=5, chunk=chunk)))
    np.testing.assert_array_equal(whole, parts)
    assert whole.shape == (replicates, len(clusters))
    for name in set(clusters):
        columns = whole[:, [index for index, other in enumerate(clusters) if other == name]]
        assert (columns == columns[:, :1]).all()
