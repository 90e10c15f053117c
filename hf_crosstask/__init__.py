"""hf_crosstask: multi-task fine-tuning with token-controlled baselines.

Public names load on first use, so that `import hf_crosstask` and `hf-crosstask --help` import no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from hf_crosstask._version import __version__

if TYPE_CHECKING:
    from hf_crosstask.models.multitask import MultiTaskModel as MultiTaskModel
    from hf_crosstask.planning.plan import TrainingPlan as TrainingPlan
    from hf_crosstask.planning.plan import plan as plan
    from hf_crosstask.recipe import Recipe as Recipe
    from hf_crosstask.recipe import load_recipe as load_recipe
    from hf_crosstask.release.load import load_released as load_released
    from hf_crosstask.run.load import load_run as load_run
    from hf_crosstask.training.arguments import MultiTaskTrainingArguments as MultiTaskTrainingArguments
    from hf_crosstask.training.arguments import TokenBudgetTrainingArguments as TokenBudgetTrainingArguments
    from hf_crosstask.training.token_budget import TokenBudgetTrainer as TokenBudgetTrainer
    from hf_crosstask.training.trainer import MultiTaskTrainer as MultiTaskTrainer

_PUBLIC = {
    "MultiTaskModel": "hf_crosstask.models.multitask",
    "MultiTaskTrainer": "hf_crosstask.training.trainer",
    "MultiTaskTrainingArguments": "hf_crosstask.training.arguments",
    "Recipe": "hf_crosstask.recipe",
    "TokenBudgetTrainer": "hf_crosstask.training.token_budget",
    "TokenBudgetTrainingArguments": "hf_crosstask.training.arguments",
    "TrainingPlan": "hf_crosstask.planning.plan",
    "load_recipe": "hf_crosstask.recipe",
    "load_released": "hf_crosstask.release.load",
    "load_run": "hf_crosstask.run.load",
    "plan": "hf_crosstask.planning.plan",
}

__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
