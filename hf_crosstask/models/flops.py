"""Floating-point operations of training, as a function of configuration, adapters and heads alone.

What is counted is the model's own arithmetic (Kaplan et al. 2020, arXiv:2001.08361, section 2.1; PaLM, Chowdhery et al.
2022, arXiv:2204.02311, appendix B): matrix products, two operations a multiplication and addition. A linear layer of
`i` inputs and `o` outputs costs a token 2 i o forward, as much again for the gradient of its input, and as much again
for that of its weights; attention costs a pair of tokens 4 d forward and 8 d backward in every layer (d: heads x head
size). A model of N such weights that trains whole costs 6 N + 12 layers d L a token of a sequence of L tokens.

What an adapter changes (LoRA, Hu et al. 2021, arXiv:2106.09685): a frozen layer has no gradient of its weights, but
passes on that of its input; an adapter of rank r costs 2 r (i + o) forward and up to twice that backward, each of those
that are active. The first block's attention reads the embeddings: where these are frozen nothing before it trains, and it
passes nothing on.

S3b's level-2 tasks pay a second pass (forward only where the feed is detached) and the feed. Heads cost as linear layers
do, span heads as if every token were a word; language models the vocabulary at every position that predicts a token.

Not counted, as usual: embeddings, norms, softmax and activation functions, gates, the optimizer, what checkpointing
computes again, evaluation, de-quantization, DoRA's norms, DeBERTa's relative positions, and EWC's passes over finished
tasks. Causal and sliding attention count as whole, which is what dense kernels compute.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import nn
from transformers import AutoModel, PretrainedConfig
from transformers.models.auto.modeling_auto import MODEL_MAPPING
from transformers.pytorch_utils import Conv1D

from hf_crosstask.errors import InputError
from hf_crosstask.models.adapter_layout import AdapterLayout
from hf_crosstask.models.backbone import is_causal, take_pooler
from hf_crosstask.models.equal_parameters import module_sizes
from hf_crosstask.models.feeds import CrossLevelAttention, build_feed
from hf_crosstask.models.heads import RelationHead, SequenceHead, TaskHead, TokenHead
from hf_crosstask.models.hierarchy import HierarchicalLayout
from hf_crosstask.models.language import LanguageHead
from hf_crosstask.models.span_head import SpanHead
from hf_crosstask.models.text import MaskedTokenHead, NextTokenHead
from hf_crosstask.planning.flops import FlopRates

#: What families call the layers that make queries, keys and values of a block's input.
_ATTENTION_INPUTS = frozenset(
    (
        *("q_proj", "k_proj", "v_proj", "qkv_proj", "query", "key", "value", "query_proj", "key_proj", "value_proj"),
        *("q_lin", "k_lin", "v_lin", "Wqkv", "c_attn", "query_key_value", "in_proj"),
    )
)


@dataclass(frozen=True)
class _Layer:
    """A linear layer of the backbone: its path, its size, and whether it reads the embeddings."""

    path: str
    inputs: int
    outputs: int
    reads_embeddings: bool


class _Backbone:
    """The layers of a backbone, from its configuration.

    Raises:
        InputError: it has other weights than linear layers in blocks that run once each.
    """

    def __init__(self, config: PretrainedConfig):
        # Code from a repository cannot be built from its configuration alone.
        if type(config) not in MODEL_MAPPING or not hasattr(config, "num_attention_heads"):
            raise InputError(
                f"the operations of a {config.model_type} model cannot be counted: its layers are not known"
            )
        with torch.device("meta"):
            model = AutoModel.from_config(config)
        take_pooler(model)
        blocks = [
            path
            for path, module in model.named_modules()
            if isinstance(module, nn.ModuleList) and len(module) == config.num_hidden_layers
        ]
        linear = {path: module for path, module in model.named_modules() if isinstance(module, (nn.Linear, Conv1D))}
        known = {id(each) for module in linear.values() for each in module.parameters()}
        known |= {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
        others = [name for name, each in model.named_parameters() if each.dim() > 1 and id(each) not in known]
        if others or not blocks:
            why = f"{others[0]} is no linear layer" if others else "its layers do not run once each"
            raise InputError(f"the operations of a {config.model_type} model cannot be counted: {why}")
        first, inside = f"{blocks[0]}.0.", f"{blocks[0]}."
        self.layers = [
            _Layer(
                path,
                *_sizes(module),
                not path.startswith(inside)
                or (path.startswith(first) and path.rpartition(".")[2] in _ATTENTION_INPUTS),
            )
            for path, module in linear.items()
        ]
        heads = config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // heads
        self.pair = 4 * heads * size * config.num_hidden_layers


def task_rates(
    config: PretrainedConfig, layout: AdapterLayout | None, heads: Mapping[str, TaskHead]
) -> dict[str, FlopRates]:
    """What each task costs, forward and backward.

    Args:
        config: of the backbone.
        layout: the adapters that train; None: everything does.
        heads: one head per task; of any device.

    Raises:
        InputError: the operations of such a backbone are not known.
    """
    backbone = _Backbone(config)
    adapted: Collection[str] = ()
    if layout is not None:
        adapted = module_sizes(config, next(iter(layout.adapters.values())))
    rates = {}
    for task, head in heads.items():
        token, pair = _passes(backbone, layout, adapted, task)
        fed_token, fed_pair = _feed(config, layout, heads, task)
        of_head = _head(config, head, whole=layout is None or _embeddings_train(layout, task))
        rates[task] = FlopRates(token + fed_token + of_head.token, pair + fed_pair, of_head.sequence, of_head.answer)
    return rates


def _passes(backbone: _Backbone, layout: AdapterLayout | None, adapted: Collection[str], task: str) -> tuple[int, int]:
    """All backbone passes of a task: of a token and of a pair of tokens."""
    if layout is None:
        return sum(6 * each.inputs * each.outputs for each in backbone.layers), 3 * backbone.pair
    carries = _embeddings_train(layout, task)
    second = isinstance(layout, HierarchicalLayout) and layout.levels[task] == 2
    if not isinstance(layout, HierarchicalLayout) or not second:
        return _pass(backbone, layout, adapted, layout.uses[task], carries=carries), 3 * backbone.pair
    backward = not layout.feed.detach
    token = _pass(backbone, layout, adapted, layout.first_pass, carries=carries, backward=backward)
    # What a shortcut adds to the embeddings trains.
    fed = carries or layout.feed.kind == "shortcut"
    token += _pass(backbone, layout, adapted, layout.uses[task], carries=fed)
    return token, (6 if backward else 4) * backbone.pair


def _pass(
    backbone: _Backbone,
    layout: AdapterLayout,
    adapted: Collection[str],
    names: Collection[str],
    *,
    carries: bool,
    backward: bool = True,
) -> int:
    """A token's pass through frozen layers and the adapters on them; `carries`: its embedding has a gradient."""
    total = 0
    for layer in backbone.layers:
        passed_on = carries or not layer.reads_embeddings
        forward = 2 * layer.inputs * layer.outputs
        back = forward if passed_on else 0
        for name in names if layer.path in adapted else ():
            rank = layout.adapters[name].ranks.get(layer.path, layout.adapters[name].r)
            down, up = 2 * rank * layer.inputs, 2 * rank * layer.outputs
            forward += down + up
            # PEFT computes all active adapters as one, those that the task holds constant too.
            back += down + up + up + (down if passed_on else 0)
        total += forward + (back if backward else 0)
    return total


