"""The first thing a newcomer runs: the quickstart, by `accelerate launch` and by the console script."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from launching import RECIPES, ROOT, SMALL, console_script, differences, environment, run

from hf_crosstask.evaluation.predictions import Predictions
from hf_crosstask.evaluation.result import RunResult, read_result
from hf_crosstask.recipe import load_recipe
from hf_crosstask.training.checkpoint import problem

QUICKSTART = RECIPES / "quickstart.json"
TASKS = ["synthetic_ner", "synthetic_relation", "synthetic_classification"]


README_LINE = "accelerate launch launch/train.py recipes/quickstart.json"


def launch(output_dir: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    """The README's line, from the checkout, with another output folder."""
    accelerate, *arguments = README_LINE.split()
    program = str(Path(sys.executable).with_name(accelerate))
    arguments += [f"output_dir={output_dir}", *overrides]
    return subprocess.run(
        [program, *arguments], cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
    )


def check_run(run_dir: Path, printed: str) -> RunResult:
    """What every finished run leaves and prints."""
    result = read_result(run_dir)
    assert result.status == "finished"
    assert result.train.stopped is None
    assert result.environment.processes == 1
    assert result.match is None
    assert list(result.tasks) == TASKS
    for counts in (result.tokens, *(task.tokens for task in result.tasks.values())):
        assert counts.planned == counts.counted > 0
        assert counts.padded >= counts.counted
    for name, task in result.tasks.items():
        score = task.metrics.values[task.metrics.primary]
        assert score.low is not None
        assert score.high is not None
        assert score.low <= score.value <= score.high
        row = next(line for line in printed.splitlines() if line.startswith(f"| {name} ") and "[" in line)
        for shown in (
            task.metrics.primary,
            f"{score.value:.4f} [{score.low:.4f}, {score.high:.4f}]",
            f"{task.metrics.majority:.4f}",
            f"{task.tokens.counted:,}",
            f"{task.epochs:.2f}",
        ):
            assert shown in row
    assert f"results in {run_dir}" in printed
    check_folder(run_dir, result)
    return result


def check_folder(run_dir: Path, result: RunResult) -> None:
    """The run directory as design.md describes it, and nothing else."""
    names = {re.sub(r"^checkpoint-\d+$", "checkpoint", path.name) for path in run_dir.iterdir()}
    weights = {"adapters"} if result.parameters.per_adapter else {"model"}
    assert names == {
        "README.md",
        "base_model",
        "checkpoint",
        "heads",
        "plan.json",
        "plan.npz",
        "predictions",
        "recipe.json",
        "result.json",
        "tokenizer",
        *weights,
    }
    assert {path.name for path in (run_dir / "heads").iterdir()} == {f"{task}.safetensors" for task in TASKS}
    checkpoints = list(run_dir.glob("checkpoint-*"))
    assert f"checkpoint-{result.train.steps}" in {path.name for path in checkpoints}
    assert [problem(path) for path in checkpoints] == [None] * len(checkpoints)
    assert load_recipe(run_dir / "recipe.json").fingerprint() == result.fingerprints.recipe
    assert result.fingerprints.plan in (run_dir / "plan.json").read_text()
    assert "synthetic_ner" in (run_dir / "README.md").read_text()
    assert {path.name for path in (run_dir / "predictions").iterdir()} == {f"{task}.parquet" for task in TASKS}
    for task, each in result.tasks.items():
        predictions = Predictions.from_parquet(run_dir / "predictions" / f"{task}.parquet")
        assert len(predictions) == each.examples["test"]
        assert (predictions.logits is None) == (task == "synthetic_ner")


@pytest.mark.slow
def test_the_quickstart_as_it_is_beats_every_majority_row(tmp_path: Path) -> None:
    assert README_LINE in (ROOT / "README.md").read_text(encoding="utf-8")
    done = launch(tmp_path / "run")
    assert done.returncode == 0, done.stderr
    result = check_run(tmp_path / "run", done.stdout)
    for task in result.tasks.values():
        score = task.metrics.values[task.metrics.primary]
        assert score.low is not None
        assert score.low > task.metrics.majority
    assert "! does not exceed" not in done.stdout


@pytest.mark.slow
def test_a_run_is_not_overwritten_and_every_way_to_start_it_gives_the_same_bits(tmp_path: Path, train) -> None:
    run_dir = tmp_path / "run"
    done = launch(run_dir, *SMALL)
    assert done.returncode == 0, done.stderr
    result = check_run(run_dir, done.stdout)
    before = files(run_dir)

    again = train(QUICKSTART, f"output_dir={run_dir}", *SMALL)
    assert again.code == 2
    assert again.err == (
        f"error: {run_dir} already holds a finished run. Choose another output_dir=…, or delete the folder to run anew.\n"
    )
    resumed = train(QUICKSTART, f"output_dir={run_dir}", *SMALL, "--resume")
    assert resumed.code == 0
    assert f"{run_dir} is complete: nothing to do" in resumed.out
    assert f"{result.experiment_id}: S2, seed 42" in resumed.out
    other = train(QUICKSTART, f"output_dir={run_dir}", *SMALL, "training.seed=7", "--resume")
    assert other.code == 2
    assert "already holds a finished run of another recipe" in other.err
    assert files(run_dir) == before

    script = run(console_script(QUICKSTART, tmp_path / "script", *SMALL))
    assert script.returncode == 0, script.stderr
    check_run(tmp_path / "script", script.stdout)
    assert differences(run_dir, tmp_path / "script") == []
    here = train(QUICKSTART, f"output_dir={tmp_path / 'here'}", *SMALL)
    assert here.code == 0
    check_run(tmp_path / "here", here.out)
    assert differences(run_dir, tmp_path / "here") == []


def test_a_dry_run_prints_the_plan_and_writes_nothing(tmp_path: Path, train, monkeypatch) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    done = train(QUICKSTART, "--dry-run", *SMALL)
    assert done.code == 0
    assert re.search(r"^plan [0-9a-f]{12}: \d+ steps, [\d,]+ forward tokens", done.out)
    for column in ("examples", "tokens", "share", "epochs", "most repeats", "padding"):
        assert column in done.out
    for task in TASKS:
        assert f"| {task} " in done.out
    assert files(tmp_path / "work") == {}
    assert files(temporary) == {}
    assert os.listdir(temporary) == []

    ran = train(QUICKSTART, *SMALL)
    assert ran.code == 0
    assert ran.out.startswith(done.out)  # the run keeps to the plan that was shown
    assert os.listdir(tmp_path / "work") == ["outputs"]
    assert read_result("outputs/quickstart").status == "finished"


def files(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file under a folder, with its size and time."""
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }
