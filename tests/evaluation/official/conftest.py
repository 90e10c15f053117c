"""What every scorer's statistics must satisfy."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from hf_crosstask.evaluation.official.base import UnitCounts, Values


def _check(table: UnitCounts, from_counts: Callable[[np.ndarray], Values], expected: Mapping[str, float]) -> None:
    """The values come from the sum alone, and broadcast over leading axes as over single sums."""
    total = table.total()
    weights = np.random.default_rng(0).multinomial(
        len(table.units), np.ones(len(table.units)) / len(table.units), (2, 3)
    )
    stacked = weights.astype(float) @ table.values
    together = from_counts(stacked)
    for name, value in from_counts(total).items():
        if name in expected:
            assert float(value) == pytest.approx(expected[name], abs=1e-12), name
        assert together[name].shape == (2, 3), name
        for index in np.ndindex(2, 3):
            assert together[name][index] == pytest.approx(float(from_counts(stacked[index])[name]), abs=1e-12), name
            assert np.isfinite(together[name][index]), name


@pytest.fixture(scope="session")
def check_statistics() -> Callable[..., None]:
    """Asserts that a scorer's table of statistics explains its values, alone and stacked."""
    return _check
