"""From a study's folder to its verdicts: which runs are compared with which, on what evidence."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from hf_crosstask.atomic import json_fingerprint, write_json
from hf_crosstask.errors import InputError
from hf_crosstask.study.expand import Cell, PlannedRun, groups
from hf_crosstask.study.looks import looks_differ, selection
from hf_crosstask.study.parity import BUDGETS, Mode
from hf_crosstask.study.schema import PLACEBO_MODES, Study
from hf_crosstask.study.store import Store, stored_plan

if TYPE_CHECKING:
    from hf_crosstask.evaluation.result import RunResult
    from hf_crosstask.study.evidence import Control, TaskEvidence, VerdictSettings
    from hf_crosstask.study.parity import TokenParity
    from hf_crosstask.study.record import StudyVerdict
    from hf_crosstask.study.scored import ScoredRun

FILE_NAME = "statistics.json"
#: The primary control comes first: the one at equal tokens; the others in the order of their modes.
_ORDER = get_args(Mode)


@dataclass(frozen=True)
class Comparison:
    """One multi-task arm on one task set with one model, against its controls."""

    arm: str
    model: str
    group: tuple[str, ...]

    @property
    def name(self) -> str:
        """How tables name it."""
        return " ".join(
            part for part in (self.arm, self.model and f"({self.model})", "on " + ", ".join(self.group)) if part
        )


@dataclass(frozen=True)
class Assessed:
    """A comparison and its verdict; `evidence` is what it was given."""

    comparison: Comparison
    evidence: tuple[TaskEvidence, ...]
    verdict: StudyVerdict


def comparisons(study: Study) -> list[Comparison]:
    """Every multi-task arm that has a control, on every task set and model."""
    controlled = {arm.controls for arm in study.arms.values()}
    arms = [
        name
        for name, arm in study.arms.items()
        if not (arm.single or arm.placebo or arm.shares)
        and (name in controlled or (arm.match is not None and arm.match.mode == "unique_tokens"))
    ]
    return [
        Comparison(arm, model, group)
        for arm in arms
        for model in (list(study.models) or [""])
        for group in groups(study)
    ]


def assess(study: Study, store: Store) -> list[Assessed]:
    """The verdict of every comparison.

    The error rate is shared out over the confirmatory comparisons (Bonferroni); inside each, Holm corrects over tasks.
    """
    from hf_crosstask.study.verdict import study_verdict

    reader = _Reader(study, store)
    settings = _settings(study)
    assessed = []
    for comparison in comparisons(study):
        evidence = tuple(reader.evidence(comparison, task) for task in comparison.group)
        assessed.append(Assessed(comparison, evidence, study_verdict(evidence, settings, name=comparison.name)))
    return assessed


def _settings(study: Study) -> VerdictSettings:
    from hf_crosstask.study.evidence import VerdictSettings

    families = sum(study.arms[comparison.arm].confirmatory for comparison in comparisons(study))
    fields = study.statistics.model_dump()
    fields["alpha"] /= max(1, families)
    return VerdictSettings(**fields, margin=study.smallest_effect)


class _Reader:
    """Reads runs' predictions, each once."""

    def __init__(self, study: Study, store: Store):
        self._study, self._store = study, store
        self._run_of: dict[Cell, PlannedRun] = {cell: run for run in store.runs for cell in run.cells}
        self._scored: dict[tuple[str, str], tuple[ScoredRun, float]] = {}

    def cells(self, arm: str, comparison: Comparison, task: str) -> list[Cell]:
        """The cells of an arm that say something about a task in a comparison."""
        return [
            cell
            for cell in self._run_of
            if cell.arm == arm
            and cell.model == comparison.model
            and cell.share is None
            and cell.target in (None, task)
            and (cell.group == comparison.group or cell.group == (task,))
        ]

    def evidence(self, comparison: Comparison, task: str) -> TaskEvidence:
        """All that bears on a task."""
        from hf_crosstask.study.evidence import TaskEvidence

        problems: list[str] = []
        multi = self._runs(self.cells(comparison.arm, comparison, task), task, problems)
        controls, parities = [], []
        for name, mode in self._controls(comparison):
            control, accounts = self._control(name, mode, comparison, task, problems)
            controls.append(control)
            parities += accounts
        single = next((name for name, arm in self._study.arms.items() if arm.single and arm.match is None), None)
        alone: list[ScoredRun] = []
        if single is not None and single not in [control.arm for control in controls]:
            alone = self._runs(self.cells(single, comparison, task), task, problems)
        used = [comparison.arm, *(control.arm for control in controls), *([single] if single else [])]
        cells = [cell for name in used for cell in self.cells(name, comparison, task)]
        results = {cell: result for cell in cells if (result := self._result(cell)) is not None}
        return TaskEvidence(
            task=task,
            multi=multi,
            controls=controls,
            single=alone,
            parities=parities,
            data_fingerprints={
                cell.label: str(result.tasks[task].data_fingerprint) for cell, result in results.items()
            },
            leaks=_leaks(results.values(), task),
            problems=list(dict.fromkeys(problems)),
            confirmatory=self._study.arms[comparison.arm].confirmatory,
            trivial=next((result.tasks[task].metrics.majority for result in results.values()), None),
        )

    def _controls(self, comparison: Comparison) -> list[tuple[str, str]]:
        """(arm, mode) of every control, the primary one first."""
        found = []
        for name, arm in self._study.arms.items():
            if arm.shares or arm.controls != comparison.arm:
                continue
            if arm.placebo:
                found.append((name, PLACEBO_MODES[arm.placebo]))
            elif arm.match is not None:
                found.append((name, arm.match.mode))
        own = self._study.arms[comparison.arm].match
        if own is not None and own.mode == "unique_tokens":
            found.append((own.arm, "unique_tokens"))
        return sorted(found, key=lambda item: _ORDER.index(item[1]))

    def _control(
        self, name: str, mode: str, comparison: Comparison, task: str, problems: list[str]
    ) -> tuple[Control, list[TokenParity]]:
        from hf_crosstask.study.evidence import Control

        cells, chosen = self.cells(name, comparison, task), ""
        if mode == "envelope":
            tried = cells
            cells = self._best_on_validation(tried, task, problems)
            chosen = self._selection(tried, cells, comparison, problems)
        arm = self._study.arms[name]
        matched = mode in BUDGETS or bool(arm.placebo and arm.match and arm.match.mode == "total_tokens")
        accounts = []
        for cell in cells:
            result = self._result(cell)
            reference = self._result(self._reference(cell, comparison))
            if result is not None and reference is not None and mode == "parameters":
                problems += _other_parameters(cell.label, result, reference, task)
            if result is not None and reference is not None and matched:
                accounts.append(self._account(cell, mode, result, reference, task))
        return Control(name, mode, tuple(self._runs(cells, task, problems)), chosen), accounts

    def _selection(
        self, tried: Sequence[Cell], chosen: Sequence[Cell], comparison: Comparison, problems: list[str]
    ) -> str:
        """How an envelope's runs were chosen, in words; unequal looks at validation are a problem."""
        cells = dict.fromkeys([*tried, *(self._reference(cell, comparison) for cell in tried)])
        results = {
            cell.label: (self._run_of[cell].recipe, result)
            for cell in cells
            if (result := self._result(cell)) is not None
        }
        problems += looks_differ(results)
        budgets = len({cell.fraction for cell in tried})
        return selection(results, budgets, {cell.seed: cell.fraction for cell in chosen}) if chosen else ""

    def _reference(self, cell: Cell, comparison: Comparison) -> Cell:
        """The multi-task cell that a control's cell is compared with."""
        own = self.cells(comparison.arm, comparison, str(cell.target))
        return next(each for each in own if each.seed == cell.seed)

    def _account(self, cell: Cell, mode: str, result: RunResult, reference: RunResult, task: str) -> TokenParity:
        plan = stored_plan(self._store.folder(self._run_of[cell]))
        allowed = int(plan.lengths[task].max())
        if mode == "updates":
            steps = reference.train.steps
            numbers = (steps, steps, plan.num_steps, result.train.steps)
            return _parity(cell, mode, task, numbers, allowed=0, unit="updates")
        if mode == "unique_tokens":
            wanted, had = (sum(each.tokens.unique for each in run.tasks.values()) for run in (reference, result))
            return _parity(cell, mode, task, (wanted, wanted, had, had), allowed, "different forward tokens")
        if mode == "target_tokens":
            tokens = reference.tasks[task].tokens
            own = result.tasks[task].tokens
            return _parity(cell, mode, task, (tokens.planned, tokens.counted, own.planned, own.counted), allowed)
        if mode == "flops":
            # Without them there would be no match: `training.matching` refuses to.
            assert result.flops is not None
            assert reference.flops is not None
            spent, own_flops = reference.flops, result.flops
            counts = (spent.planned, spent.counted, own_flops.planned, own_flops.counted)
            return _parity(cell, mode, task, counts, own_flops.largest_example, "FLOPs")
        whole, ours = reference.tokens, result.tokens
        share = [round(cell.fraction * tokens) for tokens in (whole.planned, whole.counted)]
        return _parity(cell, mode, task, (share[0], share[1], ours.planned, ours.counted), allowed)

    def _best_on_validation(self, cells: Sequence[Cell], task: str, problems: list[str]) -> list[Cell]:
        """Of each seed the cell whose run has the best primary metric on validation; ties go to fewer tokens."""
        best = []
        for seed in sorted({cell.seed for cell in cells}):
            scores: dict[Cell, float] = {}
            for cell in (each for each in cells if each.seed == seed):
                result = self._result(cell)
                metric = result.tasks[task].metrics.primary if result else ""
                value = result.validation.get(task, {}).get(metric) if result else None
                if value is None:
                    problems += self._refusals(cell) or [f"{cell.label}: has no validation score to choose by"]
                else:
                    scores[cell] = -value if metric == "perplexity" else value
            if scores:
                best.append(max(scores, key=lambda cell: (scores[cell], -cell.fraction)))
        return best

    def _runs(self, cells: Iterable[Cell], task: str, problems: list[str]) -> list[ScoredRun]:
        """The runs that can be used; what cannot be is a problem."""
        runs = []
        for cell in cells:
            problems += self._refusals(cell)
            result = self._result(cell)
            if result is None:
                continue
            try:
                run, value = self._scored_run(cell, result, task)
            except InputError as error:
                problems.append(f"{cell.label}: {error}")
                continue
            stated = result.tasks[task].metrics.values[run.metric_name].value
            if not math.isclose(value, stated, rel_tol=1e-9, abs_tol=1e-12):
                problems.append(
                    f"{cell.label}: its result states {run.metric_name} {stated:.6f}, its predictions give {value:.6f}"
                )
            runs.append(run)
        return runs

    def _scored_run(self, cell: Cell, result: RunResult, task: str) -> tuple[ScoredRun, float]:
        """A run's statistics, and its score by the scorer that results are written by: the sums of a correlation's
        statistics are not exact enough to check it."""
        from dataclasses import replace

        from hf_crosstask.evaluation.predictions import Predictions
        from hf_crosstask.evaluation.scoring import scoring_for
        from hf_crosstask.study.scored import scored_run

        run = self._run_of[cell]
        if (run.id, task) not in self._scored:
            predictions = Predictions.from_parquet(self._store.folder(run) / "predictions" / f"{task}.parquet")
            metric = result.tasks[task].metrics.primary
            scored = scored_run(predictions, arm=cell.arm, seed=cell.seed, metric=metric)
            self._scored[run.id, task] = scored, scoring_for(predictions.target).score(predictions)[metric]
        scored, value = self._scored[run.id, task]
        return replace(scored, arm=cell.arm), value

    def _result(self, cell: Cell) -> RunResult | None:
        return self._store.results.get(self._run_of[cell].id)

    def _refusals(self, cell: Cell) -> list[str]:
        """Why a cell's run cannot be used."""
        run = self._run_of[cell]
        return [f"{cell.label} ({run.id}): {each.kind}: {each.text}" for each in self._store.states[run.id][1]]

    def doses(self) -> Iterator[dict[str, Any]]:
        """Scores of every dose-response cell."""
        for cell in self._run_of:
            result = self._result(cell)
            if cell.share is None or cell.target is None or result is None:
                continue
            metrics = result.tasks[cell.target].metrics
            yield {
                "arm": cell.arm,
                "model": cell.model,
                "group": list(cell.group),
                "task": cell.target,
                "share": cell.share,
                "seed": cell.seed,
                "metric": metrics.primary,
                "value": metrics.values[metrics.primary].value,
            }


