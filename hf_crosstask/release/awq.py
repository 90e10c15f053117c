"""AWQ (Lin et al. 2024, arXiv:2306.00978): scale input channels before rounding, so that those that matter lose least.

The channels of a linear module's input are divided by s in what makes them (a norm's weight, or the rows of the linear
module before) and its weight's columns multiplied by s: the same function, but with other rounding errors. s follows the
mean magnitude of the inputs and of the weights, `s = x^a / w^(1 - a)` (or `x^a`), with the exponent a that leaves the
least squared error at the outputs of the modules that share the input; that error is exact from `X^T X`, no further pass
is needed. Then every number is rounded by itself. Written out here, because llmcompressor (which makes the same files)
is pinned below the transformers version that this library is tested with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from hf_crosstask.errors import InputError
from hf_crosstask.release.calibration import Inputs, Layer
from hf_crosstask.release.gptq import round_to_nearest

_GRID = 20


@dataclass(frozen=True)
class Shared:
    """Linear modules with one input, and how to divide its channels where they are made.

    Attributes:
        modules: their names in the layer.
        divide: divides the input's channels by s [in].
    """

    modules: tuple[str, ...]
    divide: Callable[[Tensor], None]


def shared_inputs(layer: Layer, config: PreTrainedConfig) -> list[Shared]:
    """The inputs of a decoder layer that can be scaled, in the order of the layer.

    Raises:
        InputError: the layer is not of a family whose parts are known (Llama, Mistral, Qwen2, Gemma 2, Phi-3).
    """
    module: Any = layer.module
    before_mlp = "pre_feedforward_layernorm" if hasattr(module, "pre_feedforward_layernorm") else None
    before_mlp = before_mlp or "post_attention_layernorm"
    fused = "self_attn.qkv_proj" in layer.linear and "mlp.gate_up_proj" in layer.linear
    split = {f"self_attn.{name}_proj" for name in "qkv"} | {"mlp.gate_proj", "mlp.up_proj"}
    known = {"self_attn.o_proj", "mlp.down_proj"} <= layer.linear.keys() and (fused or split <= layer.linear.keys())
    if not known or not hasattr(module, "input_layernorm") or not hasattr(module, before_mlp):
        raise InputError(
            f"AWQ knows the layers of Llama, Mistral, Qwen2, Gemma 2 and Phi-3, and {config.model_type} has others; "
            "use --format gptq"
        )
    offset = 1.0 if config.model_type.startswith("gemma") else 0.0  # Gemma's norms multiply by 1 + weight
    attention, mlp = module.self_attn, module.mlp
    queries, up = (attention.qkv_proj, mlp.gate_up_proj) if fused else (attention.v_proj, mlp.up_proj)
    channels = layer.linear["self_attn.o_proj"].in_features
    names = ("self_attn.qkv_proj",) if fused else tuple(f"self_attn.{name}_proj" for name in "qkv")
    found = [Shared(names, _norm_divider(module.input_layernorm, offset))]
    if config.num_key_value_heads == config.num_attention_heads:  # else several heads share a value's channel
        found.append(Shared(("self_attn.o_proj",), _row_divider(queries, channels)))
    names = ("mlp.gate_up_proj",) if fused else ("mlp.gate_proj", "mlp.up_proj")
    found.append(Shared(names, _norm_divider(getattr(module, before_mlp), offset)))
    found.append(Shared(("mlp.down_proj",), _row_divider(up, layer.linear["mlp.down_proj"].in_features)))
    return found


def _norm_divider(norm: nn.Module, offset: float) -> Callable[[Tensor], None]:
    weight: Any = norm.weight

    def divide(scales: Tensor) -> None:
        weight.data.copy_((weight.data.float() + offset) / scales - offset)

    return divide


def _row_divider(module: nn.Linear, channels: int) -> Callable[[Tensor], None]:
    """The last `channels` outputs of a linear module: all, or values and `up` where they are fused with others."""

    def divide(scales: Tensor) -> None:
        for parameter in (module.weight, module.bias):
            if parameter is not None:
                rows = parameter.data[-channels:]
                rows.copy_(rows.float() / scales.view(-1, *[1] * (rows.dim() - 1)))

    return divide


@torch.no_grad()
def scale_layer(
    layer: Layer, inputs: Mapping[str, Inputs], config: PreTrainedConfig, group_size: int, dtype: torch.dtype
) -> dict[str, float]:
    """Scale a layer's input channels in place; its function stays the same.

    Returns:
        The exponent chosen for each linear module that was scaled (0: as it was).
    """
    chosen: dict[str, float] = {}
    for shared in shared_inputs(layer, config):
        modules = [layer.linear[name] for name in shared.modules]
        weights = [module.weight.data.float() for module in modules]
        exponent, scales = _best(weights, inputs[shared.modules[0]], group_size, dtype)
        chosen |= dict.fromkeys(shared.modules, exponent)
        if exponent == 0:
            continue
        shared.divide(scales)
        for module, weight in zip(modules, weights, strict=True):
            module.weight.data.copy_(weight * scales)
    return chosen


def _best(weights: Sequence[Tensor], inputs: Inputs, group_size: int, dtype: torch.dtype) -> tuple[float, Tensor]:
    """The exponent with the least squared output error, and its scales [in]; 0 and ones where none helps."""
    magnitude = inputs.magnitudes / max(1, inputs.count)
    # Magnitudes of the weights relative to their group, over all modules that share the input (AWQ's `w_max`)
    stacked = torch.cat(list(weights)).abs().view(-1, weights[0].shape[1] // group_size, group_size)
    relative = (stacked / stacked.amax(dim=-1, keepdim=True).clamp(min=1e-9)).view(-1, weights[0].shape[1])
    weight_magnitude = relative.mean(dim=0)
    best, least, scales = 0.0, _error(weights, torch.ones_like(magnitude), inputs, group_size, dtype), None
    for step in range(1, _GRID + 1):
        exponent = step / _GRID
        for below in (torch.ones_like(magnitude), weight_magnitude.pow(1 - exponent) + 1e-4):
            candidate = _normalized(magnitude.pow(exponent).clamp(min=1e-4) / below)
            error = _error(weights, candidate, inputs, group_size, dtype)
            if error < least:
                best, least, scales = exponent, error, candidate
    return best, torch.ones_like(magnitude) if scales is None else scales


def _normalized(scales: Tensor) -> Tensor:
    return scales / (scales.max() * scales.min()).sqrt()


def _error(weights: Sequence[Tensor], scales: Tensor, inputs: Inputs, group_size: int, dtype: torch.dtype) -> float:
    """Squared error of all outputs over the calibration inputs, with the weights rounded under these scales."""
    total = 0.0
    for weight in weights:
        rounded = round_to_nearest(weight * scales, group_size, dtype).dequantized().float() / scales
        lost = weight - rounded
        total += float((lost @ inputs.products * lost).sum())
    return total
