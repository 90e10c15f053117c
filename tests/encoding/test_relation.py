from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hf_crosstask.encoding import encode_task
from hf_crosstask.encoding.relation import crop, mark
from hf_crosstask.errors import DataFormatError
from hf_crosstask.tasks.card import TaskCard
from hf_crosstask.tasks.schema import check_examples, make_entity, make_example, to_dataset

CARD = TaskCard(
    name="invented",
    type="relation",
    level=2,
    labels=("none", "inhibits", "activates"),
    negative_label="none",
    primary_metric="micro_f1",
    reader="jsonl",
)


def entity(text: str, name: str, kind: str, *offsets: tuple[int, int]) -> dict[str, Any]:
    return make_entity(name, kind, offsets, [text[start:end] for start, end in offsets])


def pair(text: str, head: str, tail: str, label: str = "inhibits", number: int = 0) -> dict[str, Any]:
    """A candidate pair: the first occurrence of each mention in the text."""
    found = [
        entity(text, f"T{i}", kind, (text.index(mention), text.index(mention) + len(mention)))
        for i, (mention, kind) in enumerate([(head, "CHEMICAL"), (tail, "GENE_Y")])
    ]
    return make_example(
        f"e{number}",
        "invented",
        text,
        split_group="d",
        entities=found,
        relations=[{"id": "R1", "type": label, "head": "T0", "tail": "T1"}],
    )


def encode(rows: list[dict[str, Any]], tokenizer, **options: Any):
    check_examples(rows, "relation", CARD.labels, source="test")
    return encode_task(to_dataset(rows), CARD, tokenizer, **{"max_length": 128, "causal": False, **options})


def test_markers_are_typed_punctuation():
    text = "In vitro (aspirin) inhibits PTGS2."
    marked = mark(text, entity(text, "a", "CHEMICAL", (10, 17)), entity(text, "b", "GENE_Y", (28, 33)))
    assert marked.text == "In vitro ( @ * chemical * aspirin @ ) inhibits # ^ gene y ^ PTGS2 # ."
    assert [marked.text[i:].split()[:2] for i in marked.opening] == [["@", "*"], ["#", "^"]]
    assert [marked.text[: i + 1].split()[-2:] for i in marked.closing] == [["aspirin", "@"], ["PTGS2", "#"]]


@pytest.mark.parametrize(
    ("head", "tail", "expected"),
    [
        ((0, 1), (4, 5), "@ * h * a @ b # ^ t ^ c # d"),
        ((4, 5), (0, 1), "# ^ t ^ a # b @ * h * c @ d"),
        ((0, 5), (2, 3), "@ * h * a # ^ t ^ b # c @ d"),  # tail inside head
        ((0, 3), (0, 7), "# ^ t ^ @ * h * a b @ c d #"),  # the outer opens first
        ((0, 7), (4, 7), "@ * h * a b # ^ t ^ c d # @"),  # and closes last
        ((0, 5), (2, 7), "@ * h * a # ^ t ^ b c @ d #"),  # crossing
        ((2, 5), (2, 5), "a @ * h * # ^ t ^ b c # @ d"),  # equal
        ((0, 3), (4, 7), "@ * h * a b @ # ^ t ^ c d #"),  # touching but for a space
    ],
)
def test_nested_crossing_and_equal_mentions(head, tail, expected):
    text = "a b c d"
    marked = mark(text, entity(text, "h", "H", head), entity(text, "t", "T", tail))
    assert marked.text == expected
    assert marked.text[marked.opening[0]] == marked.text[marked.closing[0]] == "@"
    assert marked.text[marked.opening[1]] == marked.text[marked.closing[1]] == "#"


def test_a_mention_in_parts_is_marked_from_end_to_end():
    text = "left and right arm pain"
    marked = mark(text, entity(text, "h", "H", (0, 4), (15, 18)), entity(text, "t", "T", (19, 23)))
    assert marked.text == "@ * h * left and right arm @ # ^ t ^ pain #"


@given(st.text(min_size=1), st.data())
def test_marking_only_adds(text, data):
    spans = [tuple(sorted(data.draw(st.tuples(st.integers(0, len(text)), st.integers(0, len(text)))))) for _ in "ht"]
    if any(start == end for start, end in spans):
        return
    marked = mark(text, entity(text, "h", "H", spans[0]), entity(text, "t", "T", spans[1]))
    left = "".join(text.split())
    for kind, marker in (("*h*", "@"), ("^t^", "#")):
        assert marker + kind in "".join(marked.text.split())
    assert len("".join(marked.text.split())) == len(left) + len("@*h*@#^t^#")
    for mention, (outer, start, end) in enumerate([("@", *spans[0]), ("#", *spans[1])]):
        inside = marked.text[marked.opening[mention] : marked.closing[mention] + 1]
        assert inside[0] == inside[-1] == outer
        assert len("".join(inside.split())) >= len("".join(text[start:end].split())) + len("@*h*@")


@pytest.mark.parametrize("causal", [False, True])
def test_entity_positions_are_the_markers(tokenizer, causal):
    texts = ["Aspirin inhibits COX-2 @ # 5 mg.", "In COX-2(Aspirin) cells", "x\u2009Aspirin-COX-2"]
    rows = [pair(text, "Aspirin", "COX-2", number=i) for i, text in enumerate(texts)]
    for row in encode(rows, tokenizer, causal=causal).dataset:
        head, tail = row["entity_positions"]
        ids = row["input_ids"]
        for position, symbol in ((head, "@"), (tail, "#")):
            tokens = [token.lstrip("Ġ▁") for token in tokenizer.convert_ids_to_tokens(ids[position : position + 2])]
            # A symbol that the vocabulary has not is unknown or a byte; at the start, a space may stand before it.
            assert (tokens[0] or tokens[1]) in (symbol, tokenizer.unk_token, f"<0x{ord(symbol):02X}>")
        window = tokenizer.decode(ids[: head + 1]) if causal else tokenizer.decode(ids[head:])
        assert "aspirin" in window.lower()


