"""Arms of a study see the same rows of a task, through the same tokenizer; what is matched is planned exactly."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from hf_crosstask.errors import InputError, MatchError
from hf_crosstask.evaluation.result import RunResult, read_result, write_result
from hf_crosstask.models.precision import Precision
from hf_crosstask.planning.stored import write_plan
from hf_crosstask.recipe import Recipe
from hf_crosstask.run.flops import flop_counts
from hf_crosstask.run.prepare import Prepared, prepare
from hf_crosstask.run.train import build_trainer

SIZES = {"train": 60, "validation": 4, "test": 4}
NER = {"name": "synthetic_ner", "options": SIZES}
#: Of two tasks, of which one uses less than all.
PARAMETERS = {
    "total": 900_000, "trainable": 60_000, "heads": 45_000, "per_adapter": {"shared": 15_000},
    "active": {"synthetic_ner": 20_000, "bees": 55_000},
}  # fmt: skip
OWN = {"name": "bees", "type": "classification", "reader": "jsonl", "labels": ["yes", "no"]}


def recipe(tasks: list[Any], **more: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "r",
            "tasks": tasks,
            "model": {"name_or_path": "tiny:bert", "max_length": 64, "stride": 8, "adapter": {"r": 4}},
            "strategy": {"name": "S2" if len(tasks) > 1 else "S1"},
            "budget": {"epochs": 2},
            "training": {"tokens_per_step": 400, "seed": 1},
            "audit": {"policy": "purge"},
            **more,
        }
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A task whose training split holds two test sentences of the other task."""
    from hf_crosstask.tasks.card import TaskSpec
    from hf_crosstask.tasks.load import load_task

    folder = tmp_path_factory.mktemp("data") / "bees"
    folder.mkdir()
    leaked = load_task(TaskSpec.model_validate(NER), data_dir=None).splits["test"]["text"][:2]
    texts = {
        "train": [*(f"the bee number {n} flew to flower number {n * 7} at noon" for n in range(30)), *leaked],
        "validation": ["some bees never fly at all in autumn or winter", "others do fly"],
        "test": ["a queen lays up to two thousand eggs on one day", "drones do not"],
    }
    for split, lines in texts.items():
        rows = [
            {"id": f"{split}{n}", "split_group": f"{split}{n}", "text": text, "labels": ["no" if n % 2 else "yes"]}
            for n, text in enumerate(lines)
        ]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def multi(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Prepared, Path]:
    """The multi-task arm, prepared, and the folder of its (invented) result."""
    folder = tmp_path_factory.mktemp("multi")
    prepared = prepare(recipe([NER, {**OWN, "path": str(data)}]), base_models=folder / "models")
    plan = prepared.plan
    write_plan(folder / "plan.npz", plan)
    tasks = {
        task: {
            "type": each.card.type, "examples": {},
            "tokens": {
                "planned": plan.tokens_by_task[task], "counted": plan.tokens_by_task[task], "padded": 1,
                "supervised": 1, "unique": int(plan.lengths[task].sum()),
            },
            "epochs": 2.0,
            "metrics": {"primary": "m", "values": {"m": {"value": 0.5}}, "majority": 0.0},
        }
        for task, each in prepared.data.items()
    }  # fmt: skip
    total = plan.total_tokens
    result = {
        "experiment_id": "x", "status": "finished", "strategy": "S2", "seed": 1,
        "fingerprints": {"recipe": "r", "data": "d", "plan": plan.fingerprint},
        "tokens": {"planned": total, "counted": total, "padded": total}, "match": None, "tasks": tasks,
        "parameters": PARAMETERS,
        "flops": flop_counts(prepared.flops, plan, plan.num_steps).model_dump(),
        "train": {
            "steps": plan.num_steps, "runtime_s": 1.0, "loss": 1.0, "tokens_per_s": 1.0, "peak_memory_bytes": 0,
            "stopped": None,
        },
        "environment": {"versions": {}, "hardware": "", "processes": 1, "git_commit": None},
    }  # fmt: skip
    write_result(folder, RunResult.model_validate(result))
    return prepared, folder


