"""The model of S3b: level-2 tasks read what a first pass with the level-1 adapters found (see `models.feeds`).

The second backbone pass is the price of the hierarchy: a level-2 token is computed twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from hf_crosstask.models.feeds import CrossLevelAttention, Shortcut
from hf_crosstask.models.fusion import Activity
from hf_crosstask.models.heads import TaskHead
from hf_crosstask.models.hierarchy import HierarchicalLayout
from hf_crosstask.models.multitask import MultiTaskModel, adapter_of

FEED = "feed.safetensors"


class HierarchicalModel(MultiTaskModel):
    """A multi-task model whose level-2 tasks are fed by level 1.

    Args:
        backbone: with the adapters of the layout.
        heads: one head per task name.
        language_model: as of `MultiTaskModel`.
        layout: levels, adapters, and whether the feed is detached.
        feed: what level 1 adds to level 2.
    """

    layout: HierarchicalLayout

    def __init__(
        self,
        backbone: PeftModel,
        heads: Mapping[str, TaskHead],
        language_model: PreTrainedModel | None,
        layout: HierarchicalLayout,
        feed: CrossLevelAttention | Shortcut,
    ):
        super().__init__(backbone, heads, language_model, layout)
        self.feed = feed

    def states(self, task: str, inputs: Mapping[str, Tensor]) -> Tensor:
        """Final states of a task's adapters; those of a level-2 task are fed."""
        if self.layout.levels[task] == 1:
            return super().states(task, inputs)
        assert self.fusion is not None
        with torch.no_grad() if self.layout.feed.detach else nullcontext():
            self.fusion.use(Activity(self.layout.first_pass))
            lower = self.backbone(**inputs).last_hidden_state
        added = self.feed.embeddings(lower, [self.head(name) for name in self.layout.at(1)])
        if added is None:
            upper = super().states(task, inputs)
        else:
            second = dict(inputs)
            embedded = self.backbone.get_input_embeddings()(second.pop("input_ids"))
            upper = super().states(task, {**second, "inputs_embeds": embedded + added.to(embedded.dtype)})
        return self.feed.states(upper, lower, inputs["attention_mask"])

    def users(self, name: str) -> tuple[str, ...]:
        """The tasks whose losses train a parameter: the feed is trained by all level-2 tasks."""
        return self.layout.at(2) if name.startswith("feed.") else super().users(name)

    def readers(self, name: str) -> tuple[str, ...]:
        """The tasks whose forward pass uses a parameter: level 2 reads the level-1 adapter in its first pass."""
        own = super().readers(name)
        first = adapter_of(name) in self.layout.first_pass
        return tuple(task for task in self.tasks if task in own or (first and self.layout.levels[task] == 2))

    def operations(self, task: str) -> tuple[float, float]:
        """Backbone passes of a task's token, forward and backward."""
        if self.layout.levels[task] == 1:
            return super().operations(task)
        return 2.0, 1.0 if self.layout.feed.detach else 2.0

    def restore(self, folder: str | Path) -> None:
        """Take over what `save_pretrained` wrote of a model of the same build."""
        super().restore(folder)
        self.feed.load_state_dict(load_file(Path(folder) / FEED))

    def parameter_counts(self) -> dict[str, Any]:
        """As of `MultiTaskModel`, and the parameters of the feed."""
        return super().parameter_counts() | {"feed": sum(parameter.numel() for parameter in self.feed.parameters())}

    def save_pretrained(self, folder: str | Path, **_: Any) -> None:
        """Adapters, heads and the feed."""
        super().save_pretrained(folder)
        save_file(feed_state(self), Path(folder) / FEED, metadata={"format": "pt"})


def feed_state(model: HierarchicalModel) -> dict[str, Tensor]:
    """The weights of a model's feed, on the CPU."""
    return {name: value.detach().cpu().contiguous() for name, value in model.feed.state_dict().items()}
