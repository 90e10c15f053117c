"""Does a confidence of .8 mean right in 8 of 10? Calibration and selective prediction, from predictions alone.

Each decision (a label, a predicted entity, a predicted label of a set) has a confidence and is right or wrong. For
entities and label sets the population is what was predicted; gold that was missed has no confidence and is counted
beside. Expected calibration error is biased upward in small samples (Kumar et al. 2019), so `ece_debiased` stands beside
`ece` (Naeini et al. 2015, 15 equal-width bins) and `ace` (equal-mass bins, Nixon et al. 2019).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hf_crosstask.evaluation.bootstrap import replicate_weights
from hf_crosstask.evaluation.predictions import ENTITY_TYPES, SET_TYPES, Predictions

Floats = NDArray[np.float64]
BINS = 15


@dataclass(frozen=True, eq=False)
class Decisions:
    """Decisions with a confidence.

    Attributes:
        confidence: [n] in [0, 1].
        right: [n] 1 where right, else 0.
        clusters: [n] document of each.
        missed: gold entities or labels that were not predicted, which no confidence speaks for.
    """

    confidence: Floats
    right: Floats
    clusters: tuple[str, ...]
    missed: int

    def __len__(self) -> int:
        return len(self.confidence)


@dataclass(frozen=True)
class Calibration:
    """Calibration of one task's predictions.

    Attributes:
        decisions: how many.
        accuracy, confidence: means.
        ece, ece_low, ece_high: expected calibration error and its bootstrap interval over documents; None where there
            are too few documents to resample.
        ece_debiased: the root of the squared error, corrected for the bins' sampling noise; never below 0.
        ace: with bins of equal mass.
        brier, nll: mean squared error and mean negative log-likelihood of "right".
        aurc, excess_aurc: area under the risk-coverage curve (Geifman and El-Yaniv 2017), and above the best ordering's.
        missed: gold that was not predicted (entities and label sets).
    """

    decisions: int
    accuracy: float
    confidence: float
    ece: float
    ece_low: float | None
    ece_high: float | None
    ece_debiased: float
    ace: float
    brier: float
    nll: float
    aurc: float
    excess_aurc: float
    missed: int


def decisions(predictions: Predictions) -> Decisions | None:
    """The decisions of a task; None where it makes none with a confidence (scores, generated answers)."""
    several = predictions.target.type in ENTITY_TYPES | SET_TYPES
    rows = []
    missed = 0
    for gold, predicted, confidence, cluster in zip(
        predictions.gold, predictions.predicted, predictions.confidence, predictions.split_groups, strict=True
    ):
        if several:
            wanted = set(gold)
            found = () if predicted is None else predicted
            missed += len(wanted - set(found))
            rows += [
                (value, item in wanted, cluster)
                for item, value in zip(found, confidence or (), strict=True)
                if value is not None
            ]
        elif predicted is not None and confidence is not None:
            rows.append((confidence, predicted in gold, cluster))
    if not rows or predictions.target.type == "similarity":
        return None
    values, right, clusters = zip(*rows, strict=True)
    return Decisions(np.asarray(values, np.float64), np.asarray(right, np.float64), clusters, missed)


def calibration(made: Decisions, *, replicates: int = 1000, seed: int = 0, level: float = 0.95) -> Calibration:
    """All numbers of one task."""
    confidence, right = made.confidence, made.right
    clipped = np.clip(confidence, 1e-12, 1 - 1e-12)
    low = high = None
    if len(set(made.clusters)) > 1:
        values = [
            ece(confidence, right, weights=row)
            for rows in replicate_weights(made.clusters, replicates=replicates, seed=seed)
            for row in rows
            if row.any()
        ]
        low, high = (float(end) for end in np.quantile(values, [(1 - level) / 2, (1 + level) / 2]))
    area, best = risk_coverage(confidence, right)
    return Calibration(
        decisions=len(made),
        accuracy=float(right.mean()),
        confidence=float(confidence.mean()),
        ece=ece(confidence, right),
        ece_low=low,
        ece_high=high,
        ece_debiased=ece_debiased(confidence, right),
        ace=ece(confidence, right, equal_mass=True),
        brier=float(np.mean((confidence - right) ** 2)),
        nll=float(-np.mean(right * np.log(clipped) + (1 - right) * np.log(1 - clipped))),
        aurc=area,
        excess_aurc=area - best,
        missed=made.missed,
    )


def _bin(confidence: Floats, bins: int, *, equal_mass: bool) -> NDArray[np.int64]:
    """[n] the bin of each decision: (0, 1/bins], (1/bins, 2/bins], …; with `equal_mass` as many in each, ties together."""
    if equal_mass:
        edges = np.quantile(confidence, np.arange(1, bins) / bins)
        return np.searchsorted(edges, confidence, side="left").astype(np.int64)
    return np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)


def _bin_sums(index: NDArray[np.int64], bins: int, *columns: Floats) -> list[Floats]:
    return [np.bincount(index, weights=column, minlength=bins).astype(np.float64) for column in columns]


def ece(
    confidence: Floats, right: Floats, *, bins: int = BINS, equal_mass: bool = False, weights: Floats | None = None
) -> float:
    """Expected calibration error: mean over decisions of the bins' |accuracy - confidence|.

    Args:
        confidence, right: [n].
        bins: how many.
        equal_mass: bins with as many decisions each, instead of as wide.
        weights: [n] how often each decision counts.
    """
    weights = np.ones(len(confidence)) if weights is None else weights
    index = _bin(confidence, bins, equal_mass=equal_mass)
    gaps, mass = _bin_sums(index, bins, weights * (right - confidence), weights)
    return float(np.abs(gaps).sum() / mass.sum())


def ece_debiased(confidence: Floats, right: Floats, *, bins: int = BINS) -> float:
    """Root mean square calibration error over equal-mass bins, less the noise of their accuracies (Kumar et al. 2019)."""
    index = _bin(confidence, bins, equal_mass=True)
    mass, hits, sums = _bin_sums(index, bins, np.ones(len(confidence)), right, confidence)
    full = mass > 1
    mass, accuracy, mean = mass[full], hits[full] / mass[full], sums[full] / mass[full]
    if not mass.size:
        return 0.0
    squares = (accuracy - mean) ** 2 - accuracy * (1 - accuracy) / (mass - 1)
    return float(np.sqrt(max(0.0, float((mass * squares).sum() / mass.sum()))))


def reliability(confidence: Floats, right: Floats, *, bins: int = 10) -> list[tuple[float, float, int]]:
    """(mean confidence, accuracy, decisions) of each bin of equal width that holds any."""
    index = _bin(confidence, bins, equal_mass=False)
    mass, hits, sums = _bin_sums(index, bins, np.ones(len(confidence)), right, confidence)
    return [
        (float(total / count), float(hit / count), int(count))
        for count, hit, total in zip(mass, hits, sums, strict=True)
        if count
    ]


def risk_coverage(confidence: Floats, right: Floats) -> tuple[float, float]:
    """Area under the risk-coverage curve, and that of the best possible ordering of the same decisions.

    Decisions of equal confidence are taken together: each has the risk of its whole group.
    """
    wrong = 1 - right
    levels, inverse = np.unique(-confidence, return_inverse=True)
    share = np.bincount(inverse, weights=wrong, minlength=len(levels)) / np.bincount(inverse, minlength=len(levels))
    order = np.argsort(-confidence, kind="stable")
    counts = np.arange(1, len(wrong) + 1)
    area = float(np.mean(np.cumsum(share[inverse][order]) / counts))
    best = float(np.mean(np.cumsum(np.sort(wrong)) / counts))
    return area, best


def temperature(logits: Floats, gold: NDArray[np.int64]) -> float:
    """The temperature that fits held-out logits [n, labels] to their gold labels [n] best (Guo et al. 2017).

    One number, found on development data: softmax(logits / T) has the least negative log-likelihood.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    def loss(log_t: float) -> float:
        return float(-log_softmax(logits / np.exp(log_t), axis=-1)[np.arange(len(gold)), gold].mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-4, 4), method="bounded").x))
