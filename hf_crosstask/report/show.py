"""An analysis on the terminal, and as JSON for a study's report."""

from __future__ import annotations

from pathlib import Path

from hf_crosstask.errors import InputError
from hf_crosstask.evaluation.analysis import Analysis, write_analysis
from hf_crosstask.report.cells import plain


def show_analysis(analysis: Analysis | None, json_file: Path | None) -> int:
    """Print an analysis's words and tables; with `json_file` also write it, figures included.

    A file in a study's folder `analyses` becomes a section of its report.

    Returns:
        0.

    Raises:
        InputError: there is nothing to analyse.
    """
    if analysis is None:
        raise InputError("none of the tasks makes decisions with a confidence: there is nothing to analyse")
    print(analysis.title)
    for line in analysis.summary:
        print(line)
    for table in analysis.tables:
        rows = [table.columns, *([plain(cell) for cell in row] for row in table.rows)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(table.columns))]
        print(f"\n{table.caption}")
        for number, row in enumerate(rows):
            print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
            if number == 0:
                print("  ".join("-" * width for width in widths))
        if table.note:
            print(table.note)
    if json_file is not None:
        print(f"\nwritten to {write_analysis(json_file, analysis)}")
    return 0
