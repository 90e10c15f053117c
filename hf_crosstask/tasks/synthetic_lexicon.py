"""The hidden lexicon of the synthetic tasks: invented words with hidden grades, and what each task knows of them.

A lexicon has `SIZE` slots, each of one kind and one hidden grade; a task fills every slot with one word. Tasks that
share a slot fill it with the same word, others with words of their own. Which slots a task's training data covers is
fixed:

| slots | ner trains on | relation trains on | classification trains on |
|---|---|---|---|
| one third of every kind and grade | no | yes | yes |
| another third | yes | no | yes |
| the rest | yes | yes | no |

So at sharing 1 the third that a task's training data never shows is taught by each of the other two, and the third
that both of two tasks cover ties their representations together. At sharing 0 the same slots hold other words for
each task: its own problem is the same problem (the words are renamed), and no other task can help.
"""

from __future__ import annotations

import hashlib
import math
import random
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

SyntheticType = Literal["ner", "relation", "classification"]
SYNTHETIC_TYPES: tuple[SyntheticType, ...] = get_args(SyntheticType)

KINDS = ("drug", "finding")
#: The hidden class of a word. A plain word names a drug or finding like the others and counts for nothing.
GRADES = ("Mild", "Severe", "Plain")

WORDS_PER_CELL = 24  # of one kind and grade
THIRDS = 3
SIZE = WORDS_PER_CELL * len(KINDS) * len(GRADES)

_ONSETS = (*"bdfgklmnprstvz", "br", "dr", "gl", "kr", "pl", "st", "tr")
_VOWELS = (*"aeiou",)
_CODAS = (*"lmnrsx",)
_SYLLABLES = 3  # no word of the templates is spelt like this: tested

T = TypeVar("T")


def pick(rng: random.Random, items: tuple[T, ...]) -> T:
    """A uniform choice that uses nothing but `rng.random()`, whose sequence Python guarantees for a seed."""
    return items[int(rng.random() * len(items))]


@dataclass(frozen=True)
class Lexicon:
    """One task's lexicon.

    Attributes:
        type: decides which third the training data lacks.
        words: the word of each slot, all distinct.
        shared: the slots whose words are common to every task of the same seed that shares them too.
    """

    type: SyntheticType
    words: tuple[str, ...]
    shared: frozenset[int]


def slots_of(type: SyntheticType, kind: str, grade: str, *, covered: bool) -> tuple[int, ...]:
    """The slots of one kind and grade that training data of a task type covers, or those that it lacks."""
    first = (KINDS.index(kind) * len(GRADES) + GRADES.index(grade)) * WORDS_PER_CELL
    lacking = SYNTHETIC_TYPES.index(type)
    return tuple(first + k for k in range(WORDS_PER_CELL) if (k % THIRDS != lacking) == covered)


def grade_of(slot: int) -> str:
    """The hidden class of a slot."""
    return GRADES[slot // WORDS_PER_CELL % len(GRADES)]


def build_lexicon(name: str, type: SyntheticType, *, seed: int, sharing: float) -> Lexicon:
    """The lexicon of one task.

    Args:
        name: the task; words that are not shared are drawn for this name.
        type: its task type.
        seed: tasks share words only with tasks of the same seed.
        sharing: fraction of the slots, spread evenly over kinds, grades and thirds, that hold the shared words. Of two
            tasks with different sharing the smaller set is a part of the larger.

    Returns:
        a lexicon that is a pure function of the arguments. Words of different task types that are not shared are
        disjoint from each other and from the shared words by construction.
    """
    spread = sorted(range(SIZE), key=lambda slot: (slot % WORDS_PER_CELL, slot))
    shared = frozenset(spread[: math.floor(sharing * SIZE + 0.5)])
    common = _words("shared", 0, seed)
    own = _words(name, 1 + SYNTHETIC_TYPES.index(type), seed)
    words = tuple(common[slot] if slot in shared else own[slot] for slot in range(SIZE))
    return Lexicon(type, words, shared)


def _words(namespace: str, part: int, seed: int) -> list[str]:
    """`SIZE` distinct invented words. A word belongs to the part that its hash says, so parts never overlap."""
    rng = random.Random(f"hf_crosstask.synthetic/words/{seed}/{namespace}")
    parts = 1 + len(SYNTHETIC_TYPES)
    words: dict[str, None] = {}
    while len(words) < SIZE:
        word = "".join(pick(rng, _ONSETS) + pick(rng, _VOWELS) for _ in range(_SYLLABLES)) + pick(rng, _CODAS)
        if hashlib.sha256(word.encode()).digest()[0] % parts == part:
            words[word] = None
    return list(words)
