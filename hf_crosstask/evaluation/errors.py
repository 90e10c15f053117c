"""What a model gets wrong: kinds of errors, confusions between labels, and which examples all runs miss."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from hf_crosstask.evaluation.entities import Entity
from hf_crosstask.evaluation.predictions import ENTITY_TYPES, NUMBER_TYPES, SET_TYPES, Predictions

#: Kinds of entity errors, in order; a prediction and a gold entity count in the first that applies.
ENTITY_ERRORS = ("wrong type", "wrong boundary", "wrong type and boundary", "spurious", "missed")


def entity_errors(predictions: Predictions) -> Counter[str]:
    """How many entities are right, and how many wrong in each way of `ENTITY_ERRORS`.

    A wrong prediction is paired with the gold entity that it overlaps most and that is not taken; what is left over is
    spurious (predicted) or missed (gold).
    """
    counts: Counter[str] = Counter()
    for gold, predicted in zip(predictions.gold, predictions.predicted, strict=True):
        right = set(gold) & set(predicted or ())
        counts["right"] += len(right)
        left, guesses = set(gold) - right, set(predicted or ()) - right
        pairs = sorted(
            ((_overlap(guess, entity), guess, entity) for guess in guesses for entity in left),
            key=lambda pair: (-pair[0], pair[1:]),
        )
        for overlap, guess, entity in pairs:
            if overlap and guess in guesses and entity in left:
                guesses.remove(guess)
                left.remove(entity)
                counts[_kind(guess, entity)] += 1
        counts["spurious"] += len(guesses)
        counts["missed"] += len(left)
    return counts


def _kind(guess: Entity, entity: Entity) -> str:
    if guess.offsets == entity.offsets:
        return "wrong type"
    return "wrong boundary" if guess.type == entity.type else "wrong type and boundary"


def _overlap(one: Entity, other: Entity) -> int:
    return sum(max(0, min(a[1], b[1]) - max(a[0], b[0])) for a in one.offsets for b in other.offsets)


def confusions(predictions: Predictions) -> Counter[tuple[str, str]]:
    """(gold, predicted) label pairs of tasks that decide on one label; no prediction is `(none)`."""
    counts: Counter[tuple[str, str]] = Counter()
    for gold, predicted in zip(predictions.gold, predictions.predicted, strict=True):
        if gold:
            counts[str(gold[0]) if predicted not in gold else str(predicted), str(predicted or "(none)")] += 1
    return counts


def label_set_errors(predictions: Predictions) -> dict[str, tuple[int, int, int]]:
    """Label to (right, spurious, missed) of multi-label tasks."""
    counts = {label: [0, 0, 0] for label in predictions.target.labels}
    for gold, predicted in zip(predictions.gold, predictions.predicted, strict=True):
        wanted, found = set(gold), set(predicted or ())
        for position, labels in enumerate((wanted & found, found - wanted, wanted - found)):
            for label in labels:
                counts[label][position] += 1
    return {label: (right, spurious, missed) for label, (right, spurious, missed) in counts.items()}


def wrong_examples(predictions: Predictions) -> set[str]:
    """Ids of the examples that are not right as a whole; empty for scores, which are not right or wrong."""
    kind = predictions.target.type
    if kind in NUMBER_TYPES:
        return set()
    wrong = set()
    for id, gold, predicted in zip(predictions.ids, predictions.gold, predictions.predicted, strict=True):
        several = kind in ENTITY_TYPES | SET_TYPES
        if set(gold) != set(predicted or ()) if several else predicted not in gold:
            wrong.add(id)
    return wrong


def wrong_in_all(runs: Sequence[Iterable[str]]) -> set[str]:
    """Of each run's wrong examples, those that every run gets wrong."""
    sets = [set(run) for run in runs]
    return set.intersection(*sets) if sets else set()
