"""A model whose LoRA layers are PEFT's own, as those have it who train without this library."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from peft.tuners.lora import LoraLayer

from hf_crosstask.models.multitask import MultiTaskModel


def use_pefts_own_layers(model: MultiTaskModel) -> dict[LoraLayer, dict[str, object]]:
    """From now on the model's adapters, one a task, are added by PEFT's layers and pass PEFT's dropout.

    Returns:
        What each layer had instead.
    """
    layers = [layer for layer in model.backbone.modules() if isinstance(layer, LoraLayer)]
    ours = {layer: dict(layer.lora_variant) for layer in layers}
    for layer in layers:
        layer.lora_variant.clear()
    return ours


@contextmanager
def pefts_own_layers(model: MultiTaskModel) -> Iterator[None]:
    """Meanwhile the model's LoRA layers are PEFT's own."""
    ours = use_pefts_own_layers(model)
    try:
        yield
    finally:
        for layer, variants in ours.items():
            layer.lora_variant.update(variants)
