"""The tables and summaries of a model card, as Markdown, from a run's record."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hf_crosstask.errors import InputError
from hf_crosstask.evaluation.analysis import Cell, Mark, read_analysis
from hf_crosstask.evaluation.result import MetricValue, RunResult, TaskResult
from hf_crosstask.release.bundle import Run
from hf_crosstask.release.terms import terms_of
from hf_crosstask.tasks.card import TaskCard

#: Folder of a run with the analyses made of it (`evaluation.analysis`), and the kinds that a card shows. Error analyses
#: quote texts: they stay behind.
ANALYSES = "analyses"
KINDS = ("calibration", "contamination", "probe", "bench")
_MOST_ROWS = 40


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; numbers to the right."""
    cells = [[_cell(value) for value in row] for row in rows]
    right = [
        bool(cells) and all(row[column][:1].isdigit() or row[column] in ("", "n/a", "–") for row in cells)
        for column in range(len(headings))
    ]
    lines = [list(headings), ["---:" if number else "---" for number in right], *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def plain(text: str) -> str:
    """A text of the user's as one line that is nothing but text in Markdown and HTML."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.replace("|", "\\|").replace("`", "'")


def _cell(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def score(value: MetricValue) -> str:
    """A value with its interval."""
    if value.low is None or value.high is None:
        return f"{value.value:.4f}"
    return f"{value.value:.4f} [{value.low:.4f}, {value.high:.4f}]"


def results(run: Run) -> str:
    """Primary metric of each released task beside the trivial predictor's."""
    level = float(run.result.evaluation.get("confidence", 0.95))
    split = str(run.result.evaluation.get("split", "test"))
    rows = []
    for name, task in _tasks(run).items():
        metrics = task.metrics
        value = metrics.values[metrics.primary]
        counts: Mapping[Any, int] = task.examples
        beaten = "" if value.value > metrics.majority else " (does not exceed the majority)"
        rows.append(
            (
                f"`{name}`",
                metrics.primary,
                score(value) + beaten,
                f"{metrics.majority:.4f}",
                counts.get(split, 0),
            )
        )
    headings = ("task", "metric", f"score [{level:.0%} interval]", "majority baseline", f"{split} examples")
    return table(headings, rows)


def further_results(run: Run) -> str:
    """All other metrics."""
    rows = [
        (f"`{name}`", metric, score(value))
        for name, task in _tasks(run).items()
        for metric, value in task.metrics.values.items()
        if metric != task.metrics.primary
    ]
    return table(("task", "metric", "score"), rows) if rows else ""


def corpora(cards: Mapping[str, TaskCard], result: RunResult | None) -> str:
    """What the tasks were trained on: also those that are not released shaped the shared weights."""
    splits = ("train", "validation", "test")
    rows = []
    for name, card in cards.items():
        counts: Mapping[Any, int] = result.tasks[name].examples if result else {}
        where = f"[source]({card.homepage})" if card.homepage.startswith("https://") else ""
        numbers = [counts.get(split, 0 if result else "–") for split in splits]
        what = f"{plain(card.description)} {where}".strip()
        rows.append((f"`{name}`", what, plain(card.licence), card.access, plain(card.provenance), *numbers))
    return table(("task", "what", "licence", "access", "texts from", *splits), rows)


def labels(card: TaskCard) -> str:
    """The label set of a task; empty where it is open."""
    shown = ", ".join(f"`{plain(label)}`" for label in card.labels[:_MOST_ROWS])
    return shown + (f" and {len(card.labels) - _MOST_ROWS} more" if len(card.labels) > _MOST_ROWS else "")


def restrictions(cards: Mapping[str, TaskCard]) -> list[str]:
    """One line for each corpus that keeps a release private."""
    return [
        f"`{name}`: {plain(card.licence)}; {'; '.join(reasons)}."
        for name, card in cards.items()
        if (reasons := terms_of(card).restrictions)
    ]


def ledger(result: RunResult) -> str:
    """Tokens by task, planned and counted."""
    rows: list[tuple[object, ...]] = [
        (
            f"`{name}`",
            task.tokens.planned,
            task.tokens.counted,
            task.tokens.padded,
            task.tokens.supervised,
            task.tokens.unique,
            f"{task.epochs:.2f}",
        )
        for name, task in result.tasks.items()
    ]
    tokens = result.tokens
    rows.append(("all", tokens.planned, tokens.counted, tokens.padded, "", "", ""))
    return table(("task", "planned", "counted", "with padding", "supervised", "unique", "epochs"), rows)


def parity(result: RunResult) -> str:
    """What the run's tokens are equal to, in one sentence."""
    same = "equals" if result.tokens.planned == result.tokens.counted else "DIFFERS FROM"
    counted = f"What was counted in training ({result.tokens.counted:,} forward tokens) {same} what was planned."
    match = result.match
    if match is None:
        return f"{counted} The budget is matched to no other run."
    unit = match.mode.replace("_", " ")
    return (
        f"{counted} The budget is matched to the run `{plain(Path(match.reference).name)}` by {unit}: "
        f"target {match.target:,}, difference {match.difference:,}."
    )


def leakage(result: RunResult) -> list[str]:
    """What the audit of the run found, line by line."""
    audit = result.audit
    if audit is None:
        return ["The run was not audited for evaluation examples in its training data."]
    lines = [f"Policy: `{audit['policy']}` between tasks, `{audit['within_task']}` within a task."]
    purged = audit.get("purged") or {}
    dropped = {task: count for task, count in purged.get("dropped", {}).items() if count}
    for task, count in dropped.items():
        lines.append(f"{count:,} of {purged['before'][task]:,} training examples of `{task}` were purged.")
    leaks = audit.get("leaks") or []
    for pair in leaks:
        lines.append(
            f"`{pair['train_task']}` training data overlaps with {pair['leak']['evaluation_examples']:,} "
            f"{pair['evaluation_split']} examples of `{pair['evaluation_task']}`" + (" (purged)." if dropped else ".")
        )
    if not leaks:
        lines.append("No evaluation example was found in the training data of any task.")
    return lines


def analyses(folder: Path) -> dict[str, str]:
    """What each analysis in the run's folder `analyses` found, by its title: its words and its tables.

    Raises:
        InputError: a file there is no analysis.
    """
    found = {}
    for path in sorted((folder / ANALYSES).glob("*.json")):
        analysis = read_analysis(path)
        if analysis.kind in KINDS:
            parts = ["\n".join(f"- {plain(line)}" for line in analysis.summary)]
            for each in analysis.tables:
                rows = [[_value(cell) for cell in row] for row in each.rows[:_MOST_ROWS]]
                parts += [plain(each.caption), table([plain(name) for name in each.columns], rows), plain(each.note)]
            found[analysis.title] = "\n\n".join(part for part in parts if part)
    return found


def analysed(folder: Path) -> set[str]:
    """The kinds of analysis in the run's folder."""
    return {read_analysis(path).kind for path in (folder / ANALYSES).glob("*.json")}


def verdicts(path: Path, tasks: Collection[str]) -> str:
    """The verdict on each task with its intervals, from a study's `statistics.json`.

    Args:
        path: the file.
        tasks: those of the release.

    Raises:
        InputError: the file is missing, is none of a study, or has no verdict on any of the tasks.
    """
    content = _read(path)
    try:
        found = [
            (comparison, verdict)
            for comparison in content["comparisons"]
            for verdict in comparison["verdict"]["tasks"]
            if verdict["task"] in tasks
        ]
        rows = [_verdict_row(comparison["arm"], verdict) for comparison, verdict in found]
        sentences = [f"- {plain(verdict['sentence'])}" for _, verdict in found if verdict["sentence"]]
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: is no statistics.json of a study (it lacks {error})") from None
    if not rows:
        raise InputError(f"{path}: the study has no verdict on {', '.join(tasks)}")
    headings = ("task", "metric", "arm", "exposure", "transfer", "p (Holm)", "verdict", "claim", "seeds")
    return "\n\n".join([table(headings, rows), "\n".join(dict.fromkeys(sentences))]).strip()


def _verdict_row(arm: str, verdict: Mapping[str, Any]) -> tuple[object, ...]:
    p = verdict["p_adjusted"]
    return (
        f"`{verdict['task']}`",
        verdict["metric"] or "",
        plain(arm),
        _estimate(verdict["exposure"]),
        _estimate(verdict["transfer"]),
        "" if p is None else f"{p:.2g}",
        verdict["category"].replace("_", " "),
        verdict["claim"],
        len(verdict["seeds"]),
    )


def _estimate(estimate: Mapping[str, float] | None) -> str:
    if estimate is None:
        return ""
    return f"{estimate['estimate']:+.4f} [{estimate['low']:+.4f}, {estimate['high']:+.4f}]"


def _tasks(run: Run) -> dict[str, TaskResult]:
    return {name: task for name, task in run.result.tasks.items() if name in run.released}


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except ValueError:
        raise InputError(f"{path}: is not a JSON file") from None


def _value(value: Cell) -> str:
    if value is None:
        return "–"
    if isinstance(value, Mark):
        return plain(value.text + value.mark)
    if isinstance(value, float):
        return f"{value:.4f}"
    return plain(str(value))
