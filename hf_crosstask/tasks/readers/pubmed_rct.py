"""PubMed RCT: the role of each sentence in the abstract of a randomized controlled trial.

Files `train.txt`, `dev.txt`, `test.txt` (or a map of split to file; each may be gzipped), as Dernoncourt and Lee
distribute them: `###<PMID>` begins an abstract, `LABEL<tab>sentence` is a sentence, a blank line ends the abstract. The
20k and 200k variants, and those with `@` for numbers, have the same form.

An example is one sentence, without its neighbours; `split_group` is the abstract (`pmid:…`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hf_crosstask.errors import DataFormatError
from hf_crosstask.tasks.readers.base import (
    ReadResult,
    Source,
    TextOptions,
    integer,
    parse_options,
    pmid_group,
    read_lines,
    split_files,
)
from hf_crosstask.tasks.schema import make_example

_ABSTRACT = "###"


def read(source: Source) -> ReadResult:
    """Read the file of each split.

    Raises:
        DataFormatError: a file is missing, a line breaks the format, a label is unknown, an abstract occurs twice.
    """
    options = parse_options(source, TextOptions)
    return ReadResult(
        {
            split: list(_examples(source, path, split, options.encoding))
            for split, path in split_files(source, (".txt",)).items()
        }
    )


def _examples(source: Source, path: Path, split: str, encoding: str) -> Iterator[dict[str, Any]]:
    pmid: str | None = None
    seen: set[str] = set()
    index = 0
    for number, line in read_lines(path, encoding):
        if line.startswith(_ABSTRACT):
            pmid, index = line.removeprefix(_ABSTRACT).strip(), 0
            if integer(pmid) is None:
                raise DataFormatError(path, f"expected `###<PMID>`, found {line[:60]!r}.", line=number)
            if pmid in seen:
                raise DataFormatError(path, f"the abstract {pmid} occurs twice.", line=number)
            seen.add(pmid)
        elif line.strip():
            label, tab, sentence = line.partition("\t")
            if pmid is None or not tab or not sentence.strip():
                problem = f"expected `LABEL<tab>sentence` below `###<PMID>`, found {line[:60]!r}."
                raise DataFormatError(path, problem, line=number)
            if label not in source.card.labels:
                problem = f"label {label!r} is not in the label set {list(source.card.labels)}."
                raise DataFormatError(path, problem, line=number)
            index += 1
            yield make_example(
                f"{split}.{pmid}.s{index}",
                source.card.name,
                sentence,
                split_group=pmid_group(pmid),
                labels=[label],
            )
        else:
            pmid = None
