"""Corpora of many files: a folder or a zip archive of it, read the same way, and the split that each file is in."""

from __future__ import annotations

import gzip
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from hf_crosstask import atomic
from hf_crosstask.errors import DataFormatError, InputError
from hf_crosstask.tasks.readers.base import SPLIT_NAMES, Source, split_of

#: What operating systems leave in folders and archives.
_JUNK = re.compile(r"(^|/)(__MACOSX/|\._|\.DS_Store$|Thumbs\.db$|desktop\.ini$)")
_WORDS = re.compile(r"[^A-Za-z0-9]+")


@dataclass(frozen=True)
class FileTree:
    """The files below a folder or in a zip archive.

    Attributes:
        root: the folder or the archive.
        names: paths of the files inside it, with `/`, sorted; junk of operating systems left out.
    """

    root: Path
    names: tuple[str, ...]

    @property
    def zipped(self) -> bool:
        return not self.root.is_dir()

    @cached_property
    def _archive(self) -> zipfile.ZipFile:
        return _open_zip(self.root)

    def where(self, name: str) -> str:
        """What error messages call a file."""
        return f"{self.root}/{name}"

    def keep(self, wanted: Callable[[str], object]) -> FileTree:
        """The tree of those files whose name is wanted."""
        return replace(self, names=tuple(name for name in self.names if wanted(name)))

    def read_bytes(self, name: str) -> bytes:
        """The content of a file; a `.gz` file is decompressed.

        Raises:
            DataFormatError: it cannot be read, or is damaged.
        """
        try:
            data = self._archive.read(name) if self.zipped else (self.root / name).read_bytes()
        except OSError as error:
            raise DataFormatError(self.where(name), f"cannot be read: {error}.") from None
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            # RuntimeError: encrypted; NotImplementedError: a compression method that Python lacks
            problem = f"cannot be unpacked: {error}."
            raise DataFormatError(self.where(name), problem, remedy="Obtain the archive again.") from None
        if not name.endswith(".gz"):
            return data
        try:
            return gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            problem = f"is not a whole gzip file: {error}."
            raise DataFormatError(self.where(name), problem, remedy="Obtain it again.") from None

    def read_text(self, name: str, encoding: str = "utf-8") -> str:
        """The text of a file, decoded strictly as `base.read_text` does: line ends stay, one byte order mark goes."""
        return decode(self.read_bytes(name), self.where(name), encoding)

    def read_lines(self, name: str, encoding: str = "utf-8") -> Iterator[tuple[int, str]]:
        """Lines with their 1-based numbers, without line ends (LF or CRLF)."""
        return numbered_lines(self.read_text(name, encoding))


def decode(data: bytes, where: str, encoding: str) -> str:
    """Decode strictly; remove one leading byte order mark.

    Raises:
        DataFormatError: the bytes are not in `encoding`, or hold a NUL character.
    """
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        problem = f"byte {data[error.start]:#04x} at offset {error.start} is not valid {encoding} ({error.reason})."
        remedy = "Convert the file to UTF-8, or name its encoding in options.encoding."
        raise DataFormatError(where, problem, line=line, remedy=remedy) from None
    except UnicodeError as error:  # UTF-16 without its mark
        raise DataFormatError(where, f"is not valid {encoding}: {error}.") from None
    except LookupError:
        raise DataFormatError(where, f"unknown encoding {encoding!r}.", remedy="Use a Python codec name.") from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataFormatError(where, "holds a NUL character: this is not a text file.", line=line)
    return text.removeprefix("\ufeff")


