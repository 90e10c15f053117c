"""Generic reader of CSV and TSV files: columns as `columns.py` explains.

Options:

- `delimiter`: `,` for `csv`, a tab for `tsv`
- `quoting`: `minimal` (RFC 4180: a quoted cell may hold delimiters, line ends and doubled quotes; the default for
  `csv`) or `none` (a quote is a character like any other; the default for `tsv`)
- `header`: true (the first row names the columns), or the list of names where the file has none
- `label_separator`: splits the cell of `labels` for a multi-label task; an empty cell is no label
- `label_map`, `encoding`
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from hf_crosstask.errors import DataFormatError, InputError
from hf_crosstask.tasks.readers.base import (
    ReadResult,
    Source,
    parse_options,
    read_lines,
    read_text,
    split_files,
)
from hf_crosstask.tasks.readers.columns import ColumnOptions, RowError, check_columns, locate, row_example

_FLAT_TYPES = ("classification", "multilabel", "ranking", "similarity", "generation")


class TableOptions(ColumnOptions):
    """Options of the reader; the module docstring explains them."""

    delimiter: str
    quoting: Literal["minimal", "none"]
    header: Literal[True] | list[str] = True
    label_separator: str | None = None


def read_csv(source: Source) -> ReadResult:
    """Read comma-separated files; errors as `read`."""
    return read(replace(source, options={"delimiter": ",", "quoting": "minimal"} | dict(source.options)), (".csv",))


def read_tsv(source: Source) -> ReadResult:
    """Read tab-separated files; errors as `read`."""
    defaults = {"delimiter": "\t", "quoting": "none"}
    return read(replace(source, options=defaults | dict(source.options)), (".tsv", ".txt"))


def read(source: Source, extensions: tuple[str, ...]) -> ReadResult:
    """Read the file of each split.

    Raises:
        InputError: the task type does not fit into flat cells.
        DataFormatError: a file is missing, a row has too many or too few cells, a column is missing, a label is
            unknown.
    """
    options = parse_options(source, TableOptions)
    card = source.card
    if card.type not in _FLAT_TYPES:
        raise InputError(
            f"task {card.name!r}: the reader {card.reader!r} reads flat cells, and a {card.type} task needs lists; "
            "use the reader 'jsonl' (or 'iob' for token files)"
        )
    splits: dict[str, list[dict[str, Any]]] = {}
    for split, path in split_files(source, extensions).items():
        rows = _rows(path, options)
        names = options.header if isinstance(options.header, list) else _header(path, rows)
        columns = check_columns(card, names, path, nested=False)
        splits[split] = []
        for index, (number, cells) in enumerate(rows, start=1):
            if len(cells) != len(names):
                problem = f"{len(cells)} cells, but {len(names)} columns ({', '.join(map(repr, names))})."
                raise DataFormatError(path, problem, line=number, remedy="Check options.delimiter and quoting.")
            row: dict[str, Any] = dict(zip(names, cells, strict=True))
            if options.label_separator and "labels" in columns:
                cell = row[columns["labels"]]
                row[columns["labels"]] = cell.split(options.label_separator) if cell else []
            try:
                splits[split].append(row_example(row, columns, card, options, f"{split}-{index}"))
            except RowError as error:
                raise locate(error, path, line=number) from None
    return ReadResult(splits)


def _rows(path: Path, options: TableOptions) -> Iterator[tuple[int, list[str]]]:
    """The rows with the number of their first line; blank lines are no rows."""
    if options.quoting == "none":
        for number, line in read_lines(path, options.encoding):
            if line.strip():
                yield number, line.split(options.delimiter)
        return
    reader = csv.reader(
        io.StringIO(read_text(path, options.encoding), newline=""), delimiter=options.delimiter, strict=True
    )
    while True:
        number = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            remedy = "Set options.quoting to 'none' if quotes are ordinary characters in this file."
            raise DataFormatError(
                path, f"breaks the CSV quoting rules: {error}.", line=number, remedy=remedy
            ) from None
        if cells:
            yield number, cells


def _header(path: Path, rows: Iterator[tuple[int, list[str]]]) -> list[str]:
    number, names = next(rows, (1, []))
    if not names:
        raise DataFormatError(path, "is empty; expected a row of column names.")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        remedy = "Give the names in options.header."
        raise DataFormatError(path, f"the column {twice!r} occurs twice.", line=number, remedy=remedy)
    return names
