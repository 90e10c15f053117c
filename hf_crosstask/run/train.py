"""Training a recipe, from its file to `result.json`."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import datasets
import torch
from transformers import EarlyStoppingCallback, EvalPrediction, TrainerCallback

from hf_crosstask.atomic import write_json
from hf_crosstask.errors import InputError, Interrupted
from hf_crosstask.evaluation.result import FILE_NAME, read_result
from hf_crosstask.evaluation.scorer import Scorer
from hf_crosstask.evaluation.stages_table import print_stages
from hf_crosstask.evaluation.table import print_table
from hf_crosstask.models.build import build_model
from hf_crosstask.models.kernels import apply_liger
from hf_crosstask.models.multitask import MultiTaskModel
from hf_crosstask.models.precision import Precision
from hf_crosstask.planning.plan import assign_to_processes
from hf_crosstask.planning.stages import stages_of
from hf_crosstask.planning.stored import FILE_NAME as PLAN_FILE
from hf_crosstask.planning.stored import write_plan
from hf_crosstask.planning.table import print_plan
from hf_crosstask.recipe import Recipe
from hf_crosstask.run.adapters_table import print_adapters
from hf_crosstask.run.cost import cost_note, extra_forward_tokens, flops_note
from hf_crosstask.run.finish import finish
from hf_crosstask.run.fitting import FILE_NAME as FITTING
from hf_crosstask.run.fitting import fitted
from hf_crosstask.run.generating import is_generative, refuse_sharded_generation
from hf_crosstask.run.precision import run_precision
from hf_crosstask.run.prepare import Prepared, evaluates_in_training, prepare, stage_split
from hf_crosstask.run.smoke_test import smoke_test as run_smoke_test
from hf_crosstask.training.arguments import (
    MACRO_SCORE,
    MultiTaskTrainingArguments,
    TokenBudgetTrainingArguments,
)
from hf_crosstask.training.checkpoint import (
    checkpoints,
    last_complete_checkpoint,
    read_progress,
    remove_staging,
)
from hf_crosstask.training.memory import MemoryMonitor
from hf_crosstask.training.token_budget import TokenBudgetTrainer
from hf_crosstask.training.trainer import MultiTaskTrainer


def train(recipe: Recipe, *, dry_run: bool = False, resume: bool = False, smoke_test: bool = False) -> int:
    """Train and score a recipe.

    Args:
        recipe: a checked recipe.
        dry_run: print the plan and stop; no weights are loaded and nothing is written but caches.
        resume: continue from the newest complete checkpoint in the recipe's `output_dir`, if there is one.
        smoke_test: first train a copy for a few steps, and stop where its loss does not fall (also in a dry run).

    Returns:
        0.

    Raises:
        InputError: the recipe does not fit the data, the model or what is in `output_dir`.
        Interrupted: stopped early on purpose; resumable.
    """
    _quieten_libraries()
    run_dir = Path(recipe.output_dir).expanduser()
    base: dict[str, Any] = {"output_dir": str(run_dir), "use_cpu": _use_cpu(recipe)}
    probe = MultiTaskTrainingArguments(**base)  # starts the process group: who prepares first is known from here on
    main = probe.process_index == 0
    if dry_run:
        with tempfile.TemporaryDirectory(prefix="hf_crosstask-") as folder:
            prepared = _prepare(recipe, probe, base, Path(folder), fitting=None)
            if smoke_test:
                _smoke_test(prepared, run_precision(prepared, probe.device), base)
        return 0
    if _finished(recipe, run_dir, resume=resume, main=main):
        return 0
    try:
        record = run_dir / FITTING if resume else None
        base_models = Path(recipe.base_model_dir).expanduser() if recipe.base_model_dir else run_dir / "base_model"
        prepared = _prepare(recipe, probe, base, base_models, fitting=record)
        precision = run_precision(prepared, probe.device)
        checkpoint = _checkpoint(run_dir, prepared, precision) if resume else None
        if smoke_test and checkpoint is None:
            _smoke_test(prepared, precision, base)
        trainer = build_trainer(prepared, precision, base)
    except InputError:
        _discard_unstarted(run_dir)
        raise
    if main:
        run_dir.mkdir(parents=True, exist_ok=True)
        remove_staging(run_dir)
        write_json(run_dir / "recipe.json", recipe.resolved())
        extra = {task: tokens for task, tokens in extra_forward_tokens(prepared).items() if tokens}
        write_json(run_dir / "plan.json", prepared.plan.summary() | ({"extra_forward_tokens": extra} if extra else {}))
        write_plan(run_dir / PLAN_FILE, prepared.plan)
        if prepared.fitting is not None:
            write_json(run_dir / FITTING, dict(prepared.fitting))
    if main and resume:
        print(f"resuming from {checkpoint}" if checkpoint else "no complete checkpoint to resume from: starting anew")
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if trainer.stopped:
        trainer.accelerator.wait_for_everyone()
        raise Interrupted(
            f"{trainer.stopped} after step {trainer.state.global_step} of {prepared.plan.num_steps}; a checkpoint is in "
            f"{run_dir}. Continue with --resume."
        )
    result = finish(trainer, prepared, precision, run_dir)
    if main:
        print_table(result)
        print_stages(result)
        print(f"results in {run_dir}")
    trainer.end()
    return 0


def prepare_run(recipe: Recipe, folder: Path) -> tuple[Prepared, Precision, dict[str, Any]]:
    """A run that writes into a folder, its number formats, and the arguments that depend on the machine."""
    _quieten_libraries()
    base: dict[str, Any] = {"output_dir": str(folder), "use_cpu": _use_cpu(recipe)}
    probe = MultiTaskTrainingArguments(**base)
    prepared = _prepare(recipe, probe, base, folder / "base_model", fitting=None)
    return prepared, run_precision(prepared, probe.device), base


def _prepare(
    recipe: Recipe,
    probe: MultiTaskTrainingArguments,
    base: Mapping[str, Any],
    base_models: Path,
    *,
    fitting: Path | None,
) -> Prepared:
    """Prepare, the first process of each machine before the others, and show the plan."""
    with probe.main_process_first(local=True, desc="preparing data"):
        prepared = prepare(recipe, base_models=base_models)
    if recipe.training.micro_batch_tokens == "auto":
        precision = run_precision(prepared, probe.device)
        prepared = fitted(prepared, lambda run: build_trainer(run, precision, base), fitting)
    if probe.process_index == 0:
        print_plan(prepared.plan.summary())
        print_adapters(prepared)
        adapter = prepared.matched_adapter
        text = ", ".join(recipe.text_tasks)
        text_note = text and f"trained on text only, without labels and without a score: {text}"
        for note in (adapter and adapter.describe(), cost_note(prepared), flops_note(prepared), text_note):
            if note:
                print(note)
        _warn_idle_processes(prepared, probe.world_size)
    return prepared


def _smoke_test(prepared: Prepared, precision: Precision, base: Mapping[str, Any]) -> None:
    run_smoke_test(prepared, lambda run, folder: build_trainer(run, precision, {**base, "output_dir": str(folder)}))


def _checkpoint(run_dir: Path, prepared: Prepared, precision: Precision) -> Path | None:
    """The newest complete checkpoint, checked to be of this run before anything of the run is touched."""
    checkpoint = last_complete_checkpoint(run_dir)
    if checkpoint is not None:
        plan, run = prepared.plan.fingerprint, prepared.run_fingerprint
        read_progress(checkpoint, plan=plan, run=run, formats=precision.formats)
    return checkpoint


def _discard_unstarted(run_dir: Path) -> None:
    """Remove what preparing left in the folder of a run that never started."""
    if not (run_dir / "recipe.json").exists():
        shutil.rmtree(run_dir / "base_model", ignore_errors=True)
        with contextlib.suppress(OSError):  # it holds something else
            run_dir.rmdir()


def build_trainer(
    prepared: Prepared, precision: Precision, base: Mapping[str, Any], *, again: bool = False
) -> MultiTaskTrainer:
    """The recipe's model and trainer, ready to train; `again`: the model is made anew for every training."""
    recipe = prepared.recipe

    def model() -> MultiTaskModel:
        made = build_model(
            prepared.source,
            prepared.config,
            [each.card for each in prepared.data.values()],
            precision=precision,
            lora=prepared.layout,
            head_dropout=recipe.model.head_dropout,
            seed=recipe.training.seed,
            text=prepared.text,
        )
        if getattr(recipe.training, "use_liger_kernel", None):
            apply_liger(made.body)
        return made

    controlled = prepared.reference is not None or recipe.budget.tokens is not None
    arguments = _arguments(prepared, precision, base, controlled=controlled)
    callbacks: list[TrainerCallback] = [MemoryMonitor()]
    if recipe.training.early_stopping_patience is not None:
        callbacks.append(EarlyStoppingCallback(recipe.training.early_stopping_patience))
    splits = _splits_in_training(prepared)
    trainer_class = TokenBudgetTrainer if controlled else MultiTaskTrainer
    trainer = trainer_class(
        model=None if again else model(),
        model_init=model if again else None,
        args=arguments,
        train_dataset={task: splits["train"].dataset for task, splits in prepared.encoded.items()},
        eval_dataset={task: prepared.encoded[task][split].dataset for task, split in splits.items()} or None,
        processing_class=prepared.tokenizer,
        compute_metrics=(
            {
                task: _metrics(prepared.scorer(task, splits[task]), splits[task])
                for task in _scored_in_training(prepared)
            }
            if splits
            else None
        ),
        callbacks=callbacks,
        plan=prepared.plan,
    )
    refuse_sharded_generation(trainer, prepared)
    return trainer


