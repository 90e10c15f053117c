"""A task's rows as text: the same tokens, labels from the tokens alone, as many masks as BERT makes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from datasets import Dataset

from hf_crosstask.encoding import EncodedTask, MultiTaskCollator, encode_task
from hf_crosstask.encoding.text import Masking, as_text, text_tasks
from hf_crosstask.errors import InputError
from hf_crosstask.tasks.card import TaskCard
from hf_crosstask.tasks.schema import make_entity, make_example, to_dataset
from hf_crosstask.training.feed import count
from hf_crosstask.training.rows import fetch, label_counts, row_shapes, token_lengths

SENTENCES = (
    "Aspirin inhibits COX-2 but not p53 in the patient.",
    "The serum of the patient rose after metformin.",
    "Salbutamol was given, and TNF-α was unchanged in 12/15 patients (80%).",
)


def card(type: Any, labels: tuple[str, ...] = ("a", "b"), **more: Any) -> TaskCard:
    return TaskCard(name="aux", type=type, level=2, labels=labels, primary_metric="m", reader="jsonl", **more)


def examples(kind: str, label: int) -> Dataset:
    """The sentences of a task, with one labelling or another."""
    rows = []
    for number, text in enumerate(SENTENCES * 3):
        words = text.split()
        spans = [(text.index(word), text.index(word) + len(word)) for word in (words[0], words[-2])]
        kinds = "ab" if label else "ba"
        entities = [make_entity(f"T{i}", kinds[i], [span], [text[slice(*span)]]) for i, span in enumerate(spans)]
        fields: dict[str, Any] = {
            "ner": {"entities": entities[label:]},
            "relation": {
                "entities": [{**each, "type": "a"} for each in entities],
                "relations": [{"id": "R0", "type": "ab"[(label + number) % 2], "head": "T0", "tail": "T1"}],
            },
            "classification": {"labels": ["ab"[(label + number) % 2]]},
            "multiple_choice": {"choices": words[:3], "answer": words[label]},
        }[kind]
        rows.append(make_example(f"e{number}", "aux", text, split_group=f"e{number}", **fields))
    return to_dataset(rows)


def encoded(kind: str, tokenizer, label: int = 0, *, causal: bool = False) -> EncodedTask:
    return encode_task(examples(kind, label), card(kind), tokenizer, max_length=64, causal=causal)


@pytest.mark.parametrize("kind", ["ner", "relation", "classification", "multiple_choice"])
@pytest.mark.parametrize("causal", [False, True])
def test_the_plan_sees_the_same_rows_and_labels_leave_no_trace(tokenizers_by_name, kind, causal):
    tokenizer = tokenizers_by_name["llama" if causal else "bert"]
    masking = None if causal else Masking.of(tokenizer)
    one, other = (encoded(kind, tokenizer, label, causal=causal) for label in (0, 1))
    assert one.dataset[:] != other.dataset[:]  # the labels differ
    texts = [as_text(each, masking, seed=3).dataset for each in (one, other)]
    assert texts[0][:] == texts[1][:]
    assert set(texts[0].column_names) <= {"example_index", "input_ids", "attention_mask", "token_type_ids", "labels"}
    for name in set(texts[0].column_names) - {"labels"}:
        assert texts[0][name][:] == one.dataset[name][:]
    for measure in (token_lengths, row_shapes):
        np.testing.assert_array_equal(measure(texts[0], "aux"), measure(one.dataset, "aux"))
    batch = MultiTaskCollator.for_tokenizer(tokenizer)(fetch(texts[0], [0, 1, 2]))
    assert batch["labels"].shape == batch["input_ids"].shape
    wanted = batch["labels"] != -100
    assert (batch["labels"][wanted] == batch["input_ids"][wanted]).all()
    assert (batch["attention_mask"][wanted] == 1).all()
    assert count(batch, "aux", shifted=False)[3] == label_counts(texts[0], "aux", shifted=False)[:3].sum()


def test_a_decoder_predicts_all_but_the_first_token(tokenizers_by_name):
    rows = as_text(encoded("ner", tokenizers_by_name["llama"], causal=True), None, seed=1).dataset
    for row in rows:
        assert row["labels"] == [-100, *row["input_ids"][1:]]


def test_an_encoder_predicts_fifteen_percent_of_ordinary_tokens(bert):
    masking = Masking.of(bert)
    rows = as_text(encoded("ner", bert), masking, seed=1).dataset
    for row in rows:
        ids, labels = np.asarray(row["input_ids"]), np.asarray(row["labels"])
        ordinary = ~np.isin(ids, bert.all_special_ids)
        assert (labels != -100).sum() == max(1, round(0.15 * ordinary.sum()))
        assert ordinary[labels != -100].all()
    assert len({str(row["labels"]) for row in rows}) > len(SENTENCES)  # equal texts, other masks
    again = as_text(encoded("ner", bert), masking, seed=1).dataset
    assert again[:] == rows[:]
    assert as_text(encoded("ner", bert), masking, seed=2).dataset["labels"][:] != rows["labels"][:]
    part = replace(encoded("ner", bert), dataset=encoded("ner", bert).dataset.select([0, 1]))
    assert (
        as_text(part, masking, seed=1).dataset["labels"][:] == rows["labels"][:2]
    )  # by row, not by what is before it


def test_answers_in_the_text_and_missing_mask_tokens_are_errors(tokenizers_by_name):
    llama = tokenizers_by_name["llama"]
    with pytest.raises(InputError, match="has no mask token"):
        text_tasks(["aux"], llama, causal=False)
    assert text_tasks([], llama, causal=False).masking is None
    written = replace(encoded("ner", llama, causal=True), card=card("generation", (), formulation="generative"))
    with pytest.raises(ValueError, match="rows of formulation generative hold the task's answers"):
        as_text(written, None, seed=1)
