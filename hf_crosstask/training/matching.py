"""Budgets taken from a finished run: the reference of a controlled baseline, and what of it is made equal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from hf_crosstask.errors import InputError, MatchError, unknown_name
from hf_crosstask.evaluation.result import RunResult, read_result
from hf_crosstask.planning.budget import Budget
from hf_crosstask.planning.flops import FlopAccount, plan_for_flops
from hf_crosstask.planning.plan import TrainingPlan
from hf_crosstask.planning.stored import part_of, read_plan

MatchMode = Literal["total_tokens", "target_tokens", "updates", "flops", "unique_tokens", "parameters"]
#: Modes that need a recipe: they choose more than the length of a plan.
OF_RECIPES: tuple[MatchMode, ...] = ("flops", "unique_tokens", "parameters")


@dataclass(frozen=True)
class Reference:
    """A finished run and what of it is to be matched.

    Attributes:
        path: as the user named it.
        mode: what is matched.
        tokens: forward tokens to train on, where `mode` says how many.
        result: the reference's whole result.
        fraction: share of the reference's tokens to spend (`total_tokens` only).
    """

    path: str
    mode: MatchMode
    tokens: int
    result: RunResult
    fraction: float = 1.0

    @property
    def folder(self) -> Path:
        """The reference's run folder."""
        path = Path(self.path)
        return path if path.is_dir() else path.parent

    def target(self, tasks: Sequence[str]) -> int:
        """What a run of these tasks must reach, in the unit of the mode: tokens, updates, or FLOPs.

        Raises:
            MatchError: a task's own tokens are matched, and the reference did not train it; or FLOPs, and it has none.
        """
        if self.mode == "updates":
            return self.result.train.steps
        if self.mode == "flops":
            return self._flops()
        if self.mode == "unique_tokens":
            return sum(task.tokens.unique for task in self.result.trained.values())
        if self.mode == "target_tokens":
            for task in tasks:
                if task not in self.result.tasks:
                    known = unknown_name("task", task, self.result.tasks)
                    raise MatchError(f"cannot match {self.path}, which did not train it: {known}")
            return sum(self.result.tasks[task].tokens.counted for task in tasks)
        return self.tokens

    def parameters(self, task: str, matched: Literal["total", "active"]) -> int:
        """The reference's trainable parameters, heads included: all of them, or those that a task uses.

        Raises:
            MatchError: the reference does not say what the task uses.
        """
        counts = self.result.parameters
        if matched == "total":
            return counts.trainable
        if task not in counts.active:
            why = unknown_name("task", task, counts.active) if counts.active else "it is of an earlier version"
            raise MatchError(
                f"cannot match the active parameters of {self.path}: {why}. Match the total, or run it again"
            )
        return counts.active[task]

    def _flops(self) -> int:
        if self.result.flops is None:
            raise MatchError(
                f"cannot match the FLOPs of {self.path}: its result.json has none (an earlier version wrote it, or the "
                "operations of its backbone cannot be counted). Run it again, or match total_tokens"
            )
        return self.result.flops.counted

    def plan(
        self, tasks: Sequence[str], make: Callable[[Budget], TrainingPlan], account: FlopAccount | None = None
    ) -> TrainingPlan:
        """The plan of a run of these tasks.

        Args:
            tasks: its tasks.
            make: plans it for a budget.
            account: what the tasks cost; with `flops` only.

        Raises:
            MatchError: the mode does not go with the tasks, or the reference saw other examples of the task.
        """
        if self.mode == "updates":
            return make(Budget(steps=self.target(tasks)))
        if self.mode == "target_tokens":
            return self._part(tasks, make)
        if self.mode == "flops":
            if account is None:
                raise ValueError("flops are matched by what the tasks cost: give `account`")
            return plan_for_flops(self.target(tasks), self.tokens, make, account)
        return make(Budget(tokens=self.tokens))

    def _part(self, tasks: Sequence[str], make: Callable[[Budget], TrainingPlan]) -> TrainingPlan:
        """The reference's own schedule of one task."""
        if len(tasks) != 1:
            raise MatchError(f"target_tokens matches the tokens of one task, but there are {len(tasks)}")
        whole, target = read_plan(self.folder), self.target(tasks)
        if whole.fingerprint != self.result.fingerprints.plan:
            raise MatchError(
                f"cannot match {self.path}: its plan.npz is not the plan that its result names. Run it again."
            )
        part = part_of(whole, tasks[0])
        own = make(Budget(tokens=target)).lengths[tasks[0]]
        if not (len(own) == len(part.lengths[tasks[0]]) and (own == part.lengths[tasks[0]]).all()):
            raise MatchError(
                f"cannot match {self.path}: it saw other examples of {tasks[0]} than this run has, or another tokenizer's "
                "tokens. Give both the same audit (audit.against), max_examples and model."
            )
        return part


def read_reference(path: str | Path, mode: str = "total_tokens", fraction: float = 1.0) -> Reference:
    """The run to match.

    Args:
        path: a run directory or its `result.json`.
        mode: `total_tokens`: as many forward tokens as all the reference's tasks together; `target_tokens`: the
            reference's own micro-batches of the task, in its order; `updates`: as many optimizer steps; `flops`: as many
            floating-point operations; `unique_tokens`: as many different training tokens, seen as often; `parameters`:
            as many forward tokens, and as many trainable parameters.
        fraction: of the tokens; with `total_tokens` only.

    Raises:
        MatchError: there is no finished run there, or its plan and its ledger disagree.
    """
    if mode not in get_args(MatchMode):
        raise MatchError(unknown_name("match mode", mode, get_args(MatchMode)))
    if fraction != 1.0 and mode != "total_tokens":
        raise MatchError(f"a fraction of a run is one of its tokens (total_tokens), not of its {mode}")
    try:
        result = read_result(path)
    except InputError as error:
        raise MatchError(f"cannot match {path}, which is no finished run: {error}") from error
    for name, tokens in [("the run", result.tokens), *((task, each.tokens) for task, each in result.trained.items())]:
        if tokens.planned != tokens.counted:
            raise MatchError(
                f"cannot match {path}: {name} was planned with {tokens.planned} tokens but counted {tokens.counted}; its "
                "token account cannot be trusted. Run it again."
            )
    chosen: MatchMode = mode  # type: ignore[assignment]  # checked above
    return Reference(str(path), chosen, round(fraction * result.tokens.counted), result, fraction)
