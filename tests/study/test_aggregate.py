from __future__ import annotations

import pytest

from hf_crosstask.study.aggregate import normalised_aggregate, relative_gain, tokens_per_point, win_tie_loss


def test_wins_ties_and_losses_are_counted_by_their_intervals():
    found = win_tie_loss([(0.01, 0.03), (-0.01, 0.02), (-0.04, -0.01), (0.0, 0.1)])
    assert (found.wins, found.ties, found.losses) == (1, 2, 1)
    assert win_tie_loss([(0.1, 0.1), (0.0, 0.0)]).model_dump() == {"wins": 1, "ties": 1, "losses": 0}


def test_a_normalised_score_is_the_share_of_the_way_from_trivial_to_perfect():
    assert normalised_aggregate({"a": 0.75, "b": 0.5}, {"a": 0.5, "b": 0.0}) == 0.5
    assert normalised_aggregate({"a": 0.75}, {"a": 0.5}, {"a": 0.75}) == 1.0
    with pytest.raises(ValueError, match="no floor"):
        normalised_aggregate({"a": 0.75}, {})
    with pytest.raises(ValueError, match="not below"):
        normalised_aggregate({"a": 0.75}, {"a": 1.0})
    with pytest.raises(ValueError, match="no tasks"):
        normalised_aggregate({}, {})


def test_relative_gains_are_averaged_over_tasks():
    assert relative_gain({"a": 0.6, "b": 0.4}, {"a": 0.5, "b": 0.5}) == pytest.approx(0.0)
    with pytest.raises(ValueError, match="above 0"):
        relative_gain({"a": 0.6}, {"a": 0.0})


def test_a_point_has_a_price_only_where_one_was_gained():
    assert tokens_per_point(1_000_000, 0.82, 0.80) == pytest.approx(500_000)
    assert tokens_per_point(1_000_000, 0.80, 0.80) is None
