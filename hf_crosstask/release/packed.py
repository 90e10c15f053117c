"""4-bit weights on disk: the `pack-quantized` format of compressed-tensors, which transformers and vLLM read.

A weight [out, in] is kept as signed 4-bit integers in groups along `in`, each group of a row with one scale (symmetric,
no zero point): `weight_packed` int32 [out, in / 8] holds eight numbers a word, lowest bits first, offset by 8;
`weight_scale` [out, in / group]; `weight_shape` [2].
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hf_crosstask.atomic import write_file, write_json

BITS = 4
LOWEST, HIGHEST = -(2 ** (BITS - 1)), 2 ** (BITS - 1) - 1
_PER_WORD = 32 // BITS
_INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class Quantized:
    """One quantized weight.

    Attributes:
        integers: [out, in] int8 in [-8, 7].
        scales: [out, in / group], in the type they are stored in.
    """

    integers: Tensor
    scales: Tensor

    @property
    def group_size(self) -> int:
        """How many neighbours in a row share a scale."""
        return self.integers.shape[1] // self.scales.shape[1]

    def dequantized(self) -> Tensor:
        """[out, in] the weight that these numbers stand for, in the type of the scales."""
        rows, columns = self.integers.shape
        grouped = self.integers.to(self.scales.dtype).view(rows, -1, self.group_size)
        return (grouped * self.scales[..., None]).view(rows, columns)


def pack(integers: Tensor) -> Tensor:
    """int8 [out, in] in [-8, 7] to int32 [out, in / 8]."""
    unsigned = (integers.to(torch.int32) - LOWEST).view(len(integers), -1, _PER_WORD)
    packed = torch.zeros(unsigned.shape[:2], dtype=torch.int32, device=integers.device)
    for place in range(_PER_WORD):
        packed |= unsigned[..., place] << (BITS * place)
    return packed


def write_packed(folder: Path, weights: Mapping[str, Quantized], *, ignored: list[str]) -> None:
    """Replace weights of a saved checkpoint by their quantized form, and say so in its `config.json`.

    Args:
        folder: what `save_pretrained` wrote.
        weights: module name to its quantized weight; all of one group size.
        ignored: names of the linear modules that stay as they are.

    Raises:
        ValueError: the checkpoint does not have a weight under its module's name.
    """
    left = set(weights)
    index: dict[str, str] = {}
    size = 0
    for file in sorted(folder.glob("*.safetensors")):
        tensors = _packed_file(file, weights)
        left -= {name.removesuffix(".weight_packed") for name in tensors}
        index |= dict.fromkeys(tensors, file.name)
        size += sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        _save(file, tensors)
    if left:
        raise ValueError(f"{folder} has no weights of {', '.join(sorted(left))}")
    if (folder / _INDEX).exists():
        write_json(folder / _INDEX, {"metadata": {"total_size": size}, "weight_map": index})
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (group_size,) = {weight.group_size for weight in weights.values()}
    config["quantization_config"] = quantization_config(group_size, ignored)
    write_json(folder / "config.json", config)


def _packed_file(file: Path, weights: Mapping[str, Quantized]) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    tensors: dict[str, Tensor] = {}
    for name, tensor in load_file(file).items():
        weight = weights.get(name.removesuffix(".weight")) if name.endswith(".weight") else None
        if weight is None:
            tensors[name] = tensor
            continue
        module = name.removesuffix(".weight")
        tensors[f"{module}.weight_packed"] = pack(weight.integers).cpu()
        tensors[f"{module}.weight_scale"] = weight.scales.cpu().contiguous()
        tensors[f"{module}.weight_shape"] = torch.tensor(weight.integers.shape)
    return tensors


def _save(file: Path, tensors: Mapping[str, Tensor]) -> None:
    from safetensors.torch import save_file

    write_file(file, lambda temporary: save_file(dict(tensors), temporary, metadata={"format": "pt"}))


def quantization_config(group_size: int, ignored: list[str]) -> dict[str, Any]:
    """What `config.json` says of the format (compressed-tensors' `QuantizationConfig`)."""
    weights = {
        "num_bits": BITS,
        "type": "int",
        "symmetric": True,
        "strategy": "group",
        "group_size": group_size,
        "dynamic": False,
        "actorder": None,
        "observer": "minmax",
    }
    group = {
        "targets": ["Linear"],
        "weights": weights,
        "input_activations": None,
        "output_activations": None,
        "format": "pack-quantized",
    }
    return {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "config_groups": {"group_0": group},
        "ignore": ignored,
        "kv_cache_scheme": None,
    }
