"""The Phi-3 recipe on the tiny twin of every model family, and its adapters in plain PEFT and transformers."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from launching import RECIPES, SMALL, environment

from hf_crosstask.encoding import encode_task
from hf_crosstask.evaluation import Predictions, build_scorer, read_result
from hf_crosstask.models.tiny import FAMILIES
from hf_crosstask.recipe import load_recipe
from hf_crosstask.tasks.load import load_task

#: So few steps that the NER heads still find entities everywhere: much to compare.
FEW = [
    *(each for each in SMALL if not each.startswith("budget")),
    'budget={"steps": 4}',
    "training.learning_rate=5e-4",
]

#: Makes `import hf_crosstask` fail, runs the code of a README as a reader would, then asks its pipeline for every token.
READER = """
import json
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "hf_crosstask":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Blocked())
scope = {}
exec(compile(sys.argv[1], "README.md", "exec"), scope)
pipe = scope["pipeline"]("token-classification", model=scope["model"], tokenizer=scope["tokenizer"])
found = pipe(json.loads(sys.argv[2]), ignore_labels=[])
assert not any(name.startswith("hf_crosstask") for name in sys.modules)
print(json.dumps([[dict(each, score=float(each["score"])) for each in tokens] for tokens in found]))
"""


def as_a_reader(folder: Path, texts: list[str]) -> list[list[dict[str, Any]]]:
    """Run the README's code in an NER adapter's folder, without this library; what its pipeline says of every token."""
    blocks = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) == 1
    assert 'pipeline("token-classification"' in blocks[0]
    done = subprocess.run(
        [sys.executable, "-I", "-c", READER, blocks[0], json.dumps(texts)],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    printed, found = done.stdout.splitlines()
    assert printed.startswith("[")  # the README prints what it finds in its own example
    return json.loads(found)


def with_plain_peft(folder: Path, auto_class: Any, **arguments: Any) -> Any:
    """Base model and adapter, as any PEFT user loads them."""
    from peft import PeftConfig, PeftModel

    base = auto_class.from_pretrained(PeftConfig.from_pretrained(folder).base_model_name_or_path, **arguments)
    return PeftModel.from_pretrained(base, folder).eval()


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_trains_and_its_adapters_work_without_this_library(family: str, tmp_path: Path, train) -> None:
    import numpy as np
    import torch
    import transformers

    from hf_crosstask.models.backbone import is_causal

    run_dir = tmp_path / "run"
    done = train(RECIPES / "s2_phi3.json", f"model.name_or_path=tiny:{family}", f"output_dir={run_dir}", *FEW)
    assert done.code == 0, done.err
    result = read_result(run_dir)
    assert result.train.steps == 4
    assert result.tokens.planned == result.tokens.counted > 0
    assert result.parameters.trainable < result.parameters.total / 2

    def outputs(model: Any, ids: list[int]) -> Any:
        with torch.no_grad():
            return model(torch.tensor([ids]))

    # The shared adapter loads on the bare backbone, and changes it.
    shared = with_plain_peft(run_dir / "adapters" / "shared", transformers.AutoModel)
    states = outputs(shared, [5, 6, 7]).last_hidden_state
    with shared.disable_adapter():
        assert (outputs(shared, [5, 6, 7]).last_hidden_state - states).abs().max() > 1e-3

    # The other adapters, on transformers' own task classes, give what the run predicted.
    recipe = load_recipe(run_dir / "recipe.json")
    for task, auto_class in [
        ("synthetic_ner", transformers.AutoModelForTokenClassification),
        ("synthetic_classification", transformers.AutoModelForSequenceClassification),
    ]:
        folder = run_dir / "adapters" / task
        labels = json.loads((folder / "labels.json").read_text())
        model = with_plain_peft(folder, auto_class, num_labels=len(labels))
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        data = load_task(next(spec for spec in recipe.tasks if spec.name == task), data_dir=None)
        examples = data.splits["test"]
        encoded = encode_task(
            examples, data.card, tokenizer, max_length=recipe.model.max_length, causal=is_causal(model.config)
        )
        assert len(encoded.dataset) == len(examples)  # no windows: a row is a text
        logits = [outputs(model, ids).logits[0].numpy() for ids in encoded.dataset["input_ids"]]
        expected = Predictions.from_parquet(run_dir / "predictions" / f"{task}.parquet")
        actual = build_scorer(data.card, examples, encoded.dataset, {}).decode(logits)
        assert actual.predicted == expected.predicted
        for confidence, recorded in zip(actual.confidence, expected.confidence, strict=True):
            np.testing.assert_allclose(confidence, recorded, atol=1e-4)
        if task != "synthetic_ner":
            continue
        assert sum(map(len, expected.predicted)) > 10
        found = as_a_reader(folder, examples["text"][:])
        for text, tokens, values in zip(examples["text"], found, logits, strict=True):
            special = tokenizer(text, return_special_tokens_mask=True)["special_tokens_mask"]
            shares = np.exp(values) / np.exp(values).sum(axis=-1, keepdims=True)
            shares = shares[np.asarray(special) == 0]
            assert [each["entity"] for each in tokens] == [labels[tag] for tag in shares.argmax(axis=-1)]
            np.testing.assert_allclose([each["score"] for each in tokens], shares.max(axis=-1), atol=1e-4)


@pytest.mark.slow
def test_the_phi3_recipe_on_the_real_corpora(shared_data: Path, tmp_path: Path, train) -> None:
    few = '"max_examples": {"train": 60, "validation": 20, "test": 20}'
    tasks = ", ".join(f'{{"name": "{name}", {few}}}' for name in ("bc2gm", "chemprot", "pubmedqa"))
    done = train(
        RECIPES / "s2_phi3.json",
        "model.name_or_path=tiny:phi3",
        f"tasks=[{tasks}]",
        f"data_dir={shared_data}",
        'budget={"steps": 3}',
        "training.disable_tqdm=true",
        "evaluation.bootstrap_replicates=100",
        "output_dir=run",
    )
    assert done.code == 0, done.err
    result = read_result("run")
    assert list(result.tasks) == ["bc2gm", "chemprot", "pubmedqa"]
    assert {name: task.examples["test"] for name, task in result.tasks.items()} == dict.fromkeys(result.tasks, 20)
    assert result.tokens.planned == result.tokens.counted > 0
