"""One task of a run as one plain transformers model: the adapter merged into the 16-bit base, the head in its place.

| task | class | what goes beside it |
|---|---|---|
| `ner` | `AutoModelForTokenClassification` | |
| `classification`, `multilabel`, `similarity`, `ranking`, `multiple_choice` | `AutoModelForSequenceClassification` | |
| `generative`, `likelihood` | `AutoModelForCausalLM` | |
| `relation`, `span_ner` (and where transformers has no class) | `AutoModel` | `heads/<task>.safetensors` |

A base that was 4-bit in training is dequantized first: merging into 4-bit weights would round most of the adapter away.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PretrainedConfig,
    PreTrainedModel,
)

from hf_crosstask.errors import InputError
from hf_crosstask.models.backbone import load_config, take_pooler
from hf_crosstask.models.build import build_head
from hf_crosstask.models.export import label_names
from hf_crosstask.models.heads import SequenceHead, TaskHead, TokenHead
from hf_crosstask.models.layouts import HeadLayout, head_layout
from hf_crosstask.models.multitask import MultiTaskModel
from hf_crosstask.models.quantization import nf4
from hf_crosstask.release.finished import FinishedRun
from hf_crosstask.tasks.card import TaskCard

Kind = Literal["token", "sequence", "language", "body"]
DType = Literal["auto", "fp32", "fp16", "bf16"]

CLASSES: dict[Kind, Any] = {
    "token": AutoModelForTokenClassification,
    "sequence": AutoModelForSequenceClassification,
    "language": AutoModelForCausalLM,
    "body": AutoModel,
}
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
#: Task types with one output: transformers calls that regression.
_ONE_OUTPUT = ("similarity", "ranking", "multiple_choice")
#: Strategies whose tasks all use one adapter, named `shared`.
_ONE_ADAPTER = ("S1", "S1_token_controlled", "S2", "A1")


def kind_of(card: TaskCard, config: PretrainedConfig) -> tuple[Kind, HeadLayout | None]:
    """Which class of transformers holds a task, and where its head goes."""
    if card.formulation != "head":
        return "language", None
    if card.type in ("relation", "span_ner"):
        return "body", None
    kind: Literal["token", "sequence"] = "token" if card.type == "ner" else "sequence"
    layout = head_layout(config, kind)
    head = build_head(card, config)
    fits = layout is not None and (isinstance(head, TokenHead) or _has_dense(head) == (layout.dense is not None))
    return (kind, layout) if fits else ("body", None)


def _has_dense(head: TaskHead) -> bool:
    return isinstance(head, SequenceHead) and head.dense is not None


def merge(run: FinishedRun, task: str, *, dtype: DType = "auto") -> PreTrainedModel:
    """A task of a run as one plain model on the CPU, in evaluation mode.

    Args:
        run: the run.
        task: its name.
        dtype: of the weights; `auto`: as the base model stores them.

    Raises:
        InputError: the task's model is more than a backbone with an adapter and a head, or its files are missing.
    """
    card, config = run.card(task), load_config(run.source)
    if run.recipe.strategy.layout == "S3b" and card.level == 2:
        raise InputError(f"task {task}: level-2 tasks of S3b read level-1 states as well; no plain model holds that")
    if run.recipe.strategy.fusion == "attention":
        raise InputError(f"task {task}: attention fusion depends on the input, so its adapters cannot be merged")
    kind, layout = kind_of(card, config)
    if kind in ("token", "sequence"):
        _label(config, card)
    stored = config.dtype if isinstance(config.dtype, torch.dtype) else torch.float32
    chosen = stored if dtype == "auto" else DTYPES[dtype]
    full = run.folder / "model"
    if full.is_dir():
        model = CLASSES[kind].from_pretrained(str(full), config=config, dtype=chosen)
        _take_body_pooler(model, kind)
    else:
        model = _merged(run, task, kind, config, chosen)
    if layout is not None:
        head = load_head(run.folder, card, config)
        put_head(model, head, layout)
    return model.to(chosen).eval()


def _label(config: PretrainedConfig, card: TaskCard) -> None:
    names = label_names(card)
    config.num_labels = len(names)
    config.id2label = dict(enumerate(names))
    config.label2id = {name: number for number, name in enumerate(names)}
    if card.type in _ONE_OUTPUT:
        config.problem_type = "regression"
    elif card.type == "multilabel":
        config.problem_type = "multi_label_classification"


def _merged(run: FinishedRun, task: str, kind: Kind, config: PretrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
    from peft import PeftModel

    folder = _adapter_folder(run, task)
    base = _base(run, CLASSES[kind], config, dtype)
    _take_body_pooler(base, kind)
    merged: PreTrainedModel = PeftModel.from_pretrained(base, str(folder)).merge_and_unload()
    embedding, output = merged.get_input_embeddings(), merged.get_output_embeddings()
    if kind == "language" and output is not None and not torch.equal(embedding.weight, output.weight):
        merged.config.tie_word_embeddings = False  # trained embeddings leave the output layer as it was
    return merged


def _adapter_folder(run: FinishedRun, task: str) -> Path:
    own, shared = run.folder / "adapters" / task, run.folder / "adapters" / "shared"
    if (own / "adapter_config.json").exists():
        return own
    if run.recipe.strategy.layout in _ONE_ADAPTER and (shared / "adapter_config.json").exists():
        return shared
    raise InputError(f"{run.folder}: there is no adapter of task {task}, in {own} or {shared}")


def _base(run: FinishedRun, factory: Any, config: PretrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
    source = run.source
    arguments: dict[str, Any] = {"revision": source.revision, "trust_remote_code": source.trust_remote_code}
    if run.result.model.get("quantization") == "nf4":
        arguments |= {"quantization_config": nf4(torch.float32), "device_map": {"": "cpu"}}
    # Heads are missing from the base; they are put in from the run.
    model: PreTrainedModel = factory.from_pretrained(
        source.name_or_path, config=config, dtype=dtype, use_safetensors=True, **arguments
    )
    return model.dequantize().to(dtype) if "quantization_config" in arguments else model


def _take_body_pooler(model: PreTrainedModel, kind: Kind) -> None:
    if kind == "body":
        take_pooler(model)  # no head reads it, and no run trained it


def load_head(folder: Path, card: TaskCard, config: PretrainedConfig) -> TaskHead:
    """A task's head, from `heads/<task>.safetensors` of a folder.

    Raises:
        InputError: the file is missing.
    """
    from safetensors.torch import load_file

    head = build_head(card, config, dropout=0.0)
    if head.state_dict():
        file = folder / "heads" / f"{card.name}.safetensors"
        if not file.exists():
            raise InputError(f"{file}: no such file; it holds the head of task {card.name}")
        head.load_state_dict(load_file(file))
    return head.eval()


def put_head(model: PreTrainedModel, head: TaskHead, layout: HeadLayout) -> None:
    """Write a head's weights into the transformers model that has a place for them."""
    for path, layer in _places(head, layout).items():
        model.get_submodule(path).load_state_dict(layer.state_dict())


def task_model(model: PreTrainedModel, card: TaskCard, folder: Path) -> MultiTaskModel:
    """A plain model as the library computes it, with the head read out of the model (or of the folder beside it)."""
    kind, layout = kind_of(card, model.config)
    if kind == "language":
        return MultiTaskModel(model.base_model, {card.name: build_head(card, model.config)}, model).eval()
    if layout is None:
        return MultiTaskModel(model, {card.name: load_head(folder, card, model.config).to(model.device)}).eval()
    head = build_head(card, model.config, dropout=0.0)
    for path, layer in _places(head, layout).items():
        layer.load_state_dict(model.get_submodule(path).state_dict())
    return MultiTaskModel(model.base_model, {card.name: head.to(model.device)}).eval()


def _places(head: TaskHead, layout: HeadLayout) -> dict[str, nn.Module]:
    named: dict[str, Any] = {layout.output: head.output}
    if layout.dense is not None and getattr(head, "dense", None) is not None:
        named[layout.dense] = head.dense
    return named
