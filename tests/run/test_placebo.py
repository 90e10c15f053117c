"""Permuted labels: the same texts and label counts, and nothing to learn."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import pytest

from hf_crosstask.run.placebo import permute_labels
from hf_crosstask.tasks.card import TaskSpec
from hf_crosstask.tasks.load import TaskData, load_task

SIZES = {"train": 60, "validation": 5, "test": 5}


def task(name: str) -> TaskData:
    return load_task(TaskSpec(name=name, options=SIZES), data_dir=None)


def rows(data: TaskData, split: str = "train") -> list[dict[str, Any]]:
    return data.splits[split].to_list()


def labels(row: dict[str, Any]) -> Any:
    entities = [(entity["type"], entity["offsets"]) for entity in row["entities"]]
    return entities, [relation["type"] for relation in row["relations"]], row["labels"]


@pytest.mark.parametrize("name", ["synthetic_ner", "synthetic_relation", "synthetic_classification"])
def test_texts_and_label_counts_stay_and_labels_move(name):
    data = task(name)
    placebo = permute_labels(data, 1)
    before, after = rows(data), rows(placebo)
    assert [row["text"] for row in before] == [row["text"] for row in after]
    assert [row["id"] for row in before] == [row["id"] for row in after]
    for field in ("entities", "relations"):
        assert [len(row[field]) for row in before] == [len(row[field]) for row in after]
        kinds = [Counter(each["type"] for row in table for each in row[field]) for table in (before, after)]
        assert kinds[0] == kinds[1]
    assert Counter(map(str, (row["labels"] for row in before))) == Counter(map(str, (row["labels"] for row in after)))
    moved = sum(labels(one) != labels(other) for one, other in zip(before, after, strict=True))
    assert moved > len(before) / 4
    for split in ("validation", "test"):
        assert rows(data, split) == rows(placebo, split)


def test_the_permutation_depends_on_the_seed_alone():
    data = task("synthetic_ner")
    assert rows(permute_labels(data, 3)) == rows(permute_labels(data, 3))
    assert rows(permute_labels(data, 3)) != rows(permute_labels(data, 4))
    prints = {permute_labels(data, 3).fingerprint, permute_labels(data, 4).fingerprint, data.fingerprint}
    assert len(prints) == 3


def test_moved_entities_do_not_overlap_and_keep_their_length_in_words():
    for before, after in zip(rows(task("synthetic_ner")), rows(permute_labels(task("synthetic_ner"), 1)), strict=True):
        spans = sorted(tuple(pair) for entity in after["entities"] for pair in entity["offsets"])
        assert all(left[1] <= right[0] for left, right in itertools.pairwise(spans))
        words = [sorted(len(part.split()) for e in row["entities"] for part in e["text"]) for row in (before, after)]
        assert words[0] == words[1]
