from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hf_crosstask.encoding.alignment import align
from hf_crosstask.encoding.encoder import EncodingContext
from hf_crosstask.encoding.layout import pair_layout, single_layout
from hf_crosstask.tasks.card import TaskCard


def context(tokenizer, segmentation: str = "regex") -> EncodingContext:
    card = TaskCard(
        name="t",
        type="ner",
        level=1,
        labels=("X",),
        primary_metric="entity_f1",
        reader="iob",
        segmentation=segmentation,
    )
    return EncodingContext(card, tokenizer, 64, 0, False, "window", single_layout(tokenizer), pair_layout(tokenizer))


@pytest.mark.parametrize("segmentation", ["regex", "whitespace"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20, deadline=None)
@given(texts=st.lists(st.text(alphabet="aIL2β½é\u0301漢😀- (.)\n\u2009▁Ġ_'s±", min_size=1), min_size=1, max_size=5))
def test_every_token_belongs_to_one_word_and_words_stand_in_order(tokenizer, segmentation, texts):
    for text, aligned in zip(texts, align(texts, context(tokenizer, segmentation)), strict=True):
        assert len(aligned.ids) == len(aligned.token_word)
        assert (np.diff(aligned.present) > 0).all()
        assert (aligned.first < aligned.end).all()
        assert (aligned.end[:-1] <= aligned.first[1:]).all()
        for word, first, end in zip(aligned.present, aligned.first, aligned.end, strict=True):
            assert aligned.token_word[first] == word == aligned.token_word[end - 1]
        assert aligned.spans.shape[1] == 2
        assert aligned.spans.max(initial=0) <= len(text)


def decoded_words(tokenizer, text: str) -> list[str]:
    (aligned,) = align([text], context(tokenizer))
    return [
        tokenizer.decode(aligned.ids[first:end], clean_up_tokenization_spaces=False).strip()
        for first, end in zip(aligned.first, aligned.end, strict=True)
    ]


@pytest.mark.parametrize("name", ["phi3", "qwen2", "metaspace", "gemma_spaces", "roberta"])
def test_the_tokens_of_a_word_spell_the_word(tokenizers_by_name, name):
    text = "The patient's (IL-2) serum, α-synuclein... rose±3.5 %)."
    expected = ["The", "patient", "'", "s", "(", "IL", "-", "2", ")", "serum", ",", "α", "-", "synuclein", ".", ".", ".",
                "rose", "±", "3", ".", "5", "%", ")", "."]  # fmt: skip
    assert decoded_words(tokenizers_by_name[name], text) == expected


def test_text_that_needs_no_cut_is_tokenized_as_it_stands(tokenizers_by_name):
    tokenizer = tokenizers_by_name["roberta"]
    text = "The patient rose"
    (aligned,) = align([text], context(tokenizer))
    assert aligned.ids == tokenizer(text, add_special_tokens=False)["input_ids"]


def test_a_token_over_two_words_is_split_at_their_edge(tokenizers_by_name):
    tokenizer = tokenizers_by_name["wordpiece_unknown"]  # knows no "±": "5±2" is one unknown token
    (aligned,) = align(["5±2"], context(tokenizer))
    assert tokenizer.convert_ids_to_tokens(aligned.ids) == ["5", "[UNK]", "2"]
    assert aligned.token_word.tolist() == [0, 1, 2]


def test_the_space_before_a_text_is_no_token_of_its_first_word(tokenizers_by_name):
    (aligned,) = align(["β x"], context(tokenizers_by_name["metaspace"]))
    assert aligned.token_word.tolist()[:2] == [-1, 0]


def test_special_tokens_written_out_are_text(tokenizers_by_name):
    for name in ("bert", "llama", "qwen2"):
        tokenizer = tokenizers_by_name[name]
        for token in set(tokenizer.all_special_tokens):
            (aligned,) = align([f"a {token} b"], context(tokenizer, "whitespace"))
            assert not set(aligned.ids) & set(tokenizer.all_special_ids)
            assert len(aligned.present) == 3
