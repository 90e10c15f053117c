from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hf_crosstask.errors import DataFormatError, InputError
from hf_crosstask.tasks.load import TaskData

Load = Callable[..., TaskData]
GAD: dict[str, Any] = {"name": "gad", "path": "task", "options": {"validation": 2}}
HOC: dict[str, Any] = {"name": "hoc", "path": "task"}
BIOSSES: dict[str, Any] = {"name": "biosses", "path": "task"}


def gad(fold: str = "1/", **changed: str) -> dict[str, str]:
    train = "".join(f'S{n} "@GENE$"\t{n % 2}\n' for n in (1, 2, 3, 4, 5, 5, 5, 6, 7, 8))
    return {
        f"{fold}train.tsv": train,
        f"{fold}test.tsv": "index\tsentence\tlabel\n0\tS1 x\t1\n1\tS9\t0\n",
        f"{fold}dev.tsv": "",
    } | changed


def test_gad(load: Load) -> None:
    data = load(gad() | gad("2/"), **GAD)
    assert {split: len(rows) for split, rows in data.splits.items()} == {"train": 8, "validation": 2, "test": 2}
    assert not set(data.splits["train"]["text"]) & set(data.splits["validation"]["text"]), "copies stay together"
    assert data.splits["test"]["labels"] == [["1"], ["0"]]
    assert data.splits["train"][0]["text"].endswith('"@GENE$"'), "quotes are ordinary characters"
    assert load(gad("2/"), **GAD | {"options": {"fold": 2, "validation": 0}}).splits.keys() == {"train", "test"}


def test_gad_files_in_the_folder_itself(load: Load) -> None:
    """BLURB's files have a header each and a dev.tsv that is not empty."""
    header = "index\tsentence\tlabel\n"
    files = {f"{part}.tsv": f"{header}0\t{part} a\t1\n1\t{part} b\t0\n" for part in ("train", "dev", "test")}
    data = load(files, **GAD)
    assert data.splits["validation"]["text"] == ["dev a", "dev b"]
    assert len(data.splits["train"]) == 2


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"1/train.tsv": "1\tS1\n"}, "label 'S1' is not in the label set"),
        ({"1/train.tsv": "0\tS1\t1\n"}, r"train.tsv:1: expected 2 columns .*\(sentence, label\), found 3"),
        ({"1/test.tsv": "index\tsentence\tlabel\n0\tS1\t2\n"}, "label '2' is not in the label set"),
        ({"1/test.tsv": "index\tsentence\tlabel\n0\t\t1\n"}, "the sentence is empty"),
        ({"1/test.tsv": "index\tsentence\tlabel\n"}, "no rows in the test part of fold 1"),
        ({"1/test.tsv": ""}, "no rows in the test part of fold 1"),
        ({"1/train.tsv": "S1\t1\n"}, "cannot hold out 2 of 1"),
    ],
)
def test_broken_gad(load: Load, changed: dict[str, str], problem: str) -> None:
    with pytest.raises(DataFormatError, match=problem):
        load(gad(**changed), **GAD)


def test_gad_fold_that_is_not_there(load: Load) -> None:
    with pytest.raises(DataFormatError, match=r"holds no file 3/train\.tsv"):
        load(gad(), **GAD | {"options": {"fold": 3}})
    with pytest.raises(InputError, match=r"options.fold: Input should be less than or equal to 10"):
        load(gad(), **GAD | {"options": {"fold": 11}})


def hoc(**changed: str) -> dict[str, str]:
    return {
        "text/1.txt": "Felt .\nOil .\nTin .\n",
        "labels/1.txt": "<Resisting cell death--Apoptosis ANDCellular energetics-- AND Resisting cell death--< < NULL",
        "text/2.txt": "Salt .\n",
        "labels/2.txt": "<",
        "splits_blurb.tsv": "1\ttrain\n2\ttest\n",
    } | changed


