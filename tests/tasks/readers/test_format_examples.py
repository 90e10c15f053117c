"""The invented samples of the gated formats: read, and written back in the official submission format."""

from __future__ import annotations

import filecmp
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hf_crosstask.tasks.card import TaskSpec
from hf_crosstask.tasks.load import TaskData, load_task
from hf_crosstask.tasks.readers.anafora import write_anafora
from hf_crosstask.tasks.readers.brat import write_brat
from hf_crosstask.tasks.readers.share2014 import write_share2014
from hf_crosstask.tasks.readers.share2015 import write_share2015

FOLDERS = {
    "semeval2014t7": "semeval2014_task7",
    "semeval2015t14": "semeval2015_task14",
    "semeval2016t12": "semeval2016_task12_thyme",
    "n2c2_2018_ade": "n2c2_2018_track2",
    "n2c2_2022_cmed": "n2c2_2022_track1",
}
WRITERS: dict[str, Callable[..., None]] = {
    "semeval2014t7": write_share2014,
    "semeval2015t14": write_share2015,
    "semeval2016t12": lambda rows, folder: write_anafora(rows, folder, annotator="gold"),
    "n2c2_2018_ade": write_brat,
    "n2c2_2022_cmed": write_brat,
}


@pytest.fixture(scope="session")
def samples(shared_data: Path) -> Path:
    return shared_data / "format_examples"


def sample(samples: Path, name: str) -> TaskData:
    return load_task(TaskSpec(name=name), data_dir=samples)


def rows(data: TaskData) -> list[dict[str, Any]]:
    return [dict(row) for row in data.splits["train"]]


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_round_trip(samples: Path, tmp_path: Path, name: str) -> None:
    data = sample(samples, name)
    WRITERS[name](rows(data), tmp_path / FOLDERS[name] / "train")
    again = load_task(TaskSpec(name=name), data_dir=tmp_path)
    assert rows(again) == rows(data)
    assert again.fingerprint == data.fingerprint


@pytest.mark.parametrize("name", ["semeval2014t7", "semeval2015t14", "n2c2_2018_ade"])
def test_written_files_are_the_original_ones(samples: Path, tmp_path: Path, name: str) -> None:
    """These formats leave no freedom: what is written equals the sample byte for byte."""
    WRITERS[name](rows(sample(samples, name)), tmp_path)
    originals = {path.name: path for path in (samples / FOLDERS[name]).rglob("*") if path.is_file()}
    written = {path.name: path for path in tmp_path.iterdir()}
    assert sorted(written) == sorted(originals)
    for file in written:
        assert filecmp.cmp(written[file], originals[file], shallow=False), file


def test_semeval2014t7(samples: Path) -> None:
    row = sample(samples, "semeval2014t7").splits["train"][0]
    assert row["split_group"] == "share:00001-000001-DISCHARGE_SUMMARY"
    assert [entity["text"] for entity in row["entities"]] == [
        ["chest pain"],
        ["diabetes mellitus"],
        ["liver", "enlarged"],
        ["Left atrium", "dilated"],
    ]
    assert row["entities"][2]["normalized"] == [{"db": "UMLS", "id": "C0019209"}]
    assert row["entities"][3]["normalized"] == []


def test_semeval2015t14(samples: Path) -> None:
    row = sample(samples, "semeval2015t14").splits["train"][0]
    assert row["split_group"] == sample(samples, "semeval2014t7").splits["train"][0]["split_group"]
    attributes = [{item["name"]: item["value"] for item in entity["attributes"]} for entity in row["entities"]]
    assert attributes[0]["Neg"] == "yes"
    assert row["text"][29:35] == "denies"
    assert attributes[0]["Neg_cue"] == "29-35"
    assert "Neg_cue" not in attributes[1]
    assert attributes[2]["Severity"] == "slight"
    assert attributes[1]["Bodyloc"] == "null"


def test_semeval2016t12(samples: Path, tmp_path: Path) -> None:
    scored = sample(samples, "semeval2016t12").splits["train"][0]
    assert {entity["type"] for entity in scored["entities"]} == {"EVENT", "TIMEX3"}
    anchors = ("SECTIONTIME", "DOCTIME")
    every = TaskSpec(name="semeval2016t12", labels=("EVENT", "TIMEX3", *anchors), options={"types": {}})
    whole = load_task(every, data_dir=samples)
    write_anafora(rows(whole), tmp_path / FOLDERS["semeval2016t12"] / "train", annotator="gold")
    assert rows(load_task(every, data_dir=tmp_path)) == rows(whole)
    row = whole.splits["train"][0]
    assert row["split_group"] == "thyme:ID999_clinic_001"
    found = {entity["id"].split("@")[0]: entity for entity in row["entities"]}
    assert [found[id]["text"] for id in "1267"] == [["April 23, 2010"], ["bleeding"], ["Friday"], ["will", "resume"]]
    assert {"name": "Polarity", "value": "NEG"} in found["2"]["attributes"]
    assert [relation["type"] for relation in row["relations"]] == [
        "TLINK:CONTAINS",
        "TLINK:CONTAINS",
        "TLINK:BEFORE",
        "ALINK:REINITIATES",
    ]
    march = row["relations"][0]
    assert (march["head"][0], march["tail"][0]) == ("4", "3")


