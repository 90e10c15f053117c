"""4-bit backbones (QLoRA, Dettmers et al. 2023): when `auto` picks them, and how they are loaded.

Every linear layer of the frozen body becomes NF4 with doubly quantized constants. Adapters and heads train in fp32,
embeddings and norms stay what they are without quantization: PEFT's `prepare_model_for_kbit_training` would make them
fp32, and with them every activation between layers. What else it does (freezing, gradients at the input for activation
checkpointing) happens here for every model.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from transformers import AutoModel, BitsAndBytesConfig, PretrainedConfig

Quantization = Literal["none", "nf4"]
#: Share of the device's memory that may be filled, as for micro-batches.
_FILLED = 0.85
#: Bytes of a trained weight: itself, its gradient and two moments of Adam, all in fp32.
_TRAINED = 16
#: 16-bit values that a layer of width 1 keeps of a token for the backward pass (Korthikanti et al. 2022, eq. 1, without
#: the quadratic part, which memory-efficient attention does not keep): 34 bytes.
_ACTIVATIONS = 34
#: Never quantized: what heads start from, and output layers.
UNQUANTIZED = ("pooler.dense", "classifier", "score", "lm_head", "embed_out")


@dataclass(frozen=True)
class MemoryNeed:
    """What training takes, in bytes.

    Attributes:
        weights: the backbone's frozen weights.
        trained: adapters and heads with gradients and optimizer state.
        activations: of one micro-batch.
    """

    weights: int
    trained: int
    activations: int

    @property
    def total(self) -> int:
        return self.weights + self.trained + self.activations


def memory_need(
    config: PretrainedConfig, *, trained: int, tokens: int, dtype: torch.dtype, checkpointing: bool
) -> MemoryNeed:
    """An estimate of the memory that training an adapter on an unquantized backbone takes.

    Args:
        config: the backbone's configuration.
        trained: number of trained parameters.
        tokens: padded tokens of a micro-batch.
        dtype: of the frozen weights and of activations.
        checkpointing: layers keep their input only, and one of them at a time everything.
    """
    with torch.device("meta"):
        weights = sum(parameter.numel() for parameter in AutoModel.from_config(config).parameters())
    layers, width = config.num_hidden_layers, config.hidden_size
    per_layer = _ACTIVATIONS * width * dtype.itemsize // 2
    kept = layers * width * dtype.itemsize + per_layer if checkpointing else layers * per_layer
    return MemoryNeed(weights * dtype.itemsize, trained * _TRAINED, tokens * kept)


def resolve_quantization(
    name: Literal["auto", "none", "nf4"] | None, *, by_default: Quantization, need: MemoryNeed, memory: int
) -> Quantization:
    """What a recipe's `model.quantization` means on a device.

    Args:
        name: as the recipe has it.
        by_default: what null stands for.
        need: what training takes without quantization.
        memory: bytes of the device.
    """
    if name == "auto":
        return "none" if need.total <= _FILLED * memory else "nf4"
    return by_default if name is None else name


def device_memory(device: torch.device) -> int:
    """Bytes of memory of a device; the machine's where it is the CPU."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def nf4(compute: torch.dtype) -> BitsAndBytesConfig:
    """4-bit NormalFloat with double quantization; matrix products in `compute`."""
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute,
        llm_int8_skip_modules=list(UNQUANTIZED),
    )


def compute_exactly_on_cpu(model: nn.Module) -> None:
    """Keep bitsandbytes from repacking 4-bit weights for its inference kernel of CPUs with bf16 instructions.

    It would do so in the first forward pass in evaluation mode and never undo it: products are rounded to bf16 from then
    on, whatever the compute dtype, and training that goes on after an evaluation gets no gradients through them.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.__dict__["support_avx512bf16_for_cpu"] = False
