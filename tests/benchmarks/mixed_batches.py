"""The peer's side of the comparison: batches that mix tasks, through the same backbone and the same heads.

`transformers.Trainer` has no notion of tasks: its orders put rows of all tasks into one batch. The fairest way to train
a multi-task model so is one pass of the whole padded batch through the backbone, and then each task's head on its own
rows. That is what is here: no task waits for another, and nothing is computed twice.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from torch import Tensor, float32, nn, tensor

from hf_crosstask.encoding.collator import MultiTaskCollator
from hf_crosstask.models.multitask import MultiTaskModel

_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


class MixedBatchModel(nn.Module):
    """A `MultiTaskModel` that takes batches of several tasks.

    The loss is the mean over rows: each task's mean loss weighs its share of the batch's rows.
    """

    def __init__(self, model: MultiTaskModel):
        super().__init__()
        self.model = model

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        targets: Mapping[str, Mapping[str, Tensor]],
        token_type_ids: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The loss of a batch [B, L]; `targets` holds each task's `rows` [b], its `labels` and what its head reads."""
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            inputs["token_type_ids"] = token_type_ids
        hidden = self.model.backbone(**inputs).last_hidden_state
        total = hidden.new_zeros((), dtype=float32)
        for task, target in targets.items():
            head, rows = self.model.heads[task], target["rows"]
            logits = head(hidden[rows], attention_mask[rows], target.get("entity_positions"))
            total = total + head.loss(logits, target["labels"]) * (len(rows) / len(input_ids))
        return {"loss": total}


class MixedCollator:
    """Rows of several tasks, each with its `task`, to a batch of `MixedBatchModel`; padded to the longest row.

    Args:
        collate: pads rows of one task.
        per_token: the tasks that have a label a token.
    """

    def __init__(self, collate: MultiTaskCollator, per_token: Collection[str]):
        self.collate, self.per_token = collate, per_token

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = self.collate([{name: row[name] for name in _INPUTS if name in row} for row in rows])
        width = batch["input_ids"].shape[1]
        batch["targets"] = {}
        for task in dict.fromkeys(row["task"] for row in rows):
            numbers = [number for number, row in enumerate(rows) if row["task"] == task]
            target = {
                "rows": tensor(numbers),
                "labels": self._labels(task, [rows[number] for number in numbers], width),
            }
            if "entity_positions" in rows[numbers[0]]:
                target["entity_positions"] = tensor([rows[number]["entity_positions"] for number in numbers])
            batch["targets"][task] = target
        return batch

    def _labels(self, task: str, rows: Sequence[Mapping[str, Any]], width: int) -> Tensor:
        labels = [row["labels"] for row in rows]
        if task in self.per_token:
            labels = [each + [-100] * (width - len(each)) for each in labels]
        return tensor(labels)
