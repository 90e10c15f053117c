"""Wrong recipes and wrong data: exit code 2, one message that names place and remedy, and nothing written."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

OPTIONS = {"train": 40, "validation": 8, "test": 8}
RECIPE: dict[str, Any] = {
    "name": "small",
    "strategy": {"name": "S1"},
    "tasks": [{"name": "synthetic_ner", "options": OPTIONS}],
    "model": {"name_or_path": "tiny:bert", "max_length": 64},
    "budget": {"steps": 2},
    "training": {"tokens_per_step": 256, "disable_tqdm": True},
}

Refused = Callable[..., None]


@pytest.fixture
def refused(train) -> Refused:
    """Checks that a recipe is refused: with exit code 2, one message holding all `parts`, and nothing left behind."""

    def check(recipe: dict[str, Any] | str, overrides: list[str], parts: list[str]) -> None:
        text = recipe if isinstance(recipe, str) else json.dumps(recipe)
        Path("recipe.json").write_text(text, encoding="utf-8")
        before = sorted(os.listdir())
        done = train("recipe.json", "output_dir=run", *overrides)
        assert done.code == 2, done.out + done.err
        printed = done.out + done.err
        assert "Traceback" not in printed
        assert printed.count("error: ") == 1
        message = done.err[done.err.index("error: ") :]
        for part in parts:
            assert part in message, message
        assert sorted(os.listdir()) == before

    return check


WRONG_RECIPES: dict[str, tuple[dict[str, Any], list[str], list[str]]] = {
    "typo in a key": (
        {"trainin": {}},
        [],
        ["recipe.json: 1 problem", "trainin: unknown key; did you mean 'training'?"],
    ),
    "typo in a nested key": (
        {},
        ["training.lerning_rate=1"],
        ["training.lerning_rate", "did you mean 'learning_rate'?"],
    ),
    "wrong type": ({"budget": {"steps": "two"}}, [], ["budget.steps: expected a whole number", '"two"']),
    "several problems at once": (
        {"budget": {"steps": 0}, "nam": "x"},
        ["model.max_length=true"],
        ["3 problems", "budget.steps", "nam: unknown key", "model.max_length"],
    ),
    "unknown task": ({"tasks": ["synthetic_nre"]}, [], ["tasks[0]", "unknown task", "'synthetic_ner'"]),
    "own task without a reader": (
        {"tasks": [{"name": "mine", "type": "ner"}]},
        [],
        ["tasks[0]", "'mine'", "`reader` is missing"],
    ),
    "unknown option of a reader": (
        {"tasks": [{"name": "synthetic_ner", "options": {"trian": 4}}]},
        [],
        ["synthetic_ner", "options.trian", "did you mean 'train'?"],
    ),
    "two budgets": ({}, ['budget={"steps": 2, "epochs": 1}'], ["budget", "exactly one", "steps"]),
    "a budget below the shortest example": ({}, ['budget={"tokens": 3}'], ["budget", "3 tokens", "shortest"]),
    "a step below one example": ({}, ["training.tokens_per_step=2"], ["tokens", "= 2. Raise training."]),
    "a micro-batch below the longest example": ({}, ["training.micro_batch_tokens=4"], ["micro_batch_tokens"]),
    "a missing extended file": ({"extends": "strategies/s9.json"}, [], ["extends: no file 'strategies/s9.json'"]),
    "no such model on the Hub": (
        {},
        ["model.name_or_path=nobody/no-such-model"],
        ["model.name_or_path: cannot load 'nobody/no-such-model'", "tiny:<family>"],
    ),
    "no such model folder": ({}, ["model.name_or_path=./weights"], ["model.name_or_path: cannot load './weights'"]),
    "unknown tiny model": ({}, ["model.name_or_path=tiny:brt"], ["tiny:brt", "did you mean 'tiny:bert'?"]),
    "no such module for the adapter": (
        {},
        ['model.adapter={"target_modules": ["q_proj"]}'],
        ["model.adapter.target_modules", "q_proj", "query"],
    ),
    "inputs longer than the model": ({}, ["model.max_length=100000"], ["max_length 100000", "or less"]),
    "training arguments that contradict each other": (
        {},
        ["training.load_best_model_at_end=true", "training.eval_strategy=epoch", "training.save_strategy=steps"],
        ["training: ", "load_best_model_at_end"],
    ),
    "weights for another task": (
        {},
        ['mixing={"sampling": "explicit", "weights": {"synthetic_nr": 1}}'],
        ["mixing.weights", "synthetic_nr"],
    ),
    "a multi-task strategy for one task": ({}, ["strategy=s2"], ["strategy", "at least two tasks"]),
    "token control without tokens": ({}, ["strategy=s1_token_controlled"], ["budget", '"match"', '"tokens"']),
}


@pytest.mark.parametrize("name", WRONG_RECIPES)
def test_a_wrong_recipe(name: str, refused: Refused) -> None:
    changes, overrides, parts = WRONG_RECIPES[name]
    refused(RECIPE | changes, overrides, parts)


def test_json_syntax(refused: Refused) -> None:
    refused('{\n  "name": "small",\n  "tasks": ["synthetic_ner",]\n}', [], ["recipe.json:3:", "is not valid JSON"])


def test_no_such_recipe(train) -> None:
    done = train("quickstrat.json", "output_dir=run")
    assert done.code == 2
    assert done.err.startswith("error: quickstrat.json: 1 problem\n  no such file; did you mean ")
    assert "quickstart.json?" in done.err
    assert os.listdir() == []


def ner(reader: str, **fields: Any) -> dict[str, Any]:
    """A recipe with an NER task of the user's own."""
    task = {"name": "mine", "type": "ner", "reader": reader, "path": "mine", "labels": ["Drug"]} | fields
    return RECIPE | {"tasks": [task], "data_dir": "data"}


