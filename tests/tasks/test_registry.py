from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from hf_crosstask.errors import InputError
from hf_crosstask.tasks import registry
from hf_crosstask.tasks.card import TaskSpec
from hf_crosstask.tasks.readers import READERS
from hf_crosstask.tasks.registry import builtin_cards, resolve_card

OWN: dict[str, Any] = {"name": "ncbi", "type": "ner", "reader": "iob", "path": "ncbi", "labels": ["Disease"]}
BINARY: dict[str, Any] = {"name": "mine", "type": "classification", "reader": "tsv", "path": "x"}
BINARY |= {"labels": ["good", "bad"]}


def test_registry_cards_are_complete() -> None:
    cards = builtin_cards()
    assert {"bc2gm", "chemprot", "pubmedqa", "synthetic_ner", "synthetic_relation"} <= set(cards)
    assert registry.BUILTIN is cards
    for name, card in cards.items():
        assert card.name == name
        assert card.reader in READERS
        assert resolve_card(TaskSpec(name=name)) == card
        assert card.description
        assert card.licence != "unknown"
        assert card.obtain
    for name in ("bc2gm", "chemprot", "pubmedqa"):
        best = cards[name].best_published
        assert best is not None
        assert best.metric == cards[name].primary_metric
        assert 0 < best.value < 1
        assert cards[name].provenance == "pubmed"
        assert cards[name].homepage.startswith("https://")


def test_own_task_in_json_alone() -> None:
    card = resolve_card(TaskSpec(**OWN))
    assert (card.level, card.primary_metric, card.labels) == (1, "entity_f1", ("Disease",))
    assert card.secondary_metrics == ("entity_precision", "entity_recall")
    card = resolve_card(
        TaskSpec(**OWN | {"type": "classification", "labels": ["a", "b"], "primary_metric": "macro_f1"})
    )
    assert (card.level, card.primary_metric, card.secondary_metrics) == (2, "macro_f1", ("accuracy",))
    card = resolve_card(TaskSpec(name="syn", type="classification", reader="synthetic", labels=("a", "b")))
    assert card.path is None


def test_recipe_fields_lie_over_the_registry() -> None:
    card = resolve_card(TaskSpec(name="pubmedqa", path="elsewhere", options={"encoding": "utf-8"}))
    assert (card.path, card.options) == ("elsewhere", {"fold": 0, "encoding": "utf-8"})
    assert card.labels == builtin_cards()["pubmedqa"].labels
    columns = {"text": "sentence", "labels": "y"}
    card = resolve_card(TaskSpec(name="pubmedqa", reader="csv", path="here", columns=columns))
    assert (card.options, card.columns) == ({}, columns)


def test_variant_changes_the_card() -> None:
    card = resolve_card(TaskSpec(name="bc2gm", options={"variant": "original"}))
    assert card.path == "bc2gm/original"
    assert "entity_f1_alternatives" in card.secondary_metrics
    assert card.published_counts["test"] == {"examples": 5000, "entities": 6331, "alternatives": 5068}
    assert resolve_card(TaskSpec(name="bc2gm", path="p", options={"variant": "original"})).path == "p"


def test_defaults_of_rankings_and_scores() -> None:
    card = resolve_card(TaskSpec(name="mine", type="ranking", reader="jsonl", path="x"))
    assert (card.labels, card.primary_metric, card.secondary_metrics[0]) == (("false", "true"), "map", "avg_rec")
    card = resolve_card(TaskSpec(name="mine", type="similarity", reader="tsv", path="x", score_range=(1, 5)))
    assert (card.score_range, card.primary_metric) == ((1.0, 5.0), "pearson")
    assert resolve_card(TaskSpec(name="chemprot")).score_range == (0.0, 1.0)


def test_positive_label_is_named_or_speaks_for_itself() -> None:
    assert resolve_card(TaskSpec(**BINARY, primary_metric="positive_f1", positive_label="bad")).positive_label == "bad"
    speaking = BINARY | {"labels": ["Positive", "Negative"], "primary_metric": "positive_f1"}
    assert resolve_card(TaskSpec(**speaking)).positive_label == "Positive"
    assert resolve_card(TaskSpec(**(speaking | {"primary_metric": "accuracy"}))).positive_label is None
    assert resolve_card(TaskSpec(name="gad")).positive_label == "1"


@pytest.mark.parametrize(
    ("fields", "messages"),
    [
        ({"name": "bc2gn"}, ["unknown task 'bc2gn'; did you mean 'bc2gm'?", "needs `type`, `reader`"]),
        ({"name": "mine", "type": "ner"}, ["`reader` is missing"]),
        ({"name": "mine", "reader": "iob"}, ["`type` is missing"]),
        (OWN | {"reader": "iobb"}, ["unknown reader 'iobb'; did you mean 'iob'?"]),
        (OWN | {"labels": None, "path": None}, ["`labels` is missing", "`path` is missing"]),
        (OWN | {"labels": ["A", "A", " "]}, ["repeats 'A'", "an empty label"]),
        (OWN | {"type": "classification"}, ["has one label"]),
        (OWN | {"negative_label": "Disease"}, ["for relation tasks"]),
        (OWN | {"type": "ranking"}, ["`labels` of a ranking task are 'false' and 'true'"]),
        (OWN | {"type": "similarity", "score_range": [4, 0]}, ["`score_range` is [4, 0]"]),
        (BINARY | {"primary_metric": "positive_f1"}, ["`positive_label` is missing"]),
        (BINARY | {"positive_label": "goood"}, ["did you mean 'good'"]),
        (BINARY | {"type": "multilabel", "positive_label": "good"}, ["for classification tasks"]),
        ({"name": "chemprot", "negative_label": "flase"}, ["did you mean 'false'"]),
        ({"name": "chemprot", "type": "ner"}, ["give your own task another name"]),
        ({"name": "chemprot", "max_examples": {"tset": 3, "test": 0}}, ["did you mean 'test'", "at least one"]),
    ],
)
def test_every_problem_is_named(fields: dict[str, Any], messages: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        resolve_card(TaskSpec(**fields))
    assert all(message in str(caught.value) for message in messages), str(caught.value)


def test_registry_imports_nothing_heavy() -> None:
    code = (
        "import sys; from hf_crosstask.tasks.registry import builtin_cards; builtin_cards(); "
        "print([m for m in ('torch', 'transformers', 'datasets', 'pandas', 'pyarrow', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
