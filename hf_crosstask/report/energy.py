"""The energy of a study's runs, as its report states it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import mean

from hf_crosstask.evaluation.result import RunResult


def watt_hours(results: Sequence[RunResult]) -> float | None:
    """Mean of the runs whose energy was read; None where there is none."""
    read = [result.train.energy.watt_hours for result in results if result.train.energy is not None]
    known = [hours for hours in read if hours is not None]
    return mean(known) if known else None


def energy_note(results: Sequence[RunResult]) -> str:
    """What was read in how many runs, and what the numbers hold; or why there are none."""
    uses = [result.train.energy for result in results if result.train.energy is not None]
    read = Counter(part for use in uses for part, joules in use.joules.items() if joules is not None)
    if read:
        parts = ", ".join(f"{part.upper()} in {count} of {len(results)} runs" for part, count in sorted(read.items()))
        return (
            f"Wh per run: energy in training by the machine's counters ({parts}). They count the whole processor or GPU: "
            "whatever else ran at the time, other runs among it, is in them."
        )
    reasons = ", ".join(sorted({reason for use in uses for reason in use.missing.values()}))
    return f"Energy: not readable on this machine ({reasons or 'it was not measured'})."
