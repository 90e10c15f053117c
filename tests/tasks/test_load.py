from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from hf_crosstask.errors import DataFormatError, InputError
from hf_crosstask.tasks.card import TaskSpec
from hf_crosstask.tasks.load import TaskData, load_task
from hf_crosstask.tasks.schema import features

SPEC: dict[str, Any] = {
    "name": "mine",
    "type": "classification",
    "reader": "tsv",
    "path": "mine",
    "labels": ["good", "bad"],
    "columns": {"text": "text", "labels": "label"},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine").mkdir()
    for split, rows in (("train", 60), ("dev", 20), ("test", 30)):
        # Sorted by label, as some corpora are: the first rows are one class.
        lines = [f"{split} felt {n}\t{'good' if n < rows // 2 else 'bad'}\n" for n in range(rows)]
        (tmp_path / "mine" / f"{split}.tsv").write_text("text\tlabel\n" + "".join(lines))
    return tmp_path


def load(folder: Path, seed: int = 0, **fields: Any) -> TaskData:
    return load_task(TaskSpec(**(SPEC | fields)), data_dir=folder, seed=seed)


def test_splits_have_the_unified_features(folder: Path) -> None:
    data = load(folder)
    assert list(data.splits) == ["train", "validation", "test"]
    assert {split: len(rows) for split, rows in data.splits.items()} == {"train": 60, "validation": 20, "test": 30}
    assert all(rows.features == features() for rows in data.splits.values())
    assert data.splits["test"]["id"][:2] == ["test-1", "test-2"]


def test_max_examples_is_a_seeded_sample_in_order(folder: Path) -> None:
    whole = load(folder).splits["train"]["text"]
    data = load(folder, max_examples={"train": 20, "test": 99})
    sample = data.splits["train"]["text"]
    assert len(sample) == 20
    assert sample == sorted(sample, key=whole.index)
    assert sample != whole[:20]
    assert {label for row in data.splits["train"]["labels"] for label in row} == {"good", "bad"}
    assert data.dropped == {"train": {"left out by max_examples": 40}}
    assert len(data.splits["test"]) == 30
    assert load(folder, max_examples={"train": 20, "validation": 5}).splits["train"]["text"] == sample
    assert load(folder, max_examples={"train": 20}, seed=1).splits["train"]["text"] != sample


def ranking(folder: Path, *rows: tuple[str, int], relevant: str = "true", **fields: Any) -> TaskData:
    """A ranking task of these queries with so many candidates each."""
    lines = [
        json.dumps({"text": f"{query}?", "text_pair": f"{n}", "group_id": query, "rank": n + 1, "score": n % 2})[:-1]
        + f', "labels": "{relevant if n % 2 else "false"}"}}'
        for query, count in rows
        for n in range(count)
    ]
    path = folder / "train.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    spec = {"name": "forum", "type": "ranking", "reader": "jsonl", "path": {"train": str(path)}}
    return load_task(TaskSpec(**(spec | fields)), data_dir=None)


def test_max_examples_keeps_whole_queries(tmp_path: Path) -> None:
    queries = [(f"q{number}", 3 + number % 4) for number in range(20)]
    data = ranking(tmp_path, *queries, max_examples={"train": 30})
    kept = Counter(data.splits["train"]["group_id"][:])
    assert 24 < sum(kept.values()) <= 30
    assert all(count == dict(queries)[query] for query, count in kept.items())
    assert data.dropped["train"]["left out by max_examples"] == sum(dict(queries).values()) - sum(kept.values())
    with pytest.raises(InputError, match=r"max_examples.train is 2.*the smallest has 3 candidates"):
        ranking(tmp_path, *queries, max_examples={"train": 2})


def test_targets_that_are_all_alike_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataFormatError, match="every training example has the label 'false'"):
        ranking(tmp_path, ("q", 12), relevant="false")
    path = tmp_path / "pairs.tsv"
    path.write_text("text\ttext_pair\tscore\n" + "a\tb\t2\n" * 12)
    same = {
        "name": "pairs",
        "type": "similarity",
        "reader": "tsv",
        "path": {"train": str(path)},
        "score_range": (0, 4),
    }
    with pytest.raises(DataFormatError, match="every training example has the score 2"):
        load_task(TaskSpec(**same), data_dir=None)
    path.write_text("text\tlabels\n" + "a\t\n" * 12)
    none = {"name": "sets", "type": "multilabel", "reader": "tsv", "path": {"train": str(path)}, "labels": ["x"]}
    with pytest.raises(DataFormatError, match="no training example has a label"):
        load_task(TaskSpec(**none, options={"label_separator": "|"}), data_dir=None)


def test_lost_gold_is_scaled_to_the_sample(shared_data: Path) -> None:
    spec = TaskSpec(name="chemprot", max_examples={"train": 9000})
    data = load_task(spec, data_dir=shared_data)
    assert len(data.splits["train"]) == 9000
    assert data.lost_gold["train"] == {"CPR:4": 2}  # 3 in about twice as many


def test_fingerprint_depends_on_content_alone(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    fingerprint = load(folder).fingerprint
    assert len(fingerprint) == 64
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    shutil.copytree(folder / "mine", elsewhere / "other")
    assert load(elsewhere, path="other", licence="MIT").fingerprint == fingerprint
    files = {"train": "train.tsv", "validation": "dev.tsv", "test": "test.tsv"}
    by_map = {split: str(elsewhere / "other" / file) for split, file in files.items()}
    assert load(folder, path=by_map).fingerprint == fingerprint
    different = [
        load(folder, max_examples={"test": 29}),
        load(folder, labels=["bad", "good"]),
        load(folder, segmentation="whitespace"),
        load(folder, name="other"),
    ]
    path = elsewhere / "other" / "test.tsv"
    path.write_text(path.read_text().replace("felt 7", "felt seven"))
    different.append(load(elsewhere, path="other"))
    assert len({fingerprint, *(data.fingerprint for data in different)}) == 6


def test_paths(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert len(load_task(TaskSpec(**SPEC), data_dir=None).splits["train"]) == 60
    monkeypatch.setenv("HOME", str(folder))
    assert len(load(Path("/nowhere"), path="~/mine").splits["train"]) == 60
    assert len(load(Path("/nowhere"), path=str(folder / "mine")).splits["train"]) == 60
    with pytest.raises(DataFormatError, match=r"/nowhere/mine: no such folder"):
        load(Path("/nowhere"))


def test_one_class_is_a_wrong_column(folder: Path) -> None:
    (folder / "mine/train.tsv").write_text("text\tlabel\n" + "felt\tgood\n" * 12)
    with pytest.raises(DataFormatError, match="every training example has the label 'good'"):
        load(folder)


def test_invariants_are_checked(folder: Path) -> None:
    (folder / "mine/train.tsv").write_text("text\tlabel\n \tgood\ncold\tbad\n")
    with pytest.raises(DataFormatError, match=r"example 'train-1': `text` is empty"):
        load(folder)


def test_empty_split(folder: Path) -> None:
    (folder / "mine/dev.tsv").write_text("text\tlabel\n")
    with pytest.raises(DataFormatError, match="the validation split holds no examples"):
        load(folder)


def test_synthetic_tasks_load_without_files() -> None:
    options = {"train": 20, "validation": 5, "test": 5}
    for kind in ("ner", "relation", "classification"):
        data = load_task(TaskSpec(name=f"synthetic_{kind}", options=options), data_dir=None)
        assert {split: len(rows) for split, rows in data.splits.items()} == options
