"""Multi-bootstrap (Sellam et al. 2022): seeds and test clusters are resampled together, in all arms alike.

A replicate draws clusters (whole documents) and seeds with replacement; a seed's corpus metric is computed from the
summed counts of the drawn clusters, and averaged over the drawn seeds. Arms share the draws, so differences are paired,
and differences of differences come from the same replicates (exposure + transfer = total in every one of them).

**Interval.** The percentile interval of the replicates is reported, but is not the headline: S resampled seeds show
(S-1)/S of their variance (too narrow where seeds matter: .85 coverage at 3 seeds), and resampling two crossed factors
counts their interaction three times (Owen 2007, "The pigeonhole bootstrap"; too wide where it matters: .99). The headline
takes variance components from the same replicates (`Components`) and bounds their sum as Graybill and Wang (1980) do,

    reach² = t²(S-1) · V_seeds + t²(C-1) · V_clusters

with `V_seeds` the variance of the seeds' differences over S (test set fixed; it holds the interaction of seeds and
clusters) and `V_clusters` the variance of the replicates' mean over all seeds (seeds fixed), less that interaction. Each
part has its own Student quantile, so a variance known from 3 seeds is not trusted as if known from 500 documents; p-values
invert the interval. Welch-Satterthwaite degrees of freedom (Hillis 2007, readers and cases) give narrower intervals,
but reject a true null up to 4 times too often at the levels that Holm asks for with 3 seeds, twice with 5. Measured
coverage: .95 to .98 with 3 seeds (there it is cautious), .94 to .97 with 5 to 10.
`tests/validation/simulated_studies.py` measures all of this.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy import optimize, special

from hf_crosstask.errors import InputError
from hf_crosstask.evaluation.counts import FloatArray
from hf_crosstask.study.scored import ScoredRun, by_seed, common_seeds

#: Cluster draws made at once; small enough to stay in the processor's cache.
_CHUNK = 1 << 18
#: Sums of whole numbers below this are exact in float32.
_EXACT = 1 << 24
#: Smaller tail probabilities are not told apart.
_SMALLEST = 1e-15


@dataclass(frozen=True)
class Components:
    """Independent parts of the variance of a mean difference, each with its degrees of freedom.

    Attributes:
        seeds: variance over seeds, test set fixed; 0 with one seed.
        clusters: variance over test clusters that seeds share.
        df_seeds, df_clusters: seeds - 1 and clusters - 1.
    """

    seeds: float
    clusters: float
    df_seeds: int
    df_clusters: int

    def reach(self, tail: float) -> float:
        """The distance that the estimate exceeds, in one direction, with a probability of at most `tail`."""
        parts = [(self.seeds, self.df_seeds), (self.clusters, self.df_clusters)]
        return math.sqrt(sum(variance * special.stdtrit(df, tail) ** 2 for variance, df in parts if variance > 0))

    def tail(self, distance: float) -> float:
        """The probability of a larger distance in that direction: the inverse of `reach`."""
        if self.seeds + self.clusters == 0.0:  # nothing varies: the difference is what it is
            return 0.5 if distance == 0 else float(distance < 0)
        if distance < 0:
            return 1.0 - self.tail(-distance)
        if distance <= self.reach(0.5 - 1e-12):
            return 0.5
        if self.reach(_SMALLEST) < distance:
            return _SMALLEST
        log = optimize.brentq(lambda log: self.reach(math.exp(log)) - distance, math.log(_SMALLEST), math.log(0.5))
        return math.exp(log)


class Estimate(BaseModel):
    """A difference with its uncertainty, in the metric's unit.

    `low` and `high` are the headline interval (see the module), `p` its two-sided p-value against no difference.
    `percentile_low` and `percentile_high` are the plain multi-bootstrap. `variance_*` and `df_*` are the `Components`;
    `standard_error` is the root of the variances' sum. `seed_sd` is the standard deviation of the difference over seeds
    (null with one seed, where nothing shows how seeds vary: `over` then says so).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    estimate: float
    low: float
    high: float
    level: float
    p: float
    standard_error: float
    variance_seeds: float
    variance_clusters: float
    df_seeds: int
    df_clusters: int
    percentile_low: float
    percentile_high: float
    seed_sd: float | None
    over: Literal["seeds and test set", "test set only"]

    @property
    def components(self) -> Components:
        """The parts of the variance."""
        return Components(self.variance_seeds, self.variance_clusters, self.df_seeds, self.df_clusters)

    def interval(self, level: float) -> tuple[float, float]:
        """The headline interval at another level."""
        reach = self.components.reach((1 - level) / 2)
        return self.estimate - reach, self.estimate + reach

    def p_greater(self, than: float = 0.0) -> float:
        """One-sided p-value of "the difference is not greater than `than`"."""
        return self.components.tail(self.estimate - than)

    def p_less(self, than: float = 0.0) -> float:
        """One-sided p-value of "the difference is not less than `than`"."""
        return self.components.tail(than - self.estimate)

    def detectable(self, tail: float, power: float = 0.8) -> float:
        """The true difference that a study this precise finds with `power` in a test with one-sided level `tail`."""
        return self.components.reach(tail) + self.components.reach(1 - power)


