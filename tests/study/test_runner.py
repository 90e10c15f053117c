"""The runner, with runs that are copied instead of trained: order, reuse, failures, locks, commands."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fabricated import finish, write_study

from hf_crosstask import cli
from hf_crosstask.errors import Interrupted
from hf_crosstask.study.command import open_study
from hf_crosstask.study.executors import LocalExecutor, Task, take_lock
from hf_crosstask.study.runner import Runner
from hf_crosstask.study.store import Store

LAUNCHER = [sys.executable, str(Path(__file__).with_name("copied_run.py"))]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Store]:
    """Every run of the study, finished, and where."""
    folder = tmp_path_factory.mktemp("made")
    _, store = open_study(write_study(folder))
    for run in store.runs:
        finish(run, store.output_dir)
    return store.output_dir / "runs", store


@pytest.fixture
def study(tmp_path: Path, made: tuple[Path, Store], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """The study's file; its runs are copied from those in a folder of this test's own."""
    shutil.copytree(made[0], tmp_path / "made")
    monkeypatch.setenv("FINISHED_RUNS", str(tmp_path / "made"))

    def write(**changes: Any) -> Path:
        return write_study(tmp_path, execution={"launcher": LAUNCHER, "workers": 2}, **changes)

    return write


def logs(folder: Path) -> dict[str, int]:
    """How often each run was started."""
    return {path.stem: path.read_text().count("started") for path in (folder / "out" / "logs").glob("*.log")}


def test_a_study_runs_is_judged_and_is_reused(study, tmp_path, capsys):
    path = study()
    assert cli.main(["study", str(path)]) == 0
    out = capsys.readouterr().out
    assert "[10/10]" in out
    assert "all done" in out
    assert "transfer" in out
    assert set(logs(tmp_path).values()) == {1}
    statistics = (tmp_path / "out" / "statistics.json").read_bytes()
    assert not list((tmp_path / "out").glob("runs/*/checkpoint-*"))
    assert cli.main(["study", str(path)]) == 0
    assert "10 of 10 runs are done already" in capsys.readouterr().out
    assert set(logs(tmp_path).values()) == {1}
    assert (tmp_path / "out" / "statistics.json").read_bytes() == statistics
    moved = tmp_path / "elsewhere"
    (tmp_path / "out").rename(moved)  # a study's folder can be moved, and opened by itself
    assert cli.main(["validate", str(moved)]) == 0
    assert cli.main(["study", str(moved)]) == 0
    assert (moved / "statistics.json").read_bytes() == statistics


def test_a_failed_run_loses_its_dependants_alone(study, tmp_path, made, capsys):
    failing = next(run for run in made[1].runs if run.recipe.strategy.name == "S2")
    shutil.rmtree(tmp_path / "made" / failing.id)
    path = study()
    assert cli.main(["study", str(path)]) == 1
    shown = capsys.readouterr()
    lost = [line for line in shown.err.splitlines() if line.startswith("not done: ")]
    assert len(lost) == 3
    assert failing.id in lost[0]
    assert "error: there is no such run" in lost[0]
    assert all("not run: it is matched to S2/bees+wasps/seed 1, which failed" in line for line in lost[1:])
    assert "[10/10]" in shown.out
    assert "no verdict" in shown.out
    shutil.copytree(made[0] / failing.id, tmp_path / "made" / failing.id)
    assert cli.main(["study", str(path)]) == 0
    assert "no verdict" not in capsys.readouterr().out
    assert logs(tmp_path)[failing.id] == 2
    assert sum(logs(tmp_path).values()) == 11


def test_shards_and_printed_commands_merge_to_the_whole(study, tmp_path, capsys):
    path = study()
    assert cli.main(["study", str(path), "--shard", "1/2"]) == 0
    assert "[5/5]" in capsys.readouterr().out
    assert not (tmp_path / "out" / "statistics.json").exists()
    assert cli.main(["study", str(path), "--print-commands"]) == 0
    commands = capsys.readouterr().out.splitlines()
    assert len(commands) == 5
    assert "# after S2-" in commands[-1]
    for line in commands:
        arguments = shlex.split(line, comments=True)[2:]
        assert subprocess.run(arguments, check=False).returncode == 0
    assert cli.main(["study", str(path), "--dry-run"]) == 0
    assert capsys.readouterr().out.count(": done") == 10
    assert cli.main(["study", str(path)]) == 0
    assert "10 of 10 runs are done already" in capsys.readouterr().out


def test_a_run_that_another_process_has_is_waited_for(study, tmp_path, made):
    loaded, store = open_study(study())
    run = store.runs[0]
    lock = take_lock(store.output_dir / "locks" / f"{run.id}.lock")
    assert lock is not None
    executor = LocalExecutor(2, 1, [])
    assert executor.start(Task((), {}, tmp_path / "log", store.output_dir / "locks" / f"{run.id}.lock")) is None

    class Releases(LocalExecutor):
        """The other process ends, with the run done, when everything else has been started."""

        seen = 0

        def start(self, task: Task) -> Any:
            self.seen += 1
            if self.seen == 12:
                import os

                shutil.copytree(made[0] / run.id, store.folder(run))
                os.close(lock)
                return None  # it was busy when it was asked
            return super().start(task)

    outcome = Runner(store, Releases(2, 1, []), loaded.execution).run(list(store.runs))
    assert len(outcome.done) == 10
    assert run.id not in logs(tmp_path)


def test_a_job_that_never_began_is_named_and_the_others_go_on(study, tmp_path, made, capsys):
    loaded, store = open_study(study())
    lost = next(run for run in store.runs if run.reference is None and run.recipe.strategy.name == "S1")

    class Cancelled:
        """What a job is that was cancelled in the queue."""

        reason = "SLURM job 7 ended as CANCELLED"

        def poll(self) -> int:
            return 1

        def stop(self) -> None:
            raise AssertionError

    class Cancels(LocalExecutor):
        def start(self, task: Task) -> Any:
            return Cancelled() if task.name == lost.id else super().start(task)

    outcome = Runner(store, Cancels(2, 1, []), loaded.execution).run(list(store.runs))
    assert outcome.failed == {lost.id: "SLURM job 7 ended as CANCELLED: it did not start"}
    assert len(outcome.done) == 9
    assert f"{lost.label}: FAILED: SLURM job 7 ended as CANCELLED" in capsys.readouterr().out


def test_the_runner_stops_on_sigterm(study, tmp_path, monkeypatch):
    loaded, store = open_study(study())

    class Signals(LocalExecutor):
        def start(self, task: Task) -> Any:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGTERM)
            return super().start(task)

    with pytest.raises(Interrupted, match="run the same command again"):
        Runner(store, Signals(1, 1, []), loaded.execution).run(list(store.runs))
