"""The adapters of a recipe's strategy."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PretrainedConfig

from hf_crosstask.models.adapter_layout import AdapterLayout, adapter_layout, tasks_outside
from hf_crosstask.models.adapters import LoraSettings
from hf_crosstask.models.equal_parameters import ARMS, Arm, equal_layout, module_sizes
from hf_crosstask.models.hierarchy import hierarchical_layout
from hf_crosstask.recipe.schema import Strategy
from hf_crosstask.tasks.card import TaskCard


def strategy_layout(
    strategy: Strategy,
    lora: LoraSettings,
    cards: Sequence[TaskCard],
    config: PretrainedConfig,
    order: Sequence[str] | None = None,
) -> AdapterLayout:
    """Which adapters a strategy has, and which a task uses. No weights are needed.

    Args:
        strategy: the recipe's strategy.
        lora: the recipe's adapter.
        cards: the tasks, in the recipe's order.
        config: of the backbone.
        order: the tasks in the order of their stages (S4); by default that of the cards.

    Raises:
        InputError: the strategy does not go with the tasks, or its parameters cannot be made equal (A1 to A4).
    """
    if strategy.layout == "S3b":
        return hierarchical_layout(strategy, lora, cards)
    if strategy.layout in ARMS:
        return arm_layout(strategy.layout, strategy, lora, cards, module_sizes(config, lora))
    return adapter_layout(strategy, lora, {card.name: card.provenance for card in cards}, order)


def arm_layout(
    arm: Arm, strategy: Strategy, lora: LoraSettings, cards: Sequence[TaskCard], sizes: dict[str, int]
) -> AdapterLayout:
    """The adapters of one of A1 to A4, whichever the recipe's strategy is.

    Raises:
        InputError: its parameters cannot be made equal.
    """
    return equal_layout(
        arm,
        lora,
        [card.name for card in cards],
        sizes,
        matched=strategy.equal_parameters or "total",
        outside=tasks_outside(strategy.private_provenance, {card.name: card.provenance for card in cards}),
    )
