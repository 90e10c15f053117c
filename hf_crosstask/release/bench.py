"""`hf-crosstask bench`: what inference with one task of a run costs, by precision."""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, get_args

import numpy as np
import psutil
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from hf_crosstask.atomic import write_json
from hf_crosstask.encoding.collator import MultiTaskCollator
from hf_crosstask.encoding.encode import EncodedTask
from hf_crosstask.encoding.prompts import answer_room
from hf_crosstask.errors import InputError, unknown_name
from hf_crosstask.evaluation.analysis import write_analysis
from hf_crosstask.evaluation.calibration import decisions, ece
from hf_crosstask.evaluation.energy import machine_meter, watt_hours
from hf_crosstask.evaluation.environment import environment, hardware
from hf_crosstask.models.backbone import is_causal
from hf_crosstask.models.multitask import MultiTaskModel
from hf_crosstask.models.quantization import UNQUANTIZED, nf4
from hf_crosstask.release.bench_result import BenchResult, Point, Precision, analysis, print_table, with_pareto
from hf_crosstask.release.export import calibration_rows, load_exported, quiet
from hf_crosstask.release.finished import FinishedRun, limited, open_run
from hf_crosstask.release.measure import evaluate, generate, keep_inputs, outputs
from hf_crosstask.release.merge import CLASSES, DTYPES, kind_of, merge, task_model
from hf_crosstask.release.quantize import quantize
from hf_crosstask.tasks.load import TaskData
from hf_crosstask.training.rows import fetch, token_lengths

PRECISIONS: tuple[Precision, ...] = get_args(Precision)


@dataclass(frozen=True)
class BenchSettings:
    """How to measure.

    Attributes:
        precisions: what is compared; what the device cannot do is skipped, with the reason.
        examples: of the evaluation split, for speed; the score is that of the whole split.
        warmup: examples run before anything is timed.
        repeats: of every measurement; medians are reported.
        price_per_hour: of the machine; None: no prices.
    """

    precisions: tuple[Precision, ...] = PRECISIONS
    examples: int = 50
    warmup: int = 5
    repeats: int = 3
    price_per_hour: float | None = None


def bench(run_dir: str | Path, *, task: str | None, settings: BenchSettings) -> BenchResult:
    """Measure one task of a finished run.

    Raises:
        InputError: the run or the task does not allow it.
    """
    run = open_run(run_dir)
    task = run.choose(task)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with quiet(), tempfile.TemporaryDirectory(prefix="hf_crosstask-bench-") as folder:
        return _bench(run, task, settings, device, Path(folder))


def _bench(run: FinishedRun, task: str, settings: BenchSettings, device: torch.device, folder: Path) -> BenchResult:
    data = run.data(task)
    split = run.recipe.evaluation.split
    encoded = run.encode(data, split)
    timed = limited(encoded, settings.examples)
    points: list[Point] = []
    skipped: dict[str, str] = {}
    flops = _flops(run, data, timed)
    for precision in settings.precisions:
        why = _unavailable(precision, run, device)
        if why is None:
            try:
                points.append(_point(run, data, encoded, timed, precision, settings, device, folder, flops))
            except torch.cuda.OutOfMemoryError:
                why = "out of device memory"
            except InputError as error:
                why = str(error)
        if why is not None:
            skipped[precision] = why
    return BenchResult(
        experiment_id=run.result.experiment_id,
        task=task,
        metric=data.card.primary_metric,
        split=split,
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else hardware(),
        threads=torch.get_num_threads(),
        examples=len(timed.dataset),
        warmup=settings.warmup,
        repeats=settings.repeats,
        batch_tokens=run.batch_tokens,
        price_per_hour=settings.price_per_hour,
        points=with_pareto(points),
        skipped=skipped,
        environment=environment(),
    )


def _unavailable(precision: Precision, run: FinishedRun, device: torch.device) -> str | None:
    """Why the device cannot do it; None where it can."""
    if device.type == "cpu" and precision == "fp16":
        return "CPUs do not compute in fp16"
    if device.type == "cuda" and precision == "bf16" and torch.cuda.get_device_capability(device)[0] < 8:
        return f"{torch.cuda.get_device_name(device)} does not compute in bf16"
    if precision in ("gptq", "awq") and importlib.util.find_spec("compressed_tensors") is None:
        return 'needs compressed-tensors: pip install "hf_crosstask[export]"'
    if precision == "awq" and not is_causal(run.config):
        return f"AWQ is made for decoders, and {run.config.model_type} is an encoder"
    return None


