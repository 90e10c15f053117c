"""PubMedQA (PQA-L): questions over abstracts, answered yes, no or maybe, from the original JSON.

`text` is the question, `text_pair` the paragraphs of the abstract without its conclusion (`CONTEXTS`, joined by one
line feed). LONG_ANSWER (the conclusion), `reasoning_required_pred` and `reasoning_free_pred` give the answer away
(data.md section 7) and are never read.

Files: `ori_pqal.json` (PMID to record), `test_ground_truth.json` (PMID to answer: the official test set of 500), and
for the other 500 the official ten folds of 450/50, either `cv_folds_dev_pmids.json` ({"dev": {fold: [PMID, …]}}) or
the folders `pqal_fold0` … that the official `split_dataset.py pqal` writes. Option `fold` (0) picks one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from hf_crosstask.errors import DataFormatError
from hf_crosstask.tasks.readers.base import (
    ReadResult,
    Source,
    TextOptions,
    integer,
    parse_options,
    pmid_group,
    read_text,
    source_folder,
)
from hf_crosstask.tasks.readers.json_text import parse_object
from hf_crosstask.tasks.schema import make_example

_RECORDS, _TRUTH, _FOLDS = "ori_pqal.json", "test_ground_truth.json", "cv_folds_dev_pmids.json"


class PubmedqaOptions(TextOptions):
    """Options of the reader; the module docstring explains them."""

    fold: int = Field(0, ge=0, le=9)


def read(source: Source) -> ReadResult:
    """Read PQA-L in its official split.

    Raises:
        DataFormatError: a file is missing, is no JSON or lacks a field; the splits disagree with the records.
    """
    options = parse_options(source, PubmedqaOptions)
    folder = source_folder(source)
    path = folder / _RECORDS
    records = _load(path, options)
    truth = _load(folder / _TRUTH, options)
    examples = {pmid: _example(source, path, pmid, record) for pmid, record in records.items()}
    for pmid, answer in truth.items():
        if pmid not in examples:
            raise DataFormatError(folder / _TRUTH, f"the PMID {pmid} is not in {_RECORDS}.")
        if examples[pmid]["labels"] != [answer]:
            found = examples[pmid]["labels"][0]
            raise DataFormatError(folder / _TRUTH, f"{pmid} is {answer!r} here, but {found!r} in {_RECORDS}.")
    fold_file, held_out = _fold(folder, options)
    for pmid in sorted(held_out):
        if pmid not in examples or pmid in truth:
            where = "a test question" if pmid in truth else f"not in {_RECORDS}"
            raise DataFormatError(fold_file, f"the PMID {pmid} of fold {options.fold} is {where}.")
    splits: dict[str, list[dict[str, Any]]] = {"train": [], "validation": [], "test": []}
    for pmid, example in examples.items():
        splits["test" if pmid in truth else "validation" if pmid in held_out else "train"].append(example)
    return ReadResult(splits)


def _load(path: Path, options: PubmedqaOptions) -> dict[str, Any]:
    return parse_object(read_text(path, options.encoding), path)


def _example(source: Source, path: Path, pmid: str, record: Any) -> dict[str, Any]:
    if integer(pmid) is None:
        raise DataFormatError(path, f"the key {pmid!r} is not a PMID.")
    question = _field(path, pmid, record, "QUESTION", str)
    contexts = _field(path, pmid, record, "CONTEXTS", list)
    answer = _field(path, pmid, record, "final_decision", str)
    if not contexts or not all(isinstance(context, str) and context.strip() for context in contexts):
        raise DataFormatError(path, f"CONTEXTS of {pmid} must be texts, at least one and none empty.")
    if answer not in source.card.labels:
        raise DataFormatError(path, f"final_decision of {pmid} is {answer!r}; valid: {', '.join(source.card.labels)}.")
    return make_example(
        pmid,
        source.card.name,
        question,
        split_group=pmid_group(pmid),
        text_pair="\n".join(contexts),
        labels=[answer],
    )


def _field(path: Path, pmid: str, record: Any, name: str, kind: type) -> Any:
    if not isinstance(record, Mapping) or name not in record:
        there = ", ".join(record) if isinstance(record, Mapping) else repr(record)[:60]
        raise DataFormatError(path, f"the record {pmid} has no {name}; it has: {there}.")
    if not isinstance(record[name], kind):
        raise DataFormatError(
            path, f"{name} of {pmid} is a {type(record[name]).__name__}, expected a {kind.__name__}."
        )
    return record[name]


def _fold(folder: Path, options: PubmedqaOptions) -> tuple[Path, set[str]]:
    """The file that names the validation PMIDs of the fold, and these."""
    folds_path = folder / _FOLDS
    written_path = folder / f"pqal_fold{options.fold}" / "dev_set.json"
    if folds_path.is_file():
        folds = _load(folds_path, options).get("dev")
        pmids = folds.get(str(options.fold)) if isinstance(folds, dict) else None
        if not isinstance(pmids, list) or not all(isinstance(pmid, str) for pmid in pmids):
            raise DataFormatError(folds_path, f'expected {{"dev": {{"{options.fold}": [PMID, …]}}}}.')
        return folds_path, set(pmids)
    if written_path.is_file():
        return written_path, set(_load(written_path, options))
    raise DataFormatError(
        folder,
        f"no list of validation questions. Looked for {folds_path.name} and {written_path.parent.name}/dev_set.json.",
        remedy="Run `python split_dataset.py pqal` of the PubMedQA repository, which writes the latter.",
    )
