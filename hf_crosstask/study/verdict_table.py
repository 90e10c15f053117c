"""The verdict table: what a study prints."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TextIO

from rich.box import ASCII2
from rich.console import Console
from rich.table import Table

from hf_crosstask.study.assess import Assessed
from hf_crosstask.study.multibootstrap import Estimate
from hf_crosstask.study.record import TaskVerdict

_PLAIN_WIDTH = 400


def print_verdicts(assessed: Sequence[Assessed], file: TextIO | None = None) -> None:
    """A table for each comparison, then its sentences, warnings and reasons."""
    file = file or sys.stdout
    console = Console(file=file, width=None if file.isatty() else _PLAIN_WIDTH, highlight=False)
    for each in assessed:
        console.print(_table(each))
        console.print(each.verdict.sentence, markup=False)
        for verdict in each.verdict.tasks:
            for reason in verdict.reasons:
                console.print(f"! {verdict.task}: no verdict: {reason}", markup=False)
        warnings = [*each.verdict.warnings, *(f"{v.task}: {text}" for v in each.verdict.tasks for text in v.warnings)]
        for text in dict.fromkeys(warnings):
            console.print(f"note: {text}", markup=False)


def _table(assessed: Assessed) -> Table:
    verdicts = assessed.verdict.tasks
    arms = list(dict.fromkeys(arm for verdict in verdicts for arm in verdict.scores))
    table = Table(title=assessed.comparison.name, title_justify="left", box=ASCII2)
    table.add_column("task", no_wrap=True)
    table.add_column("metric", no_wrap=True)
    for arm in arms:
        table.add_column(arm, justify="right", no_wrap=True)
    for heading in ("exposure", "transfer [95% CI]", "p (Holm)"):
        table.add_column(
            heading.replace("95%", f"{assessed.verdict.settings.level:.0%}"), justify="right", no_wrap=True
        )
    table.add_column("verdict", no_wrap=True)
    for verdict in verdicts:
        table.add_row(
            verdict.task,
            verdict.metric or "",
            *(_score(verdict, arm) for arm in arms),
            f"{verdict.exposure.estimate:+.4f}" if verdict.exposure else "",
            _interval(verdict.transfer),
            "" if verdict.p_adjusted is None else f"{verdict.p_adjusted:.2g}",
            _category(verdict),
        )
    return table


def _score(verdict: TaskVerdict, arm: str) -> str:
    score = verdict.scores.get(arm)
    if score is None:
        return ""
    return f"{score.mean:.4f}" + (f" ± {score.sd:.4f}" if score.sd is not None else "")


def _interval(estimate: Estimate | None) -> str:
    return "" if estimate is None else f"{estimate.estimate:+.4f} [{estimate.low:+.4f}, {estimate.high:+.4f}]"


def _category(verdict: TaskVerdict) -> str:
    text = verdict.category.replace("_", " ")
    if verdict.claim == "exploratory":
        text += " (exploratory)"
    return text + ("; gain is exposure" if verdict.gain == "exposure" else "")