def numbered_lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines of a text with their 1-based numbers; only LF (or CRLF) ends a line."""
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    for number, line in enumerate(lines, start=1):
        yield number, line.removesuffix("\r")


def open_tree(path: Path) -> FileTree:
    """The files of a folder or zip archive.

    Raises:
        DataFormatError: there is neither, or the archive is damaged.
    """
    if path.is_dir():
        names = []
        for folder, _, files in os.walk(path):
            below = Path(folder).relative_to(path)
            names += [(below / file).as_posix() for file in files]
    elif path.is_file():
        with _open_zip(path) as archive:
            names = [info.filename for info in archive.infolist() if not info.is_dir()]
    else:
        raise DataFormatError(path, "no such folder or zip archive.", remedy="Check `path` and `data_dir`.")
    return FileTree(path, tuple(sorted(name for name in names if not _JUNK.search(name))))


def corpus_tree(source: Source, wanted: Callable[[str], object], looked_for: str) -> FileTree:
    """The files of a source that are wanted: of its folder, its zip archive, or the one zip archive in its folder.

    Args:
        source: its path is a folder or a zip archive.
        wanted: says of a file's name whether it belongs to the corpus.
        looked_for: the same in words, for the error.

    Raises:
        DataFormatError: `path` is missing or a map, or nothing wanted is there, or in two archives.
    """
    if not isinstance(source.path, Path):
        problem = "`path` is missing." if source.path is None else "`path` is a map of splits."
        raise DataFormatError(source.name, problem, remedy=f"Give the folder or zip archive with {looked_for}.")
    if not source.path.exists():
        how = f" How to obtain it: {source.card.obtain}" if source.card.obtain else ""
        raise DataFormatError(source.path, "no such folder.", remedy=f"Check `path` and `data_dir`.{how}")
    tree = open_tree(source.path).keep(wanted)
    if tree.names or tree.zipped:
        found = [tree] if tree.names else []
    else:
        archives = [open_tree(path).keep(wanted) for path in sorted(source.path.glob("*.zip"))]
        found = [archive for archive in archives if archive.names]
    if len(found) != 1:
        problem = f"expected {looked_for}; found it in {len(found)} archives." if found else f"holds no {looked_for}."
        there = ", ".join(sorted(path.name for path in source.path.iterdir())[:12]) if source.path.is_dir() else ""
        remedy = f"The folder holds: {there or 'nothing'}." if source.path.is_dir() else "Check `path`."
        raise DataFormatError(source.path, problem, remedy=remedy)
    return found[0]


def split_trees(source: Source, wanted: Callable[[str], object], looked_for: str) -> dict[str, FileTree]:
    """The wanted files of each split, by the folders they lie in (`training_20180910`, `data/devel/discharge`).

    The topmost folder that names exactly one split decides; a map of split to folder (or zip archive) overrides names.

    Raises:
        DataFormatError: nothing is found, a file lies in no split's folder, or two folders claim the test split.
    """
    if isinstance(source.path, Mapping):
        trees = {}
        for name, path in source.path.items():
            split = split_of(name)
            if split is None or split in trees:
                problem = f"`path` names the split {name!r}; valid, each once: {', '.join(SPLIT_NAMES)}."
                raise DataFormatError(source.name, problem)
            trees[split] = open_tree(path).keep(wanted)
            if not trees[split].names:
                raise DataFormatError(path, f"holds no {looked_for}.")
        return trees
    tree = corpus_tree(source, wanted, looked_for)
    names: dict[str, list[str]] = {}
    folders: dict[str, set[str]] = {}
    for name in tree.names:
        split, folder = _split_of_path(name)
        if split is None:
            problem = f"{name} lies in no folder that names a split ({', '.join(SPLIT_NAMES)})."
            remedy = 'Give `path` as a map, {"train": folder, "validation": folder, "test": folder}.'
            raise DataFormatError(tree.root, problem, remedy=remedy)
        names.setdefault(split, []).append(name)
        folders.setdefault(split, set()).add(folder)
    for split, claimed in folders.items():
        if len(claimed) > 1:
            problem = f"several folders for the {split} split: {', '.join(sorted(claimed))}."
            raise DataFormatError(tree.root, problem, remedy="Name one in a map of split to folder.")
    return {split: replace(tree, names=tuple(names[split])) for split in SPLIT_NAMES if split in names}


def _split_of_path(name: str) -> tuple[str | None, str]:
    """The split that a file's folders name, and the path of the folder that names it."""
    parts = name.split("/")[:-1]
    for depth, part in enumerate(parts, start=1):
        named = {split_of(word) for word in _WORDS.split(part)} - {None}
        if len(named) == 1:
            return named.pop(), "/".join(parts[:depth])
    return None, ""


def one_file(tree: FileTree, pattern: str, looked_for: str) -> str | None:
    """The one file whose path matches a regular expression (without case), or None.

    Raises:
        DataFormatError: several match.
    """
    found = [name for name in tree.names if re.search(pattern, name, re.IGNORECASE)]
    if len(found) > 1:
        raise DataFormatError(tree.root, f"several files are {looked_for}: {', '.join(found[:6])}.")
    return found[0] if found else None


def unique_stems(where: Path | str, names: Sequence[str], stem: Callable[[str], str]) -> dict[str, str]:
    """Document name to file; names must be unique, for they become example ids."""
    files: dict[str, str] = {}
    for name in names:
        document = stem(name)
        if document in files:
            raise DataFormatError(where, f"two files of one document name: {files[document]} and {name}.")
        files[document] = name
    return files


def file_name(document: str) -> str:
    """The document's name, if it can be a file name everywhere (documents that are written back).

    Raises:
        InputError: it cannot (a path separator, a leading dot, …).
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*", document):
        raise InputError(f"the example id {document!r} cannot name a file: only letters, digits, `_`, `.` and `-`")
    return document


def write_note(path: Path, text: str) -> None:
    """Write a document's text as it is, whole or not at all: its line ends count in offsets."""
    atomic.write_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8", newline=""))


def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise DataFormatError(path, f"is no whole zip archive: {error}.", remedy="Obtain it again.") from None
    except OSError as error:
        raise DataFormatError(path, f"cannot be read: {error.strerror}.") from None
