"""The formula against torch's own count of a forward and a backward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AlbertConfig, LlamaConfig, MambaConfig, MixtralConfig, PretrainedConfig

from hf_crosstask.encoding.text import Masking, TextTasks
from hf_crosstask.errors import InputError
from hf_crosstask.models.adapter_layout import AdapterLayout, one_shared, shared_and_private
from hf_crosstask.models.adapters import LoraSettings
from hf_crosstask.models.build import heads_without_weights
from hf_crosstask.models.flops import task_rates
from hf_crosstask.models.hierarchy import hierarchical_layout
from hf_crosstask.models.multitask import MultiTaskModel
from hf_crosstask.planning.flops import FlopRates
from hf_crosstask.recipe.schema import Strategy
from hf_crosstask.tasks.card import TaskCard

LORA = LoraSettings(r=8, alpha=16)
ROWS, LENGTH, FIRST, LAST = 3, 24, 10, 14
SPANS = TaskCard(
    name="spans", type="span_ner", level=1, labels=("Drug", "Finding"), primary_metric="entity_f1", reader="jsonl"
)
SAYS = TaskCard(
    name="says", type="classification", level=2, labels=("yes", "no"), primary_metric="accuracy", reader="jsonl",
    formulation="generative",
)  # fmt: skip


def batch(card: TaskCard, *, text: str | None = None) -> tuple[dict[str, torch.Tensor], int]:
    """A batch of a task, and how many positions predict a token."""
    ids = torch.randint(10, 60, (ROWS, LENGTH), generator=torch.Generator().manual_seed(0))
    inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if text == "next":
        return {**inputs, "labels": ids}, 0
    if text == "masked":
        labels = torch.full_like(ids, -100)
        labels[:, 5:8] = ids[:, 5:8]
        return {**inputs, "labels": labels}, 3 * ROWS
    if card.formulation == "generative":
        labels = torch.full_like(ids, -100)
        labels[0, FIRST : LAST + 1] = ids[0, FIRST : LAST + 1]
        labels[1:, FIRST + 1] = ids[1:, FIRST + 1]
        return {**inputs, "labels": labels}, ROWS * (LAST - FIRST + 1)
    if card.type == "ner":
        return {**inputs, "labels": torch.zeros_like(ids)}, 0
    if card.type == "span_ner":
        words = torch.arange(LENGTH).expand(ROWS, LENGTH)
        return {**inputs, "word_positions": words, "labels": torch.zeros(ROWS, LENGTH, card.reach).long()}, 0
    if card.type == "relation":
        inputs["entity_positions"] = torch.tensor([[1, 4]] * ROWS)
    return {**inputs, "labels": torch.zeros(ROWS).long()}, 0


def counted(model: MultiTaskModel, task: str, inputs: dict[str, torch.Tensor]) -> int:
    """FLOPs of a training step, by torch. Eager attention: torch does not count the CPU's fused one."""
    model.train()
    model.body.set_attn_implementation("eager")
    with FlopCounterMode(display=False) as counter:
        loss = model(task=task, **inputs).loss
        loss.backward()
    return int(counter.get_total_flops())


def check(model: MultiTaskModel, rates: FlopRates, task: str, inputs: Any, positions: int, tolerance: float) -> None:
    assert rates.of(ROWS, LENGTH, positions) == pytest.approx(counted(model, task, inputs), rel=tolerance)


@pytest.mark.parametrize(
    ("family", "kind"),
    [*(("bert", kind) for kind in ("whole", "lora", "embeddings", "private")), ("llama", "whole"), ("llama", "lora")],
)
def test_the_formula_is_what_torch_counts(build: Callable[..., MultiTaskModel], cards, tiny, family, kind):
    tasks = [card.name for card in cards]
    layout: AdapterLayout | None = {
        "whole": None,
        "lora": one_shared(tasks, LORA),
        "embeddings": one_shared(tasks, LoraSettings(r=8, train_embeddings=True)),
        "private": shared_and_private(tasks, LORA, LoraSettings(r=3), fusion="sum", outside=tasks[:1]),
    }[kind]
    model, config = build(family, lora=layout), tiny(family).config
    rates = task_rates(config, layout, heads_without_weights(cards, config))
    for card in cards:
        inputs, positions = batch(card)
        check(model, rates[card.name], card.name, inputs, positions, 0.001)


