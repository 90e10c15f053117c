"""Building the multi-task model of a recipe: backbone, adapter, and a head for each task."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from peft import PeftModel
from torch import nn
from transformers import PretrainedConfig, set_seed

from hf_crosstask.encoding.tags import ner_tags
from hf_crosstask.encoding.text import TextTasks
from hf_crosstask.errors import InputError
from hf_crosstask.models.adapter_layout import AdapterLayout, one_shared
from hf_crosstask.models.adapters import LoraSettings, add_adapters
from hf_crosstask.models.backbone import Source, is_causal, load_backbone, take_pooler
from hf_crosstask.models.dropout import use_cheap_dropout
from hf_crosstask.models.feeds import build_feed
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
from hf_crosstask.models.hierarchical import HierarchicalModel
from hf_crosstask.models.hierarchy import HierarchicalLayout
from hf_crosstask.models.language import language_head, load_language_model
from hf_crosstask.models.layouts import head_layout
from hf_crosstask.models.multitask import MultiTaskModel
from hf_crosstask.models.precision import Precision
from hf_crosstask.models.span_head import SpanHead
from hf_crosstask.models.text import MaskedTokenHead, NextTokenHead, pretrained_layers
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
_NO_TEXT = TextTasks()


def build_model(
    source: Source,
    config: PretrainedConfig,
    cards: Iterable[TaskCard],
    *,
    precision: Precision,
    lora: LoraSettings | AdapterLayout | None,
    head_dropout: float,
    seed: int,
    text: TextTasks = _NO_TEXT,
) -> MultiTaskModel:
    """A model with one head per task.

    Args:
        source: where the backbone's weights are.
        config: its configuration.
        cards: the tasks.
        precision: with an adapter, the frozen backbone is loaded in its `frozen_dtype`; else everything is fp32.
        lora: one adapter for all tasks, or a layout of several; None trains the whole backbone.
        head_dropout: dropout before each head.
        seed: of adapter and head weights. A head's weights depend on the seed and its task's name alone.
        text: the tasks that are trained on their text alone.

    Raises:
        InputError: the backbone cannot be loaded, or a task type has no head.
    """
    cards = list(cards)
    dtype = precision.frozen_dtype if lora else torch.float32
    quantized_on = precision.device if precision.quantization == "nf4" else None
    language_model = None
    if any(card.formulation != "head" for card in cards) or (text.names and text.masking is None):
        language_model = load_language_model(source, config, dtype, trains=lora is None, quantized_on=quantized_on)
    # PEFT puts the adapter's layers into the body in place: the language model around it has them too.
    if language_model is not None:
        backbone = language_model.base_model
    else:
        backbone = load_backbone(source, config, dtype, quantized_on=quantized_on)
    use_cheap_dropout(backbone)
    pooler = take_pooler(backbone)
    set_seed(seed)
    layout = one_shared([card.name for card in cards], lora) if isinstance(lora, LoraSettings) else lora
    body = add_adapters(backbone, layout.adapters, seed) if layout else backbone
    heads = {card.name: _seeded_head(card, config, pooler, head_dropout, seed, text) for card in cards}
    _start_masked_heads(heads, source, config, seed)
    if isinstance(layout, HierarchicalLayout) and isinstance(body, PeftModel):
        with _seeded(seed, "feed"):
            feed = build_feed(layout.feed, config, [heads[task] for task in layout.at(1)], causal=is_causal(config))
        return HierarchicalModel(body, heads, language_model, layout, feed)
    return MultiTaskModel(body, heads, language_model, layout)


def head_parameters(cards: Iterable[TaskCard], config: PretrainedConfig, text: TextTasks = _NO_TEXT) -> dict[str, int]:
    """Number of parameters of each task's head; no weights are made."""
    heads = heads_without_weights(cards, config, text)
    return {task: sum(parameter.numel() for parameter in head.parameters()) for task, head in heads.items()}


def heads_without_weights(
    cards: Iterable[TaskCard], config: PretrainedConfig, text: TextTasks = _NO_TEXT
) -> dict[str, TaskHead]:
    """Each task's head on the meta device: what is asked of it are its sizes."""
    with torch.device("meta"):
        return {card.name: build_head(card, config, text=text) for card in cards}


def _seeded_head(
    card: TaskCard, config: PretrainedConfig, pooler: nn.Linear | None, dropout: float, seed: int, text: TextTasks
) -> TaskHead:
    with _seeded(seed, card.name):
        return build_head(card, config, pooler=pooler, dropout=dropout, text=text)


def _start_masked_heads(heads: Mapping[str, TaskHead], source: Source, config: PretrainedConfig, seed: int) -> None:
    """Start heads over masked tokens from the checkpoint's own, where it has one."""
    masked = [head for head in heads.values() if isinstance(head, MaskedTokenHead)]
    if not masked:
        return
    with _seeded(seed, "masked language model"):  # what a checkpoint lacks is drawn
        layers = pretrained_layers(source, config)
    if layers is not None:
        for head in masked:
            head.start_from(layers)


@contextmanager
def _seeded(seed: int, name: str) -> Iterator[None]:
    """Random numbers that depend on a seed and a name alone."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int.from_bytes(digest[:4], "little"))  # the CPU generator uses no more than 32 bits
        yield


def build_head(
    card: TaskCard,
    config: PretrainedConfig,
    *,
    pooler: nn.Linear | None = None,
    dropout: float = 0.1,
    text: TextTasks = _NO_TEXT,
) -> TaskHead:
    """The head of a task, freshly initialised.

    Raises:
        InputError: the task type has none.
    """
    if card.name in text.names and text.masking is None:
        return NextTokenHead()
    if card.formulation != "head":
        return language_head(card)
    size, std = config.hidden_size, getattr(config, "initializer_range", 0.02)
    if card.name in text.names and text.masking is not None:
        return MaskedTokenHead(config, text.masking, std=std)
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
