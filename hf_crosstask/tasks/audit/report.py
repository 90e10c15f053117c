"""What an audit found, as JSON-able models."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Kind = Literal["document", "identical", "near_duplicate", "ngram", "identical_short"]

#: What each kind of overlap means.
KINDS: dict[Kind, str] = {
    "document": "same document, note or patient (`split_group`), whatever the text",
    "identical": "same letters and digits, in a text of at least 7 words",
    "near_duplicate": "an edited copy, or part of a longer text (identical texts included)",
    "ngram": "a run of 13 words in common (8 to 12 where the shorter text has no more)",
    "identical_short": "same letters and digits, in a text below 7 words",
}

#: The kinds that put an evaluation example into training data. A shared n-gram alone is often a set phrase, and texts
#: below 7 words coincide by chance ("Copyright 1999 Academic Press."): both are reported, neither is an error unless
#: asked for.
LEAK_KINDS: tuple[Kind, ...] = ("document", "identical", "near_duplicate")


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Example(_Model):
    """An evaluation example and one training example that it overlaps with, by id."""

    evaluation: str
    train: str


class Overlap(_Model):
    """How much of an evaluation split overlaps with a training split.

    `train_rows` are the row numbers in the training split that `purge` drops; a report read back from JSON lacks them.
    """

    evaluation_examples: int
    evaluation_documents: int
    train_examples: int
    train_documents: int
    examples: tuple[Example, ...] = ()
    train_rows: tuple[int, ...] = Field((), exclude=True, repr=False)


class SplitPair(_Model):
    """One training split against one evaluation split.

    Attributes:
        comparable_examples: evaluation examples whose document id could be compared, because the training split knows
            documents of the same id space. 0 means that overlap of documents was not checked, not that there is none.
        leak: the union of the report's `leak_kinds`; None where nothing leaks.
        overlaps: each kind of overlap that was found.
    """

    train_task: str
    evaluation_task: str
    evaluation_split: str
    comparable_examples: int
    leak: Overlap | None = None
    overlaps: dict[Kind, Overlap] = Field(default_factory=dict)

    @property
    def within_task(self) -> bool:
        return self.train_task == self.evaluation_task


class SplitSummary(_Model):
    """What of a split the audit could look at.

    Attributes:
        id_spaces: declared id space (`pmid`) to number of examples; `(own)` counts documents known inside their own
            task only, `(unknown)` examples without a known document.
        short_examples: examples without any text of 8 words, which n-grams and near-duplicates do not cover.
    """

    task: str
    split: str
    examples: int
    documents: int
    id_spaces: dict[str, int]
    short_examples: int


class AuditReport(_Model):
    """Every training split against every validation and test split of all tasks."""

    schema_version: Literal[1] = 1
    leak_kinds: tuple[Kind, ...] = LEAK_KINDS
    splits: tuple[SplitSummary, ...]
    pairs: tuple[SplitPair, ...]

    def leaks(self, *, within_task: bool | None = None) -> tuple[SplitPair, ...]:
        """The pairs with a leak: all, or only those within one task (True) or between two tasks (False)."""
        return tuple(
            pair for pair in self.pairs if pair.leak and (within_task is None or pair.within_task == within_task)
        )

    def examples(self, task: str, split: str) -> int:
        """Number of examples of an audited split."""
        return next(s.examples for s in self.splits if (s.task, s.split) == (task, split))
