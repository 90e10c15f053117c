"""The cQA scorer: hand-made rankings, and the output the official scorer v2.2 prints for its own files."""

from __future__ import annotations

import gzip
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_crosstask.errors import DataFormatError, InputError
from hf_crosstask.evaluation.official import cqa
from hf_crosstask.evaluation.official.cqa import Candidate


def ranking(query: str, relevant: str, scores: list[float] | None = None, decisions: str | None = None):
    """Gold and prediction of one query, from strings of + and - in file order."""
    scores = scores or [-float(index) for index in range(len(relevant))]
    pairs = zip(relevant, decisions or relevant, scores, strict=True)
    gold, predicted = [], []
    for index, (truth, decision, score) in enumerate(pairs):
        gold.append(Candidate(query, f"{query}_{index}", index + 1, 1 / (index + 1), truth == "+"))
        predicted.append(Candidate(query, f"{query}_{index}", 0, score, decision == "+"))
    return gold, predicted


def corpus(parts: list[tuple[list[Candidate], list[Candidate]]]) -> list[list[Candidate]]:
    """Gold and prediction of several queries."""
    return [[line for part in parts for line in part[side]] for side in (0, 1)]


def test_average_precision_divides_by_the_relevant_found_in_the_top_ten() -> None:
    gold, predicted = ranking("q", "-+" + "-" * 8 + "+++")
    # One hit at rank 2; the three relevant candidates below rank 10 do not lower it.
    assert cqa.score(gold, predicted)["map"] == pytest.approx(1 / 2)
    assert cqa.score(gold, predicted)["mrr"] == pytest.approx(1 / 2)
    # 4 relevant: possible hits 1, 2, 3, 4, 4, …; found 0, 1, 1, …
    expected = (0 + 1 / 2 + 1 / 3 + 7 * 1 / 4) / 10
    assert cqa.score(gold, predicted)["avg_rec"] == pytest.approx(expected)


def test_the_tenth_rank_counts_and_the_eleventh_does_not() -> None:
    assert cqa.score(*ranking("q", "-" * 9 + "+"))["map"] == pytest.approx(1 / 10)
    assert cqa.score(*ranking("q", "-" * 10 + "+"))["map"] == 0.0


def test_several_hits_and_queries_without_relevant_candidates() -> None:
    first, second = ranking("a", "+-+"), ranking("b", "---")
    values = cqa.score(first[0] + second[0], first[1] + second[1])
    assert values["map"] == pytest.approx((1 + 2 / 3) / 2 / 2)
    assert values["mrr"] == pytest.approx(0.5)
    assert values["avg_rec"] == pytest.approx((1 + 1 / 2 + 8 * 1) / 10)


def test_ties_keep_the_order_of_the_file() -> None:
    gold, predicted = ranking("q", "-+-", [1.0, 1.0, 2.0])
    assert cqa.score(gold, predicted)["mrr"] == pytest.approx(1 / 3)


def test_decisions_are_scored_apart_from_scores() -> None:
    gold, predicted = ranking("q", "++--", [4, 3, 2, 1], "+-+-")
    values = cqa.score(gold, predicted)
    assert values["map"] == 1.0
    assert (values["precision"], values["recall"], values["f1"], values["accuracy"]) == (0.5, 0.5, 0.5, 0.5)
    nothing = ranking("q", "++--", [4, 3, 2, 1], "----")
    assert cqa.score(*nothing)["f1"] == cqa.score(*nothing)["precision"] == 0.0


def test_a_corpus_without_relevant_candidates_scores_zero() -> None:
    values = cqa.score(*ranking("q", "---"))
    assert (values["map"], values["avg_rec"], values["mrr"]) == (0.0, 0.0, 0.0)


queries = st.lists(st.text("+-", min_size=1, max_size=13), min_size=1, max_size=6)


@given(queries, st.randoms(use_true_random=False))
def test_order_of_queries_and_statistics(relevant: list[str], generator: random.Random) -> None:
    parts = [ranking(f"q{index}", text, [generator.random() for _ in text]) for index, text in enumerate(relevant)]
    values = cqa.score(*corpus(parts))
    generator.shuffle(parts)
    assert cqa.score(*corpus(parts)) == pytest.approx(values)
    assert all(0 <= value <= 1 for value in values.values())


