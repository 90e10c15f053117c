"""The sections that verdicts fill: what was found, the scores, exposure and transfer, controls and token parity."""

from __future__ import annotations

from collections.abc import Iterator

from hf_crosstask.evaluation.analysis import Analysis, Cell, FigureData, Matrix, Series, Table
from hf_crosstask.report import cells
from hf_crosstask.report.data import ReportData, Section
from hf_crosstask.study.record import StudyVerdict, TaskVerdict

_CATEGORY = {
    "transfer": "transfer",
    "negative_transfer": "negative transfer",
    "equivalent": "equivalent",
    "undecided": "undecided",
    "no_verdict": "no verdict",
    "mixed": "mixed",
}


def verdict_section(data: ReportData) -> Section:
    """The answer, first."""
    summary, tables = [], []
    for number, (label, verdict) in enumerate(data.verdicts.items()):
        head = f"{label}: " if label else ""
        summary.append(f"{head}{_CATEGORY[verdict.category]}. {verdict.sentence}".strip())
        summary += [f"{head}warning: {text}" for text in verdict.warnings]
        tables.append(_verdicts(verdict, label, _name("verdict", number)))
        for each in verdict.tasks:
            summary += [f"{head}{each.task}: no verdict, because {reason}" for reason in each.reasons]
            summary += [f"{head}{each.task}: {text}" for text in each.warnings]
    summary += [f"missing or refused: {problem}" for problem in data.problems]
    if not data.verdicts:
        summary.append("No comparison could be made: see the missing or refused runs.")
    return Section("verdict", Analysis(kind="verdict", title="Verdict", summary=summary, tables=tables))


def _verdicts(verdict: StudyVerdict, label: str, name: str) -> Table:
    rows: list[list[Cell]] = []
    for task in verdict.tasks:
        survived = sum(control.survived for control in task.controls)
        rows.append(
            [
                task.task,
                _CATEGORY[task.category] + (" (described only)" if task.descriptive else ""),
                task.gain,
                cells.estimate(task.total),
                cells.estimate(task.exposure),
                cells.estimate(task.transfer),
                cells.p_value(task.p_adjusted if task.p_adjusted is not None else task.p_transfer),
                f"{survived} of {len(task.controls)}" if task.controls else "–",
                task.claim,
            ]
        )
    headings = ["task", "verdict", "gain", "multi − single", "= exposure", "+ transfer"]
    return Table(
        name=name,
        caption="Verdict on each task" + (f": {label}" if label else ""),
        columns=[*headings, "p", "controls survived", "claim"],
        rows=rows,
        note=f"Intervals at {verdict.settings.level:.0%}, over seeds and documents. p: Holm-corrected over confirmatory "
        "tasks, else the largest over the controls.",
    )


def score_section(data: ReportData) -> Section:
    """Scores of every arm, the best and the second best marked."""
    tables, figures = [], []
    for number, (label, verdict) in enumerate(data.verdicts.items()):
        arms = list(dict.fromkeys(arm for task in verdict.tasks for arm in task.scores))
        rows: list[list[Cell]] = []
        for task in verdict.tasks:
            found = [task.scores.get(arm) for arm in arms]
            marks = [cells.stars(_against(task, arm)) for arm in arms]
            rows.append(
                [
                    task.task,
                    task.metric,
                    *cells.ranked(
                        [each.mean if each else None for each in found],
                        [cells.score(each.mean, each.sd) if each else "" for each in found],
                        marks,
                    ),
                ]
            )
        if verdict.normalised:
            means = [verdict.normalised.get(arm) for arm in arms]
            texts = ["" if mean is None else f"{mean:.4f}" for mean in means]
            rows.append(["normalised mean", "share of the way from trivial to 1", *cells.ranked(means, texts)])
        caption = "Score of each arm, mean ± standard deviation over seeds" + (f": {label}" if label else "")
        note = "Bold: best; underlined: second. Stars at a control: the multi-task arm differs from it, p < .05, .01, .001."
        tables.append(
            Table(name=_name("main", number), caption=caption, columns=["task", "metric", *arms], rows=rows, note=note)
        )
        figures.append(
            FigureData(
                name=_name("scores", number),
                caption=caption + "; bars end at the mean, whiskers are one standard deviation.",
                kind="bars",
                y_label="score",
                series=[_score_series(verdict, arm) for arm in arms],
            )
        )
    summary = [] if data.verdicts else ["not available: no comparison could be made"]
    content = Analysis(kind="scores", title="Scores", summary=summary, tables=tables, figures=figures)
    return Section("scores", content)


def _score_series(verdict: StudyVerdict, arm: str) -> Series:
    present = [(task.task, task.scores[arm]) for task in verdict.tasks if arm in task.scores]
    return Series(
        name=arm,
        x=[task for task, _ in present],
        y=[score.mean for _, score in present],
        low=[score.mean - (score.sd or 0) for _, score in present],
        high=[score.mean + (score.sd or 0) for _, score in present],
    )


def _against(task: TaskVerdict, arm: str) -> float | None:
    return next((control.difference.p for control in task.controls if control.arm == arm), None)


