"""The results of a study: folders of `result.json` and predictions, checked, and read into one tidy table."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hf_crosstask.atomic import write_file
from hf_crosstask.errors import InputError
from hf_crosstask.evaluation.result import FILE_NAME, ResultError, RunResult, read_result, tampered
from hf_crosstask.study.expand import PlannedRun

if TYPE_CHECKING:
    import pandas

    from hf_crosstask.evaluation.result import FlopCounts
    from hf_crosstask.planning.plan import TrainingPlan

Kind = Literal[
    "missing", "unfinished", "tampered", "other recipe", "unequal tokens", "unequal parameters", "mixed versions"
]
#: Of parameters that are matched.
TOLERANCE = 0.01
#: Versions that can change a result; runs of a study must share them.
_DECISIVE = ("hf_crosstask", "torch", "transformers", "peft", "tokenizers", "datasets", "numpy")
#: What a run leaves besides its results.
_ADAPTERS = ("adapters", "heads", "model", "tokenizer")


@dataclass(frozen=True)
class Problem:
    """Something that keeps a run from being used, or (mixed versions) from being compared."""

    run: str
    kind: Kind
    text: str

    def __str__(self) -> str:
        return f"{self.run}: {self.kind}: {self.text}"


@dataclass(frozen=True, eq=False)
class Store:
    """A study's folder.

    Attributes:
        output_dir: the folder.
        runs: the runs that the study expands to.
    """

    output_dir: Path
    runs: tuple[PlannedRun, ...]

    def folder(self, run: PlannedRun) -> Path:
        """Where a run's results are."""
        return run.folder(self.output_dir)

    def state(self, run: PlannedRun) -> tuple[RunResult | None, list[Problem]]:
        """A run's result, or everything that speaks against it."""
        folder = self.folder(run)
        if not (folder / FILE_NAME).exists():
            kind: Kind = "unfinished" if folder.exists() else "missing"
            text = "it started, but has no result" if folder.exists() else f"there is no {folder}"
            return None, [Problem(run.label, kind, text)]
        try:
            result = read_result(folder)
            changed = tampered(folder)
        except ResultError as error:
            kind = "unfinished" if any(key == "status" for key, _ in error.problems) else "tampered"
            return None, [Problem(run.label, kind, "; ".join(f"{key} {text}".strip() for key, text in error.problems))]
        problems = [Problem(run.label, "tampered", f"{text} ({folder})") for text in changed]
        if result.fingerprints.recipe != run.recipe.fingerprint():
            problems.append(Problem(run.label, "other recipe", f"{folder} holds the result of another recipe"))
        problems += [Problem(run.label, "unequal tokens", text) for text in _token_problems(result)]
        if not problems:
            problems += self._plan_problems(run, result)
        return (None if problems else result), problems

    def _plan_problems(self, run: PlannedRun, result: RunResult) -> list[Problem]:
        """Whether the result's token account is that of the plan in its folder."""
        try:
            plan = stored_plan(self.folder(run))
        except InputError as error:
            return [Problem(run.label, "tampered", str(error))]
        if plan.fingerprint != result.fingerprints.plan:
            return [Problem(run.label, "tampered", "plan.npz is not the plan that the result names")]
        if plan.tokens_by_task != {task: each.tokens.planned for task, each in result.trained.items()}:
            return [Problem(run.label, "tampered", "the planned tokens of the result are not those of its plan")]
        flops, match = result.flops, result.match
        if flops is not None and not _flops_of_plan(flops, plan):
            return [Problem(run.label, "tampered", "the FLOPs of the result are not those of its plan")]
        if match is None:
            return []
        if match.mode == "flops" and flops is None:
            return [Problem(run.label, "tampered", "it is matched by FLOPs, and its result has none")]
        if match.mode == "parameters":
            same = match.parameters
            if same is None or abs(same.reached - same.target) > TOLERANCE * same.target:
                found = "has no account of them" if same is None else f"has {same.reached:,} of {same.target:,}"
                return [
                    Problem(run.label, "unequal parameters", f"it is matched by its trainable parameters, and {found}")
                ]
        longest = max(int(lengths.max()) for lengths in plan.lengths.values())
        allowed = 0 if match.mode == "updates" else longest
        if match.mode == "flops" and flops is not None:
            allowed = flops.largest_example
        if abs(match.difference) <= allowed:
            return []
        text = f"it misses the {match.target:,} of {match.mode} that it is matched to by {match.difference:+,}"
        return [Problem(run.label, "unequal tokens", f"{text}, more than one example ({allowed:,})")]

    @cached_property
    def states(self) -> dict[str, tuple[RunResult | None, list[Problem]]]:
        """Every run's state by id, read once."""
        return {run.id: self.state(run) for run in self.runs}

    @property
    def results(self) -> dict[str, RunResult]:
        """The results that can be used, by run id."""
        return {id: result for id, (result, _) in self.states.items() if result is not None}

    def problems(self) -> list[Problem]:
        """Everything that is wrong, by run."""
        found = [problem for _, problems in self.states.values() for problem in problems]
        labels = {run.id: run.label for run in self.runs}
        return found + mixed_versions({labels[id]: result for id, result in self.results.items()})

    def commits(self) -> dict[str, int]:
        """Commits of this library's code that runs were made with (unknown where it is no checkout), and how many runs."""
        return dict(
            Counter(result.environment.git_commit or "unknown" for result in self.results.values()).most_common()
        )

    def foreign(self) -> list[str]:
        """Folders of runs that are none of the study's: of an earlier recipe, other data, or another study."""
        ids = {run.id for run in self.runs}
        return sorted(
            path.parent.name for path in self.output_dir.glob("runs/*/recipe.json") if path.parent.name not in ids
        )

    def table(self) -> pandas.DataFrame:
        """One row for every run, arm, task and metric. Times and machines are in the last columns."""
        import pandas

        rows = [row for run in self.runs if run.id in self.results for row in _rows(run, self.results[run.id])]
        return pandas.DataFrame(rows)

    def write_table(self) -> Path:
        """`results.parquet`: the table."""
        frame = self.table()
        return write_file(
            self.output_dir / "results.parquet", lambda path: frame.to_parquet(path, engine="pyarrow", index=False)
        )


