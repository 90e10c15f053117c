"""The verdict: is it transfer, negative transfer, equivalent, or undecided; and is the gain only exposure?

For each task, with "single at equal tokens" the primary control:

    multi - single = (single at equal tokens - single) + (multi - single at equal tokens) = exposure + transfer

- **transfer**: the multi-task arm beats every control (intersection-union: the largest p, uncorrected within the task).
- **negative transfer**: it is worse than the primary control.
- **equivalent**: the difference from the primary control is shown to lie within the declared margin (TOST). It comes
  first: a difference told apart from 0 but smaller than what was declared to matter is no transfer to report.
- **undecided**: none of these. It never means "no difference". Two arms that are no better than the trivial predictor
  are not equivalent: neither has learned anything to compare.
- **no verdict**: the comparison cannot be trusted (tokens, leaks, data, missing runs), with the reasons.

Holm corrects transfer, equivalence and exposure over the tasks declared confirmatory. A task without a verdict stays
in the family with p = 1, so losing a run never helps another task; one whose test set is too small to test is left out
(known before running). Exploratory tasks are judged uncorrected, and say so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np

from hf_crosstask.errors import InputError
from hf_crosstask.study import sentences
from hf_crosstask.study.aggregate import normalised_aggregate, win_tie_loss
from hf_crosstask.study.effects import SeedEffects, equivalence, equivalence_p, seed_effects
from hf_crosstask.study.evidence import Control as Control
from hf_crosstask.study.evidence import TaskEvidence as TaskEvidence
from hf_crosstask.study.evidence import VerdictSettings as VerdictSettings
from hf_crosstask.study.multibootstrap import Contrast, Estimate, Replicates, mean_contrast, multibootstrap
from hf_crosstask.study.multiplicity import at_least, holm, intersection_union
from hf_crosstask.study.parity import EXPECTED, RULES_OUT, proof
from hf_crosstask.study.permutation import Permutation, paired_permutation
from hf_crosstask.study.record import ArmScore, Category, ControlResult, Gain, Overall
from hf_crosstask.study.record import StudyVerdict as StudyVerdict
from hf_crosstask.study.record import TaskVerdict as TaskVerdict
from hf_crosstask.study.scored import LOWER_IS_BETTER, ScoredRun, by_seed


@dataclass(frozen=True)
class _Measured:
    """One task's numbers before tasks are judged together; the contrasts are absent where nothing can be resampled."""

    evidence: TaskEvidence
    scores: dict[str, ArmScore]
    reasons: list[str]
    seeds: list[int]
    examples: int
    clusters: int
    transfer: Contrast | None = None
    exposure: Contrast | None = None
    estimates: tuple[Estimate, Estimate | None, Estimate | None] | None = None
    controls: tuple[ControlResult, ...] = ()
    permutation: Permutation | None = None
    over_seeds: SeedEffects | None = None

    @property
    def p_transfer(self) -> float:
        """Two-sided, over all controls; 1 without a verdict."""
        return min(1.0, 2 * intersection_union([each.p_greater for each in self.controls])) if self.controls else 1.0

    @property
    def p_negative(self) -> float:
        """Two-sided, against the primary control."""
        return min(1.0, 2 * self.estimates[0].p_less()) if self.estimates else 1.0

    @property
    def p_exposure(self) -> float:
        """Two-sided; only a gain counts."""
        if self.estimates is None or self.estimates[1] is None:
            return 1.0
        return min(1.0, 2 * self.estimates[1].p_greater())

    @property
    def at_floor(self) -> bool:
        """Neither arm has learned more than the trivial predictor knows: that they agree says nothing."""
        trivial = self.evidence.trivial
        if trivial is None or not self.controls or self.evidence.multi[0].metric_name in LOWER_IS_BETTER:
            return False
        arms = (self.evidence.multi[0].arm, self.controls[0].arm)
        return all(self.scores[arm].mean <= trivial for arm in arms)

    def descriptive(self, settings: VerdictSettings) -> bool:
        """The test set is too small for any test."""
        return self.examples < settings.minimum_examples or self.clusters < settings.minimum_clusters


def task_verdict(evidence: TaskEvidence, settings: VerdictSettings | None = None) -> TaskVerdict:
    """The verdict on one task by itself: a family of one."""
    return study_verdict([evidence], settings).tasks[0]


