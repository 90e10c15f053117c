"""What the corpora of a run allow: the licence of each as the Hub names it, and why a release should stay private."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from hf_crosstask.tasks.card import TaskCard

#: Licence texts of task cards, and the identifier that the Hub knows for each.
_IDENTIFIERS = (
    (r"\bCC[ -]BY[ -]NC[ -]SA[ -]4\.0\b", "cc-by-nc-sa-4.0"),
    (r"\bCC[ -]BY[ -]NC[ -]4\.0\b", "cc-by-nc-4.0"),
    (r"\bCC[ -]BY[ -]SA[ -]4\.0\b", "cc-by-sa-4.0"),
    (r"\bCC[ -]BY[ -]4\.0\b", "cc-by-4.0"),
    (r"\bCC[ -]BY[ -]3\.0\b", "cc-by-3.0"),
    (r"\bCC0\b", "cc0-1.0"),
    (r"\bA?GPL-?3\.0\b", "gpl-3.0"),
    (r"\bApache-?2\.0\b", "apache-2.0"),
    (r"\bMIT\b", "mit"),
)
#: Why a corpus keeps a release private, by what its licence text says.
_RESTRICTIONS = (
    (r"\bNC\b|non-?commercial|research use", "non-commercial or research use only"),
    (r"GPL|\bSA\b|share-?alike", "copyleft: what is derived may have to carry the same licence"),
    (r"^\s*$|unknown|none stated|without a licence|that of each source", "no licence of its own is stated"),
)


@dataclass(frozen=True)
class CorpusTerms:
    """The terms of one task's corpus.

    Attributes:
        card: the task.
        identifier: the Hub's name of its licence; None where the text names none the Hub knows.
        restrictions: why what was trained on it should not simply be published; empty where nothing is known.
    """

    card: TaskCard
    identifier: str | None
    restrictions: tuple[str, ...]


def terms_of(card: TaskCard) -> CorpusTerms:
    """The terms of a task's corpus, from its licence text and its access."""
    found = [name for pattern, name in _IDENTIFIERS if re.search(pattern, card.licence, re.IGNORECASE)]
    restrictions = [why for pattern, why in _RESTRICTIONS if re.search(pattern, card.licence, re.IGNORECASE)]
    if card.access == "credentialed":
        restrictions.insert(0, "credentialed: its data use agreement governs what is trained on it")
    return CorpusTerms(card, found[0] if found else None, tuple(restrictions))


def restricted(cards: Iterable[TaskCard]) -> dict[str, tuple[str, ...]]:
    """Task to restrictions, of the tasks that have any."""
    return {card.name: reasons for card in cards if (reasons := terms_of(card).restrictions)}


def common_identifier(cards: Iterable[TaskCard]) -> str:
    """The Hub's licence of a release: that of all corpora where they share one, else `other` (see `LICENSE.md`)."""
    names = {terms_of(card).identifier for card in cards}
    name = names.pop() if len(names) == 1 else None
    return name or "other"
