"""A study on a real SLURM of one node: the same results as on this machine, and what happens to jobs that SLURM ends."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from launching import RECIPES, SMALL, differences, environment
from slurm_cluster import Cluster, missing

from hf_crosstask.errors import InputError
from hf_crosstask.study.executors import Job, Task

pytestmark = pytest.mark.slow

#: Sleeps, and at SIGTERM ends as a run does that has saved a checkpoint; a second start finds it and is done.
RUN = """
import pathlib, signal, sys, time
print("started", flush=True)
mark = pathlib.Path(sys.argv[1])
if mark.exists():
    print("resumed"); sys.exit(0)
def stop(*_):
    mark.touch(); sys.exit(3)
signal.signal(signal.SIGTERM, stop)
time.sleep(120)
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A cluster with three CPUs."""
    pytest.importorskip("submitit")
    absent = missing()
    if absent:
        pytest.skip(
            f"SLURM is not installed: no {', '.join(absent)} (apt-get install slurmd slurmctld slurm-client munge)"
        )
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder:
        made = Cluster(Path(folder), cpus=3)
        try:
            made.start()
            yield made
        finally:
            made.stop()
        assert made.alive == []


@pytest.fixture
def slurm(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """The cluster, which this process' commands reach, asked often."""
    from hf_crosstask.study import slurm as module

    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(module, "_ASK_EVERY", 0.2)
    monkeypatch.setattr(module, "_GRACE", 1.0)
    return cluster


def until(condition: Callable[[], object], what: str, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.05)


def ended(*jobs: Job) -> list[int]:
    """Exit codes, each as soon as the job says it."""
    codes: dict[int, int] = {}

    def ask() -> bool:
        for number, job in enumerate(jobs):
            code = codes.get(number, job.poll())
            if code is not None:
                codes[number] = code
        return len(codes) == len(jobs)

    until(ask, "the end of jobs")
    return [codes[number] for number in range(len(jobs))]


def task(folder: Path, name: str) -> Task:
    mark = folder / f"{name}.mark"
    return Task((sys.executable, "-c", RUN, str(mark)), {}, folder / f"{name}.log", folder / f"{name}.lock")


def executor(folder: Path, **parameters: object):
    from hf_crosstask.study.slurm import SubmititExecutor

    return SubmititExecutor(folder / "submitit", None, "slurm", {"cpus_per_task": 1, **parameters})


def started(task: Task) -> bool:
    return task.log.exists() and "started" in task.log.read_text()


def test_what_slurm_does_to_jobs(slurm, tmp_path):
    tasks = [task(tmp_path, name) for name in ("warned", "requeued", "cancelled", "waiting")]
    jobs = [executor(tmp_path).start(each) for each in tasks]
    until(lambda: all(map(started, tasks[:3])), "three jobs on three CPUs")
    numbers = [(tmp_path / "submitit" / f"{each.name}.job").read_text() for each in tasks]
    warned, requeued, _, waiting = numbers
    assert slurm.run("squeue", "--noheader", "--sort=i", "--format=%j %T").splitlines() == [
        "warned RUNNING",
        "requeued RUNNING",
        "cancelled RUNNING",
        "waiting PENDING",
    ]
    # A runner that was killed: the next one takes its jobs up.
    again = [executor(tmp_path).start(each) for each in tasks]
    assert [job.job.job_id for job in again] == numbers
    assert [job.poll() for job in again] == [None] * 4
    slurm.run("scancel", "--signal=USR2", warned)  # what SLURM sends some time before it takes the node away
    slurm.run("scontrol", "requeue", requeued)  # what it does where it gives no warning
    slurm.run("scancel", waiting)
    jobs[2].stop()
    # Two saved a checkpoint, waited in the queue and went on; one saved a checkpoint; one never began.
    assert ended(*jobs, *again) == [0, 0, 3, 1] * 2
    for number in (0, 1):
        lines = tasks[number].log.read_text().splitlines()
        assert lines[0].startswith(f"SLURM job {numbers[number]} on ")
        assert [line for line in lines if not line.startswith("SLURM")] == ["started", "started", "resumed"]
    assert jobs[3].reason == f"SLURM job {waiting} ended as CANCELLED"
    assert not tasks[3].log.exists()
    # Nothing is left in the queue: a run that is started again is a job of its own.
    fresh = executor(tmp_path).start(tasks[3])
    until(lambda: started(tasks[3]), "another job")
    fresh.stop()
    assert ended(fresh) == [3]


