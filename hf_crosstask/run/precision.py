"""The number formats of a run on its device: precision, and whether the backbone is 4-bit."""

from __future__ import annotations

from dataclasses import replace

import torch

from hf_crosstask.errors import InputError
from hf_crosstask.models.build import head_parameters
from hf_crosstask.models.equal_parameters import adapter_parameters, module_sizes
from hf_crosstask.models.precision import Precision, resolve_precision
from hf_crosstask.models.quantization import device_memory, memory_need, resolve_quantization
from hf_crosstask.run.prepare import Prepared, fixed_micro_batch_tokens


def run_precision(prepared: Prepared, device: torch.device) -> Precision:
    """Resolve the recipe's `model.precision` and `model.quantization`.

    Raises:
        InputError: the device cannot compute the precision asked for, or has no 4-bit layers.
    """
    model = prepared.recipe.model
    precision = resolve_precision(model.precision, device)
    default = "nf4" if prepared.recipe.strategy.name == "S5" else "none"
    if (model.quantization is None and default == "none") or model.quantization == "none" or prepared.lora is None:
        return precision
    cards = [each.card for each in prepared.data.values()]
    assert prepared.layout is not None
    counted = adapter_parameters(prepared.layout, module_sizes(prepared.config, prepared.lora))
    need = memory_need(
        prepared.config,
        trained=counted.total + sum(head_parameters(cards, prepared.config, prepared.text).values()),
        tokens=fixed_micro_batch_tokens(prepared.recipe) or prepared.recipe.training.tokens_per_step,
        dtype=precision.frozen_dtype,
        checkpointing=bool(getattr(prepared.recipe.training, "activation_checkpointing", False)),
    )
    quantization = resolve_quantization(model.quantization, by_default="nf4", need=need, memory=device_memory(device))
    if quantization == "nf4" and device.type not in ("cuda", "cpu"):
        raise InputError(f"model.quantization: 4-bit layers run on CUDA GPUs and CPUs, not on {device.type}")
    return replace(precision, quantization=quantization, device=device)
