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
from hf_crosstask.models.language import LanguageHead
from hf_crosstask.models.lists import present_sequences, scores_by_row


@dataclass
class TaskOutput(ModelOutput):
    """Output of one task's forward pass.

    Attributes:
        loss: mean over the batch's labelled items; None without labels.
        logits: [B, L, tags] for token tasks, [B, W, reach, links] for span NER, [B, labels] for others, [B, S] (one
            score a sequence) for rows of several sequences; of language heads what they say; fp32.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None


class MultiTaskModel(nn.Module):
    """A shared backbone with task heads.

    Args:
        backbone: a `PreTrainedModel` body or a `PeftModel` around one; called with `input_ids`, `attention_mask` and,
            where the tokenizer makes them, `token_type_ids`.
        heads: one head per task name.
        language_model: the model around the backbone's body, for tasks with a language head. Of it, only the output
            layer is registered here: the rest is the backbone.
    """

    def __init__(
        self,
        backbone: PreTrainedModel | PeftModel,
        heads: Mapping[str, TaskHead],
        language_model: PreTrainedModel | None = None,
    ):
        super().__init__()
        self.backbone = backbone
        self.lm_head = None if language_model is None else language_model.get_output_embeddings()
        self._language_model = (language_model,)  # a tuple hides it from torch, which would register it a second time
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

    @property
    def language_model(self) -> PreTrainedModel:
        """The causal language model whose body is the backbone, adapter included; `generate` is its own.

        Raises:
            ValueError: the model was built without.
        """
        (language_model,) = self._language_model
        if language_model is None:
            raise ValueError("this model was built without its language-model head: none of its tasks needs it")
        return language_model

    @property
    def _no_split_modules(self) -> Any:
        """The layers that FSDP's automatic wrapping shards: the backbone's."""
        return self.backbone._no_split_modules

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        task: str | None = None,
        labels: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        entity_positions: Tensor | None = None,
        word_positions: Tensor | None = None,
        completion_mask: Tensor | None = None,
    ) -> TaskOutput:
        """Logits of one task for a batch [B, L] of that task's examples, and the mean loss where labels are given.

        A batch [B, S, L] has several sequences a row; its head gives one score for each (see `models.lists`).

        Args:
            task: the head to use; may be left out where there is one head only.
            entity_positions: [B, 2] tokens at which a relation's two entities are read.
            word_positions: [B, W] tokens at which words are read (span NER).
            completion_mask: [B, S, L] 1 on the tokens of a choice whose likelihood counts.
        """
        head = self.head(task)
        if isinstance(head, LanguageHead):
            return TaskOutput(*head.read(self.language_model, input_ids, attention_mask, labels, completion_mask))
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            inputs["token_type_ids"] = token_type_ids
        present = present_sequences(attention_mask) if input_ids.dim() == 3 else None
        if present is not None:
            inputs = {name: values[present] for name, values in inputs.items()}
        hidden = self.backbone(**inputs).last_hidden_state
        positions = entity_positions if word_positions is None else word_positions
        logits = head(hidden, inputs["attention_mask"], positions)
        if present is not None:
            logits = scores_by_row(logits, present)
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
            (language_model,) = self._language_model
            (self.backbone if language_model is None else language_model).save_pretrained(str(folder / "model"))
        heads = folder / "heads"
        heads.mkdir(parents=True, exist_ok=True)
        for task, head in self.heads.items():
            state = {name: value.detach().cpu().contiguous() for name, value in head.state_dict().items()}
            if state:  # language heads have none
                save_file(state, heads / f"{task}.safetensors", metadata={"format": "pt"})


@torch.no_grad()
def trainable_state(model: nn.Module) -> dict[str, Tensor]:
    """The parameters that train, by name, on the CPU: everything a checkpoint needs besides the frozen base."""
    return {
        name: parameter.detach().cpu().contiguous()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
