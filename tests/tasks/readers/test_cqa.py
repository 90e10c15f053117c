from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hf_crosstask.errors import DataFormatError
from hf_crosstask.tasks.load import TaskData
from hf_crosstask.tasks.readers.cqa import read_relevancy, write_relevancy
from hf_crosstask.tasks.readers.files import numbered_lines

Load = Callable[..., TaskData]
STEM = "data/SemEval2016-Task3-CQA-QL"


def thread(question: str, order: int, labels: str, *comments: str, extra: str = "", category: str = "Pets") -> str:
    """An OrgQuestion element: one thread, comments as `<to new question>/<to thread>`."""
    name = f"{question}_R{order}"
    inner = "".join(
        f'<RelComment RELC_ID="{name}_C{n}" RELC_RELEVANCE2ORGQ="{pair.split("/")[0]}" '
        f'RELC_RELEVANCE2RELQ="{pair.split("/")[1]}"><RelCText> Comment {n} </RelCText></RelComment>'
        for n, pair in enumerate(comments, start=1)
    )
    return (
        f'<OrgQuestion ORGQ_ID="{question}"><OrgQSubject>New {question}</OrgQSubject><OrgQBody>Why?</OrgQBody>'
        f'<Thread THREAD_SEQUENCE="{name}"{extra}><RelQuestion RELQ_ID="{name}" RELQ_RANKING_ORDER="{order}" '
        f'RELQ_CATEGORY="{category}" RELQ_RELEVANCE2ORGQ="{labels}"><RelQSubject>Old {name}</RelQSubject><RelQBody/>'
        f"</RelQuestion>{inner}</Thread></OrgQuestion>"
    )


def xml(*threads: str) -> str:
    return f'<?xml version="1.0" encoding="utf-8"?>\r\n<xml version="1.0">{"".join(threads)}</xml>'


SKIP = ' SubtaskA_Skip_Because_Same_As_RelQuestion_ID="Q9_R9"'
TRAIN = xml(
    thread("Q1", 4, "PerfectMatch", "Bad/Good", "Good/PotentiallyUseful"),
    thread("Q1", 7, "Relevant", "Bad/Bad", extra=SKIP, category="Health and Fitness"),
    thread("Q1", 9, "Irrelevant", "PotentiallyUseful/Bad"),
)
DEV = xml(thread("Q2", 1, "Irrelevant", "Bad/Good"))
TEST = xml(thread("Q3", 2, "?", "?/?", "?/?"))
GOLD = {
    "A": "Q3_R2\tQ3_R2_C1\t1\t1\ttrue\nQ3_R2\tQ3_R2_C2\t2\t0.5\tfalse\n",
    "B": "Q3\tQ3_R2\t2\t0.5\ttrue\n",
    "C": "Q3\tQ3_R2_C1\t201\t0.004\tfalse\nQ3\tQ3_R2_C2\t202\t0.004\ttrue\n",
}


def corpus(subtask: str, **changed: str) -> dict[str, str]:
    return {
        f"{STEM}-train-part2.xml": changed.get("train", TRAIN),
        f"{STEM}-train-part2-subtaskA.xml": "never read",
        f"{STEM}-train-part2-with-multiline.xml": "never read",
        "data/SemEval2015-Task3-CQA-QL-train-reformatted-multiline.xml": "never read",
        f"{STEM}-dev.xml": changed.get("dev", DEV),
        f"{STEM}-test-input.xml": changed.get("test", TEST),
        f"data/gold/SemEval2016-Task3-CQA-QL-test.xml.subtask{subtask}.relevancy": changed.get("gold", GOLD[subtask]),
    }


def task(subtask: str, **options: Any) -> dict[str, Any]:
    return {"name": "semeval2017t3", "path": "task", "options": {"subtask": subtask} | options}


def test_subtask_a(load: Load) -> None:
    data = load(corpus("A"), **task("A"))
    rows = data.splits["train"]
    assert rows["id"] == ["Q1_R4_C1", "Q1_R4_C2", "Q1_R9_C1"]
    assert (rows["labels"], rows["score"]) == ([["true"], ["false"], ["false"]], [1.0, 0.0, 0.0])
    assert (rows["group_id"][0], rows["rank"]) == ("Q1_R4", [1, 2, 1])
    assert (rows["text"][0], rows["text_pair"][0]) == ("Old Q1_R4", "Comment 1")
    assert rows["split_group"][0] == "semeval_cqa:Q1_R4"
    assert data.splits["test"]["labels"] == [["true"], ["false"]]
    assert data.dropped == {"train": {"threads that repeat another (subtask A)": 1}}


def test_subtask_b(load: Load) -> None:
    rows = load(corpus("B"), **task("B")).splits["train"]
    assert rows["id"] == ["Q1_R4", "Q1_R7", "Q1_R9"]
    assert rows["labels"] == [["true"], ["true"], ["false"]]
    assert (rows["text"][0], rows["text_pair"][0]) == ("New Q1\nWhy?", "Old Q1_R4")
    assert (rows["rank"], set(rows["group_id"])) == ([4, 7, 9], {"Q1"})


def test_subtask_c(load: Load) -> None:
    data = load(corpus("C"), **task("C"))
    rows = data.splits["train"]
    assert rows["id"] == ["Q1_R4_C1", "Q1_R4_C2", "Q1_R7_C1", "Q1_R9_C1"], "repeated threads count here"
    assert rows["labels"] == [["false"], ["true"], ["false"], ["false"]]
    assert rows["rank"] == [401, 402, 701, 901]
    assert data.splits["test"]["rank"] == [201, 202]


