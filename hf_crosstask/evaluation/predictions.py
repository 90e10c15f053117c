"""Predictions of one task beside their gold: the table from which every score is computed, and its parquet file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hf_crosstask.atomic import write_file
from hf_crosstask.errors import InputError
from hf_crosstask.evaluation.entities import Entity
from hf_crosstask.tasks.card import Formulation, Official, TaskCard
from hf_crosstask.tasks.schema import TaskType

if TYPE_CHECKING:
    import pyarrow

_METADATA = b"hf_crosstask"
_VERSION = 1

#: Task types whose gold and prediction are lists of entities, label sets, and numbers; all others decide on one label.
ENTITY_TYPES: frozenset[TaskType] = frozenset({"ner", "span_ner"})
SET_TYPES: frozenset[TaskType] = frozenset({"multilabel"})
NUMBER_TYPES: frozenset[TaskType] = frozenset({"similarity"})


@dataclass(frozen=True)
class Target:
    """What scoring must know of a task besides its predictions; it travels with them in the parquet file.

    `positive_label` is the class that `positive_f1` is about, `official` a scorer that scores the task besides.
    `lost_gold` maps a label to the gold annotations that no example carries; they are false negatives.
    """

    task: str
    type: TaskType
    labels: tuple[str, ...]
    negative_label: str | None = None
    lost_gold: Mapping[str, int] = field(default_factory=dict)
    positive_label: str | None = None
    official: Official | None = None
    formulation: Formulation = "head"

    @classmethod
    def of(cls, card: TaskCard, lost_gold: Mapping[str, int]) -> Target:
        """The target that a task card describes."""
        return cls(
            card.name,
            card.type,
            card.labels,
            card.negative_label,
            dict(lost_gold),
            card.positive_label,
            card.official,
            card.formulation,
        )


#: The slot values of each entity of an example.
Slots = tuple[tuple[str, ...], ...]


class Answer(NamedTuple):
    """What a language model generated, whether it could be read, and the log-likelihood and tokens of the right answer."""

    text: str
    parsed: bool
    log_likelihood: float
    tokens: int


class Query(NamedTuple):
    """The query that a candidate belongs to, and the candidate's rank in the order it came in."""

    id: str
    rank: int


class Pair(NamedTuple):
    """The two mentions of a candidate pair, with their offsets in the document."""

    head: Entity
    tail: Entity


