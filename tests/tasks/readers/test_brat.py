from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_crosstask.errors import DataFormatError, InputError
from hf_crosstask.tasks.card import TaskSpec
from hf_crosstask.tasks.load import TaskData, load_task
from hf_crosstask.tasks.readers.brat import write_brat
from hf_crosstask.tasks.schema import make_entity, make_example

Load = Callable[..., TaskData]
TEXT = "Felt salt cures itch. Oil does not.\n\nThe old\nitch came back after oil. Salt helped.\n"
MINE: dict[str, Any] = {"name": "mine", "type": "ner", "reader": "brat", "labels": ["Drug", "Sign"]}
PAIRS: dict[str, Any] = {
    "name": "mine",
    "type": "relation",
    "reader": "brat",
    "labels": ["no", "treats", "causes"],
    "negative_label": "no",
}


def at(mention: str, nth: int = 0) -> str:
    start = -1
    for _ in range(nth + 1):
        start = TEXT.index(mention, start + 1)
    return f"{start} {start + len(mention)}"


def files(*lines: str, text: str = TEXT, split: str = "train", name: str = "a") -> dict[str, str]:
    return {f"{split}/{name}.txt": text, f"{split}/{name}.ann": "".join(line + "\n" for line in lines)}


SALT = f"T1\tDrug {at('Felt salt')}\tFelt salt"
ITCH = f"T2\tSign {at('itch')}\titch"
OLD_ITCH = f"T3\tSign {at('old')};{at('itch', 1)}\told itch"
NEGATIVE = f"T6\tDrug {at('salt')}\tsalt"  # in the sentence of ITCH, related to nothing
OIL = f"T4\tDrug {at('oil')}\toil"


def test_every_kind_of_line(load: Load) -> None:
    lines = [
        SALT,
        ITCH,
        OLD_ITCH,
        f"T5\tDrug {at('Oil')}\tOil",
        OIL,
        "R1\ttreats Arg2:T2 Arg1:T1\t",
        "E1\tSign:T3 Cause:T4 By:E2",
        "E2\tDrug:T5 ",
        "A1\tCertain E1 very much",
        "A2\tOld T2",
        "N1\tReference T1 ATC:B01\tFelt salt",
        "#1\tAnnotatorNotes T1\tsure?",
        "*\tEquiv T1 T4",
        "",
    ]
    data = load(files(*lines), **MINE)
    row = data.splits["train"][0]
    found = {entity["id"]: entity for entity in row["entities"]}
    assert sorted(found) == ["E1", "E2", "T1", "T2", "T4"], "events stand for their triggers"
    assert found["E1"]["text"] == ["old", "itch"]
    assert found["E1"]["attributes"] == [{"name": "Certain", "value": "very much"}]
    assert found["T2"]["attributes"] == [{"name": "Old", "value": ""}]
    assert found["T1"]["normalized"] == [{"db": "ATC", "id": "B01"}]
    assert [(r["id"], r["type"], r["head"], r["tail"]) for r in row["relations"]] == [
        ("E1.1", "Cause", "E1", "T4"),
        ("E1.2", "By", "E1", "E2"),
        ("R1", "treats", "T1", "T2"),
    ]
    assert data.dropped == {"train": {"annotator notes": 1, "equivalences": 1}}
    assert (row["id"], row["split_group"]) == ("a", "mine:a")


def test_several_events_of_one_mention(load: Load) -> None:
    row = load(files(SALT, "E1\tDrug:T1", "E2\tSign:T1", "A1\tNew T1"), **MINE).splits["train"][0]
    assert [(entity["id"], entity["type"], entity["text"]) for entity in row["entities"]] == [
        ("E1", "Drug", ["Felt salt"]),
        ("E2", "Sign", ["Felt salt"]),
    ]
    assert all(entity["attributes"] == [{"name": "New", "value": ""}] for entity in row["entities"])


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("T1 Drug 0 4 Felt", "expected `T, E, R"),
        ("T1\tDrug 0 4", "expected `T1<tab>Type start end<tab>text`"),
        ("T1\tDrug 0-4\tFelt", "expected `T1"),
        ("T1\tDrug 4 0\tFelt", "lie outside the text"),
        ("T1\tDrug 0 999\tFelt", "lie outside the text"),
        ("T1\tDrug 0 4\tSalt", "the text has 'Felt'"),
        ("T1\tHerb 0 4\tFelt", "'Herb' is not in the label set"),
        ("R1\ttreats Arg1:T1", "expected `R1"),
        ("R1\ttreats Arg1:T2 Arg2:T9", "'T9' is not annotated"),
        ("E1\tDrug:T9", "unknown trigger T9"),
        ("E1\tDrug", "expected `E1"),
        ("A1\tOld", "expected `A1"),
        ("A1\tOld T9", "'T9' is not annotated"),
        ("N1\tReference T9 X:1\tx", "'T9' is not annotated"),
        ("N1\tReference T1\tx", "expected `N1"),
        ("X1\twhat", "expected `T, E"),
        ("Felt salt", "expected `T, E"),
    ],
)
def test_broken_lines(load: Load, line: str, problem: str) -> None:
    with pytest.raises(DataFormatError) as raised:
        load(files(ITCH, line), **MINE)
    assert problem in str(raised.value)
    assert "a.ann" in str(raised.value) or "not in the label set" in problem


