"""The multi-task model: one backbone (with or without adapters) and one head per task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

from hf_crosstask.errors import InputError, unknown_name
from hf_crosstask.models.adapter_layout import AdapterLayout
from hf_crosstask.models.fusion import AdapterFusion, weights_of
from hf_crosstask.models.heads import TaskHead
from hf_crosstask.models.language import LanguageHead
from hf_crosstask.models.lists import present_sequences, scores_by_row
from hf_crosstask.models.text import MaskedTokenHead, is_text

#: File of what weighs adapters (gates, attention), beside their folders.
FUSION = "fusion.safetensors"


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


@dataclass(frozen=True)
class SharedGroup:
    """Trainable parameters that the same two or more tasks train.

    Attributes:
        users: the tasks.
        parameters: names (as of `named_parameters` of the model) and parameters, in the model's order.
    """

    users: tuple[str, ...]
    parameters: list[tuple[str, nn.Parameter]]


class MultiTaskModel(nn.Module):
    """A shared backbone with task heads.

    Args:
        backbone: a `PreTrainedModel` body or a `PeftModel` around one; called with `input_ids`, `attention_mask` and,
            where the tokenizer makes them, `token_type_ids`.
        heads: one head per task name.
        language_model: the model around the backbone's body, for tasks with a language head. Of it, only the output
            layer is registered here: the rest is the backbone.
        layout: which adapters each task uses; None: every task uses all that is active.
    """

    def __init__(
        self,
        backbone: PreTrainedModel | PeftModel,
        heads: Mapping[str, TaskHead],
        language_model: PreTrainedModel | None = None,
        layout: AdapterLayout | None = None,
    ):
        super().__init__()
        self.layout = layout
        self.backbone = backbone
        self.fusion = None
        if layout is not None and isinstance(backbone, PeftModel):
            self.fusion = AdapterFusion(backbone, layout)
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
    def body(self) -> PreTrainedModel:
        """The backbone without what adapters wrap around it."""
        return self.backbone.get_base_model() if isinstance(self.backbone, PeftModel) else self.backbone

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
        task = self._named(task)
        head = self.head(task)
        self.activate(task)
        if isinstance(head, LanguageHead):
            return TaskOutput(*head.read(self.language_model, input_ids, attention_mask, labels, completion_mask))
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            inputs["token_type_ids"] = token_type_ids
        present = present_sequences(attention_mask) if input_ids.dim() == 3 else None
        if present is not None:
            inputs = {name: values[present] for name, values in inputs.items()}
        if isinstance(head, MaskedTokenHead):
            embeddings = self.body.get_input_embeddings().weight
            wanted = labels if labels is None or present is None else labels[present]
            return TaskOutput(*head.read(lambda masked: self.states(task, masked), embeddings, inputs, wanted))
        hidden = self.states(task, inputs)
        positions = entity_positions if word_positions is None else word_positions
        logits = head(hidden, inputs["attention_mask"], positions)
        if present is not None:
            logits = scores_by_row(logits, present)
        return TaskOutput(loss=None if labels is None else head.loss(logits, labels), logits=logits.float())

    def states(self, task: str, inputs: Mapping[str, Tensor]) -> Tensor:
        """Final states [N, L, H] of the backbone with a task's adapters."""
        self.activate(task)
        return self.backbone(**inputs).last_hidden_state

    def operations(self, task: str) -> tuple[float, float]:
        """Backbone passes of a task's token, forward and backward: what training costs."""
        return 1.0, 1.0

    def head(self, task: str | None = None) -> TaskHead:
        """The head of a task; the name may be left out where there is one head only."""
        head = self.heads[self._named(task)]
        assert isinstance(head, TaskHead)
        return head

    def activate(self, task: str) -> None:
        """Make a task's adapters the active ones, until the next call or forward pass. No `requires_grad` changes."""
        if self.fusion is not None:
            self.fusion.activate(task)

    def _named(self, task: str | None) -> str:
        if task is None and len(self.heads) == 1:
            return self.tasks[0]
        if task is None:
            raise ValueError(f"which task? this model has heads for {', '.join(self.tasks)}")
        if task not in self.heads:
            raise ValueError(unknown_name("task", task, self.tasks))
        return task

    def users(self, name: str) -> tuple[str, ...]:
        """The tasks whose losses train a parameter, by its name in `named_parameters`."""
        part, _, rest = name.partition(".")
        if part == "heads":
            return (rest.partition(".")[0],)
        if part == "lm_head":
            return tuple(task for task, head in self.heads.items() if isinstance(head, LanguageHead))
        if part == "fusion":
            return (weights_of(name),)
        adapter = adapter_of(name)
        return self.tasks if self.layout is None or adapter is None else self.layout.users(adapter)

    def readers(self, name: str) -> tuple[str, ...]:
        """The tasks whose forward pass uses a parameter, by its name in `named_parameters`; they need not train it."""
        adapter = adapter_of(name)
        if self.layout is None or adapter is None:
            return self.users(name)
        return tuple(task for task, names in self.layout.uses.items() if adapter in names)

    def shared_groups(self) -> list[SharedGroup]:
        """The trainable parameters that two or more tasks train, grouped by who trains them, in the model's order.

        Heads and private adapters are in none of them.
        """
        groups: dict[tuple[str, ...], SharedGroup] = {}
        for name, parameter in self.named_parameters():
            users = self.users(name) if parameter.requires_grad else ()
            if len(users) > 1:
                groups.setdefault(users, SharedGroup(users, [])).parameters.append((name, parameter))
        return list(groups.values())

    def activation_checkpointing_enable(self, **kwargs: Any) -> None:
        """Recompute activations in the backward pass; called by the Trainer.

        Raises:
            InputError: tasks use different adapters, and checkpointing is reentrant, which cannot keep them apart.
        """
        if self.fusion is not None and len(set(self.fusion.layout.uses.values())) > 1:
            options = {"use_reentrant": False, **(kwargs.get("activation_checkpointing_kwargs") or {})}
            if options["use_reentrant"]:
                raise InputError("activation_checkpointing_kwargs: use_reentrant must be false with several adapters")
            kwargs["activation_checkpointing_kwargs"] = options | {"context_fn": self.fusion.recomputation_contexts}
        self.backbone.activation_checkpointing_enable(**kwargs)
        if isinstance(self.backbone, PeftModel):
            self.backbone.enable_input_require_grads()

    def parameter_counts(self) -> dict[str, Any]:
        """Numbers of parameters: total, trainable, in heads, per adapter, of what weighs adapters (fusion), and of all that
        trains those that each task uses (active)."""
        active = dict.fromkeys(self.tasks, 0)
        for name, parameter in self.named_parameters():
            for task in self.readers(name) if parameter.requires_grad else ():
                active[task] += parameter.numel()
        per_adapter: dict[str, int] = {}
        if isinstance(self.backbone, PeftModel):
            per_adapter = dict.fromkeys(self.backbone.peft_config, 0)
            for path, parameter in self.backbone.named_parameters():
                adapter = adapter_of(path)
                if adapter is not None:
                    per_adapter[adapter] += parameter.numel()
        return {
            "total": sum(size(parameter) for parameter in self.parameters()),
            "trainable": sum(parameter.numel() for parameter in self.parameters() if parameter.requires_grad),
            "heads": sum(parameter.numel() for parameter in self.heads.parameters()),
            "per_adapter": per_adapter,
            "fusion": 0 if self.fusion is None else sum(each.numel() for each in self.fusion.parameters()),
            "active": active,
        }

    def _whole(self) -> Any:
        """What is saved of a model without adapters: its output layer too, where a task that has scores reads it."""
        (language_model,) = self._language_model
        needed = any(isinstance(head, LanguageHead) and not is_text(head) for head in self.heads.values())
        return self.backbone if language_model is None or not needed else language_model

    def save_pretrained(self, folder: str | Path, **_: Any) -> None:
        """Save what was trained: plain PEFT adapter folders (or the whole backbone), and heads as safetensors."""
        folder = Path(folder)
        if isinstance(self.backbone, PeftModel):
            self.backbone.save_pretrained(str(folder / "adapters"), safe_serialization=True)
        else:
            self._whole().save_pretrained(str(folder / "model"))
        if self.fusion is not None and len(self.fusion.weights):
            save_file(_on_cpu(self.fusion), folder / "adapters" / FUSION, metadata={"format": "pt"})
        heads = folder / "heads"
        heads.mkdir(parents=True, exist_ok=True)
        for task, head in self.heads.items():
            state = {} if is_text(head) else _on_cpu(head)
            if state:  # language heads have none
                save_file(state, heads / f"{task}.safetensors", metadata={"format": "pt"})

    @torch.no_grad()
    def restore(self, folder: str | Path) -> None:
        """Take over what `save_pretrained` wrote of a model of the same build.

        Raises:
            InputError: something is missing there.
        """
        folder = Path(folder)
        if isinstance(self.backbone, PeftModel):
            for name in self.backbone.peft_config:
                state = _weights_in(folder / "adapters" / name)
                unknown = set_peft_model_state_dict(self.backbone, state, adapter_name=name).unexpected_keys
                if unknown:
                    raise InputError(f"{folder}: the adapter {name} is of another model: {unknown[0]}")
        else:
            self._whole().load_state_dict(
                _weights_in(folder / "model"),
                strict=False,  # tied weights are saved once
            )
        if self.fusion is not None and len(self.fusion.weights):
            self.fusion.load_state_dict(_weights_in(folder / "adapters"))
        for task, head in self.heads.items():
            if head.state_dict() and not is_text(head):
                head.load_state_dict(load_file(folder / "heads" / f"{task}.safetensors"))


def _weights_in(folder: Path) -> dict[str, Tensor]:
    """All weights of the safetensors files in a folder."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise InputError(f"{folder} holds no weights (safetensors)")
    return {name: value for file in files for name, value in load_file(file).items()}


def adapter_of(name: str) -> str | None:
    """The adapter that a parameter belongs to, by its path; None where it belongs to none."""
    pieces = name.split(".")
    for place, piece in enumerate(pieces[:-1]):
        if piece.startswith("lora_") or piece == "modules_to_save":
            return pieces[place + 1]
    return None


def size(parameter: Tensor) -> int:
    """Number of weights; a 4-bit weight holds two in a byte."""
    quantized = getattr(parameter, "quant_state", None)
    return parameter.numel() if quantized is None else quantized.shape.numel()


def _on_cpu(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}


@torch.no_grad()
def trainable_state(model: nn.Module) -> dict[str, Tensor]:
    """The parameters that train, by name, on the CPU: everything a checkpoint needs besides the frozen base."""
    return {
        name: parameter.detach().cpu().contiguous()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
