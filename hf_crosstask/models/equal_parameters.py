"""A1 to A4: adapters of different structure with equally many trainable parameters, within 1 %.

The reference is one shared adapter of the recipe's rank (A1). `total` makes all adapter parameters of a run equal to it,
`active` those that one task uses; gates count, heads do not (they are the same in every arm).

| arm | private rank | shared rank |
|---|---|---|
| A1 | | the recipe's |
| A2 | the budget over the tasks (`total`), or all of it (`active`); uneven over layers where it is no whole number | |
| A3, A4 | half of that, rounded down, at least 1 | what is left, uneven over layers where it is no whole number |

`adapter_with` gives any adapter a number of parameters, for single-task controls of multi-task runs.

An uneven rank is the next lower one, plus one on some layers, evenly spread (PEFT's `rank_pattern`); `alpha_pattern` keeps
every layer's scaling at the recipe's. Nothing here needs weights: sizes come from the configuration, on the meta device.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from peft.tuners.lora import LoraLayer
from transformers import AutoModel, PretrainedConfig

from hf_crosstask.errors import InputError
from hf_crosstask.models.adapter_layout import (
    AdapterLayout,
    one_shared,
    only_private,
    shared_and_private,
    with_rank,
)
from hf_crosstask.models.adapters import LoraSettings, add_lora
from hf_crosstask.models.backbone import take_pooler

Arm = Literal["A1", "A2", "A3", "A4"]
ARMS: tuple[Arm, ...] = ("A1", "A2", "A3", "A4")
Matched = Literal["total", "active"]
TOLERANCE = 0.01
#: How far above the recipe's rank one is looked for that would do.
_SEARCHED = 64


@dataclass(frozen=True)
class AdapterParameters:
    """Trainable parameters of a layout, heads left out.

    Attributes:
        adapters: of each adapter.
        gates: of each task's gates (or attention).
        total: all together.
        active: the most that one task uses.
    """

    adapters: Mapping[str, int]
    gates: Mapping[str, int]
    total: int
    active: int


def module_sizes(config: PretrainedConfig, lora: LoraSettings) -> dict[str, int]:
    """Parameters that one rank of the adapter costs on every adapted layer (inputs + outputs), by the layer's path.

    Raises:
        InputError: no layer of the backbone has a target's name.
    """
    with torch.device("meta"):
        backbone = AutoModel.from_config(config)
        take_pooler(backbone)
        flat = LoraSettings(r=1, alpha=1, target_modules=lora.target_modules)
        body = add_lora(backbone, flat, low_cpu_mem_usage=True).base_model.model
    return {
        path: sum(parameter.numel() for name, parameter in layer.named_parameters() if "lora_" in name)
        for path, layer in body.named_modules()
        if isinstance(layer, LoraLayer)
    }


def adapter_parameters(layout: AdapterLayout, sizes: Mapping[str, int]) -> AdapterParameters:
    """Count a layout's adapter parameters (of trained embeddings none)."""
    adapters = {
        name: sum(size * settings.ranks.get(path, settings.r) for path, size in sizes.items())
        for name, settings in layout.adapters.items()
    }
    gates = {}
    for task, names in layout.uses.items():
        each = {"sum": 0, "gated": len(names), "attention": sum(layout.adapters[name].r for name in names)}
        gates[task] = each[layout.fusion] * len(sizes) if len(names) > 1 else 0
    active = max(sum(adapters[name] for name in names) + gates[task] for task, names in layout.uses.items())
    return AdapterParameters(adapters, gates, sum(adapters.values()) + sum(gates.values()), active)


def equal_layout(
    arm: Arm,
    lora: LoraSettings,
    tasks: Sequence[str],
    sizes: Mapping[str, int],
    *,
    matched: Matched = "total",
    outside: Sequence[str] = (),
) -> AdapterLayout:
    """The adapters of an arm, with as many parameters as one shared adapter of `lora`'s rank.

    Args:
        arm: A1 to A4.
        lora: the reference adapter.
        tasks: the tasks.
        sizes: parameters of one rank on every layer (`module_sizes`).
        matched: which parameters are made equal.
        outside: tasks that do not train the shared adapter (A3, A4).

    Raises:
        InputError: there are no ranks with equally many parameters within 1 %; the message says how far off the nearest
            are, and which `adapter.r` would do.
    """
    try:
        return _solve(arm, lora, tasks, sizes, matched, outside)
    except _OutOfReach as problem:
        for rank in range(lora.r + 1, lora.r + _SEARCHED):
            try:
                _solve(arm, with_rank(lora, rank), tasks, sizes, matched, outside)
            except _OutOfReach:
                continue
            raise InputError(
                f"{arm} with model.adapter.r {lora.r}: {problem}; model.adapter.r {rank} would do"
            ) from None
        raise InputError(f"{arm} with model.adapter.r {lora.r}: {problem}; choose another strategy") from None


class _OutOfReach(Exception):
    """No ranks give the parameters wanted; the text says how far off the nearest are."""


