"""Community question answering (SemEval-2016 and 2017 Task 3): rank comments or questions for a question, cQA XML.

Option `subtask`:

| | query (`text`) | candidates (`text_pair`) | relevant |
|---|---|---|---|
| `A` | a forum question | the 10 comments of its thread | `Good` |
| `B` | a new question | 10 related questions | `PerfectMatch`, `Relevant` |
| `C` | a new question | the 100 comments of their threads | `Good` |

`labels` is `true` or `false` as the official scorer has it; `score` is 1 or 0, with option `graded` 0.5 for what is
true in part (`PotentiallyUseful`; in B `Relevant` against `PerfectMatch`). `group_id` is the id of the query, `id` that
of the candidate, `rank` the search engine's (in C 100 × thread + comment, as in the official files).

Files, anywhere below the folder, each may be gzipped: `…-train*.xml` (all parts), `…-dev.xml`, `…-test*.xml`. The main
files serve every subtask; for A, threads with `SubtaskA_Skip_Because_Same_As_RelQuestion_ID` repeat another thread and
are left out (counted), which gives exactly the `…-subtaskA.xml` files; those are not read, nor are the `-multiline`
variants and the reformatted data of 2015. Test files have `?` for labels: the gold is the file
`….xml.subtask<A|B|C>.relevancy` (`qid<tab>aid<tab>rank<tab>score<tab>true|false`), whose ids must be exactly those of
the test questions. Option `year` (2016 or 2017) names the test set.

The forum is Qatar Living: this is no medical corpus. Option `categories` keeps the threads of these categories only
("Health and Fitness" is nearest); the others are counted, and the scores are no longer comparable with published ones.
`split_group` is the query.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from hf_crosstask import atomic
from hf_crosstask.errors import DataFormatError
from hf_crosstask.tasks.readers.base import ReadResult, Source, TextOptions, integer, parse_options
from hf_crosstask.tasks.readers.documents import corpus_group
from hf_crosstask.tasks.readers.files import FileTree, corpus_tree
from hf_crosstask.tasks.readers.safe_xml import Node, parse_xml
from hf_crosstask.tasks.schema import make_example

_SKIP = "SubtaskA_Skip_Because_Same_As_RelQuestion_ID"
_UNKNOWN = "?"
_MOST_THREADS = 1_000_000
_COMMENT = {"Good": 1.0, "PotentiallyUseful": 0.5, "Bad": 0.0}
_QUESTION = {"PerfectMatch": 1.0, "Relevant": 0.5, "Irrelevant": 0.0}
_TRUE = frozenset({"Good", "PerfectMatch", "Relevant"})
#: Names of the main files; the subtask-A, multi-line and 2015 variants do not match.
_FILES = {
    "train": r"(^|/)SemEval2016-Task3-CQA-QL-train(-part[0-9])?\.xml(\.gz)?$",
    "validation": r"(^|/)SemEval2016-Task3-CQA-QL-dev\.xml(\.gz)?$",
    "test 2016": r"(^|/)SemEval2016-Task3-CQA-QL-test(-input)?\.xml(\.gz)?$",
    "test 2017": r"(^|/)SemEval2017-Task3-(CQA-QL|English)-test(-input)?\.xml(\.gz)?$",
}
_GOLD = r"(^|/)SemEval{year}-Task3-(CQA-QL|English)-test[^/]*\.xml\.subtask{subtask}\.relevancy(\.gz)?$"


class CqaOptions(TextOptions):
    """Options of the reader; the module docstring explains them."""

    subtask: Literal["A", "B", "C"] = "A"
    year: Literal[2016, 2017] = 2016
    graded: bool = False
    categories: list[str] | None = None


class _Judgement(NamedTuple):
    rank: int
    relevant: bool


@dataclass
class _Part:
    """What a split is read with."""

    options: CqaOptions
    task: str
    gold: Mapping[tuple[str, str], _Judgement] | None
    dropped: Counter[str] = field(default_factory=Counter)


def read(source: Source) -> ReadResult:
    """Read one subtask.

    Raises:
        DataFormatError: a file is missing or breaks the format, a label is unknown, test labels are missing.
    """
    options = parse_options(source, CqaOptions)
    every = "|".join([*_FILES.values(), r"\.relevancy(\.gz)?$"])
    tree = corpus_tree(
        source, lambda name: re.search(every, name, re.IGNORECASE), "files SemEval2016-Task3-CQA-QL-*.xml"
    )
    splits: dict[str, list[dict[str, Any]]] = {}
    dropped: dict[str, dict[str, int]] = {}
    for split, key in (("train", "train"), ("validation", "validation"), ("test", f"test {options.year}")):
        names = [name for name in tree.names if re.search(_FILES[key], name, re.IGNORECASE)]
        if not names:
            remedy = "The test files of 2017 are on the site of SemEval-2017 Task 3." if options.year == 2017 else None
            raise DataFormatError(tree.root, f"holds no {key} file.", remedy=remedy)
        gold = _gold(tree, options) if split == "test" else None
        part = _Part(options, source.card.name, gold)
        splits[split] = [example for name in names for example in _file_examples(part, tree, name)]
        if part.dropped:
            dropped[split] = dict(part.dropped)
        if gold is not None and options.categories is None:
            _check_gold(tree, names[0], gold, splits[split])
    return ReadResult(splits, dropped=dropped)


def _gold(tree: FileTree, options: CqaOptions) -> dict[tuple[str, str], _Judgement]:
    pattern = _GOLD.format(year=options.year, subtask=options.subtask)
    names = [name for name in tree.names if re.search(pattern, name, re.IGNORECASE)]
    if len(names) != 1:
        problem = (
            f"expected one gold file *.xml.subtask{options.subtask}.relevancy of {options.year}, found {len(names)}."
        )
        raise DataFormatError(tree.root, problem, remedy="It comes with the scorer of the task.")
    return read_relevancy(tree.read_lines(names[0], options.encoding), tree.where(names[0]))


def read_relevancy(lines: Iterable[tuple[int, str]], where: str) -> dict[tuple[str, str], _Judgement]:
    """A gold or prediction file: (query, candidate) to rank and relevance, in file order.

    Raises:
        DataFormatError: a line has not five columns, or a pair occurs twice.
    """
    found: dict[tuple[str, str], _Judgement] = {}
    for number, line in lines:
        cells = line.split("\t")
        if len(cells) != 5 or cells[4] not in ("true", "false") or integer(cells[2]) is None:
            problem = f"expected `query<tab>candidate<tab>rank<tab>score<tab>true|false`, found {line[:70]!r}."
            raise DataFormatError(where, problem, line=number)
        if (cells[0], cells[1]) in found:
            raise DataFormatError(where, f"{cells[1]} of {cells[0]} occurs twice.", line=number)
        found[cells[0], cells[1]] = _Judgement(int(cells[2]), cells[4] == "true")
    return found


def _check_gold(
    tree: FileTree,
    name: str,
    gold: Mapping[tuple[str, str], _Judgement],
    examples: Iterable[Mapping[str, Any]],
) -> None:
    asked = {(example["group_id"], example["id"]) for example in examples}
    unasked = gold.keys() - asked
    if unasked:
        problem = f"the gold file has {len(unasked)} pairs that the questions lack, first {min(unasked)}."
        raise DataFormatError(tree.where(name), problem)


def _file_examples(part: _Part, tree: FileTree, name: str) -> Iterator[dict[str, Any]]:
    where = tree.where(name)
    root = parse_xml(tree.read_bytes(name), where)
    if not root.find("OrgQuestion"):
        raise DataFormatError(where, f"<{root.tag}> holds no <OrgQuestion>: this is no main file.", line=root.line)
    for question in root.children:
        if question.tag != "OrgQuestion":
            raise DataFormatError(where, f"expected <OrgQuestion>, found <{question.tag}>.", line=question.line)
        thread = _child(where, question, "Thread")
        related = _child(where, thread, "RelQuestion")
        category = _attribute(where, related, "RELQ_CATEGORY")
        if part.options.categories is not None and category not in part.options.categories:
            part.dropped["threads of other categories"] += 1
        else:
            yield from _thread_examples(part, where, question, thread, related)


def _thread_examples(part: _Part, where: str, question: Node, thread: Node, related: Node) -> Iterator[dict[str, Any]]:
    subtask = part.options.subtask
    thread_id, new_id = _attribute(where, related, "RELQ_ID"), _attribute(where, question, "ORGQ_ID")
    position = _attribute(where, related, "RELQ_RANKING_ORDER")
    order = integer(position)
    if order is None or order > _MOST_THREADS:
        raise DataFormatError(where, f"RELQ_RANKING_ORDER is {position!r}, no rank.", line=related.line)
    related_text = _question_text(where, related, "RelQSubject", "RelQBody")
    comments = thread.find("RelComment")
    if not comments:
        raise DataFormatError(where, f"the thread {thread_id} has no <RelComment>.", line=thread.line)
    if subtask == "B":
        query = _question_text(where, question, "OrgQSubject", "OrgQBody")
        label = _attribute(where, related, "RELQ_RELEVANCE2ORGQ")
        yield _example(part, where, related, (new_id, query), (thread_id, related_text), order, label, _QUESTION)
        return
    if subtask == "A":
        if _SKIP in thread.attributes:
            part.dropped["threads that repeat another (subtask A)"] += 1
            return
        query_id, query, first, against = thread_id, related_text, 0, "RELC_RELEVANCE2RELQ"
    else:
        query = _question_text(where, question, "OrgQSubject", "OrgQBody")
        query_id, first, against = new_id, 100 * order, "RELC_RELEVANCE2ORGQ"
    for number, comment in enumerate(comments, start=1):
        text = _child(where, comment, "RelCText").text.strip()
        if not text:
            raise DataFormatError(where, "the comment is empty.", line=comment.line)
        candidate = _attribute(where, comment, "RELC_ID"), text
        label = _attribute(where, comment, against)
        yield _example(part, where, comment, (query_id, query), candidate, first + number, label, _COMMENT)


def _example(
    part: _Part,
    where: str,
    node: Node,
    query: tuple[str, str],
    candidate: tuple[str, str],
    rank: int,
    label: str,
    grades: Mapping[str, float],
) -> dict[str, Any]:
    """One candidate of a query, (id, text) each; `label` is that of the file, `?` in test files."""
    if label == _UNKNOWN and part.gold is not None:
        judged = part.gold.get((query[0], candidate[0]))
        if judged is None:
            problem = f"the gold file does not judge {candidate[0]} of {query[0]}."
            raise DataFormatError(where, problem, line=node.line)
        relevant, score, rank = judged.relevant, float(judged.relevant), judged.rank
    elif label in grades:
        relevant = label in _TRUE
        score = grades[label] if part.options.graded else float(relevant)
    else:
        raise DataFormatError(where, f"label {label!r}; valid: {', '.join(grades)}.", line=node.line)
    return make_example(
        candidate[0],
        part.task,
        query[1],
        text_pair=candidate[1],
        split_group=corpus_group("semeval_cqa", query[0]),
        group_id=query[0],
        rank=rank,
        score=score,
        labels=["true" if relevant else "false"],
    )


def _question_text(where: str, node: Node, subject: str, body: str) -> str:
    """Subject and body; either may be empty, not both."""
    parts = [_child(where, node, tag).text.strip() for tag in (subject, body)]
    text = "\n".join(part for part in parts if part)
    if not text:
        raise DataFormatError(where, "the question is empty.", line=node.line)
    return text


def _child(where: str, node: Node, tag: str) -> Node:
    found = node.find(tag)
    if len(found) != 1:
        raise DataFormatError(where, f"expected one <{tag}> in <{node.tag}>, found {len(found)}.", line=node.line)
    return found[0]


def _attribute(where: str, node: Node, name: str) -> str:
    value = node.attributes.get(name)
    if not value:
        raise DataFormatError(where, f"<{node.tag}> has no {name}.", line=node.line)
    return value


def write_relevancy(
    examples: Iterable[Mapping[str, Any]], path: str | Path, scores: Iterable[float] | None = None
) -> None:
    """Write the scorer's format, `query, candidate, rank, score, true|false`, one line an example, in their order.

    Args:
        examples: of one split; gold labels become the last column.
        path: of the file.
        scores: a system's, one an example; without them 1 / rank, as in the official gold files.
    """
    rows = list(examples)
    values = [1 / row["rank"] for row in rows] if scores is None else list(scores)
    lines = [
        f"{row['group_id']}\t{row['id']}\t{row['rank']}\t{value:.15g}\t{row['labels'][0]}\n"
        for row, value in zip(rows, values, strict=True)
    ]
    atomic.write_text(path, "".join(lines))
