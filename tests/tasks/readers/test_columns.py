from __future__ import annotations

from typing import Any

import pytest

from hf_crosstask.errors import DataFormatError, InputError
from hf_crosstask.tasks.card import TaskCard, TaskSpec
from hf_crosstask.tasks.readers.columns import ColumnOptions, RowError, check_columns, row_example
from hf_crosstask.tasks.registry import resolve_card

NER = {"type": "ner", "labels": ["Drug"]}
CLASSES = {"type": "classification", "labels": ["good", "bad"]}


def card(**fields: Any) -> TaskCard:
    return resolve_card(TaskSpec(**({"name": "mine", "reader": "jsonl", "path": "x", "primary_metric": "m"} | fields)))


def example(row: dict[str, Any], task: TaskCard, **options: Any) -> dict[str, Any]:
    return row_example(row, check_columns(task, row, "file"), task, ColumnOptions(**options), "train-1")


def test_entities_and_relations() -> None:
    row = {
        "text": "Zinc blocks GLO1.",
        "entities": [
            {"id": 7, "type": "Chem", "start": 0, "end": 4},
            {"id": "g", "type": "Gene", "offsets": [[12, 14], [14, 16]], "text": ["GL", "O1"]},
        ],
        "relations": [{"type": "blocks", "head": 7, "tail": "g"}],
    }
    made = example(row, card(type="relation", labels=["blocks", "none"], negative_label="none"))
    assert [entity["text"] for entity in made["entities"]] == [["Zinc"], ["GL", "O1"]]
    assert made["relations"] == [{"id": "R1", "type": "blocks", "head": "7", "tail": "g"}]
    assert (made["id"], made["split_group"], made["task"]) == ("train-1", "train-1", "mine")


def test_object_of_lists() -> None:
    made = example({"text": "Zinc", "entities": {"start": [0], "end": [4], "type": ["Drug"]}}, card(**NER))
    assert made["entities"][0]["text"] == ["Zinc"]
    with pytest.raises(RowError, match="differ in length"):
        example({"text": "Zinc", "entities": {"start": [0], "end": [], "type": []}}, card(**NER))


def test_tokens_and_tags() -> None:
    columns = {"tokens": "words", "tags": "ner"}
    task = card(**NER, columns=columns)
    made = example(
        {"words": ["Zinc", "salt", "helps"], "ner": ["B-DRUG", "I-DRUG", "O"]}, task, label_map={"DRUG": "Drug"}
    )
    assert made["text"] == "Zinc salt helps"
    assert made["entities"][0]["offsets"] == [[0, 9]]
    with pytest.raises(RowError, match="token 0: illegal tag 'I-Drug'"):
        example({"words": ["Zinc"], "ner": ["I-Drug"]}, task)
    with pytest.raises(RowError, match="1 tokens but 0 tags"):
        example({"words": ["Zinc"], "ner": []}, task)


def test_nested_columns_labels_and_map() -> None:
    columns = {"text": "context.question", "labels": "answer", "split_group": "doc"}
    task = card(**CLASSES, columns=columns)
    row = {"context": {"question": "Felt?"}, "answer": 1, "doc": 12}
    made = example(row, task, label_map={"1": "good", "0": "bad"})
    assert (made["text"], made["labels"], made["split_group"]) == ("Felt?", ["good"], "12")
    with pytest.raises(RowError, match=r"'1' is not in the label set"):
        example(row, task)
    with pytest.raises(RowError, match=r"'1' is not in options.label_map"):
        example(row, task, label_map={"yes": "good"})


@pytest.mark.parametrize(
    ("fields", "row", "message"),
    [
        (CLASSES, {"text": None, "labels": "good"}, "`text` .* is empty"),
        (CLASSES, {"text": "x", "labels": None}, "`labels` .* is empty"),
        (CLASSES, {"text": "x", "labels": True}, "expected a text or an integer"),
        (CLASSES, {"text": ["x"], "labels": "good"}, "`text` is .* expected a text"),
        (
            NER,
            {"text": "x", "entities": [{"start": 0, "end": 1}]},
            "entity 'T1' has no 'type'; it has: 'start', 'end'",
        ),
        (NER, {"text": "x", "entities": [{"start": 0, "type": "Drug"}]}, "has no 'end'"),
        (NER, {"text": "x", "entities": [{"start": 0.0, "end": 1, "type": "Drug"}]}, "expected two integers"),
        (NER, {"text": "xy", "entities": [{"start": 0, "end": 1, "type": "Drug", "text": "y"}]}, "says 'y'"),
        (NER, {"text": "x", "entities": ["Drug"]}, "expected an object"),
        ({"type": "similarity"}, {"text": "x", "text_pair": "y", "score": "high"}, "`score` is 'high'"),
        ({"type": "similarity"}, {"text": "x", "text_pair": "y", "score": float("nan")}, "expected a number"),
        ({"type": "similarity"}, {"text": "x", "text_pair": "y", "score": 10**400}, "expected a number"),
    ],
)
def test_wrong_values(fields: dict[str, Any], row: dict[str, Any], message: str) -> None:
    with pytest.raises(RowError, match=message):
        example(row, card(**fields))


def test_every_type_needs_its_fields() -> None:
    with pytest.raises(DataFormatError, match="needs a column for `labels`; it has: 'text', 'label'"):
        check_columns(card(**CLASSES), ["text", "label"], "file")
    with pytest.raises(DataFormatError, match="no column 'Text' for the field `text`"):
        check_columns(card(**CLASSES, columns={"text": "Text", "labels": "label"}), ["text", "label"], "file")
    with pytest.raises(InputError, match="unknown field 'label'; did you mean 'labels'"):
        check_columns(card(**CLASSES, columns={"text": "text", "label": "label"}), ["text", "label"], "file")


def test_ranking_and_choices() -> None:
    row = {"text": "q", "text_pair": "c", "group_id": 3, "rank": "2", "score": "1", "labels": "true"}
    made = example(row, card(type="ranking", labels=["false", "true"]))
    assert (made["group_id"], made["rank"], made["score"]) == ("3", 2, 1.0)
    assert made["split_group"] == "3"  # candidates of a query belong together
    named = example(row | {"split_group": "forum"}, card(type="ranking", labels=["false", "true"]))
    assert named["split_group"] == "forum"
    with pytest.raises(RowError, match="an integer"):
        example(row | {"rank": 2**31}, card(type="ranking", labels=["false", "true"]))
    made = example({"text": "q", "choices": ["a", "b"], "answer": "b"}, card(type="multiple_choice"))
    assert made["choices"] == ["a", "b"]
