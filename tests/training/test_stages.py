"""Sequential training: schedule, consolidation, scores after every stage, and the same end after a stop."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hf_crosstask.errors import CheckpointError, InputError
from hf_crosstask.models.adapter_layout import one_a_stage, private_name
from hf_crosstask.models.adapters import LoraSettings
from hf_crosstask.planning.stages import Stage
from hf_crosstask.training.arguments import MultiTaskTrainingArguments
from hf_crosstask.training.consolidation import Consolidation, diagonal_fisher
from hf_crosstask.training.stages import stage_schedule


def accuracy(output):
    kept = output.label_ids != -100
    return {"accuracy": float((output.predictions.argmax(-1) == output.label_ids)[kept].mean())}


@pytest.fixture
def sequential(make_trainer, eval_data, tmp_path):
    """A run of nine steps, ner first: its stage ends after step 6."""

    def make(model=None, **keywords):
        settings = {
            "max_steps": 9,
            "stage_order": ["ner", "cls"],
            "ewc": 5.0,
            "save_strategy": "steps",
            "save_steps": 2,
        }
        settings |= {"output_dir": str(tmp_path / "run"), "logging_strategy": "steps", "logging_steps": 1}
        settings |= {"eval_dataset": eval_data, "compute_metrics": accuracy, **keywords}
        return make_trainer(model, **settings)

    return make


@pytest.fixture
def whole(sequential):
    trainer = sequential(rehearsal=0.3)
    trainer.train()
    return trainer


def test_a_run_in_stages(whole, sequential, weights, same, tmp_path):
    """Stopped before, at and after the end of a stage, a run ends as if it had not been."""
    first, second = whole.stages
    assert [first.task, second.task] == ["ner", "cls"]
    assert (first.end, second.end) == (6, 9)
    rates = [entry["learning_rate"] for entry in whole.state.log_history if "learning_rate" in entry]
    assert rates == pytest.approx([1e-2 * (1 - i / 6) for i in range(6)] + [1e-2 * (1 - i / 3) for i in range(3)])
    penalties = [entry["ewc_penalty"] for entry in whole.state.log_history if "ewc_penalty" in entry]
    assert penalties[:6] == [0] * 6
    assert all(penalty > 0 for penalty in penalties[7:])
    assert [(scores.task, scores.step) for scores in whole.stage_scores] == [("ner", 6), ("cls", 9)]
    assert {"accuracy", "loss"} == set(whole.stage_scores[0].metrics["cls"])
    assert whole.stage_scores[0].metrics["cls"] != whole.stage_scores[1].metrics["cls"]
    assert whole.ledger.by_task()["ner"]["tokens"] > first.tokens  # rehearsed
    for step in (4, 8):
        resumed = sequential(rehearsal=0.3)
        with torch.no_grad():
            for parameter in resumed.model.parameters():
                if parameter.requires_grad:
                    parameter.normal_()
        resumed.train(resume_from_checkpoint=str(tmp_path / "run" / f"checkpoint-{step}"))
        assert same(weights(whole), weights(resumed))
        assert resumed.stage_scores == whole.stage_scores
        assert same(whole.task_objective.progress_tensors(), resumed.task_objective.progress_tensors())


def test_a_stop_exactly_between_stages(sequential, weights, same, tmp_path):
    settings = {"save_steps": 6, "eval_dataset": None, "compute_metrics": None, "rehearsal": 0.3}
    whole = sequential(**settings)
    whole.train()
    resumed = sequential(**settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-6"))
    assert same(weights(whole), weights(resumed))
    assert [scores.metrics for scores in resumed.stage_scores] == [{}, {}]


def test_consolidation_holds_weights(sequential):
    """The stronger the penalty, the less far the next stage moves what mattered to the one before."""
    moved = []
    for strength in (1e-9, 2000.0):
        trainer = sequential(
            ewc=strength,
            max_steps=30,
            save_strategy="no",
            learning_rate=3e-3,
            eval_dataset=None,
            logging_strategy="no",
        )
        trainer.train()
        moved.append(trainer.task_objective.consolidation.penalty() / strength)
    assert 0 < moved[1] < 0.5 * moved[0]


def test_without_consolidation_a_checkpoint_is_refused(sequential, tmp_path):
    sequential(ewc=0.0).train()
    with pytest.raises(CheckpointError, match=r"has no consolidation.safetensors: it was written without ewc"):
        sequential().train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-6"))


def test_two_consolidations_are_one_penalty():
    """Two tensors hold any number of stages: same penalty, same gradient."""
    torch.manual_seed(0)
    parameter = torch.nn.Parameter(torch.randn(5))
    held = Consolidation({"w": parameter}, 3.0)
    stages = []
    for _ in range(3):
        fisher = torch.rand(5)
        held.consolidate([fisher])
        stages.append((fisher, parameter.detach().clone()))
        with torch.no_grad():
            parameter += torch.randn(5)
    expected = sum(1.5 * (fisher * (parameter - anchor) ** 2).sum() for fisher, anchor in stages)
    assert held.penalty() == pytest.approx(float(expected.detach()), rel=1e-5)
    expected.backward()
    wanted = parameter.grad.clone()
    parameter.grad = torch.ones(5)
    held.add_gradients(scale=8.0)
    torch.testing.assert_close(parameter.grad, 1 + 8 * wanted)
    parameter.grad = None
    held.add_gradients()
    assert parameter.grad is None


def test_fisher_is_the_mean_square_of_each_rows_gradient():
    torch.manual_seed(1)
    layer, unused = torch.nn.Linear(3, 2, bias=False), torch.nn.Parameter(torch.ones(2))
    rows, labels = torch.randn(4, 3), torch.tensor([0, 1, 1, 0])

    def losses(last):
        for row, label in zip(rows, labels, strict=True):
            yield torch.nn.functional.cross_entropy(layer(row), label)
        yield layer(rows[0]).sum() * last

    fisher, nothing = diagonal_fisher(losses(float("nan")), [layer.weight, unused], factor=64.0)
    expected = torch.zeros(2, 3)
    for row, label in zip(rows, labels, strict=True):
        probabilities = torch.softmax(layer(row), 0).detach()
        probabilities[label] -= 1
        expected += torch.outer(probabilities, row) ** 2 / 4
    torch.testing.assert_close(fisher, expected)
    assert not nothing.any()


@pytest.mark.parametrize("kind", ["linear", "cosine", "constant_with_warmup", "cosine_with_min_lr"])
def test_every_stage_has_the_whole_schedule(tmp_path, kind):
    extra = {"lr_scheduler_kwargs": {"min_lr": 1e-4}} if kind == "cosine_with_min_lr" else {}
    args = MultiTaskTrainingArguments(
        str(tmp_path), use_cpu=True, learning_rate=1e-3, lr_scheduler_type=kind, warmup_steps=0.2, **extra
    )
    factors = stage_schedule(args, [Stage("a", 0, 10, 1, 0), Stage("b", 10, 30, 1, 0)])
    assert len(factors) == 30
    for first, last, warmup in ((0, 10, 2), (10, 30, 4)):
        part = factors[first:last]
        assert part[0] == 0
        assert part[warmup] == pytest.approx(1)
        assert np.argmax(part) == warmup
        if kind != "constant_with_warmup":
            assert part[-1] < 0.3
        if extra:
            assert min(part[warmup:]) >= 0.1


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"rehearsal": 0.1}, "rehearsal and ewc go with stage_order"),
        ({"ewc": 0.1}, "rehearsal and ewc go with stage_order"),
        ({"ewc": -1.0, "stage_order": "given"}, "ewc must not be negative"),
        ({"stage_order": "backwards", "max_steps": 4}, "stage order: unknown rule 'backwards'"),
        ({"stage_order": "given", "lr_scheduler_type": "greedy", "eval_strategy": "epoch"}, "cannot start anew"),
    ],
)
def test_refused(make_trainer, eval_data, keywords, message):
    with pytest.raises(InputError, match=message):
        make_trainer(eval_dataset=eval_data, **keywords).train()


def test_names_on_a_command_line(tmp_path):
    args = MultiTaskTrainingArguments(str(tmp_path), use_cpu=True, stage_order="cls, ner")
    assert args.stage_order == ["cls", "ner"]


def test_a_frozen_stage_is_used_and_not_trained():
    layout = one_a_stage(("b", "c", "a"), ("a", "b", "c"), LoraSettings(r=2))
    a, b, c = (private_name(task) for task in "abc")
    assert layout.uses == {"a": (b, c, a), "b": (b,), "c": (b, c)}
    assert {name: layout.users(name) for name in layout.adapters} == {a: ("a",), b: ("b",), c: ("c",)}
