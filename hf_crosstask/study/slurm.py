"""Runs as SLURM jobs, through `submitit`.

Which jobs live is asked of SLURM's controller (`squeue`), which knows at once and on every cluster; submitit asks the
accounts (`sacct`), which a cluster need not keep. A job that a killed runner left in the queue is taken up by the next.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from hf_crosstask.atomic import write_text
from hf_crosstask.errors import InputError
from hf_crosstask.study.executors import BUSY, STOPPED, Job, Task, take_lock

#: Seconds between two questions to the controller, and that a result may take to appear on this machine's file system.
_ASK_EVERY, _GRACE = 5.0, 15.0
#: Seconds that a job waits where another process is at its run, so that it is not submitted over and over.
_BUSY_SECONDS = 5.0


class LockedRun:
    """What submitit calls in a job: takes the run's lock and runs it to its end.

    Args:
        task: the run.
    """

    def __init__(self, task: Task):
        self.task = task
        self._pid: int | None = None

    def __call__(self) -> int:
        """The run's exit code; that of "try again" where another process is at it."""
        from submitit import JobEnvironment

        lock = take_lock(self.task.lock)
        if lock is None:
            time.sleep(_BUSY_SECONDS)
            return BUSY
        self.task.log.parent.mkdir(parents=True, exist_ok=True)
        with open(self.task.log, "ab") as log:
            if "SLURM_JOB_ID" in os.environ:
                log.write(f"SLURM job {os.environ['SLURM_JOB_ID']} on {socket.gethostname()}\n".encode())
                log.flush()
            # SLURM warns of a time limit or preemption by this signal, which would end the run; `checkpoint` tells it.
            warning = getattr(signal, f"SIG{JobEnvironment.USR_SIG}")
            process = subprocess.Popen(
                self.task.command,
                env={**os.environ, **self.task.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[lock],
                preexec_fn=partial(signal.signal, warning, signal.SIG_IGN),
            )
            self._pid = process.pid
            return process.wait()

    def checkpoint(self) -> Any:
        """Called by submitit's signal handler before it puts the job back into the queue: ends the run with a checkpoint.

        Returns:
            A `DelayedSubmission` of the same run, which resumes.
        """
        from submitit.core.utils import DelayedSubmission

        if self._pid is not None:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):  # it has just ended
                os.kill(self._pid, signal.SIGTERM)
                # Not Popen.wait: this handler interrupts one, which holds its lock.
                os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOWAIT)
        return DelayedSubmission(LockedRun(self.task))


@dataclass
class Queue:
    """This user's jobs, as SLURM's controller has them; asked for every few seconds at most."""

    _jobs: dict[str, tuple[str, str]] = field(default_factory=dict)
    _asked: float = float("-inf")
    _answered: bool = False

    def state(self, job: str) -> str | None:
        """A job's state in the queue; None where it is not in it; `UNKNOWN` where the controller does not answer."""
        self._refresh()
        return self._jobs[job][0] if job in self._jobs else None if self._answered else "UNKNOWN"

    def holds(self, job: str, name: str) -> bool:
        """Whether a job of this number and name is in the queue."""
        self._refresh()
        return job in self._jobs and self._jobs[job][1] == name

    def forget(self) -> None:
        """Ask again next time: a job was submitted or cancelled."""
        self._asked = float("-inf")

    def _refresh(self) -> None:
        if time.monotonic() - self._asked < _ASK_EVERY:
            return
        self._asked = time.monotonic()
        command = ["squeue", f"--user={os.getuid()}", "--noheader", "--format=%i|%T|%j"]
        try:
            listed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        except subprocess.TimeoutExpired:
            self._answered = False
            return
        self._answered = listed.returncode == 0
        if self._answered:
            rows = [line.strip().split("|", 2) for line in listed.stdout.splitlines()]
            self._jobs = {job: (state, name) for job, state, name in rows}


def ended_as(job: str) -> str:
    """The state in which a job ended, such as CANCELLED or TIMEOUT; the controller knows it for some minutes."""
    shown = subprocess.run(["scontrol", "show", "job", "--oneliner", job], capture_output=True, text=True, check=False)
    words = dict(word.split("=", 1) for word in shown.stdout.split() if "=" in word)
    return words.get("JobState", "lost")


