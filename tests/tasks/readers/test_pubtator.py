from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hf_crosstask.errors import DataFormatError, InputError
from hf_crosstask.tasks.load import TaskData
from hf_crosstask.tasks.readers.pubtator import write_pubtator
from hf_crosstask.tasks.schema import make_entity, make_example

Load = Callable[..., TaskData]
MINE: dict[str, Any] = {"name": "mine", "type": "ner", "reader": "pubtator", "labels": ["Chemical", "Disease"]}
CID: dict[str, Any] = {
    "name": "mine",
    "type": "relation",
    "reader": "pubtator",
    "labels": ["no", "CID"],
    "negative_label": "no",
}
TITLE, ABSTRACT = "Felt and itch", "Felt oil caused itch or oil rash; tin did not. | Salt: none."
TEXT = f"{TITLE}\n{ABSTRACT}"


def mention(text: str, type: str, ids: str, nth: int = 0, pmid: str = "0012", extra: str = "") -> str:
    start = -1
    for _ in range(nth + 1):
        start = TEXT.index(text, start + 1)
    return f"{pmid}\t{start}\t{start + len(text)}\t{text}\t{type}\t{ids}{extra}"


def document(*lines: str, pmid: str = "0012") -> str:
    return "\n".join([f"{pmid}|t|{TITLE}", f"{pmid}|a|{ABSTRACT}", *lines]) + "\n\n"


FELT = mention("Felt", "Chemical", "MESH:D1")
ITCH = mention("itch", "Disease", "D7")
ITCH_2 = mention("itch", "Disease", "D7", 1)
RASH = mention("oil rash", "Disease", "D8|D9", 0, extra="\toil|rash")
TIN = mention("tin", "Chemical", "-1")
FELT_OIL = mention("Felt oil", "Chemical", "D1+OMIM:4")
CID_LINE = "0012\tCID\tD1\tD7"


def test_mentions(load: Load) -> None:
    data = load(
        {"train.PubTator.txt": document(FELT, ITCH, RASH, TIN, FELT_OIL, CID_LINE)},
        **MINE,
        options={"database": "MESH"},
    )
    row = data.splits["train"][0]
    assert (row["id"], row["split_group"], row["text"]) == ("0012", "pmid:12", TEXT)
    assert [entity["text"][0] for entity in row["entities"]] == ["Felt", "itch", "oil rash", "tin", "Felt oil"]
    assert [entity["normalized"] for entity in row["entities"]] == [
        [{"db": "MESH", "id": "D1"}],
        [{"db": "MESH", "id": "D7"}],
        [{"db": "MESH", "id": "D8"}, {"db": "MESH", "id": "D9"}],
        [],
        [{"db": "MESH", "id": "D1"}, {"db": "OMIM", "id": "4"}],
    ]
    assert data.dropped["train"] == {"relations between concepts": 1}


def test_types_of_the_ncbi_corpus_by_json_alone(load: Load) -> None:
    lines = [
        mention("itch", "SpecificDisease", "D7"),
        mention("oil rash", "Modifier", "D8"),
        mention("tin", "Other", "D1"),
    ]
    merged = {"types": {"SpecificDisease": "Disease", "Modifier": "Disease", "Other": None}}
    data = load({"train.txt": document(*lines)}, **MINE, options=merged)
    assert [entity["type"] for entity in data.splits["train"][0]["entities"]] == ["Disease", "Disease"]
    assert data.dropped["train"] == {"entities of type Other": 1}
    with pytest.raises(DataFormatError, match="'Modifier' is not in the label set"):
        load({"train.txt": document(*lines[:2])}, **MINE, options={"types": {"SpecificDisease": "Disease"}})


def test_a_document_that_occurs_twice(load: Load) -> None:
    data = load({"train.txt": document(FELT) * 2, "test.txt": document(ITCH)}, **MINE)
    assert data.splits["train"]["id"] == ["0012", "0012-2"]
    assert data.splits["test"]["id"] == ["0012-3"]
    assert {group for split in data.splits.values() for group in split["split_group"]} == {"pmid:12"}
    named = load({"train.txt": document(FELT), "test.txt": document(FELT)}, **MINE, options={"pmid_names": True})
    assert [named.splits[split]["split_group"] for split in ("train", "test")] == [["pmid:12"], ["pmid:12"]]


def test_documents_without_a_blank_line_between_them(load: Load) -> None:
    text = document(FELT).rstrip("\n") + "\n" + document(pmid="13")
    assert load({"train.txt": "\n\n" + text}, **MINE).splits["train"]["id"] == ["0012", "13"]