def test_hoc(load: Load) -> None:
    data = load(hoc(), **HOC)
    assert data.splits["train"]["labels"] == [["Resisting cell death", "Cellular energetics"], [], []]
    assert data.splits["train"]["id"] == ["1.s1", "1.s2", "1.s3"]
    assert data.splits["test"]["split_group"] == ["pmid:2"]
    with pytest.raises(DataFormatError, match="the test split holds no examples"):
        load(hoc(), **HOC, options={"unlabelled_documents": "drop"})


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"labels/1.txt": "<Resisting cell death--< "}, "labels of 2 sentences, but text/1.txt has 3"),
        ({"labels/1.txt": "Cellular energetics--< < < "}, "expected `<` before the labels"),
        ({"labels/1.txt": "<none< < "}, "sentence 1: 'none' is none of Sustaining"),
        ({"labels/1.txt": "<Cellular energetics AND felt--x< < "}, "'felt' is none of"),
        ({"text/1.txt": "Felt .\n\nTin .\n"}, "text/1.txt:2: the sentence is empty"),
        ({"splits_blurb.tsv": "1\ttrain\n"}, "names no split for the abstract 2"),
        ({"splits_blurb.tsv": "1\ttrain\n2\ttest\n3\ttest\n"}, "names 1 abstracts that are not there, first 3"),
        ({"splits_blurb.tsv": "1\ttrain\n1\ttest\n2\ttest\n"}, "the abstract 1 occurs twice"),
        ({"splits_blurb.tsv": "1 train\n2 test\n"}, "expected `PMID<tab>split`"),
        ({"splits_blurb.tsv": "1\tfelt\n"}, "expected `PMID<tab>split`"),
        ({"labels/3.txt": "<"}, r"no text/3\.txt belongs to this file"),
        ({"text/3.txt": "x"}, r"no labels/3\.txt belongs to this file"),
        ({"text/x.txt": "x", "labels/x.txt": "<"}, "the file name 'x' is not a PMID"),
    ],
)
def test_broken_hoc(load: Load, changed: dict[str, str], problem: str) -> None:
    with pytest.raises(DataFormatError, match=problem):
        load(hoc(**changed), **HOC)


HEADER = "id\tsentence1\tsentence2\tA\tB\tC\tD\tE\tmean\n"
PAIRS = HEADER + '1\tFelt "x\tOil.\t4\t4\t4\t4\t3\t3.8\n2\tA.\tB.\t0\t0\t1\t0\t0\t0.2\n'
SPLITS = "1\ttrain\t3.8\n2\ttest\t0.2\n"


def test_biosses(load: Load) -> None:
    data = load({"biosses_pairs_scores.tsv": PAIRS, "splits_blurb.tsv": SPLITS}, **BIOSSES)
    row = data.splits["train"][0]
    assert (row["text"], row["text_pair"], row["score"], row["split_group"]) == ('Felt "x', "Oil.", 3.8, "biosses:1")
    assert data.splits["test"]["score"] == [0.2]


@pytest.mark.parametrize(
    ("pairs", "splits", "problem"),
    [
        (PAIRS.replace("\t3.8", "\t3.6"), SPLITS, "the mean of pair 1 is 3.8, the file says 3.6"),
        (PAIRS.replace("4\t4\t4\t4", "4\t5\t4\t4"), SPLITS, "expected a score from 0 to 4, found '5'"),
        (PAIRS.replace("4\t4\t4\t4", "4\tnan\t4\t4"), SPLITS, "found 'nan'"),
        (PAIRS.replace("\t3.8", ""), SPLITS, "expected 9 columns, found 8"),
        (PAIRS.replace("Oil.", " "), SPLITS, "a sentence of pair 1 is empty"),
        (PAIRS.replace("\n2\t", "\n1\t"), SPLITS, "the pair '1' occurs twice"),
        (PAIRS.removeprefix(HEADER), SPLITS, "expected the columns id sentence1"),
        (PAIRS, SPLITS.replace("0.2", "0.4"), "pair 2 has the score 0.4 here, 0.2 in"),
        (PAIRS, "1\ttrain\t3.8\n", "names no split for 1 pairs, first 2"),
        (PAIRS, SPLITS + "2\ttest\t0.2\n", "no pair has the id '2', or it occurs twice"),
        (PAIRS, SPLITS.replace("train", "felt"), "expected `id<tab>split<tab>score`"),
    ],
)
def test_broken_biosses(load: Load, pairs: str, splits: str, problem: str) -> None:
    with pytest.raises(DataFormatError, match=problem):
        load({"biosses_pairs_scores.tsv": pairs, "splits_blurb.tsv": splits}, **BIOSSES)
