"""The ledger: tokens actually seen in training, per task, counted from the tensors that were fed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hf_crosstask.errors import CheckpointError, LedgerMismatchError
from hf_crosstask.planning.plan import TrainingPlan

COUNTS = ("examples", "tokens", "padded", "supervised")


class TokenLedger:
    """Counts of one run, summed over all processes.

    Attributes:
        tasks: task names, in plan order.
        counts: [tasks, 4] int64: examples, forward tokens, padded tokens, supervised positions.
    """

    def __init__(self, tasks: Sequence[str], counts: ArrayLike | None = None):
        self.tasks = tuple(tasks)
        self.counts: NDArray[np.int64] = (
            np.zeros((len(self.tasks), len(COUNTS)), np.int64) if counts is None else np.array(counts, np.int64)
        )

    def record(self, counts: ArrayLike) -> None:
        """Add the counts of one step, [tasks, 4]."""
        self.counts += np.asarray(counts, np.int64)

    def verify(self, plan: TrainingPlan, steps: int) -> None:
        """Check that what was counted is what the plan says after `steps` steps.

        Raises:
            LedgerMismatchError: naming the task and both numbers.
        """
        planned = np.stack([plan.examples_after_step[steps], plan.tokens_after_step[steps]], axis=1).tolist()
        for task, have in zip(self.tasks, self.counts[:, :2].tolist(), strict=True):
            want = planned[plan.tasks.index(task)]
            if want != have:
                raise LedgerMismatchError(
                    f"step {steps}: task {task} was planned to have seen {want[0]} examples and {want[1]} tokens, but "
                    f"{have[0]} examples and {have[1]} tokens were counted. The datasets or the collator changed since "
                    "the plan was made."
                )

    def by_task(self) -> dict[str, dict[str, int]]:
        """Counts by task and name."""
        return {
            task: dict(zip(COUNTS, row, strict=True))
            for task, row in zip(self.tasks, self.counts.tolist(), strict=True)
        }

    @property
    def total_tokens(self) -> int:
        return int(self.counts[:, COUNTS.index("tokens")].sum())

    def to_json(self) -> dict[str, Any]:
        return self.by_task()

    @classmethod
    def from_json(cls, tasks: Sequence[str], value: Mapping[str, Mapping[str, int]]) -> TokenLedger:
        """The ledger a checkpoint holds.

        Raises:
            CheckpointError: it is the ledger of other tasks.
        """
        if set(value) != set(tasks):
            raise CheckpointError(
                f"the checkpoint's ledger is of tasks {sorted(value)}, this run trains {sorted(tasks)}"
            )
        return cls(tasks, [[value[task][name] for name in COUNTS] for task in tasks])