def matched(task: Any, other: Any, folder: Path, mode: str, **more: Any) -> Prepared:
    keys = {"equal_parameters": more.pop("equal_parameters")} if "equal_parameters" in more else {}
    changed = recipe(
        [task],
        budget={"match": {"run": str(folder), "mode": mode, **keys}},
        audit={"policy": "purge", "against": [other]},
        **more,
    )
    return prepare(changed, base_models=folder / "models")


def test_a_task_has_the_same_rows_and_tokenizer_alone_and_together(multi, data):
    together, folder = multi
    alone = matched({**OWN, "path": str(data)}, NER, folder, "target_tokens")
    assert len(alone.data["bees"].splits["train"]) == 30
    assert alone.data["bees"].splits["train"]["id"][:] == together.data["bees"].splits["train"]["id"][:]
    assert alone.data["bees"].fingerprint == together.data["bees"].fingerprint
    assert alone.source.name_or_path == together.source.name_or_path
    assert list(alone.data) == ["bees"]
    assert alone.plan.tokens_by_task["bees"] == together.plan.tokens_by_task["bees"]
    seen = [
        [
            batch.examples.tolist()
            for step in range(plan.num_steps)
            for batch in plan.step(step)
            if batch.task == "bees"
        ]
        for plan in (alone.plan, together.plan)
    ]
    assert seen[0] == seen[1]


def test_without_the_audit_the_rows_differ_and_matching_them_is_refused(multi, data):
    _, folder = multi
    own = {**OWN, "path": str(data)}
    with pytest.raises(MatchError, match="it saw other examples of bees than this run has"):
        prepare(
            recipe([own], budget={"match": {"run": str(folder), "mode": "target_tokens"}}, audit=None),
            base_models=folder / "models",
        )


def test_updates_and_shares_of_the_tokens(multi, data):
    together, folder = multi
    own = {**OWN, "path": str(data)}
    assert matched(NER, own, folder, "updates").plan.num_steps == together.plan.num_steps
    assert matched(NER, own, folder, "total_tokens").plan.total_tokens == together.plan.total_tokens
    half = recipe(
        [NER],
        budget={"match": {"run": str(folder), "fraction": 0.5}},
        audit={"policy": "purge", "against": [own]},
    )
    assert prepare(half, base_models=folder / "models").plan.target_tokens == round(together.plan.total_tokens / 2)


@pytest.mark.parametrize("task", ["synthetic_ner", "bees"])
def test_flops_are_matched_within_an_example(multi, data, task):
    together, folder = multi
    both = {"synthetic_ner": NER, "bees": {**OWN, "path": str(data)}}
    other = next(each for name, each in both.items() if name != task)
    alone = matched(both[task], other, folder, "flops")
    wanted = sum(together.flops.by_task(together.plan).values())
    reached = sum(alone.flops.by_task(alone.plan).values())
    assert alone.reference.target([task]) == wanted
    assert abs(reached - wanted) <= alone.flops.largest_example(alone.plan)
    assert alone.flops.largest_example(alone.plan) < 0.03 * wanted
    assert matched(both[task], other, folder, "flops").plan.fingerprint == alone.plan.fingerprint
    # A classifier's head is paid once a sentence, a tagger's at every word: as many FLOPs are not as many tokens.
    tokens = alone.plan.total_tokens - together.plan.total_tokens
    assert tokens != 0
    bigger = {"name_or_path": "tiny:bert", "max_length": 64, "stride": 8, "adapter": {"r": 64}}
    assert matched(both[task], other, folder, "flops", model=bigger).plan.total_tokens < alone.plan.total_tokens