def _scored_in_training(prepared: Prepared) -> list[str]:
    """Tasks with metrics during training; of generative ones only the loss is known then (see `generating`)."""
    return [task for task in prepared.scored if not is_generative(prepared, task)]


def _arguments(
    prepared: Prepared, precision: Precision, base: Mapping[str, Any], *, controlled: bool
) -> MultiTaskTrainingArguments:
    recipe = prepared.recipe
    training = recipe.training
    values: dict[str, Any] = {
        "save_strategy": "steps",
        "save_steps": 0.1,
        "save_total_limit": 2,
        "logging_steps": 0.02,
        **training.arguments(),
        **base,
        "use_liger_kernel": False,  # done when the model is built: the Trainer passes over a multi-task model
        "bf16": precision.name == "bf16",
        "fp16": precision.name == "fp16",
        "tokens_per_step": training.tokens_per_step,
        "micro_batch_tokens": prepared.plan.parameters["micro_batch_tokens"],
        "eval_batch_tokens": training.eval_batch_tokens,
        "loss_weights": training.loss_weights,
        "gradient_surgery": recipe.strategy.surgery_method,
        "surgery_granularity": recipe.strategy.surgery.granularity if recipe.strategy.surgery else "global",
        "stage_order": [stage.task for stage in stages_of(prepared.plan)] or None,
        "rehearsal": recipe.strategy.rehearsal or 0.0,
        "ewc": recipe.strategy.ewc or 0.0,
        "time_limit_minutes": training.time_limit_minutes,
        "primary_metrics": {task: each.card.primary_metric for task, each in prepared.scored.items()},
        "fingerprint": prepared.run_fingerprint,
        "data_seed": training.seed,
    }
    if evaluates_in_training(recipe) and not _scored_in_training(prepared):
        values.setdefault("metric_for_best_model", "loss")
        values.setdefault("greater_is_better", False)
    if training.early_stopping_patience is not None:
        values.setdefault("metric_for_best_model", MACRO_SCORE)
        values.setdefault("greater_is_better", True)
    arguments_class: type[MultiTaskTrainingArguments] = MultiTaskTrainingArguments
    if controlled:
        arguments_class = TokenBudgetTrainingArguments
        match = recipe.budget.match
        if match:
            values |= {"match": match.run, "match_mode": match.mode, "match_fraction": match.fraction}
        else:
            values["token_budget"] = recipe.budget.tokens
    try:
        return arguments_class(**values)
    except ValueError as error:  # transformers' own rules between its arguments
        raise InputError(f"training: {error}") from error


