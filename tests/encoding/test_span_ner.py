from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import example as hypothesis_example
from hypothesis import strategies as st

from hf_crosstask.encoding import MultiTaskCollator, encode_task
from hf_crosstask.encoding.encoder import IGNORED
from hf_crosstask.encoding.links import READINGS, certain
from hf_crosstask.encoding.span_ner import cell_owners
from hf_crosstask.encoding.words import words
from hf_crosstask.errors import DataFormatError, InputError
from hf_crosstask.evaluation.entities import Entity
from hf_crosstask.evaluation.predictions import Target
from hf_crosstask.evaluation.span_decoding import SpanDecoder
from hf_crosstask.models.tiny_tokenizer import train_tokenizer
from hf_crosstask.tasks.card import TaskCard, TaskSpec
from hf_crosstask.tasks.load import load_task
from hf_crosstask.tasks.schema import check_examples, make_entity, make_example, to_dataset
from hf_crosstask.training.rows import label_counts

LABELS = ("Disorder", "Drug")
QUIET = [HealthCheck.function_scoped_fixture]


def card(**fields: Any) -> TaskCard:
    known = {"name": "invented", "type": "span_ner", "level": 1, "primary_metric": "entity_f1", "reader": "jsonl"}
    return TaskCard(**{**known, "labels": LABELS, **fields})


def example(text: str, entities: list[Entity], number: int = 0) -> dict[str, Any]:
    rows = [
        make_entity(f"T{i}", entity.type, entity.offsets, [text[a:b] for a, b in entity.offsets])
        for i, entity in enumerate(entities)
    ]
    return make_example(f"e{number}", "invented", text, split_group="d", entities=rows)


def round_trip(texts: list[tuple[str, list[Entity]]], tokenizer, *, fields: Any = (), **options: Any):
    """Encode, and decode what a model that is certain of every label would say (and anything where there is none)."""
    task = card(**dict(fields))
    examples = to_dataset([example(text, entities, number) for number, (text, entities) in enumerate(texts)])
    check_examples(examples, "span_ner", LABELS, source="test")
    encoded = encode_task(examples, task, tokenizer, causal=False, **{"max_length": 128, **options})
    noise = np.random.default_rng(0)
    logits = []
    for labels in encoded.dataset["labels"]:
        bits = np.array(labels)
        anything = noise.normal(0, 9, (*bits.shape, 1 + len(LABELS)))
        padding = noise.normal(0, 9, (2, *anything.shape[1:]))  # as where a longer row is in the batch
        said = np.where((bits != IGNORED)[..., None], certain(np.maximum(bits, 0), len(LABELS)), anything)
        logits.append(np.concatenate([said, padding]).astype(np.float32))
    decoder = SpanDecoder(task, Target.of(task, {}), examples, encoded.dataset)
    assert decoder.example_index == encoded.dataset["example_index"][:]
    return encoded, [set(row) for row in decoder.decode(logits).predicted]


def entity(text: str, *parts: str, type: str = "Disorder") -> Entity:
    """The entity of parts that occur once."""
    assert all(text.count(part) == 1 for part in parts)
    return Entity(type, tuple((text.index(part), text.index(part) + len(part)) for part in parts))


