from __future__ import annotations

import pytest
from transformers import HfArgumentParser

from hf_crosstask.errors import InputError, PlanError
from hf_crosstask.planning.budget import Budget
from hf_crosstask.planning.mixing import Mixing
from hf_crosstask.training.arguments import MultiTaskTrainingArguments


@pytest.fixture
def make(tmp_path):
    return lambda **keywords: MultiTaskTrainingArguments(str(tmp_path), use_cpu=True, **keywords)


@pytest.mark.parametrize(
    ("keywords", "budget"),
    [
        ({}, Budget(epochs=3)),
        ({"num_train_epochs": 0.5}, Budget(epochs=0.5)),
        ({"max_steps": 7, "num_train_epochs": 2}, Budget(steps=7)),
        ({"token_budget": 900, "max_steps": 7}, Budget(tokens=900)),
    ],
)
def test_budget(make, keywords, budget):
    assert make(**keywords).budget == budget


def test_mixing(make):
    assert make().mixing == Mixing()
    made = make(sampling="explicit", sampling_weights={"a": 1.0}, sampling_unit="tokens").mixing
    assert made == Mixing("explicit", weights={"a": 1.0}, unit="tokens")
    assert make(sampling="temperature", sampling_temperature=5.0).mixing == Mixing("temperature", temperature=5.0)
    with pytest.raises(PlanError, match="did you mean 'uniform'"):
        _ = make(sampling="unifrom").mixing


def test_defaults_follow_each_other(make):
    args = make(tokens_per_step=1000, seed=7)
    assert (args.micro_batch_tokens, args.eval_batch_tokens, args.data_seed) == (1000, 2000, 7)
    args = make(tokens_per_step=1000, micro_batch_tokens=300, data_seed=1)
    assert (args.micro_batch_tokens, args.eval_batch_tokens, args.data_seed) == (300, 600, 1)


def test_the_best_model_is_that_of_the_macro_score(make):
    args = make(load_best_model_at_end=True, eval_strategy="epoch", save_strategy="epoch")
    assert (args.metric_for_best_model, args.greater_is_better) == ("macro_score", True)
    args = make(save_strategy="best", eval_strategy="epoch", metric_for_best_model="loss")
    assert (args.metric_for_best_model, args.greater_is_better) == ("loss", False)
    assert make().metric_for_best_model is None


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"gradient_accumulation_steps": 2}, "gradient_accumulation_steps has no effect on a plan"),
        ({"auto_find_batch_size": True}, "auto_find_batch_size would change the plan in mid-run"),
        ({"label_smoothing_factor": 0.1}, "label_smoothing_factor is not supported"),
        ({"deepspeed": {"zero_optimization": {}}}, "DeepSpeed owns the gradients"),
    ],
)
def test_what_would_break_the_plan_is_refused(make, keywords, message):
    with pytest.raises(PlanError, match=message):
        make(**keywords)


def test_mappings_are_json_on_a_command_line(tmp_path):
    given = {
        "output_dir": str(tmp_path),
        "sampling": "explicit",
        "sampling_weights": '{"a": 2}',
        "loss_weights": '{"a": 1}',
        "primary_metrics": '{"a": "f1"}',
    }
    line = ["--use_cpu", *(f"--{name}={value}" for name, value in given.items())]
    (args,) = HfArgumentParser(MultiTaskTrainingArguments).parse_args_into_dataclasses(line)
    assert (args.sampling_weights, args.loss_weights, args.primary_metrics) == ({"a": 2}, {"a": 1}, {"a": "f1"})
    (args,) = HfArgumentParser(MultiTaskTrainingArguments).parse_args_into_dataclasses(
        [*line[:2], "--loss_weights=equal"]
    )
    assert args.loss_weights == "equal"


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"sampling_weights": "a=2"}, "sampling_weights is no JSON object: Expecting value"),
        ({"primary_metrics": '["f1"]'}, r"primary_metrics is no JSON object: \[\"f1\"\]"),
        ({"loss_weights": '{"a": 1'}, "loss_weights is no JSON object: Expecting"),
    ],
)
def test_bad_mappings_are_refused(make, keywords, message):
    with pytest.raises(InputError, match=message):
        make(**keywords)
