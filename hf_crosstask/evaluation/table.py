"""The closing table of a run: task, metric, score with its interval, majority baseline, tokens, epochs."""

from __future__ import annotations

import io
import sys
from typing import TextIO

from rich.box import ASCII2
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hf_crosstask.evaluation.result import MetricValue, RunResult

#: Wide enough that no cell of a plain-text table wraps.
_PLAIN_WIDTH = 400


def closing_table(result: RunResult) -> Table:
    """A rich table with one row a task (its primary metric) and a line of totals; ASCII characters only.

    A score that does not exceed its majority baseline is marked with `!`. Intervals are those of the result (95 %
    bootstrap); `n/a` stands where none could be estimated. Tasks that were trained on their text alone have no score.
    """
    title = f"{result.experiment_id}: {result.strategy}, seed {result.seed}"
    table = Table(title=Text(_ascii(title)), title_justify="left", box=ASCII2)
    table.add_column("task", overflow="fold")
    table.add_column("metric", overflow="fold")
    for heading in (Text("score [95% CI]"), "majority", "tokens", "epochs"):
        table.add_column(heading, justify="right", overflow="fold")
    last = list(result.trained)[-1:]
    for name, task in result.tasks.items():
        metrics = task.metrics
        score = metrics.values[metrics.primary]
        table.add_row(
            Text(_ascii(name)),
            Text(metrics.primary),
            Text(_score(score, beaten=score.value > metrics.majority)),
            f"{metrics.majority:.4f}",
            f"{task.tokens.counted:,}",
            f"{task.epochs:.2f}",
            end_section=[name] == last,
        )
    for name, text in result.text_tasks.items():
        row = (
            Text(_ascii(name)),
            Text("trained on text only"),
            "",
            "",
            f"{text.tokens.counted:,}",
            f"{text.epochs:.2f}",
        )
        table.add_row(*row, end_section=[name] == last)
    table.add_row("total", "", "", "", f"{result.tokens.counted:,}", "")
    if any(task.metrics.values[task.metrics.primary].value <= task.metrics.majority for task in result.tasks.values()):
        table.caption = "! does not exceed the majority baseline"
        table.caption_justify = "left"
    return table


def print_table(result: RunResult, file: TextIO | None = None) -> None:
    """Print the closing table: with colour on a terminal, as plain text of its natural width elsewhere."""
    file = file or sys.stdout
    if file.isatty():
        Console(file=file).print(closing_table(result))
    else:
        file.write(render(result))


def render(result: RunResult) -> str:
    """The closing table as plain ASCII text."""
    buffer = io.StringIO()
    Console(file=buffer, width=_PLAIN_WIDTH, force_terminal=False, color_system=None).print(closing_table(result))
    return "".join(line.rstrip() + "\n" for line in buffer.getvalue().splitlines())


def _score(score: MetricValue, *, beaten: bool) -> str:
    interval = "n/a" if score.low is None or score.high is None else f"{score.low:.4f}, {score.high:.4f}"
    return f"{'' if beaten else '! '}{score.value:.4f} [{interval}]"


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode()
