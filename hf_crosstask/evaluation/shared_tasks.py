"""What the official scorers of THYME, ADE and CMED add to the metrics of entity and relation tasks.

The scorers (`official.anafora`, `official.ade2018`, `official.cmed2022`) count annotated documents; here a run's
predictions become such documents again, and the statistics of each join the counts of its examples, so that values and
bootstrap intervals come from the same sums.

- Entity tasks: an example is a document, or a piece of one (statistics add up). Attributes are those of `slots`.
- Relation tasks (gold mentions): the candidates of a `split_group` are a document, and its statistics stand at its first
  candidate. Mentions are compared by their offsets in the document. Gold relations that no candidate carries are missed,
  so closure (THYME) and lenient matching (ADE), which might still reach some, make the official value at least as high.
  Every document with candidates counts: the reader makes none of notes whose relations were never annotated, which the
  official wrapper of THYME tells by `clin` in the name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hf_crosstask.evaluation.counts import FloatArray
from hf_crosstask.evaluation.entities import Entity
from hf_crosstask.evaluation.official import ade2018, anafora, brat, cmed2022
from hf_crosstask.evaluation.official.base import UnitCounts, Values, group_by
from hf_crosstask.evaluation.predictions import ENTITY_TYPES, Pair, Predictions, Slots, Target
from hf_crosstask.evaluation.slots import slot_names

#: Scorers whose statistics are counted here; the ShARe ones are part of `spans`.
Scored = Literal["thyme2016", "ade2018", "cmed2022"]
_Side = Literal["gold", "predicted"]
_MEASURES = ("f1", "precision", "recall")
_CONTAINS = "CONTAINS"


@dataclass(frozen=True)
class Addition:
    """Official metrics of one task.

    Attributes:
        columns: statistics of a document.
        metrics: name to the official module's name.
        from_counts: summed statistics `[..., columns]` to the official module's values.
        count: predictions to statistics `[examples, columns]`.
        lost: label to lost gold annotations, to statistics `[columns]`.
    """

    columns: int
    metrics: Mapping[str, str]
    from_counts: Callable[[FloatArray], Values]
    count: Callable[[Predictions], FloatArray]
    lost: Callable[[Mapping[str, int]], FloatArray]


def addition_for(target: Target) -> Addition | None:
    """What the task's official scorer adds; None where it adds nothing."""
    additions = _ENTITIES if target.type in ENTITY_TYPES else _RELATIONS if target.type == "relation" else {}
    return additions.get(target.official or "")


def _entity_counts(
    predictions: Predictions, statistics: Callable[[Predictions, int], UnitCounts], columns: int
) -> FloatArray:
    rows = [statistics(predictions, index).total() for index in range(len(predictions))]
    return np.array(rows, dtype=np.float64).reshape(len(rows), columns)


def _slots(predictions: Predictions, side: _Side, index: int) -> Slots:
    slots = predictions.gold_slots if side == "gold" else predictions.predicted_slots
    if slots is None:
        raise ValueError(f"{predictions.target.official} scores attributes, and these predictions carry none")
    return slots[index]


def _entities(predictions: Predictions, side: _Side, index: int) -> tuple[Entity, ...]:
    row: tuple[Entity, ...] = (predictions.gold if side == "gold" else predictions.predicted)[index]
    return row


# THYME


def _thyme_document(predictions: Predictions, side: _Side, index: int) -> anafora.Document:
    names = slot_names("thyme2016")
    rows = zip(_entities(predictions, side, index), _slots(predictions, side, index), strict=True)
    return anafora.Document(
        tuple(
            anafora.Entity(
                str(number),
                entity.type,
                entity.offsets,
                tuple((name, value) for name, value in zip(names, values, strict=True) if value),
            )
            for number, (entity, values) in enumerate(rows)
        )
    )


def _thyme_entities(predictions: Predictions, index: int) -> UnitCounts:
    gold, predicted = (_thyme_document(predictions, side, index) for side in ("gold", "predicted"))
    return anafora.document_counts({"": gold}, {"": predicted})


def _thyme_links(found: Iterable[tuple[Pair, str]]) -> anafora.Document:
    """The CONTAINS links of a document; mentions of the same type and offsets are one."""
    pairs = [pair for pair, label in found if label.removeprefix("TLINK:") == _CONTAINS]
    mentions = {
        mention: str(number) for number, mention in enumerate(dict.fromkeys(m for pair in pairs for m in pair))
    }
    return anafora.Document(
        tuple(anafora.Entity(id, mention.type, mention.offsets) for mention, id in mentions.items()),
        tuple(
            anafora.Relation(str(number), "TLINK", mentions[head], mentions[tail], _CONTAINS)
            for number, (head, tail) in enumerate(pairs)
        ),
    )


def _thyme_relations(gold: Iterable[tuple[Pair, str]], predicted: Iterable[tuple[Pair, str]]) -> UnitCounts:
    return anafora.document_counts(
        {"": _thyme_links(gold)}, {"": _thyme_links(predicted)}, scores_relations=lambda document: True
    )


# ADE


def _ade_document(entities: Sequence[Entity], links: Iterable[tuple[Pair, str]] = ()) -> brat.BratDocument:
    ids = {mention: f"T{number}" for number, mention in enumerate(entities, start=1)}
    return brat.BratDocument(
        tuple(brat.Span(f"T{number}", e.type, e.offsets, "") for number, e in enumerate(entities, start=1)),
        tuple(
            brat.Relation(f"R{number}", label, ids[head], ids[tail])
            for number, ((head, tail), label) in enumerate(links, start=1)
        ),
    )


