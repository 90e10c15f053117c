"""The metrics as functions and as offline `evaluate.Metric` classes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hf_crosstask.evaluation import metrics
from hf_crosstask.evaluation.entities import Entity

LABELS = ("none", "x", "y")


def test_entity_functions() -> None:
    gold = [[Entity("A", ((0, 3),)), Entity("B", ((4, 6),))], []]
    predicted = [[Entity("A", ((0, 3),))], [Entity("A", ((0, 3),))]]
    assert metrics.entity_scores(gold, predicted) == {"precision": 0.5, "recall": 0.5, "f1": 0.5}
    assert metrics.entity_scores([[]], [[]]) == {"precision": 0.0, "recall": 0.0, "f1": 0.0}
    accepted = [[], [Entity("A", ((0, 3),))]]
    assert metrics.alternative_entity_scores(gold, accepted, predicted)["precision"] == 1.0


def test_merged_types_and_the_positive_class() -> None:
    gold, predicted = [[Entity("A", ((0, 3),)), Entity("B", ((4, 6),))]], [[Entity("B", ((0, 3),))]]
    assert metrics.merged_entity_scores(gold, predicted) == {
        "precision": 1.0,
        "recall": 0.5,
        "f1": pytest.approx(2 / 3),
    }
    assert metrics.positive_f1(["1", "1", "0"], ["1", "0", "0"], "1") == pytest.approx(2 / 3)
    assert metrics.positive_f1(["0"], ["0"], "1") == 0.0


def test_label_sets_of_documents_and_examples() -> None:
    gold, predicted = [["a"], ["b"], []], [[], ["a"], []]
    values = metrics.label_set_scores(gold, predicted, ["a", "b"], ["p", "p", "q"])
    assert values["document_micro_f1"] == pytest.approx(2 / 3)
    assert values["micro_f1"] == 0.0
    alone = metrics.label_set_scores(gold, predicted, ["a", "b"])
    assert alone["document_micro_f1"] == alone["micro_f1"] == 0.0


def test_relation_function_with_lost_gold() -> None:
    """4 gold relations of which one has no candidate; 2 right, 1 wrong, 1 missed."""
    gold = [("x",), ("y",), ("y",), ("none",)]
    scores = metrics.relation_scores(gold, ["x", "y", "none", "y"], LABELS, "none", {"x": 1})
    assert scores["micro_precision"] == pytest.approx(2 / 3)
    assert scores["micro_recall"] == pytest.approx(2 / 4)
    assert scores["micro_f1"] == pytest.approx(4 / 7)
    assert scores["micro_f1_candidates"] == pytest.approx(4 / 6)
    assert scores["macro_f1"] == pytest.approx((2 / 3 + 2 / 4) / 2)


def test_pubmedqa_majority_row() -> None:
    """276 yes, 169 no, 55 maybe, all answered yes: 55.2 % accuracy, 23.7 macro-F1 (science.md, C1)."""
    gold = ["yes"] * 276 + ["no"] * 169 + ["maybe"] * 55
    assert metrics.accuracy(gold, ["yes"] * 500) == pytest.approx(0.552)
    assert metrics.macro_f1(gold, ["yes"] * 500) == pytest.approx(0.2371, abs=5e-5)


def test_evaluate_classes(tmp_path: Path) -> None:
    """Values through `evaluate`'s own machinery (batches, Arrow files), without any network."""
    tags = metrics.EntityF1(cache_dir=str(tmp_path))
    tags.add_batch(predictions=[["B-A", "I-A", "O"]], references=[["B-A", "I-A", "B-A"]])
    tags.add_batch(predictions=[["I-A", "O"]], references=[["O", "O"]])
    assert tags.compute() == {"precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3)}
    gene, form = {"type": "GENE", "start": 5, "end": 9}, {"type": "GENE", "start": 3, "end": 9}
    accepted = metrics.AlternativeEntityF1(cache_dir=str(tmp_path))
    values = accepted.compute(predictions=[[form], []], references=[[gene], []], alternatives=[[form], []])
    assert values == {"precision": 1.0, "recall": 1.0, "f1": 1.0}
    relation = metrics.RelationF1(cache_dir=str(tmp_path))
    values = relation.compute(
        predictions=["x", "none"], references=[["x"], ["y"]], labels=LABELS, negative="none", lost_gold={"y": 1}
    )
    assert values["micro_f1"] == pytest.approx(0.5)
    assert values["micro_f1_candidates"] == pytest.approx(2 / 3)
    positive = metrics.PositiveF1(cache_dir=str(tmp_path))
    assert positive.compute(predictions=["1", "0"], references=["1", "1"], positive="1") == {
        "positive_f1": pytest.approx(2 / 3)
    }
    sets = metrics.LabelSetF1(cache_dir=str(tmp_path))
    values = sets.compute(predictions=[["a"], []], references=[["a"], ["a"]], labels=["a"], documents=["p", "p"])
    assert (values["document_micro_f1"], values["micro_f1"]) == (1.0, pytest.approx(2 / 3))
    for kind, value in ((metrics.Accuracy, "accuracy"), (metrics.MacroF1, "macro_f1")):
        computed = kind(cache_dir=str(tmp_path)).compute(predictions=["x", "x"], references=["x", "y"])
        assert json.loads(json.dumps(computed)) == {value: pytest.approx({"accuracy": 0.5, "macro_f1": 1 / 3}[value])}


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        metrics.Nonsense  # noqa: B018
    assert "EntityF1" in dir(metrics)


def test_imports_are_lazy() -> None:
    heavy = "torch transformers datasets evaluate sklearn pandas pyarrow seqeval"
    modules = "metrics scorer scoring result table environment predictions"
    code = (
        f"import sys, importlib\nfor m in '{modules}'.split(): importlib.import_module('hf_crosstask.evaluation.' + m)\n"
        f"print([m for m in '{heavy}'.split() if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
