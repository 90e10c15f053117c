"""After training: adapters, predictions, scores, `result.json` and the run's README."""

from __future__ import annotations

import math
import resource
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from transformers.trainer_utils import PredictionOutput

from hf_crosstask.atomic import file_sha256, write_json, write_text
from hf_crosstask.evaluation.environment import environment, threads
from hf_crosstask.evaluation.result import (
    Fingerprints,
    FlopCounts,
    MatchResult,
    ParameterCounts,
    ParameterMatch,
    RunResult,
    TaskMetrics,
    TaskResult,
    TaskTokenCounts,
    TextTaskResult,
    TokenCounts,
    TrainResult,
    write_result,
)
from hf_crosstask.evaluation.table import render
from hf_crosstask.models.export import export_task_adapter
from hf_crosstask.models.export_hierarchical import export_fed_task, is_fed
from hf_crosstask.models.hierarchical import HierarchicalModel
from hf_crosstask.models.multitask import MultiTaskModel
from hf_crosstask.models.precision import Precision
from hf_crosstask.planning.stored import FILE_NAME as PLAN_FILE
from hf_crosstask.run.flops import flop_counts
from hf_crosstask.run.generating import generate_answers
from hf_crosstask.run.prepare import Prepared, evaluates_in_training
from hf_crosstask.run.stages import stages_result
from hf_crosstask.run.thresholds import choose_thresholds
from hf_crosstask.tasks.audit import AuditSpec
from hf_crosstask.training.token_budget import TokenBudgetTrainer
from hf_crosstask.training.trainer import MultiTaskTrainer

#: Cosines between the tasks' gradients over the run, one row a pair.
CONFLICTS = "gradient_conflicts.json"


def finish(trainer: MultiTaskTrainer, prepared: Prepared, precision: Precision, run_dir: Path) -> RunResult:
    """Save what was trained, score it, and write the result last. All processes take part; the first one writes."""
    main = trainer.is_world_process_zero()
    if main:
        _save_model(trainer, prepared, run_dir)
    split = prepared.recipe.evaluation.split
    trainer.compute_metrics = None  # those of the validation split; what is predicted from here on is scored below
    thresholds = choose_thresholds(trainer, prepared)
    outputs: Any = trainer.predict(prepared.split(split))
    answers = generate_answers(trainer, prepared, split)
    ledger = trainer.ledger.by_task()
    losses = trainer.accounts.mean_losses()
    metrics = {
        task: _score(prepared, task, output, run_dir, thresholds.get(task), answers.get(task), main=main)
        for task, output in outputs.items()
    }
    validation = _validation_scores(trainer, prepared, thresholds)
    result = _result(trainer, prepared, precision, ledger, losses, metrics)
    if main:
        write_text(run_dir / "README.md", _readme(prepared, result))
        stages = stages_result(trainer, prepared)
        more: dict[str, Any] = {"validation": validation, "threads": threads(), "stages": stages}
        if trainer.gradient_conflicts:
            write_json(run_dir / CONFLICTS, trainer.gradient_conflicts)
            more["gradient_conflicts"] = trainer.gradient_conflicts
        more["files"] = _files(run_dir)
        result = result.model_copy(update=more)
        write_result(run_dir, result)
    trainer.accelerator.wait_for_everyone()
    return result


def _save_model(trainer: MultiTaskTrainer, prepared: Prepared, run_dir: Path) -> None:
    """Adapters (or the whole model) and heads, replaced as a whole: a killed save is done again by --resume."""
    model = trainer.model
    assert isinstance(model, MultiTaskModel)
    for name in ("adapters", "heads", "model"):
        shutil.rmtree(run_dir / name, ignore_errors=True)
    model.save_pretrained(run_dir)
    prepared.tokenizer.save_pretrained(str(run_dir / "tokenizer"))
    for task, each in prepared.scored.items():
        if isinstance(model, HierarchicalModel) and is_fed(model, task):
            export_fed_task(
                model,
                each.card,
                [prepared.data[name].card for name in model.layout.at(1)],
                run_dir / "adapters" / task,
                tokenizer=prepared.tokenizer,
                base_model=prepared.source.name_or_path,
            )
            continue
        export_task_adapter(
            model,
            each.card,
            run_dir / "adapters" / task,
            tokenizer=prepared.tokenizer,
            base_model=prepared.source.name_or_path,
        )


