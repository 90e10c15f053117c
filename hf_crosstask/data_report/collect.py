"""Collecting the report: every task and split once, then what the tasks have in common."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hf_crosstask.data_report.counts import Counted, balance, balance_warnings, count_split
from hf_crosstask.data_report.lengths import (
    COVERED,
    Integers,
    summarize,
    summarize_tokens,
    token_lengths,
    word_lengths,
)
from hf_crosstask.data_report.overlap import shared_names, vocabulary_overlap
from hf_crosstask.data_report.published import published_counts
from hf_crosstask.data_report.report import DataReport, SplitStatistics, TaskStatistics, Tokenizer, TokenLengths
from hf_crosstask.tasks.load import TaskData

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class RecipeTokenizer:
    """The tokenizer of a recipe's model.

    Attributes:
        name: of the model.
        tokenizer: a fast one.
        causal: the model is a decoder.
        longest: tokens that the model takes at most.
        max_length: that of the recipe.
    """

    name: str
    tokenizer: PreTrainedTokenizerBase
    causal: bool
    longest: int
    max_length: int

    def lengths(self, data: TaskData, split: str) -> Integers:
        """[examples] tokens of a split's examples, uncut."""
        return token_lengths(data.splits[split], data.card, self.tokenizer, causal=self.causal)

    def summarize(self, lengths: Integers) -> TokenLengths:
        """Their percentiles."""
        return summarize_tokens(lengths, longest=self.longest, max_length=self.max_length)


def build_report(
    data: Mapping[str, TaskData], *, recipe: str, tokenizer: RecipeTokenizer | None, problem: str | None = None
) -> DataReport:
    """Look at the data of a recipe.

    Args:
        data: the tasks, as they were read.
        recipe: its name.
        tokenizer: counts tokens; without one, lengths are in words alone.
        problem: why there is none.
    """
    counted = {
        task: {split: count_split(examples, each.card) for split, examples in each.splits.items()}
        for task, each in data.items()
    }
    tasks = {task: _statistics(each, counted[task], tokenizer) for task, each in data.items()}
    suggestions = [task.tokens.suggested_max_length for task in tasks.values() if task.tokens]
    names = {
        task: {*each.card.labels, *(name for split in counted[task].values() for name in split.names)}
        - {each.card.negative_label}  # "false" of two tasks is nothing they share
        for task, each in data.items()
    }
    warnings: list[str] = []
    for task, found in tasks.items():
        warnings += balance_warnings(data[task].card, {split: each.balance for split, each in found.splits.items()})
        warnings += _length_warnings(task, found, tokenizer)
    return DataReport(
        recipe=recipe,
        tokenizer=(
            Tokenizer(name=tokenizer.name, longest=tokenizer.longest, max_length=tokenizer.max_length)
            if tokenizer
            else None
        ),
        tokenizer_problem=problem,
        suggested_max_length=max(suggestions, default=None),
        tasks=tasks,
        vocabulary=vocabulary_overlap({task: each.splits for task, each in data.items()}),
        shared_names=tuple(shared_names(names)),
        warnings=tuple(warnings),
    )


def _length_warnings(task: str, found: TaskStatistics, tokenizer: RecipeTokenizer | None) -> Iterator[str]:
    """A `model.max_length` that cuts more than every hundredth example."""
    if found.tokens is None or tokenizer is None:
        return
    share = found.tokens.longer_than_recipe / sum(split.examples for split in found.splits.values())
    if share > 1 - COVERED / 100:
        longer = found.tokens.suggested_max_length > tokenizer.max_length
        remedy = f"{found.tokens.suggested_max_length} covers {found.tokens.covered:.1%}" if longer else ""
        yield (
            f"{task}: {share:.1%} of the examples are longer than model.max_length ({tokenizer.max_length}); "
            f"{remedy or 'the model takes no more'}"
        )


def _statistics(data: TaskData, counted: Mapping[str, Counted], tokenizer: RecipeTokenizer | None) -> TaskStatistics:
    lengths = {split: tokenizer.lengths(data, split) for split in data.splits} if tokenizer else {}
    return TaskStatistics(
        type=data.card.type,
        level=data.card.level,
        fingerprint=data.fingerprint,
        splits={
            split: SplitStatistics(
                examples=found.examples,
                documents=len(found.documents),
                entities=found.entities,
                relations=found.relations,
                labels=found.labels,
                balance=balance(found, data.card),
                words=summarize(word_lengths(data.splits[split], data.card)),
                tokens=tokenizer.summarize(lengths[split]) if tokenizer else None,
            )
            for split, found in counted.items()
        },
        tokens=tokenizer.summarize(np.concatenate(list(lengths.values()))) if tokenizer else None,
        published=tuple(published_counts(data, counted)),
        dropped=data.dropped,
        lost_gold=data.lost_gold,
    )
