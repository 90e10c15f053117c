from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_crosstask.errors import DataFormatError, InputError
from hf_crosstask.tasks.card import TaskSpec
from hf_crosstask.tasks.load import TaskData, load_task

MINE = {"name": "mine", "type": "ner", "reader": "iob", "labels": ["Drug"]}
Load = Callable[..., TaskData]


def spans(data: TaskData, split: str = "train") -> list[list[str]]:
    return [[entity["text"][0] for entity in row["entities"]] for row in data.splits[split]]


def test_json_alone_makes_a_task(load: Load) -> None:
    data = load({"train.tsv": "Zinc\tB-Drug\nsalt\tI-Drug\nhelps\tO\n\nNo\tO\n", "dev.tsv": "x\tO\n"}, **MINE)
    row = data.splits["train"][0]
    assert row["text"] == "Zinc salt helps"
    assert [(e["type"], e["offsets"], e["text"]) for e in row["entities"]] == [("Drug", [[0, 9]], ["Zinc salt"])]
    assert (row["id"], row["split_group"], row["task"]) == ("train-1", "train-1", "mine")
    assert set(data.splits) == {"train", "validation"}
    assert data.dropped == {}
    assert data.card.level == 1
    assert data.card.primary_metric == "entity_f1"


def test_columns_are_separated_by_blanks_or_tabs(load: Load) -> None:
    text = "# O\nZinc NN  B-Drug\n"
    with pytest.raises(DataFormatError, match=r"set options\.comment"):
        load({"train.txt": "Zinc NN  B-Drug\n# x\n"}, **MINE)
    data = load({"train.txt": text.replace("# O", "# NN O")}, **MINE)
    assert data.splits["train"][0]["text"] == "# Zinc"
    assert spans(data) == [["Zinc"]]


def test_token_may_be_a_hash_or_hold_a_no_break_space(load: Load) -> None:
    data = load({"train.tsv": "#\tO\nfelt\xa0salt\tB-Drug\n\xa0\tO\n"}, **MINE)
    assert data.splits["train"][0]["text"] == "# felt\xa0salt \xa0"
    assert data.dropped == {}


def test_comments_and_document_marks_are_counted(load: Load) -> None:
    text = "# newdoc\n-DOCSTART-\tO\n\nZinc\tB-Drug\n\nNo\tO\n-DOCSTART-\tO\nTin\tB-Drug\n"
    data = load({"train.tsv": text}, **MINE)
    assert data.dropped == {"train": {"-DOCSTART- lines": 2, "comment lines": 1}}
    assert data.splits["train"]["text"] == ["Zinc", "No", "Tin"]
    assert data.splits["train"]["split_group"] == ["train-document-1", "train-document-1", "train-document-2"]


def test_comment_prefix_of_files_with_blanks(load: Load) -> None:
    data = load({"train.txt": "# id = 1\nZinc B-Drug\n"}, **MINE, options={"comment": "# "})
    assert data.dropped == {"train": {"comment lines": 1}}
    assert spans(data) == [["Zinc"]]


def test_crlf_and_mark_leave_offsets_right(load: Load) -> None:
    data = load({"train.tsv": b"\xef\xbb\xbfZinc\tB-Drug\r\nsalt\tI-Drug\r\n\r\nNo\tO\r\n"}, **MINE)
    assert data.splits["train"]["text"] == ["Zinc salt", "No"]
    assert spans(data) == [["Zinc salt"], []]


def test_columns_and_scheme_options(load: Load) -> None:
    text = "S-Drug\tx\tZinc\nO\tx\tor\nB-Drug\tx\tTin\nE-Drug\tx\tsalt\n"
    options = {"token_column": 2, "tag_column": 0, "scheme": "IOBES"}
    assert spans(load({"train.tsv": text}, **MINE, options=options)) == [["Zinc", "Tin salt"]]
    text = "Zinc\tI-Drug\nTin\tB-Drug\nand\tO\n"
    assert spans(load({"train.tsv": text}, **MINE, options={"scheme": "IOB1"})) == [["Zinc", "Tin"]]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("Zinc\tB-Drug\nrose\tO\n\nsalt\tI-Drug\n", 4, "illegal tag 'I-Drug'"),
        ("Zinc\tB-Drug\nTin\tB-Gene\n", 2, "not in the label set"),
        ("Zinc\tB-Drug\nTin\n", 2, "1 columns, but the lines above have 2"),
        ("Zinc\tB-Drug\tx\tO\nTin\tO\n", 2, "2 columns, but the lines above have 4"),
        ("Zinc\tB-Drug\n\tO\n", 2, "the token is empty"),
        ("Zinc\n", 1, "one column"),
    ],
)
def test_broken_lines_are_named(load: Load, text: str, line: int, message: str) -> None:
    with pytest.raises(DataFormatError, match=message) as caught:
        load({"train.tsv": text}, **MINE)
    assert caught.value.line == line
    assert caught.value.path.endswith("train.tsv")


def test_column_that_does_not_exist(load: Load) -> None:
    with pytest.raises(DataFormatError, match=r"no column 0 \(token\) or 5 \(tag\) among 2"):
        load({"train.tsv": "Zinc\tB-Drug\n"}, **MINE, options={"tag_column": 5})


def test_only_entity_tasks(load: Load) -> None:
    with pytest.raises(InputError, match="reads entities, not a classification task"):
        load({"train.tsv": "Zinc\tO\n"}, **MINE | {"type": "classification", "labels": ["a", "b"]})


def test_no_entity_at_all_is_a_wrong_column(load: Load) -> None:
    with pytest.raises(DataFormatError, match="no training example has an entity"):
        load({"train.tsv": "Zinc\tO\n"}, **MINE)
    with pytest.raises(DataFormatError, match="the train split holds no examples"):
        load({"train.tsv": "\n\n"}, **MINE)


TOKENS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=5).filter(
    lambda token: bool(token.strip()) and not token.startswith(("#", "-DOCSTART-")) and "\ufeff" not in token
)
SENTENCES = st.lists(
    st.lists(st.tuples(TOKENS, st.sampled_from(["O", "B-Drug", "B-Gene"])), min_size=1, max_size=6),
    min_size=1,
    max_size=4,
)


@settings(max_examples=60, deadline=None)
@given(SENTENCES, st.booleans())
def test_round_trip(sentences: list[list[tuple[str, str]]], crlf: bool) -> None:
    sentences = [*sentences, [("Zinc", "B-Drug"), ("salt", "I-Drug")]]
    end = "\r\n" if crlf else "\n"
    text = end.join("".join(f"{token}\t{tag}{end}" for token, tag in sentence) for sentence in sentences)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "train.tsv").write_bytes(text.encode())
        spec = TaskSpec(name="mine", type="ner", reader="iob", labels=("Drug", "Gene"), path=folder)
        rows = load_task(spec, data_dir=None).splits["train"]
    assert rows["text"] == [" ".join(token for token, _ in sentence) for sentence in sentences]
    for row, sentence in zip(rows, sentences, strict=True):
        starts = [sum(len(token) + 1 for token, _ in sentence[:index]) for index in range(len(sentence))]
        begins = {start: tag[2:] for start, (_, tag) in zip(starts, sentence, strict=True) if tag[0] == "B"}
        assert {entity["offsets"][0][0]: entity["type"] for entity in row["entities"]} == begins
