"""What every reader shares: its input and output, strict text reading, and the discovery of split files."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from hf_crosstask.errors import DataFormatError, InputError, closest
from hf_crosstask.tasks.card import TaskCard

Counts = dict[str, dict[str, int]]

#: The usual names of each split, as files and folders spell them.
SPLIT_NAMES: dict[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "devel", "development"),
    "test": ("test",),
}


@dataclass(frozen=True)
class Source:
    """One task's data as a reader gets it.

    Attributes:
        card: the task; `card.path` is the path as the user wrote it (a Hub id for the reader `hub`).
        path: the same, resolved: a folder, a map of split to file, or None where the reader needs no files.
        seed: for readers that generate or sample.
        options: the reader's options, as the user wrote them; read them with `parse_options`.
    """

    card: TaskCard
    path: Path | Mapping[str, Path] | None = None
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What error messages call this source: its folder, or the task where there is none."""
        return str(self.path) if isinstance(self.path, Path) else f"task {self.card.name!r}"


@dataclass(frozen=True)
class ReadResult:
    """What a reader returns.

    Attributes:
        splits: split (train, validation, test) to examples of the unified schema (`make_example`).
        dropped: split to reason to the number of things the format legitimately drops.
        lost_gold: split to label to the number of gold annotations that no example can carry; scorers count them as
            false negatives.
    """

    splits: dict[str, list[dict[str, Any]]]
    dropped: Counts = field(default_factory=dict)
    lost_gold: Counts = field(default_factory=dict)


class Reader(Protocol):
    """Reads one original format."""

    def __call__(self, source: Source) -> ReadResult: ...


