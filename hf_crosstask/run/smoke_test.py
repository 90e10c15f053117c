"""A smoke test before a long run: a few steps on a few examples must lower the loss.

The recipe is trained on a copy: `STEPS` steps on `EXAMPLES` training examples of each task, at the recipe's peak learning
rate from the fifth step on (a schedule made for the whole run would not reach it). Each task's loss on these examples,
without dropout, is taken before and after. The test fails where a loss is no number, or where the tasks' losses have not
fallen on average, each measured by what it was. Nothing of it enters the run.
"""

from __future__ import annotations

import gc
import math
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from transformers import PrinterCallback

from hf_crosstask.encoding.encode import EncodedTask
from hf_crosstask.errors import InputError, Interrupted
from hf_crosstask.planning.budget import Budget
from hf_crosstask.planning.plan import plan
from hf_crosstask.run.prepare import Prepared, mixing
from hf_crosstask.training.rows import row_shapes, token_lengths
from hf_crosstask.training.trainer import MultiTaskTrainer

STEPS, EXAMPLES, WARM_UP = 50, 100, 5


@dataclass(frozen=True)
class SmokeTest:
    """Each task's mean loss over its examples, before and after."""

    before: Mapping[str, float]
    after: Mapping[str, float]

    @property
    def ratio(self) -> float:
        """Loss after over loss before, mean over the tasks."""
        return sum(self.after[task] / self.before[task] for task in self.before) / len(self.before)

    def problem(self) -> str | None:
        """What is wrong; None where the losses fell."""
        broken = [task for task in self.before if not math.isfinite(self.before[task])]
        if broken:
            return f"the loss of {', '.join(broken)} is no number before the first step"
        lost = [task for task, loss in self.after.items() if not math.isfinite(loss)]
        if lost:
            return f"the loss of {', '.join(lost)} is no number after {STEPS} steps"
        return None if self.ratio < 1 else "the loss did not fall"

    def __str__(self) -> str:
        return ", ".join(f"{task} {self.before[task]:.4f} to {self.after[task]:.4f}" for task in self.before)


def smoke_test(prepared: Prepared, build: Callable[[Prepared, Path], MultiTaskTrainer]) -> SmokeTest:
    """Run it; all processes take part.

    Args:
        prepared: the run.
        build: makes the trainer of a run that writes into a folder.

    Raises:
        InputError: the run is doomed as it stands.
    """
    with tempfile.TemporaryDirectory(prefix="hf_crosstask-smoke-") as folder:
        trainer = build(_small(prepared), Path(folder))
        trainer.remove_callback(PrinterCallback)
        before = _losses(trainer)
        trainer.train()
        if trainer.stopped:
            raise Interrupted(f"{trainer.stopped} in the smoke test; nothing was written. Start again.")
        found = SmokeTest(before, _losses(trainer))
        main = trainer.is_world_process_zero()
        trainer.accelerator.wait_for_everyone()
    del trainer
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    problem = found.problem()
    if problem is not None:
        rate = getattr(prepared.recipe.training, "learning_rate", None)
        raise InputError(
            f"smoke test failed: {problem} ({found}, {STEPS} steps on {EXAMPLES} examples a task). Lower "
            f"training.learning_rate ({'5e-05 by default' if rate is None else f'{rate:g}'}) or look at the data; without "
            "--smoke-test the run starts all the same"
        )
    if main:
        print(f"smoke test passed: {found}")
    return found


def _small(prepared: Prepared) -> Prepared:
    """The run cut down: the same recipe but for schedule, evaluation and saving, and a plan of its own."""
    recipe = prepared.recipe
    changed = {
        "lr_scheduler_type": "constant_with_warmup",
        "lr_scheduler_kwargs": None,
        "warmup_steps": WARM_UP,
        "eval_strategy": "no",
        "save_strategy": "no",
        "logging_strategy": "no",
        "load_best_model_at_end": False,
        "early_stopping_patience": None,
        "time_limit_minutes": None,
        "report_to": "none",
        "disable_tqdm": True,
    }
    training = recipe.training.model_copy(update=changed)
    budget = recipe.budget.model_copy(update={"epochs": None, "tokens": None, "match": None, "steps": STEPS})
    strategy = recipe.strategy.model_copy(update={"ewc": None, "rehearsal": None})  # there is one stage
    small = recipe.model_copy(update={"training": training, "budget": budget, "strategy": strategy})
    encoded = {task: _first(splits) for task, splits in prepared.encoded.items()}
    lengths = {task: token_lengths(splits["train"].dataset, task) for task, splits in encoded.items()}
    tokens_per_step = min(training.tokens_per_step, max(1, sum(int(each.sum()) for each in lengths.values())))
    short = plan(
        lengths,
        shapes={task: row_shapes(splits["train"].dataset, task) for task, splits in encoded.items()},
        budget=Budget(steps=STEPS),
        mixing=mixing(recipe),
        tokens_per_step=tokens_per_step,
        micro_batch_tokens=min(tokens_per_step, int(prepared.plan.parameters["micro_batch_tokens"])),
        seed=training.seed,
    )
    return replace(prepared, recipe=small, encoded=encoded, plan=short, reference=None)


def _first(splits: Mapping[str, EncodedTask]) -> dict[str, EncodedTask]:
    """A task's splits with the first rows of its training data only."""
    train = splits["train"]
    rows = range(min(EXAMPLES, len(train.dataset)))
    return {**splits, "train": replace(train, dataset=train.dataset.select(rows))}


def _losses(trainer: MultiTaskTrainer) -> dict[str, float]:
    """Mean loss of every task over its training examples."""
    metrics = trainer.evaluate(trainer.train_dataset, metric_key_prefix="smoke")
    return {task: metrics[f"smoke_{task}_loss"] for task in trainer.tasks}
