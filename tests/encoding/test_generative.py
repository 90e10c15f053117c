"""Prompts and answers as rows: templates, chat frames, cuts, and what is trained on."""

from __future__ import annotations

from typing import Any

import pytest

from hf_crosstask.encoding.encode import encode_task
from hf_crosstask.encoding.prompts import MESSAGES, PromptFormat, answer, answer_room
from hf_crosstask.errors import InputError
from hf_crosstask.tasks.card import TaskCard
from hf_crosstask.tasks.schema import make_example, to_dataset

TEXT = "Aspirin inhibits COX-2 and COX-2 binds aspirin again, in 12/15 patients."


def card(type: str, labels: tuple[str, ...] = (), **fields: Any) -> TaskCard:
    fields.setdefault("formulation", "generative")
    return TaskCard(name="t", type=type, level=2, labels=labels, primary_metric="m", reader="jsonl", **fields)  # type: ignore[arg-type]


def entity(number: int, kind: str, *offsets: tuple[int, int]) -> dict[str, Any]:
    return {
        "id": f"e{number}",
        "type": kind,
        "offsets": [list(pair) for pair in offsets],
        "text": [TEXT[start:end] for start, end in offsets],
        "normalized": [],
        "attributes": [],
    }


ENTITIES = [entity(0, "Gene", (27, 32)), entity(1, "Drug", (0, 7)), entity(2, "Gene", (17, 22))]
RELATION = [{"id": "r", "type": "inhibits", "head": "e1", "tail": "e2", "normalized": []}]
EXAMPLES: dict[str, tuple[TaskCard, dict[str, Any], str]] = {
    "classification": (card("classification", ("yes", "no")), {"labels": ["no"], "text_pair": "It does."}, "no"),
    "relation": (
        card("relation", ("none", "inhibits")),
        {"entities": ENTITIES, "relations": RELATION},
        "inhibits",
    ),
    "multilabel": (card("multilabel", ("a", "b", "c")), {"labels": ["c", "a"]}, "a\nc"),
    "similarity": (card("similarity", score_range=(0, 4)), {"text_pair": "x", "score": 2.5}, "2.50"),
    "multiple_choice": (card("multiple_choice"), {"choices": ["u", "v"], "answer": "v"}, "B"),
    "ner": (card("ner", ("Gene", "Drug")), {"entities": ENTITIES}, "Drug: Aspirin\nGene: COX-2\nGene: COX-2"),
    "span_ner": (
        card("span_ner", ("Gene", "Drug")),
        {"entities": [entity(0, "Gene", (17, 20), (33, 38))]},
        "Gene: COX ... binds",
    ),
    "generation": (card("generation"), {"answer": "Take it daily."}, "Take it daily."),
}


def rows_of(task: TaskCard, fields: dict[str, Any], tokenizer: Any, **arguments: Any) -> Any:
    examples = to_dataset([make_example("x", "t", fields.pop("text", TEXT), split_group="g", **fields)])
    options: dict[str, Any] = {"max_length": 1000, "causal": True}
    return encode_task(examples, task, tokenizer, **(options | arguments))


@pytest.fixture(params=["llama", "mistral", "qwen2", "metaspace"])
def decoder(request: pytest.FixtureRequest, tokenizers_by_name: dict[str, Any]) -> Any:
    """Tokenizers with a chat template, and one without."""
    return tokenizers_by_name[request.param]


@pytest.mark.parametrize("kind", list(EXAMPLES))
def test_a_row_is_the_chat_and_only_the_answer_is_trained_on(kind: str, decoder: Any) -> None:
    task, fields, expected = EXAMPLES[kind]
    example = make_example("x", "t", TEXT, split_group="g", **fields)
    assert answer(task, example, len(TEXT)) == expected
    encoded = rows_of(task, dict(fields), decoder)
    [row] = encoded.dataset
    message = MESSAGES[task.type](task, example).text
    prompt = row["prompt_ids"]
    assert row["input_ids"][: len(prompt)] == prompt
    assert row["labels"] == [-100] * len(prompt) + row["input_ids"][len(prompt) :]
    stop = PromptFormat.of(decoder).stop
    assert row["input_ids"][-1] == stop
    assert decoder.decode(row["input_ids"][len(prompt) : -1]).strip() == expected
    if decoder.chat_template:
        turns = [{"role": "user", "content": message}]
        plain = decoder.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        assert prompt == decoder(plain, add_special_tokens=False)["input_ids"]  # as anybody would ask
        whole = [*turns, {"role": "assistant", "content": expected}]
        assert row["input_ids"] == decoder.apply_chat_template(whole, return_dict=True)["input_ids"]
    else:
        assert decoder.decode(prompt, skip_special_tokens=True).strip().endswith(f"{message[-10:]}\nAnswer:")
    assert encoded.report.examples == encoded.report.rows == 1
    assert encoded.report.examples_truncated == encoded.report.entities_ambiguous == 0


