"""Kill -9 a study many times, at random moments, and compare everything it concludes with an undisturbed study.

    python tests/end_to_end/kill_study.py --kills 20
    python tests/end_to_end/kill_study.py --kills 20 seeds=[1,2] recipe.budget.epochs=1   # faster

Each kill takes the runner alone (its runs go on, and the next runner waits for them), the runner with all its runs, or
one run (which the runner reports as failed, and the next one resumes). The study must end with the same
`statistics.json`, byte for byte, the same results table but for times, and the same predictions.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pandas
import psutil
from launching import RECIPES, environment, kill_all

#: Columns of the results table that say when and where, not what.
TIMES = ["runtime_s", "tokens_per_s", "peak_memory_bytes", "hardware", "git_commit"]
STUDY = RECIPES / "studies" / "quickstart.json"


def command(folder: Path, *overrides: str) -> list[str]:
    """The study's command line."""
    return [sys.executable, "-m", "hf_crosstask.cli", "study", str(STUDY), f"output_dir={folder}", *overrides]


def conclusions(folder: Path) -> dict[str, str]:
    """Everything that must not depend on how often the study was killed: name to digest."""
    table = pandas.read_parquet(folder / "results.parquet").drop(columns=TIMES)
    files = [folder / "statistics.json", *sorted(folder.glob("runs/*/predictions/*.parquet"))]
    found = {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    return found | {"results.parquet": hashlib.sha256(table.to_csv(index=False).encode()).hexdigest()}


def run_to_the_end(folder: Path, *overrides: str) -> float:
    """Run what is left; the seconds it took.

    Raises:
        RuntimeError: a run failed.
    """
    start = time.monotonic()
    done = subprocess.run(command(folder, *overrides), env=environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
    return time.monotonic() - start


def run_and_kill(folder: Path, chance: random.Random, patience: float, *overrides: str) -> str:
    """Start the study and kill -9 something of it after a random time; says what."""
    kind = chance.choice(["runner", "everything", "run"])
    process = subprocess.Popen(
        command(folder, *overrides), env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + chance.uniform(0, patience)
    while time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    if process.poll() is not None:
        return "finished"
    if kind == "everything":
        kill_all(process)
    elif kind == "runner":
        process.kill()
        process.wait()
    else:
        runs = psutil.Process(process.pid).children()
        if not runs:
            kill_all(process)
            return "everything"
        chance.choice(runs).kill()
        time.sleep(chance.uniform(0, 3))
        kill_all(process)
    return kind


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args()
    chance, counts = random.Random(arguments.seed), Counter[str]()
    with tempfile.TemporaryDirectory() as name:
        undisturbed, killed = Path(name) / "undisturbed", Path(name) / "killed"
        seconds = run_to_the_end(undisturbed, *arguments.overrides)
        print(f"undisturbed: {seconds:.0f} s", flush=True)
        while sum(counts.values()) < arguments.kills:
            # So that the kills are spread over the whole study.
            what = run_and_kill(killed, chance, 2.5 * seconds / arguments.kills, *arguments.overrides)
            if what == "finished":
                break
            counts[what] += 1
            done = len(list(killed.glob("runs/*/result.json")))
            print(f"killed {what} ({sum(counts.values())}); {done} runs have a result", flush=True)
        run_to_the_end(killed, *arguments.overrides)
        expected, found = conclusions(undisturbed), conclusions(killed)
        differing = sorted(key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key))
        if differing:
            print(f"differ after {sum(counts.values())} kills: {', '.join(differing)}", file=sys.stderr)
            return 1
    print(f"{sum(counts.values())} kills ({dict(counts)}): the same conclusions, {len(expected)} digests")
    return 0


if __name__ == "__main__":
    sys.exit(main())
