"""The counts of a task's card, as the corpus was published, against what was read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hf_crosstask.data_report.counts import Counted
from hf_crosstask.data_report.report import PublishedCount
from hf_crosstask.tasks.load import TaskData

#: What examples do not show of a corpus whose examples are candidate pairs or single texts.
_UNSEEN = {
    "documents": "documents without an example are not seen",
    "entities": "mentions in no candidate pair are not seen",
}


def published_counts(data: TaskData, counted: Mapping[str, Counted]) -> Iterator[PublishedCount]:
    """Every published count of a task's card.

    Args:
        data: the task.
        counted: split to its counts.
    """
    for parts, counts in data.card.published_counts.items():
        splits = parts.split("+")
        problem = _not_comparable(splits, data, counted)
        for name, published in counts.items():
            read = None if problem else _read(name, [counted[split] for split in splits], data)
            if read is None:
                yield PublishedCount(
                    split=parts,
                    name=name,
                    published=published,
                    read=None,
                    difference=None,
                    note=problem or "not counted here",
                )
                continue
            lost = _lost(name, splits, data)
            difference = read + lost - published
            yield PublishedCount(
                split=parts,
                name=name,
                published=published,
                read=read,
                lost=lost,
                difference=difference,
                note="; ".join(_reasons(name, splits, data)) if difference < 0 else "",
            )


def _reasons(name: str, splits: list[str], data: TaskData) -> Iterator[str]:
    """Why fewer may have been read than were published."""
    if name in _UNSEEN and data.card.type not in ("ner", "span_ner"):
        yield _UNSEEN[name]
    dropped = [reason for split in splits for reason in data.dropped.get(split, {})]
    if dropped:
        yield f"the reader drops: {', '.join(dict.fromkeys(dropped))}"


def _not_comparable(splits: list[str], data: TaskData, counted: Mapping[str, Counted]) -> str | None:
    missing = [split for split in splits if split not in counted]
    if missing:
        return f"no {' and no '.join(missing)} split"
    sampled = [split for split in splits if "left out by max_examples" in data.dropped.get(split, {})]
    return f"max_examples leaves out some of {' and '.join(sampled)}" if sampled else None


def _read(name: str, splits: list[Counted], data: TaskData) -> int | None:
    match name:
        case "examples":
            return sum(split.examples for split in splits)
        case "documents":
            return len(frozenset().union(*(split.documents for split in splits)))
        case "entities":
            return sum(split.entities for split in splits)
        case "relations":
            return sum(split.relations for split in splits)
    if name not in data.card.labels:
        return None
    return sum((split.by_label or {}).get(name, 0) for split in splits)


def _lost(name: str, splits: list[str], data: TaskData) -> int:
    lost = [data.lost_gold.get(split, {}) for split in splits]
    if name in data.card.labels:
        return sum(counts.get(name, 0) for counts in lost)
    task_counts = {"relation": "relations", "ner": "entities", "span_ner": "entities"}
    return sum(sum(counts.values()) for counts in lost) if name == task_counts.get(data.card.type) else 0
