"""`result.json`: exact round trip, atomic, and clear about everything that is wrong at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from hf_crosstask.errors import InputError
from hf_crosstask.evaluation.result import MetricValue, ResultError, RunResult, read_result, write_result

Json = dict[str, Any]


def _holds(written: Any, given: Any) -> bool:
    """Whether everything given was written; keys with defaults may have joined."""
    if isinstance(given, dict):
        return all(key in written and _holds(written[key], value) for key, value in given.items())
    return bool(written == given)


def test_round_trip_keeps_known_and_further_keys(tmp_path: Path, result_json: Json) -> None:
    result_json["tasks"]["genes"]["metrics"]["by_label"] = {"Gene": {"f1": 0.5}}
    result_json["note"] = ["anything", 1, None]
    path = write_result(tmp_path / "run", RunResult.model_validate(result_json))
    assert path == tmp_path / "run" / "result.json"
    assert list(path.parent.iterdir()) == [path]
    assert _holds(json.loads(path.read_text()), result_json)
    found = read_result(path)
    assert found == read_result(path.parent)
    assert found.model_copy(update={"checksum": None}) == RunResult.model_validate(result_json)


def test_keys_of_the_contract(run_result: RunResult) -> None:
    """The spine that design.md promises: key names and nothing missing."""
    spine = json.loads(run_result.model_dump_json())
    assert list(spine)[:12] == [
        "schema_version", "experiment_id", "status", "strategy", "seed", "fingerprints", "tokens", "match", "tasks",
        "parameters", "train", "environment",
    ]  # fmt: skip
    task = spine["tasks"]["genes"]
    assert list(task)[:5] == ["type", "examples", "tokens", "epochs", "metrics"]
    assert {"planned", "counted", "padded", "supervised", "unique"} <= task["tokens"].keys()
    assert list(task["metrics"]) == ["primary", "values", "majority"]
    train = ["steps", "runtime_s", "loss", "tokens_per_s", "peak_memory_bytes", "stopped"]
    assert list(spine["train"]) == [*train, "energy"]


def test_numpy_numbers_are_taken(result_json: Json) -> None:
    import numpy as np

    result_json["tasks"]["genes"]["epochs"] = np.float32(2.5)
    result_json["train"]["steps"] = np.int64(12)
    assert json.loads(RunResult.model_validate(result_json).model_dump_json())["train"]["steps"] == 12


def write(path: Path, content: Json) -> Path:
    path.write_text(json.dumps(content))
    return path


def damage_several(content: Json) -> None:
    del content["fingerprints"]["data"]
    content["tasks"]["genes"]["tokens"]["counted"] = "12"
    content["tasks"]["answers"]["epochs"] = -1.0
    content["environment"]["processes"] = 0
    content["match"] = 3


def test_all_problems_at_once_by_key(tmp_path: Path, result_json: Json) -> None:
    damage_several(result_json)
    path = write(tmp_path / "result.json", result_json)
    with pytest.raises(ResultError) as caught:
        read_result(path)
    keys = [key for key, _ in caught.value.problems]
    assert sorted(keys) == [
        "environment.processes",
        "fingerprints.data",
        "match",
        "tasks.answers.epochs",
        "tasks.genes.tokens.counted",
    ]
    message = str(caught.value)
    assert message.startswith(f"{path}: 5 problems\n")
    assert "  fingerprints.data: is missing" in message
    assert "  tasks.genes.tokens.counted: input should be a valid integer, found '12'" in message
    assert isinstance(caught.value, InputError)


@pytest.mark.parametrize(
    ("damage", "key", "problem"),
    [
        (lambda c: c.update(schema_version=2), "schema_version", "is 2, this version reads 1"),
        (lambda c: c.pop("schema_version"), "schema_version", "is None"),
        (lambda c: c.update(status="running"), "status", "found 'running'"),
        (lambda c: c["tokens"].update(counted=5), "tokens.counted", "is 5, but the tasks sum to 1235567"),
        (lambda c: c["tasks"]["genes"]["tokens"].update(planned=1), "tokens.planned", "but the tasks sum to 1001"),
        (lambda c: c["tasks"]["genes"]["metrics"].update(primary="f1"), "tasks.genes.metrics.primary", "'f1' is not"),
        (
            lambda c: c["tasks"]["genes"]["metrics"]["values"]["entity_f1"].update(low=0.9),
            "tasks.genes.metrics.values.entity_f1",
            "low 0.9 is above high",
        ),
        (
            lambda c: c["tasks"]["genes"]["metrics"]["values"]["entity_f1"].update(high=None),
            "tasks.genes.metrics.values.entity_f1",
            "one end",
        ),
        (lambda c: c["train"].update(loss=float("nan")), "train.loss", "finite number"),
        (lambda c: c["tasks"]["genes"]["examples"].update(dev=3), "tasks.genes.examples.dev.[key]", "'train'"),
    ],
)
def test_one_problem(
    tmp_path: Path, result_json: Json, damage: Callable[[Json], object], key: str, problem: str
) -> None:
    damage(result_json)
    with pytest.raises(ResultError) as caught:
        read_result(write(tmp_path / "result.json", result_json))
    assert [key for key, _ in caught.value.problems] == [key]
    assert problem in str(caught.value)


def test_unfinished_runs_are_refused_unless_asked_for(tmp_path: Path, result_json: Json) -> None:
    result_json["status"] = "stopped"
    result_json["train"]["stopped"] = "time_limit"
    path = write(tmp_path / "result.json", result_json)
    with pytest.raises(ResultError, match=r"status: the run is stopped \(time_limit\), not finished"):
        read_result(path)
    assert read_result(path, allow_unfinished=True).status == "stopped"
    del result_json["train"]["steps"]
    with pytest.raises(ResultError) as caught:
        read_result(write(path, result_json))
    assert [key for key, _ in caught.value.problems] == ["status", "train.steps"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b'{"schema_version": 1, "tas', "is not JSON: .* at line 1, column"),
        (b"", "is not JSON"),
        (b"[1]", "holds a JSON list, not an object"),
        (b'{"a": "\xff\xff"}', "is not UTF-8 text"),
    ],
)
def test_files_that_are_no_results(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(content)
    with pytest.raises(ResultError, match=problem):
        read_result(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match=r"no such file: the run has not finished \(continue it with --resume\)"):
        read_result(tmp_path)


def test_contradictions_are_not_written(tmp_path: Path, run_result: RunResult) -> None:
    run_result.tokens.counted += 1
    with pytest.raises(ResultError, match=r"tokens\.counted: is 1235568, but the tasks sum to 1235567"):
        write_result(tmp_path, run_result)
    assert list(tmp_path.iterdir()) == []


def test_not_a_number_is_no_value() -> None:
    with pytest.raises(ValidationError, match="finite"):
        MetricValue(value=float("nan"))