def study_verdict(
    evidence: Sequence[TaskEvidence], settings: VerdictSettings | None = None, *, name: str = ""
) -> StudyVerdict:
    """The verdicts on all tasks of a study, judged together.

    Raises:
        InputError: no tasks, a task twice, arms of one name, or runs of one arm that do not belong together.
    """
    settings = settings or VerdictSettings()
    tasks = [each.task for each in evidence]
    if not tasks or len(set(tasks)) != len(tasks):
        raise InputError(f"a study verdict needs each task once, found {tasks}")
    measured = {each.task: _measure(each, settings) for each in evidence}
    family = [
        task
        for task, each in measured.items()
        if each.evidence.confirmatory and (each.reasons or not each.descriptive(settings))
    ]
    adjusted = holm({task: min(measured[task].p_transfer, measured[task].p_negative) for task in family})
    exposures = holm({task: measured[task].p_exposure for task in family})
    equal = holm({task: _equivalence_p(measured[task], settings) for task in family})
    verdicts = [
        _judge(each, settings, adjusted.get(task), exposures.get(task), equal.get(task), len(family))
        for task, each in measured.items()
    ]
    return _overall(name, settings, verdicts, list(measured.values()))


def _measure(evidence: TaskEvidence, settings: VerdictSettings) -> _Measured:
    scores = {arm: _arm_score(runs) for arm, runs in evidence.arms().items()}
    reasons = evidence.reasons()
    first = next((runs[0] for runs in evidence.arms().values()), None)
    examples = len(first.ids) if first else 0
    clusters = len(np.unique(first.clusters)) if first else 0
    if reasons or clusters < 2:
        return _Measured(evidence, scores, reasons, [], examples, clusters)
    primary, multi = evidence.controls[0], evidence.multi[0].arm
    named = {runs[0].arm: runs for runs in evidence.primary_arms()}
    together = _resample(named, settings)
    transfer = together.contrast(multi, primary.arm)
    exposure = together.contrast(primary.arm, evidence.single[0].arm) if evidence.single else None
    level = settings.level
    estimates = (
        transfer.estimate(level),
        exposure.estimate(level) if exposure else None,
        (exposure + transfer).estimate(level) if exposure else None,
    )
    results = [_control_result(evidence, primary, estimates[0], settings)]
    for control in evidence.controls[1:]:
        pair = _resample({multi: evidence.multi, control.arm: control.runs}, settings)
        results.append(_control_result(evidence, control, pair.contrast(multi, control.arm).estimate(level), settings))
    seeds = list(together.seeds)
    values = [[by_seed(runs)[seed].value for seed in seeds] for runs in (evidence.multi, primary.runs)]
    chosen = [[by_seed(runs)[seed] for seed in seeds] for runs in (evidence.multi, primary.runs)]
    return _Measured(
        evidence,
        scores,
        reasons,
        seeds,
        examples,
        clusters,
        transfer,
        exposure,
        estimates,
        tuple(results),
        paired_permutation(chosen[0], chosen[1], swaps=settings.replicates, seed=settings.seed),
        seed_effects(values[0], values[1], alpha=settings.alpha),
    )


def _resample(arms: Mapping[str, Sequence[ScoredRun]], settings: VerdictSettings) -> Replicates:
    return multibootstrap(arms, replicates=settings.replicates, seed=settings.seed)


def _control_result(
    evidence: TaskEvidence, control: Control, difference: Estimate, settings: VerdictSettings
) -> ControlResult:
    p = difference.p_greater()
    return ControlResult(
        arm=control.arm,
        mode=control.mode,
        rules_out=RULES_OUT[control.mode],
        difference=difference,
        p_greater=p,
        survived=2 * p <= settings.alpha,
        parity=[proof(parity) for parity in evidence.parities if parity.control == control.arm],
        selection=control.selection,
    )


def _arm_score(runs: Sequence[ScoredRun]) -> ArmScore:
    values = {seed: run.value for seed, run in sorted(by_seed(runs).items())}
    spread = float(np.std(list(values.values()), ddof=1)) if len(values) > 1 else None
    return ArmScore(mean=float(np.mean(list(values.values()))), sd=spread, per_seed=values)


