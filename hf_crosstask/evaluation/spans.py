"""Counts and metrics of entities of any shape: exact, relaxed, and what the official ShARe scorers add.

The counts of an example are rows of four numbers (see `counts`): exact entities by type, exact spans of all types
merged, relaxed by type, then those of the official scorer. One type and lost gold aside, `entity_f1` and `relaxed_f1`
are Task A strict and relaxed of SemEval-2014 Task 7, with examples as documents.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from hf_crosstask.evaluation import counts as c
from hf_crosstask.evaluation.counts import FN, FP, LOST, TP, CountTable, FloatArray, FromCounts
from hf_crosstask.evaluation.entities import Entity, entity_counts, merged_counts
from hf_crosstask.evaluation.official import share2015
from hf_crosstask.evaluation.predictions import Predictions, Slots, Target
from hf_crosstask.tasks.card import Official

_TASK2 = 23  # statistics of `share2015.task2_counts`
_ROWS: dict[Official | None, int] = {"share2014": 1, "share2015": 2 + 6}  # further rows of counts by official scorer


def relaxed_counts(
    gold: Sequence[Iterable[Entity]], predicted: Sequence[Iterable[Entity]], types: Sequence[str]
) -> FloatArray:
    """Counts `[examples, types, 4]` of overlapping mentions, as SemEval-2014 Task 7 counts them within each type.

    A prediction is right if any of its parts shares a character with a part of any gold entity of its type; a gold
    entity is missed if no prediction of its type does so with it.
    """
    counts = np.zeros((len(gold), len(types), 4))
    for index, sides in enumerate(zip(gold, predicted, strict=True)):
        right, guess = (_fragments(side) for side in sides)
        for number, label in enumerate(types):
            (edges, owner, size), (other_edges, other_owner, other_size) = guess[label], right[label]
            touch = (edges[:, None, 0] < other_edges[:, 1]) & (other_edges[:, 0] < edges[:, None, 1])
            hits, found = len(np.unique(owner[touch.any(axis=1)])), len(np.unique(other_owner[touch.any(axis=0)]))
            counts[index, number, [TP, FP, FN]] = hits, size - hits, other_size - found
    return counts


def _fragments(entities: Iterable[Entity]) -> dict[str, tuple[NDArray[np.int64], NDArray[np.int64], int]]:
    """By type: edges [parts, 2] of all parts of its distinct entities, the entity of each part, how many entities."""
    by_type: dict[str, list[Entity]] = defaultdict(list)
    for entity in dict.fromkeys(entities):
        by_type[entity.type].append(entity)
    fragments: dict[str, tuple[NDArray[np.int64], NDArray[np.int64], int]] = defaultdict(
        lambda: (np.zeros((0, 2), dtype=np.int64), np.zeros(0, dtype=np.int64), 0)
    )
    for label, of_type in by_type.items():
        edges = np.array([part for entity in of_type for part in entity.offsets], dtype=np.int64)
        owner = np.repeat(np.arange(len(of_type)), [len(entity.offsets) for entity in of_type])
        fragments[label] = edges, owner, len(of_type)
    return fragments


def metrics(target: Target) -> dict[str, FromCounts]:
    """The metrics of a task; all read the counts of `span_table`.

    `cui_accuracy` is SemEval-2014 Task B strict (of all gold mentions), `cui_accuracy_relaxed` of those found.
    `task1_*` and `task2_*` are those of SemEval-2015 Task 14; `task2_f1_weighted_accuracy` is its headline.
    """
    types = len(target.labels)
    exact, relaxed, further = slice(0, types), slice(types + 1, 2 * types + 1), slice(2 * types + 1, None)
    found: dict[str, FromCounts] = {
        "entity_f1": _micro(exact, c.f1),
        "entity_precision": _micro(exact, c.precision),
        "entity_recall": _micro(exact, c.recall),
        "relaxed_f1": _micro(relaxed, c.f1),
        "relaxed_precision": _micro(relaxed, c.precision),
        "relaxed_recall": _micro(relaxed, c.recall),
    }
    if types > 1:
        found["entity_f1_merged"] = _micro(slice(types, types + 1), c.f1)
    if target.official == "share2014":
        for name, whole in (("cui_accuracy", 2), ("cui_accuracy_relaxed", 1)):
            found[name] = partial(_share_of, first=further.start, whole=whole)
    elif target.official == "share2015":
        for name in ("strict_f1", "relaxed_f1"):
            found[f"task1_{name}"] = partial(_task1, name=name, first=further.start)
        for name in ("f1_weighted_accuracy", "weighted_accuracy", "f1_accuracy", "accuracy"):
            found[f"task2_{name}"] = partial(_task2, name=name, first=further.start + 2)
    return found


def _micro(rows: slice, value: FromCounts) -> FromCounts:
    return lambda totals: value(c.micro(totals[..., rows, :]))


def _share_of(totals: FloatArray, first: int, whole: int) -> FloatArray:
    """Right CUIs of all mentions that column `whole` counts."""
    return c.ratio(totals[..., first, 0], totals[..., first, whole])


def _task1(totals: FloatArray, name: str, first: int) -> FloatArray:
    both = totals[..., first : first + 2, :3]
    return share2015.task1_from_counts(both.reshape(*both.shape[:-2], 6))[name]


def _task2(totals: FloatArray, name: str, first: int) -> FloatArray:
    rows = totals[..., first:, :]
    return share2015.task2_from_counts(rows.reshape(*rows.shape[:-2], -1)[..., :_TASK2])[name]


def span_table(predictions: Predictions) -> CountTable:
    """The counts of predictions; lost gold is missed by every metric."""
    target, gold, predicted = predictions.target, predictions.gold, predictions.predicted
    tables = [
        entity_counts(gold, predicted, target.labels),
        merged_counts(gold, predicted),
        relaxed_counts(gold, predicted, target.labels),
    ]
    lost = c.lost_constant(target.lost_gold, target.labels)
    all_lost = lost[:, LOST].sum()
    constants = [lost, lost.sum(axis=0, keepdims=True), lost]
    if target.official in _ROWS:
        tables.append(_official_counts(predictions))
        constants.append(_official_lost(target, all_lost))
    return CountTable(np.concatenate(tables, axis=1), np.concatenate(constants))


def _official_lost(target: Target, lost: float) -> FloatArray:
    constant = np.zeros((_ROWS[target.official], 4))
    constant[: 3 if target.official == "share2015" else 1, 2] = lost  # false negatives; gold mentions in 2014
    return constant


def _official_counts(predictions: Predictions) -> FloatArray:
    """`[examples, rows, 4]`. 2014: right CUIs, mentions found, gold mentions. 2015: Task 1 strict and relaxed, Task 2."""
    if predictions.gold_slots is None or predictions.predicted_slots is None:
        raise ValueError(f"{predictions.target.official} scores slots, and these predictions carry none")
    official = predictions.target.official
    groups_with_gold = {group for group, row in zip(predictions.split_groups, predictions.gold, strict=True) if row}
    counts = np.zeros((len(predictions), _ROWS[official], 4))
    rows = zip(
        predictions.split_groups,
        predictions.gold,
        predictions.gold_slots,
        predictions.predicted,
        predictions.predicted_slots,
        strict=True,
    )
    for index, (group, right, right_slots, guess, guess_slots) in enumerate(rows):
        if official == "share2014":
            counts[index, 0, :3] = _count_2014(_cuis(right, right_slots), _cuis(guess, guess_slots))
        elif right:
            counts[index] = _count_2015(_disorders_2015(right, right_slots), _disorders_2015(guess, guess_slots))
        elif group in groups_with_gold:  # a part of a document that has gold elsewhere; without any it is not scored
            counts[index, :3, FP] = len({entity.offsets for entity in guess})
    return counts


def _cuis(entities: Iterable[Entity], slots: Slots) -> dict[Entity, str]:
    """The CUI of each mention, in lower case; the last one counts, as in the official script."""
    return {entity: cui.lower() for entity, (cui,) in zip(entities, slots, strict=True)}


def _disorders_2015(entities: Iterable[Entity], slots: Slots) -> list[share2015.Disorder]:
    return [
        share2015.Disorder("", entity.offsets, cui, tuple(values))
        for entity, (cui, *values) in zip(entities, slots, strict=True)
    ]


def _count_2014(right: Mapping[Entity, str], guess: Mapping[Entity, str]) -> tuple[int, int, int]:
    found = right.keys() & guess.keys()
    return sum(right[entity] == guess[entity] for entity in found), len(found), len(right)


def _count_2015(gold: Sequence[share2015.Disorder], predicted: Sequence[share2015.Disorder]) -> FloatArray:
    counts = np.zeros((_ROWS["share2015"], 4))
    counts[:2, :3] = share2015.task1_counts(gold, predicted).total().reshape(2, 3)
    counts[2:].reshape(-1)[:_TASK2] = share2015.task2_counts(gold, predicted).total()
    return counts


def nothing_found(predictions: Predictions) -> Predictions:
    """The trivial predictor of entities: it predicts none."""
    empty = ((),) * len(predictions)
    slots = None if predictions.predicted_slots is None else empty
    return replace(predictions, predicted=empty, confidence=empty, predicted_slots=slots)
