"""MedQA (USMLE): questions of the United States Medical Licensing Examination with five options, or four.

Files: `train.jsonl`, `dev.jsonl`, `test.jsonl` in the folder `US` of the distribution (`questions/US`, `US` or the
folder itself), or with option `choices` 4 `US/4_options/phrases_no_exclude_<split>.jsonl`; or a map of split to file. One
JSON object a line: `question`, `options` {letter: text}, `answer_idx` (letter), `answer` (its text, which is checked).

Nothing tells where a question comes from; `split_group` is its text, so that copies of a question share it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from hf_crosstask.errors import DataFormatError
from hf_crosstask.tasks.readers.base import (
    ReadResult,
    Source,
    TextOptions,
    parse_options,
    read_lines,
    source_folder,
    split_files,
    split_of,
)
from hf_crosstask.tasks.readers.documents import text_group
from hf_crosstask.tasks.readers.json_text import parse_object
from hf_crosstask.tasks.schema import make_example

_PARTS = ("train", "dev", "test")


class MedqaOptions(TextOptions):
    """Options of the reader; the module docstring explains them."""

    choices: Literal[4, 5] = 5


def read(source: Source) -> ReadResult:
    """Read the file of each split.

    Raises:
        DataFormatError: a file is missing, a line is no JSON object or lacks a field, the answer is not that option.
    """
    options = parse_options(source, MedqaOptions)
    return ReadResult(
        {split: list(_examples(source, path, split, options)) for split, path in _files(source, options).items()}
    )


def _files(source: Source, options: MedqaOptions) -> dict[str, Path]:
    if isinstance(source.path, Mapping):
        return split_files(source, (".jsonl",))
    folder = source_folder(source)
    inside, stem = ("4_options", "phrases_no_exclude_") if options.choices == 4 else ("", "")
    tried = [base / inside for base in (folder / "questions" / "US", folder / "US", folder)]
    for place in tried:
        found = {part: place / f"{stem}{part}.jsonl" for part in _PARTS if (place / f"{stem}{part}.jsonl").is_file()}
        if found:
            return {str(split_of(part)): path for part, path in found.items()}
    looked_for = f"{stem}train.jsonl in {', '.join(str(place) for place in tried)}"
    raise DataFormatError(folder, f"no questions. Looked for {looked_for}.")


def _examples(source: Source, path: Path, split: str, options: MedqaOptions) -> Iterator[dict[str, Any]]:
    for number, line in read_lines(path, options.encoding):
        if not line.strip():
            continue
        record = parse_object(line, path, line=number)
        question = text_field(record, "question", path, number)
        letter, answer = (text_field(record, key, path, number) for key in ("answer_idx", "answer"))
        given = record.get("options")
        if not isinstance(given, dict) or not all(isinstance(text, str) and text.strip() for text in given.values()):
            raise DataFormatError(path, "`options` is not an object of letter to text.", line=number)
        if len(given) != options.choices:
            problem = f"{len(given)} options, expected {options.choices}."
            raise DataFormatError(path, problem, line=number, remedy="Check options.choices.")
        if given.get(letter) != answer:
            problem = f"the answer is {answer!r}, but option {letter!r} is {given.get(letter)!r}."
            raise DataFormatError(path, problem, line=number)
        yield make_example(
            f"{split}-{number}",
            source.card.name,
            question,
            split_group=text_group("medqa", question),
            choices=[given[key] for key in sorted(given)],
            answer=answer,
        )


def text_field(record: Mapping[str, Any], key: str, path: Path, line: int) -> str:
    """A text of a JSON record that must be there.

    Raises:
        DataFormatError: it is missing, empty or no text.
    """
    value = record.get(key)
    if not isinstance(value, str) or not value.strip():
        there = ", ".join(record)
        found = "missing" if key not in record else f"{value!r:.40}"
        raise DataFormatError(path, f"expected a text as `{key}`, it is {found}; there is: {there}.", line=line)
    return value
