"""Scores, intervals and trivial baselines of each task type, all from the same counts."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from hf_crosstask.errors import InputError
from hf_crosstask.evaluation.entities import Entity
from hf_crosstask.evaluation.predictions import Predictions, Target
from hf_crosstask.evaluation.scoring import Scoring, scoring_for

Make = Callable[..., Predictions]
RELATION = Target("pairs", "relation", ("none", "x", "y"), "none", {"x": 2})
CLASSES = Target("answers", "classification", ("yes", "no", "maybe"))
NER = Target("genes", "ner", ("A", "B"))


def span(start: int, end: int, type: str = "A") -> Entity:
    return Entity(type, ((start, end),))


def random_predictions(target: Target, make: Make, size: int = 300, seed: int = 0, **more: Any) -> Predictions:
    rng = random.Random(seed)
    if target.type == "ner":
        gold = [
            [span(i, i + 2, rng.choice("AB")) for i in rng.sample(range(20), rng.randint(0, 4))] for _ in range(size)
        ]
        predicted = [[e for e in row if rng.random() < 0.8] + [span(30, 31)][: rng.randint(0, 1)] for row in gold]
        return make(target, gold, predicted, **more)
    labels = target.labels
    gold_labels = [rng.choices(labels, [5, 2, 1][: len(labels)])[0] for _ in range(size)]
    guesses = [label if rng.random() < 0.7 else rng.choice(labels) for label in gold_labels]
    return make(target, [(label,) for label in gold_labels], guesses, **more)


@pytest.fixture(params=[NER, RELATION, CLASSES], ids=lambda target: target.type)
def case(request: pytest.FixtureRequest, make_predictions: Make) -> tuple[Scoring, Predictions]:
    target = request.param
    groups = [f"d{index // 3}" for index in range(300)]
    return scoring_for(target), random_predictions(target, make_predictions, groups=groups)


def test_interval_of_every_metric_holds_the_score(case: tuple[Scoring, Predictions]) -> None:
    scoring, predictions = case
    values = scoring.evaluate(predictions, seed=1)
    assert {name: value.value for name, value in values.items()} == scoring.score(predictions)
    for name, value in values.items():
        assert value.low is not None
        assert value.high is not None
        assert value.low < value.value < value.high
        assert value.high - value.low < 0.25
        assert scoring.interval(predictions, name, seed=1) == (value.low, value.high)
        narrow = scoring.interval(predictions, name, seed=1, level=0.5)
        assert value.low < narrow[0] < narrow[1] < value.high


def test_permuting_examples_changes_nothing(case: tuple[Scoring, Predictions]) -> None:
    scoring, p = case
    order = list(range(len(p)))
    random.Random(3).shuffle(order)
    columns = ("ids", "split_groups", "gold", "predicted", "confidence")
    mixed = Predictions(p.target, *(tuple(getattr(p, name)[i] for i in order) for name in columns))
    assert scoring.evaluate(mixed, seed=4) == scoring.evaluate(p, seed=4)


def test_one_document_has_no_interval(make_predictions: Make) -> None:
    predictions = random_predictions(CLASSES, make_predictions, size=5, groups=["d"] * 5)
    values = scoring_for(CLASSES).evaluate(predictions, seed=0)
    assert values["accuracy"].low is None
    assert values["accuracy"].high is None
    with pytest.raises(ValueError, match="at least two clusters"):
        scoring_for(CLASSES).interval(predictions, "accuracy", seed=0)


def test_relation_values_by_hand(make_predictions: Make) -> None:
    """Candidates: 2 right, 1 wrong, 2 missed (one as the second type of a pair); 2 gold relations lost."""
    gold = [("x",), ("x", "y"), ("none",), ("y",), ("none",)]
    predictions = make_predictions(RELATION, gold, ["x", "y", "x", "none", "none"])
    scoring = scoring_for(RELATION)
    values = scoring.score(predictions)
    assert values["micro_f1"] == pytest.approx(4 / (4 + 1 + 2 + 2))
    assert values["micro_f1_candidates"] == pytest.approx(4 / (4 + 1 + 2))
    assert values["micro_precision"] == pytest.approx(2 / 3)
    assert values["micro_recall"] == pytest.approx(2 / 6)
    x, y = 2 / (2 + 1 + 1 + 2), 2 / (2 + 0 + 1)
    assert values["macro_f1"] == pytest.approx((x + y) / 2)
    assert {label: row["support"] for label, row in scoring.by_label(predictions).items()} == {"x": 4, "y": 2}


def test_lost_gold_lowers_every_replicate(make_predictions: Make) -> None:
    predictions = random_predictions(RELATION, make_predictions)
    scoring = scoring_for(RELATION)
    whole = scoring.interval(predictions, "micro_f1", seed=0)
    candidates = scoring.interval(predictions, "micro_f1_candidates", seed=0)
    assert whole[0] < candidates[0]
    assert whole[1] < candidates[1]


def test_alternatives_exist_only_where_given(make_predictions: Make) -> None:
    gold, predicted, forms = [[span(5, 9)], [span(0, 2)]], [[span(3, 9)], []], [[span(3, 9)], []]
    plain = make_predictions(NER, gold, predicted)
    accepted = make_predictions(NER, gold, predicted, alternatives=forms)
    scoring = scoring_for(NER)
    assert "entity_f1_alternatives" not in scoring.score(plain)
    assert scoring.score(accepted)["entity_f1"] == 0.0
    assert scoring.score(accepted)["entity_f1_alternatives"] == pytest.approx(2 / 3)
    assert set(scoring.by_label(accepted)) == {"A", "B"}
    assert scoring.interval(accepted, "entity_f1_alternatives", seed=0)[1] == 1.0
    with pytest.raises(InputError, match="unknown metric 'entity_f1_alternatives'"):
        scoring.interval(plain, "entity_f1_alternatives", seed=0)


def test_lost_entities_are_missed_with_alternatives_too(make_predictions: Make) -> None:
    target = Target("genes", "ner", ("A", "B"), lost_gold={"A": 1, "B": 2})
    form = span(3, 9)
    predictions = make_predictions(target, [[span(5, 9)]], [[form]], alternatives=[[form]])
    values = scoring_for(target).score(predictions)
    assert values["entity_f1_alternatives"] == pytest.approx(2 / (2 + 3))


def test_trivial_predictors(make_predictions: Make) -> None:
    answers = make_predictions(CLASSES, [("yes",)] * 276 + [("no",)] * 169 + [("maybe",)] * 55, [None] * 500)
    assert scoring_for(CLASSES).majority(answers) == {
        "accuracy": pytest.approx(0.552),
        "micro_f1": pytest.approx(0.552),
        "macro_f1": pytest.approx(0.2371, abs=5e-5),
    }
    for target in (NER, RELATION):
        trivial = scoring_for(target).majority(random_predictions(target, make_predictions))
        assert set(trivial.values()) == {0.0}
    no_negative = Target("pairs", "relation", ("x", "y"))
    pairs = make_predictions(no_negative, [("x",), ("x",), ("y",)], [None] * 3)
    assert scoring_for(no_negative).majority(pairs)["micro_f1"] == pytest.approx(2 / 3)


def test_counts_add_over_parts_of_the_examples(case: tuple[Scoring, Predictions]) -> None:
    scoring, p = case
    columns = ("ids", "split_groups", "gold", "predicted", "confidence")
    parts = [Predictions(p.target, *(getattr(p, name)[part] for name in columns)) for part in _halves(len(p))]
    tables = [scoring.count(part) for part in parts]
    total = sum(table.per_example.sum(axis=0) for table in tables) + tables[0].constant
    np.testing.assert_array_equal(total, scoring.count(p).total())
    for name, value in scoring.score(p).items():
        assert scoring.from_counts(name, np.stack([total, total])).tolist() == [value, value]


def _halves(size: int) -> tuple[slice, slice]:
    return slice(0, size // 2), slice(size // 2, None)


def test_merged_types_ignore_the_type_alone(make_predictions: Make) -> None:
    """One right, one of the wrong type, one of the wrong span; a span that gold gives two types is one."""
    gold = [[span(0, 2), span(3, 5, "B")], [span(7, 9), span(7, 9, "B")]]
    predicted = [[span(0, 2), span(3, 5, "A")], [span(7, 8)]]
    values = scoring_for(NER).score(make_predictions(NER, gold, predicted))
    assert values["entity_f1"] == pytest.approx(2 * 1 / (3 + 4))
    assert values["entity_f1_merged"] == pytest.approx(2 * 2 / (3 + 3))
    one = Target("genes", "ner", ("A",))
    assert "entity_f1_merged" not in scoring_for(one).score(make_predictions(one, [[span(0, 2)]], [[span(0, 2)]]))


def test_merged_types_agree_with_seqeval_on_merged_tags(make_predictions: Make) -> None:
    """BLURB's JNLPBA: types are dropped, then seqeval counts; no entities touch, so that tags can be merged."""
    from seqeval.metrics import f1_score
    from seqeval.scheme import IOB2

    rng = random.Random(0)
    sides: list[list[list[Entity]]] = [[], []]
    tags: list[list[list[str]]] = [[], []]
    for _ in range(200):
        for side, rows in zip(sides, tags, strict=True):
            entities, row = [], ["O"] * 20
            for start in range(0, 20, 4):
                if rng.random() < 0.5:
                    length, kind = rng.randint(1, 3), rng.choice("AB")
                    entities.append(span(start, start + length, kind))
                    row[start : start + length] = ["B-x"] + ["I-x"] * (length - 1)
            side.append(entities)
            rows.append(row)
    merged = scoring_for(NER).score(make_predictions(NER, *sides))["entity_f1_merged"]
    assert merged == pytest.approx(f1_score(*tags, mode="strict", scheme=IOB2), abs=1e-12)


