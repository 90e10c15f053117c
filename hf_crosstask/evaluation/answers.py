"""From generated answers to predictions: labels, label sets, scores and entities, or the answer itself.

Reading is lenient in form (case, white space, a full stop, words behind a label) and strict in content: an answer that
does not say what was asked is no prediction, and is counted (`parse_failure_rate`). By task type, such an answer is

- `classification`, `relation`, `multiple_choice`: no label, which is wrong;
- `multilabel`: the labels of the lines that name one;
- `similarity`: the middle of the scale, which says nothing;
- `ner`, `span_ner`: the entities of the lines that can be read. A mention that is not in the text is a wrong entity: it
  stands, without length, behind the end of the text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hf_crosstask.encoding.mentions import place
from hf_crosstask.encoding.prompts import NOTHING, letter
from hf_crosstask.evaluation.decoding import Logits, entity_references, label_references, references
from hf_crosstask.evaluation.entities import Entity
from hf_crosstask.evaluation.predictions import ENTITY_TYPES, Answer, Predictions, Target
from hf_crosstask.tasks.card import TaskCard

if TYPE_CHECKING:
    from datasets import Dataset

_COLUMN = {"similarity": "score", "multiple_choice": "answer", "generation": "answer"}


class AnswerDecoder:
    """Reads the answers of one task's examples; `decode` of logits is not for it."""

    def __init__(self, card: TaskCard, target: Target, examples: Dataset, encoded_rows: Dataset):
        self._card = card
        self._examples = examples.select_columns(["text", "choices"]).with_format("arrow")[:].to_pylist()
        self.references = _references(target, examples)
        self.example_index: list[int] = list(encoded_rows["example_index"])
        if self.example_index != list(range(len(self._examples))):
            raise ValueError(f"task {target.task!r}: every example has exactly one encoded row, in order")

    def decode(self, logits: Logits) -> Predictions:
        """Not for generative tasks.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"task {self._card.name!r} is generative: its predictions are read from answers, not logits")

    def read(self, answers: Sequence[str], likelihoods: Sequence[NDArray[np.float32]]) -> Predictions:
        """Predictions, one for each example.

        Args:
            answers: what was generated for each example.
            likelihoods: [2] log-likelihood of each example's right answer, and its tokens.
        """
        read = [parse(self._card, answer, row) for answer, row in zip(answers, self._examples, strict=True)]
        entities = self._card.type in ENTITY_TYPES | {"multilabel"}
        return replace(
            self.references,
            predicted=tuple(predicted for predicted, _ in read),
            confidence=tuple((None,) * len(predicted) if entities else None for predicted, _ in read),
            answers=tuple(
                Answer(text, parsed, float(likelihood), int(tokens))
                for text, (_, parsed), (likelihood, tokens) in zip(answers, read, likelihoods, strict=True)
            ),
        )


def parse(card: TaskCard, answer: str, example: Mapping[str, Any]) -> tuple[Any, bool]:
    """The prediction that an answer says, and whether all of it could be read.

    Args:
        card: the task.
        answer: what was generated.
        example: its `text` (entity tasks) and `choices` (multiple choice).
    """
    if card.type in ENTITY_TYPES:
        return _entities(answer, example["text"], card.labels)
    if card.type == "multilabel":
        return _label_set(answer, card.labels)
    if card.type == "similarity":
        return _score(answer, card.score_range)
    if card.type == "multiple_choice":
        return _choice(answer, example["choices"])
    if card.type == "generation":
        return answer, True
    label = named(answer, card.labels)
    return label, label is not None


def named(answer: str, names: Sequence[str]) -> str | None:
    """The name that an answer is, or that its first line begins with as whole words; the longest of several."""
    first = _plain(answer.strip().partition("\n")[0])
    by_plain = {_plain(name): name for name in names}
    found = [plain for plain in by_plain if re.match(rf"{re.escape(plain)}(?!\w)", first)]
    return by_plain[max(found, key=len)] if found else None


def _plain(text: str) -> str:
    return " ".join(text.split()).strip(" .,;:\"'`*").casefold()


def _label_set(answer: str, labels: Sequence[str]) -> tuple[tuple[str, ...], bool]:
    lines = [line for line in answer.splitlines() if line.strip()]
    if [_plain(line) for line in lines] == [NOTHING]:
        return (), True
    by_plain = {_plain(label): label for label in labels}
    found = [by_plain.get(_plain(line)) for line in lines]
    return tuple(label for label in labels if label in found), bool(lines) and None not in found


def _score(answer: str, score_range: tuple[float, float]) -> tuple[float, bool]:
    low, high = score_range
    match = re.fullmatch(r"([-+]?\d+(?:\.\d+)?)\.?", answer.strip().partition("\n")[0].rstrip())
    score = float(match.group(1)) if match else math.nan
    return (score, True) if low <= score <= high else ((low + high) / 2, False)


def _choice(answer: str, choices: Sequence[str]) -> tuple[str | None, bool]:
    by_letter = {letter(number): choice for number, choice in enumerate(choices)}
    match = re.match(r"\(?([A-Za-z]|\d+)(?![\w])", answer.strip())
    if match and match.group(1).upper() in by_letter:
        return by_letter[match.group(1).upper()], True
    same = [choice for choice in choices if _plain(choice) == _plain(answer)]
    return (same[0], True) if len(same) == 1 else (None, False)


def _entities(answer: str, text: str, labels: Sequence[str]) -> tuple[tuple[Entity, ...], bool]:
    lines = [line.strip() for line in answer.splitlines() if line.strip()]
    if [_plain(line) for line in lines] == [NOTHING]:
        return (), True
    mentions = [mention for line in lines if (mention := _mention(line, labels)) is not None]
    places = place(mentions, text)
    entities = []
    for number, ((kind, _), offsets) in enumerate(zip(mentions, places, strict=True)):
        nowhere = (len(text) + number,) * 2
        entities.append(Entity(kind, (nowhere,) if offsets is None else offsets))
    return tuple(entities), bool(lines) and len(mentions) == len(lines) and None not in places


def _mention(line: str, labels: Sequence[str]) -> tuple[str, str] | None:
    """The type and the words of a line."""
    for label in sorted(labels, key=len, reverse=True):
        if line.casefold().startswith(f"{label.casefold()}:"):
            words = line[len(label) + 1 :].strip()
            return (label, words) if words else None
    return None


def _references(target: Target, examples: Dataset) -> Predictions:
    if target.type in ENTITY_TYPES:
        return entity_references(target, examples)
    if target.type not in _COLUMN:
        return label_references(target, examples)
    column = _COLUMN[target.type]
    columns = examples.select_columns([column, "choices"]).with_format("arrow")[:].to_pydict()
    gold = references(target, examples, [(value,) for value in columns[column]])
    if target.type == "multiple_choice":
        return replace(gold, choices=tuple(map(tuple, columns["choices"])))
    return gold
