"""Exporting what a task learned so that it loads without this library.

NER tasks and tasks whose head reads one state of a sequence (classes, label sets, scores) become ONE plain PEFT adapter
each, head included, for transformers' own task classes: `AutoPeftModelForTokenClassification` /
`…ForSequenceClassification` and `pipeline(...)`. What an adapter folder cannot say (label names, problem type) its README
passes to `from_pretrained`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peft import PeftModel, TaskType
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from hf_crosstask.atomic import write_json, write_text
from hf_crosstask.encoding.tags import ner_tags
from hf_crosstask.models.export_language import export_language_adapter
from hf_crosstask.models.export_text import Loading, attention_readme, body_readme, loading
from hf_crosstask.models.heads import SequenceHead, TaskHead, TokenHead
from hf_crosstask.models.layouts import HeadLayout, head_layout
from hf_crosstask.models.multitask import MultiTaskModel
from hf_crosstask.models.task_adapter import adapters_of, is_plain, task_adapter
from hf_crosstask.tasks import schema
from hf_crosstask.tasks.card import TaskCard

_ROOT = "base_model.model."

#: Task types with one output, and how a pipeline should turn it into a score.
_SCORED: dict[schema.TaskType, str] = {"similarity": "none", "ranking": "sigmoid", "multiple_choice": "none"}
_PAIR = '{"text": "…", "text_pair": "…"}'


def export_task_adapter(
    model: MultiTaskModel,
    card: TaskCard,
    folder: Path,
    *,
    tokenizer: PreTrainedTokenizerBase,
    base_model: str,
) -> Path | None:
    """Write one task's adapter with its head as a plain PEFT folder.

    The folder holds `adapter_config.json`, `adapter_model.safetensors`, the tokenizer, `labels.json` (label names by
    number) and a README that shows how to load it.

    Args:
        model: a trained model. Several adapters of a task become one (see `task_adapter`).
        card: the task.
        folder: where to write; made if need be.
        tokenizer: saved along.
        base_model: Hub id or path of the backbone, as the adapter should name it.

    Returns:
        The folder; None where the backbone has no adapter, or transformers has no class for the task (relations) and
        the backbone's one adapter is saved anyway. Of a run with several, such tasks get the joint adapter of the bare
        backbone; where attention weighs adapters, there is no joint one, and the folder's README says what is needed.
    """
    if not isinstance(model.backbone, PeftModel):
        return None
    if not is_plain(model, card.name):
        return _explain(model, card, folder)
    if card.formulation != "head":
        return export_language_adapter(model, card, folder, tokenizer=tokenizer, base_model=base_model)
    head = model.head(card.name)
    layout = _layout(model, head)
    if layout is None:
        several = len(model.backbone.peft_config) > 1
        return _export_body(model, card, folder, tokenizer, base_model) if several else None
    adapter, config = task_adapter(model, card.name)
    state = {_ROOT + f"{layout.prefix}." + name.removeprefix(_ROOT): value for name, value in adapter.items()}
    state |= _head_state(head, layout)
    folder.mkdir(parents=True, exist_ok=True)
    _save(state, folder)
    config.task_type = TaskType.TOKEN_CLS if isinstance(head, TokenHead) else TaskType.SEQ_CLS
    config.modules_to_save = sorted({*(config.modules_to_save or ()), *layout.modules})
    config.base_model_name_or_path = base_model
    config.inference_mode = True
    config.save_pretrained(str(folder))
    labels = label_names(card)
    write_json(folder / "labels.json", labels)
    write_text(folder / "README.md", _readme(card, head, base_model, loading(model)))
    tokenizer.save_pretrained(str(folder))
    return folder


def _save(state: dict[str, Tensor], folder: Path) -> None:
    save_file(
        {name: value.detach().cpu().contiguous().clone() for name, value in state.items()},
        folder / "adapter_model.safetensors",
        metadata={"format": "pt"},
    )


def _export_body(
    model: MultiTaskModel, card: TaskCard, folder: Path, tokenizer: PreTrainedTokenizerBase, base_model: str
) -> Path:
    """The joint adapter of a task without a class in transformers, for `AutoModel`; its head is in `heads/`."""
    adapter, config = task_adapter(model, card.name)
    folder.mkdir(parents=True, exist_ok=True)
    _save(adapter, folder)
    config.base_model_name_or_path = base_model
    config.inference_mode = True
    config.save_pretrained(str(folder))
    write_json(folder / "labels.json", label_names(card))
    write_text(folder / "README.md", body_readme(card, base_model, loading(model)))
    tokenizer.save_pretrained(str(folder))
    return folder


def _explain(model: MultiTaskModel, card: TaskCard, folder: Path) -> Path:
    """Say what a task needs to load whose adapters no plain adapter can stand for."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "README.md", attention_readme(card, adapters_of(model, card.name)))
    return folder


