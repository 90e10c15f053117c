"""Exporting the adapter of a task that is posed to the language model: plain PEFT, for `AutoPeftModelForCausalLM`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from peft import PeftModel, TaskType
from safetensors.torch import save_file
from transformers import PreTrainedTokenizerBase

from hf_crosstask.atomic import write_text
from hf_crosstask.models.export_text import Loading, loading
from hf_crosstask.models.task_adapter import task_adapter
from hf_crosstask.tasks.card import TaskCard

if TYPE_CHECKING:
    from hf_crosstask.models.multitask import MultiTaskModel

_ROOT = "base_model.model."


def export_language_adapter(
    model: MultiTaskModel, card: TaskCard, folder: Path, *, tokenizer: PreTrainedTokenizerBase, base_model: str
) -> Path | None:
    """Write a task's adapter so that it loads on the plain causal language model.

    Returns:
        The folder; None where the backbone has no adapter.
    """
    if not isinstance(model.backbone, PeftModel):
        return None
    adapter, config = task_adapter(model, card.name)
    prefix = model.language_model.base_model_prefix
    state = {
        f"{_ROOT}{prefix}.{name.removeprefix(_ROOT)}": value.detach().cpu().contiguous().clone()
        for name, value in adapter.items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(state, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config.task_type = TaskType.CAUSAL_LM
    config.base_model_name_or_path = base_model
    config.inference_mode = True
    config.save_pretrained(str(folder))
    write_text(folder / "README.md", _readme(card, base_model, tokenizer, loading(model)))
    tokenizer.save_pretrained(str(folder))
    return folder


def _readme(card: TaskCard, base_model: str, tokenizer: PreTrainedTokenizerBase, load: Loading) -> str:
    names = ", ".join(sorted({"AutoTokenizer", *load.imports}))
    plain = not tokenizer.chat_template
    message = "instruction, text" if card.type != "generation" else "text"
    asked = f'"… {message} …\\nAnswer:"'
    if not plain:
        turn = f'[{{"role": "user", "content": "… {message} …"}}]'
        asked = f"tokenizer.apply_chat_template({turn}, add_generation_prompt=True, tokenize=False)"
    return f"""# {card.name}: adapter on {base_model}

A plain PEFT adapter of a language model, trained with hf_crosstask on {card.type} as instruction and answer
({card.formulation}). The instructions are those of `hf_crosstask.encoding.prompts`. {load.note}

```python
from peft import AutoPeftModelForCausalLM
from transformers import {names}

folder = "."  # this folder
model = AutoPeftModelForCausalLM.from_pretrained(
    folder,{load.argument}
)
model = {load.merged}.eval()
tokenizer = AutoTokenizer.from_pretrained(folder)
prompt = {asked}
ids = tokenizer(prompt, return_tensors="pt", add_special_tokens={plain})["input_ids"]
answer = model.generate(ids, max_new_tokens=64, do_sample=False)[0, ids.shape[1] :]
print(tokenizer.decode(answer, skip_special_tokens=True))
```
"""
