from __future__ import annotations

from typing import Any

import pytest

from hf_crosstask.encoding import encode_task
from hf_crosstask.errors import DataFormatError, InputError
from hf_crosstask.tasks.card import TaskCard
from hf_crosstask.tasks.schema import check_examples, make_example, to_dataset

CARD = TaskCard(
    name="invented",
    type="classification",
    level=2,
    labels=("yes", "no", "maybe"),
    primary_metric="accuracy",
    reader="jsonl",
)
QUESTION, CONTEXT = "Does metformin lower HbA1c?", "It did, in 12/15 patients (80%)."


def encode(pairs: list[tuple[str, str | None]], tokenizer, label: str = "no", **options: Any):
    rows = [
        make_example(f"e{i}", "invented", text, split_group="d", text_pair=second, labels=[label])
        for i, (text, second) in enumerate(pairs)
    ]
    check_examples(rows, "classification", (), source="test")
    return encode_task(to_dataset(rows), CARD, tokenizer, **{"max_length": 256, "causal": False, **options})


def ids(tokenizer, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("name", ["bert", "roberta", "wordpiece_unknown", "unigram_nfkc"])
def test_encoders_get_what_their_tokenizer_makes(tokenizers_by_name, name):
    tokenizer = tokenizers_by_name[name]
    encoded = encode([(QUESTION, CONTEXT), (QUESTION, None)], tokenizer)
    for row, expected in zip(encoded.dataset, [tokenizer(QUESTION, CONTEXT), tokenizer(QUESTION)], strict=True):
        for column in tokenizer.model_input_names:
            assert row[column] == expected[column]
        assert row["labels"] == 1
    assert encoded.report.examples_truncated == 0


@pytest.mark.parametrize("max_length", range(8, 40))
def test_only_the_pair_is_cut_as_long_as_the_text_fits(bert, max_length):
    encoded = encode([(QUESTION, CONTEXT)], bert, max_length=max_length)
    (row,) = encoded.dataset
    question, context = ids(bert, QUESTION), ids(bert, CONTEXT)
    room = max_length - 3
    kept = question[:room]
    rest = context[: room - len(kept)]
    cls, sep = bert.cls_token_id, bert.sep_token_id
    assert row["input_ids"] == [cls, *kept, sep, *rest, sep]
    assert row["token_type_ids"] == [0] * (len(kept) + 2) + [1] * (len(rest) + 1)
    assert encoded.report.examples_truncated == int(len(question) + len(context) > room)
    if len(question) < room:  # transformers cuts the second text alone in the same way
        theirs = bert(QUESTION, CONTEXT, truncation="only_second", max_length=max_length)
        assert row["input_ids"] == theirs["input_ids"]


def test_a_single_text_is_cut_at_its_end(bert):
    encoded = encode([(CONTEXT, None), ("It did.", None)], bert, max_length=8)
    assert encoded.dataset[0]["input_ids"] == bert(CONTEXT, truncation=True, max_length=8)["input_ids"]
    assert encoded.report.examples_truncated == 1


@pytest.mark.parametrize("max_length", [12, 256])
@pytest.mark.parametrize("name", ["phi3", "llama", "gemma2", "qwen2", "mistral", "metaspace", "gemma_spaces"])
def test_causal_rows_end_with_their_text(tokenizers_by_name, name, max_length):
    tokenizer = tokenizers_by_name[name]
    encoded = encode([(QUESTION, CONTEXT), (QUESTION, None)], tokenizer, causal=True, max_length=max_length)
    start = tokenizer("a")["input_ids"][: tokenizer.num_special_tokens_to_add()]
    pair, single = (row["input_ids"] for row in encoded.dataset)
    for row in (pair, single):
        assert len(row) <= max_length
        assert row[: len(start)] == start
    if max_length == 256:
        assert pair == [*start, *ids(tokenizer, QUESTION), *ids(tokenizer, "\n" + CONTEXT)]
        assert QUESTION + "\n" in tokenizer.decode(pair).replace("? ", "?")
        assert single == tokenizer(QUESTION)["input_ids"]  # what a pipeline feeds


def test_texts_without_a_separator_stand_on_two_lines(tokenizers_by_name):
    tokenizer = tokenizers_by_name["qwen2"]
    (row,) = encode([(QUESTION, CONTEXT)], tokenizer).dataset
    assert row["input_ids"] == ids(tokenizer, QUESTION) + ids(tokenizer, "\n" + CONTEXT)


def test_an_unknown_label_is_an_error(bert):
    with pytest.raises(DataFormatError, match=r"invented: example 'e0': unknown label 'yess'; did you mean 'yes'"):
        encode([(QUESTION, None)], bert, label="yess")


def test_a_pair_needs_room_beside_its_special_tokens(bert):
    with pytest.raises(InputError, match="3 special tokens"):
        encode([(QUESTION, CONTEXT)], bert, max_length=3)
