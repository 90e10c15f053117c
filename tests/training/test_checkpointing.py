from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from transformers import EarlyStoppingCallback, TrainerCallback

from hf_crosstask.errors import CheckpointError
from hf_crosstask.training import checkpoint as checkpoints
from hf_crosstask.training.callbacks import evenly
from hf_crosstask.training.checkpoint import last_complete_checkpoint


class Killed(Exception):
    """Stands for kill -9: nothing is saved after it."""


class KillAfter(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **_):
        if state.global_step == self.step:
            raise Killed


class Scores:
    """A metric that gives each task the same score, from a list by evaluation of the plan's steps."""

    def __init__(self, by_step):
        self.by_step, self.trainer = by_step, None

    def __call__(self, output):
        return {"score": self.by_step.get(self.trainer.state.global_step, 0.0)}


@pytest.fixture
def scored(make_trainer, eval_data):
    """A trainer whose macro score at each step is given."""

    def make(by_step, model=None, **keywords):
        scores = Scores(by_step)
        trainer = make_trainer(model, eval_dataset=eval_data, compute_metrics=scores, **keywords)
        scores.trainer = trainer
        return trainer

    return make


def output(trainer):
    return Path(trainer.args.output_dir)


def saved_steps(trainer):
    return [int(path.name.split("-")[1]) for path in checkpoints.checkpoints(output(trainer))]


@pytest.mark.parametrize(("lora", "save_steps", "kill"), [(True, 3, 7), (True, 1, 5), (False, 3, 5)])
def test_a_killed_run_ends_bit_identical(make_trainer, make_model, weights, same, tmp_path, lora, save_steps, kill):
    settings = {"max_steps": 8, "save_strategy": "steps", "save_steps": save_steps, "save_total_limit": 2}
    settings |= {"micro_batch_tokens": 64, "logging_strategy": "steps", "logging_steps": 1}
    whole = make_trainer(make_model(lora=lora), output_dir=str(tmp_path / "whole"), **settings)
    whole.train()
    with pytest.raises(Killed):
        make_trainer(make_model(lora=lora), callbacks=[KillAfter(kill)], **settings).train()
    resumed = make_trainer(make_model(lora=lora), **settings)
    with torch.no_grad():  # what trains comes from the checkpoint; the frozen base does not
        for parameter in resumed.model.parameters():
            if parameter.requires_grad:
                parameter.normal_()
    resumed.train(resume_from_checkpoint=True)
    assert same(weights(whole), weights(resumed))
    assert whole.ledger.by_task() == resumed.ledger.by_task()
    assert whole.accounts.mean_losses() == resumed.accounts.mean_losses()
    kept = ("loss", "grad_norm", "learning_rate", "loss_ner", "tokens_cls", "epoch", "step")
    for one, other in zip(whole.state.log_history[:-1], resumed.state.log_history[:-1], strict=True):
        assert {name: one[name] for name in kept} == {name: other[name] for name in kept}
    optimizers = [trainer.optimizer.state_dict()["state"] for trainer in (whole, resumed)]
    assert all(torch.equal(optimizers[0][k]["exp_avg_sq"], optimizers[1][k]["exp_avg_sq"]) for k in optimizers[0])


def test_there_is_nothing_to_resume(make_trainer):
    with pytest.raises(CheckpointError, match=r"there is no complete checkpoint in .* to resume from"):
        make_trainer().train(resume_from_checkpoint=True)


def test_resuming_a_finished_run_changes_nothing(make_trainer, make_model, weights, same):
    settings = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    whole = make_trainer(**settings)
    whole.train()
    again = make_trainer(**settings)
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == 4
    assert same(weights(whole), weights(again))
    assert again.ledger.by_task() == whole.ledger.by_task()


