from __future__ import annotations

import pytest
from transformers import BertConfig, DebertaV2Config, GPT2Config, LlamaConfig, RobertaConfig, ViTConfig

from hf_crosstask.models.layouts import HeadLayout, head_layout

SIZE = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8, "vocab_size": 10}


@pytest.mark.parametrize(
    ("config", "token", "sequence"),
    [
        (
            BertConfig(**SIZE),
            HeadLayout("bert", "classifier", None, ("classifier",)),
            HeadLayout("bert", "classifier", "bert.pooler.dense", ("pooler", "classifier")),
        ),
        (
            RobertaConfig(**SIZE),
            HeadLayout("roberta", "classifier", None, ("classifier",)),
            HeadLayout("roberta", "classifier.out_proj", "classifier.dense", ("classifier",)),
        ),
        (
            LlamaConfig(**SIZE),
            HeadLayout("model", "score", None, ("score",)),
            HeadLayout("model", "score", None, ("score",)),
        ),
        (
            GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=10),
            HeadLayout("transformer", "classifier", None, ("classifier",)),
            HeadLayout("transformer", "score", None, ("score",)),
        ),
        (DebertaV2Config(**SIZE), HeadLayout("deberta", "classifier", None, ("classifier",)), None),
        (ViTConfig(), None, None),
    ],
    ids=lambda value: getattr(value, "model_type", ""),
)
def test_layout_of(config, token, sequence):
    assert head_layout(config, "token") == token
    assert head_layout(config, "sequence") == sequence
