"""Can negative transfer be foreseen? Transfer predicted from what is known before (or early in) training.

A row is a target with its source tasks: how alike their labels and words are, how their gradients agree, and how large
they are, with the transfer that was measured. Ridge regression predicts the transfer, logistic regression its sign. Both
are judged on tasks they have not seen: a task is left out with every row it takes part in, as target or as source. Pairs
of few tasks are not independent, so the p-value renames the tasks (Mantel's test; Krackhardt 1988, QAP) instead of
shuffling rows. With fewer than five tasks nothing is predicted, and the result says so.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from hf_crosstask.evaluation.counts import FloatArray

#: With fewer tasks, what is left to learn from is a handful of dependent rows.
MINIMUM_TASKS = 5
_MINIMUM_ROWS = 6
FEATURES = ("label_overlap", "vocabulary_overlap", "gradient_cosine", "log_size_ratio")


def label_overlap(first: Collection[str], second: Collection[str]) -> float:
    """Jaccard similarity of two label sets, case aside; 0 where both are empty."""
    a, b = ({label.casefold() for label in labels} for labels in (first, second))
    return len(a & b) / len(a | b) if a | b else 0.0


def vocabulary_overlap(first: Mapping[str, int], second: Mapping[str, int]) -> float:
    """One minus the Jensen-Shannon divergence (base 2) of two word distributions: 1 the same, 0 disjoint.

    Raises:
        ValueError: one has no words.
    """
    words = sorted({*first, *second})
    counts = np.array([[side.get(word, 0) for word in words] for side in (first, second)], dtype=np.float64)
    totals = counts.sum(axis=1, keepdims=True) if words else np.zeros((2, 1))
    if not totals.all():
        raise ValueError("vocabularies are compared by their words, and one has none")
    p = counts / totals
    middle = np.broadcast_to(p.mean(axis=0), p.shape)
    seen = p > 0
    return 1.0 - float((p[seen] * np.log2(p[seen] / middle[seen])).sum()) / 2


def log_size_ratio(source_examples: int, target_examples: int) -> float:
    """Natural logarithm of how many times larger the sources are than the target."""
    return math.log(source_examples / target_examples)


@dataclass(frozen=True)
class TransferRow:
    """One target with its sources; `transfer` is multi-task minus single-task at equal tokens, in the metric's unit.

    `gradient_cosine` is the mean cosine of the tasks' gradients on shared parameters (negative: conflict); None where it
    was not logged. Either every row has it or it is left out.
    """

    sources: tuple[str, ...]
    target: str
    label_overlap: float
    vocabulary_overlap: float
    log_size_ratio: float
    transfer: float
    gradient_cosine: float | None = None

    @property
    def name(self) -> str:
        """`source+source -> target`."""
        return f"{'+'.join(self.sources)} -> {self.target}"


class NegativeTransferPrediction(BaseModel):
    """How well transfer is foreseen on tasks left out. Nulls: not defined, or too few tasks.

    `skill` is 1 - MSE / MSE of the mean transfer of the other tasks: 0 and below is no better than that. `auc`: negative
    rows ranked above others by the logistic model. `p`: how often the skill is as large after renaming the tasks.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    tasks: int
    rows: int
    negative: int
    features: list[str]
    coefficients: dict[str, float] | None = None
    predicted: dict[str, float] | None = None
    probability_negative: dict[str, float] | None = None
    mean_absolute_error: float | None = None
    mean_absolute_error_of_mean: float | None = None
    skill: float | None = None
    auc: float | None = None
    p: float | None = None
    note: str


def predict_negative_transfer(
    rows: Sequence[TransferRow], *, renamings: int = 199, seed: int = 0
) -> NegativeTransferPrediction:
    """Fit on all tasks but one, predict its rows, for each task in turn.

    Raises:
        ValueError: some rows have a gradient cosine and some have none.
    """
    features = _features(rows)
    tasks = sorted({task for row in rows for task in (row.target, *row.sources)})
    values, outcome = _matrix(rows, features), np.array([row.transfer for row in rows])
    folds = _folds(rows, sorted({row.target for row in rows}))
    summary: dict[str, Any] = {
        "tasks": len(tasks),
        "rows": len(rows),
        "negative": int((outcome < 0).sum()),
        "features": features,
    }
    if len(tasks) < MINIMUM_TASKS or min((len(train) for train, _ in folds), default=0) < _MINIMUM_ROWS:
        note = (
            f"{len(tasks)} tasks in {len(rows)} rows are too few to predict the transfer of a task left out (at least "
            f"{MINIMUM_TASKS} tasks, and {_MINIMUM_ROWS} rows without it): nothing is predicted"
        )
        return NegativeTransferPrediction(**summary, note=note)
    predicted, base = _left_out(values, outcome, folds)
    probability = _probability(values, outcome < 0, folds)
    skill = _skill(outcome, predicted, base)
    standard, _ = _standardised(values, values)
    return NegativeTransferPrediction(
        **summary,
        coefficients=dict(zip(features, map(float, _ridge(standard, outcome - outcome.mean())), strict=True)),
        predicted={row.name: float(value) for row, value in zip(rows, predicted, strict=True)},
        probability_negative={row.name: float(value) for row, value in zip(rows, probability, strict=True)},
        mean_absolute_error=float(np.abs(outcome - predicted).mean()),
        mean_absolute_error_of_mean=float(np.abs(outcome - base).mean()),
        skill=skill,
        auc=_auc(outcome < 0, probability),
        p=None if skill is None else _renaming_p(rows, values, outcome, folds, skill, renamings, seed),
        note=f"leave-one-task-out over {len(tasks)} tasks; rows that share a task are not independent",
    )


