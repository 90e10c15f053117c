"""Release, delete everything local, load by name: the run's own predictions, with this library and without it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from local_hub import TOKEN
from released_tasks import TASKS

from hf_crosstask import load_released
from hf_crosstask.errors import InputError
from hf_crosstask.evaluation.predictions import Predictions
from hf_crosstask.release.command import Request, release
from hf_crosstask.release.finished import open_run
from hf_crosstask.tasks.load import load_task

#: Runs a card's code where hf_crosstask cannot be imported.
_BLOCKED = """
import json, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "hf_crosstask":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
import torch
torch.set_num_threads(1)
texts, found = json.load(sys.stdin), []
for code in texts["codes"]:
    names = {}
    exec(code, names)
    found.append(names["classify"](texts["texts"]))
assert "hf_crosstask" not in sys.modules
json.dump(found, open(sys.argv[1], "w"), default=float)
"""


@pytest.fixture
def gone(released_run, tmp_path) -> tuple[Path, dict]:
    """A copy of the run to release and delete, and what the run predicted."""
    copy = Path(shutil.copytree(released_run, tmp_path / "work" / "run"))
    predictions = {task: Predictions.from_parquet(copy / "predictions" / f"{task}.parquet") for task in TASKS}
    run = open_run(copy)
    examples = {spec.name: load_task(spec, data_dir=None).splits["test"] for spec in run.recipe.tasks}
    return copy, {task: (examples[task], predictions[task]) for task in TASKS}


def test_loading_by_name_gives_the_predictions_of_the_run(hub, gone, tmp_path) -> None:
    copy, expected = gone
    assert release(copy, Request("me/quick", private=True)) == 0
    assert release(copy, Request("me/relation", task="synthetic_relation")) == 0
    shutil.rmtree(tmp_path / "work")
    for name, task in [*(("me/quick", task) for task in TASKS), ("me/relation", None)]:
        model, tokenizer, predict = load_released(name, task=task)
        examples, before = expected[task or "synthetic_relation"]
        after = predict.predict(examples)
        assert (after.ids, after.predicted, after.confidence) == (before.ids, before.predicted, before.confidence)
        assert model.tasks == (task or "synthetic_relation",)
        assert tokenizer("a text")["input_ids"]
    relation = examples[0]
    ends = {role: relation["relations"][0][role] for role in ("head", "tail")}
    given = {"text": relation["text"], "entities": relation["entities"], **ends}
    assert predict(given) == {
        "label": before.predicted[0],
        "confidence": pytest.approx(before.confidence[0], abs=1e-5),
    }
    assert predict([]) == []
    with pytest.raises(InputError, match="needs `entities`, and `head` and `tail`"):
        predict("a text alone")


@pytest.mark.slow
def test_a_release_needs_neither_this_library_nor_this_machine(hub, gone, tmp_path) -> None:
    copy, expected = gone
    assert release(copy, Request("me/quick")) == 0
    assert release(copy, Request("me/class", task="synthetic_classification")) == 0
    shutil.rmtree(tmp_path / "work")
    examples, classified = expected["synthetic_classification"]
    texts = examples["text"][:]
    codes = []
    for repo in ("me/quick", "me/class"):
        card = hub.files(repo)["README.md"].decode()
        codes += [code for code in re.findall(r"```python\n(.*?)```", card, re.DOTALL) if "PeftModel" in code]
    assert len(codes) == 3  # two tasks of the one, the one of the other; relations have no plain code
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}
    environment |= {"HF_HOME": str(tmp_path / "home"), "HF_TOKEN": TOKEN, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-I", "-c", _BLOCKED, str(tmp_path / "found.json")],
        input=json.dumps({"texts": texts, "codes": codes}),
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    tagged, *labelled = json.loads((tmp_path / "found.json").read_text())
    for found in labelled:
        assert tuple(each["label"] for each in found) == classified.predicted
        assert [each["score"] for each in found] == pytest.approx(classified.confidence, abs=1e-5)
    model, tokenizer, _ = load_released("me/quick", task="synthetic_ner")
    for text, found in zip(texts, tagged, strict=True):
        encoded = tokenizer(text, return_tensors="pt")
        tags = model(**encoded, task="synthetic_ner").logits.softmax(-1)[0, 1:-1].max(-1).values.tolist()
        words = [each["score"] for each in found]  # those whose tag is not O
        assert all(any(abs(word - tag) < 1e-5 for tag in tags) for word in words)


def test_a_pinned_revision_stays(hub, gone, tmp_path) -> None:
    copy, expected = gone
    assert release(copy, Request("me/quick")) == 0
    first = hub.repos["me/quick"].branches["main"]
    HfApi(endpoint=hub.url, token=TOKEN).delete_file("heads/synthetic_relation.safetensors", "me/quick")
    with pytest.raises(InputError, match=r"synthetic_relation\.safetensors: no such file"):
        load_released("me/quick", task="synthetic_relation")
    examples, before = expected["synthetic_relation"]
    _, _, predict = load_released("me/quick", task="synthetic_relation", revision=first)
    assert predict.predict(examples).predicted == before.predicted


def test_what_cannot_be_loaded_is_said_in_one_sentence(hub, gone, monkeypatch) -> None:
    copy, _ = gone
    assert release(copy, Request("me/quick", private=True)) == 0
    api = HfApi(endpoint=hub.url, token=TOKEN)
    api.create_repo("me/other")
    for name, options, why in (
        ("me/nothing", {}, "no such folder, and no such repository"),
        ("me/quick", {}, "choose one with task=…: synthetic_ner"),
        ("me/quick", {"task": "synthetic_nerr"}, "did you mean 'synthetic_ner'"),
        ("me/quick", {"task": "synthetic_ner", "revision": "v9"}, "has no revision 'v9'"),
        ("me/other", {}, "is no release of hf_crosstask"),
        ("one/two/three", {}, "neither a folder nor a Hub name"),
        ("me/quick", {"task": "synthetic_ner", "token": False}, "one that your token cannot read"),
    ):
        with pytest.raises(InputError, match=re.escape(why)):
            load_released(name, **options)
