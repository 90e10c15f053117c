from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from hf_crosstask.errors import DataFormatError
from hf_crosstask.tasks.card import TaskCard
from hf_crosstask.tasks.readers.base import Source
from hf_crosstask.tasks.readers.files import open_tree, split_trees

CARD = TaskCard(name="x", type="ner", level=1, primary_metric="entity_f1", reader="brat", obtain="Ask for it.")


def put(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, name)
    return buffer.getvalue()


def splits(
    path: Path | dict[str, Path], wanted: Callable[[str], object] = lambda name: name.endswith(".x")
) -> dict[str, list[str]]:
    return {split: list(tree.names) for split, tree in split_trees(Source(CARD, path), wanted, ".x files").items()}


def test_splits_are_named_by_folders(tmp_path: Path) -> None:
    put(
        tmp_path,
        "data/training_2018/discharge/a.x",
        "data/gold-standard-test-data/b.x",
        "data/Devel/c.x",
        "data/README.x.md",
    )
    assert splits(tmp_path) == {
        "train": ["data/training_2018/discharge/a.x"],
        "validation": ["data/Devel/c.x"],
        "test": ["data/gold-standard-test-data/b.x"],
    }


def test_the_topmost_folder_decides(tmp_path: Path) -> None:
    put(tmp_path, "Test/train of thought/a.x", "Train/Test for felt/b.x")
    assert splits(tmp_path) == {"train": ["Train/Test for felt/b.x"], "test": ["Test/train of thought/a.x"]}


def test_a_folder_for_two_splits_decides_nothing(tmp_path: Path) -> None:
    put(tmp_path, "train and test/dev/a.x")
    assert splits(tmp_path) == {"validation": ["train and test/dev/a.x"]}


def test_files_outside_splits(tmp_path: Path) -> None:
    put(tmp_path, "train/a.x", "b.x")
    with pytest.raises(DataFormatError, match=r"b\.x lies in no folder that names a split.*as a map"):
        splits(tmp_path)


def test_two_folders_for_one_split(tmp_path: Path) -> None:
    put(tmp_path, "train/a.x", "test_raw/b.x", "test_gold/b.x")
    with pytest.raises(DataFormatError, match="several folders for the test split: test_gold, test_raw"):
        splits(tmp_path)


def test_map_of_splits(tmp_path: Path) -> None:
    put(tmp_path, "one/a.x", "two/b.x")
    assert splits({"train": tmp_path / "one", "dev": tmp_path / "two"}) == {"train": ["a.x"], "validation": ["b.x"]}
    with pytest.raises(DataFormatError, match=r"empty: holds no \.x files"):
        splits({"train": tmp_path / "one", "dev": put(tmp_path / "empty", "c.y")})
    with pytest.raises(DataFormatError, match="names the split 'held-out'"):
        splits({"held-out": tmp_path / "one"})


def test_archive_itself_or_in_the_folder(tmp_path: Path) -> None:
    archive = tmp_path / "corpus.zip"
    archive.write_bytes(zipped("C/train/a.x", "__MACOSX/C/train/._a.x", "C/.DS_Store", "C/train/._b.x"))
    assert splits(archive) == splits(tmp_path) == {"train": ["C/train/a.x"]}
    tree = open_tree(archive)
    assert tree.read_text("C/train/a.x") == "C/train/a.x"
    assert tree.where("C/train/a.x").endswith("corpus.zip/C/train/a.x")


def test_unpacked_files_come_before_archives(tmp_path: Path) -> None:
    (tmp_path / "corpus.zip").write_bytes(zipped("train/a.x"))
    put(tmp_path, "train/b.x")
    assert splits(tmp_path) == {"train": ["train/b.x"]}


def test_two_archives(tmp_path: Path) -> None:
    for name in ("a.zip", "b.zip"):
        (tmp_path / name).write_bytes(zipped("train/a.x"))
    with pytest.raises(DataFormatError, match="found it in 2 archives"):
        splits(tmp_path)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DataFormatError, match=r"no such folder.*How to obtain it: Ask for it\."):
        splits(tmp_path / "none")
    with pytest.raises(DataFormatError, match=r"holds no \.x files.*The folder holds: a\.y"):
        splits(put(tmp_path, "a.y"))
    (tmp_path / "c.zip").write_bytes(zipped("train/a.y"))
    with pytest.raises(DataFormatError, match=r"c\.zip: holds no \.x files"):
        splits(tmp_path / "c.zip")


def test_damaged_archives(tmp_path: Path) -> None:
    whole = zipped("train/a.x")
    (tmp_path / "cut.zip").write_bytes(whole[:-30])
    with pytest.raises(DataFormatError, match="is no whole zip archive"):
        splits(tmp_path / "cut.zip")
    (tmp_path / "text.zip").write_text("no archive")
    with pytest.raises(DataFormatError, match="is no whole zip archive"):
        splits(tmp_path / "text.zip")
    broken = bytearray(whole)
    broken[broken.index(b"train/a.x", 31)] ^= 1  # the stored content
    (tmp_path / "broken.zip").write_bytes(broken)
    with pytest.raises(DataFormatError, match="cannot be unpacked"):
        open_tree(tmp_path / "broken.zip").read_bytes("train/a.x")


def test_damaged_gzip(tmp_path: Path) -> None:
    (tmp_path / "a.txt.gz").write_bytes(b"\x1f\x8b no")
    with pytest.raises(DataFormatError, match="is not a whole gzip file"):
        open_tree(tmp_path).read_bytes("a.txt.gz")