def label_names(card: TaskCard) -> list[str]:
    """What each output of a task's head means."""
    if card.type in _SCORED:
        return ["score"]
    return ner_tags(card.labels) if card.type == "ner" else list(card.labels)


def _layout(model: MultiTaskModel, head: nn.Module) -> HeadLayout | None:
    if isinstance(head, TokenHead):
        return head_layout(model.config, "token")
    if isinstance(head, SequenceHead):
        layout = head_layout(model.config, "sequence")
        return layout if layout is not None and (layout.dense is None) == (head.dense is None) else None
    return None


def _head_state(head: TaskHead, layout: HeadLayout) -> dict[str, Tensor]:
    named: dict[str, Any] = {layout.output: head.output}
    if layout.dense is not None and getattr(head, "dense", None) is not None:
        named[layout.dense] = head.dense
    return {
        f"{_ROOT}{path}.{name}": value for path, layer in named.items() for name, value in layer.state_dict().items()
    }


def _readme(card: TaskCard, head: nn.Module, base_model: str, load: Loading) -> str:
    kind, pipeline = (
        ("TokenClassification", "token-classification")
        if isinstance(head, TokenHead)
        else ("SequenceClassification", "text-classification")
    )
    problem, call, meaning = _usage(card)
    names = ", ".join(sorted({"AutoTokenizer", "pipeline", *load.imports}))
    return f"""# {card.name}: adapter on {base_model}

A plain PEFT adapter, head included, trained with hf_crosstask. {meaning}{load.note}

```python
import json

from peft import AutoPeftModelFor{kind}
from transformers import {names}

folder = "."  # this folder
labels = json.load(open(f"{{folder}}/labels.json"))
model = AutoPeftModelFor{kind}.from_pretrained(
    folder,
    num_labels=len(labels),
    id2label=dict(enumerate(labels)),
    label2id={{n: i for i, n in enumerate(labels)}},{problem}{load.argument}
)
tokenizer = AutoTokenizer.from_pretrained(folder)
model = {load.merged}.eval()
print(pipeline("{pipeline}", model=model, tokenizer=tokenizer)({call}))
```
"""


def _usage(card: TaskCard) -> tuple[str, str, str]:
    """A further argument of `from_pretrained`, the arguments of the pipeline, and what its numbers mean."""
    low, high = card.score_range
    meanings: dict[schema.TaskType, str] = {
        "multilabel": "Every label has a probability of its own; the label holds where that reaches the threshold in the "
        "run's result.json (tasks.<name>.metrics.threshold).",
        "similarity": f"The score runs from 0 to 1, for {low:g} to {high:g} of the data.",
        "ranking": "The score is the probability that the candidate (`text_pair`) is relevant to the query (`text`).",
        "multiple_choice": "Score every choice (`text_pair`) of a question (`text`); the highest score is the answer.",
    }
    if card.type == "multilabel":
        problem, call = "multi_label_classification", '"…", top_k=None, function_to_apply="sigmoid"'
    elif card.type in _SCORED:
        problem, call = "regression", f'{_PAIR}, function_to_apply="{_SCORED[card.type]}"'
    else:
        return "", '"…"', ""
    return f'\n    problem_type="{problem}",', call, meanings[card.type]
