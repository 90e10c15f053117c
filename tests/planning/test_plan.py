from __future__ import annotations

import copy
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hf_crosstask.errors import PlanError
from hf_crosstask.planning.budget import Budget
from hf_crosstask.planning.mixing import Mixing, token_shares
from hf_crosstask.planning.plan import TrainingPlan, assign_to_processes, plan

LONGEST = 40
some_lengths = st.dictionaries(
    st.sampled_from(["ner", "relation", "qa"]),
    st.lists(st.integers(1, LONGEST), min_size=1, max_size=40),
    min_size=1,
)
sizes = st.integers(LONGEST, 400)
seeds = st.integers(0, 2**32)
mixings = st.sampled_from(
    [
        Mixing(),
        Mixing(unit="tokens"),
        Mixing("uniform"),
        Mixing("uniform", unit="tokens"),
        Mixing("temperature", temperature=3.0),
    ]
)


def visits(made: TrainingPlan, task: str) -> list[int]:
    """Rows of a task in the order seen."""
    return [
        row
        for step in range(made.num_steps)
        for batch in made.step(step)
        if batch.task == task
        for row in batch.examples.tolist()
    ]


def natural(seed: int = 0, examples: int = 3000) -> np.ndarray:
    """Lengths like those of biomedical sentences."""
    return np.clip(np.random.default_rng(seed).lognormal(3.4, 0.5, examples), 5, 256).astype(int)


@given(some_lengths, st.integers(1, 4), sizes, sizes, seeds)
def test_proportional_epochs_visit_every_example_equally_often(lengths, epochs, step, micro, seed):
    made = plan(lengths, budget=Budget(epochs=epochs), tokens_per_step=step, micro_batch_tokens=micro, seed=seed)
    for task, values in lengths.items():
        assert np.bincount(visits(made, task), minlength=len(values)).tolist() == [epochs] * len(values)
    assert made.total_tokens == epochs * sum(map(sum, lengths.values()))
    assert made.target_tokens == made.total_tokens


@given(some_lengths, st.integers(1, 5000), mixings, sizes, seeds)
def test_token_budget_is_missed_by_less_than_the_shortest_example(lengths, tokens, mixing, step, seed):
    shortest = min(map(min, lengths.values()))
    assume(tokens >= shortest)
    made = plan(lengths, budget=Budget(tokens=tokens), mixing=mixing, tokens_per_step=step, seed=seed)
    assert made.target_tokens == tokens
    assert 0 <= tokens - made.total_tokens < shortest
    assert made.total_tokens == sum(lengths[task][row] for task in lengths for row in visits(made, task))
    for task, values in lengths.items():  # no example twice before all others once, but for the very last ones
        seen = np.bincount(visits(made, task), minlength=len(values))
        if seen.any():
            epochs = made.tokens_by_task[task] / sum(values)
            assert seen.min() >= int(epochs) - 1


@given(st.floats(0.02, 0.9), st.integers(0, 20), seeds)
def test_token_budget_is_exact_for_natural_lengths(part, passes, seed):
    lengths = {"a": natural(1, 400), "b": natural(2, 150)}
    tokens = int((passes + part) * sum(values.sum() for values in lengths.values()))
    # (Just short of a whole pass there is nothing left to exchange: then less than the shortest example is missed.)
    made = plan(lengths, budget=Budget(tokens=tokens), seed=seed)
    assert made.total_tokens == tokens


@given(some_lengths, st.integers(1, 30), mixings, sizes, seeds)
def test_quotas_are_kept_to_an_example(lengths, epochs, mixing, step, seed):
    made = plan(lengths, budget=Budget(epochs=epochs), mixing=mixing, tokens_per_step=step, seed=seed)
    totals = {task: sum(values) for task, values in lengths.items()}
    shares = token_shares(mixing, {task: len(values) for task, values in lengths.items()}, totals)
    for task, tokens in made.tokens_by_task.items():
        # What a task cannot reach is less than its shortest example, and is carried to others.
        assert abs(tokens - shares[task] * made.target_tokens) <= 1 + sum(min(values) for values in lengths.values())


@given(some_lengths, st.integers(1, 40), sizes, seeds)
def test_step_budget_gives_exactly_that_many_steps(lengths, steps, step, seed):
    made = plan(lengths, budget=Budget(steps=steps), tokens_per_step=step, seed=seed)
    assert made.num_steps == steps
    assert (np.diff(made.step_starts) > 0).all()
    assert 0 <= steps * step - made.total_tokens < min(map(min, lengths.values()))


