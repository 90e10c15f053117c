"""Tasks as instruction and answer: one template for each task type, and how a tokenizer frames it.

| task type | the message | the answer |
|---|---|---|
| `classification` | instruction with the labels, `Text:`, `Context:` (the second text) | the label |
| `relation` | instruction with the relations, `Text:` with both mentions marked, `Head:`, `Tail:` | the relation |
| `multilabel` | instruction with the labels, `Text:` | the labels, one a line, or `none` |
| `similarity` | instruction with the range, `First text:`, `Second text:` | the score with two decimals |
| `multiple_choice` | instruction, `Question:`, the choices with letters | the letter |
| `multiple_choice`, by likelihood | instruction, `Question:` | (each choice in turn) |
| `ner`, `span_ner` | instruction with the types, `Text:` | lines `type: mention`, or `none` |
| `generation` | the text alone | the answer |

A message becomes a prompt through the tokenizer's chat template, as one user turn before the assistant's; without a
template it is followed by `Answer:` on a new line.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from hf_crosstask.encoding.layout import single_layout
from hf_crosstask.encoding.mentions import GAP, written
from hf_crosstask.encoding.relation import mark
from hf_crosstask.errors import InputError
from hf_crosstask.tasks.card import TaskCard
from hf_crosstask.tasks.schema import TaskType

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Example = Mapping[str, Any]
Side = Literal["start", "end"]
#: Text that may be shortened: which of several comes first (0), and from which side.
Cuttable = tuple[str, int, Side]
NOTHING = "none"  # the answer that lists nothing

_ANSWER = "\nAnswer:"
_MESSAGE, _REPLY = "\ue000message\ue000", "\ue000reply\ue000"
_DATE = "26 Jul 2024"  # what Llama 3's template says by default; other templates would say today's date


@dataclass(frozen=True)
class Message:
    """What the user says.

    Attributes:
        text: all of it.
        cuttable: `(start, end, side)` of what may be shortened where it is too long, from which side, first to last.
    """

    text: str
    cuttable: tuple[tuple[int, int, Side], ...]

    @classmethod
    def of(cls, *parts: str | Cuttable) -> Message:
        """A message of these parts in order."""
        text, cuttable = "", []
        for part in parts:
            if isinstance(part, str):
                text += part
                continue
            piece, turn, side = part
            cuttable.append((turn, (len(text), len(text) + len(piece), side)))
            text += piece
        return cls(text, tuple(spot for _, spot in sorted(cuttable)))


def _end_of(text: str, turn: int = 0) -> Cuttable:
    return text, turn, "end"


def _start_of(text: str, turn: int = 0) -> Cuttable:
    return text, turn, "start"


def _classification(card: TaskCard, example: Example) -> Message:
    head = f"Choose the label that fits the text. Labels: {', '.join(card.labels)}. Answer with one label only."
    parts: list[str | Cuttable] = [f"{head}\n\nText: ", _end_of(example["text"], turn=1)]
    if example["text_pair"]:
        parts += ["\n\nContext: ", _end_of(example["text_pair"])]
    return Message.of(*parts)


def _relation(card: TaskCard, example: Example) -> Message:
    relation = example["relations"][0]
    by_id = {entity["id"]: entity for entity in example["entities"]}
    head, tail = by_id[relation["head"]], by_id[relation["tail"]]
    marked = mark(example["text"], head, tail)
    first, last = min(marked.opening), max(marked.closing) + 1
    instruction = (
        "Choose the relation between two mentions of the text. The head is marked as @ * type * mention @, the tail as "
        f"# ^ type ^ mention #. Relations: {', '.join(card.labels)}. Answer with one relation only."
    )
    names = [written(example["text"], entity["offsets"]) for entity in (head, tail)]
    return Message.of(
        f"{instruction}\n\nText: ",
        _start_of(marked.text[:first], turn=1),
        _end_of(marked.text[first:last], turn=2),
        _end_of(marked.text[last:]),
        f"\n\nHead: {names[0]}\nTail: {names[1]}",
    )


def _multilabel(card: TaskCard, example: Example) -> Message:
    head = (
        f"Choose every label that fits the text. Labels: {', '.join(card.labels)}. Answer with the labels, one a line, "
        f"or with {NOTHING}."
    )
    return Message.of(f"{head}\n\nText: ", _end_of(example["text"]))


def _similarity(card: TaskCard, example: Example) -> Message:
    low, high = card.score_range
    head = (
        f"How similar is the meaning of the two texts, from {low:g} (unrelated) to {high:g} (the same)? Answer with a "
        "number only."
    )
    first, second = _end_of(example["text"], turn=1), _end_of(example["text_pair"])
    return Message.of(f"{head}\n\nFirst text: ", first, "\n\nSecond text: ", second)


def _multiple_choice(card: TaskCard, example: Example) -> Message:
    question = _start_of(example["text"])
    if card.formulation == "likelihood":
        return Message.of("Answer the question.\n\nQuestion: ", question)
    head = "Choose the right answer to the question. Answer with its letter only."
    choices = "".join(f"\n{letter(number)}. {choice}" for number, choice in enumerate(example["choices"]))
    return Message.of(f"{head}\n\nQuestion: ", question, f"\n{choices}")


def _entities(card: TaskCard, example: Example) -> Message:
    apart = f" Join the parts of a mention that stand apart by `{GAP}`." if card.type == "span_ner" else ""
    head = (
        f"List the mentions of these types in the text: {', '.join(card.labels)}. Answer with one mention a line, in the "
        f"order of the text, as `type: mention`, in the words of the text.{apart} If there is none, answer {NOTHING}."
    )
    return Message.of(f"{head}\n\nText: ", _end_of(example["text"]))


def _generation(card: TaskCard, example: Example) -> Message:
    return Message.of(_end_of(example["text"]))


#: The message of each task type. A type without one cannot be posed to a language model (rankings need scores).
MESSAGES: dict[TaskType, Callable[[TaskCard, Example], Message]] = {
    "classification": _classification,
    "relation": _relation,
    "multilabel": _multilabel,
    "similarity": _similarity,
    "multiple_choice": _multiple_choice,
    "ner": _entities,
    "span_ner": _entities,
    "generation": _generation,
}


def letter(number: int) -> str:
    """What names the choice of this number: A to Z, then 27, 28, …"""
    return string.ascii_uppercase[number] if number < len(string.ascii_uppercase) else str(number + 1)


def mentions(example: Example, visible: int) -> list[tuple[str, str, tuple[tuple[int, int], ...]]]:
    """(type, words, parts) of the entities that end within the first `visible` characters, in the order of the text."""
    found = []
    for entity in example["entities"]:
        offsets = tuple(sorted((start, end) for start, end in entity["offsets"]))
        if offsets[-1][1] <= visible:
            found.append((offsets, entity["type"]))
    return [(kind, written(example["text"], offsets), offsets) for offsets, kind in sorted(set(found))]


def answer(card: TaskCard, example: Example, visible: int) -> str:
    """The right answer, as it is to be generated.

    Args:
        card: the task.
        example: a row of the unified schema.
        visible: characters of its text that the prompt shows; entities behind them are not listed.
    """
    if card.type in ("ner", "span_ner"):
        lines = [f"{kind}: {words}" for kind, words, _ in mentions(example, visible)]
        return "\n".join(lines) or NOTHING
    if card.type == "multilabel":
        return "\n".join(label for label in card.labels if label in example["labels"]) or NOTHING
    if card.type == "multiple_choice":
        return letter(example["choices"].index(example["answer"]))
    if card.type == "similarity":
        return f"{example['score']:.2f}"
    if card.type == "relation":
        return str(example["relations"][0]["type"])
    return str(example["answer"] if card.type == "generation" else example["labels"][0])


def written_out(card: TaskCard, examples: Iterable[Example]) -> Iterator[str]:
    """The messages and answers of examples: what the tokenizer of a tiny model is to know."""
    for example in examples:
        yield MESSAGES[card.type](card, example).text
        yield answer(card, example, len(example["text"]))


@dataclass(frozen=True)
class PromptFormat:
    """What a tokenizer's prompts have around the message and its answer.

    Attributes:
        before, after: tokens around the message.
        tail: what the message ends with where no chat template says how to ask.
        lead: what the answer then begins with (a space, unless the tokenizer puts one before every text itself).
        stop: the token that ends the answer.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]
    tail: str
    lead: str
    stop: int

    @property
    def size(self) -> int:
        """How many tokens a prompt has besides its message."""
        return len(self.before) + len(self.after)

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> PromptFormat:
        """Read off the tokenizer's chat template by rendering a probe (with `trl`), or the plain format.

        An assistant's turn ends with the first special token that the template puts behind it, else with the
        tokenizer's end-of-sequence token.

        Raises:
            InputError: the template cannot be used so, or there is no token to end an answer with.
        """
        if not tokenizer.chat_template:
            lead = "" if tokenizer.tokenize("a")[0].startswith("▁") else " "
            return cls(single_layout(tokenizer).before, (), _ANSWER, lead, _end(tokenizer, ""))
        before, after, ending = _rendered(tokenizer)
        return cls(tuple(_ids(tokenizer, before)), tuple(_ids(tokenizer, after)), "", "", _end(tokenizer, ending))


