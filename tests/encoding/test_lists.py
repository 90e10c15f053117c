"""Rows that hold several sequences: the choices of a question, and the candidates of a query."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from datasets import List, Value
from hypothesis import given
from hypothesis import strategies as st

from hf_crosstask.encoding import MultiTaskCollator, encode_task
from hf_crosstask.encoding.ranking import ROW_SEQUENCES, candidate_rows
from hf_crosstask.errors import DataFormatError
from hf_crosstask.tasks.card import TaskCard
from hf_crosstask.tasks.schema import check_examples, make_example, to_dataset
from hf_crosstask.training.feed import count
from hf_crosstask.training.rows import fetch, label_counts, row_shapes, token_lengths

CHOICES = TaskCard(name="exam", type="multiple_choice", level=2, primary_metric="accuracy", reader="jsonl")
RANKING = TaskCard(
    name="forum", type="ranking", level=2, labels=("false", "true"), primary_metric="map", reader="jsonl"
)
CLASSES = TaskCard(
    name="c", type="classification", level=2, labels=("a", "b"), primary_metric="accuracy", reader="jsonl"
)
CASE = "A patient took aspirin daily and serum rose. " * 3
WORDS = ["aspirin", "serum", "patient", "rose", "inhibits", "did", "lower", "unchanged"]


def question(name: str, choices: list[str], answer: str, text: str = "Which drug was it?") -> dict[str, Any]:
    return make_example(name, "exam", text, split_group=name, choices=choices, answer=answer)


def candidate(name: str, query: str, rank: int, relevant: bool, text: str, score: float | None = None):
    return make_example(
        name,
        "forum",
        f"Question {query}: what lowers HbA1c?",
        split_group=query,
        text_pair=text,
        group_id=query,
        rank=rank,
        score=float(relevant) if score is None else score,
        labels=["true" if relevant else "false"],
    )


def encode(card: TaskCard, rows: list[dict[str, Any]], tokenizer, **options: Any):
    check_examples(rows, card.type, card.labels, source="test")
    return encode_task(to_dataset(rows), card, tokenizer, **{"max_length": 64, "causal": False, **options})


def forum(queries: int, seed: int = 0, most: int = 14) -> list[dict[str, Any]]:
    """Candidates of several queries, mixed, some long."""
    rng = random.Random(seed)
    rows = [
        candidate(f"{query}.{rank}", f"q{query}", rank, rng.random() < 0.4, " ".join(rng.choices(WORDS, k=size)))
        for query in range(queries)
        for rank in range(1, rng.randint(2, most))
        for size in [rng.choice((1, 3, 8, 40))]
    ]
    rng.shuffle(rows)
    return rows


def test_a_question_is_one_row_of_pairs(bert):
    rows = [question("1", ["Aspirin", "Metformin", "None of these"], "Metformin"), question("2", ["Yes", "No"], "Yes")]
    encoded = encode(CHOICES, rows, bert)
    assert encoded.dataset.features == {
        "example_index": Value("int32"),
        "input_ids": List(List(Value("int32"))),
        "attention_mask": List(List(Value("int8"))),
        "token_type_ids": List(List(Value("int8"))),
        "labels": Value("int32"),
    }
    assert encoded.dataset["labels"][:] == [1, 0]
    for row, made in zip(rows, encoded.dataset, strict=True):
        for number, choice in enumerate(row["choices"]):
            for column in ("input_ids", "token_type_ids", "attention_mask"):
                assert made[column][number] == bert(row["text"], choice)[column]
    assert encoded.report.tokens == sum(len(ids) for row in encoded.dataset["input_ids"] for ids in row)
    assert encoded.report.rows == 2


def test_a_long_case_keeps_its_question_and_every_choice(bert):
    text = CASE + "Which drug was it?"
    encoded = encode(CHOICES, [question("1", ["Aspirin", "Metformin"], "Aspirin", text)], bert, max_length=24)
    ids = encoded.dataset[0]["input_ids"]
    assert encoded.report.examples_truncated == 1
    for row, choice in zip(ids, ["aspirin", "metformin"], strict=True):
        assert len(row) == 24
        assert row[0] == bert.cls_token_id
        first, second = bert.decode(row, skip_special_tokens=False).split("[SEP]")[:2]
        assert first.strip().endswith("which drug was it?")
        assert second.strip() == choice


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 16)), min_size=1, max_size=60), st.integers(16, 64))
def test_every_candidate_is_in_one_row_of_its_query_that_fits(candidates, limit):
    groups, lengths = [group for group, _ in candidates], [length for _, length in candidates]
    rows = candidate_rows(groups, lengths, limit)
    assert sorted(number for row in rows for number in row) == list(range(len(candidates)))
    for row in rows:
        assert len({groups[number] for number in row}) == 1
        assert row == sorted(row)
        assert len(row) * max(lengths[number] for number in row) <= limit
    # Greedy: two rows of one query never fit into one, where the shorter candidates are counted as the longest.
    for group in set(groups):
        own = sorted(max(lengths[n] for n in row) for row in rows if groups[row[0]] == group)
        assert len(own) <= -(-sum(length for g, length in candidates if g == group) * 2 // limit) + 1


def test_rows_of_a_ranking(bert):
    rows = forum(5)
    encoded = encode(RANKING, rows, bert)
    dataset = encoded.dataset
    assert dataset.features["labels"] == List(Value("float32"))
    assert dataset.features["candidate_index"] == List(Value("int32"))
    assert sorted(i for row in dataset["candidate_index"] for i in row) == list(range(len(rows)))
    for made in dataset:
        assert made["example_index"] == made["candidate_index"][0]
        assert len({rows[i]["group_id"] for i in made["candidate_index"]}) == 1
        assert made["labels"] == [rows[i]["score"] for i in made["candidate_index"]]
        for ids, i in zip(made["input_ids"], made["candidate_index"], strict=True):
            expected = bert(rows[i]["text"], rows[i]["text_pair"], truncation="longest_first", max_length=64)
            assert ids == expected["input_ids"]
        assert len(made["input_ids"]) * max(map(len, made["input_ids"])) <= ROW_SEQUENCES * 64
    assert (encoded.report.examples, encoded.report.rows) == (len(rows), len(dataset))
    assert len(dataset) > 5  # some queries need several rows


def test_queries_are_not_torn_at_a_batch_of_the_mapping(bert):
    """`datasets` maps a thousand examples at a time; a query's candidates may lie further apart than that."""
    rows = [candidate(f"{i}", f"q{i % 700}", 1 + i // 700, i % 3 == 0, "it rose") for i in range(1400)]
    encoded = encode(RANKING, rows, bert)
    assert encoded.dataset["candidate_index"][:] == [[i, i + 700] for i in range(700)]


def test_graded_relevance_is_scaled(bert):
    graded = RANKING.model_copy(update={"score_range": (0.0, 3.0)})
    rows = [candidate("1", "q", 1, True, "it rose", 3.0), candidate("2", "q", 2, False, "it did", 1.5)]
    assert encode(graded, rows, bert).dataset["labels"][:] == [[1.0, 0.5]]
    with pytest.raises(DataFormatError, match="score_range"):
        encode(RANKING, rows, bert)


def test_labels_of_rankings_are_true_or_false():
    row = candidate("1", "q", 1, True, "it rose")
    row["labels"] = ["good"]
    with pytest.raises(DataFormatError, match="one of 'false', 'true'"):
        check_examples([row], "ranking", (), source="test")


@pytest.mark.parametrize("kind", [None, "numpy"])
def test_batches_are_padded_in_both_directions(bert, kind):
    encoded = encode(CHOICES, [question("1", ["a", "b c", "d"], "d"), question("2", ["e", "f"], "f")], bert).dataset
    rows = fetch(encoded.with_format(kind), [0, 1])
    batch = MultiTaskCollator(9)(rows)
    longest = max(len(ids) for row in encoded["input_ids"] for ids in row)
    assert {name: tuple(tensor.shape) for name, tensor in batch.items()} == {
        "input_ids": (2, 3, longest),
        "attention_mask": (2, 3, longest),
        "token_type_ids": (2, 3, longest),
        "labels": (2,),
    }
    for i, row in enumerate(encoded["input_ids"]):
        for j, ids in enumerate(row):
            assert batch["input_ids"][i, j].tolist() == ids + [9] * (longest - len(ids))
            assert batch["attention_mask"][i, j].sum() == len(ids)
    assert batch["input_ids"][1, 2].tolist() == [9] * longest
    assert not batch["attention_mask"][1, 2].any()
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


def test_relevance_is_padded(bert):
    rows = [candidate(str(i), "q" if i < 3 else "r", 1, i == 0, "it") for i in range(4)]
    batch = MultiTaskCollator(0)(fetch(encode(RANKING, rows, bert).dataset, [0, 1]))
    assert batch["labels"].tolist() == [[1, 0, 0], [0, -100, -100]]
    assert batch["labels"].dtype == torch.float32


def test_tokens_and_items_are_those_of_whole_rows(bert):
    encoded = encode(RANKING, forum(9, seed=3), bert).dataset
    lengths = token_lengths(encoded, "forum")
    assert lengths.tolist() == [sum(map(len, row)) for row in encoded["input_ids"]]
    assert token_lengths(list(encoded), "forum").tolist() == lengths.tolist()
    assert label_counts(encoded, "forum", shifted=False).tolist() == [1] * len(encoded)
    chosen = list(range(0, len(encoded), 2))
    counted = count(MultiTaskCollator(0)(fetch(encoded, chosen)), "forum", shifted=False)
    sequences = [ids for i in chosen for ids in encoded[i]["input_ids"]]
    padded = len(sequences) * max(map(len, sequences))
    assert counted.tolist() == [len(chosen), int(lengths[chosen].sum()), padded, len(chosen)]
    questions = encode(CHOICES, [question("1", ["a", "b"], "b"), question("2", ["e", "f"], "f")], bert).dataset
    assert label_counts(questions, "exam", shifted=False).tolist() == [1, 1]


def test_shapes_say_what_a_batch_is_padded_to(bert):
    encoded = encode(RANKING, forum(9, seed=4), bert).dataset
    shapes = row_shapes(encoded, "forum")
    assert shapes.tolist() == [[len(row), max(map(len, row))] for row in encoded["input_ids"]]
    assert row_shapes(list(encoded), "forum").tolist() == shapes.tolist()
    batch = MultiTaskCollator(0)(fetch(encoded, list(range(len(encoded)))))
    assert count(batch, "forum", shifted=False)[2] == shapes[:, 0].sum() * shapes[:, 1].max()
    plain = encode(CLASSES, [make_example("1", "c", "it rose", split_group="1", labels=["a"])], bert).dataset
    assert row_shapes(plain, "c").tolist() == [[1, len(plain[0]["input_ids"])]]


def test_a_selection_of_rows_has_its_own_lengths(bert):
    encoded = encode(RANKING, forum(6), bert).dataset
    order = np.random.default_rng(0).permutation(len(encoded))[:4].tolist()
    lengths = token_lengths(encoded, "forum")
    assert token_lengths(encoded.select(order), "forum").tolist() == lengths[order].tolist()
