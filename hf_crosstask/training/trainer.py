"""`MultiTaskTrainer`: transformers' Trainer executing a training plan.

One item of the training dataloader is one optimizer step: the micro-batches of the plan that this process runs. So
the Trainer's own bookkeeping (steps, schedule, resume) counts plan steps, and everything specific to a plan happens
inside `training_step`:

1. every micro-batch is seeded, run and checked against the plan: counted tokens must equal planned ones;
2. its mean loss is scaled so that the step's loss is the weighted sum of per-task means over the step's items,
   however many micro-batches and processes carry them;
3. gradients are summed over processes once, after the last micro-batch. A parameter no process used keeps no gradient,
   so heads of absent tasks are left alone by the optimizer.

Loss weighting, gradient surgery and what holds sequential stages together are parts of `Objective`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, SequentialSampler
from transformers import PreTrainedTokenizerBase, TrainerCallback
from transformers.trainer_utils import TrainOutput

from hf_crosstask.encoding.collator import MultiTaskCollator
from hf_crosstask.errors import CheckpointError, InputError, LedgerMismatchError, PlanError, unknown_name
from hf_crosstask.evaluation.energy import machine_meter
from hf_crosstask.models.multitask import MultiTaskModel, size
from hf_crosstask.planning.budget import Budget
from hf_crosstask.planning.ledger import TokenLedger
from hf_crosstask.planning.plan import TrainingPlan, plan
from hf_crosstask.planning.stages import plan_stages, stages_of
from hf_crosstask.training import checkpoint as checkpoints
from hf_crosstask.training.accounts import RunAccounts
from hf_crosstask.training.arguments import MultiTaskTrainingArguments
from hf_crosstask.training.callbacks import GracefulStop, PlanProgress
from hf_crosstask.training.checkpoint import Progress
from hf_crosstask.training.checkpointing import number_formats
from hf_crosstask.training.evaluating import ComputeMetrics, by_task
from hf_crosstask.training.feed import Collator, Fed, StepFeed, seed_dropout
from hf_crosstask.training.modules import base_model, unwrap_ddp
from hf_crosstask.training.objective import Objective
from hf_crosstask.training.reduction import sum_gradients
from hf_crosstask.training.rows import Rows, label_counts, row_shapes, token_lengths
from hf_crosstask.training.shared_gradients import SharedGradients
from hf_crosstask.training.stages import ScoreStages
from hf_crosstask.training.strategies import StrategyTrainer
from hf_crosstask.training.surgery import cosines
from hf_crosstask.training.weighting import check_rule


class MultiTaskTrainer(StrategyTrainer):
    """Trains one model on several tasks by a plan that is known before training.

    Args:
        model: a `MultiTaskModel`, or any transformers or PEFT model that takes `labels` and returns a mean loss.
        args: `MultiTaskTrainingArguments`.
        data_collator: makes a batch from encoded rows of one task; by default pads with `processing_class`.
        train_dataset: encoded training dataset of each task: `input_ids`, `labels`, optionally `attention_mask` and
            what else the model takes. A single dataset is a task named `task`.
        eval_dataset: the same for evaluation.
        processing_class: the tokenizer; saved with the model.
        compute_metrics: one function for every task, or one by task. It receives an `EvalPrediction` in row order and
            returns metrics; `eval_<task>_<metric>` is logged, and the mean of the tasks' primary metrics as
            `eval_macro_score`. Where rows differ in length, all are padded to the longest: predictions mean nothing
            where the label is -100.
        plan: the plan to execute; by default made from the datasets and `args`.
        callbacks, optimizers: as in transformers.

    Raises:
        PlanError: the budget or mixing cannot be planned.
        InputError: the datasets are not encoded, or the model has no head for a task.

    Example:
        >>> trainer = MultiTaskTrainer(
        ...     model=model,
        ...     args=MultiTaskTrainingArguments("out", num_train_epochs=3, tokens_per_step=4096),
        ...     train_dataset={"bc2gm": bc2gm, "chemprot": chemprot},
        ...     processing_class=tokenizer,
        ... )
        >>> trainer.train()
    """

    args: MultiTaskTrainingArguments

    def __init__(
        self,
        model: nn.Module | None = None,
        args: MultiTaskTrainingArguments | None = None,
        data_collator: Collator | None = None,
        train_dataset: Mapping[str, Rows] | Rows | None = None,
        eval_dataset: Mapping[str, Rows] | Rows | None = None,
        processing_class: PreTrainedTokenizerBase | None = None,
        model_init: Callable[[], nn.Module] | None = None,
        compute_metrics: ComputeMetrics | Mapping[str, ComputeMetrics] | None = None,
        callbacks: Sequence[TrainerCallback] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
        plan: TrainingPlan | None = None,
        **trainer_arguments: Any,
    ):
        args = args or MultiTaskTrainingArguments("tmp_trainer")
        if not isinstance(args, MultiTaskTrainingArguments):
            raise InputError(f"args must be MultiTaskTrainingArguments, found {type(args).__name__}")
        if data_collator is None:
            if processing_class is None:
                raise InputError(
                    "give processing_class (the tokenizer) or data_collator: batches need a padding token"
                )
            data_collator = MultiTaskCollator.for_tokenizer(processing_class)
        if trainer_arguments.get("compute_loss_func") is not None:
            raise InputError("compute_loss_func has no effect: override compute_loss, a mean over labelled items")
        if args.n_gpu > 1:
            args._n_gpu = 1  # DataParallel would split micro-batches; several GPUs take several processes
        super().__init__(
            model=model,
            args=args,
            data_collator=data_collator,
            train_dataset=by_task(train_dataset),
            eval_dataset=by_task(eval_dataset),
            processing_class=processing_class,
            model_init=model_init,
            compute_metrics=compute_metrics,
            callbacks=list(callbacks) if callbacks else None,
            optimizers=optimizers,
            **trainer_arguments,
        )
        # The loss is scaled here, for every model; the Trainer must not divide it again.
        self.loss_is_scaled_for_ga = True
        self._check_tasks()
        if plan is not None:
            self._check_plan(plan)
        self._given_plan = plan
        self._plan: TrainingPlan | None = None
        self._graceful_stop = GracefulStop(args.time_limit_minutes)
        self.add_callback(self._graceful_stop)
        if args.stage_order is not None or (plan is not None and stages_of(plan)):
            self.add_callback(ScoreStages(self))
        self._resumed: tuple[Progress, str] | None = None
        self.accounts = self._new_accounts()

    # ---- The plan ----

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the training tasks."""
        return tuple(self.train_dataset or ())

    @property
    def plan(self) -> TrainingPlan:
        """The plan that `train` executes; made on first use."""
        if self._plan is None:
            self._plan = self._given_plan or self.make_plan()
            self.add_callback(PlanProgress(self._plan))
        return self._plan

    @property
    def budget(self) -> Budget:
        """The length of the run."""
        return self.args.budget

    def make_plan(self) -> TrainingPlan:
        """Plan the run from the datasets and arguments. Override to plan differently."""
        if not self.train_dataset:
            raise InputError("there is no train_dataset to plan")
        return self.plan_for(self.budget)

    def plan_for(self, budget: Budget) -> TrainingPlan:
        """The plan of the datasets for a budget."""
        lengths = {task: token_lengths(dataset, task) for task, dataset in self.train_dataset.items()}
        common: Any = {
            "shapes": {task: row_shapes(dataset, task) for task, dataset in self.train_dataset.items()},
            "budget": budget,
            "mixing": self.args.mixing,
            "tokens_per_step": self.args.tokens_per_step,
            "micro_batch_tokens": self.args.micro_batch_tokens,
            "seed": self.args.data_seed or 0,
        }
        if self.args.stage_order is None:
            return plan(lengths, **common)
        return plan_stages(lengths, order=self.args.stage_order, rehearsal=self.args.rehearsal, **common)

    @property
    def ledger(self) -> TokenLedger:
        """Tokens seen so far by all processes, per task. All processes must ask for it together."""
        return self.accounts.ledger()

    @property
    def stopped(self) -> str | None:
        """Why training stopped before its end (`time_limit`, `sigterm`); None where it did not."""
        return self._graceful_stop.stopped

    # ---- Feeding ----

    def get_train_dataloader(self) -> DataLoader[list[Fed]]:
        """One item per optimizer step; the same steps on every process."""
        if not self.train_dataset:
            raise ValueError("Trainer: training requires a train_dataset.")
        # Not `objective`, which the Trainer's hyper-parameter search keeps a score in.
        self.task_objective = Objective(unwrap_ddp(self.model), self.args, self.plan)
        if self._resumed is not None:
            self.task_objective.resume(*self._resumed)
        feed = StepFeed(
            self.plan,
            {task: self.keep_columns(dataset) for task, dataset in self.train_dataset.items()},
            self.data_collator,
            process=self.args.process_index,
            processes=self.args.world_size,
            shifted=self._loss_shifts_labels,
            lockstep=self.is_fsdp_enabled,
        )
        self._items = {
            task: label_counts(dataset, task, shifted=self._loss_shifts_labels)
            for task, dataset in self.train_dataset.items()
        }
        self._weights = self._weights_computed()
        workers = self.args.dataloader_num_workers
        return DataLoader(
            feed,
            batch_size=1,
            sampler=SequentialSampler(feed),
            collate_fn=_only_item,
            num_workers=workers,
            prefetch_factor=self.args.dataloader_prefetch_factor if workers else None,
            persistent_workers=self.args.dataloader_persistent_workers if workers else False,
            pin_memory=self.args.dataloader_pin_memory and self.args.device.type == "cuda",
            # Its own generator: drawing the workers' base seed must not advance the global one.
            generator=torch.Generator().manual_seed(self.args.seed),
        )

    def set_initial_training_values(
        self, args: Any, dataloader: DataLoader[Any]
    ) -> tuple[int, int, int, int, int, int | None, int]:
        """The plan is one epoch of the Trainer: epochs, steps an epoch, examples, samples, batch, batches, steps."""
        examples = sum(len(lengths) for lengths in self.plan.lengths.values())
        steps, visits = self.plan.num_steps, len(self.plan.examples)
        return 1, steps, examples, visits, max(1, visits // steps), steps, steps

    def num_examples(self, dataloader: DataLoader[Any]) -> int:
        """Examples behind a dataloader."""
        if isinstance(dataloader.dataset, StepFeed):
            return sum(len(lengths) for lengths in self.plan.lengths.values())
        return super().num_examples(dataloader)

    # ---- One step ----

    def training_step(
        self, model: nn.Module, inputs: list[Fed], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Run this process's micro-batches of one step; gradients are complete when it returns.

        Returns:
            The step's loss (its mean over processes is the whole step's).
        """
        model.train()
        if callable(getattr(self.optimizer, "train", None)):
            self.optimizer.train()
        step, objective = self.state.global_step, self.task_objective
        self.consolidate(step)
        for learned in objective.weighting.parameters():
            learned.grad = None
        scales = self.loss_scales(step)
        total = torch.zeros((), device=self.args.device)
        losses = torch.zeros((len(self.plan.tasks), 2), dtype=self.accounts.dtype, device=self.args.device)
        # FSDP reduces gradients itself, as a mean over processes.
        factor = self.args.world_size if self.is_fsdp_enabled else 1
        if objective.surgery is not None:
            objective.surgery.begin(tuple(scales))
            inputs = sorted(inputs, key=lambda fed: self.plan.tasks.index(fed.planned.task))
        for number, fed in enumerate(inputs):
            task = fed.planned.task
            self._check_counts(fed)
            seed_dropout(self.args.seed, fed.planned.number)
            tensors = self._prepare_inputs(fed.inputs)
            with self.compute_loss_context_manager():
                loss = self.compute_loss(unwrap_ddp(model), self.with_task(tensors, task))
            if not fed.items:
                loss = torch.nan_to_num(loss)  # transformers' mean over no items is NaN
            if number and objective.weighting.parameters():
                scales = self.loss_scales(step)  # the backward pass frees the graph of learned weights too
            scaled = loss * (fed.items * scales[task] if fed.real else 0.0)
            self.accelerator.backward(scaled * factor)
            if fed.real:
                total += scaled.detach()
                self.accounts.record(task, fed.counts, loss.detach())
                losses[self.plan.tasks.index(task), 0] += loss.detach().to(losses.dtype) * fed.items
                losses[self.plan.tasks.index(task), 1] += fed.items
            if objective.surgery is not None and (
                number + 1 == len(inputs) or inputs[number + 1].planned.task != task
            ):
                objective.surgery.take(task)
        penalty = objective.weighting.penalty(self.plan.step_tokens(step)) if self.args.process_index == 0 else None
        if penalty is not None:
            self.accelerator.backward(penalty)
            total += penalty.detach()
        self._complete_gradients(step)
        objective.weighting.after_step(step, losses, self.args.world_size)
        return total * self.args.world_size

    def _complete_gradients(self, step: int) -> None:
        """From the gradients of this process's micro-batches to those that the optimizer uses."""
        objective = self.task_objective
        if self.args.world_size > 1 and not self.is_fsdp_enabled:
            trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
            plain = [parameter for parameter in trained if objective.is_plain(parameter)]
            sum_gradients([*plain, *objective.weighting.parameters()])
        if objective.surgery is not None:
            objective.conflicts.record(cosines(objective.surgery.combine(step)))
        if objective.consolidation is not None:
            scaler = self.accelerator.scaler
            objective.consolidation.add_gradients(1.0 if scaler is None else scaler.get_scale())

    def loss_scales(self, step: int) -> dict[str, Any]:
        """What one item's loss of each task is multiplied with: the task's weight over its labelled items in the step."""
        items = dict.fromkeys(self.plan.tasks, 0)
        for batch in self.plan.step(step):
            items[batch.task] += int(self._items[batch.task][batch.examples].sum())
        weights = self.task_objective.weighting.weights(self.plan.step_tokens(step))
        return {task: weight / max(1, items[task]) for task, weight in weights.items()}

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Mean loss over the labelled items of one micro-batch; `inputs["task"]` names its task."""
        outputs = model(**inputs)
        return (outputs["loss"], outputs) if return_outputs else outputs["loss"]

    def floating_point_ops(self, inputs: Any) -> int:
        """Forward and backward operations of a step: 2 per weight and token forward, 2 for activations' gradients, 2
        more for each trained weight's own gradient. Attention's quadratic part and embeddings' lookup are left out."""
        if not isinstance(inputs, list):
            return 0
        body, trained = self._weights
        model, total = base_model(self.model), 0.0
        for fed in inputs:
            task = fed.planned.task
            forward, backward = model.operations(task) if isinstance(model, MultiTaskModel) else (1.0, 1.0)
            total += int(fed.counts[2]) * (2 * body * (forward + backward) + 2 * trained * backward)
        return int(total)

    def _track_num_input_tokens(self, inputs: Any) -> None:
        """Forward tokens so far, all processes, as the plan has them (and the ledger confirms)."""
        self.state.num_input_tokens_seen = int(self.plan.tokens_after_step[self.state.global_step + 1].sum())

    def _check_counts(self, fed: Fed) -> None:
        examples, tokens = int(fed.counts[0]), int(fed.counts[1])
        if (examples, tokens) != (len(fed.planned.examples), fed.planned.tokens):
            raise LedgerMismatchError(
                f"step {self.state.global_step + 1}: a micro-batch of {fed.planned.task} was planned with "
                f"{len(fed.planned.examples)} examples and {fed.planned.tokens} tokens, but its tensors hold {examples} "
                f"and {tokens}. The dataset or the collator does not give what the plan was made from."
            )

    def _weights_computed(self) -> tuple[int, int]:
        """Weights a token passes through, and how many of them train."""
        embeddings = {id(module.weight) for module in self.model.modules() if isinstance(module, nn.Embedding)}
        weights = [parameter for parameter in self.model.parameters() if id(parameter) not in embeddings]
        return sum(size(p) for p in weights), sum(size(p) for p in weights if p.requires_grad)

    # ---- Logging ----

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds `loss_<task>` and `tokens_<task>` to training logs, and what `Objective.logged` has."""
        if "loss" in logs:
            seen = self.plan.tokens_after_step[self.state.global_step].tolist()
            logs |= {f"loss_{task}": loss for task, loss in self.accounts.window_losses().items()}
            logs |= {f"tokens_{task}": tokens for task, tokens in zip(self.plan.tasks, seen, strict=True)}
            logs |= self.task_objective.logged()
        super().log(logs, start_time)

    # ---- Training ----

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> TrainOutput:
        """Execute the plan.

        Args:
            resume_from_checkpoint: a checkpoint folder, or True for the newest complete one in `args.output_dir`.
            trial, ignore_keys_for_eval: as in transformers.

        Raises:
            CheckpointError: there is no complete checkpoint, or it belongs to another plan or run.
        """
        if self.args.should_save:
            checkpoints.remove_staging(self.args.output_dir)
        if resume_from_checkpoint is True:
            found = checkpoints.last_complete_checkpoint(self.args.output_dir)
            if found is None:
                raise CheckpointError(f"there is no complete checkpoint in {self.args.output_dir} to resume from")
            resume_from_checkpoint = str(found)
        self.accounts = self._new_accounts(resume_from_checkpoint or None)
        self.accounts.start()
        try:
            output = super().train(resume_from_checkpoint or None, trial, ignore_keys_for_eval)
        finally:
            self._graceful_stop.release_signal()
            self.accounts.stop()
        self.ledger.verify(self.plan, self.state.global_step)
        return output

    def _new_accounts(self, checkpoint: str | None = None) -> RunAccounts:
        progress = self._resumed = None
        if checkpoint is not None:
            progress = checkpoints.read_progress(
                checkpoint,
                plan=self.plan.fingerprint,
                run=self.args.fingerprint,
                formats=number_formats(self.args, self.model),
            )
            TokenLedger.from_json(self.plan.tasks, progress.ledger).verify(self.plan, progress.step)
            self._resumed = (progress, checkpoint)
            if self.args.device.type == "cpu":
                torch.set_num_threads(progress.threads)  # the same rounding as before the stop
        meter = machine_meter(self.args.device) if self.args.process_index == 0 else None
        return RunAccounts(self.tasks, self.args.device, self.args.world_size, progress, meter)

    def _check_tasks(self) -> None:
        model = base_model(self.model)
        tasks = {**(self.train_dataset or {}), **(self.eval_dataset or {})}
        if isinstance(model, MultiTaskModel):
            for task in tasks:
                if task not in model.tasks:
                    raise InputError(f"the model has no head for it: {unknown_name('task', task, model.tasks)}")
            tasks |= dict.fromkeys(model.tasks)
        for what in ("compute_metrics", "primary_metrics", "loss_weights"):
            named = self.compute_metrics if what == "compute_metrics" else getattr(self.args, what)
            for task in named if isinstance(named, Mapping) else ():
                if task not in tasks:
                    raise InputError(f"{what}: {unknown_name('task', task, tasks)}")
        if self.train_dataset:
            check_rule(self.args.loss_weights or "share", self.tasks)
            if self.args.gradient_surgery != "none" and self.model is not None:
                SharedGradients(self.model, self.tasks, method=self.args.gradient_surgery)
        for name, used in (
            ("gradient_surgery", self.args.gradient_surgery != "none"),
            ('loss_weights "uncertainty"', self.args.loss_weights == "uncertainty"),
            ("ewc", bool(self.args.ewc)),
        ):
            if used and (self.is_fsdp_enabled or self.is_deepspeed_enabled):
                raise InputError(
                    f"{name} needs whole gradients, which FSDP and DeepSpeed do not give; run with DDP, or leave it out"
                )

    def _check_plan(self, given: TrainingPlan) -> None:
        rows = {task: len(dataset) for task, dataset in (self.train_dataset or {}).items()}
        planned = {task: len(lengths) for task, lengths in given.lengths.items()}
        if rows != planned:
            raise PlanError(f"the plan is of other data: it has examples {planned}, train_dataset has {rows}")


def _only_item(items: list[list[Fed]]) -> list[Fed]:
    return items[0]
