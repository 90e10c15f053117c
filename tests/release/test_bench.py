"""The inference benchmark: its numbers hang together, and its table says what could not be measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hf_crosstask import cli
from hf_crosstask.evaluation.analysis import read_analysis
from hf_crosstask.evaluation.result import MetricValue, read_result
from hf_crosstask.release.bench import parse_precisions, peak_memory
from hf_crosstask.release.bench_result import BenchResult, Point, with_pareto


def test_a_benchmark_of_a_run(released_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    arguments = ["--task", "synthetic_classification", "--precisions", "fp32,fp16,nf4", "--examples", "8"]
    more = ["--repeats", "2", "--price-per-hour", "3.6", "--record", str(tmp_path / "bench.json")]
    more += ["--json", str(tmp_path / "analysis.json")]
    try:
        assert cli.main(["bench", str(released_run), *arguments, *more]) == 0
    finally:
        torch.set_num_threads(threads)
    result = BenchResult.model_validate_json((tmp_path / "bench.json").read_text(encoding="utf-8"))
    printed = capsys.readouterr().out
    points = {point.precision: point for point in result.points}
    if not torch.cuda.is_available():
        assert set(points) == {"fp32", "nf4"}
        assert result.skipped == {"fp16": "CPUs do not compute in fp16"}
        assert "skipped: CPUs do not compute in fp16" in printed
    recorded = read_result(released_run).tasks["synthetic_classification"].metrics
    assert points["fp32"].score.value == pytest.approx(recorded.values[recorded.primary].value)
    assert points["nf4"].weight_bytes < points["fp32"].weight_bytes
    for point in result.points:
        assert 0 < point.latency_p50_s <= point.latency_p95_s
        assert point.price_per_1000 == pytest.approx(1 / point.examples_per_s)  # 3.6 an hour is 0.001 a second
        assert point.ece is not None
        assert 0 <= point.ece <= 1
        assert point.flops > 0
    assert points["fp32"].parameters == points["nf4"].parameters
    assert any(point.pareto for point in result.points)
    assert result.examples == 8
    shown = read_analysis(tmp_path / "analysis.json")
    assert shown.kind == "bench"
    assert [row[0] for row in shown.tables[0].rows] == [point.precision for point in result.points]


def test_wrong_settings_are_refused(released_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = ["bench", str(released_run), "--task", "synthetic_ner"]
    assert cli.main([*run, "--precisions", "fp23"]) == 2
    assert "did you mean 'fp32'" in capsys.readouterr().err
    assert cli.main([*run, "--examples", "0"]) == 2
    assert parse_precisions("nf4, fp32,nf4") == ("nf4", "fp32")


def test_peak_memory_sees_what_was_freed_again() -> None:
    with peak_memory(torch.device("cpu"), every=0.001) as peak:
        held = np.ones(64 * 2**20, np.uint8)
        for _ in range(3):
            held += 1
        del held
    assert peak() > 48 * 2**20


def point(score: float, latency: float) -> Point:
    zeros = dict.fromkeys(
        ("examples_per_s", "tokens_per_s", "peak_memory_bytes", "weight_bytes", "parameters", "flops"), 0
    )
    return Point(
        precision="fp32", score=MetricValue(value=score), ece=None, latency_p50_s=latency, latency_p95_s=latency,
        price_per_1000=None, price_per_1000_single=None, **zeros,
    )  # fmt: skip


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 4)), min_size=1, max_size=6))
def test_a_point_is_pareto_unless_another_is_better_in_one_and_no_worse_in_the_other(
    pairs: list[tuple[int, int]],
) -> None:
    marked = with_pareto([point(score, latency) for score, latency in pairs])
    for (score, latency), each in zip(pairs, marked, strict=True):
        dominated = any(s >= score and t <= latency and (s, t) != (score, latency) for s, t in pairs)
        assert each.pareto != dominated
