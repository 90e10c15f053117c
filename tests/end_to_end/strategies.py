"""Every strategy on every family: train, kill -9 and resume to the same bits, export, reload in plain PEFT.

    python tests/end_to_end/strategies.py [--only s3a_sum,a4] [--families bert,phi3,gemma2]

prints one line a cell and fails where an interrupted run differs from an undisturbed one, or plain PEFT gives other
outputs than the run's model (1e-5). S3b has a script of its own, `hierarchical_runs.py`.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from launching import RECIPES, SMALL, console_script, differences, kill_all, run, start

ONE_TASK = '[{"name": "synthetic_ner", "options": {"train": 120, "validation": 24, "test": 40}}]'
#: What each strategy adds to the Phi-3 recipe.
STRATEGIES = {
    "s1": ["strategy=s1", f"tasks={ONE_TASK}"],
    "s2": ["strategy=s2"],
    "s2_pcgrad": ["strategy=s2_pcgrad"],
    "s3a_sum": ['strategy={"name": "S3a"}'],
    "s3a_gated": ['strategy={"name": "S3a", "fusion": "gated"}'],
    "s3a_attention": ['strategy={"name": "S3a", "fusion": "attention"}'],
    "s4": ["strategy=s4"],
    "s4_freeze": ['strategy={"name": "S4", "order": "largest_first", "freeze": true}'],
    "s4_ewc": ['strategy={"name": "S4", "order": "largest_first", "ewc": 1.0, "rehearsal": 0.2}'],
    "a1": ["strategy=a1"],
    "a2": ["strategy=a2"],
    "a3": ["strategy=a3"],
    "a4": ["strategy=a4"],
    "s5": ["strategy=s5"],
    "s5_s3a": ['strategy={"name": "S5", "architecture": "S3a", "fusion": "gated"}'],
}
FAMILIES = ("bert", "phi3", "gemma2")
STEPS = [
    *(each for each in SMALL if not each.startswith(("budget", "model.adapter"))),
    'model.adapter={"r": 8, "dropout": 0.1}',
    'budget={"steps": 8}',
    "training.learning_rate=5e-3",
]


def arguments(strategy: str, family: str) -> list[str]:
    """Of a run of a strategy on a family's tiny twin."""
    return [f"model.name_or_path=tiny:{family}", *STEPS, *STRATEGIES[strategy]]


def killed_and_resumed(folder: Path, strategy: str, family: str) -> tuple[Path, int]:
    """Train undisturbed, and again killed -9 behind its first checkpoint and resumed.

    Returns:
        The undisturbed run's folder, and at which step the other was killed.

    Raises:
        RuntimeError: a run failed, or was never caught in time.
        AssertionError: the interrupted run trained other bits.
    """
    recipe, more = RECIPES / "s2_phi3.json", arguments(strategy, family)
    undisturbed, interrupted = folder / "undisturbed", folder / "interrupted"
    _finish(console_script(recipe, undisturbed, *more))
    for _ in range(5):
        shutil.rmtree(interrupted, ignore_errors=True)
        process = start(console_script(recipe, interrupted, *more))
        while process.poll() is None and not list(interrupted.glob("checkpoint-*")):
            time.sleep(0.002)
        if process.poll():
            raise RuntimeError(f"it ended by itself, with exit code {process.poll()}")
        kill_all(process)
        if not (interrupted / "result.json").exists():
            break
    else:
        raise RuntimeError("the run was always faster than the kill")
    step = max(int(path.name.rpartition("-")[2]) for path in interrupted.glob("checkpoint-*"))
    _finish(console_script(recipe, interrupted, *more, "--resume"))
    differing = differences(undisturbed, interrupted)
    if differing:
        raise AssertionError(f"{strategy} on {family}: the interrupted run differs in {differing}")
    return undisturbed, step


def _finish(command: list[str]) -> None:
    done = run(command)
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")


def plain_peft_difference(run_dir: Path) -> dict[str, float]:
    """Largest difference of logits (of states, where transformers has no class) between the run's model and plain PEFT."""
    import torch
    from peft import AutoPeftModelForSequenceClassification, AutoPeftModelForTokenClassification, PeftModel
    from transformers import AutoModel

    from hf_crosstask import load_run
    from hf_crosstask.models.export import label_names
    from hf_crosstask.models.quantization import compute_exactly_on_cpu, nf4
    from hf_crosstask.tasks.registry import resolve_card

    loaded = load_run(run_dir)
    base = {"quantization_config": nf4(torch.float32), "device_map": {"": "cpu"}}
    options = base if loaded.result.model["quantization"] == "nf4" else {}
    texts = ["fever and bleeding after aspirin", "no drug was given", "@A@ inhibits @B@ in the liver of rats ."]
    found = loaded.tokenizer(texts, padding=True, return_tensors="pt")
    batch = {name: found[name] for name in ("input_ids", "attention_mask", "token_type_ids") if name in found}
    worst = {}
    classes = {"ner": AutoPeftModelForTokenClassification, "classification": AutoPeftModelForSequenceClassification}
    with torch.no_grad():
        for spec in loaded.recipe.tasks:
            card, folder = resolve_card(spec), run_dir / "adapters" / spec.name
            if not (folder / "adapter_config.json").exists():
                continue
            kept = batch["attention_mask"].bool()
            if card.type in classes:
                theirs = (
                    classes[card.type].from_pretrained(folder, num_labels=len(label_names(card)), **options).eval()
                )
                compute_exactly_on_cpu(theirs)
                ours, other = loaded.model(task=card.name, **batch).logits, theirs(**batch).logits
                if card.type == "classification":
                    kept = slice(None)
            else:
                backbone = AutoModel.from_pretrained(loaded.model.config.name_or_path, **options)
                compute_exactly_on_cpu(backbone)
                loaded.model.activate(card.name)
                ours = loaded.model.backbone(**batch).last_hidden_state
                other = PeftModel.from_pretrained(backbone, folder).eval()(**batch).last_hidden_state
            worst[card.name] = float((ours[kept] - other[kept]).abs().max())
    return worst


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(STRATEGIES))
    parser.add_argument("--families", default=",".join(FAMILIES))
    chosen = parser.parse_args()
    strategies, families = chosen.only.split(","), chosen.families.split(",")
    # Diagonally, so that the first cells already cover every strategy and every family.
    cells = sorted(
        itertools.product(range(len(strategies)), range(len(families))),
        key=lambda at: ((at[1] - at[0]) % len(families), at),
    )
    failed = 0
    for strategy, family in ((strategies[s], families[f]) for s, f in cells):
        with tempfile.TemporaryDirectory() as folder:
            started = time.monotonic()
            try:
                run_dir, step = killed_and_resumed(Path(folder), strategy, family)
                differences = plain_peft_difference(run_dir)
            except (RuntimeError, AssertionError) as error:
                failed += 1
                print(f"{strategy} {family}: FAILED: {error}", flush=True)
                continue
            within = all(value <= 1e-5 for value in differences.values())
            failed += not within
            shown = ", ".join(f"{task} {value:.1e}" for task, value in differences.items()) or "none exported"
            print(
                f"{strategy} {family}: killed at step {step}, resumed to the same bits; plain PEFT differs by {shown}"
                f"{'' if within else ': FAILED'} ({time.monotonic() - started:.0f} s)",
                flush=True,
            )
    return 1 if failed else 0


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.exit(main())
