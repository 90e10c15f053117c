"""What the endpoint is asked: the instructions that generative tasks are trained with, and examples before them."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hf_crosstask.atomic import json_fingerprint
from hf_crosstask.encoding.prompts import MESSAGES, answer
from hf_crosstask.errors import InputError
from hf_crosstask.tasks.card import TaskCard
from hf_crosstask.tasks.load import TaskData

if TYPE_CHECKING:
    from datasets import Dataset

Message = dict[str, str]
#: Tokens that an answer may have; a label needs few, but the tokenizer is not known.
_LIST_TOKENS, _SHORT_TOKENS = 512, 64


@dataclass(frozen=True)
class Question:
    """One request.

    Attributes:
        body: what is sent.
        key: hash of the endpoint and the body: equal requests are paid for once.
    """

    body: Mapping[str, Any]
    key: str

    @property
    def prompt_bytes(self) -> int:
        """UTF-8 bytes of all messages, with room for what frames them: no tokenizer makes more tokens than that."""
        return sum(len(message["content"].encode()) + 16 for message in self.body["messages"]) + 16

    @property
    def most_tokens(self) -> int:
        """Tokens that the answer may have."""
        return int(self.body["max_tokens"])


def as_generative(card: TaskCard) -> TaskCard:
    """The card with the task posed as instruction and answer.

    Raises:
        InputError: its type cannot be posed so (rankings need scores).
    """
    if card.type not in MESSAGES:
        raise InputError(f"a {card.type} task cannot be posed as instruction and answer")
    return card.model_copy(update={"formulation": "generative"})


def questions(
    card: TaskCard, examples: Dataset, shots: Sequence[Mapping[str, Any]], *, model: str, base_url: str, seed: int
) -> list[Question]:
    """One question for each example.

    Args:
        card: the task, generative.
        examples: what is asked.
        shots: training examples that stand before each question, as turns of a conversation.
        model, base_url, seed: part of the request.
    """
    before: list[Message] = []
    for shot in shots:
        before.append({"role": "user", "content": MESSAGES[card.type](card, shot).text})
        before.append({"role": "assistant", "content": answer(card, shot, len(shot["text"]))})
    found = []
    for example in examples.with_format(None):
        body = {
            "model": model,
            "messages": [*before, {"role": "user", "content": MESSAGES[card.type](card, example).text}],
            "temperature": 0,
            "max_tokens": answer_tokens(card),
            "seed": seed,
        }
        found.append(Question(body, json_fingerprint([base_url, body])))
    return found


def answer_tokens(card: TaskCard) -> int:
    """Tokens that an answer may have."""
    long = card.type in ("ner", "span_ner", "multilabel", "generation")
    return card.max_new_tokens or (_LIST_TOKENS if long else _SHORT_TOKENS)


def choose_shots(data: TaskData, count: int, *, seed: int) -> list[dict[str, Any]]:
    """Training examples to show, a seeded choice; of labelled tasks as many different labels as possible."""
    if count == 0:
        return []
    train = data.splits["train"].with_format(None)
    order = random.Random(f"{seed}/{data.card.name}").sample(range(len(train)), len(train))
    by_answer: dict[str, list[int]] = {}
    for index in order:
        by_answer.setdefault(_group(data.card, train[index]), []).append(index)
        if len(by_answer) >= count or sum(map(len, by_answer.values())) >= 100 * count:
            break
    chosen: list[int] = []
    while len(chosen) < min(count, len(train)):
        left = [indices for indices in by_answer.values() if indices]
        if not left:
            break
        chosen += [indices.pop(0) for indices in left]
    return [train[index] for index in chosen[:count]]


def _group(card: TaskCard, example: Mapping[str, Any]) -> str:
    if card.type in ("classification", "relation"):
        return answer(card, example, len(example["text"]))
    if card.type in ("ner", "span_ner"):
        return "some" if example["entities"] else "none"
    return ""
