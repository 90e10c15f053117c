"""Several hypotheses at once: Holm over tasks, intersection-union over controls, partial conjunction over tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def _checked(p: float) -> float:
    if not 0 <= p <= 1:
        raise ValueError(f"{p} is not a p-value")
    return p


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's (1979) adjusted p-values: family-wise error at most alpha, whatever the dependence.

    A name is significant at alpha where its adjusted value is at most alpha.
    """
    ordered = sorted(p_values, key=lambda name: (_checked(p_values[name]), name))
    adjusted, largest = {}, 0.0
    for rank, name in enumerate(ordered):
        largest = max(largest, min(1.0, (len(ordered) - rank) * p_values[name]))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}


def intersection_union(p_values: Sequence[float]) -> float:
    """The p-value of "every one of these nulls is false" (Berger 1982): the largest, without correction.

    Raises:
        ValueError: nothing to combine.
    """
    return max(_checked(p) for p in p_values)


def partial_conjunction(p_values: Sequence[float]) -> list[float]:
    """For u = 1, 2, …: the p-value of "the effect is there in at least u of these" (Dror et al. 2017, Bonferroni).

    `(n - u + 1) · p_(u)`, made monotone. Bonferroni's form, because tasks scored by one multi-task run depend on each
    other; Fisher's needs independence.
    """
    ordered = sorted(map(_checked, p_values))
    adjusted: list[float] = []
    for index, p in enumerate(ordered):
        adjusted.append(max(min(1.0, (len(ordered) - index) * p), adjusted[-1] if adjusted else 0.0))
    return adjusted


def at_least(p_values: Sequence[float], alpha: float = 0.05) -> int:
    """In how many of these, at least, the effect is there: the largest u whose partial conjunction p is at most alpha."""
    return sum(p <= alpha for p in partial_conjunction(p_values))
