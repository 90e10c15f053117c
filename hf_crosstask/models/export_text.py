"""What the READMEs of exported adapters say about loading."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from hf_crosstask.models.quantization import UNQUANTIZED
from hf_crosstask.tasks.card import TaskCard


@dataclass(frozen=True)
class Loading:
    """How a README's code loads the base model it was trained on.

    Attributes:
        note: a sentence on the base's precision; empty where there is nothing to say.
        imports: names imported from transformers besides those that every README needs.
        argument: a further argument of `from_pretrained`, on a line of its own.
        merged: turns the loaded model into one that a pipeline takes.
    """

    note: str = ""
    imports: tuple[str, ...] = ()
    argument: str = ""
    merged: str = "model.merge_and_unload()"


def loading(model: nn.Module, merged: str = "model.merge_and_unload()") -> Loading:
    """How the base of a trained model is loaded again.

    Args:
        model: what was trained; its weights say whether they are 4-bit.
        merged: how a model without 4-bit weights is used in a pipeline.
    """
    states = (getattr(parameter, "quant_state", None) for parameter in model.parameters())
    state = next((each for each in states if each is not None), None)
    if state is None:
        return Loading(merged=merged)
    compute = str(state.dtype).removeprefix("torch.")
    skipped = ", ".join(f'"{name}"' for name in UNQUANTIZED)
    return Loading(
        note="It was trained on the base in 4 bits (NF4, double quantization) and gives the same scores there. It loads on "
        "the unquantized base too, without `quantization_config`, with slightly other scores; merge it there, never into "
        "4-bit weights. (On CPUs with bf16 instructions, bitsandbytes rounds to bf16 at inference.)",
        imports=("BitsAndBytesConfig",),
        argument=f'''
    quantization_config=BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype="{compute}",
        llm_int8_skip_modules=[{skipped}],
    ),
    device_map={{"": "cpu"}},''',
        merged="model.get_base_model()",
    )


def body_readme(card: TaskCard, base_model: str, load: Loading) -> str:
    """Of a joint adapter on the bare backbone."""
    names = ", ".join(sorted({"AutoModel", "AutoTokenizer", *load.imports}))
    return f"""# {card.name}: adapter on {base_model}

A plain PEFT adapter, trained with hf_crosstask: all adapters of the task as one. transformers has no class for {card.type};
the adapter gives the backbone's states, and the task's head is `heads/{card.name}.safetensors` of the run. {load.note}

```python
from peft import PeftModel
from transformers import {names}

folder = "."  # this folder
base = AutoModel.from_pretrained(
    "{base_model}",{load.argument}
)
model = PeftModel.from_pretrained(base, folder).eval()
tokenizer = AutoTokenizer.from_pretrained(folder)
print(model(**tokenizer("…", return_tensors="pt")).last_hidden_state.shape)
```
"""


def attention_readme(card: TaskCard, adapters: Sequence[str]) -> str:
    """Of a task whose adapters are weighed by the input."""
    folders = ", ".join(f"`../{name}`" for name in adapters)
    return f"""# {card.name}: adapters weighed by attention

This task adds up {len(adapters)} adapters ({folders}, plain PEFT adapters each) with weights that every token's own
activations decide. Plain PEFT has no such thing: one adapter that gives the same scores does not exist. hf_crosstask and
the whole run folder are needed:

```python
from hf_crosstask import load_run

run = load_run("../..")  # the run folder: recipe.json, result.json, adapters/, heads/
batch = run.tokenizer("…", return_tensors="pt")
print(run.model(task="{card.name}", input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]))
```

The weights of the attention are `../fusion.safetensors`. Other fusions (`sum`, `gated`) export as one plain adapter.
"""
