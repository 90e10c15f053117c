"""Brat files: both ways, and what breaks them."""

from __future__ import annotations

from pathlib import Path

import pytest

from hf_crosstask.errors import DataFormatError
from hf_crosstask.evaluation.official import brat
from hf_crosstask.evaluation.official.brat import Attribute, BratDocument, Event, Relation, Span

TEXT = """\
T1\tDrug 28 38\tlisinopril
T2\tADE 87 90;91 96\tdry cough
R1\tADE-Drug Arg1:T2 Arg2:T1
E1\tDisposition:T1 
A1\tAction E1 Start
"""  # noqa: W291


def test_both_ways() -> None:
    document = brat.parse(TEXT)
    assert document == BratDocument(
        (Span("T1", "Drug", ((28, 38),), "lisinopril"), Span("T2", "ADE", ((87, 90), (91, 96)), "dry cough")),
        (Relation("R1", "ADE-Drug", "T2", "T1"),),
        (Event("E1", "Disposition", "T1"),),
        (Attribute("A1", "Action", "E1", "Start"),),
    )
    assert brat.format_ann(document) == TEXT
    assert brat.parse(TEXT.replace("\n", "\r\n") + "#1\tAnnotatorNotes T1\tsure?\n*\tEquiv T1 T2\n") == document


def test_line_breaks_in_a_mention_become_blanks() -> None:
    text = brat.format_ann(BratDocument((Span("T1", "ADE", ((0, 9),), "dry\ncough"),)))
    assert text == "T1\tADE 0 9\tdry cough\n"


def test_outer_bounds_and_overlap() -> None:
    first = Span("T1", "ADE", ((2, 4), (8, 9)), "")
    assert (first.start, first.end) == (2, 9)
    gap, beside = Span("T2", "ADE", ((5, 7),), ""), Span("T3", "ADE", ((9, 12),), "")
    assert brat.spans_match(first, gap, strict=False)
    assert not brat.spans_match(first, beside, strict=False)
    assert not brat.spans_match(first, gap, strict=True)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("X1\tDrug 0 4\tx", "expected T, R, E or A"),
        ("T9 Drug 0 4 x", "expected T, R, E or A"),
        ("T9\tDrug 0\tx", "expected `type start end"),
        ("T9\tDrug 4 0\tx", "expected `type start end"),
        ("T9\tDrug a 4\tx", "not an offset"),
        ("R9\tADE-Drug Arg1:T2", "R9"),
        ("R9\tADE-Drug T2 T1", "expected `type Arg1:id Arg2:id`"),
        ("E9\tDisposition", "expected `type:span`"),
        ("E9\t:T1", "expected `type:span`"),
        ("A9\tNegated", "A9"),
        ("T1\tDrug 0 4\tx", "used twice"),
    ],
)
def test_broken_lines(line: str, problem: str) -> None:
    with pytest.raises(DataFormatError, match=problem) as caught:
        brat.parse(TEXT + line, "a.ann")
    assert "a.ann:6" in str(caught.value)


def test_references_must_resolve() -> None:
    with pytest.raises(DataFormatError, match="R1 refers to 'T7'"):
        brat.parse(TEXT.replace("Arg2:T1", "Arg2:T7"))


def test_the_format_examples(shared_data: Path) -> None:
    paths = [*(shared_data / "format_examples").rglob("*.ann")]
    assert len(paths) == 2
    for path in paths:
        document = brat.parse(path.read_text(), path.name)
        assert brat.parse(brat.format_ann(document)) == document
