from __future__ import annotations

import pytest
from datasets import Dataset, Features, LargeList, List, Value

from hf_crosstask.errors import InputError
from hf_crosstask.training.rows import column_names, fetch, label_counts, token_lengths

ROWS = [
    {"input_ids": [5, 6, 7, 0], "attention_mask": [1, 1, 1, 0], "labels": [-100, 1, 0, -100]},
    {"input_ids": [8, 9], "attention_mask": [1, 1], "labels": [2, 1]},
    {"input_ids": [4], "attention_mask": [1], "labels": [-100]},
]


@pytest.fixture(params=["list", "arrow", "torch", "selected"])
def rows(request):
    if request.param == "list":
        return ROWS
    dataset = Dataset.from_list(ROWS)
    if request.param == "selected":  # a view that starts inside the table
        return Dataset.from_list([*ROWS[::-1], *ROWS]).select([3, 4, 5])
    return dataset.with_format("torch") if request.param == "torch" else dataset


def test_lengths_and_labels_count_what_is_not_masked(rows):
    assert column_names(rows) == ["input_ids", "attention_mask", "labels"]
    assert token_lengths(rows, "t").tolist() == [3, 2, 1]
    assert label_counts(rows, "t", shifted=False).tolist() == [2, 2, 0]
    assert label_counts(rows, "t", shifted=True).tolist() == [2, 1, 0]


def test_without_a_mask_every_id_counts():
    assert token_lengths([{"input_ids": [1, 2, 3]}, {"input_ids": [1]}], "t").tolist() == [3, 1]
    assert token_lengths(Dataset.from_dict({"input_ids": [[1, 2, 3], [1]]}), "t").tolist() == [3, 1]


@pytest.mark.parametrize("feature", [List(Value("int8"), length=3), LargeList(Value("int64"))])
def test_other_list_types(feature):
    dataset = Dataset.from_dict(
        {"input_ids": [[1, 2, 3], [4, 5, 6]], "attention_mask": [[1, 1, 0], [1, 1, 1]]},
        features=Features({"input_ids": feature, "attention_mask": feature}),
    )
    assert token_lengths(dataset.select([1]), "t").tolist() == [3]
    assert token_lengths(dataset, "t").tolist() == [2, 3]


@pytest.mark.parametrize(
    ("labels", "counts"),
    [([0, 1, -100], [1, 1, 0]), ([0.5, 1.0, 0.0], [1, 1, 1]), ([[0.0, 1.0], [1.0, 1.0], [0.0, 0.0]], [1, 1, 1])],
)
def test_rows_with_one_target(labels, counts):
    dataset = Dataset.from_dict({"input_ids": [[1], [2], [3]], "labels": labels})
    assert label_counts(dataset, "t", shifted=True).tolist() == counts


def test_fetch_keeps_the_order_asked_for(rows):
    fetched = fetch(rows, [2, 0])
    assert [list(map(int, row["input_ids"])) for row in fetched] == [[4], [5, 6, 7, 0]]


def test_what_is_not_encoded_is_refused():
    with pytest.raises(InputError) as error:
        token_lengths(Dataset.from_dict({"text": ["a"], "id": [1]}), "ner")
    assert str(error.value) == "the dataset of task ner has no input_ids (columns: text, id); encode it first"
    with pytest.raises(InputError, match=r"dataset of task ner has no input_ids \(columns: none\)"):
        token_lengths([], "ner")
    with pytest.raises(InputError, match="the training dataset of task ner has no labels column"):
        label_counts(Dataset.from_dict({"input_ids": [[1]]}), "ner", shifted=False)
