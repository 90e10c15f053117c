"""Values from summed counts: hand-computed references, conventions at zero, broadcasting."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hf_crosstask.evaluation import counts as c
from hf_crosstask.evaluation.counts import CountTable

COUNTS = arrays(np.int64, (5, 3, 4), elements=st.integers(0, 9)).map(lambda a: a.astype(float))


def test_values_by_hand() -> None:
    counts = np.array([3.0, 1.0, 2.0, 4.0])  # tp fp fn lost
    assert c.precision(counts) == pytest.approx(3 / 4)
    assert c.recall(counts) == pytest.approx(3 / 9)
    assert c.f1(counts) == pytest.approx(2 * (3 / 4) * (3 / 9) / (3 / 4 + 3 / 9))
    assert c.f1(counts[: c.LOST]) == pytest.approx(2 * 3 / (2 * 3 + 1 + 2))


def test_chemprot_official_example() -> None:
    """The evaluation kit's sample submission: TP 121, P .852113, R .506276, F .635171 (data.md, section 12)."""
    counts = np.array([121.0, 142 - 121, 239 - 121, 0.0])
    assert c.precision(counts) == pytest.approx(0.852113, abs=5e-7)
    assert c.recall(counts) == pytest.approx(0.506276, abs=5e-7)
    assert c.f1(counts) == pytest.approx(0.635171, abs=5e-7)


def test_nothing_predicted_and_nothing_gold_is_zero() -> None:
    for value in (c.precision, c.recall, c.f1):
        assert value(np.zeros(4)) == 0.0
    assert c.macro_f1(np.zeros((3, 4))) == 0.0


def test_macro_leaves_out_absent_classes_only() -> None:
    perfect, missed, absent = [2.0, 0, 0, 0], [0, 0, 1.0, 0], [0.0, 0, 0, 0]
    assert c.macro_f1(np.array([perfect, missed, absent])) == pytest.approx(0.5)
    only_lost = [0, 0, 0, 1.0]
    assert c.macro_f1(np.array([perfect, only_lost])) == pytest.approx(0.5)


@given(COUNTS)
def test_leading_axes_broadcast(batch: np.ndarray) -> None:
    for value in (c.macro_f1, c.accuracy, lambda a: c.f1(c.micro(a)), lambda a: c.precision(c.micro(a))):
        np.testing.assert_array_equal(value(batch), [value(single) for single in batch])
        assert ((value(batch) >= 0) & (value(batch) <= 1)).all()


def test_total_adds_the_constant_once() -> None:
    table = CountTable(np.ones((6, 2, 4)), np.full((2, 4), 0.5))
    np.testing.assert_array_equal(table.total(), np.full((2, 4), 6.5))
    with pytest.raises(ValueError, match="do not fit"):
        CountTable(np.ones((6, 2, 4)), np.zeros((3, 4)))


def test_lost_constant() -> None:
    constant = c.lost_constant({"b": 3}, ["a", "b"])
    assert constant[1, c.LOST] == 3
    assert constant.sum() == 3
    with pytest.raises(ValueError, match="'z', which is not among"):
        c.lost_constant({"z": 1}, ["a", "b"])
    with pytest.raises(ValueError, match="is -1"):
        c.lost_constant({"a": -1}, ["a"])


def test_label_report_counts_lost_gold_as_support() -> None:
    report = c.label_report(np.array([[1.0, 1, 2, 3]]), ["a"])
    assert report == {"a": {"precision": 0.5, "recall": 1 / 6, "f1": 2 / (2 + 1 + 5), "support": 6}}