def test_semeval2016t12_parts(samples: Path) -> None:
    times = sample(samples, "semeval2016t12_doctimerel").splits["train"]
    assert [(row["labels"], row["entities"][0]["text"]) for row in times] == [
        (["BEFORE"], ["bleeding"]),
        (["BEFORE"], ["surgery"]),
        (["AFTER"], ["chemotherapy"]),
        (["AFTER"], ["will", "resume"]),
    ]
    assert all("<< " + " ".join(row["entities"][0]["text"]) + " >>" in row["text"] for row in times)
    contains = sample(samples, "semeval2016t12_contains")
    pairs = {
        (row["entities"][0]["text"][0], row["entities"][1]["text"][0]): row["relations"][0]["type"]
        for row in contains.splits["train"]
    }
    assert {pair for pair, label in pairs.items() if label == "CONTAINS"} == {
        ("March", "surgery"),
        ("Friday", "chemotherapy"),
    }
    assert len(pairs) == 8, "two times, four events"
    assert contains.dropped["train"] == {
        "relations of type TLINK:BEFORE": 1,
        "relations of type ALINK:REINITIATES": 1,
    }


def test_n2c2_2018_ade(samples: Path) -> None:
    row = sample(samples, "n2c2_2018_ade").splits["train"][0]
    cough = next(entity for entity in row["entities"] if entity["type"] == "ADE")
    assert (cough["offsets"], cough["text"]) == ([[87, 90], [91, 96]], ["dry", "cough"])
    assert len(row["relations"]) == 6
    relation = sample(samples, "n2c2_2018_ade_relation")
    gold = {
        (row["entities"][0]["type"], row["entities"][1]["offsets"][0][0]): row["relations"][0]["type"]
        for row in relation.splits["train"]
        if row["relations"][0]["type"] != "none"
    }
    assert gold == {
        ("Strength", 11): "Strength-Drug",
        ("Route", 11): "Route-Drug",
        ("Frequency", 11): "Frequency-Drug",
        ("Reason", 11): "Reason-Drug",
        ("ADE", 28): "ADE-Drug",
        ("Duration", 28): "Duration-Drug",
    }
    assert len(relation.splits["train"]) == 12, "six properties, two drugs"
    assert relation.lost_gold == {"train": {}}


def test_n2c2_2022_cmed(samples: Path) -> None:
    row = sample(samples, "n2c2_2022_cmed").splits["train"][0]
    assert [(entity["id"], entity["type"], entity["text"]) for entity in row["entities"]] == [
        ("E1", "NoDisposition", ["metformin"]),
        ("E2", "Disposition", ["insulin"]),
        ("E3", "Undetermined", ["aspirin"]),
    ]
    assert row["entities"][1]["attributes"] == [
        {"name": "Action", "value": "Start"},
        {"name": "Negation", "value": "NotNegated"},
        {"name": "Temporality", "value": "Future"},
        {"name": "Certainty", "value": "Hypothetical"},
        {"name": "Actor", "value": "Physician"},
    ]
    events = sample(samples, "n2c2_2022_cmed_event").splits["train"]
    assert [row["labels"][0] for row in events] == ["NoDisposition", "Disposition", "Undetermined"]
    assert "We may start << insulin >> next week; aspirin was discussed." in events[1]["text"]
    assert events[1]["text"].count("<<") == 1


def test_the_same_notes_may_stand_for_every_split(samples: Path) -> None:
    """One sample can be train, validation and test; ids stay unique, and the split group shows it is one note."""
    folder = f"{FOLDERS['n2c2_2018_ade']}/training_20180910"
    data = load_task(
        TaskSpec(name="n2c2_2018_ade", path={"train": folder, "validation": folder, "test": folder}), data_dir=samples
    )
    assert [data.splits[split]["id"] for split in ("train", "validation", "test")] == [
        ["100001"],
        ["validation.100001"],
        ["test.100001"],
    ]
    assert {data.splits[split]["split_group"][0] for split in data.splits} == {"n2c2_2018:100001"}


def test_questions_and_instructions(samples: Path) -> None:
    medqa = sample(samples, "medqa").splits["train"][0]
    assert (len(medqa["choices"]), medqa["answer"]) == (5, "Thick blood smear")
    medmcqa = sample(samples, "medmcqa").splits["validation"]
    assert medmcqa["answer"] == ["A", "Femur"], "`cop` counts from 1"
    medtext = sample(samples, "medtext").splits["train"][0]
    assert medtext["text"].startswith("An invented 50-year-old reports chest tightness, worse")
    assert medtext["answer"].endswith('"seen today".')
    medical_qa = sample(samples, "medical_qa").splits["train"][0]
    assert medical_qa["text"] == "Answer this question truthfully\nInvented: what does ACE stand for?"
    assert medical_qa["answer"] == "Angiotensin-converting enzyme."
