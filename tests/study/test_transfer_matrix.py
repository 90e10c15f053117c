from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from invented_runs import arm

from hf_crosstask.study.multibootstrap import multibootstrap
from hf_crosstask.study.transfer_matrix import TransferMatrix, negative_cells, shrink, transfer_matrix


def difference(level: float, task: str):
    arms = {"multi": arm("multi", level, task=task), "single": arm("single", 0.6, task=task)}
    return multibootstrap(arms, replicates=300).contrast("multi", "single").estimate()


def test_cells_keep_their_interval_and_are_pulled_to_the_mean():
    levels = {("a", "b"): 0.5, ("a", "c"): 0.6, ("b", "a"): 0.62, ("c", "a"): 0.7}
    matrix = transfer_matrix({pair: difference(level, pair[1]) for pair, level in levels.items()})
    for cell in matrix.cells:
        assert abs(cell.shrunken - matrix.mean) <= abs(cell.difference.estimate - matrix.mean)
        assert cell.shrunken_low < cell.shrunken < cell.shrunken_high
        assert cell.p_adjusted >= cell.difference.p
    assert negative_cells(matrix) == [("a", "b")]
    assert matrix.cell("c", "a").difference.estimate == pytest.approx(0.1, abs=0.02)
    assert TransferMatrix.model_validate(matrix.model_dump(mode="json")) == matrix
    with pytest.raises(KeyError):
        matrix.cell("a", "a")
    with pytest.raises(ValueError, match="at least one"):
        transfer_matrix({})


def test_the_eight_schools_of_the_textbook():
    """Rubin (1981); Bayesian Data Analysis, table 5.3: school A about 11 of its 28 points, all between 5 and 12."""
    values = np.array([28.0, 8, -3, 7, -1, 1, 18, 12])
    mean, between, posterior, spread = shrink(values, np.array([15.0, 10, 16, 11, 9, 11, 10, 18]) ** 2)
    assert mean == pytest.approx(8.0, abs=0.3)
    assert between == pytest.approx(6.6, abs=0.5)
    assert posterior[[0, 2, 4]] == pytest.approx([11.4, 6.3, 5.2], abs=0.4)
    assert spread[0] == pytest.approx(8.2, abs=0.5)


def test_one_value_is_its_own_posterior():
    mean, _, posterior, spread = shrink(np.array([0.3]), np.array([0.04]))
    assert (mean, posterior[0], spread[0]) == (pytest.approx(0.3), pytest.approx(0.3), pytest.approx(0.2))


def test_shrinking_lowers_the_error_and_its_intervals_cover():
    generator = np.random.default_rng(0)
    raw, shrunken, covered = [], [], []
    for _ in range(200):
        true = generator.normal(0.5, 1.0, 30)
        variances = generator.uniform(0.5, 3.0, 30)
        values = true + generator.normal(0, np.sqrt(variances))
        _, _, posterior, spread = shrink(values, variances)
        raw.append(((values - true) ** 2).mean())
        shrunken.append(((posterior - true) ** 2).mean())
        covered.append((np.abs(posterior - true) <= 1.96 * spread).mean())
    assert np.mean(shrunken) < 0.65 * np.mean(raw)
    assert 0.92 < np.mean(covered) < 0.96


@settings(max_examples=30)
@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(0, 1)), min_size=1, max_size=8))
def test_shrunken_values_stay_within_the_values(pairs):
    values, variances = (np.array(side) for side in zip(*pairs, strict=True))
    mean, between, posterior, spread = shrink(values, variances)
    assert values.min() - 1e-9 <= mean <= values.max() + 1e-9
    assert between >= 0
    assert (spread >= 0).all()
    assert (posterior >= values.min() - 1e-9).all()
    assert (posterior <= values.max() + 1e-9).all()
