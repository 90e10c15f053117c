"""Tokenizers of the tiny models: trained on the texts at hand, shaped like the real family's.

Training is deterministic: the same texts in any order give the same file. (The WordPiece trainer of `tokenizers`
is not: it numbers pieces in the order of a randomly seeded hash map. The WordPiece vocabulary is therefore derived
from a byte-pair training.) Every tokenizer works on bytes, so that no text is unknown to it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from tokenizers.pre_tokenizers import PreTokenizer
    from tokenizers.processors import PostProcessor
    from transformers import PreTrainedTokenizerFast

VOCABULARY = 2000
MAX_LENGTH = 1024
_WORD_START = "▁"  # stands before a word while pieces are learned; it is none of the byte characters
_INPUTS = ["input_ids", "attention_mask"]
_MAX_WORD_BYTES = 10_000  # a longer word would become [UNK]

_ROLES = ("system", "user", "assistant")
#: Each turn is `<|role|>`, the content and the end token; training masks everything but the assistant's part.
_CHAT_TEMPLATE = (
    "{{ bos_token if bos_token and __ADD_BOS__ else '' }}"
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + eos_token }}{% endgeneration %}"
    "{% else %}{{ message['content'] + eos_token }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


@dataclass(frozen=True)
class SpecialTokens:
    """Special tokens of a family, named as transformers names them.

    Attributes:
        names: role (`pad_token`, …) to token, in the order of their ids. Several roles may name one token.
        add_bos: the family puts `bos_token` before every text.
    """

    names: dict[str, str]
    add_bos: bool = False


SPECIAL_TOKENS: dict[str, SpecialTokens] = {
    "bert": SpecialTokens(
        {
            "pad_token": "[PAD]",
            "unk_token": "[UNK]",
            "cls_token": "[CLS]",
            "sep_token": "[SEP]",
            "mask_token": "[MASK]",
        }
    ),
    "roberta": SpecialTokens(
        {
            "bos_token": "<s>",
            "pad_token": "<pad>",
            "eos_token": "</s>",
            "unk_token": "<unk>",
            "mask_token": "<mask>",
            "cls_token": "<s>",
            "sep_token": "</s>",
        }
    ),
    "phi3": SpecialTokens(
        {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "<|endoftext|>", "pad_token": "<pad>"}
    ),
    "llama": SpecialTokens(
        {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>", "pad_token": "<|finetune_right_pad_id|>"},
        add_bos=True,
    ),
    "gemma2": SpecialTokens(
        {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>", "unk_token": "<unk>"}, add_bos=True
    ),
    "qwen2": SpecialTokens({"pad_token": "<|endoftext|>", "eos_token": "<|im_end|>"}),
    "mistral": SpecialTokens(
        {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}, add_bos=True
    ),
}


def train_tokenizer(family: str, texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """A fast tokenizer of at most `VOCABULARY` tokens for one family, trained on `texts`.

    Args:
        family: a key of `SPECIAL_TOKENS`.
        texts: the texts; their order does not matter.
    """
    from transformers import PreTrainedTokenizerFast

    special = SPECIAL_TOKENS[family]
    tokens = list(dict.fromkeys(special.names.values()))
    if family == "bert":
        return PreTrainedTokenizerFast(
            tokenizer_object=_wordpiece(tokens, texts),
            model_max_length=MAX_LENGTH,
            model_input_names=["input_ids", "token_type_ids", "attention_mask"],
            **special.names,
        )
    if family == "roberta":
        backend = _byte_bpe(tokens, texts, _byte_level())
        backend.post_processor = _roberta_post_processor(backend)
        return PreTrainedTokenizerFast(
            tokenizer_object=backend, model_max_length=MAX_LENGTH, model_input_names=_INPUTS, **special.names
        )
    turns = [f"<|{role}|>" for role in _ROLES]
    backend = _byte_bpe([*tokens, *turns], texts, _qwen2_pre_tokenizer() if family == "qwen2" else _byte_level())
    backend.post_processor = _decoder_post_processor(backend, special)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=MAX_LENGTH,
        extra_special_tokens=turns,
        model_input_names=_INPUTS,
        **special.names,
    )
    tokenizer.chat_template = _CHAT_TEMPLATE.replace("__ADD_BOS__", str(special.add_bos).lower())
    return tokenizer


def _byte_bpe(special: list[str], texts: Sequence[str], pre_tokenizer: PreTokenizer) -> Tokenizer:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        min_frequency=2,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _byte_level() -> PreTokenizer:
    from tokenizers import pre_tokenizers

    return pre_tokenizers.ByteLevel(add_prefix_space=False)


def _qwen2_pre_tokenizer() -> PreTokenizer:
    """The real one: transformers rebuilds it for every model of type qwen2, whatever the tokenizer file says."""
    from tokenizers import Regex, pre_tokenizers
    from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

    split = pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated", invert=False)
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def _roberta_post_processor(tokenizer: Tokenizer) -> PostProcessor:
    from tokenizers import processors

    ids = tokenizer.get_vocab()
    return processors.RobertaProcessing(
        ("</s>", ids["</s>"]), ("<s>", ids["<s>"]), trim_offsets=True, add_prefix_space=False
    )


def _decoder_post_processor(tokenizer: Tokenizer, special: SpecialTokens) -> PostProcessor:
    """Offsets keep the space before a word, as those of the real byte-level families do."""
    from tokenizers import processors

    byte_level = processors.ByteLevel(trim_offsets=False)
    if not special.add_bos:
        return byte_level
    bos = special.names["bos_token"]
    template = processors.TemplateProcessing(
        single=f"{bos}:0 $A:0",
        pair=f"{bos}:0 $A:0 {bos}:1 $B:1",
        special_tokens=[(bos, tokenizer.token_to_id(bos))],
    )
    return processors.Sequence([byte_level, template])


def _wordpiece(special: list[str], texts: Sequence[str]) -> Tokenizer:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    normalizer = normalizers.BertNormalizer(lowercase=True)
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.BertPreTokenizer(), byte_level])
    words = Counter(
        word for text in texts for word, _ in pre_tokenizer.pre_tokenize_str(normalizer.normalize_str(text))
    )
    vocabulary = _wordpiece_vocabulary(special, words)
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=_MAX_WORD_BYTES))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    space = decoders.Replace(" ", "Ġ")  # the byte decoder's own name of a space
    tokenizer.decoder = decoders.Sequence([decoders.WordPiece(prefix="##"), space, decoders.ByteLevel()])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")],
    )
    return tokenizer


def _wordpiece_vocabulary(special: list[str], words: Counter[str]) -> dict[str, int]:
    """Special tokens, every byte as the start and as the rest of a word, then learned pieces by their merge order."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    learner = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(vocab_size=2 * VOCABULARY, min_frequency=2, show_progress=False)
    learner.train_from_iterator((_WORD_START + word for word in sorted(words.elements())), trainer)
    learned = sorted(learner.get_vocab().items(), key=lambda item: item[1])
    pieces = [
        piece.removeprefix(_WORD_START) if piece.startswith(_WORD_START) else f"##{piece}" for piece, _ in learned
    ]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    ordered = [*special, *alphabet, *(f"##{character}" for character in alphabet), *filter(None, pieces)]
    return {piece: number for number, piece in enumerate(list(dict.fromkeys(ordered))[:VOCABULARY])}
