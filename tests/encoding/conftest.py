"""Tokenizers of every family the library meets, trained on a few invented sentences."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEXTS = [
    "Aspirin inhibits COX-2 (PTGS2), but not IL-2-induced p53 activation.",
    "The patient's serum (3.5 mg/dL) rose; α-synuclein and TNF-α were unchanged.",
    "Does metformin lower HbA1c? Yes: it did, in 12/15 patients (80%)...",
    "β2-adrenergic receptors bind salbutamol. Naïve T-cells—CD4+—express CD28.",
]
TINY = ("bert", "roberta", "phi3", "llama", "gemma2", "qwen2", "mistral")
REAL_SHAPES = ("wordpiece_unknown", "metaspace", "metaspace_nobos", "gemma_spaces", "unigram_nfkc")


def _bpe_parts(pre_tokenizer_of_words: bool) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges in the SentencePiece manner: `▁` for spaces, single bytes as `<0x..>`."""
    import json

    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    if pre_tokenizer_of_words:
        tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    specials = ["<unk>", "<s>", "</s>", "<pad>", "<bos>", "<eos>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator(["▁" + text for text in TEXTS] * 4, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(merge) for merge in model["merges"]]


def _wordpiece_unknown() -> PreTrainedTokenizerBase:
    """A real BERT tokenizer whose small vocabulary leaves symbols, and the words around them, unknown."""
    from transformers import BertTokenizer

    letters = "abcdefghijklmnopqrstuvwxyz0123456789-.,;:()/%?'"
    pieces = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *letters,
        *(f"##{c}" for c in letters),
        "patient",
        "aspirin",
    ]
    return BertTokenizer(vocab={piece: number for number, piece in enumerate(pieces)}, model_max_length=512)


def _metaspace(add_bos_token: bool) -> PreTrainedTokenizerBase:
    """Llama-1, Mistral and Phi-3: a space before every text, merges across punctuation, bytes for the unknown."""
    from transformers import LlamaTokenizer

    vocab, merges = _bpe_parts(pre_tokenizer_of_words=True)
    return LlamaTokenizer(vocab=vocab, merges=merges, add_bos_token=add_bos_token)


def _gemma_spaces() -> PreTrainedTokenizerBase:
    """Gemma: no space before the text, spaces as `▁`; trained over spaces so that tokens may hold two words."""
    from transformers import GemmaTokenizer

    vocab, merges = _bpe_parts(pre_tokenizer_of_words=False)
    return GemmaTokenizer(vocab=vocab, merges=merges)


def _unigram_nfkc() -> PreTrainedTokenizerBase:
    """XLM-R and DeBERTa-v3: NFKC normalisation, which changes the number of characters."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    specials = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=200, special_tokens=specials, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(TEXTS * 4, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
    )


_MAKERS: dict[str, Callable[[], PreTrainedTokenizerBase]] = {
    "wordpiece_unknown": _wordpiece_unknown,
    "metaspace": lambda: _metaspace(add_bos_token=True),
    "metaspace_nobos": lambda: _metaspace(add_bos_token=False),
    "gemma_spaces": _gemma_spaces,
    "unigram_nfkc": _unigram_nfkc,
}


@pytest.fixture(scope="session")
def tokenizers_by_name() -> dict[str, PreTrainedTokenizerBase]:
    """Every tokenizer by name, made once."""
    from hf_crosstask.models.tiny_tokenizer import train_tokenizer

    made = {name: train_tokenizer(name, TEXTS * 4) for name in TINY}
    return {**made, **{name: make() for name, make in _MAKERS.items()}}


@pytest.fixture(params=[*TINY, *REAL_SHAPES])
def tokenizer(request: pytest.FixtureRequest, tokenizers_by_name: dict[str, PreTrainedTokenizerBase]):
    """Each tokenizer in turn."""
    return tokenizers_by_name[request.param]


@pytest.fixture(scope="session")
def bert(tokenizers_by_name: dict[str, PreTrainedTokenizerBase]):
    return tokenizers_by_name["bert"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Encodings of a test are cached in its own folder, and its progress bars stay quiet."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