def test_ids_are_unique(load: Load) -> None:
    with pytest.raises(DataFormatError, match=r"a.ann:2: the id T1 occurs twice"):
        load(files(SALT, SALT), **MINE)


def test_line_ends_that_the_annotators_did_not_see(load: Load) -> None:
    windows = TEXT.replace("\n", "\r\n")
    assert load(files(SALT, OLD_ITCH, text=windows), **MINE).splits["train"][0]["entities"][1]["text"] == [
        "old",
        "itch",
    ]


def test_line_ends_that_the_annotators_saw(load: Load) -> None:
    windows = TEXT.replace("\n", "\r\n")
    start = windows.index("itch came")
    row = load(files(f"T1\tSign {start} {start + 4}\titch", text=windows), **MINE).splits["train"][0]
    assert row["text"] == windows
    assert row["entities"][0]["offsets"] == [[start, start + 4]]


def test_mention_texts_that_differ(load: Load) -> None:
    lines = files(SALT, ITCH, "T9\tDrug 22 25\toil")  # the text has "Oil"
    with pytest.raises(DataFormatError, match=r"set options.mention_text to 'offsets'"):
        load(lines, **MINE)
    data = load(lines, **MINE, options={"mention_text": "offsets"})
    assert data.splits["train"][0]["entities"][2]["text"] == ["Oil"]
    assert data.dropped["train"] == {"mention texts that differ from the text at their offsets": 1}


def test_another_text_is_never_believed(load: Load) -> None:
    with pytest.raises(DataFormatError, match="Is it the annotated text"):
        load(files(SALT, ITCH, OIL, text="x" + TEXT), **MINE, options={"mention_text": "offsets"})


def test_both_files_are_needed(load: Load) -> None:
    with pytest.raises(DataFormatError, match=r"no a\.ann belongs to this file"):
        load({"train/a.txt": TEXT}, **MINE)
    with pytest.raises(DataFormatError, match=r"no b\.txt belongs to this file"):
        load(files(SALT) | {"train/b.ann": ""}, **MINE)


def test_candidate_pairs(load: Load) -> None:
    gold = ["R1\ttreats Arg1:T1 Arg2:T2", "R2\tcauses Arg1:T4 Arg2:T3", "R3\ttreats Arg1:T4 Arg2:T3"]
    data = load(files(SALT, ITCH, OLD_ITCH, OIL, f"T5\tDrug {at('Salt')}\tSalt", *gold), **PAIRS)
    rows = {row["id"]: row for row in data.splits["train"]}
    assert sorted(rows) == ["a.T1.T2", "a.T4.T3"], "same sentence; only drug to sign, as in the gold"
    assert rows["a.T1.T2"]["text"] == "Felt salt cures itch."
    assert [r["type"] for r in rows["a.T4.T3"]["relations"]] == ["treats", "causes"], "in the order of the labels"
    assert rows["a.T4.T3"]["text"] == "The old\nitch came back after oil."
    assert rows["a.T4.T3"]["entities"][1]["text"] == ["old", "itch"]
    assert rows["a.T4.T3"]["split_group"] == "mine:a"
    near = load(
        files(SALT, ITCH, OLD_ITCH, OIL, f"T5\tDrug {at('Salt')}\tSalt", *gold), **PAIRS, options={"distance": 1}
    )
    labels = {row["id"]: row["relations"][0]["type"] for row in near.splits["train"]}
    assert labels == {"a.T1.T2": "treats", "a.T4.T3": "treats", "a.T5.T3": "no"}


