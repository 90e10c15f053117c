"""Which adapters are active for a task, and how several active ones are added up.

With Δ_i the update of adapter i on an adapted layer, a layer's output is `base(x) + Σ w_i Δ_i(x)`, where the weight w_i is

| fusion | w_i | parameters a task and layer | plain PEFT |
|---|---|---|---|
| sum | 1 | none | yes: ranks concatenated |
| gated | 2 sigmoid(θ_i) | one θ an adapter | yes: the gates go into the concatenated weights |
| attention | n softmax_i(q_i · A_i x / sqrt(r_i)) | one q_i of size r_i an adapter | no: it depends on the input |

(n adapters; A_i is the adapter's own down-projection, which serves as its key.) All start at w_i = 1, as the sum.

PEFT's own layers run: they call what is registered as an adapter's "variant" (the hook behind DoRA) instead of adding
the update themselves. Nothing here changes `requires_grad`, which PEFT's `set_adapter` would.

One adapter alone, of a task that uses no other, has a variant too where it has dropout, for the sake of its cost on a
CPU (`_Alone`); without dropout, in evaluation and on a GPU its update is PEFT's to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import LoraVariant
from torch import Tensor, nn

from hf_crosstask.errors import InputError
from hf_crosstask.models.adapter_layout import PRIVATE_PREFIX, AdapterLayout
from hf_crosstask.models.dropout import dropped_linear


@dataclass(frozen=True)
class Activity:
    """Adapters in use.

    Attributes:
        names: the active adapters, in the order in which they are added up.
        constant: those of them whose parameters get no gradient.
        weights: for each adapted layer the parameters of the fusion; empty for the sum.
    """

    names: tuple[str, ...]
    constant: frozenset[str] = frozenset()
    weights: tuple[Tensor, ...] = ()


class AdapterFusion(nn.Module):
    """Activates a task's adapters and weighs them; holds the weights' parameters, one tensor a task.

    Args:
        backbone: with all adapters of the layout.
        layout: which adapters a task uses.

    Raises:
        InputError: an adapted layer is not linear, or is one whose updates do not add up (DoRA), and a task uses several
            adapters.
    """

    def __init__(self, backbone: PeftModel, layout: AdapterLayout):
        super().__init__()
        self.layout = layout
        layers = [(path, layer) for path, layer in backbone.named_modules() if isinstance(layer, LoraLayer)]
        self._layers = tuple(layer for _, layer in layers)  # a tuple: they are the backbone's
        self._active = Activity(())
        self.weights = nn.ParameterDict()
        several = [task for task, names in layout.uses.items() if len(names) > 1]
        if several:
            _check_layers(layers, layout)
            joined = {adapter for task in several for adapter in layout.uses[task]}
            for number, layer in enumerate(self._layers):
                layer.lora_variant.update(dict.fromkeys(joined, _FUSIONS[layout.fusion](self, number)))
        for layer in self._layers:
            layer.lora_variant.update(dict.fromkeys(_with_plain_dropout(layer), _Alone()))
        if layout.fusion != "sum":
            for task in several:
                self.weights[_key(task)] = nn.Parameter(torch.zeros(self._size(task)))
        for adapter in {adapter for _, adapter in layout.untrained}:
            self._hold_constant_on_demand(backbone, adapter)

    def activate(self, task: str) -> None:
        """Make a task's adapters the active ones, until the next call."""
        names = self.layout.uses[task]
        # The weights are unbound anew each time: they belong to the graph of one forward pass.
        weights = self.weights[_key(task)].unbind() if _key(task) in self.weights else ()
        constant = frozenset(adapter for adapter in names if (task, adapter) in self.layout.untrained)
        self.use(Activity(names, constant, weights))

    def use(self, activity: Activity) -> None:
        """Make the adapters of an activity the active ones, until the next call."""
        if activity.names != self._active.names:
            names = list(activity.names)
            for layer in self._layers:
                layer._active_adapter = names
        self._active = activity

    def recomputation_contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """For activation checkpointing (`context_fn`): what is computed again is computed with the same adapters."""
        return nullcontext(), self._again(self._active)

    @property
    def active(self) -> Activity:
        """What is active now."""
        return self._active

    def gates(self, task: str, number: int) -> Tensor:
        """The weights [adapters] of a task's adapters on one layer; of the sum and of gates only."""
        if self.layout.fusion == "attention":
            raise ValueError("attention weights depend on the input")
        if _key(task) not in self.weights:
            return torch.ones(len(self.layout.uses[task]))
        return _gate(self.weights[_key(task)][number].detach())

    def layer_numbers(self, backbone: PeftModel) -> dict[str, int]:
        """The number of every adapted layer, by its path."""
        numbers = {id(layer): number for number, layer in enumerate(self._layers)}
        return {path: numbers[id(layer)] for path, layer in backbone.named_modules() if id(layer) in numbers}

    @contextmanager
    def _again(self, activity: Activity) -> Iterator[None]:
        self.use(activity)
        yield

    def _size(self, task: str) -> tuple[int, int]:
        names = self.layout.uses[task]
        if self.layout.fusion == "gated":
            return len(self._layers), len(names)
        return len(self._layers), sum(self.layout.adapters[name].r for name in names)

    def _hold_constant_on_demand(self, backbone: PeftModel, adapter: str) -> None:
        """Let what an adapter trains beside LoRA run on detached weights where the active task does not train it."""
        for path, module in backbone.named_modules():
            if path.endswith(f".modules_to_save.{adapter}"):
                module.register_forward_pre_hook(_detach_weights(lambda: adapter in self._active.constant))
                module.register_forward_hook(_restore_weights, always_call=True)


