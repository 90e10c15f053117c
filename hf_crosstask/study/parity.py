"""Proof that a control saw as much as what it is matched to: planned = counted in both runs, and equal to an example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict

from hf_crosstask.errors import InputError, unknown_name

Mode = Literal[
    "total_tokens",
    "target_tokens",
    "updates",
    "flops",
    "unique_tokens",
    "envelope",
    "parameters",
    "text_placebo",
    "label_placebo",
    "format_placebo",
    "optimizer",
]

#: Modes that fix a budget, which must be proved kept.
BUDGETS: frozenset[str] = frozenset(
    {"total_tokens", "target_tokens", "updates", "flops", "unique_tokens", "envelope", "parameters"}
)

#: What a gain over a control of this mode cannot be (science.md B2).
RULES_OUT: dict[str, str] = {
    "total_tokens": "more training tokens",
    "target_tokens": "another exposure to the task's own data",
    "updates": "more optimizer steps",
    "flops": "more computation",
    "unique_tokens": "more distinct text",
    "envelope": "a single-task control handicapped by repetition",
    "parameters": "more parameters",
    "text_placebo": "exposure to in-domain text",
    "label_placebo": "the regularising effect of any additional task",
    "format_placebo": "practice in the task's format",
    "optimizer": "a better tuned optimizer",
}
#: What a claim of genuine transfer should survive (intersection-union): a study that lacks one says so.
EXPECTED: tuple[str, ...] = ("total_tokens", "target_tokens", "envelope", "text_placebo", "label_placebo")


class TokenParity(BaseModel):
    """The accounts of a control run and of the run that it is matched to.

    `reference_*` is what is to be matched, in `unit` (all tokens of the multi-task run, the task's own, its updates, …);
    `allowed` is one example of the task.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    control: str
    mode: Mode
    seed: int
    reference_planned: int
    reference_counted: int
    control_planned: int
    control_counted: int
    allowed: int
    unit: str = "forward tokens"

    @property
    def difference(self) -> int:
        """What the control saw more than it should."""
        return self.control_counted - self.reference_counted

    def problems(self) -> list[str]:
        """Why parity is broken; empty where it holds."""
        where = f"{self.control} seed {self.seed}"
        found = [
            f"{where}: {run} was planned with {planned:,} {self.unit} but counted {counted:,}"
            for run, planned, counted in (
                ("the control", self.control_planned, self.control_counted),
                ("the run it is matched to", self.reference_planned, self.reference_counted),
            )
            if planned != counted
        ]
        if abs(self.difference) > self.allowed:
            found.append(
                f"{where}: saw {self.control_counted:,} {self.unit} and should have seen {self.reference_counted:,}; "
                f"the difference of {self.difference:+,} is more than one example ({self.allowed:,})"
            )
        return found


class ParityProof(BaseModel):
    """A parity account as a verdict shows it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int
    unit: str
    reference_planned: int
    reference_counted: int
    control_planned: int
    control_counted: int
    difference: int
    allowed: int
    holds: bool


def proof(parity: TokenParity) -> ParityProof:
    """The account with its outcome."""
    fields = parity.model_dump(exclude={"task", "control", "mode"})
    return ParityProof(**fields, difference=parity.difference, holds=not parity.problems())


@dataclass(frozen=True)
class Account:
    """A control whose parity is to be proved: its arm, its matching mode and the seeds of its runs."""

    arm: str
    mode: str
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise InputError(f"control {self.arm!r}: {unknown_name('matching mode', self.mode, get_args(Mode))}")


def parity_problems(task: str, accounts: Sequence[Account], parities: Sequence[TokenParity]) -> list[str]:
    """Every reason not to trust the budgets of a task's controls; a missing account is one."""
    problems = [problem for parity in parities if parity.task == task for problem in parity.problems()]
    problems += [
        f"{parity.control} seed {parity.seed}: its token account is of task {parity.task}, not {task}"
        for parity in parities
        if parity.task != task
    ]
    known = {(parity.control, parity.seed) for parity in parities}
    problems += [
        f"{account.arm} seed {seed}: has no token account, so it cannot be shown to match by {account.mode}"
        for account in accounts
        if account.mode in BUDGETS
        for seed in account.seeds
        if (account.arm, seed) not in known
    ]
    return problems