@given(some_lengths, st.floats(1, 6), mixings, sizes, sizes, seeds)
def test_structure(lengths, epochs, mixing, step, micro, seed):
    made = plan(
        lengths, budget=Budget(epochs=epochs), mixing=mixing, tokens_per_step=step, micro_batch_tokens=micro, seed=seed
    )
    number = 0
    for index in range(made.num_steps):
        batches = made.step(index)
        assert batches, "an empty step"
        for batch in batches:
            values = np.array(lengths[batch.task])[batch.examples]
            assert len(values)
            assert batch.number == number
            assert batch.tokens == values.sum()
            assert batch.padded == values.max() * len(values) <= micro
            number += 1
        assert made.step_tokens(index) == {
            task: sum(batch.tokens for batch in batches if batch.task == task) for task in {b.task: 0 for b in batches}
        }
    assert number == made.num_micro_batches
    after = made.tokens_after_step
    assert after[0].tolist() == [0] * len(lengths)
    assert (np.diff(after.sum(axis=1)) > 0).all()
    assert made.examples_after_step[-1].sum() == len(made.examples)


@given(some_lengths, st.integers(1, 5), sizes, seeds)
def test_every_step_keeps_the_mixing_proportions(lengths, epochs, step, seed):
    made = plan(lengths, budget=Budget(epochs=epochs), tokens_per_step=step, seed=seed)
    steps = max(1, round(made.target_tokens / step))
    assume(made.num_steps == steps)  # no empty step was closed up
    for index, (task, values) in enumerate(lengths.items()):
        total, count = epochs * sum(values), min(steps, epochs * len(values))
        largest_chunk = total / count + max(values)
        ideal = total * np.arange(steps + 1) / steps
        assert abs(made.tokens_after_step[:, index] - ideal).max() <= largest_chunk / 2 + max(values), task


def test_natural_lengths_are_mixed_evenly_with_little_padding():
    lengths = {"ner": natural(0, 4000), "relation": natural(1, 2000), "qa": np.minimum(8 * natural(2, 300), 512)}
    made = plan(lengths, budget=Budget(epochs=3), tokens_per_step=8192, micro_batch_tokens=8192, seed=5)
    shares = made.tokens_after_step[-1] / made.total_tokens
    steps = np.diff(made.tokens_after_step, axis=0)
    assert (steps > 0).all(), "a task is missing from a step"
    assert abs(steps.sum(axis=1) - 8192).max() < 0.25 * 8192
    drift = made.tokens_after_step - shares * made.tokens_after_step.sum(axis=1, keepdims=True)
    assert abs(drift).max() < 0.25 * 8192
    assert made.summary()["padding_share"] < 0.05  # batches at random: 0.4


def test_order_is_random():
    lengths = natural(0, 4000)
    made = plan({"ner": lengths}, budget=Budget(epochs=2), tokens_per_step=512, seed=5)
    order = np.array(visits(made, "ner"))
    first, second = order[:4000], order[4000:]
    assert abs(np.corrcoef(lengths[first], np.arange(4000))[0, 1]) < 0.25, "sorted by length"
    assert abs(np.corrcoef(first, np.arange(4000))[0, 1]) < 0.25, "in the data's order"
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.25, "both epochs in the same order"
    batches = [batch.examples for step in range(made.num_steps) for batch in made.step(step)]
    means = np.array([lengths[rows].mean() for rows in batches])
    assert abs(np.corrcoef(means[:-4], means[4:])[0, 1]) < 0.3, "short near short"  # sorted windows: 0.8
    assert len({frozenset(rows.tolist()) for rows in batches}) > 0.98 * len(batches), "the same company in both epochs"


def test_a_pass_is_over_before_the_next_begins():
    made = plan({"a": natural(0, 2000)}, budget=Budget(epochs=3), tokens_per_step=2048, seed=1)
    order = visits(made, "a")
    for epoch in range(3):
        seen = set(order[epoch * 2000 : (epoch + 1) * 2000])
        assert len(seen) > 1900  # but for the chunks where passes meet


