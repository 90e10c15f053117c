"""Tiny runs of tasks posed to a language model: from a user's JSON Lines files to `result.json` and plain PEFT."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hf_crosstask.encoding import encode_task
from hf_crosstask.encoding.prompts import PromptFormat
from hf_crosstask.evaluation.predictions import Predictions
from hf_crosstask.evaluation.result import RunResult, read_result
from hf_crosstask.evaluation.scoring import scoring_for
from hf_crosstask.recipe import load_recipe
from hf_crosstask.tasks.load import load_task

Train = Callable[..., Any]
Rows = list[dict[str, Any]]
DRUGS = ("aspirin", "codeine", "heparin", "insulin")
FILLERS = ("given", "daily", "patient", "noted", "ward", "visit", "stable", "review")


def sentence(rng: random.Random, *words: str) -> list[str]:
    """Some words among fillers, in any order."""
    chosen = [*words, *rng.sample(FILLERS, 3)]
    rng.shuffle(chosen)
    return chosen


def asked(rng: random.Random, count: int) -> Rows:
    """PubMedQA in small: does the context say so? It does, it denies it, or it says nothing of it."""
    rows = []
    for _ in range(count):
        answer, word = rng.choice((("yes", "helps"), ("no", "fails"), ("maybe", "perhaps")))
        rows.append({"text": "does it help", "text_pair": " ".join(sentence(rng, word)), "labels": answer})
    return rows


def drugs(rng: random.Random, count: int) -> Rows:
    """Up to two drugs among other words, as entities."""
    rows = []
    for _ in range(count):
        words = sentence(rng, *rng.sample(DRUGS, rng.choice((0, 1, 2))))
        text, entities = " ".join(words), []
        for word in (word for word in words if word in DRUGS):
            start = text.index(word)
            entities.append({"type": "Drug", "start": start, "end": start + len(word)})
        rows.append({"text": text, "entities": entities})
    return rows


def questions(rng: random.Random, count: int) -> Rows:
    """Two or three choices, of which one is a drug."""
    rows = []
    for _ in range(count):
        choices, answer = rng.sample(FILLERS, rng.choice((1, 2))), rng.choice(DRUGS)
        choices.insert(rng.randrange(len(choices) + 1), answer)
        rows.append({"text": "which is a drug", "choices": choices, "answer": answer})
    return rows


def advice(rng: random.Random, count: int) -> Rows:
    """The answer repeats the drug of the question."""
    rows = []
    for _ in range(count):
        drug = rng.choice(DRUGS)
        rows.append({"text": " ".join(sentence(rng, drug)), "answer": f"the patient takes {drug} daily"})
    return rows


TASKS: dict[str, tuple[Callable[[random.Random, int], Rows], dict[str, Any]]] = {
    "asked": (
        asked,
        {"type": "classification", "labels": ["yes", "no", "maybe"], "formulation": "generative"},
    ),
    "drugs": (drugs, {"type": "ner", "labels": ["Drug"], "formulation": "generative", "max_new_tokens": 24}),
    "questions": (questions, {"type": "multiple_choice", "formulation": "likelihood"}),
    "letters": (questions, {"type": "multiple_choice", "formulation": "generative"}),
    "advice": (advice, {"type": "generation", "max_new_tokens": 16}),
    "found": (drugs, {"type": "ner", "labels": ["Drug"]}),
}


def recipe(folder: Path, names: list[str], **sections: Any) -> Path:
    """A recipe of these tasks on their own files."""
    tasks = []
    for name in names:
        maker, spec = TASKS[name]
        (folder / name).mkdir()
        for seed, (split, size) in enumerate({"train": 96, "validation": 12, "test": 16}.items()):
            lines = [json.dumps(row) + "\n" for row in maker(random.Random(seed), size)]
            (folder / name / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
        tasks.append({"name": name, "reader": "jsonl", "path": name, **spec})
    content: dict[str, Any] = {
        "name": "generative",
        "tasks": tasks,
        "model": {"name_or_path": "tiny:llama", "max_length": 160, "adapter": {"r": 8}},
        "strategy": {"name": "S1" if len(tasks) == 1 else "S2"},
        "budget": {"steps": 10},
        "training": {
            "tokens_per_step": 2048,
            "learning_rate": 2e-3,
            "save_steps": 0.5,
            "use_cpu": True,
            "disable_tqdm": True,
        },
        "audit": {"policy": "allow"},
        "evaluation": {"bootstrap_replicates": 100},
        "data_dir": str(folder),
        "output_dir": str(folder / "run"),
    }
    for section, values in sections.items():
        content[section] = content[section] | values
    path = folder / "recipe.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def checked(folder: Path) -> RunResult:
    """A finished run's result; what its prediction files score is what the result says."""
    result = read_result(folder / "run")
    for name, task in result.tasks.items():
        predictions = Predictions.from_parquet(folder / "run" / "predictions" / f"{name}.parquet")
        scored = scoring_for(predictions.target).score(predictions)
        assert scored == pytest.approx({metric: value.value for metric, value in task.metrics.values.items()})
        assert len(predictions) == 16
        assert task.tokens.supervised > 0
    assert result.tokens.counted == result.tokens.planned > 0
    return result


