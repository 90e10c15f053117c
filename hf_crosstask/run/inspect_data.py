"""Looking at a recipe's data without training: the leakage audit, and the data at a glance."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hf_crosstask.atomic import write_json
from hf_crosstask.data_report import DataReport, RecipeTokenizer, build_report, write_figures
from hf_crosstask.data_report import tables as report_tables
from hf_crosstask.data_report.overlap import input_texts
from hf_crosstask.errors import InputError
from hf_crosstask.recipe import Recipe
from hf_crosstask.tasks.audit import Audited, AuditReport, AuditSpec, LeakageError, apply_policy
from hf_crosstask.tasks.audit import tables as audit_tables
from hf_crosstask.tasks.load import TaskData, load_task

if TYPE_CHECKING:
    from rich.table import Table

#: Wide enough that no table wraps where there is no terminal.
_PLAIN_WIDTH = 400


def audit(recipe: Recipe, *, json_file: Path | None = None) -> int:
    """Audit the recipe's tasks for leakage, whatever happens to leaks: print the tables, write the JSON report.

    Returns:
        0: training would not stop on a leak.

    Raises:
        LeakageError: it would.
        InputError: the data are wrong, the file cannot be written, or a purge would leave a task without examples.
    """
    _check_targets(json_file=json_file)
    data = _load(recipe)
    unaudited = recipe.audit is None and len(data) == 1  # as `run.prepare.audit_data` has it
    try:
        audited = apply_policy(data, AuditSpec(policy="allow") if unaudited else recipe.audit)
    except LeakageError as error:
        _show_audit(error.report, json_file)
        raise
    _show_audit(audited.report, json_file)
    print(_outcome(audited, unaudited=unaudited))
    return 0


def inspect_data(recipe: Recipe, *, json_file: Path | None = None, figures: Path | None = None) -> int:
    """Show the data of a recipe at a glance: print the tables, write the JSON report and the figures.

    Returns:
        0.

    Raises:
        InputError: the data or the name of a tiny model are wrong, or a file cannot be written. A tokenizer that
            cannot be loaded is no error: lengths are then in words alone.
    """
    _check_targets(json_file=json_file, figures=figures)
    report = _report(recipe, _load(recipe))
    _print_tables(report_tables(report))
    if json_file is not None:
        _write_json(json_file, report)
    if figures is not None:
        with _writing(figures):
            files = write_figures(report, figures)
        for file in files:
            print(f"wrote {file}")
    return 0


def _load(recipe: Recipe) -> dict[str, TaskData]:
    data_dir = Path(recipe.data_dir).expanduser() if recipe.data_dir else None
    return {spec.name: load_task(spec, data_dir=data_dir) for spec in recipe.tasks}


def _show_audit(report: AuditReport, json_file: Path | None) -> None:
    _print_tables(audit_tables(report))
    if json_file is not None:
        _write_json(json_file, report)


def _outcome(audited: Audited, *, unaudited: bool) -> str:
    leaks = audited.report.leaks()
    if not leaks:
        unasked = "; training would not have looked: the recipe has one task and sets no audit" if unaudited else ""
        return f"no leaks{unasked}"
    if unaudited:
        return (
            "training would not stop on these leaks: the recipe has one task and sets no audit "
            "(audit.policy=error stops, audit.policy=purge drops the training examples)"
        )
    dropped = {task: count for task, count in audited.purged.dropped.items() if count} if audited.purged else {}
    if not dropped:
        return "the recipe's policy allows these leaks"
    before = audited.purged.before if audited.purged else {}
    drops = ", ".join(f"{task} {count:,} of {before[task]:,}" for task, count in dropped.items())
    return f"the recipe's policy drops training examples that leak: {drops}"


def _report(recipe: Recipe, data: Mapping[str, TaskData]) -> DataReport:
    with tempfile.TemporaryDirectory(prefix="hf_crosstask-") as folder:
        name = _tokenizer_source(recipe, data, Path(folder))
        try:
            tokenizer = _tokenizer(recipe, name)
        except InputError as error:
            return build_report(data, recipe=recipe.name, tokenizer=None, problem=str(error))
        return build_report(data, recipe=recipe.name, tokenizer=tokenizer)


def _tokenizer_source(recipe: Recipe, data: Mapping[str, TaskData], folder: Path) -> str:
    """Name or folder of the recipe's model; a tiny one is made, as training makes it from the same texts."""
    from hf_crosstask.models.tiny import build_tiny, is_tiny

    name = recipe.model.name_or_path
    if not is_tiny(name):
        return name
    train = [each.splits["train"] for each in data.values() if "train" in each.splits]
    return str(build_tiny(name, [text for examples in train for text in input_texts(examples)], folder, seed=0))


def _tokenizer(recipe: Recipe, name: str) -> RecipeTokenizer:
    """The tokenizer of the recipe's model.

    Raises:
        InputError: it, or the model's configuration, cannot be loaded.
    """
    from hf_crosstask.models.backbone import Source, is_causal, load_config, load_tokenizer

    model = recipe.model
    source = Source(name, model.revision, model.trust_remote_code, model.attn_implementation)
    config, tokenizer = load_config(source), load_tokenizer(source)
    positions = getattr(config, "max_position_embeddings", None)  # of models with absolute positions, and most others
    longest = min(filter(None, (tokenizer.model_max_length, positions)))
    return RecipeTokenizer(
        name=model.name_or_path,
        tokenizer=tokenizer,
        causal=is_causal(config),
        longest=longest,
        max_length=model.max_length,
    )


def _print_tables(tables: Iterable[Table]) -> None:
    """Print tables: with colour on a terminal, as plain text of their natural width elsewhere."""
    from rich.console import Console

    # Names come from recipes and corpora: brackets and colons in them are text.
    console = Console(
        file=sys.stdout,
        width=None if sys.stdout.isatty() else _PLAIN_WIDTH,
        markup=False,
        emoji=False,
        highlight=False,
    )
    for table in tables:
        console.print(table)
        console.print()


def _check_targets(*, json_file: Path | None, figures: Path | None = None) -> None:
    """Refuse what cannot be written to before the work is done."""
    if json_file is not None and json_file.is_dir():
        raise InputError(f"--json {json_file} is a folder; name a file")
    if figures is not None and figures.exists() and not figures.is_dir():
        raise InputError(f"--figures {figures} is a file; name a folder")


def _write_json(file: Path, report: AuditReport | DataReport) -> None:
    with _writing(file):
        write_json(file, report.model_dump(mode="json"))
    print(f"wrote {file}")


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    """Where a file cannot be written, the name on the command line is wrong."""
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror}") from error
