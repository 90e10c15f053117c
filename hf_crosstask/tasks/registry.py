"""The registry of task cards, and how a recipe's task becomes a card."""

from __future__ import annotations

import functools
import importlib
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hf_crosstask.errors import InputError, unknown_name
from hf_crosstask.tasks.card import Official, TaskCard, TaskSpec
from hf_crosstask.tasks.cards import CARD_MODULES
from hf_crosstask.tasks.readers import READERS, READERS_WITHOUT_FILES
from hf_crosstask.tasks.schema import RELEVANCE, SPLITS, TaskType

if TYPE_CHECKING:
    BUILTIN: dict[str, TaskCard]

#: Task types whose label set must be known before the data is read.
CLOSED_LABELS: tuple[TaskType, ...] = ("ner", "span_ner", "relation", "classification", "multilabel")
#: Primary metric, then secondary ones, of a task of the user's own.
DEFAULT_METRICS: dict[TaskType, tuple[str, ...]] = {
    "ner": ("entity_f1", "entity_precision", "entity_recall"),
    "span_ner": ("entity_f1", "relaxed_f1", "entity_precision", "entity_recall"),
    "relation": ("micro_f1", "micro_f1_candidates", "macro_f1"),
    "classification": ("accuracy", "macro_f1"),
    "multilabel": ("document_micro_f1", "document_example_f1", "micro_f1"),
    "similarity": ("pearson", "spearman"),
    "ranking": ("map", "avg_rec", "mrr", "precision", "recall", "f1", "accuracy"),
    "multiple_choice": ("accuracy",),
    "generation": ("rouge_l", "rouge_1", "rouge_2", "bleu", "perplexity"),
}
#: The task types that an official scorer scores.
OFFICIAL_TYPES: dict[Official, tuple[TaskType, ...]] = {
    "share2014": ("span_ner",),
    "share2015": ("span_ner",),
    "thyme2016": ("ner", "span_ner", "relation"),
    "ade2018": ("ner", "span_ner", "relation"),
    "cmed2022": ("ner", "span_ner"),
}
#: How the positive of two classes is usually named; a card may name it in `positive_label`.
_POSITIVE = ("1", "true", "yes", "positive")


@functools.cache
def builtin_cards() -> dict[str, TaskCard]:
    """Every card of the registry by name, in alphabetical order; also to be had as `registry.BUILTIN`."""
    from hf_crosstask.tasks.synthetic import SYNTHETIC_CARDS

    cards = list(SYNTHETIC_CARDS)
    for module in CARD_MODULES:
        cards += importlib.import_module(module).CARDS
    by_name = {card.name: card for card in sorted(cards, key=lambda card: card.name)}
    if len(by_name) < len(cards):
        raise RuntimeError("two task cards have the same name")
    return by_name


def __getattr__(name: str) -> Any:
    if name == "BUILTIN":
        return builtin_cards()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def resolve_card(spec: TaskSpec) -> TaskCard:
    """The card of a recipe's task: the registry's with the recipe's fields laid over it, or a new one.

    Fields of the recipe replace those of the registry; `options` are merged by key. A recipe that names another reader
    starts from empty `options`, `columns` and `path`, which belong to a reader. A task of the user's own gets its level
    from its type (entities 1, else 2), and its metrics from `DEFAULT_METRICS`.

    Raises:
        InputError: all problems of the task at once.
    """
    builtin = builtin_cards().get(spec.name)
    card = _with_positive_label(_own_card(spec) if builtin is None else _overlaid(builtin, spec))
    problems = _problems(card)
    if problems:
        raise InputError(f"task {spec.name!r}: " + "; ".join(problems))
    return card


def _overlaid(builtin: TaskCard, spec: TaskSpec) -> TaskCard:
    fields = {field: getattr(builtin, field) for field in TaskCard.model_fields}
    given = _given(spec)
    if given.get("type", builtin.type) != builtin.type:
        raise InputError(
            f"task {spec.name!r} is a {builtin.type} task of the registry, not {spec.type!r}; give your own task another "
            "name"
        )
    options: Mapping[str, Any] = given.pop("options", {})
    if given.get("reader", builtin.reader) != builtin.reader:
        fields |= {"options": options, "columns": {}, "path": None}
    else:
        fields |= _variant(spec.name, options.get("variant"))
        fields["options"] = fields["options"] | options
    return TaskCard(**(fields | given))


def _own_card(spec: TaskSpec) -> TaskCard:
    given = _given(spec)
    missing = [field for field in ("type", "reader") if field not in given]
    if len(missing) == 2:
        known = unknown_name("task", spec.name, builtin_cards())
        raise InputError(f"{known}. A task of your own needs `type`, `reader`, `path` and, mostly, `labels`")
    problems = [f"`{field}` is missing (the task is not in the registry)" for field in missing]
    if "type" in given and "primary_metric" not in given and given["type"] not in DEFAULT_METRICS:
        problems.append(f"`primary_metric` is missing: the type {given['type']!r} has no default")
    if problems:
        raise InputError(f"task {spec.name!r}: " + "; ".join(problems))
    metrics = DEFAULT_METRICS.get(given["type"], ())
    primary = given.get("primary_metric", metrics[0] if metrics else None)
    defaults: dict[str, Any] = {
        "level": 1 if given["type"] in ("ner", "span_ner") else 2,
        "primary_metric": primary,
        "secondary_metrics": tuple(metric for metric in metrics if metric != primary),
    }
    if given["type"] == "ranking":
        defaults["labels"] = RELEVANCE
    return TaskCard(**(defaults | given))


