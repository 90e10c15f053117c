"""The sections that runs fill: data, leakage, ablations and parameters, gradient conflicts, cost, provenance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import mean

from hf_crosstask.evaluation.analysis import Analysis, Cell, FigureData, Matrix, Series, Table
from hf_crosstask.report.data import ANALYSES, ReportData, Section, StudyRun
from hf_crosstask.report.energy import energy_note, watt_hours
from hf_crosstask.report.verdict_sections import not_run

_ABLATIONS = ("A1", "A2", "A3", "A4")


def data_section(data: ReportData) -> Section:
    """What was trained and tested on; with `hf-crosstask data` also lengths, labels and overlaps."""
    rows: list[list[Cell]] = []
    seen = set()
    for run in data.runs:
        for name, task in run.result.tasks.items():
            key = (name, task.data_fingerprint, task.tokens.unique)
            if key in seen:
                continue
            seen.add(key)
            examples = [task.examples.get(split) for split in ("train", "validation", "test")]
            lost = sum(sum(labels.values()) for labels in task.lost_gold.values())
            rows.append([name, task.type, *examples, task.tokens.unique, lost, (task.data_fingerprint or "")[:12]])
    table = Table(
        name="data",
        caption="Tasks as trained and tested",
        columns=["task", "type", "train", "validation", "test", "unique training tokens", "gold lost", "fingerprint"],
        rows=rows,
        note="Gold lost: annotations that no example can carry; they count as misses.",
    )
    found = (data.analyses or {}).get("data", ())
    content = Analysis(
        kind="data",
        title="Data",
        summary=[line for each in found for line in each.summary],
        tables=[table, *(table for each in found for table in each.tables)],
        figures=[figure for each in found for figure in each.figures],
    )
    return Section("data", content)


def leakage_section(data: ReportData) -> Section:
    """What the audit found and what was done about it."""
    audits = [(run, run.result.audit) for run in data.runs if run.result.audit is not None]
    if not audits:
        return Section("leakage", not_run("leakage", "Leakage", "no run was audited"))
    rows: dict[tuple[str, ...], list[Cell]] = {}
    for _, audit in audits:
        for pair in audit.get("leaks", []):
            evaluation = f"{pair['evaluation_task']}/{pair['evaluation_split']}"
            leak, within = pair["leak"], pair["train_task"] == pair["evaluation_task"]
            policy = audit["within_task"] if within else audit["policy"]
            counts = [leak["evaluation_examples"], leak["evaluation_documents"], leak["train_examples"]]
            rows.setdefault((pair["train_task"], evaluation), [pair["train_task"], evaluation, *counts, policy])
    policies = sorted({audit["policy"] for _, audit in audits})
    summary = [f"{len(audits)} of {len(data.runs)} runs were audited; policy: {', '.join(policies)}."]
    if not rows:
        summary.append("No evaluation example was found in any training split.")
    table = Table(
        name="leakage",
        caption="Evaluation examples found in training data, before the policy was applied",
        columns=["trains on", "evaluates on", "evaluation examples", "documents", "training examples", "policy"],
        rows=list(rows.values()),
    )
    tables = [table] if rows else []
    return Section("leakage", Analysis(kind="leakage", title="Leakage", summary=summary, tables=tables))


def ablation_section(data: ReportData) -> Section:
    """Ablations at equal parameters, where the study has them; parameters of every arm."""
    rows: list[list[Cell]] = []
    for arm in data.arms:
        runs = [run for run in data.runs if run.arm == arm]
        counts = [run.result.parameters for run in runs]
        rows.append(
            [
                arm,
                runs[0].result.strategy,
                _spread([count.total for count in counts]),
                _spread([count.trainable for count in counts]),
                _spread([count.trainable - min(count.heads, count.trainable) for count in counts]),
                _spread([count.heads for count in counts]),
                *_scores(runs),
            ]
        )
    has = sorted({run.result.strategy for run in data.runs} & set(_ABLATIONS))
    summary = [] if has else ["The ablations A1–A4 at equal parameters were not run in this study."]
    table = Table(
        name="ablation" if has else "parameters",
        caption="Parameters of each arm" + (", ablations at equal trainable parameters" if has else ""),
        columns=["arm", "strategy", "all", "trainable", "trainable without heads", "in heads", "mean primary score"],
        rows=rows,
    )
    return Section(
        "ablation", Analysis(kind="ablation", title="Ablations and parameters", summary=summary, tables=[table])
    )


def _spread(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,}–{high:,}"


def _scores(runs: Sequence[StudyRun]) -> list[Cell]:
    scores = [task.metrics.values[task.metrics.primary].value for run in runs for task in run.result.tasks.values()]
    return [mean(scores)]


def conflict_section(data: ReportData) -> Section:
    """Cosines between the tasks' gradients, of the runs that measured them."""
    figures: list[FigureData] = []
    tables: list[Table] = []
    for run in data.runs:
        pairs = [
            (*pair["tasks"], pair["mean"], pair["negative"], pair["steps"])
            for pair in run.result.gradient_conflicts or ()
        ]
        if not pairs or any(figure.name == f"conflicts_{_stem(run.arm)}" for figure in figures):
            continue
        tasks = list(dict.fromkeys(task for pair in pairs for task in pair[:2]))
        cosine = {(a, b): value for a, b, value, *_ in pairs} | {(b, a): value for a, b, value, *_ in pairs}
        values = [[1.0 if a == b else cosine.get((a, b)) for b in tasks] for a in tasks]
        figures.append(
            FigureData(
                name=f"conflicts_{_stem(run.arm)}",
                caption=f"{run.arm}, seed {run.seed}: mean cosine of the tasks' gradients of shared parameters.",
                kind="heatmap",
                matrix=Matrix(rows=tasks, columns=tasks, values=values),
            )
        )
        tables.append(
            Table(
                name=f"conflicts_{_stem(run.arm)}",
                caption=f"{run.arm}, seed {run.seed}: gradient conflicts",
                columns=["task", "task", "mean cosine", "share of steps in conflict", "steps"],
                rows=[list(pair) for pair in pairs],
            )
        )
    if not figures:
        why = "no run measured gradient conflicts (they are measured where `strategy.surgery` is on)"
        return Section("conflicts", not_run("conflicts", "Gradient conflicts", why))
    content = Analysis(kind="conflicts", title="Gradient conflicts", summary=[], tables=tables, figures=figures)
    return Section("conflicts", content)


