"""The adapters of a hierarchy (S3b): a shared one, and one for each level over it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from hf_crosstask.errors import InputError
from hf_crosstask.models.adapter_layout import AdapterLayout, with_rank
from hf_crosstask.models.adapters import SHARED, LoraSettings
from hf_crosstask.recipe.schema import Strategy
from hf_crosstask.tasks.card import TaskCard

LEVEL_1, LEVEL_2 = "level1", "level2"


@dataclass(frozen=True)
class FeedSettings:
    """How level 1 reaches level 2 (see `models.hierarchical`).

    Attributes:
        kind: `attention` or `shortcut`.
        detach: level-2 losses do not train level 1, nor the shared adapter by way of level 1.
    """

    kind: Literal["attention", "shortcut"] = "attention"
    detach: bool = False


@dataclass(frozen=True)
class HierarchicalLayout(AdapterLayout):
    """A level-2 task uses the shared and the level-2 adapter, after a first pass with the shared and the level-1 one.

    Attributes:
        levels: the level of each task.
        feed: how the first pass reaches the second.
        first_pass: the adapters of a level-2 task's first pass.
    """

    levels: Mapping[str, int] = field(default_factory=dict)
    feed: FeedSettings = FeedSettings()
    first_pass: tuple[str, ...] = (SHARED, LEVEL_1)

    def at(self, level: int) -> tuple[str, ...]:
        """The tasks of a level, in order."""
        return tuple(task for task, value in self.levels.items() if value == level)

    def users(self, adapter: str) -> tuple[str, ...]:
        """The tasks that train an adapter: level-2 tasks train that of level 1 too, unless the feed is detached."""
        if adapter == LEVEL_1 and not self.feed.detach:
            return self.tasks
        return super().users(adapter)


def hierarchical_layout(strategy: Strategy, lora: LoraSettings, cards: Sequence[TaskCard]) -> HierarchicalLayout:
    """The adapters of S3b. Level adapters have rank `private_r` (half of the shared one's by default).

    Raises:
        InputError: all tasks are of one level, or a level-2 task cannot be fed.
    """
    check_levels({card.name: int(card.level) for card in cards})
    for card in cards:
        if card.level == 2 and card.formulation != "head":
            raise InputError(
                f"task {card.name!r} is posed to the language model ({card.formulation}), which generates from its own "
                'states only: level 1 cannot feed it. Set its formulation to "head", or use S2 or S3a'
            )
    level = replace(with_rank(lora, strategy.private_r or max(1, lora.r // 2)), train_embeddings=False)
    return HierarchicalLayout(
        {SHARED: lora, LEVEL_1: level, LEVEL_2: level},
        {card.name: (SHARED, LEVEL_1 if card.level == 1 else LEVEL_2) for card in cards},
        levels={card.name: int(card.level) for card in cards},
        feed=FeedSettings(strategy.feed or "attention", bool(strategy.detach)),
    )


def check_levels(levels: Mapping[str, int]) -> None:
    """Whether there is something to feed, and something to be fed.

    Args:
        levels: the level of each task.

    Raises:
        InputError: all tasks are of one level.
    """
    for level in (1, 2):
        if level not in levels.values():
            listed = ", ".join(f"{task} (level {value})" for task, value in levels.items())
            raise InputError(f"S3b feeds level-1 tasks into level-2 tasks, but no task is of level {level}: {listed}")
