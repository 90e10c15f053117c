from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hf_crosstask.encoding.collator import MultiTaskCollator
from hf_crosstask.errors import InputError
from hf_crosstask.planning.budget import Budget
from hf_crosstask.planning.plan import plan
from hf_crosstask.training.feed import StepFeed, count, loss_weights, seed_dropout, token_batches
from hf_crosstask.training.rows import token_lengths

COLLATE = MultiTaskCollator(0)


@pytest.fixture(scope="module")
def made(train_data):
    lengths = {task: token_lengths(rows, task) for task, rows in train_data.items()}
    return plan(lengths, budget=Budget(epochs=1), tokens_per_step=256, micro_batch_tokens=64, seed=1)


def test_count():
    inputs = {
        "attention_mask": torch.tensor([[1, 1, 1], [1, 0, 0]]),
        "labels": torch.tensor([[-100, 2, 1], [0, -100, -100]]),
    }
    assert count(inputs, "t", shifted=False).tolist() == [2, 4, 6, 3]
    assert count(inputs, "t", shifted=True).tolist() == [2, 4, 6, 2]  # the first position predicts nothing
    assert count({**inputs, "labels": torch.tensor([1, -100])}, "t", shifted=True).tolist() == [2, 4, 6, 1]
    assert count({**inputs, "labels": torch.tensor([[0.0, 1.0], [1.0, 1.0]])}, "t", shifted=False)[3] == 2


def test_a_batch_without_mask_is_refused():
    with pytest.raises(InputError, match=r"batch of task ner has no attention_mask"):
        count({"labels": torch.zeros(1)}, "ner", shifted=False)


def test_items_are_the_steps_of_the_plan(made, train_data):
    feed = StepFeed(made, train_data, COLLATE)
    assert len(feed) == made.num_steps
    for step in range(made.num_steps):
        for fed, planned in zip(feed[step], made.step(step), strict=True):
            rows = train_data[planned.task][planned.examples.tolist()]["input_ids"]
            assert [
                ids[mask.bool()].tolist()
                for ids, mask in zip(fed.inputs["input_ids"], fed.inputs["attention_mask"], strict=True)
            ] == rows
            assert fed.counts[:3].tolist() == [len(planned.examples), planned.tokens, planned.padded]
            assert fed.items == fed.counts[3] == (fed.inputs["labels"] != -100).sum()
            assert fed.real


@pytest.mark.parametrize("processes", [1, 2, 3, 8])
def test_processes_together_run_every_micro_batch_once(made, train_data, processes):
    feeds = [StepFeed(made, train_data, COLLATE, process=p, processes=processes) for p in range(processes)]
    for step in range(made.num_steps):
        numbers = sorted(fed.planned.number for feed in feeds for fed in feed[step])
        assert numbers == [batch.number for batch in made.step(step)]


def test_lockstep_gives_every_process_as_many_micro_batches(made, train_data):
    feeds = [StepFeed(made, train_data, COLLATE, process=p, processes=3, lockstep=True) for p in range(3)]
    fillers = 0
    for step in range(made.num_steps):
        items = [feed[step] for feed in feeds]
        assert len({len(each) for each in items}) == 1
        real = sorted(fed.planned.number for each in items for fed in each if fed.real)
        assert real == [batch.number for batch in made.step(step)]
        fillers += sum(not fed.real for each in items for fed in each)
    assert fillers


def test_a_feed_travels_to_workers(made, train_data):
    feed = pickle.loads(pickle.dumps(StepFeed(made, train_data, COLLATE)))
    assert feed[0][0].planned.number == 0


@given(st.lists(st.integers(0, 60), min_size=1, max_size=50), st.integers(1, 200))
def test_evaluation_batches_hold_every_row_once_within_the_limit(lengths, limit):
    batches = token_batches(np.array(lengths), limit)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[row] for row in batch)
        assert len(batch) == 1 or longest * len(batch) <= limit


def test_dropout_is_seeded_by_run_and_micro_batch():
    def drawn(seed, number):
        seed_dropout(seed, number)
        return torch.rand(4).tolist()

    torch.manual_seed(1)
    first = drawn(42, 7)
    torch.manual_seed(2)
    assert drawn(42, 7) == first
    assert len({tuple(drawn(seed, number)) for seed in range(10) for number in range(20)}) == 200


def test_loss_weights():
    tokens = {"a": 300, "b": 100}
    assert loss_weights("share", tokens) == {"a": 0.75, "b": 0.25}
    assert loss_weights("equal", tokens) == {"a": 0.5, "b": 0.5}
    assert loss_weights({"a": 1, "b": 4, "absent": 9}, tokens) == {"a": 0.2, "b": 0.8}
    assert loss_weights({"a": 1, "b": 4}, {"b": 10}) == {"b": 1.0}


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("shares", "loss_weights is 'shares'; it is 'share', 'equal' or a weight for each task"),
        ({"a": 1}, "loss_weights names no weight for b"),
    ],
)
def test_bad_loss_weights(rule, message):
    with pytest.raises(InputError) as error:
        loss_weights(rule, {"a": 1, "b": 2})
    assert str(error.value) == message
