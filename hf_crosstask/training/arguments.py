"""Training arguments: transformers' own, plus what the plan needs."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from transformers import TrainingArguments

from hf_crosstask.errors import InputError, PlanError, unknown_name
from hf_crosstask.planning.budget import Budget
from hf_crosstask.planning.mixing import Mixing
from hf_crosstask.training.surgery import GRANULARITIES, METHODS

MACRO_SCORE = "macro_score"


@dataclass
class MultiTaskTrainingArguments(TrainingArguments):
    """`TrainingArguments` for a planned multi-task run.

    The length of the run is `token_budget`, else `max_steps`, else `num_train_epochs` (passes over the mixture). Batches
    are measured in forward tokens, not rows: `per_device_train_batch_size` and `per_device_eval_batch_size` have no
    effect, and `gradient_accumulation_steps` may not be set.

    Args:
        tokens_per_step: forward tokens of one optimizer update, all processes together.
        micro_batch_tokens: padded tokens one forward pass may hold (what memory allows); `tokens_per_step` by default.
        eval_batch_tokens: padded tokens of one evaluation batch; twice `micro_batch_tokens` by default.
        token_budget: forward tokens to train on.
        sampling: `proportional`, `temperature`, `uniform` or `explicit`.
        sampling_temperature: τ of `temperature` sampling.
        sampling_weights: relative weight of each task, for `explicit` sampling.
        sampling_unit: what sizes and weights count, `examples` or `tokens`.
        loss_weights: `share` (each task weighs its share of the step's tokens), `equal`, a weight for each task,
            `uncertainty` (learned) or `dwa` (dynamic weight averaging); see `training.weighting`.
        gradient_surgery: what happens to conflicting gradients of shared parameters: `none`, `pcgrad`, `upgrad`,
            `cagrad` or `gradvac`; see `training.surgery`.
        surgery_granularity: over which parameters gradients are compared: `global`, `layer` or `module`.
        stage_order: learn one task after another, in this order: names (on a command line separated by commas), or
            `given`, `smallest_first` or `largest_first`. The learning-rate schedule starts anew at every stage; the
            optimizer's moments go on.
        rehearsal: with `stage_order`, the share of every later stage's tokens spent on earlier tasks.
        ewc: with `stage_order`, the weight of elastic weight consolidation.
        primary_metrics: the metric of each task that enters the macro score; the first one computed by default.
        time_limit_minutes: stop, with a checkpoint, when the process has run this long.
        fingerprint: extra text that a checkpoint must share to be resumed (the recipe's, say).
    """

    tokens_per_step: int = field(default=4096, metadata={"help": "Forward tokens of one optimizer update."})
    micro_batch_tokens: int | None = field(default=None, metadata={"help": "Padded tokens of one forward pass."})
    eval_batch_tokens: int | None = field(default=None, metadata={"help": "Padded tokens of one evaluation batch."})
    token_budget: int | None = field(default=None, metadata={"help": "Forward tokens to train on."})
    sampling: str = field(
        default="proportional", metadata={"help": "How tasks are mixed: proportional, temperature, uniform, explicit."}
    )
    sampling_temperature: float = field(default=1.0, metadata={"help": "Temperature of temperature sampling."})
    sampling_weights: dict[str, float] | str | None = field(
        default=None, metadata={"help": "Weight of each task, for explicit sampling."}
    )
    sampling_unit: str = field(default="examples", metadata={"help": "What weights count: examples or tokens."})
    # None is in the type for HfArgumentParser, which otherwise takes `--loss_weights equal` for a dict.
    loss_weights: dict[str, float] | str | None = field(
        default="share", metadata={"help": "share, equal, uncertainty, dwa, or a weight for each task."}
    )
    gradient_surgery: str = field(
        default="none", metadata={"help": "none, pcgrad, upgrad, cagrad or gradvac, on shared parameters."}
    )
    surgery_granularity: str = field(
        default="global", metadata={"help": "Over what gradients are compared: global, layer or module."}
    )
    stage_order: list[str] | str | None = field(
        default=None, metadata={"help": "One task after another: names, given, smallest_first or largest_first."}
    )
    rehearsal: float = field(default=0.0, metadata={"help": "Share of later stages' tokens for earlier tasks."})
    ewc: float = field(default=0.0, metadata={"help": "Weight of elastic weight consolidation between stages."})
    primary_metrics: dict[str, str] | str | None = field(
        default=None, metadata={"help": "The metric of each task that enters the macro score."}
    )
    time_limit_minutes: float | None = field(
        default=None, metadata={"help": "Stop with a checkpoint when the process has run this long."}
    )
    fingerprint: str = field(default="", metadata={"help": "What a checkpoint must share to be resumed."})

    # Defaults that differ from transformers', and why.
    metric_for_best_model: str | None = field(default=None)
    data_seed: int | None = field(default=None)
    # A NaN loss is shown, not replaced by the average; and the check would synchronise the GPU at every step.
    logging_nan_inf_filter: bool = field(default=False)
    # Any value counts forward tokens, without padding; HfArgumentParser cannot parse a default of "non_padding".
    include_num_input_tokens_seen: str | bool = field(default=True)
    # Gradients are reduced once per step by the trainer itself; see `MultiTaskTrainer`.
    ddp_find_unused_parameters: bool | None = field(default=False)
    average_tokens_across_devices: bool = field(default=False)

    def __post_init__(self) -> None:
        if self.gradient_accumulation_steps != 1:
            raise PlanError(
                "gradient_accumulation_steps has no effect on a plan: a step is tokens_per_step forward tokens, cut into "
                "micro-batches of micro_batch_tokens. Leave it at 1."
            )
        if self.auto_find_batch_size:
            raise PlanError("auto_find_batch_size would change the plan in mid-run; set micro_batch_tokens instead")
        if self.label_smoothing_factor:
            raise PlanError("label_smoothing_factor is not supported: the loss is the task head's own")
        if self.deepspeed is not None:
            raise PlanError(
                "DeepSpeed owns the gradients, which the trainer reduces itself; use DDP (accelerate launch --multi_gpu) "
                "or FSDP"
            )
        wants_best = self.load_best_model_at_end or self.save_strategy == "best"
        if wants_best and self.metric_for_best_model is None:
            self.metric_for_best_model = MACRO_SCORE
            self.greater_is_better = True
        if self.micro_batch_tokens is None:
            self.micro_batch_tokens = self.tokens_per_step
        if self.eval_batch_tokens is None:
            self.eval_batch_tokens = 2 * self.micro_batch_tokens
        for name in ("sampling_weights", "primary_metrics"):
            setattr(self, name, _as_mapping(name, getattr(self, name)))
        if isinstance(self.loss_weights, str) and self.loss_weights.startswith("{"):
            self.loss_weights = _as_mapping("loss_weights", self.loss_weights) or {}
        if isinstance(self.stage_order, str) and "," in self.stage_order:
            self.stage_order = [name.strip() for name in self.stage_order.split(",")]
        self._check_strategy()
        super().__post_init__()
        if self.data_seed is None:
            self.data_seed = self.seed

    def _check_strategy(self) -> None:
        for name, known in (("gradient_surgery", METHODS), ("surgery_granularity", GRANULARITIES)):
            if getattr(self, name) not in known:
                raise InputError(f"{name}: {unknown_name('value', getattr(self, name), known)}")
        if self.stage_order is None and (self.rehearsal or self.ewc):
            raise InputError("rehearsal and ewc go with stage_order: they concern the tasks of earlier stages")
        if self.ewc < 0:
            raise InputError(f"ewc must not be negative, found {self.ewc}")
        if self.stage_order is not None and self.gradient_surgery != "none":
            raise InputError("gradient_surgery has no effect with stage_order: tasks are learned one after another")

    @property
    def mixing(self) -> Mixing:
        """The mixing rule of the run."""
        return Mixing(
            sampling=self.sampling,  # type: ignore[arg-type]  # Mixing checks it
            temperature=self.sampling_temperature,
            weights=self.sampling_weights,  # type: ignore[arg-type]  # a mapping after __post_init__
            unit=self.sampling_unit,  # type: ignore[arg-type]
        )

    @property
    def budget(self) -> Budget:
        """The length of the run."""
        if self.token_budget is not None:
            return Budget(tokens=self.token_budget)
        if self.max_steps > 0:
            return Budget(steps=self.max_steps)
        return Budget(epochs=self.num_train_epochs)


@dataclass
class TokenBudgetTrainingArguments(MultiTaskTrainingArguments):
    """Arguments of a run that sees exactly as many tokens as another one.

    Args:
        match: run directory or `result.json` of the run to match; or give `token_budget` as a number.
        match_mode: what is matched: `total_tokens`, the forward tokens of all the reference's tasks together;
            `target_tokens`, its examples of the task in its order; `updates`, its optimizer steps.
        match_fraction: share of the reference's tokens to spend; with `total_tokens` only.
    """

    match: str | None = field(default=None, metadata={"help": "Run directory or result.json of the run to match."})
    match_mode: str = field(
        default="total_tokens", metadata={"help": "What is matched: total_tokens, target_tokens, updates."}
    )
    match_fraction: float = field(default=1.0, metadata={"help": "Share of the matched tokens to spend."})

    def __post_init__(self) -> None:
        if (self.match is None) == (self.token_budget is None):
            raise PlanError(
                "a token-budget run needs either token_budget (a number of tokens) or match (a finished run)"
            )
        super().__post_init__()


def _as_mapping(name: str, value: Any) -> dict[str, Any] | None:
    """A mapping given on a command line as JSON."""
    if not isinstance(value, str):
        return value
    try:
        mapping = json.loads(value)
    except json.JSONDecodeError as error:
        raise InputError(f"{name} is no JSON object: {error}") from None
    if not isinstance(mapping, dict):
        raise InputError(f"{name} is no JSON object: {value}")
    return mapping