def test_concept_pairs(load: Load) -> None:
    lines = [FELT, ITCH, ITCH_2, RASH, TIN, FELT_OIL, CID_LINE]
    data = load({"train.txt": document(*lines)}, **CID, options={"pairs": [["Chemical", "Disease"]]})
    rows = {row["id"]: row for row in data.splits["train"]}
    assert sorted(rows) == [f"0012.{chemical}.{disease}" for chemical in ("4", "D1") for disease in ("D7", "D8", "D9")]
    gold = rows["0012.D1.D7"]
    assert gold["text"] == TEXT
    assert [relation["type"] for relation in gold["relations"]] == ["CID"]
    assert [entity["text"] for entity in gold["entities"]] == [["Felt oil"], ["itch"]], "the closest mentions"
    assert gold["entities"][1]["offsets"][0][0] == TEXT.index("itch")
    assert {rows[name]["relations"][0]["type"] for name in rows if name != gold["id"]} == {"no"}


def test_types_of_concepts_are_renamed_too(load: Load) -> None:
    lines = [FELT, mention("itch", "SpecificDisease", "D7"), mention("oil rash", "Modifier", "D8"), TIN, CID_LINE]
    options = {
        "types": {"SpecificDisease": "Disease", "Modifier": None},
        "pairs": [["Chemical", "Disease"], ["Disease", "Chemical"]],
    }
    data = load({"train.txt": document(*lines)}, **CID, options=options)
    assert {row["id"]: row["relations"][0]["type"] for row in data.splits["train"]} == {
        "0012.D1.D7": "CID",
        "0012.D7.D1": "no",
    }
    assert data.dropped["train"] == {"entities of type Modifier": 1}


def test_candidate_pairs_come_from_the_gold(load: Load) -> None:
    data = load({"train.txt": document(FELT, ITCH, RASH, CID_LINE)}, **CID)
    assert sorted(data.splits["train"]["id"]) == ["0012.D1.D7", "0012.D1.D8", "0012.D1.D9"]


def test_relations_of_concepts_without_mention_are_lost(load: Load) -> None:
    data = load(
        {"train.txt": document(FELT, ITCH, RASH, CID_LINE, "0012\tCID\tD1\tD5", "0012\tCID\tD7\tD1\tNovel")}, **CID
    )
    assert data.lost_gold["train"]["CID"] == 1, "the reversed pair is a candidate since the gold has one"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            document(FELT.replace("\tFelt\t", "\tfelt\t")),
            r"train.txt:3: the text has 'Felt' at \[0, 4\), the mention says 'felt'",
        ),
        (document(FELT.replace("\t4\t", "\t400\t")), "lie outside the text"),
        (document(FELT.replace("0012", "0013")), "expected a line of the document 0012, found '0013'"),
        (document(FELT.replace("Chemical", "")), "the mention has no type"),
        (document("0012\t4\t0\tChemical"), "expected a mention .* or a relation"),
        (document("0012\tCID\tD1"), "expected a mention .* or a relation"),
        (document("nothing"), "expected a line of the document"),
        ("12|t|Felt\n", "needs `12.t.` and `12.a.`"),
        ("12|t|Felt\n13|a|Oil\n", "expected one title and one abstract of 12"),
        ("12|t|Felt\n12|a|Oil\n12|a|Oil\n", "expected one title and one abstract of 12"),
        ("Felt\n", "expected `PMID.t.title`, found 'Felt'"),
        ("\n", "holds no document"),
    ],
)
def test_broken_files(load: Load, text: str, problem: str) -> None:
    with pytest.raises(DataFormatError, match=problem):
        load({"train.txt": text}, **MINE)


def test_offsets_may_be_believed(load: Load) -> None:
    files = {"train.txt": document(FELT.replace("\tFelt\t", "\tfelt\t"))}
    data = load(files, **MINE, options={"mention_text": "offsets"})
    assert data.splits["train"][0]["entities"][0]["text"] == ["Felt"]
    assert data.dropped["train"] == {"mention texts that differ from the text at their offsets": 1}


def test_writing_and_reading(load: Load, tmp_path: Path) -> None:
    data = load(
        {"train.txt": document(FELT, ITCH, RASH, TIN) + document(ITCH_2.replace("0012", "13"), pmid="13")}, **MINE
    )
    rows = [dict(row) for row in data.splits["train"]]
    write_pubtator(rows, tmp_path / "written.txt")
    again = load({"train.txt": (tmp_path / "written.txt").read_text()}, **MINE).splits["train"]
    assert [(row["split_group"], row["text"], row["entities"]) for row in again] == [
        (row["split_group"], row["text"], row["entities"]) for row in rows
    ]
    parts = make_entity("T1", "Disease", [(0, 1), (2, 3)], ["F", "l"])
    with pytest.raises(InputError, match="continuous mentions"):
        write_pubtator([make_example("1", "x", TEXT, split_group="pmid:1", entities=[parts])], tmp_path / "x")
