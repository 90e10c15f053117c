from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value, config

from hf_crosstask.errors import DataFormatError
from hf_crosstask.tasks.card import TaskSpec
from hf_crosstask.tasks.load import TaskData, load_task

TAGS = ClassLabel(names=["O", "B-Drug", "I-Drug"])
MINE: dict[str, Any] = {
    "name": "mine",
    "type": "ner",
    "reader": "hub",
    "labels": ["Drug"],
    "columns": {"tokens": "tokens", "tags": "ner_tags"},
}


def tagged(rows: int = 2) -> Dataset:
    features = Features({"tokens": List(Value("string")), "ner_tags": List(TAGS), "other": Value("int8")})
    return Dataset.from_dict(
        {"tokens": [["Zinc", "salt", "helps"]] * rows, "ner_tags": [[1, 2, 0]] * rows, "other": [1] * rows}, features
    )


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., TaskData]:
    monkeypatch.setattr(config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return lambda **spec: load_task(TaskSpec(**spec), data_dir=tmp_path)


def test_saved_dataset_with_class_labels(load: Callable[..., TaskData], tmp_path: Path) -> None:
    DatasetDict({"train": tagged(), "validation": tagged(1), "unsupervised": tagged(3)}).save_to_disk(
        tmp_path / "saved"
    )
    data = load(**MINE, path="saved")
    assert data.splits["train"]["text"] == ["Zinc salt helps"] * 2
    assert data.splits["train"][0]["entities"][0]["text"] == ["Zinc salt"]
    assert data.dropped == {"unsupervised": {"examples of a split that is not used": 3}}


def test_folder_of_parquet_files(load: Callable[..., TaskData], tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for name in ("train", "test"):
        tagged().to_parquet(tmp_path / "folder" / f"{name}-00000-of-00001.parquet")
    data = load(**MINE, path="folder")
    assert {split: len(rows) for split, rows in data.splits.items()} == {"train": 2, "test": 2}


def test_map_of_parquet_files_and_nested_class_labels(load: Callable[..., TaskData], tmp_path: Path) -> None:
    entity = {"start": Value("int32"), "end": Value("int32"), "type": ClassLabel(names=["Drug"])}
    features = Features({"meta": {"text": Value("string")}, "spans": List(entity)})
    rows = [{"meta": {"text": "Zinc helps"}, "spans": [{"start": 0, "end": 4, "type": 0}]}]
    Dataset.from_list(rows, features).to_parquet(tmp_path / "a.parquet")
    columns = {"text": "meta.text", "entities": "spans"}
    data = load(**MINE | {"columns": columns, "path": {"train": "a.parquet", "dev": "a.parquet"}})
    assert data.splits["validation"][0]["entities"][0]["type"] == "Drug"


def test_options_choose_splits(load: Callable[..., TaskData], tmp_path: Path) -> None:
    DatasetDict({"big": tagged(), "test_matched": tagged()}).save_to_disk(tmp_path / "saved")
    with pytest.raises(DataFormatError, match=r"no train split; the dataset has: big, test_matched"):
        load(**MINE, path="saved")
    data = load(**MINE, path="saved", options={"splits": {"train": "big", "test": "test_matched"}})
    assert set(data.splits) == {"train", "test"}
    with pytest.raises(DataFormatError, match="no split 'bgi' for 'train'"):
        load(**MINE, path="saved", options={"splits": {"train": "bgi"}})


def test_hidden_labels_and_missing_columns(load: Callable[..., TaskData], tmp_path: Path) -> None:
    features = Features({"sentence": Value("string"), "label": ClassLabel(names=["no", "yes"])})
    rows = {"sentence": ["a", "b", "c"], "label": [0, 1, -1]}
    DatasetDict({"train": Dataset.from_dict(rows, features)}).save_to_disk(tmp_path / "saved")
    task = {"name": "mine", "type": "classification", "reader": "hub", "labels": ["no", "yes"], "path": "saved"}
    with pytest.raises(DataFormatError, match=r"row 2: the label is hidden"):
        load(**task, columns={"text": "sentence", "labels": "label"})
    with pytest.raises(DataFormatError, match="no column 'text' for the field `text`; it has: 'sentence', 'label'"):
        load(**task, columns={"text": "text", "labels": "label"})


def test_dataset_that_does_not_exist(load: Callable[..., TaskData]) -> None:
    with pytest.raises(DataFormatError, match=r"nobody/nothing: the dataset does not load"):
        load(**MINE, path="nobody/nothing")


def test_loading_scripts_do_not_run(load: Callable[..., TaskData], tmp_path: Path) -> None:
    (tmp_path / "scripted").mkdir()
    (tmp_path / "scripted" / "scripted.py").write_text("raise SystemExit('ran')")
    with pytest.raises(DataFormatError, match="does not load"):
        load(**MINE, path="scripted")
