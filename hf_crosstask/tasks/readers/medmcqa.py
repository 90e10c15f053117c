"""MedMCQA: questions of Indian medical entrance examinations with four options.

Files `train.json`, `dev.json`, `test.json` (one JSON object a line), or a map of split to file: `id`, `question`, `opa` to
`opd`, `cop` (the right option, **1 to 4** in the original distribution; copies on the Hub are said to count from 0:
option `cop` is `one_based` (default) or `zero_based`). `choice_type` (`single`, `multi`) is the kind of question; one
option is right in both. `exp` explains the answer and is never read.

The test part has no answers and cannot be scored: its questions are counted in `dropped`. Published results are of the
development part; option `dev_as` (`validation`, default, or `test`) says what it serves as.

`split_group` is the question's text, so that copies of a question share it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from hf_crosstask.errors import DataFormatError
from hf_crosstask.tasks.readers.base import (
    ReadResult,
    Source,
    TextOptions,
    parse_options,
    read_lines,
    split_files,
    split_of,
)
from hf_crosstask.tasks.readers.documents import text_group
from hf_crosstask.tasks.readers.json_text import parse_object
from hf_crosstask.tasks.readers.medqa import text_field
from hf_crosstask.tasks.schema import make_example

_OPTIONS = ("opa", "opb", "opc", "opd")


class MedmcqaOptions(TextOptions):
    """Options of the reader; the module docstring explains them."""

    cop: Literal["one_based", "zero_based"] = "one_based"
    dev_as: Literal["validation", "test"] = "validation"


def read(source: Source) -> ReadResult:
    """Read the file of each split.

    Raises:
        DataFormatError: a file is missing, a line is no JSON object or lacks a field, `cop` is out of range.
    """
    options = parse_options(source, MedmcqaOptions)
    splits: dict[str, list[dict[str, Any]]] = {}
    dropped: dict[str, Counter[str]] = {}
    for split, path in _files(source).items():
        dropped[split] = Counter()
        examples = list(_examples(source, path, options, dropped[split]))
        name = options.dev_as if split == "validation" else split
        if examples and name in splits:
            problem = "the test part has answers, and options.dev_as makes the development part the test split too."
            raise DataFormatError(path, problem)
        if examples:
            splits[name] = examples
    return ReadResult(splits, dropped={split: dict(counts) for split, counts in dropped.items() if counts})


def _files(source: Source) -> dict[str, Path]:
    """The file of each part; a folder may lack the training part (evaluation needs none)."""
    if isinstance(source.path, Path) and source.path.is_dir():
        found = {part: source.path / f"{part}.json" for part in ("train", "dev", "test")}
        there = {str(split_of(part)): path for part, path in found.items() if path.is_file()}
        if there:
            return there
    return split_files(source, (".json", ".jsonl"))


def _examples(source: Source, path: Path, options: MedmcqaOptions, dropped: Counter[str]) -> Iterator[dict[str, Any]]:
    first = 1 if options.cop == "one_based" else 0
    for number, line in read_lines(path, options.encoding):
        if not line.strip():
            continue
        record = parse_object(line, path, line=number)
        question = text_field(record, "question", path, number)
        choices = [text_field(record, key, path, number) for key in _OPTIONS]
        name = text_field(record, "id", path, number)
        if record.get("cop") is None:
            dropped["questions without a published answer"] += 1
            continue
        right = record["cop"]
        if type(right) is not int or not first <= right < first + len(choices):
            problem = f"`cop` is {right!r}, expected {first} to {first + len(choices) - 1}."
            remedy = "Set options.cop to 'zero_based' if this copy counts from 0." if right == 0 else None
            raise DataFormatError(path, problem, line=number, remedy=remedy)
        yield make_example(
            name,
            source.card.name,
            question,
            split_group=text_group("medmcqa", question),
            choices=choices,
            answer=choices[right - first],
        )
