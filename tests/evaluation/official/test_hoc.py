"""Hallmarks of Cancer: BLURB's micro-F1, BLUE's example-based F1."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from hf_crosstask.errors import DataFormatError, InputError
from hf_crosstask.evaluation.official import hoc
from hf_crosstask.evaluation.official.hoc import HALLMARKS

A, B, C, D = HALLMARKS[:4]


def test_micro_and_example_based_by_hand() -> None:
    gold = {"1": {A, B}, "2": {C}, "3": {A}, "4": set()}
    predicted = {"1": {A, B, D}, "2": set(), "3": {B}, "4": {A}}
    values = hoc.score(gold, predicted)
    # TP A B; FP D, B, A; FN C, A.
    assert (values["micro_precision"], values["micro_recall"]) == (pytest.approx(2 / 5), pytest.approx(2 / 4))
    # Document 4 has no gold label: BLUE's script would divide by zero, its split has no such document.
    precision, recall = (2 / 3 + 0 + 0) / 3, (1 + 0 + 0) / 3
    assert (values["example_precision"], values["example_recall"]) == (pytest.approx(precision), pytest.approx(recall))
    assert values["example_f1"] == pytest.approx(2 * precision * recall / (precision + recall))


def test_the_examples_of_blue() -> None:
    # test_precision_recall_fscore_multilabel of BLUE: recall 1, precision .5; recall 1, precision 8/9.
    assert hoc.score({"1": {C}}, {"1": {B, C}})["example_precision"] == 0.5
    gold = {"1": {A}, "2": {A, B}, "3": {A, B, C, D}}
    predicted = {"1": {A}, "2": {A, B, C}, "3": {A, B, C, D}}
    values = hoc.score(gold, predicted)
    assert (values["example_recall"], values["example_precision"]) == (1.0, pytest.approx(8 / 9))


def test_sentences_are_merged() -> None:
    sentences = [("1", {A}), ("2", set()), ("1", {B}), ("1", {A})]
    assert hoc.merge_sentences(sentences) == {"1": {A, B}, "2": set()}


labels = st.dictionaries(st.sampled_from("12345"), st.sets(st.sampled_from(HALLMARKS)), min_size=1)


@given(labels, st.randoms(use_true_random=False))
def test_micro_and_macro_equal_scikit_learn(gold: dict[str, set[str]], generator: random.Random) -> None:
    predicted = {name: {label for label in HALLMARKS if generator.random() < 0.3} for name in gold}
    truth, guess = ([[label in side[name] for label in HALLMARKS] for name in gold] for side in (gold, predicted))
    values = hoc.score(gold, predicted)
    assert values["micro_f1"] == pytest.approx(f1_score(truth, guess, average="micro", zero_division=0))
    assert values["macro_f1"] == pytest.approx(f1_score(truth, guess, average="macro", zero_division=0))
    reordered = dict(sorted(predicted.items(), reverse=True))
    assert hoc.score(gold, reordered) == values


@given(labels)
def test_gold_against_itself_and_nothing_predicted(gold: dict[str, set[str]]) -> None:
    perfect = float(any(gold.values()))
    values = hoc.score(gold, gold)
    assert values["micro_f1"] == values["example_f1"] == perfect
    assert set(hoc.score(gold, {name: set() for name in gold}).values()) == {0.0}


def test_statistics(check_statistics: Callable[..., None]) -> None:
    gold, predicted = {"1": {A, B}, "2": {C}, "3": set()}, {"3": {A}, "2": {C}, "1": {B}}
    table = hoc.document_counts(gold, predicted)
    assert table.units == ("1", "2", "3")
    check_statistics(table, hoc.from_counts, hoc.score(gold, predicted))


def test_both_sides_must_agree() -> None:
    with pytest.raises(InputError, match="'2' is on one side only"):
        hoc.score({"1": {A}}, {"1": {A}, "2": {A}})
    with pytest.raises(InputError, match="'none' is not among"):
        hoc.score({"1": {A}}, {"1": {"none"}})


def test_round_trip() -> None:
    sentences = [("12", frozenset({B, A})), ("12", frozenset()), ("7", frozenset({C}))]
    text = hoc.format_lines(sentences)
    assert text.splitlines()[:2] == ["index\tlabels", f"12_0\t{A},{B}"]
    assert hoc.parse(text) == sentences
    assert hoc.parse(f"labels\tsentence\tindex\n{A}\tx y\t12_0\n") == [("12", frozenset({A}))]


@pytest.mark.parametrize("text", ["", "index\tlabel\n", f"index\tlabels\n12\t{A}\n", "index\tlabels\n12_0\n"])
def test_broken_files(text: str) -> None:
    with pytest.raises(DataFormatError):
        hoc.parse(text, "run.tsv")
