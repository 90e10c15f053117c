"""Heads of tasks trained on text alone: transformers' own losses, BERT's masking, and nothing to save."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForMaskedLM

from hf_crosstask.encoding.text import Masking, TextTasks
from hf_crosstask.models.adapters import LoraSettings
from hf_crosstask.models.backbone import Source
from hf_crosstask.models.build import build_model, head_parameters
from hf_crosstask.models.multitask import MultiTaskModel, trainable_state
from hf_crosstask.models.precision import Precision
from hf_crosstask.models.text import MaskedTokenHead, is_text, pretrained_layers
from hf_crosstask.training.feed import seed_dropout


@pytest.fixture
def made(build: Any, tiny: Any):
    """A model of a family whose task "drugs" is trained on text, and a batch of it."""

    def make(family: str, **more: Any) -> tuple[MultiTaskModel, dict[str, torch.Tensor]]:
        tokenizer = tiny(family).tokenizer
        masking = Masking.of(tokenizer) if family in ("bert", "roberta") else None
        model = build(family, text=TextTasks(frozenset({"drugs"}), masking), **more)
        batch = tiny(family).encoded()
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        labels[:, 0] = -100
        if masking is not None:
            labels[torch.isin(batch["input_ids"], torch.tensor(masking.special))] = -100
            labels[:, 2::2] = -100
        return model, {**batch, "labels": labels}

    return make


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_a_decoders_loss_is_the_models_own(made, family):
    model, batch = made(family, noise=0.05)
    output = model(**batch, task="drugs")
    own = model.language_model(**batch)
    assert output.loss.item() == pytest.approx(own.loss.item(), rel=1e-5)
    assert output.logits[:, 1].tolist() == (batch["labels"][:, 1:] != -100).sum(dim=1).tolist()
    likelihood, tokens = output.logits.sum(dim=0).tolist()
    assert -likelihood / tokens == pytest.approx(own.loss.item(), rel=1e-5)
    nested = {name: value[None] for name, value in batch.items()}
    assert model(**nested, task="drugs").loss.item() == pytest.approx(own.loss.item(), rel=1e-5)
    assert not any(name.startswith("heads.drugs") for name in trainable_state(model))


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_an_encoder_starts_from_the_checkpoints_head_and_has_its_loss(made, tiny, cards, family, tmp_path):
    source, tokenizer = tiny(family).source, tiny(family).tokenizer
    torch.manual_seed(5)
    whole = AutoModelForMaskedLM.from_config(AutoConfig.from_pretrained(source.name_or_path)).eval()
    with torch.no_grad():
        for name, parameter in whole.named_parameters():
            if "embeddings" not in name:
                parameter.add_(0.05 * torch.randn(parameter.shape))
    whole.save_pretrained(tmp_path)
    config, place = AutoConfig.from_pretrained(tmp_path), Source(str(tmp_path))
    assert pretrained_layers(place, config) is not None
    model = build_model(
        place, config, cards, precision=Precision("fp32", torch.float32), lora=LoraSettings(r=4), head_dropout=0.1,
        seed=1, text=TextTasks(frozenset({"drugs"}), Masking.of(tokenizer)),
    ).eval()  # fmt: skip
    _, batch = made(family)
    output = model(**batch, task="drugs")
    masked = batch["input_ids"].masked_fill(batch["labels"] != -100, tokenizer.mask_token_id)
    assert output.loss.item() == pytest.approx(whole(**{**batch, "input_ids": masked}).loss.item(), rel=1e-4)
    nested = {name: value[None] for name, value in batch.items()}
    assert model(**nested, task="drugs").loss.item() == pytest.approx(output.loss.item(), rel=1e-5)


def test_masks_are_berts_and_depend_on_the_seed_of_the_micro_batch_alone(tiny):
    made, masking = tiny("bert"), Masking.of(tiny("bert").tokenizer)
    head = MaskedTokenHead(made.config, masking, std=0.02).train()
    ids = torch.randint(5, made.config.vocab_size, (400, 60), generator=torch.Generator().manual_seed(0))
    ids[:, 0], ids[:, -1] = made.tokenizer.cls_token_id, made.tokenizer.pad_token_id
    ids[:, 7] = made.tokenizer.unk_token_id
    real = torch.ones_like(ids)
    real[:, -1] = 0
    numbers = torch.full((400,), 9)
    numbers[0] = 0

    def draw(micro_batch: int) -> tuple[torch.Tensor, torch.Tensor]:
        seed_dropout(3, micro_batch)
        chosen = head.drawn(ids, real, numbers)
        return chosen, head.corrupted(ids, chosen)

    chosen, corrupted = draw(5)
    assert chosen.sum(dim=1).tolist() == numbers.tolist()
    assert not chosen[:, [0, 7, -1]].any()
    assert (corrupted[~chosen] == ids[~chosen]).all()
    assert not torch.isin(corrupted[chosen & (corrupted != masking.mask)], torch.tensor(masking.special)).any()
    share = {
        "mask": (corrupted[chosen] == masking.mask).float().mean().item(),
        "kept": (corrupted[chosen] == ids[chosen]).float().mean().item(),
    }
    assert share["mask"] == pytest.approx(0.8, abs=0.03)  # 3,591 tokens: standard error 0.007
    assert share["kept"] == pytest.approx(0.1, abs=0.02)
    columns = chosen[:, 1:-1].float().mean(dim=0)
    assert columns[columns > 0].min() > 0.05  # every place
    assert all(one.equal(other) for one, other in zip(draw(5), (chosen, corrupted), strict=True))
    assert not draw(6)[0].equal(chosen)
    head.eval()
    assert head.corrupted(ids, chosen)[chosen].unique().tolist() == [masking.mask]


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_the_loss_falls_on_a_tiny_corpus_and_trains_the_adapter(made, family):
    model, batch = made(family)
    before = model(**batch, task="drugs").loss.item()
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert all(name.startswith(("backbone.", "heads.")) and "embed" not in name for name in trained)
    optimizer = torch.optim.AdamW(trained.values(), lr=5e-3)
    for number in range(40):
        seed_dropout(1, number)
        optimizer.zero_grad()
        model.train()(**batch, task="drugs").loss.backward()
        optimizer.step()
    assert trained["heads.answer.output.weight"].grad is None  # another task's
    adapter = [parameter for name, parameter in trained.items() if ".lora_" in name]
    assert len(adapter) > 4
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in adapter)
    after = model.eval()(**batch, task="drugs").loss.item()
    assert after < before - 0.2  # the tiny decoder's frozen output embeddings are small


def test_trained_embeddings_are_the_ones_that_predict(made):
    model, batch = made("bert", lora=LoraSettings(r=4, train_embeddings=True))
    model.train()(**batch, task="drugs").loss.backward()
    (gradient,) = (p.grad for n, p in model.named_parameters() if "word_embeddings" in n and p.requires_grad)
    unseen = sorted(set(range(len(gradient))) - set(batch["input_ids"].flatten().tolist()))
    assert gradient[unseen].abs().sum() > 0  # through the softmax: not one of them is an input


def test_text_heads_are_counted_and_not_saved(made, build, cards, tiny, tmp_path):
    model, _ = made("bert", noise=0.1)
    assert [task for task, head in model.heads.items() if is_text(head)] == ["drugs"]
    text = TextTasks(frozenset({"drugs"}), Masking.of(tiny("bert").tokenizer))
    counted = head_parameters(cards, model.config, text)
    assert counted == {task: sum(p.numel() for p in head.parameters()) for task, head in model.heads.items()}
    model.save_pretrained(tmp_path)
    assert sorted(path.stem for path in (tmp_path / "heads").iterdir()) == ["answer", "treats"]
    other = build("bert", cards=[card for card in cards if card.name != "drugs"])
    other.restore(tmp_path)
    expected = dict(model.named_parameters())
    for name, parameter in other.named_parameters():
        assert parameter.equal(expected[name])
