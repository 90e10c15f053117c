"""Predictions of one task beside their gold: the table from which every score is computed, and its parquet file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hf_crosstask.atomic import write_file
from hf_crosstask.errors import InputError
from hf_crosstask.evaluation.entities import Entity
from hf_crosstask.tasks.card import TaskCard
from hf_crosstask.tasks.schema import TaskType

if TYPE_CHECKING:
    import pyarrow

_METADATA = b"hf_crosstask"
_VERSION = 1

#: Task types whose gold and prediction are lists of entities; all others are label decisions.
ENTITY_TYPES: frozenset[TaskType] = frozenset({"ner", "span_ner"})


@dataclass(frozen=True)
class Target:
    """What scoring must know of a task besides its predictions; it travels with them in the parquet file.

    `lost_gold` maps a label to the gold annotations that no example carries; they are false negatives.
    """

    task: str
    type: TaskType
    labels: tuple[str, ...]
    negative_label: str | None = None
    lost_gold: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, card: TaskCard, lost_gold: Mapping[str, int]) -> Target:
        """The target that a task card describes."""
        return cls(card.name, card.type, card.labels, card.negative_label, dict(lost_gold))


@dataclass(frozen=True, eq=False)
class Predictions:
    """One row an example, in the order of the examples.

    Attributes:
        target: the task, as scoring needs it.
        ids: example ids.
        split_groups: the document, PMID or patient of each example.
        gold: entity tasks: all gold entities, also those that encoding cut; others: all gold labels.
        predicted: entity tasks: the predicted entities; others: the predicted label, None without a prediction.
        confidence: entity tasks: one number for each predicted entity; others: one number, None without a prediction.
        alternatives: acceptable alternatives to the gold entities (BC2GM); None where the task has none.
        logits: the model's outputs for tasks with one decision an example (None at an example without one), None for
            entity tasks.
    """

    target: Target
    ids: tuple[str, ...]
    split_groups: tuple[str, ...]
    gold: tuple[tuple[Any, ...], ...]
    predicted: tuple[Any, ...]
    confidence: tuple[Any, ...]
    alternatives: tuple[tuple[Entity, ...], ...] | None = None
    logits: tuple[NDArray[np.float32] | None, ...] | None = None

    def __post_init__(self) -> None:
        columns = (self.split_groups, self.gold, self.predicted, self.confidence, self.alternatives, self.logits)
        if any(column is not None and len(column) != len(self.ids) for column in columns):
            raise ValueError("the columns of predictions differ in length")

    def __len__(self) -> int:
        return len(self.ids)

    def to_parquet(self, path: str | Path) -> Path:
        """Write the columns id, split_group, gold, prediction, confidence and, where present, alternatives and logits.

        Entities are structs of `type` and `offsets` (a list of [start, end) character pairs, as in the unified
        schema), gold labels a list. The file is written whole or not at all.
        """
        import pyarrow.parquet

        return write_file(path, lambda temporary: pyarrow.parquet.write_table(self._table(), temporary))

    def _table(self) -> pyarrow.Table:
        import pyarrow as pa

        entity = pa.struct([("type", pa.string()), ("offsets", pa.list_(pa.list_(pa.int32())))])
        columns: dict[str, pyarrow.Array] = {
            "id": pa.array(self.ids, pa.string()),
            "split_group": pa.array(self.split_groups, pa.string()),
        }
        if self.target.type in ENTITY_TYPES:
            columns["gold"] = pa.array(_entity_rows(self.gold), pa.list_(entity))
            columns["prediction"] = pa.array(_entity_rows(self.predicted), pa.list_(entity))
            columns["confidence"] = pa.array([list(row) for row in self.confidence], pa.list_(pa.float64()))
        else:
            columns["gold"] = pa.array([list(row) for row in self.gold], pa.list_(pa.string()))
            columns["prediction"] = pa.array(self.predicted, pa.string())
            columns["confidence"] = pa.array(self.confidence, pa.float64())
        if self.alternatives is not None:
            columns["alternatives"] = pa.array(_entity_rows(self.alternatives), pa.list_(entity))
        if self.logits is not None:
            columns["logits"] = pa.array(self.logits, pa.list_(pa.float32()))
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
        entities = target.type in ENTITY_TYPES
        return cls(
            target=target,
            ids=tuple(column["id"]),
            split_groups=tuple(column["split_group"]),
            gold=_as_entities(column["gold"]) if entities else tuple(tuple(row) for row in column["gold"]),
            predicted=_as_entities(column["prediction"]) if entities else tuple(column["prediction"]),
            confidence=tuple(tuple(row) if entities else row for row in column["confidence"]),
            alternatives=_as_entities(column["alternatives"]) if "alternatives" in column else None,
            logits=_as_arrays(column["logits"]) if "logits" in column else None,
        )


def _entity_rows(rows: tuple[tuple[Entity, ...], ...]) -> list[list[dict[str, Any]]]:
    return [
        [{"type": entity.type, "offsets": [list(pair) for pair in entity.offsets]} for entity in row] for row in rows
    ]


def _as_entities(rows: list[list[dict[str, Any]]]) -> tuple[tuple[Entity, ...], ...]:
    return tuple(
        tuple(Entity(item["type"], tuple((start, end) for start, end in item["offsets"])) for item in row)
        for row in rows
    )


def _as_arrays(rows: list[list[float] | None]) -> tuple[NDArray[np.float32] | None, ...]:
    return tuple(None if row is None else np.asarray(row, dtype=np.float32) for row in rows)