def test_plan_is_pure():
    lengths = {"a": natural(0, 50), "b": natural(1, 80)}
    before = copy.deepcopy(lengths)
    np.random.seed(1)
    state = np.random.get_state()[1].copy()
    first = plan(lengths, budget=Budget(epochs=2.5), tokens_per_step=512, seed=7)
    assert (np.random.get_state()[1] == state).all()
    np.random.seed(2)
    second = plan(
        {task: values.tolist() for task, values in lengths.items()},
        budget=Budget(epochs=2.5),
        tokens_per_step=512,
        seed=7,
    )
    assert first.fingerprint == second.fingerprint
    assert (first.examples == second.examples).all()
    assert all((lengths[task] == before[task]).all() for task in lengths)


ARGUMENTS = {
    "lengths_by_task": {"a": natural(0, 50).tolist(), "b": natural(1, 80).tolist()},
    "budget": Budget(epochs=2),
    "mixing": Mixing("explicit", weights={"a": 1, "b": 2}),
    "tokens_per_step": 512,
    "micro_batch_tokens": 300,
    "seed": 3,
}


@pytest.mark.parametrize(
    "change",
    [
        {"lengths_by_task": ARGUMENTS["lengths_by_task"] | {"b": [*ARGUMENTS["lengths_by_task"]["b"][1:], 5]}},
        {"lengths_by_task": {"a": ARGUMENTS["lengths_by_task"]["a"], "c": ARGUMENTS["lengths_by_task"]["b"]}},
        {"lengths_by_task": dict(reversed(ARGUMENTS["lengths_by_task"].items()))},
        {"budget": Budget(epochs=2.01)},
        {"budget": Budget(steps=10)},
        {"mixing": Mixing("explicit", weights={"a": 1, "b": 2.001})},
        {"mixing": Mixing("explicit", weights={"a": 1, "b": 2}, unit="tokens")},
        {"mixing": Mixing("uniform")},
        {"tokens_per_step": 513},
        {"micro_batch_tokens": 301},
        {"seed": 4},
    ],
    ids=lambda change: next(iter(change)),
)
def test_fingerprint_depends_on(change):
    original = plan(**ARGUMENTS)
    arguments = ARGUMENTS | change
    if "c" in arguments["lengths_by_task"]:
        arguments["mixing"] = Mixing("explicit", weights={"a": 1, "c": 2})
    assert plan(**arguments).fingerprint != original.fingerprint


def test_fingerprint_depends_on_lengths_that_give_the_same_schedule():
    one, other = (plan({"a": lengths}, budget=Budget(epochs=1)) for lengths in ([10, 20], [11, 19]))
    assert one.target_tokens == other.target_tokens
    assert one.examples.tolist() == other.examples.tolist()
    assert one.fingerprint != other.fingerprint


def test_fingerprint_does_not_depend_on_number_types():
    exact = plan(**ARGUMENTS)
    same = ARGUMENTS | {
        "budget": Budget(epochs=2.0),
        "mixing": Mixing("explicit", weights={"b": 2.0, "a": 1.0}),
        "lengths_by_task": {task: np.array(v, np.int32) for task, v in ARGUMENTS["lengths_by_task"].items()},
    }
    assert plan(**same).fingerprint == exact.fingerprint


def test_fingerprint_is_the_same_in_another_process():
    code = """
from hf_crosstask.planning import Budget, Mixing, plan
lengths = {"ner": [3 + i % 17 for i in range(200)], "relation": [5 + i % 11 for i in range(90)]}
made = plan(lengths, budget=Budget(epochs=2.5), mixing=Mixing("temperature", temperature=2.0), tokens_per_step=256, seed=9)
print(made.fingerprint)
"""
    prints = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    namespace: dict[str, object] = {}
    exec(code.replace("print(made.fingerprint)", ""), namespace)
    made = namespace["made"]
    assert isinstance(made, TrainingPlan)
    assert prints == {made.fingerprint + "\n"}


def test_a_task_alone_sees_what_it_sees_among_others():
    lengths = {"a": natural(0, 400), "b": natural(1, 900)}
    both = plan(lengths, budget=Budget(tokens=60_000), tokens_per_step=1000, micro_batch_tokens=300, seed=11)
    tokens = both.tokens_by_task["a"]
    alone = plan(
        {"a": lengths["a"]},
        budget=Budget(tokens=tokens),
        tokens_per_step=round(tokens / both.num_steps),
        micro_batch_tokens=300,
        seed=11,
    )
    assert alone.num_steps == both.num_steps == 60
    assert visits(alone, "a") == visits(both, "a")
    assert alone.tokens_after_step[:, 0].tolist() == both.tokens_after_step[:, 0].tolist()
    other_seed = plan(lengths, budget=Budget(tokens=60_000), tokens_per_step=1000, micro_batch_tokens=300, seed=12)
    assert visits(other_seed, "a") != visits(both, "a")


