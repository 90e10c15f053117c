from __future__ import annotations

import gzip
from collections.abc import Callable
from typing import Any

import pytest

from hf_crosstask.errors import DataFormatError
from hf_crosstask.tasks.load import TaskData

Load = Callable[..., TaskData]
TASK: dict[str, Any] = {"name": "jnlpba", "path": "task"}
TRAIN = (
    "###MEDLINE:91\n\nFelt\tB-protein\n(\tO\noil\tB-DNA\n)\tO\n\nIt\tO\nfell\tO\n\n"
    "###MEDLINE:92\n\nTin\tB-cell_line\n\n###MEDLINE:91\n\nSalt\tO\n"
)
FILES: dict[str, str | bytes] = {
    "rebuilt/train.iob2.gz": gzip.compress(TRAIN.encode()),
    "original/test/Genia4EReval2.iob2": "###MEDLINE:93\n\nThe\tO\nsalt\tB-RNA\nA\tI-RNA\n\n\n",
    "original/test/Genia4EReval1.iob2": "not read",
    "mtl/devel.tsv": "-DOCSTART-\tO\n\nFelt\tB-protein\n(oil)\tO\n\nIt\tO\nfell\tO\n",
    "MUID-PMID-map.txt": "91\t1001\n93\t1003\n",
}


def test_three_splits(load: Load) -> None:
    data = load(FILES, **TASK)
    train, validation, test = (data.splits[split] for split in ("train", "validation", "test"))
    assert train["id"] == ["train.92.s1", "train.91-2.s1"], "the validation abstract is gone, its namesake is not"
    assert train["split_group"] == ["muid:92", "pmid:1001"]
    assert validation["text"] == ["Felt (oil)", "It fell"], "the tokens of devel.tsv"
    assert validation["id"] == ["validation.91.s1", "validation.91.s2"]
    assert validation["split_group"] == ["pmid:1001", "pmid:1001"]
    assert test["split_group"] == ["pmid:1003"]
    assert [(e["type"], e["text"]) for e in test[0]["entities"]] == [("RNA", ["salt A"])]
    assert data.dropped == {
        "train": {"sentences of abstracts held out for validation": 2},
        "validation": {"-DOCSTART- lines": 1},
    }


def test_validation_may_be_other_documents_or_none(load: Load) -> None:
    held = load(FILES, **TASK, options={"validation": "documents", "validation_documents": 1})
    groups = {split: set(rows["split_group"]) for split, rows in held.splits.items()}
    assert not groups["train"] & groups["validation"]
    none = load(FILES, **TASK, options={"validation": "none"})
    assert {split: len(rows) for split, rows in none.splits.items()} == {"train": 4, "test": 1}


def test_the_official_training_file_comes_first(load: Load) -> None:
    files = FILES | {"Genia4ERtask2.iob2": TRAIN.replace("Tin", "Zinc")}
    assert load(files, **TASK).splits["train"]["text"][0] == "Zinc"


@pytest.mark.parametrize(
    ("file", "text", "problem"),
    [
        ("original/test/Genia4EReval2.iob2", "The\tO\n", "no abstract boundaries; use those ending in 2"),
        ("original/test/Genia4EReval2.iob2", "###MEDLINE:x\n", "'x' is not a MEDLINE id"),
        ("original/test/Genia4EReval2.iob2", "###MEDLINE:93\nThe O\n", "expected `token<tab>tag`, found 'The O'"),
        ("original/test/Genia4EReval2.iob2", "###MEDLINE:93\nO\tThe\n", "unknown tag 'The'"),
        ("original/test/Genia4EReval2.iob2", "###MEDLINE:93\nThe\tI-DNA\n", "illegal tag 'I-DNA'"),
        ("original/test/Genia4EReval2.iob2", "###MEDLINE:93\nThe\tB-Gene\n", "'Gene', which is not in the label set"),
        ("original/test/Genia4EReval2.iob2", "###MEDLINE:93\n", "holds no sentence"),
        ("mtl/devel.tsv", "-DOCSTART-\tO\n\nGold\tO\n", "begins 'Gold' is not in the training part"),
        ("MUID-PMID-map.txt", "91,1001\n", "expected `MEDLINE id<tab>PMID`"),
    ],
)
def test_broken_files(load: Load, file: str, text: str, problem: str) -> None:
    with pytest.raises(DataFormatError, match=problem):
        load(FILES | {file: text}, **TASK)


@pytest.mark.parametrize(
    ("file", "problem"),
    [
        ("mtl/devel.tsv", "no file devel.tsv. options.validation may be"),
        ("MUID-PMID-map.txt", "no file MUID-PMID-map.txt"),
        ("rebuilt/train.iob2.gz", "no file Genia4ERtask2.iob2 or train.iob2"),
        ("original/test/Genia4EReval2.iob2", "no file Genia4EReval2.iob2"),
    ],
)
def test_missing_files(load: Load, file: str, problem: str) -> None:
    with pytest.raises(DataFormatError, match=problem):
        load({name: text for name, text in FILES.items() if name != file}, **TASK)
