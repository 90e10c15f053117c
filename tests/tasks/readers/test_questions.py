from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from hf_crosstask.errors import DataFormatError, InputError
from hf_crosstask.tasks.load import TaskData

Load = Callable[..., TaskData]
MEDQA: dict[str, Any] = {"name": "medqa", "path": "task"}
MEDMCQA: dict[str, Any] = {"name": "medmcqa", "path": "task"}
RCT: dict[str, Any] = {"name": "pubmed_rct", "path": "task"}


def lines(*records: dict[str, Any]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def medqa(**changed: Any) -> dict[str, Any]:
    options = {"B": "oil", "A": "felt", "C": "tin", "D": "salt", "E": "zinc"}
    return {
        "question": "Which?",
        "options": options,
        "answer_idx": "C",
        "answer": "tin",
        "meta_info": "step1",
    } | changed


def test_medqa(load: Load) -> None:
    row = load({"questions/US/train.jsonl": lines(medqa())}, **MEDQA).splits["train"][0]
    assert (row["choices"], row["answer"]) == (["felt", "oil", "tin", "salt", "zinc"], "tin"), (
        "in the order of letters"
    )
    assert row["split_group"].startswith("medqa:")


def test_medqa_with_four_options(load: Load) -> None:
    four = medqa(options={"A": "felt", "B": "oil", "C": "tin", "D": "salt"})
    files = {f"US/4_options/phrases_no_exclude_{part}.jsonl": lines(four) for part in ("train", "dev", "test")}
    data = load(files, **MEDQA, options={"choices": 4})
    assert set(data.splits) == {"train", "validation", "test"}
    assert len(set(data.splits["train"]["split_group"]) | set(data.splits["test"]["split_group"])) == 1, "a copy"
    with pytest.raises(DataFormatError, match=r"no questions. Looked for train.jsonl in"):
        load(files, **MEDQA)


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        (medqa(answer="oil"), "the answer is 'oil', but option 'C' is 'tin'"),
        (medqa(answer_idx="F"), "option 'F' is None"),
        (medqa(answer_idx=2), "expected a text as `answer_idx`, it is 2"),
        (medqa(question=" "), "expected a text as `question`"),
        (medqa(options=["felt"]), "`options` is not an object"),
        (medqa(options={"A": "felt", "B": None}), "`options` is not an object"),
        (medqa(options={"A": "felt", "B": "oil"}), "2 options, expected 5. Check options.choices"),
        ({"question": "Which?"}, "expected a text as `answer_idx`, it is missing; there is: question"),
    ],
)
def test_broken_medqa(load: Load, record: dict[str, Any], problem: str) -> None:
    with pytest.raises(DataFormatError, match=problem):
        load({"US/train.jsonl": lines(medqa(), record)}, **MEDQA)


def medmcqa(**changed: Any) -> dict[str, Any]:
    return {
        "id": "1",
        "question": "Which?",
        "opa": "felt",
        "opb": "oil",
        "opc": "tin",
        "opd": "salt",
        "cop": 4,
    } | changed


def test_medmcqa_counts_from_one(load: Load) -> None:
    files = {"train.json": lines(medmcqa(), medmcqa(id="2", cop=1))}
    assert load(files, **MEDMCQA).splits["train"]["answer"] == ["salt", "felt"]
    with pytest.raises(DataFormatError, match="`cop` is 4, expected 0 to 3"):
        load(files, **MEDMCQA, options={"cop": "zero_based"})
    with pytest.raises(DataFormatError, match=r"`cop` is 0, expected 1 to 4. Set options.cop to 'zero_based'"):
        load({"train.json": lines(medmcqa(cop=0))}, **MEDMCQA)


def test_medmcqa_test_has_no_answers(load: Load) -> None:
    unanswered = {key: value for key, value in medmcqa(id="3").items() if key != "cop"}
    files = {"train.json": lines(medmcqa()), "dev.json": lines(medmcqa(id="2")), "test.json": lines(unanswered)}
    data = load(files, **MEDMCQA)
    assert set(data.splits) == {"train", "validation"}
    assert data.dropped == {"test": {"questions without a published answer": 1}}
    assert set(load(files, **MEDMCQA, options={"dev_as": "test"}).splits) == {"train", "test"}
    answered = files | {"test.json": lines(medmcqa(id="3"))}
    with pytest.raises(DataFormatError, match="the test part has answers"):
        load(answered, **MEDMCQA, options={"dev_as": "test"})


