"""A report as rich tables: for a terminal, and plain text elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from hf_crosstask.data_report.report import DataReport, PublishedCount, SplitStatistics, Tokenizer, TokenLengths
from hf_crosstask.tasks.schema import SPLITS

if TYPE_CHECKING:
    from rich.table import Table


def tables(report: DataReport) -> list[Table]:
    """The report as rich tables; those with nothing to say are left out."""
    found = [_sizes(report), _words(report)]
    if report.tokenizer:
        found.append(_tokens(report, report.tokenizer))
    found += [_labels(report), _published(report), _dropped(report)]
    if len(report.tasks) > 1:
        words = report.vocabulary
        found += [
            _vocabulary(report),
            _matrix("Jaccard index of the training vocabularies", words.jaccard, _index),
            _matrix(
                "Word types of the evaluated split (rows) in the training split (columns)", words.coverage, _share
            ),
            _names(report),
        ]
    found.append(_warnings(report))
    return [table for table in found if table.row_count]


def _sizes(report: DataReport) -> Table:
    table = _table("Data", ["split", "type"], ["examples", "documents", "entities", "relations", "labels"])
    for task, split, found in _each_split(report):
        table.add_row(
            f"{task}/{split}",
            report.tasks[task].type,
            *_counts(found.examples, found.documents, found.entities, found.relations, found.labels),
        )
    return table


def _words(report: DataReport) -> Table:
    table = _table("Length in words", ["split"], ["mean", "50 %", "90 %", "95 %", "99 %", "longest"])
    for task, split, found in _each_split(report):
        words = found.words
        table.add_row(
            f"{task}/{split}", f"{words.mean:.1f}", *_counts(words.p50, words.p90, words.p95, words.p99, words.max)
        )
    return table


def _tokens(report: DataReport, tokenizer: Tokenizer) -> Table:
    headings = ["mean", "50 %", "90 %", "95 %", "99 %", "longest", f"longer than\n{tokenizer.max_length} (recipe)"]
    table = _table(f"Length in tokens of {tokenizer.name}", ["split"], [*headings, "suggested\nmax_length", "covers"])
    for task, found in report.tasks.items():
        for split, each in found.splits.items():
            if each.tokens:
                table.add_row(f"{task}/{split}", *_token_cells(each.tokens))
        if found.tokens:
            table.add_row(f"{task} (all)", *_token_cells(found.tokens), end_section=True)
    covered = min((found.tokens.covered for found in report.tasks.values() if found.tokens), default=0.0)
    table.caption_justify = "left"
    table.caption = (
        f"model.max_length={report.suggested_max_length} covers {covered:.1%} of the examples or more in every task; the "
        f"model takes at most {tokenizer.longest:,}"
    )
    return table


def _token_cells(tokens: TokenLengths) -> list[str]:
    return [
        f"{tokens.mean:.1f}",
        *_counts(tokens.p50, tokens.p90, tokens.p95, tokens.p99, tokens.max, tokens.longer_than_recipe),
        *_counts(tokens.suggested_max_length),
        f"{tokens.covered:.1%}",
    ]


def _labels(report: DataReport) -> Table:
    table = _table("Labels", ["task", "label", "share of"], SPLITS)
    for task, found in report.tasks.items():
        balances = {split: each.balance for split, each in found.splits.items() if each.balance}
        labels = list(dict.fromkeys(label for each in balances.values() for label in each.labels))
        for label in labels:
            cells = []
            for split in SPLITS:
                counted = balances[split].labels.get(label) if split in balances else None
                cells.append(f"{counted.count:,} ({counted.share:.1%})" if counted else "-")
            unit = next(iter(balances.values())).unit
            table.add_row(task, label, unit, *cells, end_section=label == labels[-1])
    return table


def _published(report: DataReport) -> Table:
    table = _table("Published counts", ["split", "count"], ["published", "read", "lost", "difference"], ["remark"])
    for task, found in report.tasks.items():
        for count in found.published:
            table.add_row(
                f"{task}/{count.split}",
                count.name,
                *_counts(count.published, count.read, count.lost),
                f"{count.difference:+,}" if count.difference else "",
                _remark(count),
                style="bold" if count.difference else None,
            )
    return table


def _remark(count: PublishedCount) -> str:
    if count.difference is None:
        return f"not compared: {count.note}"
    return "DIFFERS" + (f": {count.note}" if count.note else "") if count.difference else ""


def _dropped(report: DataReport) -> Table:
    table = _table("What readers drop, and gold that no example can carry", ["split", "what"], ["count"])
    for task, found in report.tasks.items():
        for split, reasons in found.dropped.items():
            for reason, count in reasons.items():
                table.add_row(f"{task}/{split}", reason, *_counts(count))
        for split, labels in found.lost_gold.items():
            for label, count in labels.items():
                table.add_row(f"{task}/{split}", f"lost gold: {label}", *_counts(count))
    return table


def _vocabulary(report: DataReport) -> Table:
    columns = ["train", "evaluated", "in own\ntrain", "in others'\ntrain", "in any\ntrain", "only in\nothers'"]
    table = _table("Word types, and where those of the evaluated split are found", ["task", "evaluated on"], columns)
    for task, found in report.vocabulary.tasks.items():
        table.add_row(
            task,
            found.evaluation_split or "-",
            *_counts(found.train, found.evaluation),
            *map(_share, (found.own, found.others, found.either)),
            "-" if found.own is None or found.either is None else _share(found.either - found.own),
        )
    return table


def _matrix(
    title: str, values: Mapping[str, Mapping[str, float | None]], show: Callable[[float | None], str]
) -> Table:
    table = _table(title, ["task"], list(values))
    for task, row in values.items():
        table.add_row(task, *map(show, row.values()))
    return table


def _names(report: DataReport) -> Table:
    table = _table("Names of labels and entity types that tasks share", ["tasks"], ["Jaccard"], ["names"])
    for shared in report.shared_names:
        names = [*shared.exact, *(f"{left} = {right}" for left, right in shared.normalised)]
        if names:
            table.add_row(" and ".join(shared.tasks), _index(shared.jaccard), ", ".join(names))
    return table


def _warnings(report: DataReport) -> Table:
    table = _table("Look at", ["warning"], [])
    missing = [f"no lengths in tokens: {report.tokenizer_problem}"] if report.tokenizer_problem else []
    for warning in [*missing, *report.warnings]:
        table.add_row(warning, style="yellow")
    return table


def _each_split(report: DataReport) -> Iterator[tuple[str, str, SplitStatistics]]:
    for task, found in report.tasks.items():
        for split, each in found.splits.items():
            yield task, split, each


def _counts(*counts: int | None) -> list[str]:
    return ["-" if count is None else f"{count:,}" for count in counts]


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _index(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _table(title: str, names: Sequence[str], numbers: Sequence[str], remarks: Sequence[str] = ()) -> Table:
    """An empty table: columns of names, of right-aligned numbers, and of remarks."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in names:
        table.add_column(name)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    for name in remarks:
        table.add_column(name)
    return table
