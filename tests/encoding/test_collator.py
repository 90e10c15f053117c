from __future__ import annotations

import pytest
import torch
from datasets import Dataset

from hf_crosstask.encoding import MultiTaskCollator
from hf_crosstask.encoding.collator import pad_token_id
from hf_crosstask.errors import InputError

NER = [
    {
        "example_index": 0,
        "input_ids": [5, 6, 7],
        "attention_mask": [1, 1, 1],
        "token_type_ids": [0, 0, 1],
        "labels": [-100, 1, 2],
        "word_index": [0],
        "word_position": [1],
    },
    {
        "example_index": 1,
        "input_ids": [8],
        "attention_mask": [1],
        "token_type_ids": [1],
        "labels": [0],
        "word_index": [],
        "word_position": [],
    },
]


def test_token_labels_are_padded_with_minus_100_on_the_right():
    batch = MultiTaskCollator(9)(NER)
    assert {name: tensor.tolist() for name, tensor in batch.items()} == {
        "input_ids": [[5, 6, 7], [8, 9, 9]],
        "attention_mask": [[1, 1, 1], [1, 0, 0]],
        "token_type_ids": [[0, 0, 1], [1, 0, 0]],
        "labels": [[-100, 1, 2], [0, -100, -100]],
    }
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


def test_sequence_labels_and_positions_are_stacked():
    rows = [
        {
            "example_index": i,
            "input_ids": [1] * size,
            "attention_mask": [1] * size,
            "labels": i,
            "entity_positions": [0, i],
        }
        for i, size in enumerate((2, 5))
    ]
    batch = MultiTaskCollator(0)(rows)
    assert batch["labels"].tolist() == [0, 1]
    assert batch["entity_positions"].tolist() == [[0, 0], [0, 1]]
    assert batch["labels"].dtype == torch.int64
    scores = MultiTaskCollator(0)([{"input_ids": [1], "labels": 0.5}])["labels"]
    assert scores.dtype == torch.float32


def test_lengths_are_rounded_up():
    batch = MultiTaskCollator(9, pad_to_multiple_of=8)(NER)
    assert {tensor.shape for tensor in batch.values()} == {(2, 8)}
    assert batch["labels"][0].tolist() == [-100, 1, 2] + [-100] * 5
    assert MultiTaskCollator(9, pad_to_multiple_of=3)(NER)["input_ids"].shape == (2, 3)


@pytest.mark.parametrize("kind", [None, "numpy", "torch"])
def test_rows_of_any_dataset_format_collate_alike(kind):
    dataset = Dataset.from_list(NER).with_format(kind)
    batch = MultiTaskCollator(9)([dataset[0], dataset[1]])
    expected = MultiTaskCollator(9)(NER)
    assert batch.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(batch[name], tensor)


def test_a_mask_is_made_where_rows_have_none_and_kept_where_they_have():
    collate = MultiTaskCollator(0)
    assert collate([{"input_ids": [1, 2]}, {"input_ids": [3]}])["attention_mask"].tolist() == [[1, 1], [1, 0]]
    masked = collate([{"input_ids": [1, 2], "attention_mask": [1, 0]}])
    assert masked["attention_mask"].tolist() == [[1, 0]]


def test_labels_must_be_as_long_as_the_row():
    with pytest.raises(ValueError, match="labels"):
        MultiTaskCollator(0)([{"input_ids": [1, 2], "labels": [0]}])


def test_padding_token_is_found_or_missed_clearly(tokenizers_by_name):
    assert pad_token_id(tokenizers_by_name["bert"]) == tokenizers_by_name["bert"].pad_token_id
    llama = tokenizers_by_name["metaspace"]
    assert llama.pad_token_id is None
    assert pad_token_id(llama) == llama.eos_token_id
    assert MultiTaskCollator.for_tokenizer(llama)(NER)["input_ids"][1, 1] == llama.eos_token_id
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    with pytest.raises(InputError, match="neither a pad_token nor an eos_token"):
        pad_token_id(PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE())))