def _solve(
    arm: Arm,
    lora: LoraSettings,
    tasks: Sequence[str],
    sizes: Mapping[str, int],
    matched: Matched,
    outside: Sequence[str],
) -> AdapterLayout:
    unit = sum(sizes.values())
    wanted = lora.r * unit
    copies = len(tasks) if matched == "total" else 1
    if arm == "A1":
        layout = one_shared(tasks, lora)
    elif arm == "A2":
        layout = only_private(tasks, _with_parameters(lora, sizes, wanted / copies))
    else:
        private = with_rank(lora, max(1, lora.r // (2 * copies)))
        gates = 2 * len(sizes) * copies if arm == "A4" else 0
        shared = _with_parameters(lora, sizes, wanted - gates - copies * private.r * unit)
        layout = shared_and_private(tasks, shared, private, fusion="gated" if arm == "A4" else "sum", outside=outside)
    counted = adapter_parameters(layout, sizes)
    found = counted.total if matched == "total" else counted.active
    if abs(found - wanted) > TOLERANCE * wanted:
        raise _OutOfReach(
            f"the nearest ranks give {found:,} {matched} adapter parameters, {found / wanted - 1:+.1%} of the {wanted:,} "
            f"of one shared adapter (at most {TOLERANCE:.0%} is allowed)"
        )
    return layout


def _with_parameters(lora: LoraSettings, sizes: Mapping[str, int], wanted: float) -> LoraSettings:
    """An adapter with the number of parameters nearest to `wanted`, but at least one rank on every layer."""
    unit = sum(sizes.values())
    rank = max(1, int(wanted // unit))
    raised = _nearest_subset(sizes, max(0.0, wanted - rank * unit))
    if len(raised) == len(sizes):
        return with_rank(lora, rank + 1)
    return replace(with_rank(lora, rank), ranks=dict.fromkeys(raised, rank + 1))


def _nearest_subset(sizes: Mapping[str, int], wanted: float) -> list[str]:
    """Layers whose sizes sum to what is nearest to `wanted`; of equally near ones the most even over kinds of layers."""
    total = sum(sizes.values())
    by_size: dict[int, list[str]] = defaultdict(list)
    for path, size in sizes.items():
        by_size[size].append(path)
    share = wanted / total
    # For every reachable sum the counts of each size that are most even: (unevenness, counts).
    best: dict[int, tuple[float, tuple[int, ...]]] = {0: (0.0, ())}
    for size, paths in by_size.items():
        grown: dict[int, tuple[float, tuple[int, ...]]] = {}
        for reached, (uneven, counts) in best.items():
            for count in range(len(paths) + 1):
                value = (uneven + (count / len(paths) - share) ** 2, (*counts, count))
                key = reached + count * size
                if key not in grown or value < grown[key]:
                    grown[key] = value
        best = grown
    nearest = min(best, key=lambda reached: (abs(reached - wanted), best[reached]))
    chosen = {
        path for paths, count in zip(by_size.values(), best[nearest][1], strict=True) for path in _evenly(paths, count)
    }
    return [path for path in sizes if path in chosen]


def _evenly(paths: Sequence[str], count: int) -> list[str]:
    """`count` of the paths, evenly spread."""
    return [paths[(2 * number + 1) * len(paths) // (2 * count)] for number in range(count)]


def adapter_with(config: PretrainedConfig, lora: LoraSettings, wanted: int) -> tuple[LoraSettings, int]:
    """The adapter with the number of trainable parameters nearest to `wanted`, and that number.

    Ranks are as even over layers as can be, and the scaling is that of `lora`. What an adapter trains besides its ranks
    (embeddings, DoRA's magnitudes) is part of the number.

    Raises:
        InputError: ranks would be larger than the layers are wide, where an adapter is no smaller than the layers.
    """
    sizes = module_sizes(config, lora)
    besides = _trainable(config, lora) - lora.r * sum(sizes.values())
    found = _with_parameters(lora, sizes, wanted - besides)
    if found.r >= config.hidden_size:
        raise InputError(
            f"{wanted:,} trainable parameters would take an adapter of rank {found.r}, and the backbone's layers are only "
            f"{config.hidden_size} wide"
        )
    return found, besides + sum(size * found.ranks.get(path, found.r) for path, size in sizes.items())


def _trainable(config: PretrainedConfig, lora: LoraSettings) -> int:
    """Trainable parameters of a backbone with an adapter, counted on the meta device."""
    with torch.device("meta"):
        backbone = AutoModel.from_config(config)
        take_pooler(backbone)
        model = add_lora(backbone, lora, low_cpu_mem_usage=True)
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def describe_rank(settings: LoraSettings, layers: int) -> str:
    """`8`, or `7-8 (mean 7.9)` where layers differ."""
    if not settings.ranks:
        return str(settings.r)
    ranks = Counter(settings.ranks.values())
    ranks[settings.r] += layers - len(settings.ranks)
    mean = sum(rank * count for rank, count in ranks.items()) / layers
    return f"{min(ranks)}-{max(ranks)} (mean {mean:.2f})"
