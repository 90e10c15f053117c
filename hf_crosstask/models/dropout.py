"""Dropout that costs a CPU less than torch's.

On a CPU most of what dropout takes goes into random numbers and into masks that are no floats, and torch's attention
leaves its fast kernel for one that drops probabilities just as slowly. Here one random number serves four elements, and
masks are kept as bytes. In a step of a BERT-size encoder that is about a fifth of the time (`tests/benchmarks`).

On any other device `Dropout` and `attention` are torch's own; `dropped_linear`, which the adapters of one task share, is
the same everywhere. The random numbers are those of torch's generator of the device: a seed before a forward pass fixes
them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

#: The name of `attention` in transformers' `attn_implementation`.
ATTENTION = "sdpa_cpu_dropout"
#: An element is kept with a probability that is a multiple of 1 / 2^16.
_DRAWS = 2**16


class Dropout(nn.Dropout):
    """As `nn.Dropout`."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or self.p == 0 or input.device.type != "cpu":
            return super().forward(input)
        return dropped(input, self.p)


def dropped(x: Tensor, p: float) -> Tensor:
    """x without a share p of its elements, the others scaled by about 1 / (1 - p)."""
    result: Tensor = _Dropped.apply(x, _share(p))
    return result


def dropped_linear(x: Tensor, weight: Tensor, dropout: nn.Module) -> Tensor:
    """`linear(dropout(x), weight)`; keeps x, which layers share, and not what dropout left of it, which none shares."""
    p = dropout.p if isinstance(dropout, nn.Dropout) and dropout.training else 0.0
    if p == 0:
        return nn.functional.linear(x, weight)
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight = x.to(dtype), weight.to(dtype)
    result: Tensor = _DroppedLinear.apply(x, weight, _share(p))
    return result


def use_cheap_dropout(backbone: PreTrainedModel) -> None:
    """Let a backbone pass this dropout, in place: between its layers, and in its attention where that is torch's."""
    for module in list(backbone.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Dropout:
                setattr(module, name, Dropout(child.p).train(child.training))
    if backbone.config._attn_implementation == "sdpa" and _attention_dropout(backbone) > 0:
        AttentionInterface.register(ATTENTION, attention)
        AttentionMaskInterface.register(ATTENTION, sdpa_mask)
        backbone.set_attn_implementation(ATTENTION)


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """transformers' `sdpa` attention; where a bidirectional one would drop probabilities on a CPU, with this dropout.

    Args:
        query, key, value: [B, H, L, D].
        attention_mask: True, or 0, where a query sees a key; broadcast to [B, H, L, L].
    """
    plain = (
        dropout == 0
        or query.device.type != "cpu"
        or getattr(module, "is_causal", False)
        or key.shape[1] != query.shape[1]
        or any(option is not None and option is not False for option in options.values())
    )
    if plain:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
        )
    scores = (query * (query.shape[-1] ** -0.5 if scaling is None else scaling)) @ key.mT
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    elif attention_mask is not None:
        scores = scores + attention_mask
    kept = dropped(scores.softmax(dim=-1), dropout)
    return (kept @ value).transpose(1, 2).contiguous(), None


class _Dropped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, share: int) -> Tensor:
        kept = _kept(x, share)
        ctx.save_for_backward(kept)
        ctx.scale = _DRAWS / share
        return kept.to(x.dtype).mul_(x).mul_(ctx.scale)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (kept,) = ctx.saved_tensors
        return kept.to(gradient.dtype).mul_(gradient).mul_(ctx.scale), None


class _DroppedLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, share: int) -> Tensor:
        kept = _kept(x, share)
        ctx.save_for_backward(x, weight, kept)
        ctx.scale = _DRAWS / share
        return nn.functional.linear(kept.to(x.dtype).mul_(x), weight) * ctx.scale  # where it has least to multiply

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight, kept = ctx.saved_tensors
        gradient, kept = gradient * ctx.scale, kept.to(x.dtype)
        of_x = (gradient @ weight).mul_(kept) if ctx.needs_input_grad[0] else None
        of_weight = gradient.flatten(0, -2).mT @ kept.mul_(x).flatten(0, -2) if ctx.needs_input_grad[1] else None
        return of_x, of_weight, None


def _kept(x: Tensor, share: int) -> Tensor:
    """Which elements of x are kept: `share` of `_DRAWS`."""
    numbers = torch.empty(-(-x.numel() // 4), dtype=torch.int64, device=x.device).random_(-(2**63), None)
    return (numbers.view(torch.int16)[: x.numel()] < share - _DRAWS // 2).view(x.shape)


def _share(p: float) -> int:
    return min(max(round((1 - p) * _DRAWS), 1), _DRAWS - 1)


def _attention_dropout(backbone: PreTrainedModel) -> float:
    names = ("attention_probs_dropout_prob", "attention_dropout")
    return max(float(getattr(backbone.config, name, None) or 0.0) for name in names)
