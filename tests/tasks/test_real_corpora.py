"""The three corpora of the spine against counts measured independently (`expected_counts.json`)."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hf_crosstask.tasks.card import TaskSpec
from hf_crosstask.tasks.load import TaskData, load_task

Load = Callable[..., TaskData]


@pytest.fixture(scope="module")
def expected(shared_data: Path) -> dict[str, Any]:
    return json.loads((shared_data / "expected_counts.json").read_text())


@pytest.fixture(scope="module")
def load(shared_data: Path) -> Load:
    loaded: dict[str, TaskData] = {}

    def once(name: str, **options: Any) -> TaskData:
        key = f"{name}{options}"
        if key not in loaded:
            loaded[key] = load_task(TaskSpec(name=name, options=options or None), data_dir=shared_data)
        return loaded[key]

    return once


def entities(data: TaskData, split: str) -> int:
    return sum(len(entities) for entities in data.splits[split]["entities"])


def test_bc2gm_iob(load: Load, expected: dict[str, Any]) -> None:
    data = load("bc2gm")
    for split, part in (("train", "train"), ("validation", "devel"), ("test", "test")):
        counts = expected["bc2gm"]["mtl2016_IOB"][part]
        texts = data.splits[split]["text"]
        assert len(texts) == counts["sentences"] == data.card.published_counts[split]["examples"]
        assert sum(len(text.split(" ")) for text in texts) == counts["tokens"]
        # The card's segmentation finds exactly the corpus's own tokens.
        assert all(re.findall(r"\w+|[^\w\s]", text) == text.split(" ") for text in texts)
        assert entities(data, split) == counts["entities"] == data.card.published_counts[split]["entities"]
    assert data.dropped == {}


def test_bc2gm_original(load: Load, expected: dict[str, Any]) -> None:
    data, counts = load("bc2gm", variant="original"), expected["bc2gm"]["original"]
    sizes = {split: len(rows) for split, rows in data.splits.items()}
    assert sizes == {"train": 12_500, "validation": 2_500, "test": counts["test_sentences"]}
    assert sizes["train"] + sizes["validation"] == counts["train_sentences"]
    assert entities(data, "train") + entities(data, "validation") == counts["train_GENE"]
    assert entities(data, "test") == counts["test_GENE"]
    assert data.dropped["train"]["known offset errors of the distribution, corrected"] == 4
    groups = {split: set(rows["split_group"]) for split, rows in data.splits.items()}
    assert not groups["train"] & groups["validation"]
    assert len(groups["test"] & groups["train"]) == 418  # measured independently: data.md section 11
    assert len(groups["test"] & groups["validation"]) == 73
    published = data.card.published_counts
    assert published["train+validation"] == {
        "examples": counts["train_sentences"],
        "entities": counts["train_GENE"],
        "alternatives": counts["train_ALTGENE"],
    }


def test_both_variants_of_bc2gm_hold_the_same_mentions(load: Load) -> None:
    """Test sets are the same sentences, so mentions without blanks agree except the overlapping ones that IOB drops."""
    bags = []
    for data in (load("bc2gm"), load("bc2gm", variant="original")):
        rows = data.splits["test"]["entities"]
        bags.append(Counter("".join(e["text"][0].split()) for row in rows for e in row))
    assert (bags[0] - bags[1]).total() == 0
    assert (bags[1] - bags[0]).total() == 6


def test_chemprot(load: Load, expected: dict[str, Any], shared_data: Path) -> None:
    data = load("chemprot")
    for split, part in (("train", "train"), ("validation", "development"), ("test", "test")):
        counts, rows = expected["chemprot"][part], data.splits[split]
        found = Counter(relation["type"] for row in rows["relations"] for relation in row)
        lost = data.lost_gold[split]
        for label in data.card.labels[1:]:
            assert found[label] + lost.get(label, 0) == counts[label] == data.card.published_counts[split][label]
        assert sum(found[label] for label in data.card.labels[1:]) + sum(lost.values()) == counts["gold"]
        assert sum(lost.values()) <= 0.001 * counts["gold"]
        published = data.card.published_counts[split]
        assert (published["documents"], published["entities"]) == (counts["abstracts"], counts["entities"])
        assert abs(len(rows) - published["blurb_examples"]) < 0.01 * published["blurb_examples"]
        assert all(types["type"] != "false" or len(row) == 1 for row in rows["relations"] for types in row)
    assert {split: len(rows) for split, rows in data.splits.items()} == {
        "train": 17_994,
        "validation": 11_312,
        "test": 15_636,
    }
    groups = [set(rows["split_group"]) for rows in data.splits.values()]
    assert not groups[0] & groups[1]
    assert not groups[0] & groups[2]
    assert not groups[1] & groups[2]


def test_pubmedqa(load: Load, expected: dict[str, Any], shared_data: Path) -> None:
    data, counts = load("pubmedqa"), expected["pubmedqa"]
    assert {split: len(rows) for split, rows in data.splits.items()} == {"train": 450, "validation": 50, "test": 500}
    labels = {split: Counter(label for row in rows["labels"] for label in row) for split, rows in data.splits.items()}
    for label in ("yes", "no", "maybe"):
        assert labels["test"][label] == counts[f"test_{label}"]
        assert sum(split[label] for split in labels.values()) == counts[label]
    records = json.loads((shared_data / "pubmedqa/ori_pqal.json").read_text())
    for row in data.splits["train"]:
        assert records[row["id"]]["LONG_ANSWER"] not in f"{row['text']} {row['text_pair']}"
    folds = [set(load("pubmedqa", fold=fold).splits["validation"]["id"]) for fold in range(10)]
    assert len(set.union(*folds)) == 500
