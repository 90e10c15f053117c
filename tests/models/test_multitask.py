from __future__ import annotations

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy
from transformers import AutoModel

from hf_crosstask.errors import InputError
from hf_crosstask.models.heads import TokenHead
from hf_crosstask.models.multitask import MultiTaskModel, trainable_state


@pytest.fixture(scope="module")
def model(build):
    return build("bert", noise=0.05)


@pytest.fixture(scope="module")
def batch(tiny):
    return tiny("bert").encoded()


@torch.no_grad()
def test_each_task_has_its_logits_and_its_loss(model, batch):
    rows, length = batch["input_ids"].shape
    out = model(task="drugs", **batch)
    assert out.logits.shape == (rows, length, 5)
    assert out.loss is None
    labels = torch.where(batch["attention_mask"].bool(), 2, -100)
    loss = model(task="drugs", labels=labels, **batch).loss
    kept = labels != -100
    torch.testing.assert_close(loss, cross_entropy(out.logits[kept], labels[kept]))
    assert model(task="answer", **batch).logits.shape == (rows, 3)
    positions = torch.tensor([[1, 2]] * rows)
    assert model(task="treats", entity_positions=positions, **batch).logits.shape == (rows, 2)


@torch.no_grad()
@pytest.mark.parametrize("family", ["bert", "roberta", "llama", "gemma2", "phi3"])
def test_padding_changes_nothing(build, tiny, family):
    model, batch = build(family, noise=0.05), tiny(family).encoded()
    tokens, labels = model(task="drugs", **batch).logits, model(task="answer", **batch).logits
    for row, size in enumerate(batch["attention_mask"].sum(dim=1).tolist()):
        alone = {name: values[row : row + 1, :size] for name, values in batch.items()}
        torch.testing.assert_close(model(task="drugs", **alone).logits[0], tokens[row, :size], rtol=0, atol=1e-5)
        torch.testing.assert_close(model(task="answer", **alone).logits[0], labels[row], rtol=0, atol=1e-5)


def test_the_task_must_be_one_of_the_model_s(model, batch, build, cards):
    with pytest.raises(ValueError, match=r"which task\? this model has heads for drugs, answer, treats"):
        model(**batch)
    with pytest.raises(ValueError, match="unknown task 'drug'; did you mean 'drugs'"):
        model(task="drug", **batch)
    only = build("bert", cards=cards[:1])
    assert torch.equal(only(**batch).logits, only(task="drugs", **batch).logits)


def test_a_task_name_that_torch_uses_is_refused(model):
    with pytest.raises(InputError, match="'keys' cannot name a task"):
        MultiTaskModel(model.backbone, {"keys": TokenHead(4, 2, dropout=0.0, std=0.1)})


def test_parameter_counts_add_up(model, build):
    counts = model.parameter_counts()
    heads = sum(p.numel() for p in model.heads.parameters())
    assert counts["heads"] == heads
    assert counts["total"] == sum(p.numel() for p in model.parameters())
    assert counts["trainable"] == heads + counts["per_adapter"]["shared"]
    full = build("bert", lora=None).parameter_counts()
    assert full["trainable"] == full["total"]
    assert full["per_adapter"] == {}


@torch.no_grad()
@pytest.mark.parametrize("family", ["bert", "phi3"])
def test_the_shared_adapter_is_a_plain_peft_folder(build, tiny, tmp_path, family):
    model, made = build(family, noise=0.05), tiny(family)
    model.save_pretrained(tmp_path)
    base = AutoModel.from_pretrained(made.source.name_or_path)
    loaded = PeftModel.from_pretrained(base, tmp_path / "adapters" / "shared").eval()
    batch = made.encoded()
    ours = model.backbone(**batch).last_hidden_state
    torch.testing.assert_close(loaded(**batch).last_hidden_state, ours, rtol=0, atol=1e-6)
    with loaded.disable_adapter():
        assert (loaded(**batch).last_hidden_state - ours).abs().max() > 0.01


@torch.no_grad()
def test_a_fully_trained_backbone_is_a_plain_model(build, tiny, tmp_path):
    model, made = build("bert", lora=None, noise=0.01), tiny("bert")
    model.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path / "model").eval()
    batch = made.encoded()
    assert torch.equal(loaded(**batch).last_hidden_state, model.backbone(**batch).last_hidden_state)
    assert not (tmp_path / "adapters").exists()


def test_heads_are_saved_as_safetensors(model, tmp_path):
    model.save_pretrained(tmp_path)
    for task, head in model.heads.items():
        state = load_file(tmp_path / "heads" / f"{task}.safetensors")
        assert state.keys() == head.state_dict().keys()
        assert all(torch.equal(state[name], value) for name, value in head.state_dict().items())


def test_trainable_state_is_what_requires_a_gradient(model):
    state = trainable_state(model)
    assert sum(value.numel() for value in state.values()) == model.parameter_counts()["trainable"]
    assert not any(value.requires_grad for value in state.values())
    assert "heads.drugs.output.weight" in state


def test_activation_checkpointing_trains_the_adapter(build, tiny):
    model, batch = build("bert", noise=0.05).train(), tiny("bert").encoded()
    model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": True})
    labels = torch.ones(len(batch["input_ids"]), dtype=torch.long)
    model(task="answer", labels=labels, **batch).loss.backward()
    gradients = [p.grad for name, p in model.named_parameters() if "lora_" in name]
    assert all(gradient is not None and gradient.abs().max() > 0 for gradient in gradients)
