from __future__ import annotations

import json
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer

from hf_crosstask.errors import InputError
from hf_crosstask.models.tiny import FAMILIES, build_tiny, family_of, is_tiny
from hf_crosstask.models.tiny_tokenizer import VOCABULARY
from hf_crosstask.tasks.readers.base import Source
from hf_crosstask.tasks.synthetic import SYNTHETIC_CARDS, read

DECODERS = ("phi3", "llama", "gemma2", "qwen2", "mistral")
BOS_FIRST = ("llama", "gemma2", "mistral")
CLASSES = {
    "bert": "BertModel",
    "roberta": "RobertaModel",
    "phi3": "Phi3Model",
    "llama": "LlamaModel",
    "gemma2": "Gemma2Model",
    "qwen2": "Qwen2Model",
    "mistral": "MistralModel",
}


def training_texts() -> list[str]:
    splits = [
        read(Source(card, options={"train": 200, "validation": 1, "test": 1})).splits for card in SYNTHETIC_CARDS
    ]
    return [row["text"] for split in splits for row in split["train"]]


TEXTS = training_texts()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("tiny")
    return {family: build_tiny(f"tiny:{family}", TEXTS, folder) for family in FAMILIES}


@pytest.fixture(scope="module")
def tokenizers(models: dict[str, Path]) -> dict[str, Any]:
    return {family: AutoTokenizer.from_pretrained(path) for family, path in models.items()}


def manifest(path: Path) -> dict[str, Any]:
    return json.loads((path / "tiny_model.json").read_text())


@pytest.mark.parametrize("family", FAMILIES)
def test_plain_transformers_loads_it(models: dict[str, Path], tokenizers: dict[str, Any], family: str) -> None:
    config = AutoConfig.from_pretrained(models[family])
    assert config.model_type == family
    assert config.num_hidden_layers == 2
    tokenizer = tokenizers[family]
    assert tokenizer.is_fast
    assert len(tokenizer) == config.vocab_size <= VOCABULARY
    assert config.pad_token_id == tokenizer.pad_token_id is not None
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    model, loading = AutoModel.from_pretrained(models[family], output_loading_info=True)
    assert type(model).__name__ == CLASSES[family]
    assert not loading["missing_keys"]  # or transformers would make them up
    assert sum(parameter.numel() for parameter in model.parameters()) < 1_000_000
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    ids = torch.full((1, tokenizer.model_max_length), tokenizer.convert_tokens_to_ids("a"))
    assert tokenizer.model_max_length >= 1024
    with torch.no_grad():
        assert model(input_ids=ids).last_hidden_state.isfinite().all()


@pytest.mark.parametrize("family", DECODERS)
def test_decoders_generate(models: dict[str, Path], tokenizers: dict[str, Any], family: str) -> None:
    model, loading = AutoModelForCausalLM.from_pretrained(models[family], output_loading_info=True)
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    batch = tokenizers[family]("Nurse 3 saw", return_tensors="pt")
    assert model.generate(**batch, max_new_tokens=3, min_new_tokens=3).shape[1] == batch["input_ids"].shape[1] + 3


@pytest.mark.parametrize("family", FAMILIES)
def test_special_tokens_stand_where_the_family_puts_them(tokenizers: dict[str, Any], family: str) -> None:
    tokenizer = tokenizers[family]
    one, two = (tokenizer.convert_ids_to_tokens(tokenizer(*pair)["input_ids"]) for pair in (("a",), ("a", "b")))
    if family == "bert":
        assert (one, two) == (["[CLS]", "a", "[SEP]"], ["[CLS]", "a", "[SEP]", "b", "[SEP]"])
        assert tokenizer("a", "b")["token_type_ids"] == [0, 0, 0, 1, 1]
    elif family == "roberta":
        assert (one, two) == (["<s>", "a", "</s>"], ["<s>", "a", "</s>", "</s>", "b", "</s>"])
        assert tokenizer.pad_token_id == 1  # position ids count from it
    elif family in BOS_FIRST:
        assert one == [tokenizer.bos_token, "a"]
    else:
        assert one == ["a"]
    assert (tokenizer.mask_token is not None) == (family in ("bert", "roberta"))


@pytest.mark.parametrize("family", DECODERS)
def test_chat_template_marks_what_the_assistant_says(tokenizers: dict[str, Any], family: str) -> None:
    tokenizer = tokenizers[family]
    chat = [{"role": role, "content": text} for role, text in (("system", "s"), ("user", "u"), ("assistant", "a"))]
    out = tokenizer.apply_chat_template(chat, return_assistant_tokens_mask=True, return_dict=True)
    tokens = tokenizer.convert_ids_to_tokens(out["input_ids"])
    said = [token for token, mask in zip(tokens, out["assistant_masks"], strict=True) if mask]
    assert said == ["a", tokenizer.eos_token]
    assert tokens[-3:] == ["<|assistant|>", *said]
    assert tokens.count(tokenizer.bos_token) == (family in BOS_FIRST)
    prompt = tokenizer.apply_chat_template(chat[:2], add_generation_prompt=True, return_dict=True)["input_ids"]
    assert prompt == out["input_ids"][:-2]


@pytest.mark.parametrize("family", FAMILIES)
@given(text=st.text(max_size=40))
@settings(max_examples=40, deadline=None)
def test_no_text_is_unknown(tokenizers: dict[str, Any], family: str, text: str) -> None:
    tokenizer = tokenizers[family]
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert family == "qwen2" or tokenizer.unk_token_id is None or tokenizer.unk_token_id not in ids
    if family != "bert":  # which drops case, accents and control characters
        assert tokenizer.decode(ids) == unicodedata.normalize("NFC", text)