@dataclass(frozen=True, eq=False)
class Predictions:
    """One row an example, in the order of the examples.

    Attributes:
        target: the task, as scoring needs it.
        ids: example ids.
        split_groups: the document, PMID or patient of each example.
        gold: entity tasks: all gold entities, also those that encoding cut; similarity: the score alone; multiple
            choice: the answer alone; others: all gold labels.
        predicted: entity tasks: the predicted entities; multi-label tasks: the predicted labels; similarity: the
            predicted score, on the scale of the data; others: the predicted label or answer. None without a prediction.
        confidence: entity and multi-label tasks: one number for each predicted entity or label; others: one number.
            None without a prediction, for scores, and (in each place) for what was read from a generated answer.
        alternatives: acceptable alternatives to the gold entities (BC2GM); None where the task has none.
        logits: the model's outputs for tasks with one decision an example (None at an example without one), None for
            entity tasks.
        queries: the query of each candidate; None for all but ranking tasks.
        choices: the choices of each question; None for all but multiple-choice tasks.
        gold_slots, predicted_slots: for each gold and each predicted entity the values that an official scorer compares
            besides type and span (`slots.slot_names`); None where there is no such scorer.
        answers: what was generated; None for all but generative tasks.
        pairs: the mentions of each candidate pair, where an official scorer compares them; else None.
    """

    target: Target
    ids: tuple[str, ...]
    split_groups: tuple[str, ...]
    gold: tuple[tuple[Any, ...], ...]
    predicted: tuple[Any, ...]
    confidence: tuple[Any, ...]
    alternatives: tuple[tuple[Entity, ...], ...] | None = None
    logits: tuple[NDArray[np.floating] | None, ...] | None = None
    queries: tuple[Query, ...] | None = None
    choices: tuple[tuple[str, ...], ...] | None = None
    gold_slots: tuple[Slots, ...] | None = None
    predicted_slots: tuple[Slots, ...] | None = None
    answers: tuple[Answer, ...] | None = None
    pairs: tuple[Pair, ...] | None = None

    def __post_init__(self) -> None:
        rows: tuple[Any, ...] = (self.split_groups, self.gold, self.predicted, self.confidence)
        columns = (*rows, self.alternatives, self.logits, self.queries, self.choices, self.answers, self.pairs)
        slots = (self.gold_slots, self.predicted_slots)
        if any(column is not None and len(column) != len(self.ids) for column in (*columns, *slots)):
            raise ValueError("the columns of predictions differ in length")
        for entities, values in zip((self.gold, self.predicted), slots, strict=True):
            if values is not None and [*map(len, values)] != [*map(len, entities)]:
                raise ValueError("slots belong to entities, one for one")

    def __len__(self) -> int:
        return len(self.ids)

    def to_parquet(self, path: str | Path) -> Path:
        """Write the columns id, split_group, gold, prediction, confidence and, where present, alternatives, logits,
        group_id and rank (ranking), choices, gold_slots and prediction_slots, and of generative tasks answer, parsed,
        log_likelihood and tokens, and head and tail of pairs.

        Entities are structs of `type` and `offsets` (a list of [start, end) character pairs, as in the unified
        schema), gold labels a list. The file is written whole or not at all.
        """
        import pyarrow.parquet

        return write_file(path, lambda temporary: pyarrow.parquet.write_table(self._table(), temporary))

    def _table(self) -> pyarrow.Table:
        import pyarrow as pa

        entities = pa.list_(pa.struct([("type", pa.string()), ("offsets", pa.list_(pa.list_(pa.int32())))]))
        strings, numbers = pa.list_(pa.string()), pa.list_(pa.float64())
        columns: dict[str, pyarrow.Array] = {
            "id": pa.array(self.ids, pa.string()),
            "split_group": pa.array(self.split_groups, pa.string()),
        }
        if self.target.type in ENTITY_TYPES:
            columns["gold"] = pa.array(_entity_rows(self.gold), entities)
            columns["prediction"] = pa.array(_entity_rows(self.predicted), entities)
            columns["confidence"] = pa.array(map(list, self.confidence), numbers)
        elif self.target.type in SET_TYPES:
            columns["gold"] = pa.array(map(list, self.gold), strings)
            columns["prediction"] = pa.array(_lists(self.predicted), strings)
            columns["confidence"] = pa.array(_lists(self.confidence), numbers)
        elif self.target.type in NUMBER_TYPES:
            columns["gold"] = pa.array([score for (score,) in self.gold], pa.float64())
            columns["prediction"] = pa.array(self.predicted, pa.float64())
            columns["confidence"] = pa.array(self.confidence, pa.float64())
        else:
            columns["gold"] = pa.array(map(list, self.gold), strings)
            columns["prediction"] = pa.array(self.predicted, pa.string())
            columns["confidence"] = pa.array(self.confidence, pa.float64())
        if self.alternatives is not None:
            columns["alternatives"] = pa.array(_entity_rows(self.alternatives), entities)
        if self.logits is not None:
            columns["logits"] = pa.array(self.logits, pa.list_(pa.float32()))
        if self.queries is not None:
            columns["group_id"] = pa.array([query.id for query in self.queries], pa.string())
            columns["rank"] = pa.array([query.rank for query in self.queries], pa.int32())
        if self.choices is not None:
            columns["choices"] = pa.array(map(list, self.choices), strings)
        for name, slots in (("gold_slots", self.gold_slots), ("prediction_slots", self.predicted_slots)):
            if slots is not None:
                columns[name] = pa.array([[*map(list, row)] for row in slots], pa.list_(strings))
        if self.pairs is not None:
            for number, name in enumerate(Pair._fields):
                (side,) = _entity_rows((tuple(pair[number] for pair in self.pairs),))
                columns[name] = pa.array(side, entities.value_type)
        if self.answers is not None:
            columns["answer"] = pa.array([answer.text for answer in self.answers], pa.string())
            columns["parsed"] = pa.array([answer.parsed for answer in self.answers], pa.bool_())
            columns["log_likelihood"] = pa.array([answer.log_likelihood for answer in self.answers], pa.float64())
            columns["tokens"] = pa.array([answer.tokens for answer in self.answers], pa.int32())
        header = json.dumps({"version": _VERSION, "target": asdict(self.target)})
        return pa.table(columns).replace_schema_metadata({_METADATA: header.encode()})

    @classmethod
    def from_parquet(cls, path: str | Path) -> Predictions:
        """Read what `to_parquet` wrote.

        Raises:
            InputError: the file is missing, is no parquet file, or was not written by this version of the library.
        """
        import pyarrow as pa
        import pyarrow.parquet

        try:
            table = pa.parquet.read_table(path)
        except FileNotFoundError:
            raise InputError(f"{path}: no such predictions file; a finished run has one for each task") from None
        except pa.ArrowInvalid as error:
            raise InputError(f"{path}: is not a whole parquet file ({error})") from None
        header = json.loads((table.schema.metadata or {}).get(_METADATA, b"{}"))
        if header.get("version") != _VERSION:
            raise InputError(
                f"{path}: was not written as predictions of hf_crosstask (version {_VERSION}); evaluate the run again"
            )
        fields = header["target"]
        target = Target(**{**fields, "labels": tuple(fields["labels"])})
        column = {name: table[name].to_pylist() for name in table.column_names}
        gold, predicted, confidence = (tuple(column[name]) for name in ("gold", "prediction", "confidence"))
        if target.type in ENTITY_TYPES:
            gold, predicted, confidence = _as_entities(gold), _as_entities(predicted), _tuples(confidence)
        elif target.type in SET_TYPES:
            gold, predicted, confidence = _tuples(gold), _tuples(predicted), _tuples(confidence)
        elif target.type in NUMBER_TYPES:
            gold = tuple((score,) for score in gold)
        else:
            gold = _tuples(gold)
        return cls(
            target=target,
            ids=tuple(column["id"]),
            split_groups=tuple(column["split_group"]),
            gold=gold,
            predicted=predicted,
            confidence=confidence,
            alternatives=_as_entities(column["alternatives"]) if "alternatives" in column else None,
            logits=_as_arrays(column["logits"]) if "logits" in column else None,
            queries=tuple(map(Query, column["group_id"], column["rank"])) if "group_id" in column else None,
            choices=_tuples(column["choices"]) if "choices" in column else None,
            gold_slots=tuple(map(_tuples, column["gold_slots"])) if "gold_slots" in column else None,
            predicted_slots=tuple(map(_tuples, column["prediction_slots"])) if "prediction_slots" in column else None,
            answers=(
                tuple(map(Answer, *(column[name] for name in ("answer", "parsed", "log_likelihood", "tokens"))))
                if "answer" in column
                else None
            ),
            pairs=(
                tuple(map(Pair, *(_as_entities([column[name]])[0] for name in Pair._fields)))
                if "head" in column
                else None
            ),
        )


def _entity_rows(rows: tuple[tuple[Entity, ...], ...]) -> list[list[dict[str, Any]]]:
    return [
        [{"type": entity.type, "offsets": [list(pair) for pair in entity.offsets]} for entity in row] for row in rows
    ]


def _as_entities(rows: Any) -> tuple[tuple[Entity, ...], ...]:
    return tuple(
        tuple(Entity(item["type"], tuple((start, end) for start, end in item["offsets"])) for item in row)
        for row in rows
    )


def _lists(rows: Any) -> list[list[Any] | None]:
    return [None if row is None else list(row) for row in rows]


def _tuples(rows: Any) -> tuple[Any, ...]:
    return tuple(None if row is None else tuple(row) for row in rows)


def _as_arrays(rows: list[list[float] | None]) -> tuple[NDArray[np.float32] | None, ...]:
    return tuple(None if row is None else np.asarray(row, dtype=np.float32) for row in rows)
