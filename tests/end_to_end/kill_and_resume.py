"""Kill -9 a training run many times, at random moments and during saves, and compare the bits of what it trains.

    python tests/end_to_end/kill_and_resume.py --kills 20 --processes 2

prints one line per kill and fails where an interrupted run differs from an uninterrupted one.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from launching import RECIPES, SMALL, command, run, run_and_kill, trained_bits


def kill_and_resume(folder: Path, *, kills: int, processes: int, seed: int) -> Counter[str]:
    """Train once undisturbed; then train again and again, killed, until `kills` kills have happened.

    Returns:
        How many kills happened when (`saving`, `anywhere`), and how many interrupted runs were completed and compared.
    """
    recipe = RECIPES / "quickstart.json"
    started = time.monotonic()
    undisturbed = run(command(recipe, folder / "undisturbed", *SMALL, processes=processes))
    if undisturbed.returncode:
        raise RuntimeError(undisturbed.stderr)
    longest = time.monotonic() - started
    expected = trained_bits(folder / "undisturbed")
    chance, counts = random.Random(seed), Counter[str]()
    while counts["saving"] + counts["anywhere"] < kills:
        run_dir = folder / f"killed-{counts['compared']}"
        for _ in range(1 + chance.randrange(4)):
            when = run_and_kill(
                command(recipe, run_dir, *SMALL, "--resume", processes=processes), run_dir, chance, longest=longest
            )
            checkpoints = sorted(path.name for path in run_dir.glob("*checkpoint-*"))
            print(f"killed: {when}; left: {', '.join(checkpoints) or 'no checkpoint'}", flush=True)
            counts[when] += 1
            if when == "finished":
                break
        resumed = run(command(recipe, run_dir, *SMALL, "--resume", processes=processes))
        if resumed.returncode:
            raise RuntimeError(resumed.stderr)
        actual = trained_bits(run_dir)
        differing = [key for key in expected.keys() | actual.keys() if expected.get(key) != actual.get(key)]
        if differing:
            raise AssertionError(f"{run_dir}: differs from the undisturbed run in {sorted(differing)}")
        counts["compared"] += 1
        print(f"run {counts['compared']}: identical to the undisturbed run", flush=True)
    return counts


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
    print(
        f"{counts['saving'] + counts['anywhere']} kills ({counts['saving']} during a save) on {arguments.processes} "
        f"process(es): {counts['compared']} interrupted runs, all identical"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