def _key(task: str) -> str:
    """Of a task's weights: none of the attributes of torch's dictionaries, which a task's name may be."""
    return PRIVATE_PREFIX + task


def weights_of(name: str) -> str:
    """The task of a parameter of a fusion, by its path."""
    return name.rpartition(".")[2].removeprefix(PRIVATE_PREFIX)


def _check_layers(layers: list[tuple[str, LoraLayer]], layout: AdapterLayout) -> None:
    for path, layer in layers:
        missing = [name for name in layout.adapters if name not in layer.lora_A]
        if missing:
            raise InputError(f"model.adapter.target_modules: {path} is not a linear layer; several adapters need one")
    if any(settings.use_dora for settings in layout.adapters.values()):
        raise InputError(
            "model.adapter.use_dora: updates of DoRA do not add up; a strategy with several adapters needs LoRA"
        )
    if len({settings.dropout for settings in layout.adapters.values()}) > 1:
        raise ValueError("adapters that are added up have one dropout")
    if layout.fusion == "attention" and any(settings.ranks for settings in layout.adapters.values()):
        raise ValueError("attention needs one rank an adapter")


def _with_plain_dropout(layer: LoraLayer) -> set[str]:
    """The adapters of a layer that have no variant yet and whose update is two linear layers behind dropout."""
    return {
        name
        for name, down in layer.lora_A.items()
        if isinstance(down, nn.Linear)
        and isinstance(layer.lora_dropout[name], nn.Dropout)
        and name not in layer.lora_variant
    }


def _detach_weights(wanted: Callable[[], bool]) -> Callable[[nn.Module, Any], None]:
    def hook(module: nn.Module, _: Any) -> None:
        if wanted():
            module.__dict__["_trained"] = dict(module._parameters)
            for name, parameter in module.__dict__["_trained"].items():
                module._parameters[name] = None if parameter is None else parameter.detach()

    return hook


def _restore_weights(module: nn.Module, *_: Any) -> None:
    trained = module.__dict__.pop("_trained", None)
    if trained is not None:
        module._parameters.update(trained)


def _gate(weight: Tensor) -> Tensor:
    return 2 * weight.sigmoid()


