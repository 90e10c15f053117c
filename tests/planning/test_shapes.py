"""Plans of examples that hold several sequences: padding is planned as it is computed, and the limit holds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_crosstask.errors import PlanError
from hf_crosstask.planning.budget import Budget
from hf_crosstask.planning.plan import plan
from hf_crosstask.training.feed import token_batches

#: Examples as the lengths of their sequences.
EXAMPLES = st.lists(st.lists(st.integers(1, 60), min_size=1, max_size=6), min_size=2, max_size=60)


def measured(examples: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Lengths [n] and shapes [n, 2]."""
    return np.array(list(map(sum, examples))), np.array([(len(row), max(row)) for row in examples])


@given(EXAMPLES, st.integers(360, 800), st.integers(0, 3))
@settings(deadline=None, max_examples=60)
def test_no_micro_batch_is_padded_beyond_the_limit(examples: list[list[int]], limit: int, seed: int) -> None:
    lengths, shapes = measured(examples)
    made = plan(
        {"lists": lengths, "plain": [7] * 30},
        shapes={"lists": shapes, "plain": [(1, 7)] * 30},
        budget=Budget(epochs=2),
        tokens_per_step=800,
        micro_batch_tokens=limit,
        seed=seed,
    )
    seen = np.zeros(len(examples), int)
    for step in range(made.num_steps):
        for batch in made.step(step):
            of_task = shapes[batch.examples] if batch.task == "lists" else np.array([(1, 7)] * len(batch.examples))
            assert batch.padded == of_task[:, 0].sum() * of_task[:, 1].max() <= limit
            if batch.task == "lists":
                assert batch.tokens == lengths[batch.examples].sum()
                np.add.at(seen, batch.examples, 1)
    assert (seen == 2).all()
    assert made.summary()["tokens"]["padded"] == made.batch_padded.sum()


def test_examples_of_one_sequence_are_planned_as_ever() -> None:
    lengths = np.random.default_rng(0).integers(5, 90, 400)
    plain = plan({"a": lengths}, budget=Budget(epochs=1), tokens_per_step=512)
    shaped = plan(
        {"a": lengths}, shapes={"a": [(1, n) for n in lengths]}, budget=Budget(epochs=1), tokens_per_step=512
    )
    assert shaped.fingerprint == plain.fingerprint
    assert shaped.shapes == {}


def test_shapes_are_part_of_the_plan() -> None:
    lengths = np.full(40, 60)
    plans = [
        plan({"a": lengths}, shapes={"a": [shape] * 40}, budget=Budget(epochs=1), tokens_per_step=512)
        for shape in ((1, 60), (2, 30), (3, 30))
    ]
    assert len({made.fingerprint for made in plans}) == 3
    assert [made.batch_padded.sum() for made in plans] == [2400, 2400, 3600]


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(PlanError, match="example 1 has 240 tokens, more than micro_batch_tokens = 200"):
        plan({"a": [20, 90]}, shapes={"a": [(1, 20), (4, 60)]}, budget=Budget(epochs=1), tokens_per_step=200)
    with pytest.raises(PlanError, match=r"2 examples, but shapes of \[1, 2\]"):
        plan({"a": [20, 90]}, shapes={"a": [(1, 20)]}, budget=Budget(epochs=1))


@given(EXAMPLES, st.integers(1, 500))
@settings(deadline=None)
def test_evaluation_batches_hold_every_row_once(examples: list[list[int]], limit: int) -> None:
    _, shapes = measured(examples)
    batches = token_batches(shapes[:, 1], limit, shapes[:, 0])
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(examples)))
    for rows in batches:
        assert len(rows) == 1 or shapes[rows, 0].sum() * shapes[rows, 1].max() <= limit


@given(st.lists(st.integers(1, 90), min_size=1, max_size=80), st.integers(1, 400))
def test_rows_of_one_sequence_are_batched_as_rows(lengths: list[int], limit: int) -> None:
    array = np.array(lengths)
    for one, other in zip(token_batches(array, limit), token_batches(array, limit, np.ones_like(array)), strict=True):
        np.testing.assert_array_equal(one, other)
