"""Rows of one text, or of a text and its pair, and the ways to cut what is too long.

For causal models, whose output is read at the last token (as transformers' own classes and pipelines do: nothing is
appended), the second text follows the first on a new line, since their tokenizers have no separator of their own (some
begin a second sequence, some join the two without a trace).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hf_crosstask.encoding.encoder import EncodingContext
from hf_crosstask.encoding.layout import Layout
from hf_crosstask.errors import InputError

Tokens = list[int]
#: (first text, second text, tokens there is room for) to what is kept of both.
Cut = Callable[[Tokens, Tokens, int], tuple[Tokens, Tokens]]


@dataclass(frozen=True)
class Sequences:
    """Token ids of rows, their token types (None where the model has none), and which rows were cut."""

    input_ids: list[Tokens]
    token_type_ids: list[Tokens] | None
    truncated: list[bool]


def cut_second(first: Tokens, second: Tokens, capacity: int) -> tuple[Tokens, Tokens]:
    """Cut the end of the second text; the first is shortened, at its end, only where it alone is too long.

    transformers calls this "only_second".
    """
    first = first[:capacity]
    return first, second[: capacity - len(first)]


def cut_longer(first: Tokens, second: Tokens, capacity: int) -> tuple[Tokens, Tokens]:
    """Cut the end of the longer text until both fit: neither loses a token below half of the room.

    transformers calls this "longest_first".
    """
    if len(first) + len(second) <= capacity:
        return first, second
    shorter = min(len(first), len(second), capacity // 2)
    if len(first) <= len(second):
        return first[:shorter], second[: capacity - shorter]
    return first[: capacity - shorter], second[:shorter]


def cut_start_of_first(first: Tokens, second: Tokens, capacity: int) -> tuple[Tokens, Tokens]:
    """Cut the beginning of the first text; the second is shortened, at its end, only where it alone is too long."""
    second = second[:capacity]
    return first[max(0, len(first) - capacity + len(second)) :], second


def sequence_layouts(context: EncodingContext) -> tuple[Layout, Layout, str]:
    """Layouts of a text and of a pair, and what stands in the second text's place before it: a new line or nothing."""
    if context.causal:
        return context.single, context.single, "\n"
    return context.single, context.pair, "" if context.pair.between else "\n"


def encode_sequences(
    firsts: Sequence[str], seconds: Sequence[str | None], context: EncodingContext, cut: Cut = cut_second
) -> Sequences:
    """Rows of the texts, each with its second text where it has one, of at most `context.max_length` tokens.

    Raises:
        InputError: `max_length` leaves no room for text.
    """
    single, pair, separator = sequence_layouts(context)
    paired = [number for number, text in enumerate(seconds) if text]
    first_ids = context.tokenize(firsts)["input_ids"]
    second_ids: dict[int, Tokens] = {}
    if paired:
        encoded = context.tokenize([f"{separator}{seconds[number]}" for number in paired])
        second_ids = dict(zip(paired, encoded["input_ids"], strict=True))
    rows: list[Tokens] = []
    kinds: list[Tokens] = []
    truncated = []
    for number, first in enumerate(first_ids):
        layout, second = (pair, second_ids[number]) if number in second_ids else (single, [])
        capacity = context.max_length - layout.size
        if capacity < 1:
            raise InputError(
                f"max_length {context.max_length} leaves no room for text beside {layout.size} special tokens"
            )
        truncated.append(len(first) + len(second) > capacity)
        first, second = cut(first, second, capacity)
        rows.append(layout.input_ids(first, second))
        if layout.type_ids is not None:
            kinds.append(layout.token_type_ids(len(first), len(second)))
    return Sequences(rows, kinds or None, truncated)
