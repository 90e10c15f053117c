"""Where runs run: processes of this machine, or SLURM jobs through `submitit`.

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
from typing import Any, Protocol

from hf_crosstask.errors import InputError


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


class Job(Protocol):
    """A run that was started."""

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


def run_locked(task: Task) -> int:
    """Run a task to its end, inside a SLURM job. Exit code 75 (try again) where another process is at it."""
    import time

    lock = take_lock(task.lock)
    if lock is None:
        time.sleep(5)
        return 75
    task.log.parent.mkdir(parents=True, exist_ok=True)
    with open(task.log, "ab") as log:
        process = subprocess.Popen(
            task.command,
            env={**os.environ, **task.environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=[lock],
        )
        return process.wait()


@dataclass
class SubmittedJob:
    """A job of a scheduler."""

    job: Any

    def poll(self) -> int | None:
        """Its exit code, 1 where the scheduler lost it; None while it waits or runs."""
        if not self.job.done():
            return None
        error = self.job.exception()
        return 1 if error is not None else int(self.job.result())

    def stop(self) -> None:
        """Cancel it."""
        self.job.cancel()


class SubmititExecutor:
    """Jobs through `submitit` (extra `slurm`).

    Args:
        folder: where submitit keeps its files.
        workers: jobs in the queue at a time; None: 64.
        cluster: `slurm`, `local` (processes of this machine, for trying out) or None: SLURM where there is one.
        parameters: of `submitit.AutoExecutor.update_parameters`, such as `timeout_min`, `slurm_partition`.

    Raises:
        InputError: submitit is not installed, or refuses a parameter.
    """

    def __init__(self, folder: Path, workers: int | None, cluster: str | None, parameters: Mapping[str, Any]):
        try:
            import submitit
        except ModuleNotFoundError:
            raise InputError("--executor slurm needs submitit: pip install 'hf_crosstask[slurm]'") from None
        self._slots = workers or 64
        try:
            self._executor = submitit.AutoExecutor(folder=str(folder), cluster=cluster)
            self._executor.update_parameters(**parameters)
        except (NameError, ValueError, RuntimeError) as error:
            raise InputError(f"execution.slurm: {error}") from None

    @property
    def slots(self) -> int:
        """Jobs at a time."""
        return self._slots

    def start(self, task: Task) -> Job | None:
        """Submit a job; it takes the lock on its own machine."""
        return SubmittedJob(self._executor.submit(run_locked, task))


def cuda_devices() -> list[str]:
    """The GPUs that this process may use, as `CUDA_VISIBLE_DEVICES` names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name.strip() and name.strip() != "-1"]
    if not (shutil.which("nvidia-smi") or shutil.which("rocm-smi")):
        return []  # torch takes seconds to import
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]
