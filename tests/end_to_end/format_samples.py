"""Every gated task on its format sample, through the command line: `python format_samples.py DATA WORK [tasks …]`.

DATA is the folder of real corpora with `format_examples`. A sample stands for all three splits. By hand: every run is a
process of its own. Prints the command's exit code and the official values of each task.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from hf_crosstask.tasks.registry import builtin_cards

SAMPLES = {
    "semeval2014t7": "semeval2014_task7/train",
    "semeval2015t14": "semeval2015_task14/data/train",
    "semeval2016t12": "semeval2016_task12_thyme/train",
    "n2c2_2018_ade": "n2c2_2018_track2/training_20180910",
    "n2c2_2022_cmed": "n2c2_2022_track1/train",
    "medqa": "medqa/US/train.jsonl",
    "medmcqa": "medmcqa/dev.json",
    "medtext": "medtext/medtext.csv",
    "medical_qa": "lavita_medical_qa/all-processed.jsonl",
}
DECODERS = ("tiny:llama", "tiny:qwen2")


def forms(data: Path) -> list[tuple[dict[str, Any], str]]:
    """(task, model) of every run."""
    found: list[tuple[dict[str, Any], str]] = []
    for name, card in builtin_cards().items():
        base = next((sample for sample in SAMPLES if name == sample or name.startswith(f"{sample}_")), None)
        few = {"train": 40, "validation": 20, "test": 40}
        if name.startswith("semeval2017t3"):
            few = {"train": 200, "validation": 100, "test": 200}
            found.append(({"name": name, "path": str(data / "semeval_cqa"), "max_examples": few}, "tiny:bert"))
        if base is None:
            continue
        path = str(data / "format_examples" / SAMPLES[base])
        task = {"name": name, "path": dict.fromkeys(("train", "validation", "test"), path)}
        if card.type == "generation":
            found += [(task | {"max_new_tokens": 8}, model) for model in DECODERS]
            continue
        found.append((task, "tiny:bert"))
        if card.type == "multiple_choice":
            found += [(task | {"formulation": "likelihood"}, model) for model in DECODERS]
        if card.type in ("ner", "relation", "multiple_choice"):
            found.append((task | {"formulation": "generative", "max_new_tokens": 8}, DECODERS[0]))
    return found


def _apart(task: dict[str, Any], folder: Path) -> dict[str, Any]:
    """MedMCQA questions carry ids, so that one file cannot stand for three splits: copies with ids of their own."""
    if task["name"] != "medmcqa":
        return task
    paths = {}
    for split, file in task["path"].items():
        records = [json.loads(line) for line in Path(file).read_text(encoding="utf-8").splitlines()]
        copy = folder / f"{split}.json"
        copy.write_text("".join(json.dumps(r | {"id": f"{split}-{r['id']}"}) + "\n" for r in records))
        paths[split] = str(copy.resolve())
    return task | {"path": paths}


def main(data: Path, work: Path, wanted: list[str]) -> int:
    """Run all; 0 if every run ended well and carries its card's metrics."""
    failed = 0
    for number, (task, model) in enumerate(forms(data)):
        name = str(task["name"])
        if wanted and name not in wanted:
            continue
        folder = work / f"{number:02}-{name}"
        folder.mkdir(parents=True, exist_ok=True)
        recipe: dict[str, Any] = {
            "name": name,
            "tasks": [_apart(task, folder)],
            "model": {"name_or_path": model, "max_length": 256, "stride": 32},
            "strategy": {"name": "S1"},
            "budget": {"steps": 3},
            "training": {"tokens_per_step": 4096, "disable_tqdm": True, "use_cpu": True},
            "evaluation": {"bootstrap_replicates": 100},
            "output_dir": str(folder / "run"),
        }
        (folder / "recipe.json").write_text(json.dumps(recipe, indent=1))
        command = ["hf-crosstask", "train", str(folder / "recipe.json")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        form = task.get("formulation", "head")
        if done.returncode:
            failed += 1
            print(f"{name} {form} {model}: exit {done.returncode}\n{done.stderr[-600:]}", flush=True)
            continue
        metrics = json.loads((folder / "run" / "result.json").read_text())["tasks"][name]["metrics"]
        card = builtin_cards()[name]
        named = (card.primary_metric, *card.secondary_metrics)
        missing = [metric for metric in named if metric not in metrics["values"]]
        failed += bool(missing)
        shown = ", ".join(
            f"{metric} {metrics['values'][metric]['value']:.3f}" for metric in named if metric not in missing
        )
        print(f"{name} {form} {model}: exit 0, {shown}{f', missing {missing}' if missing else ''}", flush=True)
    print(f"{failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]))
