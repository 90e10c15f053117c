"""The report as Markdown and as a plain summary; tables as CSV and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from hf_crosstask.evaluation.analysis import Cell, Mark, Table
from hf_crosstask.report.cells import plain
from hf_crosstask.report.data import ReportData, Section

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "−": "$-$",
    "–": "--",
    "×": r"$\times$",
    "<": r"$<$",
    ">": r"$>$",
}


def render_markdown(title: str, description: str, sections: Sequence[Section]) -> str:
    """The whole report; figures are linked as files of `figures/`."""
    parts = [f"# {title}\n"]
    if description:
        parts.append(f"{description}\n")
    for section in sections:
        parts.append(f"## {section.content.title}\n")
        parts += [f"{line}\n" for line in section.content.summary]
        parts += [markdown_table(table) for table in section.content.tables]
        parts += [
            f"![{figure.caption.replace('[', '(').replace(']', ')')}](figures/{figure.name}.png)\n\n*{figure.caption}*\n"
            for figure in section.content.figures
        ]
    return "\n".join(parts)


def markdown_table(table: Table) -> str:
    """A table of GitHub's Markdown, its caption above and its note below."""
    lines = [f"**{table.caption}**", "", _row(table.columns), _row(["---"] * len(table.columns))]
    lines += [_row([_markdown(cell) for cell in row]) for row in table.rows]
    if table.note:
        lines += ["", f"<sub>{table.note}</sub>"]
    return "\n".join([*lines, ""])


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _markdown(cell: Cell) -> str:
    text = plain(cell).replace("|", "\\|").replace("\n", " ")
    if isinstance(cell, Mark):
        text = cell.text.replace("|", "\\|")
        text = f"**{text}**" if cell.best else f"<u>{text}</u>" if cell.second else text
        text += cell.mark.replace("*", "\\*")
    return text


def render_csv(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Comma-separated values: numbers in full, nothing where there is none."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow(
            ["" if cell is None else cell.text + cell.mark if isinstance(cell, Mark) else cell for cell in row]
        )
    return out.getvalue()


def render_latex(table: Table) -> str:
    r"""A `booktabs` table: best bold, second underlined. Needs `\usepackage{booktabs}`."""
    spec = "l" + "".join("r" if _numeric(table, column) else "l" for column in range(1, len(table.columns)))
    lines = [
        r"\begin{table}[t]",
        r"\centering",
        r"\small",
        f"\\caption{{{latex(table.caption)}." + (f" {latex(table.note)}" if table.note else "") + "}",
        f"\\label{{tab:{table.name.replace('_', '-')}}}",
        f"\\begin{{tabular}}{{{spec}}}",
        r"\toprule",
        " & ".join(map(latex, table.columns)) + r" \\",
        r"\midrule",
        *(" & ".join(map(_latex_cell, row)) + r" \\" for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _numeric(table: Table, column: int) -> bool:
    return all(
        row[column] is None or (isinstance(row[column], (int, float, Mark)) and not isinstance(row[column], bool))
        for row in table.rows
    )


def latex(text: str) -> str:
    """Text with LaTeX's special characters escaped."""
    return "".join(_LATEX.get(letter, letter) for letter in text)


def _latex_cell(cell: Cell) -> str:
    if not isinstance(cell, Mark):
        return latex(plain(cell))
    text = latex(cell.text)
    text = f"\\textbf{{{text}}}" if cell.best else f"\\underline{{{text}}}" if cell.second else text
    return text + (f"$^{{{cell.mark}}}$" if cell.mark else "")


def render_summary(data: ReportData) -> str:
    """What a message to a colleague would say."""
    lines = [data.name, "=" * len(data.name), ""]
    for label, verdict in data.verdicts.items():
        lines += [f"[{label}]"] if label else []
        lines += [f"{verdict.category.replace('_', ' ')}: {verdict.sentence}"]
        for task in verdict.tasks:
            lines.append(
                f"- {task.task}: {task.category.replace('_', ' ')}. {task.sentence or '; '.join(task.reasons)}"
            )
        lines += [f"warning: {text}" for text in verdict.warnings]
        lines.append("")
    lines += [f"missing or refused: {problem}" for problem in data.problems]
    return "\n".join(lines).rstrip() + "\n"
