"""Rows for language models: prompt and answer in one sequence (`generative`), or a sequence for each choice (`likelihood`).

Only answers are trained on: labels are -100 on the prompt, so that counting labels counts what is predicted. What does
not fit is cut from the input's text, inside the message (`Message.cuttable`); instruction and frame stay. A prompt is
cut to leave room for `answer_room` tokens, whatever the right answer's length, so that the prompt that an answer is
generated to (`prompt_ids`) says nothing of it. In a training row a longer answer takes room from the input; one that
is too long even for the prompt without its input is cut at its end, and counted (`answers_cut`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hf_crosstask.encoding.encoder import IGNORED, Columns, EncodingContext, TaskEncoder
from hf_crosstask.encoding.mentions import place
from hf_crosstask.encoding.prompts import MESSAGES, Message, PromptFormat, answer, answer_room, mentions
from hf_crosstask.encoding.report import EncodingReport
from hf_crosstask.errors import DataFormatError, InputError
from hf_crosstask.tasks.card import TaskCard
from hf_crosstask.tasks.schema import TaskType

_INPUTS: dict[TaskType, tuple[str, ...]] = {
    "classification": ("id", "text", "text_pair", "labels"),
    "relation": ("id", "text", "entities", "relations"),
    "multilabel": ("id", "text", "labels"),
    "similarity": ("id", "text", "text_pair", "score"),
    "multiple_choice": ("id", "text", "choices", "answer"),
    "ner": ("id", "text", "entities"),
    "span_ner": ("id", "text", "entities"),
    "generation": ("id", "text", "answer"),
}


def language_encoder(card: TaskCard) -> TaskEncoder:
    """The encoder of a task that is posed to a language model.

    Raises:
        InputError: its type has no such form.
    """
    if card.type not in MESSAGES or (card.formulation == "likelihood" and card.type != "multiple_choice"):
        raise InputError(f"task {card.name!r}: a {card.type} task has no {card.formulation} form")
    if card.formulation == "likelihood":
        columns = {"labels": "int32", "completion_mask": "int8[][]"}
        return TaskEncoder(_INPUTS[card.type], columns, _encode_choices, nested=True)
    return TaskEncoder(_INPUTS[card.type], {"labels": "int32[]", "prompt_ids": "int32[]"}, _encode_answers)


def _encode_answers(
    batch: Mapping[str, list[Any]], indices: Sequence[int], context: EncodingContext
) -> tuple[Columns, EncodingReport]:
    card, frame = _checked(context), PromptFormat.of(context.tokenizer)
    room = context.max_length - answer_room(card, context.tokenizer, context.max_length) - frame.size
    columns: Columns = {"example_index": list(indices), "input_ids": [], "labels": [], "prompt_ids": []}
    counts = dict.fromkeys(("examples_truncated", "answers_cut", "entities", "entities_cut", "entities_ambiguous"), 0)
    examples = list(_examples(batch))
    messages = [MESSAGES[card.type](card, example) for example in examples]
    encoded = context.tokenize([message.text + frame.tail for message in messages])
    for number, (example, message) in enumerate(zip(examples, messages, strict=True)):
        ids, offsets = encoded["input_ids"][number], encoded["offset_mapping"][number]
        kept = cut(message, offsets, room)
        if kept is None:
            raise InputError(_no_room(context, example, room))
        visible = _visible(example, message, offsets, kept)
        [completion] = context.tokenize([frame.lead + _answer(card, example, visible)])["input_ids"]
        completion = [*completion, frame.stop]
        prompt = [*frame.before, *(ids[i] for i in kept), *frame.after]
        columns["prompt_ids"].append(prompt)
        if len(prompt) + len(completion) > context.max_length:
            fixed = _fixed(message, offsets)
            less = cut(message, offsets, max(context.max_length - frame.size - len(completion), len(fixed)))
            kept = fixed if less is None else less
            prompt = [*frame.before, *(ids[i] for i in kept), *frame.after]
        counts["answers_cut"] += len(prompt) + len(completion) > context.max_length
        counts["examples_truncated"] += len(kept) < len(ids)
        row = [*prompt, *completion][: context.max_length]
        columns["input_ids"].append(row)
        columns["labels"].append([IGNORED] * len(prompt) + row[len(prompt) :])
        if card.type in ("ner", "span_ner"):
            _count_entities(example, visible, counts)
    return columns, EncodingReport(
        examples=len(examples), rows=len(examples), tokens=sum(map(len, columns["input_ids"])), **counts
    )


def _encode_choices(
    batch: Mapping[str, list[Any]], indices: Sequence[int], context: EncodingContext
) -> tuple[Columns, EncodingReport]:
    """The right choice's number is the label; all choices of a question follow the same prompt."""
    card, frame = _checked(context), PromptFormat.of(context.tokenizer)
    columns: Columns = {"example_index": list(indices), "input_ids": [], "labels": [], "completion_mask": []}
    truncated = 0
    examples = list(_examples(batch))
    messages = [MESSAGES[card.type](card, example) for example in examples]
    encoded = context.tokenize([message.text + frame.tail for message in messages])
    for number, (example, message) in enumerate(zip(examples, messages, strict=True)):
        ids, offsets = encoded["input_ids"][number], encoded["offset_mapping"][number]
        choices = context.tokenize([frame.lead + choice for choice in example["choices"]])["input_ids"]
        if not all(choices):
            raise InputError(
                f"task {card.name!r}: the tokenizer makes no token of a choice of example {example['id']!r}"
            )
        room = context.max_length - frame.size - max(map(len, choices))
        kept = cut(message, offsets, room)
        if kept is None:
            raise InputError(_no_room(context, example, room))
        prompt = [*frame.before, *(ids[i] for i in kept), *frame.after]
        truncated += len(kept) < len(ids)
        columns["input_ids"].append([[*prompt, *choice] for choice in choices])
        columns["completion_mask"].append([[0] * len(prompt) + [1] * len(choice) for choice in choices])
        columns["labels"].append(example["choices"].index(example["answer"]))
    return columns, EncodingReport(
        examples=len(examples),
        rows=len(examples),
        tokens=sum(len(sequence) for row in columns["input_ids"] for sequence in row),
        examples_truncated=truncated,
    )


