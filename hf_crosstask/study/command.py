"""`hf-crosstask study` and `hf-crosstask validate`: expand, run, check, judge."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_crosstask.study.expand import PlannedRun, expand
from hf_crosstask.study.load import load_study, remember
from hf_crosstask.study.runner import Outcome, Runner, parse_shard, print_commands, shard, write_recipes
from hf_crosstask.study.schema import Study
from hf_crosstask.study.store import Store
from hf_crosstask.tasks.card import TaskSpec

_DONE, _FAILED = 0, 1


@dataclass(frozen=True)
class Request:
    """What the command line asks for.

    Attributes:
        study: the study's file.
        overrides: `key.path=value`.
        dry_run: show the runs and their state, and stop.
        print_commands: print a command line for each run that is not done, and stop.
        shard: `i/n`: run this part only, and judge nothing.
        executor: `local`, or `slurm` through submitit.
    """

    study: Path
    overrides: tuple[str, ...] = ()
    dry_run: bool = False
    print_commands: bool = False
    shard: str | None = None
    executor: str = "local"


def open_study(path: Path, overrides: tuple[str, ...] = (), *, write: bool = False) -> tuple[Study, Store]:
    """A study and its folder, with the runs it expands to; loads the data once, for its fingerprints.

    Args:
        path: the study's file or folder.
        overrides: `key.path=value`.
        write: keep the study in its folder (`study.json`).

    Raises:
        InputError: the study, a run's recipe or the data are wrong.
    """
    study, base = load_study(path, overrides)
    runs = expand(study, base, path, _data_fingerprint(study))
    output_dir = Path(study.output_dir).expanduser()
    if write:
        remember(study, base, output_dir)
    return study, Store(output_dir, tuple(runs))


def _data_fingerprint(study: Study) -> Any:
    from hf_crosstask.tasks.load import load_task

    data_dir = Path(study.data_dir).expanduser() if study.data_dir else None

    def fingerprint(spec: TaskSpec) -> str:
        return load_task(spec, data_dir=data_dir).fingerprint

    return fingerprint


def run_study(request: Request) -> int:
    """Run a study and print its verdicts.

    Returns:
        0; 1 where a run failed, was not run, or is refused.

    Raises:
        InputError: the study is wrong.
        Interrupted: stopped on purpose; the same command continues.
    """
    part = parse_shard(request.shard) if request.shard else None
    looks_only = request.dry_run or request.print_commands
    study, store = open_study(request.study, request.overrides, write=not looks_only)
    runs = shard(store.runs, *part) if part else list(store.runs)
    if request.dry_run:
        _show(study, store, runs)
        return _DONE
    if request.print_commands:
        left = [run for run in runs if store.state(run)[0] is None]
        write_recipes(left, store.output_dir)
        print_commands(left, store.output_dir, study.execution)
        return _DONE
    outcome = Runner(store, _executor(request, study, store), study.execution).run(runs)
    _report_failures(store, outcome)
    if part is None:
        judge(study, store)
    return _FAILED if outcome.failed or outcome.skipped else _DONE


def judge(study: Study, store: Store) -> None:
    """Write `results.parquet` and `statistics.json`, and print the verdicts."""
    from hf_crosstask.study.assess import assess, write_statistics
    from hf_crosstask.study.verdict_table import print_verdicts

    fresh = Store(store.output_dir, store.runs)  # what was read before running is out of date
    if not fresh.results:
        print("no run has a result: nothing to judge", file=sys.stderr)
        return
    fresh.write_table()
    assessed = assess(study, fresh)
    path = write_statistics(study, fresh, assessed)
    print_verdicts(assessed)
    print(f"statistics in {path}")


def validate_study(path: Path, overrides: tuple[str, ...] = ()) -> int:
    """List everything that keeps runs of a study from being used, by name.

    Returns:
        0 where nothing does, else 1.
    """
    study, store = open_study(path, overrides)
    problems = store.problems()
    for problem in problems:
        print(problem)
    commits = store.commits()
    if len(commits) > 1:
        listed = ", ".join(f"{commit[:10]} ({count} runs)" for commit, count in commits.items())
        print(f"note: the code changed between runs: {listed}")
    foreign = store.foreign()
    if foreign:
        print(f"note: {len(foreign)} folders are no runs of this study as it is now: {', '.join(foreign)}")
    bad = {problem.run for problem in problems}
    print(
        f"{study.name}: {len(store.runs)} runs, {len(bad)} with problems"
        if bad
        else f"{study.name}: all {len(store.runs)} runs are sound"
    )
    return _FAILED if problems else _DONE


def _executor(request: Request, study: Study, store: Store) -> Any:
    from hf_crosstask.study.executors import LocalExecutor, cuda_devices
    from hf_crosstask.study.slurm import SubmititExecutor

    execution = study.execution
    if request.executor == "local":
        return LocalExecutor(execution.workers, execution.threads, cuda_devices())
    parameters: Mapping[str, Any] = {"cpus_per_task": execution.threads, "timeout_min": 24 * 60, **execution.slurm}
    cluster = "slurm" if request.executor == "slurm" else "local"
    return SubmititExecutor(store.output_dir / "submitit", execution.workers, cluster, parameters)


def _show(study: Study, store: Store, runs: list[PlannedRun]) -> None:
    print(f"{study.name}: {len(runs)} runs in {store.output_dir}")
    for run in runs:
        result, problems = store.state(run)
        state = "done" if result is not None else problems[0].kind
        after = f", after {run.reference}" if run.reference else ""
        print(f"  {run.id}: {state}{after}: {'; '.join(cell.label for cell in run.cells)}")


def _report_failures(store: Store, outcome: Outcome) -> None:
    labels = {run.id: run.label for run in store.runs}
    for id, why in {**outcome.failed, **outcome.skipped}.items():
        print(f"not done: {labels[id]} ({id}): {why}", file=sys.stderr)
