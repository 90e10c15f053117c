"""Exporting a level-2 task of a hierarchy: two plain PEFT adapters, the feed between them, and how to put them together.

One adapter cannot say that the backbone is to run twice, so transformers' own classes and pipelines cannot load such a
task. Its folder is complete all the same: `load_fed_task` makes of it, and of the base model, a model that gives the
same logits as the trained one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from hf_crosstask.atomic import write_json, write_text
from hf_crosstask.errors import InputError
from hf_crosstask.models.adapters import LoraSettings
from hf_crosstask.models.backbone import Source, is_causal, load_backbone, load_config, take_pooler
from hf_crosstask.models.build import build_head
from hf_crosstask.models.feeds import build_feed
from hf_crosstask.models.hierarchical import FEED, HierarchicalModel, feed_state
from hf_crosstask.models.hierarchy import LEVEL_1, LEVEL_2, FeedSettings, HierarchicalLayout
from hf_crosstask.models.task_adapter import task_adapter
from hf_crosstask.tasks.card import TaskCard

DESCRIPTION = "hierarchy.json"
HEADS = "heads"


def is_fed(model: nn.Module, task: str) -> bool:
    """Whether a task is a level-2 task of a hierarchy."""
    return isinstance(model, HierarchicalModel) and model.layout.levels[task] == 2


def export_fed_task(
    model: HierarchicalModel,
    card: TaskCard,
    lower: list[TaskCard],
    folder: Path,
    *,
    tokenizer: PreTrainedTokenizerBase,
    base_model: str,
) -> Path:
    """Write a level-2 task: `level1/` and `level2/` (plain PEFT adapters), heads, feed, tokenizer, and what they are.

    Args:
        model: a trained model.
        card: the task.
        lower: the level-1 tasks, in the model's order.
        folder: where to write; made if need be.
        tokenizer: saved along.
        base_model: Hub id or path of the backbone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, task in ((LEVEL_1, lower[0].name), (LEVEL_2, card.name)):
        state, config = task_adapter(model, task)
        config.base_model_name_or_path, config.inference_mode = base_model, True
        (folder / name).mkdir(exist_ok=True)
        _save(state, folder / name / "adapter_model.safetensors")
        config.save_pretrained(str(folder / name))
    (folder / HEADS).mkdir(exist_ok=True)
    for each in (*lower, card):
        _save(model.head(each.name).state_dict(), folder / HEADS / f"{each.name}.safetensors")
    _save(feed_state(model), folder / FEED)
    feed = model.layout.feed
    description = {
        "version": 1,
        "base_model": base_model,
        "feed": {"kind": feed.kind, "detach": feed.detach},
        "level1": [each.model_dump(mode="json") for each in lower],
        "task": card.model_dump(mode="json"),
    }
    write_json(folder / DESCRIPTION, description)
    tokenizer.save_pretrained(str(folder))
    write_text(folder / "README.md", _readme(card, lower, base_model, feed))
    return folder


def load_fed_task(folder: str | Path, base_model: str | None = None) -> HierarchicalModel:
    """An exported level-2 task, ready to call: `model(task=..., input_ids=..., attention_mask=...)`.

    Args:
        folder: what `export_fed_task` wrote.
        base_model: Hub id or path of the backbone, where it is not what the folder says.

    Raises:
        InputError: the folder holds no such task, or the backbone cannot be loaded.
    """
    folder = Path(folder)
    try:
        description: dict[str, Any] = json.loads((folder / DESCRIPTION).read_bytes())
    except FileNotFoundError:
        raise InputError(f"{folder} holds no level-2 task of a hierarchy: it has no {DESCRIPTION}") from None
    source = Source(base_model or description["base_model"])
    config = load_config(source)
    backbone = load_backbone(source, config, torch.float32)
    pooler = take_pooler(backbone)
    body = PeftModel.from_pretrained(backbone, str(folder / LEVEL_1), adapter_name=LEVEL_1)
    body.load_adapter(str(folder / LEVEL_2), LEVEL_2)
    lower = [TaskCard.model_validate(each) for each in description["level1"]]
    card = TaskCard.model_validate(description["task"])
    heads = {each.name: build_head(each, config, pooler=pooler) for each in (*lower, card)}
    for name, head in heads.items():
        head.load_state_dict(load_file(folder / HEADS / f"{name}.safetensors"))
    settings = FeedSettings(**description["feed"])
    feed = build_feed(settings, config, [heads[each.name] for each in lower], causal=is_causal(config))
    feed.load_state_dict(load_file(folder / FEED))
    layout = HierarchicalLayout(
        {name: LoraSettings(r=body.peft_config[name].r) for name in (LEVEL_1, LEVEL_2)},
        {each.name: (LEVEL_1,) for each in lower} | {card.name: (LEVEL_2,)},
        levels={each.name: 1 for each in lower} | {card.name: 2},
        feed=settings,
        first_pass=(LEVEL_1,),
    )
    model = HierarchicalModel(body, heads, None, layout, feed)
    return model.requires_grad_(False).eval()


def _save(state: dict[str, Tensor], file: Path) -> None:
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    save_file(tensors, file, metadata={"format": "pt"})


def _readme(card: TaskCard, lower: list[TaskCard], base_model: str, feed: FeedSettings) -> str:
    names = ", ".join(each.name for each in lower)
    what = "their states" if feed.kind == "attention" else "their states and label posteriors"
    return f"""# {card.name}: level 2 of a hierarchy on {base_model}

This task reads what the entity level ({names}) finds: the base model runs twice, first with the adapter `level1/`, then
with `level2/`, and `{FEED}` carries {what} over ({feed.kind}). Both adapters are plain PEFT adapters, but only
the library hf_crosstask can put them together: a pipeline of transformers cannot.

```python
import torch
from transformers import AutoTokenizer

from hf_crosstask.models.export_hierarchical import load_fed_task

folder = "."  # this folder
model, tokenizer = load_fed_task(folder), AutoTokenizer.from_pretrained(folder)
with torch.no_grad():
    print(model(task="{card.name}", **tokenizer("…", return_tensors="pt")).logits)
```

Labels, in the order of the logits: {", ".join(card.labels) or "one score"}.{_positions(card)}
"""


def _positions(card: TaskCard) -> str:
    if card.type != "relation":
        return ""
    return (
        " Mark the two entities as the library does (`hf_crosstask.encoding.encode_task`), which also gives the "
        "`entity_positions` [rows, 2] that the model needs."
    )
