"""Lengths of examples in words and in tokens, their percentiles, and the `max_length` they suggest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hf_crosstask.data_report.report import Lengths, TokenLengths
from hf_crosstask.encoding.alignment import align
from hf_crosstask.encoding.encode import encoder_of
from hf_crosstask.encoding.encoder import EncodingContext
from hf_crosstask.encoding.layout import pair_layout, single_layout
from hf_crosstask.encoding.relation import mark
from hf_crosstask.encoding.words import words
from hf_crosstask.tasks.card import TaskCard
from hf_crosstask.tasks.schema import TaskType

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

Integers = NDArray[np.int64]

#: Percent of the examples that a suggested `max_length` covers, and what it is a multiple of: kernels and padding
#: prefer round lengths.
COVERED, STEP = 99, 32
_UNLIMITED = 1 << 40
_BATCH = 1000
_Batch = Mapping[str, Any]
_Counter = Callable[[_Batch, EncodingContext], Iterable[int]]


def word_lengths(examples: Dataset, card: TaskCard) -> Integers:
    """[examples] words of `text` and `text_pair` together, by the card's segmentation."""
    known: dict[str, int] = {}  # candidate pairs share their sentences

    def count(text: str | None) -> int:
        if not text:
            return 0
        if text not in known:
            known[text] = len(words(text, card.segmentation))
        return known[text]

    pairs = zip(examples["text"][:], examples["text_pair"][:], strict=True)
    return np.array([count(text) + count(pair) for text, pair in pairs], np.int64)


def token_lengths(examples: Dataset, card: TaskCard, tokenizer: PreTrainedTokenizerBase, *, causal: bool) -> Integers:
    """[examples] forward tokens of each example as it is encoded for training, uncut; in no particular order.

    Raises:
        InputError: the task cannot be posed to this kind of model.
    """
    context = EncodingContext(
        card,
        tokenizer,
        max_length=_UNLIMITED,
        stride=0,
        causal=causal,
        long_inputs="truncate",
        single=single_layout(tokenizer),
        pair=pair_layout(tokenizer),
    )
    encoder = encoder_of(card)
    fields: tuple[str, ...] = encoder.inputs
    count: _Counter = _count_encoded
    if card.formulation == "head":
        fields, count = _COUNTERS.get(card.type, (fields, count))
    inputs = examples.select_columns(list(fields))
    size = len(examples) if encoder.whole_split else _BATCH
    lengths: list[int] = []
    for start in range(0, len(examples), size):
        lengths += count(inputs[start : start + size], context)
    return np.array(lengths, np.int64)


def summarize(lengths: Integers) -> Lengths:
    """Percentiles of at least one length."""
    ordered = np.sort(lengths)
    # Ranks in whole numbers: 0.07 * 100 is more than 7.
    quantiles = [int(ordered[max(-(-percent * len(ordered) // 100), 1) - 1]) for percent in range(101)]
    return Lengths(
        total=int(ordered.sum()),
        mean=float(ordered.mean()),
        p50=quantiles[50],
        p90=quantiles[90],
        p95=quantiles[95],
        p99=quantiles[99],
        max=quantiles[100],
        quantiles=tuple(quantiles),
    )


def summarize_tokens(lengths: Integers, *, longest: int, max_length: int) -> TokenLengths:
    """Percentiles and the `max_length` they suggest.

    Args:
        lengths: of at least one example.
        longest: tokens that the model takes at most.
        max_length: that of the recipe.
    """
    summary = summarize(lengths)
    suggested = min(-(-summary.quantiles[COVERED] // STEP) * STEP, longest)
    return TokenLengths(
        **summary.model_dump(),
        suggested_max_length=suggested,
        covered=float((lengths <= suggested).mean()),
        longer_than_recipe=int((lengths > max_length).sum()),
    )


def _count_words(batch: _Batch, context: EncodingContext) -> Iterator[int]:
    """Entity tasks: tokens of whole words."""
    return (context.single.size + len(text.ids) for text in align(batch["text"], context))


def _count_marked(batch: _Batch, context: EncodingContext) -> Iterator[int]:
    """Relation tasks: the text with the markers of its pair."""
    marked = []
    for text, entities, relations in zip(batch["text"], batch["entities"], batch["relations"], strict=True):
        by_id = {entity["id"]: entity for entity in entities}
        marked.append(mark(text, by_id[relations[0]["head"]], by_id[relations[0]["tail"]]).text)
    return (context.single.size + len(ids) for ids in context.tokenize(marked)["input_ids"])


def _count_encoded(batch: _Batch, context: EncodingContext) -> Iterator[int]:
    """Any other task: what its encoder makes of the examples."""
    encoder = encoder_of(context.card)
    columns, _ = encoder.encode(batch, range(len(batch["text"])), context)
    rows = columns["input_ids"]
    if not encoder.nested:
        return map(len, rows)
    if "candidate_index" in columns:  # a row of a ranking holds several examples, one sequence each
        return (len(sequence) for row in rows for sequence in row)
    return (max(map(len, row)) for row in rows)


#: Task types whose encoders do much besides: counted by the steps of theirs that decide lengths.
_COUNTERS: dict[TaskType, tuple[tuple[str, ...], _Counter]] = {
    "ner": (("text",), _count_words),
    "span_ner": (("text",), _count_words),
    "relation": (("text", "entities", "relations"), _count_marked),
}
