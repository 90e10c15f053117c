"""The training plan: every micro-batch of a run, known before training, from example lengths alone.

A plan is a pure function of (lengths, budget, mixing, step size, seed). It is defined on global micro-batches, so that
any number of processes executes the same plan, and resuming is the same plan from a later step.

How a plan is made, per task:

1. quota: the task's tokens, from the budget and the mixing share (largest remainder; what one task cannot reach at
   example granularity is carried to the next);
2. visits: seeded permutations, one per epoch; the last epoch is cut to the quota exactly (`choose_exactly`);
3. chunks: the visits, sorted by length within windows, are cut into one chunk per step, so that a chunk's examples have
   similar lengths (little padding) and chunks are shuffled within their epoch (random order);
4. steps: chunks are placed at their cumulative token share, in an order that keeps the running error small, so every
   step mixes the tasks in the mixing proportions;
5. micro-batches: a chunk larger than `micro_batch_tokens` (padded) is cut into equal parts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hf_crosstask.errors import PlanError
from hf_crosstask.planning.budget import Budget, choose_exactly
from hf_crosstask.planning.mixing import Mixing, apportion, token_shares

PLAN_VERSION = 1
# A sort window holds this many chunks, and at least this many examples: wide enough that a chunk's lengths are nearly
# equal, narrow enough that which examples share a chunk is random.
_WINDOW_CHUNKS, _WINDOW_EXAMPLES = 64, 512
# Chunks looked at for the one that best cancels the running error of the mixing proportion.
_LOOKAHEAD = 8

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class MicroBatch:
    """What one forward pass sees: examples of one task.

    Attributes:
        number: position among all micro-batches of the plan.
        task: the task's name.
        examples: row numbers in the task's encoded training dataset.
        tokens: forward tokens.
        padded: tokens computed, padding included.
    """

    number: int
    task: str
    examples: Ints
    tokens: int
    padded: int


@dataclass(frozen=True, eq=False)
class TrainingPlan:
    """The whole schedule of a run. Made by `plan`.

    Attributes:
        tasks: task names; `batch_tasks` indexes them.
        lengths: per task, [n] forward tokens of each training example.
        examples: [visits] row numbers, in the order in which they are seen.
        batch_starts: [micro-batches + 1] bounds of each micro-batch in `examples`.
        batch_tasks: [micro-batches] index into `tasks`.
        step_starts: [steps + 1] bounds of each step among the micro-batches.
        target_tokens: forward tokens the budget asked for.
        parameters: what the plan was made from, besides the lengths.
        shapes: per task whose rows hold several sequences, [n, 2] their number and the tokens of the longest.
    """

    tasks: tuple[str, ...]
    lengths: Mapping[str, Ints] = field(repr=False)
    examples: Ints = field(repr=False)
    batch_starts: Ints = field(repr=False)
    batch_tasks: Ints = field(repr=False)
    step_starts: Ints = field(repr=False)
    target_tokens: int
    parameters: Mapping[str, Any]
    shapes: Mapping[str, Ints] = field(default_factory=dict, repr=False)

    @property
    def num_steps(self) -> int:
        """Optimizer updates."""
        return len(self.step_starts) - 1

    @property
    def num_micro_batches(self) -> int:
        return len(self.batch_tasks)

    @cached_property
    def batch_tokens(self) -> Ints:
        """[micro-batches] forward tokens."""
        return np.add.reduceat(self._visit_lengths, self.batch_starts[:-1])

    @cached_property
    def batch_shapes(self) -> Ints:
        """[micro-batches, 2] sequences computed, and the tokens that each of them is padded to."""
        (sequences, longest), starts = self._visit_shapes.T, self.batch_starts[:-1]
        return np.stack([np.add.reduceat(sequences, starts), np.maximum.reduceat(longest, starts)], axis=1)

    @cached_property
    def batch_padded(self) -> Ints:
        """[micro-batches] tokens computed, padding included."""
        return self.batch_shapes.prod(axis=1)

    @cached_property
    def tokens_after_step(self) -> Ints:
        """[steps + 1, tasks] forward tokens of each task seen before any step and after each."""
        return self._after_step(self.batch_tokens)

    @cached_property
    def examples_after_step(self) -> Ints:
        """[steps + 1, tasks] examples of each task seen before any step and after each."""
        return self._after_step(np.diff(self.batch_starts))

    @property
    def total_tokens(self) -> int:
        return int(self.tokens_after_step[-1].sum())

    @property
    def tokens_by_task(self) -> dict[str, int]:
        return dict(zip(self.tasks, self.tokens_after_step[-1].tolist(), strict=True))

    @property
    def tokens_per_pass(self) -> int:
        """Forward tokens of one pass over every task."""
        return sum(int(lengths.sum()) for lengths in self.lengths.values())

    @cached_property
    def epoch_ends(self) -> frozenset[int]:
        """Step numbers (1-based) after which a whole number of passes over the mixture is complete."""
        passes = self.tokens_after_step.sum(axis=1) // self.tokens_per_pass
        return frozenset((np.flatnonzero(np.diff(passes) > 0) + 1).tolist())

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the schedule and what it was made from: equal for equal plans, on every machine."""
        digest = hashlib.sha256(
            json.dumps([PLAN_VERSION, self.tasks, self.target_tokens, self.parameters], sort_keys=True).encode()
        )
        for array in (
            *(self.lengths[task] for task in self.tasks),
            *(self.shapes[task].ravel() for task in self.tasks if task in self.shapes),
            self.examples,
            self.batch_starts,
            self.batch_tasks,
            self.step_starts,
        ):
            digest.update(len(array).to_bytes(8, "little"))
            digest.update(np.ascontiguousarray(array, dtype="<i8").tobytes())
        return digest.hexdigest()

    def step(self, number: int) -> list[MicroBatch]:
        """The micro-batches of step `number` (0-based)."""
        return [
            MicroBatch(
                number=batch,
                task=self.tasks[self.batch_tasks[batch]],
                examples=self.examples[self.batch_starts[batch] : self.batch_starts[batch + 1]],
                tokens=int(self.batch_tokens[batch]),
                padded=int(self.batch_padded[batch]),
            )
            for batch in range(self.step_starts[number], self.step_starts[number + 1])
        ]

    def step_tokens(self, number: int) -> dict[str, int]:
        """Forward tokens of each task present in step `number` (0-based)."""
        counts = self.tokens_after_step[number + 1] - self.tokens_after_step[number]
        return {task: int(count) for task, count in zip(self.tasks, counts, strict=True) if count}

    def summary(self) -> dict[str, Any]:
        """What `plan.json` holds: sizes, tokens, epochs and padding per task and in total."""
        padded = np.zeros(len(self.tasks), np.int64)
        np.add.at(padded, self.batch_tasks, self.batch_padded)
        rows = {}
        for index, task in enumerate(self.tasks):
            lengths = self.lengths[task]
            tokens, visits = int(self.tokens_after_step[-1, index]), int(self.examples_after_step[-1, index])
            seen = np.bincount(self.examples[np.repeat(self.batch_tasks, np.diff(self.batch_starts)) == index])
            rows[task] = {
                "examples": len(lengths),
                "unique_tokens": int(lengths.sum()),
                "tokens": tokens,
                "share": tokens / max(1, self.total_tokens),
                "padded_tokens": int(padded[index]),
                "visits": visits,
                "epochs": tokens / int(lengths.sum()),
                "examples_seen": int((seen > 0).sum()),
                "most_repeats": int(seen.max(initial=0)),
                "micro_batches": int((self.batch_tasks == index).sum()),
            }
        return {
            "version": PLAN_VERSION,
            "fingerprint": self.fingerprint,
            "parameters": dict(self.parameters),
            "steps": self.num_steps,
            "micro_batches": self.num_micro_batches,
            "tokens": {
                "target": self.target_tokens,
                "planned": self.total_tokens,
                "difference": self.total_tokens - self.target_tokens,
                "padded": int(padded.sum()),
            },
            "padding_share": 1 - self.total_tokens / int(padded.sum()),
            "tasks": rows,
        }

    @cached_property
    def _visit_lengths(self) -> Ints:
        return self._of_visits(self.lengths)

    @cached_property
    def _visit_shapes(self) -> Ints:
        return self._of_visits({task: _shape(self.lengths[task], self.shapes.get(task)) for task in self.tasks})

    def _of_visits(self, values: Mapping[str, Ints]) -> Ints:
        """[visits, …] what each task's rows have."""
        visit_tasks = np.repeat(self.batch_tasks, np.diff(self.batch_starts))
        collected = np.empty((len(self.examples), *values[self.tasks[0]].shape[1:]), np.int64)
        for index, task in enumerate(self.tasks):
            mine = visit_tasks == index
            collected[mine] = values[task][self.examples[mine]]
        return collected

    def _after_step(self, per_batch: Ints) -> Ints:
        steps = np.repeat(np.arange(self.num_steps), np.diff(self.step_starts))
        counts = np.zeros((self.num_steps + 1, len(self.tasks)), np.int64)
        np.add.at(counts, (steps + 1, self.batch_tasks), per_batch)
        return np.cumsum(counts, axis=0)


