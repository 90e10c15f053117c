"""Generic reader of JSON Lines: one object a line, columns as `columns.py` explains.

Without a column map the objects are rows of the unified schema (the field `task` is not read: the task is the card's).
Blank lines are no records. A key that occurs twice in an object, NaN and infinity are errors.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hf_crosstask.errors import DataFormatError, closest
from hf_crosstask.tasks.readers.base import ReadResult, Source, parse_options, read_lines, split_files
from hf_crosstask.tasks.readers.columns import (
    FIELDS,
    ColumnOptions,
    RowError,
    check_columns,
    locate,
    row_example,
)
from hf_crosstask.tasks.readers.json_text import parse_object

EXTENSIONS = (".jsonl", ".ndjson", ".json")


def read(source: Source) -> ReadResult:
    """Read the file of each split.

    Raises:
        DataFormatError: a file is missing, a line is no JSON object, a column is missing or holds the wrong kind of
            value, a label is unknown.
    """
    options = parse_options(source, ColumnOptions)
    splits = {}
    for split, path in split_files(source, EXTENSIONS).items():
        splits[split] = [
            _example(source, options, path, number, parse_object(line, path, line=number), f"{split}-{index}")
            for index, (number, line) in enumerate(_records(path, options.encoding), start=1)
        ]
    return ReadResult(splits)


def _example(
    source: Source, options: ColumnOptions, path: Path, number: int, record: dict[str, Any], default_id: str
) -> dict[str, Any]:
    if not source.card.columns:
        for key in record:
            if key not in FIELDS and key != "task":
                guess = closest(key, FIELDS)
                remedy = f"Did you mean {guess!r}? " if guess else ""
                problem = f"{key!r} is no field of the example schema ({', '.join(FIELDS)})."
                raise DataFormatError(path, problem, line=number, remedy=f'{remedy}Or map fields in "columns".')
    try:
        columns = check_columns(source.card, record, f"{path}:{number}")
        return row_example(record, columns, source.card, options, default_id)
    except RowError as error:
        raise locate(error, path, line=number) from None


def _records(path: Path, encoding: str) -> Iterator[tuple[int, str]]:
    return ((number, line) for number, line in read_lines(path, encoding) if line.strip())
