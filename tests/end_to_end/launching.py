"""Starting real training processes, killing them, and comparing what they leave behind."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ROOT / "recipes"

#: Three small tasks, a LoRA adapter with dropout, a checkpoint every other step: saving is a good part of the run.
SMALL = [
    'tasks=[{"name": "synthetic_ner", "options": {"train": 120, "validation": 24, "test": 40}},'
    ' {"name": "synthetic_relation", "options": {"train": 120, "validation": 24, "test": 40}},'
    ' {"name": "synthetic_classification", "options": {"train": 60, "validation": 24, "test": 40}}]',
    'model.adapter={"r": 4, "dropout": 0.1}',
    "budget.epochs=4",
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


def run(arguments: Sequence[str], *, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    """Run to the end; output is captured."""
    return subprocess.run(
        list(arguments), env=environment(), capture_output=True, text=True, timeout=timeout, check=False
    )


def run_and_kill(arguments: Sequence[str], output_dir: Path, chance: random.Random, *, longest: float) -> str:
    """Start a run and kill -9 it with all its children, half of the time in the middle of a save.

    Args:
        arguments: the command line.
        output_dir: its run directory.
        chance: decides when.
        longest: seconds after which it is killed at the latest.

    Returns:
        When it was killed: `saving`, `anywhere`, or `finished` where the run was faster.
    """
    process = subprocess.Popen(
        list(arguments),
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    in_save = chance.random() < 0.5
    saves_to_skip, started = chance.randrange(6), time.monotonic()
    deadline = started + (longest if in_save else chance.uniform(1, longest))
    seen: set[str] = set()
    when = "anywhere"
    while process.poll() is None and time.monotonic() < deadline:
        if in_save:
            seen |= {path.name for path in output_dir.glob(".staging-checkpoint-*")}
            if len(seen) > saves_to_skip:
                when = "saving"
                time.sleep(chance.uniform(0, 0.01))
                break
            time.sleep(0.0005)
        else:
            time.sleep(0.01)
    if process.poll() is not None:
        return "finished"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return when


def trained_bits(run_dir: Path) -> dict[str, Any]:
    """Everything of a finished run that must not depend on how often it was interrupted."""
    files = [
        *run_dir.glob("adapters/**/*.safetensors"),
        *run_dir.glob("heads/*"),
        *run_dir.glob("model/*.safetensors"),
    ]
    files += run_dir.glob("predictions/*.parquet")
    result = json.loads((run_dir / "result.json").read_text(encoding="utf-8"))
    return {
        **{str(path.relative_to(run_dir)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files)},
        "tokens": result["tokens"],
        "fingerprints": result["fingerprints"],
        **{name: [task["tokens"], task["metrics"], task["loss"]] for name, task in result["tasks"].items()},
    }
