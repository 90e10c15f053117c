"""The recipe: one frozen object that fixes a run, with every rule that its keys obey."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePath
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from hf_crosstask.atomic import json_fingerprint
from hf_crosstask.errors import InputError, unknown_name
from hf_crosstask.recipe.section import Flag, Int, Number, Section, refuse
from hf_crosstask.recipe.training import WITHOUT_EFFECT_ON_RESULTS, Training
from hf_crosstask.tasks.audit.policy import AuditSpec
from hf_crosstask.tasks.card import TaskSpec

_NAME = r"^[A-Za-z0-9][A-Za-z0-9_\-]*$"
StrategyName = Literal["S1", "S1_token_controlled", "S2", "S3a", "S3b", "S4", "S5", "A1", "A2", "A3", "A4"]
#: Strategies that train exactly one task.
SINGLE_TASK = ("S1", "S1_token_controlled")
#: Ablations with equally many trainable adapter parameters.
EQUAL = ("A1", "A2", "A3", "A4")
#: Strategy keys, and the layouts they go with.
_KEYS_OF_LAYOUTS: dict[tuple[str, ...], tuple[str, ...]] = {
    ("fusion",): ("S3a",),
    ("private_r",): ("S3a", "S3b"),
    ("equal_parameters",): ("A1", "A2", "A3", "A4"),
    ("feed", "detach"): ("S3b",),
    ("order", "freeze", "ewc", "rehearsal"): ("S4",),
    ("private_provenance",): ("S3a", "A3", "A4"),
}


class Adapter(Section):
    """A PEFT adapter on the backbone."""

    type: Literal["lora"] = Field(default="lora", description="the kind of adapter")
    r: Int = Field(default=16, gt=0, description="rank")
    alpha: Number = Field(
        default=32, gt=0, description="the update is scaled by alpha / r (alpha / sqrt(r) with use_rslora)"
    )
    dropout: Number = Field(default=0.05, ge=0, lt=1, description="dropout on the adapter's input")
    target_modules: str | tuple[str, ...] = Field(
        default="all-linear", min_length=1, description='"all-linear", or the name endings of the modules to adapt'
    )
    use_rslora: Flag = Field(default=False, description="rank-stabilised scaling")
    use_dora: Flag = Field(default=False, description="weight-decomposed update (DoRA)")
    train_embeddings: Flag = Field(
        default=False, description="also train the input embeddings, saved with the adapter"
    )


class Model(Section):
    """The backbone, what of it trains, and how long inputs are handled."""

    description: str = Field(default="", description="free text; changes nothing")
    name_or_path: str = Field(min_length=1, description="Hub id, local folder, or tiny:<family> (made on the spot)")
    revision: str | None = Field(default=None, description="Hub commit, tag or branch; null: main")
    precision: Literal["auto", "fp32", "fp16", "bf16"] = Field(
        default="auto", description="auto: bf16 where the device computes it, fp16 on older GPUs, fp32 on CPU"
    )
    quantization: Literal["auto", "none", "nf4"] | None = Field(
        default=None,
        description="nf4: 4-bit NormalFloat backbone with double quantization (QLoRA); auto: nf4 where the model does "
        "not fit the device in 16 bits; null: nf4 for S5, else none",
    )
    adapter: Adapter | None = Field(default=None, description="the adapter that trains; null: full fine-tuning")
    trust_remote_code: Flag = Field(
        default=False, description="run model code from the repository; pin `revision` with it"
    )
    attn_implementation: str | None = Field(
        default=None,
        min_length=1,
        description="eager, sdpa, flash_attention_2, …; null: the model's default (sdpa where it can); auto: "
        "flash_attention_2 where it is installed and the model and its precision allow it",
    )
    max_length: Int = Field(default=512, ge=8, description="most tokens of one model input, special tokens included")
    stride: Int = Field(default=32, ge=0, description="most tokens that neighbouring windows of a long input share")
    long_inputs: Literal["window", "truncate"] = Field(
        default="window", description="inputs longer than max_length: overlapping windows, or cut (and counted)"
    )
    head_dropout: Number = Field(default=0.1, ge=0, lt=1, description="dropout before each task's head")

    @model_validator(mode="after")
    def _quantized_needs_adapter(self) -> Model:
        if self.quantization in ("auto", "nf4") and self.adapter is None:
            refuse([(["quantization"], "a quantized backbone does not train: give model.adapter")])
        return self

    @model_validator(mode="after")
    def _stride_fits(self) -> Model:
        if self.long_inputs == "window" and self.stride >= self.max_length:
            refuse([(["stride"], f"{self.stride} must be smaller than max_length ({self.max_length})")])
        return self


class Surgery(Section):
    """What happens to conflicting gradients of shared parameters."""

    method: Literal["none", "pcgrad", "upgrad", "cagrad", "gradvac"] = Field(
        default="pcgrad",
        description="none: gradients are summed; pcgrad: Yu et al. 2020; upgrad: Quinton & Rey 2024; cagrad: Liu et al. "
        "2021; gradvac: Wang et al. 2021",
    )
    granularity: Literal["global", "layer", "module"] = Field(
        default="global",
        description="over which parameters gradients are compared: all that the same tasks share, those of a layer, or of "
        "a module",
    )


class Strategy(Section):
    """Which tasks share what, and how their gradients meet."""

    name: StrategyName = Field(
        description="S1: one task alone; S1_token_controlled: one task alone on a given number of tokens; "
        "S2: several tasks, everything but the heads shared; S3a: a shared and a private adapter per task; "
        "S3b: entity tasks feed relation, QA and event tasks; S4: one task after another; "
        "S5: a 4-bit backbone under any of these; A1-A4: shared, private, shared + private summed, and gated "
        "adapters with equally many trainable parameters"
    )
    architecture: Literal["S1", "S2", "S3a", "S3b", "S4"] | None = Field(
        default=None, description="with S5 only: the strategy on the 4-bit backbone; null: S2"
    )
    surgery: Surgery | None = Field(
        default=None, description="gradient surgery on shared parameters; null: pcgrad for S3a and S3b, else none"
    )
    fusion: Literal["sum", "gated", "attention"] | None = Field(
        default=None, description="how a shared and a private adapter are added up (S3a); null: sum"
    )
    private_r: Int | None = Field(
        default=None, gt=0, description="rank of private (S3a) and level (S3b) adapters; null: half of adapter.r"
    )
    equal_parameters: Literal["total", "active"] | None = Field(
        default=None,
        description="A1-A4: which trainable adapter parameters are made equal to those of one shared adapter of rank "
        "adapter.r: all of them, or those that one task uses; null: total",
    )
    feed: Literal["attention", "shortcut"] | None = Field(
        default=None, description="how level-1 states reach level-2 tasks (S3b); null: attention"
    )
    detach: Flag | None = Field(
        default=None, description="level-2 losses do not train level 1 through the feed (S3b); null: false"
    )
    order: tuple[str, ...] | Literal["given", "smallest_first", "largest_first"] | None = Field(
        default=None,
        description="order of the tasks (S4): names, or a rule (a task's size is its training tokens); null: given. The "
        "learning-rate schedule starts anew at every stage",
    )
    freeze: Flag | None = Field(
        default=None, description="keep the adapter of earlier stages fixed and add a new one each stage (S4)"
    )
    ewc: Number | None = Field(
        default=None, ge=0, description="weight of elastic weight consolidation (S4); null or 0: none"
    )
    rehearsal: Number | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="share of every later stage's tokens spent on the tasks before it (S4); null: 0",
    )
    private_provenance: tuple[str, ...] = Field(
        default=(),
        description="tasks of these provenances (mimic, …) use the shared adapter as a constant: their losses train their "
        "private parts only (S3a, A3, A4)",
    )

    @property
    def layout(self) -> str:
        """The strategy that decides what is shared: that under the 4-bit backbone for S5, S3a for A2 to A4."""
        return (self.architecture or "S2") if self.name == "S5" else self.name

    @property
    def surgery_method(self) -> str:
        """The surgery in force, defaults resolved."""
        if self.surgery is not None:
            return self.surgery.method
        return "pcgrad" if self.layout in ("S3a", "S3b") else "none"

    @model_validator(mode="after")
    def _keys_fit(self) -> Strategy:
        layout, problems = self.layout, []
        if self.architecture is not None and self.name != "S5":
            problems.append((["architecture"], f"only goes with S5, but the strategy is {self.name}"))
        for keys, layouts in _KEYS_OF_LAYOUTS.items():
            for key in keys:
                if getattr(self, key) not in (None, ()) and layout not in layouts:
                    text = f"only goes with {' and '.join(layouts)}, but the strategy is {self.name}"
                    problems.append(([key], text + (f" on {layout}" if self.name == "S5" else "")))
        if self.freeze and (self.ewc or self.rehearsal):
            text = "keeps earlier tasks exactly as they were: leave ewc and rehearsal out, which have nothing to do"
            problems.append((["freeze"], text))
        if self.surgery is not None and self.surgery.method != "none" and layout in (*SINGLE_TASK, "S4", "A2"):
            problems.append((["surgery"], f"{self.name} has no step in which tasks share parameters"))
        if problems:
            refuse(problems)
        return self


class MixingSettings(Section):
    """The share of training each task gets."""

    sampling: Literal["proportional", "temperature", "uniform", "explicit"] = Field(
        default="proportional",
        description="proportional to task size n, temperature (n^(1/τ)), uniform, or explicit weights",
    )
    temperature: Number | None = Field(default=None, gt=0, description="τ; with sampling temperature only")
    weights: dict[str, Number] | None = Field(
        default=None, description="relative weight of every task; with sampling explicit only"
    )
    unit: Literal["examples", "tokens"] = Field(default="examples", description="what n and the weights count")

    @model_validator(mode="after")
    def _parameters_fit(self) -> MixingSettings:
        problems: list[tuple[list[str], str]] = []
        for key, sampling in (("temperature", "temperature"), ("weights", "explicit")):
            value = getattr(self, key)
            if self.sampling == sampling and value is None:
                problems.append(([key], f'is required with sampling "{sampling}"'))
            elif self.sampling != sampling and value is not None:
                text = f'only goes with sampling "{sampling}", but sampling is "{self.sampling}"; leave it out or null'
                problems.append(([key], text))
        for task, weight in (self.weights or {}).items():
            if weight <= 0:
                problems.append((["weights", task], f"must be greater than 0, found {weight:g}"))
        if problems:
            refuse(problems)
        return self


class Match(Section):
    """A finished run whose tokens this run spends."""

    run: str = Field(min_length=1, description="run folder, or its result.json; relative to the working directory")
    mode: Literal["total_tokens", "target_tokens", "updates", "flops", "unique_tokens", "parameters"] = Field(
        default="total_tokens",
        description="what is made equal: all tokens of the run; the same examples of the one task in the same order "
        "(target_tokens); its optimizer steps; its floating-point operations, forward and backward (flops); its "
        "different training tokens (unique_tokens: this run trains on a seeded sample of its examples); or all tokens "
        "and the trainable parameters, heads included (parameters: one task, whose adapter's ranks follow)",
    )
    fraction: Number = Field(default=1.0, gt=0, description="share of the run's tokens; with total_tokens only")
    equal_parameters: Literal["total", "active"] | None = Field(
        default=None,
        description="with parameters only: the run's trainable parameters that are matched, all of them or those that "
        "the task uses; null: total",
    )

    @model_validator(mode="after")
    def _keys_of_modes(self) -> Match:
        problems: list[tuple[list[str], str]] = []
        if self.fraction != 1 and self.mode != "total_tokens":
            problems.append((["fraction"], f"only goes with total_tokens, but the mode is {self.mode}"))
        if self.equal_parameters is not None and self.mode != "parameters":
            problems.append((["equal_parameters"], f"only goes with parameters, but the mode is {self.mode}"))
        if problems:
            refuse(problems)
        return self

    @model_serializer(mode="wrap")
    def _without_unset_key(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Recipes of other modes are written, and named, as before there was the key."""
        return {key: value for key, value in handler(self).items() if key != "equal_parameters" or value is not None}


