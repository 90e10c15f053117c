"""The table of a sequential run: every task's score after every stage, and what was forgotten."""

from __future__ import annotations

import sys
from typing import TextIO

from rich.box import ASCII2
from rich.console import Console
from rich.table import Table

from hf_crosstask.evaluation.result import RunResult, StagesResult

_PLAIN_WIDTH = 400


def stages_table(stages: StagesResult) -> Table:
    """One row a stage, one column a task that has scores; the last row says what each lost since its own stage."""
    tasks = [task for task in stages.order if task in stages.metric]
    splits = sorted(set(stages.split.values()))
    where = splits[0] if len(splits) == 1 else ", ".join(f"{task}: {split}" for task, split in stages.split.items())
    table = Table(title=f"scores after each stage ({where})", title_justify="left", box=ASCII2)
    table.add_column("after the stage of", no_wrap=True)
    for task in tasks:
        table.add_column(f"{task} {stages.metric[task]}", justify="right", no_wrap=True)
    for stage in stages.after:
        shown = (stage.scores[task] for task in tasks)
        table.add_row(
            stage.task,
            *("n/a" if score is None else f"{score:.4f}" for score in shown),
            end_section=stage is stages.after[-1],
        )
    lost = (stages.forgetting.get(task) for task in tasks)
    table.add_row("forgotten", *("" if value is None else f"{value:+.4f}" for value in lost))
    return table


def print_stages(result: RunResult, file: TextIO | None = None) -> None:
    """Print the table of a sequential run; nothing for others."""
    if result.stages is None:
        return
    file = file or sys.stdout
    Console(file=file, width=None if file.isatty() else _PLAIN_WIDTH).print(stages_table(result.stages))
