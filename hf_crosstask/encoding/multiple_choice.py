"""A question and its choices: one row an example, which holds one sequence for every choice.

A softmax over the choices needs their scores together, so they travel in one row: `input_ids` is a list of sequences,
(question, choice) each, and `labels` the number of the right one. The row's tokens are those of all its sequences.

What does not fit `max_length` is left out at the beginning of the question: what is asked stands at the end of a case
report, and a choice that is cut cannot be told from the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any

from hf_crosstask.encoding.encoder import Columns, EncodingContext, TaskEncoder
from hf_crosstask.encoding.report import EncodingReport
from hf_crosstask.encoding.sequences import Sequences, cut_start_of_first, encode_sequences


def nested_columns(sequences: Sequences, rows: Sequence[Iterable[int]]) -> Columns:
    """`input_ids` and token types of rows that hold several sequences each, given by their numbers."""
    picked = [list(row) for row in rows]
    columns: Columns = {"input_ids": [[sequences.input_ids[number] for number in row] for row in picked]}
    if sequences.token_type_ids is not None:
        columns["token_type_ids"] = [[sequences.token_type_ids[number] for number in row] for row in picked]
    return columns


def choice_rows(choices: Sequence[Sequence[str]]) -> list[range]:
    """The numbers of each example's choices where the choices of all examples stand in one list."""
    ends = list(accumulate(map(len, choices)))
    return [range(end - len(row), end) for end, row in zip(ends, choices, strict=True)]


def _encode(
    batch: Mapping[str, list[Any]], indices: Sequence[int], context: EncodingContext
) -> tuple[Columns, EncodingReport]:
    choices = batch["choices"]
    questions = [text for text, row in zip(batch["text"], choices, strict=True) for _ in row]
    sequences = encode_sequences(questions, [choice for row in choices for choice in row], context, cut_start_of_first)
    rows = choice_rows(choices)
    columns: Columns = {
        "example_index": list(indices),
        **nested_columns(sequences, rows),
        "labels": [row.index(answer) for row, answer in zip(choices, batch["answer"], strict=True)],
    }
    return columns, EncodingReport(
        examples=len(rows),
        rows=len(rows),
        tokens=sum(map(len, sequences.input_ids)),
        examples_truncated=sum(any(sequences.truncated[number] for number in row) for row in rows),
    )


MULTIPLE_CHOICE = TaskEncoder(
    inputs=("text", "choices", "answer"),
    columns={"labels": "int32"},
    encode=_encode,
    nested=True,
)
