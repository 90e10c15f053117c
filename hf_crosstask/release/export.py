"""`hf-crosstask export`: one task of a run as files that load without this library, scored again from those files."""

from __future__ import annotations

import contextlib
import importlib.util
import secrets
import shutil
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from pydantic import BaseModel, ConfigDict
from transformers import PreTrainedModel
from transformers.utils import logging as transformers_logging

from hf_crosstask.atomic import write_json, write_text
from hf_crosstask.errors import InputError
from hf_crosstask.evaluation.environment import environment
from hf_crosstask.evaluation.result import Environment, MetricValue
from hf_crosstask.models.backbone import is_causal
from hf_crosstask.release import onnx_export
from hf_crosstask.release.calibration import texts_of
from hf_crosstask.release.finished import FinishedRun, limited, open_run
from hf_crosstask.release.measure import evaluate
from hf_crosstask.release.merge import CLASSES, DType, kind_of, merge, task_model
from hf_crosstask.release.quantize import quantize
from hf_crosstask.tasks.load import TaskData

Format = Literal["merged", "gptq", "awq", "onnx"]
FORMATS: tuple[Format, ...] = get_args(Format)
FILE_NAME = "export.json"
CALIBRATION_TEXTS = 128


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Calibration(_Model):
    """What a quantization was calibrated on; the text itself is not kept."""

    split: Literal["train"] = "train"
    texts: int
    tokens: int


class Rescored(_Model):
    """The primary metric on the run's evaluation split.

    `recorded` is what the run's result says, `before` the merged 16-bit model (for `merged`: the record), `after` the
    exported files. `moved`: `after` lies outside the interval of `before`.
    """

    metric: str
    split: str
    recorded: MetricValue
    before: MetricValue
    after: MetricValue
    moved: bool


class ExportResult(_Model):
    """`export.json`: what was exported, from which run, and what it scores. `score` is null where nobody asked."""

    schema_version: Literal[1] = 1
    format: Format
    task: str
    experiment_id: str
    base_model: str
    loads_with: str
    dtype: str
    group_size: int | None = None
    calibration: Calibration | None = None
    bytes: int
    parameters: int
    seconds: float
    score: Rescored | None
    environment: Environment


def export(
    run_dir: str | Path,
    *,
    task: str | None,
    format: Format,
    output: Path | None = None,
    dtype: DType = "auto",
    calibration_texts: int = CALIBRATION_TEXTS,
    score: bool = True,
) -> tuple[ExportResult, Path]:
    """Export one task of a finished run.

    Args:
        run_dir: the run folder.
        task: its name; None where the run has one only.
        format: `merged` (16-bit safetensors), `gptq` or `awq` (4-bit, compressed-tensors), or `onnx`.
        output: a new folder; `<run>/exports/<task>-<format>` by default. Written whole or not at all.
        dtype: of the weights that stay plain; `auto`: as the base model stores them.
        calibration_texts: training texts to calibrate a quantization on (a seeded sample).
        score: score the files again on the run's evaluation split.

    Returns:
        What `export.json` says, and the folder.

    Raises:
        InputError: the run, the task or the format does not allow it, or a package is missing.
    """
    run = open_run(run_dir)
    task = run.choose(task)
    _require(format, run, task)
    output = run.folder / "exports" / f"{task}-{format}" if output is None else output
    if output.exists():
        raise InputError(f"{output} exists already; delete it, or choose another folder with --output")
    with _staged(output) as folder, quiet():
        result = _export(run, task, format, folder, dtype, calibration_texts, score=score)
        write_text(folder / "README.md", _readme(run, result))
        write_json(folder / FILE_NAME, result.model_dump(mode="json"))
    return result, output


