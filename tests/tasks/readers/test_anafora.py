from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hf_crosstask.errors import DataFormatError, InputError
from hf_crosstask.tasks.load import TaskData
from hf_crosstask.tasks.readers.anafora import write_anafora
from hf_crosstask.tasks.schema import make_entity, make_example

Load = Callable[..., TaskData]
TEXT = "Seen May 3.\nBleeding stopped after surgery on Monday.\n"
THYME: dict[str, Any] = {"name": "semeval2016t12", "path": "task"}


def entity(number: int, mention: str, type: str = "EVENT", properties: str = "<DocTimeRel>BEFORE</DocTimeRel>") -> str:
    start = TEXT.index(mention)
    return (
        f"<entity><id>{number}@e@N@gold</id><span>{start},{start + len(mention)}</span><type>{type}</type>"
        f"<parentsType>TemporalEntities</parentsType><properties>{properties}</properties></entity>"
    )


def relation(number: int, source: str, target: str, type: str = "TLINK", value: str = "CONTAINS") -> str:
    return (
        f"<relation><id>{number}@r@N@gold</id><type>{type}</type><properties><Source>{source}</Source>"
        f"<Type>{value}</Type><Target>{target}</Target></properties></relation>"
    )


def note(*annotations: str, name: str = "N_clinic_1", kind: str = "Relation", text: str = TEXT) -> dict[str, str]:
    xml = f'<?xml version="1.0" encoding="UTF-8"?><data><annotations>{"".join(annotations)}</annotations></data>'
    return {f"train/{name}/{name}": text, f"train/{name}/{name}.Temporal-{kind}.gold.completed.xml": xml}


MONDAY = entity(1, "Monday", "TIMEX3", "<Class>DATE</Class>")
SURGERY = entity(2, "surgery")
CONTAINS = relation(1, "1@e@N@gold", "2@e@N@gold")


def test_other_layers_are_left_alone(load: Load) -> None:
    files = note(MONDAY, SURGERY, CONTAINS)
    files["train/N_clinic_1/N_clinic_1.Coreference.gold.completed.xml"] = "not read"
    files["train/N_clinic_1/N_clinic_1.UMLS-Entity.gold.completed.xml"] = "not read"
    row = load(files, **THYME).splits["train"][0]
    assert (row["id"], row["split_group"]) == ("N_clinic_1", "thyme:N_clinic_1")
    assert len(row["entities"]) == 2
    assert row["relations"][0]["type"] == "TLINK:CONTAINS"


def test_pathology_notes_say_nothing_of_relations(load: Load) -> None:
    files = note(MONDAY, SURGERY, CONTAINS) | note(MONDAY, SURGERY, name="N_path_2", kind="Entity")
    assert len(load(files, **THYME).splits["train"]) == 2
    files |= note(MONDAY, SURGERY, name="N_path_3")  # some have an empty relation layer
    contains = load(
        files,
        **THYME | {"name": "semeval2016t12_contains"},
        options={"pairs": [["TIMEX3", "EVENT"], ["EVENT", "TIMEX3"]]},
    )
    assert {row["split_group"] for row in contains.splits["train"]} == {"thyme:N_clinic_1"}
    assert contains.dropped["train"] == {"documents whose relations were never annotated": 2}


@pytest.mark.parametrize(
    ("annotations", "problem"),
    [
        ([SURGERY, SURGERY], "an annotation id occurs twice"),
        ([SURGERY.replace("EVENT", "THING")], "entity 2@e@N@gold has the type 'THING'"),
        ([SURGERY.replace("<span>", "<spam>").replace("</span>", "</spam>")], "expected one <span>"),
        ([entity(2, "surgery").replace(",", "-")], "expected the span `start,end"),
        ([entity(2, "surgery").replace("<span>", "<span>900,")], "expected the span"),
        (["<entity><id>1</id><span>5,900</span><type>EVENT</type><properties/></entity>"], "lie outside the text"),
        ([SURGERY.replace("<properties>", "").replace("</properties>", "")], "expected one <properties>"),
        (["<thing><id>1</id><type>x</type><properties/></thing>"], "expected <entity> or <relation>, found <thing>"),
        ([SURGERY, relation(1, "2@e@N@gold", "9@e@N@gold")], "the Target of TLINK .* is '9@e@N@gold'"),
        ([SURGERY, relation(1, "", "2@e@N@gold")], "has 1 values of Source, expected one"),
        ([SURGERY, CONTAINS.replace("TLINK", "Identical")], "has the type 'Identical'"),
    ],
)
def test_broken_annotations(load: Load, annotations: list[str], problem: str) -> None:
    with pytest.raises(DataFormatError, match=problem):
        load(note(*annotations), **THYME)


