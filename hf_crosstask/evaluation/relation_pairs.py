"""The mentions of candidate pairs, which official scorers of relations compare with one another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hf_crosstask.evaluation.entities import Entity
from hf_crosstask.evaluation.predictions import Pair, Predictions
from hf_crosstask.tasks.readers.documents import document_offsets

if TYPE_CHECKING:
    from datasets import Dataset


class PairFiller:
    """Gives predictions of relations the mentions of each candidate pair."""

    def __init__(self, examples: Dataset):
        columns = examples.select_columns(["entities", "relations"]).with_format("arrow")[:].to_pydict()
        self._pairs = tuple(map(_pair, columns["entities"], columns["relations"]))

    def __call__(self, predictions: Predictions) -> Predictions:
        """The predictions with their pairs."""
        return replace(predictions, pairs=self._pairs)


def _pair(entities: list[Mapping[str, Any]], relations: list[Mapping[str, str]]) -> Pair:
    by_id = {entity["id"]: Entity(entity["type"], document_offsets(entity)) for entity in entities}
    return Pair(by_id[relations[0]["head"]], by_id[relations[0]["tail"]])
