from __future__ import annotations

import json
import re

import pytest
import torch
from peft import AutoPeftModelForSequenceClassification, AutoPeftModelForTokenClassification
from transformers import Phi3Config

from hf_crosstask.models.adapter_layout import shared_and_private
from hf_crosstask.models.adapters import LoraSettings
from hf_crosstask.models.export import export_task_adapter
from hf_crosstask.models.multitask import trainable_state
from hf_crosstask.models.precision import Precision
from hf_crosstask.models.quantization import (
    MemoryNeed,
    compute_exactly_on_cpu,
    memory_need,
    nf4,
    resolve_quantization,
)

NF4 = Precision("fp32", torch.float32, "nf4")
GIB = 2**30
PHI3_MINI = Phi3Config(
    vocab_size=32064, hidden_size=3072, intermediate_size=8192, num_hidden_layers=32, num_attention_heads=32
)


def linears(model):
    return [(path, module) for path, module in model.named_modules() if isinstance(module, torch.nn.Linear)]


@pytest.mark.parametrize("family", ["bert", "phi3"])
def test_the_body_is_4_bit_and_what_trains_is_not(build, family):
    model, plain = build(family, precision=NF4), build(family)
    quantized = [path for path, module in linears(model) if type(module).__name__ == "Linear4bit"]
    assert len(quantized) == (12 if family == "bert" else 8)
    assert not any(path.startswith("heads") for path in quantized)
    assert all(value.dtype == torch.float32 for value in trainable_state(model).values())
    assert trainable_state(model).keys() == trainable_state(plain).keys()
    assert model.parameter_counts() == plain.parameter_counts()  # weights, not the bytes they are packed in
    state = next(p.quant_state for p in model.parameters() if hasattr(p, "quant_state"))
    assert state.nested
    assert state.quant_type == "nf4"


@torch.no_grad()
@pytest.mark.parametrize("family", ["bert", "phi3"])
def test_it_exports_for_the_same_base(build, tiny, cards, tmp_path, family):
    lora = LoraSettings(r=4, dropout=0.0)
    layout = shared_and_private([card.name for card in cards], lora, lora, fusion="gated")
    model, made = build(family, precision=NF4, noise=0.05, lora=layout), tiny(family)
    batch = made.encoded()
    options = {"quantization_config": nf4(torch.float32), "device_map": {"": "cpu"}}
    for card, factory, labels in (
        (cards[0], AutoPeftModelForTokenClassification, 5),
        (cards[1], AutoPeftModelForSequenceClassification, 3),
    ):
        folder, source = tmp_path / card.name, made.source.name_or_path
        export_task_adapter(model, card, folder, tokenizer=made.tokenizer, base_model=source)
        kept = batch["attention_mask"].bool() if card.type == "ner" else slice(None)
        ours = model(task=card.name, **batch).logits[kept]
        theirs = factory.from_pretrained(folder, num_labels=labels, **options).eval()
        compute_exactly_on_cpu(theirs)
        torch.testing.assert_close(theirs(**batch).logits[kept], ours, rtol=0, atol=1e-5)
        unquantized = factory.from_pretrained(folder, num_labels=labels).eval()(**batch).logits[kept]
        assert 0 < (unquantized - ours).abs().max() < 1
        assert "4 bits" in (folder / "README.md").read_text()


def test_the_readme_s_example_runs(build, tiny, cards, tmp_path, capsys, monkeypatch):
    made = tiny("bert")
    export_task_adapter(
        build("bert", precision=NF4, noise=0.05), cards[1], tmp_path, tokenizer=made.tokenizer,
        base_model=made.source.name_or_path,
    )  # fmt: skip
    code = re.search(r"```python\n(.*?)```", (tmp_path / "README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(code[1].replace("…", "aspirin helped"), {})
    assert "'score'" in capsys.readouterr().out
    assert json.loads((tmp_path / "labels.json").read_text()) == list(cards[1].labels)


def test_an_evaluation_does_not_stop_training(build, tiny):
    """bitsandbytes repacks weights in evaluation mode on CPUs with bf16 instructions, and loses gradients for good."""
    model, batch = build("llama", precision=NF4, noise=0.05), tiny("llama").encoded()
    gradients = []
    for _ in range(2):
        model.zero_grad(set_to_none=True)
        torch.manual_seed(0)
        model.train()(task="answer", labels=torch.ones(3, dtype=torch.long), **batch).loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
        with torch.no_grad():
            model.eval()(task="answer", **batch)
    assert gradients[0].keys() == gradients[1].keys()
    assert all(torch.equal(value, gradients[1][name]) for name, value in gradients[0].items())


def test_activation_checkpointing_trains_a_4_bit_model(build, tiny):
    model, batch = build("llama", precision=NF4, noise=0.05).train(), tiny("llama").encoded()
    model.activation_checkpointing_enable()
    model(task="answer", labels=torch.ones(3, dtype=torch.long), **batch).loss.backward()
    gradients = [p.grad for name, p in model.named_parameters() if "lora_" in name]
    assert all(gradient is not None and gradient.abs().max() > 0 for gradient in gradients)


def test_memory_of_phi3_mini():
    """3.7 B weights in the body: 7.4 GB in 16 bits, 27 M trained ones: 0.4 GB."""
    need = memory_need(PHI3_MINI, trained=27_000_000, tokens=4096, dtype=torch.bfloat16, checkpointing=False)
    assert need.weights == pytest.approx(2 * 3.72e9, rel=0.01)
    assert need.trained == 27_000_000 * 16
    assert need.activations == 4096 * 32 * 34 * 3072
    less = memory_need(PHI3_MINI, trained=27_000_000, tokens=4096, dtype=torch.bfloat16, checkpointing=True)
    assert less.activations < need.activations / 10


@pytest.mark.parametrize(
    ("name", "by_default", "memory", "expected"),
    [
        ("auto", "none", 24 * GIB, "none"),
        ("auto", "none", 14 * GIB, "nf4"),
        ("auto", "nf4", 24 * GIB, "none"),
        (None, "none", 1, "none"),
        (None, "nf4", 80 * GIB, "nf4"),
        ("none", "none", 1, "none"),
        ("nf4", "none", 80 * GIB, "nf4"),
    ],
)
def test_auto_takes_4_bits_where_16_do_not_fit(name, by_default, memory, expected):
    need = MemoryNeed(weights=8 * GIB, trained=GIB, activations=4 * GIB)  # 13 GiB; 85 % of 14 are 11.9
    assert resolve_quantization(name, by_default=by_default, need=need, memory=memory) == expected
