"""A plan as a file, and the part of a plan that is one task's.

`plan.npz` holds the whole schedule of a run. Another run can take one task's part of it: the same examples in the same
order and the same micro-batches. And whoever doubts a result can compute the plan's fingerprint again.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np

from hf_crosstask.atomic import write_file
from hf_crosstask.errors import MatchError, unknown_name
from hf_crosstask.planning.plan import TrainingPlan

FILE_NAME = "plan.npz"
_ARRAYS = ("examples", "batch_starts", "batch_tasks", "step_starts")


def write_plan(path: str | Path, plan: TrainingPlan) -> Path:
    """Write a plan, whole or not at all; equal plans give equal bytes."""
    header = {"tasks": plan.tasks, "target_tokens": plan.target_tokens, "parameters": plan.parameters}
    arrays = {name: getattr(plan, name) for name in _ARRAYS}
    arrays["header"] = np.frombuffer(json.dumps(header, sort_keys=True).encode(), np.uint8)
    for number, task in enumerate(plan.tasks):
        arrays[f"lengths_{number}"] = plan.lengths[task]
        if task in plan.shapes:
            arrays[f"shapes_{number}"] = plan.shapes[task]

    def write(temporary: Path) -> None:
        with open(temporary, "wb") as handle:
            np.savez_compressed(handle, allow_pickle=False, **arrays)

    return write_file(path, write)


def read_plan(path: str | Path) -> TrainingPlan:
    """The plan in a file, or in a run folder.

    Raises:
        MatchError: there is no plan file, or it is damaged.
    """
    path = Path(path)
    path = path / FILE_NAME if path.is_dir() else path
    try:
        with np.load(path, allow_pickle=False) as stored:
            header = json.loads(stored["header"].tobytes())
            tasks = tuple(header["tasks"])
            return TrainingPlan(
                tasks=tasks,
                lengths={task: stored[f"lengths_{number}"] for number, task in enumerate(tasks)},
                target_tokens=header["target_tokens"],
                parameters=header["parameters"],
                shapes={
                    task: stored[f"shapes_{number}"]
                    for number, task in enumerate(tasks)
                    if f"shapes_{number}" in stored.files
                },
                **{name: stored[name] for name in _ARRAYS},
            )
    except FileNotFoundError:
        raise MatchError(f"{path}: no such plan file; the run never started, or is of an earlier version") from None
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError, OSError) as error:
        raise MatchError(f"{path}: is no whole plan file ({error}); run it again") from None


def part_of(plan: TrainingPlan, task: str) -> TrainingPlan:
    """One task's part of a plan: its micro-batches as they are, in their order; steps without any are left out.

    Raises:
        MatchError: the plan has no such task, or gives it nothing to train on.
    """
    if task not in plan.tasks:
        raise MatchError(
            f"cannot match the tokens of a task that the run did not train: {unknown_name('task', task, plan.tasks)}"
        )
    mine = np.flatnonzero(plan.batch_tasks == plan.tasks.index(task))
    if not len(mine):
        raise MatchError(f"cannot match the tokens of {task}: the run's plan has none")
    sizes = np.diff(plan.batch_starts)[mine]
    rows = np.concatenate([plan.examples[plan.batch_starts[batch] : plan.batch_starts[batch + 1]] for batch in mine])
    steps = np.repeat(np.arange(plan.num_steps), np.diff(plan.step_starts))[mine]
    per_step = np.unique(steps, return_counts=True)[1]
    return TrainingPlan(
        tasks=(task,),
        lengths={task: plan.lengths[task]},
        examples=rows,
        batch_starts=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        batch_tasks=np.zeros(len(mine), np.int64),
        step_starts=np.concatenate([[0], np.cumsum(per_step)]).astype(np.int64),
        target_tokens=int(plan.lengths[task][rows].sum()),
        # Stages are of the whole plan: a part of it is one run of its own.
        parameters={name: value for name, value in plan.parameters.items() if name not in ("stages", "rehearsal")}
        | {"part_of": plan.fingerprint},
        shapes={task: plan.shapes[task]} if task in plan.shapes else {},
    )
