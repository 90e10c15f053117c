"""Label counts against scikit-learn and by hand: negative class, several gold labels, no prediction."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_crosstask.evaluation import counts as c
from hf_crosstask.evaluation.labels import label_counts, most_frequent

LABELS = ("none", "x", "y", "z")
PAIRS = st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS)), min_size=1, max_size=40)


@given(PAIRS)
@settings(deadline=None, max_examples=200)
def test_equal_to_sklearn(pairs: list[tuple[str, str]]) -> None:
    from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score

    gold, predicted = [g for g, _ in pairs], [p for _, p in pairs]
    every = label_counts([(g,) for g in gold], predicted, LABELS).sum(axis=0)
    positive = label_counts([(g,) for g in gold], predicted, LABELS, negative="none").sum(axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert c.accuracy(every) == pytest.approx(accuracy_score(gold, predicted))
        assert c.macro_f1(every) == pytest.approx(f1_score(gold, predicted, average="macro"))
        for ours, theirs in ((c.precision, precision_score), (c.recall, recall_score), (c.f1, f1_score)):
            expected = theirs(gold, predicted, labels=["x", "y", "z"], average="micro", zero_division=0)
            assert ours(c.micro(positive)) == pytest.approx(expected)
            by_class = theirs(gold, predicted, labels=["x", "y", "z"], average=None, zero_division=0)
            np.testing.assert_allclose(ours(positive), by_class)


@pytest.mark.parametrize(
    ("gold", "predicted", "x", "y"),
    [
        (("x",), "x", [1, 0, 0, 0], [0, 0, 0, 0]),
        (("x",), "y", [0, 0, 1, 0], [0, 1, 0, 0]),
        (("x",), "none", [0, 0, 1, 0], [0, 0, 0, 0]),
        (("none",), "x", [0, 1, 0, 0], [0, 0, 0, 0]),
        (("none",), "none", [0, 0, 0, 0], [0, 0, 0, 0]),
        (("x", "y"), "y", [0, 0, 1, 0], [1, 0, 0, 0]),  # right, and the pair's other type is missed
        (("x", "y"), "z", [0, 0, 1, 0], [0, 0, 1, 0]),
        (("x",), None, [0, 0, 1, 0], [0, 0, 0, 0]),
    ],
)
def test_one_candidate_pair(gold: tuple[str, ...], predicted: str | None, x: list[int], y: list[int]) -> None:
    counts = label_counts([gold], [predicted], LABELS, negative="none")
    np.testing.assert_array_equal(counts[0, :2], [x, y])
    assert counts.shape == (1, 3, 4)


def test_no_prediction_is_a_wrong_classification() -> None:
    assert c.accuracy(label_counts([("x",), ("y",)], ["x", None], LABELS).sum(axis=0)) == 0.5


def test_unknown_labels_are_errors() -> None:
    for gold, predicted in ((("w",), "x"), (("x",), "w")):
        with pytest.raises(ValueError, match="'w' is not among"):
            label_counts([gold], [predicted], LABELS)


def test_most_frequent() -> None:
    assert most_frequent([("y",), ("y",), ("x",)], LABELS) == "y"
    assert most_frequent([("y",), ("x",)], LABELS) == "x"  # the first of the label set
    assert most_frequent([], LABELS) is None
