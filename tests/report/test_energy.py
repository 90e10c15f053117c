"""The energy in the report's cost section."""

from __future__ import annotations

from pathlib import Path

import pytest

from hf_crosstask.evaluation.energy import UNREADABLE
from hf_crosstask.evaluation.result import RunResult
from hf_crosstask.report.data import ReportData, StudyRun
from hf_crosstask.report.run_sections import cost_section


def result(energy: dict[str, float | None] | None) -> RunResult:
    missing = {part: UNREADABLE for part, joules in (energy or {}).items() if joules is None}
    train = {"steps": 5, "runtime_s": 3.5, "loss": 0.5, "tokens_per_s": 300.0, "peak_memory_bytes": 2**28}
    return RunResult.model_validate(
        {
            "experiment_id": "x",
            "status": "finished",
            "strategy": "S2",
            "seed": 1,
            "fingerprints": {"recipe": "r", "data": "d", "plan": "p"},
            "tokens": {"planned": 500, "counted": 500, "padded": 520},
            "match": None,
            "tasks": {
                "a": {
                    "type": "classification",
                    "examples": {},
                    "tokens": {"planned": 500, "counted": 500, "padded": 520, "supervised": 80, "unique": 250},
                    "epochs": 2.0,
                    "metrics": {"primary": "accuracy", "values": {"accuracy": {"value": 0.6}}, "majority": 0.5},
                }
            },
            "parameters": {"total": 900, "trainable": 90, "heads": 10, "per_adapter": {"shared": 80}},
            "train": train
            | {"stopped": None}
            | ({"energy": {"joules": energy, "missing": missing}} if energy else {}),
            "environment": {"versions": {}, "hardware": "cpu", "processes": 1, "git_commit": None},
        },
        strict=True,
    )


def section(*energies: dict[str, float | None] | None):
    runs = [
        StudyRun(f"S2-{seed}", "S2", "", ("a",), seed, result(each), Path("x")) for seed, each in enumerate(energies)
    ]
    data = ReportData(name="s", description="", verdicts={}, runs=runs, problems=[], analyses={}, doses=[])
    (table,) = cost_section(data).content.tables
    return dict(zip(table.columns, table.rows[0], strict=True))["Wh per run"], table.note


def test_watt_hours_per_run_and_what_they_hold():
    value, note = section({"cpu": 3600.0, "gpu": 7200.0}, {"cpu": 1800.0, "gpu": None})
    assert value == pytest.approx((3 + 0.5) / 2)
    assert "(CPU in 2 of 2 runs, GPU in 1 of 2 runs)" in note
    assert "whatever else ran at the time" in note


@pytest.mark.parametrize(("energy", "why"), [({"cpu": None}, "no readable counter"), (None, "it was not measured")])
def test_one_line_where_nothing_can_be_read(energy, why):
    value, note = section(energy, energy)
    assert value is None
    assert f"Energy: not readable on this machine ({why})." in note
