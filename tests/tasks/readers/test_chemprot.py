from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from hf_crosstask.errors import DataFormatError, InputError
from hf_crosstask.tasks.load import TaskData

Load = Callable[..., TaskData]
Corpora = Mapping[str, tuple[dict[str, str], dict[str, Any]]]


def test_candidates(load: Load, corpora: Corpora) -> None:
    files, spec = corpora["chemprot"]
    data = load(files, **spec)
    rows = {row["id"]: row for row in data.splits["train"]}
    assert list(rows) == ["11.T1.T2", "11.T3.T4", "11.T3.T5"]
    assert {name: [relation["type"] for relation in row["relations"]] for name, row in rows.items()} == {
        "11.T1.T2": ["false"],
        "11.T3.T4": ["CPR:3", "CPR:4"],
        "11.T3.T5": ["false"],
    }
    row = rows["11.T3.T4"]
    assert row["text"] == 'Zinc "x" blocks GLO1 and GLO2.'
    assert [(e["type"], e["text"]) for e in row["entities"]] == [("CHEMICAL", ["Zinc"]), ("GENE", ["GLO1"])]
    assert all((r["head"], r["tail"]) == ("T3", "T4") for r in row["relations"])
    assert row["split_group"] == "pmid:11"
    assert rows["11.T1.T2"]["text"] == "Felt salt and GLO1"
    assert data.lost_gold["train"] == {"CPR:9": 1}
    assert {split: len(rows) for split, rows in data.splits.items()} == {"train": 3, "validation": 3, "test": 3}


def test_sentence_that_a_mention_crosses_stays_whole(load: Load, corpora: Corpora) -> None:
    files, spec = corpora["chemprot"]
    stem = "chemprot_training/chemprot_training"
    changed = {
        f"{stem}_abstracts.tsv": "11\tTitle\tThe J. Felt. Salt and GLO1 met. GLO2 slept.\n",
        f"{stem}_entities.tsv": "11\tT1\tCHEMICAL\t13\t23\tFelt. Salt\n11\tT2\tGENE-Y\t28\t32\tGLO1\n"
        "11\tT3\tGENE-N\t38\t42\tGLO2\n",
        f"{stem}_gold_standard.tsv": "11\tCPR:3\tArg1:T1\tArg2:T2\n11\tCPR:3\tArg1:T1\tArg2:T3\n",
    }
    # One class only would be refused: give the abstract a pair without a relation.
    changed[f"{stem}_entities.tsv"] += "11\tT4\tGENE-N\t10\t12\tJ.\n"
    data = load(files | changed, **spec)
    assert data.splits["train"]["text"] == ["The J. Felt. Salt and GLO1 met."] * 2
    assert data.lost_gold["train"] == {"CPR:3": 1}


@pytest.mark.parametrize(
    ("kind", "old", "new", "message"),
    [
        ("entities", "\tZinc", "\tTin", "the abstract has 'Zinc' at"),
        ("entities", "CHEMICAL", "CHEM", "entity type 'CHEM'"),
        ("entities", "T4\t", "T3\t", "occurs twice"),
        ("entities", "11\tT6", "14\tT6", "no abstract has the PMID '14'"),
        ("entities", "\tzinc", "", "expected 6 columns"),
        ("entities", "\t0\t", "\tzero\t", "are not offsets"),
        ("gold_standard", "CPR:9", "CPR:10", "relation 'CPR:10' is not in the label set"),
        ("gold_standard", "Arg2:T5", "Arg2:T9", "expected Arg2:<entity of 11>"),
        ("gold_standard", "Arg1:T6", "Arg1:T5", "is a GENE, expected a CHEMICAL"),
        ("gold_standard", "CPR:3", "CPR:4", "occurs twice"),
        ("abstracts", "Felt salt and GLO1\t", "", "expected 3 columns"),
        ("abstracts", "11\t", "PMC\t", "is not a PMID"),
    ],
)
def test_broken_lines(load: Load, corpora: Corpora, kind: str, old: str, new: str, message: str) -> None:
    files, spec = corpora["chemprot"]
    name = f"chemprot_training/chemprot_training_{kind}.tsv"
    assert old in files[name]
    with pytest.raises(DataFormatError, match=message) as caught:
        load(files | {name: files[name].replace(old, new, 1)}, **spec)
    assert caught.value.line is not None
    assert caught.value.path.endswith(name)


def test_negative_class_is_not_invented(load: Load, corpora: Corpora) -> None:
    files, _ = corpora["chemprot"]
    labels = ["CPR:3", "CPR:4", "CPR:9"]
    with pytest.raises(InputError, match="`negative_label` is missing"):
        load(files, name="mine", type="relation", reader="chemprot", labels=labels)
    data = load(
        files, name="mine", type="relation", reader="chemprot", labels=["none", *labels], negative_label="none"
    )
    assert data.splits["train"]["relations"][0][0]["type"] == "none"


def test_missing_part(load: Load, corpora: Corpora) -> None:
    files, spec = corpora["chemprot"]
    with pytest.raises(DataFormatError, match="no folder chemprot_test_gs or chemprot_test"):
        load({name: text for name, text in files.items() if "test_gs" not in name}, **spec)


def test_missing_file(load: Load, corpora: Corpora) -> None:
    files, spec = corpora["chemprot"]
    with pytest.raises(DataFormatError, match=r"expected one file \*entities\*\.tsv, found none"):
        load({name: text for name, text in files.items() if "training_entities" not in name}, **spec)
