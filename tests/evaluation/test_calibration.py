"""Calibration against hand-worked values, torchmetrics' definition, and what must hold of any predictions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_crosstask.evaluation.calibration import (
    Decisions,
    calibration,
    decisions,
    ece,
    ece_debiased,
    reliability,
    risk_coverage,
    temperature,
)
from hf_crosstask.evaluation.entities import Entity
from hf_crosstask.evaluation.errors import (
    confusions,
    entity_errors,
    label_set_errors,
    wrong_examples,
    wrong_in_all,
)
from hf_crosstask.evaluation.predictions import Predictions, Target


def array(*values: float) -> np.ndarray:
    return np.asarray(values, dtype=np.float64)


def test_ece_by_hand():
    # bins of .5: (.4: 1 of 2 right) and (.9, .8: 1 of 2 right, mean .85)
    confidence, right = array(0.4, 0.4, 0.9, 0.8), array(1, 0, 1, 0)
    assert ece(confidence, right, bins=2) == pytest.approx(0.5 * abs(0.5 - 0.4) + 0.5 * abs(0.5 - 0.85))
    assert ece(array(1.0, 1.0), array(1, 1)) == 0, "1.0 is in the last bin, not beyond it"
    assert ece(array(0.0), array(0)) == 0
    assert reliability(confidence, right, bins=2) == [(0.4, 0.5, 2), (pytest.approx(0.85), 0.5, 2)]


def test_a_weight_counts_like_a_copy():
    confidence, right = array(0.2, 0.7, 0.9), array(0, 1, 0)
    copies = [0, 0, 1, 2, 2, 2]
    assert ece(confidence, right, weights=array(2, 1, 3)) == pytest.approx(ece(confidence[copies], right[copies]))


def test_debiasing_takes_the_noise_of_small_samples_out():
    generator = np.random.default_rng(0)
    plain, debiased = [], []
    for _ in range(200):
        confidence = generator.uniform(0.5, 1, 150)
        right = (generator.uniform(size=150) < confidence).astype(float)
        plain.append(ece(confidence, right))
        debiased.append(ece_debiased(confidence, right))
    assert np.mean(plain) > 0.06, "perfectly calibrated, and yet"
    assert np.mean(debiased) < 0.6 * np.mean(plain)
    assert ece_debiased(np.full(2000, 0.9), np.repeat([1.0, 0.0], 1000)) == pytest.approx(0.4, abs=0.01)


def test_risk_coverage_by_hand():
    area, best = risk_coverage(array(0.9, 0.8, 0.7), array(0, 1, 1))
    assert area == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)
    assert best == pytest.approx((0 + 0 + 1 / 3) / 3)
    area, _ = risk_coverage(array(0.5, 0.5), array(1, 0))
    assert area == 0.5, "equal confidence says nothing about the order"


@given(
    st.lists(st.tuples(st.floats(0, 1), st.booleans(), st.sampled_from("abc")), min_size=1, max_size=60),
)
def test_what_holds_of_all(rows):
    confidence, right, clusters = zip(*rows, strict=True)
    made = Decisions(np.asarray(confidence), np.asarray(right, float), clusters, 0)
    value = calibration(made, replicates=20)
    assert 0 <= value.ece <= 1
    assert value.ece >= abs(value.accuracy - value.confidence) - 1e-9
    assert value.excess_aurc >= -1e-9
    assert 0 <= value.brier <= 1
    if value.ece_low is not None:
        assert value.ece_low <= value.ece_high


def test_temperature_undoes_scaling():
    generator = np.random.default_rng(1)
    logits = generator.normal(size=(4000, 3)) * 2
    shifted = logits - logits.max(-1, keepdims=True)
    probabilities = np.exp(shifted) / np.exp(shifted).sum(-1, keepdims=True)
    gold = np.array([generator.choice(3, p=row) for row in probabilities])
    assert temperature(logits * 3, gold) == pytest.approx(3, rel=0.1)


def entities() -> Predictions:
    gene, drug = Entity("Gene", ((0, 4),)), Entity("Drug", ((10, 14),))
    return Predictions(
        target=Target("t", "ner", ("Gene", "Drug")),
        ids=("1", "2", "3"),
        split_groups=("a", "a", "b"),
        gold=((gene, drug), (gene,), (drug,)),
        predicted=(
            (gene, Entity("Gene", ((10, 14),))),
            (Entity("Gene", ((0, 6),)), Entity("Drug", ((20, 22),))),
            (Entity("Gene", ((8, 12),)),),
        ),
        confidence=((0.9, 0.8), (0.7, 0.6), (0.5,)),
    )


def test_entities_are_judged_where_predicted_and_missed_ones_counted():
    made = decisions(entities())
    assert made is not None
    assert made.right.tolist() == [1, 0, 0, 0, 0]
    assert made.missed == 3


def test_entity_errors_by_kind():
    assert entity_errors(entities()) == {
        "right": 1,
        "wrong type": 1,
        "wrong boundary": 1,
        "wrong type and boundary": 1,
        "spurious": 1,
        "missed": 0,
    }
    assert wrong_examples(entities()) == {"1", "2", "3"}


def test_errors_of_labels_and_sets():
    one = Predictions(
        Target("t", "classification", ("x", "y")), ("1", "2"), ("a", "b"), (("x",), ("y",)), ("x", "x"), (0.9, 0.6)
    )
    assert confusions(one) == {("x", "x"): 1, ("y", "x"): 1}
    assert wrong_in_all([wrong_examples(one), {"2", "1"}]) == {"2"}
    many = Predictions(Target("t", "multilabel", ("x", "y")), ("1",), ("a",), (("x",),), (("x", "y"),), ((0.9, 0.6),))
    assert label_set_errors(many) == {"x": (1, 0, 0), "y": (0, 1, 0)}
    assert wrong_examples(many) == {"1"}


def test_scores_have_no_confidence():
    scores = Predictions(Target("t", "similarity", ()), ("1",), ("a",), ((0.5,),), (0.4,), (None,))
    assert decisions(scores) is None
    assert wrong_examples(scores) == set()
