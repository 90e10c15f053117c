"""The adapters of one task as one plain PEFT adapter.

Two LoRA updates add up to one whose rank is the sum of theirs: `B1 A1 + B2 A2 = [B1 B2] [A1; A2]`. Scalings and gates go
into B, so the joint adapter has scaling 1. (PEFT's `add_weighted_adapter` with "cat" does this to the model itself, and
knows no gate of a layer.)
"""

from __future__ import annotations

import copy
from collections import Counter

import torch
from peft import LoraConfig, PeftModel, get_peft_model_state_dict
from torch import Tensor

from hf_crosstask.models.multitask import MultiTaskModel

_ROOT = "base_model.model."
_DOWN, _UP = ".lora_A.weight", ".lora_B.weight"


def adapters_of(model: MultiTaskModel, task: str) -> tuple[str, ...]:
    """The adapters that a task uses."""
    if model.layout is not None:
        return model.layout.uses[task]
    assert isinstance(model.backbone, PeftModel)
    return tuple(model.backbone.active_adapters)


def is_plain(model: MultiTaskModel, task: str) -> bool:
    """Whether a task's adapters are one plain adapter: the weights of attention depend on the input."""
    return len(adapters_of(model, task)) == 1 or model.layout is None or model.layout.fusion != "attention"


@torch.no_grad()
def task_adapter(model: MultiTaskModel, task: str) -> tuple[dict[str, Tensor], LoraConfig]:
    """Weights (named as PEFT saves them) and configuration of one adapter that does what a task's adapters do.

    Raises:
        ValueError: there is none (attention).
    """
    backbone = model.backbone
    assert isinstance(backbone, PeftModel)
    if not is_plain(model, task):
        raise ValueError(f"the adapters of {task} are weighed by attention, which one adapter cannot do")
    names = adapters_of(model, task)
    states = {name: get_peft_model_state_dict(backbone, adapter_name=name) for name in names}
    config = copy.deepcopy(backbone.peft_config[names[0]])
    if len(names) == 1:
        return states[names[0]], config
    assert model.fusion is not None
    # What is no LoRA weight (trained embeddings) belongs to one adapter at most.
    joint = {
        path: value for state in states.values() for path, value in state.items() if not path.endswith((_DOWN, _UP))
    }
    ranks = {}
    for path, number in model.fusion.layer_numbers(backbone).items():
        layer, key = backbone.get_submodule(path), path
        gates = model.fusion.gates(task, number).tolist()
        down = [states[name][key + _DOWN] for name in names]
        up = [states[name][key + _UP] * (gate * layer.scaling[name]) for name, gate in zip(names, gates, strict=True)]
        joint[key + _DOWN], joint[key + _UP] = torch.cat(down), torch.cat(up, dim=1)
        ranks[path.removeprefix(_ROOT)] = len(joint[key + _DOWN])
    config.modules_to_save = next(
        (each.modules_to_save for each in map(backbone.peft_config.__getitem__, names) if each.modules_to_save), None
    )
    ((config.r, _),) = Counter(ranks.values()).most_common(1)
    config.rank_pattern = {path: rank for path, rank in ranks.items() if rank != config.r}
    config.lora_alpha, config.alpha_pattern = config.r, dict(config.rank_pattern)
    config.use_rslora = False
    return joint, config
