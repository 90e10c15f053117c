"""Entity counts against seqeval, and BC2GM's alternatives against a second implementation and by hand."""

from __future__ import annotations

import random
import warnings
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_crosstask.encoding.tags import decode_tags
from hf_crosstask.evaluation import counts as c
from hf_crosstask.evaluation.decoding import entity_references
from hf_crosstask.evaluation.entities import Entity, alternative_counts, as_entity, entity_counts
from hf_crosstask.evaluation.predictions import Target
from hf_crosstask.tasks.schema import make_entity, to_dataset

TYPES = ("A", "B")
TAGS = ("O", "B-A", "I-A", "B-B", "I-B")


def span(start: int, end: int, type: str = "A") -> Entity:
    return Entity(type, ((start, end),))


def from_tags(rows: list[list[str]]) -> list[list[Entity]]:
    return [[Entity(kind, ((first, end),)) for kind, first, end in decode_tags(tags)] for tags in rows]


@st.composite
def tag_pairs(draw: st.DrawFn) -> tuple[list[list[str]], list[list[str]]]:
    lengths = draw(st.lists(st.integers(1, 12), min_size=1, max_size=6))
    rows = [st.lists(st.sampled_from(TAGS), min_size=n, max_size=n) for n in lengths]
    return [draw(row) for row in rows], [draw(row) for row in rows]


