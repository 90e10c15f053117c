"""What a verdict is given: the runs of each arm, their token accounts, and whatever speaks against a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, Field

from hf_crosstask.errors import InputError
from hf_crosstask.study.multibootstrap import check_same_test
from hf_crosstask.study.parity import Account, TokenParity, parity_problems
from hf_crosstask.study.scored import ScoredRun, by_seed, common_seeds


class VerdictSettings(BaseModel):
    """How verdicts are reached; fixed before running.

    `alpha` is the family-wise error over confirmatory tasks, two-sided; `level` that of printed intervals; `margin` the
    smallest effect of interest in the metric's own unit (null: nothing can be called equivalent). Test sets with fewer
    than `minimum_examples` or `minimum_clusters` are only described, and claims from fewer than `minimum_seeds` seeds are
    exploratory.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    level: float = Field(default=0.95, gt=0, lt=1)
    margin: float | None = Field(default=None, gt=0)
    replicates: int = Field(default=10_000, ge=100)
    seed: int = Field(default=0, ge=0)
    minimum_seeds: int = Field(default=5, ge=2)
    minimum_examples: int = Field(default=50, ge=2)
    minimum_clusters: int = Field(default=30, ge=2)


@dataclass(frozen=True)
class Control:
    """A single-task (or placebo) arm that the multi-task arm must beat.

    Attributes:
        arm: its name.
        mode: what it is matched by; a key of `parity.RULES_OUT`.
        runs: one for each seed.
        selection: how its runs were chosen among others, in words; empty where there was no choice.
    """

    arm: str
    mode: str
    runs: Sequence[ScoredRun]
    selection: str = ""

    def account(self) -> Account:
        """What has to be proved of its budget."""
        return Account(self.arm, self.mode, tuple(sorted(by_seed(self.runs))))


@dataclass(frozen=True)
class TaskEvidence:
    """Everything that bears on one task.

    Attributes:
        task: its name.
        multi: the multi-task arm's runs, one for each seed.
        controls: the controls; the first is the primary one, "single-task at equal tokens".
        single: single-task runs on their own budget; none: no decomposition.
        parities: token accounts of the controls, one for each run.
        data_fingerprints: run name to the fingerprint of this task's data; all must agree.
        leaks: test examples that some arm trained on, in words.
        problems: missing, unfinished or refused runs, in words.
        confirmatory: declared so before running.
        trivial: the trivial predictor's value.
    """

    task: str
    multi: Sequence[ScoredRun]
    controls: Sequence[Control]
    single: Sequence[ScoredRun] = ()
    parities: Sequence[TokenParity] = ()
    data_fingerprints: Mapping[str, str] = field(default_factory=dict)
    leaks: Sequence[str] = ()
    problems: Sequence[str] = ()
    confirmatory: bool = True
    trivial: float | None = None

    def arms(self) -> dict[str, Sequence[ScoredRun]]:
        """Runs by arm: multi-task, single-task, then the controls.

        Raises:
            InputError: two arms have one name, or an arm's runs do not belong together.
        """
        named = [(runs[0].arm, runs) for runs in (self.multi, self.single) if runs]
        named += [(control.arm, control.runs) for control in self.controls if control.runs]
        found = dict(named)
        if len(found) != len(named):
            raise InputError(f"task {self.task!r}: two arms have the same name among {[name for name, _ in named]}")
        for runs in found.values():
            by_seed(runs)
        return found

    def reasons(self) -> list[str]:
        """Every reason to give no verdict."""
        reasons = list(self.problems)
        reasons += [f"leak: {leak}" for leak in self.leaks]
        if not self.multi:
            reasons.append("the multi-task arm has no runs")
        if not self.controls:
            reasons.append("there is no control, so exposure and transfer cannot be told apart")
        reasons += [f"control {control.arm} has no runs" for control in self.controls if not control.runs]
        reasons += self._different_data()
        reasons += parity_problems(self.task, [control.account() for control in self.controls], self.parities)
        return reasons or self._not_comparable()

    def _different_data(self) -> list[str]:
        if not self.data_fingerprints:
            return ["no data fingerprints: nothing shows that the runs had the same data"]
        prints = list(self.data_fingerprints.values())
        usual = max(sorted(set(prints)), key=prints.count)
        return [
            f"{name}: was run on other data (fingerprint {fingerprint[:12]}, the others {usual[:12]})"
            for name, fingerprint in self.data_fingerprints.items()
            if fingerprint != usual
        ]

    def _not_comparable(self) -> list[str]:
        arms = list(self.arms().values())
        try:
            check_same_test([run for runs in arms for run in runs])
        except InputError as error:
            return [str(error)]
        others = [control.runs for control in self.controls] + ([self.single] if self.single else [])
        return [
            f"{self.multi[0].arm} and {runs[0].arm} have no seed in common"
            for runs in others
            if not common_seeds([self.multi, runs])
        ] or ([] if common_seeds(self.primary_arms()) else ["the arms of the decomposition have no seed in common"])

    def primary_arms(self) -> list[Sequence[ScoredRun]]:
        """The arms of the decomposition: multi-task, primary control, and single-task where there is one."""
        return [self.multi, self.controls[0].runs, *([self.single] if self.single else [])]
