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
        (OWN | {"type": "ranking"}, ["`primary_metric` is missing"]),
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