def test_broken_relations_may_be_dropped(load: Load) -> None:
    files = note(MONDAY, SURGERY, CONTAINS, relation(2, "1@e@N@gold", "9@e@N@gold"), relation(3, "", "2@e@N@gold"))
    data = load(files, **THYME, options={"broken_relations": "drop"})
    assert len(data.splits["train"][0]["relations"]) == 1
    assert data.dropped["train"] == {"relations without a known source or target": 2}


def test_both_files_are_needed(load: Load) -> None:
    files = note(SURGERY)
    xml = next(name for name in files if name.endswith(".xml"))
    with pytest.raises(DataFormatError, match=r"has no text N_clinic_1 beside it.*ask Mayo Clinic"):
        load({xml: files[xml]}, **THYME)


def test_a_text_needs_its_annotations(load: Load) -> None:
    with pytest.raises(DataFormatError, match="has no annotation file beside it"):
        load(note(SURGERY) | {"train/M/M": TEXT}, **THYME)


def test_two_layers_of_one_note(load: Load) -> None:
    with pytest.raises(DataFormatError, match="two files of one document name"):
        load(note(SURGERY) | note(SURGERY, kind="Entity"), **THYME)


def test_another_xml_file(load: Load) -> None:
    files = {name: text.replace("annotations", "notes") for name, text in note(SURGERY).items()}
    with pytest.raises(DataFormatError, match="this is no Anafora file"):
        load(files, **THYME)


def test_line_ends(load: Load) -> None:
    row = load(note(MONDAY, SURGERY, text=TEXT.replace("\n", "\r\n")), **THYME).splits["train"][0]
    assert row["text"] == TEXT
    assert [entity["text"] for entity in row["entities"]] == [["Monday"], ["surgery"]]


def test_writing_predictions(tmp_path: Path) -> None:
    entities = [
        make_entity("a", "EVENT", [(12, 20)], ["Bleeding"], attributes=[{"name": "Degree", "value": "N/A & <more>"}]),
        make_entity("b", "TIMEX3", [(5, 8), (9, 10)], ["May", "3"]),
    ]
    relations = [{"id": "r", "type": "TLINK:CONTAINS", "head": "b", "tail": "a"}]
    example = make_example("N", "x", TEXT, split_group="x", entities=entities, relations=relations)
    write_anafora([example], tmp_path)
    assert (tmp_path / "N" / "N").read_text() == TEXT
    xml = (tmp_path / "N" / "N.Temporal-Relation.system.completed.xml").read_text()
    assert "<id>1@e@N@system</id>\n\t\t<span>12,20</span>\n\t\t<type>EVENT</type>" in xml
    assert "<span>5,8;9,10</span>" in xml
    assert "<Degree>N/A &amp; &lt;more&gt;</Degree>" in xml
    assert "<Source>2@e@N@system</Source>\n\t\t\t<Type>CONTAINS</Type>\n\t\t\t<Target>1@e@N@system</Target>" in xml


@pytest.mark.parametrize(
    ("entity", "type", "problem"),
    [
        (make_entity("a", "EVENT", [(0, 4)], ["Seen"]), "CONTAINS", "its type must be like TLINK:CONTAINS"),
        (
            make_entity("a", "EVENT", [(0, 4)], ["Seen"], attributes=[{"name": "a b", "value": "x"}]),
            "TLINK:X",
            "'a b' cannot be an XML element",
        ),
        (
            make_entity("a", "EVENT", [(0, 4)], ["Seen"], attributes=[{"name": "a", "value": "\x01"}]),
            "TLINK:X",
            "a character that XML cannot",
        ),
    ],
)
def test_what_the_format_cannot_hold(tmp_path: Path, entity: dict[str, Any], type: str, problem: str) -> None:
    relations = [{"id": "r", "type": type, "head": "a", "tail": "a"}]
    with pytest.raises(InputError, match=problem):
        write_anafora(
            [make_example("N", "x", TEXT, split_group="x", entities=[entity], relations=relations)], tmp_path
        )
