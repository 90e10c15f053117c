"""Hyper-parameter search with the Trainer's own optuna backend.

Every trial trains the recipe's whole plan (the searched keys do not change it) and is scored by the macro score of the
validation splits; the test splits are not scored. A comparison of arms is fair where each was tuned with the same space
and the same number of trials: `tune.json` holds both.
"""

from __future__ import annotations

import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import PrinterCallback
from transformers.trainer_utils import IntervalStrategy

from hf_crosstask.atomic import write_json
from hf_crosstask.errors import InputError, Interrupted
from hf_crosstask.recipe import Recipe
from hf_crosstask.recipe.search_space import SEARCHABLE, SearchSpace
from hf_crosstask.run.train import build_trainer, prepare_run
from hf_crosstask.training.arguments import MACRO_SCORE

if TYPE_CHECKING:
    import optuna

FILE_NAME = "tune.json"
_OBJECTIVE = f"eval_{MACRO_SCORE}"


def tune(recipe: Recipe, space: SearchSpace, *, trials: int, seed: int, json_file: Path) -> int:
    """Search, and write what was found.

    Args:
        recipe: the arm.
        space: what is searched.
        trials: how many are run; every arm of a comparison gets as many.
        seed: of the sampler. The runs have the recipe's.
        json_file: where the trials and the best of them are written.

    Returns:
        0.

    Raises:
        InputError: optuna is not installed, or no task has a score during training.
        Interrupted: stopped early; nothing is written.
    """
    if find_spec("optuna") is None:
        raise InputError('`tune` needs optuna: pip install "hf_crosstask[tune]"')
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.InMemoryStorage()
    with tempfile.TemporaryDirectory(prefix="hf_crosstask-tune-") as folder:
        prepared, precision, base = prepare_run(_searched(recipe, space), Path(folder))
        trainer = build_trainer(prepared, precision, base, again=True)
        if not trainer.compute_metrics:
            raise InputError("no task of the recipe can be scored without generating: there is nothing to tune by")
        trainer.remove_callback(PrinterCallback)
        trainer.args.eval_strategy = IntervalStrategy.NO  # each trial is scored once, when it has ended
        main, scored = trainer.is_world_process_zero(), 0

        def objective(metrics: dict[str, float]) -> float:
            nonlocal scored
            if trainer.stopped:
                raise Interrupted(f"{trainer.stopped} in trial {scored + 1} of {trials}; nothing was written")
            scored += 1
            if main:
                print(f"trial {scored} of {trials}: {MACRO_SCORE} {metrics[_OBJECTIVE]:.4f}", flush=True)
            return metrics[_OBJECTIVE]

        trainer.hyperparameter_search(
            hp_space=lambda trial: {name: _drawn(trial, name, space) for name in space.parameters},
            compute_objective=objective,
            n_trials=trials,
            direction="maximize",
            backend="optuna",
            sampler=optuna.samplers.TPESampler(seed=seed),
            pruner=optuna.pruners.NopPruner(),  # a pruned trial would be a shorter one
            storage=storage,
            study_name=recipe.name,
        )
        tokens = prepared.plan.total_tokens
    if not main:
        return 0
    study = optuna.load_study(study_name=recipe.name, storage=storage)
    best = {f"training.{name}": value for name, value in study.best_trial.params.items()}
    write_json(
        json_file,
        {
            "version": 1,
            "recipe": recipe.name,
            "fingerprint": recipe.fingerprint(),
            "space": {"fingerprint": space.fingerprint(), **space.model_dump(mode="json")},
            "sampler": {"name": "TPE", "seed": seed},
            "objective": {"metric": MACRO_SCORE, "split": "validation"},
            "tokens_per_trial": tokens,
            "trials": [{"number": each.number, "values": each.params, "score": each.value} for each in study.trials],
            "best": {"score": study.best_value, "overrides": best},
        },
    )
    overrides = " ".join(f"{key}={value}" for key, value in best.items())
    print(
        f"best of {trials} trials: {MACRO_SCORE} {study.best_value:.4f} with {overrides}\n{json_file} holds all of them"
    )
    return 0


def _searched(recipe: Recipe, space: SearchSpace) -> Recipe:
    """The recipe of every trial: scored on the validation splits, saving nothing.

    Each searched key gets a value of its space: the Trainer gives what optuna draws the type of the value before.
    """
    training: dict[str, Any] = {name: SEARCHABLE[name](each.first) for name, each in space.parameters.items()}
    training |= {
        "eval_strategy": "epoch",
        "save_strategy": "no",
        "logging_strategy": "no",
        "load_best_model_at_end": False,
        "early_stopping_patience": None,
        "report_to": "none",
        "disable_tqdm": True,
    }
    changed = {
        "training": recipe.training.model_copy(update=training),
        "evaluation": recipe.evaluation.model_copy(update={"split": "validation"}),
    }
    return recipe.model_copy(update=changed)


def _drawn(trial: optuna.Trial, name: str, space: SearchSpace) -> Any:
    parameter = space.parameters[name]
    if parameter.choices is not None:
        return trial.suggest_categorical(name, list(parameter.choices))
    assert parameter.low is not None
    assert parameter.high is not None
    return trial.suggest_float(name, parameter.low, parameter.high, log=parameter.log)