def test_gold_pairs_out_of_reach_are_counted(load: Load) -> None:
    lines = files(SALT, ITCH, OLD_ITCH, NEGATIVE, "R1\ttreats Arg1:T1 Arg2:T2", "R2\ttreats Arg1:T1 Arg2:T3")
    data = load(lines, **PAIRS)
    assert data.lost_gold == {"train": {"treats": 1}}
    assert load(lines, **PAIRS, options={"distance": 9}).lost_gold == {"train": {}}


def test_pairs_of_options_and_of_training(load: Load) -> None:
    test = files(SALT, ITCH, OIL, "R1\tcauses Arg1:T2 Arg2:T1", split="test", name="b")
    train = files(SALT, ITCH, NEGATIVE, "R1\ttreats Arg1:T1 Arg2:T2")
    assert load(train | test, **PAIRS).splits["test"]["id"] == ["b.T1.T2"]
    assert load(train | test, **PAIRS).lost_gold["test"] == {"causes": 1}, (
        "no candidate: not a pair of the training split"
    )
    both = load(train | test, **PAIRS, options={"pairs": [["Drug", "Sign"], ["Sign", "Drug"]]})
    assert sorted(both.splits["test"]["id"]) == ["b.T1.T2", "b.T2.T1"]


def test_types_are_renamed_or_left_out(load: Load) -> None:
    lines = files(SALT, f"T2\tHerb {at('Oil')}\tOil", f"T5\tNoise {at('cures')}\tcures", "R1\tx Arg1:T1 Arg2:T5")
    data = load(lines, **MINE, options={"types": {"Herb": "Drug", "Noise": None}})
    assert [entity["type"] for entity in data.splits["train"][0]["entities"]] == ["Drug", "Drug"]
    assert data.dropped["train"] == {"entities of type Noise": 1, "relations of entities left out": 1}
    relation = load(
        files(SALT, ITCH, NEGATIVE, "R1\tT Arg1:T1 Arg2:T2", "R2\tZ Arg1:T1 Arg2:T2", "R3\tT Arg1:T1 Arg2:T2"),
        **PAIRS,
        options={"relation_types": {"T": "treats", "Z": None}},
    )
    assert relation.splits["train"][0]["relations"][0]["type"] == "treats"
    assert relation.dropped["train"] == {"relations of type Z": 1, "relations listed twice": 1}
    with pytest.raises(DataFormatError, match=r"leave it out with options.relation_types"):
        load(files(SALT, ITCH, "R1\tT Arg1:T1 Arg2:T2"), **PAIRS)


def test_marked_mentions(load: Load) -> None:
    spec = {"name": "mine", "type": "classification", "reader": "brat", "labels": ["Drug", "Sign"]}
    rows = load(files(SALT, ITCH, OLD_ITCH), **spec, options={"context": 0}).splits["train"]
    assert rows["text"] == [
        "<< Felt salt >> cures itch.",
        "Felt salt cures << itch >>.",
        "The << old\nitch >> came back after oil.",
    ]
    assert rows["labels"] == [["Drug"], ["Sign"], ["Sign"]]
    assert load(files(SALT, ITCH), **spec).splits["train"]["text"][0] == "<< Felt salt >> cures itch. Oil does not."
    attribute = spec | {"labels": ["yes", "no"]}
    lines = files(SALT, ITCH, OIL, "A1\tSafe T1 yes", "A2\tSafe T4 no", "A3\tSafe T2 no")
    data = load(lines, **attribute, options={"attribute": "Safe", "mentions": ["Drug"]})
    assert data.splits["train"]["labels"] == [["yes"], ["no"]]
    with pytest.raises(DataFormatError, match="the Safe of entity T1 is 'very'"):
        load(files(SALT, ITCH, "A1\tSafe T1 very", "A2\tSafe T2 no"), **attribute, options={"attribute": "Safe"})
    missing = load(
        files(SALT, ITCH, OIL, "A1\tSafe T1 yes", "A2\tSafe T2 no"), **attribute, options={"attribute": "Safe"}
    )
    assert missing.dropped["train"] == {"mentions without Safe": 1}


def test_validation_documents(load: Load) -> None:
    train = {key: value for n in range(5) for key, value in files(SALT, name=f"n{n}").items()}
    data = load(train, **MINE, options={"validation_documents": 2})
    assert {split: len(rows) for split, rows in data.splits.items()} == {"train": 3, "validation": 2}
    again = load(train, **MINE, options={"validation_documents": 2})
    assert again.splits["validation"]["id"] == data.splits["validation"]["id"]
    with pytest.raises(DataFormatError, match="cannot hold out 5 of 5"):
        load(train, **MINE, options={"validation_documents": 5})


