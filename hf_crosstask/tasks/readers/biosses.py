"""BIOSSES: how similar are two biomedical sentences, 0 to 4, the mean of five annotators.

Files: `biosses_pairs_scores.tsv` (header `id sentence1 sentence2 A B C D E mean`; quotes are ordinary characters) and
`splits_blurb.tsv` (`id<tab>split<tab>score`), BLURB's split of the 100 pairs into 64, 16 and 20. The mean of every pair
is checked against its five scores, and the split file's score against the mean.

Twenty test pairs say little: report intervals. 18 of the 182 sentences occur in several pairs, and 8 in several splits,
which the leakage audit finds by their text. (Pair 7 has 1.6 here; a score list on GitHub says 1.4.)
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from hf_crosstask.errors import DataFormatError
from hf_crosstask.tasks.readers.base import (
    ReadResult,
    Source,
    TextOptions,
    parse_options,
    read_lines,
    source_folder,
    split_of,
)
from hf_crosstask.tasks.readers.documents import corpus_group
from hf_crosstask.tasks.schema import SPLITS, make_example

_PAIRS, _SPLITS = "biosses_pairs_scores.tsv", "splits_blurb.tsv"
_COLUMNS = ["id", "sentence1", "sentence2", "A", "B", "C", "D", "E", "mean"]
_LARGEST = 4.0


def read(source: Source) -> ReadResult:
    """Read the pairs of each split.

    Raises:
        DataFormatError: a file is missing or breaks its format, a mean is not that of its scores, a pair has no split.
    """
    options = parse_options(source, TextOptions)
    folder = source_folder(source)
    path = folder / _PAIRS
    pairs: dict[str, dict[str, Any]] = {}
    for number, line in read_lines(path, options.encoding):
        cells = line.split("\t")
        if number == 1:
            if cells != _COLUMNS:
                raise DataFormatError(path, f"expected the columns {' '.join(_COLUMNS)}, found {cells}.", line=1)
            continue
        if len(cells) != len(_COLUMNS):
            raise DataFormatError(path, f"expected {len(_COLUMNS)} columns, found {len(cells)}.", line=number)
        name, left, right, *scores = cells
        if not name or name in pairs:
            raise DataFormatError(path, f"the pair {name!r} occurs twice or has no id.", line=number)
        if not left.strip() or not right.strip():
            raise DataFormatError(path, f"a sentence of pair {name} is empty.", line=number)
        *given, mean = (_score(path, number, score) for score in scores)
        if not math.isclose(sum(given) / len(given), mean, abs_tol=1e-6):
            problem = f"the mean of pair {name} is {sum(given) / len(given):.3g}, the file says {mean}."
            raise DataFormatError(path, problem, line=number)
        pairs[name] = make_example(
            name, source.card.name, left, text_pair=right, split_group=corpus_group("biosses", name), score=mean
        )
    splits = _read_splits(folder / _SPLITS, pairs, options.encoding)
    return ReadResult({split: rows for split in SPLITS if (rows := splits.get(split))})


def _score(path: Path, line: int, text: str) -> float:
    try:
        score = float(text)
    except ValueError:
        score = math.nan
    if not 0 <= score <= _LARGEST:
        raise DataFormatError(path, f"expected a score from 0 to {_LARGEST:g}, found {text!r}.", line=line)
    return score


def _read_splits(path: Path, pairs: dict[str, dict[str, Any]], encoding: str) -> dict[str, list[dict[str, Any]]]:
    splits: dict[str, list[dict[str, Any]]] = {}
    left = dict(pairs)
    for number, line in read_lines(path, encoding):
        cells = line.split("\t")
        split = split_of(cells[1]) if len(cells) == 3 else None
        if split is None:
            raise DataFormatError(path, f"expected `id<tab>split<tab>score`, found {line[:60]!r}.", line=number)
        example = left.pop(cells[0], None)
        if example is None:
            raise DataFormatError(path, f"no pair has the id {cells[0]!r}, or it occurs twice.", line=number)
        if not math.isclose(_score(path, number, cells[2]), example["score"], abs_tol=1e-6):
            problem = f"pair {cells[0]} has the score {cells[2]} here, {example['score']} in {_PAIRS}."
            raise DataFormatError(path, problem, line=number)
        splits.setdefault(split, []).append(example)
    if left:
        raise DataFormatError(path, f"names no split for {len(left)} pairs, first {min(left)}.")
    return splits
