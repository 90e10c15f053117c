"""What every official scorer shares: statistics per unit, and precision, recall and F1 of their sums."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from hf_crosstask.evaluation.counts import CountTable, FloatArray, ratio

Item = TypeVar("Item")
Key = TypeVar("Key", bound=Hashable)

#: Metric name to value(s); arrays where statistics had leading axes.
Values = dict[str, FloatArray]


@dataclass(frozen=True)
class UnitCounts:
    """Sufficient statistics of each unit of evaluation.

    Attributes:
        units: the names of the units (documents, queries, …), in row order; the clusters of a bootstrap.
        values: `[units, columns]`; a metric is a function of their sum over the units.
    """

    units: tuple[str, ...]
    values: FloatArray

    def __post_init__(self) -> None:
        if len(self.units) != len(self.values):
            raise ValueError(f"{len(self.units)} units but {len(self.values)} rows of counts")

    def total(self) -> FloatArray:
        """The sum over all units, `[columns]`."""
        return self.values.sum(axis=0)

    def table(self) -> CountTable:
        """The same as the bootstrap takes it; `units` are its clusters, or what names them."""
        return CountTable(self.values, np.zeros(self.values.shape[1:]))


def unit_counts(rows: Mapping[str, Sequence[float]], columns: int) -> UnitCounts:
    """`UnitCounts` of a map of unit to its row; `columns` shapes the table of no units."""
    return UnitCounts(tuple(rows), np.array(list(rows.values()), dtype=np.float64).reshape(len(rows), columns))


def scalars(values: Values) -> dict[str, float]:
    """The values of one set of statistics as Python floats (JSON takes no numpy scalars)."""
    return {name: float(value) for name, value in values.items()}


def harmonic(precision: FloatArray, recall: FloatArray) -> FloatArray:
    """F1 of precision and recall; 0 where both are 0."""
    return ratio(2 * precision * recall, precision + recall)


def precision_recall_f1(counts: FloatArray, prefix: str) -> Values:
    """The three values of `[..., 3]` counts (true positives, false positives, false negatives).

    A ratio with nothing in its denominator is 0, as in the Perl and n2c2 scorers.
    """
    hits = counts[..., 0]
    precision, recall = ratio(hits, hits + counts[..., 1]), ratio(hits, hits + counts[..., 2])
    return {f"{prefix}_precision": precision, f"{prefix}_recall": recall, f"{prefix}_f1": harmonic(precision, recall)}


def group_by(items: Iterable[Item], key: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    """Items by key; keys by first appearance, items in order."""
    groups: dict[Key, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def offset(text: str) -> int:
    """A character offset.

    Raises:
        ValueError: anything but decimal digits (`int` takes signs, blanks and underscores).
    """
    if not (text.isascii() and text.isdecimal()):
        raise ValueError(f"{text!r} is not an offset")
    return int(text)


def data_lines(text: str) -> Iterable[tuple[int, str]]:
    """The non-blank lines of a file with their 1-based numbers; LF and CRLF files read the same."""
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        line = line.removesuffix("\r")
        if line.strip():
            yield number, line