@pytest.mark.parametrize(("kind", "target"), [("total", 60_000), ("active", 20_000)])
def test_parameters_and_tokens_are_matched(multi, data, kind, target, capsys):
    together, folder = multi
    own = {**OWN, "path": str(data)}
    keys = {} if kind == "total" else {"equal_parameters": "active"}
    alone = matched(NER, own, folder, "parameters", **keys)
    assert alone.plan.total_tokens == together.plan.total_tokens
    found = alone.matched_adapter
    assert (found.match.matched, found.match.target) == (kind, target)
    model = build_trainer(alone, Precision("fp32", torch.float32), {"output_dir": str(folder), "use_cpu": True}).model
    assert model.parameter_counts()["trainable"] == found.match.reached
    assert abs(found.match.reached / target - 1) <= 0.01
    assert found.lora.scaling == 32 / 4
    assert f"matched to the {target:,} {kind} of the reference" in found.describe()
    assert ("60,000" if kind == "active" else "20,000") in found.describe()


def rewritten(folder: Path, place: Path, **changes: Any) -> Path:
    """The reference's folder with another result."""
    shutil.copytree(folder, place)
    result = read_result(folder).model_dump()
    parameters = {**PARAMETERS, **changes.pop("parameters", {})}
    write_result(place, RunResult.model_validate({**result, "parameters": parameters, **changes}))
    return place


@pytest.mark.parametrize(
    ("mode", "changes", "said"),
    [
        ({"mode": "flops"}, {"flops": None}, "cannot match the FLOPs of .* its result.json has none"),
        (
            {"mode": "parameters"},
            {"parameters": {"trainable": 2_000}},
            r"2,000 total trainable parameters .* of rank 1, and the head of synthetic_ner have 4,229 \(\+111.5%\)",
        ),
        ({"mode": "parameters"}, {"parameters": {"trainable": 10**7}}, "an adapter of rank .* are only 128 wide"),
        (
            {"mode": "parameters", "equal_parameters": "active"},
            {"parameters": {"active": {}}},
            "the active parameters of .* it is of an earlier version",
        ),
    ],
)
def test_what_cannot_be_matched_says_why_before_training(multi, data, tmp_path, mode, changes, said):
    place = rewritten(multi[1], tmp_path / "run", **changes)
    budget = {"match": {"run": str(place), **mode}}
    with pytest.raises(MatchError, match=said):
        prepare(
            recipe([NER], budget=budget, audit={"policy": "purge", "against": [{**OWN, "path": str(data)}]}),
            base_models=place / "models",
        )


def test_distinct_tokens_are_matched_by_sampling_examples(multi, data):
    together, folder = multi
    reference = together.plan.tokens_per_pass
    bigger = [{**NER, "options": {**SIZES, "train": 300}}, {**OWN, "path": str(data)}]
    sampled = prepare(
        recipe(
            bigger,
            budget={"match": {"run": str(folder), "mode": "unique_tokens"}},
            mixing={"sampling": "explicit", "weights": {"synthetic_ner": 0.9, "bees": 0.1}, "unit": "tokens"},
        ),
        base_models=folder / "models",
    )
    assert 0 <= reference - sampled.plan.tokens_per_pass <= 8
    assert len(sampled.plan.lengths["synthetic_ner"]) < 300
    assert 0 <= together.plan.total_tokens - sampled.plan.total_tokens <= 8  # less than an example
    with pytest.raises(InputError, match="the mixing gives bees"):
        prepare(
            recipe(
                bigger,
                budget={"match": {"run": str(folder), "mode": "unique_tokens"}},
                mixing={"sampling": "explicit", "weights": {"synthetic_ner": 0.1, "bees": 0.9}, "unit": "tokens"},
            ),
            base_models=folder / "models",
        )


def test_permuted_labels_leave_the_plan_as_it_is(multi, data):
    together, folder = multi
    placebo = prepare(
        recipe([NER, {**OWN, "path": str(data)}], placebos={"synthetic_ner": "permuted_labels"}),
        base_models=folder / "models",
    )
    assert placebo.plan.fingerprint == together.plan.fingerprint
    assert placebo.data["bees"].fingerprint == together.data["bees"].fingerprint
    assert placebo.data["synthetic_ner"].fingerprint != together.data["synthetic_ner"].fingerprint
    assert placebo.recipe.fingerprint() != together.recipe.fingerprint()
