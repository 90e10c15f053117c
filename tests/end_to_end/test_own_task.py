"""A user's own task, from files and one JSON file: no code."""

from __future__ import annotations

import json
import random
from pathlib import Path

from hf_crosstask.evaluation.result import read_result

PLANTS = ["thornleaf", "duskroot", "marrowvine", "pale-fennel", "wyrmgrass", "oxbane", "silverdock", "hartsbloom"]
ILLS = ["shaking", "grey-cough", "lamplight-fever", "bonechill", "wandering-itch", "nightsweat"]
SENTENCES = [
    "The old herbalist boils PLANT when ILL keeps a child awake .",
    "Against ILL she gives PLANT and PLANT in warm milk .",
    "PLANT is never given with PLANT .",
    "Nobody in the valley has seen ILL since the spring .",
    "The road to the mill was closed by snow .",
]
LABELS = ["Plant", "Ill"]


def sentence(chance: random.Random) -> str:
    """One sentence as IOB2 lines; some names are two words."""
    lines = []
    for word in chance.choice(SENTENCES).split():
        names, label = {"PLANT": (PLANTS, "Plant"), "ILL": (ILLS, "Ill")}.get(word, (None, None))
        if names is None:
            lines.append(f"{word}\tO")
            continue
        if chance.random() < 0.3:
            lines += [f"wild\tB-{label}", f"{chance.choice(names)}\tI-{label}"]
        else:
            lines.append(f"{chance.choice(names)}\tB-{label}")
    return "\n".join(lines) + "\n"


def test_a_users_own_ner_task_by_json_alone(tmp_path: Path, train) -> None:
    folder = tmp_path / "data" / "herbs"
    folder.mkdir(parents=True)
    for name, count in [("train", 160), ("dev", 20), ("test", 60)]:
        chance = random.Random(name)
        (folder / f"{name}.tsv").write_text("\n".join(sentence(chance) for _ in range(count)), encoding="utf-8")
    recipe = {
        "name": "herbs",
        "strategy": {"name": "S1"},
        "tasks": [{"name": "herbs", "type": "ner", "reader": "iob", "path": "herbs", "labels": LABELS}],
        "model": {"name_or_path": "tiny:bert", "max_length": 64},
        "budget": {"epochs": 20},
        "training": {"tokens_per_step": 256, "learning_rate": 2e-3, "disable_tqdm": True},
        "data_dir": "../data",
    }
    Path("herbs.json").write_text(json.dumps(recipe))
    done = train("herbs.json")
    assert done.code == 0, done.err
    result = read_result("outputs/herbs")
    task = result.tasks["herbs"]
    assert task.type == "ner"
    assert task.examples == {"train": 160, "validation": 20, "test": 60}
    assert task.metrics.primary == "entity_f1"
    score = task.metrics.values["entity_f1"]
    assert score.value > 0.85
    assert score.low is not None
    assert score.low > task.metrics.majority == 0
    assert (Path("outputs/herbs/predictions") / "herbs.parquet").exists()
    assert (Path("outputs/herbs/adapters") / "herbs").exists() == bool(result.parameters.per_adapter)
