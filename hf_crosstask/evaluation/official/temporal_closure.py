"""Temporal closure of interval relations, as anaforatools applies it to TLINKs.

Each interval relation stands for relations (`<`, `=`) between the end points of its two intervals; the start of every
interval lies before its end. A relation is implied by a set of relations if its point relations follow from theirs by
transitivity (`<` then `=` is `<`). Precision counts the predicted relations that the reference implies, recall the
reference relations that the prediction implies (UzZaman and Allen 2011; `anafora/evaluate.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Hashable
from dataclasses import dataclass

#: An end point: (0 = source interval, 1 = target interval; 0 = start, 1 = end).
_End = tuple[int, int]
_SOURCE_START, _SOURCE_END, _TARGET_START, _TARGET_END = (0, 0), (0, 1), (1, 0), (1, 1)
_CONTAINS = ((_SOURCE_START, "<", _TARGET_START), (_TARGET_END, "<", _SOURCE_END))
_SIMULTANEOUS = ((_SOURCE_START, "=", _TARGET_START), (_SOURCE_END, "=", _TARGET_END))

#: Interval relation to the relations between end points it stands for.
POINT_RELATIONS: dict[str, tuple[tuple[_End, str, _End], ...]] = {
    "BEFORE": ((_SOURCE_END, "<", _TARGET_START),),
    "AFTER": ((_TARGET_END, "<", _SOURCE_START),),
    "IBEFORE": ((_SOURCE_END, "=", _TARGET_START),),
    "IAFTER": ((_SOURCE_START, "=", _TARGET_END),),
    "CONTAINS": _CONTAINS,
    "INCLUDES": _CONTAINS,
    "IS_INCLUDED": ((_TARGET_START, "<", _SOURCE_START), (_SOURCE_END, "<", _TARGET_END)),
    "BEGINS-ON": ((_SOURCE_START, "=", _TARGET_START),),
    "ENDS-ON": ((_SOURCE_END, "=", _TARGET_END),),
    "BEGINS": ((_SOURCE_START, "=", _TARGET_START), (_SOURCE_END, "<", _TARGET_END)),
    "BEGUN_BY": ((_SOURCE_START, "=", _TARGET_START), (_TARGET_END, "<", _SOURCE_END)),
    "ENDS": ((_TARGET_START, "<", _SOURCE_START), (_SOURCE_END, "=", _TARGET_END)),
    "ENDED_BY": ((_SOURCE_START, "<", _TARGET_START), (_SOURCE_END, "=", _TARGET_END)),
    "SIMULTANEOUS": _SIMULTANEOUS,
    "IDENTITY": _SIMULTANEOUS,
    "DURING": _SIMULTANEOUS,
    "DURING_INV": _SIMULTANEOUS,
    "OVERLAP": ((_SOURCE_START, "<", _TARGET_END), (_TARGET_START, "<", _SOURCE_END)),
}

_Point = tuple[Hashable, int]
_Points = frozenset[tuple[_Point, str, _Point]]


@dataclass(frozen=True)
class TemporalRelation:
    """`source` stands in relation `value` (a key of `POINT_RELATIONS`) to `target`; both name intervals."""

    source: Hashable
    target: Hashable
    value: str

    def __post_init__(self) -> None:
        if self.value not in POINT_RELATIONS:
            raise ValueError(f"{self.value!r} is not a temporal relation; known: {', '.join(POINT_RELATIONS)}")

    def points(self) -> _Points:
        """Its relations between end points, equality in both directions, without `start < end`."""
        intervals = (self.source, self.target)
        relations = set()
        for (first, side), relation, (second, other) in POINT_RELATIONS[self.value]:
            left, right = (intervals[first], side), (intervals[second], other)
            relations.add((left, relation, right))
            if relation == "=":
                relations.add((right, relation, left))
        return frozenset(relations)


def distinct(relations: Collection[TemporalRelation]) -> list[TemporalRelation]:
    """One of every group of relations that say the same (BEFORE(a, b) and AFTER(b, a), say)."""
    return list({relation.points(): relation for relation in relations}.values())


def implied(relations: Collection[TemporalRelation], by: Collection[TemporalRelation]) -> int:
    """How many of `relations` (distinct ones) follow from `by`."""
    graph: dict[_Point, set[tuple[str, _Point]]] = {}
    for relation in by:
        for interval in (relation.source, relation.target):
            graph.setdefault((interval, 0), set()).add(("<", (interval, 1)))
        for left, symbol, right in relation.points():
            graph.setdefault(left, set()).add((symbol, right))
    reached: dict[_Point, set[tuple[str, _Point]]] = {}

    def follows(left: _Point, symbol: str, right: _Point) -> bool:
        if left not in reached:
            reached[left] = _reach(graph, left)
        return (symbol, right) in reached[left]

    return sum(all(follows(*point) for point in relation.points()) for relation in relations)


def _reach(graph: dict[_Point, set[tuple[str, _Point]]], start: _Point) -> set[tuple[str, _Point]]:
    """Every (relation, point) that follows for `start`: `=` along equalities only, `<` with at least one `<`."""
    found: set[tuple[str, _Point]] = set()
    frontier = [("=", start)]
    while frontier:
        so_far, point = frontier.pop()
        for symbol, successor in graph.get(point, ()):
            step = ("<" if "<" in (so_far, symbol) else "=", successor)
            if step not in found:
                found.add(step)
                frontier.append(step)
    return found