@pytest.mark.parametrize("cop", [5, -1, "2", 2.0, True, [1]])
def test_broken_cop(load: Load, cop: Any) -> None:
    with pytest.raises(DataFormatError, match="`cop` is "):
        load({"train.json": lines(medmcqa(cop=cop))}, **MEDMCQA)


def test_pubmed_rct(load: Load) -> None:
    text = "###0011\nMETHODS\tFelt # .\nRESULTS\tIt\tfell .\n\n###12\nMETHODS\tOil .\n"
    data = load({"train.txt": text, "test.txt": text.replace("###12", "###13")}, **RCT)
    rows = data.splits["train"]
    assert (rows["id"], rows["split_group"]) == (
        ["train.0011.s1", "train.0011.s2", "train.12.s1"],
        ["pmid:11", "pmid:11", "pmid:12"],
    )
    assert rows["labels"] == [["METHODS"], ["RESULTS"], ["METHODS"]]
    assert rows["text"][1] == "It\tfell ."


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("METHODS\tFelt .\n", "below `###<PMID>`, found 'METHODS"),
        ("###11\n\nMETHODS\tFelt .\n", "below `###<PMID>`"),
        ("###11\nMETHODS Felt .\n", "expected `LABEL<tab>sentence`"),
        ("###11\nFelt .\tMETHODS\n", "label 'Felt .' is not in the label set"),
        ("###x\n", "expected `###<PMID>`, found '###x'"),
        ("###11\nMETHODS\tA\n\n###11\n", "the abstract 11 occurs twice"),
        ("", "the train split holds no examples"),
    ],
)
def test_broken_pubmed_rct(load: Load, text: str, problem: str) -> None:
    with pytest.raises(DataFormatError, match=problem):
        load({"train.txt": text}, **RCT)


def test_medtext_is_split_by_a_hash(load: Load) -> None:
    rows = "".join(f'"Prompt {n}, felt","An ""answer"" {n}\nof two lines"\n' for n in range(20))
    task = {"name": "medtext", "path": "task", "options": {"validation": 0.1, "test": 0.25}}
    data = load({"x.csv": "Prompt,Completion\n" + rows + "Prompt 0,copy\n"}, **task)
    assert {split: len(rows) for split, rows in data.splits.items()} == {"train": 14, "validation": 2, "test": 5}
    again = load({"x.csv": "Prompt,Completion\n" + rows + "Prompt 0,copy\n"}, **task)
    assert again.fingerprint == data.fingerprint
    assert data.splits["train"]["answer"][0].startswith('An "answer" ')
    parts = [set(rows["split_group"]) for rows in data.splits.values()]
    assert sum(map(len, parts)) == len(set().union(*parts))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("Completion,Prompt\na,b\n", "expected the columns Prompt, Completion, found"),
        ("Prompt,Completion\na\n", "x.csv:2: expected 2 cells, found 1"),
        ('Prompt,Completion\n"a,b\n', "breaks the CSV quoting rules"),
        ("Prompt,Completion\na, \n", "the prompt or its completion is empty"),
        ("Prompt,Completion\n", "holds no rows"),
        ("", "expected the columns Prompt, Completion"),
    ],
)
def test_broken_medtext(load: Load, text: str, problem: str) -> None:
    with pytest.raises(DataFormatError, match=problem):
        load({"x.csv": text}, name="medtext", path="task")


def test_two_files_of_instructions(load: Load) -> None:
    with pytest.raises(DataFormatError, match=r"expected one file of \.csv, found a\.csv, b\.csv"):
        load({"a.csv": "", "b.csv": ""}, name="medtext", path="task")
    with pytest.raises(InputError, match=r"options.test: Input should be less than 1"):
        load({"a.csv": ""}, name="medtext", path="task", options={"test": 1})


def test_medical_qa(load: Load) -> None:
    records = [
        {"instruction": "Say it", "input": "felt", "output": "x"},
        {"instruction": "Say it", "input": "", "output": "y"},
        {"instruction": "Say it", "output": "z"},
    ]
    data = load({"all.jsonl": lines(*records)}, name="medical_qa", path="task")
    assert data.splits["train"]["text"] == ["Say it\nfelt", "Say it", "Say it"]
    assert data.splits["train"]["answer"] == ["x", "y", "z"]
    for record, problem in (
        ({"instruction": "a", "output": ""}, "expected a text as `output`"),
        ({"instruction": "a", "input": 1, "output": "b"}, "expected a text as `input`, it is 1"),
        ({"input": "a", "output": "b"}, "expected a text as `instruction`, it is missing"),
    ):
        with pytest.raises(DataFormatError, match=problem):
            load({"all.jsonl": lines(record)}, name="medical_qa", path="task")