def test_epoch_ends_are_the_steps_in_which_a_pass_is_completed():
    made = plan({"a": natural(0, 300), "b": natural(1, 500)}, budget=Budget(epochs=2.5), tokens_per_step=1024)
    after = made.tokens_after_step.sum(axis=1)
    assert len(made.epoch_ends) == 2
    for number, step in enumerate(sorted(made.epoch_ends), start=1):
        assert after[step - 1] < number * made.tokens_per_pass <= after[step]
    whole = plan({"a": natural(0, 300)}, budget=Budget(epochs=3), tokens_per_step=1024)
    assert max(whole.epoch_ends) == whole.num_steps


def test_summary():
    lengths = {"a": [10] * 30, "b": [5, 7] * 10}
    made = plan(
        lengths, budget=Budget(tokens=600), mixing=Mixing("uniform", unit="tokens"), tokens_per_step=100, seed=2
    )
    summary = made.summary()
    assert summary["tokens"] == {
        "target": 600,
        "planned": 600,
        "difference": 0,
        "padded": sum(batch.padded for step in range(made.num_steps) for batch in made.step(step)),
    }
    assert summary["padding_share"] == 1 - 600 / summary["tokens"]["padded"]
    row = summary["tasks"]["b"]
    assert row["examples"] == 20
    assert row["unique_tokens"] == 120
    assert row["tokens"] == 300
    assert row["share"] == 0.5
    assert row["epochs"] == 2.5
    assert row["most_repeats"] == 3
    assert row["examples_seen"] == 20
    assert row["visits"] == len(visits(made, "b"))
    assert summary["parameters"]["budget"] == {"tokens": 600}
    assert summary["parameters"]["seed"] == 2
    assert summary["steps"] == made.num_steps


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lengths_by_task": {}}, "no task to plan"),
        ({"lengths_by_task": {"a": []}}, "task a has no training examples"),
        ({"lengths_by_task": {"a": [3, 0]}}, "task a: example 1 has no tokens"),
        (
            {"micro_batch_tokens": 20},
            "task a: example 1 has 30 tokens, more than micro_batch_tokens = 20. Raise training.micro_batch_tokens or "
            "lower model.max_length.",
        ),
        (
            {"tokens_per_step": 20, "micro_batch_tokens": 64},
            "task a: example 1 has 30 tokens, more than tokens_per_step = 20. Raise training.tokens_per_step or lower "
            "model.max_length.",
        ),
        ({"micro_batch_tokens": 0}, "tokens_per_step and micro_batch_tokens must be positive"),
        (
            {"budget": Budget(tokens=9)},
            "the budget of 9 tokens is smaller than the shortest example (10 tokens): nothing to train on",
        ),
    ],
)
def test_what_cannot_be_planned_is_said(arguments, message):
    given_arguments = {
        "lengths_by_task": {"a": [10, 30], "b": [12]},
        "budget": Budget(epochs=1),
        "tokens_per_step": 64,
    }
    given_arguments |= arguments
    with pytest.raises(PlanError) as error:
        plan(**given_arguments)
    assert str(error.value) == message


def test_small_quotas_go_to_the_task_they_fit():
    # Each task's share is shorter than its examples; together they are worth one.
    made = plan({"a": [10] * 5, "b": [12] * 9}, budget=Budget(tokens=11), mixing=Mixing("uniform"), tokens_per_step=64)
    assert made.tokens_by_task == {"a": 10, "b": 0}


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=30), st.integers(1, 8))
def test_processes_share_a_step_evenly(padded, processes):
    owners = assign_to_processes(padded, processes)
    assert len(owners) == len(padded)
    loads = [sum(size for size, owner in zip(padded, owners, strict=True) if owner == p) for p in range(processes)]
    assert max(loads) - min(loads) <= max(padded)
    assert owners == assign_to_processes(padded, processes)


def test_one_long_example_among_many_short_ones_is_cut_off_alone():
    made = plan({"a": [512, *[1] * 3000]}, budget=Budget(epochs=1), tokens_per_step=4096, micro_batch_tokens=512)
    assert max(batch.padded for batch in made.step(0)) <= 512
    assert sorted(visits(made, "a")) == list(range(3001))
