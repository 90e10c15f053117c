"""One text, or a text and its pair (question and context), with one class.

What does not fit `max_length` is left out at the end of the second text (transformers calls this "only_second"); the
first is shortened, at its end, only where it alone is too long. For causal models, whose class is read at the last
token (as transformers' own classes and pipelines do: nothing is appended), the second text follows the first on a new
line, since their tokenizers have no separator of their own (some begin a second sequence, some join the two without a
trace).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hf_crosstask.encoding.encoder import Columns, EncodingContext, TaskEncoder
from hf_crosstask.encoding.layout import Layout
from hf_crosstask.encoding.report import EncodingReport
from hf_crosstask.errors import InputError


def sequence_layouts(context: EncodingContext) -> tuple[Layout, Layout, str]:
    """Layouts of a text and of a pair, and what stands in the second text's place before it: a new line or nothing."""
    if context.causal:
        return context.single, context.single, "\n"
    return context.single, context.pair, "" if context.pair.between else "\n"


def _encode(
    batch: Mapping[str, list[Any]], indices: Sequence[int], context: EncodingContext
) -> tuple[Columns, EncodingReport]:
    single, pair, separator = sequence_layouts(context)
    paired = [number for number, text in enumerate(batch["text_pair"]) if text]
    firsts = context.tokenize(batch["text"])["input_ids"]
    seconds: dict[int, list[int]] = {}
    if paired:
        encoded = context.tokenize([separator + batch["text_pair"][number] for number in paired])
        seconds = dict(zip(paired, encoded["input_ids"], strict=True))
    rows, kinds, truncated = [], [], 0
    for number, first in enumerate(firsts):
        layout, second = (pair, seconds[number]) if number in seconds else (single, [])
        capacity = context.max_length - layout.size
        if capacity < 1:
            raise InputError(
                f"max_length {context.max_length} leaves no room for text beside {layout.size} special tokens"
            )
        truncated += len(first) + len(second) > capacity
        first = first[:capacity]
        second = second[: capacity - len(first)]
        rows.append(layout.input_ids(first, second))
        if layout.type_ids is not None:
            kinds.append(layout.token_type_ids(len(first), len(second)))
    columns: Columns = {
        "example_index": list(indices),
        "input_ids": rows,
        "labels": [
            context.label_number(labels[0], example_id)
            for labels, example_id in zip(batch["labels"], batch["id"], strict=True)
        ],
    }
    if kinds:
        columns["token_type_ids"] = kinds
    return columns, EncodingReport(
        examples=len(rows), rows=len(rows), tokens=sum(map(len, rows)), examples_truncated=truncated
    )


CLASSIFICATION = TaskEncoder(
    inputs=("id", "text", "text_pair", "labels"),
    columns={"labels": "int32"},
    encode=_encode,
)
