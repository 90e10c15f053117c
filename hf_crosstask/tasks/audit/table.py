"""An audit report as tables: for a terminal (rich) and as plain text (error messages)."""

from __future__ import annotations

from collections.abc import Iterable
from io import StringIO
from typing import TYPE_CHECKING

from hf_crosstask.tasks.audit.report import AuditReport, Kind, SplitPair

if TYPE_CHECKING:
    from rich.table import Table

_HEADERS: dict[Kind, str] = {
    "document": "same\ndocument",
    "identical": "identical",
    "near_duplicate": "near-\nduplicate",
    "ngram": "13-gram",
    "identical_short": "identical,\n< 7 words",
}


def tables(report: AuditReport) -> list[Table]:
    """The report as rich tables: what the audit could see of each split, then the overlaps it found.

    Overlaps within one task and between tasks are separate tables; pairs of splits without any overlap are left out.
    """
    between = [pair for pair in report.pairs if pair.overlaps and not pair.within_task]
    within = [pair for pair in report.pairs if pair.overlaps and pair.within_task]
    return [
        _coverage(report),
        _overlaps(report, between, "Evaluation examples found in another task's training split", tuple(_HEADERS)),
        _overlaps(report, within, "Evaluation examples found in their own task's training split", tuple(_HEADERS)),
    ]


def plain_table(report: AuditReport, pairs: Iterable[SplitPair]) -> str:
    """The leaks of some pairs as text without colour, for messages; kinds that are no leak are left out."""
    from rich.console import Console

    output = StringIO()
    console = Console(file=output, width=200, color_system=None, highlight=False)
    console.print(_overlaps(report, list(pairs), None, report.leak_kinds))
    return "\n".join(line.rstrip() for line in output.getvalue().rstrip().split("\n"))


def _overlaps(report: AuditReport, pairs: list[SplitPair], title: str | None, kinds: tuple[Kind, ...]) -> Table:
    table = _table(title)
    table.add_column("evaluation split", no_wrap=True)
    table.add_column("in train of", no_wrap=True)
    table.add_column("leaked\nexamples", justify="right")
    table.add_column("of", justify="right")
    table.add_column("leaked\ndocuments", justify="right")
    for kind in kinds:
        table.add_column(_HEADERS[kind] + ("" if kind in report.leak_kinds else "\n(not counted)"), justify="right")
    table.add_column("training\nexamples", justify="right")
    for pair in pairs:
        total = report.examples(pair.evaluation_task, pair.evaluation_split)
        leak = pair.leak
        table.add_row(
            f"{pair.evaluation_task}/{pair.evaluation_split}",
            pair.train_task,
            f"{leak.evaluation_examples:,}" if leak else "0",
            f"{total:,}",
            f"{leak.evaluation_documents:,}" if leak else "0",
            *(_cell(pair, kind) for kind in kinds),
            f"{leak.train_examples:,}" if leak else "0",
        )
    if not pairs:
        table.add_row("none found", *[""] * (len(table.columns) - 1))
    return table


def _cell(pair: SplitPair, kind: Kind) -> str:
    if kind == "document" and not pair.comparable_examples:
        return "not comparable"
    overlap = pair.overlaps.get(kind)
    return f"{overlap.evaluation_examples:,}" if overlap else "0"


def _coverage(report: AuditReport) -> Table:
    table = _table("Audited splits")
    table.add_column("split", no_wrap=True)
    table.add_column("examples", justify="right")
    table.add_column("documents", justify="right")
    table.add_column("document ids")
    table.add_column("below 8 words\n(not covered)", justify="right")
    for split in report.splits:
        spaces = [f"{name} {count:,}" for name, count in split.id_spaces.items()]
        table.add_row(
            f"{split.task}/{split.split}",
            f"{split.examples:,}",
            f"{split.documents:,}",
            ", ".join(spaces),
            f"{split.short_examples:,}",
        )
    return table


def _table(title: str | None) -> Table:
    from rich import box
    from rich.table import Table

    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
