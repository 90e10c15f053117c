"""Surgery inside training: which gradients it sees, whose it changes, and that neither batches nor stops matter."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import TrainerCallback

from hf_crosstask.errors import CheckpointError, InputError
from hf_crosstask.training.shared_gradients import SharedGradients
from hf_crosstask.training.surgery import cosines, pcgrad, task_orders


class Gradients(TrainerCallback):
    """What the optimizer sees in each step, by name; clipped before, where clipping is on."""

    def __init__(self):
        self.model, self.seen = None, []

    def on_pre_optimizer_step(self, args, state, control, **_):
        self.seen.append(
            {
                name: None if parameter.grad is None else parameter.grad.clone()
                for name, parameter in self.model.named_parameters()
                if parameter.requires_grad
            }
        )


def gradients_of(make_trainer, model, **keywords):
    seen = Gradients()
    seen.model = model
    settings = {"max_steps": 2, "max_grad_norm": 0.0, "tokens_per_step": 400, "learning_rate": 0.0, **keywords}
    trainer = make_trainer(model, callbacks=[seen], **settings)
    trainer.train()
    return seen.seen, trainer


def shared(name):
    return name.startswith("backbone.")


def test_the_gradient_is_that_of_the_paper(make_trainer, make_model):
    """Per-task gradients by autograd on each task's whole part of the step; heads as without surgery, bit by bit."""
    model = make_model(dropout=0.0)
    plain, _ = gradients_of(make_trainer, model, micro_batch_tokens=100)
    ours, trainer = gradients_of(make_trainer, model, micro_batch_tokens=100, gradient_surgery="pcgrad")
    shared_names = [name for name in plain[0] if shared(name)]
    for step in (0, 1):
        jacobian = []
        for task in ("ner", "cls"):
            model.zero_grad()
            scale = trainer.loss_scales(step)[task]
            for batch in trainer.plan.step(step):
                if batch.task == task:
                    rows = [trainer.train_dataset[task][int(row)] for row in batch.examples]
                    inputs = trainer.data_collator(rows)
                    items = int((inputs["labels"] != -100).sum())
                    (model(task=task, **inputs).loss * items * scale).backward()
            named = dict(model.named_parameters())
            jacobian.append(torch.cat([named[name].grad.flatten() for name in shared_names]).double().numpy())
        jacobian = np.stack(jacobian)
        expected = pcgrad(jacobian @ jacobian.T, task_orders(2, 3, step)) @ jacobian
        found = torch.cat([ours[step][name].flatten() for name in shared_names]).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max())
        for name in plain[step]:
            if not shared(name):
                assert torch.equal(plain[step][name], ours[step][name])
    conflicts = trainer.gradient_conflicts
    assert conflicts[0]["tasks"] == ["ner", "cls"]
    assert conflicts[0]["steps"] == 2
    last = cosines(jacobian @ jacobian.T)[0, 1]
    assert conflicts[0]["min"] - 1e-6 <= last <= 2 * conflicts[0]["mean"] - conflicts[0]["min"] + 1e-6


def opposed(model):
    """A head that makes the tasks disagree: surely a conflict in some step."""
    with torch.no_grad():
        for parameter in model.heads.parameters():
            parameter.mul_(8)
    return model


@pytest.mark.parametrize("method", ["pcgrad", "upgrad", "cagrad", "gradvac"])
def test_weights_change_and_conflicts_are_counted(make_trainer, make_model, weights, method):
    """Defect: gradients were written where the optimizer did not see them, and weights never changed."""
    settings = {"max_steps": 6, "logging_strategy": "steps", "logging_steps": 2, "tokens_per_step": 96}
    model = opposed(make_model())
    before = {name: value.detach().clone() for name, value in model.named_parameters() if value.requires_grad}
    trainer = make_trainer(model, gradient_surgery=method, **settings)
    trainer.train()
    after = weights(trainer)
    assert all(not torch.equal(before[name], after[name]) for name in before)
    plain = make_trainer(opposed(make_model()), **settings)
    plain.train()
    assert not all(torch.equal(after[name], value) for name, value in weights(plain).items())
    (pair,) = trainer.gradient_conflicts
    assert pair["steps"] == 6
    assert -1 <= pair["min"] <= pair["mean"] <= 1
    assert 0 < pair["negative"] <= 1
    logged = [entry["cosine_ner_cls"] for entry in trainer.state.log_history if "cosine_ner_cls" in entry]
    assert np.mean(logged) == pytest.approx(pair["mean"], abs=1e-6)
    assert plain.gradient_conflicts == []


@pytest.mark.parametrize("granularity", ["global", "layer", "module"])
def test_accumulation_does_not_matter(make_trainer, make_model, granularity):
    """One micro-batch of a task, two, or four: one projection of the whole."""
    found = [
        gradients_of(
            make_trainer,
            opposed(make_model(dropout=0.0)),
            micro_batch_tokens=limit,
            gradient_surgery="pcgrad",
            surgery_granularity=granularity,
        )
        for limit in (400, 120, 60)
    ]
    batches = [trainer.plan.num_micro_batches for _, trainer in found]
    assert batches[0] < batches[1] < batches[2]
    for seen, _ in found[1:]:
        for one, other in zip(found[0][0], seen, strict=True):
            largest = max(float(value.abs().max()) for value in one.values())
            for name in one:
                assert float((one[name] - other[name]).abs().max()) < 2e-6 * largest


def test_granularity_is_one_gramian_per_part(make_model):
    blocks = {
        granularity: SharedGradients(make_model(), ("ner", "cls"), method="pcgrad", granularity=granularity).blocks
        for granularity in ("global", "layer", "module")
    }
    assert [len(blocks[name]) for name in ("global", "layer", "module")] == [1, 2, 12]
    assert {block[-1].stop for block in blocks.values()} == {blocks["global"][0].stop}