def _rendered(tokenizer: PreTrainedTokenizerBase) -> tuple[str, str, str]:
    """What the chat template puts before the message, between it and the reply, and behind the reply."""
    from jinja2 import TemplateError
    from trl.data_utils import apply_chat_template

    turns = {
        "prompt": [{"role": "user", "content": _MESSAGE}],
        "completion": [{"role": "assistant", "content": _REPLY}],
    }
    try:
        rendered = apply_chat_template(turns, tokenizer, date_string=_DATE)
    except TemplateError as error:
        raise InputError(
            f"the tokenizer's chat template fails on a user's and an assistant's turn: {error}"
        ) from error
    # trl gives both apart, and takes care of templates that add to the prompt what they leave out before a reply
    before, _, rest = rendered["prompt"].partition(_MESSAGE)
    opening, _, ending = rendered["completion"].partition(_REPLY)
    if _MESSAGE not in rendered["prompt"] or _REPLY not in rendered["completion"]:
        raise InputError("the tokenizer's chat template does not show a user's message and an assistant's reply as is")
    return before, rest + opening, ending


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False, return_token_type_ids=False)["input_ids"])


def _end(tokenizer: PreTrainedTokenizerBase, ending: str) -> int:
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    named = [token for token in _ids(tokenizer, ending) if token in special]
    if not named and tokenizer.eos_token_id is None:
        raise InputError(
            "the tokenizer has no end-of-sequence token, without which an answer never ends: set eos_token"
        )
    return int(named[0] if named else tokenizer.eos_token_id)


