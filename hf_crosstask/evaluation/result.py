"""`result.json`: the versioned record of one run, written whole or not at all, and refused where it cannot be trusted.

The keys named here do not move; further keys are welcome at every level and survive a round trip.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, ValidationError

from hf_crosstask.atomic import file_sha256, json_fingerprint, write_json
from hf_crosstask.errors import InputError
from hf_crosstask.evaluation.energy import watt_hours
from hf_crosstask.tasks.schema import TaskType

SCHEMA_VERSION = 1
FILE_NAME = "result.json"


class ResultError(InputError):
    """A result cannot be read or trusted; all of its problems are reported at once.

    Args:
        path: the file.
        problems: `(dotted key path, what is wrong)` pairs; an empty key means the whole file.
    """

    def __init__(self, path: str | Path, problems: Sequence[tuple[str, str]]):
        self.path, self.problems = str(path), list(problems)
        lines = [f"  {key}: {problem}" if key else f"  {problem}" for key, problem in self.problems]
        count = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
        super().__init__(f"{path}: {count}\n" + "\n".join(lines))


class _Model(BaseModel):
    model_config = ConfigDict(extra="allow", allow_inf_nan=False)


class Fingerprints(_Model):
    """Hex digests of what fixed the run."""

    recipe: str
    data: str
    plan: str


class TokenCounts(_Model):
    """Forward tokens (special tokens included, padding not), planned and counted; `padded` includes the padding.

    `extra_forward_tokens` passed the backbone once more (S3b's level-2 tasks); they are in none of the other counts.
    """

    planned: NonNegativeInt
    counted: NonNegativeInt
    padded: NonNegativeInt
    extra_forward_tokens: NonNegativeInt = 0


class TaskTokenCounts(TokenCounts):
    """A task's tokens; `supervised` carry a label (span NER: the cells of its band), `unique` is one pass over the
    training examples."""

    supervised: NonNegativeInt
    unique: NonNegativeInt


class TaskFlops(_Model):
    """Floating-point operations of a task, forward and backward, and the rates they come from: of a token, of a pair of
    tokens of a sequence, of a sequence, and of a position that predicts a token, of which there were `positions`."""

    planned: NonNegativeInt
    counted: NonNegativeInt
    token: NonNegativeInt
    pair: NonNegativeInt
    sequence: NonNegativeInt
    answer: NonNegativeInt
    positions: NonNegativeInt


class FlopCounts(_Model):
    """Floating-point operations of training (`models.flops`): of the plan, and of the steps of it that were taken;
    `largest_example` is what one example costs at most."""

    planned: NonNegativeInt
    counted: NonNegativeInt
    largest_example: NonNegativeInt
    tasks: dict[str, TaskFlops]


class ParameterMatch(_Model):
    """Trainable parameters made equal (heads included): those of the whole run, or those that the task uses."""

    matched: Literal["total", "active"]
    target: NonNegativeInt
    reached: NonNegativeInt


class MatchResult(_Model):
    """The budget this run was matched to.

    `difference` is what was counted minus `target`, in the unit of `mode` (tokens for `total_tokens`). Where parameters
    were matched as well, `parameters` says how well.
    """

    mode: str
    reference: str
    target: int
    difference: int
    parameters: ParameterMatch | None = None


class MetricValue(_Model):
    """A value in the metric's own unit with its bootstrap interval; null where none can be estimated."""

    value: float
    low: float | None = None
    high: float | None = None


class TaskMetrics(_Model):
    """All values of a task; `majority` is the primary metric's value for the trivial predictor.

    A multi-label task also has `threshold`, by which it decided, and `threshold_from`: `validation` or `default`.
    """

    primary: str
    values: dict[str, MetricValue]
    majority: float


class TaskResult(_Model):
    """One task of the run.

    `epochs` is counted passes over its training examples; `loss` the mean training loss per item over the run;
    `encoding` what encoding did to each split; `dropped` and `lost_gold` what the reader reported.
    """

    type: TaskType
    examples: dict[Literal["train", "validation", "test"], NonNegativeInt]
    tokens: TaskTokenCounts
    epochs: NonNegativeFloat
    metrics: TaskMetrics
    loss: float | None = None
    encoding: dict[str, dict[str, int]] = Field(default_factory=dict)
    dropped: dict[str, dict[str, int]] = Field(default_factory=dict)
    lost_gold: dict[str, dict[str, int]] = Field(default_factory=dict)
    data_fingerprint: str | None = None


class TextTaskResult(_Model):
    """A task that was trained on its text alone (a placebo): no labels, so no scores.

    Fields as of `TaskResult`; `loss` is per predicted token, and `supervised` tokens are those that were predicted.
    """

    type: TaskType
    examples: dict[Literal["train", "validation", "test"], NonNegativeInt]
    tokens: TaskTokenCounts
    epochs: NonNegativeFloat
    loss: float | None = None
    encoding: dict[str, dict[str, int]] = Field(default_factory=dict)
    data_fingerprint: str | None = None


class ParameterCounts(_Model):
    """Parameters of the model; `per_adapter` maps an adapter's name to its size, `fusion` are gates or attention, `active`
    maps a task to the trainable parameters that it uses, its head included."""

    total: NonNegativeInt
    trainable: NonNegativeInt
    heads: NonNegativeInt
    per_adapter: dict[str, NonNegativeInt]
    fusion: NonNegativeInt = 0
    active: dict[str, NonNegativeInt] = Field(default_factory=dict)


class EnergyUse(_Model):
    """Joules that the first machine used in training (all its processes, all sessions of a resumed run), by part: `cpu`,
    `gpu`; null where they could not be read, for the reason that `missing` gives. See `hf_crosstask.evaluation.energy`."""

    joules: dict[str, NonNegativeFloat | None]
    missing: dict[str, str] = Field(default_factory=dict)

    @property
    def watt_hours(self) -> float | None:
        """Of all parts that could be read; None where none could."""
        return watt_hours(self.joules)


class TrainResult(_Model):
    """How training went. `loss` is null where it is not a finite number, `stopped` null where the plan was completed,
    else the reason (`time_limit`, `sigterm`, `early_stopping`, …); a peak of 0 bytes means it was not measured, and so
    does an `energy` of null (a result of an earlier version)."""

    steps: NonNegativeInt
    runtime_s: NonNegativeFloat
    loss: float | None
    tokens_per_s: NonNegativeFloat
    peak_memory_bytes: NonNegativeInt
    stopped: str | None
    energy: EnergyUse | None = None


class Environment(_Model):
    """Where the run happened."""

    versions: dict[str, str]
    hardware: str
    processes: int = Field(ge=1)
    git_commit: str | None


class StageResult(_Model):
    """One stage of a sequential run: its task, the step and the forward tokens at its end (`rehearsal`: those of the stage
    that earlier tasks got), and every task's score then; null where it is not a number."""

    task: str
    step: NonNegativeInt
    tokens: NonNegativeInt
    rehearsal: NonNegativeInt
    scores: dict[str, float | None]


class StagesResult(_Model):
    """Every task's score after every stage (`metric` on `split`), and `forgetting`: what a task's score lost from the end
    of its own stage to the end of the run (of a loss: what it gained)."""

    order: list[str]
    split: dict[str, str]
    metric: dict[str, str]
    after: list[StageResult]
    forgetting: dict[str, float]


class RunResult(_Model):
    """The whole `result.json`. `model` names the backbone and its precision, `evaluation` how scores were made,
    `audit` the leaks between training and evaluation data (null: not audited), `fitting` how the size of micro-batches was
    found (null: the recipe gives it). `validation` holds each task's values on its validation split at the end, where the
    recipe asks for them; `threads` the CPU threads, on which sums depend (null: on an accelerator). `files` maps files of
    the run folder to the SHA-256 of their bytes, and `checksum` is that of the rest of this record. `gradient_conflicts`
    has a row for every pair of tasks under gradient surgery, `stages` the scores of a sequential run. `flops` is null where
    the operations of the backbone cannot be counted, `validation_looks` how often training scored the validation split.
    `text_tasks` were trained on their text alone (placebos): they have tokens and a loss (per predicted token), no labels
    and no scores."""

    schema_version: Literal[1] = 1
    experiment_id: str
    status: Literal["finished", "stopped", "failed"]
    strategy: str
    seed: int
    fingerprints: Fingerprints
    tokens: TokenCounts
    match: MatchResult | None
    tasks: dict[str, TaskResult]
    parameters: ParameterCounts
    train: TrainResult
    environment: Environment
    model: dict[str, str] = Field(default_factory=dict)
    evaluation: dict[str, Any] = Field(default_factory=dict)
    audit: dict[str, Any] | None = None
    fitting: dict[str, Any] | None = None
    validation: dict[str, dict[str, float]] = Field(default_factory=dict)
    threads: int | None = None
    gradient_conflicts: list[dict[str, Any]] | None = None
    stages: StagesResult | None = None
    text_tasks: dict[str, TextTaskResult] = Field(default_factory=dict)
    flops: FlopCounts | None = None
    validation_looks: NonNegativeInt | None = None
    files: dict[str, str] = Field(default_factory=dict)
    checksum: str | None = None

    @property
    def trained(self) -> dict[str, TaskResult | TextTaskResult]:
        """Everything that was trained, with scores or without."""
        return {**self.tasks, **self.text_tasks}


def tampered(folder: str | Path) -> list[str]:
    """What of a finished run was changed after its result was written; empty where nothing was.

    Raises:
        ResultError: there is no result, or it is no JSON object.
    """
    folder = Path(folder)
    content = _load(folder / FILE_NAME)
    written = content.pop("checksum", None)
    if written is None:
        return ["result.json has no checksum: it is of an earlier version"]
    found = [] if written == json_fingerprint(content) else ["result.json was edited: its checksum does not fit"]
    for name, digest in sorted(content["files"].items()):
        if not (folder / name).is_file():
            found.append(f"{name} is missing")
        elif file_sha256(folder / name) != digest:
            found.append(f"{name} was edited: its SHA-256 is not what the result says")
    return found


def inconsistencies(result: RunResult) -> list[tuple[str, str]]:
    """What a result says twice and differently, as `(key path, problem)` pairs."""
    problems = []
    for kind in ("planned", "counted"):
        total = getattr(result.tokens, kind)
        parts = sum(getattr(task.tokens, kind) for task in result.trained.values())
        if total != parts:
            problems.append((f"tokens.{kind}", f"is {total}, but the tasks sum to {parts}"))
    for name, task in result.tasks.items():
        values, key = task.metrics.values, f"tasks.{name}.metrics"
        if task.metrics.primary not in values:
            problems.append((f"{key}.primary", f"{task.metrics.primary!r} is not among the values {sorted(values)}"))
        for metric, value in values.items():
            if (value.low is None) != (value.high is None):
                problems.append((f"{key}.values.{metric}", "has one end of its interval only"))
            elif value.low is not None and value.high is not None and value.low > value.high:
                problems.append((f"{key}.values.{metric}", f"low {value.low} is above high {value.high}"))
    return problems


def write_result(folder: str | Path, result: RunResult) -> Path:
    """Write `result.json` into a run folder, whole or not at all.

    Raises:
        ResultError: the result contradicts itself; nothing is written.
    """
    path = Path(folder) / FILE_NAME
    problems = inconsistencies(result)
    if problems:
        raise ResultError(path, problems)
    content = result.model_dump(mode="json", exclude={"checksum"})
    return write_json(path, content | {"checksum": json_fingerprint(content)})


def read_result(path: str | Path, *, allow_unfinished: bool = False) -> RunResult:
    """Read the result of a run.

    Args:
        path: a run folder or its `result.json`.
        allow_unfinished: take also a run whose status is not `finished`.

    Raises:
        ResultError: the file is missing, is no JSON, has another schema version, lacks keys or holds wrong ones,
            contradicts itself, or belongs to a run that did not finish. All problems at once, by key path.
    """
    path = Path(path)
    if path.is_dir():
        path = path / FILE_NAME
    content = _load(path)
    version = content.get("schema_version")
    if version != SCHEMA_VERSION:
        remedy = "run it again, or read it with the version of hf_crosstask that wrote it"
        raise ResultError(path, [("schema_version", f"is {version!r}, this version reads {SCHEMA_VERSION}; {remedy}")])
    unfinished = [] if allow_unfinished else _unfinished(content)
    try:
        result = RunResult.model_validate(content, strict=True)
    except ValidationError as error:
        raise ResultError(path, [*unfinished, *_problems(error)]) from None
    problems = [*unfinished, *inconsistencies(result)]
    if problems:
        raise ResultError(path, problems)
    return result


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        problem = "no such file: the run has not finished (continue it with --resume) or the path is wrong"
        raise ResultError(path, [("", problem)]) from None
    except OSError as error:
        raise ResultError(path, [("", f"cannot be read: {error.strerror}")]) from None
    except UnicodeDecodeError as error:
        raise ResultError(path, [("", f"is not UTF-8 text ({error.reason} at byte {error.start})")]) from None
    except json.JSONDecodeError as error:
        problem = f"is not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        raise ResultError(path, [("", problem)]) from None
    if not isinstance(content, dict):
        raise ResultError(path, [("", f"holds a JSON {type(content).__name__}, not an object")])
    return content


def _unfinished(content: dict[str, Any]) -> list[tuple[str, str]]:
    status = content.get("status")
    if status not in ("stopped", "failed"):
        return []  # finished, or a value that validation reports
    train = content.get("train")
    reason = train.get("stopped") if isinstance(train, dict) else None
    why = f" ({reason})" if reason else ""
    return [("status", f"the run is {status}{why}, not finished; continue it with --resume")]


def _problems(error: ValidationError) -> list[tuple[str, str]]:
    return [(".".join(str(part) for part in item["loc"]), _problem(item["type"], item)) for item in error.errors()]


def _problem(kind: str, item: Any) -> str:
    if kind == "missing":
        return "is missing"
    value = item["input"]
    shown = "" if isinstance(value, (dict, list)) else f", found {value!r}"
    return item["msg"][:1].lower() + item["msg"][1:] + shown
