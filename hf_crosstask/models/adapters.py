"""LoRA adapters on a backbone, and which parameters train."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from torch import nn
from transformers import PreTrainedModel

from hf_crosstask.errors import InputError

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
    """

    r: int = 16
    alpha: float = 32
    dropout: float = 0.05
    target_modules: str | tuple[str, ...] = "all-linear"
    use_rslora: bool = False
    use_dora: bool = False
    train_embeddings: bool = False


def add_lora(backbone: PreTrainedModel, settings: LoraSettings, name: str = SHARED) -> PeftModel:
    """Wrap a backbone with one trainable LoRA adapter; everything else is frozen.

    Raises:
        InputError: no module of the backbone has a target's name.
    """
    extra: dict[str, Any] = {}
    if settings.train_embeddings:
        extra["modules_to_save"] = [_embedding_name(backbone)]
    config = LoraConfig(
        task_type=TaskType.FEATURE_EXTRACTION,
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=(
            settings.target_modules if isinstance(settings.target_modules, str) else list(settings.target_modules)
        ),
        use_rslora=settings.use_rslora,
        use_dora=settings.use_dora,
        **extra,
    )
    try:
        return get_peft_model(backbone, config, adapter_name=name)
    except ValueError as error:
        if "target modules" not in str(error).lower():
            raise
        linear = sorted({path.rsplit(".", 1)[-1] for path, m in backbone.named_modules() if isinstance(m, nn.Linear)})
        raise InputError(
            f"model.adapter.target_modules: no module of the backbone is named {settings.target_modules!r}; "
            f"its linear modules are named {', '.join(linear)}"
        ) from error


def _embedding_name(backbone: PreTrainedModel) -> str:
    embedding = backbone.get_input_embeddings()
    return next(path.rsplit(".", 1)[-1] for path, module in backbone.named_modules() if module is embedding)
