"""Loading a task: from what a recipe says of it to checked splits of the unified schema."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_crosstask.errors import DataFormatError, InputError
from hf_crosstask.tasks.card import TaskCard, TaskSpec
from hf_crosstask.tasks.readers import READERS, ReadResult, Source
from hf_crosstask.tasks.registry import resolve_card
from hf_crosstask.tasks.schema import SPLITS, check_examples, to_dataset

if TYPE_CHECKING:
    from datasets import Dataset

#: The fields of a card that decide what is trained and scored; the others describe.
_FINGERPRINTED = (
    "name",
    "type",
    "level",
    "labels",
    "negative_label",
    "positive_label",
    "score_range",
    "reach",
    "official",
    "primary_metric",
    "secondary_metrics",
    "segmentation",
)
_Examples = list[dict[str, Any]]
#: Fewer training examples than this (a format sample, say) may well have one label.
_ENOUGH_TO_VARY = 10


@dataclass(frozen=True)
class TaskData:
    """A loaded task.

    Attributes:
        card: its card, with the recipe's fields laid over the registry's.
        splits: train, validation, test (those that the source has) to examples with the unified features.
        dropped: split to reason to count of what the format legitimately drops, and of what `max_examples` leaves out.
        lost_gold: split to label to the number of gold annotations that no example can carry; scorers count them as
            false negatives. Where `max_examples` samples a split, they are scaled to the sample (rounded).
        fingerprint: SHA-256 of the card fields that decide training and scoring, all examples and the lost gold;
            independent of caches, paths and file formats.
    """

    card: TaskCard
    splits: dict[str, Dataset]
    dropped: dict[str, dict[str, int]] = field(default_factory=dict)
    lost_gold: dict[str, dict[str, int]] = field(default_factory=dict)
    fingerprint: str = ""


def load_task(spec: TaskSpec, *, data_dir: Path | None, seed: int = 0) -> TaskData:
    """Load one task of a recipe.

    Args:
        spec: a registry name, a registry name with changes, or a task of the user's own.
        data_dir: what relative paths of the task are relative to; None means the current directory.
        seed: of the sample that `max_examples` keeps, and of readers that generate.

    Raises:
        InputError: the recipe's description of the task is wrong.
        DataFormatError: the data is missing or breaks its format or an invariant of the schema.
    """
    card = resolve_card(spec)
    source = Source(card, _resolve(card.path, data_dir), seed, card.options)
    result = READERS[card.reader](source)
    _check(result, source)
    splits, dropped, lost_gold = _sample(result, card, seed)
    return TaskData(
        card=card,
        splits={split: to_dataset(examples) for split, examples in splits.items()},
        dropped=dropped,
        lost_gold=lost_gold,
        fingerprint=_fingerprint(card, splits, lost_gold),
    )


def _resolve(path: str | Mapping[str, str] | None, data_dir: Path | None) -> Path | dict[str, Path] | None:
    base = data_dir if data_dir is not None else Path()
    if path is None:
        return None
    if isinstance(path, str):
        return base / Path(path).expanduser()
    return {split: base / Path(file).expanduser() for split, file in path.items()}


def _check(result: ReadResult, source: Source) -> None:
    for split, examples in result.splits.items():
        if not examples:
            raise DataFormatError(source.name, f"the {split} split holds no examples.")
    card = source.card
    check_examples(itertools.chain(*result.splits.values()), card.type, card.labels, source=source.name)
    problem = _nothing_to_learn(card, result.splits.get("train", []))
    if problem:
        raise DataFormatError(source.name, problem, remedy="Check that the right column holds the labels.")


def _nothing_to_learn(card: TaskCard, train: Sequence[Mapping[str, Any]]) -> str | None:
    """No label at all, or labels that are all the same (but for a handful of examples), are signs of a wrong column."""
    if not train:
        return None
    if card.type in ("ner", "span_ner") and not any(example["entities"] for example in train):
        return "no training example has an entity."
    if card.type == "multilabel" and not any(example["labels"] for example in train):
        return "no training example has a label."
    if len(train) < _ENOUGH_TO_VARY:
        return None
    if card.type == "similarity" and len({example["score"] for example in train}) == 1:
        return f"every training example has the score {train[0]['score']:g}."
    labels: set[str] = set()
    if card.type == "relation":
        labels = {relation["type"] for example in train for relation in example["relations"]}
    elif card.type in ("classification", "ranking"):
        labels = {example["labels"][0] for example in train}
    return f"every training example has the label {labels.pop()!r}." if len(labels) == 1 else None


def _sample(
    result: ReadResult, card: TaskCard, seed: int
) -> tuple[dict[str, _Examples], dict[str, dict[str, int]], dict[str, dict[str, int]]]:
    """Splits in their usual order, each cut to `max_examples` by a seeded sample that keeps the order.

    Of a ranking whole queries are kept, as many as fit: a query is not judged by some of its candidates.
    """
    splits = {split: result.splits[split] for split in SPLITS if split in result.splits}
    dropped = {split: dict(reasons) for split, reasons in result.dropped.items()}
    lost_gold = {split: dict(counts) for split, counts in result.lost_gold.items()}
    for split, wanted in card.max_examples.items():
        examples = splits.get(split, [])
        if len(examples) <= wanted:
            continue
        # The stream depends on the split alone, so that changing one split's size changes no other's sample.
        stream = random.Random(f"{seed}/{card.name}/{split}")
        if card.type == "ranking":
            chosen = _whole_queries(examples, wanted, stream, f"task {card.name!r}: max_examples.{split}")
        else:
            chosen = stream.sample(range(len(examples)), wanted)
        splits[split] = [examples[index] for index in sorted(chosen)]
        reasons = Counter(dropped.get(split, {}))
        reasons["left out by max_examples"] += len(examples) - len(chosen)
        dropped[split] = dict(reasons)
        share = len(chosen) / len(examples)
        lost_gold[split] = {label: round(count * share) for label, count in lost_gold.get(split, {}).items()}
    return splits, dropped, lost_gold


def _whole_queries(examples: _Examples, wanted: int, stream: random.Random, key: str) -> list[int]:
    """The candidates of queries in random order, as long as they fit."""
    queries: dict[str, list[int]] = {}
    for index, example in enumerate(examples):
        queries.setdefault(example["group_id"], []).append(index)
    chosen: list[int] = []
    for query in stream.sample(sorted(queries), len(queries)):
        if len(chosen) + len(queries[query]) <= wanted:
            chosen += queries[query]
    if not chosen:
        fewest = min(map(len, queries.values()))
        raise InputError(
            f"{key} is {wanted}, but a ranking keeps whole queries, and the smallest has {fewest} candidates"
        )
    return chosen


def _fingerprint(card: TaskCard, splits: Mapping[str, _Examples], lost_gold: Mapping[str, Mapping[str, int]]) -> str:
    digest = hashlib.sha256()

    def add(value: Any) -> None:
        digest.update(json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False).encode() + b"\n")

    add({name: getattr(card, name) for name in _FINGERPRINTED})
    add({split: {label: n for label, n in counts.items() if n} for split, counts in lost_gold.items()})
    for split, examples in splits.items():
        add([split, len(examples)])
        for example in examples:
            add(example)
    return digest.hexdigest()
