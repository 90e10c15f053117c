"""The task cards of the registry, one module per kind of task.

A module holds `CARDS`, and may hold `VARIANTS`: task name to variant name to the card fields that the variant changes.
A recipe chooses one with `options.variant`. To add a task, add its card to the module of its kind; to add a kind, add
its module to `CARD_MODULES`.
"""

from __future__ import annotations

CARD_MODULES = (
    "hf_crosstask.tasks.cards.classification",
    "hf_crosstask.tasks.cards.clinical",
    "hf_crosstask.tasks.cards.entities",
    "hf_crosstask.tasks.cards.literature",
    "hf_crosstask.tasks.cards.questions",
    "hf_crosstask.tasks.cards.relations",
)
