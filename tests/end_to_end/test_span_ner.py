"""Discontinuous and overlapping disorders: invented notes in ShARe's formats, trained and scored through a recipe."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from hf_crosstask.evaluation.predictions import Predictions
from hf_crosstask.evaluation.result import read_result
from hf_crosstask.tasks.readers.share2014 import write_share2014
from hf_crosstask.tasks.readers.share2015 import write_share2015
from hf_crosstask.tasks.schema import make_entity, make_example

TYPE = "Disease_Disorder"
PARTS = ["left atrium", "liver", "spleen", "right kidney", "aorta"]
FINDINGS = ["dilated", "enlarged", "tender"]
PLAIN = ["fever", "chest pain", "diabetes mellitus", "cough"]
CUIS = {name: f"C{number:07}" for number, name in enumerate([*PARTS, *FINDINGS, *PLAIN], start=1)}


def note(chance: random.Random, name: str, sentences: int) -> dict[str, Any]:
    """A note: half of its disorders are discontinuous, some share words."""
    text, entities = "", []

    def add(words: str, *into: list[tuple[int, int]]) -> None:
        nonlocal text
        for spans in into:
            spans.append((len(text), len(text) + len(words)))
        text += words

    for _ in range(sentences):
        disorders: dict[str, list[tuple[int, int]]] = {}
        finding = chance.choice(FINDINGS)
        if chance.random() < 0.5:
            first, second = chance.sample(PARTS, 2)
            one, two = (disorders.setdefault(f"{part} {finding}", []) for part in (first, second))
            add("The ")
            add(first, one)
            add(" and ")
            add(second, two)
            add(chance.choice([" are mildly ", " appear ", " are very "]))
            add(finding, one, two)
            add(".\n")
        else:
            add(chance.choice(["Denies ", "History of ", "She has "]))
            plain = chance.choice(PLAIN)
            add(plain, disorders.setdefault(plain, []))
            add(" since the spring.\n")
        for words, spans in disorders.items():
            parts = [text[a:b] for a, b in spans]
            cui = CUIS[words if words in CUIS else words.removesuffix(f" {finding}")]
            normalized = [{"db": "UMLS", "id": cui}]
            attributes = [{"name": "Neg", "value": "no"}, {"name": "Subj", "value": "patient"}]
            entities.append(
                make_entity(f"T{len(entities)}", TYPE, spans, parts, normalized=normalized, attributes=attributes)
            )
    return make_example(name, "notes", text, split_group=name, entities=entities)


@pytest.fixture
def recipe(tmp_path: Path):
    """Writes a recipe on notes in one of the formats."""

    def make(task: str, write: Any, **changes: Any) -> str:
        for split, count in (("train", 50), ("devel", 4), ("test", 8)):
            chance = random.Random(split)
            notes = [note(chance, f"{split}-{number:03}", chance.randint(4, 20)) for number in range(count)]
            folder = tmp_path / "data" / "notes" / split
            folder.mkdir(parents=True)
            write(notes, folder)
        text = {
            "name": task,
            "strategy": {"name": "S1"},
            "tasks": [{"name": task, "path": "notes", "reach": 12}],
            "model": {"name_or_path": "tiny:bert", "max_length": 64, "stride": 24},
            "budget": {"epochs": 12},
            "training": {"tokens_per_step": 512, "learning_rate": 2e-3, "disable_tqdm": True},
            "data_dir": "../data",
            **changes,
        }
        Path(f"{task}.json").write_text(json.dumps(text))
        return f"{task}.json"

    return make


@pytest.mark.slow
def test_semeval_2014(recipe, train) -> None:
    done = train(recipe("semeval2014t7", write_share2014))
    assert done.code == 0, done.err
    task = read_result("outputs/semeval2014t7").tasks["semeval2014t7"]
    assert (task.type, task.metrics.primary, task.metrics.majority) == ("span_ner", "entity_f1", 0.0)
    values = {name: metric.value for name, metric in task.metrics.values.items()}
    assert values["relaxed_f1"] >= values["entity_f1"] > 0.9
    assert values["cui_accuracy_relaxed"] == 1.0  # every mention of the test notes is in a training note
    assert values["cui_accuracy"] == pytest.approx(values["entity_recall"])
    encoding = task.encoding["test"]
    assert encoding["entities_discontinuous"] == encoding["entities_misaligned"] == encoding["entities_spurious"] == 0
    assert encoding["examples_windowed"] > 0
    assert encoding["entities_cut"] == 0
    assert 0.3 < encoding["bio_discontinuous"] / encoding["entities"] < 0.8
    found = Predictions.from_parquet("outputs/semeval2014t7/predictions/semeval2014t7.parquet")
    assert any(len(entity.offsets) > 1 for row in found.predicted for entity in row)
    assert all(0 < confidence <= 1 for row in found.confidence for confidence in row)


def test_semeval_2015(recipe, train) -> None:
    done = train(recipe("semeval2015t14", write_share2015, budget={"steps": 2}))
    assert done.code == 0, done.err
    task = read_result("outputs/semeval2015t14").tasks["semeval2015t14"]
    assert task.metrics.primary == "task1_strict_f1"
    assert {"task1_relaxed_f1", "task2_f1_weighted_accuracy", "task2_weighted_accuracy"} <= task.metrics.values.keys()
