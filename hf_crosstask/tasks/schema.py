"""The unified example schema and its one invariant checker.

Every task, whatever its type, is a `datasets.Dataset` with `FEATURES`, so that tasks concatenate and one checker serves
every reader. What each task type uses:

| task type | fields |
|---|---|
| `ner`, `span_ner` | `text`, `entities` (`span_ner`: several offset pairs, overlaps) |
| `relation` | `text`, `entities`, `relations`: one candidate pair (see below) |
| `classification` | `text`, optional `text_pair`, `labels`: exactly one |
| `multilabel` | `text`, `labels`: any number |
| `similarity` | `text`, `text_pair`, `score` |
| `ranking` | `text` (query), `text_pair` (candidate), `group_id`, `rank`, `score` (relevance), `labels`: `RELEVANCE` |
| `multiple_choice` | `text`, `choices`, `answer` (equal to one of the choices) |
| `generation` | `text`, `answer` |

A relation example holds one candidate pair: every relation of it has the same (head, tail), and its `type` is the label,
the negative class included. More than one relation means that the pair carries several gold labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

from hf_crosstask.errors import DataFormatError

if TYPE_CHECKING:
    from datasets import Dataset, Features

TaskType = Literal[
    "ner",
    "span_ner",
    "relation",
    "classification",
    "multilabel",
    "ranking",
    "similarity",
    "multiple_choice",
    "generation",
]
TASK_TYPES: tuple[TaskType, ...] = get_args(TaskType)
#: The labels of a ranking candidate, as official scorers write them; index 1 is relevant.
RELEVANCE = ("false", "true")
SPLITS = ("train", "validation", "test")


def features() -> Features:
    """The `datasets.Features` shared by every task. A function, so that importing the schema stays cheap."""
    from datasets import Features, List, Value

    string, integer = Value("string"), Value("int32")
    return Features(
        {
            "id": string,
            "task": string,
            "split_group": string,
            "text": string,
            "text_pair": string,
            "entities": List(
                {
                    "id": string,
                    "type": string,
                    "offsets": List(List(integer)),
                    "text": List(string),
                    "normalized": List({"db": string, "id": string}),
                    "attributes": List({"name": string, "value": string}),
                }
            ),
            "relations": List({"id": string, "type": string, "head": string, "tail": string}),
            "labels": List(string),
            "score": Value("float64"),
            "group_id": string,
            "rank": integer,
            "choices": List(string),
            "answer": string,
        }
    )


def make_entity(
    id: str,
    type: str,
    offsets: Sequence[Sequence[int]],
    text: Sequence[str],
    *,
    normalized: Iterable[Mapping[str, str]] = (),
    attributes: Iterable[Mapping[str, str]] = (),
) -> dict[str, Any]:
    """One entity: `offsets` is a list of [start, end) character pairs, `text` the slice of each pair."""
    return {
        "id": id,
        "type": type,
        "offsets": [list(pair) for pair in offsets],
        "text": list(text),
        "normalized": [dict(item) for item in normalized],
        "attributes": [dict(item) for item in attributes],
    }


def make_example(id: str, task: str, text: str, *, split_group: str, **fields: Any) -> dict[str, Any]:
    """One example with every schema field present; absent fields get their empty value.

    Raises:
        TypeError: a keyword is not a schema field.
    """
    example: dict[str, Any] = {
        "id": id,
        "task": task,
        "split_group": split_group,
        "text": text,
        "text_pair": None,
        "entities": [],
        "relations": [],
        "labels": [],
        "score": None,
        "group_id": None,
        "rank": None,
        "choices": [],
        "answer": None,
    }
    unknown = fields.keys() - example.keys()
    if unknown:
        raise TypeError(f"not fields of the example schema: {sorted(unknown)}")
    example.update(fields)
    return example


def to_dataset(examples: Sequence[Mapping[str, Any]]) -> Dataset:
    """Examples (as `make_example` makes them) as a `datasets.Dataset` with the unified features."""
    import pyarrow
    from datasets import Dataset

    # As `Dataset.from_list`, but several times faster on nested rows.
    rows = [dict(example) for example in examples]
    return Dataset(pyarrow.Table.from_pylist(rows, schema=features().arrow_schema))


def check_examples(
    examples: Iterable[Mapping[str, Any]], task_type: TaskType, labels: Sequence[str], *, source: str
) -> None:
    """Check every invariant of the schema; the one validator that all readers share.

    Args:
        examples: rows of the unified schema, all splits of one task together (ids are unique over the dataset).
        task_type: decides which fields must be filled.
        labels: the task's label set: entity types for NER, relation types with the negative class, class names.
            Empty means the task has no closed label set.
        source: the file or dataset named in the error.

    Raises:
        DataFormatError: at the first example that breaks an invariant, naming its id and the field.
    """
    label_set = set(labels)
    seen: set[str] = set()
    for example in examples:
        problem = _problem(example, task_type, label_set, seen)
        if problem:
            raise DataFormatError(source, f"example {example['id']!r}: {problem}")


def _problem(example: Mapping[str, Any], task_type: TaskType, labels: set[str], seen: set[str]) -> str | None:
    if example["id"] in seen:
        return "its id occurs twice in the dataset"
    seen.add(example["id"])
    if not example["text"] or not example["text"].strip():
        return "`text` is empty"
    if not example["split_group"]:
        return "`split_group` is empty: leakage audit and cluster bootstrap need the document, PMID or patient"
    return (
        _entity_problem(example, labels if task_type in ("ner", "span_ner") else set())
        or _relation_problem(example, task_type, labels)
        or _target_problem(example, task_type, labels)
    )


def _entity_problem(example: Mapping[str, Any], labels: set[str]) -> str | None:
    text, ids = example["text"], set()
    for entity in example["entities"]:
        name = f"entity {entity['id']!r}"
        if entity["id"] in ids:
            return f"{name}: its id occurs twice in the example"
        ids.add(entity["id"])
        if labels and entity["type"] not in labels:
            return f"{name}: type {entity['type']!r} is not in the label set {sorted(labels)}"
        if not entity["offsets"] or len(entity["offsets"]) != len(entity["text"]):
            return f"{name}: {len(entity['offsets'])} offset pairs but {len(entity['text'])} text parts"
        for (start, end), part in zip(entity["offsets"], entity["text"], strict=True):
            if not 0 <= start < end <= len(text):
                return f"{name}: offsets [{start}, {end}) lie outside the text of {len(text)} characters"
            if text[start:end] != part:
                return f"{name}: text[{start}:{end}] is {text[start:end]!r} but the entity says {part!r}"
    return None


def _relation_problem(example: Mapping[str, Any], task_type: TaskType, labels: set[str]) -> str | None:
    ids = {entity["id"] for entity in example["entities"]}
    for relation in example["relations"]:
        for role in ("head", "tail"):
            if relation[role] not in ids:
                return f"relation {relation['id']!r}: its {role} {relation[role]!r} is not an entity of the example"
        if task_type == "relation" and labels and relation["type"] not in labels:
            return f"relation {relation['id']!r}: type {relation['type']!r} is not in the label set {sorted(labels)}"
    if task_type == "relation" and len({(r["head"], r["tail"]) for r in example["relations"]}) != 1:
        return "a relation example holds exactly one candidate (head, tail) pair"
    return None


def _target_problem(example: Mapping[str, Any], task_type: TaskType, labels: set[str]) -> str | None:
    unknown = [label for label in example["labels"] if labels and label not in labels]
    if unknown and task_type in ("classification", "multilabel", "ranking"):
        return f"label {unknown[0]!r} is not in the label set {sorted(labels)}"
    if task_type == "classification" and len(example["labels"]) != 1:
        return f"a classification example has exactly one label, found {len(example['labels'])}"
    if task_type == "multilabel" and len(set(example["labels"])) != len(example["labels"]):
        return "a label occurs twice"
    if task_type in ("similarity", "ranking"):
        if not example["text_pair"]:
            return "`text_pair` is empty"
        if example["score"] is None or example["score"] != example["score"]:
            return "`score` is missing"
    if task_type == "ranking" and (example["group_id"] is None or example["rank"] is None):
        return "a ranking example needs `group_id` and `rank`"
    if task_type == "ranking" and tuple(example["labels"]) not in {(label,) for label in RELEVANCE}:
        return (
            f"`labels` of a ranking example is one of {', '.join(map(repr, RELEVANCE))}, found {example['labels']!r}"
        )
    if task_type == "multiple_choice":
        if len(example["choices"]) < 2:
            return f"a multiple-choice example needs at least two choices, found {len(example['choices'])}"
        if example["answer"] not in example["choices"]:
            return f"answer {example['answer']!r} is not one of the choices"
    if task_type == "generation" and not example["answer"]:
        return "`answer` is empty"
    return None
