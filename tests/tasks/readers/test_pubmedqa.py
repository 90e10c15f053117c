from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from hf_crosstask.errors import DataFormatError, InputError
from hf_crosstask.tasks.load import TaskData

Load = Callable[..., TaskData]
Corpora = Mapping[str, tuple[dict[str, str], dict[str, Any]]]


def test_official_split(load: Load, corpora: Corpora) -> None:
    files, spec = corpora["pubmedqa"]
    data = load(files, **spec)
    assert {split: rows["id"] for split, rows in data.splits.items()} == {
        "train": ["1", "2"],
        "validation": ["3"],
        "test": ["4", "5"],
    }
    row = data.splits["train"][0]
    assert row["text"] == "Does felt help 1?"
    assert row["text_pair"] == "Felt was given.\nIt\u2028was measured."
    assert row["labels"] == ["yes"]
    assert row["split_group"] == "pmid:1"
    assert "LEAK" not in json.dumps([rows.to_list() for rows in data.splits.values()])


def test_fold(load: Load, corpora: Corpora) -> None:
    files, spec = corpora["pubmedqa"]
    assert load(files, **spec, options={"fold": 1}).splits["validation"]["id"] == ["2"]
    with pytest.raises(InputError, match=r"options\.fold"):
        load(files, **spec, options={"fold": 10})
    with pytest.raises(DataFormatError, match='"2": '):
        load(files, **spec, options={"fold": 2})


def test_folds_as_the_official_script_writes_them(load: Load, corpora: Corpora) -> None:
    files, spec = corpora["pubmedqa"]
    written = {name: text for name, text in files.items() if "folds" not in name}
    with pytest.raises(DataFormatError, match=r"split_dataset\.py"):
        load(written, **spec)
    written["pqal_fold0/dev_set.json"] = json.dumps({"2": {}})
    assert load(written, **spec).splits["validation"]["id"] == ["2"]


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (
            "ori_pqal.json",
            '"final_decision": "maybe"',
            '"final_decision": "perhaps"',
            "'perhaps'; valid: yes, no, maybe",
        ),
        (
            "ori_pqal.json",
            '"final_decision": "maybe"',
            '"decision": "maybe"',
            "has no final_decision; it has: QUESTION",
        ),
        ("ori_pqal.json", '"CONTEXTS": ["Felt was given."', '"CONTEXTS": [""', "none empty"),
        ("ori_pqal.json", '"Does felt help 1?"', "1", "QUESTION of 1 is a int, expected a str"),
        ("ori_pqal.json", '"2": {', '"1": {', "the key '1' occurs twice"),
        ("ori_pqal.json", '"2": {', '"x": {', "'x' is not a PMID"),
        ("ori_pqal.json", "Felt was", "\\ud800", "surrogate"),
        ("test_ground_truth.json", '"4": "yes"', '"4": "no"', "4 is 'no' here, but 'yes'"),
        ("test_ground_truth.json", '"4"', '"9"', "the PMID 9 is not in ori_pqal"),
        ("cv_folds_dev_pmids.json", '"3"', '"4"', "4 of fold 0 is a test question"),
        ("cv_folds_dev_pmids.json", '"3"', "3", "expected"),
        ("cv_folds_dev_pmids.json", "}}", "}", "is not JSON"),
    ],
)
def test_broken_files(load: Load, corpora: Corpora, file: str, old: str, new: str, message: str) -> None:
    files, spec = corpora["pubmedqa"]
    assert old in files[file]
    with pytest.raises(DataFormatError, match=message) as caught:
        load(files | {file: files[file].replace(old, new, 1)}, **spec)
    assert caught.value.path.endswith(file)
