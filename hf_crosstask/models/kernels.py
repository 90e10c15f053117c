"""Faster kernels, where the device has them: FlashAttention and Liger."""

from __future__ import annotations

import torch
from transformers import AutoModel, PretrainedConfig, PreTrainedModel
from transformers.utils import is_flash_attn_2_available, is_liger_kernel_available

from hf_crosstask.errors import InputError

AUTO = "auto"
_FLASH = "flash_attention_2"


def resolve_attention(name: str | None, config: PretrainedConfig, dtype: torch.dtype) -> str | None:
    """The attention implementation; None leaves it to the model: SDPA where its attention can be said so, else eager.

    Args:
        name: as in the recipe. `auto`: FlashAttention 2 where it is installed for this GPU, the weights are in 16 bits and
            the architecture has it.
        config: of the backbone.
        dtype: of the backbone's weights.
    """
    if name != AUTO:
        return name
    half = dtype in (torch.float16, torch.bfloat16)
    architecture = AutoModel._model_mapping.get(type(config), None)
    supports = bool(getattr(architecture, "_supports_flash_attn", False))
    return _FLASH if half and supports and is_flash_attn_2_available() else None


def apply_liger(backbone: PreTrainedModel) -> None:
    """Replace a backbone's norms, feed-forward layers and rotary embedding by Liger's Triton kernels, in place.

    transformers' own switch looks for a `PreTrainedModel` and passes over a multi-task model with a warning. Liger's fused
    losses stay off: losses are the task heads' own. The rotary embedding is replaced for the whole process.

    Raises:
        InputError: liger-kernel is not installed, there is no GPU, or it has no kernels for this architecture.
    """
    if not is_liger_kernel_available():
        raise InputError(
            "training.use_liger_kernel: liger-kernel is not installed; `pip install liger-kernel`, or leave the key out"
        )
    if not torch.cuda.is_available():
        raise InputError("training.use_liger_kernel: Liger's kernels need a GPU; leave the key out")
    from liger_kernel.transformers import _apply_liger_kernel_to_instance
    from liger_kernel.transformers.monkey_patch import MODEL_TYPE_TO_APPLY_LIGER_FN

    kind = backbone.config.model_type
    if kind not in MODEL_TYPE_TO_APPLY_LIGER_FN:
        raise InputError(f"training.use_liger_kernel: Liger has no kernels for model type {kind!r}; leave the key out")
    _apply_liger_kernel_to_instance(model=backbone, cross_entropy=False, fused_linear_cross_entropy=False)
