"""Tiny models of every family, made once, and a multi-task model on each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from hf_crosstask.models.adapters import LoraSettings
from hf_crosstask.models.backbone import Source, load_config, load_tokenizer
from hf_crosstask.models.build import build_model
from hf_crosstask.models.multitask import MultiTaskModel
from hf_crosstask.models.precision import Precision
from hf_crosstask.models.tiny import build_tiny
from hf_crosstask.tasks.card import TaskCard

TEXTS = (
    "the patient took aspirin for her headache .",
    "no drug was given",
    "ibuprofen did not help against the fever of the child",
)
CARDS = (
    TaskCard(name="drugs", type="ner", level=1, labels=("Drug", "Finding"), primary_metric="entity_f1", reader="iob"),
    TaskCard(
        name="answer", type="classification", level=2, labels=("yes", "no", "maybe"), primary_metric="accuracy",
        reader="jsonl",
    ),
    TaskCard(name="treats", type="relation", level=2, labels=("none", "treats"), primary_metric="micro_f1",
             reader="jsonl"),
)  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@dataclass(frozen=True)
class Tiny:
    """A tiny backbone on disk."""

    source: Source
    config: PretrainedConfig
    tokenizer: PreTrainedTokenizerBase

    def encoded(self) -> dict[str, torch.Tensor]:
        """The texts as one padded batch of model inputs."""
        batch = self.tokenizer(list(TEXTS), padding=True, return_tensors="pt")
        return {name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids") if name in batch}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Tiny]:
    """The tiny model of a family."""
    folder = tmp_path_factory.mktemp("tiny")

    def make(family: str) -> Tiny:
        source = Source(str(build_tiny(f"tiny:{family}", TEXTS, folder)))
        return Tiny(source, load_config(source), load_tokenizer(source))

    return make


@pytest.fixture(scope="session")
def cards() -> tuple[TaskCard, ...]:
    """One task each of NER, classification and relations."""
    return CARDS


@pytest.fixture(scope="session")
def build(tiny: Callable[[str], Tiny]) -> Callable[..., MultiTaskModel]:
    """A multi-task model of a family; `noise` moves everything trained away from where it starts."""

    def make(family: str, *, noise: float = 0.0, cards: Any = CARDS, **arguments: Any) -> MultiTaskModel:
        made = tiny(family)
        options: dict[str, Any] = {
            "precision": Precision("fp32", torch.float32),
            "lora": LoraSettings(r=4),
            "head_dropout": 0.1,
            "seed": 1,
        }
        model = build_model(made.source, load_config(made.source), cards, **(options | arguments))
        if noise:
            generator = torch.Generator().manual_seed(0)
            with torch.no_grad():
                for parameter in model.parameters():
                    if parameter.requires_grad:
                        parameter.add_(torch.randn(parameter.shape, generator=generator) * noise)
        return model.eval()

    return make
