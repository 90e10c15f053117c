"""Processes of this machine, and submitit's own local executor."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from hf_crosstask.errors import InputError
from hf_crosstask.study.executors import Executor, LocalExecutor, Task, take_lock
from hf_crosstask.study.slurm import SubmititExecutor


def task(folder: Path, name: str, code: str) -> Task:
    return Task((sys.executable, "-c", code), {"COLOUR": name}, folder / f"{name}.log", folder / f"{name}.lock")


def codes(executor: Executor, tasks: list[Task]) -> list[int | None]:
    jobs = [executor.start(each) for each in tasks]
    deadline = time.monotonic() + 60
    while any(job is not None and job.poll() is None for job in jobs) and time.monotonic() < deadline:
        time.sleep(0.05)
    return [job.poll() if job else None for job in jobs]


PRINT = "import os; print(os.environ['COLOUR'], os.environ.get('CUDA_VISIBLE_DEVICES'))"


def test_processes_run_with_their_environment_and_end_with_their_code(tmp_path):
    executor = LocalExecutor(None, 1, ["4", "7"])
    assert executor.slots == 2
    tasks = [task(tmp_path, "red", PRINT), task(tmp_path, "blue", PRINT + "; raise SystemExit(3)")]
    assert codes(executor, tasks) == [0, 3]
    assert (tmp_path / "red.log").read_text() == "red 4\n"
    assert (tmp_path / "blue.log").read_text() == "blue 7\n"
    assert codes(executor, [task(tmp_path, "red", PRINT)]) == [0]  # the devices are free again


def test_a_lock_lives_as_long_as_its_run(tmp_path):
    executor = LocalExecutor(3, 1, [])
    sleeper = task(tmp_path, "run", "import time; time.sleep(60)")
    job = executor.start(sleeper)
    assert job is not None
    assert executor.start(sleeper) is None
    assert take_lock(sleeper.lock) is None
    job.stop()
    while job.poll() is None:
        time.sleep(0.01)
    lock = take_lock(sleeper.lock)
    assert lock is not None


def test_submitit_runs_them_too(tmp_path):
    pytest.importorskip("submitit")
    executor = SubmititExecutor(tmp_path / "submitit", 2, "local", {"timeout_min": 5})
    tasks = [task(tmp_path, "red", PRINT), task(tmp_path, "blue", "raise SystemExit(2)")]
    assert codes(executor, tasks) == [0, 2]
    assert (tmp_path / "red.log").read_text().startswith("red")
    with pytest.raises(InputError, match=r"execution.slurm: .*partitio"):
        SubmititExecutor(tmp_path / "submitit", 2, "local", {"partitio": "long"})


def test_without_slurm_it_says_so(tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"--executor slurm: .*srun.*--print-commands"):
        SubmititExecutor(tmp_path / "submitit", 2, "slurm", {})
    monkeypatch.undo()
    with pytest.raises(InputError, match=r"execution.slurm: .*timeout_min"):
        SubmititExecutor(tmp_path / "submitit", 2, "local", {"timeout_min": "an hour"})