def _point(
    run: FinishedRun,
    data: TaskData,
    encoded: EncodedTask,
    timed: EncodedTask,
    precision: Precision,
    settings: BenchSettings,
    device: torch.device,
    folder: Path,
    flops: int,
) -> Point:
    files = _files(run, data, precision, folder)
    with peak_memory(device) as peak:
        model = _load(run, data, files, precision, device)
        wrapped = task_model(model, data.card, files)
        predictions, values = evaluate(run, data, encoded, wrapped)
        one, many = _calls(run, data, timed, wrapped)
        latencies = np.array([_timed(one, device, settings.warmup) for _ in range(settings.repeats)])
        p50, p95 = (float(np.median(np.percentile(latencies, share, axis=1))) for share in (50, 95))
        _timed(many, device, 0)  # warm-up
        with machine_meter(device) as meter:
            seconds = median(sum(_timed(many, device, 0)) for _ in range(settings.repeats))
        tokens = int(token_lengths(keep_inputs(timed), data.card.name).sum())
        weight_bytes = model.get_memory_footprint()
        parameters = _parameters(run, data)
    shutil.rmtree(files)
    rate, made = len(timed.dataset) / seconds, decisions(predictions)
    hourly, energy = settings.price_per_hour, watt_hours(meter.joules)
    return Point(
        precision=precision,
        score=values[data.card.primary_metric],
        ece=None if made is None or not len(made) else ece(made.confidence, made.right),
        latency_p50_s=p50,
        latency_p95_s=p95,
        examples_per_s=rate,
        tokens_per_s=tokens / seconds,
        peak_memory_bytes=peak(),
        weight_bytes=weight_bytes,
        parameters=parameters,
        flops=flops,
        price_per_1000=None if hourly is None else 1000 * hourly / 3600 / rate,
        price_per_1000_single=None if hourly is None else 1000 * hourly / 3600 * float(latencies.mean()),
        watt_hours_per_1000=None if energy is None else 1000 * energy / (settings.repeats * len(timed.dataset)),
    )


def _files(run: FinishedRun, data: TaskData, precision: Precision, folder: Path) -> Path:
    """The model's files in a precision; NF4 is made from the merged ones on loading."""
    files = folder / precision
    model = merge(run, data.card.name, dtype=precision if precision in DTYPES else "auto")  # type: ignore[arg-type]
    if precision in ("gptq", "awq"):
        texts = calibration_rows(run, data, 128)
        if torch.cuda.is_available():
            model.to("cuda")
        quantize(model, texts, method=precision).save(model, files)
    else:
        model.save_pretrained(str(files))
    if (run.folder / "heads").is_dir():
        shutil.copytree(run.folder / "heads", files / "heads")
    del model
    _release_memory()
    return files


def _load(
    run: FinishedRun, data: TaskData, files: Path, precision: Precision, device: torch.device
) -> PreTrainedModel:
    if precision in ("gptq", "awq"):
        return load_exported(run, data, files, device)
    kind, layout = kind_of(data.card, run.config)
    arguments: dict[str, Any] = {"dtype": DTYPES.get(precision, torch.float32)}
    if precision == "nf4":
        compute = torch.bfloat16 if device.type == "cuda" else torch.float32
        quantization = nf4(compute)
        # By their full names too: heads stay what they were in training.
        heads = [name for name in (layout.output, layout.dense) if name] if layout else []
        quantization.llm_int8_skip_modules = [*UNQUANTIZED, *heads]
        arguments = {"dtype": compute, "quantization_config": quantization, "device_map": {"": str(device)}}
    model: PreTrainedModel = CLASSES[kind].from_pretrained(str(files), **arguments)
    return (model if precision == "nf4" else model.to(device)).eval()


Calls = Sequence[Callable[[], object]]