def plan(
    lengths_by_task: Mapping[str, ArrayLike],
    *,
    budget: Budget,
    mixing: Mixing | None = None,
    tokens_per_step: int = 4096,
    micro_batch_tokens: int | None = None,
    seed: int = 0,
    shapes: Mapping[str, ArrayLike] | None = None,
) -> TrainingPlan:
    """Plan a whole run.

    Args:
        lengths_by_task: per task, the forward tokens (`attention_mask.sum()`) of every training example.
        budget: epochs, steps or tokens.
        mixing: shares of the tasks; proportional by default.
        tokens_per_step: forward tokens of one optimizer update, all processes together.
        micro_batch_tokens: padded tokens that one forward pass may hold; `tokens_per_step` by default.
        seed: of example order. A task's schedule depends on the seed, its name, its examples, its tokens and the number
            of steps, not on the other tasks: a single-task run of as many tokens in as many steps is the same.
        shapes: per task, [n, 2] the number of sequences of every example and the tokens of its longest; by default an
            example is one sequence. All sequences of a micro-batch are padded to the longest of them.

    Raises:
        PlanError: no examples, an example longer than a micro-batch or a step, or a budget that cannot be met.
    """
    mixing = mixing or Mixing()
    micro_batch_tokens = tokens_per_step if micro_batch_tokens is None else micro_batch_tokens
    lengths, own_shapes = checked_lengths(lengths_by_task, shapes or {}, tokens_per_step, micro_batch_tokens)
    quotas, target = task_quotas(lengths, budget, mixing, tokens_per_step)
    shortest = min(int(values.min()) for values in lengths.values())
    if target < shortest:
        raise PlanError(
            f"the budget of {target} tokens is smaller than the shortest example ({shortest} tokens): nothing to train on"
        )

    steps = budget.steps if budget.steps is not None else max(1, round(target / tokens_per_step))
    visits = visits_by_task(lengths, quotas, seed)
    placed = placed_batches(
        lengths, own_shapes, visits, steps, micro_batch_tokens, seed, exact=budget.steps is not None
    )
    parameters = plan_parameters(budget, mixing, tokens_per_step, micro_batch_tokens, seed)
    return assembled(lengths, own_shapes, placed, target, parameters)