def test_graded_relevance(load: Load) -> None:
    assert load(corpus("A"), **task("A", graded=True)).splits["train"]["score"] == [1.0, 0.5, 0.0]
    assert load(corpus("B"), **task("B", graded=True)).splits["train"]["score"] == [1.0, 0.5, 0.0]


def test_categories(load: Load) -> None:
    data = load(corpus("B"), **task("B", categories=["Pets"]))
    assert data.splits["train"]["id"] == ["Q1_R4", "Q1_R9"]
    assert data.dropped["train"] == {"threads of other categories": 1}


def test_year(load: Load) -> None:
    files = corpus("A") | {
        "data/SemEval2017-task3-English-test-input.xml": TEST.replace("Q3", "Q4"),
        "data/SemEval2017-Task3-CQA-QL-test.xml.subtaskA.relevancy": GOLD["A"].replace("Q3", "Q4"),
    }
    assert load(files, **task("A", year=2017)).splits["test"]["group_id"] == ["Q4_R2", "Q4_R2"]
    assert load(files, **task("A")).splits["test"]["group_id"] == ["Q3_R2", "Q3_R2"]


def test_year_that_is_not_there(load: Load) -> None:
    with pytest.raises(DataFormatError, match=r"holds no test 2017 file. The test files of 2017 are on the site"):
        load(corpus("A"), **task("A", year=2017))


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"gold": ""}, "the gold file does not judge Q3_R2_C1 of Q3_R2"),
        ({"gold": GOLD["A"] + "Q3_R2\tQ3_R2_C3\t3\t0.3\tfalse\n"}, "has 1 pairs that the questions lack, first .*C3"),
        ({"gold": GOLD["A"] * 2}, "occurs twice"),
        ({"gold": GOLD["A"].replace("true", "Good")}, "expected `query<tab>candidate"),
        ({"train": TRAIN.replace("Bad/", "Bad/").replace('RELQ="Good"', 'RELQ="good"')}, "label 'good'; valid: Good"),
        ({"train": TEST}, r"label '\?'; valid"),
        ({"train": TRAIN.replace("Comment 1", "")}, "the comment is empty"),
        ({"train": TRAIN.replace("Old Q1_R4", "")}, "the question is empty"),
        ({"train": TRAIN.replace('RELQ_RANKING_ORDER="4"', 'RELQ_RANKING_ORDER="x"')}, "is 'x', no rank"),
        ({"train": TRAIN.replace(' RELQ_ID="Q1_R4"', "")}, "<RelQuestion> has no RELQ_ID"),
        ({"train": TRAIN.replace("RelCText", "RelCBody")}, "expected one <RelCText> in <RelComment>, found 0"),
        ({"train": xml()}, "holds no <OrgQuestion>"),
        ({"train": TRAIN * 2}, "not well-formed"),
        ({"train": xml(thread("Q1", 4, "Relevant"))}, "the thread Q1_R4 has no <RelComment>"),
    ],
)
def test_broken_files(load: Load, changed: dict[str, str], problem: str) -> None:
    with pytest.raises(DataFormatError, match=problem):
        load(corpus("A", **changed), **task("A"))


def test_missing_gold(load: Load) -> None:
    with pytest.raises(DataFormatError, match=r"expected one gold file \*\.xml\.subtaskB\.relevancy of 2016, found 0"):
        load(corpus("A"), **task("B"))


def test_writing_and_reading(load: Load, tmp_path: Path) -> None:
    rows = [dict(row) for row in load(corpus("C"), **task("C")).splits["test"]]
    path = tmp_path / "system.pred"
    write_relevancy(rows, path)
    assert path.read_text().splitlines()[0] == "Q3\tQ3_R2_C1\t201\t0.00497512437810945\tfalse"
    found = read_relevancy(numbered_lines(path.read_text()), "x")
    assert [(judged.rank, judged.relevant) for judged in found.values()] == [(201, False), (202, True)]
    write_relevancy(rows, path, [0.25, -1.0])
    assert [line.split("\t")[3] for line in path.read_text().splitlines()] == ["0.25", "-1"]


def test_official_gold_files_are_written_back(shared_data: Path, tmp_path: Path) -> None:
    """The gold file of subtask B, from examples: the same lines as the organisers'."""
    from hf_crosstask.tasks.card import TaskSpec
    from hf_crosstask.tasks.load import load_task

    rows = [dict(row) for row in load_task(TaskSpec(name="semeval2017t3_b"), data_dir=shared_data).splits["test"]]
    write_relevancy(rows, tmp_path / "gold")
    name = "semeval_cqa/test2016/gold/SemEval2016-Task3-CQA-QL-test.xml.subtaskB.relevancy"
    official = (shared_data / name).read_text().splitlines()
    written = (tmp_path / "gold").read_text().splitlines()
    assert len(written) == len(official) == 700
    for mine, theirs in zip(written, official, strict=True):
        *fields, score, label = mine.split("\t")
        *their_fields, their_score, their_label = theirs.split("\t")
        assert (fields, label) == (their_fields, their_label)
        assert float(score) == pytest.approx(float(their_score), rel=1e-12)
