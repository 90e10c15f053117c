"""Building the multi-task model of a recipe: backbone, adapter, and a head for each task."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch
from torch import nn
from transformers import PretrainedConfig, set_seed

from hf_crosstask.encoding.tags import ner_tags
from hf_crosstask.errors import InputError
from hf_crosstask.models.adapters import LoraSettings, add_lora
from hf_crosstask.models.backbone import Source, is_causal, load_backbone, take_pooler
from hf_crosstask.models.heads import (
    ChoiceHead,
    MultilabelHead,
    RankingHead,
    RelationHead,
    ScoreHead,
    SequenceHead,
    TaskHead,
    TokenHead,
)
from hf_crosstask.models.language import language_head, load_language_model
from hf_crosstask.models.layouts import head_layout
from hf_crosstask.models.multitask import MultiTaskModel
from hf_crosstask.models.precision import Precision
from hf_crosstask.models.span_head import SpanHead
from hf_crosstask.tasks.card import TaskCard
from hf_crosstask.tasks.schema import TaskType

#: Heads that read one state of a sequence: one output a label, or one score.
_SEQUENCE_HEADS: dict[TaskType, type[SequenceHead]] = {
    "classification": SequenceHead,
    "multilabel": MultilabelHead,
    "similarity": ScoreHead,
    "multiple_choice": ChoiceHead,
    "ranking": RankingHead,
}


def build_model(
    source: Source,
    config: PretrainedConfig,
    cards: Iterable[TaskCard],
    *,
    precision: Precision,
    lora: LoraSettings | None,
    head_dropout: float,
    seed: int,
) -> MultiTaskModel:
    """A model with one head per task.

    Args:
        source: where the backbone's weights are.
        config: its configuration.
        cards: the tasks.
        precision: with an adapter, the frozen backbone is loaded in its `frozen_dtype`; else everything is fp32.
        lora: the adapter; None trains the whole backbone.
        head_dropout: dropout before each head.
        seed: of adapter and head weights. A head's weights depend on the seed and its task's name alone.

    Raises:
        InputError: the backbone cannot be loaded, or a task type has no head.
    """
    cards = list(cards)
    dtype = precision.frozen_dtype if lora else torch.float32
    language_model = None
    if any(card.formulation != "head" for card in cards):
        language_model = load_language_model(source, config, dtype, trains=lora is None)
    # PEFT puts the adapter's layers into the body in place: the language model around it has them too.
    backbone = language_model.base_model if language_model is not None else load_backbone(source, config, dtype)
    pooler = take_pooler(backbone)
    set_seed(seed)
    body = add_lora(backbone, lora) if lora else backbone
    heads = {card.name: _seeded_head(card, config, pooler, head_dropout, seed) for card in cards}
    return MultiTaskModel(body, heads, language_model)


def _seeded_head(
    card: TaskCard, config: PretrainedConfig, pooler: nn.Linear | None, dropout: float, seed: int
) -> TaskHead:
    digest = hashlib.sha256(f"{seed}/{card.name}".encode()).digest()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int.from_bytes(digest[:4], "little"))  # the CPU generator uses no more than 32 bits
        return build_head(card, config, pooler=pooler, dropout=dropout)


def build_head(
    card: TaskCard, config: PretrainedConfig, *, pooler: nn.Linear | None = None, dropout: float = 0.1
) -> TaskHead:
    """The head of a task, freshly initialised.

    Raises:
        InputError: the task type has none.
    """
    if card.formulation != "head":
        return language_head(card)
    size, std = config.hidden_size, getattr(config, "initializer_range", 0.02)
    if card.type == "ner":
        return TokenHead(size, len(ner_tags(card.labels)), dropout=dropout, std=std)
    if card.type == "span_ner":
        return SpanHead(size, len(card.labels), card.reach, dropout=dropout, std=std)
    if card.type == "relation":
        return RelationHead(size, len(card.labels), dropout=dropout, std=std)
    if card.type in _SEQUENCE_HEADS:
        layout = head_layout(config, "sequence")
        return _SEQUENCE_HEADS[card.type](
            size,
            len(card.labels) if card.type in ("classification", "multilabel") else 1,
            causal=is_causal(config),
            dropout=dropout,
            std=std,
            dropout_first=bool(layout and layout.dense and layout.dense.startswith("classifier.")),
            pooler=pooler,
        )
    raise InputError(f"task {card.name!r}: there is no head for task type {card.type!r}")