@st.composite
def annotated(draw: st.DrawFn, aligned: bool = True) -> tuple[str, list[Entity]]:
    alphabet = "aIL2βé½漢😀- (.)±\n\u0301" if draw(st.booleans()) else "aI2 -."
    text = "x" + draw(st.text(alphabet=alphabet, min_size=1, max_size=50))
    spans = words(text, "regex")
    found = []
    for _ in range(draw(st.integers(0, 5))):
        if aligned:
            offsets: list[tuple[int, int]] = []
            previous = -1
            for word in sorted(draw(st.sets(st.integers(0, len(spans) - 1), min_size=1, max_size=7))):
                if word == previous + 1 and offsets and draw(st.booleans()):
                    offsets[-1] = (offsets[-1][0], spans[word][1])
                else:
                    offsets.append(spans[word])
                previous = word
        else:
            cuts = sorted(draw(st.sets(st.integers(0, len(text)), min_size=2, max_size=4)))
            offsets = list(zip(cuts[: len(cuts) // 2 * 2 : 2], cuts[1::2], strict=True))
        found.append(Entity(draw(st.sampled_from(LABELS)), tuple(offsets)))
    return text, found


@settings(suppress_health_check=QUIET, max_examples=20, deadline=None)
@given(data=st.data())
def test_every_entity_is_read_back_or_counted_whatever_the_windows(tokenizer, data):
    texts = data.draw(st.lists(annotated(), min_size=1, max_size=3))
    room = data.draw(st.integers(1, 20))
    max_length = room + tokenizer.num_special_tokens_to_add()
    stride = data.draw(st.integers(0, room - 1))
    reach = data.draw(st.sampled_from([2, 5, 64]))
    encoded, found = round_trip(texts, tokenizer, fields={"reach": reach}, max_length=max_length, stride=stride)
    report, gold = encoded.report, [set(entities) for _, entities in texts]
    assert report.entities == sum(map(len, gold))
    assert report.entities_misaligned == 0
    assert sum(len(g & f) for g, f in zip(gold, found, strict=True)) == report.entities - report.entities_unreachable
    assert sum(len(f - g) for g, f in zip(gold, found, strict=True)) == report.entities_spurious
    assert report.rows == len(encoded.dataset)
    assert report.tokens == sum(map(len, encoded.dataset["input_ids"]))
    for row in encoded.dataset:
        assert len(row["input_ids"]) <= max_length
        assert len(row["labels"]) == len(row["word_positions"]) == max(1, len(row["word_index"]))
        assert {len(cells) for cells in row["labels"]} == {reach}


#: More mentions than words that they end at.
CROWDED = (
    "x.",
    [
        Entity("Disorder", ((0, 1), (1, 2))),
        Entity("Disorder", ((0, 1),)),
        Entity("Disorder", ((1, 2),)),
        Entity("Drug", ((0, 1),)),
        Entity("Drug", ((0, 2),)),
    ],
)


@settings(suppress_health_check=QUIET, max_examples=40, deadline=None)
@given(texts=st.lists(annotated(), min_size=1, max_size=3))
@hypothesis_example(texts=[CROWDED])
def test_nothing_is_lost_where_one_window_shows_all(bert, texts):
    encoded, found = round_trip(texts, bert, fields={"reach": 64}, max_length=512)
    report = encoded.report
    assert report.entities_misaligned == report.entities_overlapping == 0
    if report.words_without_token == 0:
        assert report.entities_unreachable == 0
        assert all(set(entities) <= of_text for (_, entities), of_text in zip(texts, found, strict=True))


@settings(suppress_health_check=QUIET, max_examples=40, deadline=None)
@given(annotation=annotated(aligned=False))
def test_entities_off_the_words_are_counted(bert, annotation):
    text, entities = annotation
    entities = [e for e in entities if all(text[a:b].strip() for a, b in e.offsets)]
    starts, ends = ({edge[side] for edge in words(text, "regex")} for side in (0, 1))
    encoded, (found,) = round_trip([(text, entities)], bert, max_length=512, fields={"reach": 64})
    off = {e for e in set(entities) if any(a not in starts or b not in ends for a, b in e.offsets)}
    assert encoded.report.entities_misaligned == len(off)
    assert not off & found


def test_a_clinical_note(bert):
    text = (
        "Abdomen: soft, liver is mildly enlarged.\nLeft and right atrium is dilated. Denies chest\npain or shortness of "
        "breath. Metformin for type 2 diabetes mellitus."
    )
    gold = [
        entity(text, "Abdomen", "enlarged"),
        entity(text, "liver", "enlarged"),
        entity(text, "Left", "atrium", "dilated"),
        entity(text, "right atrium", "dilated"),
        entity(text, "chest", "pain"),  # parts side by side: split at the line end
        entity(text, "breath"),
        entity(text, "shortness of breath"),
        entity(text, "type 2 diabetes mellitus"),
        entity(text, "diabetes", type="Drug"),
        entity(text, "Metformin", type="Drug"),
    ]
    gold.append(gold[-1])  # listed twice
    encoded, (found,) = round_trip([(text, gold)], bert, max_length=512)
    assert found == set(gold)
    report = encoded.report
    assert (report.entities, report.entities_unreachable, report.entities_spurious) == (10, 0, 0)
    assert (report.bio_discontinuous, report.bio_overlapping) == (5, 2)
    assert (report.examples_windowed, report.examples_truncated) == (0, 0)


def test_ambiguity_is_counted(bert):
    text = "a b c d"
    gold = [entity(text, "a b", "d"), entity(text, "b c d")]
    encoded, (found,) = round_trip([(text, gold)], bert)
    assert found - set(gold) == {entity(text, "a b c d"), entity(text, "b", "d")}
    assert (encoded.report.entities_spurious, encoded.report.entities_unreachable) == (2, 0)


def test_more_mentions_between_two_words_than_are_read(bert):
    text = "a b c d e f g h i"
    inner = "bcdefgh"
    chosen = [[letter for bit, letter in enumerate(inner) if number >> bit & 1] for number in range(100)]
    gold = [
        Entity("Disorder", tuple((text.index(x), text.index(x) + 1) for x in ["a", *some, "i"])) for some in chosen
    ]
    report = round_trip([(text, gold)], bert)[0].report
    assert (report.entities, report.entities_overlapping) == (100, 100 - READINGS + report.entities_spurious)


def test_reach_and_windows_cut(bert):
    text = " ".join(f"w{number}" for number in range(40))
    near, far = entity(text, "w1 ", "w5 "), entity(text, "w7 ", "w30 ")
    near, far = (Entity(e.type, tuple((a, b - 1) for a, b in e.offsets)) for e in (near, far))
    encoded, (found,) = round_trip([(text, [near, far])], bert, max_length=256)
    assert (found, encoded.report.entities_cut) == ({near, far}, 0)
    encoded, (found,) = round_trip([(text, [near, far])], bert, max_length=256, fields={"reach": 23})
    assert (found, encoded.report.entities_cut) == ({near}, 1)  # 24 words from first to last
    encoded, (found,) = round_trip([(text, [near, far])], bert, max_length=40, stride=20)
    assert (found, encoded.report.entities_cut) == ({near}, 1)
    assert encoded.report.examples_windowed == 1
    encoded, (found,) = round_trip([(text, [near, far])], bert, max_length=40, stride=20, long_inputs="truncate")
    assert (found, encoded.report.entities_cut) == ({near}, 1)
    assert encoded.report.rows == encoded.report.examples_truncated == 1


def test_an_entity_no_longer_than_the_stride_is_in_a_window_wherever_it_lies(bert):
    text = " ".join("a" for _ in range(200))
    entities = [
        Entity("Disorder", ((2 * i, 2 * i + 1), (2 * i + 14, 2 * i + 15))) for i in range(190)
    ]  # 8 tokens each
    encoded, (found,) = round_trip([(text, entities)], bert, max_length=30, stride=8)
    assert encoded.report.rows > 5
    assert encoded.report.entities_cut == 0
    assert found >= set(entities)


def test_every_cell_has_one_owner():
    owner = cell_owners([(0, 6), (3, 9), (8, 12)], 12, 4)
    shown = np.array([[head + d < 12 for d in range(4)] for head in range(12)])
    assert owner[shown].min() == -1  # 7 to 10 are in no window together
    assert owner[7, 3] == -1
    assert (owner[~shown] == -1).all()
    assert (owner[0, 0], owner[4, 0], owner[5, 0], owner[5, 1], owner[8, 0], owner[8, 1]) == (0, 0, 1, 1, 1, 2)


def test_a_cell_is_supervised_once(bert):
    text = " ".join("word" for _ in range(60))
    encoded, _ = round_trip([(text, [])], bert, max_length=34, stride=16, fields={"reach": 6})
    count = np.zeros((60, 6), dtype=int)
    for row in encoded.dataset:
        for word, cells in zip(row["word_index"], row["labels"], strict=True):
            count[word] += np.array(cells) != IGNORED
    exists = np.arange(60)[:, None] + np.arange(6) < 60
    assert (count == exists).all()


def test_words_that_a_tokenizer_drops(bert):
    text = "a \u0301 b c"  # BERT makes no token of a combining mark that stands alone
    a, mark, b, c = words(text, "regex")
    gold = [
        Entity("Disorder", ((a[0], b[1]),)),
        Entity("Disorder", (a, b)),
        Entity("Disorder", (mark,)),
        Entity("Drug", (a, c)),
    ]
    encoded, (found,) = round_trip([(text, gold)], bert)
    assert encoded.report.words_without_token == 1
    assert encoded.report.entities_cut == 1
    assert found == set(gold) - {gold[2]}


def test_texts_without_a_word(bert):
    encoded, found = round_trip([("\u0301 \u0301", []), ("fever", [entity("fever", "fever")])], bert)
    assert found == [set(), {entity("fever", "fever")}]
    assert encoded.report.rows_unsupervised == 1
    assert all(len(positions) >= 1 for positions in encoded.dataset["word_positions"])


def test_bad_input(bert):
    with pytest.raises(InputError, match="takes 30 entity types at most, found 31"):
        round_trip([("a", [])], bert, fields={"labels": tuple(f"T{n}" for n in range(31))})
    with pytest.raises(InputError, match="stride 126 must be at least 0 and less than the 126 tokens"):
        round_trip([("a", [])], bert, stride=126)
    examples = to_dataset([example("a", [Entity("Gene", ((0, 1),))])])
    with pytest.raises(DataFormatError, match=r"example 'e0': .*'Gene'"):
        encode_task(examples, card(), bert, max_length=64, causal=False)


@pytest.mark.parametrize("causal", [False, True])
def test_words_are_read_at_their_first_token_by_decoders_at_their_last(bert, causal):
    examples = to_dataset([example("salbutamol binds", [])])
    (row,) = encode_task(examples, card(), bert, max_length=64, causal=causal).dataset
    end = len(row["input_ids"]) - 1  # [SEP]
    pieces = [len(bert.tokenize(word)) for word in ("salbutamol", "binds")]
    assert sum(pieces) == end - 1 > 2
    assert row["word_positions"] == ([pieces[0], end - 1] if causal else [1, 1 + pieces[0]])


def test_batches(bert):
    examples = to_dataset([example("fever and a cough", []), example("fever", [entity("fever", "fever")], 1)])
    encoded = encode_task(examples, card(reach=3), bert, max_length=64, causal=False)
    batch = MultiTaskCollator.for_tokenizer(bert)([dict(row) for row in encoded.dataset])
    assert batch["word_positions"].shape == (2, 4)
    assert batch["word_positions"][1].tolist() == [1, 0, 0, 0]
    assert batch["labels"].shape == (2, 4, 3)
    assert batch["labels"][1].tolist() == [[2, -100, -100], *[[-100] * 3] * 3]
    assert (batch["labels"][0] != -100).sum() == 4 + 3 + 2
    assert label_counts(encoded.dataset, "t", shifted=False).tolist() == [9, 1]


def test_real_discontinuous_mentions(shared_data):
    """The test notes of DDI-2013 in brat: every entity on word edges comes back, and nothing else."""
    options = {"relation_types": dict.fromkeys(("ADVISE", "EFFECT", "INT", "MECHANISM")), "mention_text": "offsets"}
    labels = ("DRUG", "BRAND", "GROUP", "DRUG_N")
    spec = TaskSpec(
        name="ddi_spans",
        type="span_ner",
        reader="brat",
        path="ddi/DDICorpus-2013-BRAT.zip",
        labels=labels,
        options=options,
    )
    data = load_task(spec, data_dir=shared_data)
    examples = data.splits["test"]
    tokenizer = train_tokenizer("bert", examples["text"][:50])
    encoded = encode_task(examples, data.card, tokenizer, max_length=128, stride=48, causal=False)
    logits = [
        certain(np.maximum(np.array(bits), 0), len(labels)).astype(np.float32) for bits in encoded.dataset["labels"]
    ]
    predictions = SpanDecoder(data.card, Target.of(data.card, {}), examples, encoded.dataset).decode(logits)
    gold, found = (
        {(n, e) for n, row in enumerate(side) for e in row} for side in (predictions.gold, predictions.predicted)
    )
    report = encoded.report
    assert (report.entities, report.bio_discontinuous, report.examples) == (len(gold), 11, 303)
    assert len(gold - found) == report.entities_unreachable == report.entities_misaligned == 2
    assert found <= gold
