"""One run's test predictions as sufficient statistics: all that the statistics of a study need of a run.

Every primary metric of the library is a function of summed statistics, so resampling never scores anything again:
counts for F1 and accuracy, moments for Pearson's r, a query's average precision for MAP. Spearman's rho and the share
of unreadable answers have no such sums and cannot be compared here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hf_crosstask.errors import InputError, unknown_name
from hf_crosstask.evaluation.counts import FloatArray, FromCounts
from hf_crosstask.evaluation.predictions import NUMBER_TYPES, Predictions
from hf_crosstask.evaluation.scoring import scoring_for

#: Metrics that are negated, so that higher is better everywhere.
LOWER_IS_BETTER = frozenset({"perplexity"})


@dataclass(frozen=True, eq=False)
class ScoredRun:
    """One task's test predictions of one run.

    Attributes:
        arm: the strategy and matching mode the run belongs to.
        task: the task.
        seed: the training seed; runs of two arms are paired by it.
        metric_name: the compared metric.
        statistics: `[examples, *shape]`.
        constant: `[*shape]`, added once to every sum (lost gold).
        clusters: `[examples]`: what is resampled (document, PMID, patient; of rankings the query).
        ids: `[examples]`: the examples' names, the same in all runs of a comparison.
        metric: statistics summed over examples, `[..., *shape]`, to values `[...]`; higher is better.
    """

    arm: str
    task: str
    seed: int
    metric_name: str
    statistics: FloatArray
    constant: FloatArray
    clusters: NDArray[np.str_]
    ids: NDArray[np.str_]
    metric: FromCounts

    def __post_init__(self) -> None:
        examples = len(self.statistics)
        if len(self.clusters) != examples or len(self.ids) != examples:
            raise ValueError(f"{self.name}: {examples} examples, {len(self.clusters)} clusters, {len(self.ids)} ids")
        if self.statistics.shape[1:] != self.constant.shape:
            raise ValueError(f"{self.name}: statistics {self.statistics.shape} do not fit {self.constant.shape}")

    @property
    def name(self) -> str:
        """How messages name the run."""
        return f"{self.arm} seed {self.seed} on {self.task}"

    @property
    def value(self) -> float:
        """The metric on the whole test set."""
        return float(self.metric(self.statistics.sum(axis=0) + self.constant))


def scored_run(predictions: Predictions, *, arm: str, seed: int, metric: str) -> ScoredRun:
    """The statistics of a run's predictions.

    Raises:
        InputError: the task has no such metric, or the metric has no additive statistics (Spearman's rho, the share of
            unreadable answers).
    """
    target = predictions.target
    scoring = scoring_for(target)
    available = [name for name in scoring.names(predictions) if name in scoring.metrics]
    if metric in scoring.weighted:
        raise InputError(
            f"task {target.task!r}: {metric!r} is no function of sums over examples, so a study cannot compare it; "
            f"choose among {', '.join(available)}"
        )
    if metric not in available:
        raise InputError(f"task {target.task!r}: {unknown_name('metric', metric, available)}")
    if target.type in NUMBER_TYPES:
        statistics = _moments(predictions)
        constant = np.zeros(statistics.shape[1:])
    else:
        table = scoring.count(predictions)
        statistics, constant = table.per_example, table.constant
    value = scoring.metrics[metric]
    return ScoredRun(
        arm=arm,
        task=target.task,
        seed=seed,
        metric_name=metric,
        statistics=statistics,
        constant=constant,
        clusters=np.array(scoring.clusters(predictions), dtype=np.str_),
        ids=np.array(predictions.ids, dtype=np.str_),
        metric=(lambda totals: -value(totals)) if metric in LOWER_IS_BETTER else value,
    )


def _moments(predictions: Predictions) -> FloatArray:
    """`[examples, 6]`: 1, x, y, x², y², xy, both centred on the gold's mean.

    `official.similarity` centres predictions on their own mean, which differs between runs; predictions of two runs
    can be swapped (permutation) only around a common centre.
    """
    if None in predictions.predicted:
        raise ValueError(f"task {predictions.target.task!r}: an example has no predicted score")
    gold = np.array([score for (score,) in predictions.gold], dtype=np.float64)
    x, y = gold - gold.mean(), np.array(predictions.predicted, dtype=np.float64) - gold.mean()
    return np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=-1)


def by_seed(runs: Sequence[ScoredRun]) -> dict[int, ScoredRun]:
    """The runs of one arm by seed.

    Raises:
        InputError: two runs have the same seed, or the runs are of several tasks or metrics.
    """
    found: dict[int, ScoredRun] = {}
    for run in runs:
        if run.seed in found:
            raise InputError(f"{run.name}: there are two runs of this arm with this seed; keep one")
        if (run.task, run.metric_name) != (runs[0].task, runs[0].metric_name):
            raise InputError(
                f"{run.name} is scored by {run.metric_name}, but {runs[0].name} by {runs[0].metric_name}; "
                "compare runs of one task by one metric"
            )
        found[run.seed] = run
    return found


def common_seeds(arms: Sequence[Sequence[ScoredRun]]) -> list[int]:
    """The seeds that every arm has, in order."""
    return sorted(set.intersection(*(set(by_seed(runs)) for runs in arms))) if arms else []
