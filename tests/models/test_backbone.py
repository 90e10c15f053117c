from __future__ import annotations

import json

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import BertConfig, BertModel, GPT2Config, PreTrainedTokenizerFast, T5Config

from hf_crosstask.errors import InputError
from hf_crosstask.models.backbone import (
    Source,
    is_causal,
    load_backbone,
    load_config,
    load_tokenizer,
    take_pooler,
)
from hf_crosstask.models.tiny import FAMILIES


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_loads(tiny, family):
    made = tiny(family)
    assert is_causal(made.config) == (family not in ("bert", "roberta"))
    assert made.tokenizer.is_fast
    assert made.tokenizer.padding_side == "right"
    assert made.tokenizer.pad_token is not None
    body = load_backbone(made.source, made.config, torch.bfloat16)
    assert {parameter.dtype for parameter in body.parameters()} == {torch.bfloat16}
    assert body(**made.encoded()).last_hidden_state.shape[-1] == made.config.hidden_size
    if is_causal(made.config):
        assert body.config.use_cache is False


def test_other_architectures():
    assert is_causal(GPT2Config())
    with pytest.raises(InputError, match="model type 't5' is an encoder-decoder; use an encoder or a decoder"):
        is_causal(T5Config())


def test_the_attention_implementation_is_chosen(tiny):
    made = tiny("bert")
    source = Source(made.source.name_or_path, attention="eager")
    assert load_backbone(source, load_config(source), torch.float32).config._attn_implementation == "eager"


@pytest.mark.parametrize("load", [load_config, load_tokenizer])
def test_what_is_not_there_is_said(tmp_path, load):
    for name in (str(tmp_path), "no-such-user/no-such-model"):
        with pytest.raises(InputError) as error:
            load(Source(name))
        message = str(error.value)
        assert message.startswith(f"model.name_or_path: cannot load {name!r}: ")
        assert message.endswith(
            "(give a Hub id, a local folder with config.json and safetensors weights, or tiny:<family>)"
        )
        assert "\n" not in message


def test_a_config_of_no_known_architecture_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "no_such_type"}))
    with pytest.raises(InputError, match="no_such_type"):
        load_config(Source(str(tmp_path)))


def test_only_safetensors_are_loaded(tmp_path):
    config = BertConfig(vocab_size=10, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    model = BertModel(config)
    config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    source = Source(str(tmp_path))
    with pytest.raises(InputError, match="cannot load"):
        load_backbone(source, load_config(source), torch.float32)


def word_tokenizer(folder, **special):
    words = Tokenizer(WordLevel({"[UNK]": 0, "</s>": 1, "a": 2}, unk_token="[UNK]"))
    PreTrainedTokenizerFast(tokenizer_object=words, padding_side="left", **special).save_pretrained(folder)
    BertConfig().save_pretrained(folder)
    return Source(str(folder))


@pytest.mark.parametrize(
    ("special", "pad"),
    [
        ({"unk_token": "[UNK]", "eos_token": "</s>", "pad_token": "a"}, "a"),
        ({"unk_token": "[UNK]", "eos_token": "</s>"}, "[UNK]"),
        ({"eos_token": "</s>"}, "</s>"),
    ],
)
def test_a_missing_padding_token_is_filled(tmp_path, special, pad):
    tokenizer = load_tokenizer(word_tokenizer(tmp_path, **special))
    assert tokenizer.pad_token == pad
    assert tokenizer.padding_side == "right"


def test_a_tokenizer_with_nothing_to_pad_with_is_refused(tmp_path):
    with pytest.raises(InputError, match="has no padding, unknown or end token to pad with"):
        load_tokenizer(word_tokenizer(tmp_path))


def test_the_pooler_is_taken_out(tiny):
    made = tiny("bert")
    body = load_backbone(made.source, made.config, torch.float32).eval()
    before = body(**made.encoded()).last_hidden_state
    dense = take_pooler(body)
    assert isinstance(dense, torch.nn.Linear)
    assert not [name for name, _ in body.named_parameters() if "pooler" in name]
    assert torch.equal(body(**made.encoded()).last_hidden_state, before)
    assert take_pooler(body) is None
    llama = tiny("llama")
    assert take_pooler(load_backbone(llama.source, llama.config, torch.float32)) is None
