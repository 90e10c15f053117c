"""Who helps whom: the transfer of every source task to every target task, with intervals, and shrunken.

Each cell is the difference between training the target with the source and its token-matched single-task control. Cells
are noisy, and the largest of many is largest partly by luck; the shrunken estimate is the posterior mean of the
hierarchical normal model

    observed ~ N(true, SE²),   true ~ N(mean, between²)

with flat priors on the mean and on `between`, which is integrated on a grid (Gelman et al., Bayesian Data Analysis, §5.4:
plugging one estimate in gives intervals that cover .89 instead of .95 with 30 noisy cells). Cells share control runs
(all of a target's) and sources, so they are not independent of each other: read the matrix as a description, and claims
from Holm-corrected cells.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy import stats

from hf_crosstask.evaluation.counts import FloatArray
from hf_crosstask.study.multibootstrap import Estimate
from hf_crosstask.study.multiplicity import holm

METHOD = "hierarchical normal model around the mean of all cells, flat prior on the standard deviation between cells"
#: Values of the standard deviation between cells that are weighed.
_GRID = 400
#: Differences and errors below this are none.
_NOTHING = 1e-100


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Cell(_Model):
    """Transfer from one source (or several, joined by `+`) to one target; `p_adjusted` is Holm's over all cells."""

    source: str
    target: str
    difference: Estimate
    p_adjusted: float
    shrunken: float
    shrunken_low: float
    shrunken_high: float


class TransferMatrix(_Model):
    """All cells; `mean` and `between_sd` are posterior means of the model's hyperparameters."""

    cells: list[Cell]
    mean: float
    between_sd: float
    method: str = METHOD

    def cell(self, source: str, target: str) -> Cell:
        """One cell.

        Raises:
            KeyError: there is none.
        """
        for each in self.cells:
            if (each.source, each.target) == (source, target):
                return each
        raise KeyError(f"{source} to {target}")


def transfer_matrix(differences: Mapping[tuple[str, str], Estimate], *, level: float = 0.95) -> TransferMatrix:
    """The matrix of differences by (source, target).

    Raises:
        ValueError: no cells.
    """
    if not differences:
        raise ValueError("a transfer matrix needs at least one cell")
    names = list(differences)
    values = np.array([differences[name].estimate for name in names])
    variances = np.array([differences[name].standard_error ** 2 for name in names])
    mean, between, posterior, spread = shrink(values, variances)
    adjusted = holm({f"{source}\0{target}": differences[source, target].p for source, target in names})
    reach = float(stats.norm.isf((1 - level) / 2)) * spread
    cells = [
        Cell(
            source=source,
            target=target,
            difference=differences[source, target],
            p_adjusted=adjusted[f"{source}\0{target}"],
            shrunken=float(posterior[index]),
            shrunken_low=float(posterior[index] - reach[index]),
            shrunken_high=float(posterior[index] + reach[index]),
        )
        for index, (source, target) in enumerate(names)
    ]
    return TransferMatrix(cells=cells, mean=mean, between_sd=between)


def shrink(values: FloatArray, variances: FloatArray) -> tuple[float, float, FloatArray, FloatArray]:
    """Posterior of the hierarchical model: its mean, between-sd, and the cells' posterior means and standard deviations."""
    scale = max(float(np.ptp(values)), float(np.sqrt(variances.max())))
    if scale < _NOTHING:  # all the same, and known exactly
        return float(values[0]), 0.0, values.copy(), np.zeros(len(values))
    between = (np.arange(_GRID)[:, None] + 0.5) * (4 * scale / _GRID)
    total = variances + between**2
    precision = (1 / total).sum(axis=1)
    mean = (values / total).sum(axis=1) / precision
    log = -0.5 * (np.log(precision) + (np.log(total) + (values - mean[:, None]) ** 2 / total).sum(axis=1))
    weight = np.exp(log - log.max())
    weight /= weight.sum()
    kept = between**2 / total
    centre = mean[:, None] + kept * (values - mean[:, None])
    within = variances * kept + (1 - kept) ** 2 / precision[:, None]
    posterior = weight @ centre
    spread = np.sqrt(weight @ (within + (centre - posterior) ** 2))
    return float(weight @ mean), float(weight @ between[:, 0]), posterior, spread


def negative_cells(matrix: TransferMatrix, alpha: float = 0.05) -> list[tuple[str, str]]:
    """The (source, target) pairs with negative transfer: below 0 after Holm's correction over all cells."""
    return [
        (cell.source, cell.target)
        for cell in matrix.cells
        if cell.p_adjusted <= alpha and cell.difference.estimate < 0
    ]