def test_absent_tasks_and_unused_parameters_have_no_gradient(make_model):
    model = make_model()
    surgery = SharedGradients(model, ("ner", "cls"), method="pcgrad")
    first, second = surgery.parameters[0], surgery.parameters[1]
    surgery.begin(["cls"])
    first.grad = torch.ones_like(first)
    surgery.take("cls")
    assert first.grad is None
    gramian = surgery.combine(0)
    assert torch.equal(first.grad, torch.ones_like(first))
    assert second.grad is None
    assert gramian[0].tolist() == [0, 0]
    assert gramian[1, 1] == first.numel()


def test_a_gradient_that_is_not_finite_reaches_the_scaler(make_model):
    surgery = SharedGradients(make_model(), ("ner", "cls"), method="upgrad")
    parameter = surgery.parameters[0]
    surgery.begin(["ner", "cls"])
    for task, value in (("ner", float("inf")), ("cls", 1.0)):
        parameter.grad = torch.full_like(parameter, value)
        surgery.take(task)
    assert not np.isfinite(surgery.combine(0)).all()
    assert not torch.isfinite(parameter.grad).any()


def test_a_part_that_some_tasks_share(make_model, monkeypatch):
    """A parameter of two of three tasks is projected among those two, whatever the third does."""
    torch.manual_seed(0)
    model = make_model()
    groups = model.shared_groups()
    (group,) = groups
    half = len(group.parameters) // 2
    monkeypatch.setattr(
        type(model),
        "shared_groups",
        lambda _: [
            type(group)(("a", "b", "c"), group.parameters[:half]),
            type(group)(("a", "b"), group.parameters[half:]),
        ],
    )
    surgery = SharedGradients(model, ("a", "b", "c"), method="pcgrad")
    rows = {task: [torch.randn_like(p) for p in surgery.parameters] for task in "abc"}
    surgery.begin(["a", "b", "c"])
    for task in "abc":
        users = surgery.parameters[:half] if task == "c" else surgery.parameters
        for parameter, gradient in zip(users, rows[task], strict=False):
            parameter.grad = gradient.clone()
        surgery.take(task)
    surgery.combine(4)
    for tasks, part in (("abc", slice(0, half)), ("ab", slice(half, None))):
        jacobian = np.stack([torch.cat([g.flatten() for g in rows[task][part]]).double().numpy() for task in tasks])
        expected = pcgrad(jacobian @ jacobian.T, task_orders(len(tasks), 0, 4)) @ jacobian
        found = torch.cat([p.grad.flatten() for p in surgery.parameters[part]]).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"gradient_surgery": "pc_grad"}, "gradient_surgery: unknown value 'pc_grad'"),
        ({"gradient_surgery": "pcgrad", "surgery_granularity": "layers"}, "surgery_granularity: unknown value"),
        ({"gradient_surgery": "pcgrad", "stage_order": "given"}, "gradient_surgery has no effect with stage_order"),
    ],
)
def test_refused(make_trainer, keywords, message):
    with pytest.raises(InputError, match=message):
        make_trainer(**keywords)


def test_nothing_shared_is_refused(make_trainer, make_model, train_data):
    with pytest.raises(InputError, match="no parameter is trained by two or more tasks"):
        make_trainer(make_model(tasks=("ner",)), train_dataset={"ner": train_data["ner"]}, gradient_surgery="pcgrad")


def test_fsdp_is_refused(make_trainer, monkeypatch):
    from hf_crosstask.training.trainer import MultiTaskTrainer

    make_trainer()  # the patch concerns the check alone
    check = MultiTaskTrainer._check_tasks

    def sharded(trainer):
        trainer.is_fsdp_enabled = True
        check(trainer)

    monkeypatch.setattr(MultiTaskTrainer, "_check_tasks", sharded)
    for keywords in ({"gradient_surgery": "pcgrad"}, {"loss_weights": "uncertainty"}):
        with pytest.raises(InputError, match="needs whole gradients, which FSDP and DeepSpeed do not give"):
            make_trainer(**keywords)
    make_trainer()


@pytest.mark.parametrize("method", ["pcgrad", "gradvac"])
def test_a_stopped_run_ends_bit_identical(make_trainer, make_model, weights, same, tmp_path, method):
    settings = {"max_steps": 6, "save_strategy": "steps", "save_steps": 4, "gradient_surgery": method}
    settings |= {"micro_batch_tokens": 64}
    whole = make_trainer(output_dir=str(tmp_path / "whole"), **settings)
    whole.train()
    resumed = make_trainer(output_dir=str(tmp_path / "whole"), **settings)
    with torch.no_grad():
        for parameter in resumed.model.parameters():
            if parameter.requires_grad:
                parameter.normal_()
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-4"))
    assert same(weights(whole), weights(resumed))
    assert whole.gradient_conflicts == resumed.gradient_conflicts
    assert whole.gradient_conflicts[0]["steps"] == 6
    assert np.array_equal(whole.task_objective.surgery.targets, resumed.task_objective.surgery.targets)
    assert (whole.task_objective.surgery.targets != 0).any() == (method == "gradvac")


def test_resuming_without_the_state_of_surgery_is_refused(make_trainer, tmp_path):
    settings = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "output_dir": str(tmp_path / "run")}
    make_trainer(gradient_surgery="pcgrad", **settings).train()
    with pytest.raises(CheckpointError, match="of another gradient surgery"):
        make_trainer(gradient_surgery="gradvac", **settings).train(
            resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-2")
        )
