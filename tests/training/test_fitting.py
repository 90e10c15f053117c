from __future__ import annotations

import numpy as np
import pytest
import torch

from hf_crosstask.errors import InputError
from hf_crosstask.training import fitting
from hf_crosstask.training.fitting import fit_micro_batch, sizes


def test_sizes_cut_a_step_into_whole_parts():
    assert sizes(16384, 1, 512) == [16384, 8192, 5462, 4096, 2731, 2048, 1366, 1024, 683, 512]
    assert sizes(4096, 2, 700) == [2048, 1024, 700]
    assert sizes(300, 1, 512) == [512]
    assert all(later < earlier for earlier, later in zip(sizes(10**6, 3, 7), sizes(10**6, 3, 7)[1:], strict=False))


@pytest.fixture
def trainer(make_trainer):
    return make_trainer(tokens_per_step=256, micro_batch_tokens=256)


def test_the_largest_size_that_fits_is_found_and_the_model_left_alone(trainer):
    before = {name: each.detach().clone() for name, each in trainer.model.named_parameters()}
    fit = fit_micro_batch(trainer)
    assert fit.micro_batch_tokens == 256
    assert fit.probes[-1].tokens == 256
    assert 0 < fit.probes[-1].bytes < fit.limit_bytes
    assert fit.to_json()["share"] == 0.85
    for name, parameter in trainer.model.named_parameters():
        assert torch.equal(parameter, before[name])
        assert parameter.grad is None


def test_less_memory_means_smaller_micro_batches_or_an_error(trainer, monkeypatch):
    whole = fit_micro_batch(trainer)
    factor = whole.limit_bytes / whole.probes[0].bytes
    monkeypatch.setattr(fitting, "_CPU_FACTOR", fitting._CPU_FACTOR * factor * 2)
    fit = fit_micro_batch(trainer)
    assert 24 < fit.micro_batch_tokens < 200
    assert [probe.tokens for probe in fit.probes] == sizes(256, 1, 24)[: len(fit.probes)]
    assert all(probe.bytes > fit.limit_bytes for probe in fit.probes[:-1])
    monkeypatch.setattr(fitting, "_CPU_FACTOR", 1e12)
    with pytest.raises(InputError, match=r"not even one row of 24 tokens fits into .* GiB of cpu"):
        fit_micro_batch(trainer)


def test_activation_checkpointing_is_counted(make_trainer):
    plain = make_trainer(tokens_per_step=256, micro_batch_tokens=256)
    again = make_trainer(tokens_per_step=256, micro_batch_tokens=256, activation_checkpointing=True)
    assert fit_micro_batch(again).probes[0].bytes < 0.7 * fit_micro_batch(plain).probes[0].bytes


def test_gradients_that_surgery_keeps_are_counted(make_trainer):
    plain = make_trainer(tokens_per_step=256, micro_batch_tokens=256)
    surgery = make_trainer(tokens_per_step=256, micro_batch_tokens=256, gradient_surgery="pcgrad")
    (group,) = surgery.model.shared_groups()
    kept = len(group.users) * sum(parameter.nbytes for _, parameter in group.parameters)
    assert kept > 0
    assert fit_micro_batch(surgery).probes[0].bytes == fit_micro_batch(plain).probes[0].bytes + kept


def test_fillings_hold_the_longest_and_the_shortest_rows():
    shape = np.asarray([[1, length] for length in (3, 9, 4, 4, 8, 5)])
    longest, shortest = fitting._fillings(shape, 18)
    assert shape[longest, 1].tolist() == [9, 8]
    assert shape[shortest, 1].tolist() == [3, 4, 4]
    few = fitting._fillings(np.asarray([[2, 5]]), 40)
    assert len(few[1]) == 4  # one row of 2 sequences, repeated