class Options(BaseModel):
    """Base of a reader's options: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TextOptions(Options):
    """Options of every reader of text files."""

    encoding: str = "utf-8"


OptionsT = TypeVar("OptionsT", bound=Options)


def parse_options(source: Source, model: type[OptionsT]) -> OptionsT:
    """The reader's options, validated.

    Raises:
        InputError: all unknown or wrong options at once, with the valid names.
    """
    try:
        return model.model_validate(dict(source.options))
    except ValidationError as error:
        problems = []
        for item in error.errors():
            key = ".".join(str(part) for part in item["loc"])
            problem = item["msg"]
            if item["type"] == "extra_forbidden":
                guess = closest(key, model.model_fields)
                known = ", ".join(model.model_fields)
                problem = "no such option; " + (f"did you mean {guess!r}?" if guess else f"valid: {known}")
            problems.append(f"options.{key}: {problem}")
        reader = f"reader {source.card.reader!r}"
        raise InputError(f"task {source.card.name!r} ({reader}): " + "; ".join(problems)) from None


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """The text of a file, decoded strictly; a `.gz` file is decompressed first.

    One leading byte order mark is removed (it is no part of the text). Line ends stay as they are, so that character
    offsets into the file hold; `read_lines` removes them.

    Raises:
        DataFormatError: the file is missing, unreadable, not in `encoding`, or holds a NUL character.
    """
    data = _read_bytes(path)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        problem = f"byte {data[error.start]:#04x} at offset {error.start} is not valid {encoding} ({error.reason})."
        remedy = "Convert the file to UTF-8, or name its encoding in options.encoding."
        raise DataFormatError(path, problem, line=line, remedy=remedy) from None
    except UnicodeError as error:  # UTF-16 without its mark
        raise DataFormatError(path, f"is not valid {encoding}: {error}.") from None
    except LookupError:
        raise DataFormatError(path, f"unknown encoding {encoding!r}.", remedy="Use a Python codec name.") from None
    nul = text.find("\0")
    if nul >= 0:
        line = text.count("\n", 0, nul) + 1
        raise DataFormatError(path, "holds a NUL character: this is not a text file.", line=line)
    return text.removeprefix("\ufeff")


def _read_bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise DataFormatError(path, "no such file.", remedy="Check `path` and `data_dir`.") from None
    except OSError as error:
        raise DataFormatError(path, f"cannot be read: {error.strerror}.") from None
    if path.suffix != ".gz":
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise DataFormatError(path, f"is not a whole gzip file: {error}.", remedy="Obtain it again.") from None


def read_lines(path: Path, encoding: str = "utf-8") -> Iterator[tuple[int, str]]:
    """The lines of a text file with their 1-based numbers, without line ends (LF or CRLF).

    Only LF ends a line: the other Unicode line breaks (form feed, U+2028, …) occur inside the text of real corpora,
    where splitting at them would tear a record apart.
    """
    lines = read_text(path, encoding).split("\n")
    if lines[-1] == "":
        lines.pop()
    for number, line in enumerate(lines, start=1):
        yield number, line.removesuffix("\r")


def split_of(name: str) -> str | None:
    """The split that a usual split name stands for (`devel` is validation), or None."""
    return next((split for split, names in SPLIT_NAMES.items() if name.lower() in names), None)


def split_files(source: Source, extensions: Sequence[str]) -> dict[str, Path]:
    """The file of each split: of a folder by the usual names, or of the user's own map.

    Args:
        source: its path is a folder or a map of split to file.
        extensions: of the format, with their dot; each is also looked for with `.gz` added.

    Raises:
        DataFormatError: a file or the folder is missing (the message lists what was looked for), or one split has
            two files.
    """
    if isinstance(source.path, Mapping):
        return _mapped_files(source, source.path)
    folder = source_folder(source)
    endings = [ending + gz for ending in extensions for gz in ("", ".gz")]
    found: dict[str, Path] = {}
    for split, names in SPLIT_NAMES.items():
        files = [folder / (name + ending) for name in names for ending in endings]
        present = [file for file in files if file.is_file()]
        if len(present) > 1:
            names_found = " and ".join(file.name for file in present)
            raise DataFormatError(
                folder,
                f"two files for the {split} split: {names_found}.",
                remedy="Name one in a map of split to file.",
            )
        if present:
            found[split] = present[0]
    if "train" not in found:
        looked_for = "; ".join(f"{split}: {'|'.join(names)}" for split, names in SPLIT_NAMES.items())
        there = ", ".join(sorted(file.name for file in folder.iterdir())[:12]) or "nothing"
        raise DataFormatError(
            folder,
            f"no file of the train split. Looked for {looked_for} with {'|'.join(endings)}; the folder holds {there}.",
            remedy='Or give `path` as a map, {"train": file, "validation": file, "test": file}.',
        )
    return found


def source_folder(source: Source) -> Path:
    """The folder of a source.

    Raises:
        DataFormatError: `path` is not given, is a map, or is no folder.
    """
    if source.path is None:
        raise DataFormatError(source.name, "`path` is missing.", remedy="Give the folder of the task's files.")
    if isinstance(source.path, Mapping):
        raise DataFormatError(
            source.name, f"the reader {source.card.reader!r} needs a folder as `path`, not a map of split to file."
        )
    if not source.path.is_dir():
        kind = "is a file, not a folder" if source.path.exists() else "no such folder"
        how = f" How to obtain it: {source.card.obtain}" if source.card.obtain else ""
        raise DataFormatError(source.path, f"{kind}.", remedy=f"Check `path` and `data_dir`.{how}")
    return source.path


def _mapped_files(source: Source, paths: Mapping[str, Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for name, path in paths.items():
        split = split_of(name)
        if split is None:
            valid = ", ".join(SPLIT_NAMES)
            raise DataFormatError(source.name, f"`path` names the split {name!r}; valid: {valid}.")
        if split in found:
            raise DataFormatError(source.name, f"`path` names the {split} split twice.")
        found[split] = path
    missing = [str(path) for path in found.values() if not path.is_file()]
    if missing:
        raise DataFormatError(
            source.name, f"no such file: {', '.join(missing)}.", remedy="Check `path` and `data_dir`."
        )
    if not found:
        raise DataFormatError(source.name, "`path` is an empty map.", remedy='Give {"train": file, …}.')
    return found


def integer(text: str) -> int | None:
    """The number that up to nine ASCII digits spell, or None."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 9 else None


def pmid_group(pmid: str) -> str:
    """The `split_group` of a PubMed document, the same in every corpus (`pmid:1606` for `00001606`)."""
    return f"pmid:{int(pmid)}"
