"""Medical instruction data, one file without splits: MedText (CSV) and medical_qa (JSON Lines of lavita).

- `read_medtext`: `Prompt,Completion` (RFC 4180 quoting). The prompt is the text, the completion the answer.
- `read_medical_qa`: objects with `instruction`, `input`, `output`. Instruction and input (if any), with a line end
  between them, are the text, the output the answer.

`path` is the file, the folder that holds it (one file of its kind), or a map of split to file. Without a map, options
`validation` and `test` (0.1 each) say which share of the rows to hold out, chosen by a hash of the text and
`split_seed`; copies of a text stay together, and `split_group` is the text.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from hf_crosstask.errors import DataFormatError
from hf_crosstask.tasks.readers.base import (
    ReadResult,
    Source,
    TextOptions,
    parse_options,
    read_lines,
    read_text,
    source_folder,
    split_files,
)
from hf_crosstask.tasks.readers.documents import text_group
from hf_crosstask.tasks.readers.holdout import hold_out
from hf_crosstask.tasks.readers.json_text import parse_object
from hf_crosstask.tasks.readers.medqa import text_field
from hf_crosstask.tasks.schema import make_example

_COLUMNS = ["Prompt", "Completion"]
#: (line, text, answer) of each row of a file.
_Rows = Callable[[Path, str], Iterator[tuple[int, str, str]]]


class GenerationOptions(TextOptions):
    """Options of the readers; the module docstring explains them."""

    validation: float = Field(0.1, ge=0, lt=1)
    test: float = Field(0.1, ge=0, lt=1)
    split_seed: int = 0


def read_medtext(source: Source) -> ReadResult:
    """Read MedText.

    Raises:
        DataFormatError: the file is missing, has other columns or breaks the quoting rules, a cell is empty.
    """
    return _read(source, (".csv",), _csv_rows)


def read_medical_qa(source: Source) -> ReadResult:
    """Read medical_qa.

    Raises:
        DataFormatError: the file is missing, a line is no JSON object or lacks a field.
    """
    return _read(source, (".jsonl", ".json"), _json_rows)


def _read(source: Source, extensions: tuple[str, ...], rows: _Rows) -> ReadResult:
    options = parse_options(source, GenerationOptions)
    if isinstance(source.path, Mapping):
        files = split_files(source, extensions)
        return ReadResult({split: _examples(source, path, split, rows, options) for split, path in files.items()})
    path = source.path if source.path is not None and source.path.is_file() else _only_file(source, extensions)
    train = _examples(source, path, "row", rows, options)
    splits: dict[str, list[dict[str, Any]]] = {}
    total = len(train)
    for split, share in (("test", options.test), ("validation", options.validation)):
        wanted = int(share * total)
        if wanted:
            train, splits[split] = hold_out(train, wanted, options.split_seed, path)
    return ReadResult({"train": train} | {split: splits[split] for split in ("validation", "test") if split in splits})


def _only_file(source: Source, extensions: tuple[str, ...]) -> Path:
    folder = source_folder(source)
    files = sorted(path for path in folder.iterdir() if path.name.endswith(extensions))
    if len(files) != 1:
        found = ", ".join(path.name for path in files) or "none"
        problem = f"expected one file of {' or '.join(extensions)}, found {found}."
        raise DataFormatError(folder, problem, remedy="Give the file, or a map of split to file, as `path`.")
    return files[0]


def _examples(source: Source, path: Path, name: str, rows: _Rows, options: GenerationOptions) -> list[dict[str, Any]]:
    examples = []
    for number, (line, text, answer) in enumerate(rows(path, options.encoding), start=1):
        if not text.strip() or not answer.strip():
            raise DataFormatError(path, "the prompt or its completion is empty.", line=line)
        group = text_group(source.card.name, text)
        examples.append(make_example(f"{name}-{number}", source.card.name, text, split_group=group, answer=answer))
    if not examples:
        raise DataFormatError(path, "holds no rows.")
    return examples


def _csv_rows(path: Path, encoding: str) -> Iterator[tuple[int, str, str]]:
    reader = csv.reader(io.StringIO(read_text(path, encoding), newline=""), strict=True)
    try:
        header = next(reader, [])
        if header != _COLUMNS:
            raise DataFormatError(path, f"expected the columns {', '.join(_COLUMNS)}, found {header!r:.80}.", line=1)
        for cells in reader:
            if cells and len(cells) != len(_COLUMNS):
                raise DataFormatError(path, f"expected 2 cells, found {len(cells)}.", line=reader.line_num)
            if cells:
                yield reader.line_num, cells[0], cells[1]
    except csv.Error as error:
        raise DataFormatError(path, f"breaks the CSV quoting rules: {error}.", line=reader.line_num) from None


def _json_rows(path: Path, encoding: str) -> Iterator[tuple[int, str, str]]:
    for number, line in read_lines(path, encoding):
        if not line.strip():
            continue
        record = parse_object(line, path, line=number)
        given = record.get("input", "")
        if not isinstance(given, str):
            raise DataFormatError(path, f"expected a text as `input`, it is {given!r:.40}.", line=number)
        instruction = text_field(record, "instruction", path, number)
        text = f"{instruction}\n{given}" if given.strip() else instruction
        yield number, text, text_field(record, "output", path, number)
