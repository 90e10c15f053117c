"""`encode_task`: the examples of one split to model features, cached by content."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from hf_crosstask.atomic import json_fingerprint
from hf_crosstask.encoding.classification import CLASSIFICATION, MULTILABEL
from hf_crosstask.encoding.encoder import EncodingContext, LongInputs, TaskEncoder
from hf_crosstask.encoding.generative import language_encoder
from hf_crosstask.encoding.layout import Layout, pair_layout, single_layout
from hf_crosstask.encoding.multiple_choice import MULTIPLE_CHOICE
from hf_crosstask.encoding.ner import NER
from hf_crosstask.encoding.ranking import RANKING
from hf_crosstask.encoding.relation import RELATION
from hf_crosstask.encoding.report import EncodingReport
from hf_crosstask.encoding.similarity import SIMILARITY
from hf_crosstask.encoding.span_ner import SPAN_NER
from hf_crosstask.errors import InputError, unknown_name
from hf_crosstask.tasks.card import TaskCard
from hf_crosstask.tasks.schema import TaskType

if TYPE_CHECKING:
    from datasets import Dataset, Features
    from transformers import PreTrainedTokenizerBase

ENCODING_VERSION = 4  # raise it with every change to what any encoder makes: cached encodings are then made anew

ENCODERS: dict[TaskType, TaskEncoder] = {
    "ner": NER,
    "span_ner": SPAN_NER,
    "relation": RELATION,
    "classification": CLASSIFICATION,
    "multilabel": MULTILABEL,
    "similarity": SIMILARITY,
    "ranking": RANKING,
    "multiple_choice": MULTIPLE_CHOICE,
}

_REPORT = "_report"  # a column of the cache file alone: the report of each batch, on its first row


@dataclass(frozen=True)
class EncodedTask:
    """One encoded split.

    Attributes:
        card: the task.
        dataset: the rows; columns as `encode_task` lists them.
        report: what encoding did to the examples.
    """

    card: TaskCard
    dataset: Dataset
    report: EncodingReport


def encoder_of(card: TaskCard) -> TaskEncoder:
    """The encoder of a task's type, or of its form for language models.

    Raises:
        InputError: the type has none.
    """
    if card.formulation != "head":
        return language_encoder(card)
    encoder = ENCODERS.get(card.type)
    if encoder is None:
        raise InputError(f"task {card.name!r}: {unknown_name('encoding for task type', card.type, ENCODERS)}")
    return encoder


def encode_task(
    examples: Dataset,
    card: TaskCard,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int,
    stride: int = 0,
    causal: bool,
    long_inputs: LongInputs = "window",
    split: str | None = None,
) -> EncodedTask:
    """Encode the examples of one split.

    Columns: `example_index` (int32, row in `examples`), `input_ids`, `attention_mask` (all ones: the collator pads),
    `token_type_ids` where the tokenizer has them, `labels`, and by task type

    - `ner`: `labels` one tag number a token (`ner_tags(card.labels)`; -100 on special tokens, white space and words
      another window owns), `word_index` (numbers of the words this row owns) and `word_position` (the token each is
      read at). The rows of an example stand together.
    - `span_ner`: `word_index` numbers of all words this row shows, `word_positions` the token each is read at, `labels`
      one list a word of `card.reach` numbers, whose bits say how the word is linked to itself and those behind it (see
      `links`; -100 where another window shows more of the context of both).
    - `relation`: `labels` the class id of the first relation, `entity_positions` the tokens of the opening markers of
      head and tail, of their closing markers for causal models.
    - `classification`: `labels` the class id.
    - `multilabel`: `labels` one number a label of the card, 1 or 0.
    - `similarity`: `labels` the score, from 0 to 1 (`card.score_range`).
    - `multiple_choice`: a row holds one sequence for each choice (`input_ids` and what goes with them are lists of
      lists); `labels` the number of the right choice.
    - `ranking`: a row holds several candidates of one query, one sequence each; `labels` their relevance from 0 to 1,
      `candidate_index` the example of each (`example_index` the first of these).

    and of tasks posed to a language model (see `generative`), whatever their type:

    - `generative`: prompt and answer; `labels` the tokens of the answer, -100 on the prompt, and `prompt_ids` the prompt
      that answers are generated to.
    - `likelihood`: a row holds the prompt with each choice; `completion_mask` is 1 on the tokens of a choice, `labels`
      the number of the right one.

    The result is kept under `datasets`' cache folder (`HF_DATASETS_CACHE`), named by a fingerprint of everything it
    depends on; `datasets.disable_caching()` keeps it in memory instead.

    Args:
        examples: rows of the unified schema.
        card: the task; its type, labels, segmentation, score range and (`ner`) official scorer matter here.
        tokenizer: a fast tokenizer.
        max_length: tokens of a row at most, special tokens included.
        stride: tokens that neighbouring windows of one text share at most (NER, span NER).
        causal: the model is a decoder.
        long_inputs: texts longer than `max_length` (NER, span NER): `window` sees all of it in several rows, `truncate`
            drops the end. Relations are cropped around their entities in either case; the other types are cut as their
            modules say, and counted.
        split: names the split on the progress bar; the split the dataset itself names by default.

    Raises:
        InputError: the tokenizer, a length or the task type does not fit.
        DataFormatError: an example has an unknown label, or entities that cannot be shown.
    """
    encoder = encoder_of(card)
    if long_inputs not in get_args(LongInputs):
        raise InputError(unknown_name("long_inputs", long_inputs, get_args(LongInputs)))
    if len(examples) == 0:
        raise InputError(f"task {card.name!r}: there are no examples to encode")
    layout = _checked_layout(tokenizer, max_length)
    context = EncodingContext(
        card, tokenizer, max_length, stride, causal, long_inputs, single=layout, pair=pair_layout(tokenizer)
    )
    fingerprint = encoding_fingerprint(examples, context)

    def encode_batch(batch: Mapping[str, list[Any]], indices: Sequence[int]) -> dict[str, list[Any]]:
        columns, report = encoder.encode(batch, indices, context)
        rows = columns["input_ids"]
        if not all(all(row) if encoder.nested else row for row in rows):
            raise InputError(f"task {card.name!r}: the tokenizer makes no token of an example's text")
        columns["attention_mask"] = [
            [[1] * len(sequence) for sequence in row] if encoder.nested else [1] * len(row) for row in rows
        ]
        columns[_REPORT] = [list(report.as_dict().values()), *([] for _ in rows[1:])]
        return columns

    name = split or examples.split
    inputs = examples.select_columns(list(encoder.inputs)).with_format(None)
    encoded = inputs.map(
        encode_batch,
        with_indices=True,
        batched=True,
        batch_size=None if encoder.whole_split else 1000,
        remove_columns=list(encoder.inputs),
        features=_features(encoder, layout),
        new_fingerprint=fingerprint,
        cache_file_name=_cache_file(fingerprint),
        desc=f"encoding {card.name} {name}" if name else f"encoding {card.name}",
    )
    return EncodedTask(card, encoded.remove_columns(_REPORT), _stored_report(encoded))


def encoding_fingerprint(examples: Dataset, context: EncodingContext) -> str:
    """Hex SHA-256 over all that an encoding depends on: examples, tokenizer, card fields, parameters, versions."""
    import tokenizers

    card = context.card
    return json_fingerprint(
        {
            "encoding_version": ENCODING_VERSION,
            "tokenizers": tokenizers.__version__,
            "examples": examples._fingerprint,
            "tokenizer": tokenizer_fingerprint(context.tokenizer),
            "type": card.type,
            "labels": card.labels,
            "segmentation": card.segmentation,
            "score_range": card.score_range,
            "reach": card.reach,
            "formulation": card.formulation,
            **({"official": card.official} if card.official and card.type == "ner" else {}),
            "max_new_tokens": card.max_new_tokens,
            "chat_template": None if card.formulation == "head" else context.tokenizer.chat_template,
            "max_length": context.max_length,
            "stride": context.stride,
            "causal": context.causal,
            "long_inputs": context.long_inputs,
        }
    )


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """Hex SHA-256 of what a tokenizer does, whatever its path and whatever it was called with before."""
    backend = tokenizer.backend_tokenizer
    # Truncation and padding are set anew by every call of the tokenizer; they are no part of what it is.
    backend.no_truncation()
    backend.no_padding()
    own = [tokenizer.eos_token_id, sorted(tokenizer.model_input_names)]
    return hashlib.sha256(f"{own}\n{backend.to_str()}".encode()).hexdigest()


def _checked_layout(tokenizer: PreTrainedTokenizerBase, max_length: int) -> Layout:
    if not tokenizer.is_fast:
        raise InputError("encoding needs a fast tokenizer (one with a tokenizer.json), which knows token offsets")
    if max_length > tokenizer.model_max_length:
        raise InputError(
            f"max_length {max_length} is more than the {tokenizer.model_max_length} tokens the model was made for; "
            f"set max_length to {tokenizer.model_max_length} or less"
        )
    layout = single_layout(tokenizer)
    if max_length <= layout.size:
        raise InputError(f"max_length {max_length} leaves no room for text beside {layout.size} special tokens")
    return layout


def _features(encoder: TaskEncoder, layout: Layout) -> Features:
    from datasets import Features

    sequence = "[][]" if encoder.nested else "[]"
    types = {"example_index": "int32", "input_ids": f"int32{sequence}", "attention_mask": f"int8{sequence}"}
    if layout.type_ids is not None:
        types["token_type_ids"] = f"int8{sequence}"
    types |= {**encoder.columns, _REPORT: "int64[]"}
    return Features({name: _feature(kind) for name, kind in types.items()})


def _feature(kind: str) -> Any:
    from datasets import List, Value

    return List(_feature(kind.removesuffix("[]"))) if kind.endswith("[]") else Value(kind)


def _cache_file(fingerprint: str) -> str | None:
    import datasets

    if not datasets.is_caching_enabled():
        return None
    folder = Path(datasets.config.HF_DATASETS_CACHE) / "hf_crosstask"
    folder.mkdir(parents=True, exist_ok=True)
    return str(folder / f"encoded-{fingerprint}.arrow")


def _stored_report(encoded: Dataset) -> EncodingReport:
    stored = encoded.select_columns(_REPORT).with_format("arrow")[:][_REPORT].combine_chunks().flatten()
    counts = stored.to_numpy().reshape(-1, len(EncodingReport().as_dict())).sum(axis=0)
    return EncodingReport(*(int(count) for count in np.asarray(counts)))