@pytest.mark.parametrize("family", FAMILIES)
def test_offsets_find_the_words(tokenizers: dict[str, Any], family: str) -> None:
    for text in (TEXTS[0], "Zürich: naïve 漢字 and x²."):
        encoded = tokenizers[family](text, return_offsets_mapping=True, add_special_tokens=False)
        covered = {i for start, end in encoded["offset_mapping"] for i in range(start, end)}
        assert {i for i, character in enumerate(text) if not character.isspace()} <= covered


@pytest.mark.parametrize("family", FAMILIES)
def test_the_tokenizer_file_is_what_transformers_uses(
    models: dict[str, Path], tokenizers: dict[str, Any], family: str
) -> None:
    """transformers rebuilds some families' tokenizers from their vocabulary alone."""
    backend = Tokenizer.from_file(str(models[family] / "tokenizer.json"))
    for text in (*TEXTS[:20], "Room 1234, don't   wait: naïve\n\n x²"):
        encoded = tokenizers[family](text, return_offsets_mapping=True)
        assert (encoded["input_ids"], encoded["offset_mapping"]) == (
            backend.encode(text).ids,
            backend.encode(text).offsets,
        )


def test_frequent_words_are_one_token(tokenizers: dict[str, Any]) -> None:
    for family, tokenizer in tokenizers.items():
        words = TEXTS[0].split()
        assert len(tokenizer(TEXTS[0], add_special_tokens=False)["input_ids"]) <= len(words) + 3, family


def test_random_number_generators_are_left_alone(tmp_path: Path) -> None:
    import random

    import numpy as np

    torch.manual_seed(1)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    one = build_tiny("tiny:llama", TEXTS, tmp_path / "one")
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before[1:]
    torch.manual_seed(2)
    assert manifest(build_tiny("tiny:llama", TEXTS, tmp_path / "two")) == manifest(one)


@pytest.mark.slow
def test_two_processes_at_once_make_the_same_models(models: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "texts.json").write_text(json.dumps(TEXTS[::-1]))  # the order does not matter
    code = """
import json, sys, time
from pathlib import Path
from hf_crosstask.models.tiny import FAMILIES, build_tiny
folder, me, other = Path(sys.argv[1]), *sys.argv[2:]
texts = json.loads((folder / "texts.json").read_text())
build_tiny("tiny:bert", texts, folder / me)  # all imports are done
(folder / f"{me}.ready").touch()
while not (folder / f"{other}.ready").exists():
    time.sleep(0.001)
for family in FAMILIES:
    build_tiny(f"tiny:{family}", texts, folder / "models")
"""
    pairs = (("one", "two"), ("two", "one"))
    processes = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), *pair]) for pair in pairs]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    for path in models.values():
        assert manifest(tmp_path / "models" / path.name) == manifest(path)
    assert len(list((tmp_path / "models").iterdir())) == len(FAMILIES)


def test_seed_and_texts_make_the_model(models: dict[str, Path], tmp_path: Path) -> None:
    usual = manifest(models["phi3"])["files"]
    other_seed = manifest(build_tiny("tiny:phi3", TEXTS, tmp_path, seed=1))["files"]
    assert other_seed["model.safetensors"] != usual["model.safetensors"]
    assert other_seed["tokenizer.json"] == usual["tokenizer.json"]
    other_texts = build_tiny("tiny:phi3", TEXTS[:100], tmp_path)
    assert manifest(other_texts)["files"]["tokenizer.json"] != usual["tokenizer.json"]
    assert len({path.name for path in tmp_path.iterdir()}) == 2


def test_made_once_and_made_again_when_damaged(tmp_path: Path) -> None:
    path = build_tiny("tiny:bert", iter(TEXTS), tmp_path)
    weights = path / "model.safetensors"
    first = weights.stat().st_mtime_ns, manifest(path)
    assert build_tiny("tiny:bert", TEXTS, tmp_path) == path
    assert weights.stat().st_mtime_ns == first[0]
    weights.write_bytes(weights.read_bytes()[:100])
    assert build_tiny("tiny:bert", TEXTS, tmp_path) == path
    assert weights.stat().st_size > 1000
    (path / "config.json").unlink()
    build_tiny("tiny:bert", TEXTS, tmp_path)
    assert manifest(path) == first[1]
    assert [item.name for item in tmp_path.iterdir()] == [path.name]  # no temporary folder stays


def test_an_interrupted_build_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hf_crosstask.models.tiny.write_json", stop)
    with pytest.raises(KeyboardInterrupt):
        build_tiny("tiny:bert", TEXTS, tmp_path)
    assert not list(tmp_path.iterdir())


def test_names() -> None:
    assert is_tiny("tiny:bert")
    assert is_tiny("tiny:nothing")
    assert not is_tiny("bert-base-uncased")
    assert not is_tiny("./tiny")
    assert family_of("tiny:gemma2") == "gemma2"
    with pytest.raises(InputError, match="unknown tiny model 'tiny:gema2'; did you mean 'tiny:gemma2'"):
        family_of("tiny:gema2")


@pytest.mark.parametrize("texts", [[], ["", " \n"]])
def test_no_texts(tmp_path: Path, texts: list[str]) -> None:
    with pytest.raises(InputError, match="tiny:bert: a tiny model trains its tokenizer"):
        build_tiny("tiny:bert", texts, tmp_path / "models")
    assert not (tmp_path / "models").exists()
