"""The runner: starts every run of a study when what it is matched to is done, and goes on after any kill.

It keeps no state of its own. What is done is what the run folders hold, so that killing the runner, a run, or the
machine loses at most what a run did since its last checkpoint, and results of shards merge by copying folders.
"""

from __future__ import annotations

import shlex
import signal
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from hf_crosstask.atomic import write_json
from hf_crosstask.errors import InputError, Interrupted
from hf_crosstask.study.executors import BUSY, STOPPED, Executor, Job, Task
from hf_crosstask.study.expand import PlannedRun
from hf_crosstask.study.schema import Execution
from hf_crosstask.study.store import Store, clear_finished

_POLL_SECONDS = 0.2
#: What a first guess takes a run for, in seconds, before any has been seen.
_GUESS = 60.0


@dataclass(frozen=True)
class Outcome:
    """How a pass over a study ended: run ids, and for what failed its reason."""

    done: tuple[str, ...]
    failed: Mapping[str, str]
    skipped: Mapping[str, str]


def shard(runs: Sequence[PlannedRun], number: int, count: int) -> list[PlannedRun]:
    """The runs of one shard of several; a run is in the shard of what it is matched to.

    Args:
        runs: all runs, references first.
        number: 1-based.
        count: how many shards there are.
    """
    root: dict[str, str] = {}
    members: dict[str, int] = {}
    for run in runs:
        root[run.id] = root[run.reference] if run.reference else run.id
        members[root[run.id]] = members.get(root[run.id], 0) + 1
    load = [0] * count
    owner: dict[str, int] = {}
    for family in sorted(members, key=lambda id: (-members[id], id)):
        lightest = load.index(min(load))
        owner[family] = lightest
        load[lightest] += members[family]
    return [run for run in runs if owner[root[run.id]] == number - 1]


def parse_shard(text: str) -> tuple[int, int]:
    """`i/n`.

    Raises:
        InputError: it is not that.
    """
    first, _, second = text.partition("/")
    if first.isdecimal() and second.isdecimal() and 1 <= int(first) <= int(second):
        return int(first), int(second)
    raise InputError(f"--shard {text}: write i/n, such as 1/4, with i from 1 to n")


def command(run: PlannedRun, output_dir: Path, execution: Execution) -> list[str]:
    """The command line of a run. `accelerate launch` and `python` both take it after `-m`."""
    launcher = list(execution.launcher) or [sys.executable]
    return [*launcher, "-m", "hf_crosstask.cli", "train", str(recipe_file(run, output_dir)), "--resume"]


def recipe_file(run: PlannedRun, output_dir: Path) -> Path:
    """Where a run's recipe is written."""
    return output_dir / "recipes" / f"{run.id}.json"


def write_recipes(runs: Iterable[PlannedRun], output_dir: Path) -> None:
    """Write the recipe of every run."""
    for run in runs:
        write_json(recipe_file(run, output_dir), run.located(output_dir))


def print_commands(runs: Sequence[PlannedRun], output_dir: Path, execution: Execution) -> None:
    """One command line for each run, in an order in which they can run one after the other."""
    for run in runs:
        after = f"  # after {run.reference}" if run.reference else ""
        environment = f"OMP_NUM_THREADS={execution.threads} TOKENIZERS_PARALLELISM=false"
        print(f"{environment} {shlex.join(command(run, output_dir, execution))}{after}")