class _Joint:
    """Adds the updates of all active adapters at once, when PEFT's LoRA layer calls the last of them.

    They pass one dropout, one product down and one up, as one adapter does whose rank is the sum of theirs: with LoRA what
    costs time and memory is the passes over the layer's input, not the rank.
    """

    def __init__(self, fusion: AdapterFusion, number: int):
        self.fusion, self.number = fusion, number

    def forward(self, layer: Any, *, active_adapter: str, x: Tensor, result: Tensor, **_: Any) -> Tensor:
        names = layer._active_adapter
        if active_adapter != names[-1]:
            return result
        constant = self.fusion.active.constant
        down = [_weight(layer.lora_A[name], name in constant) for name in names]
        up = [_weight(layer.lora_B[name], name in constant) * layer.scaling[name] for name in names]
        low = dropped_linear(x, torch.cat(down), layer.lora_dropout[names[0]])
        low, up = self.weigh(low, up)
        return result + nn.functional.linear(low, torch.cat(up, dim=1)).to(result.dtype)

    def weigh(self, low: Tensor, up: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Weigh the adapters: what all went down to [..., ranks], or what brings each up [out, rank]."""
        return low, up


class _Gated(_Joint):
    """Weighs every adapter with its gate."""

    def weigh(self, low: Tensor, up: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        gates = _gate(self.fusion.active.weights[self.number])
        return low, [gate * each for gate, each in zip(gates, up, strict=True)]


class _Attention(_Joint):
    """Weighs the adapters by attention to what went down, token by token."""

    def weigh(self, low: Tensor, up: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        ranks = [each.shape[1] for each in up]
        parts, queries = low.split(ranks, dim=-1), self.fusion.active.weights[self.number].split(ranks)
        scores = [
            part @ query.to(part.dtype) / math.sqrt(rank)
            for part, query, rank in zip(parts, queries, ranks, strict=True)
        ]
        weights = len(ranks) * torch.stack(scores, dim=-1).float().softmax(dim=-1).to(low.dtype)
        weighed = [part * weights[..., number, None] for number, part in enumerate(parts)]
        return torch.cat(weighed, dim=-1), up


class _Alone(LoraVariant):
    """Adds the update of one adapter as PEFT does, but on a CPU it passes the cheaper dropout of several adapters.

    That takes a sixth off the time of a step and a seventh off its memory (`tests/benchmarks`). On a GPU dropout is one
    kernel, and what this would gain there is not measured. Merging is PEFT's.
    """

    @staticmethod
    def forward(module: Any, active_adapter: str, x: Tensor, result: Tensor, **_: Any) -> Tensor:
        down, up = module.lora_A[active_adapter], module.lora_B[active_adapter]
        dropout, scaling = module.lora_dropout[active_adapter], module.scaling[active_adapter]
        if x.device.type == "cpu" and dropout.training:
            update = nn.functional.linear(dropped_linear(x, down.weight, dropout), up.weight * scaling)
        else:
            update = up(down(dropout(x))) * scaling
        return result + update.to(result.dtype)

    @staticmethod
    def merge_safe(module: Any, active_adapter: str, orig_weight: Tensor) -> Tensor:
        return orig_weight + module.get_delta_weight(active_adapter).to(orig_weight.dtype)

    @staticmethod
    def merge_unsafe(module: Any, active_adapter: str, orig_weight: Tensor) -> None:
        orig_weight.data += module.get_delta_weight(active_adapter)

    @staticmethod
    def unmerge(module: Any, active_adapter: str, orig_weight: Tensor) -> Tensor:
        return orig_weight.data - module.get_delta_weight(active_adapter).to(orig_weight.dtype)


def _weight(projection: nn.Module, constant: bool) -> Tensor:
    weight = projection.weight
    assert isinstance(weight, Tensor)
    return weight.detach() if constant else weight


_FUSIONS: dict[str, type[_Joint]] = {"sum": _Joint, "gated": _Gated, "attention": _Attention}
