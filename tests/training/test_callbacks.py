from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import TrainerCallback

from hf_crosstask.training.callbacks import GracefulStop, evenly
from hf_crosstask.training.checkpoint import checkpoints, problem


class Terminate(TrainerCallback):
    """Send this process SIGTERM in a step, as a batch system does."""

    def __init__(self, step):
        self.step = step

    def on_step_begin(self, args, state, control, **_):
        if state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


def saved(trainer):
    return [path.name for path in checkpoints(Path(trainer.args.output_dir))]


def logged(trainer, key):
    return [entry["step"] for entry in trainer.state.log_history if key in entry]


@pytest.fixture(autouse=True)
def sigterm_is_left_as_it_was():
    before = signal.getsignal(signal.SIGTERM)
    yield
    after = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, before)
    assert after == before


def test_sigterm_stops_with_a_checkpoint_that_resumes_bit_identical(make_trainer, weights, same, tmp_path):
    whole = make_trainer(max_steps=6, output_dir=str(tmp_path / "whole"))
    whole.train()
    assert whole.stopped is None
    stopped = make_trainer(max_steps=6, callbacks=[Terminate(2)])  # save_strategy "no": it saves all the same
    stopped.train()
    assert stopped.stopped == "sigterm"
    assert stopped.state.global_step == 3
    assert saved(stopped) == ["checkpoint-3"]
    assert problem(Path(stopped.args.output_dir) / "checkpoint-3") is None
    resumed = make_trainer(max_steps=6)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.stopped is None
    assert same(weights(whole), weights(resumed))
    assert resumed.ledger.by_task() == whole.ledger.by_task()


def test_the_time_limit_counts_from_the_start_of_the_process(make_trainer):
    trainer = make_trainer(max_steps=6, time_limit_minutes=1e-6)
    trainer.train()
    assert trainer.stopped == "time_limit"
    assert trainer.state.global_step == 1
    assert saved(trainer) == ["checkpoint-1"]


def test_a_time_limit_far_away_does_not_stop(make_trainer):
    trainer = make_trainer(max_steps=2, time_limit_minutes=60 * 24 * 30)
    trainer.train()
    assert trainer.stopped is None
    assert trainer.state.global_step == 2


def test_the_last_step_is_no_early_stop(make_trainer):
    trainer = make_trainer(max_steps=1, time_limit_minutes=1e-6)
    trainer.train()
    assert trainer.stopped is None


def test_a_stop_between_passes_does_not_evaluate(make_trainer, eval_data):
    epochs = {"num_train_epochs": 3, "eval_strategy": "epoch", "save_strategy": "epoch", "logging_strategy": "epoch"}
    trainer = make_trainer(eval_dataset=eval_data, callbacks=[Terminate(1)], **epochs)
    trainer.train()
    assert trainer.state.global_step == 2
    assert logged(trainer, "eval_loss") == []
    assert saved(trainer) == ["checkpoint-2"]


def test_sigterm_gets_its_meaning_back_after_an_error(make_trainer):
    class Fail(TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            assert signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
            raise ZeroDivisionError

    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with pytest.raises(ZeroDivisionError):
            make_trainer(max_steps=2, callbacks=[Fail()]).train()
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_stop_is_forgotten_when_training_begins_again(make_trainer):
    trainer = make_trainer(max_steps=3, callbacks=[Terminate(0)])
    trainer.train()
    assert trainer.stopped == "sigterm"
    trainer.remove_callback(Terminate)
    trainer.train()
    assert trainer.stopped is None


def test_graceful_stop_in_another_thread_leaves_signals_alone():
    import threading

    before = signal.getsignal(signal.SIGTERM)
    stop = GracefulStop()
    thread = threading.Thread(target=stop.on_train_begin, args=(None, None, None))
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) == before
    stop.on_train_end(None, None, None)
    assert signal.getsignal(signal.SIGTERM) == before


def test_epoch_strategies_follow_the_plan(make_trainer, eval_data):
    trainer = make_trainer(
        num_train_epochs=2.5,
        eval_dataset=eval_data,
        eval_strategy="epoch",
        save_strategy="epoch",
        logging_strategy="epoch",
    )
    trainer.train()
    ends = [*sorted(trainer.plan.epoch_ends), trainer.plan.num_steps]
    assert len(ends) == 3
    assert logged(trainer, "eval_loss") == ends
    assert logged(trainer, "loss") == ends
    assert saved(trainer) == [f"checkpoint-{step}" for step in ends]
    epochs = [entry["epoch"] for entry in trainer.state.log_history if "eval_loss" in entry]
    after = trainer.plan.tokens_after_step.sum(axis=1) / trainer.plan.tokens_per_pass
    assert epochs == [after[step] for step in ends]
    assert epochs[-1] == pytest.approx(2.5, abs=0.01)


@given(st.integers(1, 5000), st.integers(1, 50))
def test_a_share_is_as_many_parts_however_many_steps_there_are(steps, parts):
    ends = sorted(evenly(steps, 1 / parts))
    assert len(ends) == min(steps, parts)
    assert ends[-1] == steps
    between = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    assert max(between) - min(between) <= 1
    assert evenly(10, 0.3) == {3, 6, 9, 10}
