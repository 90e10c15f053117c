"""Running a model layer by layer over calibration text, and what the linear modules of each layer then see.

Every layer is calibrated on the outputs of the layers before it as they are by then, quantized: later layers can make
up for the errors of earlier ones. One layer's statistics are in memory at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from hf_crosstask.errors import InputError

#: Called with a layer and, for each of its linear modules by name, `X^T X` [in, in] of its inputs and their mean |x|.
Visit = Callable[["Layer", Mapping[str, "Inputs"]], None]


@dataclass(frozen=True)
class Layer:
    """One layer of a model.

    Attributes:
        name: its name in the model.
        module: the layer.
        linear: its linear modules, by their name in the layer.
    """

    name: str
    module: nn.Module
    linear: Mapping[str, nn.Linear]


@dataclass
class Inputs:
    """What a linear module sees over the calibration text.

    Attributes:
        products: [in, in] fp32 `X^T X`.
        magnitudes: [in] fp32 sum of |x|.
        count: number of inputs n.
    """

    products: Tensor
    magnitudes: Tensor
    count: int = 0

    @classmethod
    def of(cls, module: nn.Linear) -> Inputs:
        """Nothing yet."""
        size, device = module.in_features, module.weight.device
        return cls(torch.zeros(size, size, device=device), torch.zeros(size, device=device))

    def add(self, values: Tensor) -> None:
        """Inputs [..., in]."""
        rows = values.detach().flatten(0, -2).float()
        self.products += rows.T @ rows
        self.magnitudes += rows.abs().sum(dim=0)
        self.count += len(rows)


def layers_of(model: PreTrainedModel) -> list[Layer]:
    """The layers of a model's body, in the order in which they run.

    Raises:
        InputError: the body is not one stack of layers.
    """
    count = model.config.num_hidden_layers
    names = {id(module): name for name, module in model.named_modules()}
    stacks = [
        module
        for module in model.base_model.modules()
        if isinstance(module, nn.ModuleList) and len(module) == count and any(_linear(layer) for layer in module)
    ]
    if not stacks:
        raise InputError(f"a {model.config.model_type} model is not one stack of layers: it cannot be quantized here")
    return [Layer(names[id(layer)], layer, _linear(layer)) for layer in stacks[0]]


def _linear(layer: nn.Module) -> dict[str, nn.Linear]:
    return {name: module for name, module in layer.named_modules() if type(module) is nn.Linear}


@torch.no_grad()
def calibrate(model: PreTrainedModel, texts: Sequence[Mapping[str, list[int]]], visit: Visit) -> None:
    """Show `visit` every layer with what its linear modules see; what it changes, later layers see.

    Args:
        model: in evaluation mode.
        texts: model inputs of single sequences (`input_ids`, …), without padding.
        visit: may change the layer's weights.
    """
    layers = layers_of(model)
    calls = [_recorded(model, layers, text) for text in texts]
    states = [recorded[0].state for recorded in calls]
    for number, layer in enumerate(layers):
        inputs = {name: Inputs.of(module) for name, module in layer.linear.items()}
        handles = [
            module.register_forward_pre_hook(partial(_observe, inputs[name])) for name, module in layer.linear.items()
        ]
        for state, recorded in zip(states, calls, strict=True):
            recorded[number].run(layer.module, state)
        for handle in handles:
            handle.remove()
        visit(layer, inputs)
        states = [recorded[number].run(layer.module, state) for state, recorded in zip(states, calls, strict=True)]


def _observe(inputs: Inputs, module: nn.Module, arguments: tuple[Any, ...]) -> None:
    inputs.add(arguments[0])


@dataclass(frozen=True)
class _Call:
    """How the model calls a layer: with hidden states, and with masks, positions, … that do not depend on them."""

    state: Tensor
    arguments: tuple[Any, ...]
    named: Mapping[str, Any]

    def run(self, layer: nn.Module, state: Tensor) -> Tensor:
        output = layer(state, *self.arguments, **self.named)
        result: Tensor = output[0] if isinstance(output, tuple) else output
        return result


def _recorded(model: PreTrainedModel, layers: Sequence[Layer], text: Mapping[str, list[int]]) -> list[_Call]:
    """How each layer is called in one forward pass over a text. Only the first one's hidden states are kept."""
    calls: list[_Call] = []

    def record(module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        rest = dict(named)
        state = arguments[0] if arguments else rest.pop("hidden_states")
        calls.append(_Call(state if not calls else state.new_empty(0), arguments[1:], rest))

    handles = [layer.module.register_forward_pre_hook(record, with_kwargs=True) for layer in layers]
    device = model.device
    batch = {name: torch.tensor([values], device=device) for name, values in text.items()}
    model.base_model(**batch, **({"use_cache": False} if hasattr(model.config, "use_cache") else {}))
    for handle in handles:
        handle.remove()
    return calls


def texts_of(
    rows: Sequence[Mapping[str, Any]], names: Sequence[str] = ("input_ids", "token_type_ids")
) -> Iterator[dict[str, list[int]]]:
    """The single sequences of encoded rows, as `calibrate` takes them (a row may hold several)."""
    for row in rows:
        present = [name for name in names if name in row]
        nested = bool(row["input_ids"]) and isinstance(row["input_ids"][0], (list, tuple))
        for number in range(len(row["input_ids"]) if nested else 1):
            yield {name: list(row[name][number] if nested else row[name]) for name in present}