def _export(
    run: FinishedRun, task: str, format: Format, folder: Path, dtype: DType, calibration_texts: int, *, score: bool
) -> ExportResult:
    start = time.monotonic()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    data = run.data(task) if score or format in ("gptq", "awq") else None
    model = merge(run, task, dtype=dtype)
    kind, layout = kind_of(run.card(task), model.config)
    precision = str(model.dtype).removeprefix("torch.")
    parameters = sum(parameter.numel() for parameter in model.parameters())
    before = None
    extra: dict[str, Any] = {}
    if format != "merged" and data is not None and score:
        before = rescore(run, data, model.to(device), run.folder)
    if format in ("gptq", "awq"):
        assert data is not None
        texts = calibration_rows(run, data, calibration_texts)
        quantization = quantize(model.to(device), texts, method=format)
        quantization.save(model, folder)
        extra = {
            "group_size": quantization.group_size,
            "calibration": Calibration(texts=len(texts), tokens=quantization.calibration_tokens),
        }
    elif format == "merged":
        model.save_pretrained(str(folder))
    else:
        onnx_export.write_onnx(model.float(), folder)
    run.tokenizer.save_pretrained(str(folder))
    if layout is None and (head := run.folder / "heads" / f"{task}.safetensors").exists():
        (folder / "heads").mkdir()
        shutil.copyfile(head, folder / "heads" / head.name)
    del model
    seconds = time.monotonic() - start
    scored = None
    if score and data is not None:
        after = _rescore_files(run, data, folder, format, device)
        recorded = run.score(task).metrics
        scored = compare(recorded.primary, run.recipe.evaluation.split, recorded.values, before, after)
    return ExportResult(
        format=format,
        task=task,
        experiment_id=run.result.experiment_id,
        base_model=run.recipe.model.name_or_path,
        loads_with="onnxruntime" if format == "onnx" else f"transformers.{CLASSES[kind].__name__}",
        dtype="float32" if format == "onnx" else precision,
        bytes=sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()),
        parameters=parameters,
        seconds=seconds,
        score=scored,
        environment=environment(),
        **extra,
    )


def compare(
    metric: str,
    split: str,
    recorded: dict[str, MetricValue],
    before: dict[str, MetricValue] | None,
    after: dict[str, MetricValue],
) -> Rescored:
    """A metric before and after; without an interval any change is a move."""
    reference, value = (before or recorded)[metric], after[metric].value
    low = reference.value if reference.low is None else reference.low
    high = reference.value if reference.high is None else reference.high
    return Rescored(
        metric=metric,
        split=split,
        recorded=recorded[metric],
        before=reference,
        after=after[metric],
        moved=not low <= value <= high,
    )


def rescore(run: FinishedRun, data: TaskData, model: PreTrainedModel, folder: Path) -> dict[str, MetricValue]:
    """Every metric of a plain model on the run's evaluation split.

    Args:
        model: the model; computes in fp32 where it is on the CPU, which is slow in 16 bits.
        folder: holds `heads/`, for tasks whose head is not in the model.
    """
    wrapped = task_model(model, data.card, folder)
    encoded = run.encode(data, run.recipe.evaluation.split)
    if next(model.parameters()).device.type != "cpu":
        return evaluate(run, data, encoded, wrapped)[1]
    dtype = model.dtype
    values = evaluate(run, data, encoded, wrapped.float())[1]
    model.to(dtype)
    return values


def _rescore_files(
    run: FinishedRun, data: TaskData, folder: Path, format: Format, device: torch.device
) -> dict[str, MetricValue]:
    if format == "onnx":
        return onnx_export.score(run, data, folder)
    return rescore(run, data, load_exported(run, data, folder, device), folder)


def load_exported(run: FinishedRun, data: TaskData, folder: Path, device: torch.device) -> PreTrainedModel:
    """The exported files through transformers' own class, nothing added."""
    kind, _ = kind_of(data.card, run.config)
    model: PreTrainedModel = CLASSES[kind].from_pretrained(
        str(folder), dtype=torch.float32 if device.type == "cpu" else "auto"
    )
    model.to(device).eval()
    if getattr(model, "hf_quantizer", None) is not None:
        # compressed-tensors unpacks the weights in the first forward pass of the whole model, and only there
        with torch.no_grad():
            model(input_ids=torch.zeros(1, 2, dtype=torch.int64, device=device))
    return model


