"""Sentences of the synthetic tasks: templates of invented clinical notes, filled with slots of the hidden lexicon.

Nothing in a sentence but the invented words tells their hidden grade: every position takes every grade. The three tasks
use different templates, so no long word sequence is common to two of them. A text is composed of slots, not of words:
tasks that differ only in what they share get the same texts up to the names of the words.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from hf_crosstask.tasks.synthetic_lexicon import GRADES, KINDS, Lexicon, SyntheticType, grade_of, pick, slots_of

#: Texts of different splits never have this many words in a row in common: the leakage audit finds nothing in them.
RUN = 8
#: Validation and test draw this share of their words from what the task's training data lacks.
UNCOVERED_SHARE = 0.5
#: A modifier belongs to the mention and says nothing of its class.
_MODIFIER_SHARE = 0.2
_MODIFIERS = ("alpha", "beta", "major", "minor", "duplex", "simplex")
#: Candidate pairs of two mild or two severe words; of the others half hold both grades, half hold a plain word.
_AGREEING_SHARE = 0.75

# Openings hold two numbers apart. With one, texts that share it and differ in a later word would be near-duplicates.
_NER_OPENINGS = (
    "On day {n} ward {n} lists",
    "Sheet {n} of bed {n} names",
    "Chart {n} page {n} starts with",
    "A letter of week {n} to desk {n} cites",
    "Handover note {n} of shift {n} brings up",
    "Page {n} of file {n} records",
    "Room {n} asked desk {n} about",
    "At {n} hours resident {n} wrote",
    "Line {n} of summary {n} reads",
    "Guest {n} of room {n} repeated",
)
_NER_CORES = (
    "{m} , {m} and {m}",
    "{m} beside {m} , then {m}",
    "first {m} , next {m} , last {m}",
    "{m} right above {m} or {m}",
    "both {m} and {m} but also {m}",
    "{m} ( see {m} ) above {m}",
    "{m} ; {m} ; {m}",
    "not only {m} yet {m} plus {m}",
)
_NER_CLOSINGS = (
    "in the margin .",
    "under a red line .",
    "without further words .",
    "before the morning round .",
    "for the second reader .",
    "as copied by hand .",
    "on the back page .",
    "in that order .",
)

_RELATION_OPENINGS = (
    "Review {n} of site {n} places",
    "Arm {n} of trial {n} saw",
    "Entry {n} of registry {n} puts",
    "Part {n} of cohort {n} described",
    "Case {n} on form {n} showed",
    "Question {n} of survey {n} found",
    "Panel {n} on topic {n} discussed",
    "Table {n} of report {n} sets",
)
#: Cue phrases by group. They read the same in both directions, so a pair may come in either order.
_CUES: dict[str, tuple[str, ...]] = {
    "near": ("together with", "in step with", "side by side with", "at the same hour as"),
    "later": ("on the heels of", "one shift from", "within a day of", "a short while from"),
    "apart": ("with no link to", "wholly apart from", "without bearing on", "not tied to"),
}
_CUE_GROUPS = tuple(_CUES)
_RELATION_CLOSINGS = (
    "while {o} stayed as before .",
    "; {o} was not touched .",
    "and kept {o} out of view .",
    ", {o} aside .",
    "when {o} had been ruled out .",
    ", as {o} had shown earlier .",
    "once {o} was put away .",
    "though {o} came up too .",
)

_STATUS_OPENINGS = (
    "Entry {n} says",
    "Shift {n} notes",
    "Nurse {n} saw",
    "By hour {n} came",
    "Team {n} logged",
    "Round {n} met",
    "Call {n} told of",
    "Check {n} gave",
)
_STATUS_CLOSINGS = (
    "again .",
    "at rest .",
    "after lunch .",
    "near noon .",
    "past dusk .",
    "at last .",
    "over the night .",
    "once more .",
)
#: Mentions of a classification document: an odd number with a grade, so that one grade has the majority.
_GRADED_MENTIONS, _PLAIN_MENTIONS = 3, 1
_NUMBERS = 60

RelationLabel = Literal["treats", "causes", "false"]
Role = Literal["mention", "drug", "finding", "distractor"]


@dataclass(frozen=True)
class Mention:
    """An invented word in a text: the slot it fills, a modifier word after it or None, and what it does there."""

    slot: int
    modifier: str | None
    role: Role

    @property
    def grade(self) -> str:
        return grade_of(self.slot)


@dataclass(frozen=True)
class Composed:
    """A text before its words are named: plain words and mentions in order, and the cue group of a relation text."""

    pieces: tuple[str | Mention, ...]
    cue: str | None = None

    def mentions(self, role: str) -> list[Mention]:
        return [piece for piece in self.pieces if isinstance(piece, Mention) and piece.role == role]

    def runs(self) -> set[tuple[str, ...]]:
        """Every run of `RUN` words in lower case, without punctuation; all words of a shorter text."""
        words: list[str] = []
        for piece in self.pieces:
            if isinstance(piece, Mention):
                words += [f"slot{piece.slot}", piece.modifier] if piece.modifier else [f"slot{piece.slot}"]
            elif piece.isalnum():
                words.append(piece.lower())
        return {tuple(words[i : i + RUN]) for i in range(max(1, len(words) - RUN + 1))}


def compose(type: SyntheticType, rng: random.Random, *, covered: bool) -> Composed:
    """One random text of a task.

    Args:
        type: whose templates to use.
        rng: the stream of random numbers; a text takes them in a fixed order.
        covered: training text: only words the task's training data covers. Otherwise every word is, with probability
            `UNCOVERED_SHARE`, one that it lacks.
    """
    return {"ner": _ner, "relation": _relation, "classification": _document}[type](_Filler(type, rng, covered))


def relation_label(composed: Composed, *, entity_dependent: bool) -> RelationLabel:
    """The gold label of a relation text.

    With `entity_dependent` a mild drug treats a mild finding, a severe drug causes a severe finding, and every other
    pair, or any pair that the cue sets apart, is `false`. Without, the cue alone decides.
    """
    if composed.cue == "apart":
        return "false"
    if not entity_dependent:
        return "treats" if composed.cue == "near" else "causes"
    grades = {mention.grade for mention in (*composed.mentions("drug"), *composed.mentions("finding"))}
    return "treats" if grades == {"Mild"} else "causes" if grades == {"Severe"} else "false"


def document_label(composed: Composed) -> Literal["stable", "critical"]:
    """`stable` where most graded mentions of a classification document are mild, `critical` where most are severe."""
    grades = [mention.grade for mention in composed.mentions("mention")]
    return "stable" if grades.count("Mild") > grades.count("Severe") else "critical"


def render(composed: Composed, lexicon: Lexicon) -> tuple[str, list[tuple[Mention, int, int]]]:
    """The text, words separated by single spaces, and each mention with its [start, end) characters."""
    text, spans = "", []
    for piece in composed.pieces:
        start = len(text) + 1 if text else 0
        if isinstance(piece, Mention):
            surface = lexicon.words[piece.slot] + (f" {piece.modifier}" if piece.modifier else "")
            spans.append((piece, start, start + len(surface)))
        else:
            surface = piece
        text = f"{text} {surface}" if text else surface
    return text, spans


@dataclass(frozen=True)
class _Filler:
    """Fills templates from one stream of random numbers."""

    type: SyntheticType
    rng: random.Random
    covered: bool

    def mention(self, role: Role, kinds: tuple[str, ...] = KINDS, grades: tuple[str, ...] = GRADES) -> Mention:
        kind, grade = pick(self.rng, kinds), pick(self.rng, grades)
        lacking = self.rng.random() < UNCOVERED_SHARE and not self.covered
        slot = pick(self.rng, slots_of(self.type, kind, grade, covered=not lacking))
        modified, modifier = self.rng.random() < _MODIFIER_SHARE, pick(self.rng, _MODIFIERS)
        return Mention(slot, modifier if modified else None, role)

    def template(self, templates: tuple[str, ...]) -> Iterator[str | Mention]:
        """A random template, with numbers `{n}`, mentions `{m}` and distractors `{o}` filled in."""
        for word in pick(self.rng, templates).split():
            if word == "{m}":
                yield self.mention("mention")
            elif word == "{o}":
                yield self.mention("distractor")
            elif word == "{n}":
                yield str(1 + int(self.rng.random() * _NUMBERS))
            else:
                yield word


def _ner(fill: _Filler) -> Composed:
    parts = (_NER_OPENINGS, _NER_CORES, _NER_CLOSINGS)
    return Composed(tuple(piece for part in parts for piece in fill.template(part)))


def _relation(fill: _Filler) -> Composed:
    opening = tuple(fill.template(_RELATION_OPENINGS))
    grade, other = pick(fill.rng, (("Mild", "Severe"), ("Severe", "Mild")))
    agreeing, second = fill.rng.random() < _AGREEING_SHARE, pick(fill.rng, (other, "Plain"))
    grades = (grade, grade if agreeing else second)
    drug_grade, finding_grade = grades if pick(fill.rng, (True, False)) else grades[::-1]
    drug = fill.mention("drug", ("drug",), (drug_grade,))
    finding = fill.mention("finding", ("finding",), (finding_grade,))
    cue = pick(fill.rng, _CUE_GROUPS)
    phrase = tuple(pick(fill.rng, _CUES[cue]).split())
    first, last = (drug, finding) if pick(fill.rng, (True, False)) else (finding, drug)
    return Composed((*opening, first, *phrase, last, *fill.template(_RELATION_CLOSINGS)), cue)


def _document(fill: _Filler) -> Composed:
    grades: list[tuple[str, ...]] = [("Mild", "Severe")] * _GRADED_MENTIONS
    for _ in range(_PLAIN_MENTIONS):
        grades.insert(int(fill.rng.random() * (len(grades) + 1)), ("Plain",))
    pieces: list[str | Mention] = []
    for allowed in grades:
        pieces.extend(fill.template(_STATUS_OPENINGS))
        pieces.append(fill.mention("mention", grades=allowed))
        pieces.extend(fill.template(_STATUS_CLOSINGS))
    return Composed(tuple(pieces))
