from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hf_crosstask.encoding import decode_tags, encode_task, ner_tags
from hf_crosstask.encoding.encoder import IGNORED
from hf_crosstask.encoding.words import words
from hf_crosstask.errors import DataFormatError, InputError
from hf_crosstask.tasks.card import TaskCard
from hf_crosstask.tasks.schema import check_examples, make_entity, make_example, to_dataset

LABELS = ("Drug", "Gene", "cell_line")
TAGS = ner_tags(LABELS)
Span = tuple[str, int, int]


def card(segmentation: str = "regex") -> TaskCard:
    return TaskCard(
        name="invented",
        type="ner",
        level=1,
        labels=LABELS,
        primary_metric="entity_f1",
        reader="jsonl",
        segmentation=segmentation,
    )


def example(text: str, spans: list[Span], number: int = 0) -> dict[str, Any]:
    entities = [
        make_entity(f"T{i}", kind, [(start, end)], [text[start:end]]) for i, (kind, start, end) in enumerate(spans)
    ]
    return make_example(f"e{number}", "invented", text, split_group="d", entities=entities)


def encode(texts: list[tuple[str, list[Span]]], tokenizer, segmentation: str = "regex", **options: Any):
    rows = [example(text, spans, number) for number, (text, spans) in enumerate(texts)]
    check_examples(rows, "ner", LABELS, source="test")
    return encode_task(to_dataset(rows), card(segmentation), tokenizer, causal=False, **{"max_length": 128, **options})


def decode(dataset, texts: list[str], segmentation: str = "regex") -> list[list[Span]]:
    """Entities as character spans, read the way evaluation reads predictions: at `word_position`."""
    spans = [words(text, segmentation) for text in texts]
    tags: list[list[str | None]] = [[None] * len(of_text) for of_text in spans]
    for row in dataset:
        for word, position in zip(row["word_index"], row["word_position"], strict=True):
            assert row["labels"][position] != IGNORED
            assert tags[row["example_index"]][word] is None, "a word is owned once"
            tags[row["example_index"]][word] = TAGS[row["labels"][position]]
    return [
        [(kind, of_text[first][0], of_text[last - 1][1]) for kind, first, last in decode_tags([t or "O" for t in tag])]
        for of_text, tag in zip(spans, tags, strict=True)
    ]


@st.composite
def annotated(draw: st.DrawFn, segmentation: str) -> tuple[str, list[Span]]:
    """A text and entities on word edges, none over another, often side by side."""
    alphabet = "aIL2βé½漢😀- (.)±\n\u0301" if draw(st.booleans()) else "aIL2 -."
    text = "x" + draw(st.text(alphabet=alphabet, min_size=1, max_size=60))
    spans = words(text, segmentation)
    chosen, word = [], 0
    while word < len(spans):
        size = draw(st.integers(0, 4))
        if size:
            last = min(word + size, len(spans)) - 1
            chosen.append((draw(st.sampled_from(LABELS)), spans[word][0], spans[last][1]))
        word += max(size, 1)
    return text, chosen


