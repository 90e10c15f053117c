from __future__ import annotations

import numpy as np
import pytest
from datasets import Dataset

from hf_crosstask.encoding.links import Mention, certain, mark
from hf_crosstask.errors import InputError
from hf_crosstask.evaluation.entities import Entity
from hf_crosstask.evaluation.scorer import build_scorer
from hf_crosstask.evaluation.slots import SlotBaseline, mention_text, slot_names
from hf_crosstask.tasks.readers.share2015 import SLOTS
from hf_crosstask.tasks.schema import make_entity, make_example, to_dataset

TYPE = "Disease_Disorder"
TEXT = "chest  Pain and liver enlarged ; fever"
MENTIONS = {"chest": [(0, 11)], "liver": [(16, 21), (22, 30)], "fever": [(33, 38)]}


def example(number, mentions):
    """An example with mentions of `MENTIONS`: name to (CUI or None, attributes)."""
    entities = [
        make_entity(
            f"T{i}",
            TYPE,
            MENTIONS[name],
            [TEXT[a:b] for a, b in MENTIONS[name]],
            normalized=[{"db": "UMLS", "id": cui}] if cui else [],
            attributes=[{"name": key, "value": value} for key, value in attributes.items()],
        )
        for i, (name, (cui, attributes)) in enumerate(mentions.items())
    ]
    return make_example(f"e{number}", "toy", TEXT, split_group=f"e{number}", entities=entities)


@pytest.fixture
def train():
    return to_dataset(
        [
            example(0, {"chest": ("C0000002", {"Neg": "yes"}), "liver": (None, {"Neg": "no"})}),
            example(1, {"chest": ("C0000001", {"Neg": "yes", "Neg_cue": "1-2"}), "liver": ("C0000003", {})}),
            example(2, {"chest": ("C0000001", {"Neg": "no"}), "liver": (None, {"Neg": "yes", "Severity": "severe"})}),
        ]
    )


def test_mentions_are_compared_by_their_words():
    assert mention_text(TEXT, Entity(TYPE, ((0, 11),))) == "chest pain"
    assert mention_text(TEXT, Entity(TYPE, ((0, 5), (7, 11)))) == "chest pain"


def test_the_most_frequent_value(train):
    baseline = SlotBaseline.of(train, "share2014")
    assert slot_names("share2014") == ("CUI",)
    chest, liver, fever = (Entity(TYPE, tuple(MENTIONS[name])) for name in MENTIONS)
    assert baseline.fill(TEXT, chest) == ("C0000001",)
    assert baseline.fill(TEXT, liver) == ("CUI-less",)
    assert baseline.fill(TEXT, fever) == ("CUI-less",)
    filled = dict(zip(slot_names("share2015"), SlotBaseline.of(train, "share2015").fill(TEXT, chest), strict=True))
    assert filled == {"CUI": "C0000001", **dict.fromkeys(SLOTS, "null"), "Neg": "yes"}


def test_a_scorer_fills_in_slots(train, make_card):
    card = make_card("span_ner", (TYPE,), "cui_accuracy", official="share2014", reach=8)
    examples = to_dataset([example(0, {"chest": ("C0000001", {}), "liver": ("C0000003", {})}), example(1, {})])
    encoded = to_rows([(0, range(7)), (1, range(7))])
    scorer = build_scorer(card, examples, encoded, {}, train=train)
    links = said([(0, 2)], [(3, 4), (4, 5)])
    predictions = scorer.decode([links, np.full_like(links, -3.0)])
    assert predictions.predicted[0] == tuple(Entity(TYPE, tuple(MENTIONS[name])) for name in ("chest", "liver"))
    assert predictions.predicted_slots == ((("C0000001",), ("CUI-less",)), ())
    values = scorer.score(predictions)
    assert (values["entity_f1"], values["cui_accuracy"], values["cui_accuracy_relaxed"]) == (1.0, 0.5, 0.5)
    assert set(scorer.majority().values()) == {0.0}
    with pytest.raises(InputError, match="share2014 needs the training examples"):
        build_scorer(card, examples, encoded, {})


def to_rows(rows):
    """Encoded rows: (example, its words that the row shows)."""
    return Dataset.from_dict(
        {"example_index": [index for index, _ in rows], "word_index": [list(words) for _, words in rows]}
    )


def said(*mentions):
    """The logits of a model that is certain of mentions, given as parts in words."""
    return certain(mark([Mention(0, tuple(parts)) for parts in mentions], 7, 8), 1).astype(np.float32)


def test_logits_must_fit_the_task(train, make_card):
    card = make_card("span_ner", (TYPE,), "entity_f1", reach=8)
    scorer = build_scorer(card, to_dataset([example(0, {})]), to_rows([(0, range(7))]), {})
    with pytest.raises(ValueError, match=r"logits of shape \[words, 8, 2\]"):
        scorer.decode([np.zeros((7, 8, 3), dtype=np.float32)])