def _calls(run: FinishedRun, data: TaskData, timed: EncodedTask, model: MultiTaskModel) -> tuple[Calls, Calls]:
    """Inference on each example alone, and on all in batches."""
    if data.card.formulation == "generative":
        prompts = timed.dataset.with_format(None)["prompt_ids"][:]
        room = answer_room(data.card, run.tokenizer, run.recipe.model.max_length)

        def answer(asked: Sequence[Sequence[int]]) -> object:
            language_model = model.language_model
            return generate(language_model, run.tokenizer, asked, max_new_tokens=room, limit=run.batch_tokens)

        return [partial(answer, [prompt]) for prompt in prompts], [partial(answer, prompts)]
    device, collate = next(model.parameters()).device, MultiTaskCollator.for_tokenizer(run.tokenizer)
    rows = keep_inputs(timed)

    @torch.no_grad()
    def predict(row: dict[str, Any]) -> object:
        batch = {name: value.to(device) for name, value in collate([row]).items() if name != "labels"}
        return model(task=data.card.name, **batch).logits.float().cpu()

    singles = [partial(predict, row) for row in fetch(rows, range(len(rows)))]
    return singles, [partial(outputs, timed, model, run.tokenizer, limit=run.batch_tokens)]


def _timed(calls: Calls, device: torch.device, warmup: int) -> list[float]:
    """Seconds of each call, after `warmup` calls that are not timed."""
    for number in range(warmup):
        calls[number % len(calls)]()
    seconds = []
    for call in calls:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    return seconds


@torch.no_grad()
def _flops(run: FinishedRun, data: TaskData, timed: EncodedTask) -> int:
    """Operations of one forward pass over an example of median length, counted on the unquantized model."""
    model = task_model(merge(run, data.card.name, dtype="fp32"), data.card, run.folder)
    rows = keep_inputs(timed)
    lengths = token_lengths(rows, data.card.name)
    middle = int(np.argsort(lengths, kind="stable")[len(lengths) // 2])
    batch = MultiTaskCollator.for_tokenizer(run.tokenizer)(fetch(rows, [middle]))
    with FlopCounterMode(display=False) as counter:
        model(task=data.card.name, **batch)
    return int(counter.get_total_flops())


def _parameters(run: FinishedRun, data: TaskData) -> int:
    """Of the merged model and its head; a quantized model has as many."""
    model = task_model(merge(run, data.card.name), data.card, run.folder)
    return sum(parameter.numel() for parameter in model.parameters())


@contextlib.contextmanager
def peak_memory(device: torch.device, *, every: float = 0.005) -> Iterator[Callable[[], int]]:
    """The most memory, in bytes, while the block runs: of the device; on a CPU, what this process grew by."""
    _release_memory()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield lambda: int(torch.cuda.max_memory_allocated(device))
        return
    process = psutil.Process()
    before, most, done = process.memory_info().rss, [0], threading.Event()

    def watch() -> None:
        while not done.wait(every):
            most[0] = max(most[0], process.memory_info().rss)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield lambda: max(0, most[0] - before)
    finally:
        most[0] = max(most[0], process.memory_info().rss)
        done.set()
        watcher.join()


def _release_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def parse_precisions(text: str | None) -> tuple[Precision, ...]:
    """`fp32,nf4` as precisions, all where nothing is given.

    Raises:
        InputError: there is no such precision.
    """
    if text is None:
        return PRECISIONS
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in PRECISIONS:
            raise InputError(f"--precisions: {unknown_name('precision', name, PRECISIONS)}")
    return tuple(dict.fromkeys(names))  # type: ignore[arg-type]


def run_bench(
    run_dir: Path, task: str | None, settings: BenchSettings, json_file: Path | None, record: Path | None
) -> int:
    """Measure, print the table, and write the analysis that a report reads (`json_file`) and every number (`record`).

    Raises:
        InputError: a setting is wrong.
    """
    if settings.examples < 1 or settings.repeats < 1 or settings.warmup < 0:
        raise InputError("--examples and --repeats must be at least 1")
    if settings.price_per_hour is not None and settings.price_per_hour < 0:
        raise InputError("--price-per-hour is no less than 0")
    result = bench(run_dir, task=task, settings=settings)
    print_table(result)
    if json_file is not None:
        write_analysis(json_file, analysis(result))
    if record is not None:
        write_json(record, result.model_dump(mode="json"))
    return 0
