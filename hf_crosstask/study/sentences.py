"""The sentence a paper may print: the verdict in words, with everything that qualifies it."""

from __future__ import annotations

from hf_crosstask.study.evidence import VerdictSettings
from hf_crosstask.study.multibootstrap import Estimate
from hf_crosstask.study.record import StudyVerdict, TaskVerdict
from hf_crosstask.study.scored import LOWER_IS_BETTER


def amount(difference: float, metric: str | None) -> str:
    """A difference in points (hundredths); perplexity as it is."""
    if metric in LOWER_IS_BETTER:
        return f"{difference:.3g}"
    return f"{100 * difference:.2f} points"


def p_value(p: float) -> str:
    """`p = .032`, `p < .001`; without the zero, as journals print it."""
    return "p < .001" if p < 0.001 else f"p = {p:.3f}".replace("0.", ".")


def of_task(verdict: TaskVerdict, settings: VerdictSettings, family: int) -> str:
    """One task's verdict in words; `family` is how many tasks Holm corrected over."""
    if verdict.category == "no_verdict":
        return f"{verdict.task}: no verdict. {'; '.join(verdict.reasons)}."
    if verdict.transfer is None:
        return f"{verdict.task}: nothing can be estimated from {verdict.clusters} test documents."
    control, units = verdict.controls[0].arm, f"{len(verdict.seeds)} seeds and {verdict.clusters:,} test clusters"
    compared = f"{verdict.arm} minus {control} on {verdict.task} is {_interval(verdict.transfer, verdict.metric)}"
    head = f"{compared}, {verdict.metric}, multi-bootstrap over {units}"
    if verdict.claim == "none":
        return f"{head}: descriptive only, nothing is concluded.{_exposure(verdict)}"
    tested = _tested(verdict, family)
    meaning = {
        "transfer": f": cross-task transfer ({tested}), beyond {_listed([each.rules_out for each in verdict.controls])}",
        "negative_transfer": f": negative transfer ({tested}); multi-task training is worse than single-task training "
        "matched to it",
        "equivalent": f": equivalent within the declared margin of {amount(settings.margin or 0.0, verdict.metric)} "
        f"(TOST, {p_value(verdict.equivalence.p_adjusted) if verdict.equivalence else ''})",
        "undecided": f": undecided ({tested}); "
        + (
            "neither is better than the trivial predictor, so there is nothing to compare"
            if verdict.at_floor
            else "neither a difference nor equivalence is shown"
        ),
    }[verdict.category]
    failed = [each.arm for each in verdict.controls if not each.survived]
    if verdict.category == "undecided" and failed and verdict.transfer.low > 0 and failed != [control]:
        meaning += f"; not shown to be better than {', '.join(failed)}"
    open_ends = ""
    if verdict.category == "transfer" and verdict.not_ruled_out:
        open_ends = f" Not ruled out by this study: {_listed(verdict.not_ruled_out, 'or')}."
    label = "" if verdict.claim == "confirmatory" else " (exploratory)"
    return f"{head}{meaning}{label}.{open_ends}{_exposure(verdict)}"


def _tested(verdict: TaskVerdict, family: int) -> str:
    if verdict.p_adjusted is None:
        p = min(verdict.p_transfer if verdict.p_transfer is not None else 1.0, verdict.p_negative or 0.0)
        return f"{p_value(p)}, uncorrected"
    corrected = f", Holm over {family} tasks" if family > 1 else ""
    controls = f", largest of {len(verdict.controls)} controls" if len(verdict.controls) > 1 else ""
    return f"{p_value(verdict.p_adjusted)}{corrected}{controls}"


def _exposure(verdict: TaskVerdict) -> str:
    if verdict.exposure is None or verdict.total is None:
        return ""
    parts = (
        f" Of the difference from single-task training, {amount(verdict.total.estimate, verdict.metric)}, exposure is "
        f"{_interval(verdict.exposure, verdict.metric)}"
    )
    if verdict.gain == "exposure":
        return f"{parts}: the gain that is shown is exposure, not transfer."
    return f"{parts}."


def _interval(estimate: Estimate, metric: str | None) -> str:
    low, high = (amount(end, metric).removesuffix(" points") for end in (estimate.low, estimate.high))
    return f"{amount(estimate.estimate, metric)} ({100 * estimate.level:g} % CI {low} to {high})"


def _listed(items: list[str], word: str = "and") -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} {word} {items[-1]}"


def of_study(verdict: StudyVerdict) -> str:
    """The study's verdict in words."""
    declared = [each for each in verdict.tasks if each.confirmatory] or verdict.tasks
    judged = [each for each in declared if not each.descriptive]
    kind, but = "confirmatory " if verdict.confirmatory else "exploratory ", ""
    if verdict.confirmatory and any(each.claim == "exploratory" for each in judged):
        kind, but = "", " (declared confirmatory, but exploratory for want of seeds)"
    counts = [
        f"{category.replace('_', ' ')} on {sum(each.category == category for each in judged)}"
        for category in ("transfer", "negative_transfer", "equivalent", "undecided", "no_verdict")
        if any(each.category == category for each in judged)
    ]
    mean = ""
    if verdict.mean_transfer is not None:
        mean = f" Mean transfer over tasks: {_interval(verdict.mean_transfer, None)}."
    exposed = [each.task for each in judged if each.gain == "exposure"]
    only = f" Gain by exposure alone: {', '.join(exposed)}." if exposed else ""
    small = [each.task for each in declared if each.descriptive]
    described = f" Too small to test, only described: {', '.join(small)}." if small else ""
    found = (
        f"Of {len(judged)} {kind}{'task' if len(judged) == 1 else 'tasks'}{but}: {', '.join(counts)}."
        if judged
        else ""
    )
    return f"{found}{mean}{only}{described}".strip()