@pytest.mark.parametrize(
    ("family", "feed", "detach"),
    [
        ("bert", "attention", False),
        ("bert", "shortcut", False),
        ("llama", "attention", True),
        ("llama", "shortcut", True),
    ],
)
def test_a_second_pass_and_its_feed(build, cards, tiny, family, feed, detach):
    layout = hierarchical_layout(Strategy(name="S3b", feed=feed, detach=detach), LORA, cards)
    model, config = build(family, lora=layout), tiny(family).config
    rates = task_rates(config, layout, heads_without_weights(cards, config))
    for card in cards:
        inputs, positions = batch(card)
        # Torch does not count the fused attention of the feed.
        check(model, rates[card.name], card.name, inputs, positions, 0.02)
    assert rates["answer"].token > (1.4 if detach else 1.8) * rates["drugs"].token


@pytest.mark.parametrize("lora", [None, LORA])
def test_the_vocabulary_is_paid_where_tokens_are_predicted(build, tiny, lora):
    config = tiny("llama").config
    layout = None if lora is None else one_shared(["says"], lora)
    model = build("llama", cards=[SAYS], lora=layout)
    rates = task_rates(config, layout, heads_without_weights([SAYS], config))
    inputs, positions = batch(SAYS)
    assert rates["says"].answer == (6 if lora is None else 4) * config.hidden_size * config.vocab_size
    check(model, rates["says"], "says", inputs, positions, 0.001)


@pytest.mark.parametrize(("family", "text"), [("llama", "next"), ("bert", "masked")])
def test_tasks_trained_on_text(build, cards, tiny, family, text):
    config = tiny(family).config
    masking = Masking.of(tiny(family).tokenizer) if text == "masked" else None
    placebo, layout = TextTasks(frozenset({"answer"}), masking), one_shared([card.name for card in cards], LORA)
    model = build(family, lora=layout, text=placebo)
    rates = task_rates(config, layout, heads_without_weights(cards, config, placebo))
    inputs, positions = batch(cards[1], text=text)
    # The last token of a sequence predicts nothing, but its probabilities are computed.
    check(model, rates["answer"], "answer", inputs, positions, 0.01)


def test_span_heads_count_a_word_a_token(build, tiny):
    config, layout = tiny("bert").config, one_shared(["spans"], LORA)
    model = build("bert", cards=[SPANS], lora=layout)
    rates = task_rates(config, layout, heads_without_weights([SPANS], config))
    inputs, positions = batch(SPANS)
    check(model, rates["spans"], "spans", inputs, positions, 0.03)


def test_known_sizes():
    """Llama-2-7B, whole: 6 FLOPs a weight and token, and attention."""
    config = LlamaConfig()
    card = TaskCard(name="t", type="ner", level=1, labels=("A",), primary_metric="entity_f1", reader="iob")
    rates = task_rates(config, None, heads_without_weights([card], config))["t"]
    weights = 6_738_415_616 - 2 * 32000 * 4096 - 65 * 4096  # without vocabulary and norms
    assert rates.token == 6 * (weights + 3 * 4096)
    assert rates.pair == 12 * 32 * 4096
    adapted = task_rates(config, one_shared(["t"], LORA), heads_without_weights([card], config))["t"]
    assert 0.66 < adapted.token / rates.token < 0.68  # no gradient of frozen weights
    assert adapted.pair == rates.pair


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (MixtralConfig(num_hidden_layers=2, num_local_experts=2, hidden_size=64), "no linear layer"),
        (AlbertConfig(), "do not run once each"),
        (MambaConfig(), "its layers are not known"),
    ],
)
def test_what_cannot_be_counted_says_so(config: PretrainedConfig, why: str):
    with pytest.raises(InputError, match=f"{config.model_type} model cannot be counted: .*{why}"):
        task_rates(config, None, {})
