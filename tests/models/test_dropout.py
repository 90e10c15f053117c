from __future__ import annotations

import pytest
import torch
from transformers import AutoModel

from hf_crosstask.models.adapters import LoraSettings
from hf_crosstask.models.backbone import Source, load_backbone, load_config
from hf_crosstask.models.dropout import ATTENTION, Dropout, attention, dropped, dropped_linear, use_cheap_dropout
from hf_crosstask.models.export import export_task_adapter


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("frozen", ["neither", "x", "down"])
def test_dropout_and_product_in_one_have_the_gradients_of_both(autocast, frozen):
    torch.manual_seed(0)
    x, down = torch.randn(2, 5, 8, requires_grad=frozen != "x"), torch.randn(3, 8, requires_grad=frozen != "down")
    dropout, weights = torch.nn.Dropout(0.4), torch.randn(2, 5, 3)

    def gradients(low):
        x.grad = down.grad = None
        (low.float() * weights).sum().backward()
        return low, x.grad, down.grad

    torch.manual_seed(1)
    kept = dropped_linear(torch.ones_like(x), torch.eye(8), dropout).detach() != 0
    assert 0 < int(kept.sum()) < kept.numel()
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        ours = gradients(dropped_linear(x, down, dropout))
        theirs = gradients(torch.nn.functional.linear(x * kept / 0.6, down))
    assert ours[0].dtype == (torch.bfloat16 if autocast else torch.float32)
    for our, their in zip(ours, theirs, strict=True):
        assert (our is None) == (their is None)
        if our is not None:
            torch.testing.assert_close(our, their, rtol=2e-2 if autocast else 2e-5, atol=5e-2 if autocast else 1e-6)
    dropout.eval()
    assert torch.equal(dropped_linear(x, down, dropout), torch.nn.functional.linear(x, down))


def test_dropout_keeps_the_share_it_should():
    for p in (0.05, 0.5, 0.9):
        low = dropped_linear(torch.ones(401, 999), torch.eye(999), torch.nn.Dropout(p))
        assert low.unique().tolist() == pytest.approx([0, 1 / (1 - p)], rel=1e-4)
        dropped = (low == 0).float()
        assert float(dropped.mean()) == pytest.approx(p, abs=0.004)
        for shift in range(1, 5):  # neighbours are drawn from one number
            other = dropped.flatten().roll(shift)
            assert abs(float(torch.corrcoef(torch.stack([dropped.flatten(), other]))[0, 1])) < 0.01


def test_the_module_is_torchs_but_for_which_elements_it_drops():
    x = torch.randn(50, 40, requires_grad=True)
    ours = Dropout(0.3)
    result = ours(x)
    kept = result != 0
    torch.testing.assert_close(result, torch.where(kept, x / 0.7, 0.0), rtol=1e-4, atol=0)
    result.sum().backward()
    torch.testing.assert_close(x.grad, torch.where(kept, torch.tensor(1 / 0.7), 0.0), rtol=1e-4, atol=0)
    torch.manual_seed(3)
    first = ours(x)
    torch.manual_seed(3)
    assert torch.equal(first, ours(x))
    assert not torch.equal(first, ours(x))
    for without in (Dropout(0.0), ours.eval()):
        assert torch.equal(without(x), x)


class Bidirectional(torch.nn.Module):
    is_causal = False


class Causal(torch.nn.Module):
    is_causal = True


MASKS = {
    "none": None,
    "bool": torch.ones(2, 1, 5, 5, dtype=torch.bool).index_fill(3, torch.tensor([4]), False),
    "float": torch.zeros(2, 1, 5, 5).index_fill(3, torch.tensor([4]), -1e9),
}


def query_key_value():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 3, 5, 4, generator=generator).requires_grad_() for _ in range(3)]


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("scaling", [None, 0.3])
def test_attention_is_that_of_the_paper_on_the_probabilities_it_kept(mask, scaling):
    query, key, value = query_key_value()
    torch.manual_seed(1)
    kept = dropped(torch.ones(2, 3, 5, 5), 0.4)
    scores = query @ key.mT * (4**-0.5 if scaling is None else scaling)
    if mask != "none":
        scores[..., 4] = -torch.inf
    expected = (scores.softmax(-1) * kept) @ value
    torch.manual_seed(1)
    found, _ = attention(Bidirectional(), query, key, value, MASKS[mask], dropout=0.4, scaling=scaling)
    torch.testing.assert_close(found, expected.transpose(1, 2), rtol=1e-5, atol=1e-6)
    weights = torch.randn(found.shape)
    gradients = [
        torch.autograd.grad((out * weights).sum(), (query, key, value)) for out in (found, expected.transpose(1, 2))
    ]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("mask", MASKS)
def test_attention_has_the_mean_of_torchs(mask):
    query, key, value = (each.detach() for each in query_key_value())
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=MASKS[mask])
    torch.manual_seed(2)
    draws = torch.stack(
        [attention(Bidirectional(), query, key, value, MASKS[mask], dropout=0.1)[0] for _ in range(4000)]
    )
    torch.testing.assert_close(draws.mean(0), expected.transpose(1, 2), rtol=0, atol=0.03)


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_other_attention_is_torchs_to_the_bit(dropout):
    query, key, value = query_key_value()
    module, options = (Causal(), {"is_causal": True}) if dropout else (Bidirectional(), {})
    torch.manual_seed(1)
    found, _ = attention(module, query, key, value, None, dropout=dropout, **options)
    torch.manual_seed(1)
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value, dropout_p=dropout, **options)
    assert torch.equal(found, expected.transpose(1, 2))


@torch.no_grad()
@pytest.mark.parametrize("lora", [None, LoraSettings(r=4)])
def test_an_encoder_evaluates_as_transformers_does(build, tiny, lora):
    model, batch = build("bert", lora=lora), tiny("bert").encoded()
    assert model.body.config._attn_implementation == ATTENTION
    assert not [
        path for path, module in model.body.named_modules() if type(module) is torch.nn.Dropout and "lora" not in path
    ]
    ours = model(task="answer", **batch).logits
    trained = [model.train()(task="answer", **batch).logits for _ in range(2)]
    assert not torch.equal(*trained)
    model.eval().body.set_attn_implementation("sdpa")
    assert torch.equal(ours, model(task="answer", **batch).logits)


def test_only_an_encoder_on_torchs_attention_gets_it(tiny):
    for family, asked, expected in (("bert", "eager", "eager"), ("llama", None, "sdpa"), ("roberta", None, ATTENTION)):
        source = Source(tiny(family).source.name_or_path, attention=asked)
        backbone = load_backbone(source, load_config(source), torch.float32)
        use_cheap_dropout(backbone)
        assert backbone.config._attn_implementation == expected


def test_what_is_saved_does_not_name_it(build, tiny, cards, tmp_path):
    model, made = build("bert"), tiny("bert")
    model.body.save_pretrained(tmp_path / "body")
    export_task_adapter(
        model, cards[0], tmp_path / "adapter", tokenizer=made.tokenizer, base_model=made.source.name_or_path
    )
    written = "".join(each.read_text() for each in tmp_path.rglob("*") if each.suffix in (".json", ".md"))
    assert '"r": 4' in written
    assert ATTENTION not in written
    assert AutoModel.from_pretrained(tmp_path / "body").config._attn_implementation == "sdpa"
