"""Post-training quantization of a model to 4-bit weights, and writing it so that plain transformers loads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn
from transformers import PreTrainedModel

from hf_crosstask.errors import InputError
from hf_crosstask.release.awq import scale_layer
from hf_crosstask.release.calibration import Inputs, Layer, calibrate, layers_of
from hf_crosstask.release.gptq import gptq, round_to_nearest
from hf_crosstask.release.packed import Quantized, write_packed

Method = Literal["gptq", "awq", "rtn"]
#: Largest first: what llmcompressor's W4A16 uses, then what smaller dimensions allow.
_GROUP_SIZES = (128, 64, 32)


@dataclass(frozen=True)
class Quantization:
    """A model quantized in memory: its weights are what the 4-bit numbers stand for.

    Attributes:
        method: how.
        weights: module name to its 4-bit weight.
        ignored: linear modules that stay as they are (heads, output layers).
        group_size: numbers that share a scale.
        calibration_tokens: how many tokens it was calibrated on.
    """

    method: Method
    weights: Mapping[str, Quantized]
    ignored: list[str]
    group_size: int
    calibration_tokens: int

    def save(self, model: PreTrainedModel, folder: Path) -> None:
        """Write the model as a compressed-tensors checkpoint."""
        model.save_pretrained(str(folder))
        write_packed(folder, self.weights, ignored=self.ignored)


@torch.no_grad()
def quantize(model: PreTrainedModel, texts: Sequence[Mapping[str, list[int]]], *, method: Method) -> Quantization:
    """Quantize the linear modules of a model's layers to 4 bits, in place; everything else stays as it is.

    Args:
        model: with plain weights, on the device to work on.
        texts: calibration inputs (see `calibration.calibrate`).
        method: GPTQ, AWQ, or rounding to nearest.

    Raises:
        InputError: the model's dimensions or architecture do not allow it, or there is no text.
    """
    if not texts:
        raise InputError("quantization needs calibration text, and there is none")
    model.eval()
    layers = layers_of(model)
    group_size = _group_size(layers)
    dtype = layers[0].linear[next(iter(layers[0].linear))].weight.dtype
    weights: dict[str, Quantized] = {}

    def visit(layer: Layer, inputs: Mapping[str, Inputs]) -> None:
        if method == "awq":
            scale_layer(layer, inputs, model.config, group_size, dtype)
        for name, module in layer.linear.items():
            weight = module.weight.data.float()
            if method == "gptq":
                quantized = gptq(weight, inputs[name].products, group_size, dtype)
            else:
                quantized = round_to_nearest(weight, group_size, dtype)
            module.weight.data.copy_(quantized.dequantized())
            weights[f"{layer.name}.{name}"] = quantized

    calibrate(model, texts, visit)
    ignored = [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and name not in weights]
    tokens = sum(len(text["input_ids"]) for text in texts)
    return Quantization(method, weights, ignored, group_size, tokens)


def _group_size(layers: Sequence[Layer]) -> int:
    sizes = {module.in_features for layer in layers for module in layer.linear.values()}
    for group_size in _GROUP_SIZES:
        if all(size % group_size == 0 for size in sizes):
            return group_size
    raise InputError(
        f"4-bit groups of {', '.join(map(str, _GROUP_SIZES))} numbers do not divide this model's dimensions "
        f"({', '.join(map(str, sorted(sizes)))})"
    )
