"""Number formats: what `auto` resolves to on a device."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch

from hf_crosstask.errors import InputError
from hf_crosstask.models.quantization import Quantization

PrecisionName = Literal["auto", "fp32", "fp16", "bf16"]


@dataclass(frozen=True)
class Precision:
    """Resolved precision of a run.

    Attributes:
        name: `fp32`, `fp16` (mixed, with loss scaling) or `bf16` (mixed).
        frozen_dtype: dtype of weights that are not trained; trained weights stay in fp32.
        quantization: of the backbone's linear layers: `none`, or `nf4` (then `frozen_dtype` is what they compute in).
        device: where a quantized backbone is loaded to.
    """

    name: Literal["fp32", "fp16", "bf16"]
    frozen_dtype: torch.dtype
    quantization: Quantization = "none"
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def formats(self) -> str:
        """The numbers computed with, in words."""
        return formats(self.name, self.quantization)


def formats(precision: str, quantization: str) -> str:
    """The numbers that a run computes with, in words."""
    return precision if quantization == "none" else f"{precision}, {quantization}"


_FROZEN = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def resolve_precision(name: PrecisionName, device: torch.device) -> Precision:
    """`auto`: bf16 where the device computes it natively, fp16 on older GPUs (T4), fp32 on CPU.

    Raises:
        InputError: the device cannot compute the precision asked for.
    """
    cuda = device.type == "cuda"
    native_bf16 = cuda and torch.cuda.get_device_capability(device)[0] >= 8
    if name == "auto":
        name = "bf16" if native_bf16 else "fp16" if cuda else "fp32"
    if name == "fp16" and not cuda:
        raise InputError("model.precision is 'fp16', which needs a GPU; use 'fp32' or 'auto' on a CPU")
    if name == "bf16" and cuda and not native_bf16:
        raise InputError(
            f"model.precision is 'bf16', which {torch.cuda.get_device_name(device)} does not compute natively; "
            "use 'fp16' or 'auto'"
        )
    return Precision(name, _FROZEN[name])
