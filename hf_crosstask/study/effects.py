"""Effect sizes and tests over seeds, the smallest effect that so many seeds can show, and equivalence.

Everything in `SeedEffects` treats the test set as fixed: it says how sure the seeds are, not how sure the documents
are, and gets more wrong with more seeds as a statement about both (coverage .92 at 3 seeds, .79 at 10, in
`tests/validation/simulated_studies.py`). It is secondary and labelled; the headline is the multi-bootstrap.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from scipy import optimize, special, stats

from hf_crosstask.study.multibootstrap import Estimate
from hf_crosstask.study.permutation import TooFewSeedsError, minimum_sign_flip_p, sign_flip

Values = Sequence[float] | NDArray[np.float64]


class SeedEffects(BaseModel):
    """Paired differences over seeds, test set fixed.

    `d_z` is the mean difference over the standard deviation of the differences, `hedges_g` the same corrected for small
    samples. `cohens_d_pooled` is the difference of means over the pooled standard deviation of the two arms' seeds; it
    ignores the pairing and is inflated by how little seeds vary. Nulls: not defined (one seed, or no variation).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    label: Literal["over seeds, test set fixed"] = "over seeds, test set fixed"
    seeds: int
    difference: float
    sd: float | None
    d_z: float | None
    hedges_g: float | None
    cohens_d_pooled: float | None
    t: float | None
    df: int
    p: float | None
    low: float | None
    high: float | None
    minimum_detectable_d_z: float | None
    sign_flip_p: float | None
    sign_flip_minimum_p: float
    sign_flip_note: str | None


class Equivalence(BaseModel):
    """Two one-sided tests (TOST) of a difference against a margin declared before running.

    `p` is the larger one-sided p-value; `low` and `high` the interval at 1 - 2 alpha, inside the margin where `shown`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    margin: float
    p: float
    p_adjusted: float
    low: float
    high: float
    shown: bool


def hedges_correction(df: int) -> float:
    """Hedges' factor J(df) = Γ(df/2) / (√(df/2) Γ((df-1)/2)) that makes a standardised difference unbiased."""
    if df < 2:
        raise ValueError(f"the correction needs at least 2 degrees of freedom, not {df}")
    return math.exp(special.gammaln(df / 2) - special.gammaln((df - 1) / 2)) / math.sqrt(df / 2)


def paired_d_z(differences: Values) -> float | None:
    """Mean over standard deviation of paired differences; None with fewer than two, or where they do not vary."""
    values = np.asarray(differences, dtype=np.float64)
    if len(values) < 2 or _constant(values):
        return None
    return float(values.mean() / values.std(ddof=1))


def cohens_d_pooled(first: Values, second: Values) -> float | None:
    """Difference of means over the pooled standard deviation (equal group sizes), pairing ignored."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if len(a) < 2 or (_constant(a) and _constant(b)):
        return None
    return float((a.mean() - b.mean()) / math.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2))


def _constant(values: np.ndarray) -> bool:
    return bool(np.ptp(values) <= 1e-12 * max(1.0, float(np.abs(values).max())))


def minimum_detectable_d_z(seeds: int, *, power: float = 0.8, alpha: float = 0.05) -> float:
    """The d_z that a two-sided paired t-test over so many seeds finds with `power` (noncentral t).

    Raises:
        ValueError: fewer than two seeds.
    """
    if seeds < 2:
        raise ValueError("a paired t-test needs at least two seeds")
    df = seeds - 1
    critical = float(stats.t.isf(alpha / 2, df))

    def missing(d_z: float) -> float:
        # t² is noncentral F(1, df); SciPy's noncentral t gives NaN in the far tail.
        return 1.0 - float(special.ncfdtr(1, df, seeds * d_z**2, critical**2)) - power

    top = 1.0
    while missing(top) < 0:
        top *= 2
    return float(optimize.brentq(missing, 0.0, top))


def seed_effects(first: Values, second: Values, *, alpha: float = 0.05) -> SeedEffects:
    """Effects of two arms' values, paired by position (the same seeds in the same order).

    Raises:
        ValueError: the arms differ in length or are empty.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise ValueError(f"values of {a.shape} and {b.shape} seeds do not pair")
    differences, seeds = a - b, len(a)
    mean, d_z, df = float(differences.mean()), paired_d_z(differences), seeds - 1
    sd = float(differences.std(ddof=1)) if seeds > 1 else None
    t = None if d_z is None else d_z * math.sqrt(seeds)
    reach = None if sd is None else float(stats.t.isf(alpha / 2, df)) * sd / math.sqrt(seeds)
    try:
        flipped, note = sign_flip(differences).p, None
    except TooFewSeedsError as error:
        flipped, note = None, str(error)
    return SeedEffects(
        seeds=seeds,
        difference=mean,
        sd=sd,
        d_z=d_z,
        hedges_g=None if d_z is None or df < 2 else d_z * hedges_correction(df),
        cohens_d_pooled=cohens_d_pooled(a, b),
        t=t,
        df=df,
        p=None if t is None else float(2 * stats.t.sf(abs(t), df)),
        low=None if reach is None else mean - reach,
        high=None if reach is None else mean + reach,
        minimum_detectable_d_z=minimum_detectable_d_z(seeds, alpha=alpha) if seeds > 1 else None,
        sign_flip_p=flipped,
        sign_flip_minimum_p=minimum_sign_flip_p(seeds),
        sign_flip_note=note,
    )


def equivalence_p(estimate: Estimate, margin: float) -> float:
    """The larger of the two one-sided p-values that the difference lies outside ±margin.

    Raises:
        ValueError: the margin is not positive.
    """
    if not margin > 0:
        raise ValueError(f"a margin of equivalence is positive, not {margin}")
    return max(estimate.p_greater(-margin), estimate.p_less(margin))


def equivalence(
    estimate: Estimate, margin: float, *, alpha: float = 0.05, p_adjusted: float | None = None
) -> Equivalence:
    """TOST; `p_adjusted` is its p-value after correction over tasks, by default uncorrected."""
    p = equivalence_p(estimate, margin)
    adjusted = p if p_adjusted is None else p_adjusted
    low, high = estimate.interval(1 - 2 * alpha)
    return Equivalence(margin=margin, p=p, p_adjusted=adjusted, low=low, high=high, shown=adjusted <= alpha)


def detectable_by_examples(examples: int, discordant: float, *, power: float = 0.8, alpha: float = 0.05) -> float:
    """The smallest accuracy difference that so many test examples can show, seeds aside.

    Args:
        examples: test examples.
        discordant: the share on which just one of the two models is right.
    """
    reach = float(stats.norm.isf(alpha / 2) + stats.norm.ppf(power))
    return reach * math.sqrt(discordant / examples)
