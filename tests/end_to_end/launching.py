"""Starting real training processes, killing them, and comparing what they leave behind."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ROOT / "recipes"

#: Three small tasks, a LoRA adapter with dropout, a checkpoint every other step: saving is a good part of the run.
SMALL = [
    'tasks=[{"name": "synthetic_ner", "options": {"train": 120, "validation": 24, "test": 40}},'
    ' {"name": "synthetic_relation", "options": {"train": 120, "validation": 24, "test": 40}},'
    ' {"name": "synthetic_classification", "options": {"train": 60, "validation": 24, "test": 40}}]',
    'model.adapter={"r": 4, "dropout": 0.1}',
    "budget.epochs=2",
    "training.tokens_per_step=512",
    "training.micro_batch_tokens=256",
    "training.save_steps=2",
    "training.save_total_limit=2",
    "training.disable_tqdm=true",
    "evaluation.bootstrap_replicates=100",
]


def environment() -> dict[str, str]:
    """No network, one thread: the bits of a CPU run depend on the number of threads."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def command(recipe: Path, output_dir: Path, *more: str, processes: int = 1) -> list[str]:
    """The command line of a training run, through `accelerate launch`."""
    accelerate = [sys.executable, "-m", "accelerate.commands.launch", "--num_machines", "1", "--mixed_precision", "no"]
    accelerate += ["--dynamo_backend", "no", "--num_processes", str(processes)]
    if processes > 1:
        # `--cpu` would silently start one process; the trainer uses gloo where there is no GPU.
        accelerate += ["--multi_gpu", "--main_process_port", "0"]
    return [*accelerate, str(ROOT / "launch" / "train.py"), str(recipe), f"output_dir={output_dir}", *more]


def console_script(recipe: Path, output_dir: Path, *more: str) -> list[str]:
    """The same run by the installed console script, without a launcher."""
    script = str(Path(sys.executable).with_name("hf-crosstask"))
    return [script, "train", str(recipe), f"output_dir={output_dir}", *more]


def run(arguments: Sequence[str], *, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    """Run to the end; output is captured."""
    return subprocess.run(
        list(arguments), env=environment(), capture_output=True, text=True, timeout=timeout, check=False
    )


def start(arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start and do not wait; output is thrown away."""
    return subprocess.Popen(list(arguments), env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def kill_all(process: subprocess.Popen[bytes]) -> None:
    """Kill -9 a process and all its descendants, and wait until they are gone.

    A process group is not enough: torch's launcher gives each worker a session of its own, and the workers of a killed
    launcher go on training.
    """
    try:
        launcher = psutil.Process(process.pid)
        launcher.suspend()  # it starts no more workers
        family = [launcher, *launcher.children(recursive=True)]
    except psutil.NoSuchProcess:  # it ended by itself just now
        family = []
    for member in family:
        member.kill()
    process.wait()
    _, alive = psutil.wait_procs(family, timeout=60)
    if alive:
        raise RuntimeError(f"still alive after kill -9: {alive}")


def run_and_kill(
    arguments: Sequence[str], output_dir: Path, chance: random.Random, *, training: float, processes: int
) -> str:
    """Start a run and kill -9 it: while it saves, while it trains or finishes, while it starts, or one worker alone.

    Args:
        arguments: the command line.
        output_dir: its run directory.
        chance: decides when.
        training: seconds that a run takes from its plan to its end.
        processes: how many the run has.

    Returns:
        What was killed: `saving`, `training`, `starting` (all processes, at such a moment), `worker` (one of several,
        as the system does when memory runs out), or `finished` where the run was faster.
    """
    kinds = {"saving": 5, "training": 3, "starting": 1, "worker": 2 if processes > 1 else 0}
    (what,) = chance.choices(list(kinds), weights=list(kinds.values()))
    plan = output_dir / "plan.json"
    earlier = _modified(plan)
    process = start(arguments)
    seen: set[str] = set()
    saves_to_skip, wait = chance.randrange(6), chance.uniform(0, training)
    if what == "starting":
        deadline = time.monotonic() + chance.uniform(0, 8)
    else:
        while process.poll() is None and _modified(plan) == earlier:
            time.sleep(0.005)
        deadline = time.monotonic() + (60 if what == "saving" else wait)
    while process.poll() is None and time.monotonic() < deadline:
        if what != "saving":
            time.sleep(0.01)
            continue
        seen |= {path.name for path in output_dir.glob(".staging-checkpoint-*")}
        if len(seen) > saves_to_skip:
            time.sleep(chance.uniform(0, 0.01))
            break
        time.sleep(0.0005)
    if process.poll() is not None:
        return "finished"
    if what == "worker":
        workers = psutil.Process(process.pid).children()
        chance.choice(workers).kill()
        process.wait(timeout=120)  # the launcher ends the others
        psutil.wait_procs(workers, timeout=60)
    else:
        kill_all(process)
    return what


def _modified(path: Path) -> int | None:
    return path.stat().st_mtime_ns if path.exists() else None


def training_seconds(run_dir: Path) -> float:
    """How long a finished, uninterrupted run took from its plan to its result."""
    return (run_dir / "result.json").stat().st_mtime - (run_dir / "plan.json").stat().st_mtime


def trained_bits(run_dir: Path) -> dict[str, Any]:
    """Everything of a finished run that must not depend on how often it was interrupted."""
    files = [
        *run_dir.glob("adapters/**/*.safetensors"),
        *run_dir.glob("heads/*"),
        *run_dir.glob("model/*.safetensors"),
        *run_dir.glob("predictions/*.parquet"),
    ]
    result = json.loads((run_dir / "result.json").read_text(encoding="utf-8"))
    return {
        **{str(path.relative_to(run_dir)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files)},
        "tokens": result["tokens"],
        "fingerprints": result["fingerprints"],
        "steps": result["train"]["steps"],
        **{name: [task["tokens"], task["metrics"], task["loss"]] for name, task in result["tasks"].items()},
    }


def differences(expected: Path, actual: Path) -> list[str]:
    """Names of what two finished runs differ in (`trained_bits`)."""
    one, other = trained_bits(expected), trained_bits(actual)
    return sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))


def processes_of(run_dir: Path) -> int:
    """How many processes a finished run had."""
    result = json.loads((run_dir / "result.json").read_text(encoding="utf-8"))
    return int(result["environment"]["processes"])