def token_control_section(data: ReportData) -> Section:
    """Exposure and transfer, every control, and the proof that tokens were equal."""
    tables, figures, sentences = [], [], []
    for number, (label, verdict) in enumerate(data.verdicts.items()):
        head = f": {label}" if label else ""
        sentences += [task.sentence for task in verdict.tasks if task.sentence]
        controls: list[list[Cell]] = []
        parity: list[list[Cell]] = []
        for task in verdict.tasks:
            for control in task.controls:
                controls.append(
                    [
                        task.task,
                        control.arm,
                        control.mode,
                        control.rules_out,
                        cells.estimate(control.difference),
                        cells.p_value(control.difference.p),
                        control.survived,
                    ]
                )
                parity += [
                    [
                        task.task,
                        control.arm,
                        each.seed,
                        each.unit,
                        each.reference_planned,
                        each.reference_counted,
                        each.control_planned,
                        each.control_counted,
                        each.difference,
                        each.holds,
                    ]
                    for each in control.parity
                ]
        tables += [
            Table(
                name=_name("token_controlled", number),
                caption=f"The multi-task arm against each control{head}",
                columns=["task", "control", "matched by", "rules out", "difference", "p", "survived"],
                rows=controls,
                note="p: two-sided, uncorrected.",
            ),
            Table(
                name=_name("parity", number),
                caption=f"Token parity: planned and counted in both arms{head}",
                columns=[
                    *("task", "control", "seed", "unit", "reference planned", "reference counted"),
                    *("control planned", "control counted", "difference", "holds"),
                ],
                rows=parity,
            ),
            _effects(verdict, head, number),
        ]
        figures.append(_forest(verdict, head, number))
    content = Analysis(
        kind="token_control", title="Token-controlled analysis", summary=sentences, tables=tables, figures=figures
    )
    return Section("token-control", content)


def _effects(verdict: StudyVerdict, head: str, number: int) -> Table:
    rows: list[list[Cell]] = []
    for task in verdict.tasks:
        effects = task.over_seeds
        if effects is None:
            continue
        equal = task.equivalence
        rows.append(
            [
                task.task,
                effects.difference,
                effects.d_z,
                effects.hedges_g,
                effects.cohens_d_pooled,
                cells.p_value(effects.p),
                cells.p_value(effects.sign_flip_p),
                cells.p_value(task.permutation.p if task.permutation else None),
                cells.p_value(equal.p_adjusted) if equal else _not_tested(task, verdict),
                task.detectable,
            ]
        )
    columns = ["task", "difference", "d_z", "Hedges g", "Cohen's d (pooled)", "paired t p", "sign-flip p"]
    return Table(
        name=_name("effects", number),
        caption=f"Multi-task − primary control: effect sizes and secondary tests{head}",
        columns=[*columns, "permutation p", "equivalence p", "detectable"],
        rows=rows,
        note="d_z, g, t and sign-flip are over seeds with the test set fixed; pooled d ignores the pairing. The "
        "permutation is about the trained models at hand. Detectable: the true difference found with 80 % power.",
    )


def _not_tested(task: TaskVerdict, verdict: StudyVerdict) -> str:
    """Why equivalence was not tested."""
    if verdict.settings.margin is None:
        return "no margin declared"
    return "nothing learned" if task.at_floor else "not tested"


def _forest(verdict: StudyVerdict, head: str, number: int) -> FigureData:
    parts = {"transfer": "transfer", "exposure": "exposure", "total": "multi − single"}
    series = []
    for part, name in parts.items():
        found = [(task.task, getattr(task, part)) for task in verdict.tasks if getattr(task, part) is not None]
        if found:
            series.append(
                Series(
                    name=name,
                    x=[task for task, _ in found],
                    y=[each.estimate for _, each in found],
                    low=[each.low for _, each in found],
                    high=[each.high for _, each in found],
                )
            )
    return FigureData(
        name=_name("decomposition", number),
        caption=f"What the multi-task arm gains, taken apart: exposure + transfer = multi − single{head}. Bars are "
        f"{verdict.settings.level:.0%} intervals; left of 0 is worse.",
        kind="forest",
        x_label="difference in the metric",
        series=series,
        reference="zero",
    )


def transfer_section(data: ReportData) -> Section:
    """Transfer of every task in every comparison, at a glance."""
    labels = list(data.verdicts)
    tasks = list(dict.fromkeys(task.task for verdict in data.verdicts.values() for task in verdict.tasks))
    found = {
        (label, task.task): task.transfer.estimate
        for label, verdict in data.verdicts.items()
        for task in verdict.tasks
        if task.transfer is not None
    }
    if not found:
        return Section("transfer", not_run("transfer", "Transfer heat map", "no verdict gave an estimate"))
    values = [[found.get((label, task)) for task in tasks] for label in labels]
    figure = FigureData(
        name="transfer_heatmap",
        caption="Transfer (multi-task − single-task at equal tokens) of each task (columns) in each comparison (rows).",
        kind="heatmap",
        matrix=Matrix(rows=[label or data.name for label in labels], columns=tasks, values=values),
    )
    return Section(
        "transfer", Analysis(kind="transfer", title="Transfer heat map", summary=list(_best(found)), figures=[figure])
    )


def _best(found: dict[tuple[str, str], float]) -> Iterator[str]:
    high, low = max(found, key=lambda key: found[key]), min(found, key=lambda key: found[key])
    yield f"Largest estimate: {' / '.join(part for part in high if part)} {found[high]:+.4f}."
    yield f"Smallest estimate: {' / '.join(part for part in low if part)} {found[low]:+.4f}."


def not_run(kind: str, title: str, why: str) -> Analysis:
    """A section whose analysis was not run says so in one line."""
    return Analysis(kind=kind, title=title, summary=[f"Not run: {why}."])


def _name(stem: str, number: int) -> str:
    return stem if number == 0 else f"{stem}_{number + 1}"