@given(tag_pairs())
@settings(deadline=None, max_examples=300)
def test_equal_to_seqeval_strict(pair: tuple[list[list[str]], list[list[str]]]) -> None:
    from seqeval.metrics import f1_score, precision_score, recall_score
    from seqeval.scheme import IOB2

    gold, predicted = pair
    total = entity_counts(from_tags(gold), from_tags(predicted), TYPES).sum(axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # seqeval warns where a ratio is 0 / 0
        expected = [
            score(gold, predicted, average="micro", mode="strict", scheme=IOB2)
            for score in (precision_score, recall_score, f1_score)
        ]
    micro = c.micro(total)
    assert [c.precision(micro), c.recall(micro), c.f1(micro)] == pytest.approx(expected, abs=1e-12)


def test_counts_by_hand() -> None:
    gold = [[span(0, 3), span(4, 9, "B")], [], [span(1, 2), span(1, 2)]]
    predicted = [[span(0, 3), span(4, 8, "B"), span(4, 9, "A")], [span(0, 1)], []]
    counts = entity_counts(gold, predicted, TYPES)
    np.testing.assert_array_equal(counts[0], [[1, 1, 0, 0], [0, 1, 1, 0]])
    np.testing.assert_array_equal(counts[1], [[0, 1, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(counts[2], [[0, 0, 1, 0], [0, 0, 0, 0]])  # annotated twice, missed once


def test_discontiguous_gold_is_a_miss_of_its_outer_span() -> None:
    gold = as_entity(make_entity("T1", "A", [[6, 9], [0, 3]], ["def", "abc"]))
    assert gold == Entity("A", ((0, 3), (6, 9)))
    np.testing.assert_array_equal(entity_counts([[gold]], [[span(0, 9)]], ["A"])[0, 0], [0, 1, 1, 0])
    assert (gold.start, gold.end) == (0, 9)


def test_unknown_type_and_unequal_lengths_are_errors() -> None:
    with pytest.raises(ValueError, match="'Z' is not among"):
        entity_counts([[]], [[span(0, 1, "Z")]], TYPES)
    with pytest.raises(ValueError, match=r"shorter|longer"):
        entity_counts([[]], [[], []], TYPES)


@given(tag_pairs())
@settings(deadline=None, max_examples=50)
def test_counts_add_up(pair: tuple[list[list[str]], list[list[str]]]) -> None:
    gold, predicted = map(from_tags, pair)
    counts = entity_counts(gold, predicted, TYPES)
    parts = [entity_counts([g], [p], TYPES)[0] for g, p in zip(gold, predicted, strict=True)]
    np.testing.assert_array_equal(counts, parts)
    np.testing.assert_array_equal(counts[..., [c.TP, c.FN]].sum(axis=(1, 2)), [len(set(g)) for g in gold])
    np.testing.assert_array_equal(counts[..., [c.TP, c.FP]].sum(axis=(1, 2)), [len(set(p)) for p in predicted])


@pytest.mark.parametrize(
    ("gold", "alternatives", "predicted", "tp", "fp", "fn"),
    [
        pytest.param([span(5, 9)], [span(3, 9)], [span(3, 9)], 1, 0, 0, id="alternative"),
        pytest.param([span(5, 9)], [span(3, 9)], [span(3, 9), span(5, 9)], 1, 0, 0, id="both forms count once"),
        pytest.param([span(5, 9)], [span(3, 9)], [span(4, 9)], 0, 1, 1, id="neither form"),
        pytest.param([span(0, 4), span(5, 9)], [span(0, 9)], [span(0, 9)], 2, 0, 0, id="one form finds two genes"),
        pytest.param([span(5, 9)], [span(0, 3)], [span(0, 3)], 0, 0, 1, id="neutral: neither right nor wrong"),
        pytest.param([span(5, 9)], [span(9, 12)], [span(9, 12)], 0, 0, 1, id="touching is no overlap"),
        pytest.param([], [span(0, 3)], [span(0, 3), span(1, 2)], 0, 1, 0, id="no gene at all"),
        pytest.param([span(5, 9)], [span(3, 9, "B")], [span(3, 9, "A")], 0, 1, 1, id="alternative of another type"),
        pytest.param([span(5, 9)], [span(3, 9, "B")], [span(3, 9, "B")], 0, 0, 1, id="a form of another type's gene"),
        pytest.param([span(5, 9)], [], [span(5, 9)], 1, 0, 0, id="no alternatives"),
    ],
)
def test_alternatives_by_hand(
    gold: list[Entity], alternatives: list[Entity], predicted: list[Entity], tp: int, fp: int, fn: int
) -> None:
    np.testing.assert_array_equal(alternative_counts([gold], [alternatives], [predicted])[0, 0], [tp, fp, fn, 0])


SPANS = st.lists(st.tuples(st.integers(0, 6), st.integers(1, 4)).map(lambda p: span(p[0], p[0] + p[1])), max_size=5)


@given(st.lists(st.tuples(SPANS, SPANS), min_size=1, max_size=5))
def test_without_alternatives_it_is_plain_counting(rows: list[tuple[list[Entity], list[Entity]]]) -> None:
    gold, predicted = [row[0] for row in rows], [row[1] for row in rows]
    plain = entity_counts(gold, predicted, ["A"])
    np.testing.assert_array_equal(alternative_counts(gold, [[]] * len(rows), predicted), plain)


def official(
    genes: dict[str, list[tuple[int, int]]],
    forms: dict[str, list[tuple[int, int]]],
    found: dict[str, list[tuple[int, int]]],
) -> tuple[int, int, int]:
    """TP, FP, FN as the BioCreative II script counts them, on its own offsets (visible characters, inclusive)."""
    tp = fn = fp = 0
    for name, mentions in genes.items():
        for start, end in mentions:
            accepted = {(s, e) for s, e in forms.get(name, []) if s <= end and start <= e} | {(start, end)}
            hit = any(mention in accepted for mention in found.get(name, []))
            tp, fn = tp + hit, fn + (not hit)
    for name, mentions in found.items():
        fp += sum(m not in genes.get(name, []) and m not in forms.get(name, []) for m in mentions)
    return tp, fp, fn


def test_bc2gm_submissions_score_as_officially(shared_data: Path) -> None:
    """Random submissions over the real test files, scored from the files and from the unified examples."""
    folder = shared_data / "bc2gm" / "original" / "test"
    mentions: dict[str, dict[str, list[tuple[int, int]]]] = {}
    for kind in ("GENE", "ALTGENE"):
        mentions[kind] = defaultdict(list)
        for line in (folder / f"{kind}.eval").read_text().splitlines():
            name, offsets, _ = line.split("|", 2)
            start, end = offsets.split()
            mentions[kind][name].append((int(start), int(end)))
    genes, forms = mentions["GENE"], mentions["ALTGENE"]
    # An alternative in a sentence without a gene has no entity to be an attribute of: the reader drops these two.
    forms = {name: found for name, found in forms.items() if name in genes}
    texts = dict(line.split(" ", 1) for line in (folder / "test.in").read_text().splitlines())
    visible = {name: [i for i, ch in enumerate(text) if not ch.isspace()] for name, text in texts.items()}

    def as_span(name: str, mention: tuple[int, int]) -> tuple[int, int]:
        return visible[name][mention[0]], visible[name][mention[1]] + 1

    examples = [_bc2gm_example(name, text, genes, forms, as_span) for name, text in texts.items()]
    gold = entity_references(Target("bc2gm", "ner", ("GENE",)), to_dataset(examples))
    assert gold.alternatives is not None
    for seed, (share_gene, share_form) in enumerate([(0.9, 0.1), (0.3, 0.8), (1.0, 0.0), (0.0, 1.0)]):
        rng = random.Random(seed)
        submission = {}
        for name in texts:
            chosen = {m for m in genes.get(name, []) if rng.random() < share_gene}
            chosen |= {m for m in forms.get(name, []) if rng.random() < share_form}
            first = rng.randrange(len(visible[name]))
            chosen.add((first, min(len(visible[name]) - 1, first + rng.randint(0, 8))))
            submission[name] = sorted(chosen)
        predicted = [[Entity("GENE", (as_span(name, m),)) for m in submission[name]] for name in gold.ids]
        total = alternative_counts(gold.gold, gold.alternatives, predicted).sum(axis=0)[0]
        assert tuple(total[:3]) == official(genes, forms, submission)


def _bc2gm_example(name, text, genes, forms, as_span):  # type: ignore[no-untyped-def]
    from hf_crosstask.tasks.schema import make_example

    spans = [as_span(name, mention) for mention in genes.get(name, [])]
    others = [as_span(name, mention) for mention in forms.get(name, [])]
    entities = []
    for number, (start, end) in enumerate(spans):
        marks = [("alternative", (s, e)) for s, e in others if s < end and start < e]
        if number == 0:
            marks += [("neutral", (s, e)) for s, e in others if not any(s < b and a < e for a, b in spans)]
        attributes = [{"name": kind, "value": f"{s}:{e}"} for kind, (s, e) in marks]
        part = [text[start:end]]
        entities.append(make_entity(f"T{number}", "GENE", [(start, end)], part, attributes=attributes))
    return make_example(name, "bc2gm", text, split_group=name, entities=entities)
