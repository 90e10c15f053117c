"""LoRA adapters on a backbone, and which parameters train."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from torch import nn
from transformers import PreTrainedModel

from hf_crosstask.errors import InputError
from hf_crosstask.recipe.schema import Adapter

SHARED = "shared"


@dataclass(frozen=True)
class LoraSettings:
    """LoRA (Hu et al. 2021) as PEFT implements it.

    Attributes:
        r: rank.
        alpha: scaling numerator; the update is scaled by alpha / r (alpha / sqrt(r) with `use_rslora`).
        dropout: on the adapter's input.
        target_modules: `all-linear` or module name endings.
        use_rslora: rank-stabilised scaling (Kalajdzievski 2023).
        use_dora: weight-decomposed update (Liu et al. 2024).
        train_embeddings: also train (and save with the adapter) the input embeddings.
        ranks: modules (by path in the backbone) whose rank is another than `r`; their scaling is that of all others.
    """

    r: int = 16
    alpha: float = 32
    dropout: float = 0.05
    target_modules: str | tuple[str, ...] = "all-linear"
    use_rslora: bool = False
    use_dora: bool = False
    train_embeddings: bool = False
    ranks: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, adapter: Adapter) -> LoraSettings:
        """The settings of a recipe's `model.adapter`."""
        return cls(**adapter.model_dump(exclude={"type"}))

    @property
    def scaling(self) -> float:
        """What every module's update is multiplied with."""
        return self.alpha / (self.r**0.5 if self.use_rslora else self.r)


def add_adapters(backbone: PreTrainedModel, adapters: Mapping[str, LoraSettings], seed: int) -> PeftModel:
    """Wrap a backbone with named LoRA adapters, all of them trainable; everything else is frozen.

    The weights of an adapter other than the shared one depend on the seed and its name alone.

    Raises:
        InputError: no module of the backbone has a target's name.
    """
    model: PeftModel | None = None
    for name, settings in adapters.items():
        with torch.random.fork_rng(devices=[], enabled=name != SHARED):
            if name != SHARED:
                digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
                torch.manual_seed(int.from_bytes(digest[:4], "little"))
            if model is None:
                model = add_lora(backbone, settings, name)
            else:
                model.add_adapter(name, lora_config(backbone, settings))
    assert model is not None
    # PEFT freezes what is not active; from here on nothing flips, so that the optimizer sees every adapter.
    model.set_requires_grad(list(adapters))
    return model


def add_lora(
    backbone: PreTrainedModel, settings: LoraSettings, name: str = SHARED, *, low_cpu_mem_usage: bool = False
) -> PeftModel:
    """Wrap a backbone with one trainable LoRA adapter; everything else is frozen. `low_cpu_mem_usage`: without values.

    Raises:
        InputError: no module of the backbone has a target's name.
    """
    try:
        return get_peft_model(
            backbone, lora_config(backbone, settings), adapter_name=name, low_cpu_mem_usage=low_cpu_mem_usage
        )
    except ValueError as error:
        if "target modules" not in str(error).lower():
            raise
        linear = sorted({path.rsplit(".", 1)[-1] for path, m in backbone.named_modules() if isinstance(m, nn.Linear)})
        raise InputError(
            f"model.adapter.target_modules: no module of the backbone is named {settings.target_modules!r}; "
            f"its linear modules are named {', '.join(linear)}"
        ) from error


def lora_config(backbone: PreTrainedModel, settings: LoraSettings) -> LoraConfig:
    """PEFT's configuration of an adapter."""
    extra: dict[str, Any] = {}
    if settings.train_embeddings:
        extra["modules_to_save"] = [_embedding_name(backbone)]
    return LoraConfig(
        task_type=TaskType.FEATURE_EXTRACTION,
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=(
            settings.target_modules if isinstance(settings.target_modules, str) else list(settings.target_modules)
        ),
        rank_pattern=dict(settings.ranks),
        alpha_pattern={
            path: settings.scaling * (rank**0.5 if settings.use_rslora else rank)
            for path, rank in settings.ranks.items()
        },
        use_rslora=settings.use_rslora,
        use_dora=settings.use_dora,
        **extra,
    )


def _embedding_name(backbone: PreTrainedModel) -> str:
    embedding = backbone.get_input_embeddings()
    return next(path.rsplit(".", 1)[-1] for path, module in backbone.named_modules() if module is embedding)
