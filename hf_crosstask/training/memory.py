"""An alarm for memory that grows from step to step: a long run should fail in its first hour, not in its last.

Memory is read after every step: what tensors hold on the device, and what the process holds. Steps differ in size, so
single readings go up and down; the lowest reading of a window of steps does not. Where it rises from each of several
windows to the next, and by a real amount in all, something keeps what it should let go. One warning, naming numbers.
"""

from __future__ import annotations

import sys
from collections import deque
from itertools import pairwise
from typing import Any

import psutil
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

WINDOW = 25  # steps
WINDOWS = 6
#: What must have been gained over all windows: as a share of the first one's reading, and in bytes.
SHARE, BYTES = 0.05, 64 * 2**20


class GrowthAlarm:
    """Readings of one kind of memory, and whether they grow steadily.

    Args:
        what: its name, for the message.
    """

    def __init__(self, what: str):
        self.what = what
        self._lowest: deque[tuple[int, int]] = deque(maxlen=WINDOWS)  # (last step, lowest reading) of each window
        self._window: list[int] = []

    def add(self, step: int, reading: int) -> str | None:
        """Take the reading after a step; a message where memory has grown through all the windows kept."""
        self._window.append(reading)
        if len(self._window) < WINDOW:
            return None
        self._lowest.append((step, min(self._window)))
        self._window.clear()
        readings = [lowest for _, lowest in self._lowest]
        gained = readings[-1] - readings[0]
        rises = all(later > earlier for earlier, later in pairwise(readings))
        if len(readings) < WINDOWS or not rises or gained < max(BYTES, SHARE * readings[0]):
            return None
        first, last = self._lowest[0][0], self._lowest[-1][0]
        return (
            f"{self.what} grew in every one of {WINDOWS} windows of {WINDOW} steps: from {readings[0] / 2**20:,.0f} MiB at "
            f"step {first} to {readings[-1] / 2**20:,.0f} MiB at step {last}, {gained / (last - first) / 2**20:,.1f} MiB a "
            "step. Something keeps memory that it should let go"
        )


class MemoryMonitor(TrainerCallback):
    """Warns once, on the process concerned, of memory that grows steadily.

    Attributes:
        warned: the warning given; None where there was no reason.
    """

    def __init__(self) -> None:
        self.warned: str | None = None
        self._process = psutil.Process()
        self._host, self._device = GrowthAlarm("memory of the process"), GrowthAlarm("memory of tensors on the GPU")

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.warned is not None:
            return
        self.warned = self._host.add(state.global_step, self._process.memory_info().rss)
        if args.device.type == "cuda":
            allocated = torch.cuda.memory_allocated(args.device)
            self.warned = self._device.add(state.global_step, allocated) or self.warned
        if self.warned is not None:
            left = state.max_steps - state.global_step
            print(f"warning: process {args.process_index}: {self.warned}; {left:,} steps are left", file=sys.stderr)