def cut(message: Message, offsets: Sequence[tuple[int, int]], room: int) -> list[int] | None:
    """The numbers of the tokens to keep of a message, at most `room`; None where what may not be cut is longer.

    Args:
        message: what may be cut.
        offsets: the characters of each of its tokens.
        room: tokens there is room for.
    """
    excess = len(offsets) - room
    dropped: set[int] = set()
    for start, end, side in message.cuttable:
        inside = [i for i, (first, last) in enumerate(offsets) if start <= first and last <= end]
        if excess > 0 and inside:
            lost = inside[-excess:] if side == "end" else inside[:excess]
            dropped.update(lost)
            excess -= len(lost)
    return None if excess > 0 else [i for i in range(len(offsets)) if i not in dropped]


def _fixed(message: Message, offsets: Sequence[tuple[int, int]]) -> list[int]:
    """The numbers of the tokens that are never cut."""
    return [
        i
        for i, (first, last) in enumerate(offsets)
        if not any(start <= first and last <= end for start, end, _ in message.cuttable)
    ]


def _visible(
    example: Mapping[str, Any], message: Message, offsets: Sequence[tuple[int, int]], kept: Sequence[int]
) -> int:
    """Characters of an entity task's text that a prompt shows, which is cut at its end alone."""
    if len(kept) == len(offsets):
        return len(example["text"])
    start = message.cuttable[0][0]
    return max(0, max((offsets[i][1] for i in kept), default=0) - start)


def _count_entities(example: Mapping[str, Any], visible: int, counts: dict[str, int]) -> None:
    everything, shown = mentions(example, len(example["text"])), mentions(example, visible)
    places = place([(kind, words) for kind, words, _ in shown], example["text"])
    counts["entities"] += len(everything)
    counts["entities_cut"] += len(everything) - len(shown)
    counts["entities_ambiguous"] += len(
        {(kind, offsets) for kind, _, offsets in shown}
        - {(kind, found) for (kind, _, _), found in zip(shown, places, strict=True)}
    )


def _answer(card: TaskCard, example: Mapping[str, Any], visible: int) -> str:
    text = answer(card, example, visible)
    if card.type in ("classification", "relation") and text not in card.labels:
        raise DataFormatError(card.name, f"example {example['id']!r}: the card does not have its label {text!r}")
    return text


def _examples(batch: Mapping[str, list[Any]]) -> Iterator[dict[str, Any]]:
    for values in zip(*batch.values(), strict=True):
        yield dict(zip(batch, values, strict=True))


def _checked(context: EncodingContext) -> TaskCard:
    card = context.card
    if not context.causal:
        raise InputError(
            f"task {card.name!r}: the {card.formulation} form needs a decoder (a causal language model), and the model "
            "is an encoder; choose another model, or for other tasks than generation the formulation `head`"
        )
    return card


def _no_room(context: EncodingContext, example: Mapping[str, Any], room: int) -> str:
    return (
        f"task {context.card.name!r}, example {example['id']!r}: max_length {context.max_length} leaves {room} tokens "
        "for a message, and the instruction with what is never cut is longer; raise max_length (or lower the task's "
        "max_new_tokens)"
    )