def _equivalence_p(measured: _Measured, settings: VerdictSettings) -> float:
    if measured.estimates is None or settings.margin is None or measured.at_floor:
        return 1.0
    return equivalence_p(measured.estimates[0], settings.margin)


def _judge(
    measured: _Measured,
    settings: VerdictSettings,
    p_adjusted: float | None,
    p_exposure: float | None,
    p_equal: float | None,
    family: int,
) -> TaskVerdict:
    evidence = measured.evidence
    descriptive = not measured.reasons and measured.descriptive(settings)
    testable = measured.estimates is not None and not descriptive and len(measured.seeds) > 1
    same = None
    if measured.estimates is not None and settings.margin is not None and testable and not measured.at_floor:
        same = equivalence(measured.estimates[0], settings.margin, alpha=settings.alpha, p_adjusted=p_equal)
    p = min(measured.p_transfer, measured.p_negative) if p_adjusted is None else p_adjusted
    category: Category = "undecided"
    if measured.reasons:
        category = "no_verdict"
    elif testable and same is not None and same.shown:
        category = "equivalent"
    elif testable and p <= settings.alpha:
        category = "transfer" if measured.p_transfer < measured.p_negative else "negative_transfer"
    p_gain = measured.p_exposure if p_exposure is None else p_exposure
    gained = (
        measured.estimates is not None and measured.estimates[2] is not None and measured.estimates[2].estimate > 0
    )
    exposed = testable and gained and p_gain <= settings.alpha and category != "negative_transfer"
    enough = len(measured.seeds) >= settings.minimum_seeds
    first = next(iter(evidence.arms().values()), None)
    verdict = TaskVerdict(
        task=evidence.task,
        metric=first[0].metric_name if first else None,
        arm=evidence.multi[0].arm if evidence.multi else None,
        category=category,
        claim="none" if not testable else "confirmatory" if evidence.confirmatory and enough else "exploratory",
        confirmatory=evidence.confirmatory,
        descriptive=descriptive,
        at_floor=measured.at_floor,
        gain=_gain(category == "transfer", exposed),
        seeds=measured.seeds,
        examples=measured.examples,
        clusters=measured.clusters,
        scores=measured.scores,
        controls=list(measured.controls),
        not_ruled_out=_not_ruled_out(evidence),
        p_adjusted=p_adjusted if testable else None,
        p_exposure_adjusted=p_exposure if testable and measured.exposure is not None else None,
        equivalence=same,
        permutation=measured.permutation,
        over_seeds=measured.over_seeds,
        warnings=_warnings(measured, settings, descriptive),
        reasons=measured.reasons,
    )
    if measured.estimates is not None:
        transfer, exposure, total = measured.estimates
        found = {
            "transfer": transfer,
            "exposure": exposure,
            "total": total,
            "p_transfer": measured.p_transfer if testable else None,
            "p_negative": measured.p_negative if testable else None,
            "detectable": transfer.detectable(settings.alpha / 2),
        }
        verdict = verdict.model_copy(update=found)
    return verdict.model_copy(update={"sentence": sentences.of_task(verdict, settings, family)})


def _gain(transfer: bool, exposure: bool) -> Gain:
    if transfer:
        return "transfer and exposure" if exposure else "transfer"
    return "exposure" if exposure else "none shown"


def _not_ruled_out(evidence: TaskEvidence) -> list[str]:
    present = {control.mode for control in evidence.controls}
    return [RULES_OUT[mode] for mode in EXPECTED if mode not in present]


