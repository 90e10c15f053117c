"""The adapter of a single-task control with as many trainable parameters as the run that it is matched to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from transformers import PretrainedConfig

from hf_crosstask.errors import InputError, MatchError
from hf_crosstask.evaluation.result import ParameterMatch
from hf_crosstask.models.adapters import LoraSettings
from hf_crosstask.models.build import head_parameters
from hf_crosstask.models.equal_parameters import TOLERANCE, adapter_with, describe_rank, module_sizes
from hf_crosstask.recipe import Recipe
from hf_crosstask.tasks.card import TaskCard
from hf_crosstask.training.matching import Reference


@dataclass(frozen=True)
class MatchedAdapter:
    """An adapter, and what it matches.

    Attributes:
        lora: with the ranks found.
        head: parameters of the task's head, which count as well.
        match: the trainable parameters that were to be reached, and those that are.
        other: the reference's parameters of the other kind: active where all were matched; None where it is unknown.
        layers: adapted layers.
    """

    lora: LoraSettings
    head: int
    match: ParameterMatch
    other: int | None
    layers: int

    def describe(self) -> str:
        """A line for under the plan's table."""
        matched, reached, target = self.match.matched, self.match.reached, self.match.target
        other = "active for the task" if matched == "total" else "total"
        beside = "" if self.other is None else f" ({other} there: {self.other:,})"
        return (
            f"adapter of rank {describe_rank(self.lora, self.layers)}: {reached - self.head:,} trainable parameters and "
            f"{self.head:,} of the head are {reached:,}, total and active, matched to the {target:,} {matched} of the "
            f"reference: {reached / target - 1:+.2%}{beside}"
        )


def adapter_reaching(
    target: int, card: TaskCard, config: PretrainedConfig, lora: LoraSettings
) -> tuple[LoraSettings, int]:
    """The adapter that comes nearest to so many trainable parameters, the task's head included, and their number.

    Raises:
        InputError: there is none.
    """
    head = head_parameters([card], config)[card.name]
    found, size = adapter_with(config, lora, target - head)
    return found, size + head


def match_parameters(recipe: Recipe, card: TaskCard, config: PretrainedConfig, reference: Reference) -> MatchedAdapter:
    """Choose ranks so that adapter and head have as many trainable parameters as the reference.

    Args:
        recipe: of the control, which trains one task.
        card: that task.
        config: of the backbone.
        reference: the run that is matched.

    Raises:
        MatchError: no ranks come within 1 %, or the reference does not say what the task uses.
    """
    match, adapter = recipe.budget.match, recipe.model.adapter
    assert match is not None
    assert adapter is not None  # the recipe's own rule
    matched: Literal["total", "active"] = match.equal_parameters or "total"
    target, head = reference.parameters(card.name, matched), head_parameters([card], config)[card.name]
    lora = LoraSettings.of(adapter)
    try:
        found, reached = adapter_reaching(target, card, config, lora)
    except InputError as error:
        raise MatchError(f"cannot match the {matched} parameters of {reference.path}: {error}") from None
    layers = module_sizes(config, lora)
    if abs(reached - target) > TOLERANCE * target:
        raise MatchError(
            f"cannot match the {target:,} {matched} trainable parameters of {reference.path} within {TOLERANCE:.0%}: the "
            f"nearest adapter, of rank {describe_rank(found, len(layers))}, and the head of {card.name} have {reached:,} "
            f"({reached / target - 1:+.1%})"
        )
    counts = reference.result.parameters
    other = counts.active.get(card.name) if matched == "total" else counts.trainable
    return MatchedAdapter(
        found, head, ParameterMatch(matched=matched, target=target, reached=reached), other, len(layers)
    )
