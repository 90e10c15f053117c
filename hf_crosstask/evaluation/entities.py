"""Counts of entity recognition: exact spans and types, and BC2GM's acceptable alternatives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from hf_crosstask.evaluation.counts import FN, FP, TP, FloatArray


class Entity(NamedTuple):
    """An entity by what makes it right or wrong: its type and its [start, end) parts (several = discontiguous)."""

    type: str
    offsets: tuple[tuple[int, int], ...]

    @property
    def start(self) -> int:
        """First position of the first part."""
        return self.offsets[0][0]

    @property
    def end(self) -> int:
        """Position after the last part."""
        return self.offsets[-1][1]


def as_entity(entity: Mapping[str, Any]) -> Entity:
    """An entity of the unified schema; its parts are sorted, for their order carries no meaning."""
    return Entity(entity["type"], tuple(sorted((start, end) for start, end in entity["offsets"])))


def entity_counts(
    gold: Sequence[Iterable[Entity]], predicted: Sequence[Iterable[Entity]], types: Sequence[str]
) -> FloatArray:
    """Counts `[examples, types, 4]` of exact matches: a prediction is right if span and type equal a gold entity.

    Entities of an example are a set, as in seqeval (an annotation given twice counts once). On tag sequences decoded
    as strict IOB2 the sums equal seqeval's with `mode="strict", scheme=IOB2`.

    Raises:
        ValueError: an entity's type is not in `types`, or the numbers of examples differ.
    """
    row = {label: index for index, label in enumerate(types)}
    counts = np.zeros((len(gold), len(types), 4))
    for index, (right, guess) in enumerate(zip(map(set, gold), map(set, predicted), strict=True)):
        for column, entities in ((TP, right & guess), (FP, guess - right), (FN, right - guess)):
            for entity in entities:
                if entity.type not in row:
                    raise ValueError(f"entity type {entity.type!r} is not among {list(types)}")
                counts[index, row[entity.type], column] += 1
    return counts


def merged_counts(gold: Sequence[Iterable[Entity]], predicted: Sequence[Iterable[Entity]]) -> FloatArray:
    """Counts `[examples, 1, 4]` of exact spans whatever their type: all types merged into one (BLURB's JNLPBA).

    Entities of the same span and different types are one. BLURB's systems were also trained on merged types, so that
    an error of type cannot split an entity into two for them.
    """
    one = "entity"
    sides = [[{Entity(one, entity.offsets) for entity in row} for row in side] for side in (gold, predicted)]
    return entity_counts(sides[0], sides[1], (one,))


def alternative_counts(
    gold: Sequence[Iterable[Entity]], alternatives: Sequence[Iterable[Entity]], predicted: Sequence[Iterable[Entity]]
) -> FloatArray:
    """Counts `[examples, 1, 4]` of BC2GM's official scoring, over all types together.

    As the official `alt_eval.perl` (BioCreative II gene mention) counts them:

    - a gold entity is found if it, or an alternative of the same type that overlaps it, is predicted; it counts once
      however many of its forms are predicted (true positive), and is missed otherwise (false negative);
    - a prediction is wrong (false positive) only if it equals no gold entity and no alternative of its example.

    So a prediction may find two gold entities (an alternative that spans both), a second form of a found entity counts
    neither way, and so does an alternative that overlaps no gold entity; TP + FP need not equal the number of
    predictions. The script's offsets skip white space and mentions start and end in non-space characters, so overlap
    and equality are those of character offsets.
    """
    counts = np.zeros((len(gold), 1, 4))
    rows = zip(map(set, gold), map(set, alternatives), map(set, predicted), strict=True)
    for index, (right, accepted, guess) in enumerate(rows):
        hit = guess & accepted
        for entity in right:
            found = entity in guess or any(
                other.type == entity.type and other.start < entity.end and entity.start < other.end for other in hit
            )
            counts[index, 0, TP if found else FN] += 1
        counts[index, 0, FP] = len(guess - right - accepted)
    return counts