def _splits_in_training(prepared: Prepared) -> dict[str, str]:
    """The split of each task that is scored during training, or after every stage; empty where nothing is."""
    if evaluates_in_training(prepared.recipe):
        return dict.fromkeys(prepared.scored, "validation")
    found = {task: stage_split(prepared.recipe, data) for task, data in prepared.scored.items()}
    return {task: split for task, split in found.items() if split is not None}


def _metrics(scorer: Scorer, split: str) -> Callable[[EvalPrediction], dict[str, float]]:
    def metrics(output: EvalPrediction) -> dict[str, float]:
        # As the model would be used: see `run.thresholds`.
        chosen = scorer.with_best_threshold(output.predictions) if split == "validation" else scorer
        return chosen.score(chosen.decode(output.predictions))

    return metrics


def _finished(recipe: Recipe, run_dir: Path, *, resume: bool, main: bool) -> bool:
    """Whether the run is already complete. A folder that holds anything else of a run is refused without `resume`."""
    if (run_dir / FILE_NAME).exists():
        result = read_result(run_dir)
        same = result.fingerprints.recipe == recipe.fingerprint()
        if resume and same:
            if main:
                print_table(result)
                print(f"{run_dir} is complete: nothing to do")
            return True
        other = "" if same else " of another recipe"
        raise InputError(
            f"{run_dir} already holds a finished run{other}. Choose another output_dir=…, or delete the folder to run anew."
        )
    if not resume and checkpoints(run_dir):
        raise InputError(
            f"{run_dir} holds checkpoints of an unfinished run. Continue it with --resume, choose another output_dir=…, "
            "or delete the folder to run anew."
        )
    return False


def _warn_idle_processes(prepared: Prepared, processes: int) -> None:
    """Say so where processes would wait for each other most of the time."""
    if processes == 1:
        return
    plan = prepared.plan
    idle = 0
    for step in range(plan.num_steps):
        owners = assign_to_processes([batch.padded for batch in plan.step(step)], processes)
        idle += processes - len(set(owners))
    if idle > 0.1 * processes * plan.num_steps:
        print(
            f"note: {idle / (processes * plan.num_steps):.0%} of process steps have nothing to do; lower "
            f"training.micro_batch_tokens below {prepared.plan.parameters['tokens_per_step'] // processes} so that every "
            f"step has a micro-batch for each of the {processes} processes",
            file=sys.stderr,
        )


def _use_cpu(recipe: Recipe) -> bool:
    return bool(getattr(recipe.training, "use_cpu", None)) or not (
        torch.cuda.is_available() or torch.backends.mps.is_available()
    )


def _quieten_libraries() -> None:
    """Silence notices that a user can do nothing about."""
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|peft|torch)\.")
    datasets.logging.set_verbosity_error()
