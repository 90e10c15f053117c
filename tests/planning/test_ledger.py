from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_crosstask.errors import CheckpointError, LedgerMismatchError
from hf_crosstask.planning.budget import Budget
from hf_crosstask.planning.ledger import TokenLedger
from hf_crosstask.planning.plan import TrainingPlan, plan

counts = st.lists(st.integers(0, 10**12), min_size=8, max_size=8).map(lambda values: np.array(values).reshape(2, 4))


@pytest.fixture(scope="module")
def made() -> TrainingPlan:
    generator = np.random.default_rng(0)
    lengths = {"ner": generator.integers(3, 20, 40), "relation": generator.integers(3, 20, 25)}
    return plan(lengths, budget=Budget(epochs=2), tokens_per_step=64)


def counted(made: TrainingPlan, step: int) -> np.ndarray:
    ledger = TokenLedger(made.tasks)
    for number in range(step):
        for batch in made.step(number):
            row = np.zeros((2, 4), np.int64)
            row[made.tasks.index(batch.task)] = len(batch.examples), batch.tokens, batch.padded, 1
            ledger.record(row)
    return ledger.counts


def test_what_the_plan_says_passes_at_every_step(made):
    for step in range(made.num_steps + 1):
        ledger = TokenLedger(made.tasks, counted(made, step))
        ledger.verify(made, step)
    assert ledger.total_tokens == made.total_tokens


@pytest.mark.parametrize("column", [0, 1])
def test_one_token_or_example_off_is_an_error(made, column):
    counts = counted(made, 3)
    counts[1, column] += 1
    examples, tokens = counts[1, :2]
    with pytest.raises(LedgerMismatchError) as error:
        TokenLedger(made.tasks, counts).verify(made, 3)
    planned = f"{made.examples_after_step[3, 1]} examples and {made.tokens_after_step[3, 1]} tokens"
    assert f"step 3: task relation was planned to have seen {planned}" in str(error.value)
    assert f"but {examples} examples and {tokens} tokens were counted" in str(error.value)


def test_padding_and_labels_are_not_planned(made):
    counts = counted(made, 2)
    counts[:, 2:] += 5
    TokenLedger(made.tasks, counts).verify(made, 2)


def test_tasks_are_matched_by_name(made):
    TokenLedger(made.tasks[::-1], counted(made, 2)[::-1]).verify(made, 2)


@given(st.lists(counts, max_size=5))
def test_records_add_up_and_survive_json(records):
    ledger = TokenLedger(["a", "b"])
    for record in records:
        ledger.record(record)
    total = sum(records, np.zeros((2, 4), np.int64))
    assert ledger.by_task()["b"] == dict(
        zip(("examples", "tokens", "padded", "supervised"), total[1].tolist(), strict=True)
    )
    assert ledger.total_tokens == total[:, 1].sum()
    again = TokenLedger.from_json(["b", "a"], json.loads(json.dumps(ledger.to_json())))
    assert again.by_task() == ledger.by_task()


def test_a_ledger_does_not_share_its_counts():
    counts = np.ones((1, 4), np.int64)
    ledger = TokenLedger(["a"], counts)
    ledger.record(counts)
    assert counts.tolist() == [[1, 1, 1, 1]]
    assert ledger.counts.tolist() == [[2, 2, 2, 2]]


def test_ledger_of_other_tasks_is_refused():
    stored = TokenLedger(["a", "b"]).to_json()
    with pytest.raises(CheckpointError) as error:
        TokenLedger.from_json(["a", "c"], stored)
    assert str(error.value) == "the checkpoint's ledger is of tasks ['a', 'b'], this run trains ['a', 'c']"
