from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_crosstask.errors import MatchError
from hf_crosstask.planning.budget import Budget
from hf_crosstask.planning.flops import FlopAccount, FlopRates, plan_for_flops
from hf_crosstask.planning.plan import TrainingPlan, plan

RATES = FlopRates(token=1000, pair=3, sequence=50, answer=70)


def lengths(seed: int, examples: int) -> np.ndarray:
    return np.clip(np.random.default_rng(seed).lognormal(3.3, 0.6, examples), 4, 120).astype(np.int64)


def making(seed: int, examples: int, **more: object):
    rows = {"t": lengths(seed, examples)}
    return lambda budget: plan(rows, budget=budget, tokens_per_step=512, micro_batch_tokens=256, seed=seed, **more)


def by_hand(made: TrainingPlan, account: FlopAccount, steps: int | None = None) -> int:
    """Batch by batch, from the rows themselves."""
    total = 0
    for step in range(made.num_steps if steps is None else steps):
        for batch in made.step(step):
            rows, rates = batch.examples, account.rates[batch.task]
            length, positions = int(made.lengths[batch.task][rows].max()), 0
            if batch.task in account.answers:
                first, last = account.answers[batch.task][rows].T
                positions = len(rows) * (last.max() - first.min() + 1)
            if batch.task in account.masked:
                positions = account.masked[batch.task][rows].sum()
            total += len(rows) * (length * rates.token + length**2 * rates.pair + rates.sequence)
            total += int(positions) * rates.answer
    return total


def test_flops_are_summed_batch_by_batch():
    rows = {"a": lengths(1, 60), "b": lengths(2, 40), "c": lengths(3, 30)}
    made = plan(rows, budget=Budget(epochs=2), tokens_per_step=512, micro_batch_tokens=256, seed=3)
    rates = {"a": RATES, "b": FlopRates(token=10, pair=1, answer=7), "c": FlopRates(token=20, pair=2, answer=9)}
    first = np.minimum(rows["b"] - 2, 5)
    answers = np.stack([first, np.minimum(first + 4, rows["b"] - 1)], axis=1)
    account = FlopAccount(rates, {"b": answers}, {"c": rows["c"] // 7 + 1})
    assert sum(account.by_task(made).values()) == by_hand(made, account) == sum(account.per_batch(made))
    assert sum(account.by_task(made, 4).values()) == by_hand(made, account, 4)
    batch = made.step(0)[0]
    assert account.of_rows(made, batch.task, batch.examples) == account.per_batch(made)[0]


def test_the_largest_example_counts_what_it_predicts():
    made = plan({"t": np.asarray([4, 8])}, budget=Budget(epochs=1), tokens_per_step=64)
    plain = 8 * 1000 + 64 * 3 + 50
    assert FlopAccount({"t": RATES}).largest_example(made) == plain
    assert FlopAccount({"t": RATES}, {"t": np.asarray([[1, 3], [2, 6]])}).largest_example(made) == plain + 5 * 70
    assert FlopAccount({"t": RATES}, masked={"t": np.asarray([9, 2])}).largest_example(made) == plain + 2 * 70


def test_sums_have_no_largest_number():
    made = plan({"t": np.full(100, 500)}, budget=Budget(epochs=1), tokens_per_step=5000)
    account = FlopAccount({"t": FlopRates(token=10**18, pair=10**16)})
    assert account.by_task(made) == {"t": 100 * (500 * 10**18 + 500**2 * 10**16)}


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 500),
    examples=st.integers(3, 300),
    epochs=st.floats(0.4, 6),
    factor=st.floats(0.5, 2.0),
    answered=st.booleans(),
)
def test_a_plan_comes_within_an_example_of_the_flops_wanted(seed, examples, epochs, factor, answered):
    make, rows = making(seed, examples), lengths(seed, examples)
    answers = {"t": np.stack([rows // 2, rows - 1], axis=1)} if answered else {}
    account = FlopAccount({"t": RATES}, answers)
    tokens = max(300, round(epochs * int(rows.sum())))
    # What another model's run of so many tokens took.
    target = round(factor * sum(account.by_task(make(Budget(tokens=tokens))).values()))
    made = plan_for_flops(target, tokens, make, account)
    found = sum(account.by_task(made).values())
    assert abs(found - target) <= account.largest_example(made)
    assert made.fingerprint == plan_for_flops(target, tokens, make, account).fingerprint
    assert made.total_tokens == made.target_tokens
    assert made.parameters["flops"] == target
    assert made.num_steps == len(made.step_starts) - 1
    assert np.diff(made.step_starts).min() > 0
    assert np.diff(made.batch_starts).min() > 0
    assert made.step_starts[-1] == made.num_micro_batches == len(made.batch_starts) - 1
    assert made.batch_starts[-1] == len(made.examples)


def test_what_examples_cannot_reach_is_refused():
    # Answers far from each other: together they cost much more than each by itself.
    apart = {"t": np.stack([np.arange(40) * 3] * 2, axis=1)}
    account = FlopAccount({"t": FlopRates(token=0, pair=0, answer=1)}, apart)
    with pytest.raises(
        MatchError, match=r"no plan comes to 1,000 FLOPs within .* nearest differs by .* budgets tried"
    ):
        plan_for_flops(1000, 800, making(1, 40), account)


def test_the_shortest_plan_is_one_example():
    account = FlopAccount({"t": RATES})
    assert len(plan_for_flops(1, 500, making(1, 20), account).examples) == 1