def test_every_form_trains_together_and_reports_its_parse_failures(train: Train, tmp_path: Path) -> None:
    names = ["asked", "drugs", "questions", "letters", "advice", "found"]
    evaluates = {"eval_strategy": "steps", "eval_steps": 5}
    done = train(recipe(tmp_path, names, training=evaluates))
    assert done.code == 0, done.err
    result = checked(tmp_path)
    values = {name: task.metrics.values for name, task in result.tasks.items()}
    assert {name for name in names if "parse_failure_rate" in values[name]} == {"asked", "drugs", "letters", "advice"}
    assert values["asked"].keys() == {"accuracy", "macro_f1", "micro_f1", "parse_failure_rate"}
    assert {"entity_f1", "entity_precision", "entity_recall"} < values["drugs"].keys()
    assert values["questions"].keys() == {"accuracy"}
    assert {"rouge_1", "rouge_2", "rouge_l", "bleu", "perplexity"} < values["advice"].keys()
    assert 1 < values["advice"]["perplexity"].value < 2000
    assert result.tasks["advice"].metrics.majority == 0
    assert result.parameters.heads == 0 + 3 * 128 + 3  # of `found` alone

    # Checkpoints hold what trains, and no weight twice.
    from safetensors.torch import load_file

    [*_, last] = sorted((tmp_path / "run").glob("checkpoint-*"))
    saved = load_file(last / "trained.safetensors")
    assert sum(value.numel() for value in saved.values()) == result.parameters.trainable
    assert not any("lm_head" in name or "embed" in name for name in saved)