def _ade_entities(predictions: Predictions, index: int) -> UnitCounts:
    gold, predicted = (_ade_document(_entities(predictions, side, index)) for side in ("gold", "predicted"))
    return ade2018.document_counts({"": gold}, {"": predicted})


def _ade_relations(gold: Iterable[tuple[Pair, str]], predicted: Iterable[tuple[Pair, str]]) -> UnitCounts:
    sides = []
    for found in (list(gold), list(predicted)):
        mentions = dict.fromkeys(mention for pair, _ in found for mention in pair)
        sides.append(_ade_document(tuple(mentions), found))
    return ade2018.document_counts({"": sides[0]}, {"": sides[1]})


# CMED


def _cmed_document(predictions: Predictions, side: _Side, index: int) -> brat.BratDocument:
    spans, events, attributes = [], [], []
    names = slot_names("cmed2022")
    rows = zip(_entities(predictions, side, index), _slots(predictions, side, index), strict=True)
    for number, (entity, values) in enumerate(rows, start=1):
        spans.append(brat.Span(f"T{number}", entity.type, entity.offsets, ""))
        events.append(brat.Event(f"E{number}", entity.type, f"T{number}"))
        attributes += [
            brat.Attribute(f"A{number}{name}", name, f"E{number}", value)
            for name, value in zip(names, values, strict=True)
            if value
        ]
    return brat.BratDocument(tuple(spans), events=tuple(events), attributes=tuple(attributes))


def _cmed_entities(predictions: Predictions, index: int) -> UnitCounts:
    gold, predicted = (_cmed_document(predictions, side, index) for side in ("gold", "predicted"))
    return cmed2022.document_counts({"": gold}, {"": predicted})


_Documents = Callable[[Iterable[tuple[Pair, str]], Iterable[tuple[Pair, str]]], UnitCounts]


def _relation_counts(predictions: Predictions, statistics: _Documents, columns: int) -> FloatArray:
    """Statistics `[candidates, columns]`, each document's at its first candidate."""
    if predictions.pairs is None:
        raise ValueError(f"{predictions.target.official} compares mentions, and these predictions carry none")
    pairs, negative = predictions.pairs, predictions.target.negative_label
    counts = np.zeros((len(predictions), columns))
    for members in group_by(range(len(predictions)), lambda index: predictions.split_groups[index]).values():
        gold = [(pairs[index], label) for index in members for label in predictions.gold[index] if label != negative]
        guesses = [(index, predictions.predicted[index]) for index in members]
        predicted = [(pairs[index], label) for index, label in guesses if label not in (None, negative)]
        counts[members[0]] = statistics(gold, predicted).total()
    return counts


def _lost_relations(lost: Mapping[str, int], statistics: _Documents) -> FloatArray:
    """The statistics of lost gold: relations between mentions of their own, and nothing predicted."""
    places = iter(range(0, 4 * sum(lost.values()), 2))
    gold = []
    for label, count in lost.items():
        for _ in range(count):
            head, tail = (Entity("", ((start, start + 1),)) for start in (next(places), next(places)))
            gold.append((Pair(head, tail), label))
    return statistics(gold, ()).total()


def _of_entities(
    statistics: Callable[[Predictions, int], UnitCounts],
    from_counts: Callable[[FloatArray], Values],
    columns: int,
    metrics: Mapping[str, str],
) -> Addition:
    return Addition(
        columns,
        metrics,
        from_counts,
        lambda predictions: _entity_counts(predictions, statistics, columns),
        lambda lost: np.zeros(columns),  # whole documents carry all their entities
    )


def _of_relations(
    statistics: _Documents, from_counts: Callable[[FloatArray], Values], columns: int, metrics: Mapping[str, str]
) -> Addition:
    return Addition(
        columns,
        metrics,
        from_counts,
        lambda predictions: _relation_counts(predictions, statistics, columns),
        lambda lost: _lost_relations(lost, statistics),
    )


def _named(prefixes: Iterable[str]) -> dict[str, str]:
    return {f"{prefix}_{measure}": f"{prefix}_{measure}" for prefix in prefixes for measure in _MEASURES}


def _modes(kind: str) -> dict[str, str]:
    """`strict_f1` and so on, to the names that say of what."""
    return {f"{mode}_{measure}": f"{mode}_{kind}_{measure}" for mode in ade2018.MODES for measure in _MEASURES}


_CMED_PARTS = ("drug", "event", *map(str.lower, cmed2022.ATTRIBUTES), "attribute", "combined")
_ENTITIES: dict[str, Addition] = {
    "thyme2016": _of_entities(_thyme_entities, anafora.from_counts, anafora.COLUMNS, _named(anafora.VIEWS)),
    "ade2018": _of_entities(_ade_entities, ade2018.from_counts, ade2018.COLUMNS, _modes("entity")),
    "cmed2022": _of_entities(
        _cmed_entities,
        cmed2022.from_counts,
        cmed2022.COLUMNS,
        _named(f"{mode}_{part}" for mode in cmed2022.MODES for part in _CMED_PARTS),
    ),
}
_RELATIONS: dict[str, Addition] = {
    "thyme2016": _of_relations(_thyme_relations, anafora.from_counts, anafora.COLUMNS, _named(("cr", "cr_exact"))),
    "ade2018": _of_relations(_ade_relations, ade2018.from_counts, ade2018.COLUMNS, _modes("relation")),
}