def test_positive_f1_is_that_of_one_class(make_predictions: Make) -> None:
    from sklearn.metrics import precision_recall_fscore_support

    target = Target("gad", "classification", ("0", "1"), positive_label="1")
    predictions = random_predictions(target, make_predictions)
    values = scoring_for(target).score(predictions)
    gold, guess = [row[0] for row in predictions.gold], list(predictions.predicted)
    p, r, f, _ = precision_recall_fscore_support(gold, guess, pos_label="1", average="binary")
    assert (values["positive_precision"], values["positive_recall"]) == pytest.approx((p, r))
    assert values["positive_f1"] == pytest.approx(f)
    swapped = Target("gad", "classification", ("0", "1"), positive_label="0")
    other = scoring_for(swapped).score(make_predictions(swapped, predictions.gold, predictions.predicted))
    assert other["positive_f1"] == pytest.approx(f1_of(gold, guess, "0"))
    assert "positive_f1" not in scoring_for(CLASSES).metrics


def f1_of(gold: list[str], guess: list[str], label: str) -> float:
    hits = sum(g == p == label for g, p in zip(gold, guess, strict=True))
    return 2 * hits / (gold.count(label) + guess.count(label))


def test_micro_f1_of_single_labels_is_accuracy(make_predictions: Make) -> None:
    values = scoring_for(CLASSES).score(random_predictions(CLASSES, make_predictions))
    assert values["micro_f1"] == pytest.approx(values["accuracy"])


