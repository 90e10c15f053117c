"""The verb `audit`: tables, JSON, and an exit code that is training's own decision."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hf_crosstask import cli
from hf_crosstask.tasks.audit import AuditReport, LeakageError

LEAK = "The grey horse drank all of the honey water before anybody at the mill had woken up."
OTHERS = [
    "Nobody sold a single jar of honey in the winter of the long frost.",
    "A swarm settled on the church door and the service was held outside.",
    "The miller's daughter keeps her bees behind the old windmill on the hill.",
    "Every spring the hives are carried across the river to the clover fields.",
]
TITLES = (
    "Audited splits",
    "Evaluation examples found in another task's training split",
    "Evaluation examples found in their own task's training split",
)
Recipe = Callable[..., str]


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    """Writes a recipe of classification tasks: task to split to texts; returns its file."""

    def write(texts: dict[str, dict[str, list[str]]], **keys: Any) -> str:
        tasks = []
        for task, splits in texts.items():
            for split, rows in splits.items():
                file = tmp_path / task / f"{split}.csv"
                file.parent.mkdir(exist_ok=True)
                with file.open("w", newline="") as handle:
                    csv.writer(handle).writerows(
                        [("text", "label"), *((text, "ab"[number % 2]) for number, text in enumerate(rows))]
                    )
            tasks.append(
                {"name": task, "type": "classification", "reader": "csv", "path": task, "labels": ["a", "b"]}
                | {"columns": {"text": "text", "labels": "label"}}
            )
        value = {
            "name": "toy",
            "tasks": tasks,
            "model": {"name_or_path": "tiny:bert"},
            "strategy": {"name": "S2" if len(tasks) > 1 else "S1"},
            "budget": {"epochs": 1},
            "data_dir": str(tmp_path),
        }
        file = tmp_path / "recipe.json"
        file.write_text(json.dumps(value | keys))
        return str(file)

    return write


CLEAN = {
    "bees": {"train": OTHERS[:2], "test": [LEAK]},
    "hives": {"train": OTHERS[2:], "test": [LEAK.replace("horse", "mare") + " Twice."]},
}
BETWEEN = {"bees": {"train": [LEAK, *OTHERS[:2]], "test": OTHERS[3:]}, "hives": {"train": OTHERS[1:3], "test": [LEAK]}}
WITHIN = {"bees": {"train": [LEAK, *OTHERS[:2]], "test": [LEAK]}}


def leaks(file: Path) -> list[tuple[str, str, int]]:
    report = AuditReport.model_validate_json(file.read_text())
    return [
        (pair.train_task, f"{pair.evaluation_task}/{pair.evaluation_split}", pair.leak.evaluation_examples)
        for pair in report.leaks()
        if pair.leak
    ]


def test_clean_data(recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "out" / "audit.json"
    assert cli.main(["audit", recipe(CLEAN), "--json", str(target)]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    for title in TITLES:
        assert any(line.startswith(title) for line in shown.out.splitlines()), title
    assert "\x1b" not in shown.out
    assert shown.out.splitlines()[-1] == "no leaks"
    assert leaks(target) == []
    assert list(target.parent.iterdir()) == [target]


def test_a_leak_is_an_error_by_default_and_still_reported(
    recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "audit.json"
    assert cli.main(["audit", recipe(BETWEEN), "--json", str(target)]) == 2
    shown = capsys.readouterr()
    for title in TITLES:
        assert title in shown.out
    assert shown.err.startswith("error: evaluation examples are in training data")
    assert "audit.policy=purge: drop the training examples that leak (bees 1 of 3)" in shown.err
    assert leaks(target) == [("bees", "hives/test", 1)]
    assert "train_rows" not in target.read_text()


@pytest.mark.parametrize(
    ("policy", "outcome"),
    [
        ("purge", "the recipe's policy drops training examples that leak: bees 1 of 3"),
        ("allow", "the recipe's policy allows these leaks"),
    ],
)
def test_a_policy_that_deals_with_leaks_is_satisfied(
    recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str], policy: str, outcome: str
) -> None:
    target = tmp_path / "audit.json"
    assert cli.main(["audit", recipe(BETWEEN), f"audit.policy={policy}", "--json", str(target)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == outcome
    assert leaks(target) == [("bees", "hives/test", 1)]  # the report is of the data as they came


def test_a_single_task_is_shown_and_stops_only_where_the_recipe_says_so(
    recipe: Recipe, capsys: pytest.CaptureFixture[str]
) -> None:
    file = recipe(WITHIN)
    assert cli.main(["audit", file]) == 0
    shown = capsys.readouterr().out
    assert "bees/test" in shown
    assert "training would not stop on these leaks" in shown.splitlines()[-1]
    assert cli.main(["audit", file, "audit.policy=error"]) == 2


@pytest.mark.parametrize("texts", [CLEAN, BETWEEN, WITHIN], ids=["clean", "between", "within"])
@pytest.mark.parametrize("audit", ["null", '{"policy": "error"}', '{"within_task": "allow"}', '{"policy": "purge"}'])
def test_the_exit_code_is_what_training_decides(recipe: Recipe, texts: Any, audit: str) -> None:
    from hf_crosstask.recipe import load_recipe
    from hf_crosstask.run.prepare import audit_data
    from hf_crosstask.tasks.load import load_task

    file, override = recipe(texts), f"audit={audit}"
    loaded = load_recipe(file, [override])
    data = {spec.name: load_task(spec, data_dir=Path(str(loaded.data_dir))) for spec in loaded.tasks}
    try:
        audit_data(loaded, data)
        expected = 0
    except LeakageError:
        expected = 2
    assert cli.main(["audit", file, override]) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--json", "{folder}"], "--json {folder} is a folder"),
        (["--json", "{file}/audit.json"], "cannot write {file}/audit.json"),
        (["audit.policy=purg"], "audit.policy"),
        (["data_dir=/no/such/folder"], "Check `path` and `data_dir`"),
    ],
)
def test_wrong_input_is_one_message(
    recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    file = recipe(CLEAN)
    places = {"folder": str(tmp_path), "file": file}
    assert cli.main(["audit", file, *(argument.format(**places) for argument in arguments)]) == 2
    assert message.format(**places) in capsys.readouterr().err


def test_the_audit_needs_no_torch(recipe: Recipe) -> None:
    code = (
        "import sys; from hf_crosstask import cli; cli.main(sys.argv[1:])\n"
        "print([name for name in ('torch', 'peft') if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, "audit", recipe(CLEAN)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_jnlpba_leaks_ten_abstracts(shared_data: Path, tmp_path: Path, recipe: Recipe) -> None:
    file = recipe(CLEAN, tasks=["jnlpba"], strategy={"name": "S1"}, data_dir=str(shared_data))
    target = tmp_path / "audit.json"
    assert cli.main(["audit", file, "audit.policy=error", "--json", str(target)]) == 2
    report = AuditReport.model_validate_json(target.read_text())
    (pair,) = [pair for pair in report.leaks() if pair.evaluation_split == "test"]
    assert pair.overlaps["document"].evaluation_documents == 10  # measured independently: data.md, section 11


def test_a_clean_single_task_says_that_training_would_not_have_looked(
    recipe: Recipe, capsys: pytest.CaptureFixture[str]
) -> None:
    clean = {"bees": CLEAN["bees"]}
    assert cli.main(["audit", recipe(clean)]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("Audited splits")
    assert shown[-1] == "no leaks; training would not have looked: the recipe has one task and sets no audit"
    assert cli.main(["audit", recipe(clean, audit={"policy": "error"})]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "no leaks"
