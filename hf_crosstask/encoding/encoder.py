"""What an encoder of a task type is, and what it is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from hf_crosstask.encoding.layout import Layout
from hf_crosstask.encoding.report import EncodingReport
from hf_crosstask.errors import DataFormatError, unknown_name
from hf_crosstask.tasks.card import TaskCard

if TYPE_CHECKING:
    from transformers import BatchEncoding, PreTrainedTokenizerBase

IGNORED = -100  # label of positions that carry no supervision (the default `ignore_index` of torch's losses)

LongInputs = Literal["window", "truncate"]
Columns = dict[str, list[Any]]


@dataclass(frozen=True)
class EncodingContext:
    """Everything an encoder needs besides the examples: see `encode_task` for the meaning of each."""

    card: TaskCard
    tokenizer: PreTrainedTokenizerBase
    max_length: int
    stride: int
    causal: bool
    long_inputs: LongInputs
    single: Layout
    pair: Layout

    def tokenize(self, texts: Sequence[str]) -> BatchEncoding:
        """Sub-tokens of the texts alone: no special tokens added, nothing cut, nothing padded.

        A special token written out in a text ("[SEP]", "</s>") is text like any other.
        """
        return self.tokenizer(
            list(texts),
            add_special_tokens=False,
            truncation=False,
            padding=False,
            split_special_tokens=True,
            return_offsets_mapping=True,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,  # longer than the model's maximum is expected here: rows are cut afterwards
        )

    def label_number(self, label: str, example_id: str) -> int:
        """The class id of a label: its place in the card.

        Raises:
            DataFormatError: the card does not have it.
        """
        try:
            return self.card.labels.index(label)
        except ValueError:
            problem = unknown_name("label", label, self.card.labels)
            raise DataFormatError(self.card.name, f"example {example_id!r}: {problem}") from None


@dataclass(frozen=True)
class TaskEncoder:
    """One entry of the dispatch table in `encode.py`.

    Args:
        inputs: the schema fields it reads, `id` included.
        columns: the columns it makes besides the shared ones, with their type: a `datasets` value type, with `[]` for
            lists (`{"labels": "int32[]"}`).
        encode: (batch of `inputs`, number of each example in the dataset, context) to rows and their report. `rows`
            holds `example_index`, `input_ids`, `token_type_ids` where the layout has token types, and `columns`;
            `attention_mask` (all ones: rows are not padded) is added for it. The rows of an example stand together,
            and every example has at least one (of a ranking: is in exactly one).
        nested: a row holds several sequences: `input_ids` and what goes with them are lists of lists.
        whole_split: it must see all examples at once, not a batch after another.
    """

    inputs: tuple[str, ...]
    columns: Mapping[str, str]
    encode: Callable[[Mapping[str, list[Any]], Sequence[int], EncodingContext], tuple[Columns, EncodingReport]]
    nested: bool = False
    whole_split: bool = False
