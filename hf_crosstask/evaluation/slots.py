"""What the ShARe scorers compare of a disorder besides its span, and a baseline that fills it in.

Models of this library find spans. For the parts of the official evaluations that want more, predicted mentions get

- the CUI that the same words (lower-cased, white space as one blank, parts in order) most often have in the training
  data, else `CUI-less`;
- the value that each attribute most often has in the training data, whatever the mention.

Of equally frequent values the first seen. The baseline is the same for every model, so a comparison is one of spans.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hf_crosstask.evaluation.decoding import Decoder, Logits
from hf_crosstask.evaluation.entities import Entity, as_entity
from hf_crosstask.evaluation.predictions import Predictions, Slots
from hf_crosstask.tasks.card import Official
from hf_crosstask.tasks.readers.share import CUI_LESS, entity_cui
from hf_crosstask.tasks.readers.share2015 import NULL, SLOTS

if TYPE_CHECKING:
    from datasets import Dataset

#: Slots by official scorer: the CUI, and attributes in the order of the scorer's columns.
_ATTRIBUTES: dict[Official, tuple[str, ...]] = {"share2014": (), "share2015": tuple(SLOTS)}


def slot_names(official: Official) -> tuple[str, ...]:
    """The slots that a scorer compares, in the order in which predictions hold them."""
    return ("CUI", *_ATTRIBUTES[official])


def entity_slots(entity: Mapping[str, Any], official: Official) -> tuple[str, ...]:
    """The slot values of an entity of the unified schema.

    Raises:
        InputError: it has several CUIs.
    """
    values = {item["name"]: item["value"] for item in entity["attributes"]}
    return (entity_cui(entity), *(values.get(name, NULL) for name in _ATTRIBUTES[official]))


@dataclass(frozen=True)
class SlotBaseline:
    """Most frequent slot values.

    Attributes:
        cuis: mention in normalized words to CUI.
        attributes: the values of all other slots.
    """

    cuis: Mapping[str, str]
    attributes: tuple[str, ...]

    @classmethod
    def of(cls, train: Dataset, official: Official) -> SlotBaseline:
        """The baseline of a task's training examples."""
        cuis: dict[str, Counter[str]] = defaultdict(Counter)
        attributes: list[Counter[str]] = [Counter({NULL: 0}) for _ in _ATTRIBUTES[official]]
        for text, entity in _entities(train):
            cui, *values = entity_slots(entity, official)
            cuis[mention_text(text, as_entity(entity))][cui] += 1
            for counter, value in zip(attributes, values, strict=True):
                counter[value] += 1
        return cls(
            {mention: counter.most_common(1)[0][0] for mention, counter in cuis.items()},
            tuple(counter.most_common(1)[0][0] for counter in attributes),
        )

    def fill(self, text: str, entity: Entity) -> tuple[str, ...]:
        """The slot values of a predicted entity."""
        return (self.cuis.get(mention_text(text, entity), CUI_LESS), *self.attributes)


def mention_text(text: str, entity: Entity) -> str:
    """The words of a mention, as the baseline knows them."""
    return " ".join(" ".join(text[start:end] for start, end in entity.offsets).lower().split())


def _entities(examples: Dataset) -> Iterator[tuple[str, Mapping[str, Any]]]:
    columns = examples.select_columns(["text", "entities"]).with_format("arrow")[:].to_pydict()
    for text, entities in zip(columns["text"], columns["entities"], strict=True):
        for entity in entities:
            yield text, entity


class SlotDecoder:
    """A decoder of entities whose predictions also have slots.

    Args:
        decoder: finds the entities.
        examples: those of the decoder.
        train: what the baseline learns from.
        official: the scorer.
    """

    def __init__(self, decoder: Decoder, examples: Dataset, train: Dataset, official: Official):
        self.example_index = decoder.example_index
        self._decoder, self._texts = decoder, list(examples["text"])
        self._baseline = SlotBaseline.of(train, official)
        gold: tuple[Slots, ...] = tuple(
            tuple(entity_slots(entity, official) for entity in entities) for entities in examples["entities"]
        )
        self.references = replace(decoder.references, gold_slots=gold, predicted_slots=((),) * len(gold))

    def decode(self, logits: Logits) -> Predictions:
        """See `Decoder`."""
        predictions = self._decoder.decode(logits)
        filled = tuple(
            tuple(self._baseline.fill(text, entity) for entity in entities)
            for text, entities in zip(self._texts, predictions.predicted, strict=True)
        )
        return replace(predictions, gold_slots=self.references.gold_slots, predicted_slots=filled)
