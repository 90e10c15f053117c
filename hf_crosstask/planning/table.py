"""The plan as a table, for `--dry-run` and before training."""

from __future__ import annotations

import sys
from typing import Any, TextIO

from rich.box import ASCII2
from rich.console import Console
from rich.table import Table

_PLAIN_WIDTH = 400


def plan_table(summary: dict[str, Any]) -> Table:
    """One row a task and a total, from `TrainingPlan.summary()`."""
    tokens = summary["tokens"]
    table = Table(
        title=f"plan {summary['fingerprint'][:12]}: {summary['steps']:,} steps, {tokens['planned']:,} forward tokens",
        title_justify="left",
        box=ASCII2,
    )
    table.add_column("task", no_wrap=True)
    for heading in ("examples", "tokens", "share", "epochs", "most repeats", "micro-batches", "padding"):
        table.add_column(heading, justify="right", no_wrap=True)
    rows = summary["tasks"]
    for number, (task, row) in enumerate(rows.items(), start=1):
        table.add_row(
            task,
            f"{row['examples']:,}",
            f"{row['tokens']:,}",
            f"{row['share']:.1%}",
            f"{row['epochs']:.2f}",
            f"{row['most_repeats']}",
            f"{row['micro_batches']:,}",
            f"{1 - row['tokens'] / row['padded_tokens']:.1%}" if row["padded_tokens"] else "-",
            end_section=number == len(rows),
        )
    table.add_row(
        "total",
        f"{sum(row['examples'] for row in rows.values()):,}",
        f"{tokens['planned']:,}",
        "100.0%",
        "",
        "",
        f"{summary['micro_batches']:,}",
        f"{summary['padding_share']:.1%}",
    )
    if tokens["difference"]:
        table.caption = (
            f"{tokens['difference']:+,} tokens from the budget of {tokens['target']:,}: no set of examples sums to it"
        )
        table.caption_justify = "left"
    return table


def print_plan(summary: dict[str, Any], file: TextIO | None = None) -> None:
    """Print the plan: with colour on a terminal, as plain text elsewhere."""
    file = file or sys.stdout
    console = Console(file=file, width=None if file.isatty() else _PLAIN_WIDTH)
    console.print(plan_table(summary))
    stages = summary["parameters"].get("stages", ())
    if stages:
        shown = (f"{stage['task']} ({stage['end'] - stage['first']:,} steps{_rehearsed(stage)})" for stage in stages)
        console.print(f"one stage after another: {', '.join(shown)}", highlight=False)


def _rehearsed(stage: dict[str, Any]) -> str:
    return f", {stage['rehearsal']:,} tokens of earlier tasks" if stage["rehearsal"] else ""
