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
from hf_crosstask.tasks.readers.share2014 import write_share2014
from hf_crosstask.tasks.readers.share2015 import SLOTS, write_share2015
from hf_crosstask.tasks.schema import make_entity, make_example

Load = Callable[..., TaskData]
TEXT = "Liver is mildly enlarged.\nNo itch.\n"
S2014: dict[str, Any] = {"name": "semeval2014t7", "path": "task"}
S2015: dict[str, Any] = {"name": "semeval2015t14", "path": "task"}
SLOT_VALUES = ["no", "patient", "no", "unmarked", "slight", "false", "false", "C0023884"]


def line2015(spans: str = "0-5,16-24", cui: str = "C0019209", **changed: str) -> str:
    values = dict(zip(SLOTS, SLOT_VALUES, strict=True)) | changed
    return "|".join(
        [
            "n.text",
            spans,
            cui,
            *(part for slot in SLOTS for part in (values[slot], changed.get(f"{slot}_cue", "null"))),
        ]
    )


def test_clef_file_names(load: Load) -> None:
    files = {"train/n.txt": TEXT, "train/n.pipe.txt": "n.txt||Disease_Disorder||CUI-less||29||33\n"}
    row = load(files, **S2014).splits["train"][0]
    assert (row["id"], row["split_group"], row["entities"][0]["text"]) == ("n", "share:n", ["itch"])


def test_overlapping_and_repeated_mentions(load: Load) -> None:
    line = "n.txt||Disease_Disorder||C0019209||0||5||16||24\n"
    data = load({"train/n.text": TEXT, "train/n.pipe": line + line + line.replace("16||24", "9||24")}, **S2014)
    assert [entity["text"] for entity in data.splits["train"][0]["entities"]] == [
        ["Liver", "enlarged"],
        ["Liver", "enlarged"],
        ["Liver", "mildly enlarged"],
    ]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("n.txt||Disease_Disorder||C0019209||0", "expected `note.*found 4 columns"),
        ("n.txt||Disease_Disorder||C0019209||0||5||6", "found 6 columns"),
        ("n.txt||Disease_Disorder||C19209||0||5", "expected a CUI"),
        ("n.txt||Disease_Disorder||C0019209||0||x", "expected a character offset, found 'x'"),
        ("n.txt||Disease_Disorder||C0019209||5||0", "lie outside the text"),
        ("n.txt||Disease_Disorder||C0019209||0||99", "lie outside the text"),
        ("n.txt||||C0019209||0||5", "the type is empty"),
        ("n.txt||Drug||C0019209||0||5", "'Drug' is not in the label set"),
        ("m.txt||Disease_Disorder||C0019209||0||5", "the line is of document 'm.txt', the file of 'n'"),
        ("0||5||C0019209||n.txt||Disease_Disorder", "expected a character offset"),
    ],
)
def test_broken_lines_2014(load: Load, line: str, problem: str) -> None:
    with pytest.raises(DataFormatError, match=problem):
        load({"train/n.text": TEXT, "train/n.pipe": "\n" + line + "\n"}, **S2014)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (line2015() + "|x", "expected 19 columns"),
        (line2015().rsplit("|", 1)[0], "expected 19 columns"),
        (line2015(Neg="maybe"), "Neg is 'maybe'; valid: no, yes, null"),
        (line2015(Course="slight", Severity="resolved"), "Course is 'slight'"),
        (line2015(Bodyloc="liver"), "Bodyloc is 'liver'; expected `null` or CUIs"),
        (line2015(Neg_cue="26"), "expected spans"),
        (line2015(spans="16-24,0-5"), "do not ascend"),
        (line2015(spans="0:5"), "expected spans"),
        (line2015(cui="0-5"), "expected a CUI"),
    ],
)
def test_broken_lines_2015(load: Load, line: str, problem: str) -> None:
    with pytest.raises(DataFormatError, match=problem):
        load({"train/n.text": TEXT, "train/n.pipe": line + "\n"}, **S2015)


