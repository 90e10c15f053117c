"""The ShARe 2015 scorers: every convention by hand, and a submission with the values the Perl scripts compute."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_crosstask.errors import DataFormatError
from hf_crosstask.evaluation.official import share2015
from hf_crosstask.evaluation.official.share2015 import DEFAULTS, SLOTS, Disorder

_NORMAL = "no|null|patient|null|no|null|unmarked|null|unmarked|null|false|null|false|null|null|null"
GOLD = f"""\
a.text|0-5|C0000001|yes|7-9|patient|null|no|null|unmarked|null|severe|10-12|false|null|false|null|C0000100|13-15
a.text|20-24,30-34|C0000002|{_NORMAL}
a.text|40-45|CUI-less|no|null|donor_other|1-2|no|null|unmarked|null|unmarked|null|false|null|false|null|null|null
b.text|0-5|C0000003|{_NORMAL}
"""
PREDICTED = f"""\
A.text|0-5|c0000001|no|null|patient|null|no|null|unmarked|null|slight|10-12|false|null|false|null|C0000101|13-15
A.text|0-5|C0000001|yes|null|patient|null|no|null|unmarked|null|slight|10-12|false|null|false|null|C0000100|13-15
A.text|34-36|C0000002|{_NORMAL}
A.text|22-23|C0000002|{_NORMAL}
A.text|30-34,20-24|C0000009|{_NORMAL}
A.text|45-50|CUI-less|{_NORMAL}
c.text|0-5|C0000003|{_NORMAL}
"""


def disorder(spans: str, cui: str = "C1", document: str = "a", **slots: str) -> Disorder:
    """A disorder with default attributes but `slots`."""
    pairs = tuple(tuple(int(bound) for bound in part.split("-")) for part in spans.split(","))
    values = [slots.get(slot, default) for slot, default in zip(SLOTS[1:], DEFAULTS, strict=True)]
    return Disorder(document, pairs, cui, tuple(values))


def test_task1_values_of_the_perl_script(check_statistics: Callable[..., None]) -> None:
    gold, predicted = share2015.parse(GOLD), share2015.parse(PREDICTED)
    table = share2015.task1_counts(gold, predicted)
    # Documents without gold (c) are ignored, names match in any case, the repeated line counts once.
    assert table.units == ("a.text", "b.text")
    assert table.total().tolist() == [1, 4, 3, 3, 2, 1]
    values = share2015.score_task1(gold, predicted)
    assert list(values.values()) == pytest.approx([0.2, 0.25, 2 / 9, 0.6, 0.75, 2 / 3])
    check_statistics(table, share2015.task1_from_counts, values)


@pytest.mark.parametrize(
    ("version", "weighted", "severity"), [("final", 0.749525166, 0.144144144), ("2014-10", 0.738503564, 0.141592920)]
)
def test_task2_values_of_the_perl_script(
    version: share2015.Version, weighted: float, severity: float, check_statistics: Callable[..., None]
) -> None:
    gold, predicted = share2015.parse(GOLD), share2015.parse(PREDICTED)
    values = share2015.score_task2(gold, predicted, version)
    assert values["f1"] == pytest.approx(2 / 3)
    assert values["accuracy"] == pytest.approx(8 / 9)
    assert values["weighted_accuracy"] == pytest.approx(weighted, abs=1e-9)
    assert values["f1_weighted_accuracy"] == pytest.approx(weighted * 2 / 3, abs=1e-9)
    assert values["weighted_accuracy_severity"] == pytest.approx(severity, abs=1e-9)
    table = share2015.task2_counts(gold, predicted, version)
    check_statistics(table, share2015.task2_from_counts, values)


def test_task1_requires_equal_cuis_even_relaxed() -> None:
    values = share2015.score_task1([disorder("0-5", "C1")], [disorder("0-5", "C2")])
    assert set(values.values()) == {0.0}
    assert share2015.score_task1([disorder("0-5", "CUI-less")], [disorder("0-5", "cui-LESS")])["strict_f1"] == 1.0


def test_task1_strict_takes_the_order_of_fragments_seriously() -> None:
    values = share2015.score_task1([disorder("0-5,8-9")], [disorder("8-9,0-5")])
    assert (values["strict_f1"], values["relaxed_f1"]) == (0.0, 1.0)


def test_ends_are_inclusive() -> None:
    assert share2015.overlap(((0, 5),), ((5, 9),)) == 1
    assert share2015.overlap(((0, 5),), ((6, 9),)) == 0
    assert share2015.overlap(((0, 5), (20, 30)), ((3, 7), (22, 40))) == 9


def test_the_longest_overlap_is_the_true_positive_and_the_rest_are_wrong() -> None:
    gold = [disorder("0-9", severity="severe")]
    predicted = [disorder("0-1"), disorder("2-8", severity="severe"), disorder("9-12")]
    assert share2015.task1_counts(gold, predicted).total()[3:].tolist() == [1, 2, 0]
    values = share2015.score_task2(gold, predicted)
    assert (values["f1"], values["accuracy"]) == (pytest.approx(0.5), 1.0)


def test_of_equal_overlaps_the_later_line_wins() -> None:
    gold = [disorder("0-9", negation="yes")]
    predicted = [disorder("0-1", negation="yes"), disorder("3-4")]
    assert share2015.score_task2(gold, predicted)["weighted_accuracy_negation"] == 0.0
    assert share2015.score_task2(gold, predicted[::-1])["weighted_accuracy_negation"] == 1.0


def test_an_exact_match_and_a_further_overlap() -> None:
    gold, predicted = [disorder("0-9")], [disorder("0-9"), disorder("2-8")]
    # Task 1: the exact match stands, the other is wrong; the first version of the script let it replace the exact one.
    assert share2015.task1_counts(gold, predicted).total()[3:].tolist() == [1, 1, 0]
    assert share2015.task1_counts(gold, predicted, "2014-10").total()[3:].tolist() == [1, 0, 0]
    # Task 2: the overlapping prediction replaces the exact one, and its slots are the ones that count.
    worse = [disorder("0-9"), disorder("2-8", negation="yes")]
    assert share2015.task2_counts(gold, worse).total()[:3].tolist() == [1, 0, 0]
    assert share2015.score_task2(gold, worse)["accuracy"] == pytest.approx(8 / 9)


def test_task2_matches_spans_whatever_the_cui() -> None:
    values = share2015.score_task2([disorder("0-5", "C1")], [disorder("0-5", "C2")])
    assert (values["f1"], values["weighted_accuracy_cui"]) == (1.0, 0.0)
    weights = [1, 0.21, 0.05, 0.07, 0.05, 0.08, 0.06, 0.05, 0.51]
    assert values["weighted_accuracy"] == pytest.approx(sum(weights[1:]) / sum(weights))


def test_donor_other_has_no_weight_but_doner_other_has() -> None:
    wrong = [disorder("0-5", subject="patient")]
    documented = share2015.score_task2([disorder("0-5", subject="donor_other")], wrong)
    assert (documented["weighted_accuracy"], documented["accuracy"]) == (1.0, pytest.approx(8 / 9))
    misspelt = share2015.score_task2([disorder("0-5", subject="doner_other")], wrong)
    rest = 1 + 0.21 + 0.07 + 0.05 + 0.08 + 0.06 + 0.05 + 0.51
    assert misspelt["weighted_accuracy"] == pytest.approx(rest / (rest + 0.95))


def test_repeated_lines_collapse_and_collect_body_locations() -> None:
    gold = [disorder("0-5", body_location="C10"), disorder("0-5", body_location="C11", severity="slight")]
    predicted = [disorder("0-5", body_location="c10", severity="slight")]
    assert share2015.task1_counts(gold, predicted).total().tolist() == [1, 0, 0, 1, 0, 0]
    assert share2015.score_task2(gold, predicted)["accuracy"] == 1.0
    first = share2015.score_task2(gold, predicted, "2014-10")
    assert first["weighted_accuracy_body_location"] == 0.0


def test_nothing_predicted() -> None:
    assert set(share2015.score_task1([disorder("0-5")], []).values()) == {0.0}
    assert set(share2015.score_task2([disorder("0-5")], []).values()) == {0.0}


pairs = st.lists(st.integers(0, 90), min_size=2, max_size=4, unique=True).map(
    lambda bounds: tuple(zip(sorted(bounds)[: len(bounds) // 2 * 2 : 2], sorted(bounds)[1::2], strict=True))
)
templates = st.tuples(
    *(st.sampled_from([value for value in share2015.WEIGHTS["final"][slot] if value != "any"]) for slot in SLOTS[1:])
)
gold_lists = st.lists(
    st.builds(Disorder, st.sampled_from(["a", "b"]), pairs, st.sampled_from(["C1", "C2"]), templates),
    min_size=1,
    max_size=6,
    unique_by=lambda item: (item.document, item.spans),
)


@given(gold_lists)
def test_gold_against_itself_and_round_trip(gold: list[Disorder]) -> None:
    assert set(share2015.score_task1(gold, gold).values()) == {1.0}
    assert set(share2015.score_task2(gold, gold).values()) == {1.0}
    assert share2015.parse(share2015.format_lines(gold)) == gold


@given(gold_lists, gold_lists)
def test_the_order_of_documents_does_not_matter(gold: list[Disorder], predicted: list[Disorder]) -> None:
    def by_document(items: list[Disorder], order: str) -> list[Disorder]:
        return [item for name in order for item in items if item.document == name]

    for score in (share2015.score_task1, share2015.score_task2):
        orders = [score(by_document(gold, order), by_document(predicted, order)) for order in ("ab", "ba")]
        assert orders[0] == pytest.approx(orders[1])


def test_task1_files_and_trailing_pipes() -> None:
    assert share2015.parse("a.text|0-5,7-9|C1|\n") == [Disorder("a.text", ((0, 5), (7, 9)), "C1")]
    assert share2015.parse(GOLD.replace("\n", "|\r\n")) == share2015.parse(GOLD)


@pytest.mark.parametrize(
    "line", ["a|0-5", f"a|0|C1|{_NORMAL}", f"a|5-0|C1|{_NORMAL}", f"a|0-5|C1|{_NORMAL}|x|y", "a||b"]
)
def test_broken_lines(line: str) -> None:
    with pytest.raises(DataFormatError, match=r"run\.pipe:1"):
        share2015.parse(line, "run.pipe")


def test_the_format_example(shared_data: Path) -> None:
    for path in (shared_data / "format_examples" / "semeval2015_task14").rglob("*.pipe"):
        gold = share2015.parse(path.read_text(), path.name)
        assert len(gold) == 4
        assert share2015.format_lines(gold) == path.read_text()
        assert share2015.score_task1(gold, gold)["strict_f1"] == 1.0
        assert share2015.score_task2(gold, gold)["f1_weighted_accuracy"] == pytest.approx(1.0)