def _parity(
    cell: Cell,
    mode: str,
    task: str,
    numbers: tuple[int, int, int, int],
    allowed: int,
    unit: str = "forward tokens",
) -> TokenParity:
    """An account from (reference planned, reference counted, control planned, control counted)."""
    from hf_crosstask.study.parity import TokenParity

    wanted, seen, planned, counted = numbers
    return TokenParity(
        task=task,
        control=cell.arm,
        mode=mode,  # type: ignore[arg-type]  # one of its literals
        seed=cell.seed,
        reference_planned=wanted,
        reference_counted=seen,
        control_planned=planned,
        control_counted=counted,
        allowed=allowed,
        unit=unit,
    )


def _other_parameters(label: str, result: RunResult, reference: RunResult, task: str) -> list[str]:
    """Whether a control's parameters were matched to those of the run that it is compared with."""
    match, counts = result.match and result.match.parameters, reference.parameters
    wanted = counts.active.get(task) if match and match.matched == "active" else counts.trainable
    if match and match.target == wanted:
        return []
    return [f"{label}: its parameters were matched to {match.target if match else None}, the reference has {wanted}"]


def _leaks(results: Iterable[RunResult], task: str) -> list[str]:
    """Test or validation examples of a task in the training data of another one, which the policy let pass.

    What leaks within the task leaks in every arm alike.
    """
    found: dict[str, None] = {}
    for result in results:
        audit: Mapping[str, Any] = result.audit or {}
        if audit.get("policy") != "allow":
            continue
        for pair in audit.get("leaks", []):
            if pair["evaluation_task"] == task != pair["train_task"] and pair["train_task"] in result.trained:
                count = pair["leak"]["evaluation_examples"]
                found[f"{count} {pair['evaluation_split']} examples of {task} are in {pair['train_task']} train"] = (
                    None
                )
    return list(found)


def doses(study: Study, store: Store) -> list[dict[str, Any]]:
    """Scores of every dose-response run."""
    return list(_Reader(study, store).doses())


def write_statistics(study: Study, store: Store, assessed: Sequence[Assessed]) -> Path:
    """`statistics.json`: every verdict with its numbers; no times and no places, so that equal studies give equal bytes."""
    reader = _Reader(study, store)
    content = {
        "schema_version": 1,
        "study": study.name,
        "fingerprint": json_fingerprint([study.declared(), sorted(run.id for run in store.runs)]),
        "error_rate": f"alpha {study.statistics.alpha:g} over all confirmatory comparisons",
        "comparisons": [
            {
                "arm": each.comparison.arm,
                "model": each.comparison.model,
                "group": list(each.comparison.group),
                "verdict": each.verdict.model_dump(mode="json"),
            }
            for each in assessed
        ],
        "doses": list(reader.doses()),
        "problems": [str(problem) for problem in store.problems()],
    }
    return write_json(store.output_dir / FILE_NAME, content)