def test_validation_documents_beside_a_validation_split(load: Load) -> None:
    with pytest.raises(InputError, match="there is one already"):
        load(files(SALT) | files(SALT, split="dev", name="b"), **MINE, options={"validation_documents": 1})


def test_pmid_names(load: Load) -> None:
    data = load(files(SALT, name="0012"), **MINE, options={"pmid_names": True})
    assert data.splits["train"]["split_group"] == ["pmid:12"]
    with pytest.raises(DataFormatError, match="'a' is not a PMID"):
        load(files(SALT), **MINE, options={"pmid_names": True})


def test_other_task_types(load: Load) -> None:
    with pytest.raises(InputError, match="makes ner, span_ner, relation and classification"):
        load(files(SALT), name="mine", type="similarity", reader="brat", primary_metric="pearson")


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """Any document, with entities of one or two parts, events with arguments, attributes and relations."""
    words = draw(st.lists(st.text("abcé ß\u2028", min_size=1, max_size=6), min_size=3, max_size=8))
    text = "x" + draw(st.sampled_from([" ", "\n", "\r\n", "\n\n"])).join(words) + "y"
    visible = [position for position, character in enumerate(text) if not character.isspace()]
    entities = []
    for number in range(draw(st.integers(0, 4))):
        first, last = sorted(draw(st.tuples(st.sampled_from(visible), st.sampled_from(visible))))
        offsets = [(first, last + 1)]
        after = [position for position in visible if position > last + 1]
        if after and draw(st.booleans()):
            start = draw(st.sampled_from(after))
            offsets.append((start, start + 1))
        attributes = draw(st.lists(st.sampled_from([("Sure", "yes"), ("Old", "")]), max_size=2, unique=True))
        kind = draw(st.sampled_from("TE"))
        entities.append(
            make_entity(
                f"{kind}{number + 1}",
                draw(st.sampled_from(["Drug", "Sign"])),
                offsets,
                [text[s:e] for s, e in offsets],
                attributes=[{"name": name, "value": value} for name, value in attributes],
            )
        )
    names = [entity["id"] for entity in entities]
    relations = []
    for number in range(draw(st.integers(0, 3)) if names else 0):
        head, tail = draw(st.sampled_from(names)), draw(st.sampled_from(names))
        relations.append({"id": f"R{number + 1}", "type": "treats", "head": head, "tail": tail})
    entities.sort(key=lambda entity: entity["id"][0] == "E")  # the reader lists mentions in file order
    return make_example("a", "mine", text, split_group="mine:a", entities=entities, relations=relations)


@settings(max_examples=40, deadline=None)
@given(document=documents())
def test_writing_and_reading(document: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        filler = make_example(
            "z", "mine", "Felt", split_group="mine:z", entities=[make_entity("T1", "Drug", [(0, 4)], ["Felt"])]
        )
        write_brat([document, filler], Path(folder) / "task" / "train")
        data = load_task(TaskSpec(**MINE, path="task"), data_dir=Path(folder))
    row = data.splits["train"][0]
    assert row["text"] == document["text"]

    def content(example: dict[str, Any]) -> tuple[Any, ...]:
        return (
            sorted((e["id"], e["type"], e["offsets"], e["text"], str(e["attributes"])) for e in example["entities"]),
            sorted((r["id"], r["type"], r["head"], r["tail"]) for r in example["relations"]),
        )

    assert content(row) == content(document)


def test_writing_predictions_of_any_id(tmp_path: Path, load: Load) -> None:
    """Predicted entities may have ids of another kind; they become mentions."""
    entities = [
        make_entity("prediction-7", "Drug", [(0, 4)], ["Felt"]),
        make_entity("T1", "Sign", [(16, 20)], ["itch"]),
    ]
    relations = [{"id": "x", "type": "treats", "head": "prediction-7", "tail": "T1"}]
    write_brat([make_example("a", "mine", TEXT, split_group="a", entities=entities, relations=relations)], tmp_path)
    assert (tmp_path / "a.ann").read_text() == (
        "T2\tDrug 0 4\tFelt\nT1\tSign 16 20\titch\nR1\ttreats Arg1:T2 Arg2:T1\n"
    )


def test_names_that_are_no_file_names(tmp_path: Path) -> None:
    for name in ("../a", "a/b", "", ".a", "a\nb"):
        with pytest.raises(InputError, match="cannot name a file"):
            write_brat([make_example(name, "mine", TEXT, split_group="a")], tmp_path)
