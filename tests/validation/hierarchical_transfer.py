"""Does S3b beat S2 where relation labels depend on entities, and not where they do not? Planted transfer, tiny BERT.

    python tests/validation/hierarchical_transfer.py [--seeds 10] [--first-seed 1] [--tokens 150000] [--workers 2]

Three worlds over the same texts: in `dependent` the relation's label follows from the hidden grades of its two entities
(and the cue), and NER teaches the grades, also of the third of the words that the relation task's training data lacks. In
`independent` the label follows from the cue alone. In `unshared` it depends on the grades, but NER's words are others:
nothing is to be transferred, and S3b's gain is its architecture's.

In each world S2 and S3b (attention, without gradient surgery, so that only the architecture differs) train on the same
two tasks, the same tokens and the same seeds. S2's adapter has the rank at which it trains as many parameters as S3b
does. What is equal is the budget of forward tokens: S3b computes level-2 tokens twice.

Prints every score, and per world the mean difference S3b - S2 in relation micro F1 with a 95 % t-interval over seeds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

ROOT = Path(__file__).resolve().parents[2]
#: Options of the relation task, and of both tasks.
WORLDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "dependent": ({"entity_dependent": True}, {}),
    "independent": ({"entity_dependent": False}, {}),
    "unshared": ({"entity_dependent": True}, {"sharing": 0.0}),
}
_RANK, _WIDE = 16, 51  # _WIDE: 248k of adapters and embeddings at rank 16, and the level adapters and feed of S3b
ARMS: dict[str, list[str]] = {
    "S2": ['strategy={"name":"S2"}', f"model.adapter.r={_WIDE}", f"model.adapter.alpha={2 * _WIDE}"],
    "S3b": ['strategy={"name":"S3b","feed":"attention","surgery":{"method":"none"}}'],
}


def tasks(world: str) -> str:
    own, both = WORLDS[world]
    ner = {"name": "synthetic_ner", "options": {"train": 800, "validation": 20, "test": 100, **both}}
    relation = {"train": 400, "validation": 20, "test": 600, **both, **own}
    return json.dumps([ner, {"name": "synthetic_relation", "options": relation}])


def run(folder: Path, world: str, arm: str, seed: int, tokens: int) -> dict[str, Any]:
    """Train one arm with one seed in one world (or read what an earlier call left)."""
    out = folder / f"{world}-{arm}-{seed}-{tokens}"
    if not (out / "result.json").exists():
        keys = [f"tasks={tasks(world)}", f"budget={json.dumps({'tokens': tokens})}", f"training.seed={seed}"]
        keys += ["training.save_strategy=no", "training.disable_tqdm=true", "evaluation.bootstrap_replicates=100"]
        keys += [f"output_dir={out}", f"base_model_dir={folder / world}", *ARMS[arm]]
        script = Path(sys.executable).with_name("hf-crosstask")
        done = subprocess.run(
            [str(script), "train", str(ROOT / "recipes" / "quickstart.json"), *keys],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{out}: exit code {done.returncode}\n{done.stderr}")
    result = json.loads((out / "result.json").read_text(encoding="utf-8"))
    scores = {
        name: task["metrics"]["values"][task["metrics"]["primary"]]["value"] for name, task in result["tasks"].items()
    }
    print(
        f"{world:12} {arm:4} seed {seed}: relation {scores['synthetic_relation']:.4f}, ner {scores['synthetic_ner']:.4f}, "
        f"{result['tokens']['counted']:,} tokens (+{result['tokens']['extra_forward_tokens']:,} extra), "
        f"{result['parameters']['trainable']:,} trained, {result['train']['runtime_s']:.0f} s",
        flush=True,
    )
    return {"relation": scores["synthetic_relation"]}


def interval(differences: list[float]) -> tuple[float, float, float]:
    """Mean and 95 % t-interval."""
    values = np.asarray(differences)
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return float(values.mean()), float(values.mean() - half), float(values.mean() + half)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, help="how many; fix it before you look (%(default)s)")
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=150_000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--worlds", nargs="+", choices=WORLDS, default=list(WORLDS))
    parser.add_argument("--folder", type=Path, help="keep the runs here, and go on from what is there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
        cells = [(world, arm, seed) for seed in seeds for world in arguments.worlds for arm in ARMS]
        with ThreadPoolExecutor(arguments.workers) as pool:
            found = dict(zip(cells, pool.map(lambda cell: run(folder, *cell, arguments.tokens), cells), strict=True))
    shown = True
    for world in arguments.worlds:
        differences = [found[world, "S3b", s]["relation"] - found[world, "S2", s]["relation"] for s in seeds]
        mean, low, high = interval(differences)
        each = ", ".join(f"{value:+.4f}" for value in differences)
        print(f"{world}: S3b - S2 = {mean:+.4f} [{low:+.4f}, {high:+.4f}] (seeds: {each})")
        shown &= low > 0 if world == "dependent" else low <= 0 or world == "unshared"
    print("shown: S3b wins where labels depend on entities, and not where they do not" if shown else "not shown")
    return 0


if __name__ == "__main__":
    sys.exit(main())
