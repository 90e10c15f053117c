from __future__ import annotations

import numpy as np
import pytest

from hf_crosstask.encoding.collator import MultiTaskCollator
from hf_crosstask.errors import InputError
from hf_crosstask.training.evaluation_batches import EvalBatches, assemble, macro_score
from hf_crosstask.training.rows import token_lengths


def batches(rows, **options):
    return EvalBatches("ner", rows, token_lengths(rows, "ner"), MultiTaskCollator(0), limit=60, **options)


def test_every_row_once_with_its_labels(eval_data):
    rows = eval_data["ner"]
    seen = []
    for batch in batches(rows):
        assert batch.inputs["input_ids"].numel() <= 60 or len(batch.rows) == 1
        assert batch.items == (batch.inputs["labels"] != -100).sum()
        seen += batch.rows.tolist()
    assert sorted(seen) == list(range(len(rows)))


def test_rows_without_labels_can_be_predicted(eval_data):
    rows = eval_data["ner"].remove_columns("labels")
    assert {batch.items for batch in batches(rows)} == {0}


@pytest.mark.parametrize("processes", [2, 3, 50])
def test_processes_share_the_rows(eval_data, processes):
    rows = eval_data["ner"]
    shares = [batches(rows, process=p, processes=processes) for p in range(processes)]
    seen = [row for share in shares for batch in share for row in batch.rows.tolist()]
    assert sorted(seen) == list(range(len(rows)))
    in_step = [batches(rows, process=p, processes=processes, lockstep=True) for p in range(processes)]
    assert len({len(share) for share in in_step}) == 1
    real = [row for share in in_step for batch in share if batch.real for row in batch.rows.tolist()]
    assert sorted(real) == list(range(len(rows)))


def test_assemble_puts_rows_in_order_and_pads():
    parts = [
        (np.array([2, 0]), np.array([[[1.0], [2.0], [3.0]], [[4.0], [5.0], [6.0]]], np.float32)),
        (np.array([1]), np.array([[[7.0]]], np.float32)),
    ]
    result = assemble(parts, np.zeros(3))
    assert result is not None
    assert result[..., 0].tolist() == [[4, 5, 6], [7, -100, -100], [1, 2, 3]]
    assert result.dtype == np.float32
    flat = assemble([(np.array([1]), np.array([5])), (np.array([0]), np.array([3]))], np.zeros(2))
    assert flat is not None
    assert flat.tolist() == [3, 5]
    assert assemble([], np.zeros(2)) is None


def test_macro_score_is_the_mean_of_primary_metrics():
    scores = {"a": {"f1": 0.5, "recall": 0.9, "loss": 3.0}, "b": {"loss": 1.0, "accuracy": 0.7}, "c": {"loss": 2.0}}
    assert macro_score(scores, {}) == pytest.approx(0.6)
    assert macro_score(scores, {"a": "recall"}) == pytest.approx(0.8)
    assert macro_score({"c": scores["c"]}, {}) is None
    with pytest.raises(InputError) as error:
        macro_score(scores, {"a": "f2"})
    assert str(error.value) == "primary_metrics: task a: unknown metric 'f2'; valid: f1, recall"
