"""Recipes: one JSON file that fixes a run; composed with `extends`, changed by `key.path=value`, checked strictly."""

from __future__ import annotations

from hf_crosstask.recipe.json_schema import recipe_schema
from hf_crosstask.recipe.load import load_recipe
from hf_crosstask.recipe.schema import (
    Adapter,
    BudgetSettings,
    Evaluation,
    Match,
    MixingSettings,
    Model,
    Recipe,
    Strategy,
)
from hf_crosstask.recipe.training import TrainingSettings

__all__ = [
    "Adapter",
    "BudgetSettings",
    "Evaluation",
    "Match",
    "MixingSettings",
    "Model",
    "Recipe",
    "Strategy",
    "TrainingSettings",
    "load_recipe",
    "recipe_schema",
]
