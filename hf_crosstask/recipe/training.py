"""The section `training`: this library's settings, and every field of `transformers.TrainingArguments` by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, create_model, model_serializer, model_validator

from hf_crosstask.recipe.section import Int, Number, Section, refuse
from hf_crosstask.recipe.training_arguments import training_arguments

PositiveInt = Annotated[Int, Field(gt=0)]

#: Fields of `TrainingArguments` that something else decides, with what to write instead.
REFUSED: Mapping[str, str] = {
    "output_dir": "use the recipe's own `output_dir`",
    "per_device_train_batch_size": (
        "micro-batches are filled by tokens: use `training.micro_batch_tokens` and `training.tokens_per_step`"
    ),
    "per_device_eval_batch_size": "use `training.eval_batch_tokens`",
    "gradient_accumulation_steps": (
        "it follows from `training.tokens_per_step` and `training.micro_batch_tokens`; set those"
    ),
    "auto_find_batch_size": "the plan is fixed before training: set `training.micro_batch_tokens`",
    "num_train_epochs": "use `budget.epochs`",
    "max_steps": "use `budget.steps`",
    "train_sampling_strategy": "use `mixing.sampling`; the plan sorts by length on its own",
    "length_column_name": "the plan knows every length; leave it out",
    "dataloader_drop_last": "the plan decides which examples are seen; leave it out",
    "data_seed": "the plan's order follows from `training.seed`",
    "ignore_data_skip": "resuming continues the plan exactly; leave it out",
    "resume_from_checkpoint": "use the flag --resume",
    "restore_callback_states_from_checkpoint": "checkpoints restore everything; leave it out",
    "enable_jit_checkpoint": "SIGTERM always saves a checkpoint; leave it out",
    "save_only_model": "checkpoints are complete, for exact resume; to save disk set `training.save_total_limit`",
    "bf16": 'use `model.precision`: "bf16"',
    "fp16": 'use `model.precision`: "fp16"',
    "bf16_full_eval": "use `model.precision`",
    "fp16_full_eval": "use `model.precision`",
    "include_num_input_tokens_seen": "the token ledger always counts; leave it out",
    "average_tokens_across_devices": "the loss of a step is exact over processes; leave it out",
    "label_smoothing_factor": "each task's head computes its own loss, without label smoothing; leave it out",
    "remove_unused_columns": "encoded columns are fixed per task type; leave it out",
    "label_names": "labels are fixed per task type; leave it out",
    "prediction_loss_only": "every task is scored with its metrics; leave it out",
    "include_for_metrics": "every task is scored with its metrics; leave it out",
    "batch_eval_metrics": "every task is scored with its metrics; leave it out",
    "eval_do_concat_batches": "every task is scored with its metrics; leave it out",
    "do_train": "the command says what is done; leave it out",
    "do_eval": "the command says what is done; leave it out",
    "do_predict": "the command says what is done; leave it out",
    "hub_token": "a recipe holds no secrets: run `hf auth login` or set HF_TOKEN",
    "local_rank": "the launcher sets it; leave it out",
    "deepspeed": "DeepSpeed owns the gradients, which the trainer reduces itself; use DDP or FSDP (accelerate launch)",
    "parallelism_config": "give it to `accelerate launch --config_file`",
}

#: Names that earlier versions of transformers knew.
RENAMED: Mapping[str, str] = {
    "warmup_ratio": "use `warmup_steps`: below 1 it is a share of all steps",
    "evaluation_strategy": "use `eval_strategy`",
    "no_cuda": "use `use_cpu`",
    "logging_dir": "the trackers of `report_to` decide where they write",
    "group_by_length": REFUSED["train_sampling_strategy"],
}

#: Arguments that change what is shown, kept or waited for, never what is learned.
WITHOUT_EFFECT_ON_RESULTS = frozenset(
    {
        "time_limit_minutes",
        "logging_strategy",
        "logging_steps",
        "logging_first_step",
        "logging_nan_inf_filter",
        "log_on_each_node",
        "log_level",
        "log_level_replica",
        "disable_tqdm",
        "report_to",
        "run_name",
        "project",
        "trackio_space_id",
        "trackio_bucket_id",
        "trackio_static_space_id",
        "save_on_each_node",
        "save_total_limit",
        "push_to_hub",
        "hub_model_id",
        "hub_strategy",
        "hub_private_repo",
        "hub_always_push",
        "hub_revision",
        "dataloader_num_workers",
        "dataloader_pin_memory",
        "dataloader_persistent_workers",
        "dataloader_prefetch_factor",
        "dataloader_multiprocessing_context",
        "skip_memory_metrics",
        "ddp_timeout",
    }
)


class TrainingSettings(Section):
    """Settings of this library. `Training` adds the fields of the installed `transformers.TrainingArguments`.

    A field of `TrainingArguments` that the recipe leaves out reads as None here and keeps transformers' default.
    """

    tokens_per_step: Int = Field(
        default=4096, gt=0, description="forward tokens of one optimizer step, all processes together"
    )
    micro_batch_tokens: PositiveInt | Literal["auto"] | None = Field(
        default=None,
        description="most tokens, padding included, that one forward pass computes; null: tokens_per_step; auto: the "
        "largest that fits 85 % of the device's memory, found before training and then fixed",
    )
    eval_batch_tokens: Int | None = Field(
        default=None,
        gt=0,
        description="most tokens, padding included, of one forward pass in evaluation; null: twice micro_batch_tokens",
    )
    loss_weights: Literal["share", "equal", "uncertainty", "dwa"] | dict[str, Number] = Field(
        default="share",
        description="weight of each task's mean loss in a step: its share of the step's tokens, equal, a map of task to "
        "weight, learned (uncertainty: Kendall et al. 2018), or more for tasks whose loss falls slowly (dwa: dynamic "
        "weight averaging, Liu et al. 2019)",
    )
    seed: Int = Field(
        default=42, ge=0, lt=2**32, description="of initial weights, dropout, and the plan's order of examples"
    )
    time_limit_minutes: Number | None = Field(
        default=None,
        gt=0,
        description="stop and save a checkpoint after this time (exit code 3); continue with --resume",
    )
    early_stopping_patience: Int | None = Field(
        default=None,
        gt=0,
        description="stop after this many evaluations without a better macro score; needs eval_strategy",
    )

    @model_validator(mode="after")
    def _consistent(self) -> TrainingSettings:
        problems: list[tuple[list[str], str]] = []
        if isinstance(self.micro_batch_tokens, int) and self.micro_batch_tokens > self.tokens_per_step:
            text = f"{self.micro_batch_tokens} is more than tokens_per_step ({self.tokens_per_step})"
            problems.append((["micro_batch_tokens"], text))
        if isinstance(self.loss_weights, dict):
            for task, weight in self.loss_weights.items():
                if weight <= 0:
                    problems.append((["loss_weights", task], f"must be greater than 0, found {weight:g}"))
        if self.early_stopping_patience is not None and getattr(self, "eval_strategy", None) in (None, "no"):
            text = 'needs evaluations during training: set training.eval_strategy to "steps" or "epoch"'
            problems.append((["early_stopping_patience"], text))
        if problems:
            refuse(problems)
        return self

    @model_serializer(mode="wrap")
    def _without_unset_arguments(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        own = TrainingSettings.model_fields
        return {key: value for key, value in handler(self).items() if key in own or key in self.model_fields_set}

    def arguments(self) -> dict[str, Any]:
        """The fields of `transformers.TrainingArguments` that the recipe sets, and the seed."""
        known = training_arguments()
        return {key: value for key, value in self.model_dump().items() if key in known}


def _without_default(schema: dict[str, Any]) -> None:
    """The default is transformers' own, not the None that stands for "left out"."""
    schema.pop("default", None)


def _arguments() -> dict[str, Any]:
    as_schema: Callable[[dict[str, Any]], None] = _without_default
    return {
        name: (argument.type, Field(default=None, description=argument.help or name, json_schema_extra=as_schema))
        for name, argument in training_arguments().items()
        if name not in REFUSED and name not in TrainingSettings.model_fields
    }


if TYPE_CHECKING:
    Training = TrainingSettings
else:
    Training = create_model("Training", __base__=TrainingSettings, __module__=__name__, **_arguments())