def test_answers_are_learned_and_plain_peft_gives_the_same(train: Train, tmp_path: Path) -> None:
    import torch
    from peft import PeftConfig, PeftModel
    from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

    path = recipe(tmp_path, ["asked"], budget={"steps": 40}, model={"adapter": None}, training={"learning_rate": 3e-3})
    done = train(path)
    assert done.code == 0, done.err
    metrics = checked(tmp_path).tasks["asked"].metrics
    assert metrics.values["accuracy"].value > metrics.majority + 0.2
    assert metrics.values["parse_failure_rate"].value == 0
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "model")  # full fine-tuning: the whole model
    assert whole.lm_head.weight.requires_grad

    done = train(path, "budget.steps=8", 'model.adapter={"r": 8}', f"output_dir={tmp_path / 'lora'}")
    assert done.code == 0, done.err
    shared = tmp_path / "lora" / "adapters" / "shared"
    base = PeftConfig.from_pretrained(shared).base_model_name_or_path
    PeftModel.from_pretrained(AutoModel.from_pretrained(base), shared)
    folder = tmp_path / "lora" / "adapters" / "asked"
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    settings = load_recipe(tmp_path / "lora" / "recipe.json")
    data = load_task(settings.tasks[0], data_dir=tmp_path)
    rows = encode_task(data.splits["test"], data.card, tokenizer, max_length=160, causal=True).dataset
    recorded = Predictions.from_parquet(tmp_path / "lora" / "predictions" / "asked.parquet").answers
    assert recorded is not None
    stop = PromptFormat.of(tokenizer).stop
    for row, answer in zip(rows, recorded, strict=True):
        prompt = torch.tensor([row["prompt_ids"]])
        with torch.no_grad():
            ids = model.generate(input_ids=prompt, max_new_tokens=4, do_sample=False, eos_token_id=stop)
            logits = model(input_ids=torch.tensor([row["input_ids"]])).logits[0, :-1]
        words = tokenizer.decode(ids[0, prompt.shape[1] :], skip_special_tokens=True).strip()
        assert answer.text.startswith(words)
        targets = torch.tensor(row["labels"][1:])
        loss = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")  # ignores -100
        assert answer.log_likelihood == pytest.approx(-loss.item(), abs=1e-3)
        assert answer.tokens == int((targets != -100).sum())


def test_choices_are_learned_by_their_likelihood(train: Train, tmp_path: Path) -> None:
    done = train(recipe(tmp_path, ["questions"], budget={"steps": 40}, model={"adapter": None}))
    assert done.code == 0, done.err
    metrics = checked(tmp_path).tasks["questions"].metrics
    assert metrics.values["accuracy"].value > max(0.8, metrics.majority)


def test_forms_that_cannot_be_are_refused_with_a_remedy(train: Train, tmp_path: Path) -> None:
    path = recipe(tmp_path, ["asked"])
    done = train(path, "model.name_or_path=tiny:bert")
    assert done.code == 2
    assert "needs a decoder" in done.err
    for spec, why in [
        ({"type": "generation", "formulation": "head"}, "always generative"),
        ({"type": "classification", "labels": ["a", "b"], "formulation": "likelihood"}, "multiple_choice"),
        ({"type": "ranking", "formulation": "generative"}, "rank candidates"),
        ({"type": "multilabel", "labels": ["none", "b"], "formulation": "generative"}, "without labels"),
    ]:
        task = json.dumps([{"name": "mine", "reader": "jsonl", "path": "asked", **spec}])
        done = train(path, f"tasks={task}")
        assert done.code == 2
        assert why in done.err


def test_medqa_by_likelihood_and_pubmedqa_generative_on_the_real_files(
    train: Train, tmp_path: Path, shared_data: Path
) -> None:
    sample = shared_data / "medqa_medmcqa_samples" / "medqa_us_test_sample40.jsonl"
    lines = sample.read_text(encoding="utf-8").splitlines(keepends=True)
    parts = {"train": lines[:24], "validation": lines[24:30], "test": lines[30:]}
    for split, part in parts.items():
        (tmp_path / f"{split}.jsonl").write_text("".join(part), encoding="utf-8")
    files = {split: str(tmp_path / f"{split}.jsonl") for split in parts}
    few = {"max_examples": {"train": 24, "validation": 4, "test": 8}}
    tasks = [
        {"name": "pubmedqa", "formulation": "generative", **few},
        {"name": "medqa", "formulation": "likelihood", "path": files},
    ]
    path = recipe(tmp_path, ["asked"], budget={"steps": 3}, model={"max_length": 256})
    done = train(path, f"tasks={json.dumps(tasks)}", f"data_dir={shared_data}", "strategy.name=S2")
    assert done.code == 0, done.err
    result = read_result(tmp_path / "run")
    assert "parse_failure_rate" in result.tasks["pubmedqa"].metrics.values
    assert "accuracy" in result.tasks["medqa"].metrics.values
