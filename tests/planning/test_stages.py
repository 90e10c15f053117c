from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_crosstask.errors import PlanError
from hf_crosstask.planning import Budget, Mixing, plan
from hf_crosstask.planning.stages import Stage, plan_stages, stage_order, stages_of
from hf_crosstask.planning.stored import part_of


def lengths(seed=0, **sizes):
    generator = np.random.default_rng(seed)
    return {task: generator.integers(5, 100, size) for task, size in sizes.items()}


DATA = lengths(a=200, b=80, c=400)
STEP = {"tokens_per_step": 1024, "micro_batch_tokens": 300}
budgets = st.one_of(
    st.builds(lambda n: Budget(tokens=n), st.integers(20_000, 90_000)),
    st.builds(lambda n: Budget(epochs=n), st.floats(0.7, 3.0)),
    st.builds(lambda n: Budget(steps=n), st.integers(20, 60)),
)
mixings = st.sampled_from([Mixing(), Mixing("uniform"), Mixing("explicit", weights={"a": 1, "b": 2, "c": 3})])
orders = st.one_of(st.permutations("abc"), st.sampled_from(["given", "smallest_first", "largest_first"]))


@given(budgets, mixings, orders, st.sampled_from([0.0, 0.1, 0.5]), st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_one_budget_is_spent_exactly_in_order(budget, mixing, order, rehearsal, seed):
    made = plan_stages(DATA, budget=budget, mixing=mixing, order=order, rehearsal=rehearsal, seed=seed, **STEP)
    assert made.total_tokens == made.target_tokens == plan(DATA, budget=budget, mixing=mixing, **STEP).target_tokens
    if budget.steps is not None:
        assert made.num_steps == budget.steps
    stages = stages_of(made)
    assert tuple(stage.task for stage in stages) == stage_order(order, DATA)
    assert [stage.first for stage in stages] == [0, *(stage.end for stage in stages[:-1])]
    assert stages[-1].end == made.num_steps
    seen: set[str] = set()
    for stage in stages:
        seen.add(stage.task)
        tokens: dict[str, int] = {}
        for step in range(stage.first, stage.end):
            assert made.step(step)
            for task, count in made.step_tokens(step).items():
                tokens[task] = tokens.get(task, 0) + count
        assert set(tokens) <= seen
        assert sum(tokens.values()) == stage.tokens
        assert stage.tokens - tokens[stage.task] == stage.rehearsal
        wanted = rehearsal * stage.tokens if len(seen) > 1 else 0
        assert abs(stage.rehearsal - wanted) < 150


def test_shares_are_those_of_the_joint_plan():
    joint = plan(DATA, budget=Budget(epochs=2), **STEP)
    stages = stages_of(plan_stages(DATA, budget=Budget(epochs=2), rehearsal=0.3, **STEP))
    assert {stage.task: stage.tokens for stage in stages} == joint.tokens_by_task


def test_a_stage_is_the_run_of_its_task_alone():
    whole = plan_stages(DATA, budget=Budget(epochs=2), order=("c", "a", "b"), seed=3, **STEP)
    for stage in stages_of(whole):
        alone = plan({stage.task: DATA[stage.task]}, budget=Budget(tokens=stage.tokens), seed=3, **STEP)
        part = part_of(whole, stage.task)
        assert np.array_equal(alone.examples, part.examples)
        assert np.array_equal(alone.step_starts, part.step_starts)
        assert stages_of(part) == ()


def test_rehearsals_differ_from_each_other():
    made = plan_stages(DATA, budget=Budget(epochs=1), order=("b", "a", "c"), rehearsal=0.2, **STEP)
    rows = [
        [
            row
            for step in range(stage.first, stage.end)
            for batch in made.step(step)
            if batch.task == "b"
            for row in batch.examples.tolist()
        ]
        for stage in stages_of(made)[1:]
    ]
    assert rows[0]
    assert rows[1]
    assert rows[0][:5] != rows[1][:5]


def test_the_order_is_part_of_the_fingerprint():
    prints = {
        plan_stages(DATA, budget=Budget(epochs=1), order=order, rehearsal=share, **STEP).fingerprint
        for order in ("given", "smallest_first", "largest_first")
        for share in (0.0, 0.1)
    }
    assert len(prints) == 6
    assert stages_of(plan(DATA, budget=Budget(epochs=1), **STEP)) == ()
    assert plan_stages(DATA, budget=Budget(epochs=1), order="given", **STEP).summary()["parameters"]["stages"][0] == (
        vars(Stage("a", 0, 11, int(DATA["a"].sum()), 0))
    )


def test_order_rules():
    assert stage_order("smallest_first", DATA) == ("b", "a", "c")
    assert stage_order("largest_first", DATA) == ("c", "a", "b")
    assert stage_order(["c", "b", "a"], DATA) == ("c", "b", "a")


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"order": ("a", "b", "d")}, "stage order: unknown task 'd'"),
        ({"order": ("a", "b")}, "stage order must name every task once: a, b, c"),
        ({"order": "smallest"}, "stage order: unknown rule 'smallest'"),
        ({"rehearsal": 1.0}, "rehearsal must be at least 0 and below 1, found 1.0"),
        ({"budget": Budget(steps=2)}, "the stage of task b gets none of 2 steps"),
        ({"mixing": Mixing("explicit", weights={"a": 1e-7, "b": 1, "c": 1})}, "the stage of task a has 0 tokens"),
    ],
)
def test_refused(keywords, message):
    with pytest.raises(PlanError) as error:
        plan_stages(DATA, **{"budget": Budget(epochs=1), **STEP, **keywords})
    assert message in str(error.value)