@pytest.mark.parametrize("segmentation", ["regex", "whitespace"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15, deadline=None)
@given(data=st.data())
def test_every_aligned_entity_comes_back_whatever_the_windows(tokenizer, segmentation, data):
    texts = data.draw(st.lists(annotated(segmentation), min_size=1, max_size=4))
    room = data.draw(st.integers(1, 20))
    max_length = room + tokenizer.num_special_tokens_to_add()
    stride = data.draw(st.integers(0, room - 1))
    encoded = encode(texts, tokenizer, segmentation, max_length=max_length, stride=stride)
    report, rows = encoded.report, list(encoded.dataset)
    assert all(len(row["input_ids"]) <= max_length for row in rows)
    assert all(len(row["labels"]) == len(row["attention_mask"]) == len(row["input_ids"]) for row in rows)
    assert [row["example_index"] for row in rows] == sorted(row["example_index"] for row in rows)
    assert {row["example_index"] for row in rows} == set(range(len(texts)))
    assert report.entities == sum(len(spans) for _, spans in texts)
    assert report.entities_unreachable == report.entities_cut
    assert report.words == sum(len(words(text, segmentation)) for text, _ in texts)
    assert report.words_cut == report.examples_truncated == 0
    assert report.rows == len(rows)
    assert report.tokens == sum(len(row["input_ids"]) for row in rows)
    assert sum(len(row["word_index"]) for row in rows) == report.words - report.words_without_token
    decoded = decode(encoded.dataset, [text for text, _ in texts], segmentation)
    if report.words_without_token == 0:
        assert report.entities_cut == 0
        assert decoded == [spans for _, spans in texts]
    else:  # BERT drops combining marks that stand alone
        missing = sum(len(set(spans) - set(back)) for (_, spans), back in zip(texts, decoded, strict=True))
        assert missing == report.entities_cut


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(data=st.data())
def test_every_entity_is_either_read_back_or_counted(bert, data):
    """Random spans: misaligned, nested, crossing, equal. What training keeps is read back, the rest is counted."""
    text = "x" + data.draw(st.text(alphabet="ab1-. ", min_size=1, max_size=40))
    edges = st.integers(0, len(text) - 1)
    spans = [
        (kind, min(a, b), max(a, b) + 1)
        for kind, a, b in data.draw(st.lists(st.tuples(st.sampled_from(LABELS), edges, edges), max_size=8))
    ]
    spans = [span for span in spans if text[span[1] : span[2]].strip()]
    encoded = encode([(text, spans)], bert)
    (decoded,) = decode(encoded.dataset, [text])
    report = encoded.report
    assert len(decoded) == report.entities - report.entities_unreachable
    assert set(decoded) <= set(spans)
    starts, ends = ({edge[side] for edge in words(text, "regex")} for side in (0, 1))
    assert report.entities_misaligned == sum(s not in starts or e not in ends for _, s, e in spans)
    for kind, start, end in spans:
        if start in starts and end in ends and (kind, start, end) not in decoded:
            assert any(s < end and start < e and e - s >= end - start for _, s, e in decoded)  # one as long is kept


def test_labels_of_sub_tokens(tokenizers_by_name):
    bert = tokenizers_by_name["wordpiece_unknown"]
    encoded = encode([("give ab-c, d aspirin", [("Gene", 5, 9), ("Drug", 13, 20)])], bert)
    (row,) = encoded.dataset
    tokens = bert.convert_ids_to_tokens(row["input_ids"])
    tags = [TAGS[label] if label != IGNORED else None for label in row["labels"]]
    assert list(zip(tokens, tags, strict=True)) == [
        ("[CLS]", None),
        ("g", "O"),
        ("##i", "O"),
        ("##v", "O"),
        ("##e", "O"),
        ("a", "B-Gene"),
        ("##b", "I-Gene"),
        ("-", "I-Gene"),
        ("c", "I-Gene"),
        (",", "O"),
        ("d", "O"),
        ("aspirin", "B-Drug"),
        ("[SEP]", None),
    ]
    assert row["word_index"] == [0, 1, 2, 3, 4, 5, 6]
    assert row["word_position"] == [1, 5, 7, 8, 9, 10, 11]
    assert row["token_type_ids"] == [0] * 13


def test_white_space_tokens_are_not_supervised(tokenizers_by_name):
    tokenizer = tokenizers_by_name["llama"]
    (row,) = encode([("a \n\n b", [("Gene", 0, 6)])], tokenizer).dataset
    for token, label in zip(tokenizer.convert_ids_to_tokens(row["input_ids"]), row["labels"], strict=True):
        assert (label == IGNORED) == (token not in ("a", "b", "Ġb"))


def test_the_longest_of_nested_entities_is_learned(bert):
    text = "human IL-2 receptor gene"
    spans = [("Gene", 6, 10), ("Gene", 0, 19), ("Drug", 11, 24), ("Drug", 20, 24)]
    encoded = encode([(text, spans)], bert)
    assert decode(encoded.dataset, [text]) == [[("Gene", 0, 19), ("Drug", 20, 24)]]
    assert encoded.report.entities_overlapping == 2


def test_entities_in_parts_are_counted(bert):
    row = make_example(
        "e",
        "invented",
        "left and right arm",
        split_group="d",
        entities=[make_entity("T1", "Gene", [(0, 4), (15, 18)], ["left", "arm"])],
    )
    encoded = encode_task(to_dataset([row]), card(), bert, max_length=32, causal=False)
    assert encoded.report.entities_discontinuous == encoded.report.entities_unreachable == 1
    assert decode(encoded.dataset, [row["text"]]) == [[]]
    outer = card().model_copy(update={"official": "ade2018"})  # whose scorer takes it from first to last
    encoded = encode_task(to_dataset([row]), outer, bert, max_length=32, causal=False)
    assert encoded.report.entities_discontinuous == 0
    assert decode(encoded.dataset, [row["text"]]) == [[("Gene", 0, 18)]]


def test_truncation_leaves_words_unowned_and_counts_the_entities_it_cuts(bert):
    text = "a b c d e f g h"
    spans = [("Gene", 0, 1), ("Drug", 4, 9), ("Drug", 12, 13)]
    encoded = encode([(text, spans), ("a b", [])], bert, max_length=6, long_inputs="truncate")
    first, second = encoded.dataset
    assert first["word_index"] == [0, 1, 2, 3]
    assert second["word_index"] == [0, 1]
    report = encoded.report
    assert (report.examples_truncated, report.words_cut, report.entities_cut) == (1, 4, 2)
    windowed = encode([(text, spans), ("a b", [])], bert, max_length=6, stride=2)
    assert decode(windowed.dataset, [text, "a b"]) == [spans, []]
    assert windowed.report.entities_cut == 0
    assert windowed.report.examples_windowed == 1


def test_a_word_longer_than_the_window_ends(bert):
    text = f"a {'xyz' * 40} b"
    spans = [("Gene", 0, 1), ("Drug", 2, 122), ("Gene", 123, 124)]
    for stride in (0, 4):
        encoded = encode([(text, spans)], bert, max_length=10, stride=stride)
        assert decode(encoded.dataset, [text]) == [spans]
        assert encoded.report.words_clipped == 1


def test_text_that_the_tokenizer_drops_has_one_row_without_supervision(bert):
    encoded = encode([("\u0301", [])], bert)
    (row,) = encoded.dataset
    assert row["word_index"] == []
    assert set(row["labels"]) == {IGNORED}
    assert encoded.report.rows_unsupervised == encoded.report.words_without_token == 1


def test_an_unknown_entity_type_is_an_error(bert):
    row = example("aspirin", [("Drgu", 0, 7)])
    with pytest.raises(DataFormatError, match=r"invented: example 'e0': unknown label 'Drgu'; did you mean 'Drug'"):
        encode_task(to_dataset([row]), card(), bert, max_length=32, causal=False)


@pytest.mark.parametrize("stride", [-1, 6])
def test_a_stride_must_leave_room_to_move(bert, stride):
    with pytest.raises(InputError, match="stride"):
        encode([("a", [])], bert, max_length=8, stride=stride)
