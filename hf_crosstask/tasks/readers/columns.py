"""From a record of named columns (JSON object, CSV row, row of a Hub dataset) to an example of the unified schema.

`card.columns` maps schema fields to columns of the source; `outer.inner` reaches into a nested column. Without it, a
column is the field of its own name. Besides the fields of the schema, `tokens` and `tags` (a list each, one scheme tag
per token) stand for `text` and `entities`.

- `id`, `split_group`: text or integer. Without them rows are numbered, and each row is its own group; of a ranking each
  query (`group_id`).
- `labels`: text or integer, or a list of these.
- `entities`: list of {`type`, `start`, `end` (exclusive)} or {`type`, `offsets`: [[start, end], …]}, with optional `id`,
  `text`, `normalized`, `attributes`; or an object of such lists.
- `relations`: list of {`type`, `head`, `tail`} (entity ids), with optional `id`.

A field that the task type needs is never filled in: without it there is an error.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from hf_crosstask.errors import DataFormatError, InputError, unknown_name
from hf_crosstask.tasks.card import TaskCard
from hf_crosstask.tasks.readers.base import TextOptions
from hf_crosstask.tasks.readers.iob import token_example
from hf_crosstask.tasks.readers.tags import Scheme, TagError, entity_spans
from hf_crosstask.tasks.schema import make_entity, make_example

FIELDS = (
    "id",
    "split_group",
    "text",
    "text_pair",
    "entities",
    "relations",
    "labels",
    "score",
    "group_id",
    "rank",
    "choices",
    "answer",
    "tokens",
    "tags",
)
_NEEDED: dict[str, tuple[str, ...]] = {
    "ner": ("text", "entities"),
    "span_ner": ("text", "entities"),
    "relation": ("text", "entities", "relations"),
    "classification": ("text", "labels"),
    "multilabel": ("text", "labels"),
    "ranking": ("text", "text_pair", "group_id", "rank", "score", "labels"),
    "similarity": ("text", "text_pair", "score"),
    "multiple_choice": ("text", "choices", "answer"),
    "generation": ("text", "answer"),
}
_TOKENS = ("tokens", "tags")


class RowError(ValueError):
    """A record that is no example; the reader adds the file and the line."""


class ColumnOptions(TextOptions):
    """Options of every reader with named columns.

    `label_map` translates the source's labels (class names, entity and relation types) to those of the task;
    `scheme` is that of the column `tags`.
    """

    label_map: dict[str, str] | None = None
    scheme: Scheme = "IOB2"


def check_columns(
    card: TaskCard, available: Collection[str], source: str | Path, *, nested: bool = True
) -> dict[str, str]:
    """The map of schema field to column for this source.

    Args:
        card: of the task; `card.columns` may be empty.
        available: the columns that the source has (the outermost, where they nest).
        source: named in errors.
        nested: `outer.inner` may name a column inside the column `outer`.

    Raises:
        InputError: the map names a field that does not exist.
        DataFormatError: the source lacks a column of the map, or nothing stands for a field that the task type needs.
    """
    for field in card.columns:
        if field not in FIELDS:
            raise InputError(f"task {card.name!r}: columns: {unknown_name('field', field, FIELDS)}")
    columns = dict(card.columns) or {field: field for field in FIELDS if field in available}
    there = f"it has: {', '.join(map(repr, available)) or 'none'}."
    for field, column in columns.items():
        if column not in available and not (nested and column.split(".")[0] in available):
            raise DataFormatError(source, f"no column {column!r} for the field `{field}`; {there}")
    missing = [field for field in _needed(card, columns) if field not in columns]
    if missing:
        fields = ", ".join(f"`{field}`" for field in missing)
        problem = f"a {card.type} task needs a column for {fields}; {there}"
        raise DataFormatError(source, problem, remedy='Name it in the task\'s "columns": {field: column}.')
    return columns


def row_example(
    row: Mapping[str, Any], columns: Mapping[str, str], card: TaskCard, options: ColumnOptions, default_id: str
) -> dict[str, Any]:
    """The example of one record.

    Raises:
        RowError: a value is missing or has the wrong kind, a label is not in the task's label set.
    """
    values = {field: _value(row, column, field) for field, column in columns.items()}
    name = _name(values["id"], "id") if values.get("id") is not None else default_id
    if values.get("split_group") is not None:
        group = _name(values["split_group"], "split_group")
    elif card.type == "ranking" and values.get("group_id") is not None:
        group = _name(values["group_id"], "group_id")
    else:
        group = name
    if "tokens" in values:
        return _tagged_example(values, card, options, name, group)
    needed = _needed(card, columns)
    empty = [field for field in needed if values[field] is None]
    if empty:
        raise RowError(f"`{empty[0]}` ({columns[empty[0]]}) is empty, but a {card.type} task needs it.")
    text = _text(values["text"], "text")
    given = {field: value for field, value in values.items() if value is not None}
    fields: dict[str, Any] = {}
    for field in ("text_pair", "answer"):
        if field in given:
            fields[field] = _text(given[field], field)
    if "labels" in given:
        fields["labels"] = _labels(given["labels"], card, options)
    if "entities" in given:
        fields["entities"] = _entities(given["entities"], text, options)
    if "relations" in given:
        fields["relations"] = _relations(given["relations"], options)
    if "score" in given:
        fields["score"] = _number(given["score"], "score", float)
    if "rank" in given:
        fields["rank"] = _number(given["rank"], "rank", int)
    if "group_id" in given:
        fields["group_id"] = _name(given["group_id"], "group_id")
    if "choices" in given:
        fields["choices"] = [_text(choice, "choices") for choice in _list(given["choices"], "choices")]
    return make_example(name, card.name, text, split_group=group, **fields)


def _needed(card: TaskCard, columns: Mapping[str, str]) -> tuple[str, ...]:
    if card.type == "ner" and ("tokens" in columns or "tags" in columns):
        return _TOKENS
    return _NEEDED[card.type]


def _value(row: Mapping[str, Any], column: str, field: str) -> Any:
    value: Any = row
    for part in [column] if column in row else column.split("."):
        if not isinstance(value, Mapping) or part not in value:
            there = ", ".join(map(repr, row))
            raise RowError(f"no column {column!r} for the field `{field}`; there is: {there}.")
        value = value[part]
    return value


def _text(value: Any, field: str) -> str:
    if not isinstance(value, str):
        raise RowError(f"`{field}` is {_kind(value)}, expected a text.")
    return value


def _name(value: Any, field: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise RowError(f"`{field}` is {_kind(value)}, expected a text or an integer.")
    return str(value)


def _list(value: Any, field: str) -> list[Any]:
    if not isinstance(value, list):
        raise RowError(f"`{field}` is {_kind(value)}, expected a list.")
    return value


def _number(value: Any, field: str, kind: type[float] | type[int]) -> float | int:
    """A finite number, or a text that spells one (CSV); integers fit in 32 bits."""
    try:
        number = kind(value) if isinstance(value, str) or (kind is float and type(value) is int) else value
    except (ValueError, OverflowError):
        number = None
    if type(number) is not kind or not math.isfinite(number) or (kind is int and abs(number) >= 2**31):
        raise RowError(f"`{field}` is {_kind(value)}, expected {'a number' if kind is float else 'an integer'}.")
    return number


def _label(value: Any, options: ColumnOptions) -> str:
    label = _name(value, "label")
    if options.label_map is None:
        return label
    if label not in options.label_map:
        raise RowError(f"the label {label!r} is not in options.label_map ({', '.join(options.label_map)}).")
    return options.label_map[label]


def _labels(value: Any, card: TaskCard, options: ColumnOptions) -> list[str]:
    labels = [_label(item, options) for item in (value if isinstance(value, list) else [value])]
    for label in labels:
        if card.labels and label not in card.labels:
            raise RowError(f"the label {label!r} is not in the label set {list(card.labels)}.")
    return labels


def _entities(value: Any, text: str, options: ColumnOptions) -> list[dict[str, Any]]:
    entities = []
    for number, item in enumerate(_records(value, "entities"), start=1):
        name = _name(item["id"], "entities.id") if item.get("id") is not None else f"T{number}"
        offsets = _offsets(item, name)
        slices = [text[start:end] for start, end in offsets]
        given = item.get("text")
        if given is not None and given not in (slices, " ".join(slices)):
            raise RowError(f"entity {name!r} says {given!r}, but the text has {slices!r} at {offsets}.")
        entities.append(
            make_entity(
                name,
                _label(_required(item, "type", f"entity {name!r}"), options),
                offsets,
                slices,
                normalized=_pairs(item.get("normalized"), "normalized", ("db", "id")),
                attributes=_pairs(item.get("attributes"), "attributes", ("name", "value")),
            )
        )
    return entities


def _offsets(item: Mapping[str, Any], name: str) -> list[tuple[int, int]]:
    if item.get("offsets") is not None:
        pairs = [_list(pair, "entities.offsets") for pair in _list(item["offsets"], "entities.offsets")]
    else:
        pairs = [[_required(item, key, f"entity {name!r}") for key in ("start", "end")]]
    for pair in pairs:
        if len(pair) != 2 or not all(type(position) is int and abs(position) < 2**31 for position in pair):
            raise RowError(f"entity {name!r} has the offsets {pair!r}, expected two integers.")
    return [(start, end) for start, end in pairs]


def _relations(value: Any, options: ColumnOptions) -> list[dict[str, str]]:
    relations = []
    for number, item in enumerate(_records(value, "relations"), start=1):
        name = _name(item["id"], "relations.id") if item.get("id") is not None else f"R{number}"
        where = f"relation {name!r}"
        relations.append(
            {
                "id": name,
                "type": _label(_required(item, "type", where), options),
                "head": _name(_required(item, "head", where), "relations.head"),
                "tail": _name(_required(item, "tail", where), "relations.tail"),
            }
        )
    return relations


def _records(value: Any, field: str) -> list[Mapping[str, Any]]:
    """A list of objects; an object of lists (as older Hub datasets have) is turned round."""
    if isinstance(value, Mapping) and value and all(isinstance(column, list) for column in value.values()):
        if len({len(column) for column in value.values()}) != 1:
            raise RowError(f"the lists of `{field}` differ in length.")
        value = [dict(zip(value, items, strict=True)) for items in zip(*value.values(), strict=True)]
    for item in _list(value, field):
        if not isinstance(item, Mapping):
            raise RowError(f"an item of `{field}` is {_kind(item)}, expected an object.")
    return list(value)


def _required(item: Mapping[str, Any], key: str, where: str) -> Any:
    if item.get(key) is None:
        raise RowError(f"{where} has no {key!r}; it has: {', '.join(map(repr, item))}.")
    return item[key]


def _pairs(value: Any, field: str, keys: tuple[str, str]) -> list[dict[str, str]]:
    if value is None:
        return []
    records = _records(value, field)
    return [{key: _text(_required(item, key, field), f"{field}.{key}") for key in keys} for item in records]


def _tagged_example(
    values: Mapping[str, Any], card: TaskCard, options: ColumnOptions, name: str, group: str
) -> dict[str, Any]:
    tokens = [_text(token, "tokens") for token in _list(values["tokens"], "tokens")]
    tags = [_text(tag, "tags") for tag in _list(values["tags"], "tags")]
    if len(tokens) != len(tags):
        raise RowError(f"{len(tokens)} tokens but {len(tags)} tags.")
    if not tokens or not all(tokens):
        raise RowError("there are no tokens." if not tokens else "a token is empty.")
    if options.label_map is not None:
        tags = [_mapped_tag(tag, options) for tag in tags]
    try:
        spans = entity_spans(tags, options.scheme, card.labels)
    except TagError as error:
        raise RowError(f"token {error.index}: {error.problem}") from None
    return token_example(name, card.name, group, tokens, spans)


def _mapped_tag(tag: str, options: ColumnOptions) -> str:
    prefix, dash, type = tag.partition("-")
    return f"{prefix}-{_label(type, options)}" if dash else tag


def _kind(value: Any) -> str:
    return "empty" if value is None else f"{value!r:.60} ({type(value).__name__})"


def locate(error: RowError, path: str | Path, *, line: int | None = None, row: int | None = None) -> DataFormatError:
    """The error with its file and line (or row, from 0)."""
    where = f"row {row}: " if row is not None else ""
    return DataFormatError(path, f"{where}{error}", line=line)
