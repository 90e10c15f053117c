"""GAD (gene-disease associations): the ten BioBERT folds, or BLURB's files; is the sentence an association?

Files: `<fold>/train.tsv` and `<fold>/test.tsv` below the folder (or in the zip archive in it), or both in the folder
itself. In the distribution train files have no header and two columns (`sentence<tab>label`), test files a header and
three (`index<tab>sentence<tab>label`), `dev.tsv` is empty. A header is recognised by its names, wherever there is one.

- The folds have no validation part. BLURB cuts 535 sentences of the training part, as option `validation` (535) does;
  which ones is chosen by a hash of the sentence and option `split_seed`, all copies of a sentence together. A `dev.tsv`
  that is not empty is taken instead.
- Test files are sorted by label: never take their first rows for a sample.
- 208 of the 5,330 sentences are copies, a few of them of a test sentence in training. Nothing tells the documents;
  `split_group` is the sentence, so that copies stay together, and the leakage audit finds those across splits.
- Label `1` is an association, `0` none.

Option `fold` (1 to 10; 1 is BLURB's) picks the fold.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import Field

from hf_crosstask.errors import DataFormatError
from hf_crosstask.tasks.readers.base import ReadResult, Source, TextOptions, parse_options
from hf_crosstask.tasks.readers.documents import text_group
from hf_crosstask.tasks.readers.files import FileTree, corpus_tree, one_file
from hf_crosstask.tasks.readers.holdout import hold_out
from hf_crosstask.tasks.schema import make_example

_PARTS = {"train": "train", "validation": "dev", "test": "test"}


class GadOptions(TextOptions):
    """Options of the reader; the module docstring explains them."""

    fold: int = Field(1, ge=1, le=10)
    validation: int = Field(535, ge=0)
    split_seed: int = 0


def read(source: Source) -> ReadResult:
    """Read one fold.

    Raises:
        DataFormatError: a file is missing or empty, a row has other columns, a label is unknown.
    """
    options = parse_options(source, GadOptions)
    of_fold = tuple(f"{options.fold}/{part}.tsv" for part in _PARTS.values())
    flat = tuple(f"{part}.tsv" for part in _PARTS.values())

    def wanted(name: str) -> bool:
        return name in flat or name in of_fold or name.endswith(tuple(f"/{file}" for file in of_fold))

    tree = corpus_tree(source, wanted, f"file {of_fold[0]} or train.tsv")
    if any(name not in flat for name in tree.names):
        tree = tree.keep(lambda name: name not in flat)
    splits: dict[str, list[dict[str, Any]]] = {}
    for split, part in _PARTS.items():
        name = one_file(tree, rf"(^|/){part}\.tsv$", f"the {part} part of fold {options.fold}")
        rows = [] if name is None else list(_examples(source, tree, name, split, options))
        if rows:
            splits[split] = rows
        elif split != "validation":
            raise DataFormatError(tree.root, f"no rows in the {part} part of fold {options.fold}.")
    if "validation" not in splits and options.validation:
        kept, held = hold_out(splits["train"], options.validation, options.split_seed, source.name)
        splits = {"train": kept, "validation": held, "test": splits["test"]}
    return ReadResult(splits)


def _examples(source: Source, tree: FileTree, name: str, split: str, options: GadOptions) -> Iterator[dict[str, Any]]:
    where = tree.where(name)
    columns = ["sentence", "label"]
    index = 0
    for number, line in tree.read_lines(name, options.encoding):
        cells = line.split("\t")
        if number == 1 and {"sentence", "label"} <= set(cells):
            columns = cells
            continue
        if not line.strip():
            continue
        if len(cells) != len(columns):
            problem = f"expected {len(columns)} columns separated by tabs ({', '.join(columns)}), found {len(cells)}."
            raise DataFormatError(where, problem, line=number)
        sentence, label = cells[columns.index("sentence")], cells[columns.index("label")]
        if label not in source.card.labels:
            problem = f"label {label!r} is not in the label set {list(source.card.labels)}."
            raise DataFormatError(where, problem, line=number)
        if not sentence.strip():
            raise DataFormatError(where, "the sentence is empty.", line=number)
        index += 1
        yield make_example(
            f"{split}-{index}", source.card.name, sentence, split_group=text_group("gad", sentence), labels=[label]
        )
