"""Hallmarks of Cancer: which of ten hallmarks a sentence of an abstract shows, from `text/` and `labels/`.

Files, below the folder or in the zip archive in it: `text/<PMID>.txt`, one tokenised sentence a line;
`labels/<PMID>.txt`, one line with the labels of every sentence after a `<` (so that the piece before the first `<` is
empty), labels joined by `AND`, levels by `--`. The label is the text before the first `--`: one of the ten hallmarks.
A blank piece, or `NULL` (eleven sentences), is a sentence without hallmark: its `labels` are empty, there is no
eleventh class. Beside them `splits_blurb.tsv` (`PMID<tab>split`): the corpus has no split of its own; this is BLURB's,
by document. Option `splits` names another file of that form.

Examples are sentences; `split_group` is the abstract (`pmid:…`). Published scores are of abstracts: the union of the
sentences' hallmarks, which the metrics form over `split_group`. Three of four sentences have none.

Option `unlabelled_documents`: `keep` (default, BLURB), or `drop`: leave the 272 abstracts without any hallmark out, as
BLUE does; they are counted.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from hf_crosstask.errors import DataFormatError
from hf_crosstask.tasks.readers.base import (
    ReadResult,
    Source,
    TextOptions,
    integer,
    parse_options,
    pmid_group,
    read_lines,
    split_of,
)
from hf_crosstask.tasks.readers.files import FileTree, corpus_tree, unique_stems
from hf_crosstask.tasks.schema import SPLITS, make_example

_NONE = "NULL"


class HocOptions(TextOptions):
    """Options of the reader; the module docstring explains them."""

    splits: str = "splits_blurb.tsv"
    unlabelled_documents: Literal["keep", "drop"] = "keep"


def read(source: Source) -> ReadResult:
    """Read the abstracts of each split.

    Raises:
        DataFormatError: a file is missing, labels and sentences of an abstract differ in number, a hallmark is unknown,
            an abstract has no split.
    """
    options = parse_options(source, HocOptions)
    tree = corpus_tree(source, _part, "folders text and labels")
    texts, labels = (
        unique_stems(tree.root, [name for name in tree.names if _part(name) == part], _pmid)
        for part in ("text", "labels")
    )
    for left, right, other in ((texts, labels, "labels"), (labels, texts, "text")):
        for pmid, name in left.items():
            if pmid not in right:
                raise DataFormatError(tree.where(name), f"no {other}/{pmid}.txt belongs to this file.")
    split_file = source.path if isinstance(source.path, Path) and source.path.is_dir() else tree.root.parent
    split_file = split_file / options.splits
    splits = _read_splits(split_file, options.encoding)
    result: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS if split in splits.values()}
    dropped: dict[str, Counter[str]] = defaultdict(Counter)
    for pmid, name in texts.items():
        if integer(pmid) is None:
            raise DataFormatError(tree.where(name), f"the file name {pmid!r} is not a PMID.")
        if pmid not in splits:
            raise DataFormatError(split_file, f"names no split for the abstract {pmid}.")
        examples = list(_examples(source, tree, pmid, name, labels[pmid], options.encoding))
        if options.unlabelled_documents == "drop" and not any(example["labels"] for example in examples):
            dropped[splits[pmid]]["abstracts without a hallmark"] += 1
        else:
            result[splits[pmid]] += examples
    missing = splits.keys() - texts.keys()
    if missing:
        problem = f"names {len(missing)} abstracts that are not there, first {min(missing)}."
        raise DataFormatError(split_file, problem)
    return ReadResult(result, dropped={split: dict(counts) for split, counts in dropped.items()})


def _part(name: str) -> str | None:
    """`text` or `labels`, the folder that a file of the corpus lies in."""
    folder = name.split("/")[-2] if "/" in name else ""
    return folder if folder in ("text", "labels") and name.endswith(".txt") else None


def _pmid(name: str) -> str:
    return name.rsplit("/", 1)[-1].removesuffix(".txt")


def _read_splits(path: Path, encoding: str) -> dict[str, str]:
    splits: dict[str, str] = {}
    for number, line in read_lines(path, encoding):
        pmid, tab, name = line.partition("\t")
        split = split_of(name.strip())
        if not tab or split is None or integer(pmid) is None:
            raise DataFormatError(path, f"expected `PMID<tab>split`, found {line[:60]!r}.", line=number)
        if pmid in splits:
            raise DataFormatError(path, f"the abstract {pmid} occurs twice.", line=number)
        splits[pmid] = split
    if not splits:
        raise DataFormatError(path, "names no abstract.")
    return splits


def _examples(
    source: Source, tree: FileTree, pmid: str, text_file: str, label_file: str, encoding: str
) -> Iterator[dict[str, Any]]:
    where = tree.where(label_file)
    sentences = [line for _, line in tree.read_lines(text_file, encoding)]
    before, *pieces = tree.read_text(label_file, encoding).split("<")
    if before.strip():
        raise DataFormatError(where, f"expected `<` before the labels of the first sentence, found {before[:40]!r}.")
    if len(pieces) != len(sentences):
        problem = f"labels of {len(pieces)} sentences, but {text_file} has {len(sentences)}."
        raise DataFormatError(where, problem)
    for number, (sentence, piece) in enumerate(zip(sentences, pieces, strict=True), start=1):
        if not sentence.strip():
            raise DataFormatError(tree.where(text_file), "the sentence is empty.", line=number)
        found = {part.split("--")[0].strip() for part in piece.split("AND")} - {"", _NONE}
        unknown = found - set(source.card.labels)
        if unknown:
            problem = f"sentence {number}: {min(unknown)!r} is none of {', '.join(source.card.labels)}."
            raise DataFormatError(where, problem)
        yield make_example(
            f"{pmid}.s{number}",
            source.card.name,
            sentence,
            split_group=pmid_group(pmid),
            labels=[label for label in source.card.labels if label in found],
        )
