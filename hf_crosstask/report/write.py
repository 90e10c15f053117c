"""Writing a report: one folder with the page, the same as Markdown, tables, figures and numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hf_crosstask.atomic import write_json, write_text
from hf_crosstask.evaluation.analysis import Cell
from hf_crosstask.report import run_sections, verdict_sections
from hf_crosstask.report.data import ReportData, Section
from hf_crosstask.report.figures import write_figure
from hf_crosstask.report.html import render_html
from hf_crosstask.report.text import render_csv, render_latex, render_markdown, render_summary

_CONTAMINATION, *_REST = run_sections.analysis_sections(["contamination", "probe", "calibration", "errors", "bench"])

#: The report's parts, in order.
SECTIONS: tuple[Callable[[ReportData], Section], ...] = (
    verdict_sections.verdict_section,
    verdict_sections.score_section,
    verdict_sections.token_control_section,
    verdict_sections.transfer_section,
    run_sections.dose_section,
    run_sections.ablation_section,
    run_sections.data_section,
    run_sections.leakage_section,
    _CONTAMINATION,
    *_REST,
    run_sections.conflict_section,
    run_sections.cost_section,
    run_sections.provenance_section,
)
#: The tables that papers print.
LATEX = ("verdict", "main", "token_controlled", "ablation", "parameters", "efficiency", "errors")
RESULT_COLUMNS = (
    *(
        "arm",
        "model",
        "strategy",
        "run_tasks",
        "seed",
        "task",
        "metric",
        "primary",
        "value",
        "low",
        "high",
        "majority",
    ),
    *("tokens_planned", "tokens_counted", "epochs", "trainable_parameters", "run"),
)


def write_report(data: ReportData, folder: Path) -> Path:
    """Write the whole report.

    Returns:
        `report.html`. Beside it: `report.md`, `SUMMARY.txt`, `statistics.json`, `all_results.csv`, `tables/*.csv`,
        `tables/*.tex`, `figures/*.png` and `.pdf`.
    """
    sections = [make(data) for make in SECTIONS]
    images = {}
    for section in sections:
        for figure in section.content.figures:
            images[figure.name] = write_figure(figure, folder / "figures")[0]
        for table in section.content.tables:
            write_text(folder / "tables" / f"{table.name}.csv", render_csv(table.columns, table.rows))
            if table.name.rstrip("0123456789").rstrip("_") in LATEX:
                write_text(folder / "tables" / f"{table.name}.tex", render_latex(table))
    write_text(folder / "all_results.csv", render_csv(RESULT_COLUMNS, all_results(data)))
    write_json(
        folder / "statistics.json",
        {label: verdict.model_dump(mode="json") for label, verdict in data.verdicts.items()},
    )
    write_text(folder / "SUMMARY.txt", render_summary(data))
    write_text(folder / "report.md", render_markdown(data.name, data.description, sections))
    return write_text(folder / "report.html", render_html(data.name, data.description, sections, images))


def all_results(data: ReportData) -> list[list[Cell]]:
    """One row for each metric of each task of each run."""
    return [
        [
            run.arm,
            run.model,
            run.result.strategy,
            "+".join(run.tasks),
            run.seed,
            name,
            metric,
            metric == task.metrics.primary,
            value.value,
            value.low,
            value.high,
            task.metrics.majority if metric == task.metrics.primary else None,
            task.tokens.planned,
            task.tokens.counted,
            task.epochs,
            run.result.parameters.trainable,
            run.id,
        ]
        for run in data.runs
        for name, task in run.result.tasks.items()
        for metric, value in task.metrics.values.items()
    ]
