"""Invented scored runs: the arms of a small study, as right and wrong examples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hf_crosstask.study.parity import TokenParity
from hf_crosstask.study.scored import ScoredRun
from hf_crosstask.study.verdict import Control, TaskEvidence


def share(totals):
    """Right examples among all: `[..., 2]` sums of (right, one)."""
    return totals[..., 0] / totals[..., 1]


def run(
    arm: str, seed: int, right: Sequence[float], *, task: str = "t", clusters: Sequence[str] | None = None
) -> ScoredRun:
    """A run whose metric is the share of right examples."""
    names = np.array([f"e{index:05}" for index in range(len(right))])
    return ScoredRun(
        arm=arm,
        task=task,
        seed=seed,
        metric_name="accuracy",
        statistics=np.stack([np.asarray(right, dtype=np.float64), np.ones(len(right))], axis=-1),
        constant=np.zeros(2),
        clusters=names if clusters is None else np.array(clusters, dtype=np.str_),
        ids=names,
        metric=share,
    )


def arm(
    name: str, level: float, *, seeds: int = 5, examples: int = 400, task: str = "t", noise: int = 0
) -> list[ScoredRun]:
    """Runs that are right on about the same `level` of the examples, each seed with slips of its own."""
    order = np.random.default_rng([7, examples]).permutation(examples) / examples
    generator = np.random.default_rng([noise, *name.encode(), *task.encode()])
    return [
        run(name, seed, (order + generator.normal(0, 0.02, examples) < level).astype(float), task=task)
        for seed in range(seeds)
    ]


def account(control: str, seed: int, *, task: str = "t", mode: str = "total_tokens", **changes: int) -> TokenParity:
    """A token account that holds, but for `changes`."""
    tokens = {"reference_planned": 1000, "reference_counted": 1000, "control_planned": 990, "control_counted": 990}
    return TokenParity(task=task, control=control, mode=mode, seed=seed, allowed=20, **{**tokens, **changes})


def evidence(
    task: str = "t", *, single: float = 0.6, matched: float = 0.6, multi: float = 0.6, **changes
) -> TaskEvidence:
    """A study of one task from the arms' levels; `changes` replace fields, `seeds` and `examples` shape the runs."""
    shape = {"task": task, "seeds": changes.pop("seeds", 5), "examples": changes.pop("examples", 400)}
    fields = {
        "multi": arm("S2", multi, **shape),
        "single": arm("S1", single, **shape),
        "controls": [Control("S1_token_controlled", "total_tokens", arm("S1_token_controlled", matched, **shape))],
        "parities": [account("S1_token_controlled", seed, task=task) for seed in range(shape["seeds"])],
        "data_fingerprints": {"S1 seed 0": "abc", "S2 seed 0": "abc"},
    }
    return TaskEvidence(task=task, **{**fields, **changes})