@dataclass(frozen=True, eq=False)
class Contrast:
    """A linear contrast of arms: its value for each seed, and in every replicate.

    Contrasts add, subtract and average; parts and whole stay exact because they share their replicates.

    Attributes:
        seeds: the seeds, `[seeds]`.
        per_seed: the difference on the whole test set, `[seeds]`.
        replicates: the difference of each seed on the resampled clusters, `[replicates, seeds]`.
        seed_weights: how often each seed was drawn in each replicate, `[replicates, seeds]`.
        clusters: distinct test clusters (of several test sets, the fewest).
    """

    seeds: tuple[int, ...]
    per_seed: FloatArray
    replicates: FloatArray
    seed_weights: FloatArray
    clusters: int

    def __add__(self, other: Contrast) -> Contrast:
        return self._with(other, 1.0)

    def __sub__(self, other: Contrast) -> Contrast:
        return self._with(other, -1.0)

    def _with(self, other: Contrast, sign: float) -> Contrast:
        if self.seeds != other.seeds or self.replicates.shape != other.replicates.shape:
            raise ValueError("contrasts of different seeds or numbers of replicates do not combine")
        return Contrast(
            self.seeds,
            self.per_seed + sign * other.per_seed,
            self.replicates + sign * other.replicates,
            self.seed_weights,
            min(self.clusters, other.clusters),
        )

    def scaled(self, factor: float) -> Contrast:
        """The contrast times a number."""
        return Contrast(self.seeds, self.per_seed * factor, self.replicates * factor, self.seed_weights, self.clusters)

    def resampled(self) -> FloatArray:
        """The multi-bootstrap's replicates of the mean difference, `[replicates]`."""
        return (self.replicates * self.seed_weights).sum(axis=1) / len(self.seeds)

    def estimate(self, level: float = 0.95) -> Estimate:
        """The mean difference over seeds with its uncertainty.

        Raises:
            ValueError: fewer than two test clusters, from which no variability can be estimated.
        """
        if self.clusters < 2:
            raise ValueError(f"resampling needs at least two test clusters, found {self.clusters}")
        mean = float(self.per_seed.mean())
        percentiles = np.quantile(self.resampled(), [(1 - level) / 2, (1 + level) / 2])
        components = self.components()
        reach = components.reach((1 - level) / 2)
        return Estimate(
            estimate=mean,
            low=mean - reach,
            high=mean + reach,
            level=level,
            p=min(1.0, 2 * components.tail(abs(mean))),
            standard_error=math.sqrt(components.seeds + components.clusters),
            variance_seeds=components.seeds,
            variance_clusters=components.clusters,
            df_seeds=components.df_seeds,
            df_clusters=components.df_clusters,
            percentile_low=float(percentiles[0]),
            percentile_high=float(percentiles[1]),
            seed_sd=float(self.per_seed.std(ddof=1)) if len(self.seeds) > 1 else None,
            over="seeds and test set" if len(self.seeds) > 1 else "test set only",
        )

    def components(self) -> Components:
        """The parts of the variance of the mean difference."""
        seeds, clusters = len(self.seeds), self.clusters
        unbiased = clusters / (clusters - 1)  # a bootstrap of n clusters shows (n - 1) / n of their variance
        of_mean = float(self.replicates.mean(axis=1).var()) * unbiased
        if seeds == 1:
            return Components(0.0, of_mean, 0, clusters - 1)
        of_one = float(self.replicates.var(axis=0).mean()) * unbiased
        interaction = max(0.0, (of_one - of_mean) / (seeds - 1))
        of_seeds = float(self.per_seed.var(ddof=1)) / seeds
        return Components(of_seeds, max(0.0, of_mean - interaction), seeds - 1, clusters - 1)


def mean_contrast(contrasts: Sequence[Contrast]) -> Contrast:
    """The mean of contrasts on different test sets with the same seeds (one multi-task run scores them all)."""
    if not contrasts:
        raise ValueError("no contrasts to average")
    total = contrasts[0]
    for contrast in contrasts[1:]:
        total = total + contrast
    return total.scaled(1 / len(contrasts))


