"""Queries and their candidates: one row holds several candidates of one query, so that a loss can compare them.

The plan puts any rows into a micro-batch, so what a pairwise loss compares must stand in one row: `input_ids` is a
list of sequences, (query, candidate) each, `labels` their relevance in [0, 1] and `candidate_index` the examples they
come from (`example_index` is the first of these). Every candidate is in exactly one row.

A query with many or long candidates makes several rows: none is padded to more than `ROW_SEQUENCES` times `max_length`
tokens. Candidates of similar length share a row, which keeps padding small; pairs across rows are not compared, and
each candidate is learned by itself as well (see `RankingHead`).

Of two texts that do not fit `max_length` together, the longer is cut at its end (see `cut_longer`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hf_crosstask.encoding.encoder import Columns, EncodingContext, TaskEncoder
from hf_crosstask.encoding.multiple_choice import nested_columns
from hf_crosstask.encoding.report import EncodingReport
from hf_crosstask.encoding.sequences import cut_longer, encode_sequences
from hf_crosstask.encoding.similarity import unit_score

#: A row holds as many candidates as this many of the longest possible sequences have tokens.
ROW_SEQUENCES = 4


def candidate_rows(groups: Sequence[str], lengths: Sequence[int], limit: int) -> list[list[int]]:
    """The candidates of each row, by number; rows in the order of their queries, a row's candidates in theirs.

    Args:
        groups: the query of each candidate.
        lengths: tokens of each candidate.
        limit: tokens that a row holds at most when its candidates are padded to the longest; a candidate that is
            longer has a row of its own.
    """
    by_query: dict[str, list[int]] = {}
    for number, group in enumerate(groups):
        by_query.setdefault(group, []).append(number)
    rows: list[list[int]] = []
    for candidates in by_query.values():
        ordered = sorted(candidates, key=lambda number: lengths[number])
        row: list[int] = []
        for number in ordered:
            if row and (len(row) + 1) * lengths[number] > limit:
                rows.append(sorted(row))
                row = []
            row.append(number)
        rows.append(sorted(row))
    return rows


def _encode(
    batch: Mapping[str, list[Any]], indices: Sequence[int], context: EncodingContext
) -> tuple[Columns, EncodingReport]:
    sequences = encode_sequences(batch["text"], batch["text_pair"], context, cut_longer)
    lengths = list(map(len, sequences.input_ids))
    rows = candidate_rows(batch["group_id"], lengths, ROW_SEQUENCES * context.max_length)
    relevance = [
        unit_score(score, context.card, example_id)
        for score, example_id in zip(batch["score"], batch["id"], strict=True)
    ]
    columns: Columns = {
        "example_index": [indices[row[0]] for row in rows],
        **nested_columns(sequences, rows),
        "labels": [[relevance[number] for number in row] for row in rows],
        "candidate_index": [[indices[number] for number in row] for row in rows],
    }
    return columns, EncodingReport(
        examples=len(lengths), rows=len(rows), tokens=sum(lengths), examples_truncated=sum(sequences.truncated)
    )


RANKING = TaskEncoder(
    inputs=("id", "text", "text_pair", "score", "group_id"),
    columns={"labels": "float32[]", "candidate_index": "int32[]"},
    encode=_encode,
    nested=True,
    whole_split=True,
)
