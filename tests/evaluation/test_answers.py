"""Reading generated answers, and the metrics that they have besides those of the task type."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hf_crosstask.evaluation.answers import named, parse
from hf_crosstask.evaluation.entities import Entity
from hf_crosstask.evaluation.predictions import Predictions
from hf_crosstask.evaluation.scorer import build_scorer
from hf_crosstask.evaluation.scoring import scoring_for
from hf_crosstask.tasks.card import TaskCard
from hf_crosstask.tasks.schema import make_example, to_dataset

Make = Callable[..., TaskCard]
TEXT = "p53 binds MDM2 and p53"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("yes", "yes"),
        (" Yes.\n", "yes"),
        ("maybe, it depends", "maybe"),
        ("no way", "no way"),
        ("No", "no"),
        ("nothing", None),
        ("the answer is yes", None),
        ("", None),
    ],
)
def test_labels(answer: str, expected: str | None) -> None:
    assert named(answer, ("yes", "no", "maybe", "no way")) == expected


@pytest.mark.parametrize(
    ("type", "answer", "expected", "parsed"),
    [
        ("multilabel", "b\nA", ("a", "b"), True),
        ("multilabel", "None.", (), True),
        ("multilabel", "b\nz", ("b",), False),
        ("multilabel", "", (), False),
        ("similarity", "3.25", 3.25, True),
        ("similarity", "4 of 4", 2.0, False),
        ("similarity", "2.", 2.0, True),
        ("similarity", "5", 2.0, False),
        ("similarity", "much", 2.0, False),
        ("multiple_choice", "B", "beta", True),
        ("multiple_choice", "(c) gamma", "c", True),
        ("multiple_choice", "Beta.", "beta", True),
        ("multiple_choice", "D", None, False),
        ("multiple_choice", "because", None, False),
        ("generation", "anything", "anything", True),
        ("ner", "none", (), True),
        ("ner", "a: p53\nb: MDM2\na: p53", (("a", 0, 3), ("b", 10, 14), ("a", 19, 22)), True),
        ("ner", "a: p53\nz: MDM2", (("a", 0, 3),), False),
        ("ner", "A: p73\na: p73", (("a", 22, 22), ("a", 23, 23)), False),
        ("ner", "", (), False),
    ],
)
def test_content_is_read_strictly(make_card: Make, type: Any, answer: str, expected: Any, parsed: bool) -> None:
    card = make_card(type, ("a", "b"), "m", score_range=(0, 4))
    example = {"text": TEXT, "choices": ["alpha", "beta", "c"]}
    if type == "ner":
        expected = tuple(Entity(kind, ((start, end),)) for kind, start, end in expected)
    assert parse(card, answer, example) == (expected, parsed)


def rows(count: int) -> Any:
    from datasets import Dataset

    return Dataset.from_dict({"example_index": list(range(count))})


def examples(*fields: dict[str, Any]) -> Any:
    return to_dataset(
        [make_example(f"e{i}", "toy", TEXT, split_group=f"g{i}", **each) for i, each in enumerate(fields)]
    )


def test_answers_score_by_the_metrics_of_the_task_and_their_failures(make_card: Make, tmp_path: Path) -> None:
    card = make_card("classification", ("yes", "no"), "accuracy", formulation="generative")
    gold = examples({"labels": ["yes"]}, {"labels": ["no"]}, {"labels": ["no"]}, {"labels": ["no"]})
    scorer = build_scorer(card, gold, rows(4), {})
    likelihoods = np.array([[-1.0, 2], [-2.0, 2], [-0.5, 2], [-1.0, 2]], dtype=np.float32)
    predictions = scorer.read(["yes", "no", "yes", "dunno"], likelihoods)
    values = scorer.score(predictions)
    assert values["accuracy"] == 0.5
    assert values["parse_failure_rate"] == 0.25
    assert scorer.majority()["accuracy"] == 0.75
    again = Predictions.from_parquet(predictions.to_parquet(tmp_path / "p.parquet"))
    assert again.answers == predictions.answers
    assert scoring_for(again.target).score(again) == values
    low, high = scorer.interval(predictions, "parse_failure_rate", seed=0)
    assert 0 <= low < 0.25 < high <= 1
    with pytest.raises(ValueError, match="generative"):
        scorer.decode(likelihoods)


def test_a_mention_that_is_not_in_the_text_is_a_false_positive(make_card: Make, tmp_path: Path) -> None:
    card = make_card("ner", ("Gene",), "entity_f1", formulation="generative")
    entity = {"id": "a", "type": "Gene", "offsets": [[0, 3]], "text": ["p53"], "normalized": [], "attributes": []}
    scorer = build_scorer(card, examples({"entities": [entity]}, {}), rows(2), {})
    likelihoods = np.full((2, 2), -1, dtype=np.float32)
    predictions = scorer.read(["Gene: p53\nGene: p73", "none"], likelihoods)
    values = scorer.score(predictions)
    assert (values["entity_precision"], values["entity_recall"], values["parse_failure_rate"]) == (0.5, 1.0, 0.5)
    again = Predictions.from_parquet(predictions.to_parquet(tmp_path / "p.parquet"))
    assert (again.predicted, again.confidence) == (predictions.predicted, predictions.confidence)


def test_generation_has_rouge_bleu_and_perplexity(make_card: Make, tmp_path: Path) -> None:
    card = make_card("generation", (), "rouge_l")
    assert card.formulation == "generative"
    scorer = build_scorer(card, examples({"answer": "a b c d e"}, {"answer": "x y"}), rows(2), {})
    likelihoods = np.array([[-4.0, 4], [-2.0, 2]], dtype=np.float32)
    predictions = scorer.read(["a b c d e", ""], likelihoods)
    values = scorer.score(predictions)
    assert values["rouge_l"] == values["rouge_1"] == values["rouge_2"] == 0.5
    assert values["bleu"] == pytest.approx(np.exp(1 - 7 / 5))  # precise, but too short
    assert values["perplexity"] == pytest.approx(np.e)
    assert values["parse_failure_rate"] == 0
    assert scorer.majority() == {"rouge_1": 0, "rouge_2": 0, "rouge_l": 0, "bleu": 0}
    again = Predictions.from_parquet(predictions.to_parquet(tmp_path / "p.parquet"))
    assert scoring_for(again.target).score(again) == values
