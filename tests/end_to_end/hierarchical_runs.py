"""S3b on tiny twins: train, kill -9 and resume to the same bits, 1 and 2 processes, and reload what was exported.

    python tests/end_to_end/hierarchical_runs.py --families bert phi3 gemma2

prints one line per run and fails where an interrupted run differs from an undisturbed one, or an exported task gives
other predictions than the run saved.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from launching import RECIPES, SMALL, command, differences, run, run_and_kill, training_seconds

from hf_crosstask.encoding.collator import MultiTaskCollator
from hf_crosstask.evaluation.predictions import Predictions
from hf_crosstask.evaluation.scorer import build_scorer
from hf_crosstask.models.export_hierarchical import load_fed_task
from hf_crosstask.release.finished import open_run
from hf_crosstask.training.rows import fetch

FEEDS = ('{"name":"S3b","feed":"attention"}', '{"name":"S3b","feed":"shortcut","detach":true}')


def train(arguments: list[str]) -> None:
    done = run(arguments)
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}")


def resumed(family: str, strategy: str, folder: Path, chance: random.Random) -> Path:
    """Train undisturbed and with a kill, compare the bits; returns the undisturbed run."""
    keys = [*SMALL, f"model.name_or_path=tiny:{family}", f"strategy={strategy}"]
    keys += ["training.activation_checkpointing=true"] if "detach" in strategy else []
    undisturbed, killed = folder / "undisturbed", folder / "killed"
    train(command(RECIPES / "quickstart.json", undisturbed, *keys))
    again = command(RECIPES / "quickstart.json", killed, *keys, "--resume")
    when = run_and_kill(again, killed, chance, training=training_seconds(undisturbed), processes=1)
    train(again)
    differing = differences(undisturbed, killed)
    if differing or (undisturbed / "feed.safetensors").read_bytes() != (killed / "feed.safetensors").read_bytes():
        raise AssertionError(f"killed while {when}: differs from the undisturbed run in {differing}")
    print(f"{family} {strategy}: killed while {when}, resumed to the same bits", flush=True)
    return undisturbed


@torch.no_grad()
def reloaded(run_dir: Path, task: str) -> float:
    """Largest difference between an exported task's logits and those that the run saved."""
    opened = open_run(run_dir)
    data = opened.data(task)
    encoded = opened.encode(data, "test")
    model = load_fed_task(run_dir / "adapters" / task)
    collate = MultiTaskCollator.for_tokenizer(opened.tokenizer)
    names = {"input_ids", "attention_mask", "token_type_ids", "entity_positions"}
    logits = []
    for number in range(len(encoded.dataset)):
        row = collate(fetch(encoded.dataset, [number]))
        logits.append(model(task=task, **{k: v for k, v in row.items() if k in names}).logits[0].numpy())
    actual = build_scorer(data.card, data.splits["test"], encoded.dataset, {}).decode(logits)
    saved = Predictions.from_parquet(run_dir / "predictions" / f"{task}.parquet")
    if actual.predicted != saved.predicted:
        raise AssertionError(f"{task}: the exported task predicts otherwise than the run")
    return float(np.abs(np.stack(actual.logits) - np.stack(saved.logits)).max())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", default=["bert", "phi3", "gemma2"])
    arguments = parser.parse_args()
    chance = random.Random(0)
    for family in arguments.families:
        for strategy in FEEDS:
            with tempfile.TemporaryDirectory() as folder:
                run_dir = resumed(family, strategy, Path(folder), chance)
                for task in ("synthetic_relation", "synthetic_classification"):
                    print(f"  {task}: reloaded, logits differ by at most {reloaded(run_dir, task):.1e}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
