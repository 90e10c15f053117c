"""Measuring one turn of training: forward and computed tokens, wall and processor time; and turns as a table."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback


@dataclass
class Turn:
    """What one turn of an arm did.

    Attributes:
        tokens: forward tokens: not padding.
        computed: tokens computed, padding included.
        steps: optimizer updates.
        seconds: wall time.
        cpu_seconds: processor time of all threads, which other jobs on the machine disturb less.
        peak_bytes: most memory allocated on the GPU; 0 without one.
        padded_share_of_pass: padding of the whole pass that the turn is a part of.
    """

    tokens: int = 0
    computed: int = 0
    steps: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_bytes: int = 0
    padded_share_of_pass: float = 0.0

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds

    @property
    def tokens_per_cpu_second(self) -> float:
        return self.tokens / self.cpu_seconds

    @property
    def padded_share(self) -> float:
        return 1 - self.tokens / self.computed


class Meter(TrainerCallback):
    """Measures training from the start of its first timed step to the end of its last.

    So what happens once (planning, building data loaders, saving at the end) is left out, and everything that happens
    for every step is in: fetching, collating, logging, callbacks.

    Args:
        backbone: the module whose every call computes `attention_mask.numel()` tokens.
        skipped: steps at the start that are not measured.
        last: stop training after this many measured steps; None runs to the end.
    """

    def __init__(self, backbone: nn.Module, *, skipped: int = 0, last: int | None = None):
        self.turn = Turn()
        self._masks: list[Tensor] = []
        self._skipped, self._last = skipped, last
        self._wall = self._cpu = 0.0
        self._handle = backbone.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        self._masks.append(kwargs["attention_mask"].detach())

    def start(self) -> None:
        """Measure from here."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        self._masks.clear()
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def finish(self, *, steps: int) -> Turn:
        """Measure to here; the backbone is left as it was."""
        turn = self.turn
        if torch.cuda.is_available():
            torch.cuda.synchronize()
            turn.peak_bytes = torch.cuda.max_memory_allocated()
        turn.seconds, turn.cpu_seconds = time.perf_counter() - self._wall, time.process_time() - self._cpu
        self._handle.remove()
        turn.steps = steps
        turn.tokens = sum(int(mask.sum()) for mask in self._masks)
        turn.computed = sum(mask.numel() for mask in self._masks)
        self._masks.clear()
        return turn

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self._skipped:
            self.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        steps = state.global_step - self._skipped
        if steps == self._last or state.global_step == state.max_steps:
            self.finish(steps=steps)
            control.should_training_stop = True


def columns(turns: Mapping[str, Sequence[Turn]], targets: Mapping[str, float]) -> dict[str, dict[str, str]]:
    """A table of arms, as column to arm to cell: medians over rounds; a ratio is the median of the rounds' own ratios.

    Args:
        turns: of each arm, `ours` among them, one each round.
        targets: what ratio of ours to each arm is aimed at.
    """
    ours, best = turns["ours"], turns.get("ceiling")

    def ratio(faster: Sequence[Turn], slower: Sequence[Turn], name: str = "tokens_per_second") -> str:
        pairs = zip(faster, slower, strict=True)
        return f"{statistics.median(getattr(a, name) / getattr(b, name) for a, b in pairs):.2f} x"

    table: dict[str, dict[str, str]] = {}
    for arm, mine in turns.items():
        speeds = [turn.tokens_per_second for turn in mine]
        cells = {
            "tokens/s": f"{statistics.median(speeds):,.0f}",
            "of each round": ", ".join(f"{speed:,.0f}" for speed in speeds),
            "tokens/CPU s": f"{statistics.median(turn.tokens_per_cpu_second for turn in mine):,.0f}",
            "padding": f"{1 - sum(turn.tokens for turn in mine) / sum(turn.computed for turn in mine):.1%}",
            "of a whole pass": f"{statistics.median(turn.padded_share_of_pass for turn in mine):.1%}",
            "ours is": ratio(ours, mine),
            "by CPU time": ratio(ours, mine, "tokens_per_cpu_second"),
            "target": f"{targets[arm]:g} x" if arm in targets else "",
            "the ceiling is": ratio(best, mine) if best else "",
        }
        for column, cell in cells.items():
            table.setdefault(column, {})[arm] = cell
    return table


def markdown(table: Mapping[str, Mapping[str, str]]) -> str:
    """A table of `columns` in Markdown, one row an arm."""
    arms = next(iter(table.values()))
    lines = [f"| arm | {' | '.join(table)} |", f"|{'---|' * (len(table) + 1)}"]
    lines += [f"| {arm} | {' | '.join(column[arm] for column in table.values())} |" for arm in arms]
    return "\n".join(lines)