def _stem(arm: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in arm.lower())


def dose_section(data: ReportData) -> Section:
    """How scores answer to the other tasks' share of the tokens."""
    if not data.doses:
        return Section("dose", not_run("dose", "Dose and response", "the study has no arm with `shares`"))
    series = []
    for arm, task in dict.fromkeys((dose.arm, dose.task) for dose in data.doses):
        own = [dose for dose in data.doses if (dose.arm, dose.task) == (arm, task)]
        shares = sorted({dose.share for dose in own})
        values = [[dose.value for dose in own if dose.share == share] for share in shares]
        series.append(
            Series(
                name=f"{arm}: {task}",
                x=list(shares),
                y=[mean(each) for each in values],
                low=[min(each) for each in values],
                high=[max(each) for each in values],
            )
        )
    figure = FigureData(
        name="dose_response",
        caption="Score against the other tasks' share of the tokens, all runs on equally many tokens. Bands: all seeds.",
        kind="lines",
        x_label="share of the other tasks",
        y_label="score",
        series=series,
    )
    return Section("dose", Analysis(kind="dose", title="Dose and response", summary=[], figures=[figure]))


def cost_section(data: ReportData) -> Section:
    """What training took."""
    rows: list[list[Cell]] = []
    hours_in_all = 0.0
    points = []
    for arm in data.arms:
        runs = [run for run in data.runs if run.arm == arm]
        seconds = sum(run.result.train.runtime_s for run in runs)
        hours = seconds / 3600
        hours_in_all += hours
        tokens = sum(run.result.tokens.counted for run in runs)
        score = _scores(runs)[0]
        memory = max(run.result.train.peak_memory_bytes for run in runs)
        price = None if data.price_per_hour is None else hours * data.price_per_hour
        padding = 1 - tokens / max(1, sum(run.result.tokens.padded for run in runs))
        speed = f"{tokens / seconds:,.0f}" if seconds else None
        energy = watt_hours([run.result for run in runs])
        rows.append(
            [arm, len(runs), tokens, f"{padding:.1%}", f"{hours:.3f}", speed, f"{memory / 2**20:,.0f}", price, energy]
        )
        points.append((arm, tokens / len(runs), score))
    table = Table(
        name="efficiency",
        caption="What training took, per arm",
        columns=["arm", "runs", "tokens", "padding", "hours", "tokens/s", "peak memory, MiB", "price", "Wh per run"],
        rows=rows,
        note=f"Hours of the device the runs had (see provenance). {energy_note([run.result for run in data.runs])} "
        + ("" if data.price_per_hour is not None else "Give --price-per-hour for prices."),
    )
    figure = FigureData(
        name="tokens_against_score",
        caption="Mean primary score of each arm against the tokens of one of its runs.",
        kind="scatter",
        x_label="forward tokens of a run",
        y_label="mean primary score",
        series=[Series(name=arm, x=[tokens], y=[score]) for arm, tokens, score in points],  # type: ignore[list-item]
    )
    summary = [f"All runs together: {hours_in_all:.2f} hours."]
    content = Analysis(kind="cost", title="Cost", summary=summary, tables=[table], figures=[figure])
    return Section("cost", content)