@pytest.mark.parametrize("kind", list(EXAMPLES))
def test_long_inputs_are_cut_inside_the_text_and_counted(kind: str, tokenizers_by_name: dict[str, Any]) -> None:
    task, fields, expected = EXAMPLES[kind]
    fields = fields | {"text": TEXT + " end" * 300}
    tokenizer = tokenizers_by_name["llama"]
    encoded = rows_of(task, dict(fields), tokenizer, max_length=900)
    [row] = encoded.dataset
    whole = rows_of(task, dict(fields), tokenizer, max_length=1024).dataset[0]
    room = answer_room(task, tokenizer, 900)
    assert encoded.report.examples_truncated == (len(whole["prompt_ids"]) + room > 900)
    assert len(row["prompt_ids"]) <= 900 - room
    assert len(row["input_ids"]) <= 900
    frame = PromptFormat.of(tokenizer)
    assert frame.after
    assert row["prompt_ids"][-len(frame.after) :] == list(frame.after)
    assert tokenizer.decode(row["input_ids"][len(row["prompt_ids"]) : -1]) == expected


def test_entities_behind_the_cut_are_not_asked_for_but_missed(tokenizers_by_name: dict[str, Any]) -> None:
    task, fields, _ = EXAMPLES["ner"]
    tokenizer = tokenizers_by_name["llama"]
    [whole] = rows_of(task, dict(fields), tokenizer).dataset
    limited = task.model_copy(update={"max_new_tokens": 40})
    length = len(whole["prompt_ids"]) + 40 - len(tokenizer(TEXT[20:])["input_ids"])
    encoded = rows_of(limited, dict(fields), tokenizer, max_length=length)
    [row] = encoded.dataset
    assert tokenizer.decode([token for token in row["labels"] if token != -100][:-1]) == "Drug: Aspirin"
    assert (encoded.report.entities, encoded.report.entities_cut) == (3, 2)
    assert encoded.report.entities_unreachable == 2


def test_gold_that_its_words_do_not_find_is_counted(tokenizers_by_name: dict[str, Any]) -> None:
    task, _, _ = EXAMPLES["ner"]
    encoded = rows_of(task, {"entities": [entity(0, "Gene", (27, 32))]}, tokenizers_by_name["llama"])
    assert encoded.report.entities_ambiguous == 1  # the first COX-2 of the text is another


def test_answers_longer_than_their_room_push_the_input_out_and_only_then_are_cut(
    tokenizers_by_name: dict[str, Any],
) -> None:
    tokenizer = tokenizers_by_name["llama"]
    task = card("generation", max_new_tokens=8)
    for words, truncated, cut in ((2, 0, 0), (12, 1, 0), (300, 1, 1)):
        fields = {"text": "text " * 20, "answer": "word " * words}
        encoded = rows_of(task, fields, tokenizer, max_length=100)
        [row] = encoded.dataset
        assert (encoded.report.examples_truncated, encoded.report.answers_cut) == (truncated, cut)
        assert len(row["prompt_ids"]) <= 92
        assert (row["input_ids"][-1] == PromptFormat.of(tokenizer).stop) == (not cut)


def test_special_tokens_written_in_a_text_are_text(tokenizers_by_name: dict[str, Any]) -> None:
    tokenizer = tokenizers_by_name["llama"]
    [row] = rows_of(card("generation"), {"text": "a<|eot_id|>b", "answer": "c"}, tokenizer).dataset
    frame = PromptFormat.of(tokenizer)
    assert tokenizer.eos_token_id not in row["prompt_ids"][len(frame.before) : -len(frame.after)]


def test_choices_share_a_prompt_cut_at_the_start_of_the_question(decoder: Any) -> None:
    task = card("multiple_choice", formulation="likelihood")
    choices = ["one", "two words", "three whole words"]
    fields = {"text": "start " * 100 + "ask?", "choices": choices, "answer": "two words"}
    encoded = rows_of(task, fields, decoder, max_length=300)
    [row] = encoded.dataset
    prompts = []
    for ids, mask, choice in zip(row["input_ids"], row["completion_mask"], choices, strict=True):
        start = mask.index(1)
        assert mask == [0] * start + [1] * (len(ids) - start)
        assert decoder.decode(ids[start:]).strip() == choice
        prompts.append(ids[:start])
        assert len(ids) <= 300
    assert prompts[0] == prompts[1] == prompts[2]
    assert "ask?" in decoder.decode(prompts[0])
    assert "Question:" in decoder.decode(prompts[0])
    assert row["labels"] == 1
    assert encoded.report.examples_truncated == 1


def test_what_cannot_be_encoded_is_refused(tokenizers_by_name: dict[str, Any]) -> None:
    task, fields, _ = EXAMPLES["classification"]
    with pytest.raises(InputError, match="needs a decoder"):
        rows_of(task, dict(fields), tokenizers_by_name["bert"], causal=False)
    with pytest.raises(InputError, match="raise max_length"):
        rows_of(task, dict(fields), tokenizers_by_name["llama"], max_length=40)
    with pytest.raises(InputError, match="no room for a prompt"):
        rows_of(card("generation", max_new_tokens=64), {"answer": "x"}, tokenizers_by_name["llama"], max_length=64)
