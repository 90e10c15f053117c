from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_crosstask.errors import MatchError
from hf_crosstask.planning.budget import Budget
from hf_crosstask.planning.plan import TrainingPlan, plan
from hf_crosstask.planning.stored import part_of, read_plan, write_plan


def made(seed: int = 0, tokens: int = 2000) -> TrainingPlan:
    stream = np.random.default_rng(seed)
    lengths = {task: stream.integers(3, 40, size) for task, size in (("ner", 60), ("cls", 25))}
    shapes = {"cls": np.stack([np.full(25, 1), lengths["cls"]], axis=1)}
    shapes["cls"][0] = (2, int(lengths["cls"][0]))
    return plan(
        lengths, shapes=shapes, budget=Budget(tokens=tokens), tokens_per_step=200, micro_batch_tokens=120, seed=seed
    )


def visits(made: TrainingPlan, task: str) -> list[list[int]]:
    """The task's micro-batches in the order seen."""
    steps = (made.step(number) for number in range(made.num_steps))
    return [batch.examples.tolist() for step in steps for batch in step if batch.task == task]


def test_a_stored_plan_is_the_same_plan(tmp_path):
    whole = made()
    write_plan(tmp_path / "plan.npz", whole)
    for place in (tmp_path, tmp_path / "plan.npz"):
        again = read_plan(place)
        assert again.fingerprint == whole.fingerprint
        assert again.tokens_by_task == whole.tokens_by_task
        assert again.summary() == whole.summary()


def test_a_changed_plan_has_another_fingerprint(tmp_path):
    whole = made()
    changed = TrainingPlan(**{**vars(whole), "examples": whole.examples[::-1].copy()})
    write_plan(tmp_path / "plan.npz", changed)
    assert read_plan(tmp_path).fingerprint != whole.fingerprint


@settings(max_examples=30)
@given(st.integers(0, 2**31), st.integers(300, 5000))
def test_a_part_has_the_tasks_micro_batches_in_order(seed, tokens):
    whole = made(seed, tokens)
    for task in whole.tasks:
        part = part_of(whole, task)
        assert visits(part, task) == visits(whole, task)
        assert part.tasks == (task,)
        assert part.total_tokens == part.target_tokens == whole.tokens_by_task[task]
        assert part.num_steps == sum(task in whole.step_tokens(step) for step in range(whole.num_steps))
        assert part.fingerprint != whole.fingerprint


def test_what_is_no_plan_is_refused(tmp_path):
    with pytest.raises(MatchError, match="no such plan file"):
        read_plan(tmp_path)
    write_plan(tmp_path / "plan.npz", made())
    whole = (tmp_path / "plan.npz").read_bytes()
    (tmp_path / "plan.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MatchError, match="is no whole plan file"):
        read_plan(tmp_path)
    with pytest.raises(MatchError, match="did you mean 'ner'"):
        part_of(made(), "nre")