def answer_room(card: TaskCard, tokenizer: PreTrainedTokenizerBase, max_length: int) -> int:
    """Tokens that an answer may have, its end token included: what is generated at most.

    `card.max_new_tokens` where it is set; else what the longest answer of a closed set needs, and for open answers 256,
    or half of `max_length` where that is less.

    Raises:
        InputError: that leaves no room for a prompt.
    """
    room = card.max_new_tokens or _default_room(card, tokenizer, max_length)
    if room >= max_length:
        raise InputError(
            f"task {card.name!r}: answers of up to {room} tokens leave no room for a prompt in max_length {max_length}; "
            "raise max_length, or set the task's max_new_tokens"
        )
    return room


def _default_room(card: TaskCard, tokenizer: PreTrainedTokenizerBase, max_length: int) -> int:
    if card.type in ("classification", "relation"):
        return 1 + max(_lengths(tokenizer, card.labels))
    if card.type == "multilabel":
        return 2 + max(
            sum(_lengths(tokenizer, [f"{label}\n" for label in card.labels])), *_lengths(tokenizer, [NOTHING])
        )
    if card.type in ("similarity", "multiple_choice"):
        return 8
    return min(256, max_length // 2)


def _lengths(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[int]:
    return [len(_ids(tokenizer, f" {text}")) for text in texts]
