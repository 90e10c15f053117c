"""Floating-point operations of a plan, and a plan that comes to a given number of them.

A micro-batch of n sequences padded to L tokens costs `n (L token + L² pair + sequence) + positions answer`; what the four
rates are is the model's business (`hf_crosstask.models.flops`). Sums are whole numbers of any size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from hf_crosstask.errors import MatchError
from hf_crosstask.planning.budget import Budget
from hf_crosstask.planning.plan import Ints, TrainingPlan

#: Token budgets that are tried; each comes nearer, until padding decides.
_TRIED = 12
#: A plan that is at most this share above what is wanted is cut instead of planned again.
_NEAR = 0.001


@dataclass(frozen=True)
class FlopRates:
    """What one task costs, forward and backward.

    Attributes:
        token: of every token computed, padding included.
        pair: of every pair of tokens of a sequence (attention).
        sequence: of every sequence.
        answer: of every position where a token is predicted (language models).
    """

    token: int
    pair: int
    sequence: int = 0
    answer: int = 0

    def of(self, sequences: int, length: int, positions: int = 0) -> int:
        """FLOPs of so many sequences of so many tokens, where so many positions predict a token."""
        each = length * self.token + length * length * self.pair + self.sequence
        return sequences * each + positions * self.answer


@dataclass(frozen=True)
class FlopAccount:
    """What the tasks of a run cost.

    Attributes:
        rates: by task.
        answers: by task whose answers are predicted token by token, [n, 2] the first and the last column of each row's
            answer. A micro-batch predicts every column from the first to the last of any of its rows, in each sequence.
        masked: by task whose masked tokens are predicted, [n] their number in each row.
    """

    rates: Mapping[str, FlopRates]
    answers: Mapping[str, Ints] = field(default_factory=dict)
    masked: Mapping[str, Ints] = field(default_factory=dict)

    def by_task(self, plan: TrainingPlan, steps: int | None = None) -> dict[str, int]:
        """FLOPs of each task in the first `steps` steps (None: all)."""
        positions = self.positions_by_task(plan, steps)
        return {task: flops_of(plan, task, self.rates[task], positions[task], steps) for task in plan.tasks}

    def positions_by_task(self, plan: TrainingPlan, steps: int | None = None) -> dict[str, int]:
        """Positions that predict a token, of each task in the first `steps` steps (None: all)."""
        positions = self._positions(plan)
        return {task: int(positions[_batches_of(plan, task, steps)].sum()) for task in plan.tasks}

    def per_batch(self, plan: TrainingPlan) -> list[int]:
        """FLOPs of every micro-batch."""
        shapes, positions = plan.batch_shapes.tolist(), self._positions(plan).tolist()
        return [
            self.rates[plan.tasks[task]].of(sequences, length, answered)
            for task, (sequences, length), answered in zip(plan.batch_tasks.tolist(), shapes, positions, strict=True)
        ]

    def of_rows(self, plan: TrainingPlan, task: str, rows: Ints) -> int:
        """FLOPs of a micro-batch of these rows of a task."""
        if not len(rows):
            return 0
        sequences, length = int(_shapes(plan, task)[rows, 0].sum()), int(_shapes(plan, task)[rows, 1].max())
        positions = 0
        if task in self.answers:
            first, last = self.answers[task][rows].T
            positions = sequences * int(last.max() - first.min() + 1)
        elif task in self.masked:
            positions = int(self.masked[task][rows].sum())
        return self.rates[task].of(sequences, length, positions)

    def largest_example(self, plan: TrainingPlan) -> int:
        """FLOPs of the example that costs most by itself."""
        most = 0
        for task in plan.tasks:
            columns = _shapes(plan, task)
            if task in self.answers:
                first, last = self.answers[task].T
                columns = np.column_stack([columns, columns[:, 0] * (last - first + 1)])
            elif task in self.masked:
                columns = np.column_stack([columns, self.masked[task]])
            most = max(most, *(self.rates[task].of(*row) for row in np.unique(columns, axis=0).tolist()))
        return most

    def _positions(self, plan: TrainingPlan) -> Ints:
        """[micro-batches] positions that predict a token."""
        found = np.zeros(plan.num_micro_batches, np.int64)
        visits, starts = np.repeat(plan.batch_tasks, np.diff(plan.batch_starts)), plan.batch_starts[:-1]
        for index, task in enumerate(plan.tasks):
            mine, rows = plan.batch_tasks == index, plan.examples[visits == index]
            if task in self.answers:
                columns = np.zeros((len(visits), 2), np.int64)
                columns[visits == index] = self.answers[task][rows]
                width = np.maximum.reduceat(columns[:, 1], starts) - np.minimum.reduceat(columns[:, 0], starts) + 1
                found[mine] = (width * plan.batch_shapes[:, 0])[mine]
            elif task in self.masked:
                counts = np.zeros(len(visits), np.int64)
                counts[visits == index] = self.masked[task][rows]
                found[mine] = np.add.reduceat(counts, starts)[mine]
        return found


def flops_of(plan: TrainingPlan, task: str, rates: FlopRates, positions: int, steps: int | None = None) -> int:
    """FLOPs of one task in the first `steps` steps of a plan (None: all), where so many positions predict a token."""
    sequences, length = plan.batch_shapes[_batches_of(plan, task, steps)].T
    return (
        int((sequences * length).sum()) * rates.token
        + int((sequences * length * length).sum()) * rates.pair
        + int(sequences.sum()) * rates.sequence
        + positions * rates.answer
    )


def plan_for_flops(
    target: int, tokens: int, make: Callable[[Budget], TrainingPlan], account: FlopAccount
) -> TrainingPlan:
    """The plan that comes to `target` FLOPs within those of one example.

    Budgets in tokens are tried, each from what the one before came to, until a plan needs a little more than wanted; its
    end is then cut off, the last micro-batch example by example. Equal arguments give equal plans.

    Args:
        target: FLOPs wanted.
        tokens: the first budget tried.
        make: plans a budget.
        account: what the tasks cost.

    Raises:
        MatchError: no budget comes within one example.
    """
    above: list[tuple[int, int, TrainingPlan]] = []
    tried: set[int] = set()
    for _ in range(_TRIED):
        while tokens in tried:
            tokens += 1
        tried.add(tokens)
        made = make(Budget(tokens=tokens))
        found = sum(account.by_task(made).values())
        if found >= target:
            above.append((found, tokens, made))
        if above and min(above)[0] <= target * (1 + _NEAR):
            break
        # From below a little further than it seems, so that the next plan is above.
        shortest = min(int(each.min()) for each in made.lengths.values())
        tokens = max(shortest, round(tokens * target / found * (1 + (found < target) * _NEAR / 2)))
    misses = []
    for _, _, made in sorted(above, key=lambda item: item[:2]):
        cut, difference = _cut(made, target, account)
        if abs(difference) <= account.largest_example(cut):
            return cut
        misses.append(difference)
    nearest = f"; the nearest differs by {min(misses, key=abs):+,}" if misses else ""
    raise MatchError(
        f"no plan comes to {target:,} FLOPs within those of one example{nearest}; token budgets tried: "
        f"{', '.join(f'{each:,}' for each in sorted(tried))}"
    )


def _cut(plan: TrainingPlan, target: int, account: FlopAccount) -> tuple[TrainingPlan, int]:
    """A plan without its end, as near to `target` FLOPs as whole examples allow, and by how many it differs."""
    costs = account.per_batch(plan)
    total, last = sum(costs), plan.num_micro_batches - 1
    while last and total - costs[last] >= target:
        total -= costs[last]
        last -= 1
    before, task = total - costs[last], plan.tasks[plan.batch_tasks[last]]
    rows = plan.examples[plan.batch_starts[last] : plan.batch_starts[last + 1]]
    # The longest stays to the end, so that each example that is taken away costs what one does.
    order = np.argsort(-_shapes(plan, task)[rows, 1], kind="stable")
    kept = [rows[np.sort(order[:count])] for count in range(0 if last else 1, len(rows) + 1)]
    differences = [before + account.of_rows(plan, task, each) - target for each in kept]
    nearest = min(range(len(kept)), key=lambda index: (abs(differences[index]), index))
    return _ending(plan, last, kept[nearest], target), differences[nearest]


def _ending(plan: TrainingPlan, last: int, rows: Ints, target: int) -> TrainingPlan:
    """The plan up to micro-batch `last`, which keeps these rows (none: it is left out)."""
    batches = last + (len(rows) > 0)
    ends = [plan.batch_starts[last] + len(rows)] if len(rows) else []
    made = replace(
        plan,
        examples=np.concatenate([plan.examples[: plan.batch_starts[last]], rows]).astype(np.int64),
        batch_starts=np.concatenate([plan.batch_starts[: last + 1], ends]).astype(np.int64),
        batch_tasks=plan.batch_tasks[:batches],
        step_starts=np.append(plan.step_starts[plan.step_starts < batches], batches).astype(np.int64),
        parameters={**plan.parameters, "flops": target},
    )
    return replace(made, target_tokens=made.total_tokens)


def _batches_of(plan: TrainingPlan, task: str, steps: int | None) -> NDArray[np.bool_]:
    """[micro-batches] whether it is the task's, and one of the first `steps` steps (None: all)."""
    end = plan.step_starts[plan.num_steps if steps is None else steps]
    return (plan.batch_tasks == plan.tasks.index(task)) & (np.arange(plan.num_micro_batches) < end)


def _shapes(plan: TrainingPlan, task: str) -> Ints:
    """[n, 2] sequences of every example, and the tokens of its longest."""
    lengths = plan.lengths[task]
    return plan.shapes.get(task, np.stack([np.ones_like(lengths), lengths], axis=1))