def task_quotas(
    lengths: Mapping[str, Ints], budget: Budget, mixing: Mixing, tokens_per_step: int
) -> tuple[dict[str, int], int]:
    """Forward tokens of each task, and their sum, the budget."""
    totals = {task: int(values.sum()) for task, values in lengths.items()}
    target = budget.total_tokens(sum(totals.values()), tokens_per_step)
    if budget.epochs is not None and mixing.sampling == "proportional":
        quotas = {task: round(budget.epochs * total) for task, total in totals.items()}
        return quotas, sum(quotas.values())
    return apportion(target, token_shares(mixing, {task: len(lengths[task]) for task in lengths}, totals)), target


#: A micro-batch with its place: step number, index of its task, row numbers.
Placed = tuple[int, int, Ints]


def plan_parameters(
    budget: Budget, mixing: Mixing, tokens_per_step: int, micro_batch_tokens: int, seed: int
) -> dict[str, Any]:
    """What a plan is made from, besides the lengths."""
    return {
        "budget": {name: value for name, value in vars(budget).items() if value is not None},
        "mixing": {
            "sampling": mixing.sampling,
            "temperature": float(mixing.temperature),
            "weights": ({task: float(weight) for task, weight in mixing.weights.items()} if mixing.weights else None),
            "unit": mixing.unit,
        },
        "tokens_per_step": tokens_per_step,
        "micro_batch_tokens": micro_batch_tokens,
        "seed": seed,
    }


