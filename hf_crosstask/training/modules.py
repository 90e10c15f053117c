"""Finding the module one means inside the wrappers that distributed training and PEFT put around it."""

from __future__ import annotations

from peft import PeftModel
from torch import nn
from torch.nn.parallel import DistributedDataParallel


def unwrap_ddp(model: nn.Module) -> nn.Module:
    """The module inside `DistributedDataParallel`, whose own gradient reduction is not used."""
    return model.module if isinstance(model, DistributedDataParallel) else model


def base_model(model: nn.Module) -> nn.Module:
    """The model whose `forward` names its inputs: inside DDP and inside a `PeftModel`."""
    model = unwrap_ddp(model)
    return model.get_base_model() if isinstance(model, PeftModel) else model