def test_what_slurm_refuses_is_said(slurm, tmp_path):
    with pytest.raises(InputError, match=r"SLURM refuses run: .*invalid partition"):
        executor(tmp_path, slurm_partition="nowhere").start(task(tmp_path, "run"))


def write_study(folder: Path) -> Path:
    """Three runs of the quickstart's tasks: S2, and two tasks alone on as many tokens."""
    overrides = dict(each.split("=", 1) for each in SMALL)
    recipe: dict[str, object] = {}
    for key, text in overrides.items():
        *sections, last = key.split(".")
        place = recipe
        for section in sections:
            place = place.setdefault(section, {})  # type: ignore[assignment]
        place[last] = json.loads(text)
    tasks = recipe.pop("tasks")
    recipe["budget"] = {"epochs": 4}
    recipe["training"]["save_steps"] = 10  # type: ignore[index]
    arms = {
        "S2": {"strategy": "S2"},
        "S1_token_controlled": {"strategy": "S1_token_controlled", "match": {"arm": "S2"}},
    }
    study = {"name": "small", "base": str(RECIPES / "quickstart.json"), "recipe": recipe, "seeds": [1], "arms": arms}
    path = folder / "study.json"
    path.write_text(json.dumps(study | {"tasks": tasks[:2]}))
    return path


def test_a_study_on_slurm_ends_as_on_this_machine(slurm, tmp_path):
    path = write_study(tmp_path)

    def study(name: str, kind: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "hf_crosstask.cli", "study", str(path), f"output_dir={tmp_path / name}"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return subprocess.Popen([*command, "--executor", kind], env=environment(), text=True, **pipes)

    here, there = study("local", "local"), study("slurm", "slurm")
    runs, submitted = tmp_path / "slurm" / "runs", tmp_path / "slurm" / "submitit"
    until(lambda: list(submitted.glob("S2-*.job")), "a job", 300)
    there.kill()  # its job goes on, and the next runner takes it up
    there.communicate()
    there = study("slurm", "slurm")
    until(lambda: list(runs.glob("S1_token_controlled-*/checkpoint-*")), "a checkpoint of a matched run", 300)
    stopped = next(runs.glob("S1_token_controlled-*/checkpoint-*")).parent.name
    job = (submitted / f"{stopped}.job").read_text()
    slurm.run("scancel", job)
    out, _ = there.communicate(timeout=300)
    assert there.returncode == 1, out
    task = stopped.split("-")[1]
    assert (
        f"S1_token_controlled/{task} of synthetic_ner+synthetic_relation/seed 1: FAILED: stopped early (sigterm" in out
    )
    assert out.count("FAILED") == 1
    assert "[3/3]" in out
    assert here.communicate(timeout=300)[0].count("FAILED") == here.returncode == 0
    again = study("slurm", "slurm")
    out, _ = again.communicate(timeout=300)
    assert again.returncode == 0, out
    assert "2 of 3 runs are done already" in out
    log = (tmp_path / "slurm" / "logs" / f"{stopped}.log").read_text()
    assert f"SLURM job {job} on " in log
    assert "resuming from " in log
    for run in runs.iterdir():
        assert differences(tmp_path / "local" / "runs" / run.name, run) == []
        lines = (tmp_path / "slurm" / "logs" / f"{run.name}.log").read_text().splitlines()
        assert lines[0].startswith("SLURM job ")
    statistics = [(tmp_path / name / "statistics.json").read_bytes() for name in ("local", "slurm")]
    assert statistics[0] == statistics[1]
    assert slurm.run("squeue", "--noheader") == ""
    assert len(list(submitted.glob("*_submitted.pkl"))) == 4  # three runs, and the one that was cancelled again