def placed_batches(
    lengths: Mapping[str, Ints],
    shapes: Mapping[str, Ints],
    visits: Mapping[str, tuple[Ints, Ints]],
    steps: int,
    micro_batch_tokens: int,
    seed: int,
    *,
    exact: bool,
) -> list[Placed]:
    """Every micro-batch of the given visits, in training order; no step is empty.

    Args:
        lengths: of all tasks; a task's index is its place here.
        visits: rows in the order seen and the epoch of each, of the tasks that take part.
        exact: there are `steps` steps, also where the examples would fill fewer.
    """
    tasks = tuple(lengths)
    schedule: list[Placed] = []
    for task, (rows, epochs) in visits.items():
        if len(rows):
            index, shape = tasks.index(task), _shape(lengths[task], shapes.get(task))
            schedule += [
                (step, index, batch)
                for step, chunk in _chunks(lengths[task], shape[:, 1], rows, epochs, steps, task, seed)
                for batch in _micro_batches(chunk, lengths[task], shape, micro_batch_tokens)
            ]
    schedule.sort(key=lambda item: item[:2])
    numbers = _filled_steps([step for step, _, _ in schedule], steps, exact=exact)
    return [(step, task, batch) for step, (_, task, batch) in zip(numbers.tolist(), schedule, strict=True)]


def assembled(
    lengths: Mapping[str, Ints],
    shapes: Mapping[str, Ints],
    placed: Sequence[Placed],
    target: int,
    parameters: Mapping[str, Any],
) -> TrainingPlan:
    """The plan of micro-batches in training order, whose steps are numbered without a gap."""
    return TrainingPlan(
        tasks=tuple(lengths),
        lengths=lengths,
        examples=np.concatenate([batch for _, _, batch in placed]),
        batch_starts=np.concatenate([[0], np.cumsum([len(batch) for _, _, batch in placed])]).astype(np.int64),
        batch_tasks=np.asarray([task for _, task, _ in placed], dtype=np.int64),
        step_starts=np.concatenate([[0], np.cumsum(np.bincount([step for step, _, _ in placed]))]).astype(np.int64),
        target_tokens=target,
        parameters=parameters,
        shapes=shapes,
    )


def assign_to_processes(padded: Sequence[int], processes: int) -> list[int]:
    """The process that runs each micro-batch of a step: longest first, to the least loaded process.

    Args:
        padded: padded tokens of the step's micro-batches.
        processes: number of processes.

    Returns:
        One process number per micro-batch. Ties go to the lowest number, so every process computes the same answer.
    """
    load = [0] * processes
    owner = [0] * len(padded)
    for batch in sorted(range(len(padded)), key=lambda index: (-padded[index], index)):
        owner[batch] = load.index(min(load))
        load[owner[batch]] += padded[batch]
    return owner


def _shape(lengths: Ints, shape: Ints | None) -> Ints:
    """[n, 2] sequences of each example and the tokens of its longest; without `shape`, each is one sequence."""
    return np.stack([np.ones_like(lengths), lengths], axis=1) if shape is None else shape


