from __future__ import annotations

import pytest
import torch
from transformers import BertConfig, BertModel, LlamaConfig, LlamaModel

from hf_crosstask.models.adapters import LoraSettings, add_lora


def bert():
    size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    return BertModel(BertConfig(vocab_size=10, **size))


def llama():
    size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    return LlamaModel(LlamaConfig(vocab_size=10, **size))


def trained(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("build", [bert, llama])
def test_a_fresh_adapter_changes_nothing_and_alone_trains(build):
    torch.manual_seed(0)
    body = build().eval()
    ids = torch.arange(1, 7)[None]
    before = body(ids).last_hidden_state
    model = add_lora(body, LoraSettings(r=2)).eval()
    assert torch.equal(model(input_ids=ids).last_hidden_state, before)
    assert trained(model)
    assert all(".shared." in name for name in trained(model))


def test_settings_reach_peft():
    model = add_lora(
        bert(), LoraSettings(r=3, alpha=12, dropout=0.2, target_modules=("query",), use_rslora=True), "own"
    )
    config = model.peft_config["own"]
    assert (config.r, config.lora_alpha, config.lora_dropout, config.use_rslora) == (3, 12, 0.2, True)
    assert all("query.lora_" in name for name in trained(model))


@pytest.mark.parametrize(("build", "name"), [(bert, "word_embeddings"), (llama, "embed_tokens")])
def test_embeddings_train_when_asked(build, name):
    model = add_lora(build(), LoraSettings(r=2, train_embeddings=True))
    assert any(name in path and "modules_to_save.shared" in path for path in trained(model))