def provenance_section(data: ReportData) -> Section:
    """Every run with what fixed it."""
    rows: list[list[Cell]] = [
        [
            run.arm,
            ", ".join([*run.tasks, *(f"{task} (text only)" for task in run.result.text_tasks)]),
            run.seed,
            run.result.tokens.planned,
            run.result.tokens.counted,
            run.result.fingerprints.recipe[:12],
            run.result.fingerprints.data[:12],
            run.result.fingerprints.plan[:12],
            run.id,
        ]
        for run in data.runs
    ]
    table = Table(
        name="all_runs",
        caption="Runs",
        columns=["arm", "tasks", "seed", "planned", "counted", "recipe", "data", "plan", "folder"],
        rows=rows,
    )
    versions = sorted({str(sorted(run.result.environment.versions.items())) for run in data.runs})
    hardware = sorted({run.result.environment.hardware for run in data.runs})
    summary = [f"Hardware: {', '.join(hardware)}."] if hardware else []
    for run in data.runs[:1]:
        listed = ", ".join(f"{name} {version}" for name, version in sorted(run.result.environment.versions.items()))
        summary.append(f"Versions: {listed}.")
    if len(versions) > 1:
        summary.append("Warning: runs were made with different versions.")
    return Section("provenance", Analysis(kind="provenance", title="Provenance", summary=summary, tables=[table]))


def analysis_sections(kinds: Sequence[str]) -> list[Callable[[ReportData], Section]]:
    """A section for each kind of analysis: what it found, or one line that it was not run."""

    def section(kind: str) -> Callable[[ReportData], Section]:
        title, command = ANALYSES[kind]

        def made(data: ReportData) -> Section:
            found = (data.analyses or {}).get(kind, ())
            if not found:
                return Section(kind, not_run(kind, title, f"`{command}` makes it"))
            content = Analysis(
                kind=kind,
                title=title,
                summary=[line for each in found for line in each.summary],
                tables=[
                    table.model_copy(update={"name": _numbered(table.name, number)})
                    for number, each in enumerate(found)
                    for table in each.tables
                ],
                figures=[
                    figure.model_copy(update={"name": _numbered(figure.name, number)})
                    for number, each in enumerate(found)
                    for figure in each.figures
                ],
            )
            return Section(kind, content)

        return made

    return [section(kind) for kind in kinds]


def _numbered(name: str, number: int) -> str:
    return name if number == 0 else f"{name}_{number + 1}"