def _validation_scores(
    trainer: MultiTaskTrainer, prepared: Prepared, thresholds: dict[str, float]
) -> dict[str, dict[str, float]]:
    """All values of every task on its validation split, where the recipe asks for them. All processes take part."""
    if not prepared.recipe.evaluation.score_validation:
        return {}
    outputs: Any = trainer.predict(prepared.split("validation"), metric_key_prefix="validation")
    answers = generate_answers(trainer, prepared, "validation")
    scores = {}
    for task, output in outputs.items():
        scorer = prepared.scorer(task, "validation")
        if task in thresholds:
            scorer = scorer.with_threshold(thresholds[task])
        given = answers.get(task)
        logits = output.predictions
        scores[task] = scorer.score(scorer.decode(logits) if given is None else scorer.read(given, logits))
    return scores


def _files(run_dir: Path) -> dict[str, str]:
    """SHA-256 of the files that scores and token accounts can be computed from again, by path in the run folder."""
    files = [run_dir / "recipe.json", run_dir / PLAN_FILE, *(run_dir / "predictions").glob("*.parquet")]
    return {path.relative_to(run_dir).as_posix(): file_sha256(path) for path in sorted(files)}


def _score(
    prepared: Prepared,
    task: str,
    output: PredictionOutput,
    run_dir: Path,
    threshold: float | None,
    answers: list[str] | None,
    *,
    main: bool,
) -> TaskMetrics:
    settings = prepared.recipe.evaluation
    scorer = prepared.scorer(task, settings.split)
    decision: dict[str, Any] = {}
    if threshold is not None:
        scorer = scorer.with_threshold(threshold)
    if scorer.threshold is not None:
        decision = {"threshold": scorer.threshold, "threshold_from": "default" if threshold is None else "validation"}
    logits = output.predictions
    predictions = scorer.decode(logits) if answers is None else scorer.read(answers, logits)
    if main:
        predictions.to_parquet(run_dir / "predictions" / f"{task}.parquet")
    primary = prepared.data[task].card.primary_metric
    return TaskMetrics(
        primary=primary,
        values=scorer.evaluate(
            predictions,
            replicates=settings.bootstrap_replicates,
            seed=prepared.recipe.training.seed,
            level=settings.confidence,
        ),
        majority=scorer.majority()[primary],
        **decision,
    )


def _result(
    trainer: MultiTaskTrainer,
    prepared: Prepared,
    precision: Precision,
    ledger: dict[str, dict[str, int]],
    losses: dict[str, float],
    metrics: dict[str, TaskMetrics],
) -> RunResult:
    recipe, plan = prepared.recipe, prepared.plan
    planned = plan.tokens_by_task
    tasks, text_tasks = {}, {}
    for task, data in prepared.data.items():
        counted, unique = ledger[task], int(plan.lengths[task].sum())
        trained: dict[str, Any] = {
            "type": data.card.type,
            "examples": {split: len(examples) for split, examples in data.splits.items()},
            "tokens": TaskTokenCounts(
                planned=planned[task],
                counted=counted["tokens"],
                padded=counted["padded"],
                supervised=counted["supervised"],
                unique=unique,
                extra_forward_tokens=_again(trainer, task, counted["tokens"]),
            ),
            "epochs": counted["tokens"] / unique,
            "loss": _finite(losses[task]),
            "encoding": {split: each.report.as_dict() for split, each in prepared.encoded[task].items()},
            "data_fingerprint": data.fingerprint,
        }
        if task in metrics:
            tasks[task] = TaskResult(**trained, metrics=metrics[task], dropped=data.dropped, lost_gold=data.lost_gold)
        else:
            text_tasks[task] = TextTaskResult(**trained)
    total = sum(row["tokens"] for row in ledger.values())
    fingerprints = Fingerprints(recipe=recipe.fingerprint(), data=prepared.data_fingerprint, plan=plan.fingerprint)
    seconds = trainer.accounts.seconds
    completed = trainer.state.global_step >= plan.num_steps
    flops = flop_counts(prepared.flops, plan, trainer.state.global_step) if prepared.flops else None
    assert isinstance(trainer.model, MultiTaskModel)
    return RunResult(
        experiment_id=f"{recipe.name}-{prepared.run_fingerprint[:12]}",
        status="finished",
        strategy=recipe.strategy.name,
        seed=recipe.training.seed,
        fingerprints=fingerprints,
        tokens=TokenCounts(
            planned=plan.total_tokens,
            counted=total,
            padded=sum(row["padded"] for row in ledger.values()),
            extra_forward_tokens=sum(_again(trainer, task, row["tokens"]) for task, row in ledger.items()),
        ),
        match=_match(trainer, prepared, total, flops),
        tasks=tasks,
        text_tasks=text_tasks,
        parameters=ParameterCounts(**trainer.model.parameter_counts()),
        train=TrainResult(
            steps=trainer.state.global_step,
            runtime_s=seconds,
            loss=_finite(sum(losses[task] * row["tokens"] for task, row in ledger.items()) / max(1, total)),
            tokens_per_s=total / seconds if seconds else 0.0,
            peak_memory_bytes=_peak_memory(trainer),
            stopped=None if completed else "early_stopping",
            energy=trainer.accounts.energy(),
        ),
        environment=environment(processes=trainer.args.world_size),
        model={"name_or_path": recipe.model.name_or_path, "loaded_from": prepared.source.name_or_path}
        | {"precision": precision.name, "quantization": precision.quantization}
        | {"attention": str(trainer.model.config._attn_implementation)},
        evaluation=recipe.evaluation.model_dump(mode="json"),
        audit=_audit(prepared),
        fitting=None if prepared.fitting is None else dict(prepared.fitting),
        flops=flops,
        validation_looks=_validation_looks(trainer, prepared),
    )