def checked_lengths(
    lengths_by_task: Mapping[str, ArrayLike],
    shapes: Mapping[str, ArrayLike],
    tokens_per_step: int,
    micro_batch_tokens: int,
) -> tuple[dict[str, Ints], dict[str, Ints]]:
    """Lengths of every task, and the shapes of those whose examples are not all one sequence."""
    if not lengths_by_task:
        raise PlanError("no task to plan")
    if micro_batch_tokens < 1 or tokens_per_step < 1:
        raise PlanError("tokens_per_step and micro_batch_tokens must be positive")
    lengths, own_shapes = {}, {}
    for task, values in lengths_by_task.items():
        array = np.asarray(values, dtype=np.int64)
        if array.ndim != 1 or not len(array):
            raise PlanError(f"task {task} has no training examples")
        if array.min() < 1:
            raise PlanError(f"task {task}: example {int(array.argmin())} has no tokens")
        shape = np.asarray(shapes[task], dtype=np.int64) if task in shapes else _shape(array, None)
        if shape.shape != (len(array), 2):
            raise PlanError(f"task {task}: {len(array)} examples, but shapes of {list(shape.shape)}")
        padded = shape.prod(axis=1)
        limits = (("micro_batch_tokens", micro_batch_tokens, padded), ("tokens_per_step", tokens_per_step, array))
        for name, limit, sizes in limits:
            if sizes.max() > limit:
                raise PlanError(
                    f"task {task}: example {int(sizes.argmax())} has {int(sizes.max())} tokens, more than {name} = "
                    f"{limit}. Raise training.{name} or lower model.max_length."
                )
        lengths[task] = array
        if not np.array_equal(shape, _shape(array, None)):
            own_shapes[task] = shape
    return lengths, own_shapes


def _generator(seed: int, task: str, *numbers: int) -> np.random.Generator:
    key = int.from_bytes(hashlib.sha256(task.encode()).digest()[:8], "little")
    return np.random.default_rng([seed, key, *numbers])


def visits_by_task(lengths: Mapping[str, Ints], quotas: Mapping[str, int], seed: int) -> dict[str, tuple[Ints, Ints]]:
    """`visits_of` every task; their tokens miss the sum of the quotas by less than the shortest example."""
    visits: dict[str, tuple[Ints, Ints]] = {}
    carried = 0
    # Small tasks first: what they cannot reach is carried to tasks with more examples to choose from.
    for task in sorted(lengths, key=lambda name: (len(lengths[name]), name)):
        visits[task] = visits_of(lengths[task], quotas[task] + carried, task, seed)
        carried += quotas[task] - int(lengths[task][visits[task][0]].sum())
    # The last task may leave more than another task's shortest example.
    shortest = min(lengths, key=lambda name: int(lengths[name].min()))
    if carried >= lengths[shortest].min():
        reached = int(lengths[shortest][visits[shortest][0]].sum())
        visits[shortest] = visits_of(lengths[shortest], reached + carried, shortest, seed)
    return visits


def visits_of(lengths: Ints, quota: int, task: str, seed: int) -> tuple[Ints, Ints]:
    """Example rows in the order seen, and the epoch of each; their tokens sum to `quota` where lengths allow."""
    total, shortest = int(lengths.sum()), int(lengths.min())
    visits: list[Ints] = []
    remaining = quota
    while remaining >= shortest:
        order = _generator(seed, task, 0, len(visits)).permutation(len(lengths))
        if remaining < total:
            order = order[choose_exactly(lengths[order], remaining)]
        visits.append(order)
        remaining -= int(lengths[order].sum())
    if not visits:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    epochs = np.repeat(np.arange(len(visits)), [len(order) for order in visits])
    return np.concatenate(visits), epochs


def _chunks(
    lengths: Ints, longest: Ints, visits: Ints, epochs: Ints, steps: int, task: str, seed: int
) -> list[tuple[int, Ints]]:
    """`(step, rows)` of every chunk of one task: similar lengths inside a chunk, random order over an epoch.

    `longest` is what rows are padded by: the length itself, or that of the longest of a row's sequences.
    """
    tokens = lengths[visits]
    total = int(tokens.sum())
    window = max(_WINDOW_EXAMPLES, round(_WINDOW_CHUNKS * len(visits) / steps))
    order = _sorted_in_windows(longest[visits], epochs, window)
    visits, epochs, tokens = visits[order], epochs[order], tokens[order]
    ends = np.cumsum(tokens)
    count = max(1, min(steps, len(visits)))
    chunk_of_visit = ((2 * ends - tokens) * count) // (2 * total)
    starts = np.flatnonzero(np.diff(chunk_of_visit, prepend=-1))
    bounds = np.append(starts, len(visits))
    sizes = np.add.reduceat(tokens, starts)
    ordered = _ordered_chunks(sizes, epochs[starts], _generator(seed, task, 1))
    before = np.cumsum(sizes[ordered]) - sizes[ordered]
    placed = ((2 * before + sizes[ordered]) * steps) // (2 * total)
    return [
        (step, visits[bounds[chunk] : bounds[chunk + 1]]) for step, chunk in zip(placed.tolist(), ordered, strict=True)
    ]