@dataclass
class SlurmJob:
    """A job in SLURM's queue.

    Args:
        job: submitit's.
        queue: what SLURM has.
    """

    job: Any
    queue: Queue
    reason: str = ""
    _gone_since: float | None = None

    def poll(self) -> int | None:
        """Its exit code, 1 where it left the queue without one; None while it waits or runs."""
        state = self.queue.state(self.job.job_id)
        result: Path = self.job.paths.result_pickle
        if result.exists():
            code, self.reason = outcome(self.job)
            # A preempted job, whose run was stopped, is still in the queue: SLURM starts it again.
            return None if code == STOPPED and state is not None else code
        if state is not None:
            self._gone_since = None
            return None
        now = time.monotonic()
        self._gone_since = now if self._gone_since is None else self._gone_since
        if now - self._gone_since < _GRACE or result.name in os.listdir(
            result.parent
        ):  # listing refreshes NFS's cache
            return None
        self.reason = f"SLURM job {self.job.job_id} ended as {ended_as(self.job.job_id)}"
        return 1

    def stop(self) -> None:
        """Cancel it: SLURM sends SIGTERM, and training saves a checkpoint."""
        self.job.cancel(check=False)
        self.queue.forget()


@dataclass
class SubmititJob:
    """A job of submitit's local executor."""

    job: Any
    reason: str = ""

    def poll(self) -> int | None:
        """Its exit code, 1 where it has none; None while it runs."""
        if not self.job.done():
            return None
        code, self.reason = outcome(self.job)
        return code

    def stop(self) -> None:
        """End it."""
        self.job.cancel(check=False)


def outcome(job: Any) -> tuple[int, str]:
    """The exit code of a job that is over, and why, where it has none of its own."""
    error = job.exception()
    if error is None:
        return int(job.result()), ""
    lines = [line for line in str(error).splitlines() if line.strip() and set(line) != {"-"}]
    told = [line for line in lines if "Error: " in line]
    return 1, f"job {job.job_id} failed: {(told or lines)[-1]}"


class SubmititExecutor:
    """Jobs through `submitit` (extra `slurm`).

    Args:
        folder: where submitit keeps its files; the machines of the cluster must see it under the same path.
        workers: jobs in the queue at a time; None: 64.
        cluster: `slurm`, or `local` (processes of this machine, for trying out).
        parameters: of `submitit.AutoExecutor.update_parameters`, such as `timeout_min`, `slurm_partition`; and
            `slurm_max_num_timeout`, how often a run goes on after its time limit (default: 3).

    Raises:
        InputError: submitit is not installed, there is no SLURM, or submitit refuses a parameter.
    """

    def __init__(self, folder: Path, workers: int | None, cluster: str, parameters: Mapping[str, Any]):
        try:
            import submitit
        except ModuleNotFoundError:
            raise InputError("--executor slurm needs submitit: pip install 'hf_crosstask[slurm]'") from None
        self._slots = workers or 64
        self._folder = folder
        self._queue = Queue() if cluster == "slurm" else None
        own = dict(parameters)
        timeouts = own.pop("slurm_max_num_timeout", 3)
        try:
            self._executor = submitit.AutoExecutor(folder=str(folder), cluster=cluster, slurm_max_num_timeout=timeouts)
            self._executor.update_parameters(**own)
        except RuntimeError as error:
            raise InputError(f"--executor {cluster}: {error} (--print-commands suits any scheduler)") from None
        except (NameError, ValueError, AssertionError) as error:
            raise InputError(f"execution.slurm: {error}") from None

    @property
    def slots(self) -> int:
        """Jobs at a time."""
        return self._slots

    def start(self, task: Task) -> Job | None:
        """Submit a job, which takes the lock on its own machine; or take up the one that is in the queue already.

        Raises:
            InputError: SLURM refuses it.
        """
        import submitit
        from submitit.core.utils import FailedSubmissionError, UncompletedJobError

        record = self._folder / f"{task.name}.job"
        if self._queue is not None and record.exists():
            known = record.read_text(encoding="utf-8").strip()
            if self._queue.holds(known, task.name):
                return SlurmJob(submitit.SlurmJob(self._folder, known), self._queue)
        self._executor.update_parameters(name=task.name)
        try:
            job = self._executor.submit(LockedRun(task))
        except (UncompletedJobError, FailedSubmissionError) as error:
            raise InputError(
                f"SLURM refuses {task.name}: {error}. Jobs that are in the queue go on; the same command takes them up"
            ) from None
        if self._queue is None:
            return SubmititJob(job)
        write_text(record, job.job_id)
        self._queue.forget()
        return SlurmJob(job, self._queue)
