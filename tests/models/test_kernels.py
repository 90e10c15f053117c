from __future__ import annotations

import pytest
import torch
from transformers import BertConfig, Gemma2Config, T5Config

from hf_crosstask.errors import InputError
from hf_crosstask.models import kernels
from hf_crosstask.models.kernels import apply_liger, resolve_attention


def test_an_implementation_named_is_taken_and_none_left_to_the_model():
    assert resolve_attention("eager", BertConfig(), torch.bfloat16) == "eager"
    assert resolve_attention(None, BertConfig(), torch.bfloat16) is None


def test_auto_is_flash_attention_where_it_can_be(monkeypatch):
    assert resolve_attention("auto", BertConfig(), torch.float32) is None
    for installed, expected in ((True, "flash_attention_2"), (False, None)):
        monkeypatch.setattr(kernels, "is_flash_attn_2_available", lambda installed=installed: installed)
        assert resolve_attention("auto", Gemma2Config(), torch.bfloat16) == expected
        assert resolve_attention("auto", Gemma2Config(), torch.float32) is None
        assert resolve_attention("auto", T5Config(), torch.bfloat16) is None  # T5 has none


def test_auto_loads(tiny):
    source = tiny("bert").source
    again = type(source)(source.name_or_path, attention="auto")
    from hf_crosstask.models.backbone import load_backbone, load_config

    for each in (again, source):
        assert load_backbone(each, load_config(each), torch.float32).config._attn_implementation == "sdpa"


def test_liger_that_is_not_there_is_said_so(build, monkeypatch):
    monkeypatch.setattr(kernels, "is_liger_kernel_available", lambda: False)
    with pytest.raises(InputError, match="liger-kernel is not installed; `pip install liger-kernel`"):
        apply_liger(build("bert").body)
    monkeypatch.setattr(kernels, "is_liger_kernel_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="Liger's kernels need a GPU"):
        apply_liger(build("bert").body)
