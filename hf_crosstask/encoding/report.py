"""What encoding did to a task's examples: the counts that results and cards show."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable


@dataclasses.dataclass(frozen=True)
class EncodingReport:
    """Counts of one or more encoded splits; reports add up with `+`. What does not apply to a task type stays 0.

    All types: `examples`, `rows` (an example in several windows has several), `tokens` (forward tokens, special tokens
    included), `examples_truncated` (the end of the text was left out).

    NER: `examples_windowed` (in more than one row), `rows_unsupervised` (no labelled token: the tokenizer kept nothing
    of the text), `words`, `words_cut` (past the end of a truncated text), `words_without_token` (the tokenizer drops
    all their characters), `words_clipped` (longer than a whole row: only their beginning is seen), `entities` (gold),
    and the gold entities that no prediction can reach, each counted once, by the first reason that holds:
    `entities_discontinuous` (several parts), `entities_misaligned` (their edges are not word edges),
    `entities_overlapping` (a longer one covers some of their words), `entities_cut` (some of their words are cut or
    have no token).

    Relation: `examples_cropped` (context left out), of which `examples_cropped_between` (context between the two
    entities too).
    """

    examples: int = 0
    rows: int = 0
    tokens: int = 0
    examples_truncated: int = 0
    examples_windowed: int = 0
    examples_cropped: int = 0
    examples_cropped_between: int = 0
    rows_unsupervised: int = 0
    words: int = 0
    words_cut: int = 0
    words_without_token: int = 0
    words_clipped: int = 0
    entities: int = 0
    entities_discontinuous: int = 0
    entities_misaligned: int = 0
    entities_overlapping: int = 0
    entities_cut: int = 0

    @property
    def entities_unreachable(self) -> int:
        """Gold entities that stay misses whatever the model predicts."""
        return self.entities_discontinuous + self.entities_misaligned + self.entities_overlapping + self.entities_cut

    def __add__(self, other: EncodingReport) -> EncodingReport:
        mine, theirs = dataclasses.astuple(self), dataclasses.astuple(other)
        return EncodingReport(*(a + b for a, b in zip(mine, theirs, strict=True)))

    @classmethod
    def merge(cls, reports: Iterable[EncodingReport]) -> EncodingReport:
        """The sum of any number of reports."""
        return sum(reports, start=cls())

    def as_dict(self) -> dict[str, int]:
        """Every count by name, ready for JSON."""
        return dataclasses.asdict(self)