@dataclass
class Runner:
    """One pass over the runs of a study.

    Args:
        store: the study's folder.
        executor: where runs run.
        execution: how.
    """

    store: Store
    executor: Executor
    execution: Execution
    _done: list[str] = field(default_factory=list)
    _failed: dict[str, str] = field(default_factory=dict)
    _skipped: dict[str, str] = field(default_factory=dict)
    _running: dict[str, tuple[Job, float]] = field(default_factory=dict)
    _busy: set[str] = field(default_factory=set)
    _seconds: dict[str, list[float]] = field(default_factory=dict)
    _pass: tuple[PlannedRun, ...] = ()
    _labels: dict[str, str] = field(default_factory=dict)
    _stop: bool = False

    def run(self, runs: Sequence[PlannedRun]) -> Outcome:
        """Run what is not done.

        Raises:
            Interrupted: the runner was asked to stop (SIGINT, SIGTERM, SIGHUP); its runs have saved checkpoints.
        """
        waiting = {run.id: run for run in runs}
        self._pass, self._labels = tuple(runs), {run.id: run.label for run in self.store.runs}
        handlers = {
            number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        }
        try:
            self._take_finished(waiting)
            write_recipes(waiting.values(), self.store.output_dir)
            while (waiting or self._running) and not self._stop:
                self._collect(waiting)
                self._skip_dependants(waiting)
                self._start(waiting)
                if self._running or waiting:
                    time.sleep(_POLL_SECONDS)
            if self._stop:
                self._end_all()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        return Outcome(tuple(self._done), dict(self._failed), dict(self._skipped))

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stop = True

    def _take_finished(self, waiting: dict[str, PlannedRun]) -> None:
        """Runs that are done, and results that must not be used."""
        for run in list(waiting.values()):
            result, problems = self.store.state(run)
            if result is not None:
                clear_finished(self.store.folder(run), self.execution.keep)
                self._note_seconds(run, result.train.runtime_s)
                self._done.append(waiting.pop(run.id).id)
            elif any(problem.kind not in ("missing", "unfinished") for problem in problems):
                text = "; ".join(f"{problem.kind}: {problem.text}" for problem in problems)
                self._fail(waiting.pop(run.id), f"{text}. Delete the folder to run it anew.")
        if self._done:
            self._say(f"{len(self._done)} of {len(self._pass)} runs are done already")

    def _start(self, waiting: dict[str, PlannedRun]) -> None:
        for run in list(waiting.values()):
            if len(self._running) >= self.executor.slots:
                return
            if run.reference is not None and run.reference not in self._done and not self._elsewhere(run.reference):
                continue
            if run.id in self._busy and self._finished_elsewhere(run):
                self._finish(waiting.pop(run.id), 0.0)
                continue
            job = self.executor.start(self._task(run))
            if job is None:
                if run.id not in self._busy:
                    self._busy.add(run.id)
                    self._say(f"{run.label}: another process is at it; waiting")
                continue
            self._running[run.id] = (job, time.monotonic())
            del waiting[run.id]

    def _task(self, run: PlannedRun) -> Task:
        output_dir = self.store.output_dir
        threads = str(self.execution.threads)
        return Task(
            command=tuple(command(run, output_dir, self.execution)),
            environment={"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "false"},
            log=output_dir / "logs" / f"{run.id}.log",
            lock=output_dir / "locks" / f"{run.id}.lock",
        )

    def _elsewhere(self, id: str) -> bool:
        """Whether a reference that is no run of this pass (another shard's) is done."""
        found = next((run for run in self.store.runs if run.id == id), None)
        return id not in self._failed and found is not None and self.store.state(found)[0] is not None

    def _finished_elsewhere(self, run: PlannedRun) -> bool:
        return self.store.state(run)[0] is not None

    def _collect(self, waiting: dict[str, PlannedRun]) -> None:
        by_id = {run.id: run for run in self.store.runs}
        for id, (job, started) in list(self._running.items()):
            code = job.poll()
            if code is None:
                continue
            del self._running[id]
            run, seconds = by_id[id], time.monotonic() - started
            if code == BUSY:
                waiting[id] = run
            elif code == 0:
                self._finish(run, seconds)
            elif code == STOPPED:
                why = self._last_line(run).removeprefix("stopped: ").partition(";")[0]
                self._fail(run, f"stopped early ({why}); run the study again to continue it")
            else:
                self._fail(run, f"{job.reason or f'exit code {code}'}: {self._last_line(run)}")

    def _finish(self, run: PlannedRun, seconds: float) -> None:
        result, problems = self.store.state(run)
        if result is None:
            self._fail(run, "; ".join(f"{problem.kind}: {problem.text}" for problem in problems))
            return
        clear_finished(self.store.folder(run), self.execution.keep)
        self._note_seconds(run, seconds or result.train.runtime_s)
        self._done.append(run.id)
        scores = ", ".join(
            f"{task} {each.metrics.values[each.metrics.primary].value:.4f}" for task, each in result.tasks.items()
        )
        self._say(f"{run.label}: {scores} ({seconds:.0f} s)")

    def _fail(self, run: PlannedRun, why: str) -> None:
        self._failed[run.id] = why
        self._say(f"{run.label}: FAILED: {why}")

    def _skip_dependants(self, waiting: dict[str, PlannedRun]) -> None:
        for run in list(waiting.values()):
            if run.reference in self._failed or run.reference in self._skipped:
                self._skipped[run.id] = f"not run: it is matched to {self._labels[str(run.reference)]}, which failed"
                del waiting[run.id]
            elif (
                run.reference is not None
                and run.reference not in (*self._done, *self._running, *waiting)
                and not self._elsewhere(run.reference)
            ):
                self._skipped[run.id] = f"not run: it is matched to {self._labels[run.reference]}, which is not done"
                del waiting[run.id]

    def _last_line(self, run: PlannedRun) -> str:
        log = self.store.output_dir / "logs" / f"{run.id}.log"
        if not log.exists():  # a job that was cancelled before it began
            return "it did not start"
        lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        told = [line for line in lines if line.startswith(("error: ", "stopped: "))]
        return f"{(told or lines or ['no output'])[-1]} (see {log})"

    def _note_seconds(self, run: PlannedRun, seconds: float) -> None:
        self._seconds.setdefault(run.cells[0].arm, []).append(seconds)

    def _eta(self) -> str:
        """Of what is not done: each run as long as the mean of its arm's, or of all."""
        settled = {*self._done, *self._failed, *self._skipped}
        left = [run for run in self._pass if run.id not in settled]
        every = [value for values in self._seconds.values() for value in values]
        mean = sum(every) / len(every) if every else _GUESS
        seconds = 0.0
        for run in left:
            own = self._seconds.get(run.cells[0].arm, [])
            seconds += sum(own) / len(own) if own else mean
        seconds /= max(1, min(self.executor.slots, len(left)))
        if not left:
            return "all done"
        return f"about {seconds / 60:.0f} min left" if seconds >= 90 else f"about {seconds:.0f} s left"

    def _say(self, text: str) -> None:
        settled = len(self._done) + len(self._failed) + len(self._skipped)
        print(f"[{settled}/{len(self._pass)}] {text}; {self._eta()}", flush=True)

    def _end_all(self) -> None:
        """Ask every run to stop, and wait until it has saved its checkpoint."""
        for job, _ in self._running.values():
            job.stop()
        print(f"stopping: waiting for {len(self._running)} runs to save a checkpoint", file=sys.stderr, flush=True)
        while any(job.poll() is None for job, _ in self._running.values()):
            time.sleep(_POLL_SECONDS)
        raise Interrupted("the study was asked to stop; run the same command again to continue")
