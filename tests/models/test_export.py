from __future__ import annotations

import json
import os
import re

import pytest
import torch
from peft import AutoPeftModelForSequenceClassification, AutoPeftModelForTokenClassification
from transformers import AutoTokenizer, pipeline

from hf_crosstask.models.adapters import LoraSettings
from hf_crosstask.models.export import export_task_adapter, label_names
from hf_crosstask.models.tiny import FAMILIES

KINDS = {
    "drugs": (AutoPeftModelForTokenClassification, "token-classification"),
    "answer": (AutoPeftModelForSequenceClassification, "text-classification"),
}


def export(model, card, folder, made):
    return export_task_adapter(model, card, folder, tokenizer=made.tokenizer, base_model=made.source.name_or_path)


def loaded(card, folder):
    labels = json.loads((folder / "labels.json").read_text())
    assert labels == label_names(card)
    names = {"id2label": dict(enumerate(labels)), "label2id": {name: i for i, name in enumerate(labels)}}
    return KINDS[card.name][0].from_pretrained(folder, num_labels=len(labels), **names).eval()


@torch.no_grad()
def check_logits(model, card, folder, made):
    assert export(model, card, folder, made) == folder
    theirs, batch = loaded(card, folder), made.encoded()
    ours = model(task=card.name, **batch).logits
    kept = batch["attention_mask"].bool() if card.type == "ner" else slice(None)
    torch.testing.assert_close(theirs(**batch).logits[kept], ours[kept], rtol=0, atol=1e-5)
    return theirs


@pytest.mark.parametrize("family", FAMILIES)
def test_plain_peft_classes_give_our_logits(build, tiny, cards, tmp_path, family):
    model, made = build(family, noise=0.05), tiny(family)
    for card in cards[:2]:
        theirs = check_logits(model, card, tmp_path / card.name, made)
        run = pipeline(
            KINDS[card.name][1],
            model=theirs.merge_and_unload(),
            tokenizer=AutoTokenizer.from_pretrained(tmp_path / card.name),
        )
        found = run("the patient took aspirin for her headache .")
        names = {entry.get("entity", entry.get("label")) for entry in found}
        assert names <= set(label_names(card))
        if card.type == "classification":
            batch = made.tokenizer("the patient took aspirin for her headache .", return_tensors="pt")
            inputs = {name: batch[name] for name in batch if name in ("input_ids", "attention_mask", "token_type_ids")}
            with torch.no_grad():
                ours = model(task=card.name, **inputs).logits.softmax(-1)[0]
            assert found[0]["label"] == card.labels[int(ours.argmax())]
            assert found[0]["score"] == pytest.approx(float(ours.max()), abs=1e-4)


@pytest.mark.parametrize(
    "settings",
    [
        LoraSettings(r=4, train_embeddings=True),
        LoraSettings(r=4, use_rslora=True, target_modules=("query", "value")),
        LoraSettings(r=4, use_dora=True),
    ],
    ids=["embeddings", "rslora", "dora"],
)
def test_every_kind_of_adapter_exports(build, tiny, cards, tmp_path, settings):
    model = build("bert", noise=0.02, lora=settings)
    for card in cards[:2]:
        check_logits(model, card, tmp_path / card.name, tiny("bert"))


def test_the_folder_is_a_plain_adapter_without_pickles(build, tiny, cards, tmp_path):
    export(build("bert"), cards[0], tmp_path, tiny("bert"))
    names = {path.name for path in tmp_path.iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "labels.json", "README.md", "tokenizer.json"} <= names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pth"))]
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == tiny("bert").source.name_or_path
    assert config["task_type"] == "TOKEN_CLS"
    assert config["inference_mode"] is True


def test_exporting_does_not_change_the_model(build, tiny, cards, tmp_path):
    model, before = build("bert", noise=0.05), build("bert", noise=0.05)
    settings = model.backbone.peft_config["shared"]
    for card in cards[:2]:
        export(model, card, tmp_path / card.name, tiny("bert"))
    assert settings.task_type == "FEATURE_EXTRACTION"
    assert settings.inference_mode is False
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), before.parameters(), strict=True))


def test_what_transformers_has_no_class_for_is_not_exported(build, tiny, cards, tmp_path):
    assert export(build("bert"), cards[2], tmp_path / "relation", tiny("bert")) is None
    assert export(build("bert", lora=None), cards[0], tmp_path / "full", tiny("bert")) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [0, 1])
def test_the_readme_s_example_runs(build, tiny, cards, tmp_path, number, capsys, monkeypatch):
    export(build("bert", noise=0.05), cards[number], tmp_path, tiny("bert"))
    text = (tmp_path / "README.md").read_text()
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert code
    monkeypatch.chdir(tmp_path)
    exec(code[1].replace("…", "aspirin helped"), {})
    assert "'score'" in capsys.readouterr().out
    assert os.getcwd() == str(tmp_path)