def _validation_looks(trainer: MultiTaskTrainer, prepared: Prepared) -> int:
    """How often the validation split was scored in training, where something can be chosen by it."""
    if not evaluates_in_training(prepared.recipe):
        return 0
    scored = {entry["step"] for entry in trainer.state.log_history if any(key.startswith("eval_") for key in entry)}
    return len(scored)


def _again(trainer: MultiTaskTrainer, task: str, tokens: int) -> int:
    """How many tokens passed the backbone after the first pass of each."""
    assert isinstance(trainer.model, MultiTaskModel)
    return int((trainer.model.operations(task)[0] - 1) * tokens)


def _audit(prepared: Prepared) -> dict[str, Any] | None:
    """The leaks found, what the policy was, and what was dropped; None where nothing was audited."""
    if prepared.audited is None:
        return None
    spec = prepared.recipe.audit or AuditSpec()
    purged = prepared.audited.purged
    return {
        "policy": spec.policy,
        "within_task": spec.within_task or spec.policy,
        "leaks": [pair.model_dump(mode="json") for pair in prepared.audited.report.leaks()],
        "purged": purged.model_dump(mode="json") if purged else None,
    }


def _finite(value: float) -> float | None:
    """The value; None where it is not a number (the training diverged), which JSON cannot hold."""
    return value if math.isfinite(value) else None


def _match(
    trainer: MultiTaskTrainer, prepared: Prepared, counted: int, flops: FlopCounts | None
) -> MatchResult | None:
    if not isinstance(trainer, TokenBudgetTrainer):
        return None
    result = trainer.match_result(counted, flops.counted if flops else None)
    if prepared.matched_adapter is None:
        return result
    return result.model_copy(update={"parameters": _matched_parameters(trainer, prepared.matched_adapter.match)})


def _matched_parameters(trainer: MultiTaskTrainer, match: ParameterMatch) -> ParameterMatch:
    """What was matched, with what really trained."""
    assert isinstance(trainer.model, MultiTaskModel)
    return match.model_copy(update={"reached": trainer.model.parameter_counts()["trainable"]})


def _peak_memory(trainer: MultiTaskTrainer) -> int:
    """Bytes: of the device where there is one, else of this process."""
    if trainer.args.device.type == "cuda":
        return int(torch.cuda.max_memory_allocated())
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(kilobytes) * (1 if sys.platform == "darwin" else 1024)


def _readme(prepared: Prepared, result: RunResult) -> str:
    recipe = prepared.recipe
    title = f"# {recipe.name}\n\n{recipe.description}\n" if recipe.description else f"# {recipe.name}\n"
    return f"""{title}
Strategy {result.strategy}, base model `{recipe.model.name_or_path}`, seed {result.seed}, trained with hf_crosstask.

```
{render(result)}```

- `recipe.json` fixes the run; `plan.json` is its plan; `result.json` holds every number.
- `adapters/` holds plain PEFT adapters; each task's folder there shows how to load it without this library.
- `predictions/` holds one row for every {recipe.evaluation.split} example.
"""
