"""Heads that read the language model: likelihoods, shared weights, and what a checkpoint holds of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy, log_softmax

from hf_crosstask.errors import InputError
from hf_crosstask.models.multitask import trainable_state
from hf_crosstask.tasks.card import TaskCard


def card(name: str, type: Any, formulation: Any, labels: tuple[str, ...] = ()) -> TaskCard:
    return TaskCard(
        name=name, type=type, level=2, labels=labels, primary_metric="m", reader="jsonl", formulation=formulation
    )


LANGUAGE = (
    card("write", "generation", "generative"),
    card("choose", "multiple_choice", "likelihood"),
    card("tag", "ner", "head", ("Drug",)),
)


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two right-padded rows, and labels on their last two and three tokens."""
    ids = torch.tensor([[11, 12, 13, 14, 15, 16], [21, 22, 23, 24, 25, 1]])
    mask = torch.tensor([[1] * 6, [1] * 5 + [0]])
    labels = torch.full_like(ids, -100)
    labels[0, 4:], labels[1, 2:5] = ids[0, 4:], ids[1, 2:5]
    return ids, mask, labels


@pytest.mark.parametrize("family", ["llama", "phi3", "gemma2"])
def test_the_loss_is_the_models_own_and_the_adapter_is_in_it(build: Any, family: str) -> None:
    model = build(family, cards=LANGUAGE, noise=0.05)
    ids, mask, labels = batch()
    output = model(ids, mask, task="write", labels=labels)
    own = model.language_model(input_ids=ids, attention_mask=mask, labels=labels)
    assert output.loss.item() == pytest.approx(own.loss.item(), rel=1e-5)
    shifted = own.logits[:, :-1].transpose(1, 2)
    each = cross_entropy(shifted, labels[:, 1:], reduction="none").sum(dim=1)
    torch.testing.assert_close(output.logits, torch.stack([-each, torch.tensor([2.0, 3.0])], dim=1))
    with model.backbone.disable_adapter():
        assert not torch.allclose(model(ids, mask, task="write", labels=labels).logits, output.logits, atol=1e-3)
    prompt = ids[:, :3]
    greedy = {"max_new_tokens": 3, "do_sample": False, "use_cache": True}
    with torch.no_grad():
        generated = model.language_model.generate(input_ids=prompt, attention_mask=mask[:, :3], **greedy)
        best = model.language_model(input_ids=prompt).logits[:, -1].argmax(dim=-1)
    assert generated[:, 3].tolist() == best.tolist()


def test_a_choice_scores_the_mean_likelihood_of_its_tokens(build: Any) -> None:
    model = build("llama", cards=LANGUAGE, noise=0.05)
    ids, mask, labels = batch()
    nested = torch.zeros(2, 2, 6, dtype=torch.long)
    ids3, mask3, chosen3 = nested.clone(), nested.clone(), nested.clone()
    for row, (at, which) in enumerate([((0, 0), 0), ((0, 1), 1), ((1, 0), 1)]):
        ids3[at], mask3[at], chosen3[at] = ids[which], mask[which], (labels[which] != -100).long()
        assert row < 3
    output = model(ids3, mask3, task="choose", labels=torch.tensor([1, 0]), completion_mask=chosen3)
    likelihood, tokens = model(ids, mask, task="write", labels=labels).logits.T
    means = likelihood / tokens
    torch.testing.assert_close(output.logits[0], means)
    torch.testing.assert_close(output.logits[1, 0], means[1])
    assert output.logits[1, 1] < -1e30  # there is no such choice
    expected = (-log_softmax(means, dim=0)[1]) / 2  # the second question has one choice, which is certain
    assert output.loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_no_weight_is_there_twice_and_the_output_layer_is_frozen(build: Any, tmp_path: Path) -> None:
    model = build("llama", cards=LANGUAGE)
    whole = sum(parameter.numel() for parameter in model.language_model.parameters())
    counts = model.parameter_counts()
    heads = sum(parameter.numel() for parameter in model.head("tag").parameters())
    assert counts["total"] == whole + heads
    assert counts["heads"] == heads
    assert counts["trainable"] == counts["per_adapter"]["shared"] + heads
    assert sum(value.numel() for value in model.state_dict().values()) == counts["total"]
    assert all("lora_" in name or name.startswith("heads.tag") for name in trainable_state(model))
    model.save_pretrained(tmp_path)
    assert [path.name for path in (tmp_path / "heads").iterdir()] == ["tag.safetensors"]


def test_training_moves_adapter_weights_through_the_language_model(build: Any) -> None:
    model = build("llama", cards=LANGUAGE, noise=0.05).train()
    ids, mask, labels = batch()
    model(ids, mask, task="write", labels=labels).loss.backward()
    moved = [name for name, parameter in model.named_parameters() if parameter.grad is not None]
    assert moved
    assert all("lora_" in name for name in moved)


def test_without_an_adapter_the_whole_language_model_trains(build: Any, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = build("llama", cards=LANGUAGE[:1], lora=None)
    assert all(parameter.requires_grad for parameter in model.parameters())
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    torch.testing.assert_close(again.lm_head.weight, model.lm_head.weight)


def test_encoders_and_models_without_a_language_head_are_refused(build: Any) -> None:
    with pytest.raises(InputError, match="need a decoder"):
        build("bert", cards=LANGUAGE[:1])
    with pytest.raises(ValueError, match="built without"):
        _ = build("llama", cards=LANGUAGE[2:]).language_model


def test_the_readme_of_an_exported_adapter_runs_in_plain_peft(build: Any, tiny: Any, tmp_path: Path) -> None:
    import re
    import subprocess
    import sys

    from hf_crosstask.models.export import export_task_adapter

    model, made = build("llama", cards=LANGUAGE, noise=0.05), tiny("llama")
    base = made.source.name_or_path
    folder = export_task_adapter(model, LANGUAGE[0], tmp_path, tokenizer=made.tokenizer, base_model=base)
    [code] = re.findall(r"```python\n(.*?)```", (tmp_path / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    assert folder == tmp_path
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
