"""What is tampered with, missing or unequal is refused by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fabricated import STUDY, finish, write_study

from hf_crosstask import cli
from hf_crosstask.atomic import json_fingerprint
from hf_crosstask.report.collect import collect
from hf_crosstask.report.run_sections import provenance_section
from hf_crosstask.report.verdict_sections import token_control_section
from hf_crosstask.study.assess import assess
from hf_crosstask.study.command import open_study
from hf_crosstask.study.expand import PlannedRun
from hf_crosstask.study.schema import Study
from hf_crosstask.study.store import Store


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    _, store = open_study(write_study(folder))
    for run in store.runs:
        finish(run, store.output_dir)
    return folder


@pytest.fixture
def opened(original: Path, tmp_path: Path) -> tuple[Study, Store]:
    shutil.copytree(original / "out", tmp_path / "out")
    return open_study(write_study(tmp_path))


def rewrite(folder: Path, change: Callable[[dict[str, Any]], None], *, sign: bool = False) -> None:
    """Change a result; `sign` puts the checksum right again, as a careful forger would."""
    path = folder / "result.json"
    content = json.loads(path.read_text())
    change(content)
    if sign:
        del content["checksum"]
        content["checksum"] = json_fingerprint(content)
    path.write_text(json.dumps(content))


def controlled(store: Store) -> PlannedRun:
    return next(run for run in store.runs if run.recipe.strategy.name == "S1_token_controlled")


def test_a_sound_study_has_no_problems_and_a_tidy_table(opened):
    study, store = opened
    assert store.problems() == []
    table = store.table()
    assert len(table) == 12
    assert set(table["arm"]) == {"S1", "S2", "S1_token_controlled"}
    assert table.loc[table["match"].notna(), "match_difference"].abs().max() <= 30
    assert store.write_table().name == "results.parquet"
    (assessed,) = assess(study, store)
    assert all(verdict.category != "no_verdict" for verdict in assessed.verdict.tasks)
    assert all(verdict.controls[0].parity for verdict in assessed.verdict.tasks)


TEXT = {"strategy": "S2", "placebo": "text", "match": {"arm": "S2"}}


def test_a_text_placebo_is_a_control_that_rules_text_out(tmp_path, capsys):
    folder = write_study(tmp_path, arms={**STUDY["arms"], "text": TEXT}, seeds=[1, 2, 3])
    study, store = open_study(folder)
    for run in store.runs:
        finish(run, store.output_dir)
    study, store = open_study(folder)
    assert store.problems() == []
    (assessed,) = assess(study, store)
    for task, verdict in zip(("bees", "wasps"), assessed.verdict.tasks, strict=True):
        assert verdict.task == task
        assert verdict.category == "transfer"
        control = verdict.controls[1]
        assert (control.arm, control.mode, control.survived) == ("text", "text_placebo", True)
        assert control.rules_out == "exposure to in-domain text"
        assert "more training tokens and exposure to in-domain text" in verdict.sentence
        assert "exposure to in-domain text" not in verdict.not_ruled_out
        assert [(proof.difference, proof.holds) for proof in control.parity] == [(0, True)] * 3
    rows = store.table()
    assert set(rows.loc[rows["arm"] == "text", "target"]) == {"bees", "wasps"}
    assert all(rows.loc[rows["arm"] == "text", "task"] == rows.loc[rows["arm"] == "text", "target"])
    assert cli.main(["validate", str(folder)]) == 0
    data = collect(study, store)
    (controls, *_), (runs,) = (section(data).content.tables for section in (token_control_section, provenance_section))
    assert ["bees", "text", "text_placebo", "exposure to in-domain text"] in [row[:4] for row in controls.rows]
    assert "bees, wasps (text only)" in [row[1] for row in runs.rows]


def other_score(content: dict[str, Any]) -> None:
    for task in content["tasks"].values():
        task["metrics"]["values"]["accuracy"]["value"] = 0.99


def one_token_more(content: dict[str, Any]) -> None:
    content["tokens"]["counted"] += 1
    next(iter(content["tasks"].values()))["tokens"]["counted"] += 1


def far_from_its_reference(content: dict[str, Any]) -> None:
    content["match"]["difference"] = -500


def fewer_tokens(content: dict[str, Any]) -> None:
    for row in (content["tokens"], *(task["tokens"] for task in content["tasks"].values())):
        row["planned"] = row["counted"] = row["counted"] // 2


@pytest.mark.parametrize(
    ("damage", "kind", "text"),
    [
        (lambda folder: shutil.rmtree(folder), "missing", "there is no"),
        (lambda folder: (folder / "result.json").unlink(), "unfinished", "it started, but has no result"),
        (lambda folder: rewrite(folder, other_score), "tampered", "its checksum does not fit"),
        (lambda folder: rewrite(folder, one_token_more, sign=True), "unequal tokens", "tokens but counted"),
        (lambda folder: rewrite(folder, fewer_tokens, sign=True), "tampered", "not those of its plan"),
        (lambda folder: rewrite(folder, far_from_its_reference, sign=True), "unequal tokens", "more than one example"),
        (
            lambda folder: rewrite(folder, lambda content: content.update(status="stopped")),
            "unfinished",
            "not finished",
        ),
        (lambda folder: (folder / "result.json").write_text("{"), "tampered", "is not JSON"),
        (lambda folder: (folder / "plan.npz").write_bytes(b"x"), "tampered", "plan.npz was edited"),
        (lambda folder: next(folder.glob("predictions/*")).unlink(), "tampered", "is missing"),
    ],
)
def test_damage_is_found_by_name(opened, damage, kind, text, capsys, tmp_path):
    study, store = opened
    run = controlled(store)
    damage(store.folder(run))
    (problem,) = {(each.run, each.kind): each for each in store.problems()}.values()
    assert (problem.run, problem.kind) == (run.label, kind)
    assert text in problem.text
    (assessed,) = assess(study, store)
    bees = assessed.verdict.tasks[0]
    assert bees.category == "no_verdict"
    assert any(run.id in reason for reason in bees.reasons)
    assert assessed.verdict.tasks[1].category != "no_verdict"
    assert cli.main(["validate", str(tmp_path / "study.json")]) == 1
    assert run.label in capsys.readouterr().out


def test_a_forged_score_is_found_by_its_predictions(opened):
    study, store = opened
    run = controlled(store)
    rewrite(store.folder(run), other_score, sign=True)
    (assessed,) = assess(study, store)
    (reason,) = assessed.verdict.tasks[0].reasons
    assert reason.startswith(f"{run.label}: its result states accuracy 0.990000, its predictions give")


def test_a_score_forged_in_its_ninth_digit_is_found(opened):
    study, store = opened

    def forged(content):
        value = content["tasks"]["bees"]["metrics"]["values"]["accuracy"]
        value["value"] *= 1 + 1e-8

    rewrite(store.folder(controlled(store)), forged, sign=True)
    (assessed,) = assess(study, store)
    (reason,) = assessed.verdict.tasks[0].reasons
    assert "its result states accuracy" in reason


def test_a_run_on_other_data_gets_no_verdict(opened):
    study, store = opened

    def other_data(content: dict[str, Any]) -> None:
        content["tasks"]["bees"]["data_fingerprint"] = "other"

    run = controlled(store)
    rewrite(store.folder(run), other_data, sign=True)
    (assessed,) = assess(study, store)
    assert any(run.label in reason and "other data" in reason for reason in assessed.verdict.tasks[0].reasons)


def test_mixed_versions_are_listed(opened):
    _, store = opened
    run = controlled(store)

    def older(content: dict[str, Any]) -> None:
        content["environment"]["versions"]["torch"] = "1"
        content["threads"] = 4

    rewrite(store.folder(run), older, sign=True)
    (problem,) = store.problems()
    assert str(problem) == f"{run.label}: mixed versions: torch 1 (most runs: 2), CPU threads 4 (most runs: 1)"


def test_a_tampered_run_is_not_reused_and_not_overwritten(opened, tmp_path, capsys):
    _, store = opened
    run = controlled(store)
    rewrite(store.folder(run), other_score)
    before = (store.folder(run) / "result.json").read_bytes()
    assert cli.main(["study", str(tmp_path / "study.json")]) == 1
    shown = capsys.readouterr()
    assert f"not done: {run.label}" in shown.err
    assert "Delete the folder to run it anew" in shown.err
    assert (store.folder(run) / "result.json").read_bytes() == before
