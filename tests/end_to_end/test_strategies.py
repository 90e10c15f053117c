"""Strategies with several adapters through the whole run; `strategies.py` beside this kills and resumes them all."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from launching import RECIPES, SMALL
from safetensors.torch import load_file
from strategies import arguments, plain_peft_difference

from hf_crosstask.evaluation import Predictions, read_result

#: Phi-3-mini-4k's own configuration (without weights, which a plan does not need).
PHI3_MINI = {
    "architectures": ["Phi3ForCausalLM"],
    "model_type": "phi3",
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "vocab_size": 32064,
    "max_position_embeddings": 4096,
    "original_max_position_embeddings": 4096,
    "pad_token_id": 32000,
    "bos_token_id": 1,
    "eos_token_id": 32000,
}


def test_a_dry_run_shows_the_arms_on_phi3_mini_equal_within_a_percent(tmp_path: Path, train) -> None:
    from hf_crosstask.models.tiny_tokenizer import train_tokenizer

    train_tokenizer("phi3", ["fever and bleeding after aspirin", "no drug was given"]).save_pretrained(
        tmp_path / "phi3"
    )
    (tmp_path / "phi3" / "config.json").write_text(json.dumps(PHI3_MINI), encoding="utf-8")
    small = next(each for each in SMALL if each.startswith("tasks="))
    done = train(
        RECIPES / "a4_phi3.json", f"model.name_or_path={tmp_path / 'phi3'}", small, 'budget={"steps": 1}', "--dry-run"
    )
    assert done.code == 0, done.err
    assert "of the 25,165,824" in done.out or "25,165,824 of one" in done.out
    rows = re.findall(r"^\| (A\d)(?: \(this run\))? .*\| *([\d.]+)% \|.*%", done.out, flags=re.MULTILINE)
    assert [arm for arm, _ in rows] == ["A1", "A2", "A3", "A4"]
    assert all(abs(float(share) - 100) <= 1 for _, share in rows)


def test_a_rank_too_small_for_the_arms_is_an_error(train) -> None:
    done = train(RECIPES / "a2_phi3.json", *arguments("a2", "bert"), "model.adapter.r=2")
    assert done.code == 2
    assert re.search(r"A2 with model.adapter.r 2: .* would do", done.err)


@pytest.mark.parametrize(("strategy", "family"), [("a4", "bert")])
def test_the_best_of_several_adapters_is_restored_exported_and_loaded(
    strategy: str, family: str, tmp_path: Path, train
) -> None:
    run_dir = tmp_path / "run"
    best = ['training.eval_strategy="steps"', "training.eval_steps=2", "training.load_best_model_at_end=true"]
    # The loss falls: by "greater is better" the first evaluation is the best.
    best += [
        'training.metric_for_best_model="loss"',
        "training.greater_is_better=true",
        "training.save_total_limit=null",
    ]
    done = train(RECIPES / "s2_phi3.json", *arguments(strategy, family), *best, f"output_dir={run_dir}")
    assert done.code == 0, done.err
    kept, last = (load_file(run_dir / f"checkpoint-{step}" / "trained.safetensors") for step in (2, 8))
    adapters = {path.parent.name: path for path in run_dir.glob("adapters/*/adapter_model.safetensors")}
    for name in ("shared", "private_synthetic_ner", "private_synthetic_relation", "private_synthetic_classification"):
        saved = load_file(adapters[name])
        for path, value in saved.items():
            trained = f"backbone.{path}".replace("lora_A.", f"lora_A.{name}.").replace("lora_B.", f"lora_B.{name}.")
            assert value.equal(kept[trained])
            assert not value.equal(last[trained])
    weights = load_file(run_dir / "adapters" / "fusion.safetensors")
    assert all(value.equal(kept[f"fusion.{name}"]) for name, value in weights.items())
    result = read_result(run_dir)
    assert result.parameters.fusion == sum(value.numel() for value in weights.values())
    difference = plain_peft_difference(run_dir)
    assert set(difference) == (set() if strategy == "s3a_attention" else set(result.tasks))
    assert all(value <= 1e-5 for value in difference.values())
    assert (
        _predicted_again(run_dir)
        == Predictions.from_parquet(run_dir / "predictions" / "synthetic_classification.parquet").predicted
    )


def _predicted_again(run_dir: Path) -> tuple[str, ...]:
    """What the run's model, loaded, says of the test split."""
    import torch

    from hf_crosstask import load_run
    from hf_crosstask.tasks.load import load_task

    loaded = load_run(run_dir)
    spec = next(spec for spec in loaded.recipe.tasks if spec.name == "synthetic_classification")
    data = load_task(spec, data_dir=None)
    found = []
    with torch.no_grad():
        for text in data.splits["test"]["text"][:]:
            inputs = loaded.tokenizer(text, return_tensors="pt")
            logits = loaded.model(task=spec.name, **inputs).logits
            found.append(data.card.labels[int(logits.argmax())])
    return tuple(found)