def _match(value: object) -> object:
    return {"run": value} if isinstance(value, str) else value


class BudgetSettings(Section):
    """How long to train: exactly one key."""

    epochs: Number | None = Field(default=None, gt=0, description="passes over the mixture")
    steps: Int | None = Field(default=None, gt=0, description="optimizer steps of training.tokens_per_step tokens")
    tokens: Int | None = Field(
        default=None, gt=0, description="forward tokens, hit exactly where example lengths allow"
    )
    match: Annotated[Match | None, BeforeValidator(_match, json_schema_input_type=str | Match | None)] = Field(
        default=None,
        description="spend the tokens of a finished run: its folder or result.json, or an object with a mode",
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> BudgetSettings:
        given = [key for key in BudgetSettings.model_fields if getattr(self, key) is not None]
        if len(given) != 1:
            found = f"found {' and '.join(given)}" if given else "found none"
            raise ValueError(f"needs exactly one of {', '.join(BudgetSettings.model_fields)}; {found}")
        return self


class Evaluation(Section):
    """The scoring at the end of a run. (During training: training.eval_strategy, eval_steps, …)"""

    split: Literal["validation", "test"] = Field(default="test", description="the split that is scored at the end")
    bootstrap_replicates: Int = Field(default=1000, ge=100, description="bootstrap replicates of each interval")
    confidence: Number = Field(default=0.95, gt=0, lt=1, description="level of the intervals")
    score_validation: Flag = Field(
        default=False, description="also score the validation split once, at the end: for choosing between runs"
    )


class Release(Section):
    """What happens to a finished run: it is pushed to the Hub (`hf-crosstask train`, after the result is written)."""

    repo: str = Field(
        pattern=r"^[\w.-]+(/[\w.-]+)?$",
        description="user/name on the Hub (or name, of who is logged in); made if need be",
    )
    private: Flag | None = Field(
        default=None,
        description="who may see a repository that is made; null: private where a corpus is credentialed, non-commercial, "
        "copyleft or without a stated licence, else public",
    )
    revision: str | None = Field(default=None, min_length=1, description="branch, made if need be; null: main")
    task: str | None = Field(
        default=None, description="release this task alone, its adapter at the root of the repository; null: all tasks"
    )
    licence: str | None = Field(
        default=None, description="the Hub's name of a licence; null: the one that all corpora share, else `other`"
    )
    language: tuple[str, ...] = Field(default=("en",), min_length=1, description="ISO 639 codes of the texts")
    base_model: str | None = Field(
        default=None, description="Hub id of the base model, where model.name_or_path is a local folder"
    )
    collection: str | None = Field(
        default=None, min_length=1, max_length=59, description="title of a collection to put it in; made if need be"
    )


def _named(value: object) -> object:
    return {"name": value} if isinstance(value, str) else value


def _resolvable(spec: TaskSpec) -> TaskSpec:
    from hf_crosstask.tasks.registry import resolve_card

    try:
        resolve_card(spec)
    except InputError as error:
        raise ValueError(str(error)) from None
    return spec


RecipeTask = Annotated[
    TaskSpec, BeforeValidator(_named, json_schema_input_type=str | TaskSpec), AfterValidator(_resolvable)
]


class Recipe(Section):
    """Everything that fixes a run, besides the data.

    Paths (`data_dir`, `output_dir`, `budget.match.run`) are relative to the working directory, a task's `path` to
    `data_dir`.
    """

    name: str = Field(pattern=_NAME, description="names the run")
    description: str = Field(default="", description="free text; changes nothing")
    tasks: tuple[RecipeTask, ...] = Field(
        min_length=1, description="the tasks: names of the registry, or objects that change or define one"
    )
    model: Model = Field(description="the backbone, its adapter, and how long inputs are handled")
    strategy: Strategy = Field(description="which tasks share what")
    mixing: MixingSettings = Field(default=MixingSettings(), description="the share of training each task gets")
    budget: BudgetSettings = Field(description="how long to train: exactly one key")
    training: Training = Field(
        default=Training(), description="training settings, and any transformers.TrainingArguments field by name"
    )
    evaluation: Evaluation = Field(default=Evaluation(), description="the scoring at the end of a run")
    audit: AuditSpec | None = Field(
        default=None,
        description="what happens to evaluation examples found in training data; null: an error between and within the "
        "tasks of a multi-task run, no audit of a single task",
    )
    placebos: dict[str, Literal["permuted_labels", "text"]] = Field(
        default={},
        description="task to placebo: permuted_labels trains it on its own labels in random order (its validation and "
        "test splits stay as they are); text trains it on its texts without labels, by predicting their tokens (it has no "
        "score)",
    )
    release: Release | None = Field(
        default=None, description="push the finished run to the Hub; null: do not (`hf-crosstask release` still can)"
    )
    data_dir: str | None = Field(default=None, min_length=1, description="folder of the tasks' files")
    base_model_dir: str | None = Field(
        default=None, min_length=1, description="where a tiny model is kept; null: base_model in output_dir"
    )
    output_dir: str = Field(
        default_factory=lambda data: f"outputs/{data['name']}",
        min_length=1,
        description="the run's folder; default: outputs/<name>",
    )

    # Rules between sections are checked on the later one, so that they are reported together with all other errors.

    @field_validator("tasks")
    @classmethod
    def _unique_names(cls, tasks: tuple[TaskSpec, ...]) -> tuple[TaskSpec, ...]:
        first: dict[str, int] = {}
        problems = [
            ([position], f"the name {spec.name!r} is taken by tasks[{first[spec.name]}]; names must differ")
            for position, spec in enumerate(tasks)
            if first.setdefault(spec.name, position) != position
        ]
        if problems:
            refuse(problems)
        return tasks

    @field_validator("strategy")
    @classmethod
    def _enough_tasks(cls, strategy: Strategy, info: ValidationInfo) -> Strategy:
        tasks = info.data.get("tasks")
        if tasks is None:
            return strategy
        names = [spec.name for spec in tasks]
        listed = ", ".join(names)
        if strategy.layout in SINGLE_TASK and len(tasks) != 1:
            raise ValueError(f"{strategy.name} trains exactly one task, but `tasks` has {len(tasks)}: {listed}")
        if strategy.layout not in SINGLE_TASK and len(tasks) < 2:
            raise ValueError(f"{strategy.name} trains at least two tasks, but `tasks` has one: {listed}")
        if isinstance(strategy.order, tuple) and sorted(strategy.order) != sorted(names):
            refuse([(["order"], f"must name every task once: {listed}")])
        if strategy.layout == "S3b":
            _check_levels(strategy.name, tasks)
        return strategy

    @field_validator("strategy")
    @classmethod
    def _model_fits(cls, strategy: Strategy, info: ValidationInfo) -> Strategy:
        model = info.data.get("model")
        if model is None:
            return strategy
        if strategy.name == "S5" and model.quantization == "none":
            raise ValueError('S5 is a 4-bit backbone, but model.quantization is "none"; leave it out')
        if strategy.freeze and (model.adapter is None or model.adapter.train_embeddings):
            refuse([(["freeze"], "adds an adapter at every stage: give model.adapter, without train_embeddings")])
        several = strategy.layout not in (*SINGLE_TASK, "S2", "S4")
        if model.adapter is None:
            if several or strategy.name == "S5":
                raise ValueError(f"{strategy.name} needs an adapter, but model.adapter is null")
        elif several and model.adapter.use_dora:
            raise ValueError(
                f"{strategy.name} adds adapters up, which DoRA's are not made for: model.adapter.use_dora"
            )
        elif strategy.layout in EQUAL and model.adapter.train_embeddings:
            raise ValueError(
                f"{strategy.name} compares adapters of equal size; leave model.adapter.train_embeddings false"
            )
        return strategy

    @field_validator("mixing")
    @classmethod
    def _weights_name_the_tasks(cls, mixing: MixingSettings, info: ValidationInfo) -> MixingSettings:
        _check_task_keys(mixing.weights, info, "weights")
        return mixing

    @field_validator("budget")
    @classmethod
    def _tokens_for_token_control(cls, budget: BudgetSettings, info: ValidationInfo) -> BudgetSettings:
        strategy = info.data.get("strategy")
        if strategy and strategy.name == "S1_token_controlled" and budget.tokens is None and budget.match is None:
            raise ValueError(
                'S1_token_controlled needs the tokens of another run: "match": "<run folder>", or "tokens": <number>'
            )
        mode, model = budget.match.mode if budget.match else None, info.data.get("model")
        if strategy and mode == "flops" and strategy.layout == "S4":
            refuse(
                [(["match", "mode"], "flops end a plan where they are spent; stages end by tokens: use total_tokens")]
            )
        if strategy and mode == "parameters" and strategy.layout not in SINGLE_TASK:
            refuse([(["match", "mode"], f"parameters goes with one task, but the strategy is {strategy.name}")])
        if model and mode == "parameters" and model.adapter is None:
            refuse([(["match", "mode"], "parameters chooses the adapter's ranks, but model.adapter is null")])
        return budget

    @field_validator("training")
    @classmethod
    def _training_fits(cls, training: Training, info: ValidationInfo) -> Training:
        _check_task_keys(training.loss_weights, info, "loss_weights")
        strategy = info.data.get("strategy")
        stops_early = training.early_stopping_patience is not None
        if strategy and strategy.name == "S1_token_controlled" and stops_early:
            text = "a token-controlled run spends its whole budget; leave early stopping out"
            refuse([(["early_stopping_patience"], text)])
        return training

    @field_validator("placebos")
    @classmethod
    def _placebos_name_tasks(cls, placebos: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        names = [spec.name for spec in info.data.get("tasks") or ()]
        problems = [([task], unknown_name("task", task, names)) for task in placebos if names and task not in names]
        text = [task for task, placebo in placebos.items() if placebo == "text"]
        problems += _answers_in_text([spec for spec in info.data.get("tasks") or () if spec.name in text])
        strategy = info.data.get("strategy")
        if text and strategy is not None and strategy.layout == "S3b":
            problems.append(([text[0]], f"{strategy.name} feeds on what level-1 heads find; text has no such head"))
        if text and set(names) == set(text):
            problems.append(([text[0]], "leave a task that is trained with its labels: nothing else has a score"))
        if problems:
            refuse(problems)
        return placebos

    @field_validator("release")
    @classmethod
    def _releases_a_task(cls, release: Release | None, info: ValidationInfo) -> Release | None:
        tasks = info.data.get("tasks")
        if release is not None and "text" in (info.data.get("placebos") or {}).values():
            raise ValueError("a run with a text placebo is a control; it is not released")
        if tasks is None or release is None or release.task is None:
            return release
        names = [spec.name for spec in tasks]
        if release.task not in names:
            refuse([(["task"], unknown_name("task", release.task, names))])
        return release

    @property
    def task_names(self) -> tuple[str, ...]:
        """Names of the tasks, in order."""
        return tuple(spec.name for spec in self.tasks)

    @property
    def text_tasks(self) -> tuple[str, ...]:
        """The tasks that are trained on their text alone, in order."""
        return tuple(name for name in self.task_names if self.placebos.get(name) == "text")

    def resolved(self) -> dict[str, Any]:
        """The whole recipe as JSON, defaults included; loading it gives an equal recipe."""
        tasks = [spec.model_dump(mode="json", exclude_none=True) for spec in self.tasks]
        value = self.model_dump(mode="json") | {"tasks": tasks}
        if self.audit is not None:
            against = [spec.model_dump(mode="json", exclude_none=True) for spec in self.audit.against]
            value["audit"] |= {"against": against}
        return value

    def fingerprint(self) -> str:
        """Hex SHA-256 of what can change results: not names, free text, places, logging, or how often to save.

        Of a run that is matched, its folder's name counts, not where that folder is: studies move as a whole.
        """
        value = self.resolved()
        for key in ("name", "description", "release", "data_dir", "output_dir", "base_model_dir"):
            del value[key]
        if self.budget.match is not None:
            run = PurePath(self.budget.match.run)
            value["budget"]["match"]["run"] = run.parent.name if run.name == "result.json" else run.name
        del value["model"]["description"]
        for key in WITHOUT_EFFECT_ON_RESULTS & value["training"].keys():
            del value["training"][key]
        return json_fingerprint(value)


def _check_levels(strategy: str, tasks: Iterable[TaskSpec]) -> None:
    """A hierarchy has tasks of both levels."""
    from hf_crosstask.tasks.registry import resolve_card

    levels = {spec.name: resolve_card(spec).level for spec in tasks}
    for level, kind in ((1, "entities"), (2, "relations, answers, classes")):
        if level not in levels.values():
            listed = ", ".join(f"{name} (level {value})" for name, value in levels.items())
            raise ValueError(
                f"{strategy} feeds level-1 tasks into level-2 tasks, but no task is of level {level} ({kind}): {listed}; "
                "add one, or set a task's `level`"
            )


def _answers_in_text(tasks: Iterable[TaskSpec]) -> list[tuple[list[str], str]]:
    """Tasks whose rows hold their answers, so that they cannot be trained on text without them."""
    from hf_crosstask.tasks.registry import resolve_card

    forms = {spec.name: resolve_card(spec).formulation for spec in tasks}
    return [
        (
            [task],
            f"the task is posed to the language model ({formulation}), so its answers are part of the text that it is "
            "trained on; give it formulation head, or permuted_labels",
        )
        for task, formulation in forms.items()
        if formulation != "head"
    ]


def _check_task_keys(weights: object, info: ValidationInfo, key: str) -> None:
    """A map of weights names exactly the tasks of the recipe."""
    tasks = info.data.get("tasks")
    if tasks is None or not isinstance(weights, dict):
        return
    names = [spec.name for spec in tasks]
    problems: list[tuple[Iterable[str], str]] = [
        ((key, name), unknown_name("task", name, names)) for name in weights if name not in names
    ]
    missing = [name for name in names if name not in weights]
    if missing:
        problems.append(((key,), f"names no weight for {', '.join(missing)}"))
    if problems:
        refuse([(list(path), text) for path, text in problems])
