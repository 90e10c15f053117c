"""Building the multi-task model of a recipe: backbone, adapter, and a head for each task."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

import torch
from torch import nn
from transformers import PretrainedConfig, set_seed

from hf_crosstask.encoding.tags import ner_tags
from hf_crosstask.errors import InputError
from hf_crosstask.models.adapters import LoraSettings, add_lora
from hf_crosstask.models.backbone import Source, is_causal, load_backbone, take_pooler
from hf_crosstask.models.heads import RelationHead, SequenceHead, TaskHead, TokenHead
from hf_crosstask.models.layouts import head_layout
from hf_crosstask.models.multitask import MultiTaskModel
from hf_crosstask.models.precision import Precision
from hf_crosstask.tasks.card import TaskCard


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
    backbone = load_backbone(source, config, precision.frozen_dtype if lora else torch.float32)
    pooler = take_pooler(backbone)
    set_seed(seed)
    body = add_lora(backbone, lora) if lora else backbone
    heads = {card.name: _seeded_head(card, config, pooler, head_dropout, seed) for card in cards}
    return MultiTaskModel(body, heads)


def _seeded_head(
    card: TaskCard, config: PretrainedConfig, pooler: nn.Linear | None, dropout: float, seed: int
) -> TaskHead:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed << 32 | zlib.crc32(card.name.encode()))
        return build_head(card, config, pooler=pooler, dropout=dropout)


def build_head(
    card: TaskCard, config: PretrainedConfig, *, pooler: nn.Linear | None = None, dropout: float = 0.1
) -> TaskHead:
    """The head of a task, freshly initialised.

    Raises:
        InputError: the task type has none.
    """
    size, std = config.hidden_size, getattr(config, "initializer_range", 0.02)
    if card.type == "ner":
        return TokenHead(size, len(ner_tags(card.labels)), dropout=dropout, std=std)
    if card.type == "relation":
        return RelationHead(size, len(card.labels), dropout=dropout, std=std)
    if card.type == "classification":
        layout = head_layout(config, "sequence")
        return SequenceHead(
            size,
            len(card.labels),
            causal=is_causal(config),
            dropout=dropout,
            std=std,
            dropout_first=bool(layout and layout.dense and layout.dense.startswith("classifier.")),
            pooler=pooler,
        )
    raise InputError(f"task {card.name!r}: there is no head for task type {card.type!r}")
