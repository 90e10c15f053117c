from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hf_crosstask.errors import DataFormatError
from hf_crosstask.tasks.load import TaskData

Load = Callable[..., TaskData]
TASK: dict[str, Any] = {"name": "ddi", "path": "task", "options": {"validation_documents": 0}}
TEXT = "Felt raises oil, beta- and mu-salt."
ENTITIES = (
    '<entity id="d.e0" charOffset="0-3" type="drug" text="Felt"/>'
    '<entity id="d.e1" charOffset="12-14" type="brand" text="oil"/>'
    '<entity id="d.e2" charOffset="17-21;30-33" type="group" text="beta-salt"/>'
)
EFFECT = '<pair id="d.p0" e1="d.e0" e2="d.e1" ddi="true" type="effect"/>'
FALSE = '<pair id="d.p1" e1="d.e0" e2="d.e2" ddi="false"/>'


def document(*nodes: str, id: str = "d", text: str = TEXT) -> str:
    return f'<document id="{id}"><sentence id="s" text="{text}">{"".join(nodes)}</sentence></document>'.replace(
        "d.", f"{id}."
    )


def corpus(*nodes: str, text: str = TEXT) -> dict[str, str]:
    return {
        "DDICorpus/Train/DrugBank/a.xml": document(*nodes, text=text),
        "DDICorpus/Test/Test for DDI Extraction task/MedLine/0077.xml": document(
            ENTITIES, EFFECT, id="DDI-MedLine.d9"
        ),
    }


def test_pairs(load: Load) -> None:
    data = load(corpus(ENTITIES, EFFECT, FALSE), **TASK)
    first, second = data.splits["train"]
    assert (first["id"], first["split_group"], first["text"]) == ("d.p0", "ddi:d", TEXT)
    assert [e["text"] for e in first["entities"]] == [["Felt"], ["oil"]], "ends are inclusive in the file"
    assert first["relations"] == [{"id": "R1", "type": "effect", "head": "d.e0", "tail": "d.e1"}]
    assert (second["entities"][1]["text"], second["relations"][0]["type"]) == (["beta-", "salt"], "false")
    assert data.splits["test"]["split_group"] == ["pmid:77"], "MedLine files are named by their PMID"


def test_the_drugner_folder_is_not_the_test_set(load: Load) -> None:
    files = corpus(ENTITIES, EFFECT, FALSE)
    files["DDICorpus/Test/Test for DrugNER task/DrugBank/x.xml"] = "<never read"
    data = load(files, **TASK)
    assert len(data.splits["test"]) == 1
    assert data.dropped["test"] == {"documents of the DrugNER test, which is not that of this task": 1}


def test_a_true_pair_without_a_type_is_no_example(load: Load) -> None:
    untyped = '<pair id="d.p2" e1="d.e1" e2="d.e2" ddi="true"/>'
    data = load(corpus(ENTITIES, EFFECT, FALSE, untyped), **TASK)
    assert len(data.splits["train"]) == 2
    assert data.dropped == {"train": {"true pairs without a type": 1}}


def test_validation_documents(load: Load) -> None:
    files = corpus(ENTITIES, EFFECT, FALSE)
    for number in range(5):
        files[f"DDICorpus/Train/DrugBank/b{number}.xml"] = document(ENTITIES, EFFECT, FALSE, id=f"b{number}")
    data = load(files, **TASK | {"options": {"validation_documents": 2}})
    assert {split: len(rows) for split, rows in data.splits.items()} == {"train": 8, "validation": 4, "test": 1}
    with pytest.raises(DataFormatError, match="cannot hold out 90 of 6"):
        load(files, **TASK | {"options": {}})


@pytest.mark.parametrize(
    ("nodes", "problem"),
    [
        ([ENTITIES.replace("0-3", "1-4")], "the sentence has 'elt '"),
        ([ENTITIES.replace("0-3", "3-0")], "lie outside the text"),
        ([ENTITIES.replace("0-3", "0,3")], "charOffset is '0,3'"),
        ([ENTITIES.replace('"drug"', '"Drug"')], "entity type 'Drug'; valid: drug, brand"),
        ([ENTITIES, ENTITIES], "the entity d.e0 occurs twice"),
        ([ENTITIES, EFFECT.replace("effect", "EFFECT")], "interaction 'EFFECT' is not in the label set"),
        ([ENTITIES, EFFECT.replace("effect", "false")], "interaction 'false' is not in the label set"),
        ([ENTITIES, EFFECT.replace('"true"', '"yes"')], "found 'yes'"),
        ([ENTITIES, EFFECT.replace('"true"', '"false"')], "without interaction has the type 'effect'"),
        ([ENTITIES, EFFECT.replace('e2="d.e1"', 'e2="d.e9"')], "'d.e9' is no entity of this sentence"),
        ([ENTITIES, EFFECT.replace('e2="d.e1"', 'e2="d.e0"')], "a pair of d.e0 with itself"),
        ([ENTITIES, EFFECT.replace('e2="d.e1"', "")], "<pair> has no 'e2'"),
        (["<thing/>"], "expected <entity> or <pair>, found <thing>"),
    ],
)
def test_broken_documents(load: Load, nodes: list[str], problem: str) -> None:
    with pytest.raises(DataFormatError, match=problem):
        load(corpus(*nodes), **TASK)


def test_documents_occur_once(load: Load) -> None:
    files = corpus(ENTITIES, EFFECT, FALSE)
    files["DDICorpus/Train/MedLine/b.xml"] = files["DDICorpus/Train/DrugBank/a.xml"]
    with pytest.raises(DataFormatError, match="the document d occurs twice in the train part"):
        load(files, **TASK)
