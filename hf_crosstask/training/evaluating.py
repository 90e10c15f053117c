"""Evaluation and prediction of several tasks: the part of `MultiTaskTrainer` that runs without a plan."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from accelerate.utils import gather_object
from datasets import Dataset
from torch import Tensor, nn
from transformers import EvalPrediction, Trainer, TrainerControl
from transformers.trainer_utils import EvalLoopOutput, PredictionOutput, speed_metrics

from hf_crosstask.errors import InputError
from hf_crosstask.training.arguments import MACRO_SCORE, MultiTaskTrainingArguments
from hf_crosstask.training.evaluation_batches import EvalBatches, assemble, macro_score
from hf_crosstask.training.modules import base_model, unwrap_ddp
from hf_crosstask.training.rows import Rows, token_lengths

ComputeMetrics = Callable[[EvalPrediction], dict[str, float]]


def by_task(dataset: Mapping[str, Rows] | Rows | None) -> dict[str, Rows] | None:
    """Datasets by task; a single dataset is a task named `task`."""
    if dataset is None:
        return None
    return dict(dataset) if isinstance(dataset, Mapping) else {"task": dataset}


class TaskEvaluation(Trainer):
    """`evaluate` and `predict` over a mapping of tasks; each process runs every n-th length-sorted batch."""

    args: MultiTaskTrainingArguments
    control: TrainerControl

    def get_eval_dataloader(self, eval_dataset: str | Rows | None = None) -> EvalBatches:
        """Length-sorted batches of one task's rows; `eval_dataset` is a task name, or rows of the only task."""
        if eval_dataset is None:
            eval_dataset = self._only_task()
        if isinstance(eval_dataset, str):
            return self._eval_batches(eval_dataset, self.eval_dataset[eval_dataset])
        return self._eval_batches(self._only_task(), eval_dataset)

    def get_test_dataloader(self, test_dataset: Rows) -> EvalBatches:
        """As `get_eval_dataloader`, for prediction."""
        return self._eval_batches(self._only_task(), test_dataset)

    def evaluate(
        self,
        eval_dataset: Mapping[str, Rows] | Rows | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Evaluate every task; one set of metrics comes back, with the macro score, and callbacks see it once.

        Returns:
            `<prefix>_<task>_<metric>`, `<prefix>_<task>_loss`, `<prefix>_loss` (mean over tasks) and
            `<prefix>_macro_score`.
        """
        datasets = self.eval_dataset if eval_dataset is None else self._datasets(eval_dataset)
        if not datasets:
            raise ValueError("Trainer: evaluation requires an eval_dataset.")
        start = time.time()
        merged: dict[str, float] = {}
        scores: dict[str, dict[str, float]] = {}
        rows = 0
        for task, dataset in datasets.items():
            output = self.evaluation_loop(
                self._eval_batches(task, dataset),
                description=f"Evaluation of {task}",
                prediction_loss_only=self._metric_function(task) is None,
                ignore_keys=ignore_keys,
                metric_key_prefix=f"{metric_key_prefix}_{task}",
            )
            prefix = f"{metric_key_prefix}_{task}_"
            merged |= output.metrics
            scores[task] = {name.removeprefix(prefix): value for name, value in output.metrics.items()}
            rows += output.num_samples
        losses = [values["loss"] for values in scores.values() if "loss" in values]
        if losses:
            merged[f"{metric_key_prefix}_loss"] = float(np.mean(losses))
        primary: Any = self.args.primary_metrics or {}
        macro = macro_score(scores, primary)
        if macro is not None:
            merged[f"{metric_key_prefix}_{MACRO_SCORE}"] = macro
        merged |= speed_metrics(metric_key_prefix, start, num_samples=rows)
        self.log(merged)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, merged)
        return merged

    def predict(
        self,
        test_dataset: Mapping[str, Rows] | Rows,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "test",
    ) -> PredictionOutput | dict[str, PredictionOutput]:
        """Predictions in row order; for a mapping of tasks, one output for each."""
        outputs = {}
        for task, dataset in self._datasets(test_dataset).items():
            loop = self.evaluation_loop(
                self._eval_batches(task, dataset),
                description=f"Prediction of {task}",
                ignore_keys=ignore_keys,
                metric_key_prefix=f"{metric_key_prefix}_{task}"
                if isinstance(test_dataset, Mapping)
                else metric_key_prefix,
            )
            self.control = self.callback_handler.on_predict(self.args, self.state, self.control, loop.metrics)
            outputs[task] = PredictionOutput(loop.predictions, loop.label_ids, loop.metrics)
        return outputs if isinstance(test_dataset, Mapping) else next(iter(outputs.values()))

    def evaluation_loop(
        self,
        dataloader: EvalBatches,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Run one task's batches and put the rows back in order; each process runs every n-th batch."""
        loss_only = self.args.prediction_loss_only if prediction_loss_only is None else prediction_loss_only
        task = dataloader.task
        model = self._evaluation_model()
        self.callback_handler.eval_dataloader = dataloader
        total, items = 0.0, 0
        mine: list[tuple[np.ndarray, np.ndarray, np.ndarray | None]] = []
        for batch in dataloader:
            loss, logits, labels = self.prediction_step(
                model, self.with_task(batch.inputs, task), loss_only, ignore_keys=ignore_keys
            )
            if loss is not None and batch.real and batch.items:
                total += float(loss) * batch.items
                items += batch.items
            if logits is not None and batch.real:
                logits = logits if isinstance(logits, Tensor) else logits[0]
                if self.preprocess_logits_for_metrics is not None:
                    logits = self.preprocess_logits_for_metrics(logits, labels)
                if logits.is_floating_point():
                    logits = logits.float()
                mine.append((batch.rows, logits.cpu().numpy(), None if labels is None else labels.cpu().numpy()))
            self.control = self.callback_handler.on_prediction_step(self.args, self.state, self.control)
        if self.args.world_size > 1:
            mine = gather_object(mine)
            total, items = (sum(values) for values in zip(*gather_object([(total, items)]), strict=True))
        predictions = assemble([(rows, logits) for rows, logits, _ in mine], dataloader.lengths)
        with_labels = [(rows, labels) for rows, _, labels in mine if labels is not None]
        labels = assemble(with_labels, dataloader.lengths) if with_labels else None
        metrics: dict[str, float] = {}
        function = self._metric_function(task)
        if function is not None and predictions is not None and labels is not None:
            metrics = {name: float(value) for name, value in function(EvalPrediction(predictions, labels)).items()}
        if items:
            metrics["loss"] = total / items
        return EvalLoopOutput(
            predictions=predictions,
            label_ids=labels,
            metrics={f"{metric_key_prefix}_{name}": value for name, value in metrics.items()},
            num_samples=len(dataloader.lengths),
        )

    def _eval_batches(self, task: str, dataset: Rows) -> EvalBatches:
        return EvalBatches(
            task,
            self.keep_columns(dataset),
            token_lengths(dataset, task),
            self.data_collator,
            limit=self.args.eval_batch_tokens or self.args.tokens_per_step,
            process=self.args.process_index,
            processes=self.args.world_size,
            shifted=self._loss_shifts_labels,
            lockstep=self.is_fsdp_enabled,
        )

    def _evaluation_model(self) -> nn.Module:
        if self.is_in_train:
            model = unwrap_ddp(self.model_wrapped)
        elif not self.accelerator._models:
            model = (
                self.accelerator.prepare(self.model)
                if self.is_fsdp_enabled
                else self.accelerator.prepare_model(self.model, evaluation_mode=True)
            )
        else:
            model = unwrap_ddp(self.model_wrapped)
        model.eval()
        if callable(getattr(self.optimizer, "eval", None)):
            self.optimizer.eval()
        return model

    def _datasets(self, dataset: Mapping[str, Rows] | Rows) -> dict[str, Rows]:
        return dict(dataset) if isinstance(dataset, Mapping) else {self._only_task(): dataset}

    def _metric_function(self, task: str) -> ComputeMetrics | None:
        functions: Any = self.compute_metrics
        return functions.get(task) if isinstance(functions, Mapping) else functions

    def _only_task(self) -> str:
        names = tuple(self.train_dataset or self.eval_dataset or ())
        if len(names) == 1:
            return names[0]
        raise InputError(f"which task are these rows of? pass {{task: dataset}} with a task among {', '.join(names)}")

    def with_task(self, inputs: dict[str, Any], task: str) -> dict[str, Any]:
        """Model inputs, with the task's name where the model takes one."""
        takes_task = "task" in inspect.signature(base_model(self.model).forward).parameters
        return {**inputs, "task": task} if takes_task else inputs

    def keep_columns(self, dataset: Rows) -> Rows:
        """The dataset without columns the model does not take (all of them with `remove_unused_columns=False`)."""
        if not isinstance(dataset, Dataset) or not self.args.remove_unused_columns:
            return dataset
        self._set_signature_columns_if_needed()
        wanted = set(self._signature_columns or ())
        return dataset.select_columns([name for name in dataset.column_names if name in wanted])
