"""Looks at the validation split: whoever looks more often chooses better by chance alone.

An envelope is the best of several budgets by validation, so that choice is a look. What training itself chooses by
validation (a checkpoint, the end, the learning rate) must be chosen among equally many looks in every budget and in the
multi-task arm that they are compared with.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from hf_crosstask.recipe.schema import Recipe

if TYPE_CHECKING:
    from hf_crosstask.evaluation.result import RunResult

#: Learning-rate schedules that follow the validation loss.
_FOLLOWING = ("reduce_lr_on_plateau", "greedy")


def chosen_by_validation(recipe: Recipe) -> tuple[str, ...]:
    """What training chooses by the validation split."""
    training = recipe.training
    choices = {
        "the checkpoint": bool(getattr(training, "load_best_model_at_end", None)),
        "the end of training": training.early_stopping_patience is not None,
        "the learning rate": str(getattr(training, "lr_scheduler_type", None)) in _FOLLOWING,
    }
    return tuple(name for name, chosen in choices.items() if chosen)


def unequal_looks(recipe: Recipe, reference: Recipe) -> list[str]:
    """Why a budget of an envelope and the arm that it is matched to would not look equally often; empty where they do."""
    ours, theirs = chosen_by_validation(recipe), chosen_by_validation(reference)
    if ours != theirs:
        return [
            f"an envelope and its arm choose by validation alike, but the one chooses {_listed(ours)}, the other "
            f"{_listed(theirs)}: give both the same training settings"
        ]
    if not ours:
        return []
    if "the end of training" in ours:
        return ["early stopping ends the looks at validation early, in each run after another number: leave it out"]
    keys = ("eval_strategy", "eval_steps", "eval_delay")
    settings = [tuple(getattr(each.training, key, None) for key in keys) for each in (recipe, reference)]
    strategy, steps, delay = settings[0]
    if settings[0] != settings[1] or strategy != "steps" or steps is None or not 0 < steps < 1 or delay:
        return [
            f"training chooses {_listed(ours)} by validation, so every budget of the envelope and the arm it is matched to "
            'must look equally often: set training.eval_strategy "steps" and training.eval_steps to the same share of '
            "the run in both, such as 0.1 (ten looks), without eval_delay"
        ]
    return []


def looks_differ(results: Mapping[str, tuple[Recipe, RunResult]]) -> list[str]:
    """Runs that looked at validation more or less often than the others, where training chose by it.

    Args:
        results: recipe and result by what messages call the run; those of an envelope and of the multi-task arm.
    """
    choosing = {name: result for name, (recipe, result) in results.items() if chosen_by_validation(recipe)}
    numbers = {name: result.validation_looks for name, result in choosing.items()}
    if len(set(numbers.values())) <= 1 and None not in numbers.values():
        return []
    found = [
        f"{name} {'does not say how often it looked' if count is None else f'looked {count} times'}"
        for name, count in numbers.items()
    ]
    remedy = "Give the smallest budget more steps than looks, or look less often"
    return [f"unequal looks at validation: {', '.join(found)}. {remedy}"]


def selection(results: Mapping[str, tuple[Recipe, RunResult]], budgets: int, chosen: Mapping[int, float]) -> str:
    """How an envelope was chosen, in words.

    Args:
        results: recipe and result of its runs and of the multi-task arm's.
        budgets: how many budgets there are.
        chosen: share of the tokens that was chosen, by seed.
    """
    picked = ", ".join(f"seed {seed} {share:g}" for seed, share in sorted(chosen.items()))
    text = f"the best of {budgets} budgets by validation (share of the tokens: {picked})"
    choices = next((chosen_by_validation(recipe) for recipe, _ in results.values()), ())
    if not choices:
        return f"{text}; no arm chooses a checkpoint by validation, so this choice is the only look at it"
    looks = next(result.validation_looks for _, result in results.values())
    return (
        f"{text}; every budget and the multi-task arm looked at validation {looks} times to choose {_listed(choices)}, so "
        "the choice among budgets is one look more, in the control's favour"
    )


def _listed(names: tuple[str, ...]) -> str:
    return " and ".join(names) or "nothing"
