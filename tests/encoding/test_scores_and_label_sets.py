"""Label sets and similarity scores: the texts as in classification, the targets as numbers."""

from __future__ import annotations

from typing import Any

import pytest

from hf_crosstask.encoding import MultiTaskCollator, encode_task
from hf_crosstask.errors import DataFormatError
from hf_crosstask.tasks.card import TaskCard
from hf_crosstask.tasks.schema import check_examples, make_example, to_dataset

SETS = TaskCard(
    name="sets", type="multilabel", level=2, labels=("a", "b", "c"), primary_metric="micro_f1", reader="jsonl"
)
PAIRS = TaskCard(
    name="pairs", type="similarity", level=2, score_range=(0, 4), primary_metric="pearson", reader="jsonl"
)
LONG = "Aspirin inhibits COX-2 (PTGS2), but not IL-2-induced p53 activation in the patient's serum."


def encode(card: TaskCard, rows: list[dict[str, Any]], tokenizer, **options: Any):
    check_examples(rows, card.type, card.labels, source="test")
    return encode_task(to_dataset(rows), card, tokenizer, **{"max_length": 64, "causal": False, **options})


def sets(*labels: list[str], **fields: Any) -> list[dict[str, Any]]:
    return [make_example(f"e{i}", "sets", LONG, split_group="d", labels=row, **fields) for i, row in enumerate(labels)]


def pairs(*scores: float, second: str = "It rose.") -> list[dict[str, Any]]:
    return [
        make_example(f"e{i}", "pairs", LONG, split_group="d", text_pair=second, score=score)
        for i, score in enumerate(scores)
    ]


def test_a_label_set_is_a_vector(bert):
    encoded = encode(SETS, sets(["c", "a"], [], ["b"]), bert)
    assert encoded.dataset["labels"][:] == [[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    assert encoded.dataset["input_ids"][0] == bert(LONG)["input_ids"]
    batch = MultiTaskCollator(0)([encoded.dataset[0], encoded.dataset[1]])
    assert batch["labels"].tolist() == [[1, 0, 1], [0, 0, 0]]
    assert batch["labels"].is_floating_point()


def test_an_unknown_label_is_an_error(bert):
    rows = sets(["a"])
    rows[0]["labels"] = ["aa"]
    with pytest.raises(DataFormatError, match="sets: example 'e0': unknown label 'aa'"):
        encode_task(to_dataset(rows), SETS, bert, max_length=64, causal=False)


def test_label_sets_cut_their_second_text(bert):
    encoded = encode(SETS, sets(["a"], text_pair=LONG), bert, max_length=30)
    assert encoded.report.examples_truncated == 1
    (row,) = encoded.dataset
    assert row["input_ids"] == bert(LONG, LONG, truncation="only_second", max_length=30)["input_ids"]


def test_scores_run_from_zero_to_one(bert):
    encoded = encode(PAIRS, pairs(0.0, 1.0, 4.0), bert)
    assert encoded.dataset["labels"][:] == [0.0, 0.25, 1.0]
    assert encoded.dataset["input_ids"][0] == bert(LONG, "It rose.")["input_ids"]
    batch = MultiTaskCollator(0)([encoded.dataset[1]])
    assert batch["labels"].tolist() == [0.25]
    assert batch["labels"].is_floating_point()


@pytest.mark.parametrize("score", [-0.1, 4.5])
def test_a_score_outside_its_range_says_what_to_set(bert, score):
    with pytest.raises(
        DataFormatError, match=rf"example 'e1': the score {score} lies outside .*\[0, 4\].*score_range"
    ):
        encode(PAIRS, pairs(1.0, score), bert)


def test_another_range_is_encoded_anew(bert):
    rows = pairs(1.0)
    wide = PAIRS.model_copy(update={"score_range": (0.0, 10.0)})
    assert encode(PAIRS, rows, bert).dataset["labels"][:] == [0.25]
    assert encode(wide, rows, bert).dataset["labels"][:] == pytest.approx([0.1])


def test_neither_sentence_of_a_pair_is_lost(bert):
    encoded = encode(PAIRS, pairs(1.0, second=LONG + " " + LONG), bert, max_length=33)
    (row,) = encoded.dataset
    assert row["token_type_ids"].count(1) == 16  # half of the room and its [SEP]
    assert encoded.report.examples_truncated == 1


@pytest.mark.parametrize("name", ["phi3", "llama", "qwen2"])
def test_decoders_read_the_pair_on_two_lines(tokenizers_by_name, name):
    tokenizer = tokenizers_by_name[name]
    (row,) = encode(PAIRS, pairs(1.0), tokenizer, causal=True).dataset
    assert tokenizer.decode(row["input_ids"], skip_special_tokens=True).endswith("serum.\nIt rose.")
