"""ChemProt: the readme's example of the official kit, sets, and the real gold standard."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_crosstask.errors import DataFormatError
from hf_crosstask.evaluation.official import chemprot
from hf_crosstask.evaluation.official.chemprot import GROUPS, Relation


def test_the_example_of_the_official_readme() -> None:
    # "Total annotations: 239, total predictions: 142, TP: 121" and the values it prints.
    counts = np.zeros((6, 3))
    counts[0] = (100, 20, 100)
    counts[4] = (21, 1, 18)
    values = chemprot.from_counts(counts.ravel())
    assert float(values["precision"]) == pytest.approx(0.852112676056338, abs=1e-15)
    assert float(values["recall"]) == pytest.approx(0.5062761506276151, abs=1e-15)
    assert float(values["f1"]) == pytest.approx(0.6351706036745408, abs=1e-15)


def test_sets_and_groups() -> None:
    gold = [Relation("1", "CPR:3", "T1", "T2"), Relation("1", "CPR:4", "T1", "T2")]
    twice = chemprot.score(gold, [*gold, gold[0]])
    assert (twice["precision"], twice["recall"]) == (1.0, 1.0)
    for guess in (
        Relation("1", "CPR:9", "T1", "T2"),
        Relation("2", "CPR:3", "T1", "T2"),
        Relation("1", "CPR:3", "T2", "T1"),
        Relation("1", "CPR:10", "T1", "T2"),
    ):
        assert chemprot.score(gold, [*gold, guess])["precision"] == pytest.approx(2 / 3)
    assert set(chemprot.score(gold, []).values()) == {0.0}


relations = st.lists(
    st.builds(Relation, st.sampled_from("12"), st.sampled_from(GROUPS), st.sampled_from("AB"), st.sampled_from("XY")),
    min_size=1,
    max_size=10,
)


@given(relations, relations, st.randoms(use_true_random=False))
def test_gold_against_itself_order_and_round_trip(
    gold: list[Relation], predicted: list[Relation], generator: random.Random
) -> None:
    perfect = chemprot.score(gold, gold)
    assert (perfect["precision"], perfect["recall"], perfect["f1"]) == (1.0, 1.0, 1.0)
    values = chemprot.score(gold, predicted)
    generator.shuffle(predicted)
    assert chemprot.score(gold[::-1], predicted) == pytest.approx(values)
    assert chemprot.parse(chemprot.format_lines(predicted)) == predicted


def test_statistics(check_statistics: Callable[..., None]) -> None:
    gold = [Relation("1", "CPR:3", "T1", "T2"), Relation("2", "CPR:9", "T1", "T2"), Relation("2", "CPR:4", "T3", "T2")]
    predicted = [gold[0], Relation("3", "CPR:4", "T1", "T2"), gold[2], Relation("2", "CPR:7", "T1", "T2")]
    table = chemprot.document_counts(gold, predicted)
    assert table.units == ("1", "2", "3")
    check_statistics(table, chemprot.from_counts, chemprot.score(gold, predicted))


@pytest.mark.parametrize("line", ["1\tCPR:3\tArg1:T1", "1\tINHIBITOR\tArg1:T1\tArg2:T2", "1\tCPR:3\tT1\tT2", "x"])
def test_broken_lines(line: str) -> None:
    with pytest.raises(DataFormatError, match=r"run\.tsv:1"):
        chemprot.parse(line, "run.tsv")


def test_the_real_gold_standard(shared_data: Path) -> None:
    path = shared_data / "chemprot" / "chemprot_test_gs" / "chemprot_test_gold_standard.tsv"
    gold = chemprot.parse(path.read_text(), path.name)
    assert len(gold) == 3458
    counts = chemprot.document_counts(gold, gold).total().reshape(6, 3)
    assert counts[:, 0].tolist() == [665, 1661, 195, 293, 644, 0]
    assert set(chemprot.score(gold, gold).values()) == {1.0}
    assert chemprot.parse(chemprot.format_lines(gold)) == gold
