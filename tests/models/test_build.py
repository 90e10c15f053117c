from __future__ import annotations

import pytest
import torch

from hf_crosstask.errors import InputError
from hf_crosstask.models.adapters import LoraSettings
from hf_crosstask.models.build import build_head, build_model
from hf_crosstask.models.heads import RelationHead, SequenceHead, TokenHead
from hf_crosstask.models.precision import Precision


def equal(one, other):
    return all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


def test_heads_fit_their_tasks(build, cards):
    model = build("bert")
    assert model.tasks == ("drugs", "answer", "treats")
    assert [type(head) for head in model.heads.values()] == [TokenHead, SequenceHead, RelationHead]
    assert model.heads["drugs"].output.out_features == 5  # O and B-, I- of two types
    assert model.heads["answer"].output.out_features == 3
    assert model.heads["treats"].output.out_features == 2


def test_a_model_is_a_function_of_its_seed(build):
    torch.manual_seed(11)
    one = build("bert")
    torch.manual_seed(12)
    assert equal(one, build("bert"))
    assert not equal(one.heads, build("bert", seed=2).heads)


def test_a_head_does_not_depend_on_the_other_tasks(build, cards):
    among_others, alone = build("llama"), build("llama", cards=cards[1:2])
    assert equal(alone.heads["answer"], among_others.heads["answer"])
    assert equal(alone.backbone, among_others.backbone)
    renamed = build("llama", cards=[cards[1].model_copy(update={"name": "other"})])
    assert not equal(renamed.heads["other"], alone.heads["answer"])


def trained(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_with_an_adapter_only_adapter_and_heads_train(build):
    names = trained(build("bert"))
    assert {name for name in names if name.startswith("heads.")}
    assert all(name.startswith("heads.") or "lora_" in name for name in names)


def test_without_an_adapter_everything_trains(build):
    model = build("bert", lora=None)
    assert trained(model) == {name for name, _ in model.named_parameters()}
    assert not [name for name in trained(model) if name.startswith("backbone.pooler")]


@pytest.mark.parametrize("lora", [LoraSettings(r=2), None])
def test_trained_weights_are_in_full_precision(build, lora):
    model = build("llama", lora=lora, precision=Precision("bf16", torch.bfloat16))
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    frozen = {p.dtype for p in model.parameters() if not p.requires_grad}
    assert frozen == ({torch.bfloat16} if lora else set())


def test_the_sequence_head_starts_from_the_pooler(build, tiny):
    from transformers import AutoModel

    model = build("bert")
    pooler = AutoModel.from_pretrained(tiny("bert").source.name_or_path).pooler.dense
    assert torch.equal(model.heads["answer"].dense.weight, pooler.weight)
    assert not hasattr(model.heads["treats"], "pooler")


def test_roberta_drops_before_its_dense_layer(build):
    assert build("roberta").heads["answer"].dropout_first
    assert not build("bert").heads["answer"].dropout_first


def test_a_task_type_without_a_head_is_refused(tiny, cards):
    card = cards[0].model_copy(update={"type": "unheard_of"})
    with pytest.raises(InputError, match="task 'drugs': there is no head for task type 'unheard_of'"):
        build_head(card, tiny("bert").config)


def test_unknown_target_modules_are_refused(build):
    with pytest.raises(InputError) as error:
        build("llama", lora=LoraSettings(target_modules=("qproj",)))
    assert "model.adapter.target_modules: no module of the backbone is named ('qproj',)" in str(error.value)
    assert "its linear modules are named down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj" in str(
        error.value
    )


def test_a_backbone_without_weights_is_refused(tiny, cards, tmp_path):
    made = tiny("bert")
    made.config.save_pretrained(tmp_path)
    source = type(made.source)(str(tmp_path))
    with pytest.raises(InputError, match=r"model\.name_or_path: cannot load"):
        build_model(
            source,
            made.config,
            cards,
            precision=Precision("fp32", torch.float32),
            lora=None,
            head_dropout=0.1,
            seed=0,
        )
