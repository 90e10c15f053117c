"""What a run has seen and lost so far: counted on each process, summed when asked for, kept across resumes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hf_crosstask.evaluation.energy import PARTIAL, UNREADABLE, EnergyMeter
from hf_crosstask.evaluation.result import EnergyUse
from hf_crosstask.planning.ledger import TokenLedger
from hf_crosstask.planning.plan import TrainingPlan
from hf_crosstask.training.checkpoint import Progress


class RunAccounts:
    """Counts and losses of one run.

    Methods that sum over processes must be called by all of them together.

    Args:
        tasks: task names, in plan order.
        device: where losses are summed, without synchronising.
        processes: number of processes.
        progress: what a checkpoint holds, to go on from.
        meter: of this machine's energy; None where another process measures it.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        device: torch.device,
        processes: int = 1,
        progress: Progress | None = None,
        meter: EnergyMeter | None = None,
    ):
        self.tasks, self._device, self._processes = tuple(tasks), device, processes
        self._resumed = TokenLedger(tasks) if progress is None else TokenLedger.from_json(tasks, progress.ledger)
        self._resumed_losses = [(0.0, 0.0) if progress is None else progress.loss_sums[task] for task in tasks]
        self._resumed_seconds = 0.0 if progress is None else progress.seconds
        self._counts = np.zeros((len(self.tasks), 4), np.int64)
        #: In which losses are summed.
        self.dtype = torch.float32 if device.type == "mps" else torch.float64  # Apple GPUs have no float64
        self._window = torch.zeros((len(self.tasks), 2), dtype=self.dtype, device=device)
        self._losses = torch.zeros_like(self._window)
        self._started: float | None = None
        self._meter = meter or EnergyMeter({})
        self._resumed_energy = None if progress is None else progress.energy

    def start(self) -> None:
        """Start the clock, and measuring energy."""
        self._started = time.monotonic()
        self._meter.start()

    def stop(self) -> None:
        """Stop the clock, and measuring energy."""
        self._resumed_seconds, self._started = self.seconds, None
        self._meter.stop()

    @property
    def seconds(self) -> float:
        """Training time, all sessions of a resumed run together."""
        return self._resumed_seconds + (time.monotonic() - self._started if self._started is not None else 0.0)

    def energy(self) -> EnergyUse:
        """What training used, all sessions of a resumed run together; a part of it is not given as if it were the whole."""
        joules = self._meter.joules
        missing = {part: UNREADABLE for part, value in joules.items() if value is None}
        before = self._resumed_energy
        if before is not None:
            missing |= {part: PARTIAL for part in joules if before.get(part) is None and part not in missing}
        return EnergyUse(
            joules={
                part: None if value is None or part in missing else value + ((before or {}).get(part) or 0.0)
                for part, value in joules.items()
            },
            missing=missing,
        )

    def record(self, task: str, counts: NDArray[np.int64], loss: Tensor) -> None:
        """Add one micro-batch: its counts [4] (the last: labelled items) and its mean loss per item."""
        row, items = self.tasks.index(task), int(counts[3])
        self._counts[row] += counts
        summed = loss.to(self._losses.dtype) * items
        for sums in (self._window, self._losses):
            sums[row, 0] += summed
            sums[row, 1] += items

    def ledger(self) -> TokenLedger:
        """Counts of the whole run so far, all processes."""
        counts = self._summed(torch.as_tensor(self._counts).to(self._device))
        ledger = TokenLedger(self.tasks, self._resumed.counts)
        ledger.record(counts.numpy())
        return ledger

    def window_losses(self) -> dict[str, float]:
        """Mean loss per item of each task seen since the last call, all processes."""
        sums = self._summed(self._window).tolist()
        self._window.zero_()
        return {task: total / items for task, (total, items) in zip(self.tasks, sums, strict=True) if items}

    def mean_losses(self) -> dict[str, float]:
        """Mean loss per item of each task over the whole run so far, all processes."""
        return {task: total / items if items else 0.0 for task, (total, items) in self._loss_sums().items()}

    def progress(self, plan: TrainingPlan, step: int, run: str, **parts: Any) -> Progress:
        """What a checkpoint after `step` steps holds, with the `parts` of it that others know; the ledger is checked
        against the plan first.

        Raises:
            LedgerMismatchError: other tokens were counted than planned.
        """
        ledger = self.ledger()
        ledger.verify(plan, step)
        return Progress(
            step=step,
            plan=plan.fingerprint,
            run=run,
            ledger=ledger.by_task(),
            loss_sums=self._loss_sums(),
            seconds=self.seconds,
            energy=self.energy().joules,
            threads=torch.get_num_threads(),
            **parts,
        )

    def _loss_sums(self) -> dict[str, tuple[float, float]]:
        sums = self._summed(self._losses).tolist()
        return {
            task: (total + before[0], items + before[1])
            for task, (total, items), before in zip(self.tasks, sums, self._resumed_losses, strict=True)
        }

    def _summed(self, values: Tensor) -> Tensor:
        """Sum over processes, on the CPU."""
        if self._processes > 1:
            values = values.clone()
            torch.distributed.all_reduce(values)
        return values.cpu()