def calibration_rows(run: FinishedRun, data: TaskData, count: int) -> list[dict[str, list[int]]]:
    """Model inputs of a seeded sample of the training examples."""
    encoded = run.encode(data, "train")
    shuffled = encoded.dataset.shuffle(seed=run.recipe.training.seed, keep_in_memory=True)
    rows = limited(type(encoded)(encoded.card, shuffled, encoded.report), count).dataset.with_format(None)
    return list(texts_of(rows.to_list()))[:count]


def _require(format: Format, run: FinishedRun, task: str) -> None:
    """Say what is missing before any work."""
    if format in ("gptq", "awq") and importlib.util.find_spec("compressed_tensors") is None:
        raise InputError(
            f"--format {format} writes files that transformers reads with the package compressed-tensors: "
            'pip install "hf_crosstask[export]"'
        )
    if format == "awq" and not is_causal(run.config):
        raise InputError(f"AWQ is made for decoders, and {run.config.model_type} is an encoder; use --format gptq")
    if format == "onnx":
        onnx_export.require(run.card(task), run.config)


@contextlib.contextmanager
def _staged(output: Path) -> Iterator[Path]:
    """A hidden folder beside `output`, which becomes it in one step."""
    output.parent.mkdir(parents=True, exist_ok=True)
    staging = output.with_name(f".{output.name}.{secrets.token_hex(4)}.tmp")
    staging.mkdir()
    try:
        yield staging
        staging.rename(output)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and load reports: heads are missing from the base on purpose."""
    bars, level = transformers_logging.is_progress_bar_enabled(), transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|peft|torch)\.")
            yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()


def report(result: ExportResult, output: Path) -> None:
    """Say what came of an export; a score that moved is a warning on stderr."""
    print(
        f"{result.task} as {result.format}: {result.bytes / 2**20:.1f} MiB, {result.parameters:,} parameters, "
        f"loads with {result.loads_with}"
    )
    score = result.score
    if score is not None:
        before = score.before
        interval = "n/a" if before.low is None else f"{before.low:.4f}, {before.high:.4f}"
        print(
            f"{score.metric} on {score.split}: {before.value:.4f} [{interval}] before, {score.after.value:.4f} after"
            f" ({score.recorded.value:.4f} in the run's result)"
        )
        if score.moved:
            print(
                f"warning: {score.metric} moved from {before.value:.4f} to {score.after.value:.4f}, out of its interval "
                f"[{interval}]: do not report the run's score for these files",
                file=sys.stderr,
            )
    print(f"written to {output}")


def _readme(run: FinishedRun, result: ExportResult) -> str:
    card = run.card(result.task)
    score = result.score
    measured = ""
    if score is not None:
        measured = (
            f"\n`{score.metric}` on {score.split}: {score.before.value:.4f} before, {score.after.value:.4f} from these "
            f"files{'. **It moved by more than its interval.**' if score.moved else '.'}\n"
        )
    kept = {
        "merged": "The adapter is merged into the base model.",
        "gptq": f"4-bit weights (GPTQ, groups of {result.group_size}) in the format of compressed-tensors.",
        "awq": f"4-bit weights (AWQ, groups of {result.group_size}) in the format of compressed-tensors.",
        "onnx": "ONNX, for `onnxruntime`; the batch and its length may vary.",
    }[result.format]
    load = (
        'import onnxruntime\n\nsession = onnxruntime.InferenceSession("model.onnx")'
        if result.format == "onnx"
        else f"from transformers import {result.loads_with.rpartition('.')[2]} as Model, AutoTokenizer\n\n"
        'folder = "."  # this folder\nmodel = Model.from_pretrained(folder).eval()\n'
        "tokenizer = AutoTokenizer.from_pretrained(folder)"
    )
    head = (
        f"\nThe head of a {card.type} task has no place in it: `heads/{card.name}.safetensors` holds its layers.\n"
        if result.loads_with.endswith(".AutoModel")
        else ""
    )
    return f"""# {result.task}, exported from {result.experiment_id}

Base model `{result.base_model}`. {kept} {measured}{head}
```python
{load}
```

`{FILE_NAME}` holds the numbers.
"""
