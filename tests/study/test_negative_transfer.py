from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from hf_crosstask.study.negative_transfer import (
    NegativeTransferPrediction,
    TransferRow,
    label_overlap,
    log_size_ratio,
    predict_negative_transfer,
    vocabulary_overlap,
)


def rows(tasks: int, effect: float, seed: int = 0) -> list[TransferRow]:
    """All ordered pairs of tasks; transfer rises with the overlap of the vocabularies by `effect`."""
    generator = np.random.default_rng(seed)
    found = []
    for source in range(tasks):
        for target in range(tasks):
            if source != target:
                overlap = generator.random()
                transfer = effect * (overlap - 0.5) + generator.normal(0, 0.01)
                found.append(
                    TransferRow(
                        (f"t{source}",), f"t{target}", generator.random(), overlap, generator.normal(), transfer
                    )
                )
    return found


def test_what_words_tell_is_found_on_tasks_left_out():
    found = predict_negative_transfer(rows(6, 0.2), renamings=39)
    assert found.skill > 0.7
    assert found.auc > 0.9
    assert found.p == 1 / 40
    assert found.mean_absolute_error < found.mean_absolute_error_of_mean
    assert max(found.coefficients, key=lambda name: abs(found.coefficients[name])) == "vocabulary_overlap"
    assert (found.tasks, found.rows, len(found.predicted)) == (6, 30, 30)
    assert NegativeTransferPrediction.model_validate(found.model_dump(mode="json")) == found


def test_where_nothing_tells_the_mean_is_as_good():
    found = [predict_negative_transfer(rows(6, 0.0, seed), renamings=9) for seed in range(6)]
    assert np.mean([each.skill for each in found]) < 0.05
    assert np.mean([each.p for each in found]) > 0.2


def test_a_task_left_out_is_in_no_row_that_was_learned_from():
    """Transfer known from the task's own rows alone must not be predicted."""
    base = [replace(row, transfer=1.0 if "t0" in (row.target, *row.sources) else 0.0) for row in rows(6, 0.0)]
    found = predict_negative_transfer(base, renamings=1)
    assert all(abs(value) < 1e-9 for name, value in found.predicted.items() if name.endswith("-> t0"))


def test_too_few_tasks_are_said_and_nothing_is_predicted():
    found = predict_negative_transfer(rows(4, 0.2))
    assert (found.predicted, found.skill, found.p) == (None, None, None)
    assert "4 tasks in 12 rows are too few" in found.note
    assert predict_negative_transfer([]).predicted is None


def test_one_sided_outcomes_have_no_auc():
    found = predict_negative_transfer([replace(row, transfer=abs(row.transfer)) for row in rows(5, 0.2)], renamings=1)
    assert (found.auc, found.negative) == (None, 0)
    assert set(found.probability_negative.values()) == {0.0}


def test_gradients_are_a_feature_where_every_row_has_them():
    known = [replace(row, gradient_cosine=row.transfer) for row in rows(5, 0.2)]
    assert "gradient_cosine" in predict_negative_transfer(known, renamings=1).features
    assert "gradient_cosine" not in predict_negative_transfer(rows(5, 0.2), renamings=1).features
    with pytest.raises(ValueError, match="to all or to none"):
        predict_negative_transfer([*known[:-1], rows(5, 0.2)[-1]])


def test_rows_that_are_not_all_pairs_have_no_p():
    assert predict_negative_transfer(rows(6, 0.2)[:-1], renamings=3).p is None


def test_features_of_tasks():
    assert label_overlap(["Gene", "Drug"], ["gene", "Disease"]) == pytest.approx(1 / 3)
    assert label_overlap([], []) == 0.0
    assert vocabulary_overlap({"a": 2, "b": 2}, {"a": 1, "b": 1}) == pytest.approx(1.0)
    assert vocabulary_overlap({"a": 2}, {"b": 1}) == pytest.approx(0.0)
    half = vocabulary_overlap({"a": 1, "b": 1}, {"b": 1, "c": 1})
    assert half == pytest.approx(0.5)
    assert vocabulary_overlap({"a": 1, "b": 3}, {"a": 2}) == vocabulary_overlap({"a": 2}, {"a": 1, "b": 3})
    with pytest.raises(ValueError, match="one has none"):
        vocabulary_overlap({"a": 1}, {})
    assert log_size_ratio(100, 10) == pytest.approx(math.log(10))
