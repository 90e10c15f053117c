"""Synthetic tasks with planted transfer: NER, relation and classification over one hidden lexicon.

The option `sharing` says how much the tasks teach each other, from 1 (the same invented words with the same hidden
grades; the words that a task's training data lacks are in the training data of both others) to 0 (each task has its
own words: the same texts with other names, as many tokens to see, nothing to transfer). That makes the tasks the known
truth for a verdict on transfer. `synthetic_lexicon` holds the words, `synthetic_text` the sentences.

| task | what is to be found | what must be known |
|---|---|---|
| `synthetic_ner` | mild and severe terms among plain ones | the grade of each word |
| `synthetic_relation` | does the drug treat or cause the finding, or neither (`false`) | both grades, and the cue |
| `synthetic_classification` | are most graded terms mild (`stable`) or severe (`critical`) | all grades |

A task of the user's own with reader `synthetic` and one of the three types works too: it shares words with the others
of its seed, and has its own documents, drawn for its name.
"""

from __future__ import annotations

import random
from typing import Any, get_args

from pydantic import ConfigDict, Field

from hf_crosstask.errors import InputError
from hf_crosstask.tasks.card import TaskCard
from hf_crosstask.tasks.readers.base import Options, ReadResult, Source, parse_options
from hf_crosstask.tasks.schema import SPLITS, make_entity, make_example
from hf_crosstask.tasks.synthetic_lexicon import SYNTHETIC_TYPES, Lexicon, SyntheticType, build_lexicon
from hf_crosstask.tasks.synthetic_text import Composed, RelationLabel, compose, document_label, relation_label, render

#: Examples of one document (`split_group`): sentences of a note for NER and relations.
_PER_DOCUMENT: dict[SyntheticType, int] = {"ner": 2, "relation": 2, "classification": 1}
_LABELS: dict[SyntheticType, tuple[str, ...]] = {
    "ner": ("Mild", "Severe"),
    "relation": get_args(RelationLabel),
    "classification": ("stable", "critical"),
}


class SyntheticOptions(Options):
    """Options of the reader `synthetic`.

    Attributes:
        sharing: fraction of the lexicon that the task shares with the other synthetic tasks of its seed.
        train, validation, test: examples of each split.
        seed: of the data. It is not the seed of a run: runs of several seeds must see one data set.
        entity_dependent: relation labels depend on the hidden grades of drug and finding. False: on the cue alone,
            over the same texts.
    """

    model_config = ConfigDict(strict=True)

    sharing: float = Field(1.0, ge=0, le=1)
    train: int = Field(800, ge=1, le=50_000)
    validation: int = Field(200, ge=1, le=10_000)
    test: int = Field(400, ge=1, le=10_000)
    seed: int = 0
    entity_dependent: bool = True


def read(source: Source) -> ReadResult:
    """Generate one synthetic task; a pure function of the card's name and type and the options.

    The test set does not depend on the sizes of the other splits, and a smaller training set is the beginning of a
    larger one. No two texts of different splits have `synthetic_text.RUN` words in a row in common.

    Raises:
        InputError: an option is unknown or out of range, or the card's type is none of the three.
    """
    options = parse_options(source, SyntheticOptions)
    card = source.card
    if card.type not in SYNTHETIC_TYPES:
        types = ", ".join(SYNTHETIC_TYPES)
        raise InputError(f"task {card.name!r}: the reader 'synthetic' makes tasks of type {types}, not {card.type!r}")
    if not options.entity_dependent and card.type != "relation":
        raise InputError(f"task {card.name!r}: options.entity_dependent is an option of the type 'relation' only")
    lexicon = build_lexicon(card.name, card.type, seed=options.seed, sharing=options.sharing)
    sizes = {"train": options.train, "validation": options.validation, "test": options.test}
    composed = _compose_splits(card.name, card.type, sizes, options.seed)
    splits = {}
    for split in SPLITS:
        splits[split] = [
            _example(card, split, number, text, lexicon, entity_dependent=options.entity_dependent)
            for number, text in enumerate(composed[split])
        ]
    return ReadResult(splits)


def _compose_splits(name: str, type: SyntheticType, sizes: dict[str, int], seed: int) -> dict[str, list[Composed]]:
    """The texts of each split. Test comes first and train last: a text that repeats a split before it is not taken."""
    taken: set[tuple[str, ...]] = set()
    splits: dict[str, list[Composed]] = {}
    for split in reversed(SPLITS):
        rng = random.Random(f"hf_crosstask.synthetic/texts/{seed}/{name}/{split}")
        texts: list[Composed] = []
        while len(texts) < sizes[split]:  # ends: the templates have billions of texts
            text = compose(type, rng, covered=split == "train")
            if taken.isdisjoint(text.runs()):
                texts.append(text)
        taken.update(run for text in texts for run in text.runs())
        splits[split] = texts
    return splits


def _example(
    card: TaskCard, split: str, number: int, composed: Composed, lexicon: Lexicon, *, entity_dependent: bool
) -> dict[str, Any]:
    text, spans = render(composed, lexicon)
    fields: dict[str, Any] = {}
    if lexicon.type == "ner":
        entities = [(mention.grade, start, end) for mention, start, end in spans]
        fields["entities"] = _entities([entity for entity in entities if entity[0] in _LABELS["ner"]], text)
    elif lexicon.type == "relation":
        kinds = {"drug": "Drug", "finding": "Finding"}
        pair = [(kinds[mention.role], start, end) for mention, start, end in spans if mention.role in kinds]
        fields["entities"] = _entities(pair, text)
        id_of = {entity["type"]: entity["id"] for entity in fields["entities"]}
        label = relation_label(composed, entity_dependent=entity_dependent)
        fields["relations"] = [{"id": "R1", "type": label, "head": id_of["Drug"], "tail": id_of["Finding"]}]
    else:
        fields["labels"] = [document_label(composed)]
    document = f"{card.name}-{split}-document-{number // _PER_DOCUMENT[lexicon.type]}"
    return make_example(f"{card.name}-{split}-{number}", card.name, text, split_group=document, **fields)


def _entities(spans: list[tuple[str, int, int]], text: str) -> list[dict[str, Any]]:
    return [
        make_entity(f"T{number}", type, [(start, end)], [text[start:end]])
        for number, (type, start, end) in enumerate(spans, start=1)
    ]


def _card(type: SyntheticType, description: str, metrics: tuple[str, ...], **fields: Any) -> TaskCard:
    return TaskCard(
        name=f"synthetic_{type}",
        type=type,
        description=f"{description} Invented text made by the library, with planted transfer (option `sharing`).",
        labels=_LABELS[type],
        primary_metric=metrics[0],
        secondary_metrics=metrics[1:],
        segmentation="whitespace",
        reader="synthetic",
        licence="MIT",
        provenance="synthetic",
        obtain="Nothing to obtain: the library generates it.",
        **fields,
    )


SYNTHETIC_CARDS: tuple[TaskCard, ...] = (
    _card(
        "ner",
        "Find the mild and the severe terms among invented drugs and findings.",
        ("entity_f1", "entity_precision", "entity_recall"),
        level=1,
    ),
    _card(
        "relation",
        "Does the drug treat or cause the finding? Depends on the hidden grades of both and on the cue.",
        ("micro_f1", "micro_f1_candidates", "macro_f1"),
        level=2,
        negative_label="false",
    ),
    _card(
        "classification",
        "Is the patient stable or critical? Depends on the hidden grades that most terms have.",
        ("accuracy", "macro_f1"),
        level=2,
    ),
)
