"""Tiny models and data, and a trainer around them; one CPU thread, because sums round differently with more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import BertConfig, BertModel

from hf_crosstask.encoding.collator import MultiTaskCollator
from hf_crosstask.evaluation.result import (
    Environment,
    Fingerprints,
    MetricValue,
    ParameterCounts,
    RunResult,
    TaskMetrics,
    TaskResult,
    TaskTokenCounts,
    TokenCounts,
    TrainResult,
    write_result,
)
from hf_crosstask.models.adapters import LoraSettings, add_lora
from hf_crosstask.models.heads import SequenceHead, TokenHead
from hf_crosstask.models.multitask import MultiTaskModel
from hf_crosstask.training.arguments import MultiTaskTrainingArguments, TokenBudgetTrainingArguments
from hf_crosstask.training.token_budget import TokenBudgetTrainer
from hf_crosstask.training.trainer import MultiTaskTrainer

VOCABULARY, HIDDEN = 50, 16


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def encoded_rows(n: int, seed: int, *, tokens: bool) -> Dataset:
    generator = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        ids = generator.integers(5, VOCABULARY, int(generator.integers(3, 25)))
        labels: Any = [-100, *(int(i) % 3 for i in ids[1:])] if tokens else int(ids[1]) % 2
        rows.append({"input_ids": ids.tolist(), "attention_mask": [1] * len(ids), "labels": labels})
    return Dataset.from_list(rows)


@pytest.fixture(scope="session")
def token_rows() -> Callable[..., Dataset]:
    """n encoded rows with a label (of 3) per token but the first."""
    return lambda n, seed=0: encoded_rows(n, seed, tokens=True)


@pytest.fixture(scope="session")
def class_rows() -> Callable[..., Dataset]:
    """n encoded rows with one label of 2."""
    return lambda n, seed=1: encoded_rows(n, seed, tokens=False)


@pytest.fixture(scope="session")
def train_data(token_rows, class_rows) -> dict[str, Dataset]:
    return {"ner": token_rows(60, 0), "cls": class_rows(40, 1)}


@pytest.fixture(scope="session")
def eval_data(token_rows, class_rows) -> dict[str, Dataset]:
    return {"ner": token_rows(17, 2), "cls": class_rows(13, 3)}


def tiny_model(
    *, dropout: float = 0.1, lora: bool = True, seed: int = 0, tasks: tuple[str, ...] = ("ner", "cls")
) -> Any:
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        initializer_range=0.2,
    )
    body: Any = BertModel(config, add_pooling_layer=False)
    if lora:
        body = add_lora(body, LoraSettings(r=4, dropout=dropout))
    heads = {
        "ner": TokenHead(HIDDEN, 3, dropout=dropout, std=0.1),
        "cls": SequenceHead(HIDDEN, 2, causal=False, dropout=dropout, std=0.1),
    }
    return MultiTaskModel(body, {task: heads[task] for task in tasks})


@pytest.fixture(scope="session")
def make_model() -> Callable[..., MultiTaskModel]:
    """A two-layer BERT with random weights, a LoRA adapter and heads `ner` (3 tags) and `cls` (2 labels)."""
    return tiny_model


@pytest.fixture
def make_trainer(tmp_path: Path, train_data: dict[str, Dataset]) -> Callable[..., MultiTaskTrainer]:
    """A trainer of the tiny model; keywords are its arguments or those of its `TrainingArguments`."""

    def make(model: Any = None, **keywords: Any) -> MultiTaskTrainer:
        parts = {
            name: keywords.pop(name)
            for name in (
                "train_dataset",
                "eval_dataset",
                "data_collator",
                "compute_metrics",
                "callbacks",
                "plan",
                "processing_class",
                "preprocess_logits_for_metrics",
                "compute_loss_func",
            )
            if name in keywords
        }
        arguments: dict[str, Any] = {
            "output_dir": str(tmp_path / "out"),
            "use_cpu": True,
            "disable_tqdm": True,
            "save_strategy": "no",
            "logging_strategy": "no",
            "tokens_per_step": 128,
            "learning_rate": 1e-2,
            "seed": 3,
            **keywords,
        }
        controlled = "match" in arguments or "token_budget" in arguments
        args = (TokenBudgetTrainingArguments if controlled else MultiTaskTrainingArguments)(**arguments)
        trainer = TokenBudgetTrainer if controlled else MultiTaskTrainer
        if "processing_class" not in parts:
            parts.setdefault("data_collator", MultiTaskCollator(0))
        return trainer(
            model=tiny_model() if model is None else model,
            args=args,
            **{"train_dataset": train_data, **parts},
        )

    return make


@pytest.fixture(scope="session")
def weights() -> Callable[[MultiTaskTrainer], dict[str, torch.Tensor]]:
    """A copy of what trains, by name."""

    def copied(trainer: MultiTaskTrainer) -> dict[str, torch.Tensor]:
        named = trainer.model.named_parameters()
        return {name: value.detach().clone() for name, value in named if value.requires_grad}

    return copied


@pytest.fixture(scope="session")
def same() -> Callable[[dict[str, torch.Tensor], dict[str, torch.Tensor]], bool]:
    """Whether two sets of weights are equal to the last bit."""
    return lambda one, other: one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def finished_run(tmp_path: Path) -> Callable[..., Path]:
    """The folder of a run with the token counts given by task; `counted` is as planned unless given."""

    def make(planned: dict[str, int], counted: dict[str, int] | None = None, status: Any = "finished") -> Path:
        counts = {task: (tokens, (counted or planned)[task]) for task, tokens in planned.items()}
        result = RunResult(
            experiment_id="reference",
            status=status,
            strategy="S2",
            seed=0,
            fingerprints=Fingerprints(recipe="r", data="d", plan="p"),
            tokens=TokenCounts(
                planned=sum(p for p, _ in counts.values()), counted=sum(c for _, c in counts.values()), padded=10**6
            ),
            match=None,
            tasks={
                task: TaskResult(
                    type="ner",
                    examples={"train": 1},
                    tokens=TaskTokenCounts(planned=p, counted=c, padded=10**6, supervised=1, unique=1),
                    epochs=1.0,
                    metrics=TaskMetrics(primary="f", values={"f": MetricValue(value=0.5)}, majority=0.0),
                )
                for task, (p, c) in counts.items()
            },
            parameters=ParameterCounts(total=1, trainable=1, heads=1, per_adapter={}),
            train=TrainResult(
                steps=1,
                runtime_s=1.0,
                loss=0.5,
                tokens_per_s=1.0,
                peak_memory_bytes=0,
                stopped=None if status == "finished" else "time_limit",
            ),
            environment=Environment(versions={}, hardware="none", processes=1, git_commit=None),
        )
        folder = tmp_path / "reference"
        write_result(folder, result)
        return folder

    return make
