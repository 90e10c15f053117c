"""Statistics per unit, and their use in the cluster bootstrap."""

from __future__ import annotations

import numpy as np
import pytest

from hf_crosstask.evaluation.bootstrap import percentile_interval, replicate_totals
from hf_crosstask.evaluation.official import share2014
from hf_crosstask.evaluation.official.base import UnitCounts, data_lines, harmonic, offset, precision_recall_f1
from hf_crosstask.evaluation.official.share2014 import Disorder


def test_a_bootstrap_over_documents() -> None:
    gold = [Disorder(f"d{index}", "C1", ((0, 4),)) for index in range(40)]
    counts = share2014.document_counts(gold, gold[:30])
    totals = replicate_totals(counts.table(), counts.units, replicates=500, seed=1)
    values = share2014.from_counts(totals)["strict_recall"]
    low, high = percentile_interval(values)
    assert values.shape == (500,)
    assert low < share2014.score(gold, gold[:30])["strict_recall"] == 0.75 < high
    assert (low, high) == (pytest.approx(0.61, abs=0.03), pytest.approx(0.88, abs=0.03))


def test_ratios_with_nothing_in_their_denominator() -> None:
    values = precision_recall_f1(np.array([[0.0, 0, 0], [0, 2, 0], [0, 0, 3], [1, 1, 3]]), "x")
    assert values["x_precision"].tolist() == [0, 0, 0, 0.5]
    assert values["x_recall"].tolist() == [0, 0, 0, 0.25]
    assert values["x_f1"].tolist() == [0, 0, 0, pytest.approx(1 / 3)]
    assert float(harmonic(np.array(0.0), np.array(0.0))) == 0.0


def test_a_table_has_a_name_for_each_row() -> None:
    with pytest.raises(ValueError, match="1 units but 2 rows"):
        UnitCounts(("a",), np.zeros((2, 3)))


def test_lines_of_any_platform() -> None:
    assert list(data_lines("\ufeffa\r\n\n  \nb\tc ")) == [(1, "a"), (4, "b\tc ")]


@pytest.mark.parametrize("text", ["", "-1", "+1", "1_0", " 1", "1.0", "²", "١"])
def test_offsets_are_digits(text: str) -> None:
    with pytest.raises(ValueError, match="is not an offset"):
        offset(text)
    assert offset("010") == 10
