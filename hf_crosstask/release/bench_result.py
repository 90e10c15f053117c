"""What `hf-crosstask bench` reports: its JSON, its table, and the points no other point beats."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict
from rich.box import ASCII2
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hf_crosstask.evaluation.analysis import Analysis, Cell, FigureData, Series
from hf_crosstask.evaluation.analysis import Table as AnalysisTable
from hf_crosstask.evaluation.result import Environment, MetricValue

Precision = Literal["fp32", "fp16", "bf16", "nf4", "gptq", "awq"]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Point(_Model):
    """One precision of one task.

    Latencies are seconds of one example alone, from its tokens to its prediction (generated to the end, where answers
    are generated), medians over the repeats. `examples_per_s` and `tokens_per_s` (input tokens without padding, and
    generated ones) are those of batches; `flops` the floating-point operations of one forward pass over an example of
    median length, counted for the unquantized model; `peak_memory_bytes` of the device, or what the process grew by on a
    CPU; `price_per_1000` at the batches' throughput, `price_per_1000_single` one example at a time; `watt_hours_per_1000`
    in batches, by the machine's counters, whatever else ran on it included (null: they cannot be read).
    """

    precision: Precision
    score: MetricValue
    ece: float | None
    latency_p50_s: float
    latency_p95_s: float
    examples_per_s: float
    tokens_per_s: float
    peak_memory_bytes: int
    weight_bytes: int
    parameters: int
    flops: int
    price_per_1000: float | None
    price_per_1000_single: float | None
    watt_hours_per_1000: float | None = None
    pareto: bool = False


class BenchResult(_Model):
    """The JSON of a benchmark. `skipped` says why a precision was not measured."""

    schema_version: Literal[1] = 1
    experiment_id: str
    task: str
    metric: str
    split: str
    device: str
    threads: int
    examples: int
    warmup: int
    repeats: int
    batch_tokens: int
    price_per_hour: float | None
    points: list[Point]
    skipped: dict[str, str]
    environment: Environment


def with_pareto(points: Sequence[Point]) -> list[Point]:
    """The points, marked where no other one scores as well or better with less latency (or the same, scoring better)."""

    def beaten(point: Point) -> bool:
        return any(
            other.score.value >= point.score.value
            and other.latency_p50_s <= point.latency_p50_s
            and (other.score.value > point.score.value or other.latency_p50_s < point.latency_p50_s)
            for other in points
        )

    return [point.model_copy(update={"pareto": not beaten(point)}) for point in points]


def table(result: BenchResult) -> Table:
    """One row for each precision; `*` marks the points that none beats in score and latency."""
    title = f"{result.experiment_id}: {result.task} on {result.device}, {result.examples} examples"
    made = Table(title=Text(title), title_justify="left", box=ASCII2)
    headings = (
        "precision", result.metric, "ECE", "p50 ms", "p95 ms", "examples/s", "tokens/s", "peak MiB", "weights MiB",
        "parameters", "GFLOPs", "price/1000", "Wh/1000",
    )  # fmt: skip
    for number, heading in enumerate(headings):
        made.add_column(heading, justify="right" if number else "left")
    for point in result.points:
        made.add_row(
            point.precision + ("*" if point.pareto else ""),
            f"{point.score.value:.4f}",
            "n/a" if point.ece is None else f"{point.ece:.4f}",
            f"{1000 * point.latency_p50_s:.2f}",
            f"{1000 * point.latency_p95_s:.2f}",
            f"{point.examples_per_s:.1f}",
            f"{point.tokens_per_s:,.0f}",
            f"{point.peak_memory_bytes / 2**20:,.0f}",
            f"{point.weight_bytes / 2**20:,.1f}",
            f"{point.parameters:,}",
            f"{point.flops / 1e9:.3f}",
            "n/a" if point.price_per_1000 is None else f"{point.price_per_1000:.6f}",
            "n/a" if point.watt_hours_per_1000 is None else f"{point.watt_hours_per_1000:.3g}",
        )
    for precision, why in result.skipped.items():
        made.add_row(precision, Text(f"skipped: {why}", overflow="fold"))
    made.caption = "* no other has a better score and a lower latency"
    made.caption_justify = "left"
    return made


def print_table(result: BenchResult) -> None:
    """Print it: with colour on a terminal, as plain text of its natural width elsewhere."""
    Console(file=sys.stdout, width=None if sys.stdout.isatty() else 400).print(table(result))


def analysis(result: BenchResult) -> Analysis:
    """The benchmark as a study's report shows it: the table, and score against latency with the points none beats."""
    columns = ["precision", result.metric, "ECE", "p50 ms", "p95 ms", "examples/s", "tokens/s", "peak MiB"]
    columns += ["weights MiB", "parameters", "GFLOPs", "price/1000", "Wh/1000"]
    rows: list[list[Cell]] = [
        [
            point.precision, point.score.value, point.ece, 1000 * point.latency_p50_s, 1000 * point.latency_p95_s,
            point.examples_per_s, point.tokens_per_s, point.peak_memory_bytes / 2**20, point.weight_bytes / 2**20,
            point.parameters, point.flops / 1e9, point.price_per_1000, point.watt_hours_per_1000,
        ]
        for point in result.points
    ]  # fmt: skip
    skipped = "; ".join(f"{precision} skipped: {why}" for precision, why in result.skipped.items())
    best = [point for point in result.points if point.pareto]
    name = "".join(letter if letter.isalnum() else "_" for letter in result.task.lower())
    return Analysis(
        kind="bench",
        title="Inference",
        summary=[
            f"{result.task} ({result.experiment_id}) on {result.device}: no other precision scores better at lower "
            f"latency than {', '.join(point.precision for point in best) or 'none'}."
        ],
        tables=[
            AnalysisTable(
                name=f"bench_{name}",
                caption=f"Inference with {result.task}: {result.examples} examples, medians of {result.repeats} repeats.",
                columns=columns,
                rows=rows,
                note=skipped,
            )
        ],
        figures=[
            FigureData(
                name=f"bench_{name}",
                caption=f"{result.task}: score against latency of one example; precisions that no other beats stand apart.",
                kind="scatter",
                x_label="p50 latency (ms)",
                y_label=result.metric,
                series=[
                    Series(
                        name=point.precision + (" (Pareto)" if point.pareto else ""),
                        x=[1000 * point.latency_p50_s],
                        y=[point.score.value],
                        low=[point.score.low],
                        high=[point.score.high],
                    )
                    for point in result.points
                ],
            )
        ],
    )