def _with_positive_label(card: TaskCard) -> TaskCard:
    """The card with the positive class filled in where a metric needs it and the name of one class says it."""
    if card.positive_label is not None or "positive_f1" not in (card.primary_metric, *card.secondary_metrics):
        return card
    named = [label for label in card.labels if label.lower() in _POSITIVE]
    return card.model_copy(update={"positive_label": named[0]}) if len(named) == 1 else card


def _given(spec: TaskSpec) -> dict[str, Any]:
    return {field: value for field in TaskSpec.model_fields if (value := getattr(spec, field)) is not None}


def _variant(task: str, variant: Any) -> dict[str, Any]:
    """The card fields that a variant of a registry task changes; the reader refuses variants that do not exist."""
    fields: dict[str, Any] = {}
    for name in CARD_MODULES:
        variants = getattr(importlib.import_module(name), "VARIANTS", {})
        fields |= variants.get(task, {}).get(variant, {}) if isinstance(variant, str) else {}
    return fields


def _problems(card: TaskCard) -> list[str]:
    problems = []
    if card.reader not in READERS:
        problems.append(unknown_name("reader", card.reader, READERS))
    elif card.path is None and card.reader not in READERS_WITHOUT_FILES:
        problems.append("`path` is missing: a folder with the usual split names, or a map of split to file")
    if card.type in CLOSED_LABELS and not card.labels:
        problems.append(f"`labels` is missing: a {card.type} task needs its label set")
    if card.type in ("relation", "classification") and len(card.labels) == 1:
        problems.append(f"`labels` has one label, but a {card.type} task must choose between two or more")
    twice = sorted({label for label in card.labels if card.labels.count(label) > 1})
    if twice:
        problems.append(f"`labels` repeats {', '.join(map(repr, twice))}")
    if not all(label.strip() for label in card.labels):
        problems.append("`labels` holds an empty label")
    if card.negative_label is not None:
        if card.type != "relation":
            problems.append(f"`negative_label` is for relation tasks, this is a {card.type} task")
        elif card.negative_label not in card.labels:
            problems.append(f"`negative_label`: {unknown_name('label', card.negative_label, card.labels)}")
    if card.official is not None and card.type not in OFFICIAL_TYPES[card.official]:
        types = ", ".join(OFFICIAL_TYPES[card.official])
        problems.append(f"`official`: {card.official} scores {types} tasks, this is a {card.type} task")
    problems += _score_problems(card)
    problems += _formulation_problems(card)
    for split, count in card.max_examples.items():
        if split not in SPLITS:
            problems.append(f"`max_examples`: {unknown_name('split', split, SPLITS)}")
        elif count < 1:
            problems.append(f"`max_examples.{split}` is {count}; at least one example must stay")
    return problems


def _formulation_problems(card: TaskCard) -> list[str]:
    """What is wrong with how the task is posed."""
    form = f"`formulation`: {card.formulation}"
    if card.formulation == "head":
        return [f"{form}: a generation task has no head, it is always generative"] if card.type == "generation" else []
    problems = []
    if card.formulation == "likelihood" and card.type != "multiple_choice":
        problems.append(f"{form} weighs the choices of multiple_choice tasks, this is a {card.type} task")
    if card.formulation == "generative" and card.type == "ranking":
        problems.append(f"{form}: a generated answer cannot rank candidates; use head")
    if card.type == "multilabel" and any(label.strip().lower() == "none" for label in card.labels):
        problems.append(f"{form}: the label 'none' could not be told from an answer without labels")
    return problems


def _score_problems(card: TaskCard) -> list[str]:
    """What is wrong with the fields that one metric or kind of score needs."""
    problems = []
    if card.positive_label is not None and card.positive_label not in card.labels:
        problems.append(f"`positive_label`: {unknown_name('label', card.positive_label, card.labels)}")
    elif card.positive_label is not None and card.type != "classification":
        problems.append(f"`positive_label` is for classification tasks, this is a {card.type} task")
    elif card.positive_label is None and "positive_f1" in (card.primary_metric, *card.secondary_metrics):
        problems.append("`positive_label` is missing: the metric positive_f1 is of one class")
    low, high = card.score_range
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        problems.append(f"`score_range` is [{low:g}, {high:g}]; it is the lowest score, then the highest")
    if card.type == "ranking" and set(card.labels) != set(RELEVANCE):
        names = " and ".join(map(repr, RELEVANCE))
        problems.append(f"`labels` of a ranking task are {names} (translate others with options.label_map)")
    return problems