def _warnings(measured: _Measured, settings: VerdictSettings, descriptive: bool) -> list[str]:
    """What a reader must know besides the numbers."""
    evidence = measured.evidence
    warnings = [f"{control.arm} is {control.selection}" for control in evidence.controls if control.selection]
    if descriptive:
        warnings.append(
            f"{measured.examples} test examples in {measured.clusters} documents are too few to test (at least "
            f"{settings.minimum_examples} in {settings.minimum_clusters}): numbers are descriptive"
        )
    if measured.estimates is None or measured.over_seeds is None:
        return warnings
    transfer, effects = measured.estimates[0], measured.over_seeds
    seeds = len(measured.seeds)
    if seeds == 1:
        warnings.append("one seed: nothing shows how seeds vary, so nothing is concluded; run at least 2, better 5")
    elif seeds < settings.minimum_seeds:
        warnings.append(
            f"{seeds} seeds are too few for a confirmatory claim (at least {settings.minimum_seeds}); over seeds alone, "
            f"they show only effects of d_z {effects.minimum_detectable_d_z:.2f} and more (80 % power)"
        )
    lost = sorted({run.seed for runs in evidence.primary_arms() for run in runs} - set(measured.seeds))
    if lost:
        warnings.append(f"seeds {lost} are missing in an arm and left out")
    detectable = transfer.detectable(settings.alpha / 2)
    if settings.margin is None:
        warnings.append("no smallest effect of interest was declared, so nothing can be called equivalent")
    elif detectable > settings.margin:
        shown = sentences.amount(detectable, evidence.multi[0].metric_name)
        margin = sentences.amount(settings.margin, evidence.multi[0].metric_name)
        warnings.append(
            f"so many seeds and documents find a true difference of {shown} with 80 % power, not one of {margin}, the "
            "smallest of interest"
        )
    trivial = evidence.trivial
    if trivial is not None and evidence.multi[0].metric_name not in LOWER_IS_BETTER:
        below = [arm for arm, score in measured.scores.items() if score.mean <= trivial]
        if below:
            warnings.append(f"{', '.join(below)}: no better than the trivial predictor ({trivial:.3f})")
    return warnings


def _overall(
    name: str, settings: VerdictSettings, verdicts: list[TaskVerdict], measured: list[_Measured]
) -> StudyVerdict:
    confirmatory = [each for each in verdicts if each.confirmatory]
    judged = confirmatory or verdicts
    warnings = [] if confirmatory else ["no task was declared confirmatory: everything here is exploratory"]
    tested = [each for each in measured if each.estimates is not None and not each.descriptive(settings)]
    seeds = {tuple(each.seeds) for each in tested}
    one_unit = not any(each.evidence.multi[0].metric_name in LOWER_IS_BETTER for each in tested)
    if len(seeds) > 1 or not one_unit:
        why = "seeds" if one_unit else "units"
        warnings.append(f"tasks have different {why}, so their mean difference is not estimated")
    averaged = len(seeds) == 1 and one_unit
    transfers = [each.transfer for each in tested if each.transfer is not None]
    exposures = [each.exposure for each in tested if each.exposure is not None]
    mean = mean_contrast(transfers).estimate(settings.level) if averaged else None
    all_exposed = averaged and len(exposures) == len(transfers)
    verdict = StudyVerdict(
        name=name,
        settings=settings,
        category=_combined([each.category for each in judged if not each.descriptive] or ["undecided"]),
        confirmatory=bool(confirmatory),
        tasks=verdicts,
        counts={category: Counter(each.category for each in verdicts)[category] for category in get_args(Category)},
        mean_transfer=mean,
        mean_exposure=mean_contrast(exposures).estimate(settings.level) if all_exposed else None,
        win_tie_loss=win_tie_loss(
            [(each.estimates[0].low, each.estimates[0].high) for each in tested if each.estimates]
        ),
        at_least=at_least(
            [1.0 if each.p_transfer is None else each.p_transfer for each in confirmatory], settings.alpha
        ),
        normalised=_normalised(verdicts, {each.evidence.task: each.evidence.trivial for each in measured}),
        warnings=warnings,
        sentence="",
    )
    return verdict.model_copy(update={"sentence": sentences.of_study(verdict)})


def _combined(categories: Sequence[Category]) -> Overall:
    found = set(categories)
    if {"transfer", "negative_transfer"} <= found:
        return "mixed"
    if "transfer" in found:
        return "transfer"
    if "negative_transfer" in found:
        return "negative_transfer"
    if len(found) == 1:
        return next(iter(found))
    return "undecided"


def _normalised(verdicts: Sequence[TaskVerdict], trivial: Mapping[str, float | None]) -> dict[str, float] | None:
    floors = {task: floor for task, floor in trivial.items() if floor is not None and floor < 1}
    if len(floors) < len(verdicts) or any(each.metric in LOWER_IS_BETTER for each in verdicts):
        return None
    arms = set.intersection(*(set(each.scores) for each in verdicts))
    return {
        arm: normalised_aggregate({each.task: each.scores[arm].mean for each in verdicts}, floors)
        for arm in sorted(arms)
    } or None