def test_values_2015(load: Load) -> None:
    lines = [
        line2015(Neg="YES", Neg_cue="26-28", Subj="doner_other") + "|",
        line2015(Bodyloc="C0000001,C0000002", Course="null"),
    ]
    row = load({"train/n.text": TEXT, "train/n.pipe": "\n".join(lines)}, **S2015).splits["train"][0]
    first, second = ({item["name"]: item["value"] for item in entity["attributes"]} for entity in row["entities"])
    assert (first["Neg"], first["Neg_cue"], first["Subj"], first["Uncert"]) == ("yes", "26-28", "doner_other", "no")
    assert (second["Bodyloc"], second["Course"], "Neg_cue" in second) == ("C0000001,C0000002", "null", False)


def test_both_files_are_needed(load: Load) -> None:
    with pytest.raises(DataFormatError, match=r"no n\.pipe belongs to this file"):
        load({"train/n.text": TEXT}, **S2014)


def test_a_pipe_file_needs_its_text(load: Load) -> None:
    with pytest.raises(DataFormatError, match=r"no m\.text belongs to this file"):
        load({"train/n.text": TEXT, "train/n.pipe": "", "train/m.pipe": ""}, **S2014)


def test_the_test_set_of_2014_is_in_the_development_set_of_2015(load: Load) -> None:
    """Both tasks give a note the same split group, which is what the leakage audit compares."""
    mention = "n.txt||Disease_Disorder||CUI-less||0||5\n"
    old = load({"train/n.text": TEXT, "train/n.pipe": mention}, **S2014)
    new = load({"train/n.text": TEXT, "train/n.pipe": line2015()}, **S2015)
    assert old.splits["train"]["split_group"] == new.splits["train"]["split_group"]


@st.composite
def notes(draw: st.DrawFn) -> dict[str, Any]:
    text = "x" + draw(st.text("ab é\n", min_size=8, max_size=30))
    entities = []
    for number in range(draw(st.integers(1, 4))):
        cuts = sorted(draw(st.lists(st.integers(0, len(text)), min_size=4, max_size=4, unique=True)))
        offsets = [(cuts[0], cuts[1]), (cuts[2], cuts[3])][: draw(st.integers(1, 2))]
        slots = {
            name: draw(st.sampled_from([*(values or ("C1234567", "C1234567,C7654321")), "null"]))
            for name, values in SLOTS.items()
        }
        cued = draw(st.sampled_from([*SLOTS, ""]))
        attributes = []
        for name, value in slots.items():
            attributes.append({"name": name, "value": value})
            if name == cued:
                attributes.append({"name": f"{name}_cue", "value": "0-1"})
        cui = draw(st.sampled_from([[], [{"db": "UMLS", "id": "C0000001"}]]))
        parts = [text[start:end] for start, end in offsets]
        entities.append(
            make_entity(f"T{number + 1}", "Disease_Disorder", offsets, parts, normalized=cui, attributes=attributes)
        )
    return make_example("n", "x", text, split_group="share:n", entities=entities)


@settings(max_examples=25, deadline=None)
@given(note=notes())
def test_writing_and_reading(note: dict[str, Any]) -> None:
    plain = note | {"entities": [entity | {"attributes": []} for entity in note["entities"]]}
    for spec, write, example in ((S2015, write_share2015, note), (S2014, write_share2014, plain)):
        with tempfile.TemporaryDirectory() as folder:
            write([example], Path(folder) / "task" / "train")
            row = load_task(TaskSpec(**spec), data_dir=Path(folder)).splits["train"][0]
        assert {**row, "task": "x"} == example


def test_what_the_formats_cannot_hold(tmp_path: Path) -> None:
    cuis = [{"db": "UMLS", "id": "C0000001"}, {"db": "UMLS", "id": "C0000002"}]
    two = make_entity("T1", "Disease_Disorder", [(0, 5)], ["Liver"], normalized=cuis)
    with pytest.raises(InputError, match="has 2 CUIs"):
        write_share2014([make_example("n", "x", TEXT, split_group="x", entities=[two])], tmp_path)
    pipe = make_entity("T1", "D", [(0, 5)], ["Liver"], attributes=[{"name": "Neg", "value": "a|b"}])
    with pytest.raises(InputError, match="holds the separator"):
        write_share2015([make_example("n", "x", TEXT, split_group="x", entities=[pipe])], tmp_path)