@dataclass(frozen=True, eq=False)
class Replicates:
    """The values of every arm and seed, on the whole test set and in every replicate.

    Attributes:
        arms: their names.
        seeds: the seeds that all arms have.
        values: `[arms, seeds]`.
        replicates: `[replicates, arms, seeds]`, on the same resampled clusters throughout a replicate.
        seed_weights: `[replicates, seeds]`.
        clusters: distinct test clusters.
    """

    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    values: FloatArray
    replicates: FloatArray
    seed_weights: FloatArray
    clusters: int

    def contrast(self, first: str, second: str) -> Contrast:
        """`first` minus `second`."""
        a, b = self.arms.index(first), self.arms.index(second)
        return Contrast(
            self.seeds,
            self.values[a] - self.values[b],
            self.replicates[:, a] - self.replicates[:, b],
            self.seed_weights,
            self.clusters,
        )


def multibootstrap(arms: Mapping[str, Sequence[ScoredRun]], *, replicates: int = 10_000, seed: int = 0) -> Replicates:
    """Resample clusters and seeds, in all arms alike.

    The draws depend on `seed`, the task's name, the number of clusters and the number of seeds alone: the order of arms,
    runs and examples does not matter, and tasks of one study share their seed draws.

    Raises:
        InputError: the arms have no seed in common, an arm has a seed twice, or the runs differ in task, metric or test
            examples.
        ValueError: fewer than two clusters.
    """
    seeds = common_seeds(list(arms.values()))
    if not seeds:
        raise InputError(f"the arms {', '.join(arms)} have no seed in common, so they cannot be paired")
    runs = [by_seed(arm)[each] for arm in arms.values() for each in seeds]
    check_same_test(runs)
    sums = cluster_statistics(runs)
    clusters, shape = len(sums), runs[0].constant.shape
    if clusters < 2:
        raise ValueError(f"{runs[0].task}: resampling needs at least two test clusters, found {clusters}")
    constants = np.stack([run.constant for run in runs])
    flat = exact(sums.reshape(clusters, -1))
    entropy = [seed, 1, *runs[0].task.encode()]
    values = np.empty((replicates, len(runs)))
    size = max(1, _CHUNK // clusters)
    for number, start in enumerate(range(0, replicates, size)):
        stop = min(start + size, replicates)
        weights = cluster_weights(clusters, stop - start, np.random.SeedSequence([*entropy, number]))
        totals = (weights.astype(flat.dtype) @ flat).astype(np.float64)
        values[start:stop] = runs[0].metric(totals.reshape(stop - start, len(runs), *shape) + constants)
    return Replicates(
        arms=tuple(arms),
        seeds=tuple(seeds),
        values=runs[0].metric(sums.sum(axis=0) + constants).reshape(len(arms), len(seeds)),
        replicates=values.reshape(replicates, len(arms), len(seeds)),
        seed_weights=seed_weights(len(seeds), replicates, seed),
        clusters=clusters,
    )


def check_same_test(runs: Sequence[ScoredRun]) -> None:
    """Raise InputError where runs differ in task, metric or test examples."""
    first = runs[0]
    for run in runs[1:]:
        if (run.task, run.metric_name) != (first.task, first.metric_name):
            raise InputError(f"{run.name} ({run.metric_name}) and {first.name} ({first.metric_name}) do not compare")
        if not (np.array_equal(run.ids, first.ids) and np.array_equal(run.clusters, first.clusters)):
            raise InputError(f"{run.name} was tested on other examples, or in another order, than {first.name}")


def cluster_statistics(runs: Sequence[ScoredRun]) -> FloatArray:
    """Statistics summed within clusters, `[clusters, runs, *shape]`, clusters in the order of their names."""
    names, index = np.unique(runs[0].clusters, return_inverse=True)
    order = np.argsort(index, kind="stable")
    starts = np.searchsorted(index[order], np.arange(len(names)))
    return np.stack([np.add.reduceat(run.statistics[order], starts, axis=0) for run in runs], axis=1)


def exact(values: FloatArray) -> np.ndarray:
    """The values as float32 where sums of as many are exact in it (counts), else as they are.

    A resampled sum is at most as many times the largest value as there are rows.
    """
    whole = bool(np.all(values == np.floor(values)))
    bound = len(values) * float(np.abs(values).max(initial=0.0))
    return values.astype(np.float32) if whole and bound < _EXACT else values


def cluster_weights(clusters: int, replicates: int, entropy: np.random.SeedSequence) -> np.ndarray:
    """How often each cluster was drawn, `[replicates, clusters]`: multinomial, as many draws as clusters."""
    generator = np.random.Generator(np.random.SFC64(entropy))
    drawn = generator.integers(0, clusters, size=(replicates, clusters), dtype=np.int64)
    drawn += np.arange(replicates)[:, None] * clusters
    return np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)


def seed_weights(seeds: int, replicates: int, seed: int) -> FloatArray:
    """How often each seed was drawn, `[replicates, seeds]`."""
    generator = np.random.default_rng([seed, 0, seeds])
    return generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=replicates).astype(np.float64)
