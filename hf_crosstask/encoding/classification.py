"""One text, or a text and its pair (question and context), with one class or any number of labels.

What does not fit `max_length` is left out at the end of the second text; the first is shortened, at its end, only
where it alone is too long.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hf_crosstask.encoding.encoder import Columns, EncodingContext, TaskEncoder
from hf_crosstask.encoding.report import EncodingReport
from hf_crosstask.encoding.sequences import Sequences, encode_sequences


def sequence_columns(
    indices: Sequence[int], sequences: Sequences, labels: list[Any]
) -> tuple[Columns, EncodingReport]:
    """Columns and report of a task with one row and one target an example."""
    columns: Columns = {"example_index": list(indices), "input_ids": sequences.input_ids, "labels": labels}
    if sequences.token_type_ids is not None:
        columns["token_type_ids"] = sequences.token_type_ids
    return columns, EncodingReport(
        examples=len(labels),
        rows=len(labels),
        tokens=sum(map(len, sequences.input_ids)),
        examples_truncated=sum(sequences.truncated),
    )


def _encode_classes(
    batch: Mapping[str, list[Any]], indices: Sequence[int], context: EncodingContext
) -> tuple[Columns, EncodingReport]:
    classes = [
        context.label_number(labels[0], example_id)
        for labels, example_id in zip(batch["labels"], batch["id"], strict=True)
    ]
    return sequence_columns(indices, encode_sequences(batch["text"], batch["text_pair"], context), classes)


def _encode_label_sets(
    batch: Mapping[str, list[Any]], indices: Sequence[int], context: EncodingContext
) -> tuple[Columns, EncodingReport]:
    vectors = []
    for labels, example_id in zip(batch["labels"], batch["id"], strict=True):
        vector = [0.0] * len(context.card.labels)
        for label in labels:
            vector[context.label_number(label, example_id)] = 1.0
        vectors.append(vector)
    return sequence_columns(indices, encode_sequences(batch["text"], batch["text_pair"], context), vectors)


_INPUTS = ("id", "text", "text_pair", "labels")
CLASSIFICATION = TaskEncoder(inputs=_INPUTS, columns={"labels": "int32"}, encode=_encode_classes)
MULTILABEL = TaskEncoder(inputs=_INPUTS, columns={"labels": "float32[]"}, encode=_encode_label_sets)