def _feed(
    config: PretrainedConfig, layout: AdapterLayout | None, heads: Mapping[str, TaskHead], task: str
) -> tuple[int, int]:
    """S3b's feed of a level-2 task: of a token and of a pair of tokens."""
    if not isinstance(layout, HierarchicalLayout) or layout.levels[task] == 1:
        return 0, 0
    lower = [heads[name] for name in layout.at(1)]
    with torch.device("meta"):
        feed = build_feed(layout.feed, config, lower, causal=is_causal(config))
    token = 3 * _linear(feed)
    if isinstance(feed, CrossLevelAttention):
        return token, 12 * feed.query.out_features
    posteriors = sum(_linear(head) for head in lower if isinstance(head, TokenHead))
    return token + posteriors * (1 if layout.feed.detach else 2), 0


def _head(config: PretrainedConfig, head: TaskHead, *, whole: bool) -> FlopRates:
    """A head on states that have a gradient; `whole`: the vocabulary's embeddings train."""
    vocabulary = (6 if whole else 4) * config.hidden_size * config.vocab_size
    if isinstance(head, NextTokenHead):
        return FlopRates(vocabulary, 0)
    if isinstance(head, LanguageHead):
        return FlopRates(0, 0, answer=vocabulary)
    if isinstance(head, MaskedTokenHead):
        width = head.dense.out_features
        return FlopRates(0, 0, answer=3 * _linear(head) + (6 if whole else 4) * width * config.vocab_size)
    if isinstance(head, SpanHead):
        links, size, _ = head.bilinear.shape
        return FlopRates(3 * (_linear(head) + 2 * links * size * (size + head.reach)), 0)
    if isinstance(head, (SequenceHead, RelationHead)):
        return FlopRates(0, 0, sequence=3 * _linear(head))
    return FlopRates(3 * _linear(head), 0)


def _embeddings_train(layout: AdapterLayout, task: str) -> bool:
    return any(layout.adapters[name].train_embeddings for name in layout.uses[task])


def _linear(module: nn.Module) -> int:
    """Forward operations of a module's linear layers, each once."""
    return sum(2 * each.in_features * each.out_features for each in module.modules() if isinstance(each, nn.Linear))


def _sizes(layer: nn.Linear | Conv1D) -> tuple[int, int]:
    if isinstance(layer, Conv1D):
        return layer.nx, layer.nf
    return layer.in_features, layer.out_features
