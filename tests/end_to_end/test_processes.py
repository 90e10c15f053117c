"""One process and two execute the same plan and train the same weights."""

from __future__ import annotations

from pathlib import Path

import pytest
from launching import RECIPES, SMALL, command, run

from hf_crosstask.evaluation.result import read_result


@pytest.mark.slow
def test_two_processes_train_what_one_does(tmp_path: Path, train) -> None:
    from safetensors.torch import load_file

    recipe, alone, shared = RECIPES / "quickstart.json", tmp_path / "one", tmp_path / "two"
    assert train(recipe, f"output_dir={alone}", *SMALL).code == 0
    done = run(command(recipe, shared, *SMALL, processes=2))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("score [95% CI]") == 1  # one process prints

    one, two = read_result(alone), read_result(shared)
    assert (one.environment.processes, two.environment.processes) == (1, 2)
    assert one.fingerprints == two.fingerprints
    assert one.tokens == two.tokens
    assert {name: task.tokens for name, task in one.tasks.items()} == {
        name: task.tokens for name, task in two.tasks.items()
    }
    weights = sorted(
        path.relative_to(alone) for path in alone.rglob("*.safetensors") if path.parts[-2] in ("shared", "heads")
    )
    assert len(weights) == 4  # the adapter and three heads
    for path in weights:
        first, second = load_file(alone / path), load_file(shared / path)
        assert first.keys() == second.keys()
        for name in first:
            assert (first[name] - second[name]).abs().max() < 1e-5, (path, name)
    for name, task in one.tasks.items():
        for metric, value in task.metrics.values.items():
            assert two.tasks[name].metrics.values[metric].value == pytest.approx(value.value, abs=0.03)
