"""What official scorers compare of a mention besides its span and type, and a baseline that fills it in.

Models of this library find spans and types. For the parts of the official evaluations that want more, predicted mentions
get values from the training data, which are therefore the same for every model: a comparison is one of spans.

- ShARe (`share2014`, `share2015`): the CUI that mentions of the same words most often have, else `CUI-less`; each
  attribute's most frequent value, whatever the mention.
- THYME (`thyme2016`): each attribute's most frequent value among mentions of the same type and words, else of the same
  type: the `memorize` baseline of Clinical TempEval.
- CMED (`cmed2022`): each slot's most frequent value among events of the same type.

Words are compared in lower case, white space as one blank, parts in order. Of equally frequent values the first seen.
Attributes that are learned from the text around a mention are tasks of their own (`semeval2016t12_doctimerel`, …).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hf_crosstask.evaluation.entities import Entity, as_entity
from hf_crosstask.evaluation.official import anafora, cmed2022
from hf_crosstask.evaluation.predictions import Predictions, Slots
from hf_crosstask.tasks.card import Official
from hf_crosstask.tasks.readers.share import CUI_LESS, entity_cui
from hf_crosstask.tasks.readers.share2015 import NULL, SLOTS

if TYPE_CHECKING:
    from datasets import Dataset

CUI = "CUI"
#: Slots by official scorer, in the order in which predictions hold them.
_SLOTS: dict[Official, tuple[str, ...]] = {
    "share2014": (CUI,),
    "share2015": (CUI, *SLOTS),
    "thyme2016": tuple(dict.fromkeys(attribute for _, attribute in anafora.VIEWS.values() if attribute)),
    "cmed2022": cmed2022.ATTRIBUTES,
    "ade2018": (),
}
#: Those that the baseline learns for each mention's words, before it falls back on the type.
_BY_WORDS: dict[Official, tuple[str, ...]] = {
    "share2014": (CUI,),
    "share2015": (CUI,),
    "thyme2016": _SLOTS["thyme2016"],
}
#: An attribute that is not there.
_ABSENT: dict[Official, str] = {"share2014": NULL, "share2015": NULL, "thyme2016": "", "cmed2022": ""}


def slot_names(official: Official) -> tuple[str, ...]:
    """The slots that a scorer compares, in the order in which predictions hold them."""
    return _SLOTS[official]


def entity_slots(entity: Mapping[str, Any], official: Official) -> tuple[str, ...]:
    """The slot values of an entity of the unified schema.

    Raises:
        InputError: it has several CUIs.
    """
    values = {item["name"]: item["value"] for item in entity["attributes"]}
    names = slot_names(official)
    if CUI in names:
        values[CUI] = entity_cui(entity)
    return tuple(values.get(name, _ABSENT[official]) for name in names)


@dataclass(frozen=True)
class SlotBaseline:
    """Most frequent slot values.

    Attributes:
        names: the slots.
        by_words: (type, normalized words) to slot to value.
        by_type: type to slot to value.
        default: slot to the value of a type that the training data have not.
    """

    names: tuple[str, ...]
    by_words: Mapping[tuple[str, str], Mapping[str, str]]
    by_type: Mapping[str, Mapping[str, str]]
    default: Mapping[str, str]

    @classmethod
    def of(cls, train: Dataset, official: Official) -> SlotBaseline:
        """The baseline of a task's training examples."""
        names, learned = slot_names(official), _BY_WORDS.get(official, ())
        words: dict[tuple[str, str], dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
        types: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
        for text, entity in _entities(train):
            key = entity["type"], mention_text(text, as_entity(entity))
            for name, value in zip(names, entity_slots(entity, official), strict=True):
                if name in learned:
                    words[key][name][value] += 1
                if name != CUI:  # no concept is a guess at what unknown words mean
                    types[entity["type"]][name][value] += 1
        default = {name: CUI_LESS if name == CUI else _ABSENT[official] for name in names}
        return cls(names, _commonest(words), _commonest(types), default)

    def fill(self, text: str, entity: Entity) -> tuple[str, ...]:
        """The slot values of a predicted entity."""
        values = {
            **self.default,
            **self.by_type.get(entity.type, {}),
            **self.by_words.get((entity.type, mention_text(text, entity)), {}),
        }
        return tuple(values[name] for name in self.names)


def _commonest(counted: Mapping[Any, Mapping[str, Counter[str]]]) -> dict[Any, dict[str, str]]:
    return {
        key: {name: counter.most_common(1)[0][0] for name, counter in slots.items()} for key, slots in counted.items()
    }


def mention_text(text: str, entity: Entity) -> str:
    """The words of a mention, as the baseline knows them."""
    return " ".join(" ".join(text[start:end] for start, end in entity.offsets).lower().split())


def _entities(examples: Dataset) -> Iterator[tuple[str, Mapping[str, Any]]]:
    columns = examples.select_columns(["text", "entities"]).with_format("arrow")[:].to_pydict()
    for text, entities in zip(columns["text"], columns["entities"], strict=True):
        for entity in entities:
            yield text, entity


class SlotFiller:
    """Gives predictions of entities their slots.

    Args:
        examples: those that are predicted.
        train: what the baseline learns from.
        official: the scorer.
    """

    def __init__(self, examples: Dataset, train: Dataset, official: Official):
        self._texts = list(examples["text"])
        self._baseline = SlotBaseline.of(train, official)
        self._gold: tuple[Slots, ...] = tuple(
            tuple(entity_slots(entity, official) for entity in entities) for entities in examples["entities"]
        )

    def __call__(self, predictions: Predictions) -> Predictions:
        """The predictions with the slots of gold and predicted entities."""
        filled = tuple(
            tuple(self._baseline.fill(text, entity) for entity in entities)
            for text, entities in zip(self._texts, predictions.predicted, strict=True)
        )
        return replace(predictions, gold_slots=self._gold, predicted_slots=filled)
