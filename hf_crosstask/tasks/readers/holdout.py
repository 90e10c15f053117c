"""Validation splits for corpora that have none: whole documents, chosen by their names alone."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hf_crosstask.errors import DataFormatError


def choose_groups(sizes: Mapping[str, int], total: int, seed: int, source: str | Path) -> set[str]:
    """Groups that together hold `total` examples.

    Groups are taken in the order of a hash of their name and the seed, each as long as it fits; so the choice is the
    same on every machine, in every run, and does not depend on the order of the file. Where no groups add up to the
    total, the sum is the next smaller one that this order reaches.

    Args:
        sizes: group to its number of examples.
        total: examples to choose.
        seed: chooses another order.
        source: named in the error.

    Raises:
        DataFormatError: nothing would be left.
    """
    if total >= sum(sizes.values()):
        problem = f"cannot hold out {total} of {sum(sizes.values())} for validation."
        raise DataFormatError(source, problem, remedy="Choose fewer in the task's options.")
    chosen: set[str] = set()
    for group in sorted(sizes, key=lambda group: hashlib.sha256(f"{seed}:{group}".encode()).digest()):
        if sizes[group] <= total:
            chosen.add(group)
            total -= sizes[group]
    return chosen


def hold_out(
    examples: list[dict[str, Any]], total: int, seed: int, source: str | Path
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Cut `total` examples off, whole `split_group`s only; both parts keep the order of the file."""
    sizes: dict[str, int] = {}
    for example in examples:
        sizes[example["split_group"]] = sizes.get(example["split_group"], 0) + 1
    chosen = choose_groups(sizes, total, seed, source)
    kept = [example for example in examples if example["split_group"] not in chosen]
    held = [example for example in examples if example["split_group"] in chosen]
    return kept, held
