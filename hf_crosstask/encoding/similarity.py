"""Two texts and how alike they are: one number, learned in [0, 1] whatever the scale of the annotators.

Of two texts that do not fit `max_length` together, the longer is cut at its end (see `cut_longer`): neither sentence of
a pair matters more than the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hf_crosstask.encoding.classification import sequence_columns
from hf_crosstask.encoding.encoder import Columns, EncodingContext, TaskEncoder
from hf_crosstask.encoding.report import EncodingReport
from hf_crosstask.encoding.sequences import cut_longer, encode_sequences
from hf_crosstask.errors import DataFormatError
from hf_crosstask.tasks.card import TaskCard


def unit_score(score: float, card: TaskCard, example_id: str) -> float:
    """A score of the card's `score_range` as a number from 0 to 1.

    Raises:
        DataFormatError: the score lies outside the range.
    """
    low, high = card.score_range
    if not low <= score <= high:
        raise DataFormatError(
            card.name,
            f"example {example_id!r}: the score {score:g} lies outside the range [{low:g}, {high:g}].",
            remedy="Set the task's `score_range` to the lowest and the highest score there can be.",
        )
    return (score - low) / (high - low)


def _encode(
    batch: Mapping[str, list[Any]], indices: Sequence[int], context: EncodingContext
) -> tuple[Columns, EncodingReport]:
    scores = [
        unit_score(score, context.card, example_id)
        for score, example_id in zip(batch["score"], batch["id"], strict=True)
    ]
    sequences = encode_sequences(batch["text"], batch["text_pair"], context, cut_longer)
    return sequence_columns(indices, sequences, scores)


SIMILARITY = TaskEncoder(
    inputs=("id", "text", "text_pair", "score"),
    columns={"labels": "float32"},
    encode=_encode,
)
