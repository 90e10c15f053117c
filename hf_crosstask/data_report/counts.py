"""What a split holds: documents, mentions, relations, and how its labels are balanced."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hf_crosstask.data_report.report import Balance, BalanceUnit, LabelCount
from hf_crosstask.tasks.card import TaskCard
from hf_crosstask.tasks.schema import TaskType

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

NONE = "(none)"
#: A class with more than this share of a split leaves little to learn, and makes accuracy look good for nothing.
DOMINANT = 0.9
_SCORE_RANGES = 5
_FIELDS = ("split_group", "labels", "score", "choices", "answer")
_ENTITY_TYPES: tuple[TaskType, ...] = ("ner", "span_ner")
_Columns = Mapping[str, Sequence[Any]]
_PRESENT = LabelCount(count=1, share=1.0)  # stands for a label that the balance of the task type does not count


@dataclass(frozen=True)
class Counted:
    """Counts of one split.

    Attributes:
        documents: the distinct documents.
        by_label: the task's labels and how often each occurs; None where its type has none.
        names: every name of a label, relation type or entity type that occurs.
    """

    examples: int
    documents: frozenset[str]
    entities: int
    relations: int
    labels: int
    by_label: Mapping[str, int] | None
    names: frozenset[str]


def count_split(examples: Dataset, card: TaskCard) -> Counted:
    """Count one split, in one pass over its columns."""
    columns: _Columns = examples.select_columns(list(_FIELDS))[:]
    documents = columns["split_group"]
    # Nested columns stay in Arrow: a Python object for every candidate's mentions takes longer than all the rest.
    nested = examples.select_columns(["entities", "relations"]).with_format("arrow")[:]
    entities, relations = nested["entities"].combine_chunks(), nested["relations"].combine_chunks()
    entity_types = Counter(entities.flatten().field("type").to_pylist())
    relation_types = Counter(relations.flatten().field("type").to_pylist())
    return Counted(
        examples=len(examples),
        documents=frozenset(documents),
        entities=entity_types.total() if card.type in _ENTITY_TYPES else _distinct_mentions(documents, entities),
        relations=sum(count for type, count in relation_types.items() if type != card.negative_label),
        labels=sum(map(len, columns["labels"])),
        by_label=_by_label(card, columns, entity_types, relation_types),
        names=frozenset([*entity_types, *relation_types, *(label for row in columns["labels"] for label in row)]),
    )


def balance(counted: Counted, card: TaskCard) -> Balance | None:
    """Labels with their shares; None where the task type has none."""
    if counted.by_label is None:
        return None
    unit: BalanceUnit = "examples"
    if card.type in _ENTITY_TYPES:
        unit = "entities"
    elif card.type == "relation":
        unit = "relations"
    total = counted.examples if card.type == "multilabel" else sum(counted.by_label.values())
    return Balance(
        unit=unit,
        labels={
            label: LabelCount(count=count, share=count / total if total else 0.0)
            for label, count in counted.by_label.items()
        },
    )


def balance_warnings(card: TaskCard, balances: Mapping[str, Balance | None]) -> Iterator[str]:
    """A class that dominates a split, and classes that are never trained.

    Args:
        card: of the task.
        balances: split to its labels.
    """
    for split, found in balances.items():
        if found is None or len(found.labels) < 2:
            continue
        for label, counted in found.labels.items():
            if counted.share > DOMINANT:
                yield (
                    f"{card.name}/{split}: {counted.share:.1%} of the {found.unit} are {label!r}; a model that always "
                    "says so looks good on accuracy"
                )
    train = balances.get("train")
    for label in [label for label in card.labels if train and not train.labels.get(label, _PRESENT).count]:
        elsewhere = ", ".join(
            f"{found.labels[label].count:,} in {split}"
            for split, found in balances.items()
            if found and found.labels[label].count
        )
        yield f"{card.name}: label {label!r} does not occur in training" + (f" ({elsewhere})" if elsewhere else "")


def _distinct_mentions(documents: Sequence[str], entities: pa.ListArray) -> int:
    """Mentions, those that several candidate pairs of a document share counted once."""
    sizes, flat = entities.value_lengths().to_pylist(), entities.flatten()
    owners = (document for document, size in zip(documents, sizes, strict=True) for _ in range(size))
    texts = map(tuple, flat.field("text").to_pylist())
    return len(set(zip(owners, flat.field("id").to_pylist(), texts, strict=True)))


def _by_label(
    card: TaskCard, columns: _Columns, entity_types: Counter[str], relation_types: Counter[str]
) -> dict[str, int] | None:
    match card.type:
        case "ner" | "span_ner":
            return _ordered(card, entity_types)
        case "relation":
            return _ordered(card, relation_types)
        case "classification" | "ranking":
            return _ordered(card, Counter(label for row in columns["labels"] for label in row))
        case "multilabel":
            given = Counter(label for row in columns["labels"] for label in row)
            return _ordered(card, given) | {NONE: sum(not row for row in columns["labels"])}
        case "multiple_choice":
            places = Counter(
                choices.index(answer) for choices, answer in zip(columns["choices"], columns["answer"], strict=True)
            )
            most = max(map(len, columns["choices"]))
            return {f"choice {place + 1}": places[place] for place in range(most)}
        case "similarity":
            return _score_ranges(card, columns["score"])
        case _:
            return None


def _ordered(card: TaskCard, counts: Counter[str]) -> dict[str, int]:
    """The card's labels in their order, then any others."""
    return {label: counts[label] for label in dict.fromkeys([*card.labels, *sorted(counts)])}


def _score_ranges(card: TaskCard, scores: Sequence[float]) -> dict[str, int]:
    low, high = card.score_range
    width = (high - low) / _SCORE_RANGES
    edges = [low + width * number for number in range(_SCORE_RANGES)] + [high]
    places = Counter(min(max(int((score - low) / width), 0), _SCORE_RANGES - 1) for score in scores)
    return {f"{edges[n]:g} to {edges[n + 1]:g}": places[n] for n in range(_SCORE_RANGES)}
