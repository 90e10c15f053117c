"""Two processes (gloo, CPU) execute the plan that one executes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from hf_crosstask.training.checkpoint import checkpoints, problem

pytestmark = pytest.mark.slow
WORKER = Path(__file__).with_name("distributed_worker.py")


@dataclass
class Run:
    """What one process of a run reports."""

    results: dict[str, Any]
    weights: dict[str, torch.Tensor]
    predictions: dict[str, np.ndarray]


def launch(out: Path, processes: int, *options: str) -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launcher = []
    if processes > 1:  # `accelerate launch --cpu` would silently start one
        launcher = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines=1", "--mixed_precision=no"]
        launcher += [f"--num_processes={processes}", f"--main_process_port={port}", "--dynamo_backend=no"]
    command = [sys.executable, *launcher, str(WORKER), str(out), *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with open(out / "output.txt", "w+") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            code = process.wait(timeout=600)
        except subprocess.TimeoutExpired:  # processes that wait for each other
            process.terminate()  # the launcher ends its processes
            process.wait(timeout=60)
            raise
        if code:
            output.seek(0)
            print(output.read())
    return code


def read(out: Path, rank: int = 0) -> Run:
    folder = out / f"rank{rank}"
    return Run(
        json.loads((folder / "results.json").read_text()),
        load_file(folder / "weights.safetensors"),
        dict(np.load(folder / "predictions.npz")),
    )


def differ(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted run on two processes."""
    out = tmp_path_factory.mktemp("two")
    assert launch(out, 2) == 0
    return out


def test_two_processes_are_two_and_agree(two):
    first, second = read(two, 0), read(two, 1)
    assert first.results["world_size"] == 2
    assert first.results["backend"] == "gloo"
    assert differ(first.weights, second.weights) == 0
    assert first.results["ledger"] == second.results["ledger"]
    assert all(np.array_equal(first.predictions[task], second.predictions[task]) for task in ("ner", "cls"))


def test_two_processes_do_what_one_does(two, tmp_path):
    assert launch(tmp_path, 1) == 0
    one, both = read(tmp_path), read(two)
    assert one.results["world_size"] == 1
    for what in ("plan", "ledger", "step", "num_input_tokens_seen"):
        assert one.results[what] == both.results[what]
    assert differ(one.weights, both.weights) < 1e-5
    assert differ(one.weights, load_file(tmp_path / "rank0" / "initial.safetensors")) > 1e-3
    for task in ("ner", "cls"):
        np.testing.assert_allclose(one.predictions[task], both.predictions[task], atol=1e-4)
    assert one.results["losses"] == pytest.approx(both.results["losses"], abs=1e-5)
    for alone, shared in zip(one.results["logs"], both.results["logs"], strict=True):
        for name in ("loss", "loss_ner", "loss_cls", "grad_norm", "eval_loss", "eval_ner_accuracy", "tokens_ner"):
            assert alone.get(name) == pytest.approx(shared.get(name), abs=1e-4)


def test_two_killed_processes_end_bit_identical(two, tmp_path):
    assert launch(tmp_path, 2, "--exit-after=5") != 0
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-2", "checkpoint-4"]

    assert launch(tmp_path, 2, "--resume", "--terminate-after=6") == 0
    for rank in (0, 1):  # one process was told to stop, both did
        results = read(tmp_path, rank).results
        assert (results["stopped"], results["step"]) == ("sigterm", 7)
    assert problem(tmp_path / "checkpoint-7") is None

    assert launch(tmp_path, 2, "--resume") == 0
    whole, resumed = read(two), read(tmp_path)
    assert (resumed.results["stopped"], resumed.results["step"]) == (None, 10)
    assert differ(whole.weights, resumed.weights) == 0
    assert whole.results["ledger"] == resumed.results["ledger"]
    assert whole.results["losses"] == resumed.results["losses"]
    assert all(np.array_equal(whole.predictions[task], resumed.predictions[task]) for task in ("ner", "cls"))


@pytest.mark.parametrize(
    "arguments",
    [
        {"gradient_surgery": "pcgrad", "surgery_granularity": "layer", "loss_weights": "uncertainty"},
        {"stage_order": ["ner", "cls"], "ewc": 100.0, "rehearsal": 0.2, "loss_weights": "dwa"},
    ],
    ids=["together", "in_stages"],
)
def test_strategies_do_on_two_processes_what_they_do_on_one(tmp_path, arguments):
    runs = {}
    for processes in (1, 2):
        out = tmp_path / str(processes)
        out.mkdir()
        assert launch(out, processes, f"--arguments={json.dumps(arguments)}") == 0
        runs[processes] = read(out)
    one, both = runs[1], runs[2]
    assert (one.results["world_size"], both.results["world_size"]) == (1, 2)
    assert differ(one.weights, both.weights) < 1e-5
    assert one.results["ledger"] == both.results["ledger"]
    assert one.results["weighting"] == pytest.approx(both.results["weighting"], abs=1e-6)
    if "stage_order" in arguments:
        assert len(one.results["stages"]) == 2
        for alone, shared in zip(one.results["stages"], both.results["stages"], strict=True):
            assert alone["cls"] == pytest.approx(shared["cls"], abs=1e-4)
    else:
        (alone,), (shared,) = one.results["conflicts"], both.results["conflicts"]
        assert alone.pop("tasks") == shared.pop("tasks") == ["ner", "cls"]
        assert alone == pytest.approx(shared, abs=1e-5)
        assert alone["min"] < 1