def test_drug_interactions_are_scored_as_the_official_scorer_does(make_predictions: Make) -> None:
    """Micro-F1 (BLURB) and macro-F1 (BLUE) over the four types."""
    from hf_crosstask.evaluation.official import ddi

    target = Target("ddi", "relation", ("false", *ddi.TYPES), "false")
    rng = random.Random(1)
    gold = rng.choices(target.labels, [10, 3, 3, 2, 1], k=400)
    guess = [label if rng.random() < 0.7 else rng.choice(target.labels) for label in gold]
    values = scoring_for(target).score(make_predictions(target, [(label,) for label in gold], guess))

    def pairs(labels: list[str]) -> list[ddi.Pair]:
        kinds = [None if label == "false" else label for label in labels]
        return [ddi.Pair(f"d{i // 7}.s{i}", "e0", f"e{i}", kind) for i, kind in enumerate(kinds)]

    official = ddi.score(pairs(gold), pairs(guess))
    for name in ("micro_f1", "micro_precision", "micro_recall", "macro_f1"):
        assert values[name] == pytest.approx(official[name], abs=1e-12)


def test_wrong_targets() -> None:
    for target, message in (
        (Target("t", "poetry", ("a",)), "no metric for tasks of type 'poetry'; supported: ner"),  # type: ignore[arg-type]
        (Target("t", "ner", ()), "lists no `labels`"),
        (Target("t", "relation", ("none", "x"), "nome"), "did you mean 'none'"),
        (Target("t", "classification", ("a", "b"), "a"), "belongs to relation tasks"),
        (Target("t", "classification", ("bad", "good"), positive_label="god"), "did you mean 'good'"),
        (Target("t", "similarity", (), lost_gold={"a": 1}), "lost gold has no meaning"),
    ):
        with pytest.raises(InputError, match=message):
            scoring_for(target)
    with pytest.raises(InputError, match="did you mean 'accuracy'"):
        scoring_for(CLASSES).from_counts("acuracy", np.zeros((3, 4)))
