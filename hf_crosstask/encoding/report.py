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

    Span NER: as NER, with `entities` distinct and other reasons: `entities_misaligned` (the edges of a part are not word
    edges, or parts overlap), `entities_cut` (no window shows them whole, they reach over more words than `reach`, or a
    word at the edge of a part has no token), `entities_overlapping` (more than 64 are read between the same two words).
    Besides: `entities_spurious` (mentions that the links of gold entities say together, though gold does not: false
    positives of a model that is always right), and what IOB tags would have lost: `bio_discontinuous` (several parts), and
    of the others that align with words `bio_overlapping` (a longer one covers some of their words).

    Relation: `examples_cropped` (context left out), of which `examples_cropped_between` (context between the two
    entities too).

    Generative and likelihood forms: `examples_truncated` (the input's text was cut), `answers_cut` (too long even for the
    prompt without its input); of entity tasks `entities` (distinct), `entities_cut` (behind the cut) and
    `entities_ambiguous` (the answer's words stand for another place of the text).
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
    entities_spurious: int = 0
    bio_discontinuous: int = 0
    bio_overlapping: int = 0
    answers_cut: int = 0
    entities_ambiguous: int = 0

    @property
    def entities_unreachable(self) -> int:
        """Gold entities that stay misses whatever the model predicts."""
        by_shape = self.entities_discontinuous + self.entities_misaligned + self.entities_overlapping
        return by_shape + self.entities_cut + self.entities_ambiguous

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
