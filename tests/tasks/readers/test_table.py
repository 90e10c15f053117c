from __future__ import annotations

import csv
import io
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hf_crosstask.errors import DataFormatError, InputError
from hf_crosstask.tasks.load import TaskData

Load = Callable[..., TaskData]
MINE = {
    "name": "mine",
    "type": "classification",
    "labels": ["1", "0"],
    "columns": {"text": "sentence", "labels": "label"},
}


def test_csv_quoting(load: Load) -> None:
    text = 'index,sentence,label\r\n7,"Felt, ""old""\nand new",1\r\n8,Cold,0\r\n'
    data = load({"train.csv": text}, **MINE, reader="csv")
    assert data.splits["train"]["text"] == ['Felt, "old"\nand new', "Cold"]
    assert data.splits["train"]["labels"] == [["1"], ["0"]]


def test_tsv_has_no_quoting_and_may_have_no_header(load: Load) -> None:
    files = {"train.tsv": '"Felt\t1\nCold\t0\n', "test.tsv": "A\t1\n"}
    data = load(files, **MINE, reader="tsv", options={"header": ["sentence", "label"]})
    assert data.splits["train"]["text"] == ['"Felt', "Cold"]


def test_multilabel(load: Load) -> None:
    spec = {"type": "multilabel", "labels": ["a", "b"], "primary_metric": "micro_f1"}
    data = load(
        {"train.tsv": "sentence\tlabel\nx\ta;b\ny\t\n"},
        **MINE | spec,
        reader="tsv",
        options={"label_separator": ";"},
    )
    assert data.splits["train"]["labels"] == [["a", "b"], []]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("sentence,label\nFelt,1\nCold\n", 3, "1 cells, but 2 columns"),
        ('sentence,label\n"Felt\n",1\nCold,2\n', 4, "the label '2' is not in the label set"),
        ('sentence,label\nFelt,1\n"Cold,0\n', 3, "breaks the CSV quoting rules"),
        ("sentence,sentence\nFelt,1\n", 1, "'sentence' occurs twice"),
        ("text,label\nFelt,1\n", None, "no column 'sentence' for the field `text`; it has: 'text', 'label'"),
        ("", None, "expected a row of column names"),
    ],
)
def test_broken_tables(load: Load, text: str, line: int | None, message: str) -> None:
    with pytest.raises(DataFormatError, match=message) as caught:
        load({"train.csv": text}, **MINE, reader="csv")
    assert caught.value.line == line or line is None


def test_entities_do_not_fit_in_cells(load: Load) -> None:
    with pytest.raises(InputError, match="use the reader 'jsonl'"):
        load({"train.csv": ""}, name="mine", type="ner", labels=["Drug"], reader="csv")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\ufeff"), min_size=1)))
def test_round_trip(load: Load, texts: list[str]) -> None:
    texts = ["one", "two", *(text for text in texts if text.strip())]
    stream = io.StringIO(newline="")
    writer = csv.writer(stream)
    writer.writerow(["sentence", "label"])
    writer.writerows([text, str(number % 2)] for number, text in enumerate(texts))
    assert load({"train.csv": stream.getvalue()}, **MINE, reader="csv").splits["train"]["text"] == texts
