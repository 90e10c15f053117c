"""Small studies with planted truth: what they are, their two tasks, and their backbone.

**Truth by construction.** In both tasks the hidden grade of a word decides its label, and a word's grade has nothing to
do with its spelling. The target's training set is small: it holds some words of its test set rarely, others never.

- `shares nothing` (sharing 0): every word of the auxiliary task has a name that the target does not have (its invented
  words, templates, numbers, modifiers, punctuation), its sentences are in random word order, so that place tells nothing,
  and its labels depend on grades that were given to its own words alone. So the tasks' training texts have no token in
  common but [CLS] and [SEP] (checked in every study), and the auxiliary data are independent of what the target's words
  mean: they hold no information on it. The budget is one at which the target is learned and S1 neither gains nor loses
  much from further tokens, so that the true difference is close to 0: the hard place for a false claim.
- `exposure only`: the same, but the single-task arm's own budget is so short that it is undertrained. More tokens help,
  the other task does not: the gain of S2 over S1 is exposure.
- `sharing 0.25 ... 1`: this share of the invented words, with their grades, keeps its names in the auxiliary task, whose
  training set shows them all. Everything else is as in `shares nothing`.

What the construction does not exclude is that a second task trains the same weights better or worse for reasons other
than what it knows (noise, regularisation, a head start of the body). That would be an effect, and claiming it would be
right; whether there is one is measured: the mean difference over all studies of a condition, with its 95 % interval over
studies, is printed beside the verdicts.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_crosstask.tasks.card import TaskSpec
from hf_crosstask.tasks.load import load_task
from hf_crosstask.tasks.schema import make_entity
from hf_crosstask.tasks.synthetic_lexicon import build_lexicon

TARGET, AUXILIARY = "target", "auxiliary"


@dataclass(frozen=True)
class Scale:
    """How small a study is. Tokens are forward tokens; those of the multi-task arm are half the target's."""

    train: int = 60
    auxiliary: int = 300
    test: int = 250
    tokens: int = 16_000
    short: int = 6_000
    tokens_per_step: int = 512
    learning_rate: float = 0.006
    hidden: int = 64
    seeds: int = 5


@dataclass(frozen=True)
class Condition:
    """One planted truth: the share of words in common, whether S1 is undertrained, and how many studies per 40."""

    name: str
    sharing: float
    short: bool
    per_forty: int


CONDITIONS = (
    Condition("shares nothing", 0.0, False, 40),
    Condition("exposure only", 0.0, True, 20),
    Condition("sharing 0.25", 0.25, False, 8),
    Condition("sharing 0.5", 0.5, False, 8),
    Condition("sharing 0.75", 0.75, False, 8),
    Condition("sharing 1", 1.0, False, 8),
)


@dataclass(frozen=True)
class Planted:
    """One study: its condition and its number in it."""

    condition: Condition
    number: int

    @property
    def data_seed(self) -> int:
        """Of words, texts and weights: different in every study."""
        return 1 + self.number * len(CONDITIONS) + CONDITIONS.index(self.condition)

    @property
    def name(self) -> str:
        return f"{self.condition.name.replace(' ', '-')}-{self.number}"


def planted_studies(studies: int) -> list[Planted]:
    """All studies, `studies` of the first condition and the others in proportion, mixed so that a part is balanced.

    Numbers start at 1: the sizes of `Scale` were chosen on studies of number 0.
    """
    placed = []
    for condition in CONDITIONS:
        count = -(-studies * condition.per_forty // 40)
        placed += [((number - 0.5) / count, Planted(condition, number)) for number in range(1, count + 1)]
    return [study for _, study in sorted(placed, key=lambda item: item[0])]


def _examples(name: str, sharing: float, data_seed: int, count: int) -> list[dict[str, Any]]:
    """Sentences of the reader `synthetic` with the words that training data covers."""
    options = {"sharing": sharing, "seed": data_seed, "train": count, "validation": 1, "test": 1}
    labels = ["Mild", "Severe"]
    spec = TaskSpec.model_validate(
        {"name": name, "type": "ner", "reader": "synthetic", "labels": labels, "options": options}
    )
    return list(load_task(spec, data_dir=None).splits["train"])


def _letters(number: int) -> str:
    return chr(97 + number // 26) + chr(97 + number % 26)


def _scrambled(examples: Sequence[Mapping[str, Any]], keep: set[str], seed: int) -> list[dict[str, Any]]:
    """The same words in random order (an entity stays together), all but those to keep under names of their own."""
    rng = random.Random(f"trained_studies/order/{seed}")
    names: dict[str, str] = {}
    scrambled = []
    for example in examples:
        entity_at = {entity["offsets"][0][0]: entity for entity in example["entities"]}
        units: list[tuple[str, Mapping[str, Any] | None]] = []
        at = 0
        while at < len(example["text"]):
            entity = entity_at.get(at)
            end = entity["offsets"][0][1] if entity else (example["text"] + " ").index(" ", at)
            names_of = [
                word if word in keep else names.setdefault(word, f"q{_letters(len(names))}q")
                for word in example["text"][at:end].split(" ")
            ]
            units.append((" ".join(names_of), entity))
            at = end + 1
        rng.shuffle(units)
        text, entities = "", []
        for words, entity in units:
            start = len(text) + 1 if text else 0
            text = f"{text} {words}" if text else words
            if entity is not None:
                entities.append(make_entity(entity["id"], entity["type"], [(start, len(text))], [words]))
        scrambled.append({**example, "text": text, "entities": entities})
    return scrambled


def shared_words(sharing: float, data_seed: int) -> set[str]:
    """The invented words that both tasks have."""
    lexicon = build_lexicon(TARGET, "ner", seed=data_seed, sharing=sharing)
    return {lexicon.words[slot] for slot in lexicon.shared}


def _write(folder: Path, split: str, examples: Sequence[Mapping[str, Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({key: value for key, value in each.items() if key != "task"}) for each in examples]
    (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_tasks(study: Planted, scale: Scale, folder: Path) -> None:
    """Both tasks of a study as JSON Lines."""
    sharing, seed = study.condition.sharing, study.data_seed
    target = _examples(TARGET, sharing, seed, scale.train + scale.test)
    other = _examples(AUXILIARY, sharing, seed, scale.auxiliary + 2)
    _write(folder / TARGET, "train", target[: scale.train])
    _write(folder / TARGET, "test", target[scale.train :])
    other = _scrambled(other, shared_words(sharing, seed), seed)
    _write(folder / AUXILIARY, "train", other[: scale.auxiliary])
    _write(folder / AUXILIARY, "test", other[scale.auxiliary :])


def backbone(texts: Sequence[str], study: Planted, scale: Scale, folder: Path) -> str:
    """A BERT of one layer with random weights, and a tokenizer of these texts."""
    import torch
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    from hf_crosstask.models.tiny import build_tiny

    tiny = build_tiny("tiny:bert", texts, folder, seed=study.data_seed)
    sizes = {"hidden_size": scale.hidden, "intermediate_size": 2 * scale.hidden, "num_attention_heads": 2}
    none = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = AutoConfig.from_pretrained(tiny, num_hidden_layers=1, **sizes, **none)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(study.data_seed)
        model = AutoModel.from_config(config)
    path = folder / "backbone"
    model.save_pretrained(path)
    AutoTokenizer.from_pretrained(tiny).save_pretrained(path)
    return str(path)