def _flops_of_plan(flops: FlopCounts, plan: TrainingPlan) -> bool:
    """Whether a result's FLOPs follow from its rates and its plan."""
    from hf_crosstask.planning.flops import FlopRates, flops_of

    rates = {task: FlopRates(each.token, each.pair, each.sequence, each.answer) for task, each in flops.tasks.items()}
    counted = {task: flops_of(plan, task, rates[task], each.positions) for task, each in flops.tasks.items()}
    fits = all(each.planned == counted[task] for task, each in flops.tasks.items())
    return fits and flops.planned == sum(counted.values())


def stored_plan(folder: Path) -> TrainingPlan:
    """The plan in a run's folder.

    Raises:
        InputError: there is none, or it is damaged.
    """
    from hf_crosstask.planning.stored import read_plan

    return read_plan(folder)


def _token_problems(result: RunResult) -> list[str]:
    """Planned against counted, for the run and each task."""
    named = [("the run", result.tokens), *((task, each.tokens) for task, each in result.trained.items())]
    return [
        f"{name} was planned with {tokens.planned:,} tokens but counted {tokens.counted:,}"
        for name, tokens in named
        if tokens.planned != tokens.counted
    ]


def mixed_versions(results: Mapping[str, RunResult]) -> list[Problem]:
    """Runs whose versions or thread count differ from those of most."""
    made = {name: _made_with(result) for name, result in results.items()}
    if len(set(made.values())) <= 1:
        return []
    usual = Counter(sorted(made.values())).most_common(1)[0][0]
    found = []
    for name, own in made.items():
        differing = [
            f"{key} {value} (most runs: {other})"
            for (key, value), (_, other) in zip(own, usual, strict=True)
            if value != other
        ]
        if differing:
            found.append(Problem(name, "mixed versions", ", ".join(differing)))
    return found


def _made_with(result: RunResult) -> tuple[tuple[str, str], ...]:
    versions = result.environment.versions
    return (
        *((name, versions.get(name, "absent")) for name in _DECISIVE),
        ("CPU threads", str(result.threads)),
        ("precision", result.model.get("precision", "unknown")),
    )


def _rows(run: PlannedRun, result: RunResult) -> Iterable[dict[str, Any]]:
    for cell in run.cells:
        for task, each in result.tasks.items():
            for metric, value in each.metrics.values.items():
                yield {
                    "run": run.id,
                    "arm": cell.arm,
                    "model": cell.model or result.model.get("name_or_path", ""),
                    "group": "+".join(cell.group),
                    "target": cell.target,
                    "share": cell.share,
                    "fraction": cell.fraction,
                    "seed": cell.seed,
                    "strategy": result.strategy,
                    "task": task,
                    "metric": metric,
                    "primary": metric == each.metrics.primary,
                    "value": value.value,
                    "low": value.low,
                    "high": value.high,
                    "majority": each.metrics.majority if metric == each.metrics.primary else None,
                    "validation": result.validation.get(task, {}).get(metric),
                    "train_examples": each.examples.get("train"),
                    "test_examples": each.examples.get("test"),
                    "task_tokens": each.tokens.counted,
                    "run_tokens": result.tokens.counted,
                    "run_tokens_planned": result.tokens.planned,
                    "unique_tokens": each.tokens.unique,
                    "epochs": each.epochs,
                    "steps": result.train.steps,
                    "match": result.match.mode if result.match else None,
                    "match_difference": result.match.difference if result.match else None,
                    "trainable_parameters": result.parameters.trainable,
                    "total_parameters": result.parameters.total,
                    "flops": float(result.flops.counted) if result.flops else None,
                    "recipe": result.fingerprints.recipe,
                    "data": each.data_fingerprint,
                    "plan": result.fingerprints.plan,
                    "runtime_s": result.train.runtime_s,
                    "tokens_per_s": result.train.tokens_per_s,
                    "peak_memory_bytes": result.train.peak_memory_bytes,
                    "hardware": result.environment.hardware,
                    "git_commit": result.environment.git_commit,
                }


def clear_finished(folder: Path, keep: str) -> None:
    """Remove what a finished run needs no more: checkpoints, and with `keep` "results" the trained weights."""
    remove = [*folder.glob("checkpoint-*"), *folder.glob(".staging-*"), folder / "base_model"]
    if keep == "results":
        remove += [folder / name for name in _ADAPTERS]
    for path in remove:
        if path.is_dir():
            shutil.rmtree(path)