def classes(reader: str, **fields: Any) -> dict[str, Any]:
    """A recipe with a classification task of the user's own."""
    return ner(reader, type="classification", labels=["ill", "well"], **fields)


IOB = "The\tO\nglorvin\tB-Drug\ndose\tO\n\nNo\tO\nbraskil\tB-Drug\ntoday\tO\n"
ENTITY = '{"text": "No glorvin today", "entities": [{"type": "Drug", "start": 3, "end": 10, "text": "glorvin"}]}\n'
ROWS = '{"text": "a cough", "labels": "ill"}\n{"text": "no cough", "labels": "well"}\n'

WRONG_DATA: dict[str, tuple[dict[str, Any], str, str | bytes, list[str]]] = {
    "an IOB line with too many columns": (
        ner("iob"),
        "train.tsv",
        IOB.replace("dose\tO", "dose\tO\textra"),
        ["train.tsv:3: 3 columns, but the lines above have 2"],
    ),
    "an IOB line with too few columns": (
        ner("iob"),
        "train.tsv",
        IOB.replace("today\tO", "today"),
        ["train.tsv:7: 1 columns, but the lines above have 2"],
    ),
    "an illegal IOB tag": (
        ner("iob"),
        "test.tsv",
        IOB.replace("braskil\tB-Drug", "braskil\tI-Drug"),
        ["test.tsv:6", "I-Drug", "IOB2"],
    ),
    "an unknown entity type": (
        ner("iob"),
        "train.tsv",
        IOB.replace("glorvin\tB-Drug", "glorvin\tB-Drugg"),
        ["train.tsv:2", "Drugg", "Drug"],
    ),
    "an offset beside the entity": (
        ner("jsonl"),
        "train.jsonl",
        ENTITY + ENTITY.replace('"start": 3', '"start": 2'),
        ["train.jsonl:2", "'glorvin'", "' glorvin'"],
    ),
    "an offset outside the text": (
        ner("jsonl"),
        "train.jsonl",
        ENTITY + ENTITY.replace(', "text": "glorvin"', "").replace('"end": 10', '"end": 100'),
        ["mine", "100"],
    ),
    "a broken JSON line": (ner("jsonl"), "train.jsonl", ENTITY + ENTITY[:-3] + "\n", ["train.jsonl:2", "JSON"]),
    "an unknown label": (
        classes("jsonl"),
        "train.jsonl",
        ROWS + '{"text": "fever", "labels": "il"}\n',
        ["train.jsonl:3", "the label 'il' is not in the label set ['ill', 'well']"],
    ),
    "another encoding": (
        classes("jsonl"),
        "train.jsonl",
        ROWS.encode() + '{"text": "Fieber über 39", "labels": "ill"}\n'.encode("latin-1"),
        ["train.jsonl:3", "is not valid utf-8", "options.encoding"],
    ),
    "a missing column": (
        classes("csv", columns={"text": "note", "labels": "state"}),
        "train.csv",
        "note,label\na cough,ill\nno cough,well\n",
        ["train.csv", "no column 'state' for the field `labels`", "'note', 'label'"],
    ),
    "a row with too few cells": (
        classes("csv"),
        "train.csv",
        "text,labels\na cough,ill\nno cough\n",
        ["train.csv:3: 1 cells, but 2 columns"],
    ),
    "an empty file": (classes("jsonl"), "train.jsonl", "", ["the train split holds no examples"]),
    "one label throughout": (
        classes("jsonl"),
        "train.jsonl",
        ROWS.replace("well", "ill") * 20,
        ["every training example has the label 'ill'", "right column"],
    ),
}


@pytest.mark.parametrize("name", WRONG_DATA)
def test_wrong_data(name: str, refused: Refused) -> None:
    recipe, wrong, content, parts = WRONG_DATA[name]
    write_splits(recipe)
    (Path("data/mine") / wrong).write_bytes(content.encode() if isinstance(content, str) else content)
    refused(recipe, [], [*parts, "mine"])


def write_splits(recipe: dict[str, Any]) -> None:
    """Right files for every split of the recipe's task."""
    (task,) = recipe["tasks"]
    right = {"iob": IOB, "csv": "note,state,text,labels\n1,2,a cough,ill\n3,4,no cough,well\n"}
    right["jsonl"] = ENTITY if task["type"] == "ner" else ROWS
    extension = {"iob": "tsv"}.get(task["reader"], task["reader"])
    folder = Path("data/mine")
    folder.mkdir(parents=True)
    for split in ("train", "dev", "test"):
        (folder / f"{split}.{extension}").write_text(right[task["reader"]])


def test_missing_files(refused: Refused) -> None:
    refused(ner("iob"), [], ["data/mine: no such folder", "Check `path` and `data_dir`"])
    write_splits(ner("iob"))
    Path("data/mine/test.tsv").unlink()
    refused(ner("iob"), [], ["task mine has no test split, which evaluation.split needs", "train, validation"])
    Path("data/mine/train.tsv").unlink()
    refused(ner("iob"), [], ["data/mine: no file of the train split", "train|training", "dev.tsv"])
    mapped = ner("iob", path={"train": "mine/dev.tsv", "test": "mine/tset.tsv"})
    refused(mapped, [], ["no such file: data/mine/tset.tsv"])
