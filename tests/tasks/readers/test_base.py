from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_crosstask.errors import DataFormatError, InputError
from hf_crosstask.tasks.card import TaskCard
from hf_crosstask.tasks.readers.base import (
    Source,
    TextOptions,
    integer,
    parse_options,
    pmid_group,
    read_lines,
    read_text,
    source_folder,
    split_files,
    split_of,
)

CARD = TaskCard(name="mine", type="ner", level=1, primary_metric="entity_f1", reader="iob", obtain="Ask the author.")


def test_lines_end_at_line_feeds_only(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("one\u2028still\x0bone\r\ntwo\r\n\r\nfour".encode())
    assert list(read_lines(path)) == [(1, "one\u2028still\x0bone"), (2, "two"), (3, ""), (4, "four")]


def test_text_keeps_line_ends_for_offsets(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"one\r\ntwo")
    assert read_text(path) == "one\r\ntwo"


def test_one_byte_order_mark_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbf\xef\xbb\xbfx")
    assert read_text(path) == "\ufeffx"
    path.write_bytes("é".encode("utf-16"))
    assert read_text(path, "utf-16") == "é"


def test_wrong_encoding_names_line_byte_and_remedy(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"good\nna\xefve\n")
    with pytest.raises(DataFormatError) as caught:
        read_text(path)
    assert caught.value.line == 2
    assert "0xef at offset 7" in str(caught.value)
    assert "options.encoding" in str(caught.value)
    assert read_text(path, "latin-1") == "good\nnaïve\n"


def test_no_text_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"x\ny\0")
    with pytest.raises(DataFormatError, match=r"a\.txt:2: holds a NUL"):
        read_text(path)
    with pytest.raises(DataFormatError, match="no such file"):
        read_text(tmp_path / "b.txt")
    with pytest.raises(DataFormatError, match="cannot be read"):
        read_text(tmp_path)
    with pytest.raises(DataFormatError, match="unknown encoding 'utf-9'"):
        read_text(path, "utf-9")


def test_gzip(tmp_path: Path) -> None:
    path = tmp_path / "a.txt.gz"
    whole = gzip.compress(b"text" * 100)
    path.write_bytes(whole)
    assert read_text(path) == "text" * 100
    path.write_bytes(whole[:-9])
    with pytest.raises(DataFormatError, match="not a whole gzip file"):
        read_text(path)


@given(st.binary(max_size=200))
def test_any_bytes_are_text_or_a_format_error(data: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.txt"
        path.write_bytes(data)
        try:
            text = read_text(path)
        except DataFormatError:
            return
        lines = [line for _, line in read_lines(path)]
        assert "\n".join(lines).replace("\r", "") == text.removesuffix("\n").replace("\r", "")


def test_split_names() -> None:
    names = ["train", "Dev", "devel", "validation", "valid", "test", "other"]
    expected = ["train", "validation", "validation", "validation", "validation", "test", None]
    assert [split_of(name) for name in names] == expected


def test_usual_names_of_a_folder(tmp_path: Path) -> None:
    for name in ("train.tsv", "devel.tsv.gz", "test.iob", "notes.md"):
        (tmp_path / name).touch()
    files = split_files(Source(CARD, tmp_path), (".tsv", ".iob"))
    assert {split: path.name for split, path in files.items()} == {
        "train": "train.tsv",
        "validation": "devel.tsv.gz",
        "test": "test.iob",
    }


def test_folder_without_train_lists_what_was_looked_for_and_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "training_set.tsv").touch()
    with pytest.raises(DataFormatError) as caught:
        split_files(Source(CARD, tmp_path), (".tsv",))
    assert "train|training" in str(caught.value)
    assert ".tsv|.tsv.gz" in str(caught.value)
    assert "training_set.tsv" in str(caught.value)


def test_two_files_for_one_split(tmp_path: Path) -> None:
    for name in ("train.tsv", "dev.tsv", "devel.tsv"):
        (tmp_path / name).touch()
    with pytest.raises(DataFormatError, match=r"two files for the validation split: dev\.tsv and devel\.tsv"):
        split_files(Source(CARD, tmp_path), (".tsv",))


def test_map_of_splits(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    a, b, c = (tmp_path / name for name in "abc")
    assert split_files(Source(CARD, {"train": a, "dev": a}), ()) == {"train": a, "validation": a}
    with pytest.raises(DataFormatError) as caught:
        split_files(Source(CARD, {"train": b, "dev": a, "test": c}), ())
    assert str(b) in str(caught.value)
    assert str(c) in str(caught.value)
    with pytest.raises(DataFormatError, match="twice"):
        split_files(Source(CARD, {"dev": a, "devel": a}), ())
    with pytest.raises(DataFormatError, match="'extra'"):
        split_files(Source(CARD, {"extra": a}), ())


def test_missing_folder_says_how_to_obtain(tmp_path: Path) -> None:
    with pytest.raises(DataFormatError, match=r"no such folder.*Ask the author"):
        source_folder(Source(CARD, tmp_path / "absent"))
    (tmp_path / "file").touch()
    with pytest.raises(DataFormatError, match="is a file, not a folder"):
        source_folder(Source(CARD, tmp_path / "file"))
    with pytest.raises(DataFormatError, match="`path` is missing"):
        source_folder(Source(CARD))


def test_options_report_every_problem() -> None:
    with pytest.raises(InputError) as caught:
        parse_options(Source(CARD, options={"encodin": "x", "encoding": 3}), TextOptions)
    assert "did you mean 'encoding'" in str(caught.value)
    assert "options.encoding: Input should be a valid string" in str(caught.value)


def test_numbers_and_pmids() -> None:
    assert [integer(text) for text in ("12", "-1", "", "٣", "1" * 10, " 1")] == [12, *[None] * 5]
    assert pmid_group("00001606") == "pmid:1606"