def test_a_damaged_checkpoint_is_passed_over(make_trainer, weights, same, tmp_path):
    settings = {"max_steps": 8, "save_strategy": "steps", "save_steps": 2}
    whole = make_trainer(output_dir=str(tmp_path / "whole"), **settings)
    whole.train()
    with pytest.raises(Killed):
        make_trainer(callbacks=[KillAfter(7)], **settings).train()
    resumed = make_trainer(**settings)
    folder = output(resumed)
    with open(folder / "checkpoint-6" / "optimizer.pt", "r+b") as handle:
        handle.truncate(100)
    leftover = checkpoints.staging_folder(folder, 8)
    shutil.copytree(folder / "checkpoint-6", leftover)
    assert last_complete_checkpoint(folder) == folder / "checkpoint-4"
    resumed.train(resume_from_checkpoint=True)
    assert not leftover.exists()
    assert same(weights(whole), weights(resumed))
    assert checkpoints.problem(folder / "checkpoint-6") is None  # saved anew


@pytest.mark.parametrize(
    ("change", "what"),
    [({"seed": 4}, "plan"), ({"tokens_per_step": 100}, "plan"), ({"fingerprint": "other"}, "recipe or data")],
)
def test_another_plan_or_run_is_not_resumed(make_trainer, change, what):
    settings = {"max_steps": 3, "save_strategy": "steps", "save_steps": 1, "fingerprint": "recipe"}
    make_trainer(**settings).train()
    other = make_trainer(**(settings | change))
    with pytest.raises(CheckpointError, match=f"checkpoint-3 belongs to another {what} "):
        other.train(resume_from_checkpoint=True)


def test_a_model_with_other_parameters_is_not_resumed(make_trainer, make_model, train_data):
    settings = {"max_steps": 1, "save_strategy": "steps", "save_steps": 1}
    make_trainer(make_model(), **settings).train()
    other = make_trainer(make_model(lora=False), **settings)
    with pytest.raises(
        CheckpointError, match=r"checkpoint-1 holds other parameters than the model trains \(\d+ differ"
    ):
        other.train(resume_from_checkpoint=True)


def test_checkpoints_are_rotated_and_hold_no_pickled_arguments(make_trainer):
    trainer = make_trainer(max_steps=7, save_strategy="steps", save_steps=2, save_total_limit=2)
    trainer.train()
    assert saved_steps(trainer) == [6, 7]
    files = {path.name for path in (output(trainer) / "checkpoint-7").iterdir()}
    assert files == {
        "manifest.json", "optimizer.pt", "progress.json", "rng_state.pth", "scheduler.pt", "trained.safetensors",
        "trainer_state.json",
    }  # fmt: skip


class Snapshots(TrainerCallback):
    def __init__(self, weights):
        self.weights, self.at, self.trainer = weights, {}, None

    def on_step_end(self, args, state, control, **_):
        self.at[state.global_step] = self.weights(self.trainer)


@pytest.mark.parametrize("lora", [True, False], ids=["lora", "full"])
def test_the_best_model_is_restored_and_its_checkpoint_kept(scored, make_model, weights, same, lora):
    snapshots = Snapshots(weights)
    trainer = scored(
        {2: 0.1, 4: 0.7, 6: 0.3, 8: 0.2},
        make_model(lora=lora),
        max_steps=8,
        eval_strategy="steps",
        eval_steps=2,
        save_strategy="steps",
        save_steps=2,
        save_total_limit=2,
        load_best_model_at_end=True,
        callbacks=[snapshots],
    )
    snapshots.trainer = trainer
    trainer.train()
    assert trainer.state.best_metric == 0.7
    assert saved_steps(trainer) == [4, 8]
    assert same(weights(trainer), snapshots.at[4])
    assert not same(weights(trainer), snapshots.at[8])
    assert any(name.startswith("heads.") for name in snapshots.at[4])


def test_the_best_saved_checkpoint_survives_a_better_one_that_was_not_saved(scored, weights, same):
    snapshots = Snapshots(weights)
    trainer = scored(
        {2: 0.7, 3: 0.9},  # the best step is evaluated, but not saved
        max_steps=8,
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=2,
        save_total_limit=2,
        load_best_model_at_end=True,
        callbacks=[snapshots],
    )
    snapshots.trainer = trainer
    trainer.train()
    assert saved_steps(trainer) == [2, 8]
    assert same(weights(trainer), snapshots.at[2])