def _sorted_in_windows(tokens: Ints, epochs: Ints, window: int) -> Ints:
    """Order that sorts visits by length inside windows of an epoch, ascending and descending in turn.

    The turning keeps lengths continuous where one window meets the next, so no chunk mixes longest and shortest.
    """
    visits = len(tokens)
    per_epoch = np.bincount(epochs)
    first = np.cumsum(per_epoch) - per_epoch
    windows = np.maximum(1, np.round(per_epoch / window).astype(np.int64))
    within = ((np.arange(visits) - first[epochs]) * windows[epochs]) // per_epoch[epochs]
    number = (np.cumsum(windows) - windows)[epochs] + within
    key = np.where(number % 2 == 0, tokens, -tokens)
    return np.lexsort((key, number))  # stable: equal lengths keep their random order


def _ordered_chunks(sizes: Ints, epochs: Ints, generator: np.random.Generator) -> list[int]:
    """Chunk numbers in training order: random within each epoch, steered so that the running token error stays small."""
    mean = float(sizes.mean())
    ordered: list[int] = []
    error = 0.0
    size_of = sizes.tolist()
    for epoch in range(int(epochs.max()) + 1):
        waiting = generator.permutation(np.flatnonzero(epochs == epoch)).tolist()[::-1]
        near = [waiting.pop() for _ in range(min(_LOOKAHEAD, len(waiting)))]
        while near:
            best = min(range(len(near)), key=lambda index: abs(error + size_of[near[index]] - mean))
            chunk = near[best]
            if waiting:
                near[best] = waiting.pop()
            else:
                near.pop(best)
            error += size_of[chunk] - mean
            ordered.append(chunk)
    return ordered


def _micro_batches(chunk: Ints, lengths: Ints, shape: Ints, limit: int) -> list[Ints]:
    """Cut a chunk into the fewest equal parts whose padded size fits `limit`."""
    tokens = lengths[chunk]
    sequences, longest = shape[chunk].T
    if int(sequences.sum() * longest.max()) <= limit:
        return [chunk]
    ends = np.cumsum(tokens)
    parts = max(2, -(-int(ends[-1]) // limit))
    while True:
        part = ((2 * ends - tokens) * parts) // (2 * int(ends[-1]))
        starts = np.flatnonzero(np.diff(part, prepend=-1))
        if (np.maximum.reduceat(longest, starts) * np.add.reduceat(sequences, starts)).max() <= limit:
            return np.split(chunk, starts[1:])
        parts += 1


def _filled_steps(step_of_batch: list[int], steps: int, *, exact: bool) -> Ints:
    """Step numbers without empty steps: empty ones are closed up, or filled where the number of steps is the budget."""
    numbers = np.asarray(step_of_batch, dtype=np.int64)
    if not exact:
        return np.unique(numbers, return_inverse=True)[1].astype(np.int64)
    if len(numbers) < steps:
        raise PlanError(
            f"a budget of {steps} steps needs at least as many micro-batches, but the examples make {len(numbers)}. "
            "Lower budget.steps or training.tokens_per_step."
        )
    # The nearest schedule in which every step has a micro-batch: micro-batch i of n is in no step later than i, and at
    # least n - i - 1 micro-batches remain for the steps after it.
    count = len(numbers)
    position = np.arange(count)
    latest = np.minimum(position, steps - 1)
    earliest = np.maximum(0, steps - (count - position))
    numbers = np.clip(numbers, earliest, latest)
    for index in range(1, count):
        if numbers[index] > numbers[index - 1] + 1:
            numbers[index] = numbers[index - 1] + 1
    return numbers
