"""A model as those have it who train without this library: PEFT's own LoRA layers, torch's own dropout and attention."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from peft.tuners.lora import LoraLayer
from torch import nn

from hf_crosstask.models.dropout import ATTENTION, Dropout
from hf_crosstask.models.multitask import MultiTaskModel


def use_pefts_own_layers(model: MultiTaskModel) -> Callable[[], None]:
    """From now on the model's adapters, one a task, are added by PEFT's layers and pass PEFT's dropout.

    Returns:
        What takes it back.
    """
    layers = [layer for layer in model.backbone.modules() if isinstance(layer, LoraLayer)]
    ours = [dict(layer.lora_variant) for layer in layers]
    for layer in layers:
        layer.lora_variant.clear()

    def restore() -> None:
        for layer, variants in zip(layers, ours, strict=True):
            layer.lora_variant.update(variants)

    return restore


@contextmanager
def stock(model: MultiTaskModel) -> Iterator[None]:
    """Meanwhile nothing of this library is in a model's backbone. Its weights are the same."""
    restore = use_pefts_own_layers(model)
    dropouts = [module for module in model.backbone.modules() if type(module) is Dropout]
    attention = model.body.config._attn_implementation
    for module in dropouts:
        module.__class__ = nn.Dropout
    if attention == ATTENTION:
        model.body.set_attn_implementation("sdpa")
    try:
        yield
    finally:
        restore()
        for module in dropouts:
            module.__class__ = Dropout
        model.body.set_attn_implementation(attention)