def test_a_share_of_the_run_is_as_many_looks_at_validation_in_a_run_of_any_length(scored, weights, same):
    snapshots, steps = Snapshots(weights), 11
    ends = sorted(evenly(steps, 0.2))
    trainer = scored(
        {ends[1]: 0.9, steps: 0.2},
        max_steps=steps,
        eval_strategy="steps",
        eval_steps=0.2,
        save_strategy="steps",
        save_steps=0.2,
        load_best_model_at_end=True,
        callbacks=[snapshots],
    )
    snapshots.trainer = trainer
    trainer.train()
    looks = [entry["step"] for entry in trainer.state.log_history if "eval_macro_score" in entry]
    assert looks == ends
    assert len(looks) == 5  # rounded up, the distance would leave four looks at 11 steps
    assert same(weights(trainer), snapshots.at[ends[1]])


def test_save_strategy_best(scored, weights, same):
    trainer = scored({1: 0.1, 2: 0.5, 3: 0.2, 4: 0.6, 5: 0.1}, max_steps=5, eval_strategy="steps", eval_steps=1,
                     save_strategy="best", save_total_limit=1)  # fmt: skip
    trainer.train()
    assert saved_steps(trainer) == [4]


EARLY = {
    "max_steps": 12,
    "eval_strategy": "steps",
    "eval_steps": 1,
    "save_strategy": "steps",
    "save_steps": 1,
    "load_best_model_at_end": True,
}


def test_early_stopping_on_the_macro_score(scored, weights, same):
    snapshots = Snapshots(weights)
    trainer = scored({1: 0.2, 2: 0.5, 3: 0.4, 4: 0.45, 5: 0.1, 6: 0.9},
                     callbacks=[EarlyStoppingCallback(3), snapshots], **EARLY)  # fmt: skip
    snapshots.trainer = trainer
    trainer.train()
    assert trainer.state.global_step == 5
    assert trainer.stopped is None
    assert same(weights(trainer), snapshots.at[2])
    trainer.ledger.verify(trainer.plan, 5)


@pytest.mark.parametrize("kill", [3, 4])
def test_early_stopping_goes_on_counting_after_a_kill(scored, weights, same, kill, tmp_path):
    by_step = {1: 0.2, 2: 0.5, 3: 0.4, 4: 0.45, 5: 0.1, 6: 0.9}
    whole = scored(by_step, output_dir=str(tmp_path / "whole"), callbacks=[EarlyStoppingCallback(3)], **EARLY)
    whole.train()
    with pytest.raises(Killed):
        scored(by_step, callbacks=[EarlyStoppingCallback(3), KillAfter(kill + 1)], **EARLY).train()
    stopping = EarlyStoppingCallback(3)
    resumed = scored(by_step, callbacks=[stopping], **EARLY)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 5
    assert stopping.early_stopping_patience_counter == 3  # the caller's own object
    assert same(weights(whole), weights(resumed))


def test_a_run_that_stopped_early_is_not_trained_further(scored, weights, same, tmp_path):
    by_step = {1: 0.2, 2: 0.5, 3: 0.4, 4: 0.45, 5: 0.1, 6: 0.9}
    whole = scored(by_step, callbacks=[EarlyStoppingCallback(3)], **EARLY)
    whole.train()
    again = scored(by_step, callbacks=[EarlyStoppingCallback(3)], **EARLY)
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == 5
    assert same(weights(whole), weights(again))


def test_epoch_strategies_with_early_stopping_evaluate_each_pass_once(scored):
    trainer = scored({}, num_train_epochs=6, eval_strategy="epoch", save_strategy="epoch", load_best_model_at_end=True,
                     callbacks=[EarlyStoppingCallback(2)])  # fmt: skip
    trainer.train()
    evaluated = [entry["step"] for entry in trainer.state.log_history if "eval_macro_score" in entry]
    assert evaluated == sorted(trainer.plan.epoch_ends)[:3]
    assert trainer.state.global_step == evaluated[-1]
