"""Stopped runs: killed at any moment, ended by SIGTERM or by a time limit, resumed to the same bits."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest
from kill_and_resume import kill_and_resume
from launching import RECIPES, SMALL, console_script, differences, start

from hf_crosstask.training.checkpoint import last_complete_checkpoint, problem

QUICKSTART = RECIPES / "quickstart.json"


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "seed"), [(1, 1), (2, 11)])
def test_a_killed_run_resumes_to_the_same_bits(tmp_path: Path, processes: int, seed: int) -> None:
    counts = kill_and_resume(tmp_path, kills=2, processes=processes, seed=seed)
    assert counts["compared"] >= 1
    assert counts["saving"] + counts["training"] + counts["worker"] >= 1


@pytest.mark.slow
def test_sigterm_saves_a_checkpoint_and_exits_with_3(tmp_path: Path, train) -> None:
    run_dir = tmp_path / "run"
    process = start(console_script(QUICKSTART, run_dir, *SMALL))
    deadline = time.monotonic() + 120
    while last_complete_checkpoint(run_dir) is None and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 3
    checkpoint = last_complete_checkpoint(run_dir)
    assert checkpoint is not None
    steps = json.loads((run_dir / "plan.json").read_text())["steps"]
    assert 0 < json.loads((checkpoint / "progress.json").read_text())["step"] < steps
    assert not (run_dir / "result.json").exists()

    refused = train(QUICKSTART, f"output_dir={run_dir}", *SMALL)
    assert refused.code == 2
    assert "holds checkpoints of an unfinished run. Continue it with --resume" in refused.err

    assert train(QUICKSTART, f"output_dir={run_dir}", *SMALL, "--resume").code == 0
    assert train(QUICKSTART, f"output_dir={tmp_path / 'undisturbed'}", *SMALL).code == 0
    assert differences(tmp_path / "undisturbed", run_dir) == []


def test_a_time_limit_stops_with_a_checkpoint_again_and_again(tmp_path: Path, train) -> None:
    run_dir, limit = tmp_path / "run", "training.time_limit_minutes=1e-6"
    arguments = [QUICKSTART, f"output_dir={run_dir}", *SMALL]
    steps = None
    for step in (1, 2, 3):
        done = train(*arguments, limit, "--resume")
        assert done.code == 3
        steps = steps or json.loads((run_dir / "plan.json").read_text())["steps"]
        assert done.err.splitlines()[-1] == (
            f"stopped: time_limit after step {step} of {steps}; a checkpoint is in {run_dir}. Continue with --resume."
        )
        assert last_complete_checkpoint(run_dir) == run_dir / f"checkpoint-{step}"
        assert not (run_dir / "result.json").exists()

    # Another recipe is refused, and leaves the run as it is.
    before = {path.name: path.read_bytes() for path in run_dir.glob("*.json")}
    other = train(*arguments, "training.learning_rate=0.1", "--resume")
    assert other.code == 2
    assert "Traceback" not in other.err
    assert "checkpoint-3" in other.err
    assert {path.name: path.read_bytes() for path in run_dir.glob("*.json")} == before

    # A damaged checkpoint is not used; the one before it is.
    damaged = run_dir / "checkpoint-3" / "trained.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert problem(run_dir / "checkpoint-3") == "trained.safetensors is damaged"
    resumed = train(*arguments, "--resume")
    assert resumed.code == 0
    assert f"resuming from {run_dir / 'checkpoint-2'}" in resumed.out
    assert train(QUICKSTART, f"output_dir={tmp_path / 'undisturbed'}", *SMALL).code == 0
    assert differences(tmp_path / "undisturbed", run_dir) == []
