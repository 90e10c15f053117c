"""Where transformers' own task classes keep their heads: what a head must look like to export into one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, PretrainedConfig


@dataclass(frozen=True)
class HeadLayout:
    """Names of a head's layers in a transformers task class.

    Attributes:
        prefix: name of the body in the class (`bert`, `model`, …).
        output: name of the output layer.
        dense: name of the dense tanh layer before it; None where there is none.
        modules: top-level modules that PEFT saves with the adapter (`modules_to_save`).
    """

    prefix: str
    output: str
    dense: str | None
    modules: tuple[str, ...]


_CLASSES = {"token": AutoModelForTokenClassification, "sequence": AutoModelForSequenceClassification}


def head_layout(config: PretrainedConfig, kind: Literal["token", "sequence"]) -> HeadLayout | None:
    """The layout of an architecture's token or sequence classification class, found by building it without weights.

    None where the architecture has no such class, or its head is not one the library's heads map onto.
    """
    factory = _CLASSES[kind]
    if type(config) not in factory._model_mapping:
        return None
    with torch.device("meta"):
        model = factory.from_config(config)
    prefix = model.base_model_prefix
    for name in ("classifier", "score"):
        head = getattr(model, name, None)
        if isinstance(head, nn.Linear):
            pooler = getattr(getattr(model.base_model, "pooler", None), "dense", None)
            if kind == "token" or name == "score":
                return HeadLayout(prefix, name, None, (name,))
            if isinstance(pooler, nn.Linear):
                return HeadLayout(prefix, name, f"{prefix}.pooler.dense", ("pooler", name))
        elif isinstance(getattr(head, "dense", None), nn.Linear) and isinstance(
            getattr(head, "out_proj", None), nn.Linear
        ):
            return HeadLayout(prefix, f"{name}.out_proj", f"{name}.dense", (name,))
    return None
