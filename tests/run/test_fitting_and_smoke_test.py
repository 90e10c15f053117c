"""`micro_batch_tokens: "auto"` and `--smoke-test`, through the verb `train`."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from hf_crosstask.errors import CheckpointError, InputError, Interrupted
from hf_crosstask.evaluation.result import read_result
from hf_crosstask.recipe import load_recipe
from hf_crosstask.run.train import train

OPTIONS = {"train": 60, "validation": 8, "test": 12}
RECIPE = {
    "name": "small",
    "tasks": [
        {"name": "synthetic_ner", "options": OPTIONS},
        {"name": "synthetic_relation", "options": OPTIONS},
    ],
    "model": {"name_or_path": "tiny:bert", "max_length": 64, "adapter": {"r": 4, "dropout": 0.1}},
    "strategy": {"name": "S3b"},
    "budget": {"steps": 4},
    "training": {
        "tokens_per_step": 300,
        "learning_rate": 1e-3,
        "save_steps": 1,
        "disable_tqdm": True,
        "use_cpu": True,
    },
    "evaluation": {"bootstrap_replicates": 100},
}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """The recipe with overrides; all runs share one tiny model."""
    folder = tmp_path_factory.mktemp("runs")
    file = folder / "recipe.json"
    file.write_text(json.dumps(RECIPE | {"base_model_dir": str(folder / "base")}), encoding="utf-8")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    def make(name, *overrides):
        return load_recipe(file, [f"output_dir={folder / name}", *overrides]), folder / name

    yield make
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr("hf_crosstask.run.smoke_test.STEPS", 8)


@pytest.fixture(scope="module")
def fixed(recipe):
    """A run with the size that "auto" finds on any machine here: a whole step."""
    made, folder = recipe("fixed", "training.micro_batch_tokens=300")
    train(made)
    return folder


def weights(folder):
    files = [*sorted(folder.glob("adapters/**/*.safetensors")), folder / "feed.safetensors"]
    return [load_file(file) for file in files]


def same(one, other):
    return all(
        a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
        for a, b in zip(weights(one), weights(other), strict=True)
    )


def test_a_four_bit_run_goes_on_in_four_bits(recipe, monkeypatch):
    stopped, folder = recipe("auto4", "model.quantization=auto", "training.time_limit_minutes=0.0001")
    made, _ = recipe("auto4", "model.quantization=auto")
    monkeypatch.setattr("hf_crosstask.run.precision.resolve_quantization", lambda *_, **__: "nf4")  # a small device
    with pytest.raises(Interrupted):
        train(stopped)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match=r"computed in fp32, nf4, but here it would go on in fp32.*quantization"):
        train(made, resume=True)
    monkeypatch.setattr("hf_crosstask.run.precision.resolve_quantization", lambda *_, **__: "nf4")
    train(made, resume=True)
    assert read_result(folder).model["quantization"] == "nf4"


def test_the_size_is_found_kept_and_never_changed(recipe, fixed, capsys):
    limited, folder = recipe("auto", "training.micro_batch_tokens=auto", "training.time_limit_minutes=0.0001")
    with pytest.raises(Interrupted):
        train(limited, smoke_test=True)  # a smoke test leaves nothing behind either
    shown = capsys.readouterr()
    assert "smoke test passed: synthetic_ner" in shown.out
    assert "micro-batches of 300 tokens fit" in shown.err
    record = folder / "fitting.json"
    found = json.loads(record.read_text(encoding="utf-8"))
    assert found["micro_batch_tokens"] == 300
    made, _ = recipe("auto", "training.micro_batch_tokens=auto")

    kept = record.read_text(encoding="utf-8")
    record.write_text(json.dumps(found | {"micro_batch_tokens": 150}), encoding="utf-8")
    with pytest.raises(CheckpointError, match="belongs to another plan"):  # the record counts, not the device
        train(made, resume=True)
    record.write_text("{}", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"fitting\.json does not say which micro-batch size"):
        train(made, resume=True)
    record.write_text(kept, encoding="utf-8")

    train(made, resume=True)
    assert same(folder, fixed)
    result = read_result(folder)
    assert result.fitting["micro_batch_tokens"] == 300
    assert read_result(fixed).fitting is None
    relation = result.tasks["synthetic_relation"].tokens
    assert relation.extra_forward_tokens == relation.counted == result.tokens.extra_forward_tokens > 0
    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    assert plan["extra_forward_tokens"] == {"synthetic_relation": relation.counted}


def test_a_doomed_run_is_stopped_before_it_starts(recipe):
    doomed, folder = recipe("doomed", "training.learning_rate=50.0")
    with pytest.raises(InputError, match=r"smoke test failed: the loss .*Lower training.learning_rate \(50\)"):
        train(doomed, smoke_test=True)
    assert not folder.exists()


@pytest.mark.parametrize("value", ["0", '"large"', "400"])
def test_other_sizes_are_refused(recipe, value):
    with pytest.raises(InputError, match=r"training\.micro_batch_tokens"):
        recipe("wrong", f"training.micro_batch_tokens={value}")