def test_positions_exactly(bert):
    (row,) = encode([pair("Aspirin inhibits COX-2", "Aspirin", "COX-2")], bert).dataset
    tokens = bert.convert_ids_to_tokens(row["input_ids"])
    head, tail = row["entity_positions"]
    assert (tokens[head], tokens[head + 1], tokens[tail], tokens[tail + 1]) == ("@", "*", "#", "^")
    (row,) = encode([pair("Aspirin inhibits COX-2", "Aspirin", "COX-2")], bert, causal=True).dataset
    head, tail = row["entity_positions"]
    assert tokens[head] == "@"
    assert tokens[tail] == "#"
    assert tokens[head - 1] != "["
    assert tail == len(tokens) - 2


def test_labels_are_class_ids_and_the_first_relation_counts(bert):
    row = pair("Aspirin inhibits COX-2", "Aspirin", "COX-2")
    row["relations"].append({"id": "R2", "type": "none", "head": "T0", "tail": "T1"})
    negative = pair("Aspirin and COX-2", "Aspirin", "COX-2", "none", number=1)
    assert encode([row, negative], bert).dataset["labels"][:] == [1, 0]


def test_unknown_labels_and_missing_relations_are_errors(bert):
    row = pair("Aspirin inhibits COX-2", "Aspirin", "COX-2", "inhibit")
    with pytest.raises(DataFormatError, match=r"example 'e0': unknown label 'inhibit'; did you mean 'inhibits'"):
        encode_task(to_dataset([row]), CARD, bert, max_length=64, causal=False)
    row["relations"] = []
    with pytest.raises(DataFormatError, match="has no relation"):
        encode_task(to_dataset([row]), CARD, bert, max_length=64, causal=False)


@given(st.integers(1, 60), st.data())
def test_cropping_keeps_both_mentions_and_even_context(total, data):
    ranges = sorted(data.draw(st.tuples(*[st.integers(0, total - 1)] * 4)))
    mentions = [(ranges[0], ranges[1] + 1), (ranges[2], ranges[3] + 1)]
    capacity = data.draw(st.integers(1, total))
    kept = crop(total, mentions, capacity)
    needed = {i for start, end in mentions for i in range(start, end)}
    if kept is None:
        assert len(needed) > capacity
        return
    assert len(kept) == capacity
    assert (np.diff(kept) > 0).all()
    assert needed <= set(kept.tolist())
    whole = (mentions[0][0], mentions[1][1])
    if whole[1] - whole[0] <= capacity:
        assert (np.diff(kept) == 1).all()
        left, right = whole[0] - kept[0], kept[-1] + 1 - whole[1]
        assert abs(left - right) <= 1 or kept[0] == 0 or kept[-1] == total - 1


def test_long_sentences_are_cropped_around_both_entities(tokenizer):
    filler = " ".join("abcdefgh" * 10)
    rows = [
        pair(f"{filler} Aspirin inhibits COX-2 {filler}", "Aspirin", "COX-2"),
        pair(f"Aspirin inhibits COX-2 {filler}", "Aspirin", "COX-2", number=1),
        pair(f"{filler} COX-2 {filler} Aspirin", "Aspirin", "COX-2", number=2),  # far apart
        pair("Aspirin inhibits COX-2", "Aspirin", "COX-2", number=3),
    ]
    for causal in (False, True):
        whole = encode(rows, tokenizer, max_length=512, causal=causal)
        room = 90
        encoded = encode(rows, tokenizer, max_length=room, causal=causal)
        assert (encoded.report.examples_cropped, encoded.report.examples_cropped_between) == (3, 1)
        assert whole.report.examples_cropped == 0
        for row, full in zip(encoded.dataset, whole.dataset, strict=True):
            assert len(row["input_ids"]) == min(room, len(full["input_ids"]))
            for position, before in zip(row["entity_positions"], full["entity_positions"], strict=True):
                assert row["input_ids"][position] == full["input_ids"][before]
                assert row["input_ids"][position - 1] == full["input_ids"][before - 1] or not causal
                assert causal or row["input_ids"][position + 1] == full["input_ids"][before + 1]
        first = tokenizer.decode(encoded.dataset[0]["input_ids"]).lower()
        assert "aspirin" in first
        assert "inhibits" in first


def test_mentions_that_cannot_fit_are_an_error(bert):
    row = pair("Aspirin inhibits " + "COX-2" * 40, "Aspirin", "COX-2" * 40, number=7)
    with pytest.raises(DataFormatError, match=r"example 'e7'.*max_length 64.*Raise max_length"):
        encode([row], bert, max_length=64)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=12, deadline=None)
@given(text=st.text(alphabet="ab@#*^ .漢\u0301", min_size=2, max_size=40), data=st.data())
def test_positions_survive_any_text(tokenizer, text, data):
    text = f"x{text}x"
    edges = st.integers(0, len(text) - 1)
    spans = [tuple(sorted(data.draw(st.tuples(edges, edges).filter(lambda e: e[0] != e[1])))) for _ in range(2)]
    row = pair("x", "x", "x")
    row["text"] = text
    row["entities"] = [entity(text, f"T{i}", "K", span) for i, span in enumerate(spans)]
    for causal in (False, True):
        (encoded,) = encode([row], tokenizer, causal=causal, max_length=256).dataset
        for position in encoded["entity_positions"]:
            assert 0 <= position < len(encoded["input_ids"])
