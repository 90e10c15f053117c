from __future__ import annotations

import torch
from transformers import BertModel

from hf_crosstask.training.modules import base_model, unwrap_ddp


def test_the_model_inside_peft(make_model):
    model = make_model()
    assert base_model(model) is model  # a multi-task model names its own inputs
    assert isinstance(base_model(model.backbone), BertModel)
    assert unwrap_ddp(model.backbone) is model.backbone


def test_a_plain_module_is_itself():
    module = torch.nn.Linear(1, 1)
    assert base_model(module) is unwrap_ddp(module) is module