def _features(rows: Sequence[TransferRow]) -> list[str]:
    known = {row.gradient_cosine is not None for row in rows}
    if len(known) > 1:
        raise ValueError("some rows have a gradient cosine and some have none; give it to all or to none")
    return [name for name in FEATURES if name != "gradient_cosine" or known == {True}]


def _matrix(rows: Sequence[TransferRow], features: Sequence[str]) -> FloatArray:
    return np.array([[getattr(row, name) for name in features] for row in rows], dtype=np.float64)


Fold = tuple[NDArray[np.int64], NDArray[np.int64]]


def _folds(rows: Sequence[TransferRow], targets: Sequence[str]) -> list[Fold]:
    """(rows without the task, rows whose target it is), for each task."""
    return [
        (
            np.array([i for i, row in enumerate(rows) if task not in (row.target, *row.sources)], dtype=np.int64),
            np.array([i for i, row in enumerate(rows) if row.target == task], dtype=np.int64),
        )
        for task in targets
    ]


def _standardised(train: FloatArray, other: FloatArray) -> tuple[FloatArray, FloatArray]:
    spread = train.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    return (train - train.mean(axis=0)) / spread, (other - train.mean(axis=0)) / spread


def _ridge(values: FloatArray, outcome: FloatArray) -> FloatArray:
    """Ridge coefficients with penalty 1 on standardised features and a centred outcome."""
    return np.asarray(
        np.linalg.solve(values.T @ values + np.eye(values.shape[1]), values.T @ outcome), dtype=np.float64
    )


def _left_out(values: FloatArray, outcome: FloatArray, folds: Sequence[Fold]) -> tuple[FloatArray, FloatArray]:
    """Ridge predictions of every row by a model that never saw its target, and the mean of the rows it was fitted to."""
    predicted, base = np.zeros(len(outcome)), np.zeros(len(outcome))
    for train, test in folds:
        known, new = _standardised(values[train], values[test])
        base[test] = outcome[train].mean()
        predicted[test] = base[test] + new @ _ridge(known, outcome[train] - outcome[train].mean())
    return predicted, base


def _probability(values: FloatArray, negative: NDArray[np.bool_], folds: Sequence[Fold]) -> FloatArray:
    """The probability of negative transfer of every row; the share of negative rows where a fold has one class only."""
    from sklearn.linear_model import LogisticRegression

    probability = np.zeros(len(negative))
    for train, test in folds:
        known, new = _standardised(values[train], values[test])
        if negative[train].all() or not negative[train].any():
            probability[test] = negative[train].mean()
        else:
            probability[test] = LogisticRegression().fit(known, negative[train]).predict_proba(new)[:, 1]
    return probability


def _skill(outcome: FloatArray, predicted: FloatArray, base: FloatArray) -> float | None:
    reference = float(((outcome - base) ** 2).sum())
    return 1 - float(((outcome - predicted) ** 2).sum()) / reference if reference > 0 else None


def _auc(negative: NDArray[np.bool_], probability: FloatArray) -> float | None:
    """The chance that a negative row is ranked above another; ties count half."""
    if negative.all() or not negative.any():
        return None
    difference = probability[negative][:, None] - probability[~negative]
    return float((np.sign(difference) + 1).mean() / 2)


def _renaming_p(
    rows: Sequence[TransferRow],
    values: FloatArray,
    outcome: FloatArray,
    folds: Sequence[Fold],
    skill: float,
    renamings: int,
    seed: int,
) -> float | None:
    """Mantel's test; None unless the rows are all ordered pairs of tasks, which renaming maps onto each other."""
    place = {(row.sources, row.target): index for index, row in enumerate(rows)}
    tasks = sorted({row.target for row in rows})
    pairs = {((source,), target) for source in tasks for target in tasks if source != target}
    if set(place) != pairs or len(rows) != len(pairs):
        return None
    generator = np.random.default_rng([seed, 4])
    extreme = 0
    for _ in range(renamings):
        renamed = dict(zip(tasks, generator.permutation(tasks).tolist(), strict=True))
        moved = outcome[[place[(renamed[row.sources[0]],), renamed[row.target]] for row in rows]]
        found = _skill(moved, *_left_out(values, moved, folds))
        extreme += found is not None and found >= skill
    return (extreme + 1) / (renamings + 1)
