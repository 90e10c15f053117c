"""Label sets: documents and examples against the official scorer and scikit-learn, thresholds, the best constant."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hf_crosstask.errors import InputError
from hf_crosstask.evaluation import multilabel
from hf_crosstask.evaluation.multilabel import METRICS, THRESHOLDS, best_constant, best_threshold, multilabel_table
from hf_crosstask.evaluation.official import hoc
from hf_crosstask.evaluation.predictions import Predictions, Target
from hf_crosstask.evaluation.scoring import scoring_for

Make = Callable[..., Predictions]
LABELS = ("a", "b", "c", "d")
TARGET = Target("sets", "multilabel", LABELS)


def shaped(examples: int) -> st.SearchStrategy[np.ndarray]:
    return arrays(np.bool_, (examples, len(LABELS)))


CASES = st.integers(1, 25).flatmap(
    lambda n: st.tuples(shaped(n), shaped(n), st.lists(st.sampled_from("pqrs"), min_size=n, max_size=n))
)


def names(matrix: np.ndarray) -> list[tuple[str, ...]]:
    return [tuple(np.array(LABELS)[row]) for row in matrix]


def merged(matrix: np.ndarray, groups: Sequence[str]) -> dict[str, set[str]]:
    return hoc.merge_sentences(zip(groups, names(matrix), strict=True))


@given(CASES)
@settings(deadline=None)
def test_documents_are_scored_as_the_official_scorer_does(case: tuple[np.ndarray, np.ndarray, list[str]]) -> None:
    gold, predicted, groups = case
    total = multilabel_table(gold, predicted, groups).total()
    official = hoc.score(merged(gold, groups), merged(predicted, groups), LABELS)
    for ours, theirs in (
        ("document_micro_f1", "micro_f1"),
        ("document_micro_precision", "micro_precision"),
        ("document_micro_recall", "micro_recall"),
        ("document_macro_f1", "macro_f1"),
        ("document_example_f1", "example_f1"),
    ):
        assert float(METRICS[ours](total)) == pytest.approx(official[theirs], abs=1e-12), ours


@given(CASES)
@settings(deadline=None)
def test_examples_are_scored_as_scikit_learn_does(case: tuple[np.ndarray, np.ndarray, list[str]]) -> None:
    from sklearn.metrics import f1_score

    gold, predicted, groups = case
    total = multilabel_table(gold, predicted, groups).total()
    for average in ("micro", "macro"):
        theirs = f1_score(gold, predicted, average=average, zero_division=0)
        assert float(METRICS[f"{average}_f1"](total)) == pytest.approx(theirs, abs=1e-12)


@given(CASES, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_drawing_a_document_twice_counts_it_twice(
    case: tuple[np.ndarray, np.ndarray, list[str]], random: object
) -> None:
    """What a bootstrap replicate sums is the score of the documents it drew."""
    gold, predicted, groups = case
    documents = sorted(set(groups))
    drawn = [random.choice(documents) for _ in documents]  # type: ignore[attr-defined]
    table = multilabel_table(gold, predicted, groups)
    rows = [np.flatnonzero(np.array(groups) == name) for name in drawn]
    total = sum(table.per_example[row].sum(axis=0) for row in rows)
    copied = [f"{copy}{name}" for copy, name in enumerate(drawn) for _ in range(groups.count(name))]
    chosen = np.concatenate(rows)
    again = multilabel_table(gold[chosen], predicted[chosen], copied).total()
    for name, value in METRICS.items():
        assert float(value(total)) == pytest.approx(float(value(again)), abs=1e-12), name


def test_values_by_hand(make_predictions: Make) -> None:
    """Document p: gold a, b, found a by its second sentence, c wrong. Document q: no gold, none found."""
    gold = [("a",), ("b",), ()]
    predictions = make_predictions(TARGET, gold, [(), ("a", "c"), ()], groups=["p", "p", "q"])
    values = scoring_for(TARGET).score(predictions)
    assert values["document_micro_f1"] == pytest.approx(2 / (2 + 1 + 1))
    assert values["document_example_f1"] == pytest.approx(0.5)  # precision 1/2, recall 1/2; q has no gold
    assert values["micro_f1"] == 0.0
    assert values["document_macro_f1"] == pytest.approx(1 / 4)
    by_label = scoring_for(TARGET).by_label(predictions)
    assert {label: row["support"] for label, row in by_label.items()} == {"a": 1, "b": 1, "c": 0, "d": 0}


def test_intervals_do_not_depend_on_the_order(make_predictions: Make) -> None:
    rng = np.random.default_rng(0)
    gold = rng.random((300, 4)) < 0.3
    guess = np.where(rng.random((300, 4)) < 0.8, gold, ~gold)
    groups = [f"d{index // 3}" for index in range(300)]
    predictions = make_predictions(TARGET, names(gold), names(guess), groups=groups)
    scoring = scoring_for(TARGET)
    for name, value in scoring.evaluate(predictions, seed=1).items():
        assert value.low is not None
        assert value.high is not None
        assert value.low < value.value < value.high, name
    order = rng.permutation(300)
    mixed = make_predictions(TARGET, names(gold[order]), names(guess[order]), groups=[groups[i] for i in order])
    again = scoring.evaluate(mixed, seed=1)
    for name, value in scoring.evaluate(predictions, seed=1).items():
        assert again[name].model_dump() == pytest.approx(value.model_dump(), abs=1e-12)


def test_a_file_keeps_label_sets(make_predictions: Make, tmp_path: Path) -> None:
    predictions = make_predictions(TARGET, [("a", "b"), (), ("c",)], [("a",), ("d",), None])
    again = Predictions.from_parquet(predictions.to_parquet(tmp_path / "p.parquet"))
    assert (again.gold, again.predicted, again.target) == (predictions.gold, predictions.predicted, TARGET)
    assert scoring_for(again.target).score(again) == scoring_for(TARGET).score(predictions)


@given(CASES)
@settings(deadline=None, max_examples=50)
def test_no_constant_set_is_better_than_the_best(case: tuple[np.ndarray, np.ndarray, list[str]]) -> None:
    gold, _, groups = case
    best = max(
        hoc.score(merged(gold, groups), {name: set(answer) for name in groups}, LABELS)["micro_f1"]
        for size in range(1, 5)
        for answer in itertools.combinations(LABELS, size)
    )
    answer = {LABELS[number] for number in best_constant(gold, groups)}
    found = hoc.score(merged(gold, groups), dict.fromkeys(groups, answer), LABELS)["micro_f1"]
    assert found == pytest.approx(best, abs=1e-12)


def test_the_trivial_predictor_answers_every_example_alike(make_predictions: Make) -> None:
    gold = [("a",)] * 6 + [("a", "b")] * 3 + [()]
    predictions = make_predictions(TARGET, gold, [None] * 10)
    assert scoring_for(TARGET).majority(predictions)["document_micro_f1"] == pytest.approx(2 * 9 / (10 + 12))
    assert scoring_for(TARGET).score(predictions)["document_micro_f1"] == 0.0  # None: without a prediction


@given(
    CASES.flatmap(lambda case: st.tuples(st.just(case), arrays(np.float64, case[0].shape, elements=st.floats(0, 1))))
)
@settings(deadline=None, max_examples=30)
def test_the_threshold_is_the_best_there_is(case: tuple[tuple[np.ndarray, np.ndarray, list[str]], np.ndarray]) -> None:
    (gold, _, groups), probabilities = case
    chosen = best_threshold(probabilities, gold, groups, "document_micro_f1")

    def value(threshold: float) -> float:
        predicted = merged(probabilities >= threshold, groups)
        return hoc.score(merged(gold, groups), predicted, LABELS)["micro_f1"]

    assert value(chosen) == pytest.approx(max(map(value, THRESHOLDS)), abs=1e-12)


def test_of_equally_good_thresholds_the_middle_one() -> None:
    gold = np.array([[True], [False]])
    probabilities = np.array([[0.8], [0.2]])
    assert best_threshold(probabilities, gold, ["p", "q"], "micro_f1") == pytest.approx(0.51)


def test_rare_labels_lower_the_threshold_that_fits_micro_f1() -> None:
    """Calibrated probabilities: the best threshold is half the best F1 (Lipton et al. 2014)."""
    rng = np.random.default_rng(0)
    probabilities = rng.beta(0.4, 3, size=(20_000, 4))
    gold = rng.random(probabilities.shape) < probabilities
    groups = [str(index) for index in range(len(gold))]
    chosen = best_threshold(probabilities, gold, groups, "micro_f1")
    reached = float(METRICS["micro_f1"](multilabel_table(gold, probabilities >= chosen, groups).total()))
    assert chosen == pytest.approx(reached / 2, abs=0.03)


def test_wrong_label_sets() -> None:
    with pytest.raises(ValueError, match=r"'x' is not among \['a', 'b', 'c', 'd'\]"):
        multilabel.label_matrix([("a",), ("x",)], LABELS)
    with pytest.raises(InputError, match="lost gold has no meaning"):
        scoring_for(Target("sets", "multilabel", LABELS, lost_gold={"a": 1}))
