"""The cards of issue 3: every task of its table, its alias, and what a credentialed card must say."""

from __future__ import annotations

from pathlib import Path

import pytest

from hf_crosstask.errors import InputError
from hf_crosstask.tasks.card import TaskSpec
from hf_crosstask.tasks.load import load_task
from hf_crosstask.tasks.readers import READERS
from hf_crosstask.tasks.registry import builtin_cards, resolve_card

TABLE = {
    "jnlpba": "ner",
    "ddi": "relation",
    "gad": "classification",
    "hoc": "multilabel",
    "biosses": "similarity",
    "semeval2014t7": "span_ner",
    "semeval2015t14": "span_ner",
    "semeval2016t12": "ner",
    "semeval2017t3": "ranking",
    "n2c2_2018_ade": "ner",
    "n2c2_2022_cmed": "ner",
    "pubmed_rct": "classification",
    "medqa": "multiple_choice",
    "medmcqa": "multiple_choice",
    "medtext": "generation",
    "medical_qa": "generation",
}
GATED = {"semeval2014t7", "semeval2015t14", "semeval2016t12", "n2c2_2018_ade", "n2c2_2022_cmed", "semeval2021t6"}


@pytest.mark.parametrize("name", sorted(TABLE))
def test_every_task_of_the_table(name: str) -> None:
    card = builtin_cards()[name]
    assert card.type == TABLE[name]
    assert card.level == (1 if card.type in ("ner", "span_ner") else 2)
    assert card.reader in READERS
    assert card.obtain
    assert card.homepage
    assert card.licence != "unknown"
    assert card.provenance != "user"
    assert (card.access == "credentialed") == (name in GATED)
    if card.best_published is not None:
        assert 0 < card.best_published.value < 1
        assert card.best_published.source


def test_credentialed_cards_say_how_to_apply_and_where_to_put_the_files() -> None:
    cards = [card for card in builtin_cards().values() if card.access == "credentialed"]
    assert {card.name for card in cards} > GATED
    for card in cards:
        assert "<data_dir>/" in card.obtain
        assert str(card.path) in card.obtain
        assert "agreement" in card.obtain


def test_every_card_resolves() -> None:
    for name in builtin_cards():
        assert resolve_card(TaskSpec(name=name)).name == name


def test_derived_tasks_read_the_same_files_under_the_same_corpus() -> None:
    cards = builtin_cards()
    for name, card in cards.items():
        for base in ("semeval2016t12", "n2c2_2018_ade", "n2c2_2022_cmed"):
            if name.startswith(f"{base}_"):
                assert card.path == cards[base].path
                assert card.options["corpus"] == cards[base].options["corpus"]


def test_the_alias_says_what_it_stands_for(shared_data: Path) -> None:
    samples = shared_data / "format_examples"
    with pytest.warns(
        UserWarning, match=r"alias of 'n2c2_2022_cmed': SemEval-2021 Task 6 detects persuasion .* memes"
    ):
        data = load_task(TaskSpec(name="semeval2021t6"), data_dir=samples)
    assert data.card.labels == builtin_cards()["n2c2_2022_cmed"].labels
    assert data.splits["train"][0]["split_group"] == "n2c2_2022:101-01"
    spec = TaskSpec(name="semeval2021t6", options={"variant": "n2c2_2018_ade"})
    with pytest.warns(UserWarning, match="alias of 'n2c2_2018_ade'"):
        ade = load_task(spec, data_dir=samples)
    assert ade.card.labels == builtin_cards()["n2c2_2018_ade"].labels
    assert ade.splits["train"]["id"] == ["100001"]
    with pytest.raises(InputError, match="unknown variant 'memes'"):
        load_task(TaskSpec(name="semeval2021t6", options={"variant": "memes"}), data_dir=samples)


def test_a_missing_folder_says_how_to_obtain_it(tmp_path: Path) -> None:
    """A missing credentialed folder gives the card's advice, not a bare error."""
    with pytest.raises(InputError, match=r"no such folder.*How to obtain it: .*agreement.*n2c2_2018_track2"):
        load_task(TaskSpec(name="n2c2_2018_ade"), data_dir=tmp_path)
