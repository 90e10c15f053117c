"""The study recipe: which arms run on which tasks with which seeds, what is compared with what, and what would count.

Everything that decides a verdict is declared here, before anything runs: which arms are confirmatory, the smallest
effect of interest, the controls, the error rate.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from hf_crosstask.errors import unknown_name
from hf_crosstask.recipe.json_schema import editor_schema
from hf_crosstask.recipe.schema import SINGLE_TASK, RecipeTask, Strategy
from hf_crosstask.recipe.section import Flag, Int, Number, Section, refuse

_NAME = r"^[A-Za-z0-9][A-Za-z0-9_\-]*$"
Placebo = Literal["permuted_labels", "text", "out_of_domain"]
#: What a placebo is called among the modes of a control.
PLACEBO_MODES: dict[str, str] = {
    "permuted_labels": "label_placebo",
    "text": "text_placebo",
    "out_of_domain": "format_placebo",
}

ArmMatchMode = Literal["total_tokens", "target_tokens", "updates", "flops", "unique_tokens", "envelope", "parameters"]


class ArmMatch(Section):
    """The arm whose runs this arm's budget is matched to, and by what."""

    arm: str = Field(min_length=1, description="the other arm")
    mode: ArmMatchMode = Field(
        default="total_tokens",
        description="total_tokens: as many forward tokens; target_tokens: the same examples of the task in the same "
        "order; updates: as many optimizer steps; flops: as many floating-point operations; unique_tokens: as many "
        "different tokens (a multi-task arm matched to a single-task one); envelope: the best, on validation, of several "
        "shares of the tokens; parameters: as many forward tokens and as many trainable parameters, heads included",
    )
    fractions: tuple[Number, ...] | None = Field(
        default=None, min_length=2, description="shares of the tokens that an envelope tries; null: 1/4, 1/2 and 1"
    )

    equal_parameters: Literal["total", "active"] | None = Field(
        default=None,
        description="with parameters only: which of the other arm's trainable parameters are matched, all of them or "
        "those that the task uses; null: total",
    )

    @model_validator(mode="after")
    def _keys_of_modes(self) -> ArmMatch:
        if self.fractions is not None and self.mode != "envelope":
            refuse([(["fractions"], f"only goes with the mode envelope, but the mode is {self.mode}")])
        if self.equal_parameters is not None and self.mode != "parameters":
            refuse([(["equal_parameters"], f"only goes with the mode parameters, but the mode is {self.mode}")])
        if any(not 0 < share <= 1 for share in self.fractions or ()):
            refuse([(["fractions"], "must be above 0 and at most 1")])
        return self

    @property
    def tried(self) -> tuple[float, ...]:
        """The shares of the tokens that are tried: one, but for an envelope."""
        return (self.fractions or (0.25, 0.5, 1.0)) if self.mode == "envelope" else (1.0,)


def _strategy(value: object) -> object:
    return {"name": value} if isinstance(value, str) else value


class Arm(Section):
    """One strategy under one budget."""

    description: str = Field(default="", description="free text; changes nothing")
    strategy: Annotated[Strategy, BeforeValidator(_strategy, json_schema_input_type=str | Strategy)] = Field(
        description="the strategy: its name, or the recipe's section"
    )
    match: ArmMatch | None = Field(default=None, description="the arm this one is a control of; null: its own budget")
    placebo: Placebo | None = Field(
        default=None,
        description="permuted_labels: the other tasks' training labels in random order; text: their training texts without "
        "labels, by predicting tokens; out_of_domain: other tasks, named in `auxiliary`. One run for every target task",
    )
    auxiliary: tuple[RecipeTask, ...] = Field(default=(), description="the tasks of an out_of_domain placebo")
    control_of: str | None = Field(default=None, description="the arm a placebo is a control of; null: match.arm")
    shares: tuple[Number, ...] = Field(
        default=(),
        description="dose-response: the other tasks' share of the tokens, at the tokens of the matched arm. One run for "
        "every share and target task",
    )
    confirmatory: Flag = Field(
        default=False, description="a claim about this arm counts; others are explored, and their verdicts say so"
    )
    recipe: dict[str, Any] = Field(default={}, description="keys of the base recipe that this arm changes")

    @property
    def single(self) -> bool:
        """Whether the arm trains one task at a time."""
        return self.strategy.layout in SINGLE_TASK

    @property
    def controls(self) -> str | None:
        """The arm that this one is a control of."""
        return self.control_of or (self.match.arm if self.match else None)

    @model_validator(mode="after")
    def _keys_fit(self) -> Arm:
        problems: list[tuple[list[str], str]] = []
        if self.single:
            for key in ("placebo", "auxiliary", "shares", "confirmatory"):
                if getattr(self, key):
                    problems.append(([key], f"goes with a multi-task arm, but the strategy is {self.strategy.name}"))
        if (self.placebo == "out_of_domain") != bool(self.auxiliary):
            problems.append((["auxiliary"], 'goes with "placebo": "out_of_domain", and only with it'))
        if self.placebo and self.controls is None:
            problems.append((["control_of"], "is required: the arm this placebo is a control of"))
        if self.shares and (self.match is None or self.match.mode != "total_tokens"):
            problems.append((["match"], "shares are of the tokens of another arm: match it by total_tokens"))
        if any(not 0 < share < 1 for share in self.shares):
            problems.append((["shares"], "must be between 0 and 1 (0 is a single-task control)"))
        if self.confirmatory and (self.placebo or self.shares):
            problems.append((["confirmatory"], "a placebo or dose is no claim of its own"))
        if problems:
            refuse(problems)
        return self


