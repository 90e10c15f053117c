"""Encoded rows of a task as text alone: what a language model learns from its inputs, none of its labels.

Tokens, lengths and order stay what they are, so a run that trains a task as text has the plan of the run that trains it
with labels. Decoders predict every token but the first of a sequence. Encoders predict 15 % of the ordinary tokens (at
least one), as many as BERT does (Devlin et al. 2019, §3.1): `labels` holds a first draw of them, and training draws as
many anew each time it sees a row (`models.text`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_crosstask.atomic import json_fingerprint
from hf_crosstask.encoding.encode import EncodedTask
from hf_crosstask.encoding.encoder import IGNORED
from hf_crosstask.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: Share of a sequence's ordinary tokens that an encoder predicts.
MASKED = 0.15
TEXT_VERSION = 1  # raise it with every change of what `as_text` makes: cached rows are then made anew

_KEPT = ("example_index", "input_ids", "attention_mask", "token_type_ids")


@dataclass(frozen=True)
class Masking:
    """What masked language modelling needs to know of a tokenizer.

    Attributes:
        mask: id of the mask token.
        special: ids that are never masked and never put in another's place.
        vocabulary: number of ids.
    """

    mask: int
    special: tuple[int, ...]
    vocabulary: int

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> Masking:
        """The masking of an encoder's tokenizer.

        Raises:
            InputError: it has no mask token.
        """
        if tokenizer.mask_token_id is None:
            raise InputError(
                "placebos: an encoder is trained on text by filling in masked tokens, and its tokenizer has no mask token"
            )
        return cls(int(tokenizer.mask_token_id), tuple(sorted(set(tokenizer.all_special_ids))), len(tokenizer))


@dataclass(frozen=True)
class TextTasks:
    """The tasks of a run that are trained on their text alone.

    Attributes:
        names: the tasks.
        masking: how encoders do it; None: the backbone predicts the next token.
    """

    names: frozenset[str] = frozenset()
    masking: Masking | None = None


def text_tasks(names: Collection[str], tokenizer: PreTrainedTokenizerBase, *, causal: bool) -> TextTasks:
    """The tasks of a run that are trained on their text alone; `causal`: by a decoder.

    Raises:
        InputError: the tokenizer has no mask token where one is needed.
    """
    return TextTasks(frozenset(names), Masking.of(tokenizer) if names and not causal else None)


def as_text(encoded: EncodedTask, masking: Masking | None, *, seed: int) -> EncodedTask:
    """The rows of a training split without the task's labels: `labels` are tokens of the row itself, -100 elsewhere.

    Args:
        encoded: the split, encoded for its task. Of rows of several sequences, every sequence is a text.
        masking: of an encoder; None: of a decoder.
        seed: of the first draw of masked tokens, with the task's name and the row.

    Raises:
        ValueError: the rows hold the task's answers (recipes refuse that).
    """
    if encoded.card.formulation != "head":
        raise ValueError(
            f"{encoded.card.name}: rows of formulation {encoded.card.formulation} hold the task's answers"
        )
    name = list(encoded.card.name.encode())

    def labelled(batch: Mapping[str, list[Any]], rows: Sequence[int]) -> dict[str, list[Any]]:
        labels = []
        for row, ids in zip(rows, batch["input_ids"], strict=True):
            nested = bool(np.ndim(ids[0]))
            sequences = ids if nested else [ids]
            stream = np.random.default_rng([seed, row, *name])
            found = [_predicted(sequence, masking, stream) for sequence in sequences]
            labels.append(found if nested else found[0])
        return {"labels": labels}

    rows = encoded.dataset.select_columns([each for each in encoded.dataset.column_names if each in _KEPT])
    features = rows.features.copy()
    features["labels"] = rows.features["input_ids"]
    fingerprint = json_fingerprint(
        [TEXT_VERSION, rows._fingerprint, seed, encoded.card.name, masking and (masking.mask, masking.special)]
    )
    dataset = rows.with_format(None).map(
        labelled,
        with_indices=True,
        batched=True,
        features=features,
        new_fingerprint=fingerprint[:16],
        desc=f"text of {encoded.card.name}",
    )
    return replace(encoded, dataset=dataset)


def _predicted(ids: Sequence[int], masking: Masking | None, stream: np.random.Generator) -> list[int]:
    """The labels of one sequence."""
    if masking is None:
        return [IGNORED, *ids[1:]]
    tokens = np.asarray(ids)
    ordinary = np.flatnonzero(~np.isin(tokens, masking.special))
    labels = np.full(len(tokens), IGNORED)
    if len(ordinary):
        chosen = stream.choice(ordinary, max(1, round(MASKED * len(ordinary))), replace=False)
        labels[chosen] = tokens[chosen]
    found: list[int] = labels.tolist()
    return found