def test_statistics(check_statistics: Callable[..., None]) -> None:
    parts = [ranking("a", "+-+-", [1, 2, 3, 4], "++--"), ranking("b", "-+"), ranking("c", "--")]
    gold, predicted = corpus(parts)
    table = cqa.query_counts(gold, predicted)
    assert table.units == ("a", "b", "c")
    check_statistics(table, cqa.from_counts, cqa.score(gold, predicted))


def test_round_trip() -> None:
    _, predicted = ranking("Q1_R2", "+-", [0.1 + 0.2, -1e-17])
    assert cqa.parse(cqa.format_lines(predicted)) == predicted
    assert cqa.parse("q  a 0 1.5 true\r\n\r\n") == [Candidate("q", "a", 0, 1.5, True)]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("q a 1 true", "expected query"),
        ("q a 1 0.5 yes", "'true' or 'false'"),
        ("q a one 0.5 true", "not a number"),
        ("q a 1 nan true", "sorted"),
    ],
)
def test_broken_lines(line: str, problem: str) -> None:
    with pytest.raises(DataFormatError, match=problem) as caught:
        cqa.parse(f"q b 1 1 true\n{line}\n", "run.pred")
    assert "run.pred:2" in str(caught.value)


def test_lines_about_other_candidates() -> None:
    gold, predicted = ranking("q", "+-")
    with pytest.raises(InputError, match="line 1"):
        cqa.query_counts(gold, predicted[::-1])
    with pytest.raises(InputError, match="2 gold lines but 1"):
        cqa.query_counts(gold, predicted[:1])


def read(folder: Path, pattern: str) -> list[Candidate]:
    (path,) = folder.glob(pattern)
    with gzip.open(path, "rt") if path.suffix == ".gz" else open(path) as handle:
        return cqa.parse(handle.read(), path.name)


#: random_baselines_MAP.txt of the scorer's distribution: MAP, AvgRec, MRR of IR, then of the random system, then Acc,
#: P, R, F1 of the system.
PRINTED = {
    "A": ((0.5384, 0.7278, 0.6313), (0.4556, 0.6542, 0.5350), (0.4332, 0.3444, 0.7641, 0.4747)),
    "B": ((0.7135, 0.8611, 0.7667), (0.5595, 0.7323, 0.6223), (0.4880, 0.4432, 0.7664, 0.5616)),
    "C": ((0.3065, 0.3455, 0.3597), (0.1383, 0.0956, 0.1600), (0.2844, 0.0697, 0.7594, 0.1277)),
}
#: The 2016 test set: MAP of the search engine (task paper), queries.
BASELINES = {"A": (0.5953, 327), "B": (0.7475, 70), "C": (0.4036, 70)}


@pytest.mark.parametrize("subtask", "ABC")
def test_what_the_official_scorer_prints(subtask: str, shared_data: Path) -> None:
    folder = shared_data / "semeval_cqa" / "scorer_v2.2_files"
    gold, predicted = (read(folder, f"*.subtask{subtask}.{kind}*") for kind in ("relevancy", "pred"))
    engine, system = cqa.score(gold, gold), cqa.score(gold, predicted)
    ranks = ("map", "avg_rec", "mrr")
    decisions = ("accuracy", "precision", "recall", "f1")
    assert [engine[name] for name in ranks] == pytest.approx(PRINTED[subtask][0], abs=5.1e-5)
    assert [system[name] for name in ranks] == pytest.approx(PRINTED[subtask][1], abs=5.1e-5)
    assert [system[name] for name in decisions] == pytest.approx(PRINTED[subtask][2], abs=5.1e-5)


@pytest.mark.parametrize("subtask", "ABC")
def test_search_engine_baselines_of_2016(subtask: str, shared_data: Path) -> None:
    gold = read(shared_data / "semeval_cqa" / "test2016" / "gold", f"*.subtask{subtask}.relevancy*")
    table = cqa.query_counts(gold, gold)
    value, count = BASELINES[subtask]
    assert len(table.units) == count
    assert cqa.score(gold, gold)["map"] == pytest.approx(value, abs=5e-5)
