"""Kill -9 a training run many times, at random moments and during saves, and compare the bits of what it trains.

    python tests/end_to_end/kill_and_resume.py --kills 20 --processes 2

prints one line per kill and fails where an interrupted run differs from an uninterrupted one.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

from launching import RECIPES, SMALL, command, differences, processes_of, run, run_and_kill, training_seconds


def kill_and_resume(folder: Path, *, kills: int, processes: int, seed: int) -> Counter[str]:
    """Train once undisturbed; then train again and again, killed up to four times each, until `kills` have happened.

    Returns:
        How many kills of each kind happened (`run_and_kill` names them), how many runs were faster than their kill
        (`finished`), and how many interrupted runs were completed and compared (`compared`).

    Raises:
        RuntimeError: a run failed, or ran on another number of processes.
        AssertionError: an interrupted run trained other bits than the undisturbed one.
    """
    recipe = RECIPES / "quickstart.json"
    undisturbed = folder / "undisturbed"
    _train(command(recipe, undisturbed, *SMALL, processes=processes), undisturbed, processes)
    training = training_seconds(undisturbed)
    chance, counts, killed = random.Random(seed), Counter[str](), 0
    while killed < kills:
        run_dir = folder / f"killed-{counts['compared']}"
        resume = command(recipe, run_dir, *SMALL, "--resume", processes=processes)
        for _ in range(min(1 + chance.randrange(4), kills - killed)):
            when = run_and_kill(resume, run_dir, chance, training=training, processes=processes)
            checkpoints = sorted(path.name for path in run_dir.glob("*checkpoint-*"))
            print(f"killed: {when}; left: {', '.join(checkpoints) or 'no checkpoint'}", flush=True)
            counts[when] += 1
            if when == "finished":
                break
            killed += 1
        _train(resume, run_dir, processes)
        differing = differences(undisturbed, run_dir)
        if differing:
            raise AssertionError(f"{run_dir}: differs from the undisturbed run in {differing}")
        left = [path.name for path in run_dir.glob(".staging-*")]
        if left:
            raise AssertionError(f"{run_dir}: killed saves left {left} behind")
        counts["compared"] += 1
        print(f"run {counts['compared']}: identical to the undisturbed run", flush=True)
    return counts


def _train(arguments: list[str], run_dir: Path, processes: int) -> None:
    done = run(arguments)
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
    if processes_of(run_dir) != processes:
        raise RuntimeError(f"{run_dir}: ran on {processes_of(run_dir)} processes, not {processes}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counts = kill_and_resume(
            Path(folder), kills=arguments.kills, processes=arguments.processes, seed=arguments.seed
        )
    kinds = ("saving", "training", "starting", "worker")
    print(
        f"{sum(counts[kind] for kind in kinds)} kills ({', '.join(f'{counts[kind]} {kind}' for kind in kinds)}) on "
        f"{arguments.processes} process(es): {counts['compared']} interrupted runs, all identical"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
