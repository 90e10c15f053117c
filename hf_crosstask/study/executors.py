"""Where runs run: what starts them, and processes of this machine (`slurm` has the jobs of a cluster).

Each run holds a file lock while it lives, whoever started it: a runner that is killed and started again waits for the
run its predecessor left behind instead of training it twice.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

#: Exit codes of a run: stopped early on purpose, with a checkpoint; another process is at it.
STOPPED, BUSY = 3, 75


@dataclass(frozen=True)
class Task:
    """One run to start.

    Attributes:
        command: its command line.
        environment: what it changes of this process' environment.
        log: where its output goes, appended.
        lock: the file that is locked while it lives.
    """

    command: tuple[str, ...]
    environment: Mapping[str, str]
    log: Path
    lock: Path

    @property
    def name(self) -> str:
        """The run's id."""
        return self.log.stem


class Job(Protocol):
    """A run that was started.

    Attributes:
        reason: why it ended, where its exit code does not say so; else empty.
    """

    reason: str

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""

    def stop(self) -> None:
        """Ask it to save a checkpoint and end."""


class Executor(Protocol):
    """Starts runs."""

    @property
    def slots(self) -> int:
        """How many runs may live at a time."""

    def start(self, task: Task) -> Job | None:
        """Start a run; None where another process is at it."""


def take_lock(path: Path) -> int | None:
    """A file descriptor that holds the lock; None where another process holds it. Closing it releases the lock."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


@dataclass
class LocalJob:
    """A process of this machine."""

    process: subprocess.Popen[bytes]
    device: str | None
    free: list[str] = field(repr=False)
    reason: str = ""

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""
        code = self.process.poll()
        if code is not None and self.device is not None:
            self.free.append(self.device)
            self.device = None
        return code

    def stop(self) -> None:
        """SIGTERM: training saves a checkpoint."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)


class LocalExecutor:
    """Processes of this machine: one a GPU, or as many as the CPU has cores for.

    Args:
        workers: runs at a time; None: one a GPU, on a CPU cores / threads.
        threads: CPU threads of each.
        devices: GPUs, as `CUDA_VISIBLE_DEVICES` names them.
    """

    def __init__(self, workers: int | None, threads: int, devices: Sequence[str]):
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self._slots = workers or len(devices) or max(1, cores // threads)
        # More runs than GPUs share them.
        self._free = [device for _ in range(-(-self._slots // max(1, len(devices)))) for device in devices]

    @property
    def slots(self) -> int:
        """Runs at a time."""
        return self._slots

    def start(self, task: Task) -> Job | None:
        """Start a process; it inherits the lock, which so lives as long as it does."""
        lock = take_lock(task.lock)
        if lock is None:
            return None
        device = self._free.pop(0) if self._free else None
        environment = {**os.environ, **task.environment}
        if device is not None:
            environment["CUDA_VISIBLE_DEVICES"] = device
        task.log.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(task.log, "ab") as log:
                process = subprocess.Popen(
                    task.command,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    pass_fds=[lock],
                    start_new_session=True,  # Ctrl-C reaches the runner alone, which then stops its runs in order
                )
        finally:
            os.close(lock)
        return LocalJob(process, device, self._free)


def cuda_devices() -> list[str]:
    """The GPUs that this process may use, as `CUDA_VISIBLE_DEVICES` names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name.strip() and name.strip() != "-1"]
    if not (shutil.which("nvidia-smi") or shutil.which("rocm-smi")):
        return []  # torch takes seconds to import
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]
