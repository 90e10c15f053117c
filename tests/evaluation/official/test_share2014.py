"""The ShARe 2014 scorer: conventions by hand, and one submission with the values the official eval.pl computes."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_crosstask.errors import DataFormatError
from hf_crosstask.evaluation.official import share2014
from hf_crosstask.evaluation.official.share2014 import Disorder

GOLD = """\
a.txt||Disease_Disorder||C0000001||0||4
a.txt||Disease_Disorder||C0000002||10||14||20||24
a.txt||Disease_Disorder||CUI-less||30||34
b.txt||Disease_Disorder||C0000003||0||4
"""
PREDICTED = """\
a.txt||Disease_Disorder||c0000001||0||4
a.txt||Disease_Disorder||C0000009||22||26
a.txt||Disease_Disorder||C0000002||10||12
a.txt||Disease_Disorder||C0000008||30||34
a.txt||Disease_Disorder||C0000007||34||36
c.txt||Disease_Disorder||C0000003||0||4
"""


def test_the_values_of_eval_pl(check_statistics: Callable[..., None]) -> None:
    gold, predicted = share2014.parse(GOLD), share2014.parse(PREDICTED)
    values = share2014.score(gold, predicted)
    # Relaxed: 4 of 6 predictions overlap gold (34-36 does not touch 30-34), 1 of 4 gold mentions overlaps none.
    assert list(values.values()) == pytest.approx([1 / 3, 1 / 2, 2 / 5, 2 / 3, 4 / 5, 8 / 11, 1 / 4, 1 / 2])
    table = share2014.document_counts(gold, predicted)
    assert table.units == ("a.txt", "b.txt", "c.txt")
    check_statistics(table, share2014.from_counts, values)


def test_a_repeated_mention_keeps_the_last_cui() -> None:
    gold = [Disorder("a", "C1", ((0, 4),))]
    assert share2014.score(gold, [*gold, Disorder("a", "C2", ((0, 4),))])["cui_strict_accuracy"] == 0.0
    twice = share2014.score(gold, [Disorder("a", "C2", ((0, 4),)), *gold])
    assert (twice["strict_precision"], twice["cui_strict_accuracy"]) == (1.0, 1.0)


def test_nothing_predicted_and_nothing_right() -> None:
    gold = [Disorder("a", "C1", ((0, 4),))]
    assert set(share2014.score(gold, []).values()) == {0.0}
    assert set(share2014.score(gold, [Disorder("a", "C1", ((4, 8),))]).values()) == {0.0}


spans = st.lists(st.integers(0, 60), min_size=2, max_size=6, unique=True).map(
    lambda bounds: tuple(zip(sorted(bounds)[: len(bounds) // 2 * 2 : 2], sorted(bounds)[1::2], strict=True))
)
disorders = st.lists(
    st.builds(Disorder, st.sampled_from(["a", "b"]), st.sampled_from(["C1", "CUI-less"]), spans),
    min_size=1,
    max_size=8,
    unique_by=lambda disorder: (disorder.document, disorder.spans),
)


@given(disorders)
def test_gold_against_itself_and_round_trip(gold: list[Disorder]) -> None:
    assert set(share2014.score(gold, gold).values()) == {1.0}
    assert share2014.parse(share2014.format_lines(gold)) == gold


@given(disorders, disorders, st.randoms(use_true_random=False))
def test_order_does_not_matter(gold: list[Disorder], predicted: list[Disorder], generator: random.Random) -> None:
    values = share2014.score(gold, predicted)
    generator.shuffle(gold)
    generator.shuffle(predicted)
    assert share2014.score(gold, predicted) == pytest.approx(values)


@pytest.mark.parametrize(
    "line",
    [
        "a.txt||Disease_Disorder||C1||0",
        "a.txt||Disease_Disorder||C1",
        "a.txt||Disease_Disorder||C1||0||x",
        "a.txt||Disease_Disorder||C1||5||3",
        "a.txt||Disease_Disorder||C1||0||4||2||6",
        "a.txt|0-4|C1",
    ],
)
def test_broken_lines(line: str) -> None:
    with pytest.raises(DataFormatError, match=r"run\.pipe:1"):
        share2014.parse(line, "run.pipe")


def test_the_format_example(shared_data: Path) -> None:
    for path in (shared_data / "format_examples" / "semeval2014_task7").rglob("*.pipe"):
        gold = share2014.parse(path.read_text(), path.name)
        assert len(gold) == 4
        assert share2014.format_lines(gold) == path.read_text()
        assert set(share2014.score(gold, gold).values()) == {1.0}
