"""What tasks have in common before any of them is learned: words, and names of labels."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from hf_crosstask.data_report.report import SharedNames, TaskVocabulary, VocabularyOverlap
from hf_crosstask.tasks.audit.hashing import Hashes, hash_texts

if TYPE_CHECKING:
    from datasets import Dataset

_EVALUATION = ("test", "validation")


def input_texts(examples: Dataset) -> Iterator[str]:
    """The texts a model reads of a split: `text`, `text_pair` and `choices`."""
    yield from examples["text"][:]
    yield from (text for text in examples["text_pair"][:] if text)
    yield from (choice for choices in examples["choices"][:] for choice in choices)


def vocabulary_overlap(tasks: Mapping[str, Mapping[str, Dataset]]) -> VocabularyOverlap:
    """Word types that tasks share.

    A word is what the leakage audit takes for one (`tasks.audit.hashing`), and kept as its hash: two different words
    share one with a probability near 2^-64.

    Args:
        tasks: task to split to examples.
    """
    train = {task: _word_types(splits["train"]) for task, splits in tasks.items() if "train" in splits}
    chosen = {task: next((split for split in _EVALUATION if split in splits), None) for task, splits in tasks.items()}
    evaluation = {task: _word_types(tasks[task][split]) for task, split in chosen.items() if split}
    return VocabularyOverlap(
        tasks={task: _task_vocabulary(task, chosen[task], train, evaluation) for task in tasks},
        jaccard={
            task: {
                other: _jaccard(train[task], train[other]) if {task, other} <= train.keys() else None
                for other in tasks
            }
            for task in tasks
        },
        coverage={
            task: {
                other: _share(evaluation[task], train[other]) if task in evaluation and other in train else None
                for other in tasks
            }
            for task in tasks
        },
    )


def shared_names(names: Mapping[str, Iterable[str]]) -> Iterator[SharedNames]:
    """Each pair of tasks and the names they share.

    Args:
        names: task to its labels, relation types and entity types.
    """
    spelled = {task: {normal_name(name): name for name in sorted(found)} for task, found in names.items()}
    for first, second in combinations(names, 2):
        left, right = spelled[first], spelled[second]
        both = [name for name in left if name in right]
        exact = sorted(set(names[first]) & set(names[second]))
        alike = [name for name in both if name not in map(normal_name, exact)]
        union = left.keys() | right.keys()
        yield SharedNames(
            tasks=(first, second),
            exact=tuple(exact),
            normalised=tuple((left[name], right[name]) for name in alike),
            jaccard=len(both) / len(union) if union else 0.0,
        )


def normal_name(name: str) -> str:
    """A name without case, spaces and punctuation; as it is where that leaves nothing.

    >>> normal_name("Cell_type") == normal_name("cell type")
    True
    """
    normal = unicodedata.normalize("NFKC", name).casefold()
    return "".join(filter(str.isalnum, normal)) or normal


def _word_types(examples: Dataset) -> Hashes:
    """The distinct words of a split, sorted."""
    return np.unique(hash_texts(list(dict.fromkeys(input_texts(examples)))).words)


def _task_vocabulary(
    task: str, split: str | None, train: Mapping[str, Hashes], evaluation: Mapping[str, Hashes]
) -> TaskVocabulary:
    own = train.get(task)
    others = [types for other, types in train.items() if other != task]
    wanted = evaluation.get(task)
    pooled = np.unique(np.concatenate(others)) if others else None
    anywhere = np.unique(np.concatenate(list(train.values()))) if train else None
    return TaskVocabulary(
        train=0 if own is None else len(own),
        evaluation_split=split,
        evaluation=0 if wanted is None else len(wanted),
        own=_share(wanted, own),
        others=_share(wanted, pooled),
        either=_share(wanted, anywhere),
    )


def _share(wanted: Hashes | None, found: Hashes | None) -> float | None:
    if wanted is None or found is None or not len(wanted):
        return None
    return len(np.intersect1d(wanted, found, assume_unique=True)) / len(wanted)


def _jaccard(first: Hashes, second: Hashes) -> float | None:
    both = len(np.intersect1d(first, second, assume_unique=True))
    union = len(first) + len(second) - both
    return both / union if union else None
