"""The multi-task model: one backbone (with or without adapters) and one head per task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

from hf_crosstask.errors import InputError, unknown_name
from hf_crosstask.models.heads import TaskHead


@dataclass
class TaskOutput(ModelOutput):
    """Output of one task's forward pass.

    Attributes:
        loss: mean over the batch's labelled items; None without labels.
        logits: [B, L, tags] for token tasks, [B, labels] for others; fp32.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None


class MultiTaskModel(nn.Module):
    """A shared backbone with task heads.

    Args:
        backbone: a `PreTrainedModel` body or a `PeftModel` around one; called with `input_ids`, `attention_mask` and,
            where the tokenizer makes them, `token_type_ids`.
        heads: one head per task name.
    """

    def __init__(self, backbone: PreTrainedModel | PeftModel, heads: Mapping[str, TaskHead]):
        super().__init__()
        self.backbone = backbone
        self.heads = nn.ModuleDict()
        for task, head in heads.items():
            if hasattr(self.heads, task):
                raise InputError(f"{task!r} cannot name a task: it is an attribute of torch modules; rename the task")
            self.heads[task] = head

    @property
    def config(self) -> PretrainedConfig:
        return self.backbone.config

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(self.heads)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        task: str | None = None,
        labels: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        entity_positions: Tensor | None = None,
    ) -> TaskOutput:
        """Logits of one task for a batch [B, L] of that task's examples, and the mean loss where labels are given.

        Args:
            task: the head to use; may be left out where there is one head only.
        """
        head = self.head(task)
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            inputs["token_type_ids"] = token_type_ids
        hidden = self.backbone(**inputs).last_hidden_state
        logits = head(hidden, attention_mask, entity_positions)
        return TaskOutput(loss=None if labels is None else head.loss(logits, labels), logits=logits.float())

    def head(self, task: str | None = None) -> TaskHead:
        """The head of a task; the name may be left out where there is one head only."""
        if task is None and len(self.heads) == 1:
            task = self.tasks[0]
        if task is None:
            raise ValueError(f"which task? this model has heads for {', '.join(self.tasks)}")
        if task not in self.heads:
            raise ValueError(unknown_name("task", task, self.tasks))
        head = self.heads[task]
        assert isinstance(head, TaskHead)
        return head

    def activation_checkpointing_enable(self, **kwargs: Any) -> None:
        """Recompute activations in the backward pass; called by the Trainer."""
        self.backbone.activation_checkpointing_enable(**kwargs)
        if isinstance(self.backbone, PeftModel):
            self.backbone.enable_input_require_grads()

    def parameter_counts(self) -> dict[str, Any]:
        """Numbers of parameters: total, trainable, in heads, and per adapter."""
        per_adapter: dict[str, int] = {}
        if isinstance(self.backbone, PeftModel):
            for name in self.backbone.peft_config:
                per_adapter[name] = sum(
                    parameter.numel()
                    for path, parameter in self.backbone.named_parameters()
                    if f".{name}." in path and ("lora_" in path or "modules_to_save" in path)
                )
        return {
            "total": sum(parameter.numel() for parameter in self.parameters()),
            "trainable": sum(parameter.numel() for parameter in self.parameters() if parameter.requires_grad),
            "heads": sum(parameter.numel() for parameter in self.heads.parameters()),
            "per_adapter": per_adapter,
        }

    def save_pretrained(self, folder: str | Path, **_: Any) -> None:
        """Save what was trained: plain PEFT adapter folders (or the whole backbone), and heads as safetensors."""
        folder = Path(folder)
        if isinstance(self.backbone, PeftModel):
            self.backbone.save_pretrained(str(folder / "adapters"), safe_serialization=True)
        else:
            self.backbone.save_pretrained(str(folder / "model"))
        heads = folder / "heads"
        heads.mkdir(parents=True, exist_ok=True)
        for task, head in self.heads.items():
            state = {name: value.detach().cpu().contiguous() for name, value in head.state_dict().items()}
            save_file(state, heads / f"{task}.safetensors", metadata={"format": "pt"})


@torch.no_grad()
def trainable_state(model: nn.Module) -> dict[str, Tensor]:
    """The parameters that train, by name, on the CPU: everything a checkpoint needs besides the frozen base."""
    return {
        name: parameter.detach().cpu().contiguous()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
