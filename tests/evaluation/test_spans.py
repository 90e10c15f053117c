"""Scores of entities of any shape, held against the official scorers on whole submissions."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_crosstask.evaluation.entities import Entity
from hf_crosstask.evaluation.official import share2014, share2015
from hf_crosstask.evaluation.predictions import Predictions, Target
from hf_crosstask.evaluation.scoring import scoring_for
from hf_crosstask.evaluation.spans import relaxed_counts

TYPE = "Disease_Disorder"
CUIS = ("C0000001", "C0000002", "CUI-less")
TEMPLATES = (share2015.DEFAULTS, ("yes", "patient", "no", "increased", "severe", "false", "true", "C0000009"))


def spans() -> st.SearchStrategy[tuple[tuple[int, int], ...]]:
    cuts = st.lists(st.integers(0, 30), min_size=2, max_size=5, unique=True).map(sorted)
    return cuts.map(lambda edges: tuple(zip(edges[::2], edges[1::2], strict=False)))


@st.composite
def documents(draw: st.DrawFn, slots: Any) -> list[tuple[list[Any], list[Any]]]:
    """Gold and predicted (spans, slots) of a few documents; a span occurs once a side."""
    side = st.lists(st.tuples(spans(), slots), max_size=4, unique_by=lambda mention: mention[0])
    return draw(st.lists(st.tuples(side, side), min_size=1, max_size=4))


def predictions(rows: list[tuple[list[Any], list[Any]]], official: Any, groups: Any = None) -> Predictions:
    def side(number: int, part: int) -> tuple[Any, ...]:
        return tuple(tuple(mention[part] for mention in row[number]) for row in rows)

    gold, predicted = (tuple(tuple(Entity(TYPE, s) for s in row) for row in side(n, 0)) for n in (0, 1))
    ids = tuple(f"d{number}" for number in range(len(rows)))
    return Predictions(
        target=Target("toy", "span_ner", (TYPE,), official=official),
        ids=ids,
        split_groups=groups or ids,
        gold=gold,
        predicted=predicted,
        confidence=tuple((0.5,) * len(row) for row in predicted),
        gold_slots=side(0, 1) if official else None,
        predicted_slots=side(1, 1) if official else None,
    )


@settings(max_examples=100, deadline=None)
@given(rows=documents(st.sampled_from(CUIS).map(lambda cui: (cui,))))
def test_semeval_2014(rows):
    made = predictions(rows, "share2014")
    values = scoring_for(made.target).score(made)
    sides = [
        [share2014.Disorder(f"d{n}", cui, s) for n, row in enumerate(rows) for s, (cui,) in row[i]] for i in (0, 1)
    ]
    official = share2014.score(*sides)
    for ours, theirs in [
        ("entity_f1", "strict_f1"),
        ("entity_precision", "strict_precision"),
        ("entity_recall", "strict_recall"),
        ("relaxed_f1", "relaxed_f1"),
        ("relaxed_precision", "relaxed_precision"),
        ("relaxed_recall", "relaxed_recall"),
        ("cui_accuracy", "cui_strict_accuracy"),
        ("cui_accuracy_relaxed", "cui_relaxed_accuracy"),
    ]:
        assert values[ours] == pytest.approx(official[theirs], abs=1e-12), ours


SLOTS_2015 = st.builds(lambda cui, template: (cui, *template), st.sampled_from(CUIS), st.sampled_from(TEMPLATES))


@settings(max_examples=100, deadline=None)
@given(rows=documents(SLOTS_2015), whole=st.booleans())
def test_semeval_2015(rows, whole):
    """Whole documents, and documents as several examples whose offsets continue."""
    if not whole:
        rows = [
            tuple([(tuple((a + 100 * n, b + 100 * n) for a, b in s), slots) for s, slots in side] for side in row)
            for n, row in enumerate(rows)
        ]
    made = predictions(rows, "share2015", groups=None if whole else ("d",) * len(rows))
    values = scoring_for(made.target).score(made)
    sides = [
        [
            share2015.Disorder(f"d{n}" if whole else "d", s, cui, tuple(template))
            for n, row in enumerate(rows)
            for s, (cui, *template) in row[i]
        ]
        for i in (0, 1)
    ]
    task1, task2 = share2015.score_task1(*sides), share2015.score_task2(*sides)
    expected = {f"task1_{name}": task1[name] for name in ("strict_f1", "relaxed_f1")}
    expected |= {
        f"task2_{name}": task2[name]
        for name in ("f1_weighted_accuracy", "weighted_accuracy", "f1_accuracy", "accuracy")
    }
    assert {name: values[name] for name in expected} == pytest.approx(expected, abs=1e-12)


def test_lost_gold_is_missed_by_every_metric():
    mention = (((0, 5),), ("C0000001", *share2015.DEFAULTS))
    for official, slots in (("share2014", mention[1][:1]), ("share2015", mention[1])):
        made = predictions([([(mention[0], slots)],) * 2], official)
        assert set(scoring_for(made.target).score(made).values()) == {1.0}
        target = Target("toy", "span_ner", (TYPE,), lost_gold={TYPE: 1}, official=official)
        values = scoring_for(target).score(
            Predictions(**{**made.__dict__, "target": target}),
        )
        names = {"entity_f1", "relaxed_f1", "cui_accuracy", "task1_strict_f1", "task1_relaxed_f1"} & values.keys()
        names |= {"task2_f1_accuracy", "task2_f1_weighted_accuracy"} & values.keys()
        for name in names:
            assert values[name] == pytest.approx(0.5 if name == "cui_accuracy" else 2 / 3), name


def test_relaxed_counts_stay_within_a_type():
    gold = [[Entity("A", ((0, 3), (8, 9))), Entity("A", ((20, 22),)), Entity("B", ((0, 9),))]]
    predicted = [[Entity("A", ((2, 5),)), Entity("A", ((8, 12),)), Entity("A", ((3, 8),)), Entity("B", ((9, 12),))]]
    counts = relaxed_counts(gold, predicted, ("A", "B"))
    assert counts[0].tolist() == [[2, 1, 1, 0], [0, 1, 1, 0]]


def test_metrics_of_several_types():
    target = Target("toy", "span_ner", ("A", "B"))
    made = Predictions(
        target=target,
        ids=("1", "2"),
        split_groups=("1", "2"),
        gold=((Entity("A", ((0, 3),)), Entity("B", ((0, 1), (2, 3)))), ()),
        predicted=((Entity("B", ((0, 3),)), Entity("B", ((0, 1), (2, 3)))), (Entity("A", ((0, 1),)),)),
        confidence=((0.5, 0.5), (0.5,)),
    )
    scoring = scoring_for(target)
    values = scoring.score(made)
    assert values["entity_f1"] == pytest.approx(2 / 5)
    assert values["entity_f1_merged"] == pytest.approx(4 / 5)
    assert (values["relaxed_precision"], values["relaxed_recall"]) == (pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert scoring.by_label(made)["B"]["recall"] == 1.0
    assert set(scoring.majority(made).values()) == {0.0}
    evaluated = scoring.evaluate(made, replicates=100, seed=1)
    assert evaluated["relaxed_f1"].low <= evaluated["relaxed_f1"].value <= evaluated["relaxed_f1"].high


@pytest.mark.parametrize("official", [None, "share2014", "share2015"])
def test_parquet_round_trip_scores_the_same(tmp_path, official):
    slots = {None: [], "share2014": ["C0000001"], "share2015": ["C0000001", *share2015.DEFAULTS]}[official]
    mentions = [(((0, 5), (7, 9)), tuple(slots)), (((2, 3),), tuple(slots))]
    made = predictions([(mentions, mentions[:1]), ([], mentions), (mentions, [])], official)
    read = Predictions.from_parquet(made.to_parquet(tmp_path / "p.parquet"))
    assert read.gold_slots == made.gold_slots
    assert read.predicted_slots == made.predicted_slots
    assert read.target == made.target
    scoring = scoring_for(read.target)
    assert scoring.score(read) == scoring.score(made)
    assert set(scoring.majority(read).values()) == {0.0}
    assert scoring.evaluate(read, replicates=100, seed=1).keys() == scoring.score(read).keys()


def test_slots_belong_to_entities():
    made = predictions([([(((0, 5),), ("C0000001",))], [])], "share2014")
    with pytest.raises(ValueError, match="one for one"):
        Predictions(**{**made.__dict__, "gold_slots": ((),)})
    with pytest.raises(ValueError, match="carry none"):
        scoring_for(made.target).score(Predictions(**{**made.__dict__, "gold_slots": None}))
