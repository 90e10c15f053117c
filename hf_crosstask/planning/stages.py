"""Sequential training: one plan over all stages, one task after another, from one budget.

The tasks' shares of the budget are those of the mixing, as in a joint run: they are the stages' sizes. With rehearsal,
that share of every later stage's tokens is spent on the tasks before it, in the mixing's proportions. The order of a
stage's examples is that of a run of its task alone on as many tokens in as many steps (without rehearsal).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from hf_crosstask.errors import PlanError, unknown_name
from hf_crosstask.planning.budget import Budget
from hf_crosstask.planning.mixing import Mixing, apportion
from hf_crosstask.planning.plan import (
    Ints,
    Placed,
    TrainingPlan,
    assembled,
    checked_lengths,
    placed_batches,
    plan_parameters,
    task_quotas,
    visits_of,
)

OrderRule = Literal["given", "smallest_first", "largest_first"]


@dataclass(frozen=True)
class Stage:
    """One stage of a sequential plan.

    Attributes:
        task: the task it is for.
        first, end: its steps, 0-based, `end` not included.
        tokens: its forward tokens, rehearsal included.
        rehearsal: those of them spent on earlier tasks.
    """

    task: str
    first: int
    end: int
    tokens: int
    rehearsal: int


def stages_of(plan: TrainingPlan) -> tuple[Stage, ...]:
    """The stages of a plan; none where tasks are learned together."""
    return tuple(Stage(**stage) for stage in plan.parameters.get("stages", ()))


def stage_order(order: OrderRule | Sequence[str], lengths: Mapping[str, ArrayLike]) -> tuple[str, ...]:
    """The tasks in the order of their stages.

    Args:
        order: task names, or a rule; a task's size is the forward tokens of one pass over it.
        lengths: forward tokens of every example, by task, in the given order.

    Raises:
        PlanError: the rule is unknown, or names are missing or none of the tasks.
    """
    tasks = tuple(lengths)
    if not isinstance(order, str):
        for task in order:
            if task not in tasks:
                raise PlanError(f"stage order: {unknown_name('task', task, tasks)}")
        if sorted(order) != sorted(tasks):
            raise PlanError(f"stage order must name every task once: {', '.join(tasks)}")
        return tuple(order)
    if order not in get_args(OrderRule):
        raise PlanError(f"stage order: {unknown_name('rule', order, get_args(OrderRule))}")
    if order == "given":
        return tasks
    sign = 1 if order == "smallest_first" else -1
    return tuple(sorted(tasks, key=lambda task: sign * int(np.sum(lengths[task]))))


def plan_stages(
    lengths_by_task: Mapping[str, ArrayLike],
    *,
    budget: Budget,
    mixing: Mixing | None = None,
    order: OrderRule | Sequence[str] = "given",
    rehearsal: float = 0.0,
    tokens_per_step: int = 4096,
    micro_batch_tokens: int | None = None,
    seed: int = 0,
    shapes: Mapping[str, ArrayLike] | None = None,
) -> TrainingPlan:
    """Plan a whole sequential run.

    Args:
        order: of the stages; see `stage_order`.
        rehearsal: share of every later stage's tokens that is spent on the tasks before it, in [0, 1).
        others: as for `planning.plan`.

    Raises:
        PlanError: as `planning.plan`, or a stage's share of the budget is too small to train on.
    """
    if not 0 <= rehearsal < 1:
        raise PlanError(f"rehearsal must be at least 0 and below 1, found {rehearsal}")
    mixing = mixing or Mixing()
    micro_batch_tokens = tokens_per_step if micro_batch_tokens is None else micro_batch_tokens
    lengths, own_shapes = checked_lengths(lengths_by_task, shapes or {}, tokens_per_step, micro_batch_tokens)
    tasks = stage_order(order, lengths)
    quotas, target = task_quotas(lengths, budget, mixing, tokens_per_step)
    wanted = _stage_quotas(tasks, quotas, rehearsal)
    visits = _visits(lengths, wanted, seed)
    steps = _stage_steps(tasks, quotas, budget, tokens_per_step)
    placed: list[Placed] = []
    stages: list[Stage] = []
    for number, task in enumerate(tasks):
        mine = visits[number]
        if not len(mine[task][0]):
            raise PlanError(
                f"the stage of task {task} has {quotas[task]} tokens of the budget, too few to train on: raise the budget "
                "or the task's mixing weight"
            )
        first = stages[-1].end if stages else 0
        own_seed = _stage_seed(seed, number, alone=len(mine) == 1)
        batches = placed_batches(
            lengths, own_shapes, mine, steps[number], micro_batch_tokens, own_seed, exact=budget.steps is not None
        )
        placed += [(first + step, index, rows) for step, index, rows in batches]
        tokens = {each: int(lengths[each][rows].sum()) for each, (rows, _) in mine.items()}
        total = sum(tokens.values())
        stages.append(Stage(task, first, placed[-1][0] + 1, total, total - tokens[task]))
    parameters: dict[str, Any] = plan_parameters(budget, mixing, tokens_per_step, micro_batch_tokens, seed)
    parameters |= {"rehearsal": float(rehearsal), "stages": [asdict(stage) for stage in stages]}
    return assembled(lengths, own_shapes, placed, target, parameters)


def _stage_quotas(tasks: Sequence[str], quotas: Mapping[str, int], rehearsal: float) -> list[dict[str, int]]:
    """Tokens of each task in each stage; a stage's are those of its task's quota."""
    stages = []
    for number, task in enumerate(tasks):
        repeated: dict[str, int] = {}
        earlier = {each: quotas[each] for each in tasks[:number]}
        if rehearsal and sum(earlier.values()):
            total = sum(earlier.values())
            shares = {each: tokens / total for each, tokens in earlier.items()}
            repeated = apportion(round(rehearsal * quotas[task]), shares)
        stages.append({task: quotas[task] - sum(repeated.values()), **repeated})
    return stages


def _visits(
    lengths: Mapping[str, Ints], wanted: Sequence[Mapping[str, int]], seed: int
) -> list[dict[str, tuple[Ints, Ints]]]:
    """Visits of each task in each stage; their tokens miss the sum of the quotas by less than the shortest example."""
    visits: list[dict[str, tuple[Ints, Ints]]] = [{} for _ in wanted]

    def choose(stage: int, task: str, quota: int) -> int:
        own_seed = _stage_seed(seed, stage, alone=len(wanted[stage]) == 1)
        visits[stage][task] = visits_of(lengths[task], quota, task, own_seed)
        return int(lengths[task][visits[stage][task][0]].sum())

    carried = 0
    parts = [(stage, task) for stage, quotas in enumerate(wanted) for task in quotas]
    # As in a joint plan: small tasks first, what they cannot reach is carried to tasks with more examples to choose from.
    for stage, task in sorted(parts, key=lambda part: (len(lengths[part[1]]), part[1], part[0])):
        quota = wanted[stage][task] + carried
        carried = quota - choose(stage, task, quota)
    stage, task = min(parts, key=lambda part: int(lengths[part[1]].min()))
    if carried >= lengths[task].min():
        choose(stage, task, int(lengths[task][visits[stage][task][0]].sum()) + carried)
    return [{task: mine[task] for task in quotas} for mine, quotas in zip(visits, wanted, strict=True)]


def _stage_seed(seed: int, stage: int, *, alone: bool) -> int:
    """The run's seed where a stage has one task; else one of its own, so that rehearsals differ from each other."""
    if alone:
        return seed
    return int.from_bytes(hashlib.sha256(f"{seed}/stage/{stage}".encode()).digest()[:4], "little")


def _stage_steps(tasks: Sequence[str], quotas: Mapping[str, int], budget: Budget, tokens_per_step: int) -> list[int]:
    """Optimizer steps of each stage; their sum is the budget's where it counts steps."""
    if budget.steps is None:
        return [max(1, round(quotas[task] / tokens_per_step)) for task in tasks]
    total = sum(quotas.values())
    steps = apportion(budget.steps, {task: quotas[task] / total for task in tasks})
    for task in tasks:
        if not steps[task]:
            raise PlanError(f"the stage of task {task} gets none of {budget.steps} steps: raise budget.steps")
    return [steps[task] for task in tasks]