class Statistics(Section):
    """How verdicts are reached (see `hf_crosstask.study.verdict`)."""

    alpha: Number = Field(default=0.05, gt=0, lt=0.5, description="family-wise error over all confirmatory tasks")
    level: Number = Field(default=0.95, gt=0, lt=1, description="level of intervals")
    replicates: Int = Field(default=10_000, ge=100, description="multi-bootstrap replicates")
    seed: Int = Field(default=0, ge=0, description="of the replicates")
    minimum_seeds: Int = Field(default=5, ge=2, description="fewer seeds are no confirmation")
    minimum_examples: Int = Field(default=50, ge=2, description="smaller test sets are only described")
    minimum_clusters: Int = Field(default=30, ge=2, description="test sets of fewer documents are only described")


class Execution(Section):
    """How runs are run; changes no result, but for `threads` on a CPU."""

    workers: Int | None = Field(
        default=None, gt=0, description="runs at a time; null: one a GPU, on a CPU cores / threads"
    )
    threads: Int = Field(default=1, gt=0, description="CPU threads of a run: sums round differently with more")
    launcher: tuple[str, ...] = Field(
        default=(),
        description='what starts a run, such as ["accelerate", "launch", "--num_processes", "2"]; empty: this Python',
    )
    slurm: dict[str, Any] = Field(
        default={},
        description="parameters of submitit's executor: timeout_min, slurm_partition, gpus_per_node, …; "
        "slurm_max_num_timeout: how often a run goes on after its time limit (3)",
    )
    keep: Literal["results", "adapters"] = Field(
        default="adapters", description="what stays of a finished run: results alone, or adapters and heads as well"
    )


class Study(Section):
    """Arms x tasks x seeds, and what would count. Paths are relative to the working directory, `base` to this file."""

    name: str = Field(pattern=_NAME, description="names the study")
    description: str = Field(default="", description="free text; changes nothing")
    base: str | tuple[str, ...] = Field(min_length=1, description="recipe file(s) that every run starts from")
    recipe: dict[str, Any] = Field(default={}, description="keys of the base recipe that every arm changes")
    models: dict[str, str | dict[str, Any]] = Field(
        default={}, description="name to a recipe's `model` section, or a file under recipes/models; none: the base's"
    )
    tasks: tuple[RecipeTask, ...] = Field(default=(), description="the tasks; none: those of the base recipe")
    groups: tuple[Literal["all", "pairs"] | tuple[str, ...], ...] = Field(
        default=("all",), min_length=1, description="which tasks multi-task arms train together; several are tried"
    )
    seeds: tuple[Int, ...] = Field(min_length=1, description="training seeds, the same in every arm")
    arms: dict[str, Arm] = Field(min_length=1, description="name to arm")
    smallest_effect: Number | None = Field(
        default=None, gt=0, description="smallest effect of interest, in the unit of the metrics; null: none declared"
    )
    statistics: Statistics = Field(default=Statistics(), description="how verdicts are reached")
    execution: Execution = Field(default=Execution(), description="how runs are run")
    data_dir: str | None = Field(
        default=None, min_length=1, description="folder of the tasks' files; null: the base's"
    )
    output_dir: str = Field(
        default_factory=lambda data: f"outputs/{data['name']}", min_length=1, description="the study's folder"
    )

    @field_validator("seeds")
    @classmethod
    def _different_seeds(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) != len(seeds):
            raise ValueError("a seed occurs twice")
        return seeds

    @field_validator("arms")
    @classmethod
    def _arms_fit(cls, arms: dict[str, Arm], info: ValidationInfo) -> dict[str, Arm]:
        problems: list[tuple[list[str], str]] = []
        for name, arm in arms.items():
            if not name.replace("_", "").replace("-", "").isalnum():
                problems.append(([name], "the name of an arm holds only letters, digits, '_' and '-'"))
            for key, other in (("match", arm.match.arm if arm.match else None), ("control_of", arm.control_of)):
                where = [name, key] + (["arm"] if key == "match" else [])
                if other is None:
                    continue
                if other not in arms:
                    problems.append((where, unknown_name("arm", other, arms)))
                elif other == name:
                    problems.append((where, "an arm cannot be matched to itself"))
                elif key == "match":
                    problems += [(where, text) for text in _mismatch(arm, arms[other])]
        if problems:
            refuse(problems)
        return arms

    def declared(self) -> dict[str, Any]:
        """What decides the verdicts, given the runs: not names, free text, places, or how runs are run."""
        places = {"name", "description", "base", "recipe", "data_dir", "output_dir", "execution"}
        return self.model_dump(mode="json", exclude=places)


def _mismatch(arm: Arm, other: Arm) -> list[str]:
    """Why an arm cannot be matched to another one."""
    assert arm.match is not None
    if other.match is not None and other.match.mode == "envelope":
        return ["an envelope has several runs; match an arm with one"]
    if other.placebo or other.shares:
        return ["a placebo or dose has a run for every target task; match the arm it is a control of"]
    if arm.match.mode == "unique_tokens":
        return (
            [] if other.single and not arm.single else ["unique_tokens matches a multi-task arm to a single-task one"]
        )
    if other.single:
        return [f"{arm.match.mode} matches an arm to a multi-task one"]
    if arm.match.mode in ("target_tokens", "parameters") and not arm.single:
        return [f"{arm.match.mode} matches a single-task arm to a multi-task one"]
    if arm.match.mode == "envelope" and not arm.single:
        return ["an envelope is one of single-task budgets"]
    return []


def study_schema() -> dict[str, Any]:
    """The JSON Schema of study files, for editors; `hf-crosstask study` checks more."""
    return editor_schema(Study, "Written by `hf-crosstask schema study`.")
