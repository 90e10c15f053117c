"""Loss weights that change in training: learned ones, and those that follow the losses."""

from __future__ import annotations

import math

import pytest
import torch

from hf_crosstask.errors import CheckpointError, InputError
from hf_crosstask.training.weighting import DynamicWeightAverage, UncertaintyWeighting, loss_weighting

TASKS = ("ner", "cls")
TOKENS = {"ner": 300, "cls": 100}


def test_uncertainty_is_kendalls_objective():
    weighting = UncertaintyWeighting(TASKS, torch.device("cpu"))
    assert {task: weight.item() for task, weight in weighting.weights(TOKENS).items()} == {"ner": 0.5, "cls": 0.5}
    with torch.no_grad():
        for parameter, value in zip(weighting.parameters(), (0.7, -0.2), strict=True):
            parameter.fill_(value)
    losses = {"ner": 1.3, "cls": 0.4}
    total = sum(weight * losses[task] for task, weight in weighting.weights(TOKENS).items()) + weighting.penalty(
        TOKENS
    )
    expected = (math.exp(-0.7) * 1.3 + 0.7 / 2 + math.exp(0.2) * 0.4 - 0.2 / 2) / 2
    assert total.item() == pytest.approx(expected, abs=1e-6)
    total.backward()
    gradients = [float(parameter.grad) for parameter in weighting.parameters()]
    assert gradients == pytest.approx([(0.5 - math.exp(-0.7) * 1.3) / 2, (0.5 - math.exp(0.2) * 0.4) / 2], abs=1e-6)


def test_a_task_that_is_absent_learns_nothing():
    weighting = UncertaintyWeighting(TASKS, torch.device("cpu"))
    present = {"cls": 10}
    (weighting.weights(present)["cls"] * 2.0 + weighting.penalty(present)).backward()
    assert weighting.parameters()[0].grad is None
    assert float(weighting.parameters()[1].grad) == pytest.approx(0.5 - 2.0)


def test_dynamic_weights_follow_the_losses_of_two_windows():
    weighting = DynamicWeightAverage(TASKS, steps=40)
    assert weighting.window == 2
    for step, losses in enumerate([(2.0, 1.0), (4.0, 1.0), (3.0, 0.4), (3.0, 0.4)]):
        assert weighting.weights(TOKENS) == {"ner": 0.5, "cls": 0.5}
        # Sums of item losses, and items: means per item over the window, not means of means.
        weighting.after_step(step, torch.tensor([[losses[0] * 3, 3.0], [losses[1] * 5, 5.0]]).double(), 1)
    rates = {"ner": 3.0 / 3.0, "cls": 0.4 / 1.0}
    total = sum(math.exp(rate / 2) for rate in rates.values())
    expected = {task: math.exp(rate / 2) / total for task, rate in rates.items()}
    assert weighting.weights(TOKENS) == pytest.approx(expected)
    assert weighting.weights({"cls": 5}) == {"cls": 1.0}
    for step in (4, 5):  # ner is absent from a window: it keeps its rate
        weighting.after_step(step, torch.tensor([[0.0, 0.0], [2.0, 5.0]]).double(), 1)
    assert weighting.weights(TOKENS)["ner"] == pytest.approx(math.exp(0.5) / (math.exp(0.5) + math.exp(0.5)))


def test_a_loss_that_is_not_a_number_leaves_weights_finite():
    weighting = DynamicWeightAverage(("a", "b"), steps=3)
    for step, loss in enumerate([1.0, float("nan"), 2.0]):
        weighting.after_step(step, torch.tensor([[loss, 1.0], [1.0, 1.0]]).double(), 1)
        assert sum(weighting.weights({"a": 1, "b": 1}).values()) == pytest.approx(1)


def test_unknown_rules_are_refused():
    with pytest.raises(InputError, match="loss_weights is 'kendall'; it is 'share', 'equal', 'uncertainty', 'dwa' or"):
        loss_weighting("kendall", TASKS, steps=1, device=torch.device("cpu"))
    with pytest.raises(InputError, match="names no weight for cls"):
        loss_weighting({"ner": 1.0}, TASKS, steps=1, device=torch.device("cpu"))


@pytest.mark.parametrize("rule", ["uncertainty", "dwa"])
def test_a_stopped_run_ends_bit_identical(make_trainer, make_model, weights, same, tmp_path, rule):
    settings = {"max_steps": 8, "save_strategy": "steps", "save_steps": 5, "loss_weights": rule, "weight_decay": 0.1}
    settings["micro_batch_tokens"] = 48
    settings |= {"logging_strategy": "steps", "logging_steps": 1, "output_dir": str(tmp_path / "run")}
    whole = make_trainer(**settings)
    whole.train()
    resumed = make_trainer(**settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-5"))
    assert same(weights(whole), weights(resumed))
    assert whole.task_objective.weighting.state() == resumed.task_objective.weighting.state()
    for one, other in zip(whole.state.log_history[:-1], resumed.state.log_history[:-1], strict=True):
        assert one["weight_ner"] == other["weight_ner"]
    logged = [entry["weight_ner"] for entry in whole.state.log_history[:-1]]
    assert len(set(logged)) > 3
    equal = make_trainer(**{**settings, "loss_weights": "equal", "save_strategy": "no"})
    equal.train()
    assert not same(weights(whole), weights(equal))


def test_a_checkpoint_of_a_fixed_rule_is_refused(make_trainer, tmp_path):
    settings = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "output_dir": str(tmp_path / "run")}
    make_trainer(**settings, loss_weights="equal").train()
    with pytest.raises(CheckpointError, match="holds no state of loss_weights"):
        make_trainer(**settings, loss_weights="dwa").train(str(tmp_path / "run" / "checkpoint-2"))


def test_what_is_learned_has_no_weight_decay_and_is_not_clipped(make_trainer):
    settings = {
        "max_steps": 1,
        "loss_weights": "uncertainty",
        "weight_decay": 0.5,
        "max_grad_norm": 1e-9,
        "optim": "sgd",
    }
    trainer = make_trainer(**settings, learning_rate=1.0, lr_scheduler_type="constant")
    trainer.train()
    group = trainer.optimizer.param_groups[-1]
    assert group["weight_decay"] == 0
    assert group["params"] == trainer.task_objective.weighting.parameters()
    losses = trainer.accounts.mean_losses()
    for task, value in trainer.task_objective.weighting.state().log_variances.items():
        assert value == pytest.approx(-(0.5 - losses[task]) / 2, abs=1e-5)
